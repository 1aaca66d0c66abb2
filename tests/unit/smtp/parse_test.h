/* parse_test.h - what the tests of the pure parsers share: cmocka, and views of literals.
 *
 * LIT makes a view of a literal that may hold NUL; exact copies it to the heap, so that the sanitizer sees a read behind
 * its end.
 */
#ifndef PARSE_TEST_H
#define PARSE_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "smtp/internal.h"

#define LIT(s) ((struct view){ "" s, sizeof(s) - 1 })
#define COUNT(a) (sizeof(a) / sizeof *(a))

static inline struct view exact(struct view v)
{
	char *p = malloc(v.n ? v.n : 1);

	assert_non_null(p);
	if (v.n)
		memcpy(p, v.p, v.n);
	return view_of(p, v.n);
}

static inline void drop(struct view v)
{
	free((void *)(uintptr_t)v.p);
}

static inline void assert_view(struct view got, const char *want)
{
	if (!view_eq(got, view_cstr(want)))
		fail_msg("got \"%.*s\", wanted \"%s\"", VIEW_ARGS(got), want);
}

#endif
