/*
 * A disk that is slow or fails, put before a program with LD_PRELOAD. The file that $FAULTY_DISK names says
 * at each sync what it is now: "slow MS" takes so many milliseconds, "fail" gives EIO; without it all is
 * well.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int sync_call(int fd);

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
