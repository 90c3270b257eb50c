/*
 * Threads beside the one that works: signals are not theirs.
 */
#ifndef RUNNER_THREAD_H
#define RUNNER_THREAD_H

#include <pthread.h>

/* 0 or an errno. */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
