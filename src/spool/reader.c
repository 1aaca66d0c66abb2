/* reader.c - due, lease, list and read: on the reader's lane, with a connection and files of its own.
 *
 * All jobs that wait are served from one snapshot, begun after the last commit that was answered: what an accept's
 * completion made known can be read.  While it is open no mark is forgotten and no segment recycled (marks.h,
 * segments_reap), so an old snapshot shows nothing that could be handed out twice or point into foreign bytes.
 */
#include "spool/queue.h"

#include "spool/crc32c.h"

#include <errno.h>
#include <fcntl.h>

#define COUNT_MAX 10000u /* envelopes of one destination that spool_due counts; more are reported as this many */
#define VERIFY_BYTES (256u * 1024) /* read at once while a body is checked */

static enum spool_status index_trouble(struct queue *q)
{
	/* A reader that fails says "again" unless the disk is at fault; damage concerns all (queue_read). */
	return q->reader.status;
}

/* ---- due ---- */

struct due_walk {
	struct queue *q;
	struct job *job;
	int64_t first;
	uint64_t count;
};

static bool due_row(void *ctx, const struct spool_envelope *e)
{
	struct due_walk *w = ctx;
	bool marked;

	if (e->due > w->job->when) {
		if (e->due < w->job->next_due)
			w->job->next_due = e->due;
		return false;
	}
	pthread_mutex_lock(&w->q->spool->lock);
	marked = marks_has(&w->q->spool->marks, e->id, e->slot);
	pthread_mutex_unlock(&w->q->spool->lock);
	if (marked)
		return true;
	if (!w->count++)
		w->first = e->due;
	return w->count < COUNT_MAX;
}

struct dest_copy { const struct alloc *alloc; char *mem; size_t n, cap; bool failed; };

static bool copy_dest(void *ctx, const struct spool_envelope *e)
{
	struct dest_copy *c = ctx;

	if (e->dest.n > c->cap || !c->mem) {
		char *mem = c->alloc->resize(c->alloc->arg, c->mem, e->dest.n + 64);
		if (!mem) {
			c->failed = true;
			return false;
		}
		c->mem = mem;
		c->cap = e->dest.n + 64;
	}
	if (e->dest.n)
		memcpy(c->mem, e->dest.p, e->dest.n);
	c->n = e->dest.n;
	return true;
}

/* From destination to destination by the index: what waits behind one of them is never walked. */
static enum spool_status due(struct queue *q, struct job *j)
{
	struct gather_due g = { .alloc = q->spool->alloc, .max = j->max };
	struct dest_copy dest = { .alloc = q->spool->alloc };
	enum index_result r = index_next_dest(&q->reader, true, view_of("", 0), copy_dest, &dest);
	bool ok = !dest.failed;

	while (ok && r == INDEX_DONE) {
		struct due_walk w = { .q = q, .job = j };
		if (index_walk_due(&q->reader, view_of(dest.mem, dest.n), due_row, &w) == INDEX_FAILED) {
			r = INDEX_FAILED;
			break;
		}
		if (w.count)
			ok = gather_due_add(&g, view_of(dest.mem, dest.n), w.first, w.count);
		r = index_next_dest(&q->reader, false, view_of(dest.mem, dest.n), copy_dest, &dest);
		ok = ok && !dest.failed;
	}
	if (ok && r != INDEX_FAILED) {
		j->result = gather_due_finish(&g, &j->result_n);
		ok = !g.n || j->result;
	}
	gather_due_free(&g);
	alloc_put(q->spool->alloc, dest.mem);
	return r == INDEX_FAILED ? index_trouble(q) : ok ? SPOOL_OK : SPOOL_AGAIN;
}

/* ---- lease ---- */

struct lease_walk {
	struct queue *q;
	struct job *job;
	struct gather g;
	enum spool_status status;
};

static bool lease_row(void *ctx, const struct spool_envelope *e)
{
	struct lease_walk *w = ctx;
	struct marks *marks = &w->q->spool->marks;
	struct spool_envelope whole;
	enum index_result r;
	bool mine;

	if (e->due > w->job->when || w->g.count == w->job->max)
		return false;
	pthread_mutex_lock(&w->q->spool->lock);
	mine = !marks_has(marks, e->id, e->slot);
	if (mine && !marks_add(marks, e->id, e->slot, MARK_LEASE)) {
		mine = false;
		w->status = SPOOL_AGAIN;
	}
	pthread_mutex_unlock(&w->q->spool->lock);
	if (!mine)
		return w->status == SPOOL_OK;
	r = index_get_envelope(&w->q->reader, e->id, e->slot, &whole);
	switch (r) {
	case INDEX_DONE:
		if (gather_envelope(&w->g, &whole))
			return true;
		w->status = SPOOL_AGAIN;
		break;
	case INDEX_NONE: /* the two trees of the table disagree: damage */
	case INDEX_FAILED:
		w->q->reader.corrupt = w->q->reader.corrupt || r == INDEX_NONE;
		w->status = w->q->reader.status ? w->q->reader.status : SPOOL_SICK;
		break;
	}
	spool_unlease(w->q->spool, e->id, e->slot);
	return false;
}

static enum spool_status lease(struct queue *q, struct job *j)
{
	struct lease_walk w = { .q = q, .job = j, .g = { .alloc = q->spool->alloc }, .status = SPOOL_OK };
	struct spool_envelope none;
	bool any;

	if (index_walk_due(&q->reader, j->dest, lease_row, &w) == INDEX_FAILED && w.status == SPOOL_OK)
		w.status = index_trouble(q);
	index_get_envelope(&q->reader, 0, 0, &none); /* lets go of the last row */
	any = w.g.count != 0;
	j->result = gather_finish(&w.g, &j->result_n);
	if (any && !j->result) {
		struct spool_envelope e;
		for (size_t at = 0; gather_next(&w.g, &at, &e);)
			spool_unlease(q->spool, e.id, e.slot); /* nobody will hear of them */
		w.status = SPOOL_AGAIN;
	}
	gather_free(&w.g);
	/* What was found before trouble began is handed out: it is marked. */
	return j->result_n ? SPOOL_OK : w.status;
}

/* ---- list ---- */

struct list_walk {
	struct job *job;
	struct gather g;
	bool failed;
};

static bool list_row(void *ctx, const struct spool_envelope *e)
{
	struct list_walk *w = ctx;

	if (w->g.count == w->job->max)
		return false;
	if (w->job->dest.n && !view_eq(w->job->dest, e->dest))
		return true;
	w->failed = !gather_envelope(&w->g, e);
	return !w->failed;
}

static enum spool_status list(struct queue *q, struct job *j)
{
	struct list_walk w = { .job = j, .g = { .alloc = q->spool->alloc } };
	enum index_result r = index_walk(&q->reader, j->after_id, j->after_slot, UINT64_MAX, list_row, &w);

	if (r != INDEX_FAILED && !w.failed) {
		j->result = gather_finish(&w.g, &j->result_n);
		w.failed = w.g.count && !j->result;
	}
	gather_free(&w.g);
	return r == INDEX_FAILED ? index_trouble(q) : w.failed ? SPOOL_AGAIN : SPOOL_OK;
}

/* ---- read ---- */

static void close_files(struct queue *q)
{
	const struct env_disk *d = &q->spool->env->disk;

	for (size_t i = 0; i < READ_FILES; i++)
		if (q->files[i].generation) {
			d->close(d->arg, q->files[i].fd);
			q->files[i].generation = 0;
		}
}

/* A segment's descriptor, kept for the next time.  -1 and errno. */
static int segment_fd(struct queue *q, uint64_t generation)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	uint64_t number, purges;
	int fd;

	pthread_mutex_lock(&q->spool->lock);
	purges = q->segments.purges;
	number = segments_number(&q->segments, generation);
	pthread_mutex_unlock(&q->spool->lock);
	if (purges != q->purges) {
		close_files(q); /* an unlinked segment's space returns only when nobody has it open */
		q->purges = purges;
	}
	for (size_t i = 0; i < READ_FILES; i++)
		if (q->files[i].generation == generation)
			return q->files[i].fd;
	if (!number) {
		errno = ENOENT;
		return -1;
	}
	segment_path(&q->segments, number, path, sizeof path);
	fd = d->open(d->arg, path, O_RDONLY, 0);
	if (fd == -1)
		return -1;
	if (q->files[q->files_next].generation)
		d->close(d->arg, q->files[q->files_next].fd);
	q->files[q->files_next].generation = generation;
	q->files[q->files_next].fd = fd;
	q->files_next = (q->files_next + 1) % READ_FILES;
	return fd;
}

/* A row that names what is not there is damage, not an empty body. */
static enum spool_status read_all(struct queue *q, int fd, void *to, size_t n, uint64_t at)
{
	const struct env_disk *d = &q->spool->env->disk;
	size_t done = 0;

	while (done < n) {
		ssize_t r = d->pread(d->arg, fd, (char *)to + done, n - done, (off_t)(at + done));
		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return status_of_errno(errno);
		if (r == 0)
			return SPOOL_SICK;
		done += (size_t)r;
	}
	return SPOOL_OK;
}

static enum spool_status add_range(struct queue *q, int fd, uint64_t from, uint64_t to, uint32_t *crc)
{
	enum spool_status status = SPOOL_OK;
	void *bytes = alloc_get(q->spool->alloc, VERIFY_BYTES);

	if (!bytes)
		return SPOOL_AGAIN;
	while (from < to && status == SPOOL_OK) {
		size_t n = to - from < VERIFY_BYTES ? (size_t)(to - from) : VERIFY_BYTES;
		status = read_all(q, fd, bytes, n, from);
		if (status == SPOOL_OK)
			*crc = crc32c(*crc, bytes, n);
		from += n;
	}
	alloc_put(q->spool->alloc, bytes);
	return status;
}

/* Once per delivery, before its first byte leaves: a body that does not check is never sent. */
static enum spool_status verify(struct queue *q, int fd, const struct index_message *m, const void *whole)
{
	uint32_t both[2] = { 0, 0 }, crc = 0;
	enum spool_status status = SPOOL_OK;

	if (whole) {
		crc = crc32c(0, whole, (size_t)m->body_size);
	} else if (m->body_file) {
		status = add_range(q, fd, m->body_at, BODY_PREFIX_MAX, &both[0]);
		if (status == SPOOL_OK)
			status = add_range(q, fd, BODY_PREFIX_MAX, m->body_at + m->body_size, &both[1]);
		crc = crc32c(0, both, sizeof both);
	} else {
		status = add_range(q, fd, m->body_at, m->body_at + m->body_size, &crc);
	}
	return status != SPOOL_OK ? status : crc == m->body_crc ? SPOOL_OK : SPOOL_SICK;
}

static enum spool_status read_from(struct queue *q, struct job *j, const struct index_message *m, int fd)
{
	enum spool_status status;
	size_t n = m->body_size - j->offset < j->max ? (size_t)(m->body_size - j->offset) : j->max;
	bool whole = !m->body_file && n == m->body_size;

	j->result = alloc_get(q->spool->alloc, n);
	if (!j->result)
		return SPOOL_AGAIN;
	status = read_all(q, fd, j->result, n, m->body_at + j->offset);
	if (status == SPOOL_OK && j->offset == 0)
		status = verify(q, fd, m, whole ? j->result : NULL);
	j->result_n = status == SPOOL_OK ? n : 0;
	return status;
}

static bool any_row(void *ctx, const struct spool_envelope *e)
{
	(void)e;
	*(bool *)ctx = true;
	return false;
}

/* A message without its row: gone, unless envelopes of it are there.  Then the two tables disagree: damage. */
static enum spool_status gone(struct queue *q, spool_id id)
{
	bool wanted = false;

	if (!id)
		return SPOOL_GONE;
	if (index_walk(&q->reader, id - 1, UINT32_MAX, id, any_row, &wanted) == INDEX_FAILED)
		return index_trouble(q);
	q->reader.corrupt = q->reader.corrupt || wanted;
	return wanted ? SPOOL_SICK : SPOOL_GONE;
}

static enum spool_status read_body(struct queue *q, struct job *j)
{
	const struct env_disk *d = &q->spool->env->disk;
	struct index_message m;
	char path[SPOOL_PATH_MAX];
	enum spool_status status;
	int fd;

	switch (index_get_message(&q->reader, j->id, &m)) {
	case INDEX_NONE: return gone(q, j->id);
	case INDEX_FAILED: return index_trouble(q);
	case INDEX_DONE: break;
	}
	if (j->offset >= m.body_size || !j->max)
		return SPOOL_OK;
	if (m.body_file) {
		body_path(q->spool, m.body_file, path, sizeof path);
		fd = d->open(d->arg, path, O_RDONLY, 0);
	} else {
		fd = segment_fd(q, m.generation);
	}
	if (fd == -1)
		return errno == ENOENT ? SPOOL_SICK : status_of_errno(errno);
	status = read_from(q, j, &m, fd);
	if (m.body_file)
		d->close(d->arg, fd);
	return status;
}

static enum spool_status serve(struct queue *q, struct job *j)
{
	switch (j->kind) {
	case JOB_DUE: return due(q, j);
	case JOB_LEASE: return lease(q, j);
	case JOB_LIST: return list(q, j);
	default: return read_body(q, j);
	}
}

void queue_read(void *engine, struct job_list *in)
{
	struct queue *q = engine;
	struct job_list out = { 0 };
	enum index_result r;

	pthread_mutex_lock(&q->spool->lock);
	marks_reader_begin(&q->spool->marks, q->spool->stats.commits);
	pthread_mutex_unlock(&q->spool->lock);
	r = index_begin(&q->reader);
	for (struct job *j; (j = job_pop(in)) != NULL; job_push(&out, j))
		j->status = r == INDEX_DONE ? serve(q, j) : index_trouble(q);
	if (r == INDEX_DONE && index_commit(&q->reader) != INDEX_DONE)
		index_rollback(&q->reader);
	if (q->reader.corrupt && !atomic_load(&q->spool->damaged))
		queue_damaged(q); /* it may be a page that the writer never touches: the next start would not find it either */
	pthread_mutex_lock(&q->spool->lock);
	marks_reader_end(&q->spool->marks);
	pthread_mutex_unlock(&q->spool->lock);
	spool_post(q->spool, &out);
}

void reader_close(struct queue *q)
{
	close_files(q);
	if (q->reading)
		index_close(&q->reader);
	q->reading = false;
}
