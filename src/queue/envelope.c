/* envelope.c - see envelope.h.
 *
 * version u8, kind u8, origin u64, session u64, flags u32, ret u8, bits u8, lost u8, sender, envid, client, n u32, then
 * n of: notify u8, address, orcpt_type, orcpt, when i64, and if when != 0: code u16, enhanced 3 * u16, local u8, text,
 * remote. A text is u16 length and octets; the length SAME says: as that of the recipient before (a hundred recipients
 * of one refused connection share their words). */
#include "queue/envelope.h"

#define VERSION 1
#define SAME    0xffff
#define SESSION_TEXT_MAX \
	4096 /* of the session's texts: sender, envid (RFC 3461 5.4: 100), the client's name and address */
#define RCPTS_DECODE_MAX 4096 /* more than ever written: an envelope of a broken record must not eat the memory */

enum { BIT_WARNED = 1, BIT_MAYBE = 2 };

/* ---- writing ---- */

static bool put_number(struct buf *b, uint64_t v, unsigned octets)
{
	unsigned char *to;
	unsigned i;

	if (!buf_reserve(b, octets))
		return false;
	to = buf_tail(b);
	for (i = 0; i < octets; i++)
		to[i] = (unsigned char)(v >> (8 * i));
	buf_commit(b, octets);
	return true;
}

static bool put_text(struct buf *b, struct view v, size_t max)
{
	if (v.n > max)
		v.n = max;
	return put_number(b, v.n, 2) && buf_add(b, v);
}

static bool put_shared(struct buf *b, struct view v, struct view before, size_t max)
{
	if (v.n && view_eq(v, before))
		return put_number(b, SAME, 2);
	return put_text(b, v, max);
}

static bool put_rcpt(struct buf *b, const struct queue_rcpt *r, const struct queue_last *before)
{
	const struct queue_last *l = &r->last;

	if (!put_number(b, r->notify, 1) || !put_text(b, r->address, QUEUE_ADDRESS_MAX) ||
	    !put_text(b, r->orcpt_type, 64) || !put_text(b, r->orcpt, QUEUE_ORCPT_MAX) ||
	    !put_number(b, (uint64_t)l->when, 8))
		return false;
	return !l->when ||
	       (put_number(b, l->code, 2) && put_number(b, l->enhanced[0], 2) && put_number(b, l->enhanced[1], 2) &&
		put_number(b, l->enhanced[2], 2) && put_number(b, l->local, 1) &&
		put_shared(b, view_slice(l->text, 0, QUEUE_WORDS_MAX), view_slice(before->text, 0, QUEUE_WORDS_MAX),
			   QUEUE_WORDS_MAX) &&
		put_shared(b, view_slice(l->remote, 0, QUEUE_REMOTE_MAX),
			   view_slice(before->remote, 0, QUEUE_REMOTE_MAX), QUEUE_REMOTE_MAX));
}

bool queue_envelope_encode(struct buf *b, const struct queue_envelope *e)
{
	struct queue_last before = { 0 };
	uint32_t i;

	if (!put_number(b, VERSION, 1) || !put_number(b, e->kind, 1) || !put_number(b, e->origin, 8) ||
	    !put_number(b, e->session, 8) || !put_number(b, e->flags, 4) || !put_number(b, e->ret, 1) ||
	    !put_number(b, (e->warned ? BIT_WARNED : 0) | (e->maybe ? BIT_MAYBE : 0), 1) ||
	    !put_number(b, e->lost, 1) || !put_text(b, e->sender, SESSION_TEXT_MAX) ||
	    !put_text(b, e->envid, SESSION_TEXT_MAX) || !put_text(b, e->client, SESSION_TEXT_MAX) ||
	    !put_number(b, e->n, 4))
		return false;
	for (i = 0; i < e->n; i++) {
		if (!put_rcpt(b, &e->rcpts[i], &before))
			return false;
		if (e->rcpts[i].last.when) /* only a written text can be referred to */
			before = e->rcpts[i].last;
	}
	return true;
}

/* ---- reading ---- */

struct reader {
	struct view v;
	bool bad;
};

static uint64_t get_number(struct reader *r, unsigned octets)
{
	uint64_t v = 0;
	unsigned i;

	if (r->v.n < octets) {
		r->bad = true;
		return 0;
	}
	for (i = 0; i < octets; i++)
		v |= (uint64_t)(unsigned char)r->v.p[i] << (8 * i);
	r->v = view_slice(r->v, octets, r->v.n);
	return v;
}

static struct view get_text(struct reader *r, size_t max)
{
	size_t n = (size_t)get_number(r, 2);
	struct view v = view_slice(r->v, 0, n);

	if (n > max || n > r->v.n) {
		r->bad = true;
		return VIEW("");
	}
	r->v = view_slice(r->v, n, r->v.n);
	return v;
}

static struct view get_shared(struct reader *r, struct view before, size_t max)
{
	if (r->v.n >= 2 && (unsigned char)r->v.p[0] == 0xff && (unsigned char)r->v.p[1] == 0xff) {
		get_number(r, 2);
		r->bad = r->bad || !before.n; /* nothing stands before the first */
		return before;
	}
	return get_text(r, max);
}

static void get_rcpt(struct reader *r, struct queue_rcpt *to, const struct queue_last *before)
{
	struct queue_last *l = &to->last;

	to->notify = (uint8_t)get_number(r, 1);
	to->address = get_text(r, QUEUE_ADDRESS_MAX);
	to->orcpt_type = get_text(r, 64);
	to->orcpt = get_text(r, QUEUE_ORCPT_MAX);
	l->when = (int64_t)get_number(r, 8);
	if (!l->when)
		return;
	l->code = (uint16_t)get_number(r, 2);
	l->enhanced[0] = (uint16_t)get_number(r, 2);
	l->enhanced[1] = (uint16_t)get_number(r, 2);
	l->enhanced[2] = (uint16_t)get_number(r, 2);
	l->local = get_number(r, 1) != 0;
	l->text = get_shared(r, before->text, QUEUE_WORDS_MAX);
	l->remote = get_shared(r, before->remote, QUEUE_REMOTE_MAX);
}

int queue_envelope_decode(struct view v, struct queue_envelope *e, struct arena *arena)
{
	struct reader r = { v, false };
	struct queue_last before = { 0 };
	uint64_t version, kind, bits;
	uint32_t i;

	*e = (struct queue_envelope){ 0 };
	version = get_number(&r, 1);
	kind = get_number(&r, 1);
	if (version != VERSION || (kind != QUEUE_MAIL && kind != QUEUE_REPORT))
		return -1;
	e->kind = (enum queue_envelope_kind)kind;
	e->origin = get_number(&r, 8);
	e->session = get_number(&r, 8);
	e->flags = (uint32_t)get_number(&r, 4);
	e->ret = (uint8_t)get_number(&r, 1);
	bits = get_number(&r, 1);
	e->warned = bits & BIT_WARNED;
	e->maybe = bits & BIT_MAYBE;
	e->lost = (uint8_t)get_number(&r, 1);
	e->sender = get_text(&r, SESSION_TEXT_MAX);
	e->envid = get_text(&r, SESSION_TEXT_MAX);
	e->client = get_text(&r, SESSION_TEXT_MAX);
	e->n = (uint32_t)get_number(&r, 4);
	if (r.bad || !e->n || e->n > RCPTS_DECODE_MAX)
		return -1;
	e->rcpts = arena_take(arena, e->n * sizeof *e->rcpts);
	if (!e->rcpts)
		return -2;
	for (i = 0; i < e->n && !r.bad; i++) {
		get_rcpt(&r, &e->rcpts[i], &before);
		if (e->rcpts[i].last.when)
			before = e->rcpts[i].last;
	}
	return r.bad || r.v.n ? -1 : 0;
}
