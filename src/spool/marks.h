/* marks.h - which envelopes are in flight: a hash in memory of (id, slot).
 *
 * A mark outlives the commit that ends its envelope: a reader whose snapshot is older than that commit still sees the
 * row, and without the mark would hand a delivered message out a second time.  So marks_retire drops a mark at once
 * only when no reader is at work; else it goes when that reader ends.  All calls are made under the spool's lock.
 * Failure: false from marks_add when memory is out; nothing else fails.
 */
#ifndef SPOOL_MARKS_H
#define SPOOL_MARKS_H
#include "base/alloc.h"

#include <stdbool.h>
#include <stdint.h>

enum mark_kind {
	MARK_LEASE = 1, /* handed to the owner */
	MARK_OPERATION, /* an operator's change is being committed: not to be leased meanwhile */
	MARK_RETIRED    /* its commit is done, but a reader with an older snapshot is at work */
};

struct mark { uint64_t id; uint32_t slot; uint32_t kind; }; /* kind 0: an empty place */

struct marks {
	const struct alloc *alloc;
	struct mark *table;    /* open addressing, a power of two */
	struct mark *retired;  /* as long as the table: retiring never allocates */
	size_t cap, used, retired_n;
	uint64_t leased;       /* marks of kind MARK_LEASE */
	unsigned readers;
	uint64_t reader_since; /* the commit that the oldest reader sees */
};

void marks_init(struct marks *, const struct alloc *);
void marks_free(struct marks *);
bool marks_has(const struct marks *, uint64_t id, uint32_t slot);
enum mark_kind marks_kind(const struct marks *, uint64_t id, uint32_t slot); /* 0: no mark */
bool marks_add(struct marks *, uint64_t id, uint32_t slot, enum mark_kind);
void marks_drop(struct marks *, uint64_t id, uint32_t slot);
void marks_retire(struct marks *, uint64_t id, uint32_t slot);
void marks_reader_begin(struct marks *, uint64_t commit);
void marks_reader_end(struct marks *);

#endif
