/*
 * Whose turn it is: two-level start-time fair queueing (design.md section 8). Classes share the devices by
 * their weights, clients share their class; what is shared is predicted device seconds, corrected when the
 * truth is known. Who has been idle has no credit, who floods waits behind himself only.
 *
 * Pure: no clock, no I/O, no knowledge of jobs. An item is embedded in what waits.
 */
#ifndef SUPERVISOR_FAIR_H
#define SUPERVISOR_FAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum { FAIR_CLASSES = 3, FAIR_KEY = 48 };

struct fair_client;

struct fair_item {
	TAILQ_ENTRY(fair_item) link;
	struct fair_client *client; /* NULL: it is in no line */
	int class;
	double cost;	/* predicted device seconds; > 0 */
	uint64_t order; /* of arrival */
};

TAILQ_HEAD(fair_line, fair_item);

/* What a client has in one class. */
struct fair_account {
	double finish;	    /* virtual time at which its last picked item ends */
	uint64_t filled_at; /* pick count when it stopped being empty */
	struct fair_line items;
	int count;
};

struct fair_client {
	TAILQ_ENTRY(fair_client) link;
	char key[FAIR_KEY];
	int count, running; /* items waiting; items picked and not done */
	struct fair_account accounts[FAIR_CLASSES];
};

struct fair {
	struct {
		double weight, finish;
		double v; /* virtual time among its clients */
		uint64_t filled_at;
		int count;
	} classes[FAIR_CLASSES];
	double v; /* virtual time among the classes */
	uint64_t picks, arrivals;
	int count;
	TAILQ_HEAD(fair_clients, fair_client) clients;
};

void fair_init(struct fair *f);
void fair_clear(struct fair *f); /* forgets all; the items are their owners' */
/* Takes effect at the next pick; what has been charged stays charged. */
void fair_set_weight(struct fair *f, int class, double weight);

/* The item joins its client's line, at the end or, when it was interrupted, at the front. false: no memory.
 */
bool fair_push(struct fair *f, struct fair_item *item, const char *key, int class, double cost);
bool fair_push_front(struct fair *f, struct fair_item *item, const char *key, int class, double cost);
void fair_remove(struct fair *f, struct fair_item *item);

/* The item whose turn it is among those that may run (NULL: all may), taken out and charged; NULL: there is
 * none. */
struct fair_item *fair_pick(
    struct fair *f, bool (*may_run)(void *arg, const struct fair_item *item), void *arg);
/* A picked item of that client and class is over, or back in line: what it was charged, and what it really
 * took. */
void fair_done(struct fair *f, const char *key, int class, double charged, double actual);

/* ---- who may enter, when places are few */

enum fair_verdict { FAIR_ADMIT, FAIR_CLIENT_CAP, FAIR_FULL, FAIR_DISPLACE };

struct fair_limits {
	int max_size;	/* items in all */
	int client_cap; /* items of one client */
	int reserved;	/* places that only the highest class may take */
};

/* What becomes of a newcomer. FAIR_DISPLACE: admit it, and *victim must go: the newest item of the client
 * furthest over its share, of a class no higher than the newcomer's. */
enum fair_verdict fair_admit(const struct fair *f, const struct fair_limits *limits, const char *key,
    int class, struct fair_item **victim);

/* ---- looking ahead */

/* All items in the order in which they would be picked, every one allowed to run; `out` has room for
 * f->count. false: no memory. f is as before. */
bool fair_order(const struct fair *f, struct fair_item **out);

#endif
