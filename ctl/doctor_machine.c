/*
 * Checks of zitctl doctor about the machine: systemd's view, memory, disk, limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/doctor.h"
#include "ctl/output.h"
#include "ctl/program.h"

#define MIB (1024 * 1024LL)

/* ---- systemd */

/* The value of "KEY=value" in what systemctl show printed; "" when it is not there. */
static void
property(const char *text, const char *key, char *out, size_t size)
{
	size_t length = strlen(key);

	out[0] = '\0';
	for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) == 0 && line[length] == '=') {
			line += length + 1;
			snprintf(out, size, "%.*s", (int)strcspn(line, "\n"), line);
			return;
		}
	}
}

static void
judge_unit(struct doctor *d, const char *text)
{
	char load[32], active[32], result[32], restarts[16];

	property(text, "LoadState", load, sizeof(load));
	property(text, "ActiveState", active, sizeof(active));
	property(text, "Result", result, sizeof(result));
	property(text, "NRestarts", restarts, sizeof(restarts));
	if (strcmp(load, "loaded") != 0)
		doctor_find(d, DOCTOR_NOTE,
		    "install the package, or conf/zitd.service, to have it started with the machine", NULL,
		    "there is no zitd.service (%s)", load);
	else if (strcmp(active, "failed") == 0)
		doctor_find(d, DOCTOR_WRONG,
		    "'zitctl logs -n 50' says why; then 'systemctl reset-failed zitd' and 'systemctl start "
		    "zitd'",
		    NULL, "zitd.service has failed: %s", result);
	else if (strcmp(active, "active") != 0 && d->status == NULL)
		doctor_find(
		    d, DOCTOR_WRONG, "'systemctl start zitd' starts it", NULL, "zitd.service is %s", active);
	else if (strcmp(active, "active") != 0)
		doctor_find(d, DOCTOR_NOTE, NULL, NULL,
		    "zitd.service is %s: the zitd that answers is another", active);
	else if (strtol(restarts, NULL, 10) > 0)
		doctor_find(d, DOCTOR_NOTE, "'zitctl logs -n 200' says why it ended", NULL,
		    "zitd.service is active, after %s restarts by systemd", restarts);
	else
		doctor_find(d, DOCTOR_OK, NULL, NULL, "zitd.service is active");
}

void
check_unit(struct doctor *d)
{
	char *const argv[] = {
	    "systemctl", "show", "zitd", "--property=LoadState,ActiveState,Result,NRestarts", NULL};
	char text[1024];
	int status;

	if (access("/run/systemd/system", F_OK) != 0)
		doctor_find(d, DOCTOR_SKIPPED, NULL, NULL, "systemd does not run here");
	else if (program_run(argv, 5, text, sizeof(text), &status) != 0 || !WIFEXITED(status) ||
		 WEXITSTATUS(status) != 0)
		doctor_find(d, DOCTOR_SKIPPED, NULL, NULL, "systemctl does not say");
	else
		judge_unit(d, text);
}

/* ---- memory */

/* Bytes of a line of /proc/meminfo; -1 when it is not there. */
static long long
meminfo(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	long long kib = -1;

	while (file != NULL && kib < 0 && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, name, strlen(name)) == 0)
			kib = strtoll(line + strlen(name) + 1, NULL, 10);
	}
	if (file != NULL)
		fclose(file);
	return kib >= 0 ? kib * 1024 : -1;
}

/* Weights on a GPU are in its memory, and its driver knows whether they fit. */
static bool
is_on_cpu(const json_t *runner)
{
	return json_object_get(runner, "gpu") == NULL &&
	       strncmp(output_text(runner, "device"), "cuda", 4) != 0;
}

void
check_memory(struct doctor *d)
{
	long long total = meminfo("MemTotal"), available = meminfo("MemAvailable"), largest = 0;
	bool serves = strcmp(output_text(d->status, "state"), "ready") == 0;
	size_t i;
	json_t *runner;

	json_array_foreach(json_object_get(d->status, "runners"), i, runner)
	{
		char dir[PATH_MAX];
		long long bytes;
		doctor_path(d, output_text(runner, "model_dir"), dir);
		bytes = is_on_cpu(runner) ? doctor_weigh_model(NULL, dir) : 0;
		largest = bytes > largest ? bytes : largest;
	}
	if (d->status == NULL)
		doctor_find(d, DOCTOR_SKIPPED, NULL, NULL, "zitd does not answer, so its model is not known");
	else if (largest > total)
		doctor_find(d, DOCTOR_WRONG, "use a machine with more memory, a GPU, or a smaller model",
		    NULL, "the model has %lld MiB, the machine %lld MiB of memory", largest / MIB,
		    total / MIB);
	else if (!serves && largest > available)
		doctor_find(d, DOCTOR_NOTE, "'ps aux --sort=-rss | head' shows what uses it", NULL,
		    "the model has %lld MiB, and %lld MiB of %lld MiB are free", largest / MIB,
		    available / MIB, total / MIB);
	else
		doctor_find(
		    d, DOCTOR_OK, NULL, NULL, "%lld MiB of %lld MiB are free", available / MIB, total / MIB);
}

/* ---- disk */

/* Below these a picture, or a transaction, may not find room any more; and below those that is near. */
enum { WRONG_MIB = 32, NOTE_MIB = 512, WRONG_INODES = 100, NOTE_INODES = 1000 };

void
check_disk(struct doctor *d)
{
	const char *told = output_text(d->status, "paths.state_dir");
	char dir[PATH_MAX];
	struct statvfs fs;
	long long free_mib;
	bool counts_inodes;
	enum doctor_level level;

	doctor_path(d, *told != '\0' ? told : "/var/lib/zit", dir);
	if (statvfs(dir, &fs) != 0) {
		doctor_find(
		    d, DOCTOR_SKIPPED, NULL, NULL, "%s cannot be looked at: %s", dir, strerror(errno));
		return;
	}
	free_mib = (long long)fs.f_bavail * (long long)fs.f_frsize / MIB;
	counts_inodes = fs.f_files > 0;
	level = free_mib < WRONG_MIB || (counts_inodes && fs.f_favail < WRONG_INODES) ? DOCTOR_WRONG
		: free_mib < NOTE_MIB || (counts_inodes && fs.f_favail < NOTE_INODES) ? DOCTOR_NOTE
										      : DOCTOR_OK;
	doctor_find(d, level,
	    level != DOCTOR_OK
		? "make room ('du -x % | sort -n | tail' shows what takes it), or set 'retention' and "
		  "'budget' in [results] of zitd.conf lower and 'zitctl reload'"
		: NULL,
	    dir, "%s has %lld MiB and %lld inodes free", dir, free_mib,
	    counts_inodes ? (long long)fs.f_favail : -1);
}

/* ---- limits */

/* The soft limit of open files of a process; -1 when it cannot be read. */
static long long
files_of(json_int_t pid)
{
	char path[64], line[160];
	long long limit = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%lld/limits", (long long)pid);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, "Max open files", 14) == 0)
			limit = strncmp(line + 26, "unlimited", 9) == 0 ? LLONG_MAX
									: strtoll(line + 14, NULL, 10);
	}
	if (file != NULL)
		fclose(file);
	return limit;
}

void
check_files(struct doctor *d)
{
	long long limit = files_of(json_integer_value(json_object_get(d->status, "pid")));
	long long clients = json_integer_value(json_object_get(d->status, "max_clients"));
	/* A client may hold a connection and the pictures of one answer, seldom all at a time: 2 each. A
	 * runner has about 8, and 32 are zitd's own. */
	long long wanted =
	    2 * clients + 8 * (long long)json_array_size(json_object_get(d->status, "runners")) + 32;

	if (d->status == NULL || limit < 0)
		doctor_find(d, DOCTOR_SKIPPED, NULL, NULL, "%s",
		    d->status == NULL ? "zitd does not answer" : "its limits may not be read");
	else if (limit < wanted)
		doctor_find(d, DOCTOR_NOTE,
		    "set LimitNOFILE= with 'systemctl edit zitd', or max_clients in zitd.conf lower", NULL,
		    "zitd may open %lld files, and max_clients = %lld may take %lld", limit, clients, wanted);
	else
		doctor_find(d, DOCTOR_OK, NULL, NULL,
		    "zitd may open %lld files; %lld clients take %lld at most", limit, clients, wanted);
}

void
check_memfd(struct doctor *d)
{
	int fd = memfd_create("zitctl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, 4096) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
		doctor_find(d, DOCTOR_WRONG,
		    "allow memfd_create in the container's seccomp profile, and let vm.memfd_noexec be 0 or "
		    "1",
		    NULL, "anonymous memory cannot be made and sealed: %s", strerror(errno));
	else
		doctor_find(d, DOCTOR_OK, NULL, NULL, "anonymous memory can be made and sealed");
	if (fd >= 0)
		close(fd);
}
