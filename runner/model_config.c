/*
 * The sizes of the three networks and the schedule, from the checkpoint's own config files (model-spec
 * section 2).
 *
 * A number is one row of a table: its key, where it goes, its bounds, and what the public class assumes where
 * the file is silent. What cannot be said in a row (lists, relations, fixed values) is checked below.
 */
#include "runner/model_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runner/json_file.h"

enum { MAX_CONFIG = 1024 * 1024 };

enum number_type { INT, FLOAT, DOUBLE };

struct number_row {
	const char *key;
	enum number_type type;
	size_t offset; /* in the config struct of the row's file */
	double low, high;
	double fallback; /* NAN: the key is required */
};

#define AT(config, member) offsetof(struct config, member)

static const struct number_row transformer_rows[] = {
    {"in_channels", INT, AT(transformer_config, in_channels), 1, 256, 16},
    {"dim", INT, AT(transformer_config, dim), 8, 65536, NAN},
    {"n_heads", INT, AT(transformer_config, heads), 1, 1024, NAN},
    {"n_layers", INT, AT(transformer_config, layers), 1, 1024, NAN},
    {"n_refiner_layers", INT, AT(transformer_config, refiner_layers), 0, 64, NAN},
    {"cap_feat_dim", INT, AT(transformer_config, caption_dim), 1, 65536, NAN},
    {"norm_eps", FLOAT, AT(transformer_config, norm_eps), 1e-12, 1, 1e-5},
    {"rope_theta", DOUBLE, AT(transformer_config, rope_theta), 1, 1e12, 256},
    {"t_scale", FLOAT, AT(transformer_config, t_scale), 1e-6, 1e9, 1000},
};

static const struct number_row text_rows[] = {
    {"hidden_size", INT, AT(text_encoder_config, hidden), 1, 65536, NAN},
    {"intermediate_size", INT, AT(text_encoder_config, intermediate), 1, 262144, NAN},
    {"num_hidden_layers", INT, AT(text_encoder_config, layers), 2, 1024, NAN},
    {"num_attention_heads", INT, AT(text_encoder_config, heads), 1, 1024, NAN},
    {"num_key_value_heads", INT, AT(text_encoder_config, kv_heads), 1, 1024, NAN},
    {"head_dim", INT, AT(text_encoder_config, head_dim), 2, 1024, 128},
    {"vocab_size", INT, AT(text_encoder_config, vocab), 1, 1 << 24, NAN},
    {"rms_norm_eps", FLOAT, AT(text_encoder_config, norm_eps), 1e-12, 1, 1e-6},
    {"rope_theta", DOUBLE, AT(text_encoder_config, rope_theta), 1, 1e12, 10000},
};

static const struct number_row vae_rows[] = {
    {"layers_per_block", INT, AT(vae_config, layers_per_block), 1, 16, 1},
    {"latent_channels", INT, AT(vae_config, latent_channels), 1, 256, 4},
    {"norm_num_groups", INT, AT(vae_config, groups), 1, 1024, 32},
    {"sample_size", INT, AT(vae_config, sample_size), 16, 8192, 32},
    {"scaling_factor", FLOAT, AT(vae_config, scaling_factor), 1e-6, 1e6, 0.18215},
    {"shift_factor", FLOAT, AT(vae_config, shift_factor), -1e6, 1e6, 0},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* One file being read: its name for messages and its object. */
struct source {
	const char *name;
	const json_t *json;
	struct err *e;
};

/* ---- numbers */

static int
store_number(const struct number_row *row, double value, void *config)
{
	char *at = (char *)config + row->offset;

	if (row->type == INT)
		*(int *)at = (int)value;
	else if (row->type == FLOAT)
		*(float *)at = (float)value;
	else
		*(double *)at = value;
	return 0;
}

static int
read_number(const struct source *s, const struct number_row *row, void *config)
{
	const json_t *json = json_object_get(s->json, row->key);
	double value = json_number_value(json);

	if (json == NULL || json_is_null(json)) {
		if (isnan(row->fallback))
			return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: %s is missing", s->name, row->key);
		return store_number(row, row->fallback, config);
	}
	if (!json_is_number(json) || (row->type == INT && !json_is_integer(json)))
		return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: %s is not %s", s->name, row->key,
		    row->type == INT ? "an integer" : "a number");
	if (!(value >= row->low && value <= row->high))
		return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: %s is %g; it must be from %g to %g", s->name,
		    row->key, value, row->low, row->high);
	return store_number(row, value, config);
}

static int
read_numbers(const struct source *s, const struct number_row *rows, size_t count, void *config)
{
	for (size_t i = 0; i < count; i++) {
		int status = read_number(s, &rows[i], config);
		if (status != 0)
			return status;
	}
	return 0;
}

/* A list of `min` to `max` positive integers; *count of them. */
static int
read_list(const struct source *s, const char *key, size_t min, size_t max, int *out, int *count)
{
	const json_t *list = json_object_get(s->json, key);
	size_t i;
	json_t *item;

	if (!json_is_array(list) || json_array_size(list) < min || json_array_size(list) > max)
		return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: %s is not a list of %zu to %zu integers",
		    s->name, key, min, max);
	json_array_foreach(list, i, item)
	{
		if (!json_is_integer(item) || json_integer_value(item) < 1 ||
		    json_integer_value(item) > 65536)
			return err_set(s->e, ERR_BAD_CHECKPOINT,
			    "%s: %s holds a value that is not from 1 to 65536", s->name, key);
		out[i] = (int)json_integer_value(item);
	}
	*count = (int)json_array_size(list);
	return 0;
}

/* ---- values that we run in one way only: absent, or as given here (a JSON text) */

struct fixed_row {
	const char *key, *value;
};

static const struct fixed_row transformer_fixed[] = {
    {"_class_name", "\"ZImageTransformer2DModel\""},
    {"all_patch_size", "[2]"},
    {"all_f_patch_size", "[1]"},
    {"qk_norm", "true"},
};

static const struct fixed_row text_fixed[] = {
    {"model_type", "\"qwen3\""},
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"rope_scaling", "null"},
    {"use_sliding_window", "false"},
};

static const struct fixed_row vae_fixed[] = {
    {"_class_name", "\"AutoencoderKL\""},
    {"in_channels", "3"},
    {"out_channels", "3"},
    {"act_fn", "\"silu\""},
    {"latents_mean", "null"},
    {"latents_std", "null"},
};

static const struct fixed_row scheduler_fixed[] = {
    {"_class_name", "\"FlowMatchEulerDiscreteScheduler\""},
    {"num_train_timesteps", "1000"},
    {"use_dynamic_shifting", "false"},
    {"shift_terminal", "null"},
    {"stochastic_sampling", "false"},
    {"use_karras_sigmas", "false"},
    {"use_exponential_sigmas", "false"},
    {"use_beta_sigmas", "false"},
    {"invert_sigmas", "false"},
};

static int
check_fixed(const struct source *s, const struct fixed_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const json_t *json = json_object_get(s->json, rows[i].key);
		json_t *wanted = json_loads(rows[i].value, JSON_DECODE_ANY, NULL);
		bool equal = json == NULL || json_equal(json, wanted);
		json_decref(wanted);
		if (!equal)
			return err_set(s->e, ERR_UNSUPPORTED, "%s: %s is not %s; nothing else can be run",
			    s->name, rows[i].key, rows[i].value);
	}
	return 0;
}

static int
read_flag(const struct source *s, const char *key, bool fallback, bool *out)
{
	const json_t *json = json_object_get(s->json, key);

	if (json != NULL && !json_is_boolean(json))
		return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: %s is not true or false", s->name, key);
	*out = json != NULL ? json_is_true(json) : fallback;
	return 0;
}

/* ---- the four files */

static int
check_transformer(const struct source *s, struct transformer_config *c)
{
	const json_t *kv = json_object_get(s->json, "n_kv_heads");
	int sum = 0;

	if (json_is_integer(kv) && json_integer_value(kv) != c->heads)
		return err_set(s->e, ERR_UNSUPPORTED,
		    "%s: n_kv_heads differs from n_heads; grouped heads cannot be run", s->name);
	if (c->dim % c->heads != 0)
		return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: dim %d is not a multiple of n_heads %d",
		    s->name, c->dim, c->heads);
	c->head_dim = c->dim / c->heads;
	for (int i = 0; i < MAX_ROPE_AXES; i++) {
		sum += c->axes_dims[i];
		if (c->axes_dims[i] % 2 != 0)
			return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: axes_dims holds an odd width", s->name);
	}
	if (sum != c->head_dim)
		return err_set(s->e, ERR_BAD_CHECKPOINT, "%s: axes_dims add up to %d, the heads are %d wide",
		    s->name, sum, c->head_dim);
	return 0;
}

static int
read_transformer(const struct source *s, struct transformer_config *c)
{
	int count, status = check_fixed(s, transformer_fixed, COUNT(transformer_fixed));

	if (status == 0)
		status = read_numbers(s, transformer_rows, COUNT(transformer_rows), c);
	if (status == 0)
		status = read_list(s, "axes_dims", MAX_ROPE_AXES, MAX_ROPE_AXES, c->axes_dims, &count);
	if (status == 0)
		status = read_list(s, "axes_lens", MAX_ROPE_AXES, MAX_ROPE_AXES, c->axes_lens, &count);
	if (status != 0)
		return status;
	c->patch = 2;
	c->ffn_dim = (int)(c->dim / 3.0 * 8.0); /* in double, then truncated, as the public class does */
	c->modulation_dim = c->dim < 256 ? c->dim : 256;
	c->timestep_hidden = 1024;
	c->qk_norm_eps = 1e-5f;
	c->final_norm_eps = 1e-6f;
	return check_transformer(s, c);
}

/* Newer configuration files keep the base in an object of its own, with a kind of scaling. */
static int
read_rope_parameters(const struct source *s, struct text_encoder_config *c)
{
	static const struct fixed_row kind = {"rope_type", "\"default\""};
	static const struct number_row theta = {
	    "rope_theta", DOUBLE, AT(text_encoder_config, rope_theta), 1, 1e12, NAN};
	struct source parameters = {
	    "text_encoder/config.json: rope_parameters", json_object_get(s->json, "rope_parameters"), s->e};
	int status;

	if (!json_is_object(parameters.json))
		return 0;
	status = check_fixed(&parameters, &kind, 1);
	return status != 0 ? status : read_number(&parameters, &theta, c);
}

static int
read_text(const struct source *s, struct text_encoder_config *c)
{
	int status = check_fixed(s, text_fixed, COUNT(text_fixed));

	if (status == 0)
		status = read_numbers(s, text_rows, COUNT(text_rows), c);
	if (status != 0)
		return status;
	status = read_rope_parameters(s, c);
	if (status != 0)
		return status;
	if (c->heads % c->kv_heads != 0 || c->head_dim % 2 != 0)
		return err_set(s->e, ERR_BAD_CHECKPOINT,
		    "%s: num_attention_heads must be a multiple of num_key_value_heads, and head_dim even",
		    s->name);
	return 0;
}

/* One plain block for each width: the public class also has blocks with attention. */
static int
check_up_blocks(const struct source *s, int blocks)
{
	const json_t *types = json_object_get(s->json, "up_block_types");
	size_t i;
	json_t *type;

	if (!json_is_array(types) || json_array_size(types) != (size_t)blocks)
		return err_set(s->e, ERR_BAD_CHECKPOINT,
		    "%s: up_block_types is not a list of %d types, one for each of block_out_channels",
		    s->name, blocks);
	json_array_foreach(types, i, type)
	{
		if (!json_is_string(type) || strcmp(json_string_value(type), "UpDecoderBlock2D") != 0)
			return err_set(s->e, ERR_UNSUPPORTED,
			    "%s: up_block_types holds something other than UpDecoderBlock2D", s->name);
	}
	return 0;
}

static int
read_vae(const struct source *s, struct vae_config *c)
{
	int status = check_fixed(s, vae_fixed, COUNT(vae_fixed));

	if (status == 0)
		status = read_numbers(s, vae_rows, COUNT(vae_rows), c);
	if (status == 0)
		status =
		    read_list(s, "block_out_channels", 1, MAX_VAE_BLOCKS, c->block_out_channels, &c->blocks);
	if (status != 0)
		return status;
	for (int i = 0; i < c->blocks; i++) {
		if (c->block_out_channels[i] % c->groups != 0)
			return err_set(s->e, ERR_BAD_CHECKPOINT,
			    "%s: block_out_channels holds %d, not a multiple of norm_num_groups %d", s->name,
			    c->block_out_channels[i], c->groups);
	}
	c->scale = 1 << (c->blocks - 1);
	status = check_up_blocks(s, c->blocks);
	if (status == 0)
		status = read_flag(s, "mid_block_add_attention", true, &c->mid_attention);
	if (status == 0)
		status = read_flag(s, "use_post_quant_conv", true, &c->post_quant_conv);
	return status;
}

static int
read_scheduler(const struct source *s, float *shift)
{
	static const struct number_row row = {"shift", FLOAT, 0, 1e-3, 1e3, 1};
	int status = check_fixed(s, scheduler_fixed, COUNT(scheduler_fixed));

	return status != 0 ? status : read_number(s, &row, shift);
}

/* Loads one file and hands it to its reader. */
static int
read_file(const char *dir, const char *name, int (*reader)(const struct source *, struct model_config *),
    struct model_config *c, struct err *e)
{
	json_t *json = json_file_load(dir, name, MAX_CONFIG, e);
	struct source source = {name, json, e};
	int status;

	if (json == NULL)
		return -(int)e->code;
	status = reader(&source, c);
	json_decref(json);
	return status;
}

static int
transformer_reader(const struct source *s, struct model_config *c)
{
	return read_transformer(s, &c->transformer);
}

static int
text_reader(const struct source *s, struct model_config *c)
{
	return read_text(s, &c->text);
}

static int
vae_reader(const struct source *s, struct model_config *c)
{
	return read_vae(s, &c->vae);
}

static int
scheduler_reader(const struct source *s, struct model_config *c)
{
	return read_scheduler(s, &c->shift);
}

static const struct {
	const char *name;
	int (*reader)(const struct source *, struct model_config *);
} files[] = {
    {"transformer/config.json", transformer_reader},
    {"text_encoder/config.json", text_reader},
    {"vae/config.json", vae_reader},
    {"scheduler/scheduler_config.json", scheduler_reader},
};

int
model_config_read(struct model_config *out, const char *dir, struct err *e)
{
	struct model_config c = {0};
	struct err local;

	e = e != NULL ? e : &local;
	for (size_t i = 0; i < COUNT(files); i++) {
		int status = read_file(dir, files[i].name, files[i].reader, &c, e);
		if (status != 0)
			return status;
	}
	if (c.transformer.caption_dim != c.text.hidden)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "transformer/config.json: cap_feat_dim is %d, the text encoder gives %d",
		    c.transformer.caption_dim, c.text.hidden);
	if (c.transformer.in_channels != c.vae.latent_channels)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "transformer/config.json: in_channels is %d, the VAE has %d latent channels",
		    c.transformer.in_channels, c.vae.latent_channels);
	*out = c;
	return 0;
}
