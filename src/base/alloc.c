/* alloc.c - the C library as an allocator; see alloc.h. */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static void *libc_resize(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size == 0) {
		free(old);
		return NULL;
	}
	return realloc(old, size);
}

const struct alloc alloc_libc = { libc_resize, NULL };

void alloc_put_secret(const struct alloc *a, void *p, size_t size)
{
	if (!p)
		return;
	explicit_bzero(p, size);
	a->resize(a->arg, p, 0);
}
