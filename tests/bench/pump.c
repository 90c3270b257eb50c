/*
 * Sends one request over and over on many connections to a UNIX socket, each as soon as it has the answer to
 * the last one, and counts: for any protocol whose answer to it is one line.
 *
 *   pump SOCKET CONNECTIONS SECONDS REFUSAL <REQUEST      prints answers, refused ones, and seconds
 *
 * An answer that contains REFUSAL is a refusal.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 1000, MAX_BYTES = 65536 };

static char request[MAX_BYTES], answers[MAX_CONNECTIONS][4096];
static size_t request_bytes, have[MAX_CONNECTIONS];
static struct pollfd sockets[MAX_CONNECTIONS];
static long answered, refused;

static void
die(const char *what)
{
	fprintf(stderr, "pump: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int
connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		die(path);
	return fd;
}

static void
ask(int i)
{
	if (write(sockets[i].fd, request, request_bytes) != (ssize_t)request_bytes)
		die("write");
}

/* A part of an answer, of which no more than the first bytes are kept; asks again when it is whole. */
static void
take(int i, const char *refusal)
{
	size_t room = sizeof(answers[i]) - 1 - have[i];
	ssize_t n = read(sockets[i].fd, answers[i] + have[i], room);

	if (n <= 0)
		die("read");
	have[i] += (size_t)n;
	answers[i][have[i]] = '\0';
	if (answers[i][have[i] - 1] != '\n') {
		if (have[i] == sizeof(answers[i]) - 1)
			have[i] /= 2;
		return;
	}
	answered++;
	if (strstr(answers[i], refusal) != NULL && refused++ == 0)
		fprintf(stderr, "pump: refused: %s", answers[i]);
	have[i] = 0;
	ask(i);
}

int
main(int argc, char **argv)
{
	double begin, end;
	int count;

	if (argc != 5 || (count = atoi(argv[2])) < 1 || count > MAX_CONNECTIONS) {
		fputs("usage: pump SOCKET CONNECTIONS SECONDS REFUSAL <REQUEST\n", stderr);
		return 64;
	}
	request_bytes = fread(request, 1, sizeof(request), stdin);
	for (int i = 0; i < count; i++)
		sockets[i] = (struct pollfd){.fd = connect_to(argv[1]), .events = POLLIN};
	begin = now_s();
	end = begin + atof(argv[3]);
	for (int i = 0; i < count; i++)
		ask(i);
	while (now_s() < end && poll(sockets, (nfds_t)count, 1000) >= 0) {
		for (int i = 0; i < count; i++) {
			if (sockets[i].revents != 0)
				take(i, argv[4]);
		}
	}
	printf("%ld %ld %.6f\n", answered, refused, now_s() - begin);
	return 0;
}
