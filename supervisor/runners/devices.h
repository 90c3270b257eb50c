/*
 * The CUDA devices of this machine, as the runner's program tells them (--probe), and which runner has which.
 * Pure: no process, no clock. zitd itself is not linked with what could ask a driver.
 */
#ifndef SUPERVISOR_RUNNERS_DEVICES_H
#define SUPERVISOR_RUNNERS_DEVICES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DEVICES_MAX = 64, DEVICES_REASON = 200, GPU_UUID = 48, GPU_NAME = 128 };

struct gpu {
	char uuid[GPU_UUID]; /* "": it is not known */
	char name[GPU_NAME];
	char capability[16]; /* "9.0" */
	int64_t memory_bytes;
	char unusable[DEVICES_REASON]; /* why no runner can use it; "": one can */
};

struct devices {
	int told;		     /* how many there are */
	int count;		     /* of them here: at most DEVICES_MAX */
	char reason[DEVICES_REASON]; /* why none can be used; "": one can */
	struct gpu list[];	     /* in the order of cuda:N */
};

/* From what --probe has printed and its exit status; the caller frees it. NULL: this is no such answer, or
 * there is no memory, and *why says so. */
struct devices *devices_parse(const char *text, int exit_status, char why[DEVICES_REASON]);
/* {uuid, name, memory_bytes, compute_capability, reason (of one that cannot be used)}; a new reference. */
json_t *devices_describe(const struct gpu *gpu);

/* ---- what the option `device` says */

/* auto, cuda, cpu, ref, cuda:N, or the uuid of a device, GPU-... or MIG-... */
bool device_is_word(const char *text);
bool device_is_uuid(const char *text);
/* cpu and ref need nobody to be asked. */
bool device_is_host(const char *text);
/* Any device that nobody else has will do. */
bool device_is_any(const char *text);

/* ---- which runner has which */

enum device_choice {
	CHOICE_AS_SAID, /* what the option says goes to the process as it is, which knows why it is none */
	CHOICE_GPU,
	CHOICE_HOST,  /* auto, and there is no device for it */
	CHOICE_NOBODY /* all there are have a runner */
};

/* A runner that wants a device. */
struct device_wish {
	const char *device;	   /* the option */
	char present[GPU_UUID];	   /* what it has; "": nothing */
	bool further;		   /* not the first runner of its section: it is there for a device only */
	enum device_choice choice; /* the answer, */
	int index;		   /* and for CHOICE_GPU which one */
};

/* Answers all wishes: devices that are named first, then who has one keeps it, then in their order; no device
 * twice but one that is named twice. *unclaimed: devices that can be used and that nobody has, by bit. */
void devices_assign(const struct devices *d, struct device_wish *wishes, int count, uint64_t *unclaimed);

#endif
