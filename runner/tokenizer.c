/*
 * Byte-level BPE from a Hugging Face tokenizer.json, with Qwen's pre-tokenization and chat frame (model-spec
 * section 4).
 */
#include "runner/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "ipc/utf8.h"
#include "runner/bpe.h"
#include "runner/json_file.h"
#include "runner/nfc.h"
#include "runner/pretokenize.h"

enum { MAX_FILE = 64 * 1024 * 1024, MAX_ADDED = 4096, MAX_VOCAB = 1 << 24, MAX_SYMBOL = 1024 };

static const char frame_head[] = "<|im_start|>user\n", frame_tail[] = "<|im_end|>\n<|im_start|>assistant\n";

struct added_token {
	char *text;
	size_t bytes;
	int32_t id;
};

struct tokenizer {
	struct bpe *bpe;
	struct added_token *added;
	size_t added_count;
	size_t vocab;
};

/* ---- reading tokenizer.json */

/* The file being read. */
struct source {
	const char *dir;
	const json_t *root, *vocab;
	struct err *e;
};

static int
damaged(const struct source *s, const char *what)
{
	return err_set(s->e, ERR_BAD_CHECKPOINT, "%s/tokenizer.json: %s", s->dir, what);
}

static int
unsupported(const struct source *s, const char *what)
{
	return err_set(s->e, ERR_UNSUPPORTED, "%s/tokenizer.json: %s", s->dir, what);
}

static bool
is_text(const json_t *value, const char *text)
{
	return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static bool
absent_or_false(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return value == NULL || json_is_null(value) || json_is_false(value) ||
	       (json_is_string(value) && json_string_length(value) == 0);
}

/* The stages around the merges must be the ones that this file and pretokenize.c are written for. */
static int
check_kind(const struct source *s)
{
	const json_t *model = json_object_get(s->root, "model");
	const json_t *steps = json_object_get(json_object_get(s->root, "pre_tokenizer"), "pretokenizers");
	const json_t *split = json_array_get(steps, 0), *bytes = json_array_get(steps, 1);
	const json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");

	if (!is_text(json_object_get(model, "type"), "BPE"))
		return unsupported(s, "model.type is not BPE");
	if (!absent_or_false(model, "dropout") || !absent_or_false(model, "byte_fallback") ||
	    !absent_or_false(model, "ignore_merges") ||
	    !absent_or_false(model, "continuing_subword_prefix") ||
	    !absent_or_false(model, "end_of_word_suffix"))
		return unsupported(s, "model has dropout, byte_fallback, ignore_merges or affixes");
	if (!is_text(json_object_get(json_object_get(s->root, "normalizer"), "type"), "NFC"))
		return unsupported(s, "normalizer is not NFC");
	if (json_array_size(steps) != 2 || !is_text(json_object_get(split, "type"), "Split") ||
	    !is_text(json_object_get(split, "behavior"), "Isolated") || !absent_or_false(split, "invert") ||
	    !json_is_string(regex))
		return unsupported(s, "pre_tokenizer does not begin with a Split, Isolated, by a Regex");
	if (!pretokenize_knows(json_string_value(regex)))
		return err_set(s->e, ERR_UNSUPPORTED,
		    "%s/tokenizer.json: splits by %.110s, which is not Qwen's pattern", s->dir,
		    json_string_value(regex));
	if (!is_text(json_object_get(bytes, "type"), "ByteLevel") ||
	    !absent_or_false(bytes, "add_prefix_space") || !absent_or_false(bytes, "use_regex"))
		return unsupported(s, "pre_tokenizer does not end in a plain ByteLevel");
	return 0;
}

/* The code point that stands for a byte in the vocabulary: printable Latin-1 for itself, the others from
 * U+0100 on. */
static void
byte_symbol(int byte, char out[5])
{
	static const struct {
		int low, high;
	} own[] = {{33, 126}, {161, 172}, {174, 255}};
	int32_t point = 256;
	utf8proc_ssize_t n;

	for (int b = 0; b <= byte; b++) {
		bool is_own = (b >= own[0].low && b <= own[0].high) ||
			      (b >= own[1].low && b <= own[1].high) || (b >= own[2].low && b <= own[2].high);
		if (b == byte && is_own)
			point = byte;
		else if (b < byte && !is_own)
			point++;
	}
	n = utf8proc_encode_char(point, (utf8proc_uint8_t *)out);
	out[n] = '\0';
}

/* -1: no integer, or out of range. */
static int32_t
id_of(const json_t *value)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) >= MAX_VOCAB)
		return -1;
	return (int32_t)json_integer_value(value);
}

/* The id of a symbol; -1 when the vocabulary lacks it or its id is out of range. */
static int32_t
symbol_id(const struct source *s, const char *symbol)
{
	return id_of(json_object_get(s->vocab, symbol));
}

/* "a b" or ["a", "b"] into its two halves. */
static bool
split_merge(const json_t *merge, char left[MAX_SYMBOL], char right[MAX_SYMBOL])
{
	const char *first = json_string_value(json_array_get(merge, 0)), *second = NULL, *space;
	size_t first_bytes;

	if (json_is_string(merge)) {
		first = json_string_value(merge);
		space = strchr(first, ' ');
		second = space != NULL ? space + 1 : NULL;
		first_bytes = space != NULL ? (size_t)(space - first) : 0;
	} else {
		second = json_string_value(json_array_get(merge, 1));
		first_bytes = first != NULL ? strlen(first) : 0;
	}
	if (first_bytes == 0 || first_bytes >= MAX_SYMBOL / 2 || second == NULL || *second == '\0' ||
	    strlen(second) >= MAX_SYMBOL / 2)
		return false;
	memcpy(left, first, first_bytes);
	left[first_bytes] = '\0';
	strcpy(right, second);
	return true;
}

static int
add_merge(struct tokenizer *t, const struct source *s, const json_t *merge)
{
	char left[MAX_SYMBOL], right[MAX_SYMBOL], both[MAX_SYMBOL];
	int32_t a, b, ab;

	if (!split_merge(merge, left, right))
		return damaged(s, "merges holds an entry that is not a pair of symbols");
	snprintf(both, sizeof(both), "%s%s", left, right);
	a = symbol_id(s, left);
	b = symbol_id(s, right);
	ab = symbol_id(s, both);
	if (a < 0 || b < 0 || ab < 0)
		return damaged(s, "merges holds a symbol that vocab lacks");
	bpe_add(t->bpe, a, b, ab);
	return 0;
}

static int
read_merges(struct tokenizer *t, const struct source *s)
{
	const json_t *merges = json_object_get(json_object_get(s->root, "model"), "merges");
	int32_t byte_ids[256];
	size_t i;
	json_t *merge;

	if (!json_is_object(s->vocab) || !json_is_array(merges))
		return damaged(s, "model lacks vocab or merges");
	for (int byte = 0; byte < 256; byte++) {
		char symbol[5];
		byte_symbol(byte, symbol);
		byte_ids[byte] = symbol_id(s, symbol);
		if (byte_ids[byte] < 0)
			return damaged(s, "vocab lacks the symbol of a byte");
	}
	t->bpe = bpe_new(byte_ids, json_array_size(merges));
	if (t->bpe == NULL)
		return err_set(s->e, ERR_OUT_OF_MEMORY, "%s/tokenizer.json: out of memory", s->dir);
	json_array_foreach(merges, i, merge)
	{
		int status = add_merge(t, s, merge);
		if (status != 0)
			return status;
	}
	return 0;
}

static int
add_added(struct tokenizer *t, const struct source *s, const json_t *json)
{
	const json_t *id = json_object_get(json, "id"), *content = json_object_get(json, "content");
	struct added_token *token = &t->added[t->added_count];

	if (id_of(id) < 0 || json_string_length(content) == 0)
		return damaged(s, "added_tokens holds an entry without content or id");
	if (!absent_or_false(json, "lstrip") || !absent_or_false(json, "rstrip") ||
	    !absent_or_false(json, "single_word") || !absent_or_false(json, "normalized"))
		return unsupported(
		    s, "added_tokens holds a token that strips, wants whole words or is normalized");
	token->text = strdup(json_string_value(content));
	if (token->text == NULL)
		return err_set(s->e, ERR_OUT_OF_MEMORY, "%s/tokenizer.json: out of memory", s->dir);
	token->bytes = json_string_length(content);
	token->id = id_of(id);
	t->added_count++;
	return 0;
}

static int
read_added(struct tokenizer *t, const struct source *s)
{
	const json_t *list = json_object_get(s->root, "added_tokens");
	size_t i;
	json_t *item;

	if (json_array_size(list) > MAX_ADDED)
		return damaged(s, "added_tokens is too long");
	t->added = calloc(json_array_size(list) + 1, sizeof(*t->added));
	if (t->added == NULL)
		return err_set(s->e, ERR_OUT_OF_MEMORY, "%s/tokenizer.json: out of memory", s->dir);
	json_array_foreach(list, i, item)
	{
		int status = add_added(t, s, item);
		if (status != 0)
			return status;
	}
	return 0;
}

/* The chat frame is made of these two; as plain text they would be a dozen ordinary tokens. */
static int
check_frame(const struct tokenizer *t, const struct source *s)
{
	static const char *const needed[] = {"<|im_start|>", "<|im_end|>"};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		size_t k = 0;
		while (k < t->added_count && strcmp(t->added[k].text, needed[i]) != 0)
			k++;
		if (k == t->added_count)
			return err_set(s->e, ERR_UNSUPPORTED,
			    "%s/tokenizer.json: added_tokens lacks %s, which the chat frame is made of",
			    s->dir, needed[i]);
	}
	return 0;
}

static int
count_vocab(struct tokenizer *t, const struct source *s)
{
	const char *symbol;
	json_t *value;

	json_object_foreach((json_t *)s->vocab, symbol, value)
	{
		int32_t id = id_of(value);
		if (id < 0)
			return err_set(s->e, ERR_BAD_CHECKPOINT,
			    "%s/tokenizer.json: vocab: the id of '%.40s' is not from 0 to %d", s->dir, symbol,
			    MAX_VOCAB - 1);
		if ((size_t)id + 1 > t->vocab)
			t->vocab = (size_t)id + 1;
	}
	for (size_t i = 0; i < t->added_count; i++) {
		if ((size_t)t->added[i].id + 1 > t->vocab)
			t->vocab = (size_t)t->added[i].id + 1;
	}
	return 0;
}

int
tokenizer_open(struct tokenizer **out, const char *dir, struct err *e)
{
	struct err local;
	struct source s = {.dir = dir, .e = e != NULL ? e : &local};
	json_t *root = json_file_load(dir, "tokenizer.json", MAX_FILE, s.e);
	struct tokenizer *t;
	int status;

	if (root == NULL)
		return -(int)s.e->code;
	s.root = root;
	s.vocab = json_object_get(json_object_get(root, "model"), "vocab");
	t = calloc(1, sizeof(*t));
	status = t != NULL ? check_kind(&s) : err_set(s.e, ERR_OUT_OF_MEMORY, "%s: out of memory", dir);
	if (status == 0)
		status = read_merges(t, &s);
	if (status == 0)
		status = read_added(t, &s);
	if (status == 0)
		status = check_frame(t, &s);
	if (status == 0)
		status = count_vocab(t, &s);
	if (status == 0)
		*out = t;
	else if (t != NULL)
		tokenizer_close(&t);
	json_decref(root);
	return status;
}

void
tokenizer_close(struct tokenizer **t)
{
	if (*t == NULL)
		return;
	for (size_t i = 0; i < (*t)->added_count; i++)
		free((*t)->added[i].text);
	free((*t)->added);
	bpe_free(&(*t)->bpe);
	free(*t);
	*t = NULL;
}

size_t
tokenizer_vocab(const struct tokenizer *t)
{
	return t->vocab;
}

/* ---- encoding */

struct ids {
	int32_t *data;
	size_t count, room;
};

static bool
ids_make_room(struct ids *ids, size_t more)
{
	size_t room = ids->room > 0 ? ids->room : 64;
	int32_t *data;

	if (ids->count + more <= ids->room)
		return true;
	while (room < ids->count + more)
		room *= 2;
	data = realloc(ids->data, room * sizeof(*data));
	if (data == NULL)
		return false;
	ids->data = data;
	ids->room = room;
	return true;
}

/* The longest added token that the text begins with, or NULL. */
static const struct added_token *
added_at(const struct tokenizer *t, const char *text, size_t bytes)
{
	const struct added_token *best = NULL;

	for (size_t i = 0; i < t->added_count; i++) {
		const struct added_token *a = &t->added[i];
		if (a->text[0] == text[0] && a->bytes <= bytes && memcmp(a->text, text, a->bytes) == 0 &&
		    (best == NULL || a->bytes > best->bytes))
			best = a;
	}
	return best;
}

/* Segments of normalised text. */
static bool
encode_segments(const struct tokenizer *t, const char *text, size_t bytes, struct ids *ids)
{
	while (bytes > 0) {
		size_t length = pretokenize_segment(text, bytes);
		ptrdiff_t n;

		if (!ids_make_room(ids, length))
			return false;
		n = bpe_encode(t->bpe, text, length, ids->data + ids->count);
		if (n < 0)
			return false;
		ids->count += (size_t)n;
		text += length;
		bytes -= length;
	}
	return true;
}

/* Text between added tokens: to NFC, then to ids. */
static bool
encode_plain(const struct tokenizer *t, const char *text, size_t bytes, struct ids *ids)
{
	size_t count = 0;
	char *normal;
	bool ok;

	if (bytes == 0)
		return true;
	normal = nfc(text, bytes, &count);
	ok = normal != NULL && encode_segments(t, normal, count, ids);
	free(normal);
	return ok;
}

static bool
encode_text(const struct tokenizer *t, const char *text, size_t bytes, struct ids *ids)
{
	size_t plain = 0; /* where the text since the last added token begins */

	for (size_t at = 0; at < bytes;) {
		const struct added_token *a = added_at(t, text + at, bytes - at);
		if (a == NULL) {
			at++;
			continue;
		}
		if (!encode_plain(t, text + plain, at - plain, ids) || !ids_make_room(ids, 1))
			return false;
		ids->data[ids->count++] = a->id;
		at += a->bytes;
		plain = at;
	}
	return encode_plain(t, text + plain, bytes - plain, ids);
}

int
tokenizer_encode(
    const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count, struct err *e)
{
	struct ids list = {0};

	if (!utf8_valid(text, bytes))
		return err_set(e, ERR_INVALID_PARAM, "the prompt is not valid UTF-8");
	if (!ids_make_room(&list, 1) || !encode_text(t, text, bytes, &list)) {
		free(list.data);
		return err_set(e, ERR_SYSTEM, "no memory to tokenize %zu bytes", bytes);
	}
	*ids = list.data;
	*count = list.count;
	return 0;
}

int
tokenizer_prompt(const struct tokenizer *t, const char *prompt, size_t max, bool truncate, int32_t **ids,
    size_t *count, bool *truncated, struct err *e)
{
	size_t prompt_bytes = strlen(prompt),
	       bytes = sizeof(frame_head) - 1 + prompt_bytes + sizeof(frame_tail) - 1;
	char *text = malloc(bytes + 1);
	int32_t *list = NULL;
	size_t n = 0;
	int status;

	if (text == NULL)
		return err_set(e, ERR_SYSTEM, "no memory to tokenize %zu bytes", prompt_bytes);
	/* The frame and the prompt are one text: leading newlines of the prompt merge with the frame's. */
	memcpy(text, frame_head, sizeof(frame_head) - 1);
	memcpy(text + sizeof(frame_head) - 1, prompt, prompt_bytes);
	memcpy(text + sizeof(frame_head) - 1 + prompt_bytes, frame_tail, sizeof(frame_tail));
	status = tokenizer_encode(t, text, bytes, &list, &n, e);
	free(text);
	if (status != 0)
		return status;
	if (n > max && !truncate) {
		free(list);
		return err_set(e, ERR_PROMPT_TOO_LONG,
		    "the prompt has %zu tokens with its frame, %zu are possible; shorten it, or set truncate",
		    n, max);
	}
	*ids = list;
	*truncated = n > max;
	*count = n > max ? max : n;
	return 0;
}
