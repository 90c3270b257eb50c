/*
 * The lists of runners: messages with zitd, stages, options, exit statuses.
 */
#include <stdio.h>

#include "ipc/err.h"
#include "ipc/proto.h"
#include "ipc/shm.h"
#include "man/def-tables.h"

/* ---- messages, of which each says who sends it and what comes with it */

enum about { NOBODY, JOB };

static void
message(const char *name, int number, const char *sender, int fds, enum about about, const char *help)
{
	printf(".It Sy %s Pq %d , No from %s%s%s\n", name, number, sender,
	    about == JOB ? ", about a job" : "", fds > 0 ? ", with a descriptor" : "");
	put_sentence(help);
}

static void
field(const char *type, const char *name, const char *help)
{
	printf(".It %s Va %s\n", type, name);
	put_sentence(help);
}

void
list_messages(void)
{
	printf("This is version %d.\n", PROTO_VERSION);
	begin("Ds");
#define ZITD "zitd"
#define RUNNER "the runner"
#define U32(x, help) field("u32", #x, help);
#define U64(x, help) field("u64", #x, help);
#define F64(x, help) field("f64", #x, help);
#define STR(x, max, help) \
	field("text", #x, help); \
	printf("At most %d bytes.\n", max);
#define MSG(NAME, number, sender, fds, about, fields, help) \
	message(#NAME, number, sender, fds, about, help); \
	puts(".Bl -tag -width \"u32 checkpoint_bytes\" -compact"); \
	fields puts(".El");
#include "ipc/proto.def"
	puts(".El");
}

void
list_stages(void)
{
	puts(".Bl -tag -width 9 -compact");
#define STAGE(name, text) printf(".It %d\n%s\n", (int)STAGE_##name, text);
	SHM_STAGES(STAGE)
#undef STAGE
	puts(".El");
}

/* ---- its process */

void
list_runner_options(void)
{
	begin("Ds");
#define OPTION(member, name, arg, set, help) \
	item("Fl -", name, '-', arg); \
	put_sentence(help);
#include "runner/options.def"
	puts(".El");
}

void
list_runner_exits(void)
{
	puts(".Bl -tag -width 99 -compact");
#define EXIT_ROW(name, number, permanent, text) \
	printf(".It %d\n", number); \
	put_sentence(text);
	RUNNER_EXITS(EXIT_ROW)
#undef EXIT_ROW
	puts(".El");
}
