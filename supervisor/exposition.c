/*
 * The text form of Prometheus.
 */
#include "supervisor/exposition.h"

#include <stdarg.h>
#include <stddef.h>

/* Of a label, which stands in quotes, or of a help, which does not. */
static void
put_escaped(FILE *out, const char *text, char also)
{
	for (; *text != '\0'; text++) {
		if (*text == '\n')
			fputs("\\n", out);
		else {
			if (*text == '\\' || *text == also)
				putc('\\', out);
			putc(*text, out);
		}
	}
}

void
expose_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s ", name);
	put_escaped(out, help, '\\');
	fprintf(out, "\n# TYPE %s %s\n", name, type);
}

void
expose(FILE *out, const char *name, double value, ...)
{
	const char *label, *before = "{";
	va_list pairs;

	fputs(name, out);
	va_start(pairs, value);
	while ((label = va_arg(pairs, const char *)) != NULL) {
		fprintf(out, "%s%s=\"", before, label);
		put_escaped(out, va_arg(pairs, const char *), '"');
		putc('"', out);
		before = ",";
	}
	va_end(pairs);
	fprintf(out, "%s %.16g\n", *before == ',' ? "}" : "", value);
}

void
expose_histogram(FILE *out, const char *name, const struct histogram *h, const char *label, const char *value)
{
	char full[96], bound[32];
	double count = (double)histogram_at_most(h, HISTOGRAM_BOUNDS);

	snprintf(full, sizeof(full), "%s_bucket", name);
	for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
		double below = (double)histogram_at_most(h, i);
		snprintf(bound, sizeof(bound), i < HISTOGRAM_BOUNDS ? "%.10g" : "+Inf", histogram_bound(i));
		if (label != NULL)
			expose(out, full, below, label, value, "le", bound, NULL);
		else
			expose(out, full, below, "le", bound, NULL);
	}
	snprintf(full, sizeof(full), "%s_sum", name);
	expose(out, full, h->sum_s, label, value, NULL);
	snprintf(full, sizeof(full), "%s_count", name);
	expose(out, full, count, label, value, NULL);
}
