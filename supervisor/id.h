/*
 * Public job ids: "job_" and a UUIDv7 in lower-case Crockford base32, so that they sort by time.
 */
#ifndef SUPERVISOR_ID_H
#define SUPERVISOR_ID_H

enum { ID_SIZE = 4 + 26 + 1 };

void id_make(char id[ID_SIZE]);

#endif
