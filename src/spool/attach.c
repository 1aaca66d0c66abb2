/* attach.c - recovery: what the index knows of the segments is joined with what their headers say.  See recovery.h.
 *
 * Neither alone is believed: an index that does not know an old segment, or knows a newest one that is not here, is
 * an old copy; a header that does not check is taken from the index.
 */
#include "spool/recovery.h"

#include <errno.h>
#include <stdio.h>

void recover_path(const struct queue *q, const char *name, char to[SPOOL_PATH_MAX])
{
	snprintf(to, SPOOL_PATH_MAX, "%s/%s", q->spool->path, name);
}

struct attach {
	struct queue *q;
	struct spool_recovery *found;
	bool failed;
};

static struct segment *by_number(struct queue *q, uint64_t number)
{
	for (size_t i = 0; i < q->segments.n; i++)
		if (q->segments.list[i]->number == number)
			return q->segments.list[i];
	return NULL;
}

static bool attach_segment(void *ctx, const struct index_segment *row)
{
	struct attach *a = ctx;
	struct queue *q = a->q;
	struct segment *s = segments_find(&q->segments, row->generation);

	if (!s) {
		s = by_number(q, row->number);
		if (s && (!s->suspect || s->generation))
			s = NULL;
		if (s) { /* its header is damaged; its records are not, as far as we know */
			s->generation = row->generation;
			s->salt = row->salt;
			s->previous = row->previous;
			a->found->quarantined++;
		}
	}
	if (s) {
		s->live_n = row->live_n;
		s->live_bytes = row->live_bytes;
		s->recorded = true;
		return true;
	}
	if (row->live_n) {
		a->found->quarantined++; /* a file was taken away: what was in it is listed, but cannot be read */
		return true;
	}
	if (!grow_one(q->spool->alloc, &q->forgotten, q->forgotten_n, &q->forgotten_cap, sizeof *q->forgotten))
		a->failed = true;
	else
		q->forgotten[q->forgotten_n++] = row->generation;
	return !a->failed;
}

static bool attach_ref(void *ctx, uint64_t holder, uint64_t target)
{
	struct attach *a = ctx;
	struct segment *s = segments_find(&a->q->segments, holder);
	bool fresh;

	if (s && segments_find(&a->q->segments, target))
		a->failed = !segment_refer(a->q->spool->alloc, s, target, &fresh);
	return !a->failed;
}

/* Segments of which neither header nor index says what they are. */
int recover_set_aside(struct queue *q, struct spool_recovery *found, struct error *err)
{
	const struct env_disk *d = &q->spool->env->disk;
	struct segments *ss = &q->segments;
	size_t to = 0;

	for (size_t i = 0; i < ss->n; i++) {
		struct segment *s = ss->list[i];
		char from[SPOOL_PATH_MAX], name[64], path[SPOOL_PATH_MAX];
		if (s->generation) {
			ss->list[to++] = s;
			continue;
		}
		segment_path(ss, s->number, from, sizeof from);
		snprintf(name, sizeof name, "quarantine/segment-%08llx", (unsigned long long)s->number);
		recover_path(q, name, path);
		if (d->rename(d->arg, from, path) == -1) {
			for (size_t k = i; k < ss->n; k++)
				ss->list[to++] = ss->list[k];
			ss->n = to;
			return error_sys(err, errno, "cannot set the damaged segment %s aside", from);
		}
		found->quarantined++;
		alloc_put(q->spool->alloc, s->refs);
		alloc_put(q->spool->alloc, s);
	}
	ss->n = to;
	return 0;
}

int recover_rehead(struct queue *q, struct error *err)
{
	for (size_t i = 0; i < q->segments.n; i++) {
		struct segment *s = q->segments.list[i];
		if (!s->suspect)
			continue;
		if (segments_rehead(&q->segments, s) != SPOOL_OK)
			return error_set(err, ERROR_OURS, "cannot repair the header of segment %08llx", (unsigned long long)s->number);
		s->suspect = false;
	}
	return 0;
}

/* 1: the index does not fit the segments. */
int recover_attach(struct queue *q, struct spool_recovery *found, struct error *err)
{
	struct attach a = { .q = q, .found = found };
	enum index_result r = index_get_meta(&q->index, &q->meta);

	if (r == INDEX_NONE)
		return 1;
	if (r == INDEX_DONE)
		r = index_walk_segments(&q->index, attach_segment, &a);
	segments_sort(&q->segments);
	if (r == INDEX_DONE && !a.failed)
		r = index_walk_refs(&q->index, attach_ref, &a);
	if (r == INDEX_FAILED)
		return q->index.corrupt ? 1 : replay_index_error(q, err, "it is read");
	if (a.failed)
		return error_set(err, ERROR_AGAIN, "no memory for the spool's segments");
	q->next = q->meta;
	if (!segments_find(&q->segments, q->meta.generation))
		return 1; /* the newest segment it knows is not here: it is not the index of these segments */
	for (size_t i = 0; i < q->segments.n; i++) {
		struct segment *s = q->segments.list[i];
		if (!s->generation)
			continue;
		if (s->generation < q->meta.generation && !s->recorded)
			return 1; /* it has forgotten a segment that is still here: an old copy */
		s->used = s->written;
	}
	return 0;
}
