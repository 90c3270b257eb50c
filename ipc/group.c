/*
 * Groups: a name that jobs are submitted under, to be listed and cancelled together.
 */
#include "ipc/group.h"

#include <string.h>

int
group_check(const char *name, struct err *e)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	size_t good = strspn(name, letters);

	if (name[good] == '\0' && good > 0 && good < GROUP_SIZE)
		return 0;
	return err_set(e, ERR_INVALID_PARAM,
	    "group must be a name of 1 to %d letters, digits and - _ . such as cats-2; '%.64s' is not",
	    GROUP_SIZE - 1, name);
}
