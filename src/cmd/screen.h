/* screen.h - words for people: what peers wrote is made harmless, numbers get units, lines end at the terminal's edge.
 *
 * Nothing a peer can put into an address or a reply reaches the terminal as a control sequence: C0, DEL, C1 and octets
 * that are no UTF-8 become '?'.  A line is collected in a struct screen_line and printed at once, cut when standard
 * output is a terminal; elsewhere (a pipe, a file) nothing is cut.
 */
#ifndef CMD_SCREEN_H
#define CMD_SCREEN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SCREEN_UNIT 32 /* "1023 KiB", "23 h", and any number there is */
#define SCREEN_TIME 32 /* "2026-11-24 11:13:40 +0000" and NUL */

/* Columns of the terminal at standard output (COLUMNS, then the kernel); 0: no terminal, no limit. */
unsigned screen_width(void);

struct screen_line {
	char text[4096]; /* longer lines are cut with an ellipsis everywhere: nobody reads them, and --json has all */
	size_t n;
	bool cut;
};
void screen_add(struct screen_line *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void screen_end(struct screen_line *, unsigned width, FILE *); /* prints it, with a newline, and empties it */

/* Text of a peer, n octets; to a stream, '\n' and '\t' kept when lines is true. */
void screen_peer(const char *text, size_t n, bool lines, FILE *);

const char *screen_size(int64_t octets, char to[SCREEN_UNIT]);
const char *screen_span(int64_t ms, char to[SCREEN_UNIT]);  /* "now" when not positive */
const char *screen_time(int64_t ms, char to[SCREEN_TIME]);  /* local time; "-" when 0 */
int64_t screen_now(void);                                   /* ms since the epoch */

#endif
