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
static bool levels_shown; /* as "<n>", by a reader that knows them */
static bool is_socket;
static unsigned long long lost; /* lines that nobody had room for */
static void (*diverted)(enum log_level level, const char *line);

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

bool
log_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void
log_open(const char *ident, enum log_level level)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat st;

	identity = ident;
	highest = level;
	levels_shown = log_is_journal() || (stream != NULL && strcmp(stream, "zitd") == 0);
	is_socket = fstat(STDERR_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);
}

void
log_set_level(enum log_level level)
{
	highest = level;
}

bool
log_wants(enum log_level level)
{
	return level <= highest;
}

void
log_divert(void (*taker)(enum log_level level, const char *line))
{
	diverted = taker;
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

const char *
log_level_name(enum log_level level)
{
	size_t i = 0;

	while (levels[i].level != level)
		i++;
	return levels[i].name;
}

/* Of UTC, until the thread's next call: it is made once in a second, and lines come by the thousand. */
static const char *
date_of(time_t seconds)
{
	static _Thread_local time_t made;
	static _Thread_local char date[32];
	struct tm tm;

	if (date[0] == '\0' || seconds != made) {
		gmtime_r(&seconds, &tm);
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
		made = seconds;
	}
	return date;
}

/* "<6>zitd: " for who knows levels, "2026-11-24T10:00:00.123456Z zitd: " else. Returns its length. */
static size_t
write_prefix(char *out, enum log_level level)
{
	int64_t now_us = clock_wall_us();
	int n;

	if (levels_shown)
		n = snprintf(out, MAX_PREFIX, "<%d>%s: ", (int)level, identity);
	else
		n = snprintf(out, MAX_PREFIX, "%s.%06dZ %s: ", date_of((time_t)(now_us / 1000000)),
		    (int)(now_us % 1000000), identity);
	return n < MAX_PREFIX ? (size_t)n : MAX_PREFIX - 1;
}

/* stderr may be other processes' too, so it is not made non-blocking; a pipe that polls as writable takes
 * PIPE_BUF bytes at once. */
bool
log_put_raw(const char *line, size_t length)
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

bool
log_put(enum log_level level, const char *line)
{
	char whole[MAX_LINE + 1];
	size_t length = write_prefix(whole, level), room = MAX_LINE - 1 - length;
	size_t bytes = strnlen(line, room + 1);
	bool is_cut = bytes > room;

	bytes -= is_cut;
	memcpy(whole + length, line, bytes);
	length += bytes;
	if (is_cut) {
		whole[length] = '\0';
		utf8_make_line(whole); /* removes a character that was cut off */
		length = strlen(whole);
	}
	whole[length++] = '\n';
	return log_put_raw(whole, length);
}

/* In the usual form, after what was lost before it. */
static void
write_line(enum log_level level, const char *line)
{
	char notice[64];

	snprintf(notice, sizeof(notice), "%llu lines of this log were lost", lost);
	if (lost > 0 && log_put(LOG_LEVEL_WARNING, notice))
		lost = 0;
	if (lost > 0 || !log_put(level, line))
		lost++;
}

void
log_line(enum log_level level, const char *format, ...)
{
	char line[MAX_LINE];
	int error = errno;
	va_list arguments;

	if (!log_wants(level))
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	utf8_make_line(line);
	if (diverted != NULL)
		diverted(level, line);
	else
		write_line(level, line);
	errno = error;
}
