/*
 * supervisor/store: what was committed is found again, by each way in; what is over its time or its budget
 * goes; a file that is newer is not touched, one that is damaged is noticed.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"
#include "tests/unit/store_place.h"
#include "tests/unit/store_samples.h"

/* Closed and opened again. */
static void
reopen(struct store **s, struct store_report *report)
{
	store_close(s);
	*s = open_store(report);
}

/* Behind the store's back. */
static void
tamper(const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

/* ---- what was committed */

static void
test_open_jobs_come_back_in_order(void **state)
{
	const struct sample first[] = {{.number = 3, .revision = 1, .filler = 10},
	    {.number = 1, .revision = 1, .filler = 9000}, {.number = 2, .revision = 1, .filler = 10}};
	const struct sample later[] = {{.number = 2, .revision = 2, .filler = 20}};
	struct store_start start = {0};
	struct store *s = open_store(NULL);
	char *text;

	(void)state;
	commit_samples(s, first, 3);
	commit_samples(s, later, 1);
	reopen(&s, NULL);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(start.rows[i].number, i + 1);
	text = sample_text(&later[0]);
	assert_string_equal(start.rows[1].body, text);
	assert_int_equal(start.rows[1].revision, 2);
	assert_int_equal(start.last_number, 3);
	free(text);
	store_start_clear(&start);
	store_close(&s);
}

static void
test_an_ended_job_is_found_by_all_its_names(void **state)
{
	const struct sample open = {.number = 7, .revision = 1};
	const struct sample ended = {.number = 7,
	    .revision = 2,
	    .final = true,
	    .key = "0//k",
	    .group = "g",
	    .ended_us = 1000,
	    .keep_until_us = 2000,
	    .bytes = 55,
	    .pictures = 2};
	struct store_query q = {.wanted = STORE_KEYED, .text_count = 1, .since_us = 1000};
	struct store_start start = {0};
	struct store *s = open_store(NULL);
	char *body, *text = sample_text(&ended);

	(void)state;
	commit_samples(s, &open, 1);
	assert_int_equal(find_ended(s, 7, &body), 0);
	commit_samples(s, &ended, 1);
	reopen(&s, NULL);
	assert_int_equal(find_ended(s, 7, &body), 1);
	assert_string_equal(body, text);
	free(body);
	q.texts = calloc(1, sizeof(char *));
	q.texts[0] = strdup("0//k");
	assert_int_equal(store_find(s, &q), 0);
	assert_int_equal(q.count, 1);
	assert_string_equal(q.rows[0].body, text);
	assert_int_equal(q.rows[0].bytes, 55);
	assert_int_equal(q.rows[0].pictures, 2);
	assert_string_equal(q.rows[0].group, "g");
	store_query_clear(&q);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 0);
	assert_int_equal(start.last_number, 7);
	store_start_clear(&start);
	store_close(&s);
	free(text);
}

/* A dead letter that somebody has tried again, say. */
static void
test_a_later_text_of_an_ended_job_replaces_it(void **state)
{
	const struct sample dead = {
	    .number = 7, .revision = 1, .final = true, .dead = true, .key = "0//k", .ended_us = 1000};
	const struct sample tried = {.number = 7, .revision = 2, .final = true, .ended_us = 1000};
	struct store_query letters = {.wanted = STORE_DEAD, .limit = 5};
	struct store_query keyed = {.wanted = STORE_KEYED, .text_count = 1};
	struct store *s = open_store(NULL);
	char *body, *text = sample_text(&tried);

	(void)state;
	commit_samples(s, &dead, 1);
	assert_int_equal(store_find(s, &letters), 0);
	assert_int_equal(letters.count, 1);
	store_query_forget(&letters);
	commit_samples(s, &tried, 1);
	assert_int_equal(find_ended(s, 7, &body), 1);
	assert_string_equal(body, text);
	assert_int_equal(store_find(s, &letters), 0);
	assert_int_equal(letters.count, 0);
	keyed.texts = calloc(1, sizeof(char *));
	keyed.texts[0] = strdup("0//k");
	assert_int_equal(store_find(s, &keyed), 0);
	assert_int_equal(keyed.count, 0);
	store_query_clear(&letters);
	store_query_clear(&keyed);
	store_close(&s);
	free(body);
	free(text);
}

static void
test_a_key_is_forgotten_after_its_time(void **state)
{
	const struct sample ended = {.number = 1, .revision = 1, .final = true, .key = "k", .ended_us = 1000};
	struct store_query q = {.wanted = STORE_KEYED, .text_count = 1, .since_us = 1001};
	struct store *s = open_store(NULL);

	(void)state;
	commit_samples(s, &ended, 1);
	q.texts = calloc(1, sizeof(char *));
	q.texts[0] = strdup("k");
	assert_int_equal(store_find(s, &q), 0);
	assert_int_equal(q.count, 0);
	store_query_clear(&q);
	store_close(&s);
}

/* The numbers of one page, as text. */
static void
expect_page(struct store *s, enum store_wanted wanted, const char *group, uint64_t below, int limit,
    const char *numbers)
{
	struct store_query q = {.wanted = wanted, .limit = limit, .below = below};
	char seen[200] = "";

	if (group != NULL) {
		q.texts = calloc(1, sizeof(char *));
		q.texts[0] = strdup(group);
		q.text_count = 1;
	}
	assert_int_equal(store_find(s, &q), 0);
	for (int i = 0; i < q.count; i++) {
		assert_non_null(q.rows[i].body);
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%llu ",
		    (unsigned long long)q.rows[i].number);
	}
	assert_string_equal(seen, numbers);
	store_query_clear(&q);
}

static void
test_pages_groups_and_dead_letters(void **state)
{
	struct store *s = open_store(NULL);

	(void)state;
	for (uint64_t i = 1; i <= 9; i++) {
		const struct sample ended = {.number = i,
		    .revision = 1,
		    .final = true,
		    .dead = i % 4 == 0,
		    .group = i % 2 == 0 ? "even" : NULL,
		    .ended_us = 1};
		commit_samples(s, &ended, 1);
	}
	expect_page(s, STORE_ENDED, NULL, 0, 4, "9 8 7 6 ");
	expect_page(s, STORE_ENDED, NULL, 6, 4, "5 4 3 2 ");
	expect_page(s, STORE_ENDED, NULL, 2, 4, "1 ");
	expect_page(s, STORE_ENDED, "even", 0, 3, "8 6 4 ");
	expect_page(s, STORE_ENDED, "even", 4, 3, "2 ");
	expect_page(s, STORE_ENDED, "odd", 0, 3, "");
	expect_page(s, STORE_DEAD, NULL, 0, 10, "8 4 ");
	store_close(&s);
}

static void
test_ids_are_answered_in_the_order_of_asking(void **state)
{
	const struct sample ended[] = {
	    {.number = 1, .revision = 1, .final = true}, {.number = 2, .revision = 1, .final = true}};
	struct store_query q = {.wanted = STORE_IDS, .text_count = 3};
	struct store *s = open_store(NULL);

	(void)state;
	commit_samples(s, ended, 2);
	q.texts = calloc(3, sizeof(char *));
	for (int i = 0; i < 3; i++) {
		q.texts[i] = calloc(1, ID_SIZE);
		sample_id((uint64_t[]){2, 5, 1}[i], q.texts[i]);
	}
	assert_int_equal(store_find(s, &q), 0);
	assert_int_equal(q.count, 3);
	assert_int_equal(q.rows[0].number, 2);
	assert_int_equal(q.rows[1].number, 0);
	assert_int_equal(q.rows[2].number, 1);
	store_query_clear(&q);
	store_close(&s);
}

static void
test_the_log_is_moved_to_the_file(void **state)
{
	struct store *s = open_store(NULL);
	char path[200];
	struct stat st;

	(void)state;
	for (int64_t i = 1; i <= 3 * CHECKPOINT_PAGES; i++)
		commit_samples(
		    s, &(struct sample){.number = (uint64_t)i, .revision = 1}, 1); /* and tends it */
	snprintf(path, sizeof(path), "%s-wal", file);
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, STORE_LOG_FRAME, 2 * CHECKPOINT_PAGES * STORE_LOG_FRAME);
	store_close(&s);
}

static void
test_events_since(void **state)
{
	struct store_query q = {.wanted = STORE_SINCE, .after = STORE_EVENTS + 1000, .limit = 3};
	struct store_start start = {0};
	struct store *s = open_store(NULL);
	const int64_t last = STORE_EVENTS + 1005;

	(void)state;
	for (int64_t seq = 1; seq <= last;) {
		struct store_batch b = {0};
		for (int i = 0; i < 500 && seq <= last; i++, seq++)
			batch_add_event(&b, seq, "{\"x\":1}");
		assert_int_equal(store_commit(s, &b), 0);
		store_tend(s);
		store_batch_clear(&b);
	}
	reopen(&s, NULL);
	assert_int_equal(store_find(s, &q), 0);
	assert_int_equal(q.count, 3);
	assert_int_equal(q.events[0].seq, STORE_EVENTS + 1001);
	assert_string_equal(q.events[2].body, "{\"x\":1}");
	assert_in_range(q.first_event, 2, 1006); /* old ones go, not one by one, and never too many */
	store_query_clear(&q);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.last_event, last);
	store_start_clear(&start);
	store_close(&s);
}

static void
test_notes(void **state)
{
	struct store_start start = {0};
	struct store_batch b = {0};
	struct store *s = open_store(NULL);
	json_t *note = NULL;

	(void)state;
	batch_add_note(&b, "accounts", "first");
	batch_add_note(&b, "accounts", "second");
	assert_int_equal(store_commit(s, &b), 0);
	store_batch_clear(&b);
	reopen(&s, NULL);
	assert_int_equal(store_load(s, &start), 0);
	for (int i = 0; i < start.note_count; i++) {
		if (strcmp(start.notes[i].name, "accounts") == 0)
			note = unseal("note", start.notes[i].body, strlen(start.notes[i].body));
	}
	assert_non_null(note);
	assert_string_equal(json_string_value(json_object_get(note, "text")), "second");
	json_decref(note);
	store_start_clear(&start);
	store_close(&s);
}

static void
test_rows_go(void **state)
{
	const struct sample jobs[] = {
	    {.number = 1, .revision = 1}, {.number = 2, .revision = 1, .final = true}};
	struct store_start start = {0};
	struct store_report report = {0};
	struct store_batch b = {0};
	struct store *s = open_store(NULL);
	char *body;

	(void)state;
	commit_samples(s, jobs, 2);
	batch_add_text(&b, 1, NULL);
	batch_add_text(&b, 2, NULL);
	assert_int_equal(store_commit(s, &b), 0);
	store_batch_clear(&b);
	reopen(&s, &report);
	assert_false(report.salvaged);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 0);
	assert_int_equal(find_ended(s, 2, &body), 0);
	store_start_clear(&start);
	store_close(&s);
}

static void
test_a_batch_is_all_or_nothing(void **state)
{
	const struct sample job = {.number = 1, .revision = 1};
	struct store_start start = {0};
	struct store_batch b = {0};
	struct store *s = open_store(NULL);

	(void)state;
	batch_add(&b, &job);
	batch_add_event(&b, 1, NULL); /* the table's constraint refuses it, after the row */
	assert_int_not_equal(store_commit(s, &b), 0);
	store_batch_clear(&b);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 0);
	store_start_clear(&start);
	store_close(&s);
}

/* ---- forgetting */

struct removals {
	char seen[200];
};

static void
note_removal(void *arg, const char *id, int pictures)
{
	struct removals *r = arg;

	snprintf(r->seen + strlen(r->seen), sizeof(r->seen) - strlen(r->seen), "%d*%d ",
	    atoi(id + sizeof("job_") - 1), pictures);
}

static void
expect_removals(struct store *s, struct store_retention r, const char *wanted)
{
	struct removals removals = {""};
	bool more = true;

	r.remove = note_removal;
	r.arg = &removals;
	while (more)
		assert_int_equal(store_retain(s, &r, &more), 0);
	assert_string_equal(removals.seen, wanted);
}

/* Jobs 1 to 5 with a picture of 100 bytes each, kept until 10 times their number. */
static struct store *
five_ended(void)
{
	struct store *s = open_store(NULL);

	for (uint64_t i = 1; i <= 5; i++) {
		const struct sample ended = {.number = i,
		    .revision = 1,
		    .final = true,
		    .ended_us = (int64_t)i,
		    .keep_until_us = (int64_t)i * 10,
		    .bytes = 100,
		    .pictures = (int)i};
		commit_samples(s, &ended, 1);
	}
	return s;
}

static void
test_pictures_go_when_their_time_is_over(void **state)
{
	struct store *s = five_ended();
	char id[ID_SIZE];

	(void)state;
	expect_removals(s, (struct store_retention){.now_us = 9, .history = 100}, "");
	expect_removals(s, (struct store_retention){.now_us = 20, .history = 100}, "1*1 2*2 ");
	expect_removals(s, (struct store_retention){.now_us = 20, .history = 100}, "");
	sample_id(2, id);
	assert_false(store_has_pictures(s, id));
	sample_id(3, id);
	assert_true(store_has_pictures(s, id));
	expect_page(s, STORE_ENDED, NULL, 0, 10, "5 4 3 2 1 "); /* their records stay */
	store_close(&s);
}

static void
test_pictures_over_the_budget_go_oldest_first(void **state)
{
	struct store *s = five_ended();
	const struct sample more = {
	    .number = 6, .revision = 1, .final = true, .keep_until_us = 5, .bytes = 300, .pictures = 1};

	(void)state;
	expect_removals(s, (struct store_retention){.max_bytes = 500, .history = 100}, "");
	expect_removals(s, (struct store_retention){.max_bytes = 299, .history = 100}, "1*1 2*2 3*3 ");
	commit_samples(s, &more, 1); /* it counts from now on, and is the one that is kept the shortest */
	expect_removals(s, (struct store_retention){.max_bytes = 499, .history = 100}, "6*1 ");
	store_close(&s);
}

static void
test_records_over_the_limit_go_with_their_pictures(void **state)
{
	struct store *s = five_ended();

	(void)state;
	expect_removals(s, (struct store_retention){.history = 3}, "1*1 2*2 ");
	expect_page(s, STORE_ENDED, NULL, 0, 10, "5 4 3 ");
	reopen(&s, NULL);
	expect_page(s, STORE_ENDED, NULL, 0, 10, "5 4 3 ");
	store_close(&s);
}

/* One call does a bounded part; what it does is on disk when it returns. */
static void
test_forgetting_is_done_in_parts(void **state)
{
	struct store_retention r = {.history = 1, .remove = note_removal, .arg = &(struct removals){""}};
	struct store *s = open_store(NULL);
	struct sample many[200] = {{0}};
	bool more;

	(void)state;
	for (int i = 0; i < 200; i++)
		many[i] = (struct sample){.number = (uint64_t)i + 1, .revision = 1, .final = true};
	commit_samples(s, many, 200);
	assert_int_equal(store_retain(s, &r, &more), 0);
	assert_true(more);
	expect_page(s, STORE_ENDED, NULL, 3, 10, "");
	expect_page(s, STORE_ENDED, NULL, 0, 2, "200 199 ");
	expect_removals(s, r, "");
	expect_page(s, STORE_ENDED, NULL, 0, 10, "200 ");
	store_close(&s);
}

/* ---- files that are not as they should be */

static char *
read_file(const char *path, size_t *bytes)
{
	FILE *f = fopen(path, "re");
	char *content = malloc(1 << 22);

	assert_non_null(f);
	*bytes = fread(content, 1, 1 << 22, f);
	fclose(f);
	return content;
}

static void
test_a_newer_file_is_refused_and_left_alone(void **state)
{
	const struct sample job = {.number = 1, .revision = 1};
	struct store_report report = {0};
	struct store *s = open_store(NULL);
	struct err e = {0};
	char *before, *after;
	size_t bytes_before, bytes_after;

	(void)state;
	commit_samples(s, &job, 1);
	store_close(&s);
	tamper("PRAGMA user_version = 3");
	before = read_file(file, &bytes_before);
	assert_int_equal(store_open(&s, place, &report, &e), -ERR_BAD_CONFIG);
	assert_null(s);
	assert_non_null(strstr(e.text, "newer"));
	after = read_file(file, &bytes_after);
	assert_int_equal(bytes_after, bytes_before);
	assert_memory_equal(after, before, bytes_before);
	free(before);
	free(after);
}

/* A row that was there and is not any more, though the file is sound: seen, and said. */
static void
test_an_open_job_that_vanished_is_noticed(void **state)
{
	const struct sample jobs[] = {{.number = 1, .revision = 1}, {.number = 2, .revision = 1}};
	struct store_start start = {0};
	struct store_report report = {0};
	struct store *s = open_store(NULL);

	(void)state;
	commit_samples(s, jobs, 2);
	store_close(&s);
	tamper("DELETE FROM open_job WHERE number = 1");
	s = open_store(&report);
	assert_true(report.salvaged);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 1);
	assert_int_equal(start.rows[0].number, 2);
	store_start_clear(&start);
	report = (struct store_report){0};
	reopen(&s, &report);
	assert_false(report.salvaged); /* once */
	store_close(&s);
}

static void
test_a_damaged_open_job_is_noticed(void **state)
{
	const struct sample jobs[] = {{.number = 1, .revision = 1, .filler = 50},
	    {.number = 2, .revision = 1, .filler = 50}, {.number = 3, .revision = 1, .final = true}};
	struct store_start start = {0};
	struct store_report report = {0};
	struct store *s = open_store(NULL);
	char *body;

	(void)state;
	commit_samples(s, jobs, 3);
	store_close(&s);
	tamper(
	    "UPDATE open_job SET body = replace(body, '\"revision\":1', '\"revision\":3') WHERE number = 1");
	s = open_store(&report);
	assert_true(report.salvaged);
	assert_true(report.damaged > 0);
	assert_int_equal(report.saved, 2);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 1);
	assert_int_equal(start.rows[0].number, 2);
	assert_int_equal(find_ended(s, 3, &body), 1);
	free(body);
	store_start_clear(&start);
	store_close(&s);
}

static void
test_a_damaged_ended_job_comes_without_text(void **state)
{
	const struct sample jobs[] = {{.number = 1, .revision = 1, .final = true},
	    {.number = 2, .revision = 1, .final = true}, {.number = 3, .revision = 1, .final = true}};
	struct store *s = open_store(NULL);
	char *body;

	(void)state;
	commit_samples(s, jobs, 3);
	store_close(&s);
	tamper(
	    "UPDATE final_job SET body = replace(body, '\"revision\":1', '\"revision\":3') WHERE number = 1");
	tamper("UPDATE final_job SET body = (SELECT body FROM final_job WHERE number = 3) WHERE number = 2");
	s = open_store(NULL);
	assert_int_equal(find_ended(s, 1, &body), -1);
	assert_int_equal(find_ended(s, 2, &body), -1); /* another job's text is no text of this one */
	assert_int_equal(find_ended(s, 3, &body), 1);
	free(body);
	store_close(&s);
}

static void
test_a_salvage_keeps_all_that_is_whole(void **state)
{
	struct store_start start = {0};
	struct store_report report = {0};
	struct store *s = open_store(NULL);
	char aside[400], *body;
	int fd;

	(void)state;
	for (uint64_t i = 1; i <= 40; i++) {
		const struct sample job = {
		    .number = i, .revision = 1, .final = i > 20, .filler = 300, .key = "k", .group = "g"};
		commit_samples(s, &job, 1);
	}
	store_close(&s);
	fd = open(file, O_RDWR);
	assert_int_equal(pwrite(fd, "damaged", 7, 0), 7); /* the file's first words */
	close(fd);
	s = open_store(&report);
	assert_true(report.salvaged);
	assert_int_equal(report.saved, 40);
	assert_int_equal(report.damaged, 0);
	snprintf(aside, sizeof(aside), "%s/%s", place, report.aside);
	assert_int_equal(access(aside, F_OK), 0);
	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 20);
	assert_int_equal(start.last_number, 40);
	for (uint64_t i = 21; i <= 40; i++) {
		assert_int_equal(find_ended(s, i, &body), 1);
		free(body);
	}
	expect_page(s, STORE_ENDED, "g", 23, 10, "22 21 ");
	store_start_clear(&start);
	store_close(&s);
}

/* A file that is no database at all: moved aside, and zitd begins with an empty queue. */
static void
test_a_file_of_something_else(void **state)
{
	struct store_report report = {0};
	struct store *s = NULL;
	FILE *f = fopen(file, "we");

	(void)state;
	for (int i = 0; i < 5000; i++)
		fputs("this is no database ", f);
	fclose(f);
	s = open_store(&report);
	assert_true(report.salvaged);
	assert_int_equal(report.saved, 0);
	commit_samples(s, &(struct sample){.number = 1, .revision = 1}, 1);
	store_close(&s);
}

static void
test_the_reserve(void **state)
{
	struct store *s = open_store(NULL);
	char path[160];
	struct stat st;

	(void)state;
	snprintf(path, sizeof(path), "%s/queue.reserve", place);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 >= 128 * 1024); /* really there, not a hole */
	store_close(&s);
	assert_int_equal(stat(path, &st), 0); /* the next one may have to start on a full disk */
}

static void
test_no_directory(void **state)
{
	struct store_report report = {0};
	struct store *s = NULL;
	struct err e = {0};

	(void)state;
	assert_int_equal(store_open(&s, "/nonexistent", &report, &e), -ERR_SYSTEM);
	assert_non_null(strstr(e.text, "/nonexistent"));
	assert_null(s);
}

#define TEST(name) cmocka_unit_test_setup(test_##name, make_place)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(open_jobs_come_back_in_order),
	    TEST(an_ended_job_is_found_by_all_its_names),
	    TEST(a_later_text_of_an_ended_job_replaces_it),
	    TEST(a_key_is_forgotten_after_its_time),
	    TEST(pages_groups_and_dead_letters),
	    TEST(ids_are_answered_in_the_order_of_asking),
	    TEST(the_log_is_moved_to_the_file),
	    TEST(events_since),
	    TEST(notes),
	    TEST(rows_go),
	    TEST(a_batch_is_all_or_nothing),
	    TEST(pictures_go_when_their_time_is_over),
	    TEST(pictures_over_the_budget_go_oldest_first),
	    TEST(records_over_the_limit_go_with_their_pictures),
	    TEST(forgetting_is_done_in_parts),
	    TEST(a_newer_file_is_refused_and_left_alone),
	    TEST(an_open_job_that_vanished_is_noticed),
	    TEST(a_damaged_open_job_is_noticed),
	    TEST(a_damaged_ended_job_comes_without_text),
	    TEST(a_salvage_keeps_all_that_is_whole),
	    TEST(a_file_of_something_else),
	    TEST(the_reserve),
	    TEST(no_directory),
	};

	return cmocka_run_group_tests(tests, make_temp_dir, remove_temp_dir);
}
