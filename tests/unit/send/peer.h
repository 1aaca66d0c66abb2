/* peer.h - scripted SMTP and LMTP servers on the role's own loop, a fake queue and a fake resolver: the world of `send`. */
#ifndef TESTS_SEND_PEER_H
#define TESTS_SEND_PEER_H
#include "../receive/rig.h"
#include "../tls/pki.h"
#include "net/conn.h"
#include "net/listen.h"
#include "send/send.h"

#include <string.h>
#include <sys/un.h>

/* ---- servers ---- */

enum server_tls { SERVER_NO_TLS = 1, SERVER_TLS, SERVER_REFUSES, SERVER_GARBAGE, SERVER_HANGS_UP, SERVER_BEHIND };

struct server {
	struct rig *rig;
	uint16_t port;
	struct listener on;
	struct server_conn *conns;
	/* how it behaves */
	enum server_tls tls;
	struct tls_context *context;
	const char *greeting;    /* NULL: 220 */
	const char *features;    /* further EHLO lines, "250-X\r\n" */
	const char *auth;        /* mechanisms inside TLS, or NULL */
	const char *mail, *rcpt_no, *data_end; /* replies; rcpt_no: to recipients that begin with "no" */
	unsigned dies_after;     /* messages: then it closes at the next MAIL without a word; 0: never */
	bool dies_at_dot, lmtp, silent;
	bool dies_idle;          /* closes behind each message, once the reply is out */
	/* what it saw */
	unsigned connections, messages, tls_sessions, starttls, quits, mails, open, open_most;
	char auth_seen[400], commands[8192];
	struct buf body;         /* of the last message, dots and all */
};

struct server_conn {
	struct server_conn *next;
	struct server *s;
	struct conn conn;
	struct buf in, out;
	bool data, tls, deaf;    /* deaf: answers garbage to whatever comes */
	bool later;              /* closes when what it said is out */
	unsigned messages, rcpts, login;
};

static void conn_gone(struct server_conn *c)
{
	struct server_conn **at = &c->s->conns;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->s->open--;
	conn_free(&c->conn);
	buf_free(&c->in);
	buf_free(&c->out);
	free(c);
}

static void reply(struct server_conn *c, const char *text)
{
	assert_true(buf_add(&c->out, view_cstr(text)));
	conn_pump(&c->conn);
}

static size_t server_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	struct server_conn *c = arg;

	(void)epoch;
	if (c->deaf)
		reply(c, "this is no TLS\r\n");
	else
		assert_true(buf_add(&c->in, view_of(bytes, n)));
	return n;
}

static void hello(struct server_conn *c)
{
	struct server *s = c->s;

	reply(c, "250-fake.test\r\n");
	if (s->features)
		reply(c, s->features);
	if (s->tls != SERVER_NO_TLS && !c->tls)
		reply(c, "250-STARTTLS\r\n");
	if (s->auth && c->tls)
		buf_addf(&c->out, "250-AUTH %s\r\n", s->auth);
	reply(c, "250 8BITMIME\r\n");
}

static void server_starttls(struct server_conn *c)
{
	struct server *s = c->s;

	s->starttls++;
	if (s->tls == SERVER_REFUSES) {
		reply(c, "454 4.7.0 not now\r\n");
		return;
	}
	reply(c, s->tls == SERVER_BEHIND ? "220 go\r\n250-8BITMIME\r\n250 fake\r\n" : "220 go\r\n");
	c->deaf = s->tls == SERVER_GARBAGE;
	if (s->tls == SERVER_TLS)
		assert_int_equal(conn_start_tls(&c->conn, s->context, true, NULL), 0);
	else if (s->tls == SERVER_HANGS_UP)
		c->later = true;
}

static void auth(struct server_conn *c, const char *line)
{
	struct server *s = c->s;

	size_t used = strlen(s->auth_seen);

	snprintf(s->auth_seen + used, sizeof s->auth_seen - used, "%.300s|", line);
	if (strncmp(line, "AUTH LOGIN", 10) == 0) {
		c->login = 1;
		reply(c, "334 VXNlcm5hbWU6\r\n");
	} else if (c->login == 1) {
		c->login = 2;
		reply(c, "334 UGFzc3dvcmQ6\r\n");
	} else {
		c->login = 0;
		reply(c, strstr(s->auth_seen, "c2VjcmV0") || strstr(s->auth_seen, "BzZWNyZXQ=") ? "235 2.7.0 ok\r\n" : "535 5.7.8 no\r\n");
	}
}

/* False: the connection is gone. */
static bool command(struct server_conn *c, const char *line)
{
	struct server *s = c->s;
	size_t used = strlen(s->commands);

	snprintf(s->commands + used, sizeof s->commands - used, "%.300s\n", line);
	if (c->login || strncmp(line, "AUTH", 4) == 0)
		auth(c, line);
	else if (strncmp(line, "EHLO", 4) == 0 || strncmp(line, "LHLO", 4) == 0)
		hello(c);
	else if (strncmp(line, "STARTTLS", 8) == 0)
		server_starttls(c);
	else if (strncmp(line, "MAIL", 4) == 0) {
		s->mails++;
		if (s->dies_after && c->messages >= s->dies_after) {
			conn_gone(c);
			return false;
		}
		c->rcpts = 0;
		reply(c, s->mail ? s->mail : "250 2.1.0 ok\r\n");
	} else if (strncmp(line, "RCPT", 4) == 0) {
		bool no = s->rcpt_no && strstr(line, "<no");
		c->rcpts += !no;
		reply(c, no ? s->rcpt_no : "250 2.1.5 ok\r\n");
	} else if (strncmp(line, "DATA", 4) == 0) {
		c->data = c->rcpts > 0;
		reply(c, c->data ? "354 go\r\n" : "503 5.5.1 no\r\n");
	} else if (strncmp(line, "QUIT", 4) == 0) {
		s->quits++;
		reply(c, "221 2.0.0 bye\r\n");
		c->later = true;
	} else
		reply(c, "250 2.0.0 ok\r\n");
	return true;
}

static bool end_of_data(struct server_conn *c, struct view v)
{
	struct server *s = c->s;
	size_t n;
	const char *dot = v.n >= 3 && memcmp(v.p, ".\r\n", 3) == 0 ? v.p : memmem(v.p, v.n, "\r\n.\r\n", 5);

	if (!dot)
		return false;
	n = (size_t)(dot - v.p) + (dot == v.p ? 3 : 5);
	buf_clear(&s->body);
	assert_true(buf_add(&s->body, view_slice(v, 0, n)));
	buf_take(&c->in, n);
	c->data = false;
	if (s->dies_at_dot) {
		conn_gone(c);
		return true;
	}
	s->messages++;
	c->messages++;
	for (unsigned i = 0; i < (s->lmtp ? c->rcpts : 1); i++)
		reply(c, s->lmtp && i == 1 ? "452 4.2.2 full\r\n" : s->data_end ? s->data_end : "250 2.0.0 taken\r\n");
	c->later = s->dies_idle;
	return true;
}

static void server_input_done(void *arg)
{
	struct server_conn *c = arg;
	struct server *s = c->s;
	char line[4096];

	for (;;) {
		struct view v = buf_view(&c->in);
		size_t n = view_find(v, '\n');
		if (c->data) {
			unsigned open = s->open;
			if (!end_of_data(c, v) || s->open < open)
				break;
			continue;
		}
		if (n == v.n || n >= sizeof line)
			break;
		snprintf(line, sizeof line, "%.*s", (int)(n && v.p[n - 1] == '\r' ? n - 1 : n), v.p);
		buf_take(&c->in, n + 1);
		if (!command(c, line))
			break;
	}
}

static struct view server_output(void *arg)
{
	return buf_view(&((struct server_conn *)arg)->out);
}

static void server_sent(void *arg, size_t n)
{
	buf_take(&((struct server_conn *)arg)->out, n);
}

static void server_drained(void *arg)
{
	struct server_conn *c = arg;

	if (c->later && buf_len(&c->out) == 0)
		conn_close(&c->conn);
}

static void server_gone(void *arg)
{
	conn_gone(arg);
}

static void server_tls_up(void *arg, const struct tls_facts *f)
{
	struct server_conn *c = arg;

	(void)f;
	c->tls = true;
	c->s->tls_sessions++;
}

static void server_tls_failed(void *arg, const char *why)
{
	(void)why;
	conn_gone(arg);
}

static void server_failed(void *arg, const struct error *e)
{
	(void)e;
	conn_gone(arg);
}

/* While the test's own servers and channels work, their memory does not fail (memory.c). */
static unsigned peer_busy;

static size_t calm_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	peer_busy++;
	n = server_input(arg, epoch, bytes, n);
	peer_busy--;
	return n;
}

static void calm_input_done(void *arg)
{
	peer_busy++;
	server_input_done(arg);
	peer_busy--;
}

static const struct conn_ops server_ops = {
	.input = calm_input, .input_done = calm_input_done, .output = server_output, .sent = server_sent, .drained = server_drained,
	.peer_closed = server_gone, .tls_up = server_tls_up, .tls_failed = server_tls_failed, .failed = server_failed, .closed = server_gone,
};

static void server_accepted(void *arg, int fd, const struct address *peer)
{
	struct server *s = arg;
	struct server_conn *c;
	struct error e;

	(void)peer;
	peer_busy++;
	c = calloc(1, sizeof *c);
	s->connections++;
	if (++s->open > s->open_most)
		s->open_most = s->open;
	c->s = s;
	c->next = s->conns;
	s->conns = c;
	buf_init(&c->in, &alloc_libc, 16 << 20);
	buf_init(&c->out, &alloc_libc, 1 << 20);
	conn_init(&c->conn, s->rig->loop, &alloc_libc, &server_ops, c);
	assert_int_equal(conn_open(&c->conn, fd, &e), 0);
	if (!s->silent)
		reply(c, s->greeting ? s->greeting : "220 fake ESMTP\r\n");
	c->later = s->greeting && s->greeting[0] != '2';
	peer_busy--;
}

static void server_refused(void *arg, int err)
{
	(void)arg;
	fail_msg("accept: %s", strerror(err));
}

/* fd: a listening socket. */
static void server_start(struct server *s, struct rig *r, int fd)
{
	s->rig = r;
	s->tls = s->tls ? s->tls : SERVER_NO_TLS;
	buf_init(&s->body, &alloc_libc, 16 << 20);
	assert_int_equal(listen_start(&s->on, r->loop, fd, server_accepted, server_refused, s), 0);
}

static void server_stop(struct server *s)
{
	listen_stop(&s->on);
	while (s->conns)
		conn_gone(s->conns);
	buf_free(&s->body);
}

/* ---- the role's other ends ---- */

#define DELIVERIES 1200

struct outcome {
	bool come;
	uint8_t host_failed, maybe, dsn;
	char tls[200];
	unsigned n;
	struct { uint8_t kind, local; uint16_t code; char text[200], remote[100]; } r[4];
};

struct world {
	struct rig *rig;
	struct channel *queue, *resolve;
	struct outcome outcomes[DELIVERIES];
	unsigned outcome_n, asked;
	uint64_t credit;
	bool mute; /* the resolver answers nothing */
	/* the resolver's answer by the question's name and kind */
	void (*answer)(struct world *, const struct wire_RESOLVE *);
	char names[2048]; /* asked for */
	struct server servers[3];
	unsigned server_n;
};

static void on_queue_side(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_OUTCOME m;
	struct wire_DELIVER_CREDIT credit;
	struct wire_result r;
	struct outcome *o;

	(void)ch;
	(void)fd;
	if (type == WIRE_DELIVER_CREDIT) {
		assert_int_equal(wire_read_DELIVER_CREDIT(payload, &credit), 0);
		w->credit += credit.bytes;
		return;
	}
	assert_int_equal(type, WIRE_OUTCOME);
	assert_int_equal(wire_read_OUTCOME(payload, &m), 0);
	assert_true(m.stream < DELIVERIES);
	o = &w->outcomes[m.stream];
	assert_false(o->come); /* one outcome a delivery */
	*o = (struct outcome){ .come = true, .host_failed = m.host_failed, .maybe = m.maybe_delivered, .dsn = m.dsn };
	snprintf(o->tls, sizeof o->tls, "%.*s", VIEW_ARGS(m.tls));
	for (; o->n < 4 && wire_result_next(&m.results, &r) == 1; o->n++) {
		assert_in_range(r.kind, WIRE_DELIVERED, WIRE_DEFERRED); /* every recipient is decided */
		o->r[o->n].kind = r.kind;
		o->r[o->n].local = r.local;
		o->r[o->n].code = r.code;
		snprintf(o->r[o->n].text, sizeof o->r[0].text, "%.*s", VIEW_ARGS(r.text));
		snprintf(o->r[o->n].remote, sizeof o->r[0].remote, "%.*s", VIEW_ARGS(r.remote));
	}
	w->outcome_n++;
}

static void on_resolve_side(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_RESOLVE m;
	size_t used = strlen(w->names);

	(void)ch;
	(void)fd;
	assert_int_equal(type, WIRE_RESOLVE);
	assert_int_equal(wire_read_RESOLVE(payload, &m), 0);
	w->asked++;
	snprintf(w->names + used, sizeof w->names - used, "%s:%.*s ", m.kind == WIRE_RESOLVE_MX ? "mx" : "a", VIEW_ARGS(m.name));
	if (!w->mute)
		w->answer(w, &m);
}

static void on_side_closed(void *arg, struct channel *ch)
{
	struct world *w = arg;

	if (w->queue == ch)
		w->queue = NULL;
	if (w->resolve == ch)
		w->resolve = NULL;
	channel_free(ch);
}

static const struct channel_handler queue_side = { on_queue_side, on_side_closed, NULL };
static const struct channel_handler resolve_side = { on_resolve_side, on_side_closed, NULL };

static void connect_side(struct world *w, enum role_kind kind)
{
	struct channel *ends[2];

	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	if (kind == ROLE_QUEUE)
		w->queue = ends[1];
	else
		w->resolve = ends[1];
	channel_set_handler(ends[1], kind == ROLE_QUEUE ? &queue_side : &resolve_side, w);
	send_role.channel(&w->rig->role, kind, 0, 1, ends[0]);
}

static void world_stop(struct world *w)
{
	send_role.stop(&w->rig->role);
	w->rig->role.ops = NULL;
	rig_turns(w->rig, 3);
	if (w->queue)
		channel_free(w->queue);
	if (w->resolve)
		channel_free(w->resolve);
	for (unsigned i = 0; i < w->server_n; i++)
		server_stop(&w->servers[i]);
	rig_turns(w->rig, 3);
	rig_free(w->rig);
	free(w);
}

static struct sender *sender_of(struct world *w)
{
	return &((struct send_room *)w->rig->role.state)->senders[0];
}

static void begin(struct world *w, uint64_t stream, const char *dest, const char *const *to, uint64_t size)
{
	struct buf list;
	struct wire_DELIVER m = { .stream = stream, .id = stream, .dest = view_cstr(dest), .sender = VIEW("a@b.test"), .size = size };

	buf_init(&list, &alloc_libc, 65536);
	for (; *to; to++)
		wire_rcpt_add(&list, &(struct wire_rcpt){ .address = view_cstr(*to) });
	m.rcpts = buf_view(&list);
	assert_true(wire_send_DELIVER(w->queue, &m));
	buf_free(&list);
}

static void more(struct world *w, uint64_t stream, const char *text, bool last)
{
	assert_true(wire_send_DELIVER_BYTES(w->queue, &(struct wire_DELIVER_BYTES){ .stream = stream, .last = last, .bytes = view_cstr(text) }));
}

#define TO(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define BODY "Subject: x\r\n\r\n.dot\r\n"
#define BODY_SENT "Subject: x\r\n\r\n..dot\r\n.\r\n"

static void deliver(struct world *w, uint64_t stream, const char *dest)
{
	begin(w, stream, dest, TO("x@sink.test"), strlen(BODY));
	more(w, stream, BODY, true);
}

#define OUTCOME(w, stream) UNTIL((w)->rig, (w)->outcomes[stream].come)

#endif
