/*
 * The watchdog's conditions: who reads NOTIFY_SOCKET is told that all is well, nothing, or that it never will
 * be again.
 */
#include "tests/unit/test.h"

#include <ev.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/notify.h"
#include "tests/unit/temp_dir.h"

static struct daemon d; /* of no runners: what the watchdog looks at */
static int systemd;	/* reads what it is told */

static int
set_up(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (make_temp_dir(state) != 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", dir);
	systemd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (bind(systemd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return -1;
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	setenv("WATCHDOG_USEC", "40000", 1);
	TAILQ_INIT(&d.jobs);
	d.loop = ev_loop_new(EVFLAG_NOENV);
	d.disk = disk_new(d.loop, dir);
	return d.loop != NULL && d.disk != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	disk_free(&d.disk);
	ev_loop_destroy(d.loop);
	close(systemd);
	return remove_temp_dir(state);
}

/* What the watchdog says at its first look; "" when that is nothing. `late`: the loop comes to it late. */
static const char *
first_word(bool late)
{
	static char text[80];
	ssize_t n;

	daemon_start_watchdog(&d);
	if (late)
		d.health.due_us -= 2000000;
	else
		d.turn_us = clock_now_us();
	ev_run(d.loop, EVRUN_ONCE);
	daemon_stop_watchdog(&d);
	n = recv(systemd, text, sizeof(text) - 1, MSG_DONTWAIT);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void
test_all_is_well(void **state)
{
	(void)state;
	assert_string_equal(first_word(false), "WATCHDOG=1");
}

static void
test_a_wrong_count_is_told_at_once(void **state)
{
	(void)state;
	d.admitted = d.ended + 1;
	assert_string_equal(first_word(false), "WATCHDOG=trigger");
	d.admitted = d.ended;
	assert_string_equal(first_word(false), "WATCHDOG=1");
}

static void
test_a_look_that_comes_late_is_silent(void **state)
{
	(void)state;
	assert_string_equal(first_word(true), "");
	assert_string_equal(first_word(false), "WATCHDOG=1");
}

static void
test_a_turn_that_takes_long_is_silent(void **state)
{
	(void)state;
	daemon_start_watchdog(&d);
	d.turn_us = clock_now_us() - 2000000;
	ev_run(d.loop, EVRUN_ONCE);
	daemon_stop_watchdog(&d);
	assert_true(recv(systemd, (char[80]){0}, 80, MSG_DONTWAIT) < 0);
}

static void
nothing(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)w;
	(void)events;
}

/* One that the loop has passed over: libev goes by its own copy of the time, which is still to come. */
static void
test_a_timer_that_is_overdue_is_silent(void **state)
{
	(void)state;
	ev_timer_init(&d.housekeeping, nothing, 5.0, 0.0);
	ev_timer_start(d.loop, &d.housekeeping);
	d.housekeeping.at -= 10.0;
	assert_string_equal(first_word(false), "");
	d.housekeeping.at += 10.0;
	assert_string_equal(first_word(false), "WATCHDOG=1");
	ev_timer_stop(d.loop, &d.housekeeping);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_is_well),
	    cmocka_unit_test(test_a_wrong_count_is_told_at_once),
	    cmocka_unit_test(test_a_look_that_comes_late_is_silent),
	    cmocka_unit_test(test_a_turn_that_takes_long_is_silent),
	    cmocka_unit_test(test_a_timer_that_is_overdue_is_silent),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
