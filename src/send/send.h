/* send.h - inside the room: outbound connections and the deliveries that travel over them.
 *
 *   sender   one a loop: channels to `queue` and `resolve`, its targets
 *   target   one a destination (route/dest.h): candidates (addresses), links, deliveries that wait for a link
 *   link     one connection with its SMTP client; carries one delivery after the other
 *   delivery one DELIVER of the queue; ends with one OUTCOME that decides every recipient
 *
 * How many deliveries of a destination are in flight is the queue's window; a target opens a link for each that finds no
 * idle one, so connections at work are bounded by the same number.  Those that idle are bounded over all destinations: the one that has
 * idled longest gives way.
 */
#ifndef SEND_SEND_H
#define SEND_SEND_H
#include "base/arena.h"
#include "net/conn.h"
#include "net/dial.h"
#include "net/signer.h"
#include "net/thread.h"
#include "route/dest.h"
#include "route/plan.h"
#include "route/tls.h"
#include "wire/role.h"
#include "wire/wire.h"

#include <psmtp.h>
#include <stdatomic.h>

/* An address that failed is left alone for so long, unless all have failed. */
#define SEND_BAD_MS 30000u
/* DNS answers are used at least and at most so long without asking again (`resolve` caches too). */
#define SEND_PLAN_MIN_MS 5000u
#define SEND_PLAN_MAX_MS 300000u
/* A target without links and deliveries is forgotten after so long. */
#define SEND_TARGET_IDLE_MS 60000u
#define SEND_BUCKETS 1024
/* So many targets may be kept (some 18 KiB each); above it those that idle are forgotten at once, and after that only when
 * twice those that remained have come together. */
#define SEND_TARGETS_KEPT 2048
/* So many links of a loop may idle; with few descriptors, all loops together may keep that part of them. */
#define SEND_IDLE_MAX 1000
#define SEND_IDLE_PART 4
/* Our words on why a destination cannot be reached: a host, a reason, and what TLS was owed to it. */
#define SEND_WORDS 400
/* Addresses of this machine that are known; one with more has its other addresses found out by the loop count. */
#define SEND_OWN_MAX 256
/* Addresses of a destination where TLS broke under `may` are remembered (each for SEND_CLEAR_MS); the oldest gives way. */
#define SEND_CLEAR_MAX 8
/* After TLS itself failed at an address, `may` leaves it out there for so long. */
#define SEND_CLEAR_MS 600000u
/* `policy` may fetch from a slow server (RFC 8461 3.3: a minute) or be started anew; then the mail is deferred. */
#define SEND_POLICY_MS 90000u

struct send_room {
	struct role *role;
	struct sender *senders;
	unsigned count;
	atomic_uint busy; /* those that have not drained */
	struct loop_wake drained;
	bool draining;
	struct address own[SEND_OWN_MAX]; /* of this machine, when a listener is bound to all (own.c) */
	size_t own_count;
};

struct identity { /* a client certificate; at the place of its section */
	struct tls_context *tls; /* NULL: it is none, or unusable */
	bool works;              /* its key has signed */
};

struct sender {
	struct send_room *room;
	unsigned index;
	struct loop_thread thread;
	struct loop *loop;
	struct channel *queue, *resolve, *policy;
	bool policy_known;       /* there was one: while it is away, nobody knows what is owed */
	struct target *targets[SEND_BUCKETS];
	struct send_delivery *deliveries[SEND_BUCKETS]; /* by stream */
	struct tls_context *tls; /* made at prepare; shows no certificate */
	struct signer keys;
	struct identity *identities; /* one a certificate section (identity.c) */
	bool has_identities, keys_known; /* some can be shown; `keys` has been there */
	struct loop_timer sweep;
	uint64_t asks;
	unsigned delivery_count, link_count, target_count, target_most;
	struct link *idle_first, *idle_last; /* the one that has idled longest, the last */
	unsigned idle_n, idle_most;
	bool draining, done;
};

struct candidate { /* an address to try */
	struct address address;
	const char *name;        /* of its host, for the log; in target->hosts */
	size_t host;             /* index of target->hosts and facts->hosts */
	uint64_t bad_until;
};

struct fact_host {
	struct route_tls_host tls;
	struct route_tls_choice choice;
	const struct tls_tlsa *records; /* the usable ones of choice.tlsa */
	size_t records_n;
};

struct facts { /* facts.c */
	struct route_tls_facts tls;
	struct fact_host hosts[ROUTE_HOSTS_MAX];
	struct arena memory;
};

struct clear_place { /* TLS itself failed there under `may`: clear text until then */
	struct address address;
	uint64_t until;
};

enum plan_state { PLAN_NONE = 1, PLAN_ASKING, PLAN_READY, PLAN_FAILED };

struct target {
	struct target *next;
	struct sender *sender;
	struct view key;           /* points into dest_text */
	char dest_text[ROUTE_DEST_MAX];
	struct route_dest dest;
	enum plan_state state;
	uint64_t plan_until;
	struct candidate candidates[ROUTE_ADDRESSES_MAX];
	size_t candidate_count;
	struct question *questions; /* open ones to `resolve`, and one to `policy` */
	struct facts *facts;       /* of the present plan; NULL: PLAN_NONE, PLAN_FAILED */
	struct clear_place clear[SEND_CLEAR_MAX];
	uint16_t refused;          /* REQUIRETLS: some host cannot have it, for good: 10 or 30 (of 5.7.x) */
	bool waits;                /* and some host could not be asked now */
	struct route_host hosts[ROUTE_HOSTS_MAX];
	size_t host_count;
	uint32_t ttl;              /* seconds: the least of what the DNS said for this plan */
	struct wire_result failure; /* PLAN_FAILED: what every recipient gets */
	char failure_text[SEND_WORDS];
	enum route_level failure_owed;        /* where a host was withheld: what it is owed, and by which policy; else 0 */
	enum route_rpt_policy failure_policy;
	struct send_delivery *waiting, **waiting_end;
	struct link *links;
	unsigned waiting_n, opening_n, idle_n; /* deliveries; links that dial or open, that are idle */
	uint64_t used;
	struct explain *explains;  /* operators who want the plan told */
	bool login;                /* the smart host offers LOGIN but not PLAIN */
};

struct question {
	struct question *next;
	uint64_t stream;
	enum wire_resolve_kind kind; /* 0: the policy of MTA-STS */
	size_t host, base;         /* index into hosts; TLSA: into its sets */
	struct address found[8];
	size_t found_count;
	bool answered, temporary;
	uint64_t since;            /* of the policy's: when it was asked */
};

struct send_delivery {
	struct send_delivery *next;   /* in its bucket */
	struct send_delivery *queued; /* in target->waiting */
	struct target *target;
	struct link *link;
	uint64_t stream, id, size;
	struct psmtp_client_message message;
	struct psmtp_client_rcpt *rcpts;
	struct wire_result *results;  /* kind 0: undecided */
	char *memory;                 /* what message and rcpts point into */
	struct buf body;              /* came and not yet sent */
	uint64_t consumed;            /* octets given to the client */
	bool last;                    /* all of the body has come */
	bool requiretls;              /* the mail's wish; message.requiretls is what this hop is told */
	bool again;                   /* was put back once: a reused connection had died */
	bool answered_any;            /* some reply to this message was had */
	struct arena texts;           /* the remote's words */
};

enum link_state { LINK_DIALLING = 1, LINK_OPENING, LINK_IDLE, LINK_BUSY, LINK_CLOSING };

struct link {
	struct link *next;
	struct link *idle_prev, *idle_next; /* in sender->idle_first while it idles */
	struct target *target;
	struct sender *sender;
	enum link_state state;
	struct dial dial;
	struct conn conn;
	struct tls_peer_check check;
	bool conn_made;
	struct psmtp_client *smtp;
	struct loop_timer timer;
	size_t candidate;
	char remote[ROUTE_HOST_MAX + ADDRESS_TEXT + 4]; /* host[address]:port */
	bool in_clear;     /* this attempt leaves TLS out, because TLS itself failed */
	bool body_wanted, running, tls_broke;
	uint32_t messages;
	struct send_delivery *delivery;
	struct auth *auth;
	char tls[320];     /* in words, for OUTCOME and the log */
	enum route_level owed, reached;
	enum route_rpt_policy policy;
	char why[ROUTE_TLS_WORDS];
	bool tls_missing;  /* it ended because the TLS that is owed cannot be had */
	bool told;         /* to TLS-RPT: once a session */
	char why_clear[96];
	uint64_t started;
};

static inline struct view send_view(struct psmtp_view v)
{
	return view_of(v.p, v.n);
}

/* send.c */
const struct role *send_role_of(const struct sender *);
void send_check_drained(struct sender *);

/* target.c */
struct target *send_target_get(struct sender *, struct view dest); /* NULL: no such destination, or memory */
void send_target_run(struct target *);                             /* give waiting deliveries links, or ask, or fail them */
void send_target_push(struct target *, struct send_delivery *, bool front);
struct send_delivery *send_target_pop(struct target *);
void send_target_remove(struct target *, struct send_delivery *); /* from among those that wait */
void send_target_free(struct target *);
void send_target_leave(struct target *); /* its idle links say QUIT */
void send_target_sweep(struct sender *, uint64_t idle_ms); /* forgets targets that were idle for so long */
/* last: what the last link owed and reached; NULL: there was none. */
void send_target_fail_waiting(struct target *, const struct wire_result *, bool host_failed, const struct link *last);
void send_idle_begins(struct link *); /* among the links that idle: counted, the last in the sender's line */
void send_idle_ends(struct link *);
/* The next address worth trying, or target->candidate_count. */
size_t send_target_candidate(struct target *, size_t from);

/* plan.c */
void send_own_read(struct send_room *); /* before the walls */
bool send_own_has(const struct send_room *, const struct sockaddr *);
void send_plan_start(struct target *);
void send_plan_answer(struct sender *, const struct wire_RESOLVED *);
void send_plan_sts(struct sender *, const struct wire_STS_POLICY *);
void send_plan_lost(struct sender *); /* `resolve` has gone: open questions are temporary failures */
void send_plan_policy_came(struct sender *); /* `policy` is there (again): what waits for it is asked */
void send_plan_overdue(struct sender *);
void send_plan_forget(struct target *);

/* facts.c */
struct facts *send_facts_new(const struct route_dest *, bool dane); /* borrows the destination; dane: switched on.  NULL: memory */
void send_facts_free(struct facts *);
void send_facts_mx(struct facts *, const struct wire_RESOLVED *);
void send_facts_address(struct facts *, size_t host, const struct wire_RESOLVED *);
/* Behind the addresses: is the host an alias out of which the way is insecure, so that its own record must be asked for (RFC 7672 2.2.2)? */
bool send_facts_want_alias(const struct facts *, size_t host);
void send_facts_alias(struct facts *, size_t host, const struct wire_RESOLVED *);
/* Where the next TLSA records are to be looked up, and which set the answer belongs to; false: no more are wanted. */
#define SEND_TLSA_NAME (ROUTE_HOST_MAX + 20)
bool send_facts_want_tlsa(struct facts *, size_t host, uint16_t port, char name[SEND_TLSA_NAME], size_t *base);
void send_facts_tlsa(struct facts *, size_t host, size_t base, const struct wire_RESOLVED *);
bool send_facts_sts(struct facts *, const struct wire_STS_POLICY *); /* false: memory, or it is none */
bool send_facts_want_sts(const struct facts *);
void send_facts_judge(struct facts *, size_t hosts);
void send_facts_check(const struct fact_host *, struct tls_peer_check *); /* borrows */
enum route_tls_event send_facts_event(const struct tls_facts *); /* of a handshake that failed */
/* Tells `policy` how a session's TLS ended; nothing where the destination is no domain. */
void send_facts_tell(struct target *, const struct fact_host *, enum route_rpt_result, struct view address, struct view local, struct view reason);

/* identity.c: the certificates that servers may ask us for */
int send_identity_init(struct sender *, struct error *); /* before the walls; s->tls is there */
void send_identity_keys(struct sender *, int fd);        /* the line to `keys`, -1: --single */
struct tls_context *send_identity_context(const struct sender *, const char *title); /* title NULL: none is to be shown */
void send_identity_free(struct sender *);                /* after the links */

/* explain.c */
void send_explain(struct sender *, const struct wire_EXPLAIN *);
void send_explain_done(struct target *, const char *failure); /* the plan stands, or failed: whoever asked is told */

/* link.c */
bool send_link_open(struct target *, size_t candidate); /* false: memory, and what waited is deferred */
void send_link_run(struct link *);
void send_link_give(struct link *, struct send_delivery *);
void send_link_free(struct link *);
void send_link_body(struct link *); /* more of the body came */
void send_link_leave(struct link *); /* an idle one says QUIT */

/* delivery.c */
struct send_delivery *send_delivery_new(struct sender *, const struct wire_DELIVER *);
void send_delivery_decide(struct send_delivery *, uint32_t rcpt, enum wire_result_kind, const struct psmtp_reply *, struct view remote, bool local);
void send_delivery_decide_rest(struct send_delivery *, const struct wire_result *, struct view remote);
void send_delivery_finish(struct send_delivery *, bool host_failed, bool maybe, bool dsn, const struct link *); /* link NULL: none was made */
struct send_delivery *send_delivery_find(struct sender *, uint64_t stream);
void send_delivery_drop(struct send_delivery *); /* without an outcome */

/* auth.c: AUTH as a client, PLAIN and LOGIN by gsasl */
struct auth;
struct auth *send_auth_new(const char *mechanism, struct view credentials, struct error *); /* "user:password" */
/* The answer to a challenge (raw octets); lives until the next call.  -1: the mechanism cannot go on. */
int send_auth_step(struct auth *, struct view challenge, struct view *answer);
void send_auth_free(struct auth *); /* wiped */

#endif
