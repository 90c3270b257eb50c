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
	char sent[NOTIFY_STATUS];
	void (*describe)(const void *arg, char *text, size_t size);
	const void *arg;
	bool listens, ready;
} state;

static void
send_status(const char *first, const char *status)
{
	memcpy(state.sent, status, sizeof(state.sent));
	sd_notifyf(0, "%sSTATUS=%s", first, state.sent);
	ev_timer_stop(state.loop, &state.pause);
	ev_timer_set(&state.pause, STATUS_S, 0.0);
	ev_timer_start(state.loop, &state.pause);
}

static void
send_if_new(void)
{
	char status[NOTIFY_STATUS] = "";

	state.describe(state.arg, status, sizeof(status));
	if (strcmp(state.sent, status) != 0)
		send_status("", status);
}

static void
on_pause_over(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)w;
	(void)events;
	send_if_new();
}

void
notify_open(struct ev_loop *loop, void (*describe)(const void *arg, char *text, size_t size), const void *arg)
{
	state.loop = loop;
	state.describe = describe;
	state.arg = arg;
	state.listens = getenv("NOTIFY_SOCKET") != NULL;
	ev_timer_init(&state.pause, on_pause_over, 0.0, 0.0);
}

void
notify_status(void)
{
	if (state.listens && !ev_is_active(&state.pause)) /* else it is looked at when that is over */
		send_if_new();
}

void
notify_ready(void)
{
	char status[NOTIFY_STATUS] = "";

	if (state.ready || !state.listens) {
		notify_status();
		return;
	}
	state.ready = true;
	state.describe(state.arg, status, sizeof(status));
	send_status("READY=1\n", status);
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
