/* writer.c - group commit: all that waits becomes one write, one sync, one commit, and then all its answers.
 *
 * The order of a batch, and why it is safe:
 *   1. BEGIN; rows are changed and records laid out in memory.  Nothing is on the disk: a failure here rolls back.
 *   2. The directory of body files is synced, so that no row names a file that a power cut can take.
 *   3. The records are appended, in one segment, and that is synced.  From here a replay would find them.
 *   4. COMMIT, with the sequence applied.  If it fails, an abort record says that they never counted.  Strict: it is
 *      synced.  Lagging: it is not; a start finds the records above what is left of the index and applies them again.
 *   5. Only now answers are given, marks end, files of deleted bodies go.
 */
#include "spool/queue.h"

#include "spool/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* Of records that the durable index may lack: a start replays them in well under a second. */
#define BEHIND_MAX (16u * 1024 * 1024)
#define SPACE_CHECK_MS 100 /* the disk's free space is asked for at most this often */
#define BATCH_KEEP (2 * BATCH_MAX) /* a larger buffer, made for one large message, is given back */

/* ---- laying out records ---- */

bool batch_fits(const struct queue *q, uint64_t bytes)
{
	const struct batch *b = &q->batch;

	return b->n + bytes <= segments_room(&q->segments) && (!b->n || b->n + bytes <= BATCH_MAX);
}

unsigned char *batch_record(struct queue *q, uint64_t payload)
{
	struct batch *b = &q->batch;
	size_t want = b->n + (size_t)record_size(payload);

	if (want > b->cap) {
		size_t cap = b->cap ? b->cap : 64 * 1024;
		unsigned char *mem;
		while (cap < want)
			cap *= 2;
		mem = q->spool->alloc->resize(q->spool->alloc->arg, b->mem, cap);
		if (!mem) {
			q->index.status = SPOOL_AGAIN;
			return NULL;
		}
		b->mem = mem;
		b->cap = cap;
	}
	return b->mem + b->n + RECORD_HEADER;
}

uint64_t batch_seal(struct queue *q, enum record_type type, unsigned flags, uint64_t payload)
{
	struct batch *b = &q->batch;
	const struct segment *s = q->segments.active;
	struct record r = { .type = type, .flags = flags, .generation = s->generation, .offset = s->used + b->n,
		.sequence = ++b->sequence };

	b->n += (size_t)record_seal(b->mem + b->n, &r, payload, s->salt);
	b->records++;
	return r.offset;
}

static enum index_result put_mark(struct queue *q)
{
	unsigned char *p = batch_record(q, RECORD_RANGE);

	if (!p)
		return INDEX_FAILED;
	record_put_range(p, q->segments.sequence, 0);
	q->batch.sequence = q->segments.sequence + SEGMENT_JUMP;
	batch_seal(q, RECORD_MARK, 0, RECORD_RANGE);
	return INDEX_DONE;
}

static uint64_t message_need(const struct message_in *m)
{
	const struct spool_body *b = m->body;

	return record_size(RECORD_MESSAGE_FIXED + m->envelope_bytes + (b->file ? 0 : b->prefix_n + b->n));
}

static uint64_t job_need(const struct job *j)
{
	uint64_t n = 0;

	if (j->kind == JOB_SETTLE)
		n = record_size(RECORD_OUTCOME_FIXED + j->data.n);
	for (size_t i = 0; i < j->messages_n; i++)
		n += message_need(&j->messages[i]);
	return n;
}

static enum index_result put_message(struct queue *q, struct message_in *in, unsigned flags)
{
	const struct spool_body *b = in->body;
	uint64_t now = (uint64_t)env_wall_ms(q->spool->env) * 1000;
	struct record_message m = {
		.id = now > q->next.last_id ? now : q->next.last_id + 1,
		.created = (int64_t)(now / 1000),
		.n = in->n,
		.body_size = b->prefix_n + b->total,
		.envelopes = view_of((const char *)in->envelopes, in->envelope_bytes),
	};
	uint64_t payload, at;
	unsigned char *to;

	if (b->file) {
		m.body_file = b->number;
		m.body_start = (uint32_t)(BODY_PREFIX_MAX - b->prefix_n);
		m.body_crc = b->crc;
		q->batch.files = true;
	} else {
		m.body_crc = crc32c(crc32c(0, b->prefix, b->prefix_n), b->mem, b->n);
	}
	payload = record_message_size(&m);
	to = batch_record(q, payload);
	if (!to)
		return INDEX_FAILED;
	to = record_put_message(to, &m);
	if (!b->file && b->prefix_n)
		memcpy(to, b->prefix, b->prefix_n);
	if (!b->file && b->n)
		memcpy(to + b->prefix_n, b->mem, b->n);
	at = batch_seal(q, RECORD_MESSAGE, flags, payload);
	in->id = m.id;
	return apply_message(q, &m, q->segments.active, at, record_size(payload));
}

/* ---- jobs ---- */

static bool mark_leases(struct queue *q, const struct message_in *m)
{
	bool ok = true;

	pthread_mutex_lock(&q->spool->lock);
	for (uint32_t i = 0; i < m->n && ok; i++)
		if (message_in_leased(m, i))
			ok = marks_add(&q->spool->marks, m->id, i, MARK_LEASE);
	for (uint32_t i = 0; i < m->n && !ok; i++)
		marks_drop(&q->spool->marks, m->id, i);
	pthread_mutex_unlock(&q->spool->lock);
	return ok;
}

static enum index_result accept_job(struct queue *q, struct job *j)
{
	enum index_result r = put_message(q, &j->own, 0);

	/* Before the commit: no reader sees the row yet, so none can lease it between the two. */
	if (r == INDEX_DONE && !mark_leases(q, &j->own)) {
		q->index.status = SPOOL_AGAIN;
		r = INDEX_FAILED;
	}
	j->status = r == INDEX_DONE ? SPOOL_OK : 0;
	return r;
}

static enum index_result settle_job(struct queue *q, struct job *j)
{
	struct record_outcome o = { .id = j->id, .slot = j->slot, .remains = j->remains, .attempts = j->attempts,
		.due = j->when, .expires = j->expires, .data = j->data };
	struct segment *by = q->segments.active;
	enum index_result r;
	unsigned char *to;

	r = j->remains ? apply_remains(q, by, &o) : apply_end(q, by, j->id, j->slot);
	if (r == INDEX_NONE) {
		j->status = SPOOL_GONE;
		return INDEX_DONE;
	}
	if (r != INDEX_DONE)
		return r;
	pthread_mutex_lock(&q->spool->lock);
	/* Not leased (nobody said so): still no reader may hand it out while its end is being committed. */
	if (!marks_has(&q->spool->marks, j->id, j->slot))
		marks_add(&q->spool->marks, j->id, j->slot, MARK_OPERATION);
	pthread_mutex_unlock(&q->spool->lock);
	to = batch_record(q, RECORD_OUTCOME_FIXED + j->data.n);
	if (!to)
		return INDEX_FAILED;
	record_put_outcome(to, &o);
	batch_seal(q, RECORD_OUTCOME, j->messages_n ? RECORD_MORE : 0, RECORD_OUTCOME_FIXED + j->data.n);
	for (size_t i = 0; i < j->messages_n && r == INDEX_DONE; i++)
		r = put_message(q, &j->messages[i], i + 1 < j->messages_n ? RECORD_MORE : 0);
	j->status = r == INDEX_DONE ? SPOOL_OK : 0;
	return r;
}

/* The batch did not happen: what its jobs had marked is not so. */
static void undo_job(struct queue *q, struct job *j, enum spool_status status)
{
	if (j->status == SPOOL_GONE)
		return;
	j->status = status;
	pthread_mutex_lock(&q->spool->lock);
	if (j->kind == JOB_ACCEPT && j->own.id)
		for (uint32_t i = 0; i < j->own.n; i++)
			marks_drop(&q->spool->marks, j->own.id, i);
	if (j->kind == JOB_SETTLE && marks_kind(&q->spool->marks, j->id, j->slot) == MARK_OPERATION)
		marks_drop(&q->spool->marks, j->id, j->slot);
	pthread_mutex_unlock(&q->spool->lock);
}

static void finish_job(struct queue *q, struct job *j)
{
	if (j->status == SPOOL_OK && j->kind == JOB_SETTLE) {
		pthread_mutex_lock(&q->spool->lock);
		marks_retire(&q->spool->marks, j->id, j->slot);
		pthread_mutex_unlock(&q->spool->lock);
	}
	for (size_t i = 0; i < j->messages_n; i++) {
		if (j->status == SPOOL_OK)
			body_free(j->messages[i].body);
		else
			body_discard(j->messages[i].body);
		j->messages[i].body = NULL;
	}
}

static void answer_all(struct queue *q, struct job_list *jobs)
{
	struct job_list out = { 0 };

	for (struct job *j; (j = job_pop(jobs)) != NULL; job_push(&out, j))
		finish_job(q, j);
	spool_post(q->spool, &out);
}

/* ---- the batch ---- */

void queue_damaged(struct queue *q)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	int fd;

	atomic_store(&q->spool->sick, true); /* nothing is built upon it any more */
	/* The next start makes it anew; if this file cannot be made either, that start finds the damage itself. */
	snprintf(path, sizeof path, "%s/rebuild", q->spool->path);
	fd = d->open(d->arg, path, O_WRONLY | O_CREAT, 0600);
	if (fd != -1) {
		d->fsync(d->arg, fd);
		d->close(d->arg, fd);
	}
	atomic_store(&q->spool->damaged, true); /* not before the order stands: the owner may leave at once */
}

void queue_failed(struct queue *q)
{
	if (q->index.status == SPOOL_SICK)
		atomic_store(&q->spool->sick, true);
	if (q->index.corrupt)
		queue_damaged(q);
}

bool queue_sync_index(struct queue *q)
{
	if (q->spool->lagging && q->durable != q->commits) {
		q->syncs++;
		if (index_sync(&q->index) != INDEX_DONE) {
			queue_failed(q);
			return false;
		}
	}
	q->durable = q->commits;
	q->behind = 0;
	return true;
}

static enum spool_status sync_bodies(struct queue *q)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	int fd, r;

	snprintf(path, sizeof path, "%s/bodies", q->spool->path);
	fd = d->open(d->arg, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -1)
		return status_of_errno(errno);
	r = d->fsync(d->arg, fd);
	d->close(d->arg, fd);
	q->syncs++;
	if (r == -1) {
		atomic_store(&q->spool->sick, true);
		return SPOOL_SICK;
	}
	return SPOOL_OK;
}

/* The records [first, last] are in the segment and durable, but their commit failed. */
static void append_abort(struct queue *q, uint64_t first, uint64_t last)
{
	struct batch *b = &q->batch;
	unsigned char *p;

	b->n = 0;
	p = batch_record(q, RECORD_RANGE);
	if (p) {
		record_put_range(p, first, last);
		batch_seal(q, RECORD_ABORT, 0, RECORD_RANGE);
		if (segments_append(&q->segments, b->mem, b->n) == SPOOL_OK && segments_sync(&q->segments) == SPOOL_OK) {
			q->segments.sequence = b->sequence;
			q->syncs++;
			return;
		}
	}
	/* A restart would replay mail that was refused: not a loss, but more must not be built upon it. */
	atomic_store(&q->spool->sick, true);
}

/* Steps 2 to 4. */
static enum spool_status make_durable(struct queue *q)
{
	struct batch *b = &q->batch;
	struct segments *ss = &q->segments;
	uint64_t first = b->sequence - b->records + 1, last = b->sequence;
	enum spool_status status = b->files ? sync_bodies(q) : SPOOL_OK;

	if (status != SPOOL_OK)
		return status;
	if ((!ss->active->recorded && apply_touch(q, ss->active, 0, 0) != INDEX_DONE))
		return q->index.status;
	q->next.applied = last;
	q->next.generation = ss->active->generation;
	q->next.offset = ss->active->used + b->n;
	if (apply_counts(q) != INDEX_DONE) {
		queue_failed(q);
		return q->index.status;
	}
	status = segments_append(ss, b->mem, b->n);
	if (status != SPOOL_OK)
		return status;
	status = segments_sync(ss);
	q->syncs++;
	if (status != SPOOL_OK) {
		if (!atomic_load(&q->spool->sick)) /* after a failed sync nothing is written any more */
			segments_take_back(ss, b->n);
		return status;
	}
	ss->sequence = last;
	ss->jump = false;
	if (index_commit(&q->index) == INDEX_DONE) {
		q->syncs += !q->spool->lagging;
		return SPOOL_OK;
	}
	status = q->index.status;
	index_rollback(&q->index);
	queue_failed(q);
	append_abort(q, first, last);
	return status;
}

static void unlink_bodies(struct queue *q)
{
	const struct env_disk *d = &q->spool->env->disk;
	char path[SPOOL_PATH_MAX];

	for (size_t i = 0; i < q->unlinks_n; i++) {
		body_path(q->spool, q->unlinks[i], path, sizeof path);
		d->unlink(d->arg, path); /* if it stays, recovery finds that nobody names it */
	}
	q->unlinks_n = 0;
}

void queue_publish(struct queue *q)
{
	struct spool_stats st = { .messages = q->meta.messages, .envelopes = q->meta.envelopes, .held = q->meta.held,
		.segments = q->segments.n + q->segments.spares_n, .commits = q->commits, .syncs = q->syncs };
	spool_id first;

	for (size_t i = 0; i < q->segments.n; i++) {
		st.bytes_live += q->segments.list[i]->live_bytes;
		st.bytes_total += q->segments.list[i]->written;
	}
	for (size_t i = 0; i < q->segments.spares_n; i++)
		st.bytes_total += q->segments.spares[i]->written;
	if (index_first_message(&q->index, &first) == INDEX_DONE)
		st.oldest = (int64_t)(first / 1000);
	pthread_mutex_lock(&q->spool->lock);
	q->spool->stats = st;
	pthread_mutex_unlock(&q->spool->lock);
}

static void look_at_space(struct queue *q)
{
	const struct env_disk *d = &q->spool->env->disk;
	int64_t now = env_mono_ms(q->spool->env), room;
	uint64_t min = q->spool->min_free;
	unsigned pressure = 0;

	if (q->space_checked != -1 && now - q->space_checked < SPACE_CHECK_MS)
		return;
	q->space_checked = now;
	room = d->free_bytes(d->arg, q->spool->path);
	if (room == -1)
		return; /* not knowing is no reason to refuse; writing will tell */
	q->space_short = (uint64_t)room < min;
	/* From four times the minimum downwards receivers slow down; at the minimum they stop. */
	if ((uint64_t)room < 4 * min)
		pressure = (unsigned)(100 - ((uint64_t)room > min ? ((uint64_t)room - min) * 100 / (3 * min) : 0));
	pthread_mutex_lock(&q->spool->lock);
	q->spool->space_pressure = pressure;
	pthread_mutex_unlock(&q->spool->lock);
}

/* Answers the first that waits; the rest has its own turn. */
static void refuse_first(struct queue *q, struct job_list *in, struct job *op, enum spool_status status)
{
	struct job_list out = { 0 };
	struct job *j = op ? op : job_pop(in);

	if (j) {
		undo_job(q, j, status);
		job_push(&out, j);
		answer_all(q, &out);
	} else {
		compact_stop(q); /* it was only housekeeping, which can wait for space */
	}
}

static bool make_room(struct queue *q, struct job_list *in, struct job *op)
{
	uint64_t need = op ? OPERATION_NEED : in->head ? job_need(in->head) : compact_need(q);
	enum spool_status status;

	need += record_size(RECORD_RANGE); /* a mark may come first */
	if (q->segments.active && need <= segments_room(&q->segments))
		return true;
	status = segments_rotate(&q->segments, need);
	q->compact_hint = q->reap_hint = true;
	if (status == SPOOL_OK)
		return true;
	refuse_first(q, in, op, status);
	return false;
}

/* Step 1. */
static enum index_result gather_batch(struct queue *q, struct job_list *in, struct job **op)
{
	struct batch *b = &q->batch;
	enum index_result r = index_begin(&q->index);
	bool ended = false;

	if (r == INDEX_DONE && q->segments.jump)
		r = put_mark(q);
	if (r == INDEX_DONE && *op) {
		r = operate_step(q, *op, &ended);
		if (r == INDEX_DONE && ended) {
			job_push(&b->jobs, *op);
			*op = NULL;
		}
	}
	while (r == INDEX_DONE && in->head) {
		struct job *j = in->head;
		if (j->kind != JOB_ACCEPT && j->kind != JOB_SETTLE) {
			job_pop(in);
			j->until_id = q->next.last_id;
			job_push(&q->longs, j);
			continue;
		}
		if (j->kind == JOB_ACCEPT && q->space_short) {
			j = job_pop(in);
			j->status = SPOOL_FULL;
			finish_job(q, j);
			spool_post_one(q->spool, j);
			continue;
		}
		if (!batch_fits(q, job_need(j)))
			break;
		job_push(&b->jobs, job_pop(in));
		r = j->kind == JOB_ACCEPT ? accept_job(q, j) : settle_job(q, j);
	}
	if (r == INDEX_DONE)
		r = compact_step(q);
	return r;
}

static void run_batch(struct queue *q, struct job_list *in)
{
	struct batch *b = &q->batch;
	struct job *op = job_pop(&q->longs), *turn = op;
	uint64_t before = op ? op->count : 0;
	enum index_result r;
	enum spool_status status = SPOOL_OK;

	if (!make_room(q, in, op))
		return;
	b->n = b->records = 0;
	b->files = false;
	b->sequence = q->segments.sequence;
	q->refs_before = q->segments.active->refs_n;
	r = gather_batch(q, in, &op);
	if (r != INDEX_DONE) {
		status = q->index.status;
		queue_failed(q);
	} else if (b->n) {
		status = make_durable(q);
	}
	if (status == SPOOL_OK && b->n) {
		apply_done(q);
		q->behind += b->n;
	} else {
		index_rollback(&q->index);
		apply_undo(q);
	}
	operate_unmark(q, status == SPOOL_OK);
	if (status != SPOOL_OK) {
		compact_stop(q);
		if (turn)
			turn->count = before; /* what earlier batches of it changed stands */
		for (struct job *j = b->jobs.head; j; j = j->next)
			undo_job(q, j, status);
		if (op) {
			op->status = status;
			job_push(&b->jobs, op);
			op = NULL;
		}
	}
	if (op)
		job_push(&q->longs, op);
	if (b->n || b->jobs.head)
		queue_publish(q);
	answer_all(q, &b->jobs);
	unlink_bodies(q);
	if (b->cap > BATCH_KEEP) {
		alloc_put(q->spool->alloc, b->mem);
		b->mem = NULL;
		b->cap = 0;
	}
}

static void refuse_all(struct queue *q, struct job_list *in)
{
	job_join(in, &q->longs);
	for (struct job *j = in->head; j; j = j->next)
		j->status = SPOOL_SICK;
	answer_all(q, in);
}

/* Between batches.  A failure makes the spool sick: the next turn refuses. */
static void tend_index(struct queue *q)
{
	if (q->behind > BEHIND_MAX)
		queue_sync_index(q);
	if (q->index.pages < (int)q->spool->checkpoint_pages)
		return;
	q->index.pages = 0;
	q->syncs += 2; /* of the log, of the table */
	if (index_checkpoint(&q->index) != INDEX_DONE)
		queue_failed(q);
}

bool queue_write(void *engine, struct job_list *in)
{
	struct queue *q = engine;

	look_at_space(q);
	do {
		if (atomic_load(&q->spool->sick)) {
			refuse_all(q, in);
			return false;
		}
		run_batch(q, in);
		segments_reap(q);
		tend_index(q);
	} while (in->head);
	return q->longs.head || compact_wanted(q);
}
