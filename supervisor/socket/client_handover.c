/*
 * Connections from one zitd to the next: the sockets themselves, requests that have come in part, answers
 * that have left in part. What they wait for is handed over by waiters.c and events.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/socket/client_inside.h"
#include "supervisor/fields.h"
#include "supervisor/handover.h"
#include "supervisor/timer.h"

static const struct field fields[] = {
    FIELD(struct client, moved_us),
    FIELD(struct client, introduced),
    FIELD(struct client, half_closed),
    FIELD(struct client, closing),
    FIELD(struct client, lingering),
    FIELD(struct client, over),
};

static json_t *
hand_over(const struct client *c, struct handover *h)
{
	json_t *o = json_pack("{s:o, s:o, s:o, s:I}", "fd", handover_fd(h, c->fd), "in",
	    handover_bytes(buf_bytes(&c->in), buf_length(&c->in)), "out", outbox_hand_over(&c->out, h),
	    "clock_us", (json_int_t)timer_end_us(c->all->loop, &c->clock));

	fields_put(c, fields, FIELD_COUNT(fields), o);
	return o;
}

json_t *
clients_hand_over(const struct clients *all, struct handover *h)
{
	json_t *list = json_array();
	const struct client *c;

	TAILQ_FOREACH(c, &all->list, link)
	json_array_append_new(list, hand_over(c, h));
	return json_pack("{s:o, s:b, s:o}", "listener", handover_fd(h, all->fd), "own_path",
	    all->path[0] != '\0', "list", list);
}

int
clients_listener(const json_t *from)
{
	return handover_take_fd(json_object_get(from, "listener"));
}

/* One that cannot be had in full is closed: half an answer is worse than none. */
static void
take_over(struct clients *all, const json_t *from)
{
	int fd = handover_take_fd(json_object_get(from, "fd"));
	struct client *c = fd >= 0 ? client_new(all, fd) : NULL;
	size_t bytes = 0;
	char *in;

	if (c == NULL)
		return;
	in = handover_take_bytes(json_object_get(from, "in"), &bytes);
	fields_take(c, fields, FIELD_COUNT(fields), from);
	outbox_take_over(&c->out, json_object_get(from, "out"));
	c->closing |= in == NULL || buf_add(&c->in, in, bytes) != 0;
	c->lines_left = in != NULL && memchr(in, '\n', bytes) != NULL;
	free(in);
	client_watch(c);
	timer_resume(all->loop, &c->clock, json_integer_value(json_object_get(from, "clock_us")));
}

void
clients_take_over(struct clients *all, const json_t *from, const char *path)
{
	const json_t *each;
	size_t i;

	if (json_is_true(json_object_get(from, "own_path")))
		snprintf(all->path, sizeof(all->path), "%s", path);
	json_array_foreach(json_object_get(from, "list"), i, each) take_over(all, each);
}

struct client *
clients_find(const struct clients *all, int fd)
{
	struct client *c;

	TAILQ_FOREACH(c, &all->list, link)
	{
		if (c->fd == fd)
			return c;
	}
	return NULL;
}

int
client_fd(const struct client *c)
{
	return c->fd;
}
