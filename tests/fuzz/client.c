/* client.c - the client machine against a hostile server, with splits, silence and broken connections.
 *
 * Input: HEAD octets (options, the message, the request of memory that fails), then what the server says.  Octets from
 * 0xf8 on are orders to the driver (enum order); they stand in no UTF-8 text.
 *
 * Judged: every recipient has one result at most, and exactly one when the message is done; a 2xx result only after the
 * whole message was written out; where TLS is owed nothing of the envelope and no AUTH leaves in clear; no reply of
 * epoch 1 is believed in epoch 2 (what is said in clear is marked: its j are J, those of epoch 2 are k); nothing is
 * written with a bare CR or LF; every wait has a deadline; every session ends; no memory is left.
 */
#include "input.h"

#include <psmtp.h>

#define EVENTS_MAX 200000 /* of one input: more is a loop */
#define RCPTS      3
#define MESSAGES   2
#define TEXT(literal)                           \
	{                                       \
		"" literal, sizeof(literal) - 1 \
	}

enum order {
	ORDER_CUT = 0xff,
	ORDER_TIME = 0xfe,
	ORDER_EOF = 0xfd,
	ORDER_ABORT = 0xfc,
	ORDER_CLEAR = 0xfb,
	ORDER_KEEP = 0xfa,
	ORDER_TLS_FAILS = 0xf9,
	ORDER_IDLE = 0xf8
};

static const struct psmtp_client_rcpt rcpts[RCPTS] = { { .address = TEXT("a@b.test"),
							 .notify = PSMTP_NOTIFY_FAILURE,
							 .orcpt_type = TEXT("rfc822"),
							 .orcpt = TEXT("x+y@b.test") },
						       { .address = TEXT("\"late one\"@b.test") },
						       { .address = TEXT("c@[192.0.2.1]") } };
static char large[80000]; /* three chunks, more than the output holds */
static const struct psmtp_view bodies[] = {
	TEXT("Subject: x\r\n\r\n.\r\n..\r\nbody\r\n"), TEXT("no end"),  { large, sizeof large }, TEXT(""),
	TEXT(".\r\n.\n\rMAIL FROM:<x@y>\r\n\r"),       TEXT("\xe4\r\n")
};

struct session {
	struct psmtp_client *c;
	struct psmtp_client_options o;
	struct input_memory memory;
	unsigned message, epoch, events, sent;
	uint64_t now;
	bool closed, failed, handshake, fail_tls, keep, owed, ready;
	bool writing, all_taken, settled; /* the body is asked for; was handed over; DONE was said */
	struct psmtp_view body;
	size_t body_at;
	unsigned results;
	struct input rest;
	char tail[16]; /* the last octets written in clear */
	bool cr;       /* the octet written last was a CR */
};

/* What leaves in clear under an owed level holds no envelope and no secret. */
static void check_clear(struct session *t, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		memmove(t->tail, t->tail + 1, sizeof t->tail - 1);
		t->tail[sizeof t->tail - 1] = p[i];
		assert(memcmp(t->tail + sizeof t->tail - 5, "MAIL ", 5) &&
		       memcmp(t->tail + sizeof t->tail - 5, "AUTH ", 5) &&
		       memcmp(t->tail + sizeof t->tail - 5, "RCPT ", 5) &&
		       memcmp(t->tail + sizeof t->tail - 4, "BDAT", 4));
	}
}

static void write_out(struct session *t)
{
	struct psmtp_view out = psmtp_client_output(t->c);
	size_t n = t->keep ? out.n / 2 : out.n;

	if (t->epoch == 1 && t->owed)
		check_clear(t, out.p, n);
	for (size_t i = 0; i < n; i++) {
		assert((out.p[i] == '\n') == t->cr || (t->message & 64)); /* binary content may be anything */
		t->cr = out.p[i] == '\r';
	}
	psmtp_client_sent(t->c, n, t->now);
}

static void write_body(struct session *t)
{
	size_t left = t->body.n - t->body_at, taken;

	if (!t->writing)
		return;
	taken = psmtp_client_body(t->c, t->body.p + t->body_at, left, true, t->now);
	assert(taken <= left);
	t->body_at += taken;
	if (taken == left) {
		t->all_taken = true;
		t->writing = false;
	}
}

static void unmarked(const struct session *t, struct psmtp_view v)
{
	assert(t->epoch == 1 || !v.n || !memchr(v.p, 'J', v.n));
}

static void begin(struct session *t)
{
	struct psmtp_client_message m = { .sender = TEXT("s@a.test"),
					  .rcpts = rcpts,
					  .rcpt_count = 1 + t->message % RCPTS,
					  .has_8bit = t->message & 16,
					  .has_utf8 = t->message & 32,
					  .binary = t->message & 64,
					  .ret = PSMTP_RET_HDRS,
					  .envid = TEXT("id=1") };

	if (t->message & 128)
		m.sender = (struct psmtp_view){ "", 0 };
	t->ready = true;
	if (t->sent == MESSAGES) {
		psmtp_client_quit(t->c, t->now);
		return;
	}
	t->body = bodies[(t->message / 3 + t->sent) % (sizeof bodies / sizeof bodies[0])];
	m.size = t->message & 4 ? t->body.n : 0;
	t->body_at = t->results = 0;
	t->all_taken = t->settled = false;
	t->sent++;
	if (psmtp_client_send(t->c, &m, t->now) == -1)
		psmtp_client_quit(t->c, t->now);
	assert(psmtp_client_send(t->c, &m, t->now) == -1); /* out of turn */
}

static void result(struct session *t, const struct psmtp_client_event *e)
{
	assert(!t->settled && e->rcpt_index < 1 + t->message % RCPTS && !(t->results & 1u << e->rcpt_index));
	t->results |= 1u << e->rcpt_index;
	assert(e->local || (e->reply.code >= 200 && e->reply.code <= 599));
	if (e->reply.code / 100 == 2) {
		assert(!e->local && t->all_taken);
		assert(psmtp_client_output(t->c).n == 0); /* the final dot had left */
	}
}

static void shake_hands(struct session *t)
{
	const struct psmtp_tls_facts facts = { TEXT("TLSv1.3"), TEXT("TLS_NULL") };
	struct psmtp_client_facts now;
	bool keep = t->keep;

	t->keep = false;
	write_out(t);
	t->keep = keep;
	t->handshake = false;
	if (t->fail_tls) {
		t->fail_tls = false;
		assert(psmtp_client_tls_failed(t->c, t->now) == 0);
		return;
	}
	if (psmtp_client_tls_up(t->c, &facts, t->now) == -1)
		return;
	t->epoch = 2;
	psmtp_client_get_facts(t->c, &now);
	assert(t->memory.fail_at ||
	       (now.tls && !now.ehlo && !now.auth.n && !now.hello.n && !now.size_limit && !now.starttls));
}

static void tell(struct session *t, const struct psmtp_client_event *e)
{
	static unsigned turn;

	unmarked(t, e->reply.text);
	assert(!t->closed);
	switch (e->type) {
	case PSMTP_CLIENT_READY:
		assert(!t->failed && (t->epoch == 2 || !t->owed));
		begin(t);
		break;
	case PSMTP_CLIENT_TLS_START:
		assert(t->epoch == 1 && t->o.tls != PSMTP_CLIENT_TLS_NONE && !t->handshake);
		t->handshake = true;
		break;
	case PSMTP_CLIENT_TLS_REFUSED: assert(t->o.tls == PSMTP_CLIENT_TLS_MAY && e->reason); break;
	case PSMTP_CLIENT_AUTH:
		assert(t->o.auth_mechanism.n && (t->epoch == 2 || t->o.auth_in_clear));
		turn = t->message + t->events;
		psmtp_client_auth_answer(t->c, (struct psmtp_view){ "\0user\0pass", turn % 3 ? 10 : 0 }, turn % 7 == 6,
					 t->now);
		break;
	case PSMTP_CLIENT_RCPT: assert(e->rcpt_index < 1 + t->message % RCPTS); break;
	case PSMTP_CLIENT_BODY: t->writing = true; break;
	case PSMTP_CLIENT_RESULT: result(t, e); break;
	case PSMTP_CLIENT_DONE:
		assert(t->results == (1u << (1 + t->message % RCPTS)) - 1);
		t->settled = true;
		t->writing = false;
		break;
	case PSMTP_CLIENT_FAILED:
		assert(!t->failed && e->reason && e->fault);
		t->failed = true;
		t->writing = false;
		break;
	case PSMTP_CLIENT_CLOSE: t->closed = true; break;
	}
}

static void drain(struct session *t)
{
	struct psmtp_client_event e;

	do {
		size_t before;

		while (psmtp_client_next(t->c, &e, t->now)) {
			assert(++t->events < EVENTS_MAX);
			tell(t, &e);
		}
		do {
			before = t->body_at;
			write_body(t);
			write_out(t);
		} while (t->writing && t->body_at != before);
		if (t->handshake)
			shake_hands(t);
	} while (psmtp_client_next(t->c, &e, t->now) ? tell(t, &e), true : t->handshake);
	assert(t->closed || psmtp_client_deadline(t->c) != UINT64_MAX || (t->ready && !t->failed));
}

static void feed(struct session *t)
{
	char piece[1024];
	size_t n = 0, at = 0;

	while (n < sizeof piece && n < t->rest.n && t->rest.p[n] < ORDER_IDLE) {
		char c = (char)t->rest.p[n];

		piece[n++] = c == 'j' || c == 'J' ? (t->epoch == 1 ? 'J' : 'k') : c;
	}
	input_take(&t->rest, n);
	while (at < n && !t->closed) { /* octets that came in clear stay octets that came in clear */
		bool marked = memchr(piece + at, 'J', n - at) != NULL;
		size_t took =
			psmtp_client_feed(t->c, t->epoch == 2 && marked ? 1 : t->epoch, piece + at, n - at, t->now);
		unsigned before = t->events;

		assert(took <= n - at);
		at += took;
		drain(t);
		if (!took && before == t->events)
			break;
	}
}

static void obey(struct session *t, unsigned order)
{
	if (order == ORDER_TIME) {
		t->now += (uint64_t)input_byte(&t->rest) * 4000;
		if (psmtp_client_deadline(t->c) <= t->now)
			psmtp_client_timeout(t->c, t->now);
	} else if (order == ORDER_EOF)
		psmtp_client_peer_closed(t->c, t->now);
	else if (order == ORDER_ABORT && t->writing) {
		psmtp_client_body_abort(t->c, t->now);
		t->writing = false;
	} else if (order == ORDER_CLEAR && t->epoch == 2)
		psmtp_client_feed(t->c, 1, "250 J\r\n", 7, t->now); /* ends the session */
	else if (order == ORDER_KEEP)
		t->keep = !t->keep;
	else if (order == ORDER_TLS_FAILS)
		t->fail_tls = true;
	else if (order == ORDER_IDLE)
		psmtp_client_idle(t->c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	unsigned first = input_byte(&in), second = input_byte(&in);
	struct session t = { .epoch = 1, .now = 1000 };
	struct psmtp_allocator memory = { input_resize, &t.memory };

	for (size_t i = 0; !large[0] && i < sizeof large; i++)
		large[sizeof large - 1 - i] = "body\r\n..\r"[i % 9];
	t.message = input_byte(&in);
	t.memory.fail_at = input_byte(&in);
	t.o = (struct psmtp_client_options){ .hello = TEXT("client.test"),
					     .lmtp = first & 4,
					     .tls = 1 + first % 4,
					     .no_pipelining = first & 8,
					     .no_chunking = first & 16,
					     .auth_in_clear = first & 32,
					     .reply_limit = 2000,
					     .reply_lines = second & 1 ? 3 : 0,
					     .auth_mechanism = { second & 2 ? "PLAIN" : "LOGIN", second & 4 ? 5 : 0 } };
	t.owed = t.o.tls == PSMTP_CLIENT_TLS_MUST || t.o.tls == PSMTP_CLIENT_TLS_IMPLICIT;
	t.rest = in;
	t.c = psmtp_client_new(&t.o, &memory, t.now);
	if (t.c) {
		t.handshake = t.o.tls == PSMTP_CLIENT_TLS_IMPLICIT;
		drain(&t);
		while (t.rest.n && !t.closed) {
			if (t.rest.p[0] >= ORDER_IDLE)
				obey(&t, input_byte(&t.rest));
			else
				feed(&t);
			drain(&t);
		}
		t.keep = false;
		drain(&t);
		psmtp_client_peer_closed(t.c, t.now);
		drain(&t);
		assert(t.closed);
	}
	psmtp_client_free(t.c);
	assert(t.memory.blocks == 0);
	return 0;
}
