/*
 * The end of a process that reads a checkpoint's mapped file which is not there any more: it was cut from
 * outside, or its disk fails. The kernel says so by SIGBUS, in the middle of any loop and on any thread; what
 * was computed is worth nothing then. So it is the end, as without a handler, but one with a reason: nobody
 * shall take the job that was being drawn for the cause.
 */
#ifndef RUNNER_BUS_ERROR_H
#define RUNNER_BUS_ERROR_H

#include "ipc/shm.h"

/* From now on such an end writes its last words to the page, which outlives the process, and has the status
 * RUNNER_EXIT_WEIGHTS. A SIGBUS of another origin ends the process as ever. */
void bus_error_watch(struct status_page *page);

#endif
