/*
 * What backends share inside kernels/: the device's head, and the table of backends. Not for model code.
 */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include "kernels/ops.h"

enum { DEVICE_TEXT = 200 };

/* The first member of every backend's own struct. */
struct device {
	const struct ops *ops;
	enum dtype act_type;
	enum precision precision; /* F32 or BF16 */
	char name[DEVICE_TEXT];
	uint64_t allocations;	   /* of device memory, so far */
	void (*worked)(void *arg); /* see device_watch; NULL: nobody wants to know */
	void *worked_arg;
	bool warms_up, searches; /* see device_warms_up, device_searches */
	enum device_fault fault; /* the first failure, or DEVICE_OK; later operations do nothing */
	char error[DEVICE_TEXT];
	uint64_t (*free_bytes)(struct device *d);		   /* NULL: it is the host's memory */
	void (*settle)(struct device *d);			   /* ends its searches; NULL: it has none */
	bool (*read)(struct device *d, struct device_readings *r); /* see device_read; NULL: no sensors */
	void (*close)(struct device *d);			   /* frees everything, d itself too */
};

/* Remembers a failure unless there was one before. */
void device_fail(struct device *d, enum device_fault fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A part of an operation is done. */
static inline void
device_worked(const struct device *d)
{
	if (d->worked != NULL)
		d->worked(d->worked_arg);
}

/* As device_open and device_list. */
typedef int device_opener(
    struct device **d, const struct device_options *options, char *why, size_t why_size);
typedef int device_lister(struct device_info *list, int max, char *why, size_t why_size);

device_opener ref_open, cpu_open, cuda_open;
device_lister cuda_list;

#endif
