/*
 * What one zitd hands to the next over exec.
 */
#include "supervisor/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/proto.h"
#include "supervisor/store/store.h"

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* ---- the writer */

void
handover_init(struct handover *h)
{
	*h = (struct handover){0};
	h->root = json_pack("{s:i, s:i, s:i, s:s, s:s}", "handover", HANDOVER_VERSION, "store", STORE_VERSION,
	    "protocol", PROTO_VERSION, "version", ZIT_VERSION, "build", ZIT_BUILD);
	h->short_of_memory = h->root == NULL;
}

void
handover_clear(struct handover *h)
{
	json_decref(h->root);
	free(h->fds);
	*h = (struct handover){0};
}

static bool
make_room(struct handover *h)
{
	int room = 2 * h->fd_room + 16;
	int *larger = h->fd_count < h->fd_room ? h->fds : realloc(h->fds, (size_t)room * sizeof(int));

	if (larger == NULL)
		return false;
	h->fd_room = h->fd_count < h->fd_room ? h->fd_room : room;
	h->fds = larger;
	return true;
}

json_t *
handover_fd(struct handover *h, int fd)
{
	if (fd >= 0 && make_room(h))
		h->fds[h->fd_count++] = fd;
	else if (fd >= 0)
		h->short_of_memory = true;
	return json_integer(fd >= 0 ? fd : -1);
}

json_t *
handover_bytes(const void *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *in = bytes;
	char *text = malloc(2 * count + 1);
	json_t *hex;

	if (text == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		text[2 * i] = digits[in[i] >> 4];
		text[2 * i + 1] = digits[in[i] & 15];
	}
	hex = json_stringn_nocheck(text, 2 * count);
	free(text);
	return hex;
}

/* All of it. 0 or -1 with errno. */
static int
write_all(int fd, const char *text, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, text, bytes);
		if (n < 0 && errno != EINTR)
			return -1;
		text += n > 0 ? n : 0;
		bytes -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int
handover_write(const struct handover *h)
{
	char *text = h->short_of_memory ? NULL : json_dumps(h->root, JSON_COMPACT | JSON_REAL_PRECISION(17));
	int fd = -1, error;

	errno = ENOMEM;
	if (text == NULL)
		return -1;
	fd = memfd_create("zit-handover", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 && (write_all(fd, text, strlen(text)) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0)) {
		error = errno;
		close(fd);
		errno = error;
		fd = -1;
	}
	free(text);
	return fd;
}

void
handover_keep_over_exec(const struct handover *h, bool keep)
{
	for (int i = 0; i < h->fd_count; i++)
		fcntl(h->fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC);
}

/* ---- the reader */

static json_t *
load(int fd)
{
	struct stat st;
	json_t *root = NULL;
	char *text;

	if (fcntl(fd, F_GET_SEALS) != SEALS || fstat(fd, &st) != 0 || st.st_size <= 0)
		return NULL;
	text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return NULL;
	root = json_loadb(text, (size_t)st.st_size, 0, NULL);
	munmap(text, (size_t)st.st_size);
	return root;
}

/* A member of the head; 0 if it is not there. */
static int
number_of(const struct handover *h, const char *name)
{
	return (int)json_integer_value(json_object_get(h->root, name));
}

int
handover_read(struct handover *h, int fd, struct err *e)
{
	int version;

	*h = (struct handover){.root = load(fd)};
	close(fd);
	version = number_of(h, "handover");
	if (version < 1)
		return err_set(e, ERR_UPGRADE_REFUSED, "what was handed over is no state of a zitd");
	if (version > HANDOVER_VERSION || number_of(h, "store") > STORE_VERSION)
		return err_set(e, ERR_UPGRADE_REFUSED,
		    "the state is that of a newer zitd (version %d, store %d; this one knows %d and %d)",
		    version, number_of(h, "store"), HANDOVER_VERSION, STORE_VERSION);
	return 0;
}

int
handover_take_fd(const json_t *value)
{
	int fd = json_is_integer(value) ? (int)json_integer_value(value) : -1;

	return fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

static int
digit_of(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *
handover_take_bytes(const json_t *value, size_t *count)
{
	const char *hex = json_string_value(value);
	size_t n = json_string_length(value) / 2;
	char *bytes = hex != NULL ? malloc(n + 1) : NULL;

	for (size_t i = 0; bytes != NULL && i < n; i++) {
		int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
		if (high < 0 || low < 0) {
			free(bytes);
			return NULL;
		}
		bytes[i] = (char)(high << 4 | low);
	}
	if (bytes != NULL)
		*count = n;
	return bytes;
}

bool
handover_same_protocol(const struct handover *h)
{
	return number_of(h, "protocol") == PROTO_VERSION;
}

bool
handover_same_build(const struct handover *h)
{
	const char *build = json_string_value(json_object_get(h->root, "build"));

	return build != NULL && strcmp(build, ZIT_BUILD) == 0;
}
