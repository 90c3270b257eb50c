/*
 * PNGs as they come out of the writer, read back through libpng: pixels, texts, seals; and what happens when
 * the memory file cannot grow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/metadata.h"
#include "runner/png_writer.h"

static const char prompt[] =
    "\xe4\xb8\x80\xe5\x8f\xaa\xe7\x8c\xab a cat \xf0\x9f\x90\x88\xe2\x80\x8d\xe2\xac\x9b\nsecond line";

static const struct metadata_facts facts = {
    "job_1", prompt, "", 7, 0, 0, 8, 3.0f, "tiny", "0123456789abcdef0123456789abcdef", "cpu", "f32"};

/* Neither smooth nor noise only: gradients with a little of it, from a fixed generator. */
static uint8_t *
make_pixels(int width, int height)
{
	uint8_t *rgb = malloc((size_t)width * (size_t)height * 3), *at = rgb;
	uint32_t random = 12345;

	assert_non_null(rgb);
	for (int y = 0; y < height; y++) {
		for (int x = 0; x < width; x++) {
			random = random * 1664525u + 1013904223u;
			*at++ = (uint8_t)(x * 255 / width + (random >> 30));
			*at++ = (uint8_t)(y * 255 / height + (random >> 29 & 3));
			*at++ = (uint8_t)((x + y) * 127 / (width + height));
		}
	}
	return rgb;
}

static int
write_png(const uint8_t *rgb, int width, int height, uint64_t *bytes, struct err *e)
{
	struct metadata m;
	int fd;

	assert_true(metadata_make(&m, &facts));
	fd = png_write(rgb, width, height, &m, bytes, e);
	metadata_clear(&m);
	return fd;
}

/* ---- reading */

struct picture {
	png_structp png;
	png_infop info;
	FILE *file;
};

static struct picture
open_picture(int fd)
{
	struct picture p = {png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL), NULL, NULL};

	lseek(fd, 0, SEEK_SET);
	p.info = png_create_info_struct(p.png);
	p.file = fdopen(dup(fd), "rb");
	png_init_io(p.png, p.file);
	png_read_png(p.png, p.info, PNG_TRANSFORM_IDENTITY, NULL);
	return p;
}

static void
close_picture(struct picture *p)
{
	png_destroy_read_struct(&p->png, &p->info, NULL);
	fclose(p->file);
}

/* The text of that keyword, of which there must be one. */
static const png_text *
find_text(const struct picture *p, const char *key)
{
	const png_text *found = NULL;
	png_textp texts;
	int count;

	png_get_text(p->png, p->info, &texts, &count);
	for (int i = 0; i < count; i++) {
		if (strcmp(texts[i].key, key) != 0)
			continue;
		assert_null(found);
		found = &texts[i];
	}
	assert_non_null(found);
	return found;
}

/* ---- tests */

static void
pixels_come_back_equal(void **state)
{
	static const int sizes[][2] = {{16, 16}, {256, 256}, {272, 64}, {64, 1040}, {1, 1}};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int width = sizes[i][0], height = sizes[i][1];
		uint8_t *rgb = make_pixels(width, height);
		uint64_t bytes = 0;
		struct err e;
		int fd = write_png(rgb, width, height, &bytes, &e);
		struct picture p;

		assert_true(fd >= 0);
		p = open_picture(fd);
		assert_int_equal(png_get_image_width(p.png, p.info), width);
		assert_int_equal(png_get_image_height(p.png, p.info), height);
		assert_int_equal(png_get_color_type(p.png, p.info), PNG_COLOR_TYPE_RGB);
		for (int y = 0; y < height; y++)
			assert_memory_equal(png_get_rows(p.png, p.info)[y],
			    rgb + (size_t)y * (size_t)width * 3, (size_t)width * 3);
		close_picture(&p);
		close(fd);
		free(rgb);
	}
}

static void
texts_are_whole(void **state)
{
	uint8_t *rgb = make_pixels(16, 16);
	struct metadata m;
	uint64_t bytes;
	struct err e;
	int fd;
	struct picture p;

	(void)state;
	assert_true(metadata_make(&m, &facts));
	fd = png_write(rgb, 16, 16, &m, &bytes, &e);
	assert_true(fd >= 0);
	p = open_picture(fd);
	assert_string_equal(find_text(&p, "parameters")->text, m.parameters);
	assert_int_equal(find_text(&p, "parameters")->compression, PNG_ITXT_COMPRESSION_NONE);
	assert_non_null(strstr(m.parameters, prompt));
	assert_string_equal(find_text(&p, "zit")->text, m.json);
	assert_string_equal(find_text(&p, "XML:com.adobe.xmp")->text, metadata_xmp);
	assert_non_null(
	    strstr(metadata_xmp, "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"));
	assert_string_equal(find_text(&p, "Software")->text, "zit " ZIT_VERSION);
	assert_int_equal(find_text(&p, "Software")->compression, PNG_TEXT_COMPRESSION_NONE);
	assert_string_equal(find_text(&p, "Creation Time")->text, m.created);
	close_picture(&p);
	close(fd);
	metadata_clear(&m);
	free(rgb);
}

static void
file_is_sealed_against_every_change(void **state)
{
	uint8_t *rgb = make_pixels(64, 64);
	uint64_t bytes;
	struct err e;
	struct stat st;
	int fd = write_png(rgb, 64, 64, &bytes, &e);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, bytes);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 10), -1);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	close(fd);
	free(rgb);
}

static int
count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 200; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* A file that cannot grow, at several moments: an error with its reason, and no descriptor stays. */
static void
full_memory_file_is_a_system_error(void **state)
{
	static const rlim_t limits[] = {0, 1000, 64 * 1024, 100 * 1000};
	uint8_t *rgb = make_pixels(512, 512);
	struct rlimit before;
	int fds = count_fds();

	(void)state;
	getrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit limit = {limits[i], before.rlim_max};
		uint64_t bytes = 77;
		struct err e = {0};
		int status;

		setrlimit(RLIMIT_FSIZE, &limit);
		status = write_png(rgb, 512, 512, &bytes, &e);
		setrlimit(RLIMIT_FSIZE, &before);
		assert_int_equal(status, -ERR_SYSTEM);
		assert_non_null(strstr(e.text, strerror(EFBIG)));
		assert_int_equal(bytes, 77);
		assert_int_equal(count_fds(), fds);
	}
	free(rgb);
}

static void
no_descriptor_left_is_a_system_error(void **state)
{
	uint8_t *rgb = make_pixels(16, 16);
	struct rlimit before, limit;
	uint64_t bytes;
	struct err e = {0};
	int status;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &before);
	limit = (struct rlimit){3, before.rlim_max};
	setrlimit(RLIMIT_NOFILE, &limit);
	status = write_png(rgb, 16, 16, &bytes, &e);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(status, -ERR_SYSTEM);
	assert_non_null(strstr(e.text, strerror(EMFILE)));
	free(rgb);
}

/* Sizes that PNG does not have: libpng's own complaint comes back as an error. */
static void
libpng_error_is_an_error(void **state)
{
	uint8_t pixel[3] = {0};
	uint64_t bytes;
	struct err e = {0};

	(void)state;
	assert_int_equal(write_png(pixel, 0, 1, &bytes, &e), -ERR_INTERNAL);
	assert_non_null(strstr(e.text, "libpng: "));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pixels_come_back_equal),
	    cmocka_unit_test(texts_are_whole),
	    cmocka_unit_test(file_is_sealed_against_every_change),
	    cmocka_unit_test(full_memory_file_is_a_system_error),
	    cmocka_unit_test(no_descriptor_left_is_a_system_error),
	    cmocka_unit_test(libpng_error_is_an_error),
	};

	return cmocka_run_group_tests_name("png", tests, NULL, NULL);
}
