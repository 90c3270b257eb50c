/*
 * The run in hand: chance, and jobs without an end.
 */
#include "tests/world/world.h"

/* ---- the run in hand */

struct run run;

struct totals totals;

bool loud;

void
violated(const char *format, ...)
{
	char text[400];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fail_msg("run %u, %.6f s: %s; 'test_world %u' repeats it", run.seed, (double)run.now_us * 1e-6, text,
	    run.seed);
	abort();
}

/* ---- chance */

/* 0 .. n-1; xorshift64*. */
uint32_t
draw(uint32_t n)
{
	run.chance ^= run.chance >> 12;
	run.chance ^= run.chance << 25;
	run.chance ^= run.chance >> 27;
	return (uint32_t)((run.chance * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n;
}

bool
odds(uint32_t per_mille)
{
	return draw(1000) < per_mille;
}

/* Of the order of `least` mostly, of `most` sometimes. */
int64_t
span_us(int64_t least, int64_t most)
{
	int64_t top = least;

	while (top < most && odds(700))
		top *= 4;
	return least + (int64_t)draw((uint32_t)(top < most ? top : most));
}

double
draw_seconds(int64_t least_us, int64_t most_us)
{
	return (double)span_us(least_us, most_us) * 1e-6;
}

/* ---- jobs without an end */

struct open_job open_jobs[MAX_OPEN];
int open_count;

/* NULL: it has ended. */
struct open_job *
find_open_job(uint64_t number)
{
	for (int i = 0; i < open_count; i++) {
		if (open_jobs[i].number == number)
			return &open_jobs[i];
	}
	return NULL;
}
