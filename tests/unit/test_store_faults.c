/*
 * supervisor/store when bits flip, when the power goes at any moment, when fsync fails and when the disk is
 * full: what was acknowledged is there, and nothing is ever read that was not written so.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store_files.h"
#include "tests/unit/store_history.h"
#include "tests/unit/store_vfs.h"
#include "tests/unit/temp_dir.h"

static const char *const names[] = {"queue.db", "queue.db-wal"};
static struct history history;

static struct store *
open_store(struct store_report *report)
{
	struct store *s = NULL;
	struct err e = {0};

	*report = (struct store_report){0};
	if (store_open(&s, dir, report, &e) != 0)
		print_error("%s\n", e.text);
	return s;
}

/* ---- bits */

#ifdef __SANITIZE_ADDRESS__
enum { FLIPS = 200 };
#else
enum { FLIPS = 1000 };
#endif

enum { BATCHES = 100, SECTOR = 512 };

struct tally {
	int harmless, repaired, detected;
};

/* A store with jobs in all states. Its files as SIGKILL would leave them, or after it was closed. */
static void
fill_store(struct files *files, bool killed)
{
	struct files nothing = {0};
	struct store_report report;
	struct store *s;

	files_save(&nothing, dir);
	history = (struct history){.random = 1};
	s = open_store(&report);
	for (int i = 0; i < BATCHES; i++)
		assert_int_equal(history_commit(&history, s, 3, 0), 0);
	if (killed)
		files_load(files, dir, names, 2);
	store_close(&s);
	if (!killed)
		files_load(files, dir, names, 2);
}

/* Which job is not as it was; -1: none is. More than one, or one that nothing tells of, is a failure. */
static int
find_affected(const struct contents *c, const struct store_report *report, const char *where)
{
	int affected = -1;

	for (int i = 0; i < JOBS; i++) {
		const char *wanted = history.states[history.count][i], *found = c->texts[i];
		if (wanted == NULL ? found == NULL && !c->damaged[i]
				   : found != NULL && strcmp(wanted, found) == 0)
			continue;
		if (affected >= 0)
			fail_msg("%s: jobs %d and %d are not as they were (salvaged %d)", where, affected + 1,
			    i + 1, report->salvaged);
		if (!c->damaged[i] && report->damaged == 0)
			fail_msg("%s: job %d is %s, and nobody is told", where, i + 1,
			    found == NULL ? "gone" : "not as it was");
		affected = i;
	}
	return affected;
}

static void
judge_flip(const char *where, struct tally *t)
{
	struct store_report report;
	struct store *s = open_store(&report);
	struct contents c;

	if (s == NULL || !contents_read(&c, s))
		fail_msg("%s: the store cannot be read", where);
	if (find_affected(&c, &report, where) >= 0)
		t->detected++;
	else if (report.salvaged)
		t->repaired++;
	else
		t->harmless++;
	contents_clear(&c);
	store_close(&s);
}

static void
flip_bits(bool killed, int flips)
{
	struct files files = {0};
	struct tally t = {0};
	char where[100];
	size_t total = 0;

	fill_store(&files, killed);
	for (int i = 0; i < files.count; i++)
		total += files.at[i].bytes;
	for (int n = 0; n < flips; n++) {
		size_t at = history_random(&history, (uint32_t)total);
		int bit = (int)history_random(&history, 8), i = at < files.at[0].bytes ? 0 : 1;
		at -= i == 1 ? files.at[0].bytes : 0;
		snprintf(where, sizeof(where), "flip %d, %s byte %zu bit %d", n, files.at[i].name, at, bit);
		files.at[i].data[at] ^= (char)(1 << bit);
		files_save(&files, dir);
		files.at[i].data[at] ^= (char)(1 << bit);
		judge_flip(where, &t);
	}
	print_message("%d flips in %zu bytes of a store that was %s: %d harmless, %d repaired, %d detected\n",
	    flips, total, killed ? "killed" : "closed", t.harmless, t.repaired, t.detected);
	history_clear(&history);
	files_clear(&files);
}

static void
test_a_flipped_bit_in_a_closed_store(void **state)
{
	(void)state;
	flip_bits(false, FLIPS / 4);
}

static void
test_a_flipped_bit_in_a_killed_store(void **state)
{
	(void)state;
	flip_bits(true, FLIPS);
}

/* Few of the bytes of a log say where it ends, and which: their bits one by one. */
static void
test_a_flipped_bit_in_the_heads_of_a_log(void **state)
{
	enum { LOG_HEAD = 32, FRAME = 24 + 4096, FRAME_HEAD = 24 };
	struct files files = {0};
	struct tally t = {0};
	char where[100];
	int frames;

	(void)state;
	fill_store(&files, true);
	frames = (int)((files.at[1].bytes - LOG_HEAD) / FRAME);
	for (int n = 0; n < FLIPS / 4; n++) {
		int frame =
		    (int)history_random(&history, (uint32_t)frames + 10) - 10; /* some in the log's own */
		size_t at = frame < 0
				? history_random(&history, LOG_HEAD)
				: LOG_HEAD + (size_t)frame * FRAME + history_random(&history, FRAME_HEAD);
		int bit = (int)history_random(&history, 8);
		snprintf(where, sizeof(where), "flip %d, log byte %zu bit %d", n, at, bit);
		files.at[1].data[at] ^= (char)(1 << bit);
		files_save(&files, dir);
		files.at[1].data[at] ^= (char)(1 << bit);
		judge_flip(where, &t);
	}
	print_message("%d flips in the heads of a log of %d frames: %d harmless, %d repaired, %d detected\n",
	    FLIPS / 4, frames, t.harmless, t.repaired, t.detected);
	history_clear(&history);
	files_clear(&files);
}

static bool
was_written(const char *text, int job)
{
	for (int n = 0; n <= history.count; n++) {
		if (history.states[n][job] != NULL && strcmp(history.states[n][job], text) == 0)
			return true;
	}
	return false;
}

/* A sector of the log that holds anything but what it should: what lies behind it is not given up. Only where
 * it can have been torn by a power loss, in the last transaction, that is taken for the end. */
static void
test_a_bad_sector_in_a_log(void **state)
{
	struct files files = {0};
	int salvaged = 0, draws = FLIPS / 10;

	(void)state;
	fill_store(&files, true);
	for (int n = 0; n < draws; n++) {
		size_t at = history_random(&history, (uint32_t)files.at[1].bytes / SECTOR) * SECTOR;
		char kept[SECTOR], *sector = files.at[1].data + at;
		size_t bytes = files.at[1].bytes - at < SECTOR ? files.at[1].bytes - at : SECTOR;
		struct store_report report;
		struct contents c;
		struct store *s;
		memcpy(kept, sector, bytes);
		for (size_t i = 0; i < bytes; i++)
			sector[i] = (char)history_random(&history, 256);
		files_save(&files, dir);
		memcpy(sector, kept, bytes);
		s = open_store(&report);
		if (s == NULL || !contents_read(&c, s))
			fail_msg("bad sector at %zu: the store cannot be read", at);
		for (int i = 0; i < JOBS; i++) {
			if (c.texts[i] != NULL && !was_written(c.texts[i], i))
				fail_msg("bad sector at %zu: job %d was never so", at, i + 1);
		}
		salvaged += report.salvaged;
		contents_clear(&c);
		store_close(&s);
	}
	print_message("%d bad sectors in a log of %zu bytes: noticed %d, taken for the end %d\n", draws,
	    files.at[1].bytes, salvaged, draws - salvaged);
	history_clear(&history);
	files_clear(&files);
}

/* ---- power */

enum { POWER_COMMITS = 30, DRAWS = 1 };

enum fate { FATE_WHOLE, FATE_LOST, FATE_TORN, FATES };

/* Whether operation `at` had reached the disk for sure before operation `end`. */
static bool
is_synced(const struct disk_log *log, int at, int end)
{
	for (int i = at + 1; i < end; i++) {
		const struct disk_op *op = &log->ops[i];
		if (op->kind == OP_SYNC && strcmp(op->name, log->ops[at].name) == 0)
			return !op->failed;
	}
	return false;
}

/* Some of its sectors. */
static void
write_torn(struct files *f, int file, const struct disk_op *op, struct history *luck)
{
	for (size_t done = 0, part; done < op->bytes; done += part) {
		part = SECTOR - ((size_t)op->offset + done) % SECTOR;
		part = part < op->bytes - done ? part : op->bytes - done;
		if (history_random(luck, 2) == 0)
			files_write(f, file, op->offset + (int64_t)done, op->data + done, part);
	}
}

static void
apply(struct files *f, const struct disk_op *op, enum fate fate, struct history *luck)
{
	int file = files_find(f, op->name);

	if (fate == FATE_LOST || op->kind == OP_SYNC)
		return;
	if (op->kind == OP_DELETE)
		files_delete(f, file);
	else if (op->kind == OP_TRUNCATE)
		files_resize(f, file, (size_t)op->offset);
	else if (fate == FATE_TORN)
		write_torn(f, file, op, luck);
	else
		files_write(f, file, op->offset, op->data, op->bytes);
}

/* The directory after a power loss before operation `end`: what was synced, and of the rest all, or anything.
 */
static void
lose_power(struct files *f, const struct disk_log *log, int end, bool all, struct history *luck)
{
	for (int i = 0; i < end; i++) {
		bool sure = all || log->ops[i].kind == OP_DELETE || is_synced(log, i, end);
		apply(f, &log->ops[i], sure ? FATE_WHOLE : history_random(luck, FATES), luck);
	}
}

struct outcome {
	int before, after, between; /* the commit under way is not there, is there, is there in part */
};

/* Every job as the last commit that had returned left it, or as the one under way would. */
static void
judge_loss(const struct history *h, int acknowledged, const char *where, struct outcome *o)
{
	struct store_report report;
	struct store *s = open_store(&report);
	struct contents c;
	int next = acknowledged < h->count ? acknowledged + 1 : acknowledged, old = 0, new = 0;

	if (s == NULL || report.salvaged || !contents_read(&c, s))
		fail_msg("%s: the store is %s", where, s == NULL ? "lost" : "not sound");
	for (int i = 0; i < JOBS; i++) {
		const char *was = h->states[acknowledged][i], *will = h->states[next][i], *is = c.texts[i];
		bool is_old = is == NULL ? was == NULL : was != NULL && strcmp(is, was) == 0;
		bool is_new = is == NULL ? will == NULL : will != NULL && strcmp(is, will) == 0;
		if (c.damaged[i] || (!is_old && !is_new))
			fail_msg("%s: job %d is %.60s, not %.60s or %.60s", where, i + 1,
			    is != NULL ? is : "gone", was != NULL ? was : "gone",
			    will != NULL ? will : "gone");
		old += is_old && !is_new;
		new += is_new && !is_old;
	}
	o->before += new == 0;
	o->after += new > 0 && old == 0;
	o->between += new > 0 && old > 0;
	contents_clear(&c);
	store_close(&s);
}

static int
acknowledged_at(const struct history *h, int operations)
{
	int count = 0;

	while (count < h->count && h->ended_at[count] <= operations)
		count++;
	return count;
}

static void
record_commits(struct disk_log *log, struct history *h, int commits)
{
	struct files nothing = {0};
	struct store_report report;
	struct store *s;

	files_save(&nothing, dir);
	store_vfs_record(log);
	s = open_store(&report);
	for (int i = 0; i < commits; i++) {
		assert_int_equal(history_commit(h, s, 1 + (int)history_random(h, 6), 0), 0);
		h->ended_at[h->count - 1] = log->count;
	}
	store_close(&s);
	store_vfs_record(NULL);
}

static void
lose_power_and_judge(const struct disk_log *log, int end, bool all, struct history *luck, struct outcome *o)
{
	struct files f = {0};
	char where[100];

	snprintf(where, sizeof(where), "power lost before operation %d of %d%s", end, log->count,
	    all ? "" : ", with unsynced writes lost or torn");
	lose_power(&f, log, end, all, luck);
	files_save(&f, dir);
	files_clear(&f);
	judge_loss(&history, acknowledged_at(&history, end), where, o);
}

static void
test_power_loss(void **state)
{
	struct disk_log log = {0};
	struct history luck = {.random = 7};
	struct outcome prefixes = {0}, draws = {0};

	(void)state;
	history = (struct history){.random = 3};
	record_commits(&log, &history, POWER_COMMITS);
	for (int end = 0; end <= log.count; end++) {
		lose_power_and_judge(&log, end, true, &luck, &prefixes);
		for (int n = 0; n < DRAWS; n++)
			lose_power_and_judge(&log, end, false, &luck, &draws);
	}
	print_message("%d operations, %d commits. Every prefix: %d without the commit under way, %d with it, "
		      "%d with a part; %d draws of lost and torn writes: %d, %d, %d\n",
	    log.count, history.count, prefixes.before, prefixes.after, prefixes.between,
	    DRAWS * (log.count + 1), draws.before, draws.after, draws.between);
	disk_log_clear(&log);
	history_clear(&history);
}

/* ---- a disk that fails */

/* A new store with a few commits. */
static struct store *
begin(struct disk_log *log)
{
	struct files nothing = {0};
	struct store_report report;
	struct store *s;

	files_save(&nothing, dir);
	history = (struct history){.random = 5};
	store_vfs_record(log);
	s = open_store(&report);
	for (int i = 0; i < 10; i++)
		assert_int_equal(history_commit(&history, s, 3, 0), 0);
	return s;
}

/* After SIGKILL, or a power loss that takes what was not synced or a part of it, all that was acknowledged is
 * there and nothing else. */
static void
expect_the_acknowledged(struct disk_log *log, const char *where, int draws)
{
	struct history luck = {.random = 11};
	struct outcome o = {0};
	struct files f;

	store_vfs_record(NULL);
	for (int n = 0; n < 2 + draws; n++) {
		f = (struct files){0};
		for (int i = 0; i < log->count; i++) {
			bool there = n == 0 || log->ops[i].kind == OP_DELETE || is_synced(log, i, log->count);
			apply(&f, &log->ops[i],
			    there    ? FATE_WHOLE
			    : n == 1 ? FATE_LOST
				     : history_random(&luck, FATES),
			    &luck);
		}
		files_save(&f, dir);
		files_clear(&f);
		judge_loss(&history, history.count, where, &o);
	}
}

static void
test_fsync_fails_once(void **state)
{
	struct disk_log log = {0};
	struct store *s;

	(void)state;
	for (int later = 0; later < 40; later++) { /* at a commit's own sync, and at those of a checkpoint */
		s = begin(&log);
		for (int i = 0; i < later; i++)
			assert_int_equal(history_commit(&history, s, 3, 0), 0);
		disk_faults.failing_syncs = 1;
		assert_int_equal(history_commit(&history, s, 8, 0), EIO);
		assert_int_equal(disk_faults.failing_syncs, 0);
		for (int i = 0; i < 3; i++)
			assert_int_equal(history_commit(&history, s, 1, 0), 0);
		expect_the_acknowledged(&log, "fsync failed once", 4);
		store_close(&s);
		disk_log_clear(&log);
		history_clear(&history);
	}
}

static void
test_fsync_fails_always(void **state)
{
	struct disk_log log = {0};
	struct store *s = begin(&log);

	(void)state;
	disk_faults.failing_syncs = -1;
	for (int i = 0; i < 20; i++)
		assert_int_equal(history_commit(&history, s, 3, 0), EIO);
	disk_faults.failing_syncs = 0;
	expect_the_acknowledged(&log, "fsync failed always", 0);
	store_close(&s);
	disk_log_clear(&log);
	history_clear(&history);
}

/* No file grows as long as the reserve is there: final records find a place then, new jobs do not. */
static void
test_a_full_disk(void **state)
{
	struct store_report report;
	struct disk_log log = {0};
	struct store *s = begin(&log);
	struct store_batch b = {0};
	char reserve[100], *body;
	int status;

	(void)state;
	snprintf(reserve, sizeof(reserve), "%s/queue.reserve", dir);
	disk_faults = (struct disk_faults){.full = true, .full_while = reserve};
	batch_add(&b, &(struct sample){.number = 1000, .revision = 1, .filler = 20000});
	batch_add(&b, &(struct sample){.number = 1001, .revision = 1, .final = true, .filler = 20000});
	status = store_commit(s, &b);
	assert_int_equal(status, ENOSPC);
	assert_true(b.finals_saved);
	assert_int_equal(access(reserve, F_OK), -1);
	store_batch_clear(&b);
	store_vfs_record(NULL);
	store_close(&s);
	disk_faults = (struct disk_faults){0};
	s = open_store(&report);
	assert_false(report.salvaged);
	assert_int_equal(find_ended(s, 1001, &body), 1);
	assert_int_equal(access(reserve, F_OK), 0);
	free(body);
	store_close(&s);
	disk_log_clear(&log);
	history_clear(&history);
}

/* ---- a salvage that does not come to its end */

enum { SALVAGED_JOBS = 30 };

static int renames_left = -1; /* the process ends before the one after these; below 0: it does not */

/* In place of the C library's. */
int
rename(const char *from, const char *to)
{
	if (renames_left == 0)
		_exit(9);
	renames_left--;
	return (int)syscall(SYS_rename, from, to);
}

/* Closed, its first words damaged. */
static void
make_damaged_store(void)
{
	struct files nothing = {0};
	struct store_report report;
	char path[PATH_MAX];
	struct store *s;
	int fd;

	files_save(&nothing, dir);
	s = open_store(&report);
	for (int i = 0; i < SALVAGED_JOBS; i++)
		commit_samples(
		    s, &(struct sample){.number = (uint64_t)i + 1, .revision = 1, .filler = 300}, 1);
	store_close(&s);
	snprintf(path, sizeof(path), "%s/queue.db", dir);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "damaged", 7, 0), 7);
	close(fd);
}

static int
open_jobs(void)
{
	struct store_start start = {0};
	struct store_report report;
	struct store *s = open_store(&report);
	int count;

	assert_non_null(s);
	assert_int_equal(store_load(s, &start), 0);
	count = start.row_count;
	store_start_clear(&start);
	store_close(&s);
	return count;
}

/* 0: it came to its end before that rename. */
static int
salvage_and_die(int renames)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		renames_left = renames;
		open_jobs();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void
test_a_salvage_is_killed(void **state)
{
	int deaths = 0;

	(void)state;
	for (int status = 1; status != 0; deaths += status != 0) {
		make_damaged_store();
		status = salvage_and_die(deaths);
		assert_int_equal(open_jobs(), SALVAGED_JOBS);
	}
	assert_true(deaths > 1);
}

/* What was moved to the new file must be there before the old one goes. */
static void
test_fsync_fails_in_a_salvage(void **state)
{
	struct store_report report;
	struct store *s;
	int at = 0, left = 0;

	(void)state;
	for (; left == 0; at++) {
		make_damaged_store();
		disk_faults = (struct disk_faults){.sound_syncs = at, .failing_syncs = 1};
		s = open_store(&report);
		left = disk_faults.failing_syncs;
		disk_faults = (struct disk_faults){0};
		store_close(&s);
		assert_int_equal(open_jobs(), SALVAGED_JOBS);
	}
	assert_true(at > 3);
}

/* It is over when the store is open. */
static void
test_a_salvage_is_done_once(void **state)
{
	static const char rubbish[20 * 4096] = {1};
	struct store_report report;
	struct store_batch b = {0};
	char path[PATH_MAX];
	struct store *s;
	int fd;

	(void)state;
	make_damaged_store();
	assert_int_equal(open_jobs(), SALVAGED_JOBS); /* a sound one now */
	snprintf(path, sizeof(path), "%s/queue.db", dir);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, rubbish, sizeof(rubbish), 4096), sizeof(rubbish));
	close(fd);
	s = open_store(&report);
	assert_true(report.salvaged);
	batch_add(&b, &(struct sample){.number = 1000, .revision = 1});
	assert_int_equal(store_commit(s, &b), 0);
	assert_false(b.report.salvaged);
	store_batch_clear(&b);
	store_close(&s);
}

/* A damage that is found by a store in use, and no room for another file: nothing is
 * promised until there is. */
static void
test_no_room_for_a_salvage(void **state)
{
	enum { LARGE = 10000, COUNT = 100, WHOLE_PAGES = 20 }; /* more than SQLite keeps in memory */
	static const char rubbish[64 * 4096] = {1};
	struct files nothing = {0};
	struct store_report report;
	struct store_batch b = {0};
	char path[PATH_MAX], *body;
	struct store *s;
	int fd;

	(void)state;
	files_save(&nothing, dir);
	s = open_store(&report);
	for (uint64_t i = 1; i <= COUNT; i++)
		commit_samples(
		    s, &(struct sample){.number = i, .revision = 1, .final = true, .filler = LARGE}, 1);
	store_close(&s);
	s = open_store(&report);
	snprintf(path, sizeof(path), "%s/queue.db", dir);
	fd = open(path, O_RDWR);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pwrite(fd, rubbish, sizeof(rubbish),
				     WHOLE_PAGES * 4096 + (off_t)i * (off_t)sizeof(rubbish)),
		    sizeof(rubbish));
	close(fd);
	batch_add(&b, &(struct sample){.number = COUNT / 3, .revision = 2, .final = true});
	batch_add(&b, &(struct sample){.number = COUNT + 1, .revision = 1});
	disk_faults = (struct disk_faults){.full = true};
	for (int i = 0; i < 2; i++) {
		assert_int_equal(store_commit(s, &b), ENOSPC);
		assert_false(b.report.salvaged || b.finals_saved);
		snprintf(path, sizeof(path), "%s/queue.db.salvage", dir);
		assert_int_equal(
		    access(path, F_OK), -1); /* a disk that is full has no room for a part of it */
	}
	disk_faults = (struct disk_faults){0};
	assert_int_equal(store_commit(s, &b), 0);
	assert_true(b.report.salvaged);
	assert_int_equal(find_ended(s, 1, &body), 1);
	free(body);
	store_batch_clear(&b);
	store_close(&s);
	assert_int_equal(open_jobs(), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_flipped_bit_in_a_closed_store),
	    cmocka_unit_test(test_a_flipped_bit_in_a_killed_store),
	    cmocka_unit_test(test_a_flipped_bit_in_the_heads_of_a_log),
	    cmocka_unit_test(test_a_bad_sector_in_a_log),
	    cmocka_unit_test(test_power_loss),
	    cmocka_unit_test(test_fsync_fails_once),
	    cmocka_unit_test(test_fsync_fails_always),
	    cmocka_unit_test(test_a_full_disk),
	    cmocka_unit_test(test_a_salvage_is_killed),
	    cmocka_unit_test(test_fsync_fails_in_a_salvage),
	    cmocka_unit_test(test_a_salvage_is_done_once),
	    cmocka_unit_test(test_no_room_for_a_salvage),
	};

	store_vfs_install();
	return cmocka_run_group_tests(tests, make_temp_dir, remove_temp_dir);
}
