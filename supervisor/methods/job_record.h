/*
 * A job as clients see it, and as the log does.
 */
#ifndef SUPERVISOR_METHODS_JOB_RECORD_H
#define SUPERVISOR_METHODS_JOB_RECORD_H

#include <stdbool.h>

struct attachment;
struct job;
struct journal_facts;
struct json_text;
struct outlook;

/* Its record as the next value of the text. `outlook` and `a`, the pictures that go with it, may be NULL. */
void job_record(
    const struct job *job, const struct outlook *outlook, const struct attachment *a, struct json_text *t);
bool job_has_pictures(const struct job *job); /* to give, or to tell of */
void job_picture_record(const struct job *job, int index, const struct attachment *a, struct json_text *t);
void outlook_record(const struct outlook *o, struct json_text *t); /* as members */

/* What the log says of it (journal.h); strings are the job's, or stay until the next call. */
void job_facts(const struct job *job, struct journal_facts *facts);

#endif
