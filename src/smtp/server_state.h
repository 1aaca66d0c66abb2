/* server_state.h - the state of one SMTP or LMTP server session, as nested lifetimes (spec/lifetimes.def).
 *
 * connection > epoch > hello > transaction > command: each is a struct inside the one above it, and the only way to
 * forget something is to end its lifetime, which ends all inside it.  Private to src/smtp/server*.c and the closure
 * test.
 * Ownership: the session owns all; views in a command point into the epoch's input and die with the command.
 */
#ifndef SMTP_SERVER_STATE_H
#define SMTP_SERVER_STATE_H
#include "base/arena.h"
#include "base/buf.h"
#include "smtp/bdat.h"
#include "smtp/body.h"
#include "smtp/internal.h"
#include "smtp/line.h"
#include "smtp/server_table.h"

/* Input held at most: one AUTH line of RFC 4954 section 4 fits, and a body moves in blocks of a TLS record or two. */
#define SERVER_INPUT_MAX (32u * 1024)
/* Output held at most.  Above the high mark no further command is served until the peer reads (backpressure); the rest
 * is room for the largest single reply: a challenge, a caller's text, or LMTP's reply per recipient. */
#define SERVER_OUTPUT_HIGH (16u * 1024)
#define SERVER_OUTPUT_MAX (1024u * 1024)
/* What an arena may hold: one MAIL or one RCPT line (at most 2 KiB), decoded, or the words of a reply held back. */
#define SERVER_ARENA_MAX (16u * 1024)
#define SERVER_NAME_MAX 256  /* the name in EHLO: RFC 5321 4.5.3.1.2 says 255 */
#define SERVER_WORD_MAX 24   /* of a command's first word, for the log */
#define SERVER_QUEUE_MAX 8   /* events made by one step, and those of a close on top */
#define SERVER_TRACE_MAX 16  /* transitions remembered, for tests and core dumps */
#define SERVER_PROTO_MAX 16  /* "TLSv1.3" */
#define SERVER_CIPHER_MAX 64 /* the longest IANA name of a cipher suite is 45 */
/* RCPT commands of one transaction beyond its recipients.  They get 452, which is no fault of the client, but must end some
 * day; no list is longer. */
#define SERVER_RCPT_TRIES 10000u
/* A body this far over the size limit is no mistake: the session ends (anyone slower is cut by the deadline). */
#define SERVER_OVERRUN (16u * 1024 * 1024)

struct server_command { /* COMMAND */
	struct arena arena; /* its memory outlives the command, its content does not */
	size_t line;        /* octets of input still held because views point into them */
	uint64_t faults;    /* FACT_COMMAND bits found in the line */
	struct view hello;
	enum psmtp_hello_kind hello_kind;
	struct view mechanism, data; /* AUTH */
	bool has_data;
	char *identity; /* AUTH accepted: allocated before the row is chosen */
	size_t identity_len;
	struct psmtp_rcpt rcpt;
	struct smtp_bdat chunk;
	enum server_reply held;      /* the reply that waits until the chunk is consumed, */
	struct psmtp_reply held_own; /* or the caller's words in its place (code 0: none) */
};

struct server_transaction { /* TRANSACTION */
	struct server_command command;
	struct arena arena; /* mail's words; its memory outlives the transaction, its content does not */
	struct psmtp_mail mail;
	struct smtp_body body;
	uint32_t tries;         /* RCPT commands */
	uint32_t rcpts, judged; /* accepted; LMTP: verdicts given after the end */
	bool live;              /* MAIL was accepted */
	bool committed;         /* the caller took the message (LMTP: for at least one recipient) */
	bool chunked;           /* a BDAT has begun the message */
	bool complete;          /* the content's last octet was read */
	uint64_t arrived;       /* octets of content on the wire, for the deadline */
	uint64_t started;       /* when the content began, 0: has not */
};

struct server_hello { /* HELLO */
	struct server_transaction transaction;
	enum psmtp_hello_kind kind; /* 0: none said */
	char name[SERVER_NAME_MAX];
	size_t name_len;
};

struct server_epoch { /* EPOCH */
	struct server_hello hello;
	struct buf in, out;
	size_t given;   /* octets at the head of `in` shown to the caller by the last BODY event */
	struct smtp_line_state lines;
	bool tls;
	char protocol[SERVER_PROTO_MAX], cipher[SERVER_CIPHER_MAX];
	char *identity; /* allocated; NULL: nobody */
	size_t identity_len;
};

struct server_pending { /* an event that waits for psmtp_server_next */
	enum psmtp_server_event_type type;
	struct psmtp_reply reply;
	const char *reason;
};

struct server_trace {
	uint16_t row;
	uint8_t from, to;
};

struct psmtp_server { /* CONNECTION */
	struct server_epoch epoch;
	unsigned epoch_number; /* 1 clear, 2 TLS */
	enum server_phase phase;
	struct psmtp_server_options options; /* its views point behind this struct */
	struct psmtp_allocator memory;
	struct alloc alloc;
	uint64_t deadline;
	uint32_t errors, mails;
	uint32_t idle; /* commands since the last message that was taken */
	bool eof;      /* the peer ended its side; what came before is served first */
	bool shutdown; /* the caller wants an end at the next safe place */
	bool asking;   /* an asking event was handed out */
	struct psmtp_reply shutdown_reply;
	char shutdown_text[128];
	char word[SERVER_WORD_MAX]; /* of the last command, for REJECTED */
	struct server_pending queue[SERVER_QUEUE_MAX];
	unsigned queued;
	struct server_trace trace[SERVER_TRACE_MAX];
	unsigned traced; /* transitions so far */
};

/* What one step was given, besides the state. */
struct server_input {
	enum server_event event;
	const struct psmtp_verdict *verdict;
	const struct psmtp_tls_facts *tls;
};

static inline struct server_hello *server_hello_of(struct psmtp_server *s)
{
	return &s->epoch.hello;
}
static inline struct server_transaction *server_tx_of(struct psmtp_server *s)
{
	return &s->epoch.hello.transaction;
}
static inline struct server_command *server_command_of(struct psmtp_server *s)
{
	return &s->epoch.hello.transaction.command;
}

/* server_state.c */
uint64_t server_facts(const struct psmtp_server *, const struct server_input *);
void server_end(struct psmtp_server *, enum server_life); /* ends it and all inside it */
void server_push(struct psmtp_server *, enum psmtp_server_event_type, const struct psmtp_reply *, const char *reason);
void server_drop(struct psmtp_server *, size_t n); /* n octets leave the input, wiped: a line may hold a password */
void server_take_line(struct psmtp_server *); /* the command's line leaves the input */

/* server_reply.c */
/* Queues a reply of the table, or `own` in its place when its code is not 0.  False when the output cannot grow. */
bool server_reply_add(struct psmtp_server *, enum server_reply, const struct psmtp_reply *own);
bool server_challenge_add(struct psmtp_server *, struct psmtp_view challenge);
struct psmtp_reply server_reply_value(enum server_reply);

/* server_step.c: the driver */
void server_step(struct psmtp_server *, const struct server_input *, uint64_t now);
void server_event(struct psmtp_server *, enum server_event, uint64_t now); /* a step with nothing else */
/* Asks the table about a parameter, and traces the row; nothing changes. */
const struct server_row *server_row_ask(struct psmtp_server *, enum server_event, uint64_t facts);
void server_deadline_set(struct psmtp_server *, uint64_t now);

/* server_command.c: the next line of the input becomes an event.  False when there is no whole line yet. */
bool server_command_read(struct psmtp_server *, uint64_t now);
bool server_auth_read(struct psmtp_server *, uint64_t now);

/* server_body.c: octets of a message or chunk.  False when more are needed. */
bool server_body_read(struct psmtp_server *, struct psmtp_server_event *, bool *has_event, uint64_t now);

#endif
