/* session.c - tests of receive as a role: real clients on loopback, a fake queue and a fake local on channels in memory.
 *
 * The fake queue is as strict as the real one: more octets than credit, or a word about a stream it does not know, fail
 * the test. */
#include "rig.h"

#include "receive/receive.h"

#include <string.h>

#define STREAMS 64

struct stream {
	uint64_t number, size;
	long credit;
	bool open, submitted, aborted;
	struct buf body;
	char prefix[2048], sender[200], client[64];
	uint32_t flags;
	unsigned rcpts;
};

struct world {
	struct rig *rig;
	struct receive *room;
	uint16_t port;
	struct channel *queue, *local;
	struct stream streams[STREAMS];
	unsigned stream_n, submits, aborts, checks;
	bool no_credit, no_answer; /* of the queue */
	uint8_t status;
	unsigned verdict; /* of local; 0: none */
	uint64_t check;
	char user[80];
};

static struct stream *find(struct world *w, uint64_t number)
{
	for (unsigned i = 0; i < w->stream_n; i++)
		if (w->streams[i].number == number && w->streams[i].open)
			return &w->streams[i];
	fail_msg("a word about a stream that is none");
	return NULL;
}

static void done(struct world *w, struct stream *s, uint8_t status)
{
	wire_send_BODY_DONE(w->queue, &(struct wire_BODY_DONE){ .stream = s->number, .status = status, .id = 0xabc });
}

static void grant(struct world *w, struct stream *s, uint32_t n)
{
	s->credit += n;
	wire_send_BODY_CREDIT(w->queue, &(struct wire_BODY_CREDIT){ .stream = s->number, .bytes = n });
}

static void queue_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_BODY_BEGIN begin;
	struct wire_BODY_BYTES bytes;
	struct wire_BODY_SUBMIT submit;
	struct wire_BODY_ABORT abort_;
	struct wire_rcpt r;
	struct stream *s;

	(void)ch;
	(void)fd;
	switch (type) {
	case WIRE_BODY_BEGIN:
		assert_int_equal(wire_read_BODY_BEGIN(payload, &begin), 0);
		assert_true(w->stream_n < STREAMS);
		s = &w->streams[w->stream_n++];
		*s = (struct stream){ .number = begin.stream, .open = true, .credit = WIRE_BODY_WINDOW };
		buf_init(&s->body, &alloc_libc, 64 << 20);
		break;
	case WIRE_BODY_BYTES:
		assert_int_equal(wire_read_BODY_BYTES(payload, &bytes), 0);
		s = find(w, bytes.stream);
		assert_true(bytes.bytes.n <= WIRE_BODY_FRAME);
		assert_true((long)bytes.bytes.n <= s->credit);
		s->credit -= (long)bytes.bytes.n;
		assert_true(buf_add(&s->body, bytes.bytes));
		if (!w->no_credit && s->credit <= (long)WIRE_BODY_WINDOW * 3 / 4)
			grant(w, s, (uint32_t)(WIRE_BODY_WINDOW - s->credit));
		break;
	case WIRE_BODY_SUBMIT:
		assert_int_equal(wire_read_BODY_SUBMIT(payload, &submit), 0);
		s = find(w, submit.stream);
		s->open = false;
		s->submitted = true;
		s->flags = submit.flags;
		snprintf(s->prefix, sizeof s->prefix, "%.*s", VIEW_ARGS(submit.prefix));
		snprintf(s->sender, sizeof s->sender, "%.*s", VIEW_ARGS(submit.sender));
		snprintf(s->client, sizeof s->client, "%.*s", VIEW_ARGS(submit.client));
		while (wire_rcpt_next(&submit.rcpts, &r) == 1)
			s->rcpts++;
		w->submits++;
		if (!w->no_answer)
			done(w, s, w->status);
		break;
	case WIRE_BODY_ABORT:
		assert_int_equal(wire_read_BODY_ABORT(payload, &abort_), 0);
		s = find(w, abort_.stream);
		s->open = false;
		s->aborted = true;
		w->aborts++;
		break;
	default: fail_msg("frame %s", wire_name(type));
	}
}

static void local_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_RCPT_CHECK m;

	(void)fd;
	assert_int_equal(type, WIRE_RCPT_CHECK);
	assert_int_equal(wire_read_RCPT_CHECK(payload, &m), 0);
	w->checks++;
	w->check = m.stream;
	snprintf(w->user, sizeof w->user, "%.*s", VIEW_ARGS(m.user));
	if (w->verdict)
		wire_send_RCPT_VERDICT(ch, &(struct wire_RCPT_VERDICT){ .stream = m.stream, .verdict = (uint8_t)w->verdict });
}

static void peer_closed(void *arg, struct channel *ch)
{
	struct world *w = arg;

	if (w->queue == ch)
		w->queue = NULL;
	if (w->local == ch)
		w->local = NULL;
	channel_free(ch);
}

static const struct channel_handler queue_handler = { queue_frame, peer_closed, NULL };
static const struct channel_handler local_handler = { local_frame, peer_closed, NULL };

static void forget_streams(struct world *w)
{
	for (unsigned i = 0; i < w->stream_n; i++)
		buf_free(&w->streams[i].body);
	w->stream_n = 0;
}

static void connect_queue(struct world *w)
{
	struct channel *ends[2];

	forget_streams(w); /* a new queue knows none */
	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	w->queue = ends[1];
	channel_set_handler(ends[1], &queue_handler, w);
	receive_role.channel(&w->rig->role, ROLE_QUEUE, 0, 1, ends[0]);
}

static void connect_local(struct world *w)
{
	struct channel *ends[2];

	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	w->local = ends[1];
	channel_set_handler(ends[1], &local_handler, w);
	receive_role.channel(&w->rig->role, ROLE_LOCAL, 0, 1, ends[0]);
}

static struct world *world_new(const char *listener, const char *more)
{
	struct world *w = calloc(1, sizeof *w);
	char conf[2048];
	struct wire_LISTENER m = { 0 };
	struct buf b;
	int fd;

	snprintf(conf, sizeof conf,
	         "listener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none %s }\n"
	         "domain \"sink.test\" { deliver = \"discard\" }\n"
	         "domain \"local.test\" { deliver = \"maildir:/nowhere/%%{user}\" }\n%s",
	         listener, more);
	w->rig = rig_new(&receive_role, conf, NULL);
	w->room = w->rig->role.state;
	w->status = WIRE_DONE_OK;
	w->verdict = WIRE_RCPT_YES;
	connect_queue(w);
	connect_local(w);
	fd = rig_listen(&w->port);
	buf_init(&b, &alloc_libc, 64);
	wire_put_LISTENER(&b, &m);
	receive_role.frame(&w->rig->role, WIRE_LISTENER, buf_view(&b), fd);
	buf_free(&b);
	return w;
}

static unsigned sessions(struct world *w)
{
	return w->room->workers[0].sessions;
}

/* No place, no count and no place in the table of addresses may be left when all is over. */
static void world_free(struct world *w)
{
	rig_skew += 20000; /* lingering ends */
	UNTIL(w->rig, sessions(w) == 0);
	assert_int_equal(atomic_load(&w->room->sessions[0]), 0);
	assert_int_equal(w->room->workers[0].place_free, w->room->workers[0].place_count);
	struct sockaddr_in me = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_true(receive_peers_enter(w->room->peers, (struct sockaddr *)&me, 1)); /* nobody of us is counted any more */
	receive_role.stop(&w->rig->role);
	w->rig->role.ops = NULL;
	rig_turns(w->rig, 3);
	if (w->queue)
		channel_free(w->queue);
	if (w->local)
		channel_free(w->local);
	forget_streams(w);
	rig_free(w->rig);
	free(w);
}

/* ---- clients ---- */

struct client {
	struct world *w;
	int fd;
	char got[65536];
	size_t n;
	bool ended;
};

static struct client call(struct world *w)
{
	struct client c = { .w = w, .fd = rig_connect(w->port) };

	return c;
}

static void hear(struct client *c)
{
	ssize_t n = c->n < sizeof c->got - 1 ? recv(c->fd, c->got + c->n, sizeof c->got - 1 - c->n, 0) : -2;

	if (n > 0)
		c->n += (size_t)n;
	else if (n == 0 || (n == -1 && errno != EAGAIN))
		c->ended = true;
	c->got[c->n] = 0;
}

/* How many last lines of replies ("250 ...") have come. */
static unsigned replies(struct client *c)
{
	unsigned n = 0;

	hear(c);
	for (char *p = c->got, *line; (line = strchr(p, '\n')) != NULL; p = line + 1)
		n += line - p >= 4 && p[3] == ' ';
	return n;
}

static void say(struct client *c, const char *text)
{
	assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Says text and waits for one reply of this code; returns it. */
#define ASK(c, text, code)                                                                                                         \
	do {                                                                                                                       \
		(c)->n = 0;                                                                                                        \
		say((c), (text));                                                                                                  \
		HEAR(c, code);                                                                                                     \
	} while (0)
#define HEAR(c, code)                                                                                                              \
	do {                                                                                                                       \
		UNTIL((c)->w->rig, replies(c) >= 1 || (c)->ended);                                                                 \
		if (strncmp((c)->got, code, 3) != 0)                                                                               \
			fail_msg("line %d: %s wanted: %s", __LINE__, code, (c)->got);                                              \
	} while (0)
#define ENDS(c) UNTIL((c)->w->rig, (hear(c), (c)->ended))
#define GREET(c)                                                                                                                   \
	do {                                                                                                                       \
		HEAR(c, "220");                                                                                                    \
		ASK(c, "EHLO client.test\r\n", "250");                                                                             \
	} while (0)
#define TO_DATA(c)                                                                                                                 \
	do {                                                                                                                       \
		ASK(c, "MAIL FROM:<a@b.test>\r\n", "250");                                                                         \
		ASK(c, "RCPT TO:<x@sink.test>\r\n", "250");                                                                        \
		ASK(c, "DATA\r\n", "354");                                                                                         \
	} while (0)

static void hang_up(struct client *c)
{
	close(c->fd);
	c->fd = -1;
}

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
		struct world *w = world_new("data_timeout = 1s data_min_rate = 1000000000", "");
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
			rig_skew += 5000;
			HEAR(&c, "421");
			ENDS(&c);
			UNTIL(w->rig, w->aborts == 1);
		} else { /* the client is gone, by reset */
			struct linger l = { 1, 0 };
			setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
			close(c.fd);
			c.fd = -1;
			rig_skew += 5000;
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
	wire_send_PRESSURE(w->queue, &(struct wire_PRESSURE){ .level = 10 });
	rig_turns(w->rig, 3);
	TO_DATA(&a);
	hang_up(&a);
	world_free(w);
	w = world_new("sessions = 1", "relay { from = {\"127.0.0.0/8\"} }\n");
	a = call(w);
	GREET(&a);
	b = call(w);
	HEAR(&b, "421"); /* the limit of the listener holds for friends too */
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
		cmocka_unit_test(test_greeting_delay), cmocka_unit_test(test_drain), cmocka_unit_test(test_lmtp), cmocka_unit_test(test_one_message),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
