/*
 * runner/checkpoint: whole files give their tensors; cut, changed and lying files give a named error and no
 * crash.
 */
#include "tests/unit/test.h"
#include "tests/unit/temp_dir.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/convert.h"
#include "runner/bus_error.h"
#include "runner/checkpoint.h"
#include "runner/safetensors.h"

enum { CUTS = 50, FLIPS = 300, TWO = 2 };

static void
write_bytes(const char *name, const void *bytes, size_t count)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, count, file), count);
	fclose(file);
}

/* A safetensors file of that header and so many zero bytes of data. Returns its size; *out is the caller's.
 */
static size_t
make_file(const char *header, size_t data_bytes, char **out)
{
	uint64_t length = strlen(header);
	char *bytes = calloc(1, 8 + length + data_bytes);

	memcpy(bytes, &length, 8);
	memcpy(bytes + 8, header, length);
	*out = bytes;
	return 8 + length + data_bytes;
}

static void
write_file(const char *name, const char *header, size_t data_bytes)
{
	char *bytes;
	size_t count = make_file(header, data_bytes, &bytes);

	write_bytes(name, bytes, count);
	free(bytes);
}

#define GOOD \
	"{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[" \
	"0,24]}," \
	"\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}"

static void
test_good_file(void **state)
{
	struct checkpoint *c;
	struct stored t;
	struct err e;

	(void)state;
	write_file("m.safetensors", GOOD, 32);
	assert_int_equal(checkpoint_open(&c, dir, "m", &e), 0);
	assert_int_equal(checkpoint_tensor(c, "a", 2, (int64_t[]){2, 3}, &t, &e), 0);
	assert_int_equal(t.type, DT_F32);
	assert_int_equal(checkpoint_tensor(c, "b", 1, (int64_t[]){4}, &t, &e), 0);
	assert_int_equal(checkpoint_bytes(c), 32);
	assert_true(checkpoint_tensor(c, "b", 2, (int64_t[]){4, 1}, &t, &e) < 0);
	assert_non_null(strstr(e.text, "(4)"));
	assert_non_null(strstr(e.text, "(4, 1)"));
	assert_true(checkpoint_tensor(c, "none", 1, (int64_t[]){4}, &t, &e) < 0);
	assert_non_null(strstr(e.text, "none"));
	checkpoint_close(&c);
}

static const struct {
	const char *header;
	size_t data;
	const char *says;
} bad[] = {
    {"[]", 0, "not an object"},
    {"{\"a\":5}", 0, "dtype"},
    {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "F33"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":\"x\",\"data_offsets\":[0,4]}}", 4, "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,4]}}", 4, "shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, "truncated"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "needs 4"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "gap"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
	4, "overlaps"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 9, "follow"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
	8, "duplicate"},
};

static void
test_lying_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct checkpoint *c;
		struct err e = {0};
		write_file("m.safetensors", bad[i].header, bad[i].data);
		if (checkpoint_open(&c, dir, "m", &e) == 0 || strstr(e.text, bad[i].says) == NULL ||
		    strstr(e.text, "m.safetensors") == NULL)
			fail_msg("header %zu: '%s' does not say '%s'", i, e.text, bad[i].says);
	}
}

static void
test_every_cut_is_named(void **state)
{
	char *bytes;
	size_t count = make_file(GOOD, 32, &bytes);

	(void)state;
	for (int i = 0; i < CUTS; i++) {
		struct checkpoint *c;
		struct err e = {0};
		size_t cut = count * (size_t)i / CUTS;
		write_bytes("m.safetensors", bytes, cut);
		if (checkpoint_open(&c, dir, "m", &e) == 0)
			fail_msg("cut at %zu of %zu: taken", cut, count);
		assert_non_null(strstr(e.text, "m.safetensors"));
	}
	free(bytes);
}

/* A changed bit of the header is refused, or leaves a file that is as sound as before. */
static void
test_flipped_bits_never_crash(void **state)
{
	size_t header = 8 + strlen(GOOD);
	int refused = 0;
	char *bytes;
	size_t count = make_file(GOOD, 32, &bytes);

	(void)state;
	srandom(3);
	for (int i = 0; i < FLIPS; i++) {
		size_t bit = (size_t)random() % (8 * header);
		struct checkpoint *c = NULL;
		struct stored t;
		struct err e;
		bytes[bit / 8] ^= (char)(1 << bit % 8);
		write_bytes("m.safetensors", bytes, count);
		if (checkpoint_open(&c, dir, "m", &e) == 0)
			checkpoint_tensor(c, "a", 2, (int64_t[]){2, 3}, &t, &e);
		else
			refused++;
		checkpoint_close(&c);
		bytes[bit / 8] ^= (char)(1 << bit % 8);
	}
	print_message("flipped bits: %d of %d refused\n", refused, FLIPS);
	assert_in_range(refused, FLIPS / 2, FLIPS);
	free(bytes);
}

static void
write_index(const char *text)
{
	write_bytes("s.safetensors.index.json", text, strlen(text));
}

static const struct {
	const char *index, *says;
} bad_indexes[] = {
    {"{", "JSON"}, {"{}", "weight_map"}, {"{\"weight_map\":{\"a\":5}}", "no file"},
    {"{\"weight_map\":{\"a\":\"../m.safetensors\"}}", "beside"},
    {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", "gone.safetensors"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"zz\":\"s1.safetensors\"}}", "zz"},
    {"{\"weight_map\":{\"a\":\"..\"}}", "beside"}, {"{\"weight_map\":{\"a\":\"/s1.safetensors\"}}", "beside"},
    {"{\"weight_map\":{\"a\":\"\"}}", "beside"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"a\":\"s2.safetensors\"}}", "duplicate"},
    {"{\"weight_map\":{\"a\":\"s2.safetensors\",\"b\":\"s1.safetensors\"}}", "is in s"}, /* exchanged */
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\",\"c\":\"s3.safetensors\"}}",
	"tensor a: is in s3"}, /* twice, once of them stale */
};

static void
test_shards_and_their_index(void **state)
{
	struct checkpoint *c;
	struct stored t;
	struct err e;

	(void)state;
	write_file("s1.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
	write_file("s2.safetensors", "{\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4);
	write_file("s3.safetensors",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
	    "\"c\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
	    16);
	write_index("{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}");
	assert_int_equal(checkpoint_open(&c, dir, "s", &e), 0);
	assert_int_equal(checkpoint_tensor(c, "b", 1, (int64_t[]){TWO}, &t, &e), 0);
	assert_int_equal(t.type, DT_F16);
	checkpoint_close(&c);
	for (size_t i = 0; i < sizeof(bad_indexes) / sizeof(bad_indexes[0]); i++) {
		write_index(bad_indexes[i].index);
		if (checkpoint_open(&c, dir, "s", &e) == 0 || strstr(e.text, bad_indexes[i].says) == NULL)
			fail_msg("index %zu: '%s' does not say '%s'", i, e.text, bad_indexes[i].says);
	}
}

static void
test_other_files(void **state)
{
	struct checkpoint *c;
	struct err e;
	char path[256];

	(void)state;
	assert_true(checkpoint_open(&c, dir, "nothing", &e) < 0);
	assert_non_null(strstr(e.text, "nothing.safetensors"));
	write_bytes("empty.safetensors", "", 0);
	assert_true(checkpoint_open(&c, dir, "empty", &e) < 0);
	snprintf(path, sizeof(path), "%s/fifo.safetensors", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_true(checkpoint_open(&c, dir, "fifo", &e) < 0);
	assert_non_null(strstr(e.text, "regular"));
}

/* A product that wraps to 0 in 64 bits; a file of 4 GB, of which nothing is stored, lets each factor pass. */
static void
test_wrapping_shape(void **state)
{
	struct checkpoint *c;
	char path[256];
	struct err e = {0};

	(void)state;
	write_file("wrap.safetensors",
	    "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0);
	snprintf(path, sizeof(path), "%s/wrap.safetensors", dir);
	assert_int_equal(truncate(path, INT64_C(4294967296) + 4096), 0);
	assert_int_equal(checkpoint_open(&c, dir, "wrap", &e), -ERR_BAD_CHECKPOINT);
	assert_non_null(strstr(e.text, "shape"));
	unlink(path);
}

/* ---- the tiny model's files */

static char *
read_file(const char *path, size_t *count)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	char *bytes;

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &st), 0);
	*count = (size_t)st.st_size;
	bytes = malloc(*count);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, *count, file), *count);
	fclose(file);
	return bytes;
}

static const char *const parts[] = {
    "build/golden/transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
    "build/golden/transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
    "build/golden/text_encoder/model-00001-of-00002.safetensors",
    "build/golden/text_encoder/model-00002-of-00002.safetensors",
    "build/golden/vae/diffusion_pytorch_model.safetensors",
};

enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

/* Cut `i` of a part: in the length word, through the header, through the data, before the last byte. */
static size_t
place_of_cut(int i, size_t header, size_t count)
{
	if (i < 10)
		return (size_t)i;
	if (i < 30)
		return 10 + (header - 10) * (size_t)(i - 10) / 20;
	return i == CUTS - 1 ? count - 1 : header + (count - header) * (size_t)(i - 30) / 20;
}

static void
test_every_part_cut_is_named(void **state)
{
	char path[256];

	(void)state;
	snprintf(path, sizeof(path), "%s/p.safetensors", dir);
	for (int part = 0; part < PARTS; part++) {
		size_t count;
		char *bytes = read_file(parts[part], &count);
		uint64_t header;
		memcpy(&header, bytes, sizeof(header));
		write_bytes("p.safetensors", bytes, count);
		for (int i = CUTS - 1; i >= 0;
		     i--) { /* from the end: each cut shortens the last one's file */
			size_t cut = place_of_cut(i, 8 + header, count);
			struct checkpoint *c = NULL;
			struct err e = {0};
			assert_int_equal(truncate(path, (off_t)cut), 0);
			if (checkpoint_open(&c, dir, "p", &e) != -ERR_BAD_CHECKPOINT)
				fail_msg("%s cut at %zu of %zu: taken", parts[part], cut, count);
			assert_non_null(strstr(e.text, "p.safetensors"));
		}
		free(bytes);
	}
	unlink(path);
}

static int flips_refused;

/* One bit of the header the other way, in the file itself; back afterwards. */
static void
flip_one(FILE *file, const char *bytes, size_t bit)
{
	struct checkpoint *c = NULL;
	struct err e = {0};

	fseek(file, (long)(bit / 8), SEEK_SET);
	fputc((unsigned char)bytes[bit / 8] ^ 1 << bit % 8, file);
	fflush(file);
	if (checkpoint_open(&c, dir, "p", &e) != 0) {
		flips_refused++;
		assert_non_null(strstr(e.text, "p.safetensors"));
		assert_null(strchr(e.text, '\n'));
	}
	checkpoint_close(&c);
	fseek(file, (long)(bit / 8), SEEK_SET);
	fputc((unsigned char)bytes[bit / 8], file);
	fflush(file);
}

static void
test_flipped_bits_of_a_part(void **state)
{
	size_t count;
	char *bytes = read_file(parts[PARTS - 1], &count), path[256];
	uint64_t header;
	FILE *file;

	(void)state;
	memcpy(&header, bytes, sizeof(header));
	write_bytes("p.safetensors", bytes, count);
	snprintf(path, sizeof(path), "%s/p.safetensors", dir);
	file = fopen(path, "r+b");
	assert_non_null(file);
	srandom(5);
	for (int i = 0; i < FLIPS; i++)
		flip_one(file, bytes, (size_t)random() % (8 * (8 + header)));
	fclose(file);
	unlink(path);
	print_message(
	    "flipped bits: %d of %d refused; the others change a letter of a name\n", flips_refused, FLIPS);
	assert_in_range(flips_refused, FLIPS / 4, FLIPS);
	free(bytes);
}

/* ---- types, and numbers of files */

struct sum {
	uint64_t value;
	size_t count;
};

static void
add_to_sum(void *arg, const void *bytes, size_t count)
{
	struct sum *sum = arg;

	for (size_t i = 0; i < count; i++)
		sum->value = (sum->value ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
	sum->count += count;
}

static struct sum
identity_of(const struct checkpoint *c)
{
	struct sum sum = {0, 0};

	checkpoint_identity(c, add_to_sum, &sum);
	return sum;
}

/* 1.5 and -2 in each type, twelve bytes of other things before them where they share a file. */
static const struct {
	const char *type;
	enum dtype read_as;
	size_t bytes;
	unsigned char data[8];
} typed[] = {
    {"F32", DT_F32, 8, {0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0}},
    {"BF16", DT_BF16, 4, {0xc0, 0x3f, 0, 0xc0}},
    {"F16", DT_F16, 4, {0, 0x3e, 0, 0xc0}},
};

enum { TYPED = sizeof(typed) / sizeof(typed[0]) };

/* Tensors first..last of `typed`, one after another, in one file; named after their types. */
static void
write_typed(const char *name, int first, int last)
{
	char header[512] = "{", data[64], *bytes;
	size_t used = 1, at = 0, count;

	for (int i = first; i <= last; i++) {
		used += (size_t)snprintf(header + used, sizeof(header) - used,
		    "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[%zu,%zu]}",
		    i > first ? "," : "", typed[i].type, typed[i].type, at, at + typed[i].bytes);
		memcpy(data + at, typed[i].data, typed[i].bytes);
		at += typed[i].bytes;
	}
	snprintf(header + used, sizeof(header) - used, "}");
	count = make_file(header, at, &bytes);
	memcpy(bytes + count - at, data, at);
	write_bytes(name, bytes, count);
	free(bytes);
}

static struct sum
check_typed(const char *stem)
{
	struct checkpoint *c = NULL;
	struct sum sum;
	struct err e;

	if (checkpoint_open(&c, dir, stem, &e) != 0)
		fail_msg("%s: %s", stem, e.text);
	for (int i = 0; i < TYPED; i++) {
		struct stored t;
		float x[2];
		assert_int_equal(checkpoint_tensor(c, typed[i].type, 1, (int64_t[]){2}, &t, &e), 0);
		assert_int_equal(t.type, typed[i].read_as);
		convert_to_float(x, t.data, t.type, 2);
		assert_true(x[0] == 1.5f && x[1] == -2.0f);
	}
	assert_int_equal(checkpoint_bytes(c), 16);
	sum = identity_of(c);
	checkpoint_close(&c);
	return sum;
}

static void
test_any_number_of_files(void **state)
{
	static const char two[] = "{\"weight_map\":{\"F32\":\"a.safetensors\",\"BF16\":\"b2.safetensors\","
				  "\"F16\":\"b2.safetensors\"}}",
			  three[] = "{\"weight_map\":{\"F32\":\"a.safetensors\",\"BF16\":\"b.safetensors\","
				    "\"F16\":\"c.safetensors\"}}";
	struct sum sum;

	(void)state;
	write_typed("one.safetensors", 0, 2);
	write_typed("a.safetensors", 0, 0);
	write_typed("b.safetensors", 1, 1);
	write_typed("c.safetensors", 2, 2);
	write_typed("b2.safetensors", 1, 2);
	write_bytes("two.safetensors.index.json", two, strlen(two));
	write_bytes("three.safetensors.index.json", three, strlen(three));
	sum = check_typed("one");
	assert_true(sum.count > 0);
	assert_true(check_typed("two").value == sum.value); /* the identity does not see the files */
	assert_true(check_typed("three").value == sum.value);
}

static void
test_type_that_is_not_read(void **state)
{
	struct checkpoint *c;
	struct stored t;
	struct err e;

	(void)state;
	write_file("i.safetensors", "{\"a\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]}}", 16);
	assert_int_equal(checkpoint_open(&c, dir, "i", &e), 0);
	assert_int_equal(checkpoint_tensor(c, "a", 1, (int64_t[]){2}, &t, &e), -ERR_BAD_CHECKPOINT);
	assert_non_null(strstr(e.text, "I64"));
	checkpoint_close(&c);
}

/* ---- the real model's indexes, when they are there */

static const struct {
	const char *dir, *stem;
	size_t tensors;
} real[] = {
    {"../shared/data/z-image-turbo/transformer", "diffusion_pytorch_model", 521},
    {"../shared/data/z-image-turbo/text_encoder", "model", 398},
};

/* Their shards are not, which is said. */
static void
test_real_indexes_lack_shards(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(real) / sizeof(real[0]); i++) {
		struct checkpoint *c;
		struct err e;
		if (access(real[i].dir, R_OK) != 0)
			skip();
		assert_int_equal(checkpoint_open(&c, real[i].dir, real[i].stem, &e), -ERR_BAD_CHECKPOINT);
		assert_non_null(strstr(e.text, "-of-00003.safetensors"));
	}
}

/* Shards as an index wants them, of tensors without numbers. */
static void
write_empty_shards(const json_t *map)
{
	json_t *shards = json_object(), *file, *header;
	const char *name, *shard;

	json_object_foreach((json_t *)map, name, file)
	{
		header = json_object_get(shards, json_string_value(file));
		if (header == NULL) {
			header = json_object();
			json_object_set_new(shards, json_string_value(file), header);
		}
		json_object_set_new(header, name,
		    json_pack("{s:s, s:[i], s:[i, i]}", "dtype", "F32", "shape", 0, "data_offsets", 0, 0));
	}
	json_object_foreach(shards, shard, header)
	{
		char *text = json_dumps(header, JSON_COMPACT);
		write_file(shard, text, 0);
		free(text);
	}
	json_decref(shards);
}

static void
test_real_indexes_with_empty_shards(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(real) / sizeof(real[0]); i++) {
		char path[256];
		struct checkpoint *c;
		struct stored t;
		const char *name;
		json_t *index, *file;
		struct err e;
		if (access(real[i].dir, R_OK) != 0)
			skip();
		snprintf(path, sizeof(path), "%s/%s.safetensors.index.json", real[i].dir, real[i].stem);
		index = json_load_file(path, 0, NULL);
		assert_int_equal(json_object_size(json_object_get(index, "weight_map")), real[i].tensors);
		write_empty_shards(json_object_get(index, "weight_map"));
		snprintf(path, sizeof(path), "%s/%s.safetensors.index.json", dir, real[i].stem);
		assert_int_equal(json_dump_file(index, path, 0), 0);
		if (checkpoint_open(&c, dir, real[i].stem, &e) != 0)
			fail_msg("%s", e.text);
		json_object_foreach(json_object_get(index, "weight_map"), name, file)
		    assert_int_equal(checkpoint_tensor(c, name, 1, (int64_t[]){0}, &t, &e), 0);
		checkpoint_close(&c);
		json_decref(index);
	}
}

/* ---- a file that is cut while it is in use */

/* In a process of its own: file `opened` is mapped, then `cut` of the directory is, and the end of what is
 * mapped is read. What waitpid says of it. */
static int
read_after_cut(const char *opened, const char *cut, struct status_page *page)
{
	char path[256];
	struct safetensors *file;
	struct err e;
	int status;
	pid_t child = fork();

	if (child == 0) {
		bus_error_watch(page);
		snprintf(path, sizeof(path), "%s/%s", dir, opened);
		if (safetensors_open(&file, path, &e) != 0)
			_exit(1);
		snprintf(path, sizeof(path), "%s/%s", dir, cut);
		if (truncate(path, 0) != 0)
			_exit(2);
		_exit(((const volatile char *)file->map)[file->map_bytes - 1]);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void
test_a_cut_file_is_named_in_the_last_words(void **state)
{
	struct status_page *page =
	    mmap(NULL, SHM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[256];
	int status;

	(void)state;
	assert_ptr_not_equal(page, MAP_FAILED);
	write_file("first.safetensors", GOOD, 32);
	write_file("second.safetensors", GOOD, 32);
	status = read_after_cut("second.safetensors", "first.safetensors", page);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* another one does not matter */
	status = read_after_cut("second.safetensors", "second.safetensors", page);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != RUNNER_EXIT_WEIGHTS)
		fail_msg("it ended with %d", status);
	snprintf(path, sizeof(path), "%s/second.safetensors: cannot be read any more", dir);
	assert_non_null(strstr(page->last_words, path));
	munmap(page, SHM_BYTES);
}

/* Not ours: it ends the process as it would have. */
static void
test_another_bus_error_is_one(void **state)
{
	char path[256];
	int status, fd;
	pid_t child;

	(void)state;
	write_bytes("other", "x", 1);
	snprintf(path, sizeof(path), "%s/other", dir);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	child = fork();
	if (child == 0) {
		const volatile char *map = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
		bus_error_watch(NULL);
		_exit(ftruncate(fd, 0) == 0 ? map[0] : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good_file),
	    cmocka_unit_test(test_lying_headers),
	    cmocka_unit_test(test_every_cut_is_named),
	    cmocka_unit_test(test_flipped_bits_never_crash),
	    cmocka_unit_test(test_shards_and_their_index),
	    cmocka_unit_test(test_other_files),
	    cmocka_unit_test(test_wrapping_shape),
	    cmocka_unit_test(test_every_part_cut_is_named),
	    cmocka_unit_test(test_flipped_bits_of_a_part),
	    cmocka_unit_test(test_any_number_of_files),
	    cmocka_unit_test(test_type_that_is_not_read),
	    cmocka_unit_test(test_real_indexes_lack_shards),
	    cmocka_unit_test(test_real_indexes_with_empty_shards),
	    cmocka_unit_test(test_a_cut_file_is_named_in_the_last_words),
	    cmocka_unit_test(test_another_bus_error_is_one),
	};

	return cmocka_run_group_tests(tests, make_temp_dir, remove_temp_dir);
}
