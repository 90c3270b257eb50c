/*
 * How jobs and runners are shown to people.
 */
#ifndef CTL_TABLES_H
#define CTL_TABLES_H

#include "ctl/output.h"

extern const struct output_table tables_job;	/* one job's record */
extern const struct output_table tables_queue;	/* a list of jobs */
extern const struct output_table tables_runner; /* a list of runners */

#endif
