/* mem.c - the twin for tests: the same spool without a disk, plain enough to be believed.
 *
 * Envelopes stand in one array in the order of (id, slot); every question walks it.  Answers, leases, statuses and
 * the order of things are those of the queue engine; the contract suite compares them.  A batch that lacks memory
 * answers SPOOL_AGAIN for the job that met it and changes nothing.
 */
#include "spool/engine.h"

#include "spool/record.h"

#include <stdlib.h>

struct mem_body { uint64_t size; unsigned live; char bytes[]; };
struct mem_envelope {
	struct spool_envelope e; /* dest and data are owned */
	struct mem_body *body;
	bool dead;               /* leaves the array at the end of the turn */
};

struct mem {
	struct spool *spool;
	struct mem_envelope *list;
	size_t n, cap;
	spool_id last_id;
};

static void free_view(struct mem *m, struct view v)
{
	alloc_put(m->spool->alloc, (void *)(uintptr_t)v.p);
}

static bool copy_view(struct mem *m, struct view *v)
{
	char *p = alloc_get(m->spool->alloc, v->n + 1);

	if (!p)
		return false;
	if (v->n)
		memcpy(p, v->p, v->n);
	v->p = p;
	return true;
}

static void drop_envelope(struct mem *m, struct mem_envelope *x)
{
	free_view(m, x->e.dest);
	free_view(m, x->e.data);
	if (x->body && --x->body->live == 0)
		alloc_put(m->spool->alloc, x->body);
}

static struct mem_envelope *find(struct mem *m, spool_id id, uint32_t slot)
{
	for (size_t i = 0; i < m->n; i++)
		if (!m->list[i].dead && m->list[i].e.id == id && m->list[i].e.slot == slot)
			return &m->list[i];
	return NULL;
}

static struct mem_body *take_body(struct mem *m, const struct spool_body *b)
{
	struct mem_body *body = alloc_get(m->spool->alloc, sizeof *body + b->prefix_n + b->n);

	if (!body)
		return NULL;
	body->size = b->prefix_n + b->n;
	body->live = 0;
	if (b->prefix_n)
		memcpy(body->bytes, b->prefix, b->prefix_n);
	if (b->n)
		memcpy(body->bytes + b->prefix_n, b->mem, b->n);
	return body;
}

/* Adds the envelopes of one message behind the list; on failure the list is as before. */
static bool add_message(struct mem *m, struct message_in *in)
{
	size_t before = m->n;
	struct view rest = view_of((const char *)in->envelopes, in->envelope_bytes);
	spool_id now = (spool_id)env_wall_ms(m->spool->env) * 1000;
	struct mem_body *body;

	if (m->n + in->n > m->cap) {
		size_t cap = (m->n + in->n) * 2;
		struct mem_envelope *list = m->spool->alloc->resize(m->spool->alloc->arg, m->list, cap * sizeof *list);
		if (!list)
			return false;
		m->list = list;
		m->cap = cap;
	}
	body = take_body(m, in->body);
	if (!body)
		return false;
	in->id = now > m->last_id ? now : m->last_id + 1;
	for (uint32_t i = 0; i < in->n; i++) {
		struct mem_envelope *x = &m->list[m->n];
		memset(x, 0, sizeof *x);
		record_get_envelope(&rest, &x->e);
		x->e.id = in->id;
		x->e.body_size = body->size;
		if (!copy_view(m, &x->e.dest))
			break;
		if (!copy_view(m, &x->e.data)) {
			free_view(m, x->e.dest);
			break;
		}
		if (message_in_leased(in, i) && !marks_add(&m->spool->marks, in->id, x->e.slot, MARK_LEASE)) {
			free_view(m, x->e.dest);
			free_view(m, x->e.data);
			break;
		}
		x->body = body;
		body->live++;
		m->n++;
	}
	if (m->n - before < in->n) {
		bool none = m->n == before;
		while (m->n > before) {
			m->n--;
			marks_drop(&m->spool->marks, m->list[m->n].e.id, m->list[m->n].e.slot);
			drop_envelope(m, &m->list[m->n]);
		}
		if (none)
			alloc_put(m->spool->alloc, body);
		return false;
	}
	m->last_id = in->id;
	return true;
}

static void sweep(struct mem *m)
{
	size_t to = 0;

	for (size_t i = 0; i < m->n; i++) {
		if (m->list[i].dead) {
			drop_envelope(m, &m->list[i]);
			continue;
		}
		m->list[to++] = m->list[i];
	}
	m->n = to;
}

static void free_bodies(struct job *j)
{
	for (size_t i = 0; i < j->messages_n; i++) {
		body_free(j->messages[i].body);
		j->messages[i].body = NULL;
	}
}

static enum spool_status settle(struct mem *m, struct job *j)
{
	struct mem_envelope *x = find(m, j->id, j->slot);
	size_t before = m->n;
	struct view data = j->data;

	if (!x)
		return SPOOL_GONE;
	for (size_t i = 0; i < j->messages_n; i++)
		if (!add_message(m, &j->messages[i])) {
			while (m->n > before)
				drop_envelope(m, &m->list[--m->n]);
			return SPOOL_AGAIN;
		}
	x = find(m, j->id, j->slot);
	if (j->remains) {
		if (!copy_view(m, &data)) {
			while (m->n > before)
				drop_envelope(m, &m->list[--m->n]);
			return SPOOL_AGAIN;
		}
		free_view(m, x->e.data);
		x->e.data = data;
		x->e.attempts = j->attempts;
		x->e.due = j->when;
		x->e.expires = j->expires;
	} else {
		x->dead = true;
	}
	marks_retire(&m->spool->marks, j->id, j->slot);
	free_bodies(j);
	sweep(m);
	return SPOOL_OK;
}

static bool matches(const struct job *j, const struct spool_envelope *e)
{
	return (!j->id || j->id == e->id) && (!j->dest.n || view_eq(j->dest, e->dest));
}

static enum spool_status operate(struct mem *m, struct job *j)
{
	for (size_t i = 0; i < m->n; i++) {
		struct spool_envelope *e = &m->list[i].e;
		if (!matches(j, e))
			continue;
		j->matched++;
		if (j->kind == JOB_HOLD || j->kind == JOB_RELEASE) {
			j->count += e->held != (j->kind == JOB_HOLD);
			e->held = j->kind == JOB_HOLD;
		} else if (j->kind == JOB_FLUSH) {
			bool later = !e->held && e->due > j->when;
			j->count += later;
			e->due = later ? j->when : e->due;
		} else if (marks_has(&m->spool->marks, e->id, e->slot)) {
			j->busy = true;
		} else {
			m->list[i].dead = true;
			j->count++;
		}
	}
	sweep(m);
	if (j->id && !j->matched)
		return SPOOL_GONE;
	return j->busy ? SPOOL_AGAIN : SPOOL_OK;
}

static void count(struct mem *m)
{
	struct spool_stats st = { .commits = m->spool->stats.commits + 1 };

	for (size_t i = 0; i < m->n; i++) {
		const struct spool_envelope *e = &m->list[i].e;
		st.envelopes++;
		st.held += e->held;
		if (!i || m->list[i - 1].e.id != e->id) {
			st.messages++;
			st.bytes_live += e->body_size;
		}
	}
	st.bytes_total = st.bytes_live;
	st.oldest = m->n ? (int64_t)(m->list[0].e.id / 1000) : 0;
	m->spool->stats = st;
}

static bool mem_write(void *engine, struct job_list *in)
{
	struct mem *m = engine;
	struct job_list out = { 0 };

	pthread_mutex_lock(&m->spool->lock);
	for (struct job *j; (j = job_pop(in)) != NULL; job_push(&out, j)) {
		if (j->kind == JOB_ACCEPT) {
			j->status = add_message(m, &j->own) ? SPOOL_OK : SPOOL_AGAIN;
			if (j->status == SPOOL_OK)
				free_bodies(j);
		} else if (j->kind == JOB_SETTLE) {
			j->status = settle(m, j);
		} else {
			j->status = operate(m, j);
		}
	}
	count(m);
	pthread_mutex_unlock(&m->spool->lock);
	spool_post(m->spool, &out);
	return false;
}

/* ---- reading ---- */

static int by_due(const void *a, const void *b)
{
	const struct spool_envelope *const *x = a, *const *y = b;

	if ((*x)->due != (*y)->due)
		return (*x)->due < (*y)->due ? -1 : 1;
	if ((*x)->id != (*y)->id)
		return (*x)->id < (*y)->id ? -1 : 1;
	return ((*x)->slot > (*y)->slot) - ((*x)->slot < (*y)->slot);
}

static enum spool_status lease(struct mem *m, struct job *j)
{
	struct gather g = { .alloc = m->spool->alloc };
	const struct spool_envelope **due = alloc_get(m->spool->alloc, (m->n + 1) * sizeof *due);
	size_t n = 0;

	if (!due)
		return SPOOL_AGAIN;
	for (size_t i = 0; i < m->n; i++) {
		const struct spool_envelope *e = &m->list[i].e;
		if (!e->held && e->due <= j->when && view_eq(e->dest, j->dest) && !marks_has(&m->spool->marks, e->id, e->slot))
			due[n++] = e;
	}
	qsort(due, n, sizeof *due, by_due);
	for (size_t i = 0; i < n && i < j->max; i++) {
		if (!gather_envelope(&g, due[i]))
			break;
	}
	alloc_put(m->spool->alloc, due);
	n = g.count;
	j->result = gather_finish(&g, &j->result_n);
	gather_free(&g);
	for (size_t i = 0; i < j->result_n; i++) {
		const struct spool_envelope *e = (const struct spool_envelope *)j->result + i;
		if (!marks_add(&m->spool->marks, e->id, e->slot, MARK_LEASE))
			j->result_n = i;
	}
	return n && !j->result_n ? SPOOL_AGAIN : SPOOL_OK;
}

static enum spool_status list(struct mem *m, struct job *j)
{
	struct gather g = { .alloc = m->spool->alloc };
	size_t n;

	for (size_t i = 0; i < m->n && g.count < j->max; i++) {
		const struct spool_envelope *e = &m->list[i].e;
		if (e->id < j->after_id || (e->id == j->after_id && e->slot <= j->after_slot))
			continue;
		if (j->dest.n && !view_eq(e->dest, j->dest))
			continue;
		if (!gather_envelope(&g, e)) {
			gather_free(&g);
			return SPOOL_AGAIN;
		}
	}
	n = g.count;
	j->result = gather_finish(&g, &j->result_n);
	gather_free(&g);
	return n && !j->result_n ? SPOOL_AGAIN : SPOOL_OK;
}

static enum spool_status due(struct mem *m, struct job *j)
{
	struct gather_due g = { .alloc = m->spool->alloc, .max = j->max };
	bool ok = true;

	for (size_t i = 0; i < m->n && ok; i++) {
		const struct spool_envelope *e = &m->list[i].e;
		int64_t first = INT64_MAX;
		uint64_t waiting = 0;
		bool seen = false;
		if (e->held)
			continue;
		if (e->due > j->when) {
			if (e->due < j->next_due)
				j->next_due = e->due;
			continue;
		}
		for (size_t k = 0; k < m->n; k++) {
			const struct spool_envelope *o = &m->list[k].e;
			if (o->held || o->due > j->when || !view_eq(o->dest, e->dest))
				continue;
			seen = seen || k < i; /* counted when its first envelope came by */
			if (marks_has(&m->spool->marks, o->id, o->slot))
				continue;
			waiting++;
			if (o->due < first)
				first = o->due;
		}
		if (waiting && !seen)
			ok = gather_due_add(&g, e->dest, first, waiting);
	}
	if (ok)
		j->result = gather_due_finish(&g, &j->result_n);
	ok = ok && (g.n == 0 || j->result);
	gather_due_free(&g);
	return ok ? SPOOL_OK : SPOOL_AGAIN;
}

static enum spool_status read_body(struct mem *m, struct job *j)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct mem_body *b = m->list[i].body;
		if (m->list[i].e.id != j->id)
			continue;
		if (j->offset >= b->size || !j->max)
			return SPOOL_OK;
		j->result_n = b->size - j->offset < j->max ? (size_t)(b->size - j->offset) : j->max;
		j->result = alloc_get(m->spool->alloc, j->result_n);
		if (!j->result) {
			j->result_n = 0;
			return SPOOL_AGAIN;
		}
		memcpy(j->result, b->bytes + j->offset, j->result_n);
		return SPOOL_OK;
	}
	return SPOOL_GONE;
}

static void mem_read(void *engine, struct job_list *in)
{
	struct mem *m = engine;
	struct job_list out = { 0 };

	pthread_mutex_lock(&m->spool->lock);
	for (struct job *j; (j = job_pop(in)) != NULL; job_push(&out, j)) {
		if (j->kind == JOB_DUE)
			j->status = due(m, j);
		else if (j->kind == JOB_LEASE)
			j->status = lease(m, j);
		else if (j->kind == JOB_LIST)
			j->status = list(m, j);
		else
			j->status = read_body(m, j);
	}
	pthread_mutex_unlock(&m->spool->lock);
	spool_post(m->spool, &out);
}

static void mem_close(void *engine)
{
	struct mem *m = engine;

	for (size_t i = 0; i < m->n; i++)
		drop_envelope(m, &m->list[i]);
	alloc_put(m->spool->alloc, m->list);
	alloc_put(m->spool->alloc, m);
}

static const struct engine_ops mem_ops = { .write = mem_write, .read = mem_read, .close = mem_close,
	.body_files = false };

int spool_open_mem(struct spool **out, const struct spool_options *o, struct error *err)
{
	struct spool *s;
	struct mem *m;

	*out = NULL;
	if (spool_make(&s, o, err) == -1)
		return -1;
	m = alloc_get(s->alloc, sizeof *m);
	if (!m) {
		spool_drop(s);
		return error_set(err, ERROR_AGAIN, "no memory for the spool");
	}
	memset(m, 0, sizeof *m);
	m->spool = s;
	if (spool_start(s, &mem_ops, m, err) == -1) {
		mem_close(m);
		spool_drop(s);
		return -1;
	}
	*out = s;
	return 0;
}
