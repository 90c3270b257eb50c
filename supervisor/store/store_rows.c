/*
 * The durable queue: its rows. What SQLite says of a statement, a job's columns from its text, and back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"

void
store_row_clear(struct store_row *row)
{
	free(row->body);
	row->body = NULL;
}

void
store_notes_free(struct store_note *notes, int count)
{
	for (int i = 0; i < count; i++) {
		free(notes[i].name);
		free(notes[i].body);
	}
	free(notes);
}

/* ---- statements */

static const char *const statement_texts[STATEMENT_COUNT] = {
#define STATEMENT(name, sql) sql,
    STATEMENTS(STATEMENT)
#undef STATEMENT
};

int
store_prepare(struct store *s)
{
	int status = SQLITE_OK;

	for (int i = 0; i < STATEMENT_COUNT && status == SQLITE_OK; i++)
		status = sqlite3_prepare_v3(
		    s->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i], NULL);
	return status;
}

void
store_finalize(struct store *s)
{
	for (int i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(s->statements[i]);
	memset(s->statements, 0, sizeof(s->statements));
}

int
store_errno(sqlite3 *db, int status)
{
	int number = db != NULL ? sqlite3_system_errno(db) : 0;

	switch (status & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_READONLY:
		return EROFS;
	case SQLITE_NOMEM:
		return ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return EUCLEAN;
	default:
		return number != 0 ? number : EIO;
	}
}

int
store_step(struct store *s, enum statement which)
{
	int status = sqlite3_step(s->statements[which]), error;

	if (status == SQLITE_ROW)
		return 1;
	error = store_errno(s->db, status);
	s->broken = s->broken || error == EUCLEAN;
	sqlite3_reset(s->statements[which]);
	sqlite3_clear_bindings(s->statements[which]);
	return -error;
}

int
store_run(struct store *s, enum statement which)
{
	int status = store_step(s, which);

	sqlite3_reset(s->statements[which]);
	return status < 0 ? -status : 0;
}

/* NULL for "". */
static void
bind_text(sqlite3_stmt *statement, int at, const char *text)
{
	if (text[0] == '\0')
		sqlite3_bind_null(statement, at);
	else
		sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

/* ---- a row's columns, from its text */

static int64_t
integer_of(const json_t *o, const char *name)
{
	return (int64_t)json_integer_value(json_object_get(o, name));
}

static void
copy_text(char *out, size_t size, const json_t *o, const char *name)
{
	const char *text = json_string_value(json_object_get(o, name));

	snprintf(out, size, "%s", text != NULL ? text : "");
}

bool
store_read_row(struct store_row *row, const char *body, size_t bytes)
{
	json_t *o = unseal("job", body, bytes);

	if (o == NULL)
		return false;
	*row = (struct store_row){
	    .number = (uint64_t)integer_of(o, "number"),
	    .revision = integer_of(o, "revision"),
	    .final = json_is_true(json_object_get(o, "final")),
	    .dead = json_is_true(json_object_get(o, "dead")),
	    .ended_us = integer_of(o, "ended_at_us"),
	    .keep_until_us = integer_of(o, "keep_until_us"),
	    .bytes = integer_of(o, "bytes"),
	    .pictures = (int)integer_of(o, "pictures"),
	};
	copy_text(row->id, sizeof(row->id), o, "id");
	copy_text(row->key, sizeof(row->key), o, "key");
	copy_text(row->group, sizeof(row->group), o, "group");
	json_decref(o);
	return true;
}

/* ---- writing */

/* A job's first text is most likely new, a later one is not: the other way is tried next. */
static int
put_open(struct store *s, const struct store_row *row)
{
	enum statement ways[] = {S_SET_OPEN, S_NEW_OPEN};
	const int first = row->revision == 1;
	int error = 0, done = 0;

	for (int i = 0; i < 2 && error == 0 && done == 0; i++) {
		enum statement which = ways[first ^ i];
		sqlite3_bind_int64(s->statements[which], 1, (sqlite3_int64)row->number);
		sqlite3_bind_text(s->statements[which], 2, row->body, -1, SQLITE_STATIC);
		error = store_run(s, which);
		done = error == 0 ? sqlite3_changes(s->db) : 0;
		s->open_count += which == S_NEW_OPEN && done > 0;
	}
	return error;
}

static int
drop(struct store *s, enum statement which, uint64_t number, int64_t *count)
{
	int error;

	sqlite3_bind_int64(s->statements[which], 1, (sqlite3_int64)number);
	error = store_run(s, which);
	if (error == 0 && *count >= 0)
		*count -= sqlite3_changes(s->db);
	return error;
}

/* *done: unless there is one of that number. */
static int
new_final(struct store *s, const struct store_row *row, int *done)
{
	sqlite3_stmt *statement = s->statements[S_NEW_FINAL];
	int error;

	sqlite3_bind_int64(statement, 1, (sqlite3_int64)row->number);
	sqlite3_bind_text(statement, 2, row->id, -1, SQLITE_STATIC);
	bind_text(statement, 3, row->key);
	bind_text(statement, 4, row->group);
	sqlite3_bind_int64(statement, 5, row->ended_us);
	sqlite3_bind_int64(statement, 6, row->keep_until_us);
	sqlite3_bind_int64(statement, 7, row->bytes);
	sqlite3_bind_int(statement, 8, row->pictures);
	sqlite3_bind_int(statement, 9, row->dead);
	sqlite3_bind_text(statement, 10, row->body, -1, SQLITE_STATIC);
	error = store_run(s, S_NEW_FINAL);
	*done = error == 0 ? sqlite3_changes(s->db) : 0;
	return error;
}

/* Most likely it is the first of its number. Had SQLite to replace those that are not, it would have to be
 * ready to undo each statement, for which it copies all pages that it touches. */
static int
put_final(struct store *s, const struct store_row *row)
{
	int done, error = new_final(s, row, &done);

	if (error == 0 && done == 0)
		error = drop(s, S_DROP_FINAL, row->number, &s->final_count);
	if (error == 0 && done == 0)
		error = new_final(s, row, &done);
	if (error == 0 && done == 0)
		error = EIO; /* ignored once more: what is not there must not pass for kept */
	if (error == 0 && s->final_count >= 0)
		s->final_count++;
	if (error == 0 && s->all_bytes >= 0)
		s->all_bytes += row->bytes;
	return error;
}

/* The counts of what the disk holds are wrong by what is replaced: they are made anew when they are wanted. A
 * job whose first text is its last one left nothing before it. */
int
store_put_row(struct store *s, const struct store_row *row)
{
	int error = 0;

	if (row->body != NULL && !row->final)
		return put_open(s, row);
	if (row->body == NULL || row->revision > 1)
		error = drop(s, S_DROP_OPEN, row->number, &s->open_count);
	if (error != 0)
		return error;
	return row->body != NULL ? put_final(s, row) : drop(s, S_DROP_FINAL, row->number, &s->final_count);
}

int
store_put_note(struct store *s, const char *name, const char *body)
{
	sqlite3_bind_text(s->statements[S_PUT_NOTE], 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_text(s->statements[S_PUT_NOTE], 2, body, -1, SQLITE_STATIC);
	return store_run(s, S_PUT_NOTE);
}

int
store_note_open_count(struct store *s)
{
	char *body = seal("note", json_pack("{s:I}", "count", (json_int_t)s->open_count));
	int error = body != NULL ? store_put_note(s, OPEN_NOTE, body) : ENOMEM;

	free(body);
	return error;
}
