/* queue.h - the role that keeps the mail: intake, schedule, delivery, outcome, report, control; one loop, no globals.
 *
 *   receive --BODY_*--> intake --spool_accept--> schedule --lease--> deliver --DELIVER--> send, local
 *                          ^                        ^                                        |
 *                        bounce <---- outcome <-----+------------------ OUTCOME -------------+
 *
 * intake    checks frames, routes and groups recipients, makes the message durable, answers BODY_DONE
 * schedule  per destination: window, back-off, whose turn it is; leases what is due
 * deliver   one attempt: DELIVER, the body under credit, until its OUTCOME or the peer's death
 * outcome   turns results into one atomic settle: what remains, and the reports that go back
 * bounce    builds a report (RFC 3464) as a new message
 * control   the operator's socket
 *
 * All of it runs on role->loop.  The spool's writer thread is the only other thread; it talks through loop_wake.
 * Work for the spool gathers during a loop turn and is kicked once at its end (queue_pump_soon); outcomes alone wait a
 * little for company (queue_pump_late).
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H
#include "queue/counters.h"
#include "queue/flight.h"
#include "queue/map.h"
#include "spool/spool.h"
#include "wire/role.h"
#include "wire/wire.h"

struct control;
struct delivery;
struct intake_peer;

/* Octets of a small body that are kept for the first attempt, shared by all its envelopes: no read, no copy each. */
struct queue_bytes {
	uint32_t refs;
	struct queue *q;
	size_t n;
	unsigned char p[];
};
#define QUEUE_BYTES_MAX   (64u * 1024)        /* of one message; larger ones are read back */
#define QUEUE_BYTES_TOTAL (64u * 1024 * 1024) /* of all messages together */

struct queue_bytes *queue_bytes_new(struct queue *, struct view first, struct view second); /* NULL: no room */
struct queue_bytes *queue_bytes_ref(struct queue_bytes *);
void queue_bytes_unref(struct queue_bytes *); /* NULL is fine */

/* A channel to send or local. */
struct peer {
	struct peer *next;
	struct queue *q;
	enum role_kind kind;
	uint32_t index, generation, count; /* deliveries in flight on it */
	struct channel *channel;
	struct delivery *first;
	bool broken; /* to be dropped at the end of the turn */
};

/* A destination: the unit of fairness. */
struct dest {
	struct map_node node; /* by the hash of name */
	struct queue *q;
	struct dest *prev, *next; /* on the list that `on` says */
	enum dest_list { DEST_ON_NONE = 1, DEST_ON_READY, DEST_ON_ASIDE, DEST_ON_IDLE } on;
	uint32_t in_flight, window, failures;
	uint32_t swept;                   /* envelopes being put off */
	uint32_t asked;                   /* of the lease under way; 0: none */
	uint64_t arrivals, arrivals_then; /* mail that came; as it was when the lease under way was asked for */
	bool more;                        /* the spool may hold due mail for it */
	bool sweeping;                    /* the lease under way is to put mail off, not to deliver it */
	int64_t blocked_until;            /* wall ms; 0: open */
	uint8_t by;                       /* enum route_dest_role */
	size_t n;
	char name[];
};
static inline struct view dest_name(const struct dest *d)
{
	return view_of(d->name, d->n);
}

struct dest_list_head {
	struct dest *first, *last;
	size_t n;
};

struct schedule {
	struct map dests;
	struct dest_list_head ready, aside, idle; /* aside: to be put off, or settled by the queue itself */
	uint32_t in_flight;                       /* deliveries, all destinations but those of the queue itself */
	uint32_t sweeps;                          /* destinations whose mail is being put off */
	struct loop_timer timer;
	struct loop_later run;
	int64_t due;      /* wall ms for which the timer is set; INT64_MAX: none */
	int64_t asked_at; /* mono ms of the last spool_due */
	bool asking, asked_again;
	size_t ask_max;
};

struct queue {
	struct role *role;
	const struct conf *conf;
	const struct env *env;
	struct events *events;
	struct loop *loop;
	struct spool *spool;
	bool stepped; /* the spool's writer has no thread: we turn it */
	struct loop_wake wake;
	struct flight flight;
	struct loop_later pump;
	struct loop_timer space;         /* under pressure: is it over? */
	struct loop_timer late;          /* outcomes that ride in the next commit, or in this one */
	bool late_set;
	bool damage_told;   /* the spool's index is damaged: we are on our way out */
	uint32_t owed;      /* completions of accepts and settles that the spool owes us */
	size_t bytes_total; /* in queue_bytes */

	struct intake_peer *intake; /* channels of receive */
	unsigned pressure_told;

	struct schedule schedule;

	struct peer *peers;       /* channels of send and local */
	struct map deliveries;    /* by stream */
	struct delivery *retries; /* outcomes whose settle the spool refused */
	uint64_t next_stream;
	struct loop_timer retry_timer;
	struct loop_later drop_peers;

	struct control *control;
	struct counters counters;

	bool draining;
	bool stopping;                   /* the spool closes: its completions begin nothing new */
	uint64_t drain_begin, drain_end; /* loop time */
	bool drained;
	struct loop_timer drain_timer;
};

/* Under pressure receive takes nothing in, and so nothing else would make the writer look at the disk again. */
#define QUEUE_SPACE_MS 1000
/* Something was asked of the spool: hand it over at the end of this turn. */
void queue_pump_soon(struct queue *);
/* An outcome waits for the next commit, which other work usually brings; on its own it waits QUEUE_LATE_MS.  So the
 * syncs of outcomes are saved while mail comes in, and a crash doubles what that long a moment delivered at most. */
#define QUEUE_LATE_MS 20 /* design.md section 5: outcomes ride in the next commit, in under 50 ms */
void queue_pump_late(struct queue *);
/* Something ended: if we drain, look whether all has. */
void queue_check_drained(struct queue *);

/* Building and running one by hand (tests, simulator): queue_make, spool_open* with these options, queue_begin. */
struct queue *queue_make(struct role *, struct error *); /* becomes role->state; NULL: no memory */
void queue_spool_options(struct queue *, struct spool_options *);
int queue_begin(struct queue *, struct spool *, struct error *); /* takes the spool over; opens the gates */

static inline int64_t queue_now(const struct queue *q)
{
	return env_wall_ms(q->env);
}

#endif
