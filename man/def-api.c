/*
 * The public socket's lists: methods, states of jobs, errors, metrics.
 */
#include <stdint.h>
#include <stdio.h>

#include "ipc/err.h"
#include "ipc/shm.h"
#include "man/def-tables.h"
#include "supervisor/jobs/job.h"
#include "supervisor/metrics.h"
#include "supervisor/runners/runner.h"

void
list_errors(void)
{
	begin("deadline_unreachable");
	for (size_t i = 0; err_row_at(i) != NULL; i++) {
		const struct err_row *row = err_row_at(i);
		printf(".It Sy %s\n", row->name);
		put_sentence(row->text);
		printf("Code \\-%d, exit status %d%s.\n", (int)row->code, row->ctl_exit,
		    row->may_retry ? ", may be tried again" : "");
	}
	puts(".El");
}

/* ---- methods and their parameters: what it means, then what may be given */

static void
field(const char *name, const char *help)
{
	item("Va", name, '_', NULL);
	put_sentence(help);
}

static void
text_field(const char *name, const char *need, long long min, long long max, const char *help)
{
	field(name, help);
	printf("A text of %lld to %lld bytes%s.\n", min, max, need);
}

static void
integer_field(
    const char *name, const char *need, long long min, long long max, long long multiple, const char *help)
{
	field(name, help);
	printf("An integer from %lld to %lld%s", min, max, need);
	if (multiple > 1)
		printf(", a multiple of %lld", multiple);
	puts(".");
}

static void
number_field(const char *name, const char *need, double min, double max, const char *help)
{
	field(name, help);
	printf("A number from %.10g to %.10g%s.\n", min, max, need);
}

static void
choice_field(const char *name, const char *need, const char *words, const char *help)
{
	field(name, help);
	printf("One of %s%s.\n", words, need);
}

static void
ids_field(const char *name, const char *need, int max, const char *help)
{
	field(name, help);
	printf("A text, or an array of at most %d%s.\n", max, need);
}

static void
boolean_field(const char *name, const char *need, const char *help)
{
	field(name, help);
	printf("true or false%s.\n", need);
}

#define REQUIRED "; required"
#define OPTIONAL ""
#define ANYONE ""
#define ADMIN "For administrators.\n"
#define READY ""
#define KEPT "Answered when that is on disk.\n"
#define ENDED KEPT

void
list_methods(void)
{
	begin("submit");
#define STRING(name, need, min, max, help) text_field(#name, need, min, max, help);
#define INTEGER(name, need, min, max, multiple, help) integer_field(#name, need, min, max, multiple, help);
#define NUMBER(name, need, min, max, help) number_field(#name, need, min, max, help);
#define BOOLEAN(name, need, help) boolean_field(#name, need, help);
#define CHOICE(name, need, words, help) choice_field(#name, need, words, help);
#define IDS(name, need, max, help) ids_field(#name, need, max, help);
#define METHOD(name, role, when, fields, help) \
	printf(".It Cm " #name "\n"); \
	put_sentence(help); \
	fputs(role when, stdout); \
	if (sizeof(#fields) > 1) { \
		begin("negative_prompt"); \
		fields puts(".El"); \
	}
#include "ipc/api.def"
	puts(".El");
}

void
list_job_states(void)
{
	begin("dispatched");
#define JOB_STATE(name, text, event, clock_us, help) \
	puts(".It Cm " text); \
	put_sentence(help);
#define JOB_END(name, text, help) \
	puts(".It Cm " text " (final)"); \
	put_sentence(help);
#include "ipc/states.def"
	puts(".El");
}

/* ---- metrics */

static void
metric(const char *name, const char *type, const char *labels, const char *help)
{
	printf(".It Va %s%s%s%s\n", name, labels[0] != '\0' ? " No { Ns Ar " : "", labels,
	    labels[0] != '\0' ? " Ns No }" : "");
	put_sentence(help);
	printf("A %s.\n", type);
}

void
list_metrics(void)
{
	begin("Ds");
#define COUNTER "counter"
#define GAUGE "gauge"
#define HISTOGRAM "histogram"
#define METRIC(name, type, labels, help) metric(#name, type, labels, help);
#include "supervisor/metrics.def"
	puts(".El");
}

/* "first, second, third." */
static void
word(const char *text, int *count)
{
	printf("%s", (*count)++ > 0 ? ",\n" : "");
	put_lower(text, '_');
}

static void
end_words(int *count)
{
	puts(".");
	*count = 0;
}

void
list_label_values(void)
{
	int count = 0;

	begin("outcome");
	puts(".It Va source");
#define SOURCE(name, text) word(text, &count);
	METRICS_SOURCES(SOURCE)
#undef SOURCE
	end_words(&count);
	puts(".It Va outcome");
#define JOB_END(name, text, help) word(text, &count);
#include "ipc/states.def"
	end_words(&count);
	puts(".It Va reason No of a rejection");
#define REASON(name) word(#name, &count);
	METRICS_REASONS(REASON)
#undef REASON
	word("other", &count);
	end_words(&count);
	puts(".It Va stage");
#define STAGE(name, text) \
	if (STAGE_##name != STAGE_NONE) \
		word(text, &count);
	SHM_STAGES(STAGE)
#undef STAGE
	end_words(&count);
	puts(".It Va kind\n.Bl -tag -width execution -compact");
#define TIMEOUT(name, text, help) \
	puts(".It " text); \
	put_sentence(help);
	METRICS_TIMEOUTS(TIMEOUT)
#undef TIMEOUT
	puts(".El");
	puts(".It Va state No of a runner");
#define RUNNER_STATE(name, text, ...) word(text, &count);
#include "ipc/states.def"
	end_words(&count);
	puts(".It Va reason No of a restart");
#define CAUSE(name, text) word(text, &count);
	RUNNER_CAUSES(CAUSE)
#undef CAUSE
	end_words(&count);
	puts(".El");
}
