/* envelope.h - what the queue keeps of an envelope on disk: sender, recipients, DSN wishes, and what was last heard.
 *
 * The encoding is versioned and its decoding is checked: a record that does not decode is reported and put on hold,
 * never guessed at.  Numbers are little endian.  Texts are cut to their limits when encoded.
 * Ownership: a decoded envelope borrows from the octets and from the arena.
 */
#ifndef QUEUE_ENVELOPE_H
#define QUEUE_ENVELOPE_H
#include "base/arena.h"
#include "base/buf.h"

/* Recipients of one envelope: every server must take a hundred in a transaction (RFC 5321 4.5.3.1.8), so that one
 * DELIVER is one transaction. */
#define QUEUE_ENVELOPE_RCPTS 100
#define QUEUE_ADDRESS_MAX    512 /* octets: 320 (RFC 5321 4.5.3.1), and room for what UTF-8 makes of it */
#define QUEUE_ORCPT_MAX      512 /* RFC 3461 5.4: 500 octets of xtext */
#define QUEUE_WORDS_MAX      400 /* of a remote's reply: for the operator and the bounce */
#define QUEUE_REMOTE_MAX     160
#define QUEUE_TLS_MAX        400 /* protocol, cipher, a name and a verification result; a reason in words */

enum queue_envelope_kind { QUEUE_MAIL = 1, QUEUE_REPORT };

/* The last judgement of a recipient. */
struct queue_last {
	uint16_t code, enhanced[3];
	bool local;
	int64_t when; /* ms since the epoch; 0: never tried */
	struct view text, remote;
};

struct queue_rcpt {
	struct view address, orcpt_type, orcpt;
	uint8_t notify;
	struct queue_last last;
};

struct queue_envelope {
	enum queue_envelope_kind kind;
	uint64_t origin; /* of a report: the message that it tells of; else 0 */
	uint64_t session;
	uint32_t flags; /* enum wire_message_flag */
	uint8_t ret;    /* enum psmtp_ret, as in BODY_SUBMIT */
	bool warned;    /* the delay warning was sent */
	bool maybe;     /* the last attempt may have delivered */
	uint8_t lost;   /* attempts that ended because the delivering role went away, in a row */
	struct view sender, envid, client;
	struct queue_rcpt *rcpts;
	uint32_t n;
};

bool queue_envelope_encode(struct buf *, const struct queue_envelope *);
/* 0; -1 malformed; -2 memory. */
int queue_envelope_decode(struct view, struct queue_envelope *, struct arena *);

#endif
