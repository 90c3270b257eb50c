/*
 * What a device's sensors say, by the driver's management library (NVML), which is asked for at run time: it
 * comes with the driver, and a machine may lack it. Its functions, structures and numbers are those of
 * nvml.h; they have not changed since it has had versions.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/cuda.cuh"

enum { NVML_DONE = 0, NVML_OF_GPU = 0 /* of its temperatures */ };

typedef struct nvml_device *nvml_handle;

struct nvml_memory {
	unsigned long long total, free, used; /* bytes */
};

struct nvml_utilization {
	unsigned gpu, memory; /* percent of the time since the last look at them, at most a second */
};

struct sensors {
	void *library;
	nvml_handle handle;
	int (*shutdown)(void);
	int (*memory)(nvml_handle handle, nvml_memory *memory);
	int (*utilization)(nvml_handle handle, nvml_utilization *utilization);
	int (*temperature)(nvml_handle handle, int which, unsigned *celsius);
	int (*energy)(nvml_handle handle, unsigned long long *millijoules);
};

template <typename F>
static bool
find(void *library, const char *name, F **function)
{
	*function = (F *)dlsym(library, name);
	return *function != NULL;
}

/* A part of a device that is shared in hardware has a uuid that begins otherwise. */
static bool
find_handle(struct sensors *s, const char *uuid)
{
	int (*by_uuid)(const char *uuid, nvml_handle *handle);
	char part[DEVICE_UUID];

	snprintf(part, sizeof(part), "MIG%s", uuid + 3);
	return find(s->library, "nvmlDeviceGetHandleByUUID", &by_uuid) &&
	       (by_uuid(uuid, &s->handle) == NVML_DONE || by_uuid(part, &s->handle) == NVML_DONE);
}

static bool
open_library(struct sensors *s, const char *uuid)
{
	int (*init)(void);

	s->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (s->library == NULL || !find(s->library, "nvmlInit_v2", &init) ||
	    !find(s->library, "nvmlDeviceGetMemoryInfo", &s->memory) ||
	    !find(s->library, "nvmlDeviceGetUtilizationRates", &s->utilization) ||
	    !find(s->library, "nvmlDeviceGetTemperature", &s->temperature) ||
	    !find(s->library, "nvmlDeviceGetTotalEnergyConsumption", &s->energy) || init() != NVML_DONE)
		return false;
	return find(s->library, "nvmlShutdown", &s->shutdown) && find_handle(s, uuid);
}

void
cuda_sensors_close(struct sensors **out)
{
	struct sensors *s = *out;

	if (s == NULL)
		return;
	if (s->shutdown != NULL)
		s->shutdown();
	if (s->library != NULL)
		dlclose(s->library);
	free(s);
	*out = NULL;
}

/* NULL when the library is not here, or does not know the device. */
static struct sensors *
open_sensors(const char *uuid)
{
	struct sensors *s = (struct sensors *)calloc(1, sizeof(*s));

	if (s != NULL && !open_library(s, uuid))
		cuda_sensors_close(&s);
	return s;
}

bool
cuda_sensors_read(struct device *d, struct device_readings *r)
{
	struct cuda_device *c = (struct cuda_device *)d;
	struct sensors *s = c->sensors != NULL ? c->sensors : open_sensors(c->uuid);
	nvml_utilization utilization;
	unsigned long long millijoules;
	nvml_memory memory;
	unsigned celsius;

	c->sensors = s;
	if (s == NULL)
		return false;
	*r = {-1, -1, -1, -1};
	if (s->memory(s->handle, &memory) == NVML_DONE)
		r->memory_used_bytes = (double)memory.used;
	if (s->utilization(s->handle, &utilization) == NVML_DONE)
		r->utilization = utilization.gpu * 0.01;
	if (s->temperature(s->handle, NVML_OF_GPU, &celsius) == NVML_DONE)
		r->temperature_celsius = celsius;
	if (s->energy(s->handle, &millijoules) == NVML_DONE)
		r->energy_joules = (double)millijoules * 1e-3;
	return true;
}
