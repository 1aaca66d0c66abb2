/* owed.c - tests of what `send` does under each level that route/tls.h may owe: DANE, MTA-STS, REQUIRETLS, TLS-Required: No; and of what it
 * tells.  Real TLS against scripted servers; resolver and policy are played.  No MAIL is ever said in clear under an owed level. */
#include "peer.h"

#include <openssl/sha.h>
#include <sys/stat.h>

static struct pki ca, leaf, wrong, expired, alone;
static char folder[64], trust_path[100];
static unsigned char digest[35]; /* TLSA 3 1 1 of leaf */

static struct tls_context *context_of(struct pki *p)
{
	struct tls_server_options o = { .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(p->cert_pem) }, .certificates_n = 1, .signer = { pki_sign, p->key }, .session_context = VIEW("t") };
	struct error e;

	return tls_server_new(&o, &e);
}

static int set_up(void **state)
{
	unsigned char *der = NULL;
	int n, fd;

	(void)state;
	snprintf(folder, sizeof folder, "/tmp/test_owed_XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(trust_path, sizeof trust_path, "%s/ca.pem", folder);
	ca = pki_make("P-256", "Test CA", NULL, NULL, true, 100);
	leaf = pki_make("P-256", "mx", "DNS:mx.fake.test", &ca, false, 50);
	wrong = pki_make("P-256", "wrong", "DNS:other.test", &ca, false, 50);
	expired = pki_make("P-256", "mx", "DNS:mx.fake.test", &ca, false, -5);
	alone = pki_make("P-256", "mx", "DNS:mx.fake.test", NULL, false, 50);
	fd = open(trust_path, O_CREAT | O_WRONLY, 0600);
	assert_true(write(fd, ca.cert_pem, strlen(ca.cert_pem)) > 0);
	close(fd);
	n = i2d_PUBKEY(leaf.key, &der);
	memcpy(digest, "\3\1\1", 3);
	SHA256(der, (size_t)n, digest + 3);
	OPENSSL_free(der);
	return 0;
}

static int tear_down(void **state)
{
	struct pki *all[] = { &ca, &leaf, &wrong, &expired, &alone };

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		pki_free(all[i]);
	unlink(trust_path);
	return rmdir(folder);
}

/* ---- the played resolver and policy ---- */

enum tlsa { NO_TLSA = 1, RIGHT, WRONG_KEY, EMPTY, FAILED, BOGUS };
static struct play {
	bool insecure_mx, insecure_address, alias;
	enum tlsa tlsa;
	bool sts;
	enum wire_sts_mode mode;
	const char *sts_mx;
} play;
static const char *address = "\x7f\0\0\1";
static struct channel *policy_end;
static char results[2000]; /* TLS_RESULT: "policy result mx reason|" */
static unsigned sts_asked;

static void dns(struct world *w, const struct wire_RESOLVE *m)
{
	struct wire_RESOLVED r = { .stream = m->stream, .status = WIRE_DNS_OK, .ttl = 60, .secure = true };
	unsigned char other[35];
	struct buf list;

	buf_init(&list, &alloc_libc, 4096);
	if (m->kind == WIRE_RESOLVE_MX) {
		r.secure = !play.insecure_mx;
		wire_record_add(&list, &(struct wire_record){ .preference = 1, .name = VIEW("mx.fake.test") });
	} else if (m->kind == WIRE_RESOLVE_ADDRESS) {
		r.secure = !play.insecure_address;
		if (play.alias)
			r.canonical = VIEW("real.fake.test");
		wire_record_add(&list, &(struct wire_record){ .family = AF_INET, .address = view_of(address, 4) });
	} else if (m->kind == WIRE_RESOLVE_TLSA) {
		memcpy(other, digest, sizeof other);
		other[10] ^= 1;
		if (play.tlsa == FAILED || play.tlsa == BOGUS)
			r.status = play.tlsa == FAILED ? WIRE_DNS_TEMPORARY : WIRE_DNS_BOGUS;
		else if (play.tlsa <= NO_TLSA)
			r.status = WIRE_DNS_NXDOMAIN;
		else
			wire_record_add(&list, &(struct wire_record){ .address = play.tlsa == EMPTY ? VIEW("") : view_of((char *)(play.tlsa == RIGHT ? digest : other), 35) });
	}
	r.records = buf_view(&list);
	wire_send_RESOLVED(w->resolve, &r);
	buf_free(&list);
}

static void on_policy_side(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct wire_STS_ASK ask;
	struct wire_STS_POLICY m = { .status = play.sts ? WIRE_STS_FOUND : WIRE_STS_NONE, .mode = (uint8_t)play.mode, .ttl_s = 600,
				     .mx = view_cstr(play.sts_mx ? play.sts_mx : "mx.fake.test\n") };
	struct wire_TLS_RESULT r;
	size_t used = strlen(results);

	(void)arg;
	(void)fd;
	if (type == WIRE_STS_ASK) {
		assert_int_equal(wire_read_STS_ASK(payload, &ask), 0);
		sts_asked++;
		m.stream = ask.stream;
		wire_send_STS_POLICY(ch, &m);
		return;
	}
	assert_int_equal(type, WIRE_TLS_RESULT);
	assert_int_equal(wire_read_TLS_RESULT(payload, &r), 0);
	snprintf(results + used, sizeof results - used, "%u %u %.*s|", r.policy_type, r.result, VIEW_ARGS(r.mx));
}

static void on_policy_closed(void *arg, struct channel *ch)
{
	(void)arg;
	channel_free(ch);
	policy_end = NULL;
}

static const struct channel_handler policy_side = { on_policy_side, on_policy_closed, NULL };

static void connect_policy(struct world *w)
{
	struct channel *ends[2];

	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	policy_end = ends[1];
	channel_set_handler(ends[1], &policy_side, w);
	send_role.channel(&w->rig->role, ROLE_POLICY, 0, 1, ends[0]);
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof *w);
	char conf[400];

	snprintf(conf, sizeof conf, "trust = \"%s\"\nlistener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none }\n", trust_path);
	w->rig = rig_new(&send_role, conf, NULL);
	w->answer = dns;
	connect_side(w, ROLE_QUEUE);
	connect_side(w, ROLE_RESOLVE);
	connect_policy(w);
	results[0] = '\0';
	sts_asked = 0;
	return w;
}

static void world_end(struct world *w)
{
	send_role.stop(&w->rig->role);
	w->rig->role.ops = NULL;
	rig_turns(w->rig, 3);
	if (policy_end)
		channel_free(policy_end);
	policy_end = NULL;
	for (unsigned i = 0; i < w->server_n; i++)
		server_stop(&w->servers[i]);
	if (w->queue)
		channel_free(w->queue);
	if (w->resolve)
		channel_free(w->resolve);
	rig_turns(w->rig, 3);
	rig_free(w->rig);
	free(w);
}

static void send_one(struct world *w, const char *dest, const char *sender, uint32_t flags)
{
	struct buf list;
	struct wire_DELIVER m = { .stream = 1, .id = 1, .dest = view_cstr(dest), .sender = view_cstr(sender), .size = strlen(BODY), .flags = flags };

	buf_init(&list, &alloc_libc, 65536);
	wire_rcpt_add(&list, &(struct wire_rcpt){ .address = VIEW("x@fake.test") });
	m.rcpts = buf_view(&list);
	assert_true(wire_send_DELIVER(w->queue, &m));
	buf_free(&list);
	more(w, 1, BODY, true);
	OUTCOME(w, 1);
	rig_turns(w->rig, 5);
}

/* ---- situations: a next hop of the configuration by name, since a test may not have port 25 ---- */

enum cert { CERT_RIGHT = 1, CERT_WRONG, CERT_EXPIRED, CERT_ALONE };

static const struct situation {
	const char *what;
	struct play play;
	const char *options;
	enum server_tls tls;
	enum cert cert;
	bool word;            /* the server offers REQUIRETLS */
	const char *sender;
	uint8_t kind;
	uint16_t code;
	unsigned connections, mails;
	const char *log;      /* words in the log */
	const char *text;     /* in the result's words, or in the commands that the server saw */
} situations[] = {
#define HOP(...) { __VA_ARGS__ }
	{ "DANE-EE", HOP(.tlsa = RIGHT), "", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=dane reached=dane", NULL },
	{ "DANE at the name behind an alias", HOP(.tlsa = RIGHT, .alias = true), "", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "TLSA records at real.fake.test", NULL },
	{ "DANE, another key", HOP(.tlsa = WRONG_KEY), "", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "event=send_failed", "TLS owed: dane" },
	{ "DANE, STARTTLS stripped", HOP(.tlsa = RIGHT), "", SERVER_NO_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "tls_not_offered", "TLS owed: dane" },
	{ "DANE, STARTTLS refused", HOP(.tlsa = RIGHT), "", SERVER_REFUSES, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "tls_refused", "TLS owed: dane" },
	{ "DANE, garbage for a handshake", HOP(.tlsa = RIGHT), "", SERVER_GARBAGE, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "owed=dane", "TLS owed: dane" },
	{ "DANE, hangs up", HOP(.tlsa = RIGHT), "", SERVER_HANGS_UP, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "owed=dane", "TLS owed: dane" },
	{ "DANE, bytes behind the 220", HOP(.tlsa = RIGHT), "", SERVER_BEHIND, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "starttls_pending", "TLS owed: dane" },
	{ "TLSA lookup failed: nobody is dialled", HOP(.tlsa = FAILED), "", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 0, 0, "verdict=defer owed=dane", "lookup at mx.fake.test failed" },
	{ "TLSA bogus: nobody is dialled", HOP(.tlsa = BOGUS), "", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 0, 0, "verdict=defer owed=dane", "bogus" },
	{ "TLSA of no octets: encrypt", HOP(.tlsa = EMPTY), "", SERVER_TLS, CERT_ALONE, false, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=encrypt reached=encrypt", NULL },
	{ "TLSA of no octets, stripped", HOP(.tlsa = EMPTY), "", SERVER_NO_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "tls_not_offered", "TLS owed: encrypt" },
	{ "insecure address: may, in clear", HOP(.tlsa = BOGUS, .insecure_address = true), "", SERVER_NO_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=may reached=none", NULL },
	{ "verify, right name", HOP(0), ";tls=verify", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=verify reached=verify", NULL },
	{ "verify, wrong name", HOP(0), ";tls=verify", SERVER_TLS, CERT_WRONG, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "owed=verify", "TLS owed: verify" },
	{ "verify, expired", HOP(0), ";tls=verify", SERVER_TLS, CERT_EXPIRED, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "owed=verify", "TLS owed: verify" },
	{ "none", HOP(.tlsa = RIGHT), ";tls=none", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=none reached=none", NULL },
	{ "REQUIRETLS", HOP(0), ";require", SERVER_TLS, CERT_RIGHT, true, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=verify reached=verify", "MAIL FROM:<a@b.test> REQUIRETLS" },
	{ "REQUIRETLS and DANE", HOP(.tlsa = RIGHT), ";require", SERVER_TLS, CERT_RIGHT, true, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=dane reached=dane", "REQUIRETLS" },
	{ "REQUIRETLS is not offered", HOP(0), ";require", SERVER_TLS, CERT_RIGHT, false, "a@b.test", WIRE_FAILED, 550, 1, 0, "REQUIRETLS is needed and not offered", "REQUIRETLS is needed and not offered" },
	{ "REQUIRETLS, self-signed", HOP(0), ";require", SERVER_TLS, CERT_ALONE, true, "a@b.test", WIRE_FAILED, 550, 1, 0, "owed=verify", "TLS owed: verify" },
	{ "REQUIRETLS, STARTTLS stripped", HOP(0), ";require", SERVER_NO_TLS, CERT_RIGHT, true, "a@b.test", WIRE_FAILED, 550, 1, 0, "tls_not_offered", "TLS owed: verify" },
	{ "REQUIRETLS where tls = none", HOP(0), ";tls=none;require", SERVER_TLS, CERT_RIGHT, true, "a@b.test", WIRE_FAILED, 550, 0, 0, "verdict=skip", "no TLS to this hop" },
	{ "REQUIRETLS, TLSA bogus: later", HOP(.tlsa = BOGUS), ";require", SERVER_TLS, CERT_RIGHT, true, "a@b.test", WIRE_DEFERRED, 451, 0, 0, "verdict=defer", "bogus" },
	{ "a report with REQUIRETLS goes without the word where it is unknown", HOP(0), ";require", SERVER_TLS, CERT_RIGHT, false, "", WIRE_DELIVERED, 250, 1, 1, "owed=verify reached=verify", "MAIL FROM:<>" },
	{ "and with it where it is known", HOP(0), ";require", SERVER_TLS, CERT_RIGHT, true, "", WIRE_DELIVERED, 250, 1, 1, "owed=verify", "MAIL FROM:<> REQUIRETLS" },
	{ "and never in clear", HOP(0), ";require", SERVER_NO_TLS, CERT_RIGHT, true, "", WIRE_DEFERRED, 451, 1, 0, "tls_not_offered", "TLS owed: verify" },
	{ "TLS-Required: No, bogus TLSA", HOP(.tlsa = BOGUS), ";relaxed", SERVER_NO_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DELIVERED, 250, 1, 1, "owed=may", NULL },
	{ "TLS-Required: No does not lower the configuration", HOP(0), ";tls=encrypt;relaxed", SERVER_NO_TLS, CERT_RIGHT, false, "a@b.test", WIRE_DEFERRED, 451, 1, 0, "owed=encrypt", "TLS owed: encrypt" },
};

static struct server *serve(struct world *w, enum server_tls tls, enum cert cert, int fd)
{
	struct pki *certs[] = { NULL, &leaf, &wrong, &expired, &alone };
	struct server *s = &w->servers[w->server_n++];

	server_start(s, w->rig, fd);
	s->tls = tls;
	s->context = context_of(certs[cert]);
	return s;
}

static void test_situations(void **state)
{
	char dest[200];

	(void)state;
	for (size_t i = 0; i < sizeof situations / sizeof *situations; i++) {
		const struct situation *c = &situations[i];
		struct world *w = world_new();
		uint16_t port = 0;
		struct server *s = serve(w, c->tls, c->cert, rig_listen(&port));
		struct outcome *o = &w->outcomes[1];

		play = c->play;
		s->features = c->word ? "250-REQUIRETLS\r\n" : NULL;
		snprintf(dest, sizeof dest, "smtp:mx.fake.test:%u%s", port, c->options);
		send_one(w, dest, c->sender, strstr(c->options, "require") ? WIRE_REQUIRETLS : 0);
		if (o->r[0].kind != c->kind || o->r[0].code != c->code || s->connections != c->connections || s->mails != c->mails)
			fail_msg("%s: kind %u code %u, %u connections, %u MAIL: %s\n%s", c->what, o->r[0].kind, o->r[0].code, s->connections, s->mails,
			         o->r[0].text, rig_log(w->rig));
		if (!rig_logged(w->rig, c->log))
			fail_msg("%s: \"%s\" is not in the log:\n%s", c->what, c->log, rig_log(w->rig));
		if (c->text && !strstr(o->r[0].text, c->text) && !strstr(s->commands, c->text))
			fail_msg("%s: %s\n%s", c->what, o->r[0].text, s->commands);
		assert_int_equal(sts_asked, 0); /* RFC 8461 speaks of domains */
		assert_string_equal(results, "");
		struct tls_context *context = s->context;
		world_end(w);
		tls_context_free(context);
	}
}

/* ---- a domain: MTA-STS and TLS-RPT; port 25 of a loopback address wants root ---- */

static const struct domain_case {
	const char *what;
	struct play play;
	const char *dest;
	enum server_tls tls;
	enum cert cert;
	uint8_t kind;
	unsigned mails, asked;
	const char *log, *results;
} domains[] = {
	{ "nothing", { .insecure_mx = true, .tlsa = NO_TLSA }, "mx:fake.test", SERVER_NO_TLS, CERT_RIGHT, WIRE_DELIVERED, 1, 1, "owed=may reached=none", "1 2 mx.fake.test|" },
	{ "DANE", { .tlsa = RIGHT }, "mx:fake.test", SERVER_TLS, CERT_RIGHT, WIRE_DELIVERED, 1, 1, "owed=dane reached=dane policy=tlsa", "2 1 mx.fake.test|" },
	{ "DANE beats a policy without this host", { .tlsa = RIGHT, .sts = true, .mode = WIRE_STS_MODE_ENFORCE, .sts_mx = "other.test\n" }, "mx:fake.test", SERVER_TLS, CERT_RIGHT, WIRE_DELIVERED, 1, 1, "owed=dane reached=dane policy=tlsa", "2 1 mx.fake.test|" },
	{ "DANE, stripped", { .tlsa = RIGHT }, "mx:fake.test", SERVER_NO_TLS, CERT_RIGHT, WIRE_DEFERRED, 0, 1, "owed=dane", "2 2 mx.fake.test|" },
	{ "DANE, wrong key", { .tlsa = WRONG_KEY }, "mx:fake.test", SERVER_TLS, CERT_RIGHT, WIRE_DEFERRED, 0, 1, "owed=dane", "2 3 mx.fake.test|" },
	{ "TLSA bogus", { .tlsa = BOGUS }, "mx:fake.test", SERVER_TLS, CERT_RIGHT, WIRE_DEFERRED, 0, 1, "verdict=defer", "2 8 mx.fake.test|" },
	{ "TLSA unusable", { .tlsa = EMPTY }, "mx:fake.test", SERVER_TLS, CERT_ALONE, WIRE_DELIVERED, 1, 1, "owed=encrypt", "2 7 mx.fake.test|" },
	{ "enforce", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE }, "mx:fake.test", SERVER_TLS, CERT_RIGHT, WIRE_DELIVERED, 1, 1, "owed=verify reached=verify policy=sts", "3 1 mx.fake.test|" },
	{ "enforce, wrong name", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE }, "mx:fake.test", SERVER_TLS, CERT_WRONG, WIRE_DEFERRED, 0, 1, "owed=verify", "3 3 mx.fake.test|" },
	{ "enforce, expired", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE }, "mx:fake.test", SERVER_TLS, CERT_EXPIRED, WIRE_DEFERRED, 0, 1, "owed=verify", "3 4 mx.fake.test|" },
	{ "enforce, self-signed", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE }, "mx:fake.test", SERVER_TLS, CERT_ALONE, WIRE_DEFERRED, 0, 1, "owed=verify", "3 5 mx.fake.test|" },
	{ "enforce, stripped", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE }, "mx:fake.test", SERVER_NO_TLS, CERT_RIGHT, WIRE_DEFERRED, 0, 1, "owed=verify", "3 2 mx.fake.test|" },
	{ "enforce, not in the policy", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE, .sts_mx = "other.test\n" }, "mx:fake.test", SERVER_TLS, CERT_RIGHT, WIRE_DEFERRED, 0, 1, "verdict=skip owed=verify", "3 6 mx.fake.test|" },
	{ "testing, wrong name: told, and sent", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_TESTING }, "mx:fake.test", SERVER_TLS, CERT_WRONG, WIRE_DELIVERED, 1, 1, "owed=may reached=encrypt policy=sts", "3 3 mx.fake.test|" },
	{ "testing, stripped: told, and sent", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_TESTING }, "mx:fake.test", SERVER_NO_TLS, CERT_RIGHT, WIRE_DELIVERED, 1, 1, "owed=may reached=none policy=sts", "3 2 mx.fake.test|" },
	{ "unusable TLSA and enforce: both are told", { .tlsa = EMPTY, .sts = true, .mode = WIRE_STS_MODE_ENFORCE }, "mx:fake.test", SERVER_TLS, CERT_RIGHT, WIRE_DELIVERED, 1, 1, "owed=verify reached=verify", "3 1 mx.fake.test|2 7 mx.fake.test|" },
	{ "REQUIRETLS, nothing proves the name", { .insecure_mx = true, .tlsa = NO_TLSA }, "mx:fake.test;require", SERVER_TLS, CERT_RIGHT, WIRE_FAILED, 0, 1, "verdict=skip", "" },
	{ "relaxed: not even asked", { .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE }, "mx:fake.test;relaxed", SERVER_NO_TLS, CERT_RIGHT, WIRE_DELIVERED, 1, 0, "owed=may", "1 2 mx.fake.test|" },
};

static int listen_25(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(25), .sin_addr.s_addr = htonl(0x7f000000u + 256 + (unsigned)getpid() % 65000u) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	static char octets[4];

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) == -1) {
		close(fd);
		return -1;
	}
	memcpy(octets, &a.sin_addr, 4);
	address = octets;
	assert_int_equal(listen(fd, 512), 0);
	return fd;
}

static void test_domains(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) {
		const struct domain_case *c = &domains[i];
		struct world *w;
		struct server *s;
		struct tls_context *context;
		int fd = listen_25();

		if (fd == -1)
			skip(); /* port 25 needs root */
		w = world_new();
		s = serve(w, c->tls, c->cert, fd);
		play = c->play;
		send_one(w, c->dest, "a@b.test", strstr(c->dest, "require") ? WIRE_REQUIRETLS : 0);
		if (w->outcomes[1].r[0].kind != c->kind || s->mails != c->mails || sts_asked != c->asked || strcmp(results, c->results) != 0)
			fail_msg("%s: kind %u, %u MAIL, asked %u, results %s: %s\n%s", c->what, w->outcomes[1].r[0].kind, s->mails, sts_asked, results,
			         w->outcomes[1].r[0].text, rig_log(w->rig));
		if (!rig_logged(w->rig, c->log))
			fail_msg("%s: \"%s\" is not in the log:\n%s", c->what, c->log, rig_log(w->rig));
		context = s->context;
		world_end(w);
		tls_context_free(context);
	}
	address = "\x7f\0\0\1";
}

/* `policy` goes while it is asked: mail waits for its successor, and for no answer at all it is deferred. */
static void test_policy_goes(void **state)
{
	struct world *w = world_new();
	struct wire_DELIVER m = { .stream = 1, .id = 1, .dest = VIEW("mx:fake.test"), .sender = VIEW("a@b.test"), .size = strlen(BODY) };
	struct buf list;

	(void)state;
	play = (struct play){ .insecure_mx = true, .sts = true, .mode = WIRE_STS_MODE_ENFORCE, .sts_mx = "other.test\n" };
	channel_free(policy_end);
	policy_end = NULL;
	rig_turns(w->rig, 3);
	buf_init(&list, &alloc_libc, 4096);
	wire_rcpt_add(&list, &(struct wire_rcpt){ .address = VIEW("x@fake.test") });
	m.rcpts = buf_view(&list);
	assert_true(wire_send_DELIVER(w->queue, &m));
	UNTIL(w->rig, w->asked == 2);
	rig_turns(w->rig, 5);
	assert_int_equal(w->outcome_n, 0);
	connect_policy(w);
	OUTCOME(w, 1);
	assert_int_equal(sts_asked, 1);
	assert_true(rig_logged(w->rig, "verdict=skip owed=verify"));
	/* and one that never answers */
	channel_free(policy_end);
	policy_end = NULL;
	rig_skew += SEND_PLAN_MIN_MS + 1;
	rig_turns(w->rig, 3);
	m.stream = 2;
	assert_true(wire_send_DELIVER(w->queue, &m));
	UNTIL(w->rig, w->asked == 4);
	rig_skew += SEND_POLICY_MS + 20000;
	OUTCOME(w, 2);
	assert_int_equal(w->outcomes[2].r[0].kind, WIRE_DEFERRED);
	assert_non_null(strstr(w->outcomes[2].r[0].text, "does not say what is owed"));
	buf_free(&list);
	world_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policy_goes), cmocka_unit_test(test_situations), cmocka_unit_test(test_domains),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
