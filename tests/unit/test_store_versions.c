/*
 * supervisor/store: a file that an older zit wrote is taken over as it is.
 */
#include "tests/unit/test.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"
#include "tests/unit/store_place.h"
#include "tests/unit/store_samples.h"

/* The text with the sum of the first version, FNV-1a, in its seal. */
static void
seal_as_in_version_1(sqlite3_context *context, int count, sqlite3_value **values)
{
	const char *text = (const char *)sqlite3_value_text(values[0]);
	const int end = (int)sizeof("0123456789abcdef\"}") - 1, tail = (int)sizeof(SEAL_TAIL) - 1;
	int bytes = sqlite3_value_bytes(values[0]) - end;
	unsigned long long sum = 0xcbf29ce484222325;
	char *again;

	assert_int_equal(count, 1);
	for (int i = 0; i < bytes - tail; i++)
		sum = (sum ^ (unsigned char)text[i]) * 0x100000001b3;
	again = sqlite3_mprintf("%.*s%016llx\"}", bytes, text, sum);
	assert_string_not_equal(again, text);
	sqlite3_result_text(context, again, -1, sqlite3_free);
}

/* Behind the store's back. */
static void
execute(const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	sqlite3_create_function(db, "seal", 1, SQLITE_UTF8, NULL, seal_as_in_version_1, NULL, NULL);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static int
version_of_file(void)
{
	sqlite3 *db;
	int version;

	assert_int_equal(store_open_file(&db, file, &version), SQLITE_OK);
	sqlite3_close(db);
	return version;
}

/* An open job, an ended one and a note, as version 1 left them. */
static void
leave_version_1(void)
{
	const struct sample jobs[] = {{.number = 1, .revision = 1, .filler = 500},
	    {.number = 2, .revision = 1, .final = true, .filler = 9000}};
	struct store_batch b = {0};
	struct store_report report;
	struct store *s = open_store(&report);

	commit_samples(s, jobs, 2);
	batch_add_note(&b, "name", "noted");
	assert_int_equal(store_commit(s, &b), 0);
	store_batch_clear(&b);
	store_close(&s);
	execute("UPDATE open_job SET body = seal(body); UPDATE final_job SET body = seal(body);"
		"UPDATE note SET body = seal(body); PRAGMA user_version = 1");
}

static void
expect_both_jobs(struct store *s)
{
	const struct sample open = {.number = 1, .revision = 1, .filler = 500};
	struct store_start start = {0};
	char *body, *text = sample_text(&open);
	const size_t same = strlen(text) - sizeof("0123456789abcdef\"}") + 1;

	assert_int_equal(store_load(s, &start), 0);
	assert_int_equal(start.row_count, 1);
	assert_memory_equal(start.rows[0].body, text, same);
	assert_int_equal(find_ended(s, 2, &body), 1);
	free(body);
	free(text);
	store_start_clear(&start);
}

static void
test_an_older_file_is_taken_over(void **state)
{
	struct store_report report;
	struct store *s;

	(void)state;
	leave_version_1();
	s = open_store(&report);
	assert_false(report.salvaged);
	expect_both_jobs(s);
	store_close(&s);
	assert_int_equal(version_of_file(), STORE_VERSION);
}

static void
test_an_older_file_is_salvaged(void **state)
{
	struct store_report report;
	struct store *s;
	int fd;

	(void)state;
	leave_version_1();
	fd = open(file, O_RDWR);
	assert_int_equal(pwrite(fd, "damaged", 7, 0), 7);
	close(fd);
	s = open_store(&report);
	assert_true(report.salvaged);
	assert_int_equal(report.damaged, 0);
	expect_both_jobs(s);
	store_close(&s);
}

static void
test_damage_in_an_older_file_is_noticed(void **state)
{
	struct store_report report;
	struct store *s;

	(void)state;
	leave_version_1();
	execute("UPDATE open_job SET body = replace(body, '\"revision\":1', '\"revision\":3')");
	s = open_store(&report);
	assert_true(report.salvaged);
	assert_int_equal(report.damaged, 1);
	store_close(&s);
}

#define TEST(name) cmocka_unit_test_setup(test_##name, make_place)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(an_older_file_is_taken_over),
	    TEST(an_older_file_is_salvaged),
	    TEST(damage_in_an_older_file_is_noticed),
	};

	return cmocka_run_group_tests(tests, make_temp_dir, remove_temp_dir);
}
