/*
 * A result as a sealed memfd: written once, then nobody can change, grow or shrink it.
 */
#include "runner/result.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int
result_create(void)
{
	return memfd_create("zit-picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

int
result_write(int fd, const void *bytes, size_t count)
{
	const char *p = bytes;

	while (count > 0) {
		ssize_t n = write(fd, p, count);
		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			p += n;
			count -= (size_t)n;
		}
	}
	return 0;
}

int
result_seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
}
