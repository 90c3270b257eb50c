/*
 * A directory of the test program's own: made before its tests and removed after them, as cmocka's group
 * fixtures.
 */
#ifndef TESTS_UNIT_TEMP_DIR_H
#define TESTS_UNIT_TEMP_DIR_H

#include <stdio.h>
#include <stdlib.h>

static char dir[] = "/tmp/zit-test-XXXXXX";

static int
make_temp_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
remove_temp_dir(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

#endif
