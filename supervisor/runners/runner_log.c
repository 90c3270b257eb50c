/*
 * A runner's stderr: a pipe that never blocks us, a ring of the last 64 KiB, and lines passed on at a bounded
 * rate.
 */
#include "supervisor/runners/runner_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/utf8.h"
#include "supervisor/fields.h"
#include "supervisor/handover.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner.h"

enum {
	CHUNK = 16 * 1024,
	CHUNKS = 4,    /* in one turn of the loop: the others wait no longer than that */
	LINES_S = 100, /* passed on in the long run */
	LINES_BURST = 500,
	LAST_CHUNKS = 64, /* of a process that has ended; a grandchild may go on writing for ever */
};

/* ---- passing on */

static bool
may_pass(struct runner_log *l)
{
	int64_t now_us = clock_now_us();

	l->budget += (double)(now_us - l->budget_us) * 1e-6 * LINES_S;
	l->budget = l->budget < LINES_BURST ? l->budget : LINES_BURST;
	l->budget_us = now_us;
	if (l->budget < 1) {
		l->dropped++;
		return false;
	}
	l->budget -= 1;
	return true;
}

/* "<6>zit-runner: text" has its level; anything else is from a library, or a process that is dying. */
static void
pass_line(struct runner_log *l)
{
	char line[RUNNER_LOG_LINE + 64];
	enum log_level level = LOG_LEVEL_WARNING;
	const char *text = l->line, *ident;

	if (l->line_length == 0 || !may_pass(l))
		return;
	if (l->dropped > 0)
		journal(EVENT_RUNNER_OUTPUT_SPARED, .runner = l->runner, .count = (int64_t)l->dropped);
	l->dropped = 0;
	if (text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>') {
		level = (enum log_level)(text[1] - '0');
		ident = strstr(text, ": ");
		snprintf(line, sizeof(line), "%s", ident != NULL ? ident + 2 : text + 3);
	} else
		snprintf(
		    line, sizeof(line), "runner %s: says: %s", runner_conf(l->runner)->section_name, text);
	utf8_make_line(line);
	journal_line(level, "zit-runner", l->runner, line);
}

static void
take_line_part(struct runner_log *l, const char *bytes, size_t count)
{
	size_t room = RUNNER_LOG_LINE - l->line_length;

	count = count < room ? count : room;
	memcpy(l->line + l->line_length, bytes, count);
	l->line_length += count;
	l->line[l->line_length] = '\0';
}

static void
split_lines(struct runner_log *l, const char *bytes, size_t count)
{
	const char *end;

	while ((end = memchr(bytes, '\n', count)) != NULL) {
		take_line_part(l, bytes, (size_t)(end - bytes));
		pass_line(l);
		l->line_length = 0;
		count -= (size_t)(end + 1 - bytes);
		bytes = end + 1;
	}
	take_line_part(l, bytes, count);
}

/* ---- the ring */

static void
keep(struct runner_log *l, const char *bytes, size_t count)
{
	if (l->tail == NULL && (l->tail = malloc(RUNNER_LOG_TAIL)) == NULL)
		return;
	while (count > 0) {
		size_t at = l->bytes % RUNNER_LOG_TAIL, part = RUNNER_LOG_TAIL - at;
		part = part < count ? part : count;
		memcpy(l->tail + at, bytes, part);
		l->bytes += part;
		bytes += part;
		count -= part;
	}
}

/* Makes each line safe to print, in place. */
static void
clean_lines(char *text)
{
	char *line = text, *newline;

	while ((newline = strchr(line, '\n')) != NULL) {
		*newline = '\0';
		utf8_make_line(line);
		line += strlen(line);
		*line++ = '\n';
		memmove(line, newline + 1, strlen(newline + 1) + 1);
	}
	utf8_make_line(line);
}

void
runner_log_excerpt(const struct runner_log *l, char *out, size_t size)
{
	size_t count = l->bytes < RUNNER_LOG_TAIL ? (size_t)l->bytes : RUNNER_LOG_TAIL;
	char *newline;

	count = count < size - 1 ? count : size - 1;
	for (size_t i = 0; i < count; i++)
		out[i] = l->tail[(l->bytes - count + i) % RUNNER_LOG_TAIL];
	out[count] = '\0';
	newline = memchr(out, '\n', count);
	if (count < l->bytes && newline != NULL && newline[1] != '\0')
		memmove(out, newline + 1, strlen(newline)); /* it begins in the middle of a line */
	clean_lines(out);
}

/* ---- reading */

/* At most so many chunks; false at the end of the pipe. */
static bool
read_chunks(struct runner_log *l, int chunks)
{
	char bytes[CHUNK];
	ssize_t n = 1;

	for (; chunks > 0 && n > 0; chunks--) {
		n = read(l->io.fd, bytes, sizeof(bytes));
		if (n <= 0)
			break;
		keep(l, bytes, (size_t)n);
		split_lines(l, bytes, (size_t)n);
	}
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void
on_readable(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)events;
	if (!read_chunks(w->data, CHUNKS))
		ev_io_stop(loop, w); /* closed by the runner; its end is told by the pidfd */
}

void
runner_log_init(struct runner_log *l, struct ev_loop *loop, const struct runner *runner)
{
	*l = (struct runner_log){
	    .loop = loop, .runner = runner, .budget = LINES_BURST, .budget_us = clock_now_us()};
	ev_init(&l->io, on_readable);
	l->io.fd = -1;
	l->io.data = l;
}

int
runner_log_open(struct runner_log *l)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	fcntl(ends[0], F_SETFL, O_NONBLOCK); /* ours only: the runner's end may wait for us */
	ev_io_set(&l->io, ends[0], EV_READ);
	ev_io_start(l->loop, &l->io);
	return ends[1];
}

void
runner_log_close(struct runner_log *l)
{
	if (l->io.fd < 0)
		return;
	read_chunks(l, LAST_CHUNKS);
	pass_line(l);
	l->line_length = 0;
	ev_io_stop(l->loop, &l->io);
	close(l->io.fd);
	l->io.fd = -1;
}

void
runner_log_free(struct runner_log *l)
{
	runner_log_close(l);
	free(l->tail);
	l->tail = NULL;
}

/* ---- from one zitd to the next */

static const struct field fields[] = {
    FIELD(struct runner_log, budget),
    FIELD(struct runner_log, budget_us),
    FIELD(struct runner_log, dropped),
};

json_t *
runner_log_hand_over(const struct runner_log *l, struct handover *h)
{
	size_t count = l->bytes < RUNNER_LOG_TAIL ? (size_t)l->bytes : RUNNER_LOG_TAIL;
	size_t start = (size_t)(l->bytes - count) % RUNNER_LOG_TAIL;
	size_t first = count < RUNNER_LOG_TAIL - start ? count : RUNNER_LOG_TAIL - start;
	json_t *o = json_pack("{s:o, s:o, s:o, s:o}", "fd", handover_fd(h, l->io.fd), "line",
	    handover_bytes(l->line, l->line_length), "older",
	    handover_bytes(l->tail != NULL ? l->tail + start : "", l->tail != NULL ? first : 0), "newer",
	    handover_bytes(l->tail != NULL ? l->tail : "", l->tail != NULL ? count - first : 0));

	fields_put(l, fields, FIELD_COUNT(fields), o);
	return o;
}

static void
take_over_tail(struct runner_log *l, const json_t *part)
{
	size_t count = 0;
	char *bytes = handover_take_bytes(part, &count);

	if (count > 0)
		keep(l, bytes, count);
	free(bytes);
}

void
runner_log_take_over(struct runner_log *l, const json_t *from)
{
	int fd = handover_take_fd(json_object_get(from, "fd"));
	size_t count = 0;
	char *line = handover_take_bytes(json_object_get(from, "line"), &count);

	take_over_tail(l, json_object_get(from, "older"));
	take_over_tail(l, json_object_get(from, "newer"));
	if (line != NULL)
		take_line_part(l, line, count);
	free(line);
	fields_take(l, fields, FIELD_COUNT(fields), from);
	if (fd < 0)
		return;
	ev_io_set(&l->io, fd, EV_READ);
	ev_io_start(l->loop, &l->io);
}
