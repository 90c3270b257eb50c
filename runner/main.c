/*
 * zit-runner: one model on one device. Says hello, loads, makes a first small picture, then serves jobs
 * (session.c). It holds no policy: zitd decides what runs and when this process ends.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/channel.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/shm.h"
#include "runner/bus_error.h"
#include "runner/canary.h"
#include "runner/options.h"
#include "runner/probe.h"
#include "runner/resume.h"
#include "runner/sensors.h"
#include "runner/session.h"
#include "runner/warm_up.h"

enum { REPORT_EVERY_US = 100 * 1000, BACKEND_NAME = 16, MAX_INDEX = 255 };

struct runner {
	struct runner_options options;
	struct channel *channel;
	struct status_page *page;
	struct device *device;
	struct model *model;
	struct sensors_thread *sensors;
	uint32_t canary;     /* checksum of the first small picture */
	int64_t reported_us; /* when progress was last told */
};

static void
tell(struct runner *r, struct proto_msg *m)
{
	m->head.generation = r->options.generation;
	channel_send(r->channel, m, NULL); /* if zitd is gone, the session will notice */
}

/* Says why on every way there is; the exit status. */
static int
last_words(struct runner *r, int status, const struct err *e)
{
	struct proto_msg m = {.head.type = PROTO_FATAL, .FATAL = {(uint32_t)status, e->text}};

	log_err("runner %s: %s", r->options.name, e->text);
	shm_last_words(r->page, e->text);
	tell(r, &m);
	return status;
}

/* ---- the device */

/* "cuda:1" is backend cuda, index 1. false: the index is no number. */
static bool
split_device(const char *text, char backend[BACKEND_NAME], int *index)
{
	size_t length = strcspn(text, ":");
	char *end;
	long number;

	snprintf(backend, BACKEND_NAME, "%.*s", (int)length, text);
	*index = 0;
	if (text[length] == '\0')
		return true;
	number = strtol(text + length + 1, &end, 10);
	*index = (int)number;
	return end != text + length + 1 && *end == '\0' && number >= 0 && number <= MAX_INDEX;
}

/* What is open to another runner later, or to a reload only. */
static int
open_exit_status(int fault)
{
	static const enum runner_exit statuses[] = {[DEVICE_OUT_OF_MEMORY] = RUNNER_EXIT_DEVICE_MEMORY,
	    [DEVICE_POISONED] = RUNNER_EXIT_STICKY,
	    [DEVICE_INTERNAL] = RUNNER_EXIT_INTERNAL,
	    [DEVICE_BUSY] = RUNNER_EXIT_BUSY};

	return fault > 0 ? (int)statuses[fault] : RUNNER_EXIT_NO_DEVICE;
}

/* "auto" is the first of cuda and cpu that there is. 0, or the exit status. */
static int
open_device(struct runner *r, struct err *e)
{
	struct device_options options = {.precision = r->options.precision,
	    .threads = r->options.threads,
	    .cache_dir = r->options.cache,
	    .portable = r->options.portable};
	char backend[BACKEND_NAME], why[200] = "its index is not a number";
	bool any = strcmp(r->options.device, "auto") == 0;
	int status = -1;

	if (split_device(any ? "cuda" : r->options.device, backend, &options.index))
		status = device_open(&r->device, backend, &options, why, sizeof(why));
	if (any && status < 0)
		status = device_open(&r->device, "cpu", &options, why, sizeof(why));
	if (status == 0)
		return 0;
	err_set(e, ERR_UNSUPPORTED, "device %s: %s", r->options.device, why);
	return open_exit_status(status);
}

/* ---- the model */

/* Before READY there is nothing to lose: a stop, a signal or zitd's end ends the process at once, and any
 * message but STOP is a mistake. */
static void
heed(struct runner *r)
{
	struct proto_msg m;
	int fds[PROTO_MAX_FDS], status = channel_receive(r->channel, &m, fds);
	struct err e;

	if (session_is_interrupted() || status == -ERR_UNREACHABLE ||
	    (status == 1 && m.head.type == PROTO_STOP))
		_exit(0);
	if (status == 0)
		return;
	err_set(&e, ERR_PROTOCOL, "zitd sent %s before READY",
	    status == 1 ? proto_name(m.head.type) : "what is not a message");
	_exit(last_words(r, RUNNER_EXIT_PROTOCOL, &e));
}

static void
on_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	struct runner *r = arg;
	struct proto_msg m = {.head.type = PROTO_LOADING, .LOADING = {done_bytes, total_bytes}};

	heed(r);
	if (clock_now_us() - r->reported_us < REPORT_EVERY_US && done_bytes < total_bytes)
		return;
	r->reported_us = clock_now_us();
	tell(r, &m);
}

static void
on_part(void *arg)
{
	heed(arg);
}

static void
on_worked(void *arg)
{
	struct runner *r = arg;

	shm_worked(r->page);
}

static int
open_model(struct runner *r, struct err *e)
{
	const struct model_options options = {.max_pixels = r->options.max_pixels,
	    .text_weights = r->options.text_encoder,
	    .progress = on_progress,
	    .progress_arg = r};

	return model_open(&r->model, r->options.model, r->device, &options, e);
}

static int
get_warm(struct runner *r, struct err *e)
{
	struct proto_msg m = {.head.type = PROTO_WARMING};

	tell(r, &m);
	device_watch(r->device, on_worked, r);
	if (warm_up(r->model, on_part, r, e) != 0)
		return -(int)e->code;
	return canary_draw(r->model, &r->canary, e);
}

static void
say_ready(struct runner *r)
{
	const struct model_limits *l = model_limits(r->model);
	struct proto_msg m = {.head.type = PROTO_READY,
	    .READY = {l->name, device_name(r->device), (uint32_t)l->default_side, (uint32_t)l->max_side,
		(uint32_t)l->granule, (uint64_t)l->max_pixels, l->memory_bytes, resume_bytes(l->latent_count),
		l->text_streamed}};

	tell(r, &m);
	log_info(
	    "runner %s: %llu MiB of weights and %llu MiB for pictures on the device, the text encoder %s%s",
	    r->options.name, (unsigned long long)(l->weight_bytes >> 20),
	    (unsigned long long)(l->memory_bytes >> 20), l->text_streamed ? "streamed" : "resident",
	    l->thrift > 0 ? ", large pictures decoded in bands" : "");
}

static int
serve(struct runner *r, struct err *e)
{
	const struct session_parts parts = {
	    r->options.name, r->options.generation, r->channel, r->page, r->model, r->device, r->canary};
	struct session *session = session_new(&parts);
	uint64_t allocations = device_allocations(r->device), free_bytes = device_free_bytes(r->device);
	int status;

	if (session == NULL) {
		err_set(e, ERR_SYSTEM, "out of memory, or no thread: %s", strerror(errno));
		return RUNNER_EXIT_HOST_MEMORY;
	}
	say_ready(r);
	status = session_run(session, e);
	session_free(&session);
	log_info("runner %s: %llu pieces of device memory before READY, %llu after; of the device %llu MiB "
		 "were free, %llu are",
	    r->options.name, (unsigned long long)allocations,
	    (unsigned long long)(device_allocations(r->device) - allocations),
	    (unsigned long long)free_bytes >> 20, (unsigned long long)device_free_bytes(r->device) >> 20);
	return status;
}

/* From nothing to the end of service; the exit status. */
static int
run(struct runner *r)
{
	struct proto_msg hello = {.head.type = PROTO_HELLO,
	    .HELLO = {PROTO_VERSION, (uint32_t)getpid(), ZIT_BUILD, r->options.device}};
	struct err e;
	int status;

	tell(r, &hello);
	status = open_device(r, &e);
	if (status != 0)
		return last_words(r, status, &e);
	r->sensors = sensors_start(r->device, r->page);
	status = open_model(r, &e);
	if (status == 0) {
		heed(r);
		status = get_warm(r, &e);
	}
	if (status != 0)
		return last_words(r, session_exit_status(e.code), &e);
	heed(r);
	status = serve(r, &e);
	return status != 0 ? last_words(r, status, &e) : 0;
}

static void
on_signal(int number)
{
	(void)number;
	session_interrupt();
}

static void
set_signals(void)
{
	struct sigaction stop = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL); /* a limit on file sizes is an error of write */
}

static bool
is_channel(int fd)
{
	int type;
	socklen_t size = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

int
main(int argc, char **argv)
{
	struct runner r = {0};
	bool done;
	int status;

	if (!runner_options_parse(&r.options, argc, argv, &done))
		return RUNNER_EXIT_USAGE;
	if (done)
		return 0;
	if (r.options.probe)
		return probe_print();
	log_open("zit-runner", LOG_LEVEL_INFO);
	set_signals();
	if (!is_channel(r.options.channel_fd)) {
		log_err(
		    "--channel %d is not zitd's socket; start zitd, not zit-runner", r.options.channel_fd);
		return RUNNER_EXIT_USAGE;
	}
	if (shm_attach(r.options.status_fd, &r.page) != 0) {
		log_err("--status %d is not zitd's status page", r.options.status_fd);
		return RUNNER_EXIT_PROTOCOL;
	}
	bus_error_watch(r.page);
	r.channel = channel_new(r.options.channel_fd, PROTO_FROM_RUNNER);
	if (r.channel == NULL) {
		log_err("out of memory");
		return RUNNER_EXIT_HOST_MEMORY;
	}
	status = run(&r);
	channel_flush(r.channel);
	if (status != 0)
		_exit(status); /* the device may be past any further call */
	sensors_stop(&r.sensors);
	model_close(&r.model);
	device_close(&r.device);
	channel_free(&r.channel);
	shm_detach((const struct status_page **)&r.page);
	return 0;
}
