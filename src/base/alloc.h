/* alloc.h - where memory comes from: an injected allocator, so that a test can make the n-th request fail.
 *
 * The protocol library takes one from its caller; the daemon uses alloc_libc.  realloc with size 0 frees.
 * A failed request returns NULL and leaves the old block valid.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H
#include <stddef.h>

struct alloc {
	void *(*resize)(void *arg, void *old, size_t size); /* malloc, realloc and free in one */
	void *arg;
};

extern const struct alloc alloc_libc;

static inline void *alloc_get(const struct alloc *a, size_t size)
{
	return a->resize(a->arg, NULL, size);
}

static inline void alloc_put(const struct alloc *a, void *p)
{
	if (p)
		a->resize(a->arg, p, 0);
}

/* Frees memory that held a secret after wiping it in a way that the compiler keeps. */
void alloc_put_secret(const struct alloc *a, void *p, size_t size);

#endif
