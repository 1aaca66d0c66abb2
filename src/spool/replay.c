/* replay.c - see recovery.h. */
#include "spool/recovery.h"

#define COMMIT_EVERY 5000u /* records in one transaction while an index is built: bounds its memory and its WAL */

int replay_index_error(struct queue *q, struct error *err, const char *doing)
{
	enum spool_status s = q->index.status;

	return error_set(err, s == SPOOL_FULL ? ERROR_FULL : s == SPOOL_AGAIN ? ERROR_AGAIN : ERROR_OURS,
	                 "the spool's index fails while %s (%s)", doing, q->index.corrupt ? "damaged" : spool_status_name(s));
}

void replay_free(struct replay *r)
{
	alloc_put(r->q->spool->alloc, r->skip);
	r->skip = NULL;
	r->skip_n = r->skip_cap = 0;
}

static int skip(struct replay *r, uint64_t first, uint64_t last)
{
	if (!grow_one(r->q->spool->alloc, &r->skip, r->skip_n, &r->skip_cap, sizeof *r->skip))
		return error_set(r->error, ERROR_AGAIN, "no memory to recover the spool");
	r->skip[r->skip_n++] = (struct range){ .first = first, .last = last };
	return 0;
}

static bool skipped(const struct replay *r, uint64_t sequence)
{
	for (size_t i = 0; i < r->skip_n; i++)
		if (sequence >= r->skip[i].first && sequence <= r->skip[i].last)
			return true;
	return false;
}

/* An outcome without the bounce that belongs to it must not count: the message is tried again instead. */
static int break_group(struct replay *r)
{
	uint64_t first = r->group;

	r->group = 0;
	return first ? skip(r, first, r->group_last) : 0;
}

static int survey_record(struct replay *r, const struct record *rec)
{
	uint64_t first, last;

	if (r->group && rec->sequence != r->group_last + 1 && break_group(r) == -1)
		return -1;
	if (rec->type == RECORD_ABORT && record_get_range(rec->payload, &first, &last)) {
		if (!r->building && first <= r->q->meta.applied)
			r->distrust = true; /* its commit was said to have failed, yet it is here */
		return skip(r, first, last);
	}
	if (rec->flags & RECORD_MORE) {
		r->group = r->group ? r->group : rec->sequence;
		r->group_last = rec->sequence;
	} else {
		r->group = 0;
	}
	return 0;
}

/* Where a replay of s begins, and after which sequence. */
static uint64_t beginning(const struct replay *r, const struct segment *s, uint64_t *previous)
{
	const struct index_meta *m = &r->q->meta;

	*previous = s->previous;
	if (r->building || s->generation != m->generation)
		return SEGMENT_HEAD;
	*previous = m->applied;
	return m->offset;
}

static int survey(struct replay *r, struct segment *s)
{
	struct segments *ss = &r->q->segments;
	struct scan sc;
	struct record rec;
	enum scan_result got;
	uint64_t previous, from = beginning(r, s, &previous);
	int result = 0;

	if (scan_open(&sc, ss, s, from, previous, r->acknowledged, r->error) == -1)
		return -1;
	while (result == 0 && (got = scan_next(&sc, &rec)) == SCAN_RECORD) {
		if (sc.damaged_to) {
			segment_quarantine(ss, s, sc.damaged_from, sc.damaged_to);
			r->found->quarantined++;
		}
		result = survey_record(r, &rec);
	}
	if (result == 0 && got == SCAN_FAILED)
		result = -1;
	if (result == 0) {
		result = break_group(r);
		s->used = sc.at;
		if (sc.previous > ss->sequence)
			ss->sequence = sc.previous;
		r->found->torn_bytes += sc.torn;
	}
	scan_close(&sc);
	return result;
}

/* ---- applying ---- */

static enum index_result apply_list_record(struct queue *q, struct segment *s, const struct record *rec)
{
	struct record_list l;

	if (!record_get_list(rec->payload, &l))
		return INDEX_NONE;
	for (uint32_t i = 0; i < l.n; i++) {
		spool_id id;
		uint32_t slot;
		enum index_result r;
		record_get_item(&l, i, &id, &slot);
		if (rec->type == RECORD_HOLD || rec->type == RECORD_RELEASE)
			r = apply_held(q, s, id, slot, rec->type == RECORD_HOLD);
		else if (rec->type == RECORD_FLUSH)
			r = apply_due(q, s, id, slot, l.due);
		else
			r = apply_end(q, s, id, slot);
		if (r == INDEX_FAILED)
			return r;
	}
	return INDEX_DONE;
}

/* A message that checks but cannot be: our own fault of some day, and no reason never to start again. */
static bool impossible(const struct record *rec)
{
	struct record_message m;

	return (rec->type == RECORD_MESSAGE || rec->type == RECORD_MOVED) &&
	       (!record_get_message(rec->payload, &m) || !record_message_sound(&m));
}

static enum index_result apply_record(struct queue *q, struct segment *s, const struct record *rec)
{
	uint64_t length = record_size(rec->payload.n);
	struct record_message m;
	struct record_outcome o;

	switch (rec->type) {
	case RECORD_MESSAGE:
	case RECORD_MOVED:
		return record_get_message(rec->payload, &m) ? apply_moved(q, &m, s, rec->offset, length) : INDEX_NONE;
	case RECORD_OUTCOME:
		if (!record_get_outcome(rec->payload, &o))
			return INDEX_NONE;
		return o.remains ? apply_remains(q, s, &o) : apply_end(q, s, o.id, o.slot);
	case RECORD_HOLD:
	case RECORD_RELEASE:
	case RECORD_FLUSH:
	case RECORD_DELETE:
		return apply_list_record(q, s, rec);
	case RECORD_ABORT:
	case RECORD_MARK:
		break;
	}
	return INDEX_DONE;
}

static int commit_some(struct replay *r)
{
	struct queue *q = r->q;

	if (!r->building || ++r->pending < COMMIT_EVERY)
		return 0;
	r->pending = 0;
	if (apply_counts(q) != INDEX_DONE || index_commit(&q->index) != INDEX_DONE)
		return replay_index_error(q, r->error, "it is built");
	apply_done(q);
	return index_begin(&q->index) == INDEX_DONE ? 0 : replay_index_error(q, r->error, "it is built");
}

static int apply_segment(struct replay *r, struct segment *s)
{
	struct queue *q = r->q;
	struct scan sc;
	struct record rec;
	enum scan_result got;
	uint64_t previous, from = beginning(r, s, &previous);
	int result = 0;

	if (scan_open(&sc, &q->segments, s, from, previous, r->acknowledged, r->error) == -1)
		return -1;
	sc.end = s->used; /* behind this the survey found nothing */
	while (result == 0 && (got = scan_next(&sc, &rec)) == SCAN_RECORD) {
		if (skipped(r, rec.sequence))
			continue;
		if (impossible(&rec)) {
			segment_quarantine(&q->segments, s, rec.offset, rec.offset + record_size(rec.payload.n));
			r->found->quarantined++;
		} else if (apply_record(q, s, &rec) == INDEX_FAILED)
			result = replay_index_error(q, r->error, "records are replayed");
		else
			result = commit_some(r);
		r->found->replayed++;
	}
	if (result == 0 && got == SCAN_FAILED)
		result = -1;
	scan_close(&sc);
	return result;
}

/* Generations are given in order: between two neighbours no sequence may be missing. */
static void look_for_gap(struct replay *r, const struct segment *s, const struct segment *next)
{
	if (r->acknowledged && next->generation == s->generation + 1 && next->previous > r->q->segments.sequence) {
		segment_quarantine(&r->q->segments, s, s->used, s->written);
		r->found->quarantined++;
	}
}

int replay_run(struct replay *r)
{
	struct queue *q = r->q;
	struct segments *ss = &q->segments;

	ss->sequence = r->building ? 0 : q->meta.applied;
	r->acknowledged = r->building || q->meta.lagging;
	for (size_t i = 0; i < ss->n; i++) {
		if (!r->building && ss->list[i]->generation < q->meta.generation)
			continue;
		if (survey(r, ss->list[i]) == -1)
			return -1;
		if (i + 1 < ss->n)
			look_for_gap(r, ss->list[i], ss->list[i + 1]);
	}
	if (r->distrust)
		return 0;
	for (size_t i = 0; i < ss->n; i++) {
		if (!r->building && ss->list[i]->generation < q->meta.generation)
			continue;
		if (apply_segment(r, ss->list[i]) == -1)
			return -1;
	}
	return 0;
}
