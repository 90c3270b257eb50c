/*
 * What the checks of zitctl doctor share (doctor.def lists them). Each adds one finding at least.
 */
#ifndef CTL_DOCTOR_H
#define CTL_DOCTOR_H

#include <jansson.h>
#include <limits.h>

#include "ctl/client.h"
#include "ctl/ctl.h"

enum { DOCTOR_PATIENCE_S = 5 }; /* that an answer may take */

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_SKIPPED, /* cannot be told: zitd does not answer, or another user would have to look */
	DOCTOR_NOTE,	/* somebody wanted it so, or it passes by itself */
	DOCTOR_WRONG
};

struct doctor {
	const struct ctl *ctl;
	char socket[PATH_MAX];
	int error;	       /* errno of connecting to it; 0: somebody listens */
	struct client *client; /* or NULL */
	json_t *status;	       /* what zitd answers, or NULL */
	const char *check;     /* the one under way */
	json_t *findings;      /* [{check, level, found, do}] */
};

/* Adds a finding of the check under way. `cure` says what to do, NULL for nothing; it has a % where the text
 * `about` goes, which may be NULL. */
void doctor_find(struct doctor *d, enum doctor_level level, const char *cure, const char *about,
    const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Whether a finding is DOCTOR_WRONG; and how many are. */
bool doctor_is_wrong(const json_t *finding);
int doctor_count_wrong(const struct doctor *d);

/* The configuration's file: the one in use, or the command line's, or the usual one. */
void doctor_config(const struct doctor *d, char out[PATH_MAX]);
/* A path of the status, which may be relative to zitd's directory. */
void doctor_path(const struct doctor *d, const char *path, char out[PATH_MAX]);

/* Bytes of the model's weights in `dir` whose files are all there; negative: some are not, and findings say
 * so if `d` is not NULL. */
long long doctor_weigh_model(struct doctor *d, const char *dir);

#define CHECK(name, help) void check_##name(struct doctor *d);
#include "ctl/doctor.def"

#endif
