/* arena.h - memory that belongs to a lifetime: take what is needed, free the lifetime.
 *
 * An arena hands out aligned blocks from chunks and is emptied as a whole; the first chunk is kept, so that a
 * connection that carries a thousand transactions allocates once.  Nothing in it is freed singly.
 * Failure: NULL when the allocator fails or the arena's limit is reached; the arena stays usable.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include "base/alloc.h"
#include "base/view.h"

struct arena_chunk;

struct arena {
	const struct alloc *alloc;
	struct arena_chunk *head; /* the chunk being filled; older ones behind it */
	size_t used;              /* bytes handed out since the last reset */
	size_t limit;             /* bytes that may be handed out at most */
};

void arena_init(struct arena *a, const struct alloc *alloc, size_t limit);
void *arena_take(struct arena *a, size_t size); /* zeroed, aligned for any type; NULL on failure */
/* A copy of v inside the arena; .p is NULL on failure (never on an empty v). */
struct view arena_copy(struct arena *a, struct view v);
/* A NUL-terminated copy, for APIs that want one; NULL on failure. */
char *arena_cstr(struct arena *a, struct view v);
void arena_reset(struct arena *a); /* everything taken is gone; wiped, because identities live here too */
void arena_free(struct arena *a);  /* as reset, and gives the chunks back */

#endif
