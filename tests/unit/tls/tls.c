/* tls.c - contexts and sessions over OpenSSL: refusals first, then names, versions, keys elsewhere, tickets. */
#include "pki.h"
#include "tls/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "pair.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct pki ca, leaf_ec, leaf_rsa;
static const struct tls_peer_check to_mx = { .how = TLS_CHECK_CHAIN_AND_NAME, .name = "mx.test" },
				   nameless = { .how = TLS_CHECK_CHAIN_AND_NAME },
				   empty = { .how = TLS_CHECK_CHAIN_AND_NAME, .name = "" };

static struct tls_context *server_of(const struct pki *p, struct error *e)
{
	const struct tls_server_options o = { .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(p->cert_pem) }, .certificates_n = 1, .signer = { pki_sign, p->key }, .session_context = VIEW("mx") };

	return tls_server_new(&o, e);
}

/* ---- contexts that cannot be ---- */

static void bad_chains_are_refused_with_a_reason(void **state)
{
	struct pki p521 = pki_make("P-521", "x", NULL, NULL, false, 10), small = pki_make("RSA-1024", "x", NULL, NULL, false, 10);
	struct error e;
	struct tls_server_certificate one = { .key = 0 };
	struct tls_server_options o = { .certificates = &one, .certificates_n = 1, .signer = { pki_sign, leaf_ec.key }, .session_context = VIEW("") };
	char broken[200], encrypted[] = "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END CERTIFICATE-----\n";

	(void)state;
	one.chain = VIEW("");
	assert_null(tls_server_new(&o, &e));
	assert_non_null(strstr(e.text, "no certificate"));
	one.chain = VIEW("hello");
	assert_null(tls_server_new(&o, &e));
	snprintf(broken, sizeof broken, "%.150s", leaf_ec.cert_pem);
	one.chain = view_cstr(broken);
	assert_null(tls_server_new(&o, &e));
	assert_non_null(strstr(e.text, "chain"));
	one.chain = view_cstr(encrypted); /* must not ask a terminal for a password */
	assert_null(tls_server_new(&o, &e));
	assert_null(server_of(&p521, &e));
	assert_non_null(strstr(e.text, "P-256"));
	assert_null(server_of(&small, &e));
	assert_non_null(e.text);
	pki_free(&p521);
	pki_free(&small);
}

static void bad_trust_is_refused(void **state)
{
	struct error e;

	(void)state;
	assert_null(tls_client_new(VIEW("# nothing\n"), &e));
	struct tls_context *trusting_nobody = tls_client_new(VIEW(""), &e);
	assert_non_null(trusting_nobody);
	struct tls_context *like = tls_client_like(trusting_nobody, &e);
	assert_null(tls_session_new(trusting_nobody, false, &to_mx));
	assert_null(tls_session_new(like, false, &to_mx));
	tls_context_free(trusting_nobody);
	tls_context_free(like);
	assert_null(tls_client_new(VIEW("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &e));
}

static long no_signer(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room)
{
	(void)key;
	(void)digest;
	(void)padding;
	(void)hash;
	(void)n;
	memset(to, 7, room);
	return arg ? (long)room : -1; /* nothing, or garbage */
}

static void a_key_that_does_not_fit_is_found_out(void **state)
{
	struct error e = { 0 };
	struct tls_server_options o = { .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(leaf_ec.cert_pem) }, .certificates_n = 1, .signer = { pki_sign, leaf_ec.key }, .session_context = VIEW("") };
	struct pki other = pki_make("P-256", "x", NULL, NULL, false, 10);
	struct tls_context *c = tls_server_new(&o, &e), *client = tls_client_new(VIEW(""), &e);
	struct pair p;

	(void)state;
	assert_int_equal(tls_server_check(c, 0, &e), 0);
	assert_true(tls_chain_expires(view_cstr(leaf_ec.cert_pem)) > (int64_t)time(NULL));
	tls_context_free(c);
	o.signer.arg = other.key;
	c = tls_server_new(&o, &e);
	assert_non_null(c);
	assert_int_equal(tls_server_check(c, 0, &e), -1);
	assert_non_null(strstr(e.text, "does not belong"));
	p = shake(c, client, "x.test"); /* and if it were tried: the handshake fails, nothing worse */
	assert_int_equal(p.c, TLS_FAILED);
	end(&p);
	tls_context_free(c);
	o.signer = (struct tls_signer){ no_signer, NULL };
	c = tls_server_new(&o, &e);
	assert_int_equal(tls_server_check(c, 0, &e), -1);
	assert_non_null(strstr(e.text, "cannot sign"));
	p = shake(c, client, "x.test");
	assert_int_equal(p.s, TLS_FAILED);
	assert_int_equal(p.c, TLS_FAILED);
	end(&p);
	tls_context_free(c);
	o.signer = (struct tls_signer){ no_signer, &e };
	c = tls_server_new(&o, &e);
	assert_int_equal(tls_server_check(c, 0, &e), -1);
	p = shake(c, client, "x.test");
	assert_int_equal(p.c, TLS_FAILED);
	end(&p);
	tls_context_free(c);
	tls_context_free(client);
	pki_free(&other);
}

/* ---- versions ---- */

/* A handshake with a plain OpenSSL client limited to one version; returns SSL_get_version or "" when it failed. */
static const char *with_version(struct tls_context *server, int version, char *cipher, size_t room)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	struct tls_session *s = tls_session_new(server, true, NULL);
	struct buf down;
	const char *got = "";
	enum tls_status st = TLS_WANT;
	unsigned i;

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
	ssl = SSL_new(ctx);
	SSL_set_connect_state(ssl);
	SSL_set_bio(ssl, in, out);
	buf_init(&down, &alloc_libc, 1 << 20);
	for (i = 0; i < 10; i++) {
		struct view v;
		char *p;
		long n;
		int r = SSL_do_handshake(ssl);

		if (r == 1 && st == TLS_OK) {
			got = SSL_get_version(ssl);
			snprintf(cipher, room, "%s", SSL_get_cipher_name(ssl));
			break;
		}
		n = BIO_get_mem_data(out, &p);
		v = view_of(p, (size_t)n);
		if (st == TLS_WANT)
			st = tls_handshake(s, &v, &down);
		BIO_reset(out);
		BIO_write(in, buf_view(&down).p, (int)buf_len(&down));
		buf_take(&down, buf_len(&down));
	}
	tls_session_free(s);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	buf_free(&down);
	ERR_clear_error();
	return got;
}

static void only_1_2_and_1_3_are_spoken(void **state)
{
	struct error e;
	struct tls_context *ec = server_of(&leaf_ec, &e), *rsa = server_of(&leaf_rsa, &e);
	char cipher[64] = "";

	(void)state;
	assert_string_equal(with_version(ec, TLS1_VERSION, cipher, sizeof cipher), "");
	assert_string_equal(with_version(ec, TLS1_1_VERSION, cipher, sizeof cipher), "");
	assert_string_equal(with_version(rsa, TLS1_1_VERSION, cipher, sizeof cipher), "");
	assert_string_equal(with_version(ec, TLS1_2_VERSION, cipher, sizeof cipher), "TLSv1.2");
	assert_non_null(strstr(cipher, "ECDHE-ECDSA"));
	assert_string_equal(with_version(ec, TLS1_3_VERSION, cipher, sizeof cipher), "TLSv1.3");
	assert_string_equal(cipher, "TLS_AES_128_GCM_SHA256"); /* our order counts, not the client's */
	assert_string_equal(with_version(rsa, TLS1_2_VERSION, cipher, sizeof cipher), "TLSv1.2");
	assert_non_null(strstr(cipher, "ECDHE-RSA"));
	assert_string_equal(with_version(rsa, TLS1_3_VERSION, cipher, sizeof cipher), "TLSv1.3");
	tls_context_free(ec);
	tls_context_free(rsa);
}

/* Every signature scheme that a peer may insist on: RSA by PKCS#1 and PSS, ECDSA, with each digest, in both versions. */
static void every_signature_scheme_works(void **state)
{
	static const struct { const char *type, *alg; int version; bool works; } rows[] = {
		{ "RSA-2048", "RSA+SHA256", TLS1_2_VERSION, true },      { "RSA-2048", "RSA+SHA384", TLS1_2_VERSION, true },
		{ "RSA-2048", "RSA+SHA512", TLS1_2_VERSION, true },      { "RSA-2048", "rsa_pss_rsae_sha256", TLS1_2_VERSION, true },
		{ "RSA-2048", "rsa_pss_rsae_sha384", TLS1_2_VERSION, true }, { "RSA-2048", "rsa_pss_rsae_sha512", TLS1_2_VERSION, true },
		{ "RSA-2048", "rsa_pss_rsae_sha256", TLS1_3_VERSION, true }, { "RSA-2048", "rsa_pss_rsae_sha512", TLS1_3_VERSION, true },
		{ "RSA-2048", "RSA+SHA1", TLS1_2_VERSION, false },       { "RSA-2048", "ECDSA+SHA256", TLS1_2_VERSION, false },
		{ "P-256", "ECDSA+SHA256", TLS1_2_VERSION, true },       { "P-256", "ECDSA+SHA512", TLS1_2_VERSION, true },
		{ "P-256", "ECDSA+SHA256", TLS1_3_VERSION, true },       { "P-256", "ECDSA+SHA1", TLS1_2_VERSION, false },
		{ "P-384", "ECDSA+SHA384", TLS1_2_VERSION, true },       { "P-384", "ECDSA+SHA384", TLS1_3_VERSION, true },
	};
	struct pki p384 = pki_make("P-384", "x", NULL, NULL, false, 10);
	struct error e;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct pki *pki = rows[i].type[0] == 'R' ? &leaf_rsa : rows[i].type[2] == '3' ? &p384 : &leaf_ec;
		struct tls_context *server = server_of(pki, &e);
		struct tls_session *s = tls_session_new(server, true, NULL);
		SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
		SSL *ssl;
		BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
		struct buf down;
		enum tls_status st = TLS_WANT;
		int r = 0;
		unsigned k;

		SSL_CTX_set_min_proto_version(ctx, rows[i].version);
		SSL_CTX_set_max_proto_version(ctx, rows[i].version);
		SSL_CTX_set_security_level(ctx, 0);
		assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, rows[i].alg), 1);
		ssl = SSL_new(ctx);
		SSL_set_connect_state(ssl);
		SSL_set_bio(ssl, in, out);
		buf_init(&down, &alloc_libc, 1 << 20);
		for (k = 0; k < 10 && !(r == 1 && st == TLS_OK); k++) {
			struct view v;
			char *p;

			r = SSL_do_handshake(ssl);
			v.n = (size_t)BIO_get_mem_data(out, &p);
			v.p = p;
			if (st == TLS_WANT)
				st = tls_handshake(s, &v, &down);
			BIO_reset(out);
			BIO_write(in, buf_view(&down).p, (int)buf_len(&down));
			buf_take(&down, buf_len(&down));
		}
		if ((r == 1 && st == TLS_OK) != rows[i].works)
			fail_msg("%s with %s: %s", rows[i].type, rows[i].alg, tls_why(s));
		tls_session_free(s);
		SSL_free(ssl);
		SSL_CTX_free(ctx);
		buf_free(&down);
		ERR_clear_error();
		tls_context_free(server);
	}
	pki_free(&p384);
}

/* ---- names ---- */

static void names_are_verified_by_subject_alternative_names_alone(void **state)
{
	static const struct { const char *cn, *san, *name; bool fine; } rows[] = {
		{ "x", "DNS:mx.test", "mx.test", true },          { "x", "DNS:mx.test", "MX.TEST", true },
		{ "x", "DNS:mx.test", "mx.test.", true },         { "x", "DNS:mx.test", "other.test", false },
		{ "x", "DNS:mx.test", "a.mx.test", false },       { "x", "DNS:*.test.example", "mx.test.example", true },
		{ "x", "DNS:*.test.example", "a.b.test.example", false }, { "x", "DNS:*.test.example", "test.example", false },
		{ "x", "DNS:m*.test.example", "mx.test.example", false }, { "mx.test", NULL, "mx.test", false },
		{ "mx.test", "DNS:other.test", "mx.test", false },{ "mx.test", "email:a@mx.test", "mx.test", false },
		{ "x", "DNS:a.test,DNS:mx.test", "mx.test", true },  { "x", "IP:127.0.0.1", "127.0.0.1", true },
		{ "x", "IP:127.0.0.1", "127.0.0.2", false },      { "x", "DNS:127.0.0.1", "127.0.0.1", false },
		{ "x", "IP:::1", "::1", true },
	};
	struct error e;
	struct tls_context *first = tls_client_new(view_cstr(ca.cert_pem), &e),
			   *strict = tls_client_like(first, &e),
			   *watching = tls_client_like(strict, &e);
	size_t i;

	(void)state;
	assert_non_null(strict);
	tls_context_free(first); /* what they share outlives it */
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct pki p = pki_make("P-256", rows[i].cn, rows[i].san, &ca, false, 10);
		struct tls_context *server = server_of(&p, &e);
		struct pair t = shake_strict(server, strict, rows[i].name);

		if ((t.c == TLS_OK) != rows[i].fine)
			fail_msg("name %s, SAN %s: %s", rows[i].name, rows[i].san ? rows[i].san : "-", tls_why(t.client));
		if (rows[i].fine) {
			talk(&t);
			assert_true(tls_get_facts(t.client)->verified);
			assert_true(view_eq(tls_get_facts(t.client)->verify, VIEW("verified")));
			assert_true(tls_get_facts(t.client)->peer_name.n > 0);
		} else {
			assert_non_null(strstr(tls_why(t.client), "certificate not accepted"));
			assert_int_not_equal(t.s, TLS_OK);
		}
		end(&t);
		t = shake(server, watching, rows[i].name); /* decides nothing, but knows */
		talk(&t);
		assert_int_equal(tls_get_facts(t.client)->verified, rows[i].fine);
		assert_true(tls_get_facts(t.client)->verify.n > 0);
		end(&t);
		tls_context_free(server);
		pki_free(&p);
	}
	tls_context_free(strict);
	tls_context_free(watching);
}

static void untrusted_and_expired_chains_are_refused(void **state)
{
	struct pki alone = pki_make("P-256", "x", "DNS:mx.test", NULL, false, 10), old = pki_make("P-256", "x", "DNS:mx.test", &ca, false, -1);
	struct error e;
	struct tls_context *strict = tls_client_new(view_cstr(ca.cert_pem), &e),
			   *none = tls_client_new(VIEW(""), &e),
			   *pinned = tls_client_new(view_cstr(alone.cert_pem), &e),
			   *server = server_of(&alone, &e), *server_old = server_of(&old, &e);
	struct pair t;

	(void)state;
	t = shake_strict(server, strict, "mx.test");
	assert_int_equal(t.c, TLS_FAILED);
	assert_non_null(strstr(tls_why(t.client), "self-signed"));
	assert_int_equal(t.s, TLS_FAILED); /* the alert arrived */
	end(&t);
	t = shake_strict(server_old, strict, "mx.test");
	assert_int_equal(t.c, TLS_FAILED);
	assert_non_null(strstr(tls_why(t.client), "expired"));
	end(&t);
	t = shake(server, none, "mx.test");
	talk(&t);
	assert_true(view_eq(tls_get_facts(t.client)->verify, VIEW("not checked")));
	assert_false(tls_get_facts(t.client)->verified);
	assert_true(view_eq(tls_get_facts(t.client)->peer_name, VIEW("CN=x")));
	assert_true(view_eq(tls_get_facts(t.server)->sni, VIEW("mx.test")));
	assert_true(view_eq(tls_get_facts(t.server)->verify, VIEW("no certificate")));
	assert_true(view_eq(tls_get_facts(t.server)->protocol, VIEW("TLSv1.3")));
	assert_true(tls_get_facts(t.server)->bits >= 128);
	end(&t);
	t = shake_strict(server, pinned, "mx.test"); /* listed by the operator */
	talk(&t);
	assert_true(tls_get_facts(t.client)->verified);
	end(&t);
	assert_null(tls_session_new(strict, false, NULL));
	assert_null(tls_session_new(strict, false, &nameless)); /* strict without a name would check none */
	assert_null(tls_session_new(strict, false, &empty));
	assert_null(tls_session_new(strict, true, NULL));
	assert_null(tls_session_new(strict, true, &to_mx));
	assert_null(tls_session_new(server, true, &to_mx));
	assert_null(tls_session_new(server, false, &to_mx));
	tls_context_free(strict);
	tls_context_free(none);
	tls_context_free(pinned);
	tls_context_free(server);
	tls_context_free(server_old);
	pki_free(&alone);
	pki_free(&old);
}

/* ---- streams ---- */

static void clear_text_and_garbage_fail(void **state)
{
	struct error e;
	struct tls_context *server = server_of(&leaf_ec, &e), *client = tls_client_new(VIEW(""), &e);
	struct tls_session *s = tls_session_new(server, true, NULL);
	struct buf out;
	struct view v = VIEW("EHLO mx.test\r\nMAIL FROM:<>\r\n");
	struct pair p;
	char to[64];
	size_t got;

	(void)state;
	buf_init(&out, &alloc_libc, 65536);
	assert_int_equal(tls_handshake(s, &v, &out), TLS_FAILED);
	assert_true(strlen(tls_why(s)) > 0);
	tls_session_free(s);
	buf_free(&out);
	p = shake(server, client, "x.test");
	v = VIEW("MAIL FROM:<a@b>\r\n");
	assert_int_equal(tls_read(p.server, &v, to, sizeof to, &got, &p.down), TLS_FAILED);
	assert_int_equal(got, 0);
	end(&p);
	tls_context_free(server);
	tls_context_free(client);
}

static void a_long_text_arrives_in_any_pieces_and_close_notify_ends_it(void **state)
{
	enum { N = 100000 };
	struct error e;
	struct tls_context *server = server_of(&leaf_ec, &e), *client = tls_client_new(VIEW(""), &e);
	struct pair p = shake(server, client, "x.test");
	char *text = malloc(N), *back = calloc(1, N + 1);
	size_t i, piece, n = 0, got;
	enum tls_status st = TLS_WANT;

	(void)state;
	for (i = 0; i < N; i++)
		text[i] = (char)(i * 31 % 251);
	assert_int_equal(tls_write(p.client, view_of(text, N), &p.up), TLS_OK);
	tls_close(p.client, &p.up);
	assert_int_equal(tls_write(p.client, VIEW("late"), &p.up), TLS_FAILED);
	for (piece = 1; buf_len(&p.up); piece = piece * 7 % 4001 + 1) {
		struct view v = view_slice(buf_view(&p.up), 0, piece);
		size_t all = v.n;

		while ((st = tls_read(p.server, &v, back + n, N + 1 - n, &got, &p.down)) == TLS_OK)
			n += got;
		assert_true(st == TLS_WANT || st == TLS_CLOSED);
		buf_take(&p.up, all);
	}
	assert_int_equal(st, TLS_CLOSED);
	assert_int_equal(n, N);
	assert_memory_equal(text, back, N);
	end(&p);
	free(text);
	free(back);
	tls_context_free(server);
	tls_context_free(client);
}

/* ---- tickets ---- */

/* A plain OpenSSL client that keeps the session; resumes on the second server if the ticket is good there. */
struct resuming {
	struct tls_context *first, *second;
	int version;
	const char *name, *second_name; /* by SNI; NULL: none */
	void (*between)(void *arg);
	void *arg;
	unsigned times;
};

static bool resume(const struct resuming *how, unsigned *tickets)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL_SESSION *kept = NULL;
	bool reused = false;
	unsigned round;

	SSL_CTX_set_min_proto_version(ctx, how->version);
	SSL_CTX_set_max_proto_version(ctx, how->version);
	for (round = 0; round < 2; round++) {
		struct tls_session *s = tls_session_new(round ? how->second : how->first, true, NULL);
		const char *name = round ? how->second_name : how->name;
		SSL *ssl = SSL_new(ctx);
		BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
		struct buf down;
		enum tls_status st = TLS_WANT;
		unsigned k;
		char byte;

		BIO_set_mem_eof_return(in, -1);
		SSL_set_connect_state(ssl);
		SSL_set_bio(ssl, in, out);
		if (kept)
			SSL_set_session(ssl, kept);
		if (name)
			SSL_set_tlsext_host_name(ssl, name);
		for (k = 0; round && k < how->times; k++)
			how->between(how->arg);
		buf_init(&down, &alloc_libc, 1 << 20);
		for (k = 0; k < 6; k++) {
			struct view v;
			char *p;

			if (SSL_do_handshake(ssl) == 1)
				SSL_read(ssl, &byte, 1); /* takes tickets in */
			v.n = (size_t)BIO_get_mem_data(out, &p);
			v.p = p;
			if (st == TLS_WANT)
				st = tls_handshake(s, &v, &down);
			BIO_reset(out);
			BIO_write(in, buf_view(&down).p, (int)buf_len(&down));
			buf_take(&down, buf_len(&down));
		}
		assert_int_equal(st, TLS_OK);
		if (round == 0) {
			kept = SSL_get1_session(ssl);
			*tickets = SSL_SESSION_has_ticket(kept);
		} else {
			reused = SSL_session_reused(ssl);
			assert_int_equal(tls_get_facts(s)->resumed, reused);
		}
		SSL_set_quiet_shutdown(ssl, 1);
		SSL_shutdown(ssl);
		tls_session_free(s);
		SSL_free(ssl);
		buf_free(&down);
	}
	SSL_SESSION_free(kept);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return reused;
}

static bool resumes(struct tls_context *first, struct tls_context *second, int version, unsigned *tickets)
{
	return resume(&(const struct resuming){ .first = first, .second = second, .version = version }, tickets);
}

static struct tls_tickets *tickets_of(unsigned char first)
{
	struct tls_tickets *t = tls_tickets_new();
	unsigned char key[TLS_TICKET_KEY];

	assert_non_null(t);
	memset(key, first, sizeof key);
	tls_tickets_change(t, key);
	return t;
}

static void tickets_are_good_among_threads_of_one_start_and_one_listener(void **state)
{
	struct tls_tickets *keys = tickets_of(1), *others = tickets_of(2), *empty_ones = tls_tickets_new();
	struct error e;
	const struct tls_server_certificate one = { view_cstr(leaf_ec.cert_pem), 0 };
	struct tls_server_options o = { .certificates = &one, .certificates_n = 1, .signer = { pki_sign, leaf_ec.key }, .tickets = keys, .session_context = VIEW("mx") };
	struct tls_context *a, *b, *other_listener, *other_start, *none, *no_key;
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	unsigned i, tickets;

	(void)state;
	a = tls_server_new(&o, &e);
	b = tls_server_new(&o, &e);
	o.session_context = VIEW("submission");
	other_listener = tls_server_new(&o, &e);
	o.session_context = VIEW("mx");
	o.tickets = others;
	other_start = tls_server_new(&o, &e);
	o.tickets = empty_ones;
	no_key = tls_server_new(&o, &e);
	o.tickets = NULL;
	none = tls_server_new(&o, &e);
	assert_true(a && b && other_listener && other_start && none && no_key);
	for (i = 0; i < 2; i++) {
		assert_true(resumes(a, a, versions[i], &tickets));
		assert_int_equal(tickets, 1);
		assert_true(resumes(a, b, versions[i], &tickets));
		assert_false(resumes(a, other_listener, versions[i], &tickets));
		assert_false(resumes(a, other_start, versions[i], &tickets));
		assert_false(resumes(none, none, versions[i], &tickets));
		assert_int_equal(tickets, 0);
		assert_false(resumes(no_key, a, versions[i], &tickets)); /* and the handshake goes through */
	}
	tls_context_free(a);
	tls_context_free(b);
	tls_context_free(other_listener);
	tls_context_free(other_start);
	tls_context_free(none);
	tls_context_free(no_key);
	tls_tickets_free(keys);
	tls_tickets_free(others);
	tls_tickets_free(empty_ones);
}

static void change(void *arg)
{
	static unsigned char next = 10;
	unsigned char key[TLS_TICKET_KEY];

	memset(key, next++, sizeof key);
	tls_tickets_change(arg, key);
}

static void the_last_ticket_keys_still_open(void **state)
{
	struct tls_tickets *keys = tickets_of(1);
	struct error e;
	const struct tls_server_certificate one = { view_cstr(leaf_ec.cert_pem), 0 };
	struct tls_server_options o = { .certificates = &one, .certificates_n = 1, .signer = { pki_sign, leaf_ec.key }, .tickets = keys, .session_context = VIEW("mx") };
	struct tls_context *a = tls_server_new(&o, &e);
	unsigned i, k, tickets;

	(void)state;
	for (i = 0; i < 2; i++)
		for (k = 0; k <= TLS_TICKET_KEYS_KEPT; k++) {
			struct resuming r = { .first = a, .second = a, .version = i ? TLS1_3_VERSION : TLS1_2_VERSION, .between = change, .arg = keys, .times = k };

			assert_int_equal(resume(&r, &tickets), k < TLS_TICKET_KEYS_KEPT);
		}
	tls_context_free(a);
	tls_tickets_free(keys);
}

static void it_warms_up(void **state)
{
	struct error e;

	(void)state;
	assert_int_equal(tls_warm_up(&e), 0);
}

static int make_pki(void **state)
{
	(void)state;
	ca = pki_make("P-256", "Test CA", NULL, NULL, true, 100);
	leaf_ec = pki_make("P-256", "mx.test", "DNS:mx.test", &ca, false, 50);
	leaf_rsa = pki_make("RSA-2048", "mx.test", "DNS:mx.test", &ca, false, 50);
	return 0;
}

static int free_pki(void **state)
{
	(void)state;
	pki_free(&ca);
	pki_free(&leaf_ec);
	pki_free(&leaf_rsa);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_chains_are_refused_with_a_reason),
		cmocka_unit_test(bad_trust_is_refused),
		cmocka_unit_test(a_key_that_does_not_fit_is_found_out),
		cmocka_unit_test(only_1_2_and_1_3_are_spoken),
		cmocka_unit_test(every_signature_scheme_works),
		cmocka_unit_test(names_are_verified_by_subject_alternative_names_alone),
		cmocka_unit_test(untrusted_and_expired_chains_are_refused),
		cmocka_unit_test(clear_text_and_garbage_fail),
		cmocka_unit_test(a_long_text_arrives_in_any_pieces_and_close_notify_ends_it),
		cmocka_unit_test(tickets_are_good_among_threads_of_one_start_and_one_listener),
		cmocka_unit_test(the_last_ticket_keys_still_open),
		cmocka_unit_test(it_warms_up),
	};

	return cmocka_run_group_tests(tests, make_pki, free_pki);
}
