/*
 * The first thing in main() notes the time: what a supervisor's restart of a program is measured by.
 *
 *   stamp FILE [PROGRAM ARGUMENT ...]
 *
 * Appends CLOCK_MONOTONIC in nanoseconds and the process's number as a line to FILE, then becomes PROGRAM, or
 * waits for ever.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	struct timespec now;
	char line[64];
	int fd, length;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (argc < 2)
		return 64;
	fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	length = snprintf(line, sizeof(line), "%lld %d\n", (long long)now.tv_sec * 1000000000LL + now.tv_nsec,
	    (int)getpid());
	if (fd < 0 || write(fd, line, (size_t)length) != length)
		return 1;
	if (argc > 2)
		execv(argv[2], argv + 2);
	for (;;)
		pause();
}
