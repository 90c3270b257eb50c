/*
 * What a PNG says of itself, and whether two show the same. The file may be anybody's: it is read through
 * libpng with bounds on every size, and nothing in it is trusted.
 */
#include "ctl/picture_read.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_CHUNKS = 1000 }; /* that are kept, texts among them */

/* ---- files */

/* As many bytes as there is room for, or there are. */
static int
read_all(int fd, const char *name, struct picture_bytes *out, size_t room, struct err *e)
{
	while (out->count < room) {
		ssize_t n = pread(fd, out->bytes + out->count, room - out->count, (off_t)out->count);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_set(e, ERR_SYSTEM, "%s: %s", name, strerror(errno));
		out->count += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int
picture_load_fd(int fd, const char *name, struct picture_bytes *out, struct err *e)
{
	struct picture_bytes p = {0};
	struct stat st;
	int status;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID_PARAM, "%s is no file", name);
	if (st.st_size > PICTURE_MAX_BYTES)
		return err_set(e, ERR_INVALID_PARAM, "%s has more than %d MiB, which no picture of ours has",
		    name, PICTURE_MAX_BYTES >> 20);
	p.bytes = malloc((size_t)st.st_size + 1);
	if (p.bytes == NULL)
		return err_set(e, ERR_SYSTEM, "out of memory");
	status = read_all(fd, name, &p, (size_t)st.st_size, e);
	if (status != 0)
		free(p.bytes);
	else
		*out = p;
	return status;
}

int
picture_load(const char *path, struct picture_bytes *out, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a pipe must not make us wait */
	int status;

	if (fd < 0)
		return err_set(e, ERR_INVALID_PARAM, "%s cannot be read: %s", path, strerror(errno));
	status = picture_load_fd(fd, path, out, e);
	close(fd);
	return status;
}

void
picture_unload(struct picture_bytes *p)
{
	free(p->bytes);
	*p = (struct picture_bytes){0};
}

/* ---- what it says */

/* What libpng's callbacks work on. */
struct reading {
	const struct picture_bytes *from;
	size_t at;
	unsigned char *row;
	char error[120], damage[120];
	jmp_buf out;
};

static void
on_read(png_structp png, png_bytep to, size_t count)
{
	struct reading *r = png_get_io_ptr(png);

	if (count > r->from->count - r->at)
		png_error(png, "it ends too early");
	memcpy(to, r->from->bytes + r->at, count);
	r->at += count;
}

static void
on_error(png_structp png, png_const_charp text)
{
	struct reading *r = png_get_error_ptr(png);

	snprintf(r->error, sizeof(r->error), "%s", text);
	longjmp(r->out, 1);
}

static void
on_warning(png_structp png, png_const_charp text)
{
	struct reading *r = png_get_error_ptr(png);

	if (r->damage[0] == '\0')
		snprintf(r->damage, sizeof(r->damage), "%s", text);
}

/* libpng would make room for as much as a chunk claims to have. */
static png_voidp
on_malloc(png_structp png, png_alloc_size_t size)
{
	(void)png;
	return size <= 2 * PICTURE_MAX_TEXT ? malloc(size) : NULL;
}

static void
on_free(png_structp png, png_voidp memory)
{
	(void)png;
	free(memory);
}

/* Latin-1 as UTF-8; NULL: no memory. */
static json_t *
from_latin1(const char *text)
{
	char *utf8 = malloc(2 * strlen(text) + 1), *to = utf8;
	json_t *string;

	if (utf8 == NULL)
		return NULL;
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
		if (*c >= 0x80)
			*to++ = (char)(0xc0 | *c >> 6);
		*to++ = (char)(*c >= 0x80 ? 0x80 | (*c & 0x3f) : *c);
	}
	*to = '\0';
	string = json_string(utf8);
	free(utf8);
	return string;
}

/* Tools write UTF-8 where Latin-1 should be, and the reverse: what is valid UTF-8 is taken for it. */
static json_t *
decoded(const char *text)
{
	json_t *string = json_string(text);

	return string != NULL ? string : from_latin1(text);
}

static void
take_texts(png_structp png, png_infop info, json_t *texts)
{
	png_textp rows = NULL;
	int count = 0;

	png_get_text(png, info, &rows, &count);
	for (int i = 0; i < count; i++) {
		json_t *key = decoded(rows[i].key);
		if (rows[i].text != NULL && json_object_get(texts, json_string_value(key)) == NULL)
			json_object_set_new(texts, json_string_value(key), decoded(rows[i].text));
		json_decref(key);
	}
}

/* The pixels have to be read to get to what is behind them. */
static void
pass_over_pixels(struct reading *r, png_structp png, png_infop info)
{
	int passes = png_set_interlace_handling(png);
	png_uint_32 rows = png_get_image_height(png, info);

	if ((uint64_t)rows * png_get_image_width(png, info) > PICTURE_MAX_PIXELS)
		png_error(png, "it is too large to look for what is behind the pixels");
	png_read_update_info(png, info);
	r->row = png_malloc(png, png_get_rowbytes(png, info));
	for (int pass = 0; pass < passes; pass++) {
		for (png_uint_32 row = 0; row < rows; row++)
			png_read_row(png, r->row, NULL);
	}
}

/* False: libpng has jumped out, r->error says why. */
static bool
read_chunks(struct reading *r, png_structp png, png_infop info)
{
	if (setjmp(r->out) != 0)
		return false;
	png_set_read_fn(png, r, on_read);
	png_set_user_limits(png, 1000000, 1000000);
	png_set_chunk_cache_max(png, MAX_CHUNKS);
	png_set_chunk_malloc_max(png, PICTURE_MAX_TEXT);
	png_read_info(png, info);
	pass_over_pixels(r, png, info);
	png_read_end(png, info);
	return true;
}

json_t *
picture_facts(const struct picture_bytes *p, const char *name, struct err *e)
{
	struct reading r = {.from = p};
	png_structp png = png_create_read_struct_2(
	    PNG_LIBPNG_VER_STRING, &r, on_error, on_warning, NULL, on_malloc, on_free);
	png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
	json_t *facts = NULL;

	if (info == NULL)
		err_set(e, ERR_SYSTEM, "out of memory");
	else if (!read_chunks(&r, png, info) && png_get_image_width(png, info) == 0)
		err_set(e, ERR_INVALID_PARAM, "%s is no PNG file that can be read: %s", name, r.error);
	else {
		facts = json_pack("{s:I, s:I, s:{}}", "width", (json_int_t)png_get_image_width(png, info),
		    "height", (json_int_t)png_get_image_height(png, info), "texts");
		take_texts(png, info, json_object_get(facts, "texts"));
		if (r.error[0] != '\0' || r.damage[0] != '\0')
			json_object_set_new(
			    facts, "damage", decoded(r.error[0] != '\0' ? r.error : r.damage));
	}
	free(r.row);
	png_destroy_read_struct(&png, &info, NULL);
	return facts;
}

/* ---- what it shows */

/* All pixels as 8-bit RGBA (the caller's), with the image's size; NULL with *e. */
static unsigned char *
pixels_of(const struct picture_bytes *p, png_image *image, struct err *e)
{
	unsigned char *pixels = NULL;

	*image = (png_image){.version = PNG_IMAGE_VERSION};
	if (png_image_begin_read_from_memory(image, p->bytes, p->count) == 0) {
		err_set(e, ERR_INVALID_PARAM, "the picture cannot be read: %s", image->message);
		return NULL;
	}
	image->format = PNG_FORMAT_RGBA;
	if ((uint64_t)image->width * image->height > PICTURE_MAX_PIXELS)
		err_set(e, ERR_INVALID_PARAM, "the picture has more than %d megapixels",
		    PICTURE_MAX_PIXELS >> 20);
	else if ((pixels = malloc(PNG_IMAGE_SIZE(*image))) == NULL)
		err_set(e, ERR_SYSTEM, "out of memory");
	else if (png_image_finish_read(image, NULL, pixels, 0, NULL) == 0) {
		err_set(e, ERR_INVALID_PARAM, "the picture cannot be read: %s", image->message);
		free(pixels);
		pixels = NULL;
	}
	if (pixels == NULL)
		png_image_free(image);
	return pixels;
}

int
picture_compare(const struct picture_bytes *a, const struct picture_bytes *b, struct err *e)
{
	png_image image_a, image_b;
	unsigned char *pixels_a = pixels_of(a, &image_a, e), *pixels_b;
	int same = -ERR_INVALID_PARAM;

	if (pixels_a == NULL)
		return same;
	pixels_b = pixels_of(b, &image_b, e);
	if (pixels_b != NULL)
		same = image_a.width == image_b.width && image_a.height == image_b.height &&
		       memcmp(pixels_a, pixels_b, PNG_IMAGE_SIZE(image_a)) == 0;
	free(pixels_a);
	free(pixels_b);
	return same;
}
