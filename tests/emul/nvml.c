/*
 * The driver's management library in a test's place: one device, that of the emulated runtime, whose sensors
 * say what cannot be mistaken; the one for energy is not there. The functions are NVML's, from its
 * documentation.
 */
#include <string.h>

enum { DONE = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6 };

struct memory {
	unsigned long long total, free, used;
};

struct utilization {
	unsigned gpu, memory;
};

static int initialized;

int
nvmlInit_v2(void)
{
	initialized++;
	return DONE;
}

int
nvmlShutdown(void)
{
	initialized--;
	return DONE;
}

int
nvmlDeviceGetHandleByUUID(const char *uuid, void **handle)
{
	if (initialized != 1 || strcmp(uuid, "GPU-00112233-4455-6677-8899-aabbccddee00") != 0)
		return NOT_FOUND;
	*handle = &initialized;
	return DONE;
}

int
nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory)
{
	*memory = (struct memory){1000, 300, 700};
	return handle == &initialized ? DONE : NOT_FOUND;
}

int
nvmlDeviceGetUtilizationRates(void *handle, struct utilization *utilization)
{
	*utilization = (struct utilization){25, 99};
	return handle == &initialized ? DONE : NOT_FOUND;
}

int
nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius)
{
	*celsius = sensor == 0 ? 61 : 0;
	return handle == &initialized ? DONE : NOT_FOUND;
}

int
nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules)
{
	(void)handle;
	*millijoules = 5;
	return NOT_SUPPORTED;
}
