/*
 * A disk that is slow or fails, put before a program with LD_PRELOAD. The file that $FAULTY_DISK names says
 * at each sync what it is now: "slow MS" takes so many milliseconds, "fail" gives EIO; without it all is
 * well. Each sync adds a byte to the file of that name with ".syncs", if there is one.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int sync_call(int fd);

static void
count(void)
{
	const char *control = getenv("FAULTY_DISK");
	char path[4096];
	int fd = -1;

	if (control != NULL && snprintf(path, sizeof(path), "%s.syncs", control) < (int)sizeof(path))
		fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd >= 0 && write(fd, "s", 1) != 1)
		abort(); /* a count that is wrong is worth nothing */
	if (fd >= 0)
		close(fd);
}

/* 0, or errno. */
static int
suffer(void)
{
	const char *path = getenv("FAULTY_DISK");
	FILE *f = path != NULL ? fopen(path, "re") : NULL;
	char word[16] = "";
	double ms = 0;

	if (f == NULL)
		return 0;
	if (fscanf(f, "%15s %lf", word, &ms) < 1)
		word[0] = '\0';
	fclose(f);
	if (strcmp(word, "slow") == 0)
		nanosleep(&(struct timespec){.tv_nsec = (long)(ms * 1e6)}, NULL);
	return strcmp(word, "fail") == 0 ? EIO : 0;
}

static int
sync_by(const char *name, int fd)
{
	sync_call *call = (sync_call *)dlsym(RTLD_NEXT, name);
	int error = suffer();

	count();
	if (error == 0)
		return call(fd);
	errno = error;
	return -1;
}

int
fsync(int fd)
{
	return sync_by("fsync", fd);
}

int
fdatasync(int fd)
{
	return sync_by("fdatasync", fd);
}
