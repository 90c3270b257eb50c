/*
 * Lists for the manual pages and message catalogs, made from the .def rows by the preprocessor: what a user
 * can type or see is written once.
 *
 *   def-tables PAGE       copies the page to standard output, each line "@NAME@" replaced by that list
 */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "ipc/err.h"
#include "man/def-tables.h"
#include "supervisor/conf_inside.h"

/* No line begins with a control character, backslashes and quotes stand for themselves. */
void
put(const char *text)
{
	bool fresh = true; /* a line may begin here */

	for (const char *begin = text; *text != '\0'; text++) {
		if (fresh && strchr(".'", *text) != NULL)
			fputs("\\&", stdout);
		fresh = *text == '\n' || (*text == ' ' && text > begin && text[-1] == '.');
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '"')
			fputs("\\(dq", stdout);
		else
			putchar(fresh ? '\n' : *text); /* a new sentence begins a new line */
	}
}

void
put_lower(const char *text, char dash)
{
	for (; *text != '\0'; text++)
		putchar(*text == '_' ? dash : tolower((unsigned char)*text));
}

void
put_sentence(const char *text)
{
	char first[2] = {(char)toupper((unsigned char)text[0]), '\0'};

	put(first);
	put(text + 1);
	puts(text[strlen(text) - 1] == '.' ? "" : ".");
}

void
begin(const char *width)
{
	printf(".Bl -tag -width %s\n", width);
}

void
item(const char *macro, const char *name, char dash, const char *argument)
{
	printf(".It %s%s", macro, macro[strlen(macro) - 1] == '-' ? "" : " ");
	put_lower(name, dash);
	if (argument != NULL) {
		printf(" Ar ");
		put(argument);
	}
	putchar('\n');
}

/* ---- zitctl */

/* The fields of submit alone, as options of zitctl. */
static void
list_submit_options(void)
{
	const char *method = "";

#define OPTION_OF_SUBMIT(name, arg, help) \
	if (strcmp(method, "submit") == 0 && \
	    strstr(" prompt wait events deliver group ", " " #name " ") == NULL) { \
		item(sizeof(#name) == 2 ? "Fl " #name " , Fl -" : "Fl -", #name, '-', arg); \
		put_sentence(help); \
	}
	begin("Ds");
#define STRING(name, need, min, max, help) OPTION_OF_SUBMIT(name, "text", help)
#define INTEGER(name, need, min, max, multiple, help) OPTION_OF_SUBMIT(name, "n", help)
#define NUMBER(name, need, min, max, help) OPTION_OF_SUBMIT(name, "number", help)
#define BOOLEAN(name, need, help) OPTION_OF_SUBMIT(name, NULL, help)
#define CHOICE(name, need, words, help) OPTION_OF_SUBMIT(name, words, help)
#define METHOD(name, role, when, fields, help) \
	method = #name; \
	fields
#include "ipc/api.def"
	puts(".El");
}

enum { CTL_MAX_ARGS = 0 }; /* not shown */

static void
list_commands(void)
{
	begin("Ds");
#define COMMAND(name, operands, min, max, params, saves, help) \
	printf(".It Cm " #name "%s%s\n", operands[0] != '\0' ? " Ar " : "", operands); \
	put_sentence(help);
#include "ctl/commands.def"
	puts(".El");
}

static void
list_doctor_checks(void)
{
	begin("version");
#define CHECK(name, help) \
	printf(".It Cm " #name "\n"); \
	put_sentence(help);
#include "ctl/doctor.def"
	puts(".El");
}

static void
list_schema(void)
{
	const char *end = "";

#define TEXT "text"
#define INTEGER "integer"
#define NUMBER "number"
#define FLAG "true or false"
#define ANY "of any type"
#define ALWAYS ""
#define MAYBE ", if any"
#define OBJECT(name, help) \
	printf("%s.Ss The object " #name "\n", end); \
	put_sentence("printed by " help); \
	puts(".Bl -tag -width Ds -compact"); \
	end = ".El\n";
#define MEMBER(path, type, need, help) \
	printf(".It Va %s No (" type need ")\n", path); \
	put_sentence(help);
#include "ctl/schema.def"
	puts(".El");
}

static void
list_ctl_exits(void)
{
	puts(".Bl -tag -width 124 -compact");
#define EXIT(name, number, text) \
	printf(".It %d\n", number); \
	put_sentence(text);
#include "ctl/exits.def"
	puts(".El");
}

static void
list_options(void)
{
	begin("Ds");
#define OPTION(name, letter, arg, kind, max, commands, help) \
	if (letter != 0) \
		printf(".It Fl %c , Fl -" #name "%s%s\n", letter, (arg) != NULL ? " Ar " : "", \
		    (arg) != NULL ? arg : ""); \
	else \
		item("Fl -", #name, '-', arg); \
	put_sentence(help);
#include "ctl/options.def"
	puts(".El");
}

/* ---- zitd.conf */

static void
conf_option(const struct conf_row *row)
{
	static const char *const whens[] = {[CONF_AT_ONCE] = "at once by a reload",
	    [CONF_RESPAWN] = "when the runner is restarted",
	    [CONF_RESTART] = "when zitd is restarted"};
	const char *quote = row->fallback[0] != '\0' ? "\\(dq" : "";
	char values[400];

	item("Va", row->name, '_', NULL);
	put_sentence(row->help);
	conf_describe(row, values, sizeof(values));
	put_sentence(values);
	printf("Default: %s%s%s.\n", quote, row->fallback[0] != '\0' ? row->fallback : "none", quote);
	printf("Taken over %s.\n", whens[row->when]);
}

static void
begin_section(enum conf_section section)
{
	const char *named = conf_section_named(section);

	printf(".Ss [%s]%s%s%s\n", conf_section_alone(section), named != NULL ? ", [" : "",
	    named != NULL ? named : "", named != NULL ? ":NAME]" : "");
	begin("connect_timeout");
}

static void
list_conf_options(void)
{
	const struct conf_row *row, *last = NULL;

	for (int i = 0; (row = conf_row_at(i)) != NULL; last = row, i++) {
		if (last != NULL && last->section != row->section)
			puts(".El");
		if (last == NULL || last->section != row->section)
			begin_section(row->section);
		conf_option(row);
	}
	puts(".El");
}

/* ---- pages */

static const struct {
	const char *name;
	void (*list)(void);
} lists[] = {
    {"@errors@", list_errors},
    {"@runner-exits@", list_runner_exits},
    {"@methods@", list_methods},
    {"@job-states@", list_job_states},
    {"@metrics@", list_metrics},
    {"@label-values@", list_label_values},
    {"@messages@", list_messages},
    {"@stages@", list_stages},
    {"@runner-options@", list_runner_options},
    {"@submit-options@", list_submit_options},
    {"@commands@", list_commands},
    {"@options@", list_options},
    {"@ctl-exits@", list_ctl_exits},
    {"@schema@", list_schema},
    {"@doctor-checks@", list_doctor_checks},
    {"@conf-options@", list_conf_options},
    {"@events@", list_events},
    {"@event-fields@", list_event_fields},
    {"@catalog@", list_catalog},
    {"@catalog-zh_CN@", list_catalog_zh_CN},
};

/* Prints the line, or the list that it stands for; false when there is no such list. */
static bool
put_line(const char *line)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		if (strncmp(line, lists[i].name, strlen(lists[i].name)) == 0) {
			lists[i].list();
			return true;
		}
	}
	fputs(line, stdout);
	return line[0] != '@';
}

int
main(int argc, char **argv)
{
	char line[1024];
	FILE *page = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (page == NULL) {
		fprintf(stderr, "usage: def-tables PAGE\n");
		return 64;
	}
	while (fgets(line, sizeof(line), page) != NULL) {
		if (!put_line(line)) {
			fprintf(stderr, "%s: there is no list %s", argv[1], line);
			return 1;
		}
	}
	fclose(page);
	return 0;
}
