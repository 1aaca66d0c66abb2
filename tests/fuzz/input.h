/* input.h - what the fuzz targets share: an input taken from its front, octet by octet or in pieces.
 *
 * An input that has ended gives zeros and empty views, so that a target needs no tests for it.  A view borrows from the
 * input; input_copy gives heap memory of exactly its size, so that the sanitizer sees a read behind its end.
 * What a target finds broken it says by assert, which ends it and keeps the input.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H
#include "base/view.h"

#include <assert.h>
#include <stdlib.h>

struct input {
	const uint8_t *p;
	size_t n;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static inline uint8_t input_byte(struct input *in)
{
	if (!in->n)
		return 0;
	in->n--;
	return *in->p++;
}

static inline uint32_t input_u16(struct input *in)
{
	uint32_t high = input_byte(in);

	return high << 8 | input_byte(in);
}

/* At most n octets. */
static inline struct view input_take(struct input *in, size_t n)
{
	struct view v = view_of((const char *)in->p, n < in->n ? n : in->n);

	in->p += v.n;
	in->n -= v.n;
	return v;
}

/* A text of up to 255 octets, its length in front. */
static inline struct view input_text(struct input *in)
{
	size_t n = input_byte(in);

	return input_take(in, n);
}

static inline char *input_copy(struct view v)
{
	char *p = malloc(v.n ? v.n : 1);

	assert(p);
	if (v.n)
		memcpy(p, v.p, v.n);
	return p;
}

static inline bool input_holds(struct view v, const char *word)
{
	return v.n && memmem(v.p, v.n, word, strlen(word));
}

/* An allocator of which the nth request fails; blocks counts what is not given back. */
struct input_memory {
	size_t requests, fail_at, blocks;
};

static inline void *input_resize(void *arg, void *old, size_t size)
{
	struct input_memory *m = arg;
	void *p;

	if (!size) {
		m->blocks -= old != NULL;
		free(old);
		return NULL;
	}
	if (++m->requests == m->fail_at)
		return NULL;
	p = realloc(old, size);
	m->blocks += !old && p;
	return p;
}

#endif
