/*
 * supervisor/scheduling/fair: what must hold over any load, by random traces. Each is a device or two, some
 * clients in some classes, jobs that come by chance and take another time than was predicted.
 */
#include "tests/unit/test.h"

#include <math.h>

#include "supervisor/scheduling/fair.h"

enum { TRACES = 10000, MAX_FLOWS = 12, MAX_JOBS = 400 };

static uint64_t random_state;

static uint32_t
draw(uint32_t below)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 33) % below);
}

/* What one client has in one class. */
struct flow {
	char key[16];
	int class;
	double served; /* device seconds of its jobs that were picked, as they really were */
	int waiting;
};

struct job {
	struct fair_item item;
	int flow;
	double actual;
	double came_s, mine_s; /* in device seconds served in all, and in those of its flow */
};

struct trace {
	struct fair fair;
	struct flow flows[MAX_FLOWS];
	struct job jobs[MAX_JOBS];
	int flow_count, job_count;
	double served, largest;
	double weights[MAX_FLOWS]; /* of clients, by number */
	bool lies;		   /* predictions are wrong */
};

static void
introduce(void *arg, struct fair_client *c)
{
	const struct trace *t = arg;

	c->weight = t->weights[atoi(c->key + 1)];
}

static void
begin(struct trace *t, uint32_t seed)
{
	memset(t, 0, sizeof(*t));
	random_state = seed;
	t->lies = draw(2) != 0;
	t->flow_count = 2 + (int)draw(MAX_FLOWS - 2);
	fair_init(&t->fair);
	for (int i = 0; i < MAX_FLOWS; i++)
		t->weights[i] = 1 + draw(4);
	fair_introduce(&t->fair, introduce, t);
	for (int i = 0; i < t->flow_count; i++) {
		snprintf(t->flows[i].key, sizeof(t->flows[i].key), "c%d", i / 2);
		t->flows[i].class = (int)draw(FAIR_CLASSES);
		for (int k = 0; k < i; k++) { /* no flow twice */
			if (i / 2 == k / 2 && t->flows[i].class == t->flows[k].class)
				t->flows[i].class = (t->flows[k].class + 1) % FAIR_CLASSES;
		}
	}
}

static void
submit(struct trace *t, int flow)
{
	struct job *job = &t->jobs[t->job_count++];
	double cost = 0.5 + draw(100) * 0.1;

	job->flow = flow;
	job->actual = t->lies ? cost * (0.5 + draw(100) * 0.01) : cost;
	job->came_s = t->served;
	job->mine_s = t->flows[flow].served;
	t->largest = fmax(t->largest, fmax(cost, job->actual));
	assert_true(fair_push(&t->fair, &job->item, t->flows[flow].key, t->flows[flow].class, cost));
	t->flows[flow].waiting++;
}

/* The next one runs to its end; NULL: none waits. */
static struct job *
serve(struct trace *t)
{
	struct fair_item *item = fair_pick(&t->fair, NULL, NULL);
	struct job *job = (struct job *)item;
	struct flow *flow;

	if (job == NULL)
		return NULL;
	flow = &t->flows[job->flow];
	flow->waiting--;
	flow->served += job->actual;
	t->served += job->actual;
	fair_done(&t->fair, flow->key, flow->class, item->cost, job->actual);
	return job;
}

/* ---- work conserving, and no starvation */

static const double class_weights[FAIR_CLASSES] = {16, 4, 1};

/* What all classes together weigh against that of the flow, and all clients of its class against its own,
 * when all have jobs. */
static void
weigh(const struct trace *t, const struct flow *of, double *classes, double *clients)
{
	bool counted[FAIR_CLASSES] = {false};

	*classes = *clients = 0;
	for (int i = 0; i < t->flow_count; i++) {
		int k = t->flows[i].class;
		*classes += counted[k] ? 0 : class_weights[k] / class_weights[of->class];
		counted[k] = true;
		*clients += k == of->class ? t->weights[i / 2] / t->weights[atoi(of->key + 1)] : 0;
	}
}

/* Whoever waits is served when a device is free. And nobody waits for longer than the weights say: while it
 * waits a class gets its share of what is served, to one job of its own and one of each other, and a client
 * its share of that likewise. The half of the traces in which one flow sends most is where that bites. */
static void
run_to_the_end(uint32_t seed)
{
	static struct trace t;
	struct job *job;
	int waiting = 0;
	bool flooded;

	begin(&t, seed);
	flooded = draw(2) != 0;
	while (t.job_count < MAX_JOBS || waiting > 0) {
		double classes, clients, bound;
		if (t.job_count < MAX_JOBS && draw(3) > 0) {
			submit(&t, flooded && draw(8) > 0 ? 0 : (int)draw((uint32_t)t.flow_count));
			waiting++;
			continue;
		}
		job = serve(&t);
		assert_true((job != NULL) == (waiting > 0));
		if (job == NULL)
			continue;
		waiting--;
		weigh(&t, &t.flows[job->flow], &classes, &clients);
		bound = t.flows[job->flow].served - job->mine_s; /* itself, and those before it in its line */
		bound = clients * (bound + t.largest) + t.largest * t.flow_count;
		bound = classes * (bound + t.largest) + t.largest * FAIR_CLASSES;
		if (t.served - job->came_s > bound)
			fail_msg("seed %u: a job of client %s in class %d was done after %.1f s of service, "
				 "%.1f s "
				 "are its share",
			    seed, t.flows[job->flow].key, t.flows[job->flow].class, t.served - job->came_s,
			    bound);
	}
	assert_int_equal(t.fair.count, 0);
	assert_true(fabs(t.fair.waiting) < 1e-9);
	fair_clear(&t.fair);
}

static void
test_work_conserving_and_no_starvation(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < TRACES; seed++)
		run_to_the_end(seed);
}

/* ---- shares */

/* How far two that both wait all the time are apart, in service by weight, against a job of each. */
static double
apart(double x_s, double x_weight, double y_s, double y_weight, double largest)
{
	return fabs(x_s / x_weight - y_s / y_weight) / (largest / x_weight + largest / y_weight);
}

static double worst_clients, worst_classes;

static void
check_shares(const struct trace *t)
{
	double class_s[FAIR_CLASSES] = {0};
	bool has[FAIR_CLASSES] = {false};

	for (int i = 0; i < t->flow_count; i++) {
		const struct flow *x = &t->flows[i];
		class_s[x->class] += x->served;
		has[x->class] = true;
		for (int k = 0; k < i; k++) {
			const struct flow *y = &t->flows[k];
			if (x->class == y->class)
				worst_clients =
				    fmax(worst_clients, apart(x->served, t->weights[i / 2], y->served,
							    t->weights[k / 2], t->largest));
		}
	}
	for (int x = 0; x < FAIR_CLASSES; x++) {
		for (int y = 0; y < x; y++) {
			if (has[x] && has[y])
				worst_classes =
				    fmax(worst_classes, apart(class_s[x], class_weights[x], class_s[y],
							    class_weights[y], t->largest));
		}
	}
}

/* From some moment on all wait without a break. Then at no time are two clients of a class, or two classes,
 * further apart in service by weight than a job of each: nobody is below its share by more. What was before
 * does not matter: those who idled have no credit for it. Classes begin with up to a job's worth more, which
 * is what the lowest gets back for its first turn. */
static void
run_backlogged(uint32_t seed)
{
	static struct trace t;
	double idle_s;

	begin(&t, seed);
	idle_s = 100 + draw(5000); /* one of them alone, for long */
	while (t.served < idle_s) {
		t.job_count = 0;
		submit(&t, 0);
		assert_non_null(serve(&t));
	}
	t.job_count = 0;
	for (int i = 0; i < t.flow_count; i++) {
		submit(&t, i);
		submit(&t, i);
		t.flows[i].served = 0;
	}
	for (int n = 0; n < 500; n++) {
		struct job *job = serve(&t);
		int flow = job->flow;
		/* Its memory serves the next one of its flow. */
		double cost = 0.5 + draw(100) * 0.1;
		job->actual = t.lies ? cost * (0.5 + draw(100) * 0.01) : cost;
		t.largest = fmax(t.largest, fmax(cost, job->actual));
		assert_true(fair_push(&t.fair, &job->item, t.flows[flow].key, t.flows[flow].class, cost));
		t.flows[flow].waiting++;
		check_shares(&t);
	}
	if (worst_clients > 1 || worst_classes > 2)
		fail_msg(
		    "seed %u: clients are %.2f jobs apart, classes %.2f", seed, worst_clients, worst_classes);
	fair_clear(&t.fair);
}

static void
test_shares_and_no_credit_for_idling(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < TRACES; seed++)
		run_backlogged(seed);
	print_message(
	    "most apart: clients %.3f of a job of each, classes %.3f\n", worst_clients, worst_classes);
}

/* Who may not run for a while, by a pause say, has no credit for it either. */
static void
is_not_paused_before(const struct trace *t, int flow, double *paused_s, double *other_s)
{
	*paused_s = t->flows[flow].served;
	*other_s = t->served - *paused_s;
}

static int paused_flow;

static bool
may_run(void *arg, const struct fair_item *item)
{
	(void)arg;
	return ((const struct job *)item)->flow != paused_flow;
}

static void
test_no_credit_for_being_paused(void **state)
{
	static struct trace t;

	(void)state;
	for (uint32_t seed = 0; seed < TRACES / 10; seed++) {
		double paused_s, other_s;
		begin(&t, seed);
		t.lies = false;
		for (int i = 0; i < 2; i++) {
			snprintf(t.flows[i].key, sizeof(t.flows[i].key), "c%d", i);
			t.flows[i].class = (int)(seed % 2) * i; /* the same class, or two */
			t.weights[i] = 1;
		}
		for (int i = 0; i < 100; i++)
			submit(&t, i % 2);
		paused_flow = 1;
		for (int i = 0; i < 40; i++) {
			struct fair_item *item = fair_pick(&t.fair, may_run, NULL);
			fair_done(&t.fair, t.flows[0].key, t.flows[0].class, item->cost, item->cost);
			t.flows[0].waiting--;
		}
		for (int i = 0; i < 100; i++)
			submit(&t, 0);
		t.served = 0;
		while (t.flows[0].waiting > 5 && t.flows[1].waiting > 5)
			serve(&t);
		is_not_paused_before(&t, 1, &paused_s, &other_s);
		if (seed % 2 == 0)
			assert_true(fabs(paused_s - other_s) <= 3 * t.largest);
		else /* classes 16 : 4 */
			if (fabs(4 * paused_s - other_s) > 12 * t.largest)
				fail_msg("seed %u: paused %g other %g", seed, paused_s, other_s);
		fair_clear(&t.fair);
	}
}

/* ---- accounts */

/* After all is done, what an account has been charged since it began to wait is what its jobs took. */
static void
test_accounts_are_actual_costs(void **state)
{
	static struct trace t;

	(void)state;
	for (uint32_t seed = 0; seed < TRACES; seed++) {
		double class_s[FAIR_CLASSES] = {0};
		begin(&t, seed);
		for (int i = 0; i < 100; i++)
			submit(&t, i % t.flow_count);
		for (int i = 0; i < t.flow_count; i++) /* so that none is forgotten */
			submit(&t, i);
		for (int n = 0; n < 100; n++)
			assert_non_null(serve(&t));
		for (int i = 0; i < t.flow_count; i++) {
			const struct flow *flow = &t.flows[i];
			const struct fair_account *a =
			    &fair_find_client(&t.fair, flow->key)->accounts[flow->class];
			class_s[flow->class] += flow->served;
			if (flow->served > 0) /* it began with a head start of an eighth of a job */
				assert_true(
				    fabs(a->finish * t.weights[i / 2] - flow->served) <= t.largest / 8);
		}
		for (int k = 0; k < FAIR_CLASSES; k++) {
			if (class_s[k] > 0)
				assert_true(fabs(t.fair.classes[k].finish * t.fair.classes[k].weight -
						 class_s[k]) <= t.largest);
		}
		fair_clear(&t.fair);
	}
}

/* ---- restart */

static int
by_order(const void *a, const void *b)
{
	const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;

	return (x->item.order > y->item.order) - (x->item.order < y->item.order);
}

/* All of the accounts through JSON, all that waits pushed again. */
static void
restart(struct trace *t)
{
	json_t *dump = fair_dump(&t->fair);
	char *text = json_dumps(dump, JSON_REAL_PRECISION(17));
	struct job *waiting[MAX_JOBS];
	int count = 0;

	for (int i = 0; i < t->job_count; i++) {
		if (t->jobs[i].item.client != NULL)
			waiting[count++] = &t->jobs[i];
	}
	json_decref(dump);
	fair_clear(&t->fair);
	dump = json_loads(text, 0, NULL);
	if (!fair_restore(&t->fair, dump))
		fail_msg("not taken: %s", text);
	qsort(waiting, (size_t)count, sizeof(waiting[0]), by_order);
	for (int i = 0; i < count; i++) {
		const struct flow *flow = &t->flows[waiting[i]->flow];
		assert_true((waiting[i]->item.held ? fair_hold_again : fair_push_again)(
		    &t->fair, &waiting[i]->item, flow->key, flow->class, waiting[i]->item.cost));
	}
	json_decref(dump);
	free(text);
}

/* One of those that wait, or are held. */
static void
hold_or_release(struct trace *t)
{
	struct fair_item *item = &t->jobs[draw((uint32_t)t->job_count)].item;

	if (item->client != NULL)
		(item->held ? fair_release : fair_hold)(&t->fair, item);
}

static void
release_all(struct trace *t)
{
	for (int i = 0; i < t->job_count; i++) {
		if (t->jobs[i].item.client != NULL && t->jobs[i].item.held)
			fair_release(&t->fair, &t->jobs[i].item);
	}
}

/* Which jobs are picked, one after the other; at `restart_at` everything is restarted. */
static int
run_and_note(uint32_t seed, int restart_at, int picks[MAX_JOBS])
{
	static struct trace t;
	bool holds = seed % 2 == 1; /* not both: in front of one that is held there may be a tie with it */
	int count = 0;

	begin(&t, seed);
	for (int n = 0; n < 150; n++) {
		if (n == restart_at)
			restart(&t);
		if (draw(5) > 1) {
			submit(&t, (int)draw((uint32_t)t.flow_count));
			if (!holds && draw(8) == 0) { /* to the front */
				struct job *job = &t.jobs[t.job_count - 1];
				const struct flow *flow = &t.flows[job->flow];
				fair_remove(&t.fair, &job->item);
				assert_true(fair_push_front(
				    &t.fair, &job->item, flow->key, flow->class, job->item.cost));
			}
			if (holds && draw(6) == 0)
				hold_or_release(&t);
		} else {
			struct job *job = serve(&t);
			picks[count++] = job != NULL ? (int)(job - t.jobs) : -1;
		}
	}
	release_all(&t);
	for (struct job *job; (job = serve(&t)) != NULL;)
		picks[count++] = (int)(job - t.jobs);
	fair_clear(&t.fair);
	return count;
}

static void
test_restart_changes_nothing(void **state)
{
	int undisturbed[MAX_JOBS], restarted[MAX_JOBS];

	(void)state;
	for (uint32_t seed = 0; seed < TRACES; seed++) {
		int count = run_and_note(seed, -1, undisturbed);
		assert_int_equal(run_and_note(seed, 20 + (int)(seed % 120), restarted), count);
		for (int i = 0; i < count; i++) {
			if (undisturbed[i] != restarted[i])
				fail_msg("seed %u: pick %d is job %d, undisturbed it is %d", seed, i,
				    restarted[i], undisturbed[i]);
		}
	}
}

static void
test_a_wrong_dump_changes_nothing(void **state)
{
	static const char *const bad[] = {"{}", "[]", "{\"v\":1,\"classes\":[],\"clients\":[]}",
	    "{\"v\":1,\"classes\":[1,2,3],\"clients\":[]}",
	    "{\"v\":\"1\",\"classes\":[{\"v\":0,\"finish\":0,\"consolation\":0,\"floor\":null},{\"v\":0,"
	    "\"finish\":0,\"consolation\":0,\"floor\":null},{\"v\":0,\"finish\":0,\"consolation\":0,"
	    "\"floor\":"
	    "null}],\"clients\":[]}"};
	struct fair f;

	(void)state;
	fair_init(&f);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *dump = json_loads(bad[i], 0, NULL);
		assert_non_null(dump);
		assert_false(fair_restore(&f, dump));
		assert_true(f.v == 0 && TAILQ_EMPTY(&f.clients));
		json_decref(dump);
	}
	fair_clear(&f);
}

/* ---- holding */

/* A held item has no turn, keeps its place, and comes back to where it was in its line. */
static void
test_holding(void **state)
{
	static const struct fair_limits limits = {4, 4, 0, 0};
	struct fair_item items[4], *victim;
	struct fair f;

	(void)state;
	fair_init(&f);
	for (int i = 0; i < 4; i++)
		assert_true(fair_push(&f, &items[i], "a", 1, 1));
	fair_hold(&f, &items[1]);
	fair_hold(&f, &items[0]);
	assert_int_equal(f.count, 2);
	assert_int_equal(fair_admit(&f, &limits, "a", 1, &victim), FAIR_FULL);
	assert_ptr_equal(fair_pick(&f, NULL, NULL), &items[2]);
	fair_release(&f, &items[1]);
	assert_ptr_equal(fair_pick(&f, NULL, NULL), &items[1]);
	fair_remove(&f, &items[0]);
	assert_int_equal(f.held, 0);
	assert_ptr_equal(fair_pick(&f, NULL, NULL), &items[3]);
	fair_clear(&f);
}

static void
test_low_gives_up_places(void **state)
{
	static const struct fair_limits limits = {10, 10, 0, 2};
	struct fair_item items[2], *victim;
	struct fair f;

	(void)state;
	fair_init(&f);
	for (int i = 0; i < 2; i++)
		assert_true(fair_push(&f, &items[i], "a", 2, 1));
	assert_int_equal(fair_admit(&f, &limits, "b", 2, &victim), FAIR_FULL);
	assert_int_equal(fair_admit(&f, &limits, "b", 1, &victim), FAIR_ADMIT);
	fair_clear(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_work_conserving_and_no_starvation),
	    cmocka_unit_test(test_shares_and_no_credit_for_idling),
	    cmocka_unit_test(test_no_credit_for_being_paused),
	    cmocka_unit_test(test_accounts_are_actual_costs),
	    cmocka_unit_test(test_restart_changes_nothing),
	    cmocka_unit_test(test_a_wrong_dump_changes_nothing),
	    cmocka_unit_test(test_holding),
	    cmocka_unit_test(test_low_gives_up_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
