/*
 * Control groups, version 2: a leaf for zitd, one for each runner.
 */
#include "supervisor/runners/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ipc/log.h"

static char own[PATH_MAX - 64]; /* zitd's group; "": none */

static void
leaf_path(char path[PATH_MAX], const char *runner, const char *file)
{
	snprintf(path, PATH_MAX, "%s/runner-%.40s/%s", own, runner, file);
}

static bool
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/* Where version 2 is mounted: alone, or beside version 1. NULL: nowhere. */
static const char *
mount_point(void)
{
	static const char *const places[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	struct statfs fs;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (statfs(places[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
			return places[i];
	}
	return NULL;
}

/* The line "0::/path" of /proc/self/cgroup. */
static bool
find_own(void)
{
	const char *root = mount_point();
	char line[PATH_MAX - 128] = "";
	FILE *file = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
		found = strncmp(line, "0::/", 4) == 0;
	if (file != NULL)
		fclose(file);
	line[strcspn(line, "\n")] = '\0';
	if (root == NULL || !found || line[4] == '\0') /* the topmost one is nobody's own */
		return false;
	snprintf(own, sizeof(own), "%s%s", root, line + 3);
	return true;
}

bool
cgroup_open(void)
{
	char path[PATH_MAX];

	if (!find_own())
		return false;
	snprintf(path, sizeof(path), "%s/zitd", own);
	if (mkdir(path, 0755) == 0 || errno == EEXIST) {
		snprintf(path, sizeof(path), "%s/zitd/cgroup.procs", own);
		if (write_file(path, "0")) {
			log_info("control group %s is ours: each runner has its own", own);
			return true;
		}
		path[strlen(path) - strlen("/cgroup.procs")] = '\0';
		rmdir(path);
	}
	own[0] = '\0'; /* not delegated */
	return false;
}

int
cgroup_enter_fd(const char *runner)
{
	char path[PATH_MAX];

	if (own[0] == '\0')
		return -1;
	leaf_path(path, runner, "");
	if (mkdir(path, 0755) != 0 && errno != EEXIST)
		return -1;
	leaf_path(path, runner, "cgroup.procs");
	return open(path, O_WRONLY | O_CLOEXEC);
}

void
cgroup_kill(const char *runner)
{
	char path[PATH_MAX];

	if (own[0] == '\0')
		return;
	leaf_path(path, runner, "cgroup.kill");
	write_file(path, "1");
}

void
cgroup_remove(const char *runner)
{
	char path[PATH_MAX];

	if (own[0] == '\0')
		return;
	leaf_path(path, runner, "");
	rmdir(path);
}
