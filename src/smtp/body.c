/* body.c - see body.h.
 *
 * One pass over the octets: everything above CR (13) is plain and passed over eight at a time.  Six places say
 * all that must be remembered between two inputs; an octet that could still turn out to be part of an end, or of a bare
 * CR, is consumed but not given until the next one tells.
 */
#include "smtp/body.h"

#include "base/span.h"

static const struct view crlf = { "\r\n", 2 };
static const struct view nothing = { "", 0 };

void smtp_body_begin(struct smtp_body *b, enum psmtp_bare bare, bool chunked, bool binary)
{
	*b = (struct smtp_body){
		.place = SMTP_BODY_LINE,
		.bare = bare,
		.chunked = chunked,
		.binary = chunked && binary,
		.limit = UINT64_MAX,
	};
}

/* Counts what is about to be given, and gives nothing once the message cannot be accepted. */
static struct view given(struct smtp_body *b, struct view v)
{
	if (b->fault)
		return nothing;
	b->size += v.n;
	if (b->size > b->limit)
		b->over = true;
	return b->over ? nothing : v;
}

/* A bare CR, bare LF or NUL was met; repair stands in its place in the canonical message. */
static struct view mishap(struct smtp_body *b, const char *what, struct view repair)
{
	b->place = SMTP_BODY_MID; /* a line begins only behind CR LF on the wire, however it was repaired */
	if (b->bare == PSMTP_BARE_NORMALISE) {
		b->changed = true;
		return given(b, repair);
	}
	if (!b->fault)
		b->fault = what;
	return nothing;
}

/* The octet that settles what an earlier input left open.  True when the step is complete. */
static bool settle(struct smtp_body *b, char c, struct smtp_body_step *step)
{
	switch (b->place) {
	case SMTP_BODY_CR:
	case SMTP_BODY_CR_CR:
		if (c == '\n') {
			b->place = b->place == SMTP_BODY_CR ? SMTP_BODY_LINE : SMTP_BODY_MID;
			step->take = 1;
			step->give = given(b, crlf);
		} else { /* c itself is the next step's */
			step->give = mishap(b, "bare_cr", crlf);
			b->bare_cr = c == '\r';
		}
		return true;
	case SMTP_BODY_DOT:
		if (c == '\r') {
			b->place = SMTP_BODY_DOT_CR;
			step->take = 1;
			return true;
		}
		b->place = SMTP_BODY_MID; /* RFC 5321 4.5.2: the dot before other octets is removed */
		return false;
	case SMTP_BODY_DOT_CR:
		if (c == '\n') { /* RFC 5321 4.1.1.4 */
			b->place = SMTP_BODY_END;
			step->take = 1;
			step->end = true;
		} else {
			step->give = mishap(b, "bare_cr", crlf);
			b->bare_cr = c == '\r';
		}
		return true;
	case SMTP_BODY_END:
		step->end = true;
		return true;
	default:
		return false;
	}
}

/* The longest span from the start of input, which is in place LINE or MID, that can be given as it is. */
static struct smtp_body_step scan(struct smtp_body *b, struct view in)
{
	size_t i = 0;

	if (b->bare_cr) { /* in begins with the CR that followed it */
		b->bare_cr = false;
		b->place = SMTP_BODY_CR_CR;
		return (struct smtp_body_step){ .take = 1, .give = nothing };
	}
	while (i < in.n) {
		char c = in.p[i];

		if (b->place == SMTP_BODY_LINE && c == '.' && !b->chunked) {
			b->place = SMTP_BODY_DOT;
			return (struct smtp_body_step){ .take = i + 1, .give = given(b, view_slice(in, 0, i)) };
		}
		b->place = SMTP_BODY_MID;
		i += span_plain((const unsigned char *)in.p + i, in.n - i, '\r', false);
		if (i == in.n)
			break;
		c = in.p[i];
		if (c == '\r' && i + 1 < in.n && in.p[i + 1] == '\n') {
			b->place = SMTP_BODY_LINE;
			i += 2;
		} else if (c == '\r') { /* the next octet tells */
			b->place = SMTP_BODY_CR;
			return (struct smtp_body_step){ .take = i + 1, .give = given(b, view_slice(in, 0, i)) };
		} else if (c != '\n' && c != '\0') {
			i++;
		} else if (i > 0) { /* first what is sound; the odd octet is the next step's */
			return (struct smtp_body_step){ .take = i, .give = given(b, view_slice(in, 0, i)) };
		} else if (c == '\n') {
			return (struct smtp_body_step){ .take = 1, .give = mishap(b, "bare_lf", crlf) };
		} else {
			return (struct smtp_body_step){ .take = 1, .give = mishap(b, "nul", nothing) };
		}
	}
	return (struct smtp_body_step){ .take = in.n, .give = given(b, in) };
}

struct smtp_body_step smtp_body_read(struct smtp_body *b, struct view in)
{
	struct smtp_body_step step = { .give = nothing };

	if (b->place == SMTP_BODY_END)
		return (struct smtp_body_step){ .give = nothing, .end = true };
	if (!in.n)
		return step;
	if (b->binary) /* RFC 3030 section 3: opaque */
		return (struct smtp_body_step){ .take = in.n, .give = given(b, in) };
	if (settle(b, in.p[0], &step) && (step.take || step.give.n || step.end))
		return step;
	/* never a step that neither consumes nor gives: a caller could take it for "more, please" */
	return scan(b, in);
}

struct view smtp_body_finish(struct smtp_body *b)
{
	bool open_cr = b->place == SMTP_BODY_CR || b->place == SMTP_BODY_CR_CR;
	struct view rest = open_cr ? mishap(b, "bare_cr", crlf) : nothing;

	b->place = SMTP_BODY_END;
	return rest;
}
