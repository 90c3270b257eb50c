/*
 * A device's first failure as an error of ours.
 */
#include "runner/fault.h"

int
fault_check(struct device *d, struct err *e)
{
	static const enum err_code codes[] = {[DEVICE_OUT_OF_MEMORY] = ERR_OUT_OF_MEMORY,
	    [DEVICE_POISONED] = ERR_POISONED,
	    [DEVICE_INTERNAL] = ERR_INTERNAL,
	    [DEVICE_BUSY] = ERR_INTERNAL}; /* not after opening */
	int fault = device_ops(d)->sync(d);

	return fault == DEVICE_OK ? 0 : err_set(e, codes[fault], "%s", device_error(d));
}
