/* index.h - the index over the segments: one row per envelope, one per message.  SQLite behind it (sqlite.c).
 *
 * The writer's connection has one transaction per batch; the reader has a connection of its own and sees snapshots
 * (WAL).  Everything here can be made anew from the segments, so nothing here is the only copy of anything.
 * What is committed is durable (INDEX_STRICT: synchronous=FULL), or will be with the next index_sync or checkpoint
 * (INDEX_LAGGING: synchronous=NORMAL): a power cut leaves the state of one of the commits since then, whole.
 * meta.applied is the last sequence whose effect the index holds; it changes in the same commit as that effect.
 * Failure: INDEX_FAILED, with the reason in ->status (full, again, sick) and ->corrupt.
 */
#ifndef SPOOL_INDEX_H
#define SPOOL_INDEX_H
#include "spool/spool.h"

#include <sqlite3.h>

enum index_result { INDEX_DONE = 1, INDEX_NONE, INDEX_FAILED };
enum index_mode { INDEX_STRICT = 1, INDEX_LAGGING, INDEX_BUILD, INDEX_READ };

#define INDEX_FORMAT 2 /* user_version once the index is whole; 0 while it is being built */

enum index_statement {
#define INDEX_STATEMENT(name, sql) INDEX_##name,
#include "spool/index.def"
#undef INDEX_STATEMENT
	INDEX_STATEMENTS
};

struct index {
	sqlite3 *db;
	sqlite3_stmt *statement[INDEX_STATEMENTS];
	enum spool_status status; /* of the last failure */
	bool corrupt;
	int pages; /* in the log, as of the last commit */
};

struct index_meta {
	uint64_t applied, generation, offset; /* where the next record is expected */
	uint64_t last_id, messages, envelopes, held;
	bool lagging; /* what stands above `applied` in the log may have been acknowledged */
};

struct index_message {
	spool_id id;
	uint64_t generation, at; /* of the record */
	uint64_t length;
	uint64_t body_at;        /* in the segment, or in the body's file */
	uint64_t body_size, body_file;
	uint32_t body_crc;
	int64_t created;
	uint32_t live;
};

struct index_segment { uint64_t generation, number, salt, previous, live_n, live_bytes; };

/* -1: not there, damaged (->corrupt) or not readable; it is closed then. */
int index_open(struct index *, const char *path, enum index_mode, struct error *);
void index_close(struct index *);
/* Building is over: everything is durable, and the index counts as whole.  It goes on as STRICT or LAGGING. */
int index_finish(struct index *, enum index_mode, struct error *);
/* All that is committed is durable.  A failure is damage (->corrupt): the kernel may call lost pages clean, so that no
 * later sync can be believed. */
enum index_result index_sync(struct index *);
/* Writes the log back into the table as far as readers let it; durable, and the log can begin anew. */
enum index_result index_checkpoint(struct index *);

enum index_result index_begin(struct index *); /* of a batch, or of a reader's snapshot */
enum index_result index_commit(struct index *);
void index_rollback(struct index *);

enum index_result index_get_meta(struct index *, struct index_meta *);
enum index_result index_put_meta(struct index *, const struct index_meta *);

enum index_result index_put_message(struct index *, const struct index_message *);
enum index_result index_get_message(struct index *, spool_id, struct index_message *);
enum index_result index_move_message(struct index *, const struct index_message *);
enum index_result index_live_message(struct index *, spool_id, uint32_t live);
enum index_result index_drop_message(struct index *, spool_id);
enum index_result index_first_message(struct index *, spool_id *);
enum index_result index_has_file(struct index *, uint64_t body_file);

typedef bool index_file_row(void *ctx, spool_id, uint64_t body_file);
enum index_result index_walk_files(struct index *, index_file_row *, void *ctx);

enum index_result index_put_envelope(struct index *, const struct spool_envelope *);
enum index_result index_set_envelope(struct index *, const struct spool_envelope *); /* data, attempts, due, expires */
enum index_result index_set_held(struct index *, spool_id, uint32_t slot, bool held);
enum index_result index_set_due(struct index *, spool_id, uint32_t slot, int64_t due);
enum index_result index_drop_envelope(struct index *, spool_id, uint32_t slot);
/* Views in *e live until the next call on this index. */
enum index_result index_get_envelope(struct index *, spool_id, uint32_t slot, struct spool_envelope *e);

/* Walks: `row` is called for each; false from it ends the walk (INDEX_DONE).  Views live until `row` returns. */
typedef bool index_row(void *ctx, const struct spool_envelope *);
/* Everything behind (id, slot) in that order, up to message `until`. */
enum index_result index_walk(struct index *, spool_id after, uint32_t slot, spool_id until, index_row *, void *ctx);
/* What is not held of one destination, by due time: id, slot and due only. */
enum index_result index_walk_due(struct index *, struct view dest, index_row *, void *ctx);
/* The same of what is due later than `when` (seconds). */
enum index_result index_walk_later(struct index *, struct view dest, int64_t when, index_row *, void *ctx);
/* The next destination behind `after` that has anything not held; .dest only.  first: from the beginning. */
enum index_result index_next_dest(struct index *, bool first, struct view after, index_row *, void *ctx);

enum index_result index_put_segment(struct index *, const struct index_segment *);
enum index_result index_drop_segment(struct index *, uint64_t generation); /* and what refers to it */
enum index_result index_put_ref(struct index *, uint64_t holder, uint64_t target);
typedef bool index_segment_row(void *ctx, const struct index_segment *);
enum index_result index_walk_segments(struct index *, index_segment_row *, void *ctx);
typedef bool index_ref_row(void *ctx, uint64_t holder, uint64_t target);
enum index_result index_walk_refs(struct index *, index_ref_row *, void *ctx);

#endif
