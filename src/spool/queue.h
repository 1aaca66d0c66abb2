/* queue.h - the engine "queue": segment files and a SQLite index.  Inside of src/spool only.
 *
 *   writer.c    batches: jobs become records and rows; one sync, one commit
 *   operate.c   hold, release, flush, delete: some thousand envelopes a batch
 *   apply.c     what a record does to the index; used by the writer and by recovery, so that both do the same
 *   compact.c   moving what lives out of segments that are mostly dead; recycling those wholly dead
 *   reader.c    due, lease, list, read, on a snapshot of its own
 *   recovery.c  opening, replay, rebuild
 * STATES.md lists what may stand on the disk.
 */
#ifndef SPOOL_QUEUE_H
#define SPOOL_QUEUE_H
#include "spool/index.h"
#include "spool/segment.h"

#define BATCH_MAX (4u * 1024 * 1024) /* bytes of one batch: a sync of this size takes about as long as an empty one */
#define OPERATION_CHUNK 1000u        /* envelopes that an operator's job changes in one batch, so that intake goes on */
#define OPERATION_LOOK 20000u        /* envelopes that it looks at for that */
#define READ_FILES 16u               /* segments that the reader keeps open */

struct batch {
	unsigned char *mem; /* the records, as they will stand on the disk */
	size_t n, cap;
	uint64_t sequence;  /* the last given */
	uint64_t records;
	bool files;         /* the directory of body files must be synced */
	struct job_list jobs;
	enum spool_status status; /* why it failed */
};

struct key { spool_id id; uint32_t slot; };

struct compaction {
	bool open;
	struct scan scan;
	uint64_t generation;
	uint64_t need; /* bytes of the record that did not fit */
};

struct queue {
	struct spool *spool;
	struct segments segments;
	struct index index;      /* the writer's connection */
	struct index_meta meta;  /* as committed */
	struct index_meta next;  /* with the batch under way */
	struct batch batch;
	uint64_t commits, syncs;
	uint64_t durable;        /* the last commit that is known to survive a power cut */
	uint64_t behind;         /* bytes of records since then */
	int lock_fd;
	/* of the batch under way */
	struct segment **touched;
	size_t touched_n, touched_cap;
	uint64_t *unlinks;       /* body files whose message is gone with this batch */
	size_t unlinks_n, unlinks_cap;
	size_t refs_before;      /* of the active segment */
	struct key keys[OPERATION_CHUNK]; /* marked while an operation is committed */
	size_t keys_n;
	/* between batches */
	struct job_list longs;   /* operations that go on */
	uint64_t *forgotten;     /* generations retired: their rows go with the next commit */
	size_t forgotten_n, forgotten_cap;
	struct compaction compaction;
	bool compact_hint, reap_hint;
	int64_t space_checked;   /* monotonic ms; -1: never */
	bool space_short;
	/* the reader's lane */
	struct index reader;
	struct { uint64_t generation; int fd; } files[READ_FILES];
	size_t files_next;
	uint64_t purges;
	bool reading;            /* its connection is open */
};

/* apply.c: into the transaction under way; counts go to q->next and the segments' deltas */
enum index_result apply_message(struct queue *, const struct record_message *, struct segment *, uint64_t at,
                                uint64_t length);
enum index_result apply_moved(struct queue *, const struct record_message *, struct segment *, uint64_t at,
                              uint64_t length);
/* `by`: the segment that holds the record of it.  INDEX_NONE: no such envelope. */
enum index_result apply_end(struct queue *, struct segment *by, spool_id, uint32_t slot);
enum index_result apply_remains(struct queue *, struct segment *by, const struct record_outcome *);
enum index_result apply_held(struct queue *, struct segment *by, spool_id, uint32_t slot, bool held);
enum index_result apply_due(struct queue *, struct segment *by, spool_id, uint32_t slot, int64_t due);
enum index_result apply_touch(struct queue *, struct segment *, int64_t n, int64_t bytes);
enum index_result apply_refer(struct queue *, struct segment *by, uint64_t generation);
enum index_result apply_counts(struct queue *); /* writes meta, segment counts and forgotten rows */
void apply_done(struct queue *);                /* the commit stands */
void apply_undo(struct queue *);                /* it does not */

/* writer.c */
bool queue_write(void *engine, struct job_list *in);
/* Room for a record; returns where its payload goes.  NULL: memory. */
unsigned char *batch_record(struct queue *, uint64_t payload);
uint64_t batch_seal(struct queue *, enum record_type, unsigned flags, uint64_t payload); /* returns its offset */
bool batch_fits(const struct queue *, uint64_t bytes);
void queue_publish(struct queue *); /* stats, under the lock */
void queue_failed(struct queue *);  /* looks at index.status: sick, damaged */
void queue_damaged(struct queue *); /* the index is; any lane */
bool queue_sync_index(struct queue *); /* what is committed is durable, by now; false: the spool is sick */

/* operate.c */
enum index_result operate_step(struct queue *, struct job *, bool *ended);
void operate_unmark(struct queue *, bool committed);
#define OPERATION_NEED record_size(RECORD_LIST_FIXED + OPERATION_CHUNK * RECORD_LIST_ITEM)

/* compact.c */
bool compact_wanted(struct queue *);
uint64_t compact_need(const struct queue *);
enum index_result compact_step(struct queue *);
void compact_stop(struct queue *);
void segments_reap(struct queue *);

/* reader.c */
void queue_read(void *engine, struct job_list *in);
void reader_close(struct queue *);

/* recovery.c */
void queue_close(void *engine);

/* Makes room for one more item of a growing array. */
static inline bool grow_one(const struct alloc *a, void *array, size_t n, size_t *cap, size_t size)
{
	void *old, *more;

	if (n < *cap)
		return true;
	memcpy(&old, array, sizeof old);
	more = a->resize(a->arg, old, (*cap ? *cap * 2 : 16) * size);
	if (!more)
		return false;
	memcpy(array, &more, sizeof more);
	*cap = *cap ? *cap * 2 : 16;
	return true;
}

#endif
