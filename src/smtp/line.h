/* line.h - framing of command lines: CR LF ends a line, and nothing else does (RFC 5321 2.3.8).
 *
 * The caller owns a buffer of input and shows all of it; smtp_line_read finds the next line in it.  The state is small
 * and holds no byte.  After each call the caller removes `take` octets from the head of its buffer (after it is done
 * with `text`), and shows more bytes behind what is left.
 *
 * A line with a bare CR, bare LF, NUL or other control octet (but for the tab) runs to its CR LF and is BAD: one line,
 * one error, and no part of it is ever a command.  A line over the limit is consumed to its CR LF and reported there,
 * exactly once, as TOO_LONG; meanwhile SMTP_LINE_NONE comes with take > 0, so that the buffer never fills up.
 * 8-bit octets are a matter of the command: `eight_bit` tells.
 */
#ifndef SMTP_LINE_H
#define SMTP_LINE_H
#include "base/view.h"
#include "smtp/limits.h"

enum smtp_line_kind {
	SMTP_LINE_NONE = 1, /* no end of line yet; take may be above 0 nevertheless */
	SMTP_LINE_GOOD,
	SMTP_LINE_BAD,
	SMTP_LINE_TOO_LONG
};

struct smtp_line {
	enum smtp_line_kind kind;
	struct view text;   /* GOOD, BAD: without CR LF; borrowed from the input */
	size_t take;        /* octets to remove from the head of the input */
	bool eight_bit;     /* GOOD: some octet is above 127 */
	const char *reason; /* BAD: "bare_cr", "bare_lf", "nul", "control"; TOO_LONG: "line_too_long"; static */
};

/* All zero at the start of a session and of each epoch. */
struct smtp_line_state {
	size_t seen;   /* octets at the head of the input that hold no end of line */
	bool skipping; /* inside an over-long line */
};

/* limit: octets of the line with its CR LF; it may differ from call to call (smtp_command_limit). */
struct smtp_line smtp_line_read(struct smtp_line_state *, struct view input, size_t limit);

#endif
