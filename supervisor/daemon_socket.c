/*
 * zitd's side of the public socket: what it is opened with, and who hears of clients.
 */
#include <errno.h>
#include <string.h>

#include "supervisor/daemon_handover.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/socket/listener.h"

static void
take_line(void *arg, struct client *c, const char *line, size_t bytes)
{
	struct daemon *d = arg;

	d->options.public->line(d, c, line, bytes);
}

static void
forget_client(void *arg, struct client *c)
{
	struct daemon *d = arg;

	d->options.public->client_gone(d, c);
}

static void
go_on_telling(void *arg, struct client *c)
{
	struct daemon *d = arg;

	d->options.public->client_caught_up(c);
}

static void
count_timeout(void *arg, bool introduced)
{
	struct daemon *d = arg;

	metrics_count_timeout(&d->metrics, introduced ? METRICS_TIMEOUT_STALL : METRICS_TIMEOUT_CONNECT);
}

static struct clients_limits
limits_of(const struct conf_zitd *c)
{
	return (struct clients_limits){c->connect_timeout, c->read_timeout, c->max_clients};
}

int
daemon_open_clients(struct daemon *d, struct err *e)
{
	const struct handover *h = d->options.handover;
	const struct clients_limits limits = limits_of(&d->conf.zitd);
	struct listener l = {h != NULL ? daemon_handed_listener(h) : -1, false};

	if (l.fd < 0 && listener_open(&l, d->paths.socket) != 0)
		return err_set(
		    e, ERR_SYSTEM, "%s cannot be listened on: %s", d->paths.socket, strerror(errno));
	d->clients_world = (struct clients_world){d, take_line, forget_client, go_on_telling, count_timeout};
	d->clients = clients_new(d->loop, l.fd, l.ours ? d->paths.socket : NULL, &limits, &d->clients_world);
	return d->clients != NULL ? 0 : err_set(e, ERR_SYSTEM, "out of memory");
}

void
daemon_set_clients(struct daemon *d)
{
	const struct clients_limits limits = limits_of(&d->conf.zitd);

	clients_set_limits(d->clients, &limits);
}
