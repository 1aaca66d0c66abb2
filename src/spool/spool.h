/* spool.h - the queue's disk: what makes a 250 true.
 *
 * A spool holds messages (a body, kept once) and envelopes (the unit of work: one per message and destination).
 * Engines: "queue" (segment files + SQLite index), "mem" (tests); one contract suite judges all.
 *
 * Rules
 * - No call blocks on the disk except spool_open and spool_close.  Work is queued and answered by a completion that
 *   runs inside spool_dispatch, on the thread that owns the spool.  A completion may call the spool again.
 * - All that is queued before spool_kick is one batch; the writer makes every batch that waits durable as one:
 *   one fdatasync of the segment, one COMMIT of the index (synced too when strict), then all completions.  While many are on their way (spool_expect), a
 *   batch waits for them, 30 ms at most (company.c); one or two writers never wait.
 * - done(SPOOL_OK) of an accept means: body, envelopes and schedule survive a power cut now.  Only it permits a 250.
 * - In-flight marks (leases) live in memory: a crash ends them all, and the mail is due again.
 *
 * Ownership: views passed in are copied before the call returns; views in a completion live until it returns.
 */
#ifndef SPOOL_SPOOL_H
#define SPOOL_SPOOL_H
#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "base/view.h"

struct spool;
struct spool_body;

typedef uint64_t spool_id; /* of a message: larger of the last durable id + 1 and the clock (us since the epoch) */

enum spool_status {
	SPOOL_OK = 1,
	SPOOL_AGAIN, /* temporary: memory, descriptors; 451 */
	SPOOL_FULL,  /* disk or quota; 452 */
	SPOOL_SICK,  /* EIO, a failed sync: nothing is accepted until restart; 451 */
	SPOOL_GONE   /* no such envelope (deleted meanwhile) */
};
const char *spool_status_name(enum spool_status);

/* One envelope.  data is the caller's encoding (sender, recipients, DSN and trace state); the spool never looks
 * inside.  dest is the scheduling key, e.g. "smtp:[127.0.0.1]:2650" or "mx:example.org". */
struct spool_envelope {
	spool_id id;       /* of the message; 0 in an accept: the spool chooses */
	uint32_t slot;     /* which envelope of the message; unique within it, kept through settle */
	struct view dest;
	uint32_t attempts;
	int64_t due;       /* ms since the epoch */
	int64_t created;   /* when the message was accepted, ms since the epoch */
	int64_t expires;   /* when to give up */
	bool held;
	struct view data;
	uint64_t body_size;
};

/* What is durable when an answer is given. */
enum spool_index {
	SPOOL_INDEX_STRICT = 1, /* segment and index: two syncs a batch, and a start has nothing to catch up */
	SPOOL_INDEX_LAGGING     /* the segment; the index is brought forward from it after a crash: one sync a batch */
};

struct spool_options {
	const char *path;         /* directory; made when missing (mode 0700) */
	const struct env *env;    /* borrowed */
	bool threaded;            /* false: the caller runs the writer by spool_step (simulator, tests) */
	uint64_t segment_size;    /* bytes; 0: 64 MiB */
	uint64_t body_file_size;  /* bodies of at least this size get their own file; 0: 1 MiB */
	uint64_t min_free;        /* bytes that stay free on the file system; 0: 16 MiB */
	enum spool_index index;   /* 0: strict; may change from one opening to the next */
	unsigned checkpoint_pages; /* of the index's log, after which it is written back; 0: 8192 */
	/* called from the writer's thread when completions wait: must make the owner call spool_dispatch soon */
	void (*wake)(void *arg);
	void *wake_arg;
	const struct alloc *alloc;   /* NULL: alloc_libc; used by all threads of the spool */
};

struct spool_recovery {      /* what spool_open found and did, for the log */
	uint64_t messages, envelopes, replayed, torn_bytes, quarantined, segments;
	bool rebuilt;            /* the index was missing or damaged and was made anew from the segments */
};

int spool_open(struct spool **, const struct spool_options *, struct spool_recovery *, struct error *);
int spool_open_mem(struct spool **, const struct spool_options *, struct error *); /* the twin for tests */
void spool_close(struct spool *);  /* finishes what is queued (completions run), then frees */
/* Drops the index and makes it anew from the segments alone; the spool must not be open elsewhere. */
int spool_rebuild(const struct spool_options *, struct spool_recovery *, struct error *);

/* ---- a message arrives ---- */
struct spool_body *spool_body_begin(struct spool *, uint64_t size_hint); /* NULL: memory */
/* All of it, or an error that stays (the body can then only be aborted). */
enum spool_status spool_body_write(struct spool_body *, const void *, size_t);
void spool_body_abort(struct spool_body *);
/* Some bytes to come before those already written (the Received line is known at the end); at most 4 KiB, once. */
enum spool_status spool_body_prefix(struct spool_body *, struct view);

typedef void spool_done(void *arg, enum spool_status, spool_id);
/* Takes the body over and makes it durable with its n >= 1 envelopes (slots 0..n-1 are assigned in order; `lease[i]`
 * true keeps envelope i in flight for the caller from the start: it is handed out by no spool_lease until settled or
 * unleased).  lease may be NULL.  done is called exactly once. */
void spool_accept(struct spool *, struct spool_body *, const struct spool_envelope *, const bool *lease, uint32_t n,
                  spool_done *, void *arg);

/* ---- schedule ---- */
struct spool_due { struct view dest; int64_t due; uint64_t count; };
typedef void spool_due_list(void *arg, enum spool_status, const struct spool_due *, size_t n, int64_t next_due);
/* Destinations that have mail due by `now` and not held or in flight, earliest first, at most max; next_due: the
 * earliest due after now (INT64_MAX: none).  count stops at 10,000. */
void spool_due(struct spool *, int64_t now, size_t max, spool_due_list *, void *arg);

typedef void spool_leased(void *arg, enum spool_status, const struct spool_envelope *, size_t n);
/* Up to max due envelopes of one destination, oldest due first, marked in flight. */
void spool_lease(struct spool *, struct view dest, int64_t now, size_t max, spool_leased *, void *arg);
/* Gives a mark back without an outcome: due again at once. */
void spool_unlease(struct spool *, spool_id, uint32_t slot);

typedef void spool_chunk(void *arg, enum spool_status, struct view bytes);
/* Bytes of a body from offset; short only at its end.  A read from offset 0 checks the whole body first; SPOOL_SICK:
 * this body is damaged or missing and must not be sent (others are not concerned). */
void spool_read(struct spool *, spool_id, uint64_t offset, size_t n, spool_chunk *, void *arg);

/* ---- outcomes ---- */
struct spool_new {                    /* a message that an outcome creates (a bounce, a delay warning) */
	struct spool_body *body;          /* taken over */
	const struct spool_envelope *envelopes;
	uint32_t n;
};
/* Replaces an envelope, atomically with new messages: remains NULL: nothing remains; else remains->data, ->attempts,
 * ->due, ->expires are written (slot, id and dest stay).  Ends the in-flight mark after the commit.  done may be NULL. */
void spool_settle(struct spool *, spool_id, uint32_t slot, const struct spool_envelope *remains,
                  const struct spool_new *news, size_t news_n, spool_done *, void *arg);

/* ---- the operator ---- */
/* id 0: all; dest empty: all.  Held envelopes are never leased, and a flush leaves their time alone; delete fails on those in flight (SPOOL_AGAIN).  The
 * count given to done is what was changed for good, also when the status is an error. */
void spool_hold(struct spool *, spool_id, struct view dest, bool hold, spool_done *, void *arg); /* done: id = count */
void spool_flush(struct spool *, spool_id, struct view dest, int64_t now, spool_done *, void *arg);
void spool_delete(struct spool *, spool_id, struct view dest, spool_done *, void *arg);
/* Envelopes in order of (id, slot) from (after_id, after_slot) exclusive, at most max; dest empty: all. */
void spool_list(struct spool *, spool_id after_id, uint32_t after_slot, struct view dest, size_t max, spool_leased *, void *arg);

struct spool_stats {
	uint64_t messages, envelopes, held, in_flight, segments, bytes_live, bytes_total, commits, syncs;
	int64_t oldest;
	bool sick; /* the disk failed: all is answered SPOOL_SICK until the next start */
};
void spool_get_stats(struct spool *, struct spool_stats *);
/* The index was found damaged: the spool is sick, and whoever closes and opens it again has it made anew. */
bool spool_damaged(struct spool *);
unsigned spool_pressure(struct spool *); /* 0..100; receive slows down above 80 */
/* Has the writer look at the disk's space although nothing comes in: who refuses all for want of it must learn that it is back. */
void spool_look_at_space(struct spool *);

/* ---- turning the crank ---- */
/* How many writers are on their way to an accept, beside those whose accept was queued: while many come, a batch waits for them. */
void spool_expect(struct spool *, unsigned writers);
/* Somebody waits for the settle just called: a few such are worth a batch of their own. */
void spool_wanted(struct spool *);
void spool_kick(struct spool *);     /* end of a loop turn: hand what was queued to the writer */
void spool_dispatch(struct spool *); /* run completions that are ready, on the owner's thread */
bool spool_step(struct spool *);     /* not threaded: one turn of the writer; false when there was nothing to do */

#endif
