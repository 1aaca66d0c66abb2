/* apply.c - what a record does to the index.  See queue.h.
 *
 * Recovery replays records through the same functions that the writer used, so that both end in the same state.
 * Counts are kept as deltas until the commit stands: a batch that fails leaves no trace in memory.
 */
#include "spool/queue.h"

static enum index_result no_memory(struct queue *q)
{
	q->index.status = SPOOL_AGAIN;
	return INDEX_FAILED;
}

enum index_result apply_touch(struct queue *q, struct segment *s, int64_t n, int64_t bytes)
{
	if (!s)
		return INDEX_DONE; /* its segment was lost; there is nothing to count */
	if (!s->touched) {
		if (!grow_one(q->spool->alloc, &q->touched, q->touched_n, &q->touched_cap, sizeof *q->touched))
			return no_memory(q);
		q->touched[q->touched_n++] = s;
		s->touched = true;
	}
	s->delta_n += n;
	s->delta_bytes += bytes;
	return INDEX_DONE;
}

enum index_result apply_refer(struct queue *q, struct segment *by, uint64_t generation)
{
	bool fresh;

	if (!segments_find(&q->segments, generation))
		return INDEX_DONE;
	if (!segment_refer(q->spool->alloc, by, generation, &fresh))
		return no_memory(q);
	return fresh ? index_put_ref(&q->index, by->generation, generation) : INDEX_DONE;
}

enum index_result apply_message(struct queue *q, const struct record_message *m, struct segment *s, uint64_t at,
                                uint64_t length)
{
	struct index_message row = {
		.id = m->id, .generation = s->generation, .at = at, .length = length, .body_size = m->body_size,
		.body_at = m->body_file ? m->body_start : at + record_body_offset(m), .body_file = m->body_file,
		.body_crc = m->body_crc, .created = m->created, .live = m->n,
	};
	struct view rest = m->envelopes;
	enum index_result r = index_put_message(&q->index, &row);

	for (uint32_t i = 0; i < m->n && r == INDEX_DONE; i++) {
		struct spool_envelope e;
		if (!record_get_envelope(&rest, &e)) {
			q->index.status = SPOOL_AGAIN; /* it checked, so this is a fault of ours: refused, not guessed */
			return INDEX_FAILED;
		}
		e.id = m->id;
		e.body_size = m->body_size;
		r = index_put_envelope(&q->index, &e);
		q->next.held += e.held;
	}
	if (r == INDEX_DONE)
		r = apply_touch(q, s, 1, (int64_t)length);
	q->next.messages++;
	q->next.envelopes += m->n;
	if (m->id > q->next.last_id)
		q->next.last_id = m->id;
	return r;
}

struct collect { struct queue *q; uint32_t n, held; enum index_result result; };

static bool drop_row(void *ctx, const struct spool_envelope *e)
{
	struct collect *c = ctx;

	c->n++;
	c->held += e->held;
	c->result = index_drop_envelope(&c->q->index, e->id, e->slot);
	return c->result == INDEX_DONE;
}

/* Replay only: the writer moves a message without touching its envelopes. */
enum index_result apply_moved(struct queue *q, const struct record_message *m, struct segment *s, uint64_t at,
                              uint64_t length)
{
	struct index_message old;
	enum index_result r = index_get_message(&q->index, m->id, &old);
	struct collect c = { .q = q, .result = INDEX_DONE };

	if (r == INDEX_FAILED)
		return r;
	if (r == INDEX_DONE) {
		if (index_walk(&q->index, m->id - 1, UINT32_MAX, m->id, drop_row, &c) == INDEX_FAILED || c.result == INDEX_FAILED)
			return INDEX_FAILED;
		q->next.messages--;
		q->next.envelopes -= c.n;
		q->next.held -= c.held;
		if (index_drop_message(&q->index, m->id) == INDEX_FAILED ||
		    apply_touch(q, segments_find(&q->segments, old.generation), -1, -(int64_t)old.length) != INDEX_DONE ||
		    apply_refer(q, s, old.generation) != INDEX_DONE)
			return INDEX_FAILED;
	}
	return apply_message(q, m, s, at, length);
}

static void unlink_later(struct queue *q, uint64_t body_file)
{
	/* Without memory the file stays until recovery finds that nobody names it. */
	if (grow_one(q->spool->alloc, &q->unlinks, q->unlinks_n, &q->unlinks_cap, sizeof *q->unlinks))
		q->unlinks[q->unlinks_n++] = body_file;
}

enum index_result apply_end(struct queue *q, struct segment *by, spool_id id, uint32_t slot)
{
	struct index_message m;
	struct spool_envelope e;
	enum index_result r = index_get_message(&q->index, id, &m);
	struct segment *s;

	if (r != INDEX_DONE)
		return r;
	if (q->next.held) { /* only then can this one be held: saves a look at the row of live mail */
		r = index_get_envelope(&q->index, id, slot, &e);
		if (r != INDEX_DONE)
			return r;
		q->next.held -= e.held;
	}
	r = index_drop_envelope(&q->index, id, slot);
	if (r != INDEX_DONE)
		return r;
	q->next.envelopes--;
	r = apply_refer(q, by, m.generation);
	if (r != INDEX_DONE || m.live > 1)
		return r == INDEX_DONE ? index_live_message(&q->index, id, m.live - 1) : r;
	s = segments_find(&q->segments, m.generation);
	q->next.messages--;
	if (m.body_file)
		unlink_later(q, m.body_file);
	r = index_drop_message(&q->index, id);
	return r == INDEX_DONE ? apply_touch(q, s, -1, -(int64_t)m.length) : r;
}

static enum index_result refer_message(struct queue *q, struct segment *by, spool_id id)
{
	struct index_message m;
	enum index_result r = index_get_message(&q->index, id, &m);

	return r == INDEX_DONE ? apply_refer(q, by, m.generation) : r;
}

enum index_result apply_remains(struct queue *q, struct segment *by, const struct record_outcome *o)
{
	struct spool_envelope e = { .id = o->id, .slot = o->slot, .attempts = o->attempts, .due = o->due,
		.expires = o->expires, .data = o->data };
	enum index_result r = index_set_envelope(&q->index, &e);

	return r == INDEX_DONE ? refer_message(q, by, o->id) : r;
}

enum index_result apply_held(struct queue *q, struct segment *by, spool_id id, uint32_t slot, bool held)
{
	struct spool_envelope e;
	enum index_result r = index_get_envelope(&q->index, id, slot, &e);

	if (r != INDEX_DONE || e.held == held)
		return r;
	if (held)
		q->next.held++;
	else
		q->next.held--;
	r = index_set_held(&q->index, id, slot, held);
	return r == INDEX_DONE ? refer_message(q, by, id) : r;
}

enum index_result apply_due(struct queue *q, struct segment *by, spool_id id, uint32_t slot, int64_t due)
{
	enum index_result r = index_set_due(&q->index, id, slot, due);

	return r == INDEX_DONE ? refer_message(q, by, id) : r;
}

enum index_result apply_counts(struct queue *q)
{
	enum index_result r = INDEX_DONE;

	for (size_t i = 0; i < q->touched_n && r == INDEX_DONE; i++) {
		const struct segment *s = q->touched[i];
		struct index_segment row = { .generation = s->generation, .number = s->number, .salt = s->salt,
			.previous = s->previous, .live_n = s->live_n + (uint64_t)s->delta_n,
			.live_bytes = s->live_bytes + (uint64_t)s->delta_bytes };
		r = index_put_segment(&q->index, &row);
	}
	for (size_t i = 0; i < q->forgotten_n && r == INDEX_DONE; i++)
		r = index_drop_segment(&q->index, q->forgotten[i]);
	return r == INDEX_DONE ? index_put_meta(&q->index, &q->next) : r;
}

void apply_done(struct queue *q)
{
	q->commits++;
	if (q->segments.active)
		q->segments.active->last_commit = q->commits;
	if (!q->spool->lagging)
		q->durable = q->commits;
	for (size_t i = 0; i < q->touched_n; i++) {
		struct segment *s = q->touched[i];
		s->live_n += (uint64_t)s->delta_n;
		s->live_bytes += (uint64_t)s->delta_bytes;
		if (!s->live_n) {
			s->dead_commit = q->commits;
			q->reap_hint = true;
		}
		if (s->delta_n < 0)
			q->compact_hint = true;
		s->delta_n = s->delta_bytes = 0;
		s->touched = false;
		s->recorded = true;
	}
	q->touched_n = 0;
	q->forgotten_n = 0;
	q->meta = q->next;
}

void apply_undo(struct queue *q)
{
	uint64_t last_id = q->next.last_id;

	for (size_t i = 0; i < q->touched_n; i++) {
		q->touched[i]->delta_n = q->touched[i]->delta_bytes = 0;
		q->touched[i]->touched = false;
	}
	q->touched_n = 0;
	q->unlinks_n = 0;
	/* The rows of the references went with the transaction: they must be written again when needed again. */
	if (q->segments.active)
		q->segments.active->refs_n = q->refs_before;
	q->next = q->meta;
	q->next.last_id = last_id; /* an id is never given twice, not even a refused one */
}
