/* compact.c - giving space back: what lives in a mostly dead segment moves forward; what is wholly dead is recycled.
 *
 * Which segment: the oldest that is less than half live and waits for no other.  A segment with outcomes waits for
 * those that hold the messages of these outcomes (segment_refer): re-headed earlier, a rebuild would find the
 * message and not its end, and deliver it again.  References only point backwards, so when the dead weight behind
 * old, mostly live segments becomes too large, moving the oldest one always sets something free.
 *
 * Recycling is: copy, sync, COMMIT (the batch), readers gone, the index durable that far, then the new header, synced.
 */
#include "spool/queue.h"

#define COPY_BYTES (256u * 1024)  /* moved in one batch at most: what waits behind it waits a millisecond more */
#define LOOK_BYTES (4u * 1024 * 1024) /* read in one batch at most, in search of what lives */
/* Dead weight is allowed up to twice what lives, and some segments; then the oldest moves even if mostly live. */
#define WEIGHT_FACTOR 3u
#define WEIGHT_SEGMENTS 8u

static struct segment *oldest_with(struct queue *q, bool any)
{
	struct segments *ss = &q->segments;

	for (size_t i = 0; i < ss->n; i++) {
		struct segment *s = ss->list[i];
		if (s == ss->active || s->stuck || !s->live_n)
			continue;
		if (any || (!segment_pinned(s) && s->live_bytes * 2 < s->used - SEGMENT_HEAD))
			return s;
	}
	return NULL;
}

static struct segment *choose(struct queue *q)
{
	struct segments *ss = &q->segments;
	uint64_t used = 0, live = 0;
	struct segment *s = oldest_with(q, false);

	if (s)
		return s;
	for (size_t i = 0; i < ss->n; i++) {
		used += ss->list[i]->used;
		live += ss->list[i]->live_bytes;
	}
	if (used > live * WEIGHT_FACTOR + q->spool->segment_size * WEIGHT_SEGMENTS)
		return oldest_with(q, true);
	return NULL;
}

void compact_stop(struct queue *q)
{
	if (q->compaction.open)
		scan_close(&q->compaction.scan);
	q->compaction.open = false;
	q->compaction.need = 0;
	q->compact_hint = false; /* the next death asks again */
}

bool compact_wanted(struct queue *q)
{
	struct segment *s;

	if (q->compaction.open)
		return true;
	if (!q->compact_hint)
		return false;
	s = choose(q);
	if (!s || scan_open(&q->compaction.scan, &q->segments, s, SEGMENT_HEAD, s->previous, true, NULL) == -1) {
		q->compact_hint = false;
		return false;
	}
	q->compaction.scan.end = s->used < s->written ? s->used : s->written;
	q->compaction.open = true;
	q->compaction.generation = s->generation;
	q->compaction.need = 0;
	return true;
}

uint64_t compact_need(const struct queue *q)
{
	return q->compaction.open ? q->compaction.need : 0;
}

struct envelopes { const struct alloc *alloc; unsigned char *mem; size_t n, cap; uint32_t count; bool failed; };

static bool add_envelope(void *ctx, const struct spool_envelope *e)
{
	struct envelopes *x = ctx;
	size_t size = record_envelope_size(e);

	if (x->n + size > x->cap) {
		size_t cap = (x->n + size) * 2;
		unsigned char *mem = x->alloc->resize(x->alloc->arg, x->mem, cap);
		if (!mem) {
			x->failed = true;
			return false;
		}
		x->mem = mem;
		x->cap = cap;
	}
	record_put_envelope(x->mem + x->n, e);
	x->n += size;
	x->count++;
	return true;
}

enum moved { MOVED_DONE = 1, MOVED_NOT, MOVED_FULL, MOVED_FAILED };

/* Writes the message again, with its envelopes as they are now. */
static enum moved move(struct queue *q, struct record_message *m, struct index_message *row, struct segment *from)
{
	struct envelopes x = { .alloc = q->spool->alloc };
	struct segment *to = q->segments.active;
	enum moved result = MOVED_FAILED;
	uint64_t payload;
	unsigned char *p;

	if (index_walk(&q->index, m->id - 1, UINT32_MAX, m->id, add_envelope, &x) == INDEX_FAILED || x.failed) {
		q->index.status = x.failed ? SPOOL_AGAIN : q->index.status;
		goto out;
	}
	m->envelopes = view_of((const char *)x.mem, x.n);
	m->n = x.count;
	payload = record_message_size(m);
	if (!batch_fits(q, record_size(payload))) {
		q->compaction.need = record_size(payload);
		result = MOVED_FULL;
		goto out;
	}
	p = batch_record(q, payload);
	if (!p)
		goto out;
	p = record_put_message(p, m);
	if (m->body.n)
		memcpy(p, m->body.p, m->body.n);
	if (apply_touch(q, from, -1, -(int64_t)row->length) != INDEX_DONE)
		goto out;
	row->generation = to->generation;
	row->at = batch_seal(q, RECORD_MOVED, 0, payload);
	row->length = record_size(payload);
	if (!m->body_file)
		row->body_at = row->at + record_body_offset(m);
	if (apply_touch(q, to, 1, (int64_t)row->length) == INDEX_DONE &&
	    index_move_message(&q->index, row) == INDEX_DONE &&
	    apply_refer(q, to, from->generation) == INDEX_DONE) /* the old copy must go before the word that it moved */
		result = MOVED_DONE;
out:
	alloc_put(q->spool->alloc, x.mem);
	return result;
}

static enum moved consider(struct queue *q, const struct record *r, struct segment *from)
{
	struct record_message m;
	struct index_message row;
	enum index_result found;

	if ((r->type != RECORD_MESSAGE && r->type != RECORD_MOVED) || !record_get_message(r->payload, &m))
		return MOVED_NOT;
	found = index_get_message(&q->index, m.id, &row);
	if (found == INDEX_FAILED)
		return MOVED_FAILED;
	if (found == INDEX_NONE || row.generation != from->generation || row.at != r->offset)
		return MOVED_NOT;
	return move(q, &m, &row, from);
}

enum index_result compact_step(struct queue *q)
{
	struct compaction *c = &q->compaction;
	size_t before = q->batch.n;
	uint64_t start;
	struct segment *from;

	if (!c->open)
		return INDEX_DONE;
	from = segments_find(&q->segments, c->generation);
	start = c->scan.at;
	if (!from || from == q->segments.active) {
		compact_stop(q);
		return INDEX_DONE;
	}
	while (q->batch.n - before < COPY_BYTES && c->scan.at - start < LOOK_BYTES) {
		uint64_t at = c->scan.at, previous = c->scan.previous;
		struct record r;
		enum scan_result got = scan_next(&c->scan, &r);
		enum moved moved;
		if (got != SCAN_RECORD) {
			/* What still counts as living here is behind damage: left for the operator. */
			from->stuck = from->live_n + (uint64_t)from->delta_n != 0;
			scan_close(&c->scan);
			c->open = false;
			return INDEX_DONE;
		}
		moved = consider(q, &r, from);
		if (moved == MOVED_FAILED)
			return INDEX_FAILED;
		if (moved == MOVED_FULL) {
			c->scan.at = at;
			c->scan.previous = previous;
			return INDEX_DONE;
		}
		c->need = 0;
	}
	return INDEX_DONE;
}

static bool readers_gone(struct queue *q, const struct segment *s)
{
	const struct marks *m = &q->spool->marks;
	bool gone;

	pthread_mutex_lock(&q->spool->lock);
	gone = !m->readers || m->reader_since >= s->dead_commit;
	pthread_mutex_unlock(&q->spool->lock);
	return gone;
}

/* The index that a power cut leaves behind must need nothing of s any more.  No row of it may point there.  Every
 * record in s must be among those that it has applied, else an outcome in s would be forgotten and its message be
 * delivered again; and it must have gone on to a later segment, for where its applied records end a start begins to
 * read.  Strict: each commit is durable.  Lagging: the log of the index is synced first. */
static bool index_knows(struct queue *q, const struct segment *s)
{
	uint64_t commit = s->dead_commit > s->last_commit ? s->dead_commit : s->last_commit + 1;

	return commit <= q->durable || queue_sync_index(q);
}

void segments_reap(struct queue *q)
{
	struct segments *ss = &q->segments;
	size_t i = 0;

	if (!q->reap_hint)
		return;
	q->reap_hint = false;
	while (i < ss->n) {
		struct segment *s = ss->list[i];
		uint64_t generation = s->generation;
		if (s == ss->active || s->live_n || segment_pinned(s) ||
		    (q->compaction.open && q->compaction.generation == generation)) {
			i++;
			continue;
		}
		if (generation >= q->meta.generation) { /* until a commit stands in a later one: see index_knows */
			q->reap_hint = true;
			i++;
			continue;
		}
		if (!readers_gone(q, s) || !index_knows(q, s) || segments_retire(ss, s) != SPOOL_OK) {
			q->reap_hint = true; /* at the next turn */
			return;
		}
		q->syncs++;
		if (grow_one(q->spool->alloc, &q->forgotten, q->forgotten_n, &q->forgotten_cap, sizeof *q->forgotten))
			q->forgotten[q->forgotten_n++] = generation;
		i = 0; /* it may have set older ones free: references go only backwards, so this ends */
	}
	queue_publish(q);
}
