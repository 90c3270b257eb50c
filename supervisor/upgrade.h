/*
 * zitd gives its process to another program, its own successor, and nobody notices.
 *
 *   TRIAL     the new program is started beside us and reads what it would be handed; we go on serving
 *   SETTLING  it can: nobody is heard and nothing is begun, until the disk has finished
 *   LEAVING   signals wait from now on, and the loop has had a last turn for those that came before: exec
 *
 * Whatever goes wrong before the exec ends the upgrade, is told to who asked for it, and we go on. After the
 * exec the new program answers. Nothing is torn down for it: what is not handed over is CLOEXEC.
 */
#ifndef SUPERVISOR_UPGRADE_H
#define SUPERVISOR_UPGRADE_H

#include <ev.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"
#include "supervisor/conf.h"
#include "supervisor/upgrade_trial.h"

struct client;
struct daemon;
struct handover;

enum upgrade_step { UPGRADE_NONE, UPGRADE_TRIAL, UPGRADE_SETTLING, UPGRADE_LEAVING };

struct upgrade {
	enum upgrade_step step;
	struct client *client; /* who asked; NULL: it has gone */
	json_t *id;	       /* of its request; NULL: it wants no answer */
	struct ev_timer clock; /* of the trial, and of all that comes after it */
	struct ev_idle last_turn;
	struct upgrade_trial trial;
	int64_t quiet_us;   /* since when nobody is heard */
	sigset_t unblocked; /* while LEAVING: the signals as they were */
};

void upgrade_init(struct daemon *d);
/* Begins one; the client is answered later, to its request `id` (NULL: it wants no answer). 0, or a negative
 * code with *e when it cannot begin. */
int upgrade_begin(struct daemon *d, struct client *c, json_t *id, struct err *e);
/* Goes on with it, if it may: once a turn, before the loop sleeps. */
void upgrade_turn(struct daemon *d);
/* Ends it, if there is one: `why` is a whole sentence without its stop. */
void upgrade_abandon(struct daemon *d, const char *why);
/* Nobody is heard and nothing is to be begun. */
bool upgrade_is_quiet(const struct daemon *d);
bool upgrade_is_trial(const struct daemon *d, pid_t pid);
void upgrade_client_gone(struct daemon *d, const struct client *c);

/* ---- in the new program */

/* --check-handover: whether it can take over what is in fd, said on stdout or stderr; the exit status. */
int upgrade_check(int fd, const struct conf *conf);
/* It has: who asked is told. */
void upgrade_finish(struct daemon *d, const struct handover *h);

#endif
