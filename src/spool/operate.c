/* operate.c - what the operator does to many envelopes: hold, release, flush, delete.  See queue.h.
 *
 * A job that means a million envelopes must not stop the mail: each batch does OPERATION_CHUNK of them and the job
 * goes on in the next.  Envelopes under change are marked until the commit stands, so that no reader hands out what
 * is being deleted or held.
 */
#include "spool/queue.h"

struct pick {
	struct queue *q;
	struct job *job;
	unsigned looked;
};

static bool changes(struct pick *p, const struct spool_envelope *e)
{
	struct job *j = p->job;
	struct marks *marks = &p->q->spool->marks;
	bool leased, yes = true;

	if (j->dest.n && !view_eq(j->dest, e->dest))
		return false;
	j->matched++;
	if (j->kind == JOB_HOLD || j->kind == JOB_RELEASE)
		yes = e->held != (j->kind == JOB_HOLD);
	else if (j->kind == JOB_FLUSH)
		yes = e->due > j->when;
	if (!yes)
		return false;
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

	if (p->looked == OPERATION_LOOK || q->keys_n == OPERATION_CHUNK)
		return false;
	p->looked++;
	p->job->after_id = e->id;
	p->job->after_slot = e->slot;
	if (changes(p, e))
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

enum index_result operate_step(struct queue *q, struct job *j, bool *ended)
{
	struct pick p = { .q = q, .job = j };
	spool_id until = j->id ? j->id : j->until_id;
	enum index_result r;
	unsigned char *to;

	if (j->id && !j->after_id) {
		j->after_id = j->id - 1;
		j->after_slot = UINT32_MAX;
	}
	r = index_walk(&q->index, j->after_id, j->after_slot, until, pick_row, &p);
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
