/*
 * The forms of the log: the journal's own protocol, JSON lines and text lines.
 *
 * sd_journal_send waits when journald is busy, and the loop must not: so the datagram is made here, by the
 * published protocol, and sent without waiting. What is said there is said in JSON too, by the same names, as
 * journalctl -o json would print it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/decimal.h"
#include "ipc/utf8.h"
#include "supervisor/journal_inside.h"

enum {
	DATAGRAM = 16 * 1024, /* more than all fields of an entry may have */
	JSON_LINE = 4096, /* PIPE_BUF: lines of several processes on one pipe do not mix, and none blocks */
};

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* ---- the fields of an entry, in their order */

typedef void put_pair(void *out, const char *name, const char *value);

static void
put_number(put_pair *put, void *out, const char *name, int64_t number)
{
	char text[DECIMAL_BYTES + 1], *end = text + DECIMAL_BYTES;

	*end = '\0';
	put(out, name, decimal_put(end, number));
}

static void
put_event(const struct entry *e, put_pair *put, void *out)
{
	put(out, "MESSAGE_ID", e->event->id);
	put(out, "ZIT_EVENT", journal_event_name(e->event));
	put(out, "DOCUMENTATION", "man:zit-log(7)");
	put(out, "CODE_FILE", e->place->file);
	put_number(put, out, "CODE_LINE", e->place->line);
	put(out, "CODE_FUNC", e->place->function);
}

static void
put_pairs(const struct entry *e, put_pair *put, void *out)
{
	put(out, "MESSAGE", e->message);
	put_number(put, out, "PRIORITY", (int64_t)e->level);
	put(out, "SYSLOG_IDENTIFIER", e->program);
	if (e->event != NULL)
		put_event(e, put, out);
	for (int i = 0; i < FACT_COUNT; i++) {
		const struct fact_row *row = &journal_fields[i];
		const char *value = (const char *)e->facts + row->at;
		if ((e->fields & FACT_BIT(i)) == 0 || !journal_has(e->facts, (enum fact)i))
			continue;
		if (row->kind == TEXT)
			put(out, row->name, *(const char *const *)value);
		else
			put_number(put, out, row->name, *(const int64_t *)value);
	}
}

/* ---- the journal */

struct datagram {
	char bytes[DATAGRAM];
	size_t length;
};

/* NAME=value and a newline, which no safe line has. */
static void
put_assignment(void *out, const char *name, const char *value)
{
	struct datagram *d = out;
	size_t name_bytes = strlen(name), bytes = strlen(value);
	char *at = d->bytes + d->length;

	if (name_bytes + bytes + 2 >= sizeof(d->bytes) - d->length)
		return; /* there is no room for it, and it is left out */
	at = mempcpy(at, name, name_bytes);
	*at++ = '=';
	at = mempcpy(at, value, bytes);
	*at++ = '\n';
	d->length = (size_t)(at - d->bytes);
}

static int
journal_fd(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd;
}

/* By its name each time: it is another one after journald's socket was made anew. One that is not there at
 * all leaves stderr. */
static bool
put_journal(const struct entry *e)
{
	static const struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
	static struct datagram d;
	ssize_t n;

	d.length = 0;
	put_pairs(e, put_assignment, &d);
	do
		n = sendto(
		    journal_fd(), d.bytes, d.length, MSG_NOSIGNAL, (const struct sockaddr *)&to, sizeof(to));
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return true;
	return errno != EAGAIN && errno != ENOBUFS && log_put(e->level, e->message);
}

/* ---- JSON */

struct json_line {
	char bytes[JSON_LINE];
	size_t length;
};

/* As much of it as leaves `reserve` bytes. */
static void
put_escaped(struct json_line *l, const char *text, size_t reserve)
{
	size_t left = strlen(text), bytes;

	for (; left > 0; text += bytes, left -= bytes) {
		bytes = utf8_length(text, left);
		if (bytes == 0 || l->length + bytes + 1 + reserve > sizeof(l->bytes))
			return;
		if (*text == '"' || *text == '\\')
			l->bytes[l->length++] = '\\';
		memcpy(l->bytes + l->length, text, bytes);
		l->length += bytes;
	}
}

static void
put_member(void *out, const char *name, const char *value)
{
	enum { AROUND = 8, CLOSE = 4 }; /* quotes, colon, comma; quote, brace and newline at the end */
	struct json_line *l = out;
	char *at = l->bytes + l->length;

	if (l->length + strlen(name) + AROUND + CLOSE > sizeof(l->bytes))
		return;
	*at++ = l->length == 0 ? '{' : ',';
	*at++ = '"';
	at = stpcpy(stpcpy(at, name), "\":\"");
	l->length = (size_t)(at - l->bytes);
	put_escaped(l, value, CLOSE);
	l->bytes[l->length++] = '"';
}

static bool
put_json(const struct entry *e)
{
	static struct json_line l;

	l.length = 0;
	put_number(put_member, &l, "__REALTIME_TIMESTAMP", clock_wall_us());
	put_pairs(e, put_member, &l);
	l.bytes[l.length++] = '}';
	l.bytes[l.length++] = '\n';
	return log_put_raw(l.bytes, l.length);
}

/* ---- text */

static bool
put_text(const struct entry *e)
{
	return log_put(e->level, e->message);
}

journal_form *
journal_find_form(const char *name)
{
	static const struct {
		const char *name;
		journal_form *form;
	} forms[] = {{"journal", put_journal}, {"json", put_json}, {"text", put_text}};

	if (strcmp(name, "auto") == 0)
		return log_is_journal() ? put_journal : put_text;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (strcmp(forms[i].name, name) == 0)
			return forms[i].form;
	}
	return NULL;
}
