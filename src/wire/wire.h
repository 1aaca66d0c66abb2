/* wire.h - encoding and checked decoding of the frames in messages.def.
 *
 * For each row ID there is a struct wire_ID (fields named as in the row; TEXT fields are views), a number WIRE_ID, and
 *   wire_send_ID(channel, &m)              encodes and queues it (with a descriptor: wire_send_ID_fd(channel, &m, fd))
 *   wire_read_ID(payload, &m)              0, or -1 when a length does not fit or octets are left over
 * Numbers are little endian.  Views in a decoded struct point into the payload.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H
#include "base/view.h"
#include "net/channel.h"
#include "wire/role.h"

/* Octets of one body in flight between two roles before credit is granted: 16 frames of 16 KiB. */
#define WIRE_BODY_WINDOW (256u * 1024)
/* A body frame carries at most so many octets: large enough to amortise the frame, small enough to share a channel. */
#define WIRE_BODY_FRAME (16u * 1024)

/* PRESSURE: 0 to 100, or this: the disk failed, and nothing can be taken until the queue is started anew. */
#define WIRE_PRESSURE_SICK 200u

enum wire_type {
	WIRE_NONE = 0, /* never sent */
#define MESSAGE(id, from, to, fd, fields) WIRE_##id,
#include "wire/messages.def"
	WIRE_END
};

#define U8(n) uint8_t n;
#define U16(n) uint16_t n;
#define U32(n) uint32_t n;
#define U64(n) uint64_t n;
#define TEXT(n) struct view n;
#define MESSAGE(id, from, to, fd, fields) struct wire_##id { fields };
#include "wire/messages.def"
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	bool wire_send_##id(struct channel *, const struct wire_##id *);                                               \
	bool wire_send_##id##_fd(struct channel *, const struct wire_##id *, int sent); /* duplicates it */            \
	int wire_read_##id(struct view payload, struct wire_##id *);
#include "wire/messages.def"
#undef U8
#undef U16
#undef U32
#undef U64
#undef TEXT

/* The size a message would have, and its encoding into a buffer: for tests and for super's control channel. */
struct buf;
#define MESSAGE(id, from, to, fd, fields) bool wire_put_##id(struct buf *, const struct wire_##id *);
#include "wire/messages.def"

/* Tells super that a peer broke the rules: its process is ended and started anew.  Its channel is the caller's to free. */
void wire_accuse(struct role *, enum role_kind peer, uint32_t generation);
/* Whose word counts against whom: along an edge, that of the side that is better protected. */
bool wire_may_accuse(enum role_kind accuser, enum role_kind peer);

const char *wire_name(uint32_t type);
/* Does a frame of this type carry a descriptor?  One that comes with another, or is missing, is a fault of the peer. */
bool wire_has_fd(uint32_t type);
/* May `from` send this type to `to`?  From edges.def and messages.def together. */
bool wire_allowed(uint32_t type, enum role_kind from, enum role_kind to);

/* The status of BODY_DONE.  All but LOOP are temporary to the client: 451, or 452 for FULL. */
enum wire_done_status {
	WIRE_DONE_OK = 1, /* durable: 250 */
	WIRE_DONE_AGAIN,  /* 451 4.3.0 */
	WIRE_DONE_FULL,   /* 452 4.3.1 */
	WIRE_DONE_SICK,   /* 451 4.3.0: the disk fails */
	WIRE_DONE_LOOP    /* permanent: too many Received lines, 554 5.4.6 */
};

/* The verdict of RCPT_VERDICT. */
enum wire_rcpt_verdict { WIRE_RCPT_YES = 1, WIRE_RCPT_NO, WIRE_RCPT_AGAIN };

/* STS_POLICY: what there is, and what it asks for (RFC 8461 3.2). */
enum wire_sts_status {
	WIRE_STS_NONE = 1, /* no record: the domain has no policy */
	WIRE_STS_FOUND,
	WIRE_STS_FAILED    /* a record, but no policy to be had and none cached: as if none (RFC 8461 3.3), but reported */
};
enum wire_sts_mode { WIRE_STS_MODE_NONE = 1, WIRE_STS_MODE_TESTING, WIRE_STS_MODE_ENFORCE };

/* TLS_RESULT (RFC 8460 4.3). */
enum wire_rpt_policy { WIRE_RPT_NO_POLICY = 1, WIRE_RPT_TLSA, WIRE_RPT_STS };
enum wire_rpt_result {
	WIRE_RPT_SUCCESS = 1, WIRE_RPT_STARTTLS_NOT_SUPPORTED, WIRE_RPT_CERTIFICATE_HOST_MISMATCH, WIRE_RPT_CERTIFICATE_EXPIRED,
	WIRE_RPT_CERTIFICATE_NOT_TRUSTED, WIRE_RPT_VALIDATION_FAILURE, WIRE_RPT_TLSA_INVALID, WIRE_RPT_DNSSEC_INVALID,
	WIRE_RPT_DANE_REQUIRED, WIRE_RPT_STS_POLICY_FETCH_ERROR, WIRE_RPT_STS_POLICY_INVALID, WIRE_RPT_STS_WEBPKI_INVALID
};

/* What CONTROL asks of super. */
enum wire_control_command { WIRE_CONTROL_STATUS = 1, WIRE_CONTROL_RELOAD, WIRE_CONTROL_STOP };

/* ---- lists inside TEXT fields ---- */

/* Flags of BODY_SUBMIT and DELIVER. */
enum wire_message_flag {
	WIRE_HAS_8BIT = 1, WIRE_HAS_UTF8 = 2, WIRE_BINARY = 4, WIRE_REQUIRETLS = 8,
	WIRE_SMTPUTF8 = 16, /* MAIL said SMTPUTF8 */
	WIRE_RELAXED = 32 /* the header says TLS-Required: No (RFC 8689 3) */
};

struct wire_rcpt { struct view address, orcpt_type, orcpt; uint8_t notify; };
bool wire_rcpt_add(struct buf *list, const struct wire_rcpt *);
/* Takes the next one off the front of *list: 1, 0 at the end, -1 when malformed. */
int wire_rcpt_next(struct view *list, struct wire_rcpt *);

/* The result of one recipient in an OUTCOME, in the order of DELIVER's rcpts. */
enum wire_result_kind { WIRE_DELIVERED = 1, WIRE_FAILED, WIRE_DEFERRED };
struct wire_result {
	uint8_t kind;
	uint16_t code;            /* 0: no reply was had */
	uint16_t enhanced[3];     /* {0,0,0}: unknown; the queue fills in X.0.0 */
	struct view text;         /* the remote's words, or ours */
	struct view remote;       /* host[address]:port, "" when none; for the DSN's Remote-MTA and the log */
	uint8_t local;            /* the judgement was ours, not the remote's */
};
bool wire_result_add(struct buf *list, const struct wire_result *);
int wire_result_next(struct view *list, struct wire_result *);

/* One DNS answer in RESOLVED.  kind of RESOLVE: */
enum wire_resolve_kind { WIRE_RESOLVE_MX = 1, WIRE_RESOLVE_ADDRESS, WIRE_RESOLVE_TXT, WIRE_RESOLVE_TLSA, WIRE_RESOLVE_ALIAS };
enum wire_resolve_status { WIRE_DNS_OK = 1, WIRE_DNS_NXDOMAIN, WIRE_DNS_NODATA, WIRE_DNS_TEMPORARY, WIRE_DNS_BOGUS };
struct wire_record { uint16_t preference; struct view name; uint8_t family; struct view address; }; /* TXT: its strings, joined, in address */
bool wire_record_add(struct buf *list, const struct wire_record *);
int wire_record_next(struct view *list, struct wire_record *);

#endif
