/*
 * One line per event on stderr. A line is one write(2), so that lines of several processes on one pipe do not
 * mix (they are below PIPE_BUF). If the reader of stderr is stuck the write waits with it: give the daemon
 * the journal, a file or a terminal.
 */
#include "ipc/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/utf8.h"

enum { MAX_LINE = 1024, MAX_PREFIX = 96 };

static const char *identity = "zit";
static enum log_level highest = LOG_LEVEL_INFO;
static bool journal;

static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
    {"err", LOG_LEVEL_ERR},
    {"warning", LOG_LEVEL_WARNING},
    {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},
    {"debug", LOG_LEVEL_DEBUG},
};

void
log_open(const char *ident, enum log_level level)
{
	identity = ident;
	highest = level;
	journal = getenv("JOURNAL_STREAM") != NULL;
}

void
log_set_level(enum log_level level)
{
	highest = level;
}

bool
log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(levels[i].name, name) == 0) {
			*level = levels[i].level;
			return true;
		}
	}
	return false;
}

/* "<6>zitd: " for the journal, "2026-11-24T10:00:00.123456Z zitd: " else. Returns its length. */
static size_t
write_prefix(char *out, enum log_level level)
{
	int64_t now_us = clock_wall_us();
	time_t seconds = (time_t)(now_us / 1000000);
	struct tm tm;
	int n;

	if (journal)
		n = snprintf(out, MAX_PREFIX, "<%d>%s: ", (int)level, identity);
	else {
		char date[32];
		gmtime_r(&seconds, &tm);
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(out, MAX_PREFIX, "%s.%06dZ %s: ", date, (int)(now_us % 1000000), identity);
	}
	return n < MAX_PREFIX ? (size_t)n : MAX_PREFIX - 1;
}

void
log_line(enum log_level level, const char *format, ...)
{
	char line[MAX_LINE + 1];
	size_t length;
	int error = errno;
	va_list arguments;
	ssize_t written;

	if (level > highest)
		return;
	length = write_prefix(line, level);
	va_start(arguments, format);
	vsnprintf(line + length, MAX_LINE - length, format, arguments);
	va_end(arguments);
	utf8_make_line(line + length);
	length = strlen(line);
	line[length++] = '\n';
	do
		written = write(STDERR_FILENO, line, length);
	while (written < 0 && errno == EINTR);
	errno = error;
}
