/*
 * Errors as values. The table is err.def.
 */
#include "ipc/err.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ipc/utf8.h"

enum {
	MAX_NAME = 32,
	MAX_WHOLE = 2 * PATH_MAX, /* bytes of a text before it is made to fit */
};

enum { no, yes }; /* the words of the rows */

static const struct err_row rows[] = {
#define ERR(name, number, http, may_retry, ctl_exit, text) \
	{ERR_##name, #name, http, may_retry, ctl_exit, text},
#include "ipc/err.def"
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

/* The same rows with their names in lower case, made at the first look. */
static const struct err_row *
lower_rows(void)
{
	static struct err_row lower[ROW_COUNT];
	static char names[ROW_COUNT][MAX_NAME];

	if (lower[0].name != NULL)
		return lower;
	for (size_t i = ROW_COUNT; i-- > 0;) { /* row 0 last: it says that all are there */
		size_t n = 0;
		for (; rows[i].name[n] != '\0' && n + 1 < MAX_NAME; n++)
			names[i][n] = (char)tolower((unsigned char)rows[i].name[n]);
		lower[i] = rows[i];
		lower[i].name = names[i];
	}
	return lower;
}

const struct err_row *
err_row_at(size_t index)
{
	return index < ROW_COUNT ? &lower_rows()[index] : NULL;
}

const struct err_row *
err_row(int code)
{
	int wanted = code < 0 ? -code : code;

	for (size_t i = 0; i < ROW_COUNT; i++) {
		if ((int)rows[i].code == wanted)
			return err_row_at(i);
	}
	return err_row(ERR_INTERNAL);
}

const struct err_row *
err_row_by_name(const char *name)
{
	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (strcmp(err_row_at(i)->name, name) == 0)
			return err_row_at(i);
	}
	return NULL;
}

int
err_set(struct err *e, enum err_code code, const char *format, ...)
{
	char whole[MAX_WHOLE];
	va_list arguments;

	if (e == NULL)
		return -(int)code;
	e->code = code;
	va_start(arguments, format);
	vsnprintf(whole, sizeof(whole), format, arguments);
	va_end(arguments);
	utf8_make_line(whole);
	utf8_fit_line(e->text, sizeof(e->text), whole);
	return -(int)code;
}

/* ---- exit codes of a runner */

static const struct {
	int status;
	bool permanent;
	const char *text;
} exits[] = {
#define EXIT_ROW(name, number, permanent, text) {number, permanent, text},
    RUNNER_EXITS(EXIT_ROW)
#undef EXIT_ROW
};

const char *
runner_exit_text(int status)
{
	for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++) {
		if (exits[i].status == status)
			return exits[i].text;
	}
	return NULL;
}

bool
runner_exit_permanent(int status)
{
	for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++) {
		if (exits[i].status == status)
			return exits[i].permanent;
	}
	return false;
}
