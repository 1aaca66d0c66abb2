/* intake.h - the one door: a message enters the queue here, from receive, from policy (TLS-RPT), or as a report of ours.
 *
 * From receive: BODY_BEGIN, BODY_BYTES under credit, BODY_SUBMIT (or BODY_ABORT), per stream; the answer is BODY_DONE.
 * Every frame is checked; one that cannot be (unknown type, stream begun twice, octets beyond the credit, a list that
 * does not decode) ends the channel and with it its unsubmitted streams.  What fails for reasons of ours (memory, disk)
 * is answered in BODY_DONE as temporary; the rest of such a body is taken and thrown away.  A message with more
 * Received lines than max_hops is a loop (RFC 5321 6.3).
 *
 * Recipients are grouped by destination, at most QUEUE_ENVELOPE_RCPTS in one envelope.  A destination with room gets
 * its envelope leased with the accept and delivered from memory as soon as it is durable.
 */
#ifndef QUEUE_INTAKE_H
#define QUEUE_INTAKE_H
#include "queue/envelope.h"
#include "queue/queue.h"

/* Streams of one channel: three times the sessions of the largest listener by default; more is a fault of receive. */
#define INTAKE_STREAMS_MAX 65536
/* More of them than this ended with a channel: their memory goes back to the system. */
#define INTAKE_TRIM_STREAMS 1000
/* Recipients of one message: what a frame of 1 MiB can hold at most. */
#define INTAKE_RCPTS_MAX   20000
#define INTAKE_ARENA_MAX   (8u * 1024 * 1024)
#define INTAKE_CREDIT_STEP (WIRE_BODY_WINDOW / 4) /* grants are gathered: a frame for each 64 KiB */

/* A message to be queued, whoever sends it. */
struct intake_message {
	enum queue_envelope_kind kind;
	uint64_t origin, session, size;
	struct view sender, envid, client;
	uint8_t ret;
	uint32_t flags;
	struct queue_rcpt *rcpts;
	uint32_t n;
	int64_t now;
};

/* One envelope of a message: what the spool is told, and the group's own place in the schedule. */
struct intake_group {
	struct intake_group *next;
	struct view dest;
	struct queue_rcpt *rcpts;
	uint32_t n, room;
	struct dest *place; /* reserved: delivered as soon as it is durable */
	struct spool_envelope e;
};

/* Routes and groups; everything is in the arena.  The number of groups, or -1: memory. */
int intake_group(struct queue *, const struct intake_message *, struct arena *, struct intake_group **first);
/* For a message of one recipient: its envelope, with its texts in the two buffers. */
bool intake_envelope_one(struct queue *, const struct intake_message *, struct buf *dest, struct buf *data,
			 struct spool_envelope *);

/* A channel of receive, or of policy, came up. */
void intake_channel(struct queue *, enum role_kind, uint32_t index, uint32_t generation, struct channel *);
/* The channel of that role, or NULL: it is not there. */
struct channel *intake_channel_of(const struct queue *, enum role_kind);
/* Tells receive how full we are, when it changed. */
void intake_tell_pressure(struct queue *);
/* Is anything coming in?  Streams that are open, or channels on which more may. */
bool intake_is_open(const struct queue *);
bool intake_has_streams(const struct queue *);
void intake_free(struct queue *);

#endif
