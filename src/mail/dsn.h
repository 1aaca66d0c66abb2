/* dsn.h - delivery status notifications: multipart/report of RFC 3462/6522 with message/delivery-status of RFC 3464,
 * and their internationalised forms of RFC 6533.
 *
 * mail_dsn_build writes a whole message (CRLF lines) into a buffer: a part for humans, a part for machines, and the
 * original or its header.  All reports of one message share an action.  The envelope of a report has the null
 * reverse-path (RFC 3464 2; RFC 3461 6.1), so that it is never reported on.
 *
 * 8 bits     What is returned keeps its octets: its part is then labelled 8bit.  Words of remotes are made ASCII unless
 *            `utf8`; addresses go out as they are under `utf8` and never hold an octet above 127 otherwise.
 * Bounds     The caller gives at most MAIL_DSN_FULL_MAX octets of a whole original; a longer one is returned as its
 *            header (RFC 3461 6.2 lets a MTA do so), a header is cut at MAIL_DSN_HEADER_MAX.
 * Failure    false: memory; the buffer is then of no use.
 */
#ifndef MAIL_DSN_H
#define MAIL_DSN_H
#include "base/buf.h"
#include "base/view.h"

#define MAIL_DSN_FULL_MAX (128u * 1024)  /* of an original: enough to know it by; a bounce must not double the traffic \
					  */
#define MAIL_DSN_HEADER_MAX (64u * 1024) /* of a header: longer ones are attacks */
#define MAIL_DSN_TEXT_MAX   900          /* of a remote's words: a line of RFC 5322 2.1.1 may hold 998 */

enum mail_dsn_action {
	MAIL_DSN_FAILED = 1,
	MAIL_DSN_DELAYED,
	MAIL_DSN_DELIVERED, /* in a mailbox */
	MAIL_DSN_RELAYED    /* to a next hop that sends no notifications (RFC 3461 5.2.2) */
};
const char *mail_dsn_action_name(enum mail_dsn_action);

struct mail_dsn_rcpt {
	struct view address;
	struct view orcpt_type, orcpt; /* decoded; empty: not said, and then not reported */
	enum mail_dsn_action action;
	uint16_t status[3];   /* RFC 3463; zeros: chosen by action */
	struct view remote;   /* host that spoke; empty: none did */
	uint16_t code;        /* its reply; 0: none */
	struct view text;     /* its words, or ours */
	bool local;           /* the words are ours */
	int64_t last_attempt; /* ms since the epoch; 0: none */
	int64_t retry_until;  /* DELAYED: when we give up */
};

struct mail_dsn {
	enum mail_dsn_action action; /* of the report; DELIVERED and RELAYED may be mixed */
	struct view host;            /* our name: Reporting-MTA, domain of From and Message-ID */
	struct view sender;          /* who gets the report */
	struct view envid;           /* decoded; empty: not said */
	uint64_t id;                 /* of the original, for the human */
	uint64_t nonce;              /* random: boundary and Message-ID */
	int64_t arrival, now;        /* ms since the epoch */
	bool utf8;                   /* the original was SMTPUTF8: the forms of RFC 6533 */
	const struct mail_dsn_rcpt *rcpts;
	size_t n;
	struct view original; /* the whole original, or its beginning with all of its header */
	bool whole;           /* original is whole and shall be returned whole (RET=FULL) */
};

/* has_8bit: the report holds octets above 127 and so needs 8BITMIME at its next hop. */
bool mail_dsn_build(struct buf *out, const struct mail_dsn *, bool *has_8bit);

/* A report of mail_dsn_build again, without the part that it returned (RFC 6522 3 leaves that part to us): for a next hop
 * without 8BITMIME, when only what was returned needs it.  `report` may be cut inside that part.  1; 0: it is no
 * such report, or the rest holds octets above 127 too; -1: memory. */
int mail_dsn_shorten(struct buf *out, struct view report);

#endif
