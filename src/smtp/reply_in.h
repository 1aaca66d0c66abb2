/* reply_in.h - replies as they arrive at a client (RFC 5321 4.2.1), incremental and bounded.
 *
 * Shape: three digits, 2 to 5 first; then a blank and text, or nothing, on the last line, or a hyphen and text on the
 * others; every line the same code.  Lines end with CR LF: a bare CR, bare LF or NUL is a fault, because a reply that
 * two readers cut differently is a way to make replies run apart from commands, and no server in use ends its lines
 * otherwise.  Faults: see enum; all of them end the session, nothing is resynchronised.
 *
 * The text is collected with LF between lines and without the enhanced code (2xx, 4xx, 5xx; taken from the first line,
 * removed from each line that repeats it); control octets become '?', the tab and 8-bit octets stay (RFC 6531 3.7.4.2).
 * Ownership: the text lives in the object until smtp_reply_in_next or _free.  No octet behind the reply's last LF is
 * consumed, so the caller knows what is pending behind it.
 */
#ifndef SMTP_REPLY_IN_H
#define SMTP_REPLY_IN_H
#include <psmtp.h>

#include "base/buf.h"
#include "smtp/limits.h"

enum smtp_reply_status {
	SMTP_REPLY_MORE = 1, /* everything was consumed, the reply is not complete */
	SMTP_REPLY_DONE,
	SMTP_REPLY_BAD,      /* the peer broke the rules; reason tells */
	SMTP_REPLY_MEMORY    /* ours: memory is out */
};

struct smtp_reply_in {
	struct buf text;
	uint32_t octet_limit, line_limit; /* of a whole reply, line ends included */
	uint32_t line_max;                /* octets of one line; SMTP_REPLY_IN_LINE_MAX, and more while AUTH is on */
	uint32_t octets, lines;           /* of this reply; lines that are complete */
	uint32_t column;                  /* octets of the line so far */
	int code, line_code;
	size_t line_start;                /* in text: where the line's words begin */
	bool last, cr;
	enum smtp_reply_status ended;     /* DONE, BAD or MEMORY; 0 until then */
	uint16_t enhanced[3];
	const char *reason; /* BAD: "reply_syntax", "reply_codes_differ", "reply_bare_cr", "reply_bare_lf", "reply_nul",
	                     * "reply_line_too_long", "reply_too_long", "reply_too_many_lines"; static */
};

/* alloc must outlive the object.  Limits as in struct psmtp_client_options, not 0. */
void smtp_reply_in_init(struct smtp_reply_in *, const struct alloc *, uint32_t octet_limit, uint32_t line_limit);
void smtp_reply_in_free(struct smtp_reply_in *);
/* Forgets the reply; ready for the first octet of the next. */
void smtp_reply_in_next(struct smtp_reply_in *);
/* Consumes *taken octets of input.  After DONE, BAD or MEMORY nothing more is consumed until smtp_reply_in_next. */
enum smtp_reply_status smtp_reply_in_read(struct smtp_reply_in *, struct view input, size_t *taken);
/* The reply, after DONE; its text is borrowed. */
struct psmtp_reply smtp_reply_in_get(const struct smtp_reply_in *);
/* True when an octet of the reply has arrived and it is not complete. */
static inline bool smtp_reply_in_begun(const struct smtp_reply_in *r)
{
	return r->octets > 0 && !r->ended;
}

#endif
