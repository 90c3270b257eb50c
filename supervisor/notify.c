/*
 * What systemd hears of us (sd_notify).
 */
#include "supervisor/notify.h"

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "ipc/clock.h"

#define STATUS_S 1.0 /* between two of them */
#define END_US UINT64_C(1000000)

static struct {
	struct ev_loop *loop;
	struct ev_timer pause; /* active: a status was sent within the last second */
	char sent[NOTIFY_STATUS], latest[NOTIFY_STATUS];
	bool listens, ready;
} state;

static void
send_status(const char *first)
{
	memcpy(state.sent, state.latest, sizeof(state.sent));
	sd_notifyf(0, "%sSTATUS=%s", first, state.sent);
	ev_timer_stop(state.loop, &state.pause);
	ev_timer_set(&state.pause, STATUS_S, 0.0);
	ev_timer_start(state.loop, &state.pause);
}

static void
on_pause_over(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)w;
	(void)events;
	if (strcmp(state.sent, state.latest) != 0)
		send_status("");
}

void
notify_open(struct ev_loop *loop)
{
	state.loop = loop;
	state.listens = getenv("NOTIFY_SOCKET") != NULL;
	ev_timer_init(&state.pause, on_pause_over, 0.0, 0.0);
}

void
notify_status(const char *status)
{
	if (!state.listens)
		return;
	snprintf(state.latest, sizeof(state.latest), "%s", status);
	if (!ev_is_active(&state.pause) && strcmp(state.sent, state.latest) != 0)
		send_status("");
}

void
notify_ready(const char *status)
{
	if (state.ready || !state.listens) {
		notify_status(status);
		return;
	}
	state.ready = true;
	snprintf(state.latest, sizeof(state.latest), "%s", status);
	send_status("READY=1\n");
}

void
notify_extend(int64_t timeout_us)
{
	if (!state.ready)
		sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%lld", (long long)timeout_us);
}

void
notify_reloading(void)
{
	if (state.ready)
		sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_now_us());
}

void
notify_reloaded(void)
{
	if (state.ready)
		sd_notify(0, "READY=1");
}

void
notify_upgraded(bool was_ready)
{
	state.ready = was_ready;
	notify_reloaded();
}

void
notify_stopping(int64_t timeout_us)
{
	sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%lld", (long long)timeout_us);
}

void
notify_failed(const char *why, int error)
{
	sd_notifyf(0, "STATUS=cannot start: %s\nERRNO=%d", why, error);
}

void
notify_end(void)
{
	sd_notify_barrier(0, END_US);
}

void
notify_watchdog(void)
{
	sd_notify(0, "WATCHDOG=1");
}

void
notify_trigger(void)
{
	sd_notify(0, "WATCHDOG=trigger");
}

int64_t
notify_watchdog_period_us(void)
{
	uint64_t timeout_us;

	return sd_watchdog_enabled(0, &timeout_us) > 0 ? (int64_t)(timeout_us / 2) : 0;
}

bool
notify_store(int fd, const char *name)
{
	char text[80];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	return sd_pid_notify_with_fds(0, 0, text, &fd, 1) > 0;
}

void
notify_forget(const char *name)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}
