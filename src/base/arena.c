/* arena.c - see arena.h. */
#include "base/arena.h"

#include <stdalign.h>
#include <string.h>

/* The smallest chunk: an SMTP transaction of a few recipients fits one. */
#define ARENA_CHUNK 2048

struct arena_chunk {
	struct arena_chunk *older;
	size_t size, used;
	alignas(max_align_t) unsigned char bytes[];
};

void arena_init(struct arena *a, const struct alloc *alloc, size_t limit)
{
	*a = (struct arena){ .alloc = alloc, .limit = limit };
}

static struct arena_chunk *chunk_add(struct arena *a, size_t need)
{
	size_t size = need > ARENA_CHUNK ? need : ARENA_CHUNK;
	struct arena_chunk *c = alloc_get(a->alloc, sizeof *c + size);

	if (!c)
		return NULL;
	c->older = a->head;
	c->size = size;
	c->used = 0;
	a->head = c;
	return c;
}

void *arena_take(struct arena *a, size_t size)
{
	const size_t align = alignof(max_align_t);
	struct arena_chunk *c = a->head;
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + align - 1) / align * align;
	if (size == 0)
		size = align;
	if (a->used > a->limit || size > a->limit - a->used)
		return NULL;
	if (!c || c->size - c->used < size)
		c = chunk_add(a, size);
	if (!c)
		return NULL;
	p = c->bytes + c->used;
	c->used += size;
	a->used += size;
	return memset(p, 0, size);
}

struct view arena_copy(struct arena *a, struct view v)
{
	char *p = arena_take(a, v.n ? v.n : 1);

	if (!p)
		return (struct view){ NULL, 0 };
	if (v.n)
		memcpy(p, v.p, v.n);
	return view_of(p, v.n);
}

char *arena_cstr(struct arena *a, struct view v)
{
	char *p = arena_take(a, v.n + 1);

	if (p && v.n)
		memcpy(p, v.p, v.n);
	return p;
}

static void chunk_free(struct arena *a, struct arena_chunk *c)
{
	alloc_put_secret(a->alloc, c, sizeof *c + c->used);
}

void arena_reset(struct arena *a)
{
	/* Keep the oldest chunk (the small one that nearly always suffices), give back the rest. */
	while (a->head && a->head->older) {
		struct arena_chunk *c = a->head;
		a->head = c->older;
		chunk_free(a, c);
	}
	if (a->head) {
		explicit_bzero(a->head->bytes, a->head->used);
		a->head->used = 0;
	}
	a->used = 0;
}

void arena_free(struct arena *a)
{
	while (a->head) {
		struct arena_chunk *c = a->head;
		a->head = c->older;
		chunk_free(a, c);
	}
	a->used = 0;
}
