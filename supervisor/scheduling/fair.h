/*
 * Whose turn it is: two-level start-time fair queueing (design.md section 8). Classes share the devices by
 * their weights, clients share their class by theirs; what is shared is predicted device seconds, corrected
 * when the truth is known. Who has been idle has no credit, who floods waits behind himself only.
 *
 * Pure: no clock, no I/O, no knowledge of jobs. An item is embedded in what waits.
 */
#ifndef SUPERVISOR_SCHEDULING_FAIR_H
#define SUPERVISOR_SCHEDULING_FAIR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum { FAIR_CLASSES = 3, FAIR_KEY = 48, FAIR_BUCKETS = 256 };

struct fair_client;

struct fair_item {
	TAILQ_ENTRY(fair_item) link;
	struct fair_client *client; /* NULL: it is in no line */
	int class;
	bool held;	/* has its place, and no turn */
	double cost;	/* predicted device seconds; > 0 */
	uint64_t order; /* of arrival, and in its line: one that was put in front has a smaller one */
};

TAILQ_HEAD(fair_line, fair_item);

/* What a client has in one class. Its tag, by which the class's accounts are sorted, is the later of the
 * two. */
struct fair_account {
	TAILQ_ENTRY(fair_account) link; /* of those with items */
	struct fair_client *client;
	double finish; /* virtual time at which its last picked item ends */
	double floor;  /* virtual time since which it has been waiting: no credit for before */
	bool restored; /* its floor is that of before a restart */
	struct fair_line items;
	int count;
};

TAILQ_HEAD(fair_accounts, fair_account);

struct fair_client {
	TAILQ_ENTRY(fair_client) link;	/* of all */
	struct fair_client *next_alike; /* of those with the same hash */
	char key[FAIR_KEY];
	double weight;
	int max_running; /* 0: any number; who has so many has no turn */
	int count, held; /* items waiting, and items that are held */
	int running;	 /* items picked and not done */
	struct fair_account accounts[FAIR_CLASSES];
};

struct fair_class {
	double weight, finish, floor; /* as an account's */
	double consolation;	      /* what its floor goes down when another has its first turn */
	bool restored;
	double v; /* virtual time among its clients */
	int count;
	struct fair_accounts accounts; /* those with items, least tag first */
};

struct fair {
	struct fair_class classes[FAIR_CLASSES];
	double v;	/* virtual time among the classes */
	double waiting; /* cost of all waiting items together */
	uint64_t arrivals;
	int count, held;
	TAILQ_HEAD(fair_clients, fair_client) clients;
	struct fair_client *buckets[FAIR_BUCKETS];
	void (*introduce)(void *arg, struct fair_client *c); /* to its weight and so on; NULL: it has 1 */
	void *introduce_arg;
};

void fair_init(struct fair *f);
void fair_clear(struct fair *f); /* forgets all but who introduces; the items are their owners' */
/* Weights take effect at the next pick; what has been charged stays charged. */
void fair_set_weight(struct fair *f, int class, double weight);

/* ---- clients (fair_clients.c) */

/* Who tells a client's weight and max_running, when it comes; those that are here are told now. */
void fair_introduce(struct fair *f, void (*introduce)(void *arg, struct fair_client *c), void *arg);
struct fair_client *fair_find_client(const struct fair *f, const char *key); /* NULL: it has nothing */
/* The client of that key, made when it is new; NULL: no memory. For the other files of fair. */
struct fair_client *fair_need_client(struct fair *f, const char *key);
/* A client without items whose tags are all behind virtual time is the same as a new one, and goes. Likewise
 * for them. */
void fair_forget_if_even(struct fair *f, struct fair_client *c);

/* ---- in and out */

/* The item joins its client's line, at the end or at the front. false: no memory. */
bool fair_push(struct fair *f, struct fair_item *item, const char *key, int class, double cost);
bool fair_push_front(struct fair *f, struct fair_item *item, const char *key, int class, double cost);
/* Over a restart: into its line by the order that it had. */
bool fair_push_again(struct fair *f, struct fair_item *item, const char *key, int class, double cost);
/* Likewise one that was held: it never was in line, so its class and client do not begin to wait. */
bool fair_hold_again(struct fair *f, struct fair_item *item, const char *key, int class, double cost);
void fair_remove(struct fair *f, struct fair_item *item); /* waiting or held */
/* Out of its line but not of its place; back into it where it was. */
void fair_hold(struct fair *f, struct fair_item *item);
void fair_release(struct fair *f, struct fair_item *item);

/* ---- turns */

/* The item whose turn it is among those that may run (NULL: all may), taken out and charged; NULL: there is
 * none. Who is passed over because nothing of it may run gathers no credit by that. */
struct fair_item *fair_pick(
    struct fair *f, bool (*may_run)(void *arg, const struct fair_item *item), void *arg);
/* That item out of turn, charged likewise. */
void fair_take(struct fair *f, struct fair_item *item);
/* A picked item of that client and class is over, or back in line: what it was charged, and what it really
 * took. */
void fair_done(struct fair *f, const char *key, int class, double charged, double actual);

/* The virtual times that decide: of a class, and of a client in it. */
double fair_class_tag(const struct fair *f, int class);
double fair_account_tag(const struct fair_account *a);

/* ---- who may enter, when places are few (fair_admit.c) */

enum fair_verdict { FAIR_ADMIT, FAIR_CLIENT_CAP, FAIR_FULL, FAIR_DISPLACE };

struct fair_limits {
	int max_size;	/* items in all, held ones too */
	int client_cap; /* items of one client */
	int reserved;	/* places that only the highest class may take */
	int low_size;	/* places that the lowest class may take; 0: as many as there are */
};

/* What becomes of a newcomer. FAIR_DISPLACE: admit it, and *victim must go: the newest item of the client
 * furthest over its share, of a class no higher than the newcomer's. */
enum fair_verdict fair_admit(const struct fair *f, const struct fair_limits *limits, const char *key,
    int class, struct fair_item **victim);

/* Items of that class that there is room for while no other class has any. */
int fair_places(const struct fair_limits *limits, int class);

/* ---- a copy to play with (fair_copy.c) */

struct fair_twin {
	struct fair_item item;
	struct fair_item *original;
};

/* Everything that waits, as twins: *twins is to be freed when the copy has been cleared. false: no memory. */
bool fair_copy(const struct fair *f, struct fair *copy, struct fair_twin **twins);

/* ---- over a restart (fair_dump.c) */

/* The accounts as JSON, a new reference; no items. NULL: no memory. */
json_t *fair_dump(const struct fair *f);
/* Into an empty queue, before the items that waited are pushed again in the order in which they were. false:
 * it is not such a dump, and nothing is changed. */
bool fair_restore(struct fair *f, const json_t *dump);
/* An item of that client was picked and is not done. false: no memory. */
bool fair_out_again(struct fair *f, const char *key);

#endif
