/*
 * The same client for two queues, zitd and beanstalkd, and for queue_floor, over a Unix socket: for
 * bench_queue.py.
 *
 *   queue_client zitd|beanstalkd|floor SOCKET ack COUNT
 *       one connection, a job after the other: time to the acknowledgement; jobs are removed off the clock
 *   queue_client zitd|beanstalkd|floor SOCKET cycle COUNT CONNECTIONS
 *       on each of them: a job in, handed out, done
 *
 * Prints one line: seconds in all, then p50 and p99 in microseconds (of acknowledgements).
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 64, LINE = 16384, BATCH = 20, ID = 64 };

struct connection {
	int fd, used;
	int stage; /* of beanstalkd's cycle */
	char in[LINE];
};

struct dialect {
	const char *name;
	/* Sends what begins a job, or goes on with it after `line`; true when the job is done. */
	bool (*go_on)(struct connection *c, const char *line);
	void (*submit)(struct connection *c);
	void (*note_id)(const char *line, char id[ID]);
	void (*remove)(struct connection *c, const char ids[BATCH][ID], int count);
};

static void
die(const char *why)
{
	perror(why);
	exit(1);
}

static double
now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
send_text(struct connection *c, const char *text)
{
	size_t length = strlen(text);

	if (write(c->fd, text, length) != (ssize_t)length)
		die("write");
}

/* The next whole line without its end, or NULL: it is not here yet. */
static bool
take_line(struct connection *c, char line[LINE])
{
	char *end = memchr(c->in, '\n', (size_t)c->used);
	int length;

	if (end == NULL)
		return false;
	length = (int)(end - c->in);
	memcpy(line, c->in, (size_t)length);
	line[length > 0 && line[length - 1] == '\r' ? length - 1 : length] = '\0';
	c->used -= length + 1;
	memmove(c->in, end + 1, (size_t)c->used);
	return true;
}

static void
receive(struct connection *c)
{
	ssize_t n = read(c->fd, c->in + c->used, sizeof(c->in) - (size_t)c->used);

	if (n <= 0)
		die("read");
	c->used += (int)n;
}

static void
wait_line(struct connection *c, char line[LINE])
{
	while (!take_line(c, line))
		receive(c);
}

/* ---- zitd */

static void
zitd_submit(struct connection *c)
{
	send_text(c, "{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"a cat\",\"steps\":1,"
		     "\"wait\":true,\"events\":true,\"durable\":false}}\n");
}

static void
zitd_note_id(const char *line, char id[ID])
{
	const char *job = strstr(line, "\"job_");

	if (job == NULL || sscanf(job, "\"%62[^\"]", id) != 1) {
		fprintf(stderr, "no id: %.200s\n", line);
		exit(1);
	}
}

static void
zitd_remove(struct connection *c, const char ids[BATCH][ID], int count)
{
	char text[LINE], line[LINE];
	int used = snprintf(text, sizeof(text), "{\"id\":2,\"method\":\"cancel\",\"params\":{\"job\":[");

	for (int i = 0; i < count; i++)
		used +=
		    snprintf(text + used, sizeof(text) - (size_t)used, "%s\"%s\"", i > 0 ? "," : "", ids[i]);
	snprintf(text + used, sizeof(text) - (size_t)used, "]}}\n");
	send_text(c, text);
	for (int i = 0; i <= count; i++) /* its answer, and those of the jobs that were waited for */
		wait_line(c, line);
}

static bool
zitd_go_on(struct connection *c, const char *line)
{
	if (line != NULL && strstr(line, "\"state\":\"done\"") == NULL) {
		fprintf(stderr, "not done: %.300s\n", line);
		exit(1);
	}
	send_text(c,
	    "{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"a cat\",\"steps\":1,\"wait\":true,"
	    "\"durable\":false,\"deliver\":\"base64\"}}\n");
	return line != NULL;
}

/* ---- the floor: zitd's lines, and no job is kept */

static void
floor_remove(struct connection *c, const char ids[BATCH][ID], int count)
{
	(void)c;
	(void)ids;
	(void)count;
}

/* ---- beanstalkd: put, reserve, delete */

static void
beanstalkd_submit(struct connection *c)
{
	send_text(c, "put 0 0 120 5\r\na cat\r\n");
}

static void
beanstalkd_note_id(const char *line, char id[ID])
{
	if (sscanf(line, "INSERTED %62s", id) != 1)
		exit(1);
}

static void
beanstalkd_remove(struct connection *c, const char ids[BATCH][ID], int count)
{
	char text[ID + 16], line[LINE];

	for (int i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "delete %s\r\n", ids[i]);
		send_text(c, text);
		wait_line(c, line);
	}
}

static bool
beanstalkd_go_on(struct connection *c, const char *line)
{
	char text[64];
	unsigned long long id;

	if (line != NULL && strncmp(line, "INSERTED", 8) == 0)
		send_text(c, "reserve\r\n");
	else if (line != NULL && sscanf(line, "RESERVED %llu", &id) == 1) {
		snprintf(text, sizeof(text), "delete %llu\r\n", id);
		send_text(c, text);
	} else if (line == NULL || strcmp(line, "DELETED") == 0) {
		beanstalkd_submit(c);
		return line != NULL;
	} /* else the job's body */
	return false;
}

static const struct dialect dialects[] = {{"zitd", zitd_go_on, zitd_submit, zitd_note_id, zitd_remove},
    {"beanstalkd", beanstalkd_go_on, beanstalkd_submit, beanstalkd_note_id, beanstalkd_remove},
    {"floor", zitd_go_on, zitd_submit, zitd_note_id, floor_remove}};

/* ---- the two loads */

static void
open_connection(struct connection *c, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	c->used = c->stage = 0;
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		die(path);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void
run_ack(const struct dialect *d, const char *path, int count)
{
	static struct connection c;
	double *took = calloc((size_t)count, sizeof(double)), all = 0, begin;
	char ids[BATCH][ID], line[LINE];
	int held = 0;

	if (took == NULL)
		exit(1);
	open_connection(&c, path);
	for (int i = 0; i < count; i++) {
		begin = now_s();
		d->submit(&c);
		wait_line(&c, line);
		took[i] = now_s() - begin;
		all += took[i];
		d->note_id(line, ids[held++]);
		if (held == BATCH || i == count - 1) {
			d->remove(&c, (const char(*)[ID])ids, held);
			held = 0;
		}
	}
	qsort(took, (size_t)count, sizeof(double), by_value);
	printf("%.6f %.2f %.2f\n", all, took[count / 2] * 1e6, took[count * 99 / 100] * 1e6);
	free(took);
}

static void
run_cycle(const struct dialect *d, const char *path, int count, int connections)
{
	static struct connection all[MAX_CONNECTIONS];
	struct pollfd polled[MAX_CONNECTIONS];
	char line[LINE];
	int done = 0;
	double begin;

	for (int i = 0; i < connections; i++) {
		open_connection(&all[i], path);
		polled[i] = (struct pollfd){all[i].fd, POLLIN, 0};
	}
	begin = now_s();
	for (int i = 0; i < connections; i++)
		d->go_on(&all[i], NULL);
	while (done < count) {
		if (poll(polled, (nfds_t)connections, 30000) <= 0)
			die("poll");
		for (int i = 0; i < connections; i++) {
			if ((polled[i].revents & POLLIN) == 0)
				continue;
			receive(&all[i]);
			while (take_line(&all[i], line))
				done += d->go_on(&all[i], line);
		}
	}
	printf("%.6f 0 0\n", now_s() - begin);
}

int
main(int argc, char **argv)
{
	for (size_t i = 0; argc >= 5 && i < sizeof(dialects) / sizeof(dialects[0]); i++) {
		int connections = argc > 5 ? atoi(argv[5]) : 1;
		if (strcmp(dialects[i].name, argv[1]) != 0)
			continue;
		if (strcmp(argv[3], "ack") == 0)
			run_ack(&dialects[i], argv[2], atoi(argv[4]));
		else
			run_cycle(&dialects[i], argv[2], atoi(argv[4]),
			    connections < MAX_CONNECTIONS ? connections : MAX_CONNECTIONS);
		return 0;
	}
	fprintf(stderr, "usage: queue_client zitd|beanstalkd|floor SOCKET ack|cycle COUNT [CONNECTIONS]\n");
	return 64;
}
