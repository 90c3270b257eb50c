/*
 * What comes with an answer besides its text.
 */
#include "supervisor/socket/attachment.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "supervisor/socket/outbox.h"

enum { NUMBER_AT = 1 + 32 + 1 }; /* of a placeholder: behind '<', the secret, and ':' */

/* Known to this process only, so that no prompt can hold it. */
void
attachment_placeholder(int i, char out[48])
{
	static char text[48]; /* of the first one */
	uint64_t secret[2] = {0};

	if (text[0] == '\0') {
		if (getrandom(secret, sizeof(secret), 0) != sizeof(secret))
			secret[0] = (uint64_t)getpid();
		snprintf(text, sizeof(text), "<%016llx%016llx:00>", (unsigned long long)secret[0],
		    (unsigned long long)secret[1]);
	}
	memcpy(out, text, sizeof(text));
	out[NUMBER_AT] = (char)('0' + i / 10);
	out[NUMBER_AT + 1] = (char)('0' + i % 10);
}

static int
queue_file(struct outbox *o, const struct attachment *a, int i)
{
	return a->lent[i] > 0 ? outbox_base64_now(o, a->fds[i], a->lent[i]) : outbox_base64(o, a->fds[i]);
}

static void
close_file(const struct attachment *a, int i)
{
	if (a->lent[i] == 0)
		close(a->fds[i]);
}

/* The text in pieces, each placeholder replaced by its file; takes the files. false: no memory. */
static bool
queue_inline(struct outbox *o, const char *text, struct attachment *a)
{
	bool good = true;

	for (int i = 0; i < a->count; i++) {
		char mark[48];
		const char *at;

		attachment_placeholder(i, mark);
		at = strstr(text, mark);
		good = good && at != NULL && outbox_text(o, text, (size_t)(at - text), NULL, 0) == 0 &&
		       queue_file(o, a, i) == 0;
		if (good)
			text = at + strlen(mark);
		else
			close_file(a, i);
	}
	return good && outbox_line(o, text, NULL, 0) == 0;
}

bool
attachment_queue(struct outbox *o, const char *text, struct attachment *a)
{
	bool good = text != NULL;

	if (good && a != NULL && a->inline_base64)
		return queue_inline(o, text, a);
	good = good && outbox_line(o, text, a != NULL ? a->fds : NULL, a != NULL ? a->count : 0) == 0;
	for (int i = 0; a != NULL && !good && i < a->count; i++)
		close_file(a, i);
	return good;
}

bool
attachment_own(struct attachment *a)
{
	for (int i = 0; i < a->count; i++) {
		int fd = a->lent[i] > 0 ? fcntl(a->fds[i], F_DUPFD_CLOEXEC, 0) : a->fds[i];

		if (fd < 0)
			return false;
		a->fds[i] = fd;
		a->lent[i] = 0;
	}
	return true;
}

void
attachment_drop(struct attachment *a)
{
	for (int i = 0; a != NULL && i < a->count; i++)
		close_file(a, i);
	if (a != NULL)
		*a = (struct attachment){0};
}
