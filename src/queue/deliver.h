/* deliver.h - one attempt: DELIVER to send or local, the body under credit, until its OUTCOME or the peer's death.
 *
 * A delivery owns a copy of its envelope in an arena, a place in its destination (schedule.h) and the spool's in-flight
 * mark; it ends in outcome.c by a settle, or by giving the mark back.  New deliveries go to the newest generation of
 * send; an older one finishes what it has.  The body comes from memory when it is still there, else from the spool, and
 * is never copied per recipient.
 * Frames of a peer are checked; one that cannot be costs it its channel, and its deliveries are tried again.
 */
#ifndef QUEUE_DELIVER_H
#define QUEUE_DELIVER_H
#include "queue/envelope.h"
#include "queue/queue.h"

#define DELIVER_ARENA_MAX (2u * 1024 * 1024) /* a hundred recipients with their texts and results are below 400 KiB */
#define DELIVER_READ_MAX  (64u * 1024)       /* octets of one read of the spool */

enum delivery_stage {
	DELIVERY_RUNNING = 1, /* the peer has it */
	DELIVERY_SETTLING     /* its outcome is being made durable */
};

/* The result of one recipient, kept until it is settled. */
struct delivery_result {
	uint8_t kind;
	bool expired;
	bool told; /* to the log, as it is now */
	struct queue_last last;
};

struct delivery {
	struct map_node node;         /* by stream */
	struct delivery *prev, *next; /* on the peer's list, or (next only) among the retries */
	struct queue *q;
	struct dest *dest;
	struct peer *peer; /* RUNNING only */
	enum delivery_stage stage;
	uint64_t stream;
	struct arena arena;
	struct spool_envelope e;   /* dest and data are in the arena */
	struct queue_envelope env; /* in the arena */
	struct view route;         /* where to, by the configuration of now; usually e.dest */
	bool *chosen;              /* recipients that go to route now; the others follow */
	uint32_t chosen_n;
	struct queue_bytes *bytes; /* the body, when it is in memory */
	/* the body on its way */
	uint64_t sent, credit;
	bool reading, last_sent;
	uint32_t mark; /* in the flight file, once the last octet is handed on; 0: none */
	bool over; /* to be freed once the read under way comes back */
	/* the outcome */
	struct delivery_result *results; /* one for each recipient of env, kind 0: not tried */
	struct view tls, policy, tls_why; /* how it travelled, under which policy, and why that was owed */
	uint8_t owed, reached;           /* enum route_level; 0: nothing was (local) */
	bool dsn, maybe, put_off, lost;
	bool warn;             /* the delay warning is owed now */
	int64_t due;           /* of what remains */
	struct bounce *bounce; /* reports being made */
};

/* Takes over the reservation of dest that the caller holds and the in-flight mark of e.  bytes: borrowed, may be NULL.
 */
void deliver_start(struct queue *, struct dest *, const struct spool_envelope *e, struct queue_bytes *bytes);

/* A delivery that only settles (put off, discarded): decoded, no peer.  NULL: memory, or a record that does not decode;
 * it is dealt with, and the caller only gives its place back. */
struct delivery *delivery_new(struct queue *, struct dest *, const struct spool_envelope *);
/* Ends RUNNING: the peer has no more say in it. */
void delivery_leave_peer(struct delivery *);
/* Frees it and gives its place back. */
void delivery_end(struct delivery *);

void deliver_channel(struct queue *, enum role_kind, uint32_t index, uint32_t generation, struct channel *);
/* A peer that may get a new delivery; NULL: none now. */
struct peer *deliver_pick_peer(struct queue *, enum role_kind);
/* Does a peer have it just now? */
bool deliver_is_active(const struct queue *, uint64_t id, uint32_t slot);
void deliver_init(struct queue *);
void deliver_free(struct queue *);

#endif
