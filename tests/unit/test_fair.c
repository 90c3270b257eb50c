/*
 * supervisor/scheduling/fair: who gets what share of the devices, over random loads. Costs are in device
 * seconds.
 */
#include "tests/unit/test.h"

#include <math.h>

#include "supervisor/scheduling/fair.h"
#include "supervisor/scheduling/plan.h"

enum { TRACES = 10000, MAX_ITEMS = 64 };

/* ---- chance */

static uint64_t random_state;

static uint32_t
draw(uint32_t below)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 33) % below);
}

static double
draw_cost(void)
{
	return 0.5 + draw(100) * 0.1;
}

static void
push(struct fair *f, struct fair_item *item, const char *client, int class, double cost)
{
	assert_true(fair_push(f, item, client, class, cost));
}

/* ---- shares */

/* One device, everybody always backlogged: seconds by client and class after `seconds`. */
struct backlog {
	struct fair f;
	struct fair_item items[MAX_ITEMS];
	char keys[MAX_ITEMS][FAIR_KEY];
	int classes[MAX_ITEMS];
	double used[MAX_ITEMS], largest;
	int count;
};

static void
serve_backlog(struct backlog *b, double seconds, bool wrong_predictions)
{
	for (int i = 0; i < b->count; i++)
		push(&b->f, &b->items[i], b->keys[i], b->classes[i], draw_cost());
	while (seconds > 0) {
		struct fair_item *item = fair_pick(&b->f, NULL, NULL);
		int i = (int)(item - b->items);
		double actual = wrong_predictions ? item->cost * (0.5 + draw(100) * 0.01) : item->cost;
		assert_non_null(item); /* work conserving */
		b->used[i] += actual;
		b->largest = fmax(b->largest, fmax(actual, item->cost));
		seconds -= actual;
		fair_done(&b->f, b->keys[i], b->classes[i], item->cost, actual);
		push(&b->f, item, b->keys[i], b->classes[i], draw_cost());
	}
}

static void
add(struct backlog *b, const char *key, int class)
{
	snprintf(b->keys[b->count], FAIR_KEY, "%s", key);
	b->classes[b->count++] = class;
}

/* Equal clients of one class: nobody is further behind another than two of the largest jobs, whatever was
 * predicted. */
static void
test_equal_clients_get_the_same(void **state)
{
	(void)state;
	for (int trace = 0; trace < TRACES / 10; trace++) {
		struct backlog b = {.count = 0};
		int clients = 2 + (int)draw(6);
		double least = INFINITY, most = 0;

		fair_init(&b.f);
		for (int i = 0; i < clients; i++) {
			char key[8];
			snprintf(key, sizeof(key), "c%d", i);
			add(&b, key, 1);
		}
		serve_backlog(&b, 2000, trace % 2 != 0);
		for (int i = 0; i < clients; i++) {
			least = fmin(least, b.used[i]);
			most = fmax(most, b.used[i]);
		}
		assert_true(most - least <= 2 * b.largest + 1e-6);
		fair_clear(&b.f);
	}
}

/* Three backlogged classes share by their weights to within three of the largest jobs. */
static void
test_classes_share_by_weight(void **state)
{
	static const double weights[] = {16, 4, 1};

	(void)state;
	for (int trace = 0; trace < TRACES / 20; trace++) {
		struct backlog b = {.count = 0};
		double all = 0;

		fair_init(&b.f);
		for (int k = 0; k < FAIR_CLASSES; k++)
			add(&b, "same", k);
		serve_backlog(&b, 5000, trace % 2 != 0);
		for (int k = 0; k < FAIR_CLASSES; k++)
			all += b.used[k];
		for (int k = 0; k < FAIR_CLASSES; k++)
			assert_true(fabs(b.used[k] - all * weights[k] / 21) <= 3 * b.largest);
		fair_clear(&b.f);
	}
}

/* One client with sixty jobs, four with one each: each of those is picked within a round of the others. */
static void
test_a_flooder_waits_behind_himself(void **state)
{
	(void)state;
	for (int trace = 0; trace < TRACES / 10; trace++) {
		struct fair f;
		struct fair_item items[MAX_ITEMS];
		int light = 4, served = 0, before = (int)draw(30);

		fair_init(&f);
		for (int i = 0; i < 60; i++)
			push(&f, &items[i], "flooder", 1, 1);
		for (int i = 0; i < before; i++)
			fair_pick(&f, NULL, NULL);
		for (int i = 0; i < light; i++) {
			char key[8];
			snprintf(key, sizeof(key), "l%d", i);
			push(&f, &items[60 + i], key, 1, 1);
		}
		for (int picks = 1; picks <= light + 1; picks++)
			served += fair_pick(&f, NULL, NULL) - items >= 60;
		assert_int_equal(served, light);
		fair_clear(&f);
	}
}

/* Idling gives no credit: who comes back gets its share from then on, not what it left to others. */
static void
test_no_credit_for_idling(void **state)
{
	struct fair f;
	struct fair_item items[MAX_ITEMS];
	int picked[2] = {0};

	(void)state;
	fair_init(&f);
	push(&f, &items[0], "idler", 1, 1);
	assert_ptr_equal(fair_pick(&f, NULL, NULL), &items[0]);
	fair_done(&f, "idler", 1, 1, 1);
	for (int i = 0; i < 30; i++)
		push(&f, &items[i], "worker", 1, 1);
	for (int i = 0; i < 20; i++)
		assert_non_null(fair_pick(&f, NULL, NULL));
	for (int i = 30; i < 50; i++)
		push(&f, &items[i], "idler", 1, 1);
	for (int i = 0; i < 12; i++)
		picked[fair_pick(&f, NULL, NULL) - items >= 30]++;
	assert_in_range(picked[0], 5, 7);
	assert_in_range(picked[1], 5, 7);
	fair_clear(&f);
}

/* ---- random traces */

static int shown_count;

static void
note_shown(void *arg, struct fair_item *item, const struct plan_spot *spot)
{
	struct fair_item **shown = arg;

	assert_int_equal(spot->place, shown_count + 1);
	shown[shown_count++] = item;
}

/* What is in comes out exactly once, in the order that was shown, and no account is left over. */
static void
run_trace(void)
{
	struct fair_item items[MAX_ITEMS] = {0}, *shown[MAX_ITEMS];
	bool in[MAX_ITEMS] = {false};
	struct fair f;
	int count = 0;

	fair_init(&f);
	for (int i = 0; i < 200; i++) {
		int n = (int)draw(MAX_ITEMS);
		char key[8];
		snprintf(key, sizeof(key), "k%d", n % 7);
		if (!in[n] && draw(3) > 0) {
			if (draw(5) == 0)
				assert_true(fair_push_front(&f, &items[n], key, n % 3, draw_cost()));
			else
				push(&f, &items[n], key, n % 3, draw_cost());
			in[n] = true;
			count++;
		} else if (in[n] && draw(4) == 0) {
			fair_remove(&f, &items[n]);
			in[n] = false;
			count--;
		} else if (count > 0) {
			struct fair_item *item;
			bool shows = draw(4) == 0; /* not always: it takes longer than all else */
			shown_count = 0;
			if (shows)
				assert_true(
				    plan_play(&f, &(struct plan_line){0}, 1, NULL, note_shown, shown));
			item = fair_pick(&f, NULL, NULL);
			if (shows) {
				assert_int_equal(shown_count, count);
				assert_ptr_equal(item, shown[0]);
			}
			n = (int)(item - items);
			assert_true(in[n]);
			in[n] = false;
			count--;
			snprintf(key, sizeof(key), "k%d", n % 7);
			fair_done(&f, key, n % 3, item->cost, draw_cost());
		}
		assert_int_equal(f.count, count);
	}
	while (count-- > 0)
		assert_non_null(fair_pick(&f, NULL, NULL));
	assert_null(fair_pick(&f, NULL, NULL));
	fair_clear(&f);
}

static void
test_random_traces(void **state)
{
	(void)state;
	for (int i = 0; i < TRACES; i++) {
		random_state = (uint64_t)i;
		run_trace();
	}
	print_message("%d traces\n", TRACES);
}

enum { CLIENTS = 5 };

/* One world of two: its clients are named n0 .. n4, by a permutation. */
struct named {
	struct fair f;
	struct fair_item items[MAX_ITEMS];
	const int *name_of; /* of client 0 .. 4 */
};

static const char *
key_of(const struct named *w, int client)
{
	static char key[8];

	snprintf(key, sizeof(key), "n%d", w->name_of[client]);
	return key;
}

/* The number of the item whose turn it was, done at another time than was predicted; -1: there was none. */
static int
serve_named(struct named *w, const int *clients, double actual)
{
	struct fair_item *item = fair_pick(&w->f, NULL, NULL);
	int i = item != NULL ? (int)(item - w->items) : -1;

	if (i >= 0)
		fair_done(&w->f, key_of(w, clients[i]), item->class, item->cost, actual);
	return i;
}

/* Names do not matter: the same trace with equal clients' names permuted picks the same jobs. */
static void
run_with_other_names(void)
{
	static struct named a, b;
	int names[CLIENTS] = {0, 1, 2, 3, 4}, others[CLIENTS] = {0, 1, 2, 3, 4}, clients[MAX_ITEMS], came = 0;

	for (int i = CLIENTS - 1; i > 0; i--) {
		int k = (int)draw((uint32_t)i + 1), swapped = others[i];
		others[i] = others[k];
		others[k] = swapped;
	}
	a.name_of = names;
	b.name_of = others;
	fair_init(&a.f);
	fair_init(&b.f);
	while (came < MAX_ITEMS || a.f.count > 0) {
		double cost = draw_cost();
		if (came < MAX_ITEMS && draw(5) > 1) {
			int class = (int)draw(3);
			clients[came] = (int)draw(CLIENTS);
			push(&a.f, &a.items[came], key_of(&a, clients[came]), class, cost);
			push(&b.f, &b.items[came], key_of(&b, clients[came]), class, cost);
			came++;
		} else
			assert_int_equal(serve_named(&a, clients, cost), serve_named(&b, clients, cost));
	}
	fair_clear(&a.f);
	fair_clear(&b.f);
}

static void
test_names_do_not_matter(void **state)
{
	(void)state;
	for (int trace = 0; trace < TRACES; trace++) {
		random_state = (uint64_t)trace;
		run_with_other_names();
	}
}

/* ---- admission */

static void
test_admission(void **state)
{
	static const struct fair_limits limits = {10, 4, 2, 0};
	struct fair_item items[MAX_ITEMS], *victim;
	struct fair f;

	(void)state;
	fair_init(&f);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(fair_admit(&f, &limits, "a", 1, &victim), FAIR_ADMIT);
		push(&f, &items[i], "a", 1, 1);
	}
	assert_int_equal(fair_admit(&f, &limits, "a", 1, &victim), FAIR_CLIENT_CAP);
	for (int i = 4; i < 8; i++)
		push(&f, &items[i], "b", i < 6 ? 1 : 2, 1);
	assert_int_equal(fair_admit(&f, &limits, "h", 0, &victim), FAIR_ADMIT); /* two places are reserved */
	assert_int_equal(fair_admit(&f, &limits, "c", 1, &victim), FAIR_DISPLACE);
	assert_ptr_equal(victim, &items[7]); /* the lower class goes first, the newest of it */
	fair_remove(&f, &items[7]);
	fair_remove(&f, &items[6]);
	push(&f, &items[6], "c", 1, 1);
	push(&f, &items[7], "c", 1, 1);
	assert_int_equal(fair_admit(&f, &limits, "d", 1, &victim), FAIR_DISPLACE);
	assert_ptr_equal(victim, &items[3]); /* a has the most */
	fair_remove(&f, victim);
	push(&f, &items[8], "c", 1, 1);
	assert_int_equal(
	    fair_admit(&f, &limits, "c", 1, &victim), FAIR_FULL); /* nobody has two more than c */
	assert_int_equal(fair_admit(&f, &limits, "b", 1, &victim), FAIR_FULL); /* nor than b, which has two */
	assert_int_equal(fair_admit(&f, &limits, "d", 1, &victim), FAIR_DISPLACE);
	assert_ptr_equal(victim, &items[8]); /* a and c have three each: the newest of all */
	assert_int_equal(
	    fair_admit(&f, &limits, "d", 2, &victim), FAIR_FULL); /* nobody goes for a lower class */
	fair_clear(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_equal_clients_get_the_same),
	    cmocka_unit_test(test_classes_share_by_weight),
	    cmocka_unit_test(test_a_flooder_waits_behind_himself),
	    cmocka_unit_test(test_no_credit_for_idling),
	    cmocka_unit_test(test_random_traces),
	    cmocka_unit_test(test_names_do_not_matter),
	    cmocka_unit_test(test_admission),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
