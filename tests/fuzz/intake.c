/* intake.c - the queue between a hostile receive, a hostile send and a hostile local: frames in any order, with any
 * content.
 *
 * Input: orders (enum order), each with its arguments.  The whole queue runs in one thread on the memory spool
 * (tests/unit/queue/harness.h).
 *
 * Judged: a submission is answered once at most; what is answered OK is in the spool or was settled; a frame that
 * breaks the rules ends the channel and nothing else: another receive is served as before.
 */
#include "input.h"

#include "../unit/queue/harness.h"

#include <stdio.h>

#define ORDERS_MAX 60
#define STREAMS    3
#define TEXT_LIMIT 90 /* of what the harness keeps in its own small arrays */
#define RAW_LIMIT  120

enum order {
	DO_BEGIN = 0,
	DO_BYTES,
	DO_SUBMIT,
	DO_ABORT,
	DO_RAW,
	DO_RUN,
	DO_PASS,
	DO_RECEIVE,
	DO_OUTCOME,
	DO_RAW_OUTCOME,
	DO_PEER,
	DO_CREDIT,
	DO_HANG_UP,
	DO_LOCAL,
	DO_END
};

static void begin(struct harness *h, struct input *in)
{
	struct wire_BODY_BEGIN m = { .stream = input_byte(in) % STREAMS, .size_hint = input_u16(in) };

	if (h->receive)
		wire_send_BODY_BEGIN(h->receive, &m);
}

static void bytes(struct harness *h, struct input *in)
{
	struct wire_BODY_BYTES m = { .stream = input_byte(in) % STREAMS };

	m.bytes = input_text(in);
	if (h->receive)
		wire_send_BODY_BYTES(h->receive, &m);
}

static bool submit_one(struct harness *h, struct input *in)
{
	static const char *const domains[] = { "relay.test", "sink.test", "local.test", "elsewhere.test" };
	unsigned options = input_byte(in);
	struct wire_BODY_SUBMIT m = { .stream = input_byte(in) % STREAMS,
				      .prefix = VIEW("Received: by us\r\n"),
				      .sender = VIEW("s@a.test"),
				      .ret = (uint8_t)(options & 3),
				      .session = 77,
				      .flags = options >> 2 };
	struct buf list;

	buf_init(&list, &alloc_libc, 1 << 20);
	if (options & 4)
		m.sender = input_text(in);
	if (options & 8)
		m.prefix = input_text(in);
	if (options & 16)
		m.envid = view_slice(input_text(in), 0, TEXT_LIMIT);
	if (options & 32) {
		m.rcpts = view_slice(input_text(in), 0, 2 * TEXT_LIMIT);
	} else {
		for (unsigned n = 1 + options / 64; n--;) {
			char address[64];
			unsigned who = input_byte(in);
			struct wire_rcpt r = { .notify = (uint8_t)(who >> 4), .orcpt_type = VIEW("rfc822") };

			snprintf(address, sizeof address, "u%u@%s", who, domains[who % 4]);
			r.address = view_cstr(address);
			r.orcpt = who & 8 ? input_text(in) : view_of("", 0);
			wire_rcpt_add(&list, &r);
		}
		m.rcpts = buf_view(&list);
	}
	if (h->receive)
		wire_send_BODY_SUBMIT(h->receive, &m);
	buf_free(&list);
	return h->receive != NULL;
}

/* The newest delivery that is not answered; its peer may be gone. */
static struct got *open_got(struct harness *h)
{
	for (unsigned i = h->got_n < GOT_MAX ? h->got_n : GOT_MAX; i-- > 0;)
		if (!h->got[i].answered && h->got[i].last)
			return &h->got[i];
	return NULL;
}

static void outcome(struct harness *h, struct input *in)
{
	struct got *g = open_got(h);
	unsigned options = input_byte(in);
	struct buf list;

	if (!g)
		return;
	buf_init(&list, &alloc_libc, 1 << 20);
	for (uint32_t i = 0; i < g->n + (options == 255); i++) {
		unsigned kind = input_byte(in);
		struct wire_result r = { .kind = (uint8_t)(kind % 5),
					 .code = (uint16_t)(kind & 8 ? 550 : kind * 7),
					 .enhanced = { (uint16_t)(kind & 7), 1, (uint16_t)(kind * 300) },
					 .local = kind & 128 };

		r.text = kind & 16 ? input_text(in) : VIEW("their words");
		r.remote = kind & 32 ? input_text(in) : VIEW("next.test[192.0.2.1]:25");
		wire_result_add(&list, &r);
	}
	answer_list_send(g, &list, options & 1, options & 2, options & 4);
}

/* Any frame from send or local, also for streams that are not, or are the other's. */
static void raw_outcome(struct harness *h, struct input *in)
{
	unsigned what = input_byte(in);
	struct fake *from = what & 128 ? &h->local : &h->send;
	uint32_t type = 1 + what % 128 % (WIRE_END + 2);
	struct view payload = input_text(in);

	if (from->channel)
		channel_send(from->channel, type, payload);
}

static void peer(struct harness *h, enum role_kind kind, unsigned how)
{
	static script *const scripts[] = { NULL, say_ok, say_temporary, say_permanent, say_host_failed };
	struct fake *f = kind == ROLE_LOCAL ? &h->local : &h->send;

	if (f->channel || f->closed) { /* the old one goes, as when the role was restarted */
		for (unsigned i = 0; i < h->got_n && i < GOT_MAX; i++)
			if (h->got[i].peer == f)
				h->got[i].answered = true;
		if (f->channel)
			channel_free(f->channel);
	}
	harness_connect(h, f, kind, 1, scripts[how % 5]);
}

/* A new receive is served, whatever the others did. */
static void serve_another(struct harness *h)
{
	static const struct submit good = { .sender = "s@a.test", .rcpts = { "x@sink.test" } };
	unsigned before;

	if (h->receive)
		channel_free(h->receive);
	harness_run(h);
	harness_receive(h);
	before = h->done_n;
	h->next_stream = 1000;
	submit(h, &good);
	harness_run(h);
	assert(h->done_n == before + 1 && h->done[before < GOT_MAX ? before : 0].status == WIRE_DONE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	struct harness *h = harness_new(NULL);
	unsigned submits = 0, orders = 0;

	peer(h, ROLE_SEND, 0);
	while (in.n && orders++ < ORDERS_MAX) {
		switch ((enum order)(input_byte(&in) % DO_END)) {
		case DO_BEGIN: begin(h, &in); break;
		case DO_BYTES: bytes(h, &in); break;
		case DO_SUBMIT: submits += submit_one(h, &in); break;
		case DO_ABORT:
			if (h->receive)
				wire_send_BODY_ABORT(h->receive,
						     &(struct wire_BODY_ABORT){ .stream = input_byte(&in) % STREAMS });
			break;
		case DO_RAW: {
			uint32_t type = 1 + input_byte(&in) % (WIRE_END + 2);
			struct view payload = view_slice(input_text(&in), 0, RAW_LIMIT);

			if (h->receive)
				channel_send(h->receive, type, payload);
			submits += type == WIRE_BODY_SUBMIT;
			break;
		}
		case DO_RUN: harness_run(h); break;
		case DO_PASS: harness_pass(h, input_byte(&in) * 1000); break;
		case DO_RECEIVE:
			if (h->receive)
				channel_free(h->receive);
			h->receive = NULL;
			harness_run(h);
			harness_receive(h);
			break;
		case DO_OUTCOME: outcome(h, &in); break;
		case DO_RAW_OUTCOME: raw_outcome(h, &in); break;
		case DO_PEER: peer(h, ROLE_SEND, input_byte(&in)); break;
		case DO_CREDIT:
			if (h->send.channel)
				wire_send_DELIVER_CREDIT(h->send.channel, &(struct wire_DELIVER_CREDIT){
										  .stream = input_byte(&in),
										  .bytes = input_u16(&in) << 16 });
			break;
		case DO_LOCAL: peer(h, ROLE_LOCAL, input_byte(&in)); break;
		case DO_HANG_UP:
		case DO_END: peer(h, ROLE_SEND, 0); break;
		}
	}
	harness_run(h);
	assert(h->done_n <= submits);
	for (unsigned i = 0; i < h->done_n && i < GOT_MAX; i++)
		assert((h->done[i].status == WIRE_DONE_OK) == (h->done[i].id != 0));
	serve_another(h);
	harness_free(h);
	return 0;
}
