/*
 * The terminal as one screen: entered, drawn, and left as it was. A few ANSI sequences and termios; they are
 * understood by whatever terminal has a TERM other than dumb today.
 */
#ifndef CTL_SCREEN_H
#define CTL_SCREEN_H

#include <stdbool.h>

enum { SCREEN_MAX_ROWS = 200, SCREEN_LINE = 1024 };

enum screen_style { STYLE_PLAIN, STYLE_BOLD, STYLE_SELECTED, STYLE_ALARM };

/* What is shown: at most SCREEN_MAX_ROWS lines of valid UTF-8 without control characters. */
struct screen_frame {
	int rows, columns; /* room that there is */
	int count;
	struct {
		enum screen_style style;
		char text[SCREEN_LINE];
	} lines[SCREEN_MAX_ROWS];
};

/* Adds a line, cut to the columns that there are; one too many is dropped. */
void screen_add(struct screen_frame *f, enum screen_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Whether standard input and output are a terminal that can show one. */
bool screen_is_possible(void);

/* Takes the terminal over; from here on SIGINT, SIGTERM, SIGHUP and SIGQUIT end screen_wait instead of the
 * process, SIGTSTP gives the terminal back for as long as the process is stopped. */
void screen_enter(void);
/* Gives it back as it was; also done at exit(). Does nothing when it is not taken. */
void screen_leave(void);

enum screen_event {
	SCREEN_KEY,	 /* *key: a character, or one of the keys below */
	SCREEN_READABLE, /* the descriptor has something */
	SCREEN_TICK,	 /* the time is over, or the size is another: draw again */
	SCREEN_END	 /* a signal, or the terminal is gone */
};

enum screen_key { KEY_UP = 256, KEY_DOWN };

/* Waits for a key, for fd (-1: none) to have something, or for timeout_ms. */
enum screen_event screen_wait(int fd, int timeout_ms, int *key);

/* The size it has now, and no lines. */
void screen_begin(struct screen_frame *f);
void screen_show(const struct screen_frame *f);

#endif
