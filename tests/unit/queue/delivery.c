/* One attempt and what comes of it: outcomes, reports by NOTIFY, null senders, expiry, peers that die or are replaced.
 */
#include "harness.h"

#include <psmtp.h>
#include <stdio.h>
#include <stdlib.h>

#define MINUTE 60000
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static bool contains(struct view v, const char *text)
{
	return v.n && memmem(v.p, v.n, text, strlen(text)) != NULL;
}

/* The only delivery to this recipient, or NULL. */
static struct got *to(struct harness *h, const char *address)
{
	unsigned i;

	for (i = 0; i < h->got_n && i < GOT_MAX; i++)
		if (!strcmp(h->got[i].rcpts[0], address))
			return &h->got[i];
	return NULL;
}

/* ---- hostile peers ---- */

static void bad_frame(void (*send)(struct harness *))
{
	struct harness *h = harness_new(NULL);

	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test", "y@relay.test" } },
		    WIRE_DONE_OK);
	send(h);
	harness_run(h);
	assert_true(h->send.closed);
	assert_int_equal(logged(h, "frame_refused", "peer=send"), 1);
	assert_int_equal(logged(h, "delivery_lost", NULL), 1);
	assert_int_equal(h->accused, ROLE_SEND);
	assert_int_equal(stats(h).messages, 1);
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok); /* and the mail goes by the next one */
	harness_run(h);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void outcome_garbage(struct harness *h)
{
	channel_send(h->send.channel, WIRE_OUTCOME, VIEW("x"));
}
static void foreign(struct harness *h)
{
	channel_send(h->send.channel, WIRE_BODY_BEGIN, VIEW(""));
}
static void endless_credit(struct harness *h)
{
	struct wire_DELIVER_CREDIT m = { .stream = h->got[0].stream, .bytes = WIRE_BODY_WINDOW };

	wire_send_DELIVER_CREDIT(h->send.channel, &m);
}
static void results(struct harness *h, unsigned n, uint8_t kind)
{
	struct wire_result r = { .kind = kind, .code = 250 };
	struct buf list;

	answer_list(&list);
	while (n--)
		wire_result_add(&list, &r);
	answer_list_send(&h->got[0], &list, false, false, false);
}
static void too_few(struct harness *h)
{
	results(h, 1, WIRE_DELIVERED);
}
static void too_many(struct harness *h)
{
	results(h, 3, WIRE_DELIVERED);
}
static void odd_kind(struct harness *h)
{
	results(h, 2, 9);
}

static void hostile_frames(void **state)
{
	(void)state;
	bad_frame(outcome_garbage);
	bad_frame(foreign);
	bad_frame(endless_credit);
	bad_frame(too_few);
	bad_frame(too_many);
	bad_frame(odd_kind);
}

static void outcome_of_nothing(void **state)
{
	struct harness *h = harness_new(NULL);
	struct got none = { .h = h, .peer = &h->send, .stream = 4711 };
	struct buf list;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok);
	answer_list(&list);
	answer_list_send(&none, &list, false, false, false); /* a stream that was aborted may still be answered */
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	assert_false(h->send.closed);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* ---- mixed outcomes ---- */

static void say_mixed(struct got *g)
{
	struct wire_result ok = { .kind = WIRE_DELIVERED,
				  .code = 250,
				  .text = VIEW("2.0.0 fine"),
				  .remote = VIEW("next.test[192.0.2.1]:25") },
			   no = { .kind = WIRE_FAILED,
				  .code = 550,
				  .enhanced = { 5, 1, 1 },
				  .text = VIEW("5.1.1 no user"),
				  .remote = VIEW("next.test[192.0.2.1]:25") },
			   later = { .kind = WIRE_DEFERRED,
				     .code = 452,
				     .enhanced = { 4, 2, 2 },
				     .text = VIEW("4.2.2 full"),
				     .remote = VIEW("next.test[192.0.2.1]:25") };
	struct buf list;

	answer_list(&list);
	if (g->n == 3) {
		wire_result_add(&list, &ok);
		wire_result_add(&list, &no);
		wire_result_add(&list, &later);
	} else
		wire_result_add(&list, &ok);
	answer_list_send(g, &list, false, false, false);
}

static void mixed(void **state)
{
	struct harness *h = harness_new(NULL);
	struct got *report;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_mixed);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	submit_done(h,
		    &(struct submit){ .sender = "boss@local.test",
				      .rcpts = { "a@relay.test", "b@relay.test", "c@relay.test" } },
		    WIRE_DONE_OK);
	assert_int_equal(logged(h, "delivered", "to=a@relay.test"), 1);
	assert_int_equal(logged(h, "failed", "to=b@relay.test"), 1);
	assert_int_equal(logged(h, "deferred", "to=c@relay.test"), 1);
	assert_int_equal(logged(h, "bounced", "kind=failed"), 1);
	assert_int_equal(logged(h, "report_queued", "of="), 1);
	report = to(h, "boss@local.test");
	assert_non_null(report);
	assert_string_equal(report->sender, "");
	assert_int_equal(report->notify[0], PSMTP_NOTIFY_NEVER);
	assert_true(
		contains(got_body(report), "Final-Recipient: rfc822; b@relay.test\r\nAction: failed\r\nStatus: 5.1.1"));
	assert_true(contains(got_body(report), "Diagnostic-Code: smtp; 550 5.1.1 no user"));
	assert_true(contains(got_body(report), "Content-Type: message/rfc822"));
	assert_true(contains(got_body(report), "Received: by us\r\nSubject: x\r\n\r\nhello\r\n"));
	assert_false(contains(got_body(report), "c@relay.test"));
	assert_int_equal(stats(h).messages, 1);
	harness_pass(h, 10 * MINUTE);
	assert_int_equal(h->got_n, 3);
	assert_int_equal(h->got[2].n, 1);
	assert_string_equal(h->got[2].rcpts[0], "c@relay.test");
	assert_int_equal(h->got[2].attempts, 1);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* ---- NOTIFY: who is told what (RFC 3461 4.1) ---- */

static unsigned reports(uint8_t notify, const char *rcpt, script *s, bool dsn_hop, const char *action)
{
	struct harness *h = harness_new(NULL);
	struct got *report;
	unsigned n;

	harness_connect(h, &h->send, ROLE_SEND, 1, s);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, strstr(rcpt, "local") ? s : say_ok);
	(void)dsn_hop;
	submit_done(h,
		    &(struct submit){ .sender = "boss@lmtp.test",
				      .notify = notify,
				      .envid = "EN",
				      .orcpt = "orig@x.test",
				      .rcpts = { rcpt } },
		    WIRE_DONE_OK);
	report = to(h, "boss@lmtp.test");
	if (report) {
		assert_true(contains(got_body(report), action));
		assert_true(contains(got_body(report), "Original-Envelope-Id: EN"));
		assert_true(contains(got_body(report), "Original-Recipient: rfc822; orig@x.test"));
	}
	n = logged(h, "bounced", NULL);
	harness_free(h);
	return n;
}

static void say_permanent_once(struct got *g)
{
	if (g->sender[0])
		say_permanent(g);
	else
		say_ok(g);
}

static void say_ok_dsn(struct got *g)
{
	struct wire_result ok = { .kind = WIRE_DELIVERED, .code = 250 };
	struct buf list;

	answer_list(&list);
	wire_result_add(&list, &ok);
	answer_list_send(g, &list, false, false, true);
}

static void notify(void **state)
{
	(void)state;
	/* failures */
	assert_int_equal(reports(0, "a@relay.test", say_permanent_once, false, "Action: failed"), 1);
	assert_int_equal(reports(PSMTP_NOTIFY_NEVER, "a@relay.test", say_permanent_once, false, ""), 0);
	assert_int_equal(reports(PSMTP_NOTIFY_FAILURE, "a@relay.test", say_permanent_once, false, "Action: failed"), 1);
	assert_int_equal(
		reports(PSMTP_NOTIFY_SUCCESS | PSMTP_NOTIFY_DELAY, "a@relay.test", say_permanent_once, false, ""), 0);
	/* successes */
	assert_int_equal(reports(0, "a@relay.test", say_ok, false, ""), 0);
	assert_int_equal(reports(PSMTP_NOTIFY_FAILURE, "a@relay.test", say_ok, false, ""), 0);
	assert_int_equal(reports(PSMTP_NOTIFY_SUCCESS, "a@relay.test", say_ok, false, "Action: relayed"), 1);
	assert_int_equal(reports(PSMTP_NOTIFY_SUCCESS, "a@relay.test", say_ok_dsn, true, ""), 0);
	assert_int_equal(reports(PSMTP_NOTIFY_SUCCESS, "a@local.test", say_ok, false, "Action: delivered"), 1);
	assert_int_equal(reports(PSMTP_NOTIFY_SUCCESS | PSMTP_NOTIFY_FAILURE, "a@local.test", say_permanent_once, false,
				 "Action: failed"),
			 1);
	assert_int_equal(reports(PSMTP_NOTIFY_SUCCESS, "a@sink.test", say_ok, false, ""),
			 0); /* discard delivers nothing */
}

static void ret_headers(void **state)
{
	struct harness *h = harness_new(NULL);
	struct got *report;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_permanent);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	submit_done(h,
		    &(struct submit){ .sender = "boss@local.test", .ret = PSMTP_RET_HDRS, .rcpts = { "a@relay.test" } },
		    WIRE_DONE_OK);
	report = to(h, "boss@local.test");
	assert_true(contains(got_body(report), "text/rfc822-headers"));
	assert_true(contains(got_body(report), "Subject: x"));
	assert_false(contains(got_body(report), "hello"));
	harness_free(h);
}

static void utf8_report(void **state)
{
	struct harness *h = harness_new(NULL);
	struct got *report;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_permanent);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	submit_done(h,
		    &(struct submit){ .sender = "boss@local.test",
				      .flags = WIRE_SMTPUTF8 | WIRE_HAS_UTF8,
				      .rcpts = { "\xc3\xa9@relay.test" } },
		    WIRE_DONE_OK);
	report = to(h, "boss@local.test");
	assert_true(report->flags & WIRE_SMTPUTF8);
	assert_true(contains(got_body(report), "Final-Recipient: utf-8; \xc3\xa9@relay.test"));
	harness_free(h);
}

static void null_sender(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_permanent);
	submit_done(h, &(struct submit){ .sender = "", .rcpts = { "a@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(logged(h, "discarded", "reason=null_sender"), 1);
	assert_int_equal(logged(h, "bounced", NULL), 0);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void double_bounce(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_permanent);
	submit_done(h, &(struct submit){ .sender = "nobody@relay.test", .rcpts = { "a@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(h->got_n, 2);
	assert_int_equal(logged(h, "bounced", NULL), 1);
	assert_int_equal(logged(h, "discarded", "reason=double_bounce"), 1);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* A next hop without 8BITMIME: octets above 127 fail with our own 5.6.3 (RFC 6152 3), all else is taken. */
static void say_seven_bits(struct got *g)
{
	struct wire_result r = { .kind = WIRE_FAILED, .code = 554, .enhanced = { 5, 6, 3 }, .text = VIEW("not offered"), .local = true };
	struct view body = got_body(g);
	struct buf list;
	size_t i;

	for (i = 0; i < body.n && (unsigned char)body.p[i] < 128; i++)
		;
	if (i == body.n && strcmp(g->rcpts[0], "a@relay.test") != 0) {
		say_ok(g);
		return;
	}
	answer_list(&list);
	assert_true(wire_result_add(&list, &r));
	answer_list_send(g, &list, false, false, false);
}

static void a_report_goes_without_octets_that_its_next_hop_does_not_take(void **state)
{
	struct harness *h = harness_new(NULL);
	struct view body;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_seven_bits);
	submit_done(h,
		    &(struct submit){ .sender = "author@relay.test", .flags = WIRE_HAS_8BIT, .body = "Subject: x\r\n\r\n\xe4\r\n",
				      .rcpts = { "a@relay.test" } },
		    WIRE_DONE_OK);
	assert_int_equal(h->got_n, 3);
	assert_string_equal(h->got[2].rcpts[0], "author@relay.test");
	assert_string_equal(h->got[2].sender, "");
	assert_false(h->got[2].flags & WIRE_HAS_8BIT);
	body = got_body(&h->got[2]);
	assert_true(contains(body, "Final-Recipient: rfc822; a@relay.test"));
	assert_true(contains(body, "Status: 5.6.3"));
	assert_true(contains(body, "Content-Transfer-Encoding: 7bit"));
	assert_false(contains(body, "8bit"));
	assert_false(contains(body, "message/rfc822"));
	assert_int_equal(logged(h, "bounced", "kind=shortened"), 1);
	assert_int_equal(logged(h, "discarded", NULL), 0);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void unroutable(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	submit_done(h, &(struct submit){ .sender = "boss@local.test", .rcpts = { "a@[x400:foo]" } }, WIRE_DONE_OK);
	assert_int_equal(logged(h, "failed", "to=a@[x400:foo]"), 1);
	assert_non_null(to(h, "boss@local.test"));
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* ---- time ---- */

static void retries_expiry_and_warning(void **state)
{
	struct harness *h = harness_new("lifetime = \"2d\"\n");
	struct got *report;
	unsigned attempts;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	submit_done(h, &(struct submit){ .sender = "boss@local.test", .rcpts = { "a@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(h->send.deliveries, 1);
	harness_pass(h, 3 * MINUTE);
	assert_int_equal(h->send.deliveries, 1);
	harness_pass(h, 4 * MINUTE);
	assert_int_equal(h->send.deliveries, 2);
	harness_pass(h, 3 * HOUR + 50 * MINUTE);
	assert_int_equal(logged(h, "bounced", NULL), 0);
	harness_pass(h, 12 * HOUR);
	assert_int_equal(logged(h, "bounced", "kind=delayed"), 1);
	report = to(h, "boss@local.test");
	assert_true(contains(got_body(report), "Action: delayed"));
	assert_true(contains(got_body(report), "Will-Retry-Until: "));
	assert_true(contains(got_body(report), "Status: 4."));
	harness_pass(h, DAY);
	assert_int_equal(logged(h, "bounced", "kind=delayed"), 1); /* once */
	assert_int_equal(logged(h, "expired", NULL), 0);
	harness_pass(h, 12 * HOUR);
	assert_int_equal(logged(h, "expired", "to=a@relay.test"), 1);
	assert_int_equal(logged(h, "bounced", "kind=failed"), 1);
	assert_int_equal(stats(h).messages, 0);
	attempts = (unsigned)h->send.deliveries;
	assert_true(attempts > 10 && attempts < 25);
	assert_true(contains(got_body(&h->got[h->got_n - 1]), "Status: 4.4.7"));
	harness_free(h);
}

static void notify_without_delay(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	submit_done(h,
		    &(struct submit){
			    .sender = "boss@local.test", .notify = PSMTP_NOTIFY_FAILURE, .rcpts = { "a@relay.test" } },
		    WIRE_DONE_OK);
	harness_pass(h, DAY);
	assert_int_equal(logged(h, "bounced", NULL), 0);
	harness_free(h);
}

/* A report lives shorter. */
static void report_expires(void **state)
{
	struct harness *h = harness_new("bounce_lifetime = \"6h\"\n");

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	submit_done(h, &(struct submit){ .sender = "", .rcpts = { "a@relay.test" } }, WIRE_DONE_OK);
	harness_pass(h, 12 * HOUR);
	assert_int_equal(logged(h, "expired", NULL), 1);
	assert_int_equal(logged(h, "discarded", "reason=null_sender"), 1);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* ---- peers that die or are replaced ---- */

static void send_dies(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	assert_true(h->got[0].last);
	channel_free(h->send.channel);
	h->send.channel = NULL;
	harness_run(h);
	assert_int_equal(logged(h, "delivery_lost", NULL), 1);
	assert_int_equal(stats(h).messages, 1);
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok);
	harness_run(h);
	assert_int_equal(logged(h, "maybe_duplicate", NULL), 1); /* it had the whole body */
	assert_int_equal(h->got_n, 2);
	assert_int_equal(h->got[1].attempts, 0);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void send_dies_again_and_again(void **state)
{
	struct harness *h = harness_new(NULL);
	unsigned i;

	(void)state;
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	for (i = 0; i < 20; i++) { /* a message that kills send must not keep it dying */
		harness_connect(h, &h->send, ROLE_SEND, i + 1, NULL);
		harness_run(h);
		channel_free(h->send.channel);
		h->send.channel = NULL;
		harness_pass(h, 1000);
	}
	assert_true(h->got_n < 6);
	harness_connect(h, &h->send, ROLE_SEND, 100, say_ok);
	harness_pass(h, HOUR);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void generations(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	harness_connect(h, &h->send2, ROLE_SEND, 2, say_ok);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "y@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(h->send.deliveries, 1);
	assert_int_equal(h->send2.deliveries, 1);
	assert_int_equal(stats(h).messages, 1);
	say_ok(&h->got[0]); /* the old one finishes what it has */
	harness_run(h);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void maybe_delivered(void **state)
{
	struct harness *h = harness_new(NULL);
	struct wire_result r = { .kind = WIRE_DEFERRED, .text = VIEW("lost connection"), .local = 1 };
	struct buf list;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	answer_list(&list);
	wire_result_add(&list, &r);
	answer_list_send(&h->got[0], &list, false, true, false);
	h->send.script = say_ok;
	harness_pass(h, 10 * MINUTE);
	assert_int_equal(logged(h, "maybe_duplicate", "attempts=1"), 1);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* The operator mends the configuration: queued mail goes the new way. */
static void reload_moves_mail(void **state)
{
	struct harness *h = harness_new(NULL);
	struct conf *old = h->conf;
	struct error e;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(conf_parse(&h->conf,
				    VIEW("hostname = \"mx.sink.test\"\nspool = \"/n\"\ncontrol = \"/c\"\n"
					 "listener \"mx\" { address = {\"127.0.0.1:2620\"} tls = none }\n"
					 "domain \"relay.test\" { deliver = \"smtp://127.0.0.1:9\" tls = encrypt }\n"),
				    "test", &e),
			 0);
	assert_int_equal(queue_role.reload(&h->role, h->conf, NULL, &e), 0);
	conf_free(old);
	h->send.script = say_ok;
	harness_pass(h, 10 * MINUTE);
	assert_int_equal(h->got_n, 2);
	assert_string_equal(h->got[1].dest, "smtp:127.0.0.1:9;tls=encrypt");
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* A level that was owed when the mail was queued is not lowered by a later configuration (design 1.3). */
static void reload_never_lowers_tls(void **state)
{
	static const char *const texts[] = {
		"hostname = \"mx.sink.test\"\nspool = \"/n\"\ncontrol = \"/c\"\n"
		"listener \"mx\" { address = {\"127.0.0.1:2620\"} tls = none }\n"
		"domain \"relay.test\" { deliver = \"smtp://127.0.0.1:9\" tls = encrypt }\n",
		"hostname = \"mx.sink.test\"\nspool = \"/n\"\ncontrol = \"/c\"\n"
		"listener \"mx\" { address = {\"127.0.0.1:2620\"} tls = none }\n"
		"domain \"relay.test\" { deliver = \"smtp://127.0.0.1:10\" tls = none source = \"127.0.0.1\" }\n",
	};
	struct harness *h = harness_new(NULL);
	struct error e;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	for (int i = 0; i < 2; i++) {
		struct conf *old = h->conf;
		assert_int_equal(conf_parse(&h->conf, view_cstr(texts[i]), "test", &e), 0);
		assert_int_equal(queue_role.reload(&h->role, h->conf, NULL, &e), 0);
		conf_free(old);
		if (i == 0)
			submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	}
	h->send.script = say_ok;
	harness_pass(h, 10 * MINUTE);
	assert_int_equal(h->got_n, 2);
	assert_string_equal(h->got[0].dest, "smtp:127.0.0.1:9;tls=encrypt");
	assert_string_equal(h->got[1].dest, "smtp:127.0.0.1:10;tls=encrypt;source=127.0.0.1");
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* ---- the end ---- */

static void drain_waits_for_deliveries(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	queue_role.drain(&h->role, 5000);
	harness_pass(h, 1000);
	assert_false(h->drained);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "y@relay.test" } },
		    WIRE_DONE_OK);               /* receive finishes, too */
	assert_int_equal(h->send.deliveries, 1); /* nothing new begins */
	say_ok(&h->got[0]);
	harness_pass(h, 1000);
	assert_true(h->drained);
	assert_int_equal(stats(h).messages, 1);
	harness_free(h);
}

static void drain_ends_in_time(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	queue_role.drain(&h->role, 5000);
	harness_pass(h, 6000);
	assert_true(h->drained);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_frames),
		cmocka_unit_test(outcome_of_nothing),
		cmocka_unit_test(mixed),
		cmocka_unit_test(notify),
		cmocka_unit_test(ret_headers),
		cmocka_unit_test(utf8_report),
		cmocka_unit_test(null_sender),
		cmocka_unit_test(double_bounce),
		cmocka_unit_test(a_report_goes_without_octets_that_its_next_hop_does_not_take),
		cmocka_unit_test(unroutable),
		cmocka_unit_test(retries_expiry_and_warning),
		cmocka_unit_test(notify_without_delay),
		cmocka_unit_test(report_expires),
		cmocka_unit_test(send_dies),
		cmocka_unit_test(send_dies_again_and_again),
		cmocka_unit_test(generations),
		cmocka_unit_test(maybe_delivered),
		cmocka_unit_test(reload_moves_mail),
		cmocka_unit_test(reload_never_lowers_tls),
		cmocka_unit_test(drain_waits_for_deliveries),
		cmocka_unit_test(drain_ends_in_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
