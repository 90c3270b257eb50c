/*
 * Whole numbers as decimal text.
 */
#include "ipc/decimal.h"

char *
decimal_digits(char *end, uint64_t value, int least)
{
	for (; value > 0 || least > 0; value /= 10, least--)
		*--end = (char)('0' + value % 10);
	return end;
}

char *
decimal_put(char *end, int64_t value)
{
	end = decimal_digits(end, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);
	if (value < 0)
		*--end = '-';
	return end;
}
