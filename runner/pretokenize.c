/*
 * Qwen's pre-tokenization: text cut into segments that byte-pair merges do not cross (model-spec
 * section 4.2).
 *
 * The pattern is a list of alternatives; the first that matches wins. Each alternative is one function below,
 * in the pattern's order. Character classes are utf8proc's (Unicode 15); the Hugging Face tokenizers' may be
 * a version apart, which touches newly assigned characters only.
 */
#include "runner/pretokenize.h"

#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

static const char known_regex[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
				  "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
				  "\\s+(?!\\S)|\\s+";

bool
pretokenize_knows(const char *regex)
{
	return strcmp(regex, known_regex) == 0;
}

/* ---- characters */

enum kind { LETTER, NUMBER, SPACE, NEWLINE, OTHER }; /* NEWLINE: CR or LF, which are white space too */

struct text {
	const char *bytes;
	size_t count;
};

static bool
is_white_space(int32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
	       c == 0x3000;
}

static enum kind
kind_of(int32_t c)
{
	switch (utf8proc_category(c)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
		return LETTER;
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_NO:
		return NUMBER;
	default:
		return c == '\r' || c == '\n' ? NEWLINE : is_white_space(c) ? SPACE : OTHER;
	}
}

/* The character at `at`: its bytes, 0 at the end of the text. */
static size_t
character(const struct text *t, size_t at, int32_t *c)
{
	utf8proc_ssize_t n;

	if (at >= t->count)
		return 0;
	n = utf8proc_iterate((const utf8proc_uint8_t *)t->bytes + at, (utf8proc_ssize_t)(t->count - at), c);
	return n > 0 ? (size_t)n : 1;
}

/* Where the run of characters of the kinds in `set` that starts at `at` ends. */
static size_t
run_end(const struct text *t, size_t at, unsigned set)
{
	int32_t c;
	size_t n;

	while ((n = character(t, at, &c)) > 0 && (set >> kind_of(c) & 1) != 0)
		at += n;
	return at;
}

#define SET(kind) (1u << (kind))

/* ---- the alternatives: length of their match at the start of the text, or 0 */

/* (?i:'s|'t|'re|'ve|'m|'ll|'d); U+017F, the long s, folds to s. */
static size_t
contraction(const struct text *t)
{
	static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};

	if (t->count < 2 || t->bytes[0] != '\'')
		return 0;
	if (t->count >= 3 && memcmp(t->bytes + 1, "\xc5\xbf", 2) == 0)
		return 3;
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		size_t n = strlen(endings[i]);
		if (t->count > n && strncasecmp(t->bytes + 1, endings[i], n) == 0)
			return 1 + n;
	}
	return 0;
}

/* [^\r\n\p{L}\p{N}]?\p{L}+ */
static size_t
word(const struct text *t)
{
	int32_t c;
	size_t n = character(t, 0, &c), start;
	enum kind first = kind_of(c);

	start = first == SPACE || first == OTHER ? n : 0;
	n = run_end(t, start, SET(LETTER));
	return n > start ? n : 0;
}

/* \p{N} */
static size_t
digit(const struct text *t)
{
	int32_t c;
	size_t n = character(t, 0, &c);

	return kind_of(c) == NUMBER ? n : 0;
}

/*  ?[^\s\p{L}\p{N}]+[\r\n]* */
static size_t
punctuation(const struct text *t)
{
	size_t start = t->bytes[0] == ' ' ? 1 : 0, end = run_end(t, start, SET(OTHER));

	return end > start ? run_end(t, end, SET(NEWLINE)) : 0;
}

/* \s*[\r\n]+ : the run of white space up to its last CR or LF. */
static size_t
lines(const struct text *t)
{
	size_t end = run_end(t, 0, SET(SPACE) | SET(NEWLINE));

	while (end > 0 && t->bytes[end - 1] != '\r' && t->bytes[end - 1] != '\n')
		end--; /* by bytes: CR and LF are never inside another character */
	return end;
}

/* \s+(?!\S) : the run of white space, less its last character when something follows. */
static size_t
trailing_space(const struct text *t)
{
	size_t end = run_end(t, 0, SET(SPACE) | SET(NEWLINE)), at = 0, last = 0;
	int32_t c;

	if (end == t->count)
		return end;
	for (; at < end; at += character(t, at, &c))
		last = at;
	return last;
}

/* \s+ */
static size_t
space(const struct text *t)
{
	return run_end(t, 0, SET(SPACE) | SET(NEWLINE));
}

size_t
pretokenize_segment(const char *text, size_t bytes)
{
	static size_t (*const alternatives[])(const struct text *) = {
	    contraction, word, digit, punctuation, lines, trailing_space, space};
	struct text t = {text, bytes};

	for (size_t i = 0; i < sizeof(alternatives) / sizeof(alternatives[0]); i++) {
		size_t length = alternatives[i](&t);
		if (length > 0)
			return length;
	}
	return bytes > 0 ? 1 : 0; /* not reached: every character is in some alternative */
}
