/*
 * One line per event on stderr. A line is one write(2), so that lines of several processes on one pipe do not
 * mix (they are below PIPE_BUF). Nobody waits for a reader that is stuck: what it has no room for is lost,
 * counted, and told when there is room again.
 */
#include "ipc/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/utf8.h"

enum { MAX_LINE = 1024, MAX_PREFIX = 96 };

static const char *identity = "zit";
static enum log_level highest = LOG_LEVEL_INFO;
static bool journal, is_socket;
static unsigned long long lost; /* lines that nobody had room for */

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
	struct stat st;

	identity = ident;
	highest = level;
	journal = getenv("JOURNAL_STREAM") != NULL;
	is_socket = fstat(STDERR_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);
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

/* false: there is no room for the line. stderr may be other processes' too, so it is not made non-blocking; a
 * pipe that polls as writable takes PIPE_BUF bytes at once. */
static bool
write_line(const char *line, size_t length)
{
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t n;

	do {
		if (is_socket)
			n = send(STDERR_FILENO, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = poll(&room, 1, 0) == 1 ? write(STDERR_FILENO, line, length) : -1;
	} while (n < 0 && errno == EINTR);
	return n >= 0;
}

static void
tell_lost(void)
{
	char line[MAX_PREFIX + 64];
	size_t length = write_prefix(line, LOG_LEVEL_WARNING);

	length += (size_t)snprintf(
	    line + length, sizeof(line) - length, "%llu lines of this log were lost\n", lost);
	if (write_line(line, length))
		lost = 0;
}

void
log_line(enum log_level level, const char *format, ...)
{
	char line[MAX_LINE + 1];
	size_t length;
	int error = errno;
	va_list arguments;

	if (level > highest)
		return;
	if (lost > 0)
		tell_lost();
	length = write_prefix(line, level);
	va_start(arguments, format);
	vsnprintf(line + length, MAX_LINE - length, format, arguments);
	va_end(arguments);
	utf8_make_line(line + length);
	length = strlen(line);
	line[length++] = '\n';
	if (lost > 0 || !write_line(line, length))
		lost++;
	errno = error;
}
