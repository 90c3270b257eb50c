/*
 * What the files of the log share: journal.c (from an event to an entry), journal_forms.c (an entry in the
 * journal's form, JSON or text), journal_table.c (the table as data). Nobody else includes this.
 */
#ifndef SUPERVISOR_JOURNAL_INSIDE_H
#define SUPERVISOR_JOURNAL_INSIDE_H

#include <stddef.h>

#include "supervisor/journal.h"

enum fact {
#define LOG_FIELD(member, name, kind, help) FACT_##member,
#include "supervisor/journal.def"
	FACT_COUNT
};

_Static_assert((int)FACT_COUNT <= 64, "they are the bits of one word");

#define FACT_BIT(field) (UINT64_C(1) << (field))

enum fact_kind { TEXT, NUMBER, USEC };

struct fact_row {
	const char *name;
	size_t name_bytes;
	enum fact_kind kind;
	size_t at; /* in struct journal_facts */
};

enum event_bound { ALL, SOME };

struct event_row {
	const char *name; /* in capitals */
	const char *id;
	enum log_level level;
	enum event_bound bound;
	uint64_t fields;
	const char *message, *subject, *explanation;
};

extern const struct fact_row journal_fields[FACT_COUNT];
extern const struct event_row journal_events[EVENT_COUNT];

/* Its name in lower case, until the next call. */
const char *journal_event_name(const struct event_row *row);

/* Where the facts have a field of text; one of the other kinds, below 0 where they have it not. */
const char **journal_text(struct journal_facts *facts, int field);
int64_t journal_number(const struct journal_facts *facts, int field);
/* Whether the facts have that field. */
bool journal_has(const struct journal_facts *facts, enum fact field);

/* One line of the log, ready. All texts are safe lines. */
struct entry {
	enum log_level level;
	const struct event_row *event; /* NULL: it is a line */
	const char *program, *message;
	const struct journal_place *place; /* NULL for a line */
	const struct journal_facts *facts;
	uint64_t fields; /* those of the facts that it carries */
};

/* A way out. false: there is no room now. */
typedef bool journal_form(const struct entry *e);
/* The form of that name; "auto" is one of the others. NULL: there is none. */
journal_form *journal_find_form(const char *name);

#endif
