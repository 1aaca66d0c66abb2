/* boundary.c - the STARTTLS boundary of both sides: hostile octets before, behind and around the handshake.
 *
 * Input: an octet of options for each side, then octets for the socket of the side that is being attacked.  Octets from
 * 0xf8 on are orders (enum order): they switch side, time and TLS.  What is written in clear is marked: its j are J;
 * inside TLS they are K.
 *
 * Judged (boundary_receive.c, boundary_send.c): nothing that was said in clear is believed, kept, forwarded or echoed
 * inside TLS; once the handshake has begun nothing is written in clear; where TLS is owed nothing of the envelope leaves
 * or enters without it; every session ends, and leaves nothing behind.
 */
#include "input.h"

#include "boundary.h"

#define ORDERS_MAX 400
#define PIECE_MAX  2048

enum order {
	ORDER_CUT = 0xff,   /* what was said so far is written, and the loop turns */
	ORDER_TIME = 0xfe,  /* so many quarters of a second pass */
	ORDER_EOF = 0xfd,
	ORDER_SIDE = 0xfc,  /* the other side is attacked from here on */
	ORDER_TLS = 0xfb,   /* from here on what is said is inside records; again: in clear */
	ORDER_SHAKE = 0xfa, /* what the handshake wants next of an honest peer */
	ORDER_CLOSE = 0xf9, /* close_notify */
	ORDER_MORE = 0xf8   /* what was said so far is written, and the loop does not turn */
};

void wire_out_add(struct wire_out *w, struct view v)
{
	for (size_t i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];

		if (w->left) {
			w->left--;
			if ((unsigned char)w->head[0] == NULL_DATA && w->inside_n < sizeof w->inside - 1)
				w->inside[w->inside_n++] = v.p[i];
		} else if (w->head_n || c >= NULL_HELLO) {
			assert(w->head_n || c <= NULL_ALERT);
			w->records = true;
			w->head[w->head_n++] = v.p[i];
			if (w->head_n == sizeof w->head) {
				w->left = (size_t)(unsigned char)w->head[1] << 8 | (unsigned char)w->head[2];
				w->head_n = 0;
			}
		} else {
			assert(!w->records); /* clear text where TLS has begun */
			if (w->clear_n < sizeof w->clear - 1)
				w->clear[w->clear_n++] = v.p[i];
		}
	}
	w->clear[w->clear_n] = w->inside[w->inside_n] = '\0';
}

/* What is on its way to one side. */
struct attack {
	const struct side *side;
	bool tls;
	unsigned shakes;
	char piece[PIECE_MAX];
	size_t n;
};

static void record(struct attack *a, unsigned marker, struct view v)
{
	char head[3] = { (char)marker, (char)(v.n >> 8), (char)v.n };

	a->side->put(view_of(head, sizeof head));
	if (v.n)
		a->side->put(v);
}

static void flush(struct attack *a)
{
	if (a->n && a->tls)
		record(a, NULL_DATA, view_of(a->piece, a->n));
	else if (a->n)
		a->side->put(view_of(a->piece, a->n));
	a->n = 0;
}

static void add(struct attack *a, unsigned char c)
{
	if (c == 'j' || c == 'J' || c == 'K')
		c = a->tls ? 'K' : 'J';
	if (c == NULL_DATA && !a->tls)
		c = NULL_ALERT; /* what is written in clear cannot be said to be inside */
	a->piece[a->n++] = (char)c;
	if (a->n == sizeof a->piece)
		flush(a);
}

static void shake(struct attack *a)
{
	if (a->side == &side_send) { /* we are the server: one answer */
		record(a, NULL_HELLO, VIEW(""));
		return;
	}
	record(a, a->shakes++ % 2 ? NULL_FINISH : NULL_HELLO, VIEW(""));
}

static void obey(struct attack **at, struct attack *both, unsigned order, struct input *in)
{
	struct attack *a = *at;

	flush(a);
	switch ((enum order)order) {
	case ORDER_CUT: a->side->turn(); break;
	case ORDER_TIME: a->side->pass(input_byte(in) * 250u); break;
	case ORDER_EOF: a->side->hang_up(); break;
	case ORDER_SIDE: *at = a == both ? both + 1 : both; break;
	case ORDER_TLS: a->tls = !a->tls; break;
	case ORDER_SHAKE: shake(a); break;
	case ORDER_CLOSE: record(a, NULL_CLOSE, VIEW("")); break;
	case ORDER_MORE: break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct attack both[2], *a;
	struct input in = { data, n };
	unsigned orders = 0;

	both[0] = (struct attack){ .side = &side_receive };
	both[1] = (struct attack){ .side = &side_send };
	a = both;
	side_receive.begin(input_byte(&in));
	side_send.begin(input_byte(&in));
	while (in.n && orders < ORDERS_MAX) {
		unsigned char c = input_byte(&in);

		if (c >= ORDER_MORE) {
			orders++;
			obey(&a, both, c, &in);
		} else {
			add(a, c);
		}
	}
	flush(both);
	flush(both + 1);
	side_receive.end();
	side_send.end();
	return 0;
}
