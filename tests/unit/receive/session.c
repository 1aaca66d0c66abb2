/* session.c - tests of receive as a role: real clients on loopback, a fake queue and a fake local on channels in memory. */
#include "world.h"

/* ---- tests ---- */

static void test_one_message(void **state)
{
	struct world *w = world_new("", "");
	struct client c = call(w);

	(void)state;
	GREET(&c);
	TO_DATA(&c);
	ASK(&c, "Subject: x\r\n\r\n..dot\r\nb\xc3\xa4r\r\n.\r\n", "250");
	assert_non_null(strstr(c.got, "Accepted as 0000000000000abc"));
	assert_int_equal(w->submits, 1);
	assert_true(view_eq(buf_view(&w->streams[0].body), VIEW("Subject: x\r\n\r\n.dot\r\nb\xc3\xa4r\r\n")));
	assert_string_equal(w->streams[0].sender, "a@b.test");
	assert_string_equal(w->streams[0].client, "127.0.0.1");
	assert_int_equal(w->streams[0].flags, WIRE_HAS_8BIT);
	assert_non_null(strstr(w->streams[0].prefix, "Received: from client.test"));
	assert_non_null(strstr(w->streams[0].prefix, "with ESMTP "));
	assert_non_null(strstr(w->streams[0].prefix, "for <x@sink.test>"));
	ASK(&c, "QUIT\r\n", "221");
	ENDS(&c);
	hang_up(&c);
	assert_int_equal(w->aborts, 0);
	world_free(w);
}

/* With each message `queue` hears how many other sessions will soon have one: those that were heard of lately. */
static void test_coming(void **state)
{
	struct world *w = world_new("", "");
	struct client c[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		c[i] = call(w);
		GREET(&c[i]);
	}
	rig_skew += RECEIVE_COMING_MS; /* they all fall silent, */
	rig_turns(w->rig, 2);
	for (int i = 0; i < 3; i++) /* and three come back */
		TO_DATA(&c[i]);
	w->no_answer = true;
	for (int i = 0; i < 3; i++) {
		say(&c[i], "x\r\n.\r\n");
		rig_turns(w->rig, 5);
		assert_int_equal(w->submits, i + 1);
		assert_int_equal(w->streams[i].coming, 2 - i);
	}
	w->no_answer = false;
	done(w, &w->streams[0], WIRE_DONE_OK); /* whoever has its answer may have another message */
	done(w, &w->streams[1], WIRE_DONE_OK);
	rig_turns(w->rig, 5);
	close(c[0].fd); /* but this one has not */
	rig_turns(w->rig, 5);
	TO_DATA(&c[3]);
	ASK(&c[3], "x\r\n.\r\n", "250");
	assert_int_equal(w->streams[3].coming, 1);
	done(w, &w->streams[2], WIRE_DONE_OK);
	close(c[1].fd);
	close(c[2].fd);
	hang_up(&c[3]);
	world_free(w);
}

/* More pipelined commands than replies fit the output, from a client that reads late: each is answered, in order. */
static void test_late_reader(void **state)
{
	enum { COMMANDS = 40000 };
	struct world *w = world_new("idle_commands = 1000000", "");
	struct client c = call(w);
	size_t total = COMMANDS * 6, sent = 0, got = 0;
	char in[4096], *all = malloc(total);
	ssize_t n;

	(void)state;
	GREET(&c);
	for (size_t i = 0; i < COMMANDS; i++)
		memcpy(all + i * 6, "NOOP\r\n", 6);
	for (unsigned quiet = 0; quiet < 300; quiet++) { /* until nobody moves any more */
		n = send(c.fd, all + sent, total - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			sent += (size_t)n;
			quiet = 0;
		}
		rig_turns(w->rig, 1);
	}
	for (unsigned quiet = 0; quiet < 3000 && got < COMMANDS; quiet++) {
		n = send(c.fd, all + sent, total - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			sent += (size_t)n;
		n = recv(c.fd, in, sizeof in, MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++) {
			got += in[i] == '\n';
			quiet = 0;
		}
		rig_turns(w->rig, 1);
	}
	assert_int_equal(sent, total);
	assert_int_equal(got, COMMANDS);
	hang_up(&c);
	free(all);
	world_free(w);
}

/* What the queue says, and what the client then hears. */
static void test_statuses(void **state)
{
	static const struct { uint8_t status; const char *code; } cases[] = {
		{ WIRE_DONE_AGAIN, "451" }, { WIRE_DONE_FULL, "452" }, { WIRE_DONE_SICK, "451" }, { WIRE_DONE_LOOP, "554" }, { 77, "451" }, { WIRE_DONE_OK, "250" },
	};
	struct world *w = world_new("", "");
	struct client c = call(w);

	(void)state;
	GREET(&c);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		w->status = cases[i].status;
		TO_DATA(&c);
		ASK(&c, "x\r\n.\r\n", cases[i].code);
	}
	assert_int_equal(w->aborts, 0);
	hang_up(&c);
	world_free(w);
}

/* Without credit the session stops reading and sends nothing more; then it goes on and every octet arrives. */
static void test_credit(void **state)
{
	static const size_t sizes[] = { 3000000, 2999983 };
	size_t n = 4000000;
	char *body = malloc(n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		body[i] = i % 61 == 59 ? '\r' : i % 61 == 60 ? '\n' : (char)('a' + i / 61 % 26);
	for (int round = 0; round < 2; round++) {
		struct world *w = world_new("", "");
		struct client c = call(w);
		size_t sent = 0, whole = sizes[round] / 61 * 61, stuck;

		GREET(&c);
		TO_DATA(&c);
		w->no_credit = true;
		for (int quiet = 0; quiet < 200; quiet++) {
			ssize_t r = send(c.fd, body + sent, whole - sent, MSG_NOSIGNAL);
			if (r > 0) {
				sent += (size_t)r;
				quiet = 0;
			}
			rig_turns(w->rig, 1);
		}
		stuck = buf_len(&w->streams[0].body);
		assert_int_equal(stuck, WIRE_BODY_WINDOW);
		/* what came beyond waits in the kernel, but for a piece or two */
		assert_true(w->room->workers[0].places[0]->conn.bytes_in < WIRE_BODY_WINDOW + 3 * LOOP_SCRATCH);
		for (uint32_t odd = 1; odd < 40000; odd = odd * 3 + 1) { /* grants of any size */
			grant(w, &w->streams[0], odd);
			rig_turns(w->rig, 3);
			stuck += odd;
			assert_int_equal(buf_len(&w->streams[0].body), stuck);
		}
		w->no_credit = false;
		grant(w, &w->streams[0], WIRE_BODY_WINDOW);
		while (sent < whole) {
			ssize_t r = send(c.fd, body + sent, whole - sent, MSG_NOSIGNAL);
			if (r > 0)
				sent += (size_t)r;
			rig_turns(w->rig, 1);
		}
		ASK(&c, ".\r\n", "250");
		assert_true(view_eq(buf_view(&w->streams[0].body), view_of(body, whole)));
		ASK(&c, "NOOP\r\n", "250");
		hang_up(&c);
		world_free(w);
	}
	free(body);
}

/* A whole message waits for credit when the client's end, or its time, or the queue's end comes. */
static void test_paused_ends(void **state)
{
	size_t n = 61 * 6000;
	char *body = malloc(n + 6);

	(void)state;
	for (size_t i = 0; i < n; i++)
		body[i] = i % 61 == 59 ? '\r' : i % 61 == 60 ? '\n' : 'a';
	memcpy(body + n, ".\r\n", 4);
	for (int kind = 0; kind < 5; kind++) {
		struct world *w = world_new("data_timeout = 60s data_min_rate = 1000000000", "");
		struct client c = call(w);
		size_t sent = 0;

		GREET(&c);
		TO_DATA(&c);
		w->no_credit = true;
		c.n = 0;
		while (sent < n + 3) {
			ssize_t r = send(c.fd, body + sent, n + 3 - sent, MSG_NOSIGNAL);
			if (r > 0)
				sent += (size_t)r;
			rig_turns(w->rig, 1);
		}
		UNTIL(w->rig, buf_len(&w->streams[0].body) == WIRE_BODY_WINDOW);
		rig_turns(w->rig, 5);
		assert_int_equal(w->submits, 0);
		if (kind == 0) { /* the queue dies: 451 */
			channel_free(w->queue);
			w->queue = NULL;
			HEAR(&c, "451");
		} else if (kind == 1) { /* another one comes first: it hears nothing of the old stream */
			connect_queue(w);
			HEAR(&c, "451");
			ASK(&c, "RSET\r\n", "250");
			TO_DATA(&c);
			ASK(&c, "x\r\n.\r\n", "250");
		} else if (kind == 2) { /* the client has only half closed: it is answered */
			shutdown(c.fd, SHUT_WR);
			rig_turns(w->rig, 5);
			grant(w, &w->streams[0], WIRE_BODY_WINDOW);
			HEAR(&c, "250");
			ENDS(&c);
		} else if (kind == 3) { /* time is over */
			rig_skew += 65000;
			HEAR(&c, "421");
			ENDS(&c);
			UNTIL(w->rig, w->aborts == 1);
		} else { /* the client is gone, by reset */
			struct linger l = { 1, 0 };
			setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
			close(c.fd);
			c.fd = -1;
			rig_skew += 65000;
			UNTIL(w->rig, w->aborts == 1 || w->submits == 1);
		}
		if (c.fd != -1)
			hang_up(&c);
		world_free(w);
	}
	free(body);
}

static void test_queue_lost(void **state)
{
	(void)state;
	for (int kind = 0; kind < 5; kind++) {
		struct world *w = world_new("", "");
		struct client c = call(w);

		GREET(&c);
		w->no_answer = true;
		if (kind == 0) { /* before DATA */
			channel_free(w->queue);
			w->queue = NULL;
			ASK(&c, "MAIL FROM:<>\r\n", "250");
			ASK(&c, "RCPT TO:<x@sink.test>\r\n", "250");
			ASK(&c, "DATA\r\n", "451");
		} else {
			TO_DATA(&c);
			c.n = 0;
			if (kind >= 3) { /* behind the submission */
				say(&c, "x\r\n.\r\n");
				UNTIL(w->rig, w->submits == 1);
			} else {
				say(&c, "half of it\r\n");
				UNTIL(w->rig, buf_len(&w->streams[0].body) == 12);
			}
			if (kind % 2) {
				channel_free(w->queue);
				w->queue = NULL;
				rig_turns(w->rig, 3);
				if (kind == 1)
					connect_queue(w);
			} else {
				connect_queue(w);
			}
			if (kind < 3)
				say(&c, "the rest\r\n.\r\n");
			HEAR(&c, "451");
		}
		if (!w->queue)
			connect_queue(w);
		w->no_answer = false;
		ASK(&c, "RSET\r\n", "250");
		TO_DATA(&c); /* the session is as good as new */
		ASK(&c, "x\r\n.\r\n", "250");
		hang_up(&c);
		UNTIL(w->rig, sessions(w) == 0);
		assert_int_equal(w->aborts, 0);
		world_free(w);
	}
}

/* The queue's answer is late: 451; it comes after all: nobody hears it. */
static void test_queue_late(void **state)
{
	struct world *w = world_new("", "");
	struct client c = call(w);

	(void)state;
	GREET(&c);
	TO_DATA(&c);
	w->no_answer = true;
	c.n = 0;
	say(&c, "x\r\n.\r\n");
	UNTIL(w->rig, w->submits == 1);
	rig_skew += SESSION_QUEUE_MS + 10;
	HEAR(&c, "451");
	done(w, &w->streams[0], WIRE_DONE_OK);
	rig_turns(w->rig, 5);
	assert_int_equal(replies(&c), 1);
	w->no_answer = false;
	TO_DATA(&c);
	ASK(&c, "x\r\n.\r\n", "250");
	assert_int_equal(w->aborts, 0);
	hang_up(&c);
	world_free(w);
}

static void test_local(void **state)
{
	struct world *w = world_new("", "");
	struct client c = call(w);

	(void)state;
	GREET(&c);
	ASK(&c, "MAIL FROM:<a@b.test>\r\n", "250");
	ASK(&c, "RCPT TO:<\"q\\\"x\"@local.test>\r\n", "250");
	assert_string_equal(w->user, "q\"x");
	w->verdict = WIRE_RCPT_NO;
	ASK(&c, "RCPT TO:<no@local.test>\r\n", "550");
	w->verdict = WIRE_RCPT_AGAIN;
	ASK(&c, "RCPT TO:<later@local.test>\r\n", "451");
	w->verdict = 99;
	ASK(&c, "RCPT TO:<odd@local.test>\r\n", "451");
	w->verdict = 0; /* too late */
	c.n = 0;
	say(&c, "RCPT TO:<late@local.test>\r\n");
	UNTIL(w->rig, w->checks == 5);
	rig_skew += SESSION_LOCAL_MS + 10;
	HEAR(&c, "451");
	wire_send_RCPT_VERDICT(w->local, &(struct wire_RCPT_VERDICT){ .stream = w->check, .verdict = WIRE_RCPT_YES });
	wire_send_RCPT_VERDICT(w->local, &(struct wire_RCPT_VERDICT){ .stream = 0xffffffffffffffff, .verdict = WIRE_RCPT_YES });
	rig_turns(w->rig, 5);
	assert_int_equal(replies(&c), 1);
	/* lost while it is asked, and then not there at all */
	c.n = 0;
	say(&c, "RCPT TO:<lost@local.test>\r\n");
	UNTIL(w->rig, w->checks == 6);
	channel_free(w->local);
	w->local = NULL;
	HEAR(&c, "451");
	ASK(&c, "RCPT TO:<lost@local.test>\r\n", "451");
	ASK(&c, "RCPT TO:<x@sink.test>\r\n", "250");
	connect_local(w);
	w->verdict = WIRE_RCPT_YES;
	/* pipelined: one answer after the other, in order */
	c.n = 0;
	say(&c, "RCPT TO:<y@local.test>\r\nRCPT TO:<z@elsewhere.test>\r\nRCPT TO:<p@local.test>\r\nDATA\r\n");
	UNTIL(w->rig, replies(&c) == 4);
	assert_non_null(strstr(c.got, "550 5.7.1"));
	assert_int_equal(strncmp(c.got, "250", 3), 0);
	ASK(&c, "x\r\n.\r\n", "250");
	assert_int_equal(w->streams[0].rcpts, 4);
	hang_up(&c);
	world_free(w);
}

/* The body is given up where the transaction is: by disconnecting, but never behind the submission. */
static void test_aborts(void **state)
{
	(void)state;
	for (int kind = 0; kind < 6; kind++) {
		struct world *w = world_new("", "");
		struct client c = call(w);

		GREET(&c);
		if (kind == 0 || kind == 1) {
			TO_DATA(&c);
			say(&c, "half\r\n");
			UNTIL(w->rig, buf_len(&w->streams[0].body) == 6);
			if (kind == 0)
				hang_up(&c);
			else
				shutdown(c.fd, SHUT_WR);
			UNTIL(w->rig, w->aborts == 1);
		} else if (kind == 2) { /* RSET between chunks */
			ASK(&c, "MAIL FROM:<a@b.test>\r\n", "250");
			ASK(&c, "RCPT TO:<x@sink.test>\r\n", "250");
			ASK(&c, "BDAT 3\r\na\r\n", "250");
			assert_int_equal(w->aborts, 0);
			ASK(&c, "RSET\r\n", "250");
			UNTIL(w->rig, w->aborts == 1);
		} else if (kind == 3) { /* refused for what it holds */
			TO_DATA(&c);
			ASK(&c, "a\nb\r\n.\r\n", "554");
			UNTIL(w->rig, w->aborts == 1);
		} else { /* behind the submission nothing is taken back */
			w->no_answer = true;
			TO_DATA(&c);
			c.n = 0;
			say(&c, "x\r\n.\r\n");
			UNTIL(w->rig, w->submits == 1);
			if (kind == 4) {
				shutdown(c.fd, SHUT_WR);
				rig_turns(w->rig, 5);
				done(w, &w->streams[0], WIRE_DONE_OK);
				HEAR(&c, "250"); /* it still listens: no double */
			} else {
				hang_up(&c);
				rig_turns(w->rig, 5);
				done(w, &w->streams[0], WIRE_DONE_OK);
			}
			UNTIL(w->rig, sessions(w) == 0 || kind == 4);
			assert_int_equal(w->aborts, 0);
		}
		if (c.fd != -1)
			hang_up(&c);
		world_free(w);
	}
}

static void test_lmtp(void **state)
{
	struct world *w = world_new("lmtp = yes", "");
	struct client c = call(w);

	(void)state;
	HEAR(&c, "220");
	ASK(&c, "LHLO me\r\n", "250");
	for (int i = 0; i < 2; i++) {
		w->status = i ? WIRE_DONE_FULL : WIRE_DONE_OK;
		ASK(&c, "MAIL FROM:<>\r\n", "250");
		ASK(&c, "RCPT TO:<x@sink.test>\r\n", "250");
		ASK(&c, "RCPT TO:<y@sink.test>\r\n", "250");
		ASK(&c, "RCPT TO:<y@elsewhere.test>\r\n", "550");
		ASK(&c, "DATA\r\n", "354");
		c.n = 0;
		say(&c, "x\r\n.\r\n");
		UNTIL(w->rig, replies(&c) == 2); /* RFC 2033 4.2 */
		assert_int_equal(strncmp(c.got, i ? "452" : "250", 3), 0);
		assert_int_equal(strncmp(strchr(c.got, '\n') + 1, i ? "452" : "250", 3), 0);
	}
	assert_int_equal(w->submits, 2);
	hang_up(&c);
	world_free(w);
}

static void test_limits(void **state)
{
	struct world *w = world_new("sessions = 4 sessions_per_address = 2", "");
	struct client a = call(w), b = call(w), c, d;

	(void)state;
	GREET(&a);
	GREET(&b);
	c = call(w);
	HEAR(&c, "421");
	ENDS(&c);
	UNTIL(w->rig, sessions(w) == 2); /* it keeps its end open: no place and no descriptor of ours is held by that */
	hang_up(&c);
	hang_up(&b);
	UNTIL(w->rig, sessions(w) == 1);
	d = call(w);
	GREET(&d);
	/* the spool is under pressure: no new sessions, no new messages, but those that are served stay */
	wire_send_PRESSURE(w->queue, &(struct wire_PRESSURE){ .level = RECEIVE_PRESSURE_REFUSE });
	rig_turns(w->rig, 3);
	ASK(&a, "MAIL FROM:<a@b.test>\r\n", "250");
	ASK(&a, "RCPT TO:<x@sink.test>\r\n", "250");
	ASK(&a, "DATA\r\n", "452");
	hang_up(&d);
	UNTIL(w->rig, sessions(w) == 1);
	d = call(w);
	HEAR(&d, "421");
	hang_up(&d);
	/* its disk failed: every message is 451, and sessions are not turned away */
	wire_send_PRESSURE(w->queue, &(struct wire_PRESSURE){ .level = WIRE_PRESSURE_SICK });
	rig_turns(w->rig, 3);
	d = call(w);
	GREET(&d);
	ASK(&d, "MAIL FROM:<a@b.test>\r\n", "250");
	ASK(&d, "RCPT TO:<x@sink.test>\r\n", "250");
	ASK(&d, "DATA\r\n", "451");
	hang_up(&d);
	wire_send_PRESSURE(w->queue, &(struct wire_PRESSURE){ .level = 10 });
	rig_turns(w->rig, 3);
	TO_DATA(&a);
	hang_up(&a);
	/* a queue that is started anew has none, and says nothing of it */
	wire_send_PRESSURE(w->queue, &(struct wire_PRESSURE){ .level = 100 });
	rig_turns(w->rig, 3);
	channel_free(w->queue);
	rig_turns(w->rig, 3);
	connect_queue(w);
	rig_turns(w->rig, 3);
	d = call(w);
	GREET(&d);
	TO_DATA(&d);
	hang_up(&d);
	world_free(w);
	w = world_new("sessions = 1", "relay { from = {\"127.0.0.0/8\"} }\n");
	a = call(w);
	GREET(&a);
	b = call(w);
	HEAR(&b, "421"); /* the limit of the listener holds for friends too */
	hang_up(&a);
	hang_up(&b);
	world_free(w);
	w = world_new("", "");
	w->room->most_sessions = 1; /* as by few descriptors */
	a = call(w);
	GREET(&a);
	b = call(w);
	HEAR(&b, "421");
	ENDS(&b);
	hang_up(&a);
	hang_up(&b);
	world_free(w);
}

static void test_greeting_delay(void **state)
{
	struct world *w = world_new("greeting_delay = 5s", "");
	struct client early = call(w), patient = call(w), gone = call(w);

	(void)state;
	UNTIL(w->rig, sessions(w) == 3);
	say(&early, "EHLO spammer\r\n");
	HEAR(&early, "554");
	ENDS(&early);
	hang_up(&gone);
	rig_turns(w->rig, 5);
	assert_int_equal(replies(&patient), 0);
	rig_skew += 5010;
	GREET(&patient);
	hang_up(&early);
	hang_up(&patient);
	world_free(w);
}

/* grace 0: another generation serves, and sessions live as long as they like.  With grace they end at their next safe place,
 * and are cut when the time is over. */
static void test_drain(void **state)
{
	struct world *w = world_new("", "");
	struct client c = call(w), d = call(w);

	(void)state;
	GREET(&c);
	GREET(&d);
	receive_role.drain(&w->rig->role, 0);
	ASK(&c, "NOOP\r\n", "250");
	TO_DATA(&c);
	ASK(&c, "x\r\n.\r\n", "250");
	assert_int_equal(w->rig->drained, 0);
	ASK(&c, "QUIT\r\n", "221");
	ENDS(&c);
	hang_up(&c);
	hang_up(&d);
	UNTIL(w->rig, w->rig->drained == 1);
	world_free(w);

	w = world_new("", "");
	c = call(w);
	d = call(w);
	GREET(&c);
	GREET(&d);
	TO_DATA(&d);
	c.n = 0;
	receive_role.drain(&w->rig->role, 5000);
	HEAR(&c, "421"); /* idle: at once */
	ENDS(&c);
	hang_up(&c);
	ASK(&d, "x\r\n.\r\n", "250"); /* in a message: behind it */
	ENDS(&d);
	hang_up(&d);
	UNTIL(w->rig, w->rig->drained == 1);
	world_free(w);

	w = world_new("", "");
	d = call(w);
	GREET(&d);
	TO_DATA(&d);
	receive_role.drain(&w->rig->role, 5000);
	receive_role.drain(&w->rig->role, 5000);
	rig_turns(w->rig, 5);
	assert_int_equal(w->rig->drained, 0);
	rig_skew += 5010;
	UNTIL(w->rig, w->rig->drained == 1);
	ENDS(&d);
	assert_int_equal(w->aborts, 1);
	hang_up(&d);
	world_free(w);

	w = world_new("", "");
	receive_role.drain(&w->rig->role, 5000); /* nothing is there */
	UNTIL(w->rig, w->rig->drained == 1);
	world_free(w);
}

/* A pile of messages in one flight, and clients that leave wherever they like. */
static void test_many(void **state)
{
	static const char *const parts[] = { "", "EHLO x\r\n", "MAIL FROM:<a@b.test>\r\n", "RCPT TO:<x@local.test>\r\n", "DATA\r\n", "text\r\n", ".\r\n" };
	struct world *w = world_new("sessions_per_address = 1000", "");
	struct client c = call(w);

	(void)state;
	GREET(&c);
	c.n = 0;
	for (int i = 0; i < 30; i++)
		say(&c, "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@local.test>\r\nBDAT 3 LAST\r\na\r\n");
	UNTIL(w->rig, replies(&c) == 90);
	assert_int_equal(w->submits, 30);
	hang_up(&c);
	UNTIL(w->rig, sessions(w) == 0);
	forget_streams(w);
	for (int i = 0; i < 56; i++) {
		int fd = rig_connect(w->port);
		w->verdict = i % 3 ? WIRE_RCPT_YES : 0;
		w->no_answer = i % 2;
		for (int p = 1; p <= i % 7; p++) {
			assert_true(send(fd, parts[p], strlen(parts[p]), MSG_NOSIGNAL) > 0);
			rig_turns(w->rig, 2);
		}
		if (i % 5 == 0) {
			struct linger l = { 1, 0 };
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
		}
		close(fd);
	}
	rig_turns(w->rig, 20);
	rig_skew += SESSION_QUEUE_MS + 1000; /* whoever waits for an answer */
	rig_turns(w->rig, 20);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statuses), cmocka_unit_test(test_queue_lost), cmocka_unit_test(test_queue_late), cmocka_unit_test(test_local),
		cmocka_unit_test(test_aborts), cmocka_unit_test(test_credit), cmocka_unit_test(test_paused_ends), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_greeting_delay), cmocka_unit_test(test_drain), cmocka_unit_test(test_lmtp), cmocka_unit_test(test_one_message), cmocka_unit_test(test_late_reader),
		cmocka_unit_test(test_many), cmocka_unit_test(test_coming),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
