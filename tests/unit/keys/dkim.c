/* dkim.c - keys that sign mail: for `policy` alone, which may use no other; of the kind that the configuration says; RSA and Ed25519. */
#include "base/buf.h"
#include "keys/keys.h"
#include "tls/tls.h"
#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/keys-dkim-XXXXXX";
static EVP_PKEY *ec, *rsa, *small, *edwards;
static const char hash[32] = "thirty-two octets, like a SHA256";

static void write_key(const char *name, EVP_PKEY *key)
{
	char path[100];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s.key", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	small = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024);
	edwards = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	write_key("ec", ec);
	write_key("rsa", rsa);
	write_key("small", small);
	write_key("edwards", edwards);
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = { "ec", "rsa", "small", "edwards" };
	char path[100];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s/%s.key", dir, names[i]);
		unlink(path);
	}
	EVP_PKEY_free(ec);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(small);
	EVP_PKEY_free(edwards);
	return rmdir(dir);
}

/* ---- the role, and who asks ---- */

static struct {
	struct role role;
	struct conf *conf;
	struct handoff *files;
	int log[2];
	struct channel *asker;
	bool answered, ok;
	unsigned char signature[TLS_SIGNATURE_MAX];
	size_t n;
} t;

static void begin(void)
{
	char text[2000];
	struct error e = { 0 };

	snprintf(text, sizeof text,
	         "hostname = \"mx.test\"\nspool = \"%s/s\"\ncontrol = \"%s/c\"\n"
	         "certificate web { chain = \"/none\" key = \"%s/ec.key\" }\ncertificate odd { chain = \"/none\" key = \"%s/edwards.key\" }\n"
	         "listener mx { address = \"127.0.0.1:25\" certificate = {web, odd} }\n"
	         "dkim r1 { domain = a.test key = \"%s/rsa.key\" }\ndkim e1 { domain = a.test algorithm = ed25519 key = \"%s/edwards.key\" }\n"
	         "dkim x1 { domain = a.test algorithm = ed25519 key = \"%s/rsa.key\" }\ndkim x2 { domain = a.test key = \"%s/edwards.key\" }\n"
	         "dkim x3 { domain = a.test key = \"%s/small.key\" }\ndkim x4 { domain = a.test key = \"%s/ec.key\" }\ndkim x5 { domain = a.test key = \"%s/no.key\" }\n",
	         dir, dir, dir, dir, dir, dir, dir, dir, dir, dir, dir);
	memset(&t, 0, sizeof t);
	assert_int_equal(pipe(t.log), 0);
	if (conf_parse(&t.conf, view_cstr(text), "test", &e) == -1 || handoff_read(&t.files, t.conf, "test", "keys", &e) == -1)
		fail_msg("%s", e.text);
	t.role = (struct role){ .kind = ROLE_KEYS, .ops = &keys_role, .conf = t.conf, .files = t.files, .env = &env_real, .loop = loop_new(&env_real),
		.generation = 1, .extra_fd = -1 };
	t.role.events = events_new(&env_real, "keys", t.log[1], EVENT_DEBUG, NULL);
	assert_int_equal(keys_role.prepare(&t.role, &e), 0);
	assert_int_equal(keys_role.start(&t.role, &e), 0);
}

static const char *logged(void)
{
	static char text[65536];
	ssize_t n = read(t.log[0], text, sizeof text - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static void finish(void)
{
	keys_role.stop(&t.role);
	for (int i = 0; i < 4; i++)
		loop_turn(t.role.loop, false);
	events_free(t.role.events);
	loop_free(t.role.loop);
	conf_free(t.conf);
	handoff_free(t.files);
	close(t.log[0]);
	close(t.log[1]);
}

static void on_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct wire_KEY_SIGNED m;

	(void)arg;
	(void)c;
	assert_int_equal(fd, -1);
	assert_int_equal(type, WIRE_KEY_SIGNED);
	assert_int_equal(wire_read_KEY_SIGNED(payload, &m), 0);
	t.answered = true;
	t.ok = m.ok;
	t.n = m.signature.n;
	memcpy(t.signature, m.signature.p, m.signature.n);
}

static void on_closed(void *arg, struct channel *c)
{
	(void)arg;
	channel_free(c);
	t.asker = NULL;
}

static bool ask(enum role_kind as, uint32_t key, uint8_t padding)
{
	static const struct channel_handler handler = { .frame = on_frame, .closed = on_closed };
	const struct wire_KEY_SIGN m = { .stream = 7, .key = key, .digest = TLS_DIGEST_SHA256, .padding = padding, .hash = view_of(hash, sizeof hash) };
	struct channel *ends[2];

	assert_int_equal(channel_pair(t.role.loop, ends), 0);
	channel_set_handler(ends[0], &handler, NULL);
	t.asker = ends[0];
	keys_role.channel(&t.role, as, 0, 1, ends[1]);
	assert_true(wire_send_KEY_SIGN(ends[0], &m));
	t.answered = false;
	for (int i = 0; i < 2000 && !t.answered; i++) { /* RSA may be signed by a thread */
		loop_turn(t.role.loop, false);
		if (i > 20)
			poll(NULL, 0, 1);
	}
	assert_true(t.answered);
	if (t.asker)
		channel_free(t.asker);
	for (int i = 0; i < 4; i++)
		loop_turn(t.role.loop, false);
	return t.ok;
}

/* ---- tests ---- */

static void keys_of_the_wrong_kind(void **state)
{
	const char *log;

	(void)state;
	begin();
	log = logged();
	for (const char *const *title = (const char *const[]){ "odd", "x1", "x2", "x3", "x4", "x5", NULL }; *title; title++) {
		char line[60];
		snprintf(line, sizeof line, "event=key_broken title=%s", *title);
		if (!strstr(log, line))
			fail_msg("%s: not in %s", line, log);
	}
	assert_non_null(strstr(log, "title=r1 type=RSA bits=2048"));
	assert_non_null(strstr(log, "title=e1 type=Ed25519"));
	for (uint32_t key = 4; key < 10; key++) {
		assert_false(ask(ROLE_POLICY, key, TLS_PADDING_PKCS1));
		assert_false(ask(ROLE_POLICY, key, TLS_PADDING_NONE));
	}
	assert_false(ask(ROLE_POLICY, 2, TLS_PADDING_NONE));
	assert_false(ask(ROLE_POLICY, 3, TLS_PADDING_PKCS1));
	finish();
}

static void nobody_speaks_for_the_other(void **state)
{
	(void)state;
	begin();
	logged();
	assert_false(ask(ROLE_POLICY, 0, TLS_PADDING_NONE)); /* a handshake, in the name of the server */
	assert_non_null(strstr(logged(), "this role"));
	assert_false(ask(ROLE_RECEIVE, 2, TLS_PADDING_PKCS1)); /* mail, in the name of the domain */
	assert_non_null(strstr(logged(), "this role"));
	assert_false(ask(ROLE_RECEIVE, 3, TLS_PADDING_NONE));
	assert_true(ask(ROLE_RECEIVE, 0, TLS_PADDING_NONE));
	finish();
}

static void signatures_verify(void **state)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(rsa, NULL);
	EVP_MD_CTX *md = EVP_MD_CTX_new();

	(void)state;
	begin();
	assert_true(ask(ROLE_POLICY, 2, TLS_PADDING_PKCS1));
	assert_int_equal(EVP_PKEY_verify_init(ctx), 1);
	assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()), 1);
	assert_int_equal(EVP_PKEY_verify(ctx, t.signature, t.n, (const unsigned char *)hash, sizeof hash), 1);
	t.signature[5] ^= 1;
	assert_int_not_equal(EVP_PKEY_verify(ctx, t.signature, t.n, (const unsigned char *)hash, sizeof hash), 1);
	assert_true(ask(ROLE_POLICY, 3, TLS_PADDING_NONE));
	assert_int_equal(t.n, 64);
	assert_int_equal(EVP_DigestVerifyInit(md, NULL, NULL, NULL, edwards), 1);
	assert_int_equal(EVP_DigestVerify(md, t.signature, t.n, (const unsigned char *)hash, sizeof hash), 1);
	ERR_clear_error();
	EVP_PKEY_CTX_free(ctx);
	EVP_MD_CTX_free(md);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_of_the_wrong_kind), cmocka_unit_test(nobody_speaks_for_the_other), cmocka_unit_test(signatures_verify),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
