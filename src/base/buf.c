/* buf.c - see buf.h. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BUF_FIRST 512 /* the first allocation: a command line and its reply */

void buf_init(struct buf *b, const struct alloc *alloc, size_t max)
{
	*b = (struct buf){ .alloc = alloc, .max = max };
}

/* What has to be wiped: all that ever held octets. */
static size_t touched(const struct buf *b)
{
	return b->used > b->wr ? b->used : b->wr;
}

void buf_free(struct buf *b)
{
	if (b->mem)
		alloc_put_secret(b->alloc, b->mem, touched(b));
	b->mem = NULL;
	b->rd = b->wr = b->used = b->cap = 0;
}

void buf_release(struct buf *b)
{
	if (b->rd == b->wr)
		buf_free(b);
}

bool buf_reserve(struct buf *b, size_t n)
{
	size_t len = b->wr - b->rd, cap;
	unsigned char *mem;

	assert(b->rd <= b->wr && b->wr <= b->cap);
	if (b->cap - b->wr >= n)
		return true;
	if (n > b->max || len > b->max - n)
		return false;
	if (b->rd && b->cap - len >= n) { /* sliding the content down makes the room */
		b->used = touched(b);
		memmove(b->mem, b->mem + b->rd, len);
		b->rd = 0;
		b->wr = len;
		return true;
	}
	for (cap = b->cap ? b->cap : BUF_FIRST; cap < len + n;)
		cap = cap > b->max / 2 ? b->max : cap * 2;
	if (cap > b->max)
		cap = b->max;
	mem = alloc_get(b->alloc, cap);
	if (!mem)
		return false;
	if (len)
		memcpy(mem, b->mem + b->rd, len);
	if (b->mem)
		alloc_put_secret(b->alloc, b->mem, touched(b));
	b->mem = mem;
	b->cap = cap;
	b->used = 0;
	b->rd = 0;
	b->wr = len;
	return true;
}

void buf_commit(struct buf *b, size_t n)
{
	assert(n <= b->cap - b->wr);
	b->wr += n;
}

bool buf_add(struct buf *b, struct view v)
{
	if (!buf_reserve(b, v.n))
		return false;
	if (v.n)
		memcpy(b->mem + b->wr, v.p, v.n);
	b->wr += v.n;
	return true;
}

bool buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !buf_reserve(b, (size_t)n + 1))
		return false;
	va_start(ap, fmt);
	vsnprintf((char *)b->mem + b->wr, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->wr += (size_t)n;
	return true;
}

void buf_take(struct buf *b, size_t n)
{
	assert(n <= b->wr - b->rd);
	b->rd += n;
	if (b->rd == b->wr) {
		b->used = touched(b);
		b->rd = b->wr = 0;
	}
}

void buf_clear(struct buf *b)
{
	if (b->mem)
		explicit_bzero(b->mem, touched(b));
	b->rd = b->wr = b->used = 0;
}
