/* operate.c - what the operator does to many envelopes: hold, release, flush, delete.  See queue.h.
 *
 * A job that means a million envelopes must not stop the mail: each batch does OPERATION_CHUNK of them and the job
 * goes on in the next.  Envelopes under change are marked until the commit stands, so that no reader hands out what
 * is being deleted or held.
 *
 * A flush of one destination is what the scheduler does each time that a host is back: it must not read the whole
 * queue.  It goes by the index of due times, from which each batch takes what is later than the flush's time away.
 */
#include "spool/queue.h"

struct pick {
	struct queue *q;
	struct job *job;
	unsigned looked;
};

static bool wants(const struct job *j, const struct spool_envelope *e)
{
	switch (j->kind) {
	case JOB_HOLD:
	case JOB_RELEASE:
		return e->held != (j->kind == JOB_HOLD);
	case JOB_FLUSH:
		return !e->held && e->due > j->when;
	default:
		return true;
	}
}

/* Marks it; false: it is left alone. */
static bool take(struct pick *p, const struct spool_envelope *e)
{
	struct job *j = p->job;
	struct marks *marks = &p->q->spool->marks;
	bool leased, yes = true;

	pthread_mutex_lock(&p->q->spool->lock);
	leased = marks_has(marks, e->id, e->slot);
	if (leased && j->kind == JOB_DELETE) {
		j->busy = true;
		yes = false;
	} else if (!leased) {
		yes = marks_add(marks, e->id, e->slot, MARK_OPERATION);
		j->busy = j->busy || !yes; /* no memory: as if it were in flight; a flush or hold is tried again by hand */
	}
	pthread_mutex_unlock(&p->q->spool->lock);
	return yes;
}

static bool pick_row(void *ctx, const struct spool_envelope *e)
{
	struct pick *p = ctx;
	struct queue *q = p->q;
	struct job *j = p->job;

	if (p->looked == OPERATION_LOOK || q->keys_n == OPERATION_CHUNK)
		return false;
	p->looked++;
	j->after_id = e->id;
	j->after_slot = e->slot;
	if (j->dest.n && !view_eq(j->dest, e->dest))
		return true;
	j->matched++;
	if (wants(j, e) && take(p, e))
		q->keys[q->keys_n++] = (struct key){ .id = e->id, .slot = e->slot };
	return true;
}

static bool pick_later(void *ctx, const struct spool_envelope *e)
{
	struct pick *p = ctx;
	struct queue *q = p->q;

	if (q->keys_n == OPERATION_CHUNK)
		return false;
	if (!take(p, e))
		return false; /* no memory: it would be found again and again */
	q->keys[q->keys_n++] = (struct key){ .id = e->id, .slot = e->slot };
	return true;
}

static enum index_result change_one(struct queue *q, const struct job *j, const struct key *k)
{
	struct segment *by = q->segments.active;

	switch (j->kind) {
	case JOB_HOLD:
		return apply_held(q, by, k->id, k->slot, true);
	case JOB_RELEASE:
		return apply_held(q, by, k->id, k->slot, false);
	case JOB_FLUSH:
		return apply_due(q, by, k->id, k->slot, j->when);
	default:
		return apply_end(q, by, k->id, k->slot);
	}
}

static enum record_type record_of(const struct job *j)
{
	return j->kind == JOB_HOLD      ? RECORD_HOLD
	       : j->kind == JOB_RELEASE ? RECORD_RELEASE
	       : j->kind == JOB_FLUSH   ? RECORD_FLUSH
	                                : RECORD_DELETE;
}

static enum index_result pick(struct pick *p)
{
	struct job *j = p->job;
	enum index_result r;

	if (j->kind == JOB_FLUSH && j->dest.n && !j->id) {
		r = index_walk_later(&p->q->index, j->dest, j->when, pick_later, p);
		return r == INDEX_DONE && j->busy ? INDEX_NONE : r;
	}
	if (j->id && !j->after_id) {
		j->after_id = j->id - 1;
		j->after_slot = UINT32_MAX;
	}
	return index_walk(&p->q->index, j->after_id, j->after_slot, j->id ? j->id : j->until_id, pick_row, p);
}

enum index_result operate_step(struct queue *q, struct job *j, bool *ended)
{
	struct pick p = { .q = q, .job = j };
	enum index_result r = pick(&p);
	unsigned char *to;

	if (r == INDEX_FAILED)
		return r;
	*ended = r == INDEX_NONE;
	if (q->keys_n) {
		uint64_t payload = RECORD_LIST_FIXED + q->keys_n * RECORD_LIST_ITEM;
		to = batch_record(q, payload);
		if (!to)
			return INDEX_FAILED;
		record_put_list(to, j->when, (uint32_t)q->keys_n);
		for (size_t i = 0; i < q->keys_n; i++)
			record_put_item(to, (uint32_t)i, q->keys[i].id, q->keys[i].slot);
		batch_seal(q, record_of(j), 0, payload);
	}
	for (size_t i = 0; i < q->keys_n; i++)
		if (change_one(q, j, &q->keys[i]) == INDEX_FAILED)
			return INDEX_FAILED;
	j->count += q->keys_n;
	if (*ended)
		j->status = j->id && !j->matched ? SPOOL_GONE : j->busy ? SPOOL_AGAIN : SPOOL_OK;
	return INDEX_DONE;
}

void operate_unmark(struct queue *q, bool committed)
{
	struct marks *marks = &q->spool->marks;

	if (!q->keys_n)
		return;
	pthread_mutex_lock(&q->spool->lock);
	for (size_t i = 0; i < q->keys_n; i++) {
		const struct key *k = &q->keys[i];
		if (marks_kind(marks, k->id, k->slot) != MARK_OPERATION)
			continue; /* in flight, and stays so */
		if (committed)
			marks_retire(marks, k->id, k->slot);
		else
			marks_drop(marks, k->id, k->slot);
	}
	q->keys_n = 0;
	pthread_mutex_unlock(&q->spool->lock);
}
