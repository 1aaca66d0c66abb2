/* bdat.c - see bdat.h. */
#include "smtp/bdat.h"

#include "smtp/limits.h"

struct smtp_bdat smtp_bdat_parse(struct view argument)
{
	static const struct view word = { "LAST", 4 };
	struct smtp_bdat b = { .fault = SMTP_BDAT_SIZE };
	size_t blank = view_find(argument, ' ');
	struct view rest = view_slice(argument, blank, argument.n);

	if (blank > SMTP_SIZE_DIGITS || !view_to_u64(view_slice(argument, 0, blank), &b.size))
		return b;
	b.left = b.size;
	b.last = rest.n && view_eq_nocase(view_slice(rest, 1, rest.n), word);
	b.fault = !rest.n || b.last ? SMTP_BDAT_OK : SMTP_BDAT_WORDS;
	return b;
}
