/* buf.h - a byte queue with two cursors and a hard cap.
 *
 * Bytes enter at the write cursor and leave at the read cursor; data is contiguous, so that a parser sees one
 * view.  Memory grows by doubling up to `max` and is given back by buf_release while idle.  Nobody keeps a
 * pointer into a buffer across a call that writes to it.
 * Failure: false from buf_reserve / buf_add when the cap is reached or memory is out; the content is unchanged.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H
#include "base/alloc.h"
#include "base/view.h"

struct buf {
	const struct alloc *alloc;
	unsigned char *mem;
	size_t rd, wr;   /* content is mem[rd, wr) */
	size_t used;     /* mem[0, used) was written since it was got or wiped; may lag behind wr */
	size_t cap, max; /* allocated; allowed */
};

void buf_init(struct buf *b, const struct alloc *alloc, size_t max);
void buf_free(struct buf *b);    /* wiped and given back; the buffer may be used again */
void buf_release(struct buf *b); /* gives the memory back if the buffer is empty */

static inline size_t buf_len(const struct buf *b)
{
	return b->wr - b->rd;
}

static inline struct view buf_view(const struct buf *b)
{
	return view_of(b->mem ? (const char *)b->mem + b->rd : "", b->wr - b->rd);
}

/* Room for n more bytes at the write cursor, contiguous.  May move the content. */
bool buf_reserve(struct buf *b, size_t n);

/* The free tail after buf_reserve, and its commit.  n must not exceed buf_room. */
static inline unsigned char *buf_tail(struct buf *b)
{
	return b->mem + b->wr;
}
static inline size_t buf_room(const struct buf *b)
{
	return b->cap - b->wr;
}
void buf_commit(struct buf *b, size_t n);

bool buf_add(struct buf *b, struct view v);
bool buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_take(struct buf *b, size_t n); /* n bytes were consumed; n must not exceed buf_len */
void buf_clear(struct buf *b);          /* wiped, memory kept */

#endif
