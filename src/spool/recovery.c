/* recovery.c - opening a spool: what stands on the disk becomes what is true.  See recovery.h and STATES.md.
 *
 * With a whole index only the records above its applied sequence are read, so a start takes no longer with a million
 * messages.  Without one, or with one that does not fit, it is made anew from the segments.
 */
#include "spool/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

static const char *const folders[] = { "segments", "bodies", "quarantine" };
static const char *const index_files[] = { "index.db-wal", "index.db-shm", "index.db", "rebuild" };

static int sync_folder(struct queue *q, const char *name, struct error *err)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	int fd, r;

	recover_path(q, name, path);
	fd = d->open(d->arg, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -1)
		return error_sys(err, errno, "cannot open %s", path);
	r = d->fsync(d->arg, fd);
	if (r == -1)
		error_sys(err, errno, "cannot sync %s", path);
	d->close(d->arg, fd);
	return r;
}

/* Synced whether made or found: a start that was killed between making and syncing leaves folders that are there and not
 * durable.  Only the spool's own folder may lie where we must not look (Landlock): super, who made it, has synced its name. */
static int make_folders(struct queue *q, struct error *err)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	bool made = d->mkdir(d->arg, q->spool->path, 0700) == 0;

	if (!made && errno != EEXIST)
		return error_sys(err, errno, "cannot make the spool's directory %s", q->spool->path);
	if (sync_folder(q, "..", err) == -1 && (made || err->sys != EACCES))
		return -1;
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		recover_path(q, folders[i], path);
		if (d->mkdir(d->arg, path, 0700) == -1 && errno != EEXIST)
			return error_sys(err, errno, "cannot make %s", path);
	}
	return sync_folder(q, ".", err);
}

/* Two processes on one spool would each overwrite what the other acknowledged. */
static int take_lock(struct queue *q, struct error *err)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];

	recover_path(q, "lock", path);
	q->lock_fd = d->open(d->arg, path, O_RDWR | O_CREAT, 0600);
	if (q->lock_fd == -1)
		return error_sys(err, errno, "cannot open %s", path);
	if (flock(q->lock_fd, LOCK_EX | LOCK_NB) == -1) {
		if (errno == EWOULDBLOCK)
			return error_set(err, ERROR_POLICY, "the spool %s is in use by another process", q->spool->path);
		return error_sys(err, errno, "cannot lock %s", path);
	}
	return 0;
}

static bool exists(struct queue *q, const char *name)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	int fd;

	recover_path(q, name, path);
	fd = d->open(d->arg, path, O_RDONLY, 0);
	if (fd == -1)
		return errno != ENOENT; /* not readable is not the same as not there */
	d->close(d->arg, fd);
	return true;
}

/* ---- body files ---- */

struct numbers { const struct alloc *alloc; uint64_t *list; size_t n, cap; bool failed; };

static int found_body(void *ctx, const char *name)
{
	struct numbers *f = ctx;
	char *end;
	uint64_t number = strtoull(name, &end, 16);

	if (strlen(name) != 16 || *end || !number)
		return 0; /* not ours */
	f->failed = !grow_one(f->alloc, &f->list, f->n, &f->cap, sizeof *f->list);
	if (!f->failed)
		f->list[f->n++] = number;
	return f->failed;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int find_bodies(struct queue *q, struct numbers *f, struct error *err)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];

	recover_path(q, "bodies", path);
	if (d->list(d->arg, path, found_body, f) == -1)
		return error_sys(err, errno, "cannot list %s", path);
	if (f->failed)
		return error_set(err, ERROR_AGAIN, "no memory for the spool's bodies");
	if (f->n)
		qsort(f->list, f->n, sizeof *f->list, by_value);
	if (f->n)
		q->spool->body_number = f->list[f->n - 1];
	return 0;
}

/* A file that no row names belongs to a message that was never acknowledged, or is gone.  Only after the commit: the
 * record that ended its message may have been read from memory that a power cut takes. */
static int remove_orphans(struct queue *q, const struct numbers *f, struct error *err)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];

	for (size_t i = 0; i < f->n; i++) {
		switch (index_has_file(&q->index, f->list[i])) {
		case INDEX_DONE:
			break;
		case INDEX_NONE:
			body_path(q->spool, f->list[i], path, sizeof path);
			d->unlink(d->arg, path);
			break;
		case INDEX_FAILED:
			return replay_index_error(q, err, "bodies are looked for");
		}
	}
	return 0;
}

struct missing { const struct numbers *files; struct queue *q; struct numbers ids; };

static bool check_file(void *ctx, spool_id id, uint64_t body_file)
{
	struct missing *m = ctx;

	if (m->files->n && bsearch(&body_file, m->files->list, m->files->n, sizeof body_file, by_value))
		return true;
	m->ids.failed = !grow_one(m->ids.alloc, &m->ids.list, m->ids.n, &m->ids.cap, sizeof *m->ids.list);
	if (!m->ids.failed)
		m->ids.list[m->ids.n++] = id;
	return !m->ids.failed;
}

struct slots { struct queue *q; uint32_t list[256]; size_t n; };

static bool take_slot(void *ctx, const struct spool_envelope *e)
{
	struct slots *s = ctx;

	if (!e->held)
		s->list[s->n++] = e->slot;
	return s->n < sizeof s->list / sizeof *s->list;
}

static int hold_message(struct queue *q, spool_id id, struct error *err)
{
	struct slots s = { .q = q };

	do {
		s.n = 0;
		if (index_walk(&q->index, id - 1, UINT32_MAX, id, take_slot, &s) == INDEX_FAILED)
			return replay_index_error(q, err, "messages are held");
		for (size_t i = 0; i < s.n; i++)
			if (apply_held(q, q->segments.active, id, s.list[i], true) == INDEX_FAILED)
				return replay_index_error(q, err, "messages are held");
	} while (s.n);
	return 0;
}

/* A message whose body's file is gone is held for the operator: it can neither be sent nor forgotten. */
static int hold_bodiless(struct queue *q, const struct numbers *files, struct spool_recovery *found, struct error *err)
{
	struct missing m = { .files = files, .q = q, .ids = { .alloc = q->spool->alloc } };
	int r = 0;

	if (index_walk_files(&q->index, check_file, &m) != INDEX_DONE)
		r = replay_index_error(q, err, "bodies are looked for");
	else if (m.ids.failed)
		r = error_set(err, ERROR_AGAIN, "no memory for the spool's bodies");
	for (size_t i = 0; i < m.ids.n && r == 0; i++) {
		found->quarantined++;
		r = hold_message(q, m.ids.list[i], err);
	}
	alloc_put(q->spool->alloc, m.ids.list);
	return r;
}

/* ---- the end of a start ---- */

static int status_error(struct error *err, enum spool_status status, const char *doing)
{
	return error_set(err, status == SPOOL_FULL ? ERROR_FULL : status == SPOOL_AGAIN ? ERROR_AGAIN : ERROR_OURS,
	                 "cannot %s the spool's segment (%s)", doing, spool_status_name(status));
}

/* Goes on where the log ends.  The mark that comes first makes sure that nothing behind that end, written by the
 * earlier life and not counted, is ever taken for a continuation. */
static int go_on(struct queue *q, struct error *err)
{
	struct segments *ss = &q->segments;
	struct segment *last = ss->n ? ss->list[ss->n - 1] : NULL;
	uint64_t need = record_size(RECORD_RANGE);
	enum spool_status status = SPOOL_OK;
	unsigned char *p;

	if (last && last->used + need + SEGMENT_RESERVE <= last->size)
		status = segments_resume(ss, last, last->used);
	else
		status = segments_rotate(ss, need);
	if (status != SPOOL_OK)
		return status_error(err, status, "open");
	q->batch.n = 0;
	q->batch.sequence = ss->sequence + SEGMENT_JUMP;
	p = batch_record(q, RECORD_RANGE);
	if (!p)
		return error_set(err, ERROR_AGAIN, "no memory to open the spool");
	record_put_range(p, ss->sequence, 0);
	batch_seal(q, RECORD_MARK, 0, RECORD_RANGE);
	status = segments_append(ss, q->batch.mem, q->batch.n);
	if (status == SPOOL_OK)
		status = segments_sync(ss);
	if (status != SPOOL_OK)
		return status_error(err, status, "write");
	ss->sequence = q->batch.sequence;
	ss->jump = false;
	return 0;
}

static int conclude(struct queue *q, bool building, struct spool_recovery *found, struct error *err)
{
	struct numbers files = { .alloc = q->spool->alloc };
	int r = find_bodies(q, &files, err);

	if (r == 0)
		r = go_on(q, err);
	if (r == 0 && building)
		r = hold_bodiless(q, &files, found, err);
	for (size_t i = 0; i < q->segments.n && r == 0; i++)
		if (apply_touch(q, q->segments.list[i], 0, 0) != INDEX_DONE)
			r = replay_index_error(q, err, "segments are counted");
	if (r == 0) {
		q->next.applied = q->segments.sequence;
		q->next.generation = q->segments.active->generation;
		q->next.offset = q->segments.active->used;
		q->next.lagging = q->spool->lagging;
		/* Durable in either mode: files without a row go next, and the earlier life's way of lagging ends here. */
		if (apply_counts(q) != INDEX_DONE || index_commit(&q->index) != INDEX_DONE || index_sync(&q->index) != INDEX_DONE)
			r = replay_index_error(q, err, "recovery is committed");
	}
	if (r == 0) {
		apply_done(q);
		q->durable = q->commits;
		q->compact_hint = q->reap_hint = true;
		q->unlinks_n = 0; /* they are among the orphans */
		r = remove_orphans(q, &files, err);
	}
	alloc_put(q->spool->alloc, files.list);
	return r;
}

/* 1: it must be built anew. */
static int with_index(struct queue *q, struct spool_recovery *found, struct error *err)
{
	struct replay r = { .q = q, .found = found, .error = err };
	char path[SPOOL_PATH_MAX];
	int result;

	recover_path(q, "index.db", path);
	if (!exists(q, "index.db") || exists(q, "rebuild"))
		return 1;
	if (index_open(&q->index, path, q->spool->lagging ? INDEX_LAGGING : INDEX_STRICT, err) == -1)
		return q->index.corrupt ? 1 : -1;
	result = recover_attach(q, found, err);
	if (result == 0)
		result = recover_set_aside(q, found, err);
	if (result == 0)
		result = recover_rehead(q, err);
	if (result == 0 && index_begin(&q->index) != INDEX_DONE)
		result = replay_index_error(q, err, "recovery begins");
	if (result == 0)
		result = replay_run(&r);
	if (result == 0 && r.distrust)
		result = 1;
	if (result == 0)
		result = conclude(q, false, found, err);
	if (result == -1 && q->index.corrupt)
		result = 1;
	replay_free(&r);
	if (result != 0)
		index_close(&q->index);
	return result;
}

static int build_index(struct queue *q, struct spool_recovery *found, struct error *err)
{
	const struct env_disk *d = &q->spool->env->disk;
	struct replay r = { .q = q, .found = found, .error = err, .building = true };
	char path[SPOOL_PATH_MAX];
	int result;

	found->rebuilt = true;
	for (size_t i = 0; i < sizeof index_files / sizeof *index_files; i++) {
		/* "rebuild" goes last: a crash between keeps the order to rebuild. */
		recover_path(q, index_files[i], path);
		if (d->unlink(d->arg, path) == -1 && errno != ENOENT)
			return error_sys(err, errno, "cannot remove %s", path);
	}
	recover_path(q, "index.db", path);
	if (index_open(&q->index, path, INDEX_BUILD, err) == -1)
		return -1;
	result = recover_set_aside(q, found, err);
	if (result == 0 && index_begin(&q->index) != INDEX_DONE)
		result = replay_index_error(q, err, "it is built");
	if (result == 0)
		result = replay_run(&r);
	if (result == 0)
		result = conclude(q, true, found, err);
	if (result == 0)
		result = index_finish(&q->index, q->spool->lagging ? INDEX_LAGGING : INDEX_STRICT, err);
	replay_free(&r);
	if (result != 0)
		index_close(&q->index);
	return result;
}

static void forget(struct queue *q)
{
	struct spool *s = q->spool;

	segments_free(&q->segments);
	q->touched_n = q->unlinks_n = q->forgotten_n = 0;
	memset(&q->meta, 0, sizeof q->meta);
	memset(&q->next, 0, sizeof q->next);
	memset(&q->batch.jobs, 0, sizeof q->batch.jobs);
	segments_init(&q->segments, s);
}

static int recover(struct queue *q, bool rebuild, struct spool_recovery *found, struct error *err)
{
	char path[SPOOL_PATH_MAX];
	int r;

	if (make_folders(q, err) == -1 || take_lock(q, err) == -1 || segments_load(&q->segments, err) == -1)
		return -1;
	r = rebuild ? 1 : with_index(q, found, err);
	if (r == 1) {
		forget(q);
		memset(found, 0, sizeof *found);
		r = segments_load(&q->segments, err);
		if (r == 0)
			r = build_index(q, found, err);
	}
	if (r == -1)
		return r;
	found->messages = q->meta.messages;
	found->envelopes = q->meta.envelopes;
	found->segments = q->segments.n + q->segments.spares_n;
	recover_path(q, "index.db", path);
	r = index_open(&q->reader, path, INDEX_READ, err);
	q->reading = r == 0;
	if (r == 0)
		r = sync_folder(q, ".", err);
	if (r == -1)
		index_close(&q->index);
	return r;
}

static void free_queue(struct queue *q)
{
	const struct alloc *a = q->spool->alloc;

	reader_close(q);
	segments_free(&q->segments);
	alloc_put(a, q->batch.mem);
	alloc_put(a, q->touched);
	alloc_put(a, q->unlinks);
	alloc_put(a, q->forgotten);
	if (q->lock_fd != -1)
		q->spool->env->disk.close(q->spool->env->disk.arg, q->lock_fd);
	alloc_put(a, q);
}

void queue_close(void *engine)
{
	struct queue *q = engine;

	compact_stop(q);
	reader_close(q);
	index_close(&q->index);
	free_queue(q);
}

static const struct engine_ops queue_ops = { .write = queue_write, .read = queue_read, .close = queue_close,
	.body_files = true };

static int open_queue(struct spool **out, const struct spool_options *o, bool rebuild, struct spool_recovery *found,
                      struct error *err)
{
	struct spool_recovery ignored;
	struct spool *s;
	struct queue *q;

	*out = NULL;
	found = found ? found : &ignored;
	memset(found, 0, sizeof *found);
	if (spool_make(&s, o, err) == -1)
		return -1;
	q = alloc_get(s->alloc, sizeof *q);
	if (!q) {
		spool_drop(s);
		return error_set(err, ERROR_AGAIN, "no memory for the spool");
	}
	memset(q, 0, sizeof *q);
	q->spool = s;
	q->lock_fd = -1;
	q->space_checked = -1;
	segments_init(&q->segments, s);
	if (recover(q, rebuild, found, err) == -1) {
		free_queue(q);
		spool_drop(s);
		return -1;
	}
	queue_publish(q);
	if (spool_start(s, &queue_ops, q, err) == -1) {
		queue_close(q);
		spool_drop(s);
		return -1;
	}
	*out = s;
	return 0;
}

int spool_open(struct spool **out, const struct spool_options *o, struct spool_recovery *found, struct error *err)
{
	return open_queue(out, o, false, found, err);
}

int spool_rebuild(const struct spool_options *o, struct spool_recovery *found, struct error *err)
{
	struct spool_options stepped = *o;
	struct spool *s;

	stepped.threaded = false;
	stepped.wake = NULL;
	if (open_queue(&s, &stepped, true, found, err) == -1)
		return -1;
	spool_close(s);
	return 0;
}
