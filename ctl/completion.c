/*
 * The command completion: scripts for bash, zsh and fish, made from the rows of commands.def, options.def and
 * api.def. They know words by themselves and ask zitctl for ids, quietly and for a second at most.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ctl/commands.h"
#include "ctl/ctl.h"
#include "ctl/options.h"

enum { WORD = 64 };

/* ---- what may be typed, as texts of the rows tell it */

/* What a word in capitals stands for: files, directories, or what `zitctl COMMAND -o name` lists ('+' for
 * blanks). */
static const struct {
	const char *word, *command; /* command NULL: of any */
	const char *means;
} kinds[] = {
    {"JOB", "job", "@queue+all"},
    {"JOB", "wait", "@queue+all"},
    {"JOB", "logs", "@queue+all"},
    {"JOB", "dead", "@dead"},
    {"JOB", NULL, "@queue"},
    {"ENDED", NULL, "@queue+final"},
    {"RUNNER", NULL, "@runners"},
    {"CLIENT", NULL, "@usage"},
    {"FILE", NULL, "@FILE"},
    {"SOCKET", NULL, "@FILE"},
    {"DIR", NULL, "@DIR"},
};

/* What is typed for that word of a row; NULL: anything, nothing to offer. */
static const char *
meaning(const char *word, const char *command)
{
	bool literal = true;

	for (const char *c = word; *c != '\0'; c++)
		literal = literal && (islower((unsigned char)*c) || *c == '_');
	if (literal)
		return word;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].word, word) == 0 &&
		    (kinds[i].command == NULL || strcmp(kinds[i].command, command) == 0))
			return kinds[i].means;
	}
	return NULL;
}

/* Calls visit for what each word of a text such as "[list|retry JOB|drop JOB]" means. */
static void
each_word(const char *text, const char *command, void (*visit)(const char *meaning))
{
	char word[WORD];

	while (*(text += strspn(text, " |[].")) != '\0') {
		size_t length = strcspn(text, " |[].");
		const char *means;
		snprintf(word, sizeof(word), "%.*s", (int)length, text);
		means = meaning(word, command);
		if (means != NULL)
			visit(means);
		text += length;
	}
}

static void
print_word(const char *word)
{
	printf(" %s", word);
}

/* ---- one table in shell, for bash and zsh: _zitctl_table KEY prints the words for it */

static void
print_value_row(const struct ctl_option *o)
{
	if (o->letter != 0 && !o->of_submit) /* theirs are among the others' */
		printf("\t\tvalue:-%c | ", o->letter);
	else
		printf("\t\t");
	printf("value:--%s) echo", o->name);
	each_word(o->arg, "logs", print_word); /* --job is an option of logs */
	puts(" ;;");
}

static void
print_options_row(const struct ctl_command *c)
{
	struct ctl_option o;

	printf("\t\toptions:%s) echo", c->name);
	for (size_t i = 0; options_at(i, &o); i++) {
		if (options_taken(&o, c))
			printf(" --%s", o.name);
	}
	puts(" ;;");
}

static void
print_table(void)
{
	const struct ctl_command *c;
	struct ctl_option o;

	puts("_zitctl_table() {\n\tcase $1 in");
	puts("\t\tvalue:generate:-o | value:generate:--output) echo @FILE ;;");
	printf("\t\tcommands) echo");
	for (size_t i = 0; (c = command_at(i)) != NULL; i++)
		printf(" %s", c->name);
	puts(" ;;");
	for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
		print_options_row(c);
		printf("\t\toperand:%s) echo", c->name);
		each_word(c->operands, c->name, print_word);
		puts(" ;;");
	}
	for (size_t i = 0; options_at(i, &o); i++) {
		if (o.arg != NULL)
			print_value_row(&o);
	}
	puts("\t\t*) return 1 ;;\n\tesac\n}\n");
}

/* ---- the scripts around it: what is before the common part, and behind */

/* clang-format off */
static const char bash_begin[] =
    "_zitctl() {\n"
    "\tlocal current=${COMP_WORDS[COMP_CWORD]} command='' socket='' previous key word i first=1 at=$COMP_CWORD\n"
    "\tlocal -a typed=(\"${COMP_WORDS[@]}\") words=()\n"
    "\tCOMPREPLY=()\n";

static const char bash_end[] =
    "\tfor word in $(_zitctl_table \"$key\"); do\n"
    "\t\tcase $word in\n"
    "\t\t@FILE) compopt -o filenames; mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$current\") ;;\n"
    "\t\t@DIR) compopt -o filenames; mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -d -- \"$current\") ;;\n"
    "\t\t@*)\n"
    "\t\t\tword=${word#@}\n"
    "\t\t\t# shellcheck disable=SC2086,SC2207 # '+' stands for a blank\n"
    "\t\t\twords+=($(\"${COMP_WORDS[0]}\" ${socket:+-H \"$socket\"} ${word//+/ } -o name -q --timeout 1 2>/dev/null))\n"
    "\t\t\t;;\n"
    "\t\t*) words+=(\"$word\") ;;\n"
    "\t\tesac\n"
    "\tdone\n"
    "\tmapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -W \"${words[*]}\" -- \"$current\")\n"
    "}\n"
    "complete -F _zitctl zitctl\n";

static const char zsh_begin[] =
    "\t)\n"
    "\tlocal current=${words[CURRENT]} command='' socket='' previous key word i first=2 at=$CURRENT\n"
    "\tlocal -a typed=(\"${words[@]}\") plain=()\n"
    "\tif [[ $current == --?*=* ]]; then\n"
    "\t\tcompset -P '*='\n"
    "\t\ttyped[at]=${current%%=*}\n"
    "\t\tcurrent=${current#*=}\n"
    "\t\t((at++))\n"
    "\tfi\n";

static const char zsh_end[] =
    "\tif [[ $key == commands ]]; then\n"
    "\t\t_describe command described\n"
    "\t\treturn\n"
    "\tfi\n"
    "\tfor word in ${=\"$(_zitctl_table \"$key\")\"}; do\n"
    "\t\tcase $word in\n"
    "\t\t@FILE) _files ;;\n"
    "\t\t@DIR) _files -/ ;;\n"
    "\t\t@*)\n"
    "\t\t\tword=${word#@}\n"
    "\t\t\tplain+=(${(f)\"$(\"${words[1]}\" ${socket:+-H} ${socket:+$socket} ${=word//+/ } -o name -q --timeout 1 2>/dev/null)\"})\n"
    "\t\t\t;;\n"
    "\t\t*) plain+=(\"$word\") ;;\n"
    "\t\tesac\n"
    "\tdone\n"
    "\tcompadd -a plain\n"
    "}\n\n"
    "if [[ $funcstack[1] == _zitctl ]]; then\n\t_zitctl \"$@\"\nelse\n\tcompdef _zitctl zitctl\nfi\n";

static const char fish_begin[] =
    "# fish completion for zitctl: 'zitctl completion fish' made it.\n"
    "function __zitctl_ids\n"
    "\tset -l typed (commandline -opc)\n"
    "\tset -l socket\n"
    "\tfor i in (seq 2 (count $typed))\n"
    "\t\tif contains -- $typed[$i] -H --socket; and test $i -lt (count $typed)\n"
    "\t\t\tset socket -H $typed[(math $i + 1)]\n"
    "\t\tend\n"
    "\tend\n"
    "\t$typed[1] $socket $argv -o name -q --timeout 1 2>/dev/null\n"
    "end\n"
    "complete -c zitctl -f\n";

/* Reads the words so far: `command`, `socket`, and `key`, which says what is wanted. The same in bash and zsh, but
 * for where the words are. */
static const char reading[] =
    "\t# An option's value follows it, or an equals sign that is a word of its own in bash.\n"
    "\tfor ((i = first; i < at; i++)); do\n"
    "\t\tword=${typed[i]}\n"
    "\t\tif [[ $word == -* ]] && _zitctl_table \"value:$word\" >/dev/null; then\n"
    "\t\t\t[[ ${typed[i + 1]} == '=' ]] && ((i++))\n"
    "\t\t\t[[ $word == -H || $word == --socket ]] && socket=${typed[i + 1]}\n"
    "\t\t\t((i++))\n"
    "\t\telif [[ $word != -* && -z $command ]]; then\n"
    "\t\t\tcommand=$word\n"
    "\t\tfi\n"
    "\tdone\n"
    "\tprevious=${typed[at - 1]}\n"
    "\t[[ $current == '=' ]] && current=''\n"
    "\t[[ $previous == '=' ]] && previous=${typed[at - 2]}\n"
    "\tif [[ $previous == -* ]] && _zitctl_table \"value:$previous\" >/dev/null; then\n"
    "\t\tkey=value:$previous\n"
    "\t\t_zitctl_table \"value:$command:$previous\" >/dev/null && key=value:$command:$previous\n"
    "\telif [[ -z $command && $current != -* ]]; then\n"
    "\t\tkey=commands\n"
    "\telif [[ $current == -* ]]; then\n"
    "\t\tkey=options:${command:-status}\n"
    "\telse\n"
    "\t\tkey=operand:$command\n"
    "\tfi\n";
/* clang-format on */

/* ---- bash */

static void
print_bash(void)
{
	puts("# bash completion for zitctl: 'zitctl completion bash' made it.\n");
	print_table();
	fputs(bash_begin, stdout);
	fputs(reading, stdout);
	fputs(bash_end, stdout);
}

/* ---- zsh */

/* Help in single quotes, as zsh and fish take it. */
static void
print_quoted(const char *text)
{
	for (; *text != '\0'; text++)
		fputs(*text == '\'' ? "'\\''" : (char[]){*text, '\0'}, stdout);
}

static void
print_zsh(void)
{
	const struct ctl_command *c;

	puts("#compdef zitctl\n# zsh completion for zitctl: 'zitctl completion zsh' made it.\n");
	print_table();
	puts("_zitctl() {\n\tlocal -a described=(");
	for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
		printf("\t\t'%s:", c->name);
		print_quoted(c->help);
		puts("'");
	}
	fputs(zsh_begin, stdout);
	fputs(reading, stdout);
	fputs(zsh_end, stdout);
}

/* ---- fish */

static void
print_fish_word(const char *word)
{
	if (strcmp(word, "@FILE") == 0)
		printf("(__fish_complete_path (commandline -ct)) ");
	else if (strcmp(word, "@DIR") == 0)
		printf("(__fish_complete_directories (commandline -ct)) ");
	else if (word[0] == '@') {
		printf("(__zitctl_ids");
		for (const char *c = word + 1; *c != '\0'; c++)
			fputs(c == word + 1 ? (char[]){' ', *c, '\0'}
			      : *c == '+'   ? " "
					    : (char[]){*c, '\0'},
			    stdout);
		printf(") ");
	} else
		printf("%s ", word);
}

static void
print_fish_option(const struct ctl_option *o)
{
	const struct ctl_command *c;
	bool everywhere = true;

	for (size_t i = 0; (c = command_at(i)) != NULL; i++)
		everywhere = everywhere && options_taken(o, c);
	printf("complete -c zitctl -l %s", o->name);
	if (o->letter != 0)
		printf(" -s %c", o->letter);
	if (!everywhere) {
		printf(" -n '__fish_seen_subcommand_from");
		for (size_t i = 0; (c = command_at(i)) != NULL; i++)
			printf("%s%s", options_taken(o, c) ? " " : "", options_taken(o, c) ? c->name : "");
		printf("'");
	}
	if (o->arg != NULL) {
		printf(" -x -a '");
		each_word(o->arg, "logs", print_fish_word);
		printf("'");
	}
	printf(" -d '");
	print_quoted(o->help);
	puts("'");
}

static void
print_fish(void)
{
	const struct ctl_command *c;
	struct ctl_option o;

	fputs(fish_begin, stdout);
	for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
		printf("complete -c zitctl -n __fish_use_subcommand -a %s -d '", c->name);
		print_quoted(c->help);
		printf("'\ncomplete -c zitctl -n '__fish_seen_subcommand_from %s' -a '", c->name);
		each_word(c->operands, c->name, print_fish_word);
		puts("'");
	}
	for (size_t i = 0; options_at(i, &o); i++)
		print_fish_option(&o);
	puts("complete -c zitctl -n '__fish_seen_subcommand_from generate' -s o -l output -r -F");
}

/* ---- the command */

int
command_completion(struct ctl *ctl)
{
	static const struct {
		const char *shell;
		void (*print)(void);
	} rows[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].shell, ctl->args[0]) == 0) {
			rows[i].print();
			return CTL_OK;
		}
	}
	fprintf(stderr, "zitctl: there is no completion for '%s'; 'completion' takes bash, zsh or fish\n",
	    ctl->args[0]);
	return CTL_USAGE;
}
