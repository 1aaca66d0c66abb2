/* keys.c - the role that signs: what it refuses first, then signatures over channels, handshakes through it, reloads. */
#include "../tls/pki.h"
#include "base/buf.h"
#include "keys/keys.h"
#include "tls/sign_client.h"
#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pki ca, ec, p384, rsa, other, p521;
static char dir[] = "/tmp/keys-test-XXXXXX";
static int log_fd[2];

/* ---- a role as the runner would make it ---- */

static void spill(const char *name, const char *text)
{
	char path[100];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* certificates: title = name, files name.crt and name.key in dir; all are a listener's, but "client", which the route shows. */
static struct conf *make_conf(const char *const *names)
{
	const char *const *first = names;
	char text[4000];
	const char *route = "";
	size_t n;
	struct conf *c = NULL;
	struct error e = { 0 };

	n = (size_t)snprintf(text, sizeof text, "hostname = \"mx.test\"\nspool = \"%s/spool\"\ncontrol = \"%s/ctl\"\n", dir, dir);
	for (; *names; names++)
		n += (size_t)snprintf(text + n, sizeof text - n, "certificate \"%s\" { chain = \"%s/%s.crt\" key = \"%s/%s.key\" }\n", *names,
				      dir, *names, dir, *names);
	n += (size_t)snprintf(text + n, sizeof text - n, "listener \"mx\" { address = {\"127.0.0.1:2525\"} certificate = {");
	for (names = first; *names; names++)
		if (strcmp(*names, "client") != 0)
			n += (size_t)snprintf(text + n, sizeof text - n, "%s\"%s\"", names == first ? "" : ", ", *names);
		else
			route = "route { client_certificate = \"client\" }\n";
	n += (size_t)snprintf(text + n, sizeof text - n, "} }\n%s", route);
	if (conf_parse(&c, view_of(text, n), "test", &e) == -1)
		fail_msg("%s", e.text);
	return c;
}

static void drained(struct role *role)
{
	*(unsigned *)role->runner += 1;
}

struct runner {
	struct role role;
	struct conf *conf;
	struct handoff *files;
	unsigned drained;
};

static void run(struct runner *r, struct loop *l, const char *const *names)
{
	struct error e = { 0 };

	memset(r, 0, sizeof *r);
	r->conf = make_conf(names);
	if (handoff_read(&r->files, r->conf, "test", "keys", &e) == -1)
		fail_msg("%s", e.text);
	r->role = (struct role){ .kind = ROLE_KEYS, .ops = &keys_role, .conf = r->conf, .files = r->files, .env = &env_real,
				 .loop = l, .generation = 1, .extra_fd = -1, .drained = drained, .runner = &r->drained };
	r->role.events = events_new(&env_real, "keys", log_fd[1], EVENT_DEBUG, NULL);
	assert_int_equal(keys_role.prepare(&r->role, &e), 0);
	assert_int_equal(keys_role.start(&r->role, &e), 0);
}

static void end(struct runner *r)
{
	keys_role.stop(&r->role);
	events_free(r->role.events);
	conf_free(r->conf);
	handoff_free(r->files);
}

/* What was logged since the last look. */
static const char *logged(void)
{
	static char text[65536];
	ssize_t n = read(log_fd[0], text, sizeof text - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static const char *const three[] = { "ec", "rsa", "p384", NULL };

/* ---- over a channel in memory ---- */

struct asker {
	struct channel *channel;
	unsigned answers, closed, refused;
	struct wire_KEY_SIGNED last;
	char signature[2048];
};

static void on_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct asker *a = arg;

	(void)c;
	assert_int_equal(fd, -1);
	assert_int_equal(type, WIRE_KEY_SIGNED);
	assert_int_equal(wire_read_KEY_SIGNED(payload, &a->last), 0);
	assert_true(a->last.signature.n <= sizeof a->signature);
	memcpy(a->signature, a->last.signature.p, a->last.signature.n);
	a->last.signature.p = a->signature;
	a->answers++;
	a->refused += !a->last.ok;
}

static void on_closed(void *arg, struct channel *c)
{
	struct asker *a = arg;

	a->closed++;
	a->channel = NULL;
	channel_free(c);
}

static const struct channel_handler handler = { .frame = on_frame, .closed = on_closed };

static void attach_as(struct runner *r, struct asker *a, enum role_kind peer, uint32_t generation)
{
	struct channel *ends[2];

	memset(a, 0, sizeof *a);
	assert_int_equal(channel_pair(r->role.loop, ends), 0);
	a->channel = ends[0];
	channel_set_handler(ends[0], &handler, a);
	keys_role.channel(&r->role, peer, 0, generation, ends[1]);
}

static void attach(struct runner *r, struct asker *a, uint32_t generation)
{
	attach_as(r, a, ROLE_RECEIVE, generation);
}

static void turns(struct runner *r)
{
	for (unsigned i = 0; i < 4; i++)
		loop_turn(r->role.loop, false);
}

static bool ask(struct runner *r, struct asker *a, uint32_t key, uint32_t digest, uint8_t padding, size_t hash_n)
{
	static const char hash[100] = "the hash of something that was said in a handshake, or whatever is asked";
	const struct wire_KEY_SIGN m = { .stream = 77, .key = key, .digest = digest, .padding = padding, .hash = view_of(hash, hash_n) };
	unsigned before = a->answers;

	assert_true(wire_send_KEY_SIGN(a->channel, &m));
	while (a->answers == before) /* RSA comes from a thread */
		loop_turn(r->role.loop, true);
	assert_int_equal(a->answers, before + 1);
	assert_int_equal(a->last.stream, 77);
	if (a->last.ok) {
		assert_true(a->last.signature.n > 0);
	} else {
		assert_int_equal(a->last.signature.n, 0);
	}
	return a->last.ok;
}

static bool verifies(const struct asker *a, EVP_PKEY *key, uint32_t digest, uint8_t padding)
{
	static const char hash[100] = "the hash of something that was said in a handshake, or whatever is asked";
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	bool ok;

	EVP_PKEY_verify_init(ctx);
	EVP_PKEY_CTX_set_signature_md(ctx, digest == TLS_DIGEST_SHA256 ? EVP_sha256() : digest == TLS_DIGEST_SHA384 ? EVP_sha384() : EVP_sha512());
	if (padding != TLS_PADDING_NONE)
		EVP_PKEY_CTX_set_rsa_padding(ctx, padding == TLS_PADDING_PSS ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING);
	if (padding == TLS_PADDING_PSS)
		EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST);
	ok = EVP_PKEY_verify(ctx, (const unsigned char *)a->last.signature.p, a->last.signature.n, (const unsigned char *)hash,
			     tls_digest_size(digest)) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

static void what_is_asked_wrongly_is_refused(void **state)
{
	static const char *const some[] = { "ec", "rsa", "p521", "missing", "garbage", NULL };
	struct loop *l = loop_new(&env_real);
	struct runner r;
	struct asker a;
	const char *log;

	(void)state;
	logged();
	run(&r, l, some);
	log = logged();
	assert_non_null(strstr(log, "event=key_ready title=ec"));
	assert_non_null(strstr(log, "event=key_broken title=p521"));
	assert_non_null(strstr(log, "event=key_broken title=missing"));
	assert_non_null(strstr(log, "event=key_broken title=garbage"));
	assert_null(strstr(log, "event=key_broken title=rsa"));
	attach(&r, &a, 1);
	assert_false(ask(&r, &a, 5, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_false(ask(&r, &a, UINT32_MAX, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_non_null(strstr(logged(), "no such key"));
	assert_false(ask(&r, &a, 2, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));  /* broken */
	assert_false(ask(&r, &a, 3, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_false(ask(&r, &a, 4, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_false(ask(&r, &a, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 31));  /* length and digest differ */
	assert_false(ask(&r, &a, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 0));
	assert_false(ask(&r, &a, 0, TLS_DIGEST_SHA384, TLS_PADDING_NONE, 32));
	assert_false(ask(&r, &a, 0, 0, TLS_PADDING_NONE, 0));                   /* no digest: raw octets */
	assert_false(ask(&r, &a, 0, 9, TLS_PADDING_NONE, 32));
	assert_false(ask(&r, &a, 0, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32));   /* padding of another kind of key */
	assert_false(ask(&r, &a, 0, TLS_DIGEST_SHA256, 0, 32));
	assert_false(ask(&r, &a, 1, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_false(ask(&r, &a, 1, TLS_DIGEST_SHA256, 9, 32));
	assert_true(ask(&r, &a, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));   /* and it still serves */
	channel_free(a.channel);
	turns(&r);
	assert_non_null(strstr(logged(), "signed=1 n=14"));
	end(&r);
	loop_free(l);
}

static void frames_that_are_none_end_the_channel(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct runner r;
	struct asker a;

	(void)state;
	run(&r, l, three);
	attach(&r, &a, 1);
	channel_send(a.channel, WIRE_KEY_SIGN, VIEW("short"));
	turns(&r);
	assert_int_equal(a.closed, 1);
	attach(&r, &a, 1);
	channel_send(a.channel, WIRE_RCPT_CHECK, VIEW("not for you"));
	turns(&r);
	assert_int_equal(a.closed, 1);
	attach(&r, &a, 1);
	channel_send_fd(a.channel, WIRE_KEY_SIGN, VIEW(""), 1);
	turns(&r);
	assert_int_equal(a.closed, 1);
	keys_role.drain(&r.role, 0);
	assert_int_equal(r.drained, 1);
	attach(&r, &a, 1); /* still serves: others drain */
	assert_true(ask(&r, &a, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	end(&r);
	loop_turn(l, false);
	assert_int_equal(a.closed, 1);
	loop_free(l);
}

static void signatures_verify(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct runner r;
	struct asker a;
	uint32_t d;
	unsigned char to[TLS_SIGNATURE_MAX];

	(void)state;
	run(&r, l, three);
	/* the octets of the keys are overwritten in what super handed over */
	assert_null(handoff_get(r.files, "key", "ec").p);
	attach(&r, &a, 1);
	for (d = TLS_DIGEST_SHA256; d <= TLS_DIGEST_SHA512; d++) {
		size_t n = tls_digest_size(d);

		assert_true(ask(&r, &a, 0, d, TLS_PADDING_NONE, n));
		assert_true(verifies(&a, ec.key, d, TLS_PADDING_NONE));
		assert_false(verifies(&a, other.key, d, TLS_PADDING_NONE));
		assert_true(ask(&r, &a, 1, d, TLS_PADDING_PKCS1, n));
		assert_true(verifies(&a, rsa.key, d, TLS_PADDING_PKCS1));
		assert_true(ask(&r, &a, 1, d, TLS_PADDING_PSS, n));
		assert_true(verifies(&a, rsa.key, d, TLS_PADDING_PSS));
		assert_false(verifies(&a, rsa.key, d, TLS_PADDING_PKCS1));
		assert_true(ask(&r, &a, 2, d, TLS_PADDING_NONE, n));
		assert_true(verifies(&a, p384.key, d, TLS_PADDING_NONE));
	}
	/* --single */
	assert_true(keys_sign(&r.role, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, "01234567890123456789012345678901", 32, to, sizeof to) > 0);
	assert_int_equal(keys_sign(&r.role, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, "0", 1, to, sizeof to), -1);
	assert_int_equal(keys_sign(&r.role, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, "01234567890123456789012345678901", 32, to, 8), -1);
	channel_free(a.channel);
	end(&r);
	loop_free(l);
}

static int64_t clock_ms = 1000;

static int64_t our_clock(void *arg)
{
	(void)arg;
	return clock_ms;
}

/* So many requests at once, without a wait for their answers. */
static void flood(struct asker *a, uint32_t key, uint8_t padding, unsigned n)
{
	const struct wire_KEY_SIGN m = { .stream = 77, .key = key, .digest = TLS_DIGEST_SHA256, .padding = padding,
					 .hash = VIEW("01234567890123456789012345678901") };

	while (n--)
		assert_true(wire_send_KEY_SIGN(a->channel, &m));
}

static void wait_for(struct runner *r, const struct asker *a, unsigned answers)
{
	while (a->answers < answers)
		loop_turn(r->role.loop, true);
}

/* The crew has done what it was given, and gets no more. */
static void settle(struct runner *r)
{
	for (unsigned i = 0; i < 20; i++) {
		poll(NULL, 0, 5);
		turns(r);
	}
}

/* One that asks without end is refused, and takes nothing from others. */
static void who_asks_too_much_is_refused(void **state)
{
	struct env env = env_real;
	struct loop *l = loop_new(&env_real);
	struct runner r;
	struct asker greedy, other_asker;
	unsigned served = 0;

	(void)state;
	env.mono_ms = our_clock;
	run(&r, l, three);
	r.role.env = &env;
	attach(&r, &greedy, 1);
	attach(&r, &other_asker, 1);
	logged();
	while (served < 20000 && ask(&r, &greedy, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32))
		served++;
	assert_in_range(served, 9000, 11000); /* ECDSA, half a second of a core as it is reckoned */
	assert_non_null(strstr(logged(), "more signatures than a loop can need"));
	assert_false(ask(&r, &greedy, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(ask(&r, &greedy, 1, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32)); /* of another purse */
	assert_true(ask(&r, &other_asker, 1, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32));
	assert_true(ask(&r, &other_asker, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	clock_ms += 10;
	for (served = 0; ask(&r, &greedy, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32); served++)
		assert_in_range(served, 0, 200);
	assert_in_range(served, 90, 110);
	channel_free(greedy.channel);
	channel_free(other_asker.channel);
	turns(&r);
	end(&r);
	loop_free(l);
}

/* RSA above the measure waits for better days; only a line that no honest loop makes is refused. */
static void rsa_waits_for_its_turn(void **state)
{
	struct env env = env_real;
	struct loop *l = loop_new(&env_real);
	struct runner r;
	struct asker greedy, other_asker;
	unsigned before;

	(void)state;
	env.mono_ms = our_clock;
	run(&r, l, three);
	r.role.env = &env;
	attach(&r, &greedy, 1);
	attach(&r, &other_asker, 1);
	flood(&greedy, 1, TLS_PADDING_PSS, 600);
	turns(&r);
	assert_in_range(greedy.answers, 0, 300);
	/* while they wait, ECDSA is signed in the turn in which it is asked for, and another channel's RSA after a few */
	before = greedy.answers;
	assert_true(ask(&r, &greedy, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(ask(&r, &other_asker, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(ask(&r, &other_asker, 1, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32));
	assert_in_range(greedy.answers - before, 0, 100);
	wait_for(&r, &greedy, 601);
	flood(&greedy, 1, TLS_PADDING_PSS, 300);
	wait_for(&r, &greedy, 1 + 833); /* half a second of a core at 600 us */
	settle(&r);
	assert_int_equal(greedy.answers, 1 + 833);
	assert_true(ask(&r, &other_asker, 1, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32));
	clock_ms += 12; /* 6 ms: ten more */
	wait_for(&r, &greedy, 1 + 843);
	settle(&r);
	assert_in_range(greedy.answers, 1 + 843, 1 + 844);
	flood(&greedy, 1, TLS_PADDING_PSS, 700);
	turns(&r);
	assert_in_range(greedy.refused, 100, 150); /* 640 may wait, and 56 did */
	clock_ms += 100000;
	wait_for(&r, &greedy, 1 + 900 + 700 - 200);
	clock_ms += 100000;
	wait_for(&r, &greedy, 1 + 900 + 700);
	channel_free(greedy.channel);
	channel_free(other_asker.channel);
	turns(&r);
	end(&r);
	loop_free(l);
}

/* Whoever asked is gone before the crew has done: nothing is lost, nothing is touched, others are served. */
static void a_channel_ends_with_jobs_in_line(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct runner r;
	struct asker a, b;

	(void)state;
	run(&r, l, three);
	for (unsigned i = 0; i < 3; i++) {
		attach(&r, &a, 1);
		attach(&r, &b, 1);
		flood(&a, 1, TLS_PADDING_PSS, 50);
		flood(&b, 1, TLS_PADDING_PSS, 5);
		turns(&r);
		channel_free(a.channel);
		if (i == 0) {
			wait_for(&r, &b, 5);
			assert_int_equal(b.refused, 0);
		}
		channel_free(b.channel);
		if (i == 1)
			settle(&r);
	}
	attach(&r, &a, 1);
	flood(&a, 1, TLS_PADDING_PSS, 50);
	turns(&r);
	end(&r); /* and the role with jobs that it has, and gave */
	loop_turn(l, false);
	assert_int_equal(a.closed, 1);
	loop_free(l);
}

/* A role that was broken into cannot speak for another. */
static void each_role_has_keys_of_its_own(void **state)
{
	static const char *const some[] = { "ec", "rsa", "client", NULL };
	struct loop *l = loop_new(&env_real);
	struct runner r;
	struct asker receive, send;

	(void)state;
	run(&r, l, some);
	attach_as(&r, &receive, ROLE_RECEIVE, 1);
	attach_as(&r, &send, ROLE_SEND, 1);
	logged();
	assert_false(ask(&r, &send, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_non_null(strstr(logged(), "peer=send generation=1 key=0 reason=\"that key is not for this role\""));
	assert_false(ask(&r, &send, 1, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32));
	assert_false(ask(&r, &receive, 2, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(ask(&r, &send, 2, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(verifies(&send, other.key, TLS_DIGEST_SHA256, TLS_PADDING_NONE));
	assert_true(ask(&r, &receive, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(ask(&r, &receive, 1, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32));
	channel_free(receive.channel);
	channel_free(send.channel);
	turns(&r);
	end(&r);
	loop_free(l);
}

static void an_old_generation_keeps_its_keys(void **state)
{
	static const char *const turned[] = { "p384", "ec", NULL };
	struct loop *l = loop_new(&env_real);
	struct runner r, next;
	struct asker old, new;
	struct error e;

	(void)state;
	run(&r, l, three);
	attach(&r, &old, 1);
	run(&next, l, turned); /* only for its conf and files */
	handoff_free(next.files);
	assert_int_equal(handoff_read(&next.files, next.conf, "test", "keys", &e), 0);
	r.role.generation = 2;
	assert_int_equal(keys_role.reload(&r.role, next.conf, next.files, &e), 0);
	attach(&r, &new, 2);
	assert_true(ask(&r, &old, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(verifies(&old, ec.key, TLS_DIGEST_SHA256, TLS_PADDING_NONE));
	assert_true(ask(&r, &old, 1, TLS_DIGEST_SHA256, TLS_PADDING_PSS, 32));
	assert_true(ask(&r, &new, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(verifies(&new, p384.key, TLS_DIGEST_SHA256, TLS_PADDING_NONE));
	assert_true(ask(&r, &new, 1, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(verifies(&new, ec.key, TLS_DIGEST_SHA256, TLS_PADDING_NONE));
	assert_false(ask(&r, &new, 2, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	channel_free(old.channel); /* the last of its generation: its keys go */
	turns(&r);
	attach(&r, &old, 1);
	assert_true(ask(&r, &old, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, 32));
	assert_true(verifies(&old, p384.key, TLS_DIGEST_SHA256, TLS_PADDING_NONE));
	channel_free(old.channel);
	channel_free(new.channel);
	end(&r);
	end(&next);
	loop_free(l);
}

/* ---- over a socket, as the threads of receive do it ---- */

struct server {
	pthread_t thread;
	struct loop *loop;
	struct loop_wake wake;
	struct runner runner;
	int fd;
};

static void *serve(void *arg)
{
	struct server *s = arg;

	loop_run(s->loop);
	return NULL;
}

static void stop_serving(void *arg)
{
	loop_stop(arg);
}

static int open_server(struct server *s)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	s->loop = loop_new(&env_real);
	loop_wake_init(&s->wake, s->loop, stop_serving, s->loop);
	run(&s->runner, s->loop, three);
	keys_role.channel(&s->runner.role, ROLE_RECEIVE, 0, 1, channel_new(s->loop, fd[0]));
	pthread_create(&s->thread, NULL, serve, s);
	return fd[1];
}

static void close_server(struct server *s)
{
	loop_wake(&s->wake);
	pthread_join(s->thread, NULL);
	loop_wake_free(&s->wake);
	end(&s->runner);
	loop_free(s->loop);
}

static const struct tls_peer_check to_mx = { .how = TLS_CHECK_CHAIN_AND_NAME, .name = "mx.test" };

static bool shake(struct tls_context *server, struct tls_context *client)
{
	struct tls_session *s = tls_session_new(server, true, NULL), *c = tls_session_new(client, false, &to_mx);
	struct buf up, down;
	enum tls_status a = TLS_WANT, b = TLS_WANT;
	unsigned i;

	buf_init(&up, &alloc_libc, 65536);
	buf_init(&down, &alloc_libc, 65536);
	for (i = 0; i < 6 && (a == TLS_WANT || b == TLS_WANT); i++) {
		struct view v = buf_view(&down);

		if (a == TLS_WANT)
			a = tls_handshake(c, &v, &up);
		buf_take(&down, buf_len(&down));
		v = buf_view(&up);
		if (b == TLS_WANT)
			b = tls_handshake(s, &v, &down);
		buf_take(&up, buf_len(&up));
	}
	tls_session_free(s);
	tls_session_free(c);
	buf_free(&up);
	buf_free(&down);
	return a == TLS_OK && b == TLS_OK;
}

static void handshakes_go_through_the_role(void **state)
{
	struct server s;
	struct sign_client signer;
	const struct pki *leaf[] = { &ec, &rsa, &p384 };
	struct error e;
	struct tls_context *client = tls_client_new(view_cstr(ca.cert_pem), &e);
	unsigned i;

	(void)state;
	sign_client_init(&signer, WIRE_KEY_SIGN, WIRE_KEY_SIGNED);
	for (i = 0; i < 3; i++) {
		struct tls_server_certificate one = { view_cstr(leaf[i]->cert_pem), i };
		struct tls_server_options o = { .certificates = &one, .certificates_n = 1, .signer = { sign_client_sign, &signer }, .session_context = VIEW("mx") };
		struct tls_context *c = tls_server_new(&o, &e), *wrong;

		assert_non_null(c);
		assert_int_equal(tls_server_check(c, 0, &e), -1); /* nobody to ask yet */
		assert_false(shake(c, client));
		sign_client_set_fd(&signer, open_server(&s));
		assert_int_equal(tls_server_check(c, 0, &e), 0);
		assert_true(shake(c, client));
		assert_true(shake(c, client));
		one.key = (i + 1) % 3;
		wrong = tls_server_new(&o, &e);
		assert_int_equal(tls_server_check(wrong, 0, &e), -1);
		assert_false(shake(wrong, client));
		assert_true(sign_client_is_open(&signer)); /* a refusal is an answer */
		close_server(&s);
		assert_false(shake(c, client)); /* `keys` died */
		assert_false(sign_client_is_open(&signer));
		tls_context_free(wrong);
		tls_context_free(c);
	}
	assert_true(signer.asked > signer.failed);
	sign_client_free(&signer);
	tls_context_free(client);
}

/* Answers that a broken `keys` could give. */
static void bad_answers_close_the_descriptor(void **state)
{
	static const struct { const char *octets; size_t n; long result; bool open; } rows[] = {
		{ "\x0f\0\0\0\2\0\0\0\1\0\0\0\0\0\0\0\1\2\0\0\0ab", 23, 2, true },
		{ "\x0d\0\0\0\2\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0", 21, -1, true },    /* refused */
		{ "\x0f\0\0\0\2\0\0\0\1\0\0\0\0\0\0\0\0\2\0\0\0ab", 23, -1, true },  /* refused, with octets */
		{ "\x0f\0\0\0\3\0\0\0\1\0\0\0\0\0\0\0\1\2\0\0\0ab", 23, -1, false }, /* type */
		{ "\x0f\0\0\0\2\0\0\0\2\0\0\0\0\0\0\0\1\2\0\0\0ab", 23, -1, false }, /* stream */
		{ "\x10\0\0\0\2\0\0\0\1\0\0\0\0\0\0\0\1\2\0\0\0ab", 23, -1, false }, /* lengths differ */
		{ "\x0d\0\0\0\2\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\x80", 21, -1, false }, /* much too long */
		{ "\x0f\0\0\0\2\0\0\0\1\0\0\0\0\0\0\0\1\2\0\0\0a", 22, -1, false },  /* ends early */
		{ "", 0, -1, false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct sign_client s;
		int fd[2];
		unsigned char to[100];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		sign_client_init(&s, 1, 2);
		sign_client_set_fd(&s, fd[0]);
		assert_int_equal(write(fd[1], rows[i].octets, rows[i].n), (ssize_t)rows[i].n);
		shutdown(fd[1], SHUT_WR);
		assert_int_equal(sign_client_sign(&s, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, "h", 1, to, sizeof to), rows[i].result);
		assert_int_equal(sign_client_is_open(&s), rows[i].open);
		sign_client_free(&s);
		close(fd[1]);
	}
}

/* `keys` hangs, or dribbles: the thread of receive is given back in time, and the late answer is never used. */
static void an_answer_that_is_late_is_none(void **state)
{
	struct sign_client s;
	int fd[2];
	unsigned char to[100];
	int64_t from = env_mono_ms(&env_real);

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	sign_client_init(&s, 1, 2);
	s.timeout_ms = 30;
	sign_client_set_fd(&s, fd[0]);
	assert_int_equal(write(fd[1], "\x0f\0\0\0\2", 5), 5);
	assert_int_equal(sign_client_sign(&s, 0, TLS_DIGEST_SHA256, TLS_PADDING_NONE, "h", 1, to, sizeof to), -1);
	assert_in_range(env_mono_ms(&env_real) - from, 25, 2000);
	assert_false(sign_client_is_open(&s));
	sign_client_free(&s);
	close(fd[1]);
}

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(pipe2(log_fd, O_NONBLOCK), 0);
	ca = pki_make("P-256", "Test CA", NULL, NULL, true, 100);
	ec = pki_make("P-256", "mx.test", "DNS:mx.test", &ca, false, 50);
	p384 = pki_make("P-384", "mx.test", "DNS:mx.test", &ca, false, 50);
	rsa = pki_make("RSA-2048", "mx.test", "DNS:mx.test", &ca, false, 50);
	other = pki_make("P-256", "mx.test", "DNS:mx.test", &ca, false, 50);
	p521 = pki_make("P-521", "mx.test", "DNS:mx.test", &ca, false, 50);
	spill("ec.key", ec.key_pem);
	spill("p384.key", p384.key_pem);
	spill("rsa.key", rsa.key_pem);
	spill("p521.key", p521.key_pem);
	spill("client.key", other.key_pem);
	spill("garbage.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
	return 0;
}

static int tear_down(void **state)
{
	static const char *const files[] = { "ec.key", "p384.key", "rsa.key", "p521.key", "garbage.key", "client.key" };
	struct pki *all[] = { &ca, &ec, &p384, &rsa, &other, &p521 };
	char path[100];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof all / sizeof *all; i++)
		pki_free(all[i]);
	for (i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
	close(log_fd[0]);
	close(log_fd[1]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_asked_wrongly_is_refused),
		cmocka_unit_test(frames_that_are_none_end_the_channel),
		cmocka_unit_test(bad_answers_close_the_descriptor),
		cmocka_unit_test(an_answer_that_is_late_is_none),
		cmocka_unit_test(signatures_verify),
		cmocka_unit_test(who_asks_too_much_is_refused),
		cmocka_unit_test(rsa_waits_for_its_turn),
		cmocka_unit_test(a_channel_ends_with_jobs_in_line),
		cmocka_unit_test(each_role_has_keys_of_its_own),
		cmocka_unit_test(an_old_generation_keeps_its_keys),
		cmocka_unit_test(handshakes_go_through_the_role),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
