/* bdat.h - the argument of BDAT, and the count of a chunk (RFC 3030 section 2).
 *
 * "BDAT size [LAST]": size is plain decimal digits, at most 20, that fit 64 bits; one blank; LAST without case; nothing
 * else.  No sign, no 0x, no blanks before, no words behind: a count that two programs read differently is how messages
 * are smuggled.  A fault behind a sound size leaves the size known, so that the chunk can be consumed before the reply.
 */
#ifndef SMTP_BDAT_H
#define SMTP_BDAT_H
#include "base/view.h"

enum smtp_bdat_fault {
	SMTP_BDAT_OK = 1,
	SMTP_BDAT_SIZE, /* no size can be known: what follows cannot be told from commands */
	SMTP_BDAT_WORDS /* the size is known, what follows it is not LAST */
};

struct smtp_bdat {
	enum smtp_bdat_fault fault;
	uint64_t left; /* octets of the chunk still to come; 0 with SMTP_BDAT_SIZE */
	uint64_t size; /* octets of the whole chunk */
	bool last;
};

struct smtp_bdat smtp_bdat_parse(struct view argument);
/* The head of input that belongs to the chunk. */
static inline struct view smtp_bdat_clip(const struct smtp_bdat *b, struct view input)
{
	return view_slice(input, 0, b->left < input.n ? (size_t)b->left : input.n);
}

#endif
