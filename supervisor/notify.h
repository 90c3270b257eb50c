/*
 * What systemd hears of us (sd_notify). Does nothing when nobody listens.
 */
#ifndef SUPERVISOR_NOTIFY_H
#define SUPERVISOR_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

void notify_ready(void);		/* once: later calls do nothing */
void notify_status(const char *status); /* sent when it differs from the last one */
void notify_extend(int64_t timeout_us); /* before notify_ready: starting takes that much longer */
void notify_reloading(void);
void notify_reloaded(void);
void notify_upgraded(bool was_ready); /* the new program's notify_reloaded */
void notify_stopping(void);
void notify_watchdog(void);
int64_t notify_watchdog_period_us(
    void); /* how often to ping: half of what systemd allows; 0: it does not watch */

#endif
