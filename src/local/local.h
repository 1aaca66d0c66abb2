/* local.h - inside the room that becomes a user.
 *
 * The role `local` answers `receive` (does this mailbox exist?) and takes deliveries from `queue`.  Started as an
 * ordinary user it delivers itself (delivery.c).  Started as root it owns no mailbox: it hands each recipient to a
 * worker that super started under the uid of the mailbox's owner (broker.c); a worker is this same room as ROLE_WORKER
 * and knows deliveries only.  Nobody's mail is ever delivered as root.
 */
#ifndef LOCAL_LOCAL_H
#define LOCAL_LOCAL_H
#include "local/mailbox.h"
#include "local/maildir.h"
#include "local/pool.h"
#include "mail/scan.h"
#include "route/dest.h"
#include "wire/role.h"
#include "wire/wire.h"

/* Threads that wait for the disk: enough that syncs of different mailboxes overlap. */
#define LOCAL_THREADS 4
/* A body up to this size stays in memory; a larger one goes to an unlinked file beside the first mailbox. */
#define LOCAL_MEMORY_BODY (256u * 1024)
/* The part of a message that is searched for Delivered-To: longer headers are not written by people. */
#define LOCAL_HEADER (64u * 1024)

struct local_peer { /* a channel of `queue` or `receive` */
	struct local_peer *next;
	struct local *local;
	struct channel *channel;
	enum role_kind kind;
	uint32_t generation;
};

struct local {
	struct role *role;
	struct pool *pool;
	bool broker; /* as root: workers deliver */
	struct local_peer *peers;
	struct delivery *deliveries;
	struct worker_link *workers;
	uint64_t streams; /* the broker's numbers towards workers */
	bool draining, drained;
};

/* Draining, or a worker that nobody will ask again: tells the runner, once, when the last delivery has ended. */
void local_check_drained(struct local *);

struct delivery_rcpt {
	struct pool_job job;
	struct delivery *delivery;
	struct view address;   /* into delivery->memory */
	struct mailbox mailbox;
	struct maildir_job maildir;
	char *header;          /* Return-Path, Delivered-To */
	bool valid, decided;
	struct wire_result result;
	char text[256];
};

struct delivery {
	struct delivery *next;
	struct local *local;
	struct channel *from;  /* NULL: queue has gone, finish quietly */
	uint64_t stream;
	struct view sender;
	char *memory;          /* copies of sender, recipients */
	struct delivery_rcpt *rcpts;
	size_t count, open;    /* open: jobs (or parts) not yet done */
	struct buf body;       /* while small; later its first LOCAL_HEADER octets */
	struct maildir_source source;
	uint32_t flags;
	uint64_t size;
	bool complete, failed;
	char failure[400];
	struct part *parts;    /* broker */
	uint64_t granted;      /* broker: credit given to queue so far */
};

/* Reads a DELIVER frame: finds every mailbox, decides those that cannot be.  NULL: malformed or memory. */
struct delivery *local_delivery_new(struct local *, struct channel *from, const struct wire_DELIVER *);
void local_delivery_free(struct delivery *);
struct delivery *local_delivery_find(struct local *, struct channel *from, uint64_t stream);
void local_delivery_bytes(struct delivery *, struct view);
void local_delivery_complete(struct delivery *); /* all bytes came: deliver */
void local_delivery_answer(struct delivery *);   /* every recipient is decided: OUTCOME, and the delivery is gone */
void local_delivery_decide(struct delivery_rcpt *, enum wire_result_kind, unsigned code, unsigned subject, unsigned detail, const char *text);

/* broker.c */
void local_broker_start(struct delivery *, const struct wire_DELIVER *);
void local_broker_bytes(struct delivery *, const struct wire_DELIVER_BYTES *);
void local_broker_abort(struct delivery *);
void local_broker_worker_up(struct local *, uint32_t uid, struct channel *);
void local_broker_worker_refused(struct local *, uint32_t uid, struct view reason);
void local_broker_stop(struct local *);

#endif
