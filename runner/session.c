/*
 * The runner's conversation with zitd: jobs in, steps made, pictures out.
 *
 * Work is done in units (start, the text or a layer of it, one step, one decode), of all held jobs in turn;
 * between two units the socket is looked at, so a cancel waits for one unit at most, and so does a newcomer.
 * A suspended job has no turn; all that it has stays where it is. After each step the latent goes into the
 * job's checkpoint. A finished picture goes to the encoder's thread and the next unit begins; a job ends when
 * its last PNG has come back. How many jobs are held is zitd's choice.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runner/session_inside.h"

/* ---- interruption */

static volatile sig_atomic_t interrupted;
static int wake_fd = -1; /* an eventfd: ends the poll that a signal came just before */

void
session_interrupt(void)
{
	const uint64_t one = 1;
	int error = errno; /* of what the signal came in between */

	interrupted = 1;
	if (wake_fd >= 0 && write(wake_fd, &one, sizeof(one)) < 0)
		interrupted = 1; /* its counter is full, so it is awake */
	errno = error;
}

bool
session_is_interrupted(void)
{
	return interrupted != 0;
}

/* ---- the loop */

/* Looks at everything; waits for it when `idle`. */
static void
look_around(struct session *s, bool idle)
{
	struct pollfd fds[] = {
	    {.fd = channel_fd(s->parts.channel),
		.events = (short)(POLLIN | (channel_has_output(s->parts.channel) ? POLLOUT : 0))},
	    {.fd = encoder_fd(s->encoder), .events = POLLIN},
	    {.fd = wake_fd, .events = POLLIN},
	};

	if (poll(fds, 3, idle ? -1 : 0) < 0 && errno != EINTR)
		s->stop = true;
	if (interrupted)
		s->stop = true;
	if (s->stop)
		return;
	if (channel_has_output(s->parts.channel) && channel_flush(s->parts.channel) != 0)
		s->stop = true;
	session_take_messages(s);
	session_take_pictures(s);
}

/* The last messages must not end with us. zitd takes them, or is gone, or sends its signal. */
static void
drain(struct session *s)
{
	struct pollfd fds[] = {
	    {.fd = channel_fd(s->parts.channel), .events = POLLOUT},
	    {.fd = wake_fd, .events = POLLIN},
	};

	while (!interrupted && channel_has_output(s->parts.channel)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (channel_flush(s->parts.channel) != 0)
			return;
	}
}

int
session_run(struct session *s, struct err *e)
{
	bool idle = false;

	while (!s->stop && !(s->finish && STAILQ_EMPTY(&s->jobs))) {
		look_around(s, idle);
		if (!s->stop)
			idle = !session_work(s);
	}
	if (!s->stop)
		drain(s);
	if (s->exit_status != 0)
		*e = s->error;
	return s->exit_status;
}

struct session *
session_new(const struct session_parts *parts)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->parts = *parts;
	STAILQ_INIT(&s->jobs);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->encoder = encoder_new();
	s->latent = malloc(model_limits(parts->model)->latent_count * sizeof(float));
	if (wake_fd < 0 || s->encoder == NULL || s->latent == NULL)
		session_free(&s);
	return s;
}

void
session_free(struct session **s)
{
	struct job *job;
	int fd;

	if (*s == NULL)
		return;
	encoder_free(&(*s)->encoder);
	while ((job = STAILQ_FIRST(&(*s)->jobs)) != NULL) {
		STAILQ_REMOVE_HEAD(&(*s)->jobs, link);
		session_job_free(job);
	}
	free((*s)->latent);
	fd = wake_fd;
	wake_fd = -1; /* first, for the signal handler's sake */
	if (fd >= 0)
		close(fd);
	free(*s);
	*s = NULL;
}
