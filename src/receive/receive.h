/* receive.h - inside the room: the role, its loops and their sessions.
 *
 * One worker a core, each with a loop, listeners, channels to queue and local, a signing line to keys, and its own
 * sessions; workers share nothing but the table of client addresses (net/peers.h).  Worker 0 runs on the role's main loop,
 * the others on threads; what concerns another worker reaches it through its mailbox (net/thread.h).
 */
#ifndef RECEIVE_RECEIVE_H
#define RECEIVE_RECEIVE_H
#include "base/buf.h"
#include "mail/received.h"
#include "net/conn.h"
#include "net/listen.h"
#include "net/peers.h"
#include "net/signer.h"
#include "net/thread.h"
#include "tls/tls.h"
#include "wire/role.h"
#include "wire/wire.h"

#include <psmtp.h>
#include <stdatomic.h>

/* The number of a session's place in its worker is the low part of its stream numbers. */
#define SESSION_PLACE_BITS 20
/* Nobody waits for ever for `local` or `queue`: after so long the client gets 451 and keeps the message. */
#define SESSION_LOCAL_MS 60000u
#define SESSION_QUEUE_MS 300000u
/* Octets of a body that wait for credit: one piece as the machine shows it, never more than conn showed the machine, but
 * `bare_newlines = normalise` makes two octets of one. */
#define SESSION_HELD_MAX (2 * CONN_IN_MAX)
/* Unsent replies above this: the machine may have stopped (it does at 16 KiB), and goes on when they are written. */
#define SESSION_BACKLOG 4096u
/* Above this pressure of the spool new sessions get 421 and new messages 452 (spool.h: 0..100; WIRE_PRESSURE_SICK: 451). */
#define RECEIVE_PRESSURE_REFUSE 95u

/* Descriptors that are not sessions': standard ones, channels, listeners with their reserves, the loops' own, and those just
 * accepted that will be turned away (LISTEN_BATCH a listener and loop). */
#define RECEIVE_DESCRIPTORS_KEPT 512u

struct receive {
	struct role *role;
	struct peers *peers;
	struct tls_tickets *tickets;  /* NULL: switched off */
	struct loop_timer ticket_timer;
	struct tls_context *clients;  /* whom certificates of clients are judged by; NULL: none are asked for */
	struct worker *workers;
	unsigned worker_count;
	atomic_uint *sessions;     /* one count a listener, all workers together */
	atomic_uint all_sessions;
	unsigned most_sessions;    /* what the descriptors of the process allow: beyond it 421, before accept itself fails */
	atomic_uint workers_busy;  /* those that have not drained */
	struct loop_wake drained;  /* the last one of them wakes the main loop */
	bool draining;
};

/* So long the kernel keeps a client of implicit TLS that says nothing; then it is ours, and its handshake_timeout begins. */
#define RECEIVE_DEFER_S 10u

/* What is said of a client's certificate in log and Received: its subject, and a verdict; cut if longer. */
#define RECEIVE_VERIFY_MAX 320

/* After a flood the memory of its sessions goes back to the system: when this many were there and an eighth is left. */
#define RECEIVE_TRIM_SESSIONS 1000u

enum post_kind { POST_CHANNEL = 1, POST_LISTENER, POST_DRAIN }; /* number: listener, or grace in ms */

struct accepting { /* one bound address */
	struct accepting *next;
	struct worker *worker;
	uint32_t listener;        /* index into conf->listeners */
	struct listener on;
	bool started;
	int fd;                   /* until started */
};

struct worker {
	struct receive *room;
	unsigned index;
	struct loop_thread thread;
	struct loop *loop;        /* the thread's */
	struct channel *queue, *local;
	struct signer keys;
	struct tls_context **tls; /* one a listener; NULL: not configured or broken */
	uint64_t *tls_broken;     /* bits: which of the listener's certificates cannot be shown */
	struct accepting *accepting;
	struct session **places;  /* by the low bits of a stream number; NULL: free */
	uint32_t place_count, place_free, *free_places;
	uint32_t sessions, sessions_most; /* most: since memory was given back */
	bool trimming;                    /* a flood ebbs away: not all of its memory has been given back */
	uint64_t streams;         /* numbers given so far */
	struct session *coming, **coming_end; /* by when they were last heard of */
	uint32_t coming_count;
	unsigned pressure;
	bool draining, done;
	struct loop_timer grace;
	struct loop_timer trim; /* once more, when the connections of ended sessions have lingered */
};

int receive_worker_init(struct worker *, struct receive *, unsigned index, struct error *);
void receive_worker_free(struct worker *);                /* the thread has ended or there was none */
void receive_worker_session_gone(struct worker *);        /* a session ended: drained now? */
const struct role *receive_worker_role(const struct worker *);

/* ---- sessions (session.c, transaction.c) ---- */

enum owed { OWED_NOTHING = 1, OWED_GREETING, OWED_RCPT, OWED_BODY };

struct session {
	struct worker *worker;
	const struct conf_listener *listener;
	uint32_t listener_index, place;
	struct conn conn;
	struct psmtp_server *smtp;
	struct address peer;
	char client[ADDRESS_TEXT];
	uint64_t id;
	struct loop_timer timer;
	uint64_t opened, answer_by;
	const struct psmtp_reply *refusal; /* the listener is full: what CONNECT is answered; else NULL */
	enum owed owed;            /* whose answer the protocol waits for */
	bool trusted, early, closing, in_peers, counted, running;
	bool backlog;              /* much output waits: commands may wait behind it */
	bool failed;               /* the connection failed while the session ran: freed when that is over */
	unsigned tls_bits;
	bool tls_resumed;
	char tls_verify[RECEIVE_VERIFY_MAX], tls_protocol[16], tls_cipher[48];
	char hello[128];           /* for the log, after the machine has forgotten it; cut if longer */
	/* the transaction */
	uint64_t stream, check;    /* of the body at `queue`, of the question at `local`; 0: none */
	uint64_t size;
	long credit;
	bool paused, body_lost, submitted, answered;
	bool chunked;              /* by BDAT */
	bool stream_gone;          /* the queue that knew the stream has gone: the next one must not hear of it */
	struct buf held;           /* octets of the body that wait for credit */
	struct psmtp_verdict answer; /* of queue: given to each recipient in LMTP */
	char answer_text[200];
	struct psmtp_scan scan;
	struct buf rcpts;          /* wire_rcpt list of those accepted */
	struct wire_rcpt asking;   /* the one that local is asked about; texts in asking_text */
	struct buf asking_text;
	struct session *coming_next, **coming_at; /* among those on their way to a message; at NULL: not there */
	uint64_t heard;
	uint32_t transactions, accepted, recipients, errors;
	const char *reason;        /* why it closed */
};

void receive_session_open(struct worker *, uint32_t listener, int fd, const struct address *peer);
void receive_session_shutdown(struct session *);
void receive_session_free(struct session *);
void receive_session_run(struct session *); /* draw events, answer what can be answered, write */
struct session *receive_session_of_stream(struct worker *, uint64_t stream);

/* transaction.c: what MAIL, RCPT and the body do */
void receive_transaction_rcpt(struct session *, const struct psmtp_server_event *);
void receive_transaction_rcpt_verdict(struct session *, uint64_t stream, unsigned verdict);
void receive_transaction_begin(struct session *, const struct psmtp_server_event *);
void receive_transaction_bytes(struct session *, struct view bytes);
void receive_transaction_end(struct session *, const struct psmtp_server_event *);
void receive_transaction_credit(struct session *, uint64_t stream, uint32_t bytes);
void receive_transaction_done(struct session *, const struct wire_BODY_DONE *);
void receive_transaction_reset(struct session *);
void receive_transaction_cut(struct session *);    /* the protocol ends the session: nothing waits for credit any more */
void receive_transaction_late(struct session *);   /* local or queue did not answer in time */
void receive_transaction_queue_lost(struct session *);
void receive_transaction_local_lost(struct session *);

/* coming.c: the sessions that are on their way to a message, so that `queue` knows how many share its next commit.  A session is, from its
 * beginning and from each answer to a message, for as long as it is heard of every RECEIVE_COMING_MS. */
#define RECEIVE_COMING_MS 300u
void receive_coming_heard(struct session *);
void receive_coming_leave(struct session *); /* it has submitted, or ends */
uint32_t receive_coming_count(struct worker *);

/* Gives a verdict; reply NULL: the table's. */
void receive_session_answer(struct session *, enum psmtp_verdict_kind, const struct psmtp_reply *);
uint64_t receive_session_stream(struct session *); /* a new stream number */

#endif
