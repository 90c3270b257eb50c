/*
 * One line per event on stderr, for people, journald and scrapers.
 *
 * Form: "<n>" when stderr is a pipe or socket to the journal (JOURNAL_STREAM is set), else an ISO time; then
 * "ident: object: text". The function that decides logs, once, naming the object: `runner 0: job 41: step 3:
 * ...`.
 */
#ifndef IPC_LOG_H
#define IPC_LOG_H

#include <stdbool.h>

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

/* One write(2) per line; newlines and control characters of the arguments become '?'. Lines are cut at 1 KiB.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...) log_line(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
