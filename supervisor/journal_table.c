/*
 * journal.def as data: the events, the fields, and the facts by their fields.
 */
#include <ctype.h>

#include "supervisor/journal_inside.h"

const struct fact_row journal_fields[FACT_COUNT] = {
#define LOG_FIELD(member, name, kind, help) \
	{name, sizeof(name) - 1, kind, offsetof(struct journal_facts, member)},
#include "supervisor/journal.def"
};

const struct event_row journal_events[EVENT_COUNT] = {
#define F(member) | FACT_BIT(FACT_##member)
#define LOG_EVENT(name, id, level, bound, fields, message, subject, explanation, ...) \
	{#name, id, LOG_LEVEL_##level, bound, 0 fields, message, subject, explanation},
#include "supervisor/journal.def"
};

const char *
journal_event_name(const struct event_row *row)
{
	static char name[32];
	size_t i = 0;

	for (; row->name[i] != '\0' && i < sizeof(name) - 1; i++)
		name[i] = (char)tolower((unsigned char)row->name[i]);
	name[i] = '\0';
	return name;
}

const char **
journal_text(struct journal_facts *facts, int field)
{
	return (const char **)((char *)facts + journal_fields[field].at);
}

int64_t
journal_number(const struct journal_facts *facts, int field)
{
	return *(const int64_t *)((const char *)facts + journal_fields[field].at);
}

bool
journal_has(const struct journal_facts *facts, enum fact field)
{
	const char *text;

	if (journal_fields[field].kind != TEXT)
		return journal_number(facts, field) >= 0;
	text = *journal_text((struct journal_facts *)facts, field);
	return text != NULL && *text != '\0';
}

static json_t *
field_names(uint64_t fields)
{
	json_t *list = json_array();

	for (int i = 0; i < FACT_COUNT; i++) {
		if ((fields & FACT_BIT(i)) != 0)
			json_array_append_new(list, json_string(journal_fields[i].name));
	}
	return list;
}

json_t *
journal_table(void)
{
	json_t *list = json_array();

	for (int i = 0; i < EVENT_COUNT; i++) {
		const struct event_row *row = &journal_events[i];
		json_array_append_new(list,
		    json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:o}", "name", journal_event_name(row),
			"message_id", row->id, "level", log_level_name(row->level), "bounded",
			row->bound == SOME, "message", row->message, "subject", row->subject, "explanation",
			row->explanation, "fields", field_names(row->fields)));
	}
	return list;
}
