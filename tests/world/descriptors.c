/*
 * Descriptors: each has one number for ever, so that what is closed twice or not at all is found.
 */
#include "tests/world/world.h"

/* ---- descriptors: each has one number for ever, so that what is closed twice or not at all is found */

struct descriptor descriptors[MAX_DESCRIPTORS];
int descriptor_count;

int __real_close(int fd);
int __wrap_close(int fd);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

int
new_fd(enum kind kind, struct process *process)
{
	if (descriptor_count == MAX_DESCRIPTORS)
		violated("%d descriptors in one run", MAX_DESCRIPTORS);
	descriptors[descriptor_count] = (struct descriptor){.kind = kind, .process = process};
	return FIRST_FD + descriptor_count++;
}

struct descriptor *
look_up(int fd, const char *who)
{
	if (fd < FIRST_FD || fd >= FIRST_FD + descriptor_count || descriptors[fd - FIRST_FD].kind == CLOSED)
		violated("%s of descriptor %d, which is not open", who, fd);
	return &descriptors[fd - FIRST_FD];
}

/* A system call that fails now and then. */
bool
is_refused(int error)
{
	if (run.upgrading || !odds(run.climate.trouble))
		return false;
	errno = error;
	return true;
}

int
__wrap_close(int fd)
{
	struct descriptor *d;

	if (fd >= 0 && fd < FIRST_FD)
		return __real_close(fd);
	d = look_up(fd, "close");
	if (run.upgrading)
		return 0; /* it is not closed: the memory of who had it goes */
	if (d->kind == ZITD_END)
		process_hung_up(d->process);
	d->kind = CLOSED;
	return 0;
}

int
__wrap_fcntl(int fd, int command, ...)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	struct descriptor *d;
	va_list arguments;
	int argument, copy;

	va_start(arguments, command);
	argument = va_arg(arguments, int);
	va_end(arguments);
	if (fd >= 0 && fd < FIRST_FD)
		return __real_fcntl(fd, command, argument);
	d = look_up(fd, "fcntl");
	if (command == F_GET_SEALS)
		return d->sealed ? seals : F_SEAL_GROW;
	if (command == F_SETFD)
		return 0;
	if (command != F_DUPFD_CLOEXEC)
		violated("fcntl %d", command);
	if (is_refused(EMFILE))
		return -1;
	copy = new_fd(d->kind, d->process);
	descriptors[copy - FIRST_FD] = *d;
	return copy;
}

int
__wrap_fstat(int fd, struct stat *st)
{
	if (fd >= 0 && fd < FIRST_FD)
		return __real_fstat(fd, st);
	*st = (struct stat){.st_size = (off_t)look_up(fd, "fstat")->bytes};
	return 0;
}

/* What the kernel says of memory; all else is read in truth. */
FILE *
__wrap_fopen(const char *path, const char *mode)
{
	char text[64];
	FILE *file;

	if (strcmp(path, "/proc/vmstat") == 0)
		snprintf(text, sizeof(text), "nr_free 1\noom_kill %lld\nend 0\n", run.oom_kills);
	else if (strncmp(path, "/proc/", 6) == 0)
		snprintf(text, sizeof(text), "9000 %u 0\n", draw(500));
	else
		return __real_fopen(path, mode);
	file = is_refused(EMFILE) ? NULL : fmemopen(NULL, sizeof(text), "w+");
	if (file != NULL) {
		fputs(text, file);
		rewind(file);
	}
	return file;
}
