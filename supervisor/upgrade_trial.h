/*
 * The new program, tried before an upgrade: a process of its own that reads what it would be handed, and says
 * whether it can take over. We go on serving meanwhile.
 */
#ifndef SUPERVISOR_UPGRADE_TRIAL_H
#define SUPERVISOR_UPGRADE_TRIAL_H

#include <ev.h>
#include <stdbool.h>
#include <sys/types.h>

#define UPGRADE_TRIAL_CAN "zitd can take over as " /* what it says when it can; its build follows */

struct upgrade_trial {
	struct ev_loop *loop;
	void *arg;
	/* It is over; `why`: a sentence without its stop that says why the program cannot take over, or NULL.
	 */
	void (*done)(void *arg, const char *why);
	const char *program;
	pid_t pid; /* 0: none is under way */
	int pidfd, output;
	struct ev_io end_io;
};

void upgrade_trial_init(
    struct upgrade_trial *t, struct ev_loop *loop, void *arg, void (*done)(void *arg, const char *why));
/* Starts argv[0], which finds the document at SPAWN_FIRST_FD; none may be under way. The document stays the
 * caller's. 0, or errno. */
int upgrade_trial_start(struct upgrade_trial *t, char *const *argv, int document);
/* Kills it, if one is under way, without a word; whether one was: it is not buried yet then. */
bool upgrade_trial_stop(struct upgrade_trial *t);

#endif
