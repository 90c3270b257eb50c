/*
 * A wall clock that is set, put before a program with LD_PRELOAD: the file that $FAULTY_CLOCK names says by
 * how many seconds it is ahead now; without it it is right. Intervals are not touched.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long
ahead_s(void)
{
	const char *path = getenv("FAULTY_CLOCK");
	FILE *f = path != NULL ? fopen(path, "re") : NULL;
	long s = 0;

	if (f != NULL && fscanf(f, "%ld", &s) != 1)
		s = 0;
	if (f != NULL)
		fclose(f);
	return s;
}

int
clock_gettime(clockid_t id, struct timespec *t)
{
	int status = ((__typeof__(&clock_gettime))dlsym(RTLD_NEXT, "clock_gettime"))(id, t);

	if (status == 0 && id == CLOCK_REALTIME)
		t->tv_sec += ahead_s();
	return status;
}
