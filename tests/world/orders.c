/*
 * Orders about jobs: who gave one hears that it is done when it is on disk, or that the disk takes nothing.
 */
#include "tests/world/world.h"

enum { MAX_ORDERS = 64 };

static struct order {
	uint64_t number;
	int64_t revision, change;
} orders[MAX_ORDERS]; /* not answered yet */
static int order_count;

void
book_order(const struct job *job)
{
	if (job == NULL || !job->durable || order_count == MAX_ORDERS)
		return;
	orders[order_count++] = (struct order){job->number, job->revision, daemon_change(run.daemon)};
	daemon_changed(run.daemon);
}

static bool
is_kept(const struct daemon *d, const struct order *o)
{
	if (o->change > daemon_saved_change(d))
		return false;
	if (shelved_revision(o->number) < o->revision)
		violated("job number %llu: an order is acknowledged, and not on disk",
		    (unsigned long long)o->number);
	return true;
}

void
acks_send(struct daemon *d)
{
	int left = 0;

	for (int i = 0; i < order_count; i++) {
		if (!is_kept(d, &orders[i]) && daemon_store_error(d) == 0)
			orders[left++] = orders[i];
	}
	order_count = left;
}

void
audit_orders(bool all_is_saved)
{
	if (order_count > 0 && all_is_saved)
		violated("all is on disk, and an order is not answered");
}

void
forget_orders(void)
{
	order_count = 0;
}
