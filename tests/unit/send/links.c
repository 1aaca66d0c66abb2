/* links.c - tests of send's connections: reuse, death at every place, TLS, AUTH, LMTP, credit, abort, draining. */
#include "peer.h"
#include "../net/descriptors.h"

#include <sys/stat.h>

static struct pki ca, leaf, other;
static char folder[64], trust_path[100], auth_path[100], socket_path[100];
static struct tls_context *good, *unknown;

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static struct tls_context *context_of(struct pki *p)
{
	struct tls_server_options o = { .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(p->cert_pem) }, .certificates_n = 1, .signer = { pki_sign, p->key }, .session_context = VIEW("t") };
	struct error e;

	return tls_server_new(&o, &e);
}

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/test_send_XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(trust_path, sizeof trust_path, "%s/ca.pem", folder);
	snprintf(auth_path, sizeof auth_path, "%s/auth", folder);
	snprintf(socket_path, sizeof socket_path, "%s/sock", folder);
	ca = pki_make("P-256", "Test CA", NULL, NULL, true, 100);
	leaf = pki_make("P-256", "fake", "DNS:fake.test,IP:127.0.0.1", &ca, false, 50);
	other = pki_make("P-256", "fake", "IP:127.0.0.1", NULL, false, 50);
	write_file(trust_path, ca.cert_pem);
	write_file(auth_path, "bob:secret\n");
	good = context_of(&leaf);
	unknown = context_of(&other);
	return good && unknown ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	tls_context_free(good);
	tls_context_free(unknown);
	pki_free(&ca);
	pki_free(&leaf);
	pki_free(&other);
	unlink(trust_path);
	unlink(auth_path);
	unlink(socket_path);
	return rmdir(folder);
}

static void no_dns(struct world *w, const struct wire_RESOLVE *m)
{
	static const char three[] = "\x7f\0\0\1\x7f\0\0\2\x7f\0\0\3"; /* 127.0.0.1, .2, .3 */
	struct buf list;
	unsigned n = m->name.n && m->name.p[0] == '3' ? 3 : 1;

	buf_init(&list, &alloc_libc, 4096);
	for (unsigned i = 0; i < n; i++)
		wire_record_add(&list, &(struct wire_record){ .family = AF_INET, .address = view_of(three + 4 * i, 4) });
	wire_send_RESOLVED(w->resolve, &(struct wire_RESOLVED){ .stream = m->stream, .status = WIRE_DNS_OK, .ttl = 60, .records = buf_view(&list) });
	buf_free(&list);
}

static struct world *world_new(const char *more_conf)
{
	struct world *w = calloc(1, sizeof *w);
	char conf[2048];

	snprintf(conf, sizeof conf, "trust = \"%s\"\nlistener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none }\n"
	         "route { deliver = \"smtp://127.0.0.1:9\" tls = encrypt auth = \"%s\" }\n%s", trust_path, auth_path, more_conf);
	w->rig = rig_new(&send_role, conf, NULL);
	w->answer = no_dns;
	connect_side(w, ROLE_QUEUE);
	connect_side(w, ROLE_RESOLVE);
	return w;
}

static struct server *serve(struct world *w)
{
	struct server *s = &w->servers[w->server_n++];
	int fd = rig_listen(&s->port);

	server_start(s, w->rig, fd);
	s->context = good;
	return s;
}

static const char *to(const struct server *s, const char *options)
{
	static char dest[200];

	snprintf(dest, sizeof dest, "smtp:127.0.0.1:%u%s", s->port, options);
	return dest;
}

static void is(struct world *w, uint64_t stream, uint8_t kind, unsigned code, bool host_failed)
{
	struct outcome *o = &w->outcomes[stream];

	OUTCOME(w, stream);
	if (o->r[0].kind != kind || (code && o->r[0].code != code) || o->host_failed != host_failed)
		fail_msg("stream %u: kind %u code %u host_failed %u: %s\n%s", (unsigned)stream, o->r[0].kind, o->r[0].code, o->host_failed,
		         o->r[0].text, rig_log(w->rig));
}

/* ---- a connection and many messages ---- */

static void test_reuse(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	for (unsigned i = 1; i <= 20; i++) {
		deliver(w, i, to(s, ""));
		is(w, i, WIRE_DELIVERED, 250, false);
	}
	assert_int_equal(s->connections, 1);
	assert_true(view_eq(buf_view(&s->body), VIEW(BODY_SENT)));
	assert_string_equal(w->outcomes[1].tls, "clear: tls_not_offered");
	assert_non_null(strstr(w->outcomes[1].r[0].remote, "127.0.0.1"));
	assert_int_equal(s->quits, 0);
	rig_skew += 6000; /* connection_idle */
	UNTIL(w->rig, s->quits == 1 && sender_of(w)->link_count == 0);
	rig_skew += SEND_TARGET_IDLE_MS + 1;
	UNTIL(w->rig, sender_of(w)->target_count == 0);
	world_stop(w);
}

/* More than connection_messages go over a new connection; QUIT ends the old one, and the link that leaves takes nothing more. */
static void test_message_limit(void **state)
{
	struct world *w = world_new("connection_messages = 3\n");
	struct server *s = serve(w);

	(void)state;
	for (unsigned i = 1; i <= 10; i++) {
		deliver(w, i, to(s, ""));
		is(w, i, WIRE_DELIVERED, 250, false);
	}
	UNTIL(w->rig, s->quits == 3);
	assert_int_equal(s->connections, 4);
	assert_int_equal(s->messages, 10);
	for (unsigned i = 11; i <= 50; i++)
		deliver(w, i, to(s, ""));
	for (unsigned i = 11; i <= 50; i++)
		is(w, i, WIRE_DELIVERED, 250, false);
	world_stop(w);
}

static void test_500(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	for (unsigned i = 1; i <= 1010; i++) {
		deliver(w, i, to(s, ""));
		OUTCOME(w, i);
		assert_int_equal(w->outcomes[i].r[0].kind, WIRE_DELIVERED);
	}
	assert_int_equal(s->connections, 3);
	world_stop(w);
}

/* Many at once: no more links than deliveries, all delivered, and the counts are right in the end. */
static void test_many(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	for (unsigned i = 1; i <= 300; i++)
		deliver(w, i, to(s, ""));
	UNTIL(w->rig, w->outcome_n == 300);
	assert_in_range(s->open_most, 1, 300);
	rig_skew += 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	struct target *t = send_target_get(sender_of(w), view_cstr(to(s, "")));
	assert_int_equal(t->waiting_n + t->opening_n + t->idle_n, 0);
	assert_int_equal(sender_of(w)->delivery_count, 0);
	world_stop(w);
}

/* ---- results ---- */

static void test_results(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	s->rcpt_no = "550 5.1.1 no such user\r\n";
	s->features = "250-DSN\r\n";
	begin(w, 1, to(s, ""), TO("yes@sink.test", "no@sink.test"), 3);
	more(w, 1, "x\r\n", true);
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_int_equal(w->outcomes[1].r[1].kind, WIRE_FAILED);
	assert_string_equal(w->outcomes[1].r[1].text, "5.1.1 no such user");
	assert_true(w->outcomes[1].dsn);
	begin(w, 2, to(s, ""), TO("no@sink.test"), 3);
	more(w, 2, "x\r\n", true);
	is(w, 2, WIRE_FAILED, 550, false);
	s->rcpt_no = "452 4.2.2 full\r\n";
	begin(w, 3, to(s, ""), TO("no@sink.test"), 3);
	more(w, 3, "x\r\n", true);
	is(w, 3, WIRE_DEFERRED, 452, false);
	s->mail = "552 5.3.4 too big\r\n";
	deliver(w, 4, to(s, ""));
	is(w, 4, WIRE_FAILED, 552, false);
	s->mail = NULL;
	s->data_end = "554 5.6.0 bad\r\n";
	deliver(w, 5, to(s, ""));
	is(w, 5, WIRE_FAILED, 554, false);
	s->data_end = "451 4.3.0 later\r\n";
	deliver(w, 6, to(s, ""));
	is(w, 6, WIRE_DEFERRED, 451, false);
	assert_in_range(s->connections, 1, 3); /* a connection that is at its RSET is not idle yet */
	/* what cannot be begun is deferred too */
	deliver(w, 7, "discard");
	is(w, 7, WIRE_DEFERRED, 451, false);
	deliver(w, 8, "nonsense");
	is(w, 8, WIRE_DEFERRED, 451, false);
	world_stop(w);
}

/* ---- which address ---- */

static void test_candidates(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);
	char dest[100];

	(void)state;
	/* three addresses: the first serves, the others have nobody */
	snprintf(dest, sizeof dest, "smtp:3.test:%u", s->port);
	deliver(w, 1, dest);
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_int_equal(s->connections, 1);
	assert_false(rig_logged(w->rig, "send_failed"));
	world_stop(w);
}

static int listen_at(const char *host, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(host) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static void test_next_candidate(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w), *second = &w->servers[w->server_n++], *third = &w->servers[w->server_n++];
	char dest[100];

	(void)state;
	server_start(second, w->rig, listen_at("127.0.0.2", s->port));
	server_start(third, w->rig, listen_at("127.0.0.3", s->port));
	second->port = s->port;
	s->greeting = "554 5.7.1 not you\r\n"; /* the first says no, the second is busy, the third serves */
	second->greeting = "421 4.3.2 busy\r\n";
	snprintf(dest, sizeof dest, "smtp:3.test:%u", s->port);
	deliver(w, 1, dest);
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_int_equal(s->connections, 1);
	assert_int_equal(second->connections, 1);
	assert_int_equal(third->connections, 1);
	/* what failed is left alone for a while, also on a new connection */
	rig_skew += 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	deliver(w, 2, dest);
	is(w, 2, WIRE_DELIVERED, 250, false);
	assert_int_equal(s->connections, 1);
	assert_int_equal(third->connections, 2);
	rig_skew += SEND_BAD_MS + 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	s->greeting = NULL;
	deliver(w, 3, dest);
	is(w, 3, WIRE_DELIVERED, 250, false);
	assert_int_equal(s->connections, 2);
	/* all fail: what waits is deferred, with the last one's words, and the host is at fault */
	rig_skew += 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	s->greeting = second->greeting = third->greeting = "421 4.3.2 busy\r\n";
	deliver(w, 4, dest);
	deliver(w, 5, dest);
	is(w, 4, WIRE_DEFERRED, 451, true);
	is(w, 5, WIRE_DEFERRED, 451, true);
	assert_non_null(strstr(w->outcomes[4].r[0].text, "busy"));
	/* all are bad: the queue's word is enough to try again */
	s->greeting = NULL;
	deliver(w, 6, dest);
	is(w, 6, WIRE_DELIVERED, 250, false);
	world_stop(w);
}

static void test_nobody(void **state)
{
	struct world *w = world_new("connect_timeout = 1s\n");
	uint16_t port = 0;
	char dest[60];

	(void)state;
	close(rig_listen(&port));
	snprintf(dest, sizeof dest, "smtp:127.0.0.1:%u", port);
	deliver(w, 1, dest);
	is(w, 1, WIRE_DEFERRED, 451, true);
	/* somebody who never greets */
	struct server *s = serve(w);
	s->silent = true;
	deliver(w, 2, to(s, ""));
	UNTIL(w->rig, s->connections == 1);
	rig_skew += 301000; /* RFC 5321 4.5.3.2.1 */
	is(w, 2, WIRE_DEFERRED, 0, true);
	world_stop(w);
}

/* ---- a connection that dies ---- */

static void test_dead_while_idle(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	s->dies_after = 1; /* kept, and dead at the next MAIL: the message costs nothing */
	for (unsigned i = 1; i <= 5; i++) {
		deliver(w, i, to(s, ""));
		is(w, i, WIRE_DELIVERED, 250, false);
	}
	assert_int_equal(s->connections, 5);
	assert_int_equal(s->messages, 5);
	s->dies_after = 0;
	s->dies_idle = true;
	for (unsigned i = 6; i <= 10; i++) {
		deliver(w, i, to(s, ""));
		is(w, i, WIRE_DELIVERED, 250, false);
		rig_turns(w->rig, 5);
	}
	world_stop(w);
}

/* Twice is not nothing any more: a server that dies at every MAIL behind the first gets one more try a message. */
static void test_put_back_once(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	deliver(w, 1, to(s, ""));
	is(w, 1, WIRE_DELIVERED, 250, false);
	s->dies_after = 1;
	s->greeting = "421 4.3.2 busy\r\n"; /* the second try meets a closed door */
	deliver(w, 2, to(s, ""));
	is(w, 2, WIRE_DEFERRED, 451, true);
	assert_int_equal(s->mails, 2);
	world_stop(w);
}

static void test_maybe_delivered(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	s->dies_at_dot = true;
	deliver(w, 1, to(s, ""));
	is(w, 1, WIRE_DEFERRED, 451, true);
	assert_true(w->outcomes[1].maybe);
	s->dies_at_dot = false;
	begin(w, 2, to(s, ""), TO("x@sink.test"), 100); /* dies with the body half sent: surely not delivered */
	more(w, 2, "half\r\n", false);
	UNTIL(w->rig, s->conns && s->conns->data && buf_len(&s->conns->in) >= 6);
	conn_gone(s->conns);
	is(w, 2, WIRE_DEFERRED, 451, true);
	assert_false(w->outcomes[2].maybe);
	more(w, 2, "the rest\r\n", true); /* too late, and no harm */
	rig_turns(w->rig, 5);
	assert_non_null(w->queue);
	assert_int_equal(s->messages, 0);
	world_stop(w);
}

/* ---- abort, the queue's end ---- */

static void test_abort(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	begin(w, 1, to(s, ""), TO("x@sink.test"), 100);
	more(w, 1, "half\r\n", false);
	UNTIL(w->rig, s->conns && s->conns->data && buf_len(&s->conns->in) >= 6);
	wire_send_DELIVER_ABORT(w->queue, &(struct wire_DELIVER_ABORT){ .stream = 1 });
	UNTIL(w->rig, s->open == 0); /* cut: no dot was said */
	assert_int_equal(s->messages, 0);
	assert_false(w->outcomes[1].come);
	/* one that waits */
	s->silent = true;
	deliver(w, 2, to(s, ""));
	deliver(w, 3, to(s, ""));
	UNTIL(w->rig, s->open == 2);
	wire_send_DELIVER_ABORT(w->queue, &(struct wire_DELIVER_ABORT){ .stream = 2 });
	wire_send_DELIVER_ABORT(w->queue, &(struct wire_DELIVER_ABORT){ .stream = 99 });
	rig_turns(w->rig, 3);
	assert_int_equal(sender_of(w)->delivery_count, 1);
	for (struct server_conn *c = s->conns; c; c = c->next)
		reply(c, "220 at last\r\n");
	is(w, 3, WIRE_DELIVERED, 250, false);
	assert_int_equal(w->outcome_n, 1);
	world_stop(w);
}

/* What waits for the only link that works is not forgotten when its message is aborted. */
static void test_abort_with_waiting(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	begin(w, 1, to(s, ""), TO("x@sink.test"), 100);
	more(w, 1, "half\r\n", false);
	UNTIL(w->rig, s->conns && s->conns->data);
	s->greeting = "421 4.3.2 one at a time\r\n";
	deliver(w, 2, to(s, ""));
	UNTIL(w->rig, s->connections == 2 && s->open == 1);
	rig_turns(w->rig, 20);
	assert_int_equal(w->outcome_n, 0); /* it waits for the one that works */
	s->greeting = NULL;
	wire_send_DELIVER_ABORT(w->queue, &(struct wire_DELIVER_ABORT){ .stream = 1 });
	is(w, 2, WIRE_DELIVERED, 250, false);
	world_stop(w);
}

static void test_queue_closes(void **state)
{
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		struct world *w = world_new("");
		struct server *s = serve(w);

		begin(w, 1, to(s, ""), TO("x@sink.test"), 100);
		more(w, 1, "half\r\n", false);
		UNTIL(w->rig, s->conns && s->conns->data);
		s->silent = true;
		deliver(w, 2, to(s, ""));
		w->mute = true;
		deliver(w, 3, "mx:never.test");
		rig_turns(w->rig, 5);
		if (kind == 0)
			connect_side(w, ROLE_QUEUE);
		else if (kind == 1)
			channel_send(w->queue, WIRE_DELIVER, VIEW("?"));
		else {
			channel_free(w->queue);
			w->queue = NULL;
		}
		UNTIL(w->rig, sender_of(w)->target_count == 0);
		assert_int_equal(sender_of(w)->delivery_count + sender_of(w)->link_count, 0);
		UNTIL(w->rig, s->open == 0);
		assert_int_equal(s->messages, 0);
		assert_int_equal(w->outcome_n, 0);
		if (!w->queue || kind == 1)
			connect_side(w, ROLE_QUEUE);
		s->silent = false;
		deliver(w, 1, to(s, ""));
		is(w, 1, WIRE_DELIVERED, 250, false);
		world_stop(w);
	}
}

/* ---- credit ---- */

static void test_credit(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);
	static char chunk[WIRE_BODY_FRAME + 1];
	uint64_t sent = 0, total = 3 * 1024 * 1024;

	(void)state;
	for (size_t i = 0; i < WIRE_BODY_FRAME; i++)
		chunk[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'y';
	begin(w, 1, to(s, ""), TO("x@sink.test"), total);
	while (sent < total) {
		while (sent < total && sent + WIRE_BODY_FRAME <= w->credit + WIRE_BODY_WINDOW) {
			sent += WIRE_BODY_FRAME;
			more(w, 1, chunk, sent == total);
		}
		rig_turns(w->rig, 1);
	}
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_int_equal(buf_len(&s->body), total + 3);
	assert_true(w->credit <= total);
	/* more than was granted ends the channel */
	s->silent = true;
	begin(w, 2, to(s, ""), TO("x@sink.test"), total);
	for (int i = 0; i < 40; i++)
		more(w, 2, chunk, false);
	UNTIL(w->rig, w->queue == NULL);
	world_stop(w);
}

/* ---- TLS ---- */

static void test_tls(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	s->tls = SERVER_TLS;
	deliver(w, 1, to(s, ""));
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_non_null(strstr(w->outcomes[1].tls, "TLSv1.3"));
	deliver(w, 2, to(s, ";tls=verify"));
	is(w, 2, WIRE_DELIVERED, 250, false);
	assert_non_null(strstr(w->outcomes[2].tls, " verified"));
	s->context = unknown;
	deliver(w, 3, to(s, ";tls=encrypt"));
	is(w, 3, WIRE_DELIVERED, 250, false);
	assert_non_null(strstr(w->outcomes[3].tls, "unverified"));
	deliver(w, 4, to(s, ";tls=none"));
	is(w, 4, WIRE_DELIVERED, 250, false);
	assert_null(strstr(w->outcomes[4].tls, "TLS"));
	assert_int_equal(s->tls_sessions, 3);
	/* verify against one that nobody knows: never, and never in clear */
	rig_skew += 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	unsigned mails = s->mails;
	deliver(w, 5, to(s, ";tls=verify"));
	is(w, 5, WIRE_DEFERRED, 451, true);
	assert_int_equal(s->mails, mails);
	world_stop(w);
}

/* TLS itself fails: `may` goes in clear, once, on a new connection, and remembers; `encrypt` and `verify` never do. */
static void test_tls_breaks(void **state)
{
	static const enum server_tls ways[] = { SERVER_GARBAGE, SERVER_HANGS_UP };

	(void)state;
	for (int k = 0; k < 2; k++) {
		struct world *w = world_new("");
		struct server *s = serve(w);

		s->tls = ways[k];
		deliver(w, 1, to(s, ""));
		is(w, 1, WIRE_DELIVERED, 250, false);
		assert_int_equal(s->connections, 2);
		assert_int_equal(s->starttls, 1);
		assert_non_null(strstr(w->outcomes[1].tls, "clear: TLS failed there before"));
		rig_skew += 6000;
		UNTIL(w->rig, sender_of(w)->link_count == 0);
		deliver(w, 2, to(s, "")); /* remembered */
		is(w, 2, WIRE_DELIVERED, 250, false);
		assert_int_equal(s->starttls, 1);
		unsigned mails = s->mails, connections = s->connections;
		deliver(w, 3, to(s, ";tls=encrypt"));
		is(w, 3, WIRE_DEFERRED, 451, true);
		deliver(w, 4, to(s, ";tls=verify"));
		is(w, 4, WIRE_DEFERRED, 451, true);
		assert_int_equal(s->mails, mails);
		assert_int_equal(s->connections, connections + 2);
		/* in clear it fails as well: no third try */
		rig_skew += 6000;
		UNTIL(w->rig, sender_of(w)->link_count == 0);
		world_stop(w);
	}
}

static void test_starttls_refused(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	s->tls = SERVER_REFUSES;
	deliver(w, 1, to(s, ""));
	is(w, 1, WIRE_DELIVERED, 250, false); /* on the same connection */
	assert_int_equal(s->connections, 1);
	assert_non_null(strstr(w->outcomes[1].tls, "clear: "));
	unsigned mails = s->mails;
	deliver(w, 2, to(s, ";tls=encrypt"));
	is(w, 2, WIRE_DEFERRED, 0, true);
	/* octets behind the 220 are an attack, not a failure of TLS: not even `may` goes on */
	s->tls = SERVER_BEHIND;
	rig_skew += 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	deliver(w, 3, to(s, ""));
	is(w, 3, WIRE_DEFERRED, 0, true);
	assert_int_equal(s->mails, mails);
	s->tls = SERVER_NO_TLS; /* stripped */
	deliver(w, 4, to(s, ";tls=verify"));
	is(w, 4, WIRE_DEFERRED, 0, true);
	assert_int_equal(s->mails, mails);
	world_stop(w);
}

/* ---- AUTH ---- */

static void test_auth(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	s->tls = SERVER_TLS;
	s->auth = "PLAIN LOGIN";
	deliver(w, 1, to(s, ";tls=encrypt;auth="));
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_string_equal(s->auth_seen, "AUTH PLAIN AGJvYgBzZWNyZXQ=|");
	assert_int_equal(s->connections, 1);
	world_stop(w);

	w = world_new("");
	s = serve(w);
	s->tls = SERVER_TLS;
	s->auth = "CRAM-MD5 LOGIN"; /* no PLAIN: LOGIN, on a new connection, and from then on at once */
	deliver(w, 1, to(s, ";tls=encrypt;auth="));
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_string_equal(s->auth_seen, "AUTH LOGIN|Ym9i|c2VjcmV0|");
	assert_int_equal(s->connections, 2);
	rig_skew += 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	deliver(w, 2, to(s, ";tls=encrypt;auth="));
	is(w, 2, WIRE_DELIVERED, 250, false);
	assert_int_equal(s->connections, 3);
	world_stop(w);

	/* nothing that we speak; and no credentials of that title: deferred, never sent without */
	w = world_new("");
	s = serve(w);
	s->tls = SERVER_TLS;
	s->auth = "GSSAPI";
	deliver(w, 1, to(s, ";tls=encrypt;auth="));
	is(w, 1, WIRE_DEFERRED, 0, true);
	s->auth = "PLAIN";
	deliver(w, 2, to(s, ";tls=encrypt;auth=gone.test"));
	is(w, 2, WIRE_DEFERRED, 0, true);
	assert_int_equal(s->mails, 0);
	world_stop(w);
}

/* ---- LMTP ---- */

static void test_lmtp(void **state)
{
	struct world *w = world_new("");
	struct server *s = &w->servers[w->server_n++];
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char dest[200];

	(void)state;
	unlink(socket_path);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", socket_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
	assert_int_equal(listen(fd, 5), 0);
	server_start(s, w->rig, fd);
	s->lmtp = true;
	s->rcpt_no = "550 5.1.1 no\r\n";
	snprintf(dest, sizeof dest, "lmtp:%s", socket_path);
	begin(w, 1, dest, TO("a@sink.test", "b@sink.test", "no@sink.test", "c@sink.test"), 3);
	more(w, 1, "x\r\n", true);
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_non_null(strstr(s->commands, "LHLO mx.ours.test"));
	assert_int_equal(w->outcomes[1].r[1].kind, WIRE_DEFERRED); /* each its own (RFC 2033 4.2) */
	assert_int_equal(w->outcomes[1].r[1].code, 452);
	assert_int_equal(w->outcomes[1].r[2].kind, WIRE_FAILED);
	assert_int_equal(w->outcomes[1].r[3].kind, WIRE_DELIVERED);
	unlink(socket_path);
	rig_skew += 6000;
	UNTIL(w->rig, sender_of(w)->link_count == 0);
	deliver(w, 2, dest);
	is(w, 2, WIRE_DEFERRED, 451, true);
	world_stop(w);
}

/* ---- the end ---- */

static void test_drain(void **state)
{
	struct world *w = world_new("");
	struct server *s = serve(w);

	(void)state;
	begin(w, 1, to(s, ""), TO("x@sink.test"), 10);
	more(w, 1, "half\r\n", false);
	UNTIL(w->rig, s->conns && s->conns->data);
	send_role.drain(&w->rig->role, 1000);
	rig_turns(w->rig, 5);
	assert_int_equal(w->rig->drained, 0);
	more(w, 1, "rest\r\n", true);
	is(w, 1, WIRE_DELIVERED, 250, false);
	UNTIL(w->rig, w->rig->drained == 1);
	UNTIL(w->rig, s->quits == 1);
	world_stop(w);
	w = world_new("");
	s = serve(w);
	deliver(w, 1, to(s, ""));
	is(w, 1, WIRE_DELIVERED, 250, false);
	UNTIL(w->rig, sender_of(w)->targets[view_hash(view_cstr(to(s, ""))) % SEND_BUCKETS]->idle_n == 1);
	send_role.drain(&w->rig->role, 1000); /* a connection that idles is taken leave of */
	UNTIL(w->rig, w->rig->drained == 1 && s->quits == 1 && sender_of(w)->link_count == 0);
	world_stop(w);
	w = world_new("");
	send_role.drain(&w->rig->role, 1000);
	UNTIL(w->rig, w->rig->drained == 1);
	world_stop(w);
}

/* A queue that throws many destinations in: those that idle are forgotten when too many are kept. */
static void test_targets_bounded(void **state)
{
	struct world *w = world_new("");
	char dest[60];

	(void)state;
	for (unsigned i = 0; i < 3 * SEND_TARGETS_KEPT; i++) {
		snprintf(dest, sizeof dest, "mx:d%u.test", i);
		assert_non_null(send_target_get(sender_of(w), view_cstr(dest)));
	}
	assert_true(sender_of(w)->target_count <= SEND_TARGETS_KEPT);
	world_stop(w);
}

/* Connections that idle are bounded over all destinations: the one that has idled longest gives way. */
static void test_idle_bounded(void **state)
{
	struct world *w = world_new("");
	struct server *s[3];
	unsigned i;

	(void)state;
	sender_of(w)->idle_most = 2;
	for (i = 0; i < 3; i++) {
		s[i] = serve(w);
		deliver(w, i + 1, to(s[i], ""));
		is(w, i + 1, WIRE_DELIVERED, 250, false);
	}
	UNTIL(w->rig, s[0]->quits == 1 && sender_of(w)->link_count == 2);
	deliver(w, 4, to(s[1], "")); /* over the one that is there; and then the third has idled longest */
	is(w, 4, WIRE_DELIVERED, 250, false);
	assert_int_equal(s[1]->connections, 1);
	deliver(w, 5, to(s[0], ""));
	is(w, 5, WIRE_DELIVERED, 250, false);
	UNTIL(w->rig, s[2]->quits == 1 && sender_of(w)->link_count == 2);
	assert_int_equal(s[0]->connections, 2);
	assert_int_equal(s[1]->quits, 0);
	world_stop(w);
}

/* No descriptor for a connection: the mail is deferred, and the host, of which nothing is known, is not judged; a connection that
 * idles gives its own for the next. */
static void test_descriptors_out(void **state)
{
	struct world *w = world_new("");
	struct server *one = serve(w), *two = serve(w);
	struct rlimit old;

	(void)state;
	deliver(w, 1, to(one, ""));
	is(w, 1, WIRE_DELIVERED, 250, false);
	assert_int_equal(sender_of(w)->idle_n, 1);
	descriptors_out(&old);
	deliver(w, 2, to(two, ""));
	OUTCOME(w, 2);
	descriptors_back(&old);
	is(w, 2, WIRE_DEFERRED, 451, false);
	assert_non_null(strstr(w->outcomes[2].r[0].text, "Too many open files"));
	UNTIL(w->rig, one->quits == 1 && sender_of(w)->link_count == 0);
	deliver(w, 3, to(two, "")); /* its address is not left alone */
	is(w, 3, WIRE_DELIVERED, 250, false);
	world_stop(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody), cmocka_unit_test(test_results), cmocka_unit_test(test_put_back_once), cmocka_unit_test(test_dead_while_idle),
		cmocka_unit_test(test_maybe_delivered), cmocka_unit_test(test_abort), cmocka_unit_test(test_abort_with_waiting),
		cmocka_unit_test(test_queue_closes), cmocka_unit_test(test_credit), cmocka_unit_test(test_candidates), cmocka_unit_test(test_next_candidate),
		cmocka_unit_test(test_tls), cmocka_unit_test(test_tls_breaks), cmocka_unit_test(test_starttls_refused), cmocka_unit_test(test_auth),
		cmocka_unit_test(test_lmtp), cmocka_unit_test(test_reuse), cmocka_unit_test(test_message_limit), cmocka_unit_test(test_many),
		cmocka_unit_test(test_500), cmocka_unit_test(test_drain), cmocka_unit_test(test_targets_bounded),
		cmocka_unit_test(test_idle_bounded), cmocka_unit_test(test_descriptors_out),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
