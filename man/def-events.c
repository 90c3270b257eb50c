/*
 * What zitd logs (supervisor/journal.def): for zit-log(7), and as message catalogs for journalctl -x.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "ipc/log.h"
#include "man/def-tables.h"

/* Fields by their names in C, which is what rows have. */
static const char *
field_name(const char *member)
{
	static const struct {
		const char *member, *name;
	} fields[] = {
#define LOG_FIELD(member, name, kind, help) {#member, name},
#include "supervisor/journal.def"
	};
	size_t i = 0;

	while (strcmp(fields[i].member, member) != 0)
		i++;
	return fields[i].name;
}

/* The message with its fields as bare names, as literal text. */
static void
put_message(const char *message)
{
	puts(".Bd -literal -compact -offset indent");
	for (; *message != '\0'; message++) {
		if (*message != '@')
			putchar(*message);
	}
	puts("\n.Ed");
}

static void
begin_event(const char *name, enum log_level level, const char *id, const char *message)
{
	printf(".It Sy ");
	put_lower(name, '_');
	printf(" Pq %s\n", log_level_name(level));
	put_message(message);
	printf(".Sm off\n.Li MESSAGE_ID No = Li %s\n.Sm on\n.Pp\n", id);
}

/* @NAME@ as the name alone; a line's end begins a paragraph. */
static void
put_explanation(const char *text)
{
	char part[1024];
	size_t count;

	for (; *text != '\0'; text += count) {
		count = strcspn(text, "@\n");
		snprintf(part, sizeof(part), "%.*s", (int)count, text);
		put(part);
		text += count;
		count = *text != '\0';
		if (*text == '\n')
			puts("\n.Pp");
	}
	putchar('\n');
}

void
list_events(void)
{
	puts(".Bl -tag -width Ds");
#define F(member) printf("%s%s", count++ == 0 ? ".Va " : " , ", field_name(#member));
#define LOG_EVENT(name, id, level, bound, fields, message, subject, explanation, ...) \
	{ \
		int count = 0; \
		begin_event(#name, LOG_LEVEL_##level, id, message); \
		put_explanation(explanation); \
		if (sizeof(#fields) > 1) \
			puts(".Pp\nFields:"); \
		fields fputs(count > 0 ? " .\n" : "", stdout); \
	}
#include "supervisor/journal.def"
	puts(".El");
}

void
list_event_fields(void)
{
	puts(".Bl -tag -width ZIT_PROMPT_SHA256");
#define LOG_FIELD(member, name, kind, help) \
	puts(".It Va " name); \
	put_sentence(help);
#include "supervisor/journal.def"
	puts(".El");
}

/* ---- catalogs */

static void
catalog_entry(const char *id, const char *subject, const char *explanation)
{
	printf("\n-- %s\nSubject: %s\nDefined-By: zit\nSupport: man:zitd(8)\n"
	       "Documentation: man:zit-log(7)\n\n%s\n",
	    id, subject, explanation);
}

void
list_catalog(void)
{
#define LOG_EVENT(name, id, level, bound, fields, message, subject, explanation, ...) \
	catalog_entry(id, subject, explanation);
#include "supervisor/journal.def"
}

void
list_catalog_zh_CN(void)
{
#define LOG_EVENT(name, id, level, bound, fields, message, subject, explanation, subject_zh, explanation_zh) \
	catalog_entry(id, subject_zh, explanation_zh);
#include "supervisor/journal.def"
}
