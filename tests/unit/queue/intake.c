/* The door: hostile frames first, then messages of every shape. */
#include "harness.h"
#include "queue/intake.h"

#include <stdio.h>
#include <stdlib.h>

#define BODY "Subject: x\r\n\r\nhello\r\n"

/* ---- hostile frames: each ends the channel, nothing is kept, the queue lives on ---- */

static void expect_closed(struct harness *h)
{
	harness_run(h);
	assert_true(h->receive_closed);
	assert_int_equal(logged(h, "frame_refused", "peer=receive"), 1);
	assert_int_equal(h->accused, ROLE_RECEIVE); /* super ends it */
	assert_int_equal(stats(h).messages, 0);
	harness_receive(h);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	harness_free(h);
}

static void truncated_frames(void **state)
{
	static const uint32_t types[] = { WIRE_BODY_BEGIN, WIRE_BODY_BYTES, WIRE_BODY_ABORT, WIRE_BODY_SUBMIT };
	unsigned i, n;

	(void)state;
	for (i = 0; i < 4; i++)
		for (n = 0; n < 12; n += 3) {
			struct harness *h = harness_new(NULL);

			channel_send(h->receive, types[i],
				     view_of("\1\0\0\0\0\0\0\0\xff\xff\xff\xff", n == 9 ? 12 : n));
			expect_closed(h);
		}
}

static void foreign_frames(void **state)
{
	static const uint32_t types[] = { WIRE_OUTCOME, WIRE_DELIVER, WIRE_CHANNEL,  WIRE_COUNTERS,
					  WIRE_RESOLVE, 9999,         WIRE_BODY_DONE };
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof types / sizeof types[0]; i++) {
		struct harness *h = harness_new(NULL);

		channel_send(h->receive, types[i], VIEW("x"));
		expect_closed(h);
	}
}

static void stream_begun_twice(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	send_begin(h, 5);
	send_begin(h, 5);
	expect_closed(h);
}

static void unknown_stream(void **state)
{
	struct wire_BODY_ABORT abort_5 = { .stream = 5 };
	struct harness *h = harness_new(NULL);

	(void)state;
	send_bytes(h, 5, "x", 1);
	expect_closed(h);
	h = harness_new(NULL);
	wire_send_BODY_ABORT(h->receive, &abort_5);
	expect_closed(h);
	h = harness_new(NULL);
	send_submit(h, 5, &(struct submit){ .rcpts = { "a@relay.test" } });
	expect_closed(h);
}

static void beyond_credit(void **state)
{
	static char block[WIRE_BODY_FRAME + 1];
	struct harness *h = harness_new(NULL);
	unsigned i;

	(void)state;
	send_begin(h, 1);
	for (i = 0; i < WIRE_BODY_WINDOW / WIRE_BODY_FRAME + 1; i++) /* all in one turn: no grant can have come */
		send_bytes(h, 1, block, WIRE_BODY_FRAME);
	harness_run(h);
	/* grants are made as frames are taken: so a peer that ignores them may get away with it until it is far ahead
	 */
	for (i = 0; i < 1000 && !h->receive_closed; i++) {
		unsigned k;

		for (k = 0; k < 64 && h->receive; k++)
			send_bytes(h, 1, block, WIRE_BODY_FRAME);
		harness_run(h);
	}
	harness_free(h);
	h = harness_new(NULL);
	send_begin(h, 1);
	send_bytes(h, 1, block, WIRE_BODY_FRAME + 1);
	expect_closed(h);
}

static void bad_recipients(void **state)
{
	char big[QUEUE_BYTES_MAX];
	struct wire_BODY_SUBMIT m = { .stream = 1, .sender = VIEW("a@b"), .rcpts = VIEW("garbage") };
	struct harness *h = harness_new(NULL);

	(void)state;
	send_begin(h, 1);
	wire_send_BODY_SUBMIT(h->receive, &m);
	expect_closed(h);
	h = harness_new(NULL);
	send_begin(h, 1);
	m.rcpts = VIEW(""); /* none */
	wire_send_BODY_SUBMIT(h->receive, &m);
	expect_closed(h);
	h = harness_new(NULL);
	memset(big, 'a', 2000);
	big[2000] = '\0';
	send_begin(h, 1);
	send_submit(h, 1, &(struct submit){ .rcpts = { big } });
	expect_closed(h);
	h = harness_new(NULL);
	send_begin(h, 1);
	send_submit(h, 1, &(struct submit){ .sender = big, .rcpts = { "a@relay.test" } });
	expect_closed(h);
}

/* Each text of a submission once beyond its limit; a recipient without an address. */
static void texts_beyond_their_limits(void **state)
{
	static char big[5000];
	struct view longer = view_of(big, 600);

	(void)state;
	memset(big, 'a', sizeof big);
	for (unsigned which = 0; which < 6; which++) {
		struct harness *h = harness_new(NULL);
		struct wire_rcpt r = { .address = which == 0 ? VIEW("") : VIEW("a@relay.test"),
				       .orcpt = which == 1 ? longer : VIEW(""),
				       .orcpt_type = which == 2 ? view_of(big, 100) : VIEW("") };
		struct wire_BODY_SUBMIT m = { .stream = 1,
					      .sender = VIEW("a@b"),
					      .ret = 1,
					      .envid = which == 3 ? longer : VIEW(""),
					      .client = which == 4 ? longer : VIEW("c.test[192.0.2.7]"),
					      .prefix = which == 5 ? view_of(big, sizeof big) : VIEW("") };
		struct buf list;

		buf_init(&list, &alloc_libc, 1 << 20);
		assert_true(wire_rcpt_add(&list, &r));
		m.rcpts = buf_view(&list);
		send_begin(h, 1);
		wire_send_BODY_SUBMIT(h->receive, &m);
		buf_free(&list);
		expect_closed(h);
	}
}

static void streams_beyond_their_limit(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	for (uint64_t stream = 1; stream <= INTAKE_STREAMS_MAX + 1 && h->receive; stream++) {
		send_begin(h, stream);
		if (stream % 256 == 0)
			harness_run(h);
	}
	expect_closed(h);
}

/* ---- temporary refusals ---- */

static void too_large(void **state)
{
	struct harness *h = harness_new("message_size_limit = 1000\n");
	static char block[2000];

	(void)state;
	send_begin(h, 1);
	send_bytes(h, 1, block, sizeof block);
	send_bytes(h, 1, block, sizeof block); /* the rest is taken and thrown away */
	send_submit(h, 1, &(struct submit){ .sender = "a@b.test", .rcpts = { "a@relay.test" } });
	harness_run(h);
	assert_int_equal(h->done_n, 1);
	assert_int_equal(h->done[0].status, WIRE_DONE_FULL);
	assert_int_equal(stats(h).messages, 0);
	assert_int_equal(logged(h, "not_accepted", NULL), 1);
	harness_free(h);
}

static void loops(void **state)
{
	struct harness *h = harness_new("max_hops = 3\n");
	struct submit s = { .sender = "a@b.test", .rcpts = { "a@relay.test" } };

	(void)state;
	s.body = "Received: 1\r\nReceived: 2\r\nReceived: 3\r\nReceived: 4\r\n\r\nx\r\n";
	assert_int_equal(submit_done(h, &s, WIRE_DONE_LOOP), 0);
	assert_int_equal(logged(h, "not_accepted", "reason=loop"), 1);
	s.body = "Received: 1\r\nReceived: 2\r\nReceived: 3\r\n\r\nReceived: 4\r\n";
	submit_done(h, &s, WIRE_DONE_OK);
	harness_free(h);
}

static void abort_and_death(void **state)
{
	struct wire_BODY_ABORT m = { .stream = 1 };
	struct harness *h = harness_new(NULL);

	(void)state;
	send_begin(h, 1);
	send_bytes(h, 1, BODY, sizeof BODY - 1);
	wire_send_BODY_ABORT(h->receive, &m);
	send_begin(h, 2);
	send_bytes(h, 2, BODY, sizeof BODY - 1);
	harness_run(h);
	channel_free(h->receive); /* receive dies in the middle of a body */
	harness_receive(h);
	harness_run(h);
	assert_int_equal(stats(h).messages, 0);
	submit(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } });
	loop_turn(h->loop, false);
	channel_free(h->receive); /* and after the submit: it is accepted all the same */
	h->receive = NULL;
	harness_run(h);
	assert_int_equal(stats(h).messages, 1);
	harness_free(h);
}

/* ---- good messages ---- */

static void routes_and_groups(void **state)
{
	struct harness *h = harness_new(NULL);
	uint64_t id = submit_done(h,
				  &(struct submit){ .sender = "a@b.test",
						    .envid = "E1",
						    .ret = 2,
						    .rcpts = { "a@relay.test", "b@local.test", "c@RELAY.test",
							       "d@sink.test", "e@far.example", "Postmaster" } },
				  WIRE_DONE_OK);

	(void)state;
	assert_true(id);
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	harness_run(h);
	assert_int_equal(h->got_n, 3);
	assert_int_equal(logged(h, "discarded", "reason=configured"), 1);
	assert_int_equal(logged(h, "delivered", NULL), 5);
	assert_int_equal(logged(h, "accepted", "session=000000000000004d"), 1);
	assert_int_equal(stats(h).messages, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct got *g = &h->got[i];

		assert_int_equal(g->id, id);
		assert_string_equal(g->sender, "a@b.test");
		assert_string_equal(g->envid, "E1");
		assert_int_equal(g->ret, 2);
		assert_true(view_eq(got_body(g), VIEW("Received: by us\r\n" BODY)));
		if (!strcmp(g->dest, "smtp:127.0.0.1:2650")) {
			assert_int_equal(g->n, 2);
			assert_string_equal(g->rcpts[1], "c@RELAY.test");
		} else if (!strcmp(g->dest, "maildir:local.test")) {
			assert_int_equal(g->n, 2);
			assert_string_equal(g->rcpts[1], "Postmaster@local.test");
		} else
			assert_string_equal(g->dest, "mx:far.example");
	}
	harness_free(h);
}

/* The first attempt is made with the accept, from memory: no lease, no read. */
static void fast_path(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "a@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(h->got_n, 1);
	assert_true(h->got[0].last);
	assert_int_equal(stats(h).in_flight, 1);
	assert_int_equal(h->q->bytes_total, sizeof("Received: by us\r\n" BODY) - 1);
	say_ok(&h->got[0]);
	harness_run(h);
	assert_int_equal(stats(h).envelopes, 0);
	assert_int_equal(h->q->bytes_total, 0);
	harness_free(h);
}

static void take_ids(void *arg, enum spool_status status, const struct spool_envelope *e, size_t n)
{
	spool_id *id = arg;

	assert_int_equal(status, SPOOL_OK);
	assert_int_equal(n, 1);
	*id = e->id;
}

/* Only the spool knows the id: an answer that comes before it can only guess. */
static void the_answer_names_what_the_spool_holds(void **state)
{
	struct harness *h = harness_new(NULL);
	spool_id held = 0;
	uint64_t id;

	(void)state;
	id = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "a@relay.test" } }, WIRE_DONE_OK);
	spool_list(h->q->spool, 0, 0, VIEW(""), 10, take_ids, &held);
	spool_kick(h->q->spool);
	while (!held) {
		spool_step(h->q->spool);
		spool_dispatch(h->q->spool);
	}
	assert_true(id && id == held);
	harness_free(h);
}

static void hundreds_of_recipients(void **state)
{
	struct harness *h = harness_new(NULL);
	struct submit s = { .sender = "a@b.test" };
	static char names[150][32];
	unsigned i;

	(void)state;
	for (i = 0; i < 150; i++) {
		snprintf(names[i], sizeof names[i], "user%u@relay.test", i);
		s.rcpts[i] = names[i];
	}
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok);
	submit_done(h, &s, WIRE_DONE_OK);
	assert_int_equal(h->got_n, 2);
	assert_int_equal(h->got[0].n + h->got[1].n, 150);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void empty_body(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok);
	send_begin(h, 1);
	send_submit(h, 1, &(struct submit){ .sender = "a@b.test", .prefix = "", .rcpts = { "a@relay.test" } });
	harness_run(h);
	assert_int_equal(h->got_n, 1);
	assert_true(h->got[0].last && h->got[0].size == 0);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* A large body: credit both ways, no octet lost, none twice. */
static void large_body(void **state)
{
	enum { SIZE = 3000000 };
	struct harness *h = harness_new(NULL);
	char *body = malloc(SIZE);
	size_t i, sent = 0;

	(void)state;
	for (i = 0; i < SIZE; i++)
		body[i] = (char)('a' + (i * 7 + i / 1000) % 26);
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok);
	send_begin(h, 1);
	h->credit = WIRE_BODY_WINDOW;
	while (sent < SIZE) {
		size_t n = SIZE - sent < WIRE_BODY_FRAME ? SIZE - sent : WIRE_BODY_FRAME;

		if (h->credit < n) {
			harness_run(h);
			assert_true(h->credit >= n);
		}
		send_bytes(h, 1, body + sent, n);
		sent += n;
		h->credit -= (uint32_t)n;
	}
	send_submit(h, 1, &(struct submit){ .sender = "a@b.test", .prefix = "P\r\n", .rcpts = { "a@relay.test" } });
	for (i = 0; i < 20; i++)
		harness_run(h);
	assert_int_equal(h->got_n, 1);
	assert_true(h->got[0].answered);
	assert_int_equal(buf_len(&h->got[0].body), SIZE + 3);
	assert_memory_equal(got_body(&h->got[0]).p + 3, body, SIZE);
	assert_int_equal(stats(h).messages, 0);
	free(body);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(truncated_frames),   cmocka_unit_test(foreign_frames),
		cmocka_unit_test(stream_begun_twice), cmocka_unit_test(unknown_stream),
		cmocka_unit_test(beyond_credit),      cmocka_unit_test(bad_recipients),
		cmocka_unit_test(texts_beyond_their_limits), cmocka_unit_test(streams_beyond_their_limit),
		cmocka_unit_test(too_large),          cmocka_unit_test(loops),
		cmocka_unit_test(abort_and_death),    cmocka_unit_test(routes_and_groups),
		cmocka_unit_test(fast_path),          cmocka_unit_test(the_answer_names_what_the_spool_holds), cmocka_unit_test(hundreds_of_recipients),
		cmocka_unit_test(empty_body),         cmocka_unit_test(large_body),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
