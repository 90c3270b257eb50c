/*
 * Choices of ways to make a product, kept in a file: a line for each, the key and whether ways were tried in
 * numbers, the way in hexadecimal digits.
 *
 * A choice decides the order of sums, so it must outlive the process: a picture that another process goes on
 * with must have the same bits. What is used is what the file says, first line first, whoever wrote it; so
 * the file is read on before anything is decided, and a new choice is appended and read back before it is
 * used.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gemm_inside.cuh"

enum {
	ALGO_BYTES = sizeof(cublasLtMatmulAlgo_t),
	LINE = 2 * ALGO_BYTES + 512,
	MAX_CHOICES = 16384, /* 3 MB: whoever asks for more sizes gets those of neighbours */
	FEW_ROWS = 128,
};

/* ---- keys */

/* Prompts differ by a row, pictures by 32 or more, and all counts up to the next 128 fill the same tiles:
 * they share a choice. Below, tiles of 32 and 64 rows are worth their own; one row is a case by itself. */
static struct gemm_key
kind_of(const struct gemm_key *exact)
{
	struct gemm_key key = *exact;
	int64_t step = key.m <= FEW_ROWS ? 32 : 128;

	if (key.m > 1)
		key.m = (key.m + step - 1) / step * step;
	return key;
}

/* Whether a way for one may do for the other: what is different are numbers of rows, and where they lie. */
static bool
are_alike(const struct gemm_key *a, const struct gemm_key *b)
{
	struct gemm_key other = *a;

	other.m = b->m;
	other.stride_a = b->stride_a;
	other.stride_y = b->stride_y;
	if (other.batch > 1 && b->batch > 1)
		other.batch = b->batch;
	other.alignment = b->alignment;
	return memcmp(&other, b, sizeof(other)) == 0;
}

/* ---- lines */

static int
print_line(char line[LINE], const struct gemm_choice *choice)
{
	int length = 0;

#define FIELD(name) \
	length += snprintf(line + length, (size_t)(LINE - length), "%lld ", (long long)choice->key.name);
	GEMM_KEY(FIELD)
#undef FIELD
	length += snprintf(line + length, (size_t)(LINE - length), "%lld ", (long long)choice->tried);
	for (int i = 0; i < ALGO_BYTES; i++)
		length += snprintf(line + length, (size_t)(LINE - length), "%02x",
		    ((const unsigned char *)&choice->algo)[i]);
	return length + snprintf(line + length, (size_t)(LINE - length), "\n");
}

static bool
take_number(const char **at, int64_t *number)
{
	char *end;

	*number = strtoll(*at, &end, 10);
	if (end == *at || *end != ' ')
		return false;
	*at = end + 1;
	return true;
}

static bool
take_algo(const char *digits, cublasLtMatmulAlgo_t *algo)
{
	for (int i = 0; i < ALGO_BYTES; i++) {
		unsigned byte;
		if (!isxdigit((unsigned char)digits[2 * i]) || !isxdigit((unsigned char)digits[2 * i + 1]) ||
		    sscanf(digits + 2 * i, "%2x", &byte) != 1)
			return false;
		((unsigned char *)algo)[i] = (unsigned char)byte;
	}
	return digits[2 * ALGO_BYTES] == '\n';
}

/* false: it is not a line of ours. */
static bool
parse_line(const char *line, struct gemm_choice *choice)
{
	const char *at = line;

#define FIELD(name) \
	if (!take_number(&at, &choice->key.name)) \
		return false;
	GEMM_KEY(FIELD)
#undef FIELD
	return take_number(&at, &choice->tried) && take_algo(at, &choice->algo);
}

/* ---- the file */

static bool
add_choice(struct gemm_choices *s, const struct gemm_choice *choice)
{
	if (s->count == s->room) {
		size_t room = s->room > 0 ? 2 * s->room : 256;
		void *list = room <= MAX_CHOICES ? realloc(s->list, room * sizeof(*s->list)) : NULL;
		if (list == NULL)
			return false;
		s->list = (struct gemm_choice *)list;
		s->room = room;
	}
	s->list[s->count++] = *choice;
	return true;
}

/* What has been appended since the last time, by this process or another. */
static void
read_on(struct gemm_choices *s)
{
	FILE *file = s->path[0] != '\0' ? fopen(s->path, "re") : NULL;
	struct gemm_choice choice;
	char line[LINE];

	if (file == NULL)
		return;
	s->torn = false;
	if (fseek(file, s->taken, SEEK_SET) == 0) {
		while (!s->torn && fgets(line, sizeof(line), file) != NULL) {
			s->torn = feof(file) != 0; /* its end has not been written, or never will be */
			if (s->torn || (parse_line(line, &choice) && !add_choice(s, &choice)))
				break;
			s->taken = ftell(file);
		}
	}
	fclose(file);
}

/* One write at the end, so that lines of several processes do not mix. */
void
gemm_choice_keep(
    struct gemm_choices *s, const struct gemm_key *key, bool tried, const cublasLtMatmulAlgo_t *algo)
{
	struct gemm_choice choice = {kind_of(key), tried, *algo};
	char line[LINE];
	FILE *file;

	if (s->path[0] == '\0' || s->count == MAX_CHOICES)
		return;
	file = fopen(s->path, "ae");
	if (file == NULL)
		return;
	print_line(line, &choice);
	fprintf(file, "%s%s", s->torn ? "\n" : "", line); /* what a full disk cut off stays alone */
	fclose(file);
}

/* Letters and digits only of the device's name. */
void
gemm_choices_open(struct gemm_choices *s, const char *dir, size_t version, const char *device)
{
	int length = dir != NULL ? snprintf(s->path, CACHE_PATH, "%s/gemm-%zu-", dir, version) : 0;
	FILE *file = NULL;

	if (length > 0 && length < CACHE_PATH - 64) {
		for (int i = 0; device[i] != '\0' && i < 60; i++)
			s->path[length++] = isalnum((unsigned char)device[i]) ? device[i] : '-';
		s->path[length] = '\0';
		file = fopen(s->path, "ae");
	}
	if (file == NULL)
		s->path[0] = '\0';
	else
		fclose(file);
}

void
gemm_choices_close(struct gemm_choices *s)
{
	free(s->list);
	*s = {};
}

bool
gemm_choices_are_kept(const struct gemm_choices *s)
{
	return s->path[0] != '\0';
}

/* ---- finding */

bool
gemm_choice_find(struct gemm_choices *s, const struct gemm_key *exact, gemm_works *works, void *arg,
    cublasLtMatmulAlgo_t *algo)
{
	struct gemm_key key = kind_of(exact);

	read_on(s);
	for (size_t i = 0; i < s->count; i++) {
		if (memcmp(&s->list[i].key, &key, sizeof(key)) != 0 || !works(arg, &s->list[i].algo))
			continue;
		*algo = s->list[i].algo;
		return true;
	}
	return false;
}

/* How many times as many rows one has as the other, at least 1. */
static double
distance(const struct gemm_key *a, const struct gemm_key *b)
{
	return a->m > b->m ? (double)a->m / (double)b->m : (double)b->m / (double)a->m;
}

/* A way is for operands that are aligned at least as the product was that it was found for; the library's
 * check does not look at that. */
bool
gemm_choice_nearest(struct gemm_choices *s, const struct gemm_key *exact, gemm_works *works, void *arg,
    cublasLtMatmulAlgo_t *algo)
{
	struct gemm_key key = kind_of(exact);
	double least = 0;

	for (size_t i = 0; i < s->count; i++) {
		const struct gemm_choice *choice = &s->list[i];
		double far = distance(&choice->key, &key);
		if (choice->tried == 0 || !are_alike(&choice->key, &key) ||
		    choice->key.alignment > key.alignment || (least > 0 && far >= least) ||
		    !works(arg, &choice->algo))
			continue;
		least = far;
		*algo = choice->algo;
	}
	return least > 0;
}
