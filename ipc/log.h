/*
 * One line per event on stderr, for people, journald and scrapers.
 *
 * Form: "<n>" when stderr is the journal's (JOURNAL_STREAM says so) or a zitd's, else an ISO time; then
 * "ident: object: text". The function that decides logs, once, naming the object: `runner 0: job 41: step 3:
 * ...`.
 */
#ifndef IPC_LOG_H
#define IPC_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* `ident` must outlive the process's logging. Lines above `level` are not written. */
void log_open(const char *ident, enum log_level level);
void log_set_level(enum log_level level);
/* "debug", "info", "notice", "warning", "err"; false if it is none of them. */
bool log_level_parse(const char *name, enum log_level *level);

const char *log_level_name(enum log_level level); /* of those five */
bool log_wants(enum log_level level);
/* Whether stderr is the very stream that JOURNAL_STREAM names. */
bool log_is_journal(void);

/* One write(2) per line; newlines and control characters of the arguments become '?'. Lines are cut at 1 KiB.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Has each line of log_line go there instead, as one safe line without prefix. NULL: as ever. */
void log_divert(void (*taker)(enum log_level level, const char *line));
/* For such a taker: a line in the usual form, and one as it is, its newline included. false: there is no room
 * now, and nobody waits for some. */
bool log_put(enum log_level level, const char *line);
bool log_put_raw(const char *line, size_t length);

#define log_err(...) log_line(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
