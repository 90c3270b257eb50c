/*
 * A thread that looks at the device's sensors once a second.
 */
#include "runner/sensors.h"

#include <stdlib.h>
#include <time.h>

#include "runner/thread.h"

enum { EVERY_S = 1 };

struct sensors_thread {
	struct device *device;
	struct status_page *page;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop; /* under the lock */
};

/* Until the next look is due; false: there is none. */
static bool
wait_turn(struct sensors_thread *t)
{
	struct timespec due;
	bool stop;

	clock_gettime(CLOCK_MONOTONIC, &due); /* the time of day may be set back by hours */
	due.tv_sec += EVERY_S;
	pthread_mutex_lock(&t->lock);
	while (!t->stop && pthread_cond_clockwait(&t->wake, &t->lock, CLOCK_MONOTONIC, &due) == 0)
		;
	stop = t->stop;
	pthread_mutex_unlock(&t->lock);
	return !stop;
}

static bool
look(struct sensors_thread *t)
{
	struct device_readings r;

	if (!device_read(t->device, &r))
		return false;
	shm_sensed(t->page, &(struct shm_readings){
				r.memory_used_bytes, r.utilization, r.temperature_celsius, r.energy_joules});
	return true;
}

static void *
run(void *arg)
{
	struct sensors_thread *t = arg;

	while (look(t) && wait_turn(t)) /* where the first look finds none, that was all */
		;
	return NULL;
}

struct sensors_thread *
sensors_start(struct device *device, struct status_page *page)
{
	struct sensors_thread *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->device = device;
	t->page = page;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	if (thread_start(&t->thread, run, t) == 0)
		return t;
	free(t);
	return NULL;
}

void
sensors_stop(struct sensors_thread **out)
{
	struct sensors_thread *t = *out;

	if (t == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->wake);
	pthread_mutex_destroy(&t->lock);
	free(t);
	*out = NULL;
}
