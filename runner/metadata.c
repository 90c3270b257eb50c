/*
 * What a picture says about itself (interfaces.md section 6.13): A1111's text, our JSON, XMP.
 */
#include "runner/metadata.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "build_id.h"
#include "ipc/clock.h"

const char metadata_xmp[] =
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF "
    "xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
    "<rdf:Description rdf:about=\"\" xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\" "
    "Iptc4xmpExt:DigitalSourceType=\"http://cv.iptc.org/newscodes/digitalsourcetype/"
    "trainedAlgorithmicMedia\"/>"
    "</rdf:RDF></x:xmpmeta>";

/* Whether the colon ends one of the two keys by which readers find where a prompt ends. */
static bool
ends_key(const char *text, const char *colon)
{
	static const char *const keys[] = {"Negative prompt", "Steps"};

	while (colon > text && colon[-1] == '\\')
		colon--;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		size_t length = strlen(keys[i]);
		if ((size_t)(colon - text) >= length && memcmp(colon - length, keys[i], length) == 0)
			return true;
	}
	return false;
}

/* A stranger's text, so that no line of it passes for one of ours. Some readers take the last line for the
 * settings, which is ours whatever the prompt says; others take the first that begins with "Steps:", and all
 * look for "Negative prompt:", after stripping whatever they call white space. So the colon of these keys
 * gets one more backslash wherever they stand; taking one away gives the prompt back. The exact prompt is in
 * `zit`. Carriage returns become newlines, which is all that PNG allows. */
static void
put_text(FILE *out, const char *text)
{
	for (const char *c = text; *c != '\0'; c++) {
		if (c[0] == '\r' && c[1] == '\n')
			continue;
		if (*c == ':' && ends_key(text, c))
			fputc('\\', out);
		fputc(*c == '\r' ? '\n' : *c, out);
	}
}

/* Whether a reader would end the value too early or strip some of it. */
static bool
needs_quotes(const char *value)
{
	size_t length = strlen(value);

	if (length == 0 || value[0] == ' ' || value[length - 1] == ' ')
		return true;
	for (const char *c = value; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || strchr(",:\"", *c) != NULL)
			return true;
	}
	return false;
}

static void
put_value(FILE *out, const char *key, const char *value)
{
	json_t *json = needs_quotes(value) ? json_string(value) : NULL;
	char *quoted = json != NULL ? json_dumps(json, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;

	if (quoted != NULL)
		value = quoted;
	else if (needs_quotes(value))
		value = "?"; /* no memory: a gap, not a forged line */
	fprintf(out, ", %s: %s", key, value);
	free(quoted);
	json_decref(json);
}

static char *
make_parameters(const struct metadata_facts *f)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	put_text(out, f->prompt);
	if (f->negative_prompt[0] != '\0') {
		fputs("\nNegative prompt: ", out);
		put_text(out, f->negative_prompt);
	}
	fprintf(out,
	    "\nSteps: %d, Sampler: Euler, Schedule type: Simple, CFG scale: 0, Seed: %llu, Size: %dx%d",
	    f->steps, (unsigned long long)f->seed, f->width, f->height);
	fprintf(out, ", Model hash: %.10s", f->model_hash);
	put_value(out, "Model", f->model);
	fprintf(out, ", Shift: %g", (double)f->shift);
	put_value(out, "Version", "zitd " ZIT_VERSION);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static char *
make_json(const struct metadata_facts *f)
{
	json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:f, s:s, s:s, s:s, s:s, s:s}", "job",
	    f->job, "prompt", f->prompt, "negative_prompt", f->negative_prompt, "seed", (json_int_t)f->seed,
	    "width", f->width, "height", f->height, "steps", f->steps, "shift", (double)f->shift, "model",
	    f->model, "model_hash", f->model_hash, "device", f->device, "precision", f->precision, "build",
	    ZIT_BUILD);
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	json_decref(json);
	return text;
}

bool
metadata_make(struct metadata *m, const struct metadata_facts *facts)
{
	time_t now = (time_t)(clock_wall_us() / 1000000);
	struct tm tm;

	m->parameters = make_parameters(facts);
	m->json = make_json(facts);
	gmtime_r(&now, &tm);
	strftime(m->created, sizeof(m->created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (m->parameters != NULL && m->json != NULL)
		return true;
	metadata_clear(m);
	return false;
}

void
metadata_clear(struct metadata *m)
{
	free(m->parameters);
	free(m->json);
	*m = (struct metadata){0};
}
