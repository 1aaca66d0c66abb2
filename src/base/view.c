/* view.c - comparisons and conversions of views; see view.h. */
#include "base/view.h"

bool view_eq_nocase(struct view a, struct view b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (view_lower(a.p[i]) != view_lower(b.p[i]))
			return false;
	return true;
}

bool view_starts_nocase(struct view v, struct view prefix)
{
	return v.n >= prefix.n && view_eq_nocase(view_slice(v, 0, prefix.n), prefix);
}

bool view_ends_nocase(struct view v, struct view suffix)
{
	return v.n >= suffix.n && view_eq_nocase(view_slice(v, v.n - suffix.n, v.n), suffix);
}

struct view view_trim(struct view v)
{
	while (v.n && (v.p[0] == ' ' || v.p[0] == '\t'))
		v.p++, v.n--;
	while (v.n && (v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t'))
		v.n--;
	return v;
}

bool view_to_u64(struct view v, uint64_t *out)
{
	uint64_t r = 0;

	if (v.n == 0)
		return false;
	for (size_t i = 0; i < v.n; i++) {
		unsigned digit = (unsigned)(unsigned char)v.p[i] - '0';
		if (digit > 9 || r > (UINT64_MAX - digit) / 10)
			return false;
		r = r * 10 + digit;
	}
	*out = r;
	return true;
}

uint64_t view_hash(struct view v)
{
	uint64_t h = 14695981039346656037ULL;

	for (size_t i = 0; i < v.n; i++)
		h = (h ^ (unsigned char)v.p[i]) * 1099511628211ULL;
	return h;
}
