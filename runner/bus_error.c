/*
 * The end of a process that reads a checkpoint's mapped file which is not there any more.
 */
#include "runner/bus_error.h"

#include <signal.h>
#include <unistd.h>

#include "ipc/err.h"
#include "runner/safetensors.h"

static struct status_page *last_page;

static void
on_bus_error(int number, siginfo_t *info, void *context)
{
	const struct safetensors *file = safetensors_at(info->si_addr);

	(void)context;
	if (file == NULL) {
		signal(number, SIG_DFL); /* it is raised again where it was */
		return;
	}
	shm_last_words(last_page, file->lost.text);
	_exit(RUNNER_EXIT_WEIGHTS);
}

void
bus_error_watch(struct status_page *page)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	last_page = page;
	sigaction(SIGBUS, &action, NULL);
}
