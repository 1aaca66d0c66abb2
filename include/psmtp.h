/* psmtp.h - libpsmtp: the SMTP protocol (RFC 5321, 3207, LMTP RFC 2033) without I/O.
 *
 * A session is an object.  You feed it the bytes that arrived, take its events one by one, answer those that ask
 * for a verdict, and write out the bytes it shows you.  It makes no system call, reads no clock, never blocks,
 * never calls back, and allocates only through the allocator that you gave it.
 *
 * Time      milliseconds on any monotonic clock of yours, passed as `now`; psmtp_*_deadline says when to call
 *           psmtp_*_timeout.
 * Epochs    the bytes before and after the TLS handshake belong to epoch 1 and 2; feed takes the epoch in which
 *           the bytes arrived, so that nothing can cross the boundary unnoticed (RFC 3207 section 4.2, 6).
 * Ownership every view in an event borrows from the session and lives until the next call on it.
 * Threads   one session belongs to one thread at a time; the library has no globals, so sessions are independent.
 * Errors    constructors return NULL when memory is out; a session that runs out of memory answers 451/421 (server)
 *           or fails as temporary (client); feed never fails.  Calls made out of turn return -1 and change nothing.
 */
#ifndef PSMTP_H
#define PSMTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PSMTP_API __attribute__((visibility("default")))
#else
#define PSMTP_API
#endif

#define PSMTP_VERSION "0.1.0"

/* ---- common ------------------------------------------------------------------------------------------------ */

/* Text by pointer and length; not NUL-terminated; borrowed. */
struct psmtp_view {
	const char *p;
	size_t n;
};

/* malloc, realloc and free in one: size 0 frees and returns NULL; a failed request returns NULL and leaves old valid. */
struct psmtp_allocator {
	void *(*resize)(void *arg, void *old, size_t size);
	void *arg;
};

/* A reply as a value (RFC 5321 4.2, RFC 2034).  enhanced {0,0,0} means none.  text may hold LF to make several
 * lines; control and 8-bit octets in it are replaced by '?', and long lines are folded to the limit of 512. */
struct psmtp_reply {
	int code;
	uint16_t enhanced[3];
	struct psmtp_view text;
	bool close; /* the session ends once this reply has been written out */
};

enum psmtp_domain_kind {
	PSMTP_DOMAIN_NONE = 1, /* null reverse-path, or Postmaster without domain */
	PSMTP_DOMAIN_NAME,
	PSMTP_DOMAIN_IPV4,
	PSMTP_DOMAIN_IPV6,
	PSMTP_DOMAIN_LITERAL /* a General-address-literal: [tag:content] */
};

/* A mailbox (RFC 5321 4.1.2, RFC 6531 3.3).  text is local@domain as received, without angle brackets and without
 * the source route; local keeps its quotes; domain keeps its brackets. */
struct psmtp_address {
	struct psmtp_view text, local, domain;
	enum psmtp_domain_kind kind;
	bool quoted; /* the local part is a quoted string */
	bool utf8;   /* some octet is above 127 */
};

enum psmtp_address_flag {
	PSMTP_ADDRESS_UTF8 = 1,       /* RFC 6531 addresses are allowed */
	PSMTP_ADDRESS_NULL = 2,       /* <> is allowed (reverse-path) */
	PSMTP_ADDRESS_POSTMASTER = 4, /* Postmaster without a domain is allowed (forward-path) */
	PSMTP_ADDRESS_BARE = 8        /* without angle brackets: for configuration and command lines */
};

/* Parses one path that fills the whole view.  0, or -1 when it is none (RFC 5321 4.1.2, 4.5.3.1). */
PSMTP_API int psmtp_address_parse(struct psmtp_view text, unsigned flags, struct psmtp_address *out);
/* True when domain is a syntactically valid domain name (not a literal); utf8 allows U-labels. */
PSMTP_API bool psmtp_domain_valid(struct psmtp_view domain, bool utf8);
/* The content of a quoted local part without quotes and backslashes, else a copy; to must have local.n octets.
 * Returns the length. */
PSMTP_API size_t psmtp_local_unquote(struct psmtp_view local, char *to);
/* xtext (RFC 3461 section 4).  decode: to needs v.n octets; returns the length or -1.  encode: to needs 3 * v.n. */
PSMTP_API long psmtp_xtext_decode(struct psmtp_view v, char *to);
PSMTP_API size_t psmtp_xtext_encode(struct psmtp_view v, char *to);

enum psmtp_body { PSMTP_BODY_7BIT = 1, PSMTP_BODY_8BITMIME, PSMTP_BODY_BINARYMIME };
enum psmtp_ret { PSMTP_RET_UNSAID = 1, PSMTP_RET_FULL, PSMTP_RET_HDRS };
enum psmtp_notify { PSMTP_NOTIFY_UNSAID = 0, PSMTP_NOTIFY_NEVER = 1, PSMTP_NOTIFY_SUCCESS = 2, PSMTP_NOTIFY_FAILURE = 4, PSMTP_NOTIFY_DELAY = 8 };

/* What MAIL said (RFC 5321 4.1.1.2 and the extensions' RFCs).  Views are decoded values (xtext undone). */
struct psmtp_mail {
	struct psmtp_address sender; /* kind NONE: the null reverse-path */
	uint64_t size;               /* octets, 0 when not said (RFC 1870) */
	enum psmtp_body body;        /* 7BIT when not said */
	bool smtputf8;               /* RFC 6531 */
	bool requiretls;             /* RFC 8689 */
	enum psmtp_ret ret;          /* RFC 3461 4.3 */
	struct psmtp_view envid;     /* RFC 3461 4.4; empty when not said */
	struct psmtp_view auth;      /* RFC 4954 5; empty when not said */
};

/* What RCPT said.  orcpt_type and orcpt are empty when not said (RFC 3461 4.2). */
struct psmtp_rcpt {
	struct psmtp_address recipient;
	unsigned notify; /* bits of enum psmtp_notify */
	struct psmtp_view orcpt_type, orcpt;
};

/* Facts of a TLS session, given by the caller after the handshake and copied by the library. */
struct psmtp_tls_facts {
	struct psmtp_view protocol; /* "TLSv1.3" */
	struct psmtp_view cipher;   /* "TLS_AES_256_GCM_SHA384" */
};

enum psmtp_bare { PSMTP_BARE_REJECT = 1, PSMTP_BARE_NORMALISE }; /* bare CR, bare LF or NUL in a message */

/* ---- server ------------------------------------------------------------------------------------------------ */

enum psmtp_tls_offer {
	PSMTP_TLS_NONE = 1, /* STARTTLS is 502 5.5.1 */
	PSMTP_TLS_STARTTLS, /* offered */
	PSMTP_TLS_REQUIRED, /* offered; 530 5.7.0 to all but NOOP, EHLO, STARTTLS, QUIT before it */
	PSMTP_TLS_IMPLICIT, /* TLS came up before the greeting (RFC 8314) */
	PSMTP_TLS_BROKEN    /* configured, but cannot work now: not offered, STARTTLS is 454 4.7.0 */
};

/* Leniency is named and off by default. */
enum psmtp_switch {
	PSMTP_SWITCH_STARTTLS_DISCARD = 1,    /* bytes pending behind STARTTLS are dropped instead of 554 and close */
	PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL = 2 /* MAIL without a new EHLO after TLS is served */
};

/* Everything is copied by psmtp_server_new.  Zero means the default in parentheses. */
struct psmtp_server_options {
	struct psmtp_view hostname;     /* for the greeting and EHLO; required */
	struct psmtp_view software;     /* text behind the hostname in the greeting ("ESMTP") */
	bool lmtp;                      /* RFC 2033: LHLO instead of EHLO, one reply per recipient after the data */
	enum psmtp_tls_offer tls;       /* (NONE) */
	unsigned switches;              /* bits of enum psmtp_switch */
	enum psmtp_bare bare;           /* (REJECT) */
	bool binarymime;                /* offer BINARYMIME (RFC 3030) */
	bool requiretls;                /* offer REQUIRETLS inside TLS (RFC 8689): the caller keeps it with the message and obeys it */
	bool no_chunking, no_smtputf8, no_dsn; /* withhold an extension that is offered by default */
	struct psmtp_view auth;         /* mechanisms, blank-separated ("PLAIN LOGIN"); empty: AUTH is not offered */
	bool auth_in_clear;             /* offer AUTH without TLS (loopback, tests) */
	uint64_t size_limit;            /* octets of one message (52,428,800) */
	uint32_t rcpt_limit;            /* recipients of one transaction (1,000; RFC 5321 4.5.3.1.8 asks for 100) */
	uint32_t mail_limit;            /* transactions of one session (0: no limit); announced by LIMITS (RFC 9422) */
	uint32_t error_limit;           /* 5xx replies before 421 (20); a 4xx is no error of the client */
	uint32_t idle_limit;            /* commands without a message, since the last one, before 421 (100); not counted: RCPT, BDAT, QUIT */
	uint32_t command_ms;            /* time for one whole command line (300,000) */
	uint32_t handshake_ms;          /* time for the whole TLS handshake (60,000) */
	uint32_t data_ms;               /* time for a whole message (600,000) plus its octets at data_min_rate */
	uint32_t data_min_rate;         /* octets a second (512) */
};

enum psmtp_server_event_type {
	/* ask for a verdict: psmtp_server_answer must be called before anything else goes on */
	PSMTP_SERVER_CONNECT = 1, /* greet? */
	PSMTP_SERVER_HELLO,       /* EHLO, HELO or LHLO: hello, hello_kind */
	PSMTP_SERVER_STARTTLS,    /* may TLS start now?  Make one more non-blocking read and feed it before answering */
	PSMTP_SERVER_AUTH,        /* AUTH: auth_mechanism, auth_data (decoded initial response), auth_has_data */
	PSMTP_SERVER_AUTH_DATA,   /* a response to a challenge: auth_data */
	PSMTP_SERVER_MAIL,        /* mail */
	PSMTP_SERVER_RCPT,        /* rcpt */
	PSMTP_SERVER_BODY_BEGIN,  /* DATA, or the first BDAT: open a sink? */
	PSMTP_SERVER_BODY_END,    /* the whole message arrived: is it durable?  LMTP: asked once per accepted recipient */
	/* say what happened; no answer */
	PSMTP_SERVER_TLS_START, /* write the output out, then shake hands, then psmtp_server_tls_up or _tls_failed */
	PSMTP_SERVER_BODY,      /* bytes of the message: body (dot-unstuffed; line ends CRLF) */
	PSMTP_SERVER_RESET,     /* the transaction ended, and no BODY_END of it was answered YES: discard sender, recipients
	                         * and sink.  Also told before CLOSE, and after a NO to BODY_BEGIN or BODY_END */
	PSMTP_SERVER_REJECTED,  /* an error in the library's words was answered: reply, and command (for the log) */
	PSMTP_SERVER_CLOSE      /* write the output out, then close; nothing more comes */
};

enum psmtp_hello_kind { PSMTP_HELO = 1, PSMTP_EHLO, PSMTP_LHLO };

struct psmtp_server_event {
	enum psmtp_server_event_type type;
	struct psmtp_view hello;
	enum psmtp_hello_kind hello_kind;
	struct psmtp_view auth_mechanism, auth_data;
	bool auth_has_data;
	const struct psmtp_mail *mail; /* MAIL; also set during RCPT, BODY_* */
	const struct psmtp_rcpt *rcpt; /* RCPT */
	uint32_t rcpt_index;           /* RCPT: the index it will have when accepted; BODY_END in LMTP: which one */
	uint32_t rcpt_count;           /* recipients accepted so far */
	struct psmtp_view body;        /* BODY */
	uint64_t body_size;            /* BODY_END: octets of the whole message */
	bool chunked;                  /* BODY_BEGIN: by BDAT */
	struct psmtp_reply reply;      /* REJECTED; CLOSE when a reply closed the session */
	struct psmtp_view command;     /* REJECTED: the command's first word, printable */
	const char *reason;            /* CLOSE, REJECTED: a word for the log ("quit", "timeout", "error_budget",
	                                * "starttls_pending", "http", "peer_closed", "bare_lf", ...); static */
};

/* A verdict.  PSMTP_YES takes the reply of the table unless one is given here; the others need one or take the
 * table's temporary (451 4.3.0) or permanent (550 5.7.1) reply. */
enum psmtp_verdict_kind { PSMTP_YES = 1, PSMTP_NO_TEMPORARY, PSMTP_NO_PERMANENT, PSMTP_CHALLENGE };

struct psmtp_verdict {
	enum psmtp_verdict_kind kind;
	struct psmtp_reply reply;    /* code 0: the table's; a code that contradicts kind is a call out of turn */
	struct psmtp_view challenge; /* AUTH: raw octets; the library encodes */
	struct psmtp_view identity;  /* AUTH accepted: who */
};

struct psmtp_server;

PSMTP_API struct psmtp_server *psmtp_server_new(const struct psmtp_server_options *, const struct psmtp_allocator *, uint64_t now);
PSMTP_API void psmtp_server_free(struct psmtp_server *);

/* Takes bytes of epoch 1 (clear) or 2 (TLS).  Returns how many were taken: fewer than n means that events must be
 * drained first; the caller keeps the rest and feeds it again.  While a verdict is owed nothing is taken, but for
 * STARTTLS, whose verdict depends on what is pending.  Bytes of a wrong epoch end the session. */
PSMTP_API size_t psmtp_server_feed(struct psmtp_server *, unsigned epoch, const void *bytes, size_t n, uint64_t now);
/* The peer ended its side (end of file, close_notify, reset).  What it said before is served first; then CLOSE. */
PSMTP_API void psmtp_server_peer_closed(struct psmtp_server *, uint64_t now);
/* The next event, or false when there is none now.  While a verdict is owed, false.  False too while 16 KiB of replies
 * wait unsent (a client that pipelines without reading): ask again when they have been sent. */
PSMTP_API bool psmtp_server_next(struct psmtp_server *, struct psmtp_server_event *, uint64_t now);
/* The verdict that the last asking event wants.  0, or -1 when none is owed or the verdict cannot be: YES wants a 25x code
 * (220 at CONNECT and STARTTLS, 354 at BODY_BEGIN, 235 at AUTH) and cannot close, NO_TEMPORARY a 4xx, NO_PERMANENT a 5xx;
 * 421 closes.  The verdict's text is copied. */
PSMTP_API int psmtp_server_answer(struct psmtp_server *, const struct psmtp_verdict *, uint64_t now);
/* The handshake ended.  Legal only between TLS_START (or, for IMPLICIT, creation) and this call, and only when all output
 * queued in clear has been sent. */
PSMTP_API int psmtp_server_tls_up(struct psmtp_server *, const struct psmtp_tls_facts *, uint64_t now);
PSMTP_API int psmtp_server_tls_failed(struct psmtp_server *, uint64_t now);
/* Bytes to write out, contiguous; then psmtp_server_sent with how many were written. */
PSMTP_API struct psmtp_view psmtp_server_output(const struct psmtp_server *);
PSMTP_API void psmtp_server_sent(struct psmtp_server *, size_t n, uint64_t now);
/* When psmtp_server_timeout is due at the latest; UINT64_MAX when never.  A verdict that the caller owes has no deadline. */
PSMTP_API uint64_t psmtp_server_deadline(const struct psmtp_server *);
PSMTP_API void psmtp_server_timeout(struct psmtp_server *, uint64_t now);
/* Ends the session with 421 at the next safe place (shutdown, overload): between commands, never inside a message.  The
 * reply, if given, must be a 421 and is copied.  psmtp_server_next does the work, so call it afterwards. */
PSMTP_API void psmtp_server_shutdown(struct psmtp_server *, const struct psmtp_reply *, uint64_t now);
/* Gives memory back while the session idles. */
PSMTP_API void psmtp_server_idle(struct psmtp_server *);

/* Facts for a Received line; views live until the next call. */
struct psmtp_server_facts {
	struct psmtp_view hello; /* the name said in this epoch, empty before */
	enum psmtp_hello_kind hello_kind;
	bool tls;
	struct psmtp_view tls_protocol, tls_cipher, identity;
	bool smtputf8;                /* of the current transaction */
	struct psmtp_view with;       /* RFC 3848 / 6531 word: SMTP, ESMTP, ESMTPS, UTF8SMTPSA, LMTPS, ... */
	const char *phase;            /* the machine's phase, for logs; static */
};
PSMTP_API void psmtp_server_get_facts(const struct psmtp_server *, struct psmtp_server_facts *);

/* ---- client ------------------------------------------------------------------------------------------------ */

enum psmtp_client_tls {
	PSMTP_CLIENT_TLS_NONE = 1, /* STARTTLS is never sent */
	PSMTP_CLIENT_TLS_MAY,      /* STARTTLS when offered; 454 or 5xx to it goes on in clear, and is reported */
	PSMTP_CLIENT_TLS_MUST,     /* no MAIL and no AUTH without TLS; the session fails as policy otherwise */
	PSMTP_CLIENT_TLS_IMPLICIT  /* TLS comes up before the greeting */
};

/* Copied.  Zero means the default in parentheses (RFC 5321 4.5.3.2). */
struct psmtp_client_options {
	struct psmtp_view hello; /* our name for EHLO; required */
	bool lmtp;               /* LHLO; one final reply per recipient */
	enum psmtp_client_tls tls;
	bool no_pipelining, no_chunking; /* do not use them although offered */
	/* AUTH inside TLS (or in clear if auth_in_clear); a mechanism that the server does not offer fails the session
	 * as temporary.  The caller runs the mechanism: see PSMTP_CLIENT_AUTH. */
	struct psmtp_view auth_mechanism; /* "PLAIN", "LOGIN"; empty: no AUTH */
	bool auth_in_clear;
	uint32_t reply_limit;     /* octets of one whole reply (65,536) */
	uint32_t reply_lines;     /* lines of one reply (256) */
	uint32_t greeting_ms;     /* (300,000) */
	uint32_t command_ms;      /* EHLO, STARTTLS, AUTH, RSET, QUIT, MAIL, RCPT (300,000) */
	uint32_t data_start_ms;   /* DATA to 354 (120,000) */
	uint32_t data_block_ms;   /* one block written (180,000) */
	uint32_t data_end_ms;     /* final dot to reply (600,000) */
	uint32_t handshake_ms;    /* (60,000) */
	uint32_t quit_ms;         /* QUIT to 221 (5,000: nothing is at stake) */
};

struct psmtp_client_rcpt {
	struct psmtp_view address; /* without angle brackets */
	unsigned notify;           /* passed on only when DSN is offered */
	struct psmtp_view orcpt_type, orcpt;
};

/* One message to send.  Borrowed until PSMTP_CLIENT_DONE or the session's end. */
struct psmtp_client_message {
	struct psmtp_view sender; /* empty: null reverse-path */
	const struct psmtp_client_rcpt *rcpts;
	uint32_t rcpt_count;
	uint64_t size;   /* octets of the body; 0 when unknown */
	bool has_8bit;   /* the content holds octets above 127 (RFC 6152); judged from the bytes, not from BODY= */
	bool has_utf8;   /* the envelope or the header needs SMTPUTF8 (RFC 6531) */
	bool binary;     /* the content is not lines (RFC 3030): BINARYMIME and CHUNKING are needed */
	bool requiretls; /* RFC 8689 */
	enum psmtp_ret ret;
	struct psmtp_view envid;
};

enum psmtp_client_event_type {
	PSMTP_CLIENT_READY = 1,   /* greeted, TLS and AUTH done as wanted: psmtp_client_send or psmtp_client_quit */
	PSMTP_CLIENT_TLS_START,   /* 220 came and nothing behind it: shake hands, then _tls_up or _tls_failed */
	PSMTP_CLIENT_TLS_REFUSED, /* under MAY: not offered, 454 or 5xx: reply (code 0: not offered); goes on in clear */
	PSMTP_CLIENT_AUTH,        /* a challenge: data (empty for the initial response); psmtp_client_auth_answer.  An empty
	                           * initial response lets the server speak first (LOGIN) */
	PSMTP_CLIENT_RCPT,        /* reply to recipient rcpt_index */
	PSMTP_CLIENT_BODY,        /* the body may be written: psmtp_client_body until it is complete */
	PSMTP_CLIENT_RESULT,      /* final reply for recipient rcpt_index (every recipient gets exactly one) */
	PSMTP_CLIENT_DONE,        /* the message is settled; READY follows if the session can go on */
	PSMTP_CLIENT_FAILED,      /* the session is over before its work: fault, reply, reason.  Recipients of the current
	                           * message that had no RESULT are undecided: temporary */
	PSMTP_CLIENT_CLOSE        /* write the output out, then close */
};

enum psmtp_client_fault {
	PSMTP_FAULT_TEMPORARY = 1, /* 4xx, timeout, connection lost */
	PSMTP_FAULT_PERMANENT,     /* 5xx to greeting or EHLO */
	PSMTP_FAULT_PROTOCOL,      /* the peer broke the rules: odd replies, too long, unsolicited */
	PSMTP_FAULT_TLS,           /* the handshake failed */
	PSMTP_FAULT_POLICY         /* TLS is owed and cannot be had, or bytes came behind the 220 */
};

struct psmtp_client_event {
	enum psmtp_client_event_type type;
	uint32_t rcpt_index;
	struct psmtp_reply reply; /* the remote's words; code 0 when there are none.  For a judgement of ours (5.6.3,
	                           * 5.6.7) the code is ours and local is true */
	bool local;
	bool maybe_delivered;     /* FAILED: the final dot had left, so the message may have been accepted */
	struct psmtp_view data;   /* AUTH: decoded challenge */
	enum psmtp_client_fault fault;
	const char *reason;       /* FAILED, TLS_REFUSED: a word for the log; static */
};

struct psmtp_client;

PSMTP_API struct psmtp_client *psmtp_client_new(const struct psmtp_client_options *, const struct psmtp_allocator *, uint64_t now);
PSMTP_API void psmtp_client_free(struct psmtp_client *);
PSMTP_API size_t psmtp_client_feed(struct psmtp_client *, unsigned epoch, const void *bytes, size_t n, uint64_t now);
PSMTP_API void psmtp_client_peer_closed(struct psmtp_client *, uint64_t now);
PSMTP_API bool psmtp_client_next(struct psmtp_client *, struct psmtp_client_event *, uint64_t now);
/* Starts a message; legal after READY.  -1 when out of turn. */
PSMTP_API int psmtp_client_send(struct psmtp_client *, const struct psmtp_client_message *, uint64_t now);
/* Bytes of the body, canonical or not: a bare CR or LF is made CRLF (not for binary); dots are stuffed or chunks
 * framed.  Returns how many were taken: fewer when the output is full or a chunk waits for its reply; call again when
 * output was written out or input was fed.  last with everything taken ends the message.  Once the message is settled
 * or the session over, what comes is taken and dropped. */
PSMTP_API size_t psmtp_client_body(struct psmtp_client *, const void *bytes, size_t n, bool last, uint64_t now);
/* The body cannot be read to its end: the session is dropped without ending the message, so nothing is delivered. */
PSMTP_API void psmtp_client_body_abort(struct psmtp_client *, uint64_t now);
PSMTP_API int psmtp_client_auth_answer(struct psmtp_client *, struct psmtp_view response, bool cancel, uint64_t now);
PSMTP_API int psmtp_client_tls_up(struct psmtp_client *, const struct psmtp_tls_facts *, uint64_t now);
PSMTP_API int psmtp_client_tls_failed(struct psmtp_client *, uint64_t now);
PSMTP_API int psmtp_client_quit(struct psmtp_client *, uint64_t now);
PSMTP_API struct psmtp_view psmtp_client_output(const struct psmtp_client *);
PSMTP_API void psmtp_client_sent(struct psmtp_client *, size_t n, uint64_t now);
PSMTP_API uint64_t psmtp_client_deadline(const struct psmtp_client *);
PSMTP_API void psmtp_client_timeout(struct psmtp_client *, uint64_t now);
PSMTP_API void psmtp_client_idle(struct psmtp_client *);

/* What the server offered in this epoch. */
struct psmtp_client_facts {
	bool ehlo, pipelining, chunking, binarymime, eightbit, smtputf8, dsn, starttls, size, requiretls;
	uint64_t size_limit; /* 0: none said */
	struct psmtp_view auth;  /* mechanisms, as offered */
	struct psmtp_view hello; /* the server's name as it said it */
	uint32_t mail_limit, rcpt_limit; /* LIMITS (RFC 9422); 0: none said */
	bool tls;
	const char *phase;
};
PSMTP_API void psmtp_client_get_facts(const struct psmtp_client *, struct psmtp_client_facts *);

/* ---- messages in transit ------------------------------------------------------------------------------------ */

/* A scan over the octets of a message while they pass: what a next hop must be able to take. */
struct psmtp_scan {
	bool has_8bit, header_8bit, has_nul, has_bare;
	unsigned state; /* private */
};
PSMTP_API void psmtp_scan_bytes(struct psmtp_scan *, const void *bytes, size_t n);

#ifdef __cplusplus
}
#endif
#endif
