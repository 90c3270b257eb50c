/*
 * runner/checkpoint: whole files give their tensors; cut, changed and lying files give a named error and no
 * crash.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/checkpoint.h"

enum { CUTS = 50, FLIPS = 300, TWO = 2 };

static char dir[] = "/tmp/zit-checkpoint-XXXXXX";

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
    {"{", "JSON"},
    {"{}", "weight_map"},
    {"{\"weight_map\":{\"a\":5}}", "no file"},
    {"{\"weight_map\":{\"a\":\"../m.safetensors\"}}", "beside"},
    {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", "gone.safetensors"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"zz\":\"s1.safetensors\"}}", "zz"},
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

/* The real model's index, when it is there: its shards are not, which is said. */
static void
test_real_index(void **state)
{
	static const char real[] = "../shared/data/z-image-turbo/transformer";
	struct checkpoint *c;
	struct err e;

	(void)state;
	if (access(real, R_OK) != 0)
		skip();
	assert_true(checkpoint_open(&c, real, "diffusion_pytorch_model", &e) < 0);
	assert_non_null(strstr(e.text, "-of-00003.safetensors"));
}

static int
set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
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
	    cmocka_unit_test(test_real_index),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
