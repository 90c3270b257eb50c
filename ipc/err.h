/*
 * Errors as values: numbers and texts from err.def, and a struct that carries one with its details.
 */
#ifndef IPC_ERR_H
#define IPC_ERR_H

#include <stdbool.h>
#include <stddef.h>

enum err_code {
	ERR_NONE = 0,
#define ERR(name, number, http, may_retry, ctl_exit, text) ERR_##name = (number),
#include "ipc/err.def"
};

/* What went wrong, as a result. Functions return 0 or -code and fill `text`, when they take one, on failure
 * only. */
struct err {
	enum err_code code;
	char text[240]; /* one sentence, no newline, valid UTF-8, what was found and what to do */
};

struct err_row {
	enum err_code code;
	const char *name; /* lower case, as on the wire */
	int http;
	bool may_retry;
	int ctl_exit;
	const char *text;
};

/* The row of `code` (positive or negative); that of INTERNAL for a number that has none. Never NULL. */
const struct err_row *err_row(int code);
/* The row of a wire name, or NULL. */
const struct err_row *err_row_by_name(const char *name);
/* Rows in the order of err.def; NULL past the end. */
const struct err_row *err_row_at(size_t index);

/* Fills `e` (may be NULL) and returns -code. A text that does not fit loses the beginnings of its paths
 * (utf8_fit_line). */
int err_set(struct err *e, enum err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Exit codes of zit-runner (design.md section 5). EXIT_ROW(NAME, number, permanent, text) */
#define RUNNER_EXITS(EXIT_ROW) \
	EXIT_ROW(OK, 0, no, "clean stop") \
	EXIT_ROW(USAGE, 64, yes, "wrong command line") \
	EXIT_ROW(WEIGHTS, 65, yes, "damaged or missing weights") \
	EXIT_ROW(INTERNAL, 70, no, "internal error") \
	EXIT_ROW(STICKY, 71, no, "sticky device error") \
	EXIT_ROW(DEVICE_MEMORY, 72, no, "out of device memory") \
	EXIT_ROW(HOST_MEMORY, 73, no, "out of host memory") \
	EXIT_ROW(BUSY, 75, no, "device busy, try again") \
	EXIT_ROW(PROTOCOL, 76, no, "protocol error") \
	EXIT_ROW(NO_DEVICE, 77, yes, "no usable device") \
	EXIT_ROW(CONFIG, 78, yes, "bad configuration")

enum runner_exit {
#define EXIT_ROW(name, number, permanent, text) RUNNER_EXIT_##name = (number),
	RUNNER_EXITS(EXIT_ROW)
#undef EXIT_ROW
};

/* "damaged or missing weights" for 65; NULL for a number that has no row. */
const char *runner_exit_text(int status);
/* Whether respawning is pointless until the configuration or the files change. */
bool runner_exit_permanent(int status);

#endif
