/* server.c - the server machine between a hostile client and a caller who says yes and no as the input wants.
 *
 * Input: HEAD octets (options, switches, the request of memory that fails, seeds of verdicts), then what the client
 * says.  Octets from 0xf8 on are orders to the driver (enum order); they stand in no UTF-8 text.
 *
 * Judged: every line of output is a reply; 354 only for recipients that were accepted; "Message accepted" only for a
 * yes to BODY_END; no question out of its order; nothing said in epoch 1 appears in epoch 2; every wait has a deadline;
 * every session can be closed; no memory is left.  What is said in epoch 1 is marked: its j are made J, and those of
 * epoch 2 are made k (no word of SMTP holds either).
 */
#include "input.h"

#include <psmtp.h>

#define VERDICTS       8
#define EVENTS_MAX     200000 /* of one input: more is a loop */
#define LINE_MAX_REPLY 512u

enum order {
	ORDER_CUT = 0xff,
	ORDER_TIME = 0xfe,
	ORDER_EOF = 0xfd,
	ORDER_SHUTDOWN = 0xfc,
	ORDER_CLEAR = 0xfb,
	ORDER_KEEP = 0xfa,
	ORDER_TLS_FAILS = 0xf9,
	ORDER_IDLE = 0xf8
};

struct session {
	struct psmtp_server *s;
	struct psmtp_server_options o;
	struct input_memory memory;
	uint8_t verdicts[VERDICTS];
	unsigned verdict_at, events;
	unsigned epoch;
	uint64_t now;
	bool closed, handshake, fail_tls, keep;
	/* as the caller knows it */
	bool hello, mail, body, binary;
	uint32_t rcpts;
	unsigned starts, kept; /* yes to BODY_BEGIN of DATA, to BODY_END: lines of output that may come */
	struct input rest;     /* what the client said behind what was fed: for the question STARTTLS */
	char line[LINE_MAX_REPLY + 1];
	size_t line_n;
	char last[64]; /* the octets fed last */
};

static void check_line(struct session *t)
{
	struct view v = view_of(t->line, t->line_n);

	assert(v.n >= 5 && v.p[v.n - 2] == '\r' && v.p[0] >= '2' && v.p[0] <= '5');
	assert(v.p[3] == ' ' || v.p[3] == '-' || (v.n == 5 && v.p[3] == '\r'));
	for (size_t i = 0; i + 2 < v.n; i++)
		assert(v.p[i] >= ' ' && v.p[i] <= '~' && v.p[i] != 'J'); /* no marker: the peer is never echoed */
	if (memcmp(v.p, "354", 3) == 0)
		assert(t->starts-- > 0);
	if (input_holds(v, "Message accepted"))
		assert(t->kept-- > 0 && memcmp(v.p, "250", 3) == 0);
}

static void write_out(struct session *t)
{
	struct psmtp_view out = psmtp_server_output(t->s);
	size_t n = out.n;

	if (t->keep && n)
		n = n / 2;
	for (size_t i = 0; i < n; i++) {
		assert(t->line_n < LINE_MAX_REPLY);
		t->line[t->line_n++] = out.p[i];
		if (out.p[i] == '\n') {
			check_line(t);
			t->line_n = 0;
		}
	}
	psmtp_server_sent(t->s, n, t->now);
}

/* In epoch 2 nothing said in epoch 1 is handled. */
static void unmarked(const struct session *t, struct psmtp_view v)
{
	assert(t->epoch == 1 || !v.n || (!memchr(v.p, 'J', v.n) && !memchr(v.p, 'j', v.n)));
}

static bool feed_some(struct session *t)
{
	char piece[1024];
	size_t n = 0, took;

	while (n < sizeof piece && n < t->rest.n && t->rest.p[n] < ORDER_IDLE) {
		char c = (char)t->rest.p[n];

		piece[n++] = c == 'j' || c == 'J' ? (t->epoch == 1 ? 'J' : 'k') : c;
	}
	took = psmtp_server_feed(t->s, t->epoch, piece, n, t->now);
	assert(took <= n);
	for (size_t i = took > sizeof t->last ? took - sizeof t->last : 0; i < took; i++) {
		memmove(t->last, t->last + 1, sizeof t->last - 1);
		t->last[sizeof t->last - 1] = piece[i];
	}
	input_take(&t->rest, took);
	return took > 0;
}

/* Asked about STARTTLS: is anything behind its line?  When the last line is another, there surely is. */
static bool bytes_behind(const struct session *t)
{
	struct view v = view_of(t->last, sizeof t->last);
	size_t from;

	if (v.p[v.n - 1] != '\n' || v.p[v.n - 2] != '\r')
		return true;
	v = view_trim(view_slice(v, 0, v.n - 2));
	for (from = v.n; from && v.p[from - 1] != '\n';)
		from--;
	return from && !view_eq_nocase(view_slice(v, from, v.n), VIEW("STARTTLS"));
}

/* The order of a session, as the caller sees it from the questions alone. */
static void check_question(struct session *t, const struct psmtp_server_event *e)
{
	bool lenient = t->epoch == 2 && t->o.switches & PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL;

	switch (e->type) {
	case PSMTP_SERVER_STARTTLS: assert(t->epoch == 1 && t->hello && !t->mail && t->o.tls != PSMTP_TLS_NONE); break;
	case PSMTP_SERVER_AUTH:
	case PSMTP_SERVER_AUTH_DATA: assert(t->o.auth.n && (t->epoch == 2 || t->o.auth_in_clear) && !t->mail); break;
	case PSMTP_SERVER_MAIL:
		assert((t->hello || lenient) && !t->mail && (t->epoch == 2 || t->o.tls != PSMTP_TLS_REQUIRED));
		unmarked(t, e->mail->sender.text);
		break;
	case PSMTP_SERVER_RCPT:
		assert(t->mail && !t->body && e->rcpt_index == t->rcpts && e->rcpt_count == t->rcpts);
		unmarked(t, e->rcpt->recipient.text);
		break;
	case PSMTP_SERVER_BODY_BEGIN: assert(t->mail && !t->body && t->rcpts); break;
	case PSMTP_SERVER_BODY_END:
		assert(t->mail && t->body && e->rcpt_count == t->rcpts && e->rcpt_index < t->rcpts);
		break;
	default: unmarked(t, e->hello);
	}
}

/* What a yes changes, and what a no ends. */
static void note(struct session *t, const struct psmtp_server_event *e, bool yes)
{
	switch (e->type) {
	case PSMTP_SERVER_HELLO:
		t->hello = t->hello || yes;
		t->mail = t->mail && !yes;
		break;
	case PSMTP_SERVER_MAIL:
		t->mail = yes;
		t->rcpts = 0;
		t->binary = yes && e->mail->body == PSMTP_BODY_BINARYMIME;
		assert(!t->binary || t->o.binarymime);
		break;
	case PSMTP_SERVER_RCPT:
		t->rcpts += yes;
		assert(t->rcpts <= t->o.rcpt_limit);
		break;
	case PSMTP_SERVER_BODY_BEGIN:
		t->body = yes;
		t->starts += yes && !e->chunked;
		break;
	case PSMTP_SERVER_BODY_END:
		t->kept += yes;
		if (!t->o.lmtp || e->rcpt_index + 1 == t->rcpts)
			t->mail = t->body = false;
		break;
	default: break;
	}
}

static void answer(struct session *t, struct psmtp_server_event e)
{
	unsigned say = t->verdicts[t->verdict_at++ % VERDICTS];
	struct psmtp_verdict v = { .kind = PSMTP_YES, .identity = { "somebody", 8 } };
	struct psmtp_view out;
	bool more = e.type == PSMTP_SERVER_STARTTLS && bytes_behind(t), quiet;

	check_question(t, &e);
	if (e.type == PSMTP_SERVER_STARTTLS) /* the last read before the verdict */
		more = feed_some(t) || more;
	if (say % 8 == 7 && (e.type == PSMTP_SERVER_AUTH || e.type == PSMTP_SERVER_AUTH_DATA))
		v = (struct psmtp_verdict){ .kind = PSMTP_CHALLENGE, .challenge = { "who?", 4 } };
	else if (say % 8 >= 5)
		v = (struct psmtp_verdict){ .kind = say % 8 == 5 ? PSMTP_NO_TEMPORARY : PSMTP_NO_PERMANENT };
	if (v.kind != PSMTP_YES && v.kind != PSMTP_CHALLENGE && say & 64)
		v.reply = (struct psmtp_reply){ .code = say & 32       ? 421
							: say % 8 == 5 ? 450
								       : 554,
						.close = say & 128,
						.text = { "own\nwords \1\377", 12 } };
	if (say & 8) { /* a verdict that cannot be changes nothing */
		struct psmtp_verdict wrong = { .kind = PSMTP_YES, .reply = { .code = 550 } };

		assert(psmtp_server_answer(t->s, &wrong, t->now) == -1);
	}
	write_out(t);
	quiet = !psmtp_server_output(t->s).n;
	note(t, &e, v.kind == PSMTP_YES); /* before: the 354 and the 250 may be there at once */
	if (psmtp_server_answer(t->s, &v, t->now) == -1) {
		v = (struct psmtp_verdict){ .kind = PSMTP_NO_TEMPORARY };
		assert(v.kind != PSMTP_YES && psmtp_server_answer(t->s, &v, t->now) == 0);
	}
	assert(psmtp_server_answer(t->s, &v, t->now) == -1); /* one verdict each */
	out = psmtp_server_output(t->s);
	if (quiet && out.n && (v.kind == PSMTP_NO_TEMPORARY || v.kind == PSMTP_NO_PERMANENT))
		assert(out.p[0] == '4' || out.p[0] == '5');
	if (more && !(t->o.switches & PSMTP_SWITCH_STARTTLS_DISCARD))
		assert(!quiet || !out.n || out.p[0] != '2');
}

static void tell(struct session *t, const struct psmtp_server_event *e)
{
	struct psmtp_scan scan = { 0 };

	switch (e->type) {
	case PSMTP_SERVER_TLS_START:
		assert(t->epoch == 1 && !t->handshake && t->o.tls != PSMTP_TLS_NONE);
		t->handshake = true;
		break;
	case PSMTP_SERVER_BODY:
		assert(t->body && e->body.n);
		unmarked(t, e->body);
		psmtp_scan_bytes(&scan, e->body.p, e->body.n);
		assert(t->binary || !scan.has_nul);
		break;
	case PSMTP_SERVER_RESET:
		t->mail = t->body = false;
		t->rcpts = 0;
		break;
	case PSMTP_SERVER_REJECTED:
		assert(e->reply.code >= 400 && e->reason);
		unmarked(t, e->command);
		break;
	case PSMTP_SERVER_CLOSE:
		assert(!t->closed && e->reason);
		t->closed = true;
		break;
	default: answer(t, *e);
	}
}

static void shake_hands(struct session *t)
{
	const struct psmtp_tls_facts facts = { { "TLSv1.3", 7 }, { "TLS_NULL", 8 } };
	struct psmtp_server_facts now;
	bool keep = t->keep;

	t->keep = false;
	while (psmtp_server_output(t->s).n)
		write_out(t);
	t->keep = keep;
	t->handshake = false;
	if (t->fail_tls) {
		t->fail_tls = false;
		assert(psmtp_server_tls_failed(t->s, t->now) == 0);
		return;
	}
	if (psmtp_server_tls_up(t->s, &facts, t->now) == -1)
		return;
	assert(t->epoch == 1);
	t->epoch = 2;
	t->hello = t->mail = t->body = false;
	t->rcpts = 0;
	psmtp_server_get_facts(t->s, &now);
	assert((now.tls && !now.hello.n && !now.identity.n) || t->memory.fail_at);
}

static void drain(struct session *t)
{
	struct psmtp_server_event e;

	do {
		while (psmtp_server_next(t->s, &e, t->now)) {
			assert(++t->events < EVENTS_MAX && !t->closed);
			tell(t, &e);
			write_out(t);
		}
		write_out(t);
		if (!t->handshake)
			break;
		shake_hands(t);
	} while (true);
	assert(t->closed || psmtp_server_deadline(t->s) != UINT64_MAX);
}

static void obey(struct session *t, unsigned order)
{
	struct psmtp_reply later = { .code = 421, .enhanced = { 4, 3, 2 }, .text = { "later", 5 } };

	if (order == ORDER_TIME) {
		uint64_t deadline = psmtp_server_deadline(t->s);

		t->now += (uint64_t)input_byte(&t->rest) * 4000;
		if (!t->closed && deadline <= t->now)
			psmtp_server_timeout(t->s, t->now);
	} else if (order == ORDER_EOF)
		psmtp_server_peer_closed(t->s, t->now);
	else if (order == ORDER_SHUTDOWN)
		psmtp_server_shutdown(t->s, input_byte(&t->rest) & 1 ? &later : NULL, t->now);
	else if (order == ORDER_CLEAR && t->epoch == 2)
		psmtp_server_feed(t->s, 1, "J", 1, t->now); /* ends the session */
	else if (order == ORDER_KEEP)
		t->keep = !t->keep;
	else if (order == ORDER_TLS_FAILS)
		t->fail_tls = true;
	else if (order == ORDER_IDLE)
		psmtp_server_idle(t->s);
}

static void converse(struct session *t)
{
	while (t->rest.n && !t->closed) {
		if (t->rest.p[0] >= ORDER_IDLE)
			obey(t, input_byte(&t->rest));
		else if (!feed_some(t)) {
			size_t before = t->events;

			drain(t);
			assert(t->closed || before != t->events || feed_some(t)); /* it goes on, or it is over */
		}
		drain(t);
	}
	t->keep = false;
	if (!t->closed)
		psmtp_server_peer_closed(t->s, t->now);
	drain(t);
	assert(t->closed && !psmtp_server_output(t->s).n);
	psmtp_server_feed(t->s, t->epoch, "NOOP\r\n", 6, t->now);
	drain(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	unsigned first = input_byte(&in), second = input_byte(&in);
	struct session t = { .epoch = 1, .now = 1000 };
	struct psmtp_allocator memory = { input_resize, &t.memory };

	t.memory.fail_at = input_byte(&in);
	memcpy(t.verdicts, input_take(&in, VERDICTS).p, n >= 3 + VERDICTS ? VERDICTS : 0);
	t.o = (struct psmtp_server_options){ .hostname = { "mx.test", 7 },
					     .lmtp = first & 8,
					     .switches = first >> 4 & 3,
					     .tls = PSMTP_TLS_NONE + first % 5,
					     .bare = second & 1 ? PSMTP_BARE_NORMALISE : PSMTP_BARE_REJECT,
					     .binarymime = second & 2,
					     .no_chunking = second & 4,
					     .no_smtputf8 = second & 8,
					     .no_dsn = second & 16,
					     .auth = { "PLAIN LOGIN", second & 32 ? 11 : 0 },
					     .auth_in_clear = second & 64,
					     .size_limit = second & 128 ? 200 : 100000,
					     .rcpt_limit = 3,
					     .mail_limit = first & 64 ? 2 : 0,
					     .error_limit = first & 128 ? 3 : 0 };
	t.rest = in;
	t.s = psmtp_server_new(&t.o, &memory, t.now);
	if (t.s) {
		t.handshake = t.o.tls == PSMTP_TLS_IMPLICIT;
		if (t.handshake)
			shake_hands(&t);
		drain(&t);
		converse(&t);
	}
	psmtp_server_free(t.s);
	assert(t.memory.blocks == 0);
	return 0;
}
