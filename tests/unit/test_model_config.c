/*
 * runner/model_config: the tiny and the real configurations, and a table of edits that must be refused by
 * name.
 */
#include "tests/unit/test.h"
#include "tests/unit/temp_dir.h"

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/model_config.h"

static const char tiny[] = "build/golden", real[] = "../shared/data/z-image-turbo";
static void
test_tiny_configuration(void **state)
{
	struct model_config c;
	struct err e;

	(void)state;
	if (model_config_read(&c, tiny, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(c.transformer.head_dim, 128);
	assert_int_equal(c.transformer.ffn_dim, 1024);
	assert_int_equal(c.vae.scale, 8);
	assert_false(c.vae.post_quant_conv);
	assert_true(c.shift == 3.0f);
}

/* Model-spec section 2. */
static void
test_real_configuration(void **state)
{
	struct model_config c;
	struct err e;

	(void)state;
	if (access(real, R_OK) != 0)
		skip();
	if (model_config_read(&c, real, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(c.transformer.dim, 3840);
	assert_int_equal(c.transformer.head_dim, 128);
	assert_int_equal(c.transformer.ffn_dim, 10240);
	assert_int_equal(c.transformer.modulation_dim, 256);
	assert_int_equal(c.transformer.axes_lens[0], 1536);
	assert_int_equal(c.text.layers, 36);
	assert_int_equal(c.text.kv_heads, 8);
	assert_true(c.text.rope_theta == 1000000.0);
	assert_int_equal(c.vae.sample_size, 1024);
	assert_int_equal(c.vae.block_out_channels[3], 512);
	assert_true(c.vae.scaling_factor == 0.3611f && c.vae.shift_factor == 0.1159f);
}

static const struct {
	const char *file, *key, *value; /* value: JSON, or NULL to take the key away */
	enum err_code code;
} edits[] = {
    {"transformer/config.json", "dim", NULL, ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "dim", "\"wide\"", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "dim", "-4", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "dim", "385", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "dim", "384.5", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "n_layers", "0", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "n_kv_heads", "1", ERR_UNSUPPORTED},
    {"transformer/config.json", "axes_dims", "[32,48]", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "axes_dims", "[32,48,50]", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "all_patch_size", "[4]", ERR_UNSUPPORTED},
    {"transformer/config.json", "_class_name", "\"FluxTransformer2DModel\"", ERR_UNSUPPORTED},
    {"transformer/config.json", "cap_feat_dim", "128", ERR_BAD_CHECKPOINT},
    {"transformer/config.json", "in_channels", "4", ERR_BAD_CHECKPOINT},
    {"text_encoder/config.json", "num_hidden_layers", "1", ERR_BAD_CHECKPOINT},
    {"text_encoder/config.json", "num_key_value_heads", "3", ERR_BAD_CHECKPOINT},
    {"text_encoder/config.json", "model_type", "\"llama\"", ERR_UNSUPPORTED},
    {"text_encoder/config.json", "attention_bias", "true", ERR_UNSUPPORTED},
    {"vae/config.json", "block_out_channels", "[33]", ERR_BAD_CHECKPOINT},
    {"vae/config.json", "block_out_channels", "[]", ERR_BAD_CHECKPOINT},
    {"vae/config.json", "norm_num_groups", "0", ERR_BAD_CHECKPOINT},
    {"vae/config.json", "act_fn", "\"relu\"", ERR_UNSUPPORTED},
    {"vae/config.json", "latents_mean", "[1]", ERR_UNSUPPORTED},
    {"vae/config.json", "up_block_types", NULL, ERR_BAD_CHECKPOINT},
    {"vae/config.json", "up_block_types", "[\"UpDecoderBlock2D\"]", ERR_BAD_CHECKPOINT},
    {"vae/config.json", "up_block_types",
	"[\"AttnUpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"]",
	ERR_UNSUPPORTED},
    {"vae/config.json", "use_post_quant_conv", "0", ERR_BAD_CHECKPOINT},
    {"vae/config.json", "sample_size", "100000", ERR_BAD_CHECKPOINT},
    {"text_encoder/config.json", "rope_parameters", "{\"rope_theta\":1e6,\"rope_type\":\"yarn\"}",
	ERR_UNSUPPORTED},
    {"text_encoder/config.json", "rope_parameters", "{\"rope_type\":\"default\"}", ERR_BAD_CHECKPOINT},
    {"text_encoder/config.json", "rope_theta", "1e99", ERR_BAD_CHECKPOINT},
    {"scheduler/scheduler_config.json", "shift_terminal", "0.1", ERR_UNSUPPORTED},
    {"scheduler/scheduler_config.json", "use_dynamic_shifting", "true", ERR_UNSUPPORTED},
    {"scheduler/scheduler_config.json", "shift", "0", ERR_BAD_CHECKPOINT},
};

static const char *const files[] = {"transformer/config.json", "text_encoder/config.json", "vae/config.json",
    "scheduler/scheduler_config.json"};

/* Copies the tiny configuration, one key of one file changed. */
static void
write_edited(const char *file, const char *key, const char *value)
{
	for (int i = 0; i < 4; i++) {
		char from[256], to[256];
		json_t *json;
		snprintf(from, sizeof(from), "%s/%s", tiny, files[i]);
		snprintf(to, sizeof(to), "%s/%s", dir, files[i]);
		json = json_load_file(from, 0, NULL);
		assert_non_null(json);
		if (strcmp(file, files[i]) == 0 && value == NULL)
			json_object_del(json, key);
		else if (strcmp(file, files[i]) == 0)
			json_object_set_new(json, key, json_loads(value, JSON_DECODE_ANY, NULL));
		*strrchr(to, '/') = '\0';
		mkdir(to, 0700);
		to[strlen(to)] = '/';
		assert_int_equal(json_dump_file(json, to, 0), 0);
		json_decref(json);
	}
}

static void
test_bad_edits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		struct model_config c;
		struct err e = {0};
		write_edited(edits[i].file, edits[i].key, edits[i].value);
		if (model_config_read(&c, dir, &e) != -(int)edits[i].code ||
		    strstr(e.text, edits[i].file) == NULL || strstr(e.text, edits[i].key) == NULL)
			fail_msg("%s: %s = %s: %s", edits[i].file, edits[i].key,
			    edits[i].value ? edits[i].value : "(absent)", e.code != 0 ? e.text : "taken");
	}
}

static void
test_missing_and_broken_files(void **state)
{
	struct model_config c;
	struct err e;
	char path[128];
	FILE *file;

	(void)state;
	assert_int_equal(model_config_read(&c, "/nonexistent", &e), -ERR_BAD_CHECKPOINT);
	assert_non_null(strstr(e.text, "transformer/config.json"));
	write_edited("", "", NULL);
	snprintf(path, sizeof(path), "%s/vae/config.json", dir);
	file = fopen(path, "w");
	fputs("{\"a\":", file);
	fclose(file);
	assert_int_equal(model_config_read(&c, dir, &e), -ERR_BAD_CHECKPOINT);
	assert_non_null(strstr(e.text, "vae/config.json"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tiny_configuration),
	    cmocka_unit_test(test_real_configuration),
	    cmocka_unit_test(test_bad_edits),
	    cmocka_unit_test(test_missing_and_broken_files),
	};

	return cmocka_run_group_tests(tests, make_temp_dir, remove_temp_dir);
}
