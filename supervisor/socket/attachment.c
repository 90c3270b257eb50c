/*
 * What comes with an answer besides its text.
 */
#include "supervisor/socket/attachment.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "supervisor/socket/outbox.h"

/* Known to this process only, so that no prompt can hold it. */
void
attachment_placeholder(int i, char out[48])
{
	static uint64_t secret[2];

	if (secret[0] == 0 && getrandom(secret, sizeof(secret), 0) != sizeof(secret))
		secret[0] = (uint64_t)getpid();
	snprintf(out, 48, "<%016llx%016llx:%02d>", (unsigned long long)secret[0],
	    (unsigned long long)secret[1], i);
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
		       outbox_base64(o, a->fds[i]) == 0;
		if (good)
			text = at + strlen(mark);
		else
			close(a->fds[i]);
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
		close(a->fds[i]);
	return good;
}
