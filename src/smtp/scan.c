/* scan.c - psmtp_scan_bytes: what a message demands of the next hop, seen while it passes.
 *
 * The header ends at the first empty line, or never.  A CR that ends one call is bare until the next call begins with
 * LF: so the answer is right at any moment, also when nothing more comes.  state is a set of bits; zero is the start.
 */
#include "smtp/internal.h"

#include "base/span.h"

enum scan_state {
	SCAN_BODY = 1,  /* the empty line has passed */
	SCAN_MID = 2,   /* the line has an octet */
	SCAN_CR = 4,    /* the octet before was a CR */
	SCAN_UNDO = 8   /* has_bare was set by that CR alone */
};

static void line_feed(struct psmtp_scan *s)
{
	if (!(s->state & SCAN_CR))
		s->has_bare = true;
	else if (s->state & SCAN_UNDO)
		s->has_bare = false;
	if (!(s->state & SCAN_MID))
		s->state |= SCAN_BODY;
	s->state &= ~(unsigned)(SCAN_MID | SCAN_CR | SCAN_UNDO);
}

static void other(struct psmtp_scan *s, unsigned char c)
{
	if (s->state & SCAN_CR) { /* it was bare indeed, and part of its line */
		s->state |= SCAN_MID;
		s->has_bare = true;
	}
	s->state &= ~(unsigned)(SCAN_CR | SCAN_UNDO);
	if (c == '\r') {
		s->state |= s->has_bare ? SCAN_CR : SCAN_CR | SCAN_UNDO;
		s->has_bare = true;
		return;
	}
	s->state |= SCAN_MID;
	s->has_nul |= c == '\0';
	s->has_8bit |= c > 127;
	s->header_8bit |= c > 127 && !(s->state & SCAN_BODY);
}

void psmtp_scan_bytes(struct psmtp_scan *s, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n')
			line_feed(s);
		else
			other(s, p[i]);
		/* within a line plain octets change nothing; a message is nearly all of these */
		if ((s->state & (SCAN_MID | SCAN_CR)) == SCAN_MID)
			i += span_plain(p + i + 1, n - i - 1, '\r', true);
	}
}
