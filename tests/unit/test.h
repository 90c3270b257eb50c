/*
 * What every unit test includes: cmocka with its headers, and counting descriptors.
 */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>

/* Open descriptors of this process. */
static inline int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = -3; /* ".", ".." and the directory's own */

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

#endif
