/* world.h - the fixture of the tests of receive: the role, a fake queue, a fake local, clients on loopback.
 *
 * The fake queue is as strict as the real one: more octets than credit, or a word about a stream it does not know, fail
 * the test. */
#ifndef TESTS_RECEIVE_WORLD_H
#define TESTS_RECEIVE_WORLD_H
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
	uint32_t coming;
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
		s->coming = submit.coming;
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
	assert_true(peers_enter(w->room->peers, (struct sockaddr *)&me, 1)); /* nobody of us is counted any more */
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

#endif
