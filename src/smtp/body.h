/* body.h - the framer of message content, for DATA and for BDAT: bytes of the wire in, spans of the message out.
 *
 * DATA: the message ends where the octets CR LF . CR LF stand on the wire and nowhere else (RFC 5321 4.1.1.4); the CR
 * LF of the DATA command itself counts as the first, so that ". CR LF" at once is an empty message.  A dot at the
 * beginning of a line is removed (4.5.2), where a line begins only behind CR LF.  LF . CR LF, CR . CR LF, CR LF . LF,
 * CR LF . CR CR LF, CR CR LF . CR LF, and any NUL among them end nothing, under either policy.  (CR CR LF . CR LF does
 * hold the five octets; but whether CR CR LF ends a line is what servers disagree on, so no dot behind it counts: what
 * one takes for content another must not take for the end, see docs/decisions/005.)
 * BDAT: the count ends a chunk, the caller shows no more than its octets; there are no dots.
 *
 * A bare CR, bare LF or NUL: under PSMTP_BARE_REJECT the rest is consumed to the true end, nothing more is given, and
 * smtp_body_fault names what was met first.  Under PSMTP_BARE_NORMALISE a bare CR or LF is given as CR LF and a NUL is
 * dropped; where the message ends is judged by the wire alone.  Binary content (BDAT, BINARYMIME) is opaque.
 *
 * The framer holds no bytes: what it must hold back is told by its state, so it consumes all of its input, in one call
 * or several; a call that consumes nothing gives something.  Spans point into the input, or to static text.  One pass,
 * no copy; it cannot fail.
 *
 *   while (in.n) { step = smtp_body_read(&b, in); use(step.give); in = rest behind step.take; if (step.end) break; }
 *   chunked, behind the last octet of the LAST chunk: use(smtp_body_finish(&b));
 */
#ifndef SMTP_BODY_H
#define SMTP_BODY_H
#include <psmtp.h>

#include "base/view.h"

enum smtp_body_place { /* what stands before the next octet */
	SMTP_BODY_LINE = 1, /* CR LF, or nothing at all */
	SMTP_BODY_MID,      /* within a line */
	SMTP_BODY_CR,       /* a CR that has not been given */
	SMTP_BODY_CR_CR,    /* the same, directly behind a bare CR: with an LF it ends the line, but begins none for a dot */
	SMTP_BODY_DOT,      /* the dot at the beginning of a line, not given, and never will be */
	SMTP_BODY_DOT_CR,   /* and a CR behind it, not given */
	SMTP_BODY_END       /* the final dot */
};

struct smtp_body {
	enum smtp_body_place place;
	enum psmtp_bare bare;
	bool chunked, binary;
	bool bare_cr;      /* the octet before was a bare CR */
	bool over;         /* size > limit: the rest is consumed, and nothing more is given */
	bool changed;      /* NORMALISE: something was */
	const char *fault; /* REJECT: what was met first, or NULL */
	uint64_t size;     /* octets of the message so far: dots undone, line ends canonical */
	uint64_t limit;    /* of size; UINT64_MAX after smtp_body_begin, the caller may lower it */
};

struct smtp_body_step {
	size_t take;      /* octets of the input consumed */
	struct view give; /* the next octets of the message, perhaps none */
	bool end;         /* DATA: the final dot was taken; what follows in the input are commands */
};

void smtp_body_begin(struct smtp_body *, enum psmtp_bare, bool chunked, bool binary);
struct smtp_body_step smtp_body_read(struct smtp_body *, struct view input);
/* Chunked: the message is complete.  Settles a CR that was its last octet; gives what is left to give. */
struct view smtp_body_finish(struct smtp_body *);
/* "bare_cr", "bare_lf", "nul", or NULL when the message is sound (or was made so); static. */
static inline const char *smtp_body_fault(const struct smtp_body *b)
{
	return b->fault;
}

#endif
