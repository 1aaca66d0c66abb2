/* segment.h - the append-only files that hold every message: made ahead, filled, recycled.
 *
 * `segments/NUMBER` is SEGMENT_HEAD bytes of header (two copies), then records (record.h) up to the first that does
 * not check.  A file is written with zeros ahead of its records, so that a sync has no size to write, and is used
 * again, with a new generation, when nothing in it matters any more.  One segment at a time is active.
 *
 * All calls belong to the writer's lane; segments_number may be called by the reader under the spool's lock, under
 * which the list changes.
 * Failure: an enum spool_status.  A failed sync makes the spool sick for ever.  A failed append leaves nothing that
 * counts: its bytes are overwritten with zeros and the sequence jumps.
 */
#ifndef SPOOL_SEGMENT_H
#define SPOOL_SEGMENT_H
#include "spool/engine.h"
#include "spool/record.h"

#define SEGMENT_HEAD 4096u
#define SEGMENT_RESERVE 256u            /* at the end: an abort and a mark always find room */
#define SEGMENT_AHEAD (4u * 1024 * 1024) /* zeros written at once: 1,000 small messages a time */
#define SEGMENT_SPARES 4u               /* recycled files kept; more go back to the file system */
/* Every start, and every failed write, moves the sequence on by this, farther than any batch reaches: what the
 * earlier life left behind has a lower sequence and cannot be taken for what follows. */
#define SEGMENT_JUMP ((uint64_t)1 << 32)

struct segment {
	uint64_t number, generation, salt; /* generation 0: free */
	uint64_t previous;    /* the sequence before its first */
	uint64_t size;        /* bytes it may have */
	uint64_t written;     /* bytes that the file has */
	uint64_t used;        /* end of its records */
	/* as committed; the deltas are those of the batch under way */
	uint64_t live_n, live_bytes;
	int64_t delta_n, delta_bytes;
	bool touched;
	bool recorded;        /* the index has its row */
	uint64_t dead_commit; /* since which commit no row points here */
	uint64_t last_commit; /* the last one with records in here */
	uint64_t *refs;       /* generations that must be re-headed before this one may be */
	size_t refs_n, refs_cap;
	bool stuck;           /* holds a damaged message that is still wanted: not compacted again */
	bool suspect;         /* its header does not check; generation and salt come from the index */
};

struct segments {
	struct spool *spool;
	struct segment **list; /* in use, by generation */
	size_t n, cap;
	struct segment *spares[SEGMENT_SPARES];
	size_t spares_n;
	struct segment *active;
	int fd;                /* of the active one, -1 */
	uint64_t last_number, last_generation;
	uint64_t sequence;     /* the last used */
	bool jump;             /* the next batch begins with a mark */
	bool dir_dirty;        /* a file was made since the directory was synced */
	uint64_t purges;       /* files unlinked, under the lock: descriptors kept elsewhere are stale */
};

void segments_init(struct segments *, struct spool *);
void segments_free(struct segments *);
/* Finds the files and reads their headers.  Files whose header does not check are in the list as suspects with
 * generation 0, until the index says what they are. */
int segments_load(struct segments *, struct error *);
void segments_sort(struct segments *);
struct segment *segments_find(const struct segments *, uint64_t generation);
uint64_t segments_number(const struct segments *, uint64_t generation); /* 0: none */
/* Makes `s` the active one again after a start; records end at `used`. */
enum spool_status segments_resume(struct segments *, struct segment *s, uint64_t used);
/* The next active segment, with room for `need` bytes of records. */
enum spool_status segments_rotate(struct segments *, uint64_t need);
static inline uint64_t segments_room(const struct segments *ss)
{
	const struct segment *s = ss->active;
	return s && s->used + SEGMENT_RESERVE < s->size ? s->size - s->used - SEGMENT_RESERVE : 0;
}
enum spool_status segments_append(struct segments *, const unsigned char *, size_t n);
enum spool_status segments_sync(struct segments *);
void segments_take_back(struct segments *, size_t n); /* the last n bytes appended, which were not synced */
/* Nothing in s matters any more: re-heads it as free, or unlinks it.  s is gone from the list on success. */
enum spool_status segments_retire(struct segments *, struct segment *s);
bool segment_pinned(const struct segment *s); /* other segments must go first */
/* s may be re-headed only after `generation` was.  false: memory.  fresh: it was not known before. */
bool segment_refer(const struct alloc *, struct segment *s, uint64_t generation, bool *fresh);
/* Writes a header again that did not check. */
enum spool_status segments_rehead(struct segments *, struct segment *s);

void segment_path(const struct segments *, uint64_t number, char *to, size_t n);
int segment_read_fd(struct segments *, const struct segment *); /* opened for reading, -1 and errno */

/* ---- reading a segment from end to end ---- */
enum scan_result { SCAN_RECORD = 1, SCAN_END, SCAN_FAILED };
struct scan {
	struct segments *ss;
	struct segment *seg;
	int fd;
	uint64_t at, end, previous;
	bool resync;            /* look behind damage for more; else the first bad record ends the scan */
	unsigned char *window;
	uint64_t window_at;
	size_t window_n, window_cap;
	/* what was found */
	uint64_t torn;          /* bytes of a cut record at the end */
	uint64_t damaged_from, damaged_to; /* set with the record that follows the damage; else both 0 */
	struct error *error;
};
int scan_open(struct scan *, struct segments *, struct segment *, uint64_t from, uint64_t previous, bool resync,
              struct error *);
enum scan_result scan_next(struct scan *, struct record *);
void scan_close(struct scan *);
/* Keeps bytes that do not check for the operator: quarantine/GENERATION-OFFSET. */
void segment_quarantine(struct segments *, const struct segment *, uint64_t from, uint64_t to);

#endif
