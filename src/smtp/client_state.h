/* client_state.h - the state of a client session, grouped by how long it lives (spec/client.def, CLIENT_LIFE).
 *
 * The structs are nested as the lifetimes are: ending one ends all inside it, by client_life_end alone, so that a
 * partial reset cannot be written.  Only client_step.c changes the phase.
 * Ownership: all memory hangs on the session and comes from its allocator; the message is the caller's, borrowed.
 * Failure: functions that return bool return false when memory is out; the driver then fails the session as temporary.
 */
#ifndef SMTP_CLIENT_STATE_H
#define SMTP_CLIENT_STATE_H
#include <psmtp.h>

#include "base/arena.h"
#include "base/buf.h"
#include "smtp/client_table.h"
#include "smtp/internal.h"
#include "smtp/reply_in.h"

#define CLIENT_OUTPUT_MAX 65536    /* unsent octets at most: two chunks, or a flight of some hundred recipients */
#define CLIENT_HEADROOM 256        /* of these, kept for what must never fail to fit: end of data, RSET, QUIT */
#define CLIENT_LINE_MAX 4096       /* the longest command written: RCPT with NOTIFY and ORCPT in xtext is under 2,500 */
#define CLIENT_CHUNK 32768         /* octets of a BDAT chunk; a peer holds a chunk in memory, so not more */
#define CLIENT_CHUNKS_AHEAD 4096   /* chunks without their reply; beyond that the peer is not keeping up */
#define CLIENT_AUTH_LINE 12288     /* RFC 4954 section 4: the longest line of an exchange */
#define CLIENT_AUTH_COMMAND 512    /* RFC 4954 section 4: AUTH itself is bound by the limit of commands */
#define CLIENT_AUTH_ROUNDS 32      /* challenges of one exchange; the longest mechanism in use needs five */
#define CLIENT_RCPT_MAX 100000     /* recipients of one message: no queue hands over more, 16 octets each */
#define CLIENT_ARENA_MAX (4 << 20) /* octets of one lifetime: CLIENT_RCPT_MAX recipients, or a long EHLO reply */
#define CLIENT_EVENTS_MAX 8        /* events not yet taken: no row tells more than three, and input waits for them */
#define CLIENT_TRACE_MAX 16        /* phases remembered: a message and what led to it */
#define CLIENT_ENVID_MAX 100       /* RFC 3461 section 4.4; a longer one is not passed on */
#define CLIENT_ORCPT_MAX 500       /* RFC 3461 section 4.2 */

/* What is known of a recipient. */
enum client_rcpt_state {
	CLIENT_RCPT_WAITING = 1, /* not answered */
	CLIENT_RCPT_ACCEPTED,
	CLIENT_RCPT_DECIDED, /* its RESULT has been told */
	CLIENT_RCPT_BAD,     /* its address cannot be said */
	CLIENT_RCPT_EXCESS   /* beyond RCPTMAX */
};

struct client_recipient {
	uint64_t said; /* output offset behind its RCPT, 0 while not written */
	enum client_rcpt_state state;
};

struct client_body {
	bool line_start;     /* the next octet begins a line */
	bool cr;             /* a CR was taken, and what follows it is not known yet */
	bool ending;         /* the caller's last octet was taken */
	struct buf chunk;    /* BDAT: content of the chunk being gathered */
	struct buf ends;     /* BDAT: output offsets behind the chunks that are not answered (uint64_t) */
	uint64_t end;        /* output offset behind the end of the message, 0 before */
};

struct client_transaction {
	bool live;
	struct psmtp_client_message msg; /* its arrays are borrowed */
	struct client_recipient *rcpts;
	struct arena arena;
	uint32_t undecided;        /* recipients without RESULT */
	uint32_t aside;            /* recipients that cannot be said to this server */
	uint32_t to_write, flying; /* RCPTs not written; written and not answered */
	uint32_t write_at, reply_at; /* the two cursors */
	uint32_t accepted, finals; /* accepted at RCPT; of these, finally answered (LMTP) */
	uint32_t final_at;         /* LMTP: where the next accepted recipient is looked for */
	uint64_t mail_said, data_said;
	bool utf8;                 /* message or envelope need SMTPUTF8 */
	bool bad_sender, chunked, refused, open;
	struct client_body body;
};

struct client_hello {
	struct psmtp_client_facts offer; /* views live in the arena */
	struct arena arena;
	uint32_t mails; /* transactions so far */
	struct client_transaction tx;
};

struct client_epoch {
	unsigned number; /* 1: clear, 2: TLS */
	struct smtp_reply_in reply;
	bool early, quiet;          /* of the reply being read: its first octet came too early; nothing is behind it */
	uint64_t said;              /* output offset behind the last command that stands alone */
	struct buf auth;            /* a response held back, or the challenge decoded; wiped */
	bool auth_begun, auth_held, auth_decoded;
	unsigned auth_rounds;
	struct view answer; /* the caller's response, borrowed while its event is at work */
	struct client_hello hello;
};

/* An event not yet taken.  RESULT for many recipients is one note: match says whom it fits. */
struct client_note {
	struct psmtp_client_event event;
	unsigned match; /* RESULT: bits 1 << enum client_rcpt_state; 0: rcpt_index alone */
	uint32_t at;
};

struct psmtp_client {
	struct alloc alloc;
	struct psmtp_client_options options; /* views live in the arena, defaults are filled in */
	struct arena arena;
	enum client_phase phase;
	enum client_phase trace[CLIENT_TRACE_MAX]; /* those before it, for a core dump; oldest at traced modulo its size */
	unsigned traced;
	uint64_t deadline;
	struct buf out;
	uint64_t written, sent; /* octets put into out, and taken from it, since the beginning */
	struct client_note notes[CLIENT_EVENTS_MAX];
	unsigned note_first, note_count;
	struct client_epoch epoch;
};

static inline struct client_hello *client_hello(struct psmtp_client *c)
{
	return &c->epoch.hello;
}

static inline struct client_transaction *client_tx(struct psmtp_client *c)
{
	return &c->epoch.hello.tx;
}

/* client_state.c: lifetimes and facts. */
void client_life_end(struct psmtp_client *, enum client_life);
uint64_t client_facts(const struct psmtp_client *);
/* Output offset that must have left before a reply can be an answer; UINT64_MAX when nothing was asked. */
uint64_t client_said(const struct psmtp_client *);

/* client_feed.c: the reply just read; its text lives until more input is read. */
struct psmtp_reply client_reply(const struct psmtp_client *);

/* client_note.c: events. */
void client_tell(struct psmtp_client *, const struct psmtp_client_event *);
void client_tell_results(struct psmtp_client *, unsigned match, const struct psmtp_reply *, bool local);
void client_tell_result(struct psmtp_client *, uint32_t index, const struct psmtp_reply *, bool local);

/* client_step.c: the driver.  client_fire returns false when no row matches: a call out of turn.  client_run goes on
 * while nothing is waited for; every public function that may have changed something ends with it. */
bool client_fire(struct psmtp_client *, enum client_event, uint64_t now);
void client_run(struct psmtp_client *, uint64_t now);
void client_clock_set(struct psmtp_client *, uint64_t now);

/* client_do.c: the actions of the table. */
bool client_act(struct psmtp_client *, const struct client_row *, enum client_event);

/* client_write.c: commands. */
bool client_say(struct psmtp_client *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool client_add(struct psmtp_client *, struct view);
bool client_say_mail(struct psmtp_client *);
/* Writes what the flight allows: RCPTs, and DATA behind the last one.  False when memory is out. */
bool client_flight(struct psmtp_client *);

/* client_auth.c: the exchange of RFC 4954.  The response is epoch.answer. */
bool client_auth_say(struct psmtp_client *);
bool client_auth_reply(struct psmtp_client *);
bool client_auth_held(struct psmtp_client *);
void client_auth_decode(struct psmtp_client *); /* sets auth_decoded from the reply read */
void client_auth_wipe(struct psmtp_client *);

/* client_body.c: framing. */
bool client_body_end(struct psmtp_client *);
bool client_chunks_pump(struct psmtp_client *, uint64_t now);
size_t client_chunks_open(const struct psmtp_client *); /* chunks written and not answered */
void client_chunk_answered(struct psmtp_client *);

/* client_hello.c: the reply to EHLO. */
bool client_learn(struct psmtp_client *, bool ehlo);

#endif
