/*
 * zit-runner --probe: which devices there are, for zitd, which is not linked with their libraries.
 */
#include "runner/probe.h"

#include <jansson.h>
#include <stdio.h>

#include "ipc/err.h"
#include "kernels/ops.h"

enum { MAX_DEVICES = 64 };

static json_t *
describe(const struct device_info *d)
{
	char device[16], capability[16];

	snprintf(device, sizeof(device), "cuda:%d", d->index);
	snprintf(capability, sizeof(capability), "%d.%d", d->major, d->minor);
	return json_pack("{s:s,s:s,s:s,s:I,s:s,s:s*}", "device", device, "uuid", d->uuid, "name", d->name,
	    "memory_bytes", (json_int_t)d->memory_bytes, "compute_capability", capability, "reason",
	    d->unusable[0] != '\0' ? d->unusable : NULL);
}

/* Else *why is the first one's reason. */
static bool
any_can_be_used(const struct device_info *list, int count, char *why, size_t why_size)
{
	for (int i = 0; i < count; i++) {
		if (list[i].unusable[0] == '\0')
			return true;
	}
	if (count > 0)
		snprintf(why, why_size, "%s", list[0].unusable);
	return false;
}

int
probe_print(void)
{
	struct device_info list[MAX_DEVICES];
	char why[200];
	int count = device_list("cuda", list, MAX_DEVICES, why, sizeof(why));
	bool usable = any_can_be_used(list, count, why, sizeof(why));
	json_t *devices = json_array(), *answer = json_pack("{s:o}", "devices", devices);

	for (int i = 0; i < count; i++)
		json_array_append_new(devices, describe(&list[i]));
	if (!usable)
		json_object_set_new(answer, "reason", json_string(why));
	json_dumpf(answer, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(answer);
	return usable ? RUNNER_EXIT_OK : RUNNER_EXIT_NO_DEVICE;
}
