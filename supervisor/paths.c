/*
 * Where zitd keeps its things: directories made, the state directory locked.
 */
#include "supervisor/paths.h"
#include "supervisor/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* As mkdir -p. 0 or -1 with errno. */
static int
make_directory(const char *path)
{
	char part[PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (char *slash = part + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = '\0';
		if (mkdir(part, 0755) != 0 && errno != EEXIST)
			return -1;
		*slash = '/';
	}
	return mkdir(part, 0750) != 0 && errno != EEXIST ? -1 : 0;
}

static int
make_or_complain(const char *path, bool may_be_read_only, struct err *e)
{
	if (make_directory(path) == 0 && access(path, W_OK | X_OK) == 0)
		return 0;
	if (may_be_read_only && errno == EROFS && access(path, R_OK | X_OK) == 0)
		return 0;
	return err_set(e, ERR_SYSTEM, "directory %s cannot be used: %s", path, strerror(errno));
}

/* A second zitd on one state directory would serve one queue twice. */
static int
take_lock(struct paths *p, struct err *e)
{
	char path[PATH_MAX], text[32] = "";
	int length;

	snprintf(path, sizeof(path), "%s/zitd.lock", p->state_dir);
	if (p->lock_fd < 0)
		p->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (p->lock_fd < 0 && errno == EROFS)
		p->lock_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (p->lock_fd < 0)
		return err_set(e, ERR_SYSTEM, "%s: %s", path, strerror(errno));
	if (flock(p->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		ssize_t n = read(p->lock_fd, text, sizeof(text) - 1);
		text[n > 0 ? strcspn(text, " \n") : 0] = '\0';
		close(p->lock_fd);
		p->lock_fd = -1;
		return err_set(e, ERR_SYSTEM, "zitd is running already on %s: it is process %s", p->state_dir,
		    text[0] != '\0' ? text : "unknown");
	}
	/* As long as any other, so that it finds room on a full disk where the last one's was; the lock
	 * counts, not the number. */
	length = snprintf(text, sizeof(text), "%-10d\n", (int)getpid());
	if (pwrite(p->lock_fd, text, (size_t)length, 0) != length)
		journal(EVENT_PID_UNWRITTEN, .path = path, .detail = strerror(errno), .system_error = errno);
	return 0;
}

/* By the name that it has, or had: another file may stand there by now. */
static void
find_program(struct paths *p)
{
	static const char gone[] = " (deleted)";
	ssize_t n = readlink("/proc/self/exe", p->program, sizeof(p->program) - 16);
	char *slash;

	p->program[n > 0 ? n : 0] = '\0';
	if (n > (ssize_t)sizeof(gone) && strcmp(p->program + n - (sizeof(gone) - 1), gone) == 0)
		p->program[n - (ssize_t)(sizeof(gone) - 1)] = '\0';
	strcpy(p->runner, p->program);
	slash = strrchr(p->runner, '/');
	strcpy(slash != NULL ? slash + 1 : p->runner, "zit-runner");
}

/* The first directory of a unit's RuntimeDirectory= or StateDirectory=. */
static bool
given_by_systemd(const char *variable, char *path, size_t size)
{
	const char *list = getenv(variable);

	if (list == NULL || *list == '\0')
		return false;
	snprintf(path, size, "%.*s", (int)strcspn(list, ":"), list);
	return true;
}

void
paths_find(struct paths *p, const struct conf_zitd *conf)
{
	const char *user = getenv("XDG_RUNTIME_DIR");
	char fallback[PATH_MAX - 64];

	*p = (struct paths){.lock_fd = p->lock_fd};
	if (given_by_systemd("RUNTIME_DIRECTORY", fallback, sizeof(fallback)))
		;
	else if (geteuid() == 0 || user == NULL)
		snprintf(fallback, sizeof(fallback), "/run/zit");
	else
		snprintf(fallback, sizeof(fallback), "%s/zit", user);
	snprintf(p->runtime_dir, sizeof(p->runtime_dir), "%s",
	    *conf->runtime_dir != '\0' ? conf->runtime_dir : fallback);
	if (given_by_systemd("STATE_DIRECTORY", fallback, sizeof(fallback)))
		;
	else if (geteuid() == 0)
		snprintf(fallback, sizeof(fallback), "/var/lib/zit");
	else
		snprintf(fallback, sizeof(fallback), "%.3000s/state", p->runtime_dir);
	snprintf(
	    p->state_dir, sizeof(p->state_dir), "%s", *conf->state_dir != '\0' ? conf->state_dir : fallback);
	snprintf(p->socket, sizeof(p->socket), "%s/zitd.sock", p->runtime_dir);
	snprintf(p->results, sizeof(p->results), "%s/results", p->state_dir);
	find_program(p);
}

int
paths_open(struct paths *p, const struct conf_zitd *conf, struct err *e)
{
	int status;

	paths_find(p, conf);
	status = make_or_complain(p->runtime_dir, false, e);
	if (status == 0)
		status = make_or_complain(p->state_dir, true, e);
	return status == 0 ? take_lock(p, e) : status;
}

void
paths_close(struct paths *p)
{
	if (p->lock_fd >= 0)
		close(p->lock_fd); /* the file stays: removing it would race with the next one's lock */
	p->lock_fd = -1;
}
