/* view.h - text as (pointer, length), by value.
 *
 * A view borrows: it never owns, is never NUL-terminated, and lives no longer than the buffer or arena it
 * points into.  Input from a peer is only ever handled as views, so no function here calls strlen on it.
 */
#ifndef BASE_VIEW_H
#define BASE_VIEW_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct view {
	const char *p;
	size_t n;
};

/* A view of a string literal; the length is known at compile time. */
#define VIEW(literal) ((struct view){ "" literal, sizeof(literal) - 1 })
/* For printf: "%.*s", VIEW_ARGS(v). */
#define VIEW_ARGS(v) (int)(v).n, (v).p

static inline struct view view_of(const char *p, size_t n)
{
	return (struct view){ p, n };
}

/* For our own NUL-terminated strings (configuration, constants); never for input. */
static inline struct view view_cstr(const char *s)
{
	return (struct view){ s, s ? strlen(s) : 0 };
}

static inline bool view_eq(struct view a, struct view b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Bytes [from, to) of v; both are clamped to its length. */
static inline struct view view_slice(struct view v, size_t from, size_t to)
{
	if (to > v.n)
		to = v.n;
	if (from > to)
		from = to;
	return (struct view){ from ? v.p + from : v.p, to - from }; /* v.p may be NULL; NULL + 0 is undefined in C */
}

/* Index of the first c, or v.n when there is none. */
static inline size_t view_find(struct view v, char c)
{
	const char *hit = v.n ? memchr(v.p, c, v.n) : NULL;
	return hit ? (size_t)(hit - v.p) : v.n;
}

/* Everything below is locale-free: SMTP keywords and domain labels are ASCII (RFC 5321 2.4). */
static inline char view_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool view_eq_nocase(struct view a, struct view b);
bool view_starts_nocase(struct view v, struct view prefix);
bool view_ends_nocase(struct view v, struct view suffix);
struct view view_trim(struct view v); /* without blanks and tabs at both ends */

/* Plain decimal digits only: no sign, no blanks, no overflow.  False leaves *out alone. */
bool view_to_u64(struct view v, uint64_t *out);

/* FNV-1a; for tables that only we fill or that are bounded. */
uint64_t view_hash(struct view v);

#endif
