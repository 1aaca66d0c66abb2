/* sqlite.c - the index in SQLite.  See index.h; index.def has the statements.
 *
 * One function opens every connection (open_db), so that a file layer with faults can be put beneath it.
 */
#include "spool/index.h"

#include <stdio.h>

#define WRITER_CACHE_KIB 24576 /* the recent end of the tables, where live mail comes and goes */
#define READER_CACHE_KIB 8192
#define BUSY_MS 2000 /* only an operator's own sqlite3 shell can be in the way */

static const char schema[] =
	"CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), applied INTEGER NOT NULL, generation INTEGER NOT NULL,"
	" offset INTEGER NOT NULL, last_id INTEGER NOT NULL, messages INTEGER NOT NULL, envelopes INTEGER NOT NULL,"
	" held INTEGER NOT NULL, lagging INTEGER NOT NULL);"
	"CREATE TABLE message (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL, at INTEGER NOT NULL,"
	" length INTEGER NOT NULL, body_at INTEGER NOT NULL, body_size INTEGER NOT NULL, body_file INTEGER NOT NULL,"
	" body_crc INTEGER NOT NULL, created INTEGER NOT NULL, live INTEGER NOT NULL);"
	"CREATE INDEX message_file ON message (body_file) WHERE body_file <> 0;"
	"CREATE TABLE envelope (id INTEGER NOT NULL, slot INTEGER NOT NULL, dest BLOB NOT NULL, due INTEGER NOT NULL,"
	" attempts INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, held INTEGER NOT NULL,"
	" size INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (id, slot)) WITHOUT ROWID;"
	"CREATE INDEX envelope_due ON envelope (dest, due) WHERE held = 0;"
	"CREATE TABLE segment (generation INTEGER PRIMARY KEY, number INTEGER NOT NULL, salt INTEGER NOT NULL,"
	" previous INTEGER NOT NULL, live_n INTEGER NOT NULL, live_bytes INTEGER NOT NULL);"
	"CREATE TABLE ref (holder INTEGER NOT NULL, target INTEGER NOT NULL, PRIMARY KEY (holder, target)) WITHOUT ROWID;"
	"CREATE INDEX ref_target ON ref (target);";

static const char *const sql[INDEX_STATEMENTS] = {
#define INDEX_STATEMENT(name, text) [INDEX_##name] = text,
#include "spool/index.def"
#undef INDEX_STATEMENT
};

/* What a result of SQLite means to a sender.  Anything unknown is temporary. */
static enum index_result failed(struct index *ix, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_FULL:
		ix->status = SPOOL_FULL;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
		ix->corrupt = true;
		ix->status = SPOOL_SICK;
		break;
	case SQLITE_IOERR:
		ix->status = rc == SQLITE_IOERR_NOMEM ? SPOOL_AGAIN : SPOOL_SICK;
		/* The kernel may have dropped the pages and marked them clean: this file is not built upon again. */
		ix->corrupt = ix->corrupt || rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC;
		break;
	default:
		ix->status = SPOOL_AGAIN;
		break;
	}
	return INDEX_FAILED;
}

static int open_db(struct index *ix, const char *path, enum index_mode mode)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;

	flags |= mode == INDEX_READ    ? SQLITE_OPEN_READONLY
	         : mode == INDEX_BUILD ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
	                               : SQLITE_OPEN_READWRITE;
	return sqlite3_open_v2(path, &ix->db, flags, NULL);
}

static int run(struct index *ix, const char *text)
{
	return sqlite3_exec(ix->db, text, NULL, NULL, NULL);
}

/* SQLite's own checkpoints hide their failures, and come in the middle of a commit: the writer makes them itself. */
static int committed(void *index, sqlite3 *db, const char *schema_name, int pages)
{
	struct index *ix = index;

	(void)db;
	(void)schema_name;
	ix->pages = pages;
	return SQLITE_OK;
}

static int settings(struct index *ix, enum index_mode mode)
{
	char text[512];
	int rc;

	sqlite3_busy_timeout(ix->db, BUSY_MS);
	snprintf(text, sizeof text, "PRAGMA cache_size = -%d; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
	         mode == INDEX_READ ? READER_CACHE_KIB : WRITER_CACHE_KIB);
	if ((rc = run(ix, text)) != SQLITE_OK || mode == INDEX_READ)
		return rc;
	/* While building, the WAL need not be synced at each commit: index_finish makes all durable at once. */
	snprintf(text, sizeof text,
	         "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = %s;"
	         "PRAGMA journal_size_limit = 67108864;",
	         mode == INDEX_STRICT ? "FULL" : "NORMAL");
	sqlite3_wal_hook(ix->db, committed, ix);
	return run(ix, text);
}

static int version(struct index *ix, int *out)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(ix->db, "PRAGMA user_version", -1, &st, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(st);
	*out = rc == SQLITE_ROW ? sqlite3_column_int(st, 0) : -1;
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

int index_open(struct index *ix, const char *path, enum index_mode mode, struct error *err)
{
	int rc, format = 0;

	memset(ix, 0, sizeof *ix);
	rc = open_db(ix, path, mode);
	if (rc == SQLITE_OK)
		rc = settings(ix, mode);
	if (rc == SQLITE_OK && mode == INDEX_BUILD)
		rc = run(ix, schema);
	if (rc == SQLITE_OK)
		rc = version(ix, &format);
	if (rc == SQLITE_OK && mode != INDEX_BUILD && format != INDEX_FORMAT)
		rc = SQLITE_CORRUPT; /* a build that did not end, or not ours */
	for (int i = 0; i < INDEX_STATEMENTS && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(ix->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &ix->statement[i], NULL);
	if (rc == SQLITE_OK)
		return 0;
	if (rc == SQLITE_ERROR && mode != INDEX_BUILD)
		rc = SQLITE_CORRUPT; /* a table or column is missing */
	failed(ix, rc);
	error_set(err, ix->status == SPOOL_FULL ? ERROR_FULL : ix->status == SPOOL_AGAIN ? ERROR_AGAIN : ERROR_OURS,
	          "cannot open the index %s: %s", path, sqlite3_errstr(rc));
	index_close(ix);
	return -1;
}

void index_close(struct index *ix)
{
	for (int i = 0; i < INDEX_STATEMENTS; i++) {
		sqlite3_finalize(ix->statement[i]);
		ix->statement[i] = NULL;
	}
	sqlite3_close_v2(ix->db);
	ix->db = NULL;
}

int index_finish(struct index *ix, enum index_mode mode, struct error *err)
{
	char text[128];
	int rc;

	/* The mark of being whole is the last commit, and synced: what it vouches for stands before it in the WAL. */
	snprintf(text, sizeof text, "PRAGMA synchronous = FULL; PRAGMA user_version = %d;", INDEX_FORMAT);
	rc = run(ix, text);
	if (rc == SQLITE_OK && mode == INDEX_LAGGING)
		rc = run(ix, "PRAGMA synchronous = NORMAL");
	if (rc == SQLITE_OK)
		return 0;
	failed(ix, rc);
	return error_set(err, ix->status == SPOOL_FULL ? ERROR_FULL : ERROR_OURS, "cannot finish the index: %s",
	                 sqlite3_errstr(rc));
}

enum index_result index_sync(struct index *ix)
{
	sqlite3_file *log = NULL;
	int rc = sqlite3_file_control(ix->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);

	/* Every commit since the last checkpoint stands in the log alone, and what a checkpoint wrote back it has synced. */
	if (rc == SQLITE_OK && log && log->pMethods)
		rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
	return rc == SQLITE_OK ? INDEX_DONE : failed(ix, rc);
}

enum index_result index_checkpoint(struct index *ix)
{
	int rc = sqlite3_wal_checkpoint_v2(ix->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	return rc == SQLITE_OK || rc == SQLITE_BUSY ? INDEX_DONE : failed(ix, rc);
}

/* ---- running a statement ---- */

static sqlite3_stmt *use(struct index *ix, enum index_statement which)
{
	return ix->statement[which];
}

static void number(sqlite3_stmt *st, int at, uint64_t v)
{
	sqlite3_bind_int64(st, at, (sqlite3_int64)v);
}

static void bytes(sqlite3_stmt *st, int at, struct view v)
{
	sqlite3_bind_blob64(st, at, v.n ? v.p : "", v.n, SQLITE_STATIC);
}

static uint64_t column(sqlite3_stmt *st, int at)
{
	return (uint64_t)sqlite3_column_int64(st, at);
}

static struct view column_bytes(sqlite3_stmt *st, int at)
{
	const char *p = sqlite3_column_blob(st, at);

	return view_of(p ? p : "", (size_t)sqlite3_column_bytes(st, at));
}

/* A statement that returns no rows.  changed: how it must have changed one row to count as done. */
static enum index_result change(struct index *ix, sqlite3_stmt *st, bool changed)
{
	int rc = sqlite3_step(st);

	sqlite3_reset(st);
	if (rc != SQLITE_DONE)
		return failed(ix, rc);
	return !changed || sqlite3_changes(ix->db) ? INDEX_DONE : INDEX_NONE;
}

/* Steps to the first row.  The caller resets the statement when it is done with the row. */
static enum index_result row(struct index *ix, sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return INDEX_DONE;
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? INDEX_NONE : failed(ix, rc);
}

enum index_result index_begin(struct index *ix)
{
	return change(ix, use(ix, INDEX_BEGIN), false);
}

enum index_result index_commit(struct index *ix)
{
	sqlite3_reset(use(ix, INDEX_GET_ENVELOPE)); /* its last row was kept for its views */
	return change(ix, use(ix, INDEX_COMMIT), false);
}

void index_rollback(struct index *ix)
{
	sqlite3_reset(use(ix, INDEX_GET_ENVELOPE));
	if (!sqlite3_get_autocommit(ix->db)) /* some failures have rolled back already */
		run(ix, "ROLLBACK");
}

enum index_result index_get_meta(struct index *ix, struct index_meta *m)
{
	sqlite3_stmt *st = use(ix, INDEX_GET_META);
	enum index_result r = row(ix, st);

	if (r != INDEX_DONE)
		return r;
	*m = (struct index_meta){ .applied = column(st, 0), .generation = column(st, 1), .offset = column(st, 2),
		.last_id = column(st, 3), .messages = column(st, 4), .envelopes = column(st, 5), .held = column(st, 6),
		.lagging = column(st, 7) != 0 };
	sqlite3_reset(st);
	return r;
}

enum index_result index_put_meta(struct index *ix, const struct index_meta *m)
{
	sqlite3_stmt *st = use(ix, INDEX_PUT_META);

	number(st, 1, m->applied);
	number(st, 2, m->generation);
	number(st, 3, m->offset);
	number(st, 4, m->last_id);
	number(st, 5, m->messages);
	number(st, 6, m->envelopes);
	number(st, 7, m->held);
	number(st, 8, m->lagging);
	return change(ix, st, false);
}

/* ---- messages ---- */

enum index_result index_put_message(struct index *ix, const struct index_message *m)
{
	sqlite3_stmt *st = use(ix, INDEX_PUT_MESSAGE);

	number(st, 1, m->id);
	number(st, 2, m->generation);
	number(st, 3, m->at);
	number(st, 4, m->length);
	number(st, 5, m->body_at);
	number(st, 6, m->body_size);
	number(st, 7, m->body_file);
	number(st, 8, m->body_crc);
	number(st, 9, (uint64_t)m->created);
	number(st, 10, m->live);
	return change(ix, st, false);
}

enum index_result index_get_message(struct index *ix, spool_id id, struct index_message *m)
{
	sqlite3_stmt *st = use(ix, INDEX_GET_MESSAGE);
	enum index_result r;

	number(st, 1, id);
	r = row(ix, st);
	if (r != INDEX_DONE)
		return r;
	*m = (struct index_message){ .id = id, .generation = column(st, 0), .at = column(st, 1), .length = column(st, 2),
		.body_at = column(st, 3), .body_size = column(st, 4), .body_file = column(st, 5),
		.body_crc = (uint32_t)column(st, 6), .created = (int64_t)column(st, 7), .live = (uint32_t)column(st, 8) };
	sqlite3_reset(st);
	return r;
}

enum index_result index_move_message(struct index *ix, const struct index_message *m)
{
	sqlite3_stmt *st = use(ix, INDEX_MOVE_MESSAGE);

	number(st, 1, m->id);
	number(st, 2, m->generation);
	number(st, 3, m->at);
	number(st, 4, m->length);
	number(st, 5, m->body_at);
	return change(ix, st, true);
}

enum index_result index_live_message(struct index *ix, spool_id id, uint32_t live)
{
	sqlite3_stmt *st = use(ix, INDEX_LIVE_MESSAGE);

	number(st, 1, id);
	number(st, 2, live);
	return change(ix, st, true);
}

enum index_result index_drop_message(struct index *ix, spool_id id)
{
	sqlite3_stmt *st = use(ix, INDEX_DROP_MESSAGE);

	number(st, 1, id);
	return change(ix, st, true);
}

enum index_result index_first_message(struct index *ix, spool_id *id)
{
	sqlite3_stmt *st = use(ix, INDEX_FIRST_MESSAGE);
	enum index_result r = row(ix, st);

	if (r == INDEX_DONE) {
		*id = column(st, 0);
		sqlite3_reset(st);
	}
	return r;
}

enum index_result index_has_file(struct index *ix, uint64_t body_file)
{
	sqlite3_stmt *st = use(ix, INDEX_HAS_FILE);
	enum index_result r;

	number(st, 1, body_file);
	r = row(ix, st);
	if (r == INDEX_DONE)
		sqlite3_reset(st);
	return r;
}

enum index_result index_walk_files(struct index *ix, index_file_row *each, void *ctx)
{
	sqlite3_stmt *st = use(ix, INDEX_WALK_FILES);
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		if (!each(ctx, column(st, 0), column(st, 1)))
			break;
	sqlite3_reset(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? INDEX_DONE : failed(ix, rc);
}

/* ---- envelopes ---- */

enum index_result index_put_envelope(struct index *ix, const struct spool_envelope *e)
{
	sqlite3_stmt *st = use(ix, INDEX_PUT_ENVELOPE);

	number(st, 1, e->id);
	number(st, 2, e->slot);
	bytes(st, 3, e->dest);
	number(st, 4, (uint64_t)e->due);
	number(st, 5, e->attempts);
	number(st, 6, (uint64_t)e->created);
	number(st, 7, (uint64_t)e->expires);
	number(st, 8, e->held);
	number(st, 9, e->body_size);
	bytes(st, 10, e->data);
	return change(ix, st, false);
}

enum index_result index_set_envelope(struct index *ix, const struct spool_envelope *e)
{
	sqlite3_stmt *st = use(ix, INDEX_SET_ENVELOPE);

	number(st, 1, e->id);
	number(st, 2, e->slot);
	number(st, 3, e->attempts);
	number(st, 4, (uint64_t)e->due);
	number(st, 5, (uint64_t)e->expires);
	bytes(st, 6, e->data);
	return change(ix, st, true);
}

static enum index_result set_one(struct index *ix, enum index_statement which, spool_id id, uint32_t slot, uint64_t v)
{
	sqlite3_stmt *st = use(ix, which);

	number(st, 1, id);
	number(st, 2, slot);
	number(st, 3, v);
	return change(ix, st, true);
}

enum index_result index_set_held(struct index *ix, spool_id id, uint32_t slot, bool held)
{
	return set_one(ix, INDEX_SET_HELD, id, slot, held);
}

enum index_result index_set_due(struct index *ix, spool_id id, uint32_t slot, int64_t due)
{
	return set_one(ix, INDEX_SET_DUE, id, slot, (uint64_t)due);
}

enum index_result index_drop_envelope(struct index *ix, spool_id id, uint32_t slot)
{
	sqlite3_stmt *st = use(ix, INDEX_DROP_ENVELOPE);

	number(st, 1, id);
	number(st, 2, slot);
	return change(ix, st, true);
}

static struct spool_envelope envelope_of(sqlite3_stmt *st)
{
	return (struct spool_envelope){ .id = column(st, 0), .slot = (uint32_t)column(st, 1), .dest = column_bytes(st, 2),
		.due = (int64_t)column(st, 3), .attempts = (uint32_t)column(st, 4), .created = (int64_t)column(st, 5),
		.expires = (int64_t)column(st, 6), .held = column(st, 7) != 0, .body_size = column(st, 8),
		.data = column_bytes(st, 9) };
}

enum index_result index_get_envelope(struct index *ix, spool_id id, uint32_t slot, struct spool_envelope *e)
{
	sqlite3_stmt *st = use(ix, INDEX_GET_ENVELOPE);
	enum index_result r;

	sqlite3_reset(st); /* the row of the last call was kept for its views */
	number(st, 1, id);
	number(st, 2, slot);
	r = row(ix, st);
	if (r == INDEX_DONE)
		*e = envelope_of(st);
	return r;
}

enum index_result index_walk(struct index *ix, spool_id after, uint32_t slot, spool_id until, index_row *each,
                             void *ctx)
{
	sqlite3_stmt *st = use(ix, INDEX_WALK);
	int rc;

	number(st, 1, after);
	number(st, 2, slot);
	number(st, 3, until > INT64_MAX ? INT64_MAX : until);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct spool_envelope e = envelope_of(st);
		if (!each(ctx, &e)) {
			sqlite3_reset(st);
			return INDEX_DONE;
		}
	}
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? INDEX_NONE : failed(ix, rc);
}

static enum index_result walk_times(struct index *ix, sqlite3_stmt *st, struct view dest, index_row *each, void *ctx)
{
	int rc;

	bytes(st, 1, dest);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct spool_envelope e = { .id = column(st, 0), .slot = (uint32_t)column(st, 1), .due = (int64_t)column(st, 2) };
		if (!each(ctx, &e)) {
			sqlite3_reset(st);
			return INDEX_DONE;
		}
	}
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? INDEX_NONE : failed(ix, rc);
}

enum index_result index_walk_due(struct index *ix, struct view dest, index_row *each, void *ctx)
{
	return walk_times(ix, use(ix, INDEX_WALK_DUE), dest, each, ctx);
}

enum index_result index_walk_later(struct index *ix, struct view dest, int64_t when, index_row *each, void *ctx)
{
	sqlite3_stmt *st = use(ix, INDEX_WALK_LATER);

	number(st, 2, (uint64_t)when);
	return walk_times(ix, st, dest, each, ctx);
}

enum index_result index_next_dest(struct index *ix, bool first, struct view after, index_row *each, void *ctx)
{
	sqlite3_stmt *st = use(ix, first ? INDEX_FIRST_DEST : INDEX_NEXT_DEST);
	struct spool_envelope e = { 0 };
	enum index_result r;

	if (!first)
		bytes(st, 1, after);
	r = row(ix, st);
	if (r != INDEX_DONE)
		return r;
	e.dest = column_bytes(st, 0);
	each(ctx, &e);
	sqlite3_reset(st);
	return r;
}

/* ---- segments ---- */

enum index_result index_put_segment(struct index *ix, const struct index_segment *s)
{
	sqlite3_stmt *st = use(ix, INDEX_PUT_SEGMENT);

	number(st, 1, s->generation);
	number(st, 2, s->number);
	number(st, 3, s->salt);
	number(st, 4, s->previous);
	number(st, 5, s->live_n);
	number(st, 6, s->live_bytes);
	return change(ix, st, false);
}

enum index_result index_drop_segment(struct index *ix, uint64_t generation)
{
	sqlite3_stmt *st = use(ix, INDEX_DROP_REFS);
	enum index_result r;

	number(st, 1, generation);
	r = change(ix, st, false);
	if (r != INDEX_DONE)
		return r;
	st = use(ix, INDEX_DROP_SEGMENT);
	number(st, 1, generation);
	return change(ix, st, false);
}

enum index_result index_put_ref(struct index *ix, uint64_t holder, uint64_t target)
{
	sqlite3_stmt *st = use(ix, INDEX_PUT_REF);

	number(st, 1, holder);
	number(st, 2, target);
	return change(ix, st, false);
}

enum index_result index_walk_segments(struct index *ix, index_segment_row *each, void *ctx)
{
	sqlite3_stmt *st = use(ix, INDEX_WALK_SEGMENTS);
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct index_segment s = { .generation = column(st, 0), .number = column(st, 1), .salt = column(st, 2),
			.previous = column(st, 3), .live_n = column(st, 4), .live_bytes = column(st, 5) };
		if (!each(ctx, &s))
			break;
	}
	sqlite3_reset(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? INDEX_DONE : failed(ix, rc);
}

enum index_result index_walk_refs(struct index *ix, index_ref_row *each, void *ctx)
{
	sqlite3_stmt *st = use(ix, INDEX_WALK_REFS);
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		if (!each(ctx, column(st, 0), column(st, 1)))
			break;
	sqlite3_reset(st);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? INDEX_DONE : failed(ix, rc);
}
