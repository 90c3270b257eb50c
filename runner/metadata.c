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

/* The prompt and the negative prompt, then the line of settings. Readers take the last line for the settings,
 * so ours stands last whatever the prompt says; and they look for a line "Negative prompt:", so a line of the
 * prompt that begins like that, or like settings, is set off by a space: it cannot pass for ours. */
static void
put_text(FILE *out, const char *text)
{
	bool line_begins = true;

	for (; *text != '\0'; text++) {
		if (line_begins &&
		    (strncmp(text, "Negative prompt:", 16) == 0 || strncmp(text, "Steps:", 6) == 0))
			fputc(' ', out);
		if (*text != '\r')
			fputc(*text, out);
		line_begins = *text == '\n' || *text == '\r';
	}
}

/* A value that holds a comma, colon, quote or control character is quoted as JSON. */
static void
put_value(FILE *out, const char *key, const char *value)
{
	char *quoted = NULL;

	if (value[strcspn(value, ",:\"\n\r")] != '\0') {
		json_t *json = json_string(value);
		quoted = json_dumps(json, JSON_ENCODE_ANY);
		json_decref(json);
	}
	fprintf(out, ", %s: %s", key, quoted != NULL ? quoted : value);
	free(quoted);
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
