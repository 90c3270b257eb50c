/*
 * What systemd hears of us (sd_notify).
 */
#include "supervisor/notify.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "ipc/clock.h"

static bool ready;

void
notify_ready(void)
{
	if (ready)
		return;
	ready = true;
	sd_notify(0, "READY=1");
}

void
notify_status(const char *status)
{
	static char last[160];

	if (strcmp(last, status) == 0)
		return;
	snprintf(last, sizeof(last), "%s", status);
	sd_notifyf(0, "STATUS=%s", last);
}

void
notify_extend(int64_t timeout_us)
{
	if (!ready)
		sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%lld", (long long)timeout_us);
}

void
notify_reloading(void)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_now_us());
}

void
notify_reloaded(void)
{
	if (ready)
		sd_notify(0, "READY=1");
}

void
notify_upgraded(bool was_ready)
{
	ready = was_ready;
	notify_reloaded();
}

void
notify_stopping(void)
{
	sd_notify(0, "STOPPING=1");
}

void
notify_watchdog(void)
{
	sd_notify(0, "WATCHDOG=1");
}

int64_t
notify_watchdog_period_us(void)
{
	uint64_t timeout_us;

	return sd_watchdog_enabled(0, &timeout_us) > 0 ? (int64_t)(timeout_us / 2) : 0;
}
