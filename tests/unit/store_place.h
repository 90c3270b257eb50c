/*
 * A store's directory, a new one for each test, within the test program's own (temp_dir.h).
 */
#ifndef TESTS_UNIT_STORE_PLACE_H
#define TESTS_UNIT_STORE_PLACE_H

#include <stdio.h>
#include <sys/stat.h>

#include "supervisor/store/store.h"
#include "tests/unit/temp_dir.h"

static char place[128];
static char file[160]; /* the store's, in it */

/* A test's own fixture. */
static int
make_place(void **state)
{
	static int count;

	(void)state;
	snprintf(place, sizeof(place), "%s/%d", dir, ++count);
	snprintf(file, sizeof(file), "%s/queue.db", place);
	return mkdir(place, 0700);
}

/* `report`: NULL when nobody wants it. */
static struct store *
open_store(struct store_report *report)
{
	struct store_report unseen;
	struct store *s = NULL;
	struct err e = {0};

	if (report == NULL)
		report = &unseen;
	*report = (struct store_report){0};
	if (store_open(&s, place, report, &e) != 0)
		fail_msg("%s", e.text);
	return s;
}

#endif
