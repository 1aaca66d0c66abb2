/* marks.c - see marks.h. */
#include "spool/marks.h"

#include <assert.h>
#include <string.h>

#define FIRST_CAP 256u /* places of the first table: 8 KiB */

void marks_init(struct marks *m, const struct alloc *alloc)
{
	memset(m, 0, sizeof *m);
	m->alloc = alloc;
}

void marks_free(struct marks *m)
{
	alloc_put(m->alloc, m->table);
	alloc_put(m->alloc, m->retired);
	marks_init(m, m->alloc);
}

static size_t home(const struct marks *m, uint64_t id, uint32_t slot)
{
	uint64_t h = (id ^ (uint64_t)slot << 40) * 0x9e3779b97f4a7c15u; /* ids count up: spread by multiplication */

	return (size_t)(h >> 20) & (m->cap - 1);
}

/* The place of the mark, or the empty place where it would go. */
static size_t place(const struct marks *m, uint64_t id, uint32_t slot)
{
	size_t i = home(m, id, slot);

	while (m->table[i].kind && (m->table[i].id != id || m->table[i].slot != slot))
		i = (i + 1) & (m->cap - 1);
	return i;
}

static bool grow(struct marks *m)
{
	struct marks bigger = *m;
	size_t cap = m->cap ? m->cap * 2 : FIRST_CAP;

	bigger.table = alloc_get(m->alloc, cap * sizeof *bigger.table);
	bigger.retired = alloc_get(m->alloc, cap * sizeof *bigger.retired);
	if (!bigger.table || !bigger.retired) {
		alloc_put(m->alloc, bigger.table);
		alloc_put(m->alloc, bigger.retired);
		return false;
	}
	bigger.cap = cap;
	memset(bigger.table, 0, cap * sizeof *bigger.table);
	for (size_t i = 0; i < m->cap; i++)
		if (m->table[i].kind)
			bigger.table[place(&bigger, m->table[i].id, m->table[i].slot)] = m->table[i];
	if (m->retired_n)
		memcpy(bigger.retired, m->retired, m->retired_n * sizeof *m->retired);
	alloc_put(m->alloc, m->table);
	alloc_put(m->alloc, m->retired);
	*m = bigger;
	return true;
}

enum mark_kind marks_kind(const struct marks *m, uint64_t id, uint32_t slot)
{
	return m->cap ? (enum mark_kind)m->table[place(m, id, slot)].kind : (enum mark_kind)0;
}

bool marks_has(const struct marks *m, uint64_t id, uint32_t slot)
{
	return m->cap && m->table[place(m, id, slot)].kind;
}

bool marks_add(struct marks *m, uint64_t id, uint32_t slot, enum mark_kind kind)
{
	size_t i;

	if (m->used * 2 >= m->cap && !grow(m))
		return false;
	i = place(m, id, slot);
	assert(!m->table[i].kind);
	m->table[i] = (struct mark){ .id = id, .slot = slot, .kind = (uint32_t)kind };
	m->used++;
	m->leased += kind == MARK_LEASE;
	return true;
}

/* Closes the gap at i, so that no search stops early. */
static void remove_at(struct marks *m, size_t i)
{
	m->leased -= m->table[i].kind == MARK_LEASE;
	m->used--;
	for (size_t j = (i + 1) & (m->cap - 1); m->table[j].kind; j = (j + 1) & (m->cap - 1)) {
		size_t h = home(m, m->table[j].id, m->table[j].slot);
		if (((j - h) & (m->cap - 1)) >= ((j - i) & (m->cap - 1))) {
			m->table[i] = m->table[j];
			i = j;
		}
	}
	m->table[i].kind = 0;
}

void marks_drop(struct marks *m, uint64_t id, uint32_t slot)
{
	size_t i;

	if (!m->cap)
		return;
	i = place(m, id, slot);
	/* A retired mark is kept: it protects a reader, not a lease. */
	if (m->table[i].kind && m->table[i].kind != MARK_RETIRED)
		remove_at(m, i);
}

void marks_retire(struct marks *m, uint64_t id, uint32_t slot)
{
	size_t i;

	if (!m->cap)
		return;
	i = place(m, id, slot);
	if (!m->table[i].kind || m->table[i].kind == MARK_RETIRED)
		return;
	if (!m->readers) {
		remove_at(m, i);
		return;
	}
	m->leased -= m->table[i].kind == MARK_LEASE;
	m->table[i].kind = MARK_RETIRED;
	m->retired[m->retired_n++] = m->table[i];
}

void marks_reader_begin(struct marks *m, uint64_t commit)
{
	if (m->readers++ == 0)
		m->reader_since = commit;
}

void marks_reader_end(struct marks *m)
{
	assert(m->readers > 0);
	if (--m->readers)
		return;
	for (size_t r = 0; r < m->retired_n; r++) {
		size_t i = place(m, m->retired[r].id, m->retired[r].slot);
		if (m->table[i].kind == MARK_RETIRED)
			remove_at(m, i);
	}
	m->retired_n = 0;
}
