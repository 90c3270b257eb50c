/*
 * Opening a backend by name, and what can be asked of any of them.
 */
#include "kernels/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	device_opener *open;
	device_lister *list; /* NULL: there is one, the host */
} backends[] = {
    {"ref", ref_open, NULL},
    {"cpu", cpu_open, NULL},
#ifdef ZIT_CUDA
    {"cuda", cuda_open, cuda_list},
#endif
};

enum { BACKEND_COUNT = sizeof(backends) / sizeof(backends[0]) };

int
device_open(
    struct device **d, const char *backend, const struct device_options *options, char *why, size_t why_size)
{
	for (size_t i = 0; i < BACKEND_COUNT; i++) {
		if (strcmp(backends[i].name, backend) == 0)
			return backends[i].open(d, options, why, why_size);
	}
	snprintf(why, why_size, "this build has no backend '%s'", backend);
	return -1;
}

int
device_list(const char *backend, struct device_info *list, int max, char *why, size_t why_size)
{
	for (size_t i = 0; i < BACKEND_COUNT; i++) {
		if (strcmp(backends[i].name, backend) == 0 && backends[i].list != NULL)
			return backends[i].list(list, max, why, why_size);
	}
	snprintf(why, why_size, "this build has no devices of backend '%s'", backend);
	return -1;
}

void
device_close(struct device **d)
{
	if (*d != NULL)
		(*d)->close(*d);
	*d = NULL;
}

void
device_fail(struct device *d, enum device_fault fault, const char *format, ...)
{
	va_list arguments;

	if (d->fault != DEVICE_OK)
		return;
	d->fault = fault;
	va_start(arguments, format);
	vsnprintf(d->error, sizeof(d->error), format, arguments);
	va_end(arguments);
}

const struct ops *
device_ops(const struct device *d)
{
	return d->ops;
}

enum dtype
device_act_type(const struct device *d)
{
	return d->act_type;
}

enum precision
device_precision(const struct device *d)
{
	return d->precision;
}

const char *
device_name(const struct device *d)
{
	return d->name;
}

uint64_t
device_allocations(const struct device *d)
{
	return d->allocations;
}

uint64_t
device_free_bytes(struct device *d)
{
	return d->free_bytes != NULL ? d->free_bytes(d) : 0;
}

bool
device_warms_up(const struct device *d)
{
	return d->warms_up;
}

bool
device_searches(const struct device *d)
{
	return d->searches;
}

bool
device_read(struct device *d, struct device_readings *r)
{
	return d->read != NULL && d->read(d, r);
}

void
device_settle(struct device *d)
{
	d->searches = false;
	if (d->settle != NULL)
		d->settle(d);
}

void
device_watch(struct device *d, void (*worked)(void *arg), void *arg)
{
	d->worked = worked;
	d->worked_arg = arg;
}

const char *
device_error(const struct device *d)
{
	return d->error;
}
