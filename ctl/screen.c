/*
 * The terminal as one screen: entered, drawn, and left as it was.
 */
#include "ctl/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "ctl/output.h"

/* The alternate screen and no cursor; and back. */
#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[0m\033[?25h\033[?1049l"

enum { ESCAPE_MS = 25 }; /* within which the bytes of one key come */

static struct termios before;
static bool taken;
static volatile sig_atomic_t ended, resized, stopped;

/* ---- lines */

void
screen_add(struct screen_frame *f, enum screen_style style, const char *format, ...)
{
	char text[SCREEN_LINE];
	va_list args;

	if (f->count >= f->rows || f->count >= SCREEN_MAX_ROWS)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	output_plain(text, f->lines[f->count].text, SCREEN_LINE);
	output_cut(f->lines[f->count].text, f->columns);
	f->lines[f->count++].style = style;
}

/* ---- taking and giving back */

bool
screen_is_possible(void)
{
	const char *term = getenv("TERM");

	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term != NULL && *term != '\0' &&
	       strcmp(term, "dumb") != 0;
}

static void
on_signal(int number)
{
	if (number == SIGWINCH)
		resized = 1;
	else if (number == SIGTSTP)
		stopped = 1;
	else
		ended = 1;
}

static void
take(void)
{
	struct termios raw;

	if (taken || tcgetattr(STDIN_FILENO, &before) != 0)
		return;
	raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_iflag &= ~(tcflag_t)IXON;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
	fputs(ENTER, stdout);
	fflush(stdout);
	taken = true;
}

void
screen_enter(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
	struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: poll must come back */

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
	atexit(screen_leave);
	take();
}

void
screen_leave(void)
{
	if (!taken)
		return;
	taken = false;
	fputs(LEAVE, stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

/* ^Z: the shell gets its terminal as it was, and we take it again when we go on. */
static void
stop_ourselves(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL}, ours = {.sa_handler = on_signal};

	stopped = 0;
	screen_leave();
	sigaction(SIGTSTP, &action, NULL);
	raise(SIGTSTP);
	sigaction(SIGTSTP, &ours, NULL);
	take();
}

/* ---- waiting */

/* What was read and is not yet told. */
static char typed[64];
static size_t typed_count;

static int
take_bytes(size_t count, int key)
{
	typed_count -= count;
	memmove(typed, typed + count, typed_count);
	return key;
}

/* The next key of what was typed: arrows are three bytes, other sequences are nothing to us (0). */
static int
next_key(void)
{
	if (typed[0] != '\033' || typed_count < 3 || (typed[1] != '[' && typed[1] != 'O'))
		return take_bytes(1, (unsigned char)typed[0]);
	return take_bytes(3, typed[2] == 'A' ? KEY_UP : typed[2] == 'B' ? KEY_DOWN : 0);
}

/* Reads what there is; of a key of several bytes the rest too. false: the terminal is gone. */
static bool
read_keys(void)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

	do {
		ssize_t n = read(STDIN_FILENO, typed + typed_count, sizeof(typed) - typed_count);
		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		typed_count += n > 0 ? (size_t)n : 0;
	} while (typed_count > 0 && typed_count < 3 && typed[0] == '\033' && poll(&p, 1, ESCAPE_MS) > 0);
	return true;
}

enum screen_event
screen_wait(int fd, int timeout_ms, int *key)
{
	struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	bool half = typed_count > 0 && typed_count < 3 && typed[0] == '\033';
	int n = ended || resized || stopped || typed_count > 0 ? 0 : poll(p, 2, timeout_ms);

	if (stopped)
		stop_ourselves();
	if (ended || (n < 0 && errno != EINTR))
		return SCREEN_END;
	resized = 0;
	if (typed_count == 0 && n > 0 && p[0].revents == 0)
		return SCREEN_READABLE;
	if ((half && poll(p, 1, ESCAPE_MS) > 0) || (typed_count == 0 && n > 0)) {
		if (!read_keys())
			return SCREEN_END;
	}
	if (typed_count == 0)
		return SCREEN_TICK;
	*key = next_key();
	return SCREEN_KEY;
}

/* ---- drawing */

void
screen_begin(struct screen_frame *f)
{
	struct winsize size;

	f->rows = 24;
	f->columns = 80;
	f->count = 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0)
		return;
	f->rows = size.ws_row < SCREEN_MAX_ROWS ? size.ws_row : SCREEN_MAX_ROWS;
	f->columns = size.ws_col;
}

/* NO_COLOR leaves bold and reverse, which are no colours. */
static const char *
style_sequence(enum screen_style style)
{
	static const char *const sequences[] = {[STYLE_PLAIN] = "",
	    [STYLE_BOLD] = "\033[1m",
	    [STYLE_SELECTED] = "\033[7m",
	    [STYLE_ALARM] = "\033[1;31m"};
	const char *no_color = getenv("NO_COLOR");

	if (style == STYLE_ALARM && no_color != NULL && *no_color != '\0')
		style = STYLE_BOLD;
	return sequences[style];
}

void
screen_show(const struct screen_frame *f)
{
	fputs("\033[H", stdout);
	for (int i = 0; i < f->count; i++)
		printf("%s%s%s\033[0m\033[K", i > 0 ? "\r\n" : "", style_sequence(f->lines[i].style),
		    f->lines[i].text);
	fputs(f->count < f->rows ? "\033[J" : "", stdout);
	fflush(stdout);
}
