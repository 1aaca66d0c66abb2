/* body.c - the framer of message content against the oracle, in pieces that the input chooses.
 *
 * Input: options (1 chunked, 2 normalise, 4 binary), a seed for the pieces, then the wire.
 */
#include "input.h"

#include "../unit/smtp/body_oracle.h"
#include "smtp/body.h"

struct result {
	char *give;
	size_t n, room, consumed;
	bool end;
};

static void keep(struct result *r, struct view v)
{
	assert(v.n <= r->room - r->n);
	if (v.n)
		memcpy(r->give + r->n, v.p, v.n);
	r->n += v.n;
}

static void feed(struct smtp_body *b, struct result *r, struct view piece)
{
	char *exact = input_copy(piece);
	struct view in = view_of(exact, piece.n);

	while (in.n && !r->end) {
		struct smtp_body_step step = smtp_body_read(b, in);

		assert(step.take <= in.n && (step.take || step.give.n));
		keep(r, step.give);
		r->consumed += step.take;
		r->end = step.end;
		in = view_slice(in, step.take, in.n);
	}
	free(exact);
}

static void judge(const struct result *r, const struct smtp_body *b, const struct oracle *o, bool chunked,
		  bool normalise)
{
	const char *want = normalise ? o->canonical : o->plain;
	size_t want_n = normalise ? o->canonical_n : o->plain_n;
	const char *fault = normalise ? NULL : o->fault;

	assert(r->end == o->ended && r->consumed == o->consumed);
	assert(r->n <= want_n && memcmp(r->give, want, r->n) == 0);
	if (!o->ended && !chunked)
		return; /* a part of it may be held back */
	assert(fault || (r->n == want_n && b->size == want_n));
	assert(fault ? b->fault && strcmp(b->fault, fault) == 0 : !b->fault);
	assert(!normalise || b->changed == (o->fault != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	unsigned options = input_byte(&in), seed = input_byte(&in);
	bool chunked = options & 1, normalise = options & 2, binary = chunked && options & 4;
	struct view wire = view_of((const char *)in.p, in.n);
	struct oracle o = oracle_frame(wire.p, wire.n, chunked);
	struct result r = { .room = 2 * wire.n + 4 };
	struct smtp_body b;

	r.give = malloc(r.room);
	smtp_body_begin(&b, normalise ? PSMTP_BARE_NORMALISE : PSMTP_BARE_REJECT, chunked, binary);
	for (size_t at = 0; at < wire.n && !r.end;) {
		size_t piece = seed ? 1 + (seed = seed * 1103515245 + 12345) / 65536 % 7 : wire.n;

		feed(&b, &r, view_slice(wire, at, at + piece));
		at += piece;
	}
	if (chunked)
		keep(&r, smtp_body_finish(&b));
	if (binary)
		assert(r.n == wire.n && !b.fault && (!r.n || memcmp(r.give, wire.p, r.n) == 0));
	else
		judge(&r, &b, &o, chunked, normalise);
	free(r.give);
	oracle_free(&o);
	return 0;
}
