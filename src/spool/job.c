/* job.c - jobs: their memory, their answers, and the results that they carry.  See engine.h. */
#include "spool/engine.h"

#include "spool/record.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

const char *spool_status_name(enum spool_status status)
{
	switch (status) {
	case SPOOL_OK: return "ok";
	case SPOOL_AGAIN: return "again";
	case SPOOL_FULL: return "full";
	case SPOOL_SICK: return "sick";
	case SPOOL_GONE: return "gone";
	}
	return "unknown";
}

enum spool_status status_of_errno(int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return SPOOL_FULL;
	case EIO:
	case EROFS:
	case ENXIO:
	case ENODEV:
		return SPOOL_SICK;
	default:
		return SPOOL_AGAIN;
	}
}

struct job *job_new(struct spool *s, enum job_kind kind, struct view dest, struct view data)
{
	struct job *j = alloc_get(s->alloc, sizeof *j + dest.n + data.n);
	char *behind;

	if (!j) { /* answered "again" from the pool; NULL when even that is used up */
		j = s->spares;
		if (!j)
			return NULL;
		s->spares = j->next;
		memset(j, 0, sizeof *j);
		j->kind = kind;
		j->spare = true;
		j->status = SPOOL_AGAIN;
		return j;
	}
	memset(j, 0, sizeof *j);
	j->kind = kind;
	behind = (char *)(j + 1);
	if (dest.n)
		memcpy(behind, dest.p, dest.n);
	j->dest = view_of(behind, dest.n);
	if (data.n)
		memcpy(behind + dest.n, data.p, data.n);
	j->data = view_of(behind + dest.n, data.n);
	return j;
}

void job_free(struct spool *s, struct job *j)
{
	for (size_t i = 0; i < j->messages_n; i++) {
		if (j->messages[i].body)
			body_discard(j->messages[i].body);
		alloc_put(s->alloc, j->messages[i].envelopes);
	}
	if (j->messages != &j->own)
		alloc_put(s->alloc, j->messages);
	alloc_put(s->alloc, j->bytes);
	alloc_put(s->alloc, j->result);
	if (j->spare) {
		j->next = s->spares;
		s->spares = j;
		return;
	}
	alloc_put(s->alloc, j);
}

void job_answer(struct job *j)
{
	struct view bytes;

	assert(j->status);
	switch (j->kind) {
	case JOB_DUE:
		j->answer.due(j->arg, j->status, j->result, j->result_n, j->next_due);
		break;
	case JOB_LEASE:
	case JOB_LIST:
		j->answer.leased(j->arg, j->status, j->result, j->result_n);
		break;
	case JOB_READ:
		bytes = view_of(j->result ? j->result : "", j->result_n);
		j->answer.chunk(j->arg, j->status, bytes);
		break;
	case JOB_HOLD:
	case JOB_RELEASE:
	case JOB_FLUSH:
	case JOB_DELETE:
		if (j->answer.done)
			j->answer.done(j->arg, j->status, j->count);
		break;
	case JOB_ACCEPT:
	case JOB_SETTLE:
		if (j->answer.done)
			j->answer.done(j->arg, j->status, j->kind == JOB_ACCEPT && j->status == SPOOL_OK ? j->own.id : j->id);
		break;
	case JOB_BODY_CHUNK:
	case JOB_BODY_DROP:
		break;
	}
}

bool message_in_fill(struct spool *s, struct message_in *m, struct spool_body *body, const struct spool_envelope *e,
                     const bool *lease, uint32_t n)
{
	size_t bytes = 0;
	unsigned char *at;

	*m = (struct message_in){ .body = body, .n = n };
	for (uint32_t i = 0; i < n; i++)
		bytes += record_envelope_size(&e[i]);
	m->envelopes = alloc_get(s->alloc, bytes + n);
	if (!m->envelopes)
		return false;
	m->envelope_bytes = bytes;
	at = m->envelopes;
	for (uint32_t i = 0; i < n; i++) {
		struct spool_envelope copy = e[i];
		copy.slot = i;
		at = record_put_envelope(at, &copy);
	}
	for (uint32_t i = 0; i < n; i++)
		at[i] = lease && lease[i];
	return true;
}

/* ---- results ---- */

static bool gather_room(struct gather *g, size_t n)
{
	size_t cap = g->cap ? g->cap : 4096;
	unsigned char *mem;

	while (cap - g->n < n)
		cap *= 2;
	if (cap == g->cap)
		return true;
	mem = g->alloc->resize(g->alloc->arg, g->mem, cap);
	if (!mem)
		return false;
	g->mem = mem;
	g->cap = cap;
	return true;
}

/* While gathering, each envelope is followed by its bytes; gather_finish brings the structs to the front. */
bool gather_envelope(struct gather *g, const struct spool_envelope *e)
{
	size_t n = (sizeof *e + e->dest.n + e->data.n + 7) & ~(size_t)7;
	unsigned char *at;

	if (!gather_room(g, n))
		return false;
	at = g->mem + g->n;
	memset(at, 0, n);
	memcpy(at, e, sizeof *e);
	if (e->dest.n)
		memcpy(at + sizeof *e, e->dest.p, e->dest.n);
	if (e->data.n)
		memcpy(at + sizeof *e + e->dest.n, e->data.p, e->data.n);
	g->n += n;
	g->count++;
	return true;
}

void *gather_finish(struct gather *g, size_t *n)
{
	struct spool_envelope *array;
	size_t head = g->count * sizeof *array, at = 0;
	unsigned char *block;

	*n = 0;
	if (!g->count || !(block = alloc_get(g->alloc, head + g->n)))
		return NULL;
	array = (struct spool_envelope *)(void *)block;
	memcpy(block + head, g->mem, g->n);
	for (size_t i = 0; i < g->count; i++) {
		memcpy(&array[i], block + head + at, sizeof array[i]);
		array[i].dest.p = (char *)block + head + at + sizeof *array;
		array[i].data.p = array[i].dest.p + array[i].dest.n;
		at += (sizeof *array + array[i].dest.n + array[i].data.n + 7) & ~(size_t)7;
	}
	*n = g->count;
	return block;
}

bool gather_next(const struct gather *g, size_t *at, struct spool_envelope *e)
{
	if (*at >= g->n)
		return false;
	memcpy(e, g->mem + *at, sizeof *e);
	*at += (sizeof *e + e->dest.n + e->data.n + 7) & ~(size_t)7;
	return true;
}

void gather_free(struct gather *g)
{
	alloc_put(g->alloc, g->mem);
	g->mem = NULL;
	g->n = g->cap = g->count = 0;
}

static void sift_down(struct spool_due *heap, size_t n, size_t i)
{
	for (;;) {
		size_t big = i, l = 2 * i + 1, r = l + 1;
		struct spool_due t;
		if (l < n && heap[l].due > heap[big].due)
			big = l;
		if (r < n && heap[r].due > heap[big].due)
			big = r;
		if (big == i)
			return;
		t = heap[i];
		heap[i] = heap[big];
		heap[big] = t;
		i = big;
	}
}

/* A heap whose root is the latest, which is the one to give way. */
bool gather_due_add(struct gather_due *g, struct view dest, int64_t due, uint64_t count)
{
	char *copy;

	if (!g->max || (g->n == g->max && due >= g->heap[0].due))
		return true;
	copy = alloc_get(g->alloc, dest.n + 1);
	if (!copy)
		return false;
	if (dest.n)
		memcpy(copy, dest.p, dest.n);
	if (g->n == g->max) {
		alloc_put(g->alloc, (void *)(uintptr_t)g->heap[0].dest.p);
		g->heap[0] = (struct spool_due){ .dest = view_of(copy, dest.n), .due = due, .count = count };
		sift_down(g->heap, g->n, 0);
		return true;
	}
	if (g->n == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 16;
		struct spool_due *heap = g->alloc->resize(g->alloc->arg, g->heap, cap * sizeof *heap);
		if (!heap) {
			alloc_put(g->alloc, copy);
			return false;
		}
		g->heap = heap;
		g->cap = cap;
	}
	g->heap[g->n++] = (struct spool_due){ .dest = view_of(copy, dest.n), .due = due, .count = count };
	for (size_t i = g->n - 1; i && g->heap[(i - 1) / 2].due < g->heap[i].due; i = (i - 1) / 2) {
		struct spool_due t = g->heap[i];
		g->heap[i] = g->heap[(i - 1) / 2];
		g->heap[(i - 1) / 2] = t;
	}
	return true;
}

static int earlier(const void *a, const void *b)
{
	const struct spool_due *x = a, *y = b;

	return (x->due > y->due) - (x->due < y->due);
}

void *gather_due_finish(struct gather_due *g, size_t *n)
{
	size_t bytes = g->n * sizeof *g->heap;
	char *block, *at;

	*n = 0;
	for (size_t i = 0; i < g->n; i++)
		bytes += g->heap[i].dest.n;
	if (!g->n || !(block = alloc_get(g->alloc, bytes)))
		return NULL;
	qsort(g->heap, g->n, sizeof *g->heap, earlier);
	memcpy(block, g->heap, g->n * sizeof *g->heap);
	at = block + g->n * sizeof *g->heap;
	for (size_t i = 0; i < g->n; i++) {
		struct spool_due *d = (struct spool_due *)(void *)block + i;
		memcpy(at, d->dest.p, d->dest.n);
		d->dest.p = at;
		at += d->dest.n;
	}
	*n = g->n;
	return block;
}

void gather_due_free(struct gather_due *g)
{
	for (size_t i = 0; i < g->n; i++)
		alloc_put(g->alloc, (void *)(uintptr_t)g->heap[i].dest.p);
	alloc_put(g->alloc, g->heap);
	g->heap = NULL;
	g->n = g->cap = 0;
}
