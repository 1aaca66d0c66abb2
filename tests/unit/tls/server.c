/* server.c - what a server shows to whom, and what it refuses: broken certificates first, then names, kinds, tickets of
 * other names, clients' certificates, versions, renegotiation, compression, a ClientHello in many pieces. */
#include "pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

static struct pki ca, ec_a, rsa_a, ec_b, ec_wild, rsa_other;
static struct pki *const all[] = { &ec_a, &rsa_a, &ec_b, &ec_wild, &rsa_other };
enum { EC_A, RSA_A, EC_B, EC_WILD, RSA_OTHER, ALL };
static unsigned missing; /* a bit for each key that does not sign */

static long sign(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room)
{
	(void)arg;
	return missing & 1u << key ? -1 : pki_sign(all[key]->key, key, digest, padding, hash, n, to, room);
}

static struct tls_context *server_of(const int *which, unsigned n, struct tls_server_options o)
{
	struct tls_server_certificate c[ALL];
	struct error e;
	struct tls_context *s;

	for (unsigned i = 0; i < n; i++)
		c[i] = (struct tls_server_certificate){ view_cstr(all[which[i]]->cert_pem), (uint32_t)which[i] };
	o.certificates = c;
	o.certificates_n = n;
	o.signer.sign = sign;
	o.session_context = VIEW("mx");
	s = tls_server_new(&o, &e);
	assert_non_null(s);
	return s;
}

/* ---- a client of plain OpenSSL ---- */

struct plain {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;
	struct tls_session *server;
	struct buf down;
	enum tls_status st;
	int client;
};

static void plain_begin(struct plain *p, struct tls_context *server, const char *name, int version, const char *sigalgs)
{
	*p = (struct plain){ .ctx = SSL_CTX_new(TLS_client_method()), .in = BIO_new(BIO_s_mem()), .out = BIO_new(BIO_s_mem()), .st = TLS_WANT };
	if (version) {
		SSL_CTX_set_min_proto_version(p->ctx, version);
		SSL_CTX_set_max_proto_version(p->ctx, version);
	}
	if (sigalgs)
		assert_int_equal(SSL_CTX_set1_sigalgs_list(p->ctx, sigalgs), 1);
	p->ssl = SSL_new(p->ctx);
	if (name)
		SSL_set_tlsext_host_name(p->ssl, name);
	BIO_set_mem_eof_return(p->in, -1);
	SSL_set_bio(p->ssl, p->in, p->out);
	SSL_set_connect_state(p->ssl);
	p->server = tls_session_new(server, true, NULL);
	assert_non_null(p->server);
	buf_init(&p->down, &alloc_libc, 1 << 20);
}

static bool plain_shake(struct plain *p, size_t piece)
{
	for (unsigned k = 0; k < 8; k++) {
		char *text;
		struct view all_of_it;

		p->client = SSL_do_handshake(p->ssl);
		all_of_it.n = (size_t)BIO_get_mem_data(p->out, &text);
		all_of_it.p = text;
		while (all_of_it.n && p->st == TLS_WANT) {
			struct view v = view_slice(all_of_it, 0, piece);

			all_of_it = view_slice(all_of_it, v.n, all_of_it.n);
			p->st = tls_handshake(p->server, &v, &p->down);
		}
		BIO_reset(p->out);
		BIO_write(p->in, buf_view(&p->down).p, (int)buf_len(&p->down));
		buf_take(&p->down, buf_len(&p->down));
	}
	return p->client == 1 && p->st == TLS_OK;
}

static void plain_end(struct plain *p)
{
	tls_session_free(p->server);
	SSL_free(p->ssl);
	SSL_CTX_free(p->ctx);
	buf_free(&p->down);
	ERR_clear_error();
}

/* Which certificate such a client is shown; -1: the handshake fails. */
static int shown(struct tls_context *server, const char *name, int version, const char *sigalgs)
{
	struct plain p;
	int found = -1;

	plain_begin(&p, server, name, version, sigalgs);
	if (plain_shake(&p, SIZE_MAX))
		for (int i = 0; i < ALL; i++)
			if (X509_cmp(SSL_get0_peer_certificate(p.ssl), all[i]->cert) == 0)
				found = i;
	plain_end(&p);
	return found;
}

/* ---- broken ---- */

static void what_is_broken_is_not_shown(void **state)
{
	static const int which[] = { EC_A, RSA_A, EC_B };
	struct tls_context *s = server_of(which, 3, (struct tls_server_options){ 0 });
	struct error e;

	(void)state;
	assert_int_equal(tls_server_check(s, 3, &e), -1);
	assert_int_equal(tls_server_check(s, 0, &e), 0);
	assert_int_equal(shown(s, "a.test", 0, NULL), EC_A);
	missing = 1u << EC_A;
	assert_int_equal(tls_server_check(s, 0, &e), -1);
	assert_non_null(strstr(e.text, "cannot sign"));
	assert_int_equal(shown(s, "a.test", 0, NULL), RSA_A);
	assert_int_equal(shown(s, NULL, 0, NULL), RSA_A);
	assert_true(tls_server_works(s));
	missing |= 1u << RSA_A;
	assert_int_equal(tls_server_check(s, 1, &e), -1);
	assert_int_equal(shown(s, "a.test", 0, NULL), EC_B); /* a wrong name is better than no TLS */
	missing |= 1u << EC_B;
	assert_int_equal(tls_server_check(s, 2, &e), -1);
	assert_false(tls_server_works(s));
	assert_int_equal(shown(s, "a.test", 0, NULL), -1);
	missing = 0; /* `keys` came back */
	assert_int_equal(tls_server_check(s, 0, &e), 0);
	assert_true(tls_server_works(s));
	assert_int_equal(shown(s, "a.test", 0, NULL), EC_A);
	tls_context_free(s);
}

static void a_bad_chain_spoils_no_other(void **state)
{
	struct tls_server_certificate c[] = { { VIEW("hello"), 9 }, { view_cstr(ec_b.cert_pem), EC_B }, { VIEW(""), 9 } };
	struct tls_server_options o = { .certificates = c, .certificates_n = 3, .signer = { sign, NULL }, .session_context = VIEW("mx") };
	struct error e;
	struct tls_context *s = tls_server_new(&o, &e);

	(void)state;
	assert_non_null(s);
	assert_int_equal(tls_server_check(s, 0, &e), -1);
	assert_non_null(strstr(e.text, "chain"));
	assert_int_equal(tls_server_check(s, 1, &e), 0);
	assert_int_equal(tls_server_check(s, 2, &e), -1);
	assert_int_equal(shown(s, "a.test", 0, NULL), EC_B);
	tls_context_free(s);
	o.certificates_n = 0;
	assert_null(tls_server_new(&o, &e));
	o.certificates_n = TLS_CERTIFICATES_MAX + 1;
	assert_null(tls_server_new(&o, &e));
	o.certificates_n = 1;
	assert_null(tls_server_new(&o, &e));
}

/* ---- names and kinds ---- */

static void the_name_asked_for_chooses(void **state)
{
	static const int which[] = { RSA_OTHER, RSA_A, EC_A, EC_B, EC_WILD };
	static const struct { const char *name, *sigalgs; int found; } rows[] = {
		{ NULL, NULL, RSA_OTHER },            { "nobody.test", NULL, RSA_OTHER },   { "other.test", NULL, RSA_OTHER },
		{ "a.test", NULL, EC_A },             { "A.Test", NULL, EC_A },
		{ "a.test", "RSA-PSS+SHA256:RSA+SHA256", RSA_A }, { "b.test", NULL, EC_B }, { "also-b.test", NULL, EC_B },
		{ "x.wild.test", NULL, EC_WILD },     { "y.x.wild.test", NULL, RSA_OTHER }, { "wild.test", NULL, RSA_OTHER },
		{ "b.wild.test", NULL, EC_B }, /* the name itself, not the wildcard */
	};
	struct tls_context *s = server_of(which, 5, (struct tls_server_options){ 0 });

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
			int found = shown(s, rows[i].name, v, rows[i].sigalgs);

			if (found != rows[i].found)
				fail_msg("%s in version %x: certificate %d", rows[i].name ? rows[i].name : "no name", (unsigned)v, found);
		}
	tls_context_free(s);
}

/* ---- tickets ---- */

/* Whether a session of the first name is resumed under the second. */
static bool resumed(struct tls_context *first, const char *name, struct tls_context *second, const char *other, int version)
{
	struct plain p;
	SSL_SESSION *kept;
	char byte;
	bool yes;

	plain_begin(&p, first, name, version, NULL);
	assert_true(plain_shake(&p, SIZE_MAX));
	SSL_read(p.ssl, &byte, 1); /* takes the ticket in */
	kept = SSL_get1_session(p.ssl);
	SSL_set_quiet_shutdown(p.ssl, 1);
	SSL_shutdown(p.ssl);
	plain_end(&p);
	plain_begin(&p, second, other, version, NULL);
	SSL_set_session(p.ssl, kept);
	SSL_set_tlsext_host_name(p.ssl, other);
	assert_true(plain_shake(&p, SIZE_MAX)); /* in any case a handshake */
	yes = SSL_session_reused(p.ssl);
	assert_int_equal(tls_get_facts(p.server)->resumed, yes);
	plain_end(&p);
	SSL_SESSION_free(kept);
	return yes;
}

static void no_ticket_is_good_for_another_name_or_certificate(void **state)
{
	static const int both[] = { EC_A, EC_B }, one[] = { EC_B }, renewed[] = { EC_WILD };
	struct tls_tickets *t = tls_tickets_new();
	unsigned char key[TLS_TICKET_KEY] = { 1 };
	struct tls_server_options o = { .tickets = t };
	struct tls_context *s = server_of(both, 2, o), *same = server_of(one, 1, o), *other = server_of(renewed, 1, o);

	(void)state;
	tls_tickets_change(t, key);
	for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
		assert_true(resumed(s, "a.test", s, "a.test", v));
		assert_true(resumed(s, "b.test", s, "b.test", v));
		assert_false(resumed(s, "a.test", s, "b.test", v));
		assert_false(resumed(s, "b.test", s, "also-b.test", v)); /* the same certificate: RFC 6066 3 */
		assert_true(resumed(s, "b.test", same, "b.test", v));    /* another thread */
		assert_false(resumed(same, "b.wild.test", other, "b.wild.test", v)); /* the certificate was changed */
	}
	tls_context_free(s);
	tls_context_free(same);
	tls_context_free(other);
	tls_tickets_free(t);
}

/* ---- clients' certificates ---- */

static void clients_are_asked_and_never_have_to(void **state)
{
	static const int which[] = { EC_A };
	struct pki good = pki_make("P-256", "client", "DNS:client.test", &ca, false, 10), alone = pki_make("P-256", "stranger", NULL, NULL, false, 10),
		   old = pki_make("P-256", "old", NULL, &ca, false, -1);
	const struct { const struct pki *shown; bool verified; enum tls_fault fault; const char *subject; } rows[] = {
		{ NULL, false, TLS_FAULT_NO_CERTIFICATE, "" },
		{ &alone, false, TLS_FAULT_NOT_TRUSTED, "CN=stranger" },
		{ &old, false, TLS_FAULT_EXPIRED, "CN=old" },
		{ &good, true, TLS_FAULT_NONE, "CN=client" },
	};
	struct error e;
	struct tls_context *trust = tls_client_new(view_cstr(ca.cert_pem), &e), *s = server_of(which, 1, (struct tls_server_options){ .clients = trust }),
			   *unasked = server_of(which, 1, (struct tls_server_options){ 0 });

	(void)state;
	tls_context_free(trust);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
			for (int asked = 0; asked < 2; asked++) {
				struct plain p;
				const struct tls_facts *f;

				plain_begin(&p, asked ? s : unasked, "a.test", v, NULL);
				if (rows[i].shown) {
					SSL_use_certificate(p.ssl, rows[i].shown->cert);
					SSL_use_PrivateKey(p.ssl, rows[i].shown->key);
				}
				assert_true(plain_shake(&p, SIZE_MAX));
				f = tls_get_facts(p.server);
				assert_int_equal(f->verified, asked && rows[i].verified);
				assert_int_equal(f->fault, asked ? rows[i].fault : TLS_FAULT_NO_CERTIFICATE);
				assert_true(view_eq(f->peer_name, view_cstr(asked ? rows[i].subject : "")));
				assert_true(f->verify.n > 0);
				plain_end(&p);
			}
	tls_context_free(s);
	tls_context_free(unasked);
	pki_free(&good);
	pki_free(&alone);
	pki_free(&old);
}

/* ---- what is refused ---- */

static void modern_is_1_3_alone(void **state)
{
	static const int which[] = { EC_A };
	struct tls_context *modern = server_of(which, 1, (struct tls_server_options){ .policy = TLS_POLICY_MODERN }),
			   *usual = server_of(which, 1, (struct tls_server_options){ .policy = TLS_POLICY_INTERMEDIATE });

	(void)state;
	assert_int_equal(shown(modern, "a.test", TLS1_2_VERSION, NULL), -1);
	assert_int_equal(shown(modern, "a.test", TLS1_3_VERSION, NULL), EC_A);
	assert_int_equal(shown(usual, "a.test", TLS1_2_VERSION, NULL), EC_A);
	assert_int_equal(shown(usual, "a.test", TLS1_3_VERSION, NULL), EC_A);
	tls_context_free(modern);
	tls_context_free(usual);
}

static void renegotiation_is_refused(void **state)
{
	static const int which[] = { EC_A };
	struct tls_context *s = server_of(which, 1, (struct tls_server_options){ 0 });
	struct plain p;
	char to[16], *text;
	size_t got;
	struct view v;

	(void)state;
	plain_begin(&p, s, "a.test", TLS1_2_VERSION, NULL);
	assert_true(plain_shake(&p, SIZE_MAX));
	assert_int_equal(SSL_renegotiate(p.ssl), 1);
	SSL_do_handshake(p.ssl); /* a new ClientHello, within the session */
	v.n = (size_t)BIO_get_mem_data(p.out, &text);
	v.p = text;
	assert_true(v.n > 100);
	assert_int_not_equal(tls_read(p.server, &v, to, sizeof to, &got, &p.down), TLS_OK);
	assert_in_range(buf_len(&p.down), 1, 64); /* an alert, no ServerHello and no certificate */
	assert_int_equal(buf_view(&p.down).p[0], 21);
	BIO_reset(p.out);
	BIO_write(p.in, buf_view(&p.down).p, (int)buf_len(&p.down));
	assert_int_not_equal(SSL_do_handshake(p.ssl), 1);
	plain_end(&p);
	tls_context_free(s);
}

/* The ClientHello of a client that offers DEFLATE (RFC 3749) before no compression. */
static void compression_is_never_chosen(void **state)
{
	static const int which[] = { EC_A };
	struct tls_context *s = server_of(which, 1, (struct tls_server_options){ 0 });
	unsigned char hello[4096];
	struct plain p;
	char *text;
	size_t n, at;
	struct view v;

	(void)state;
	plain_begin(&p, s, "a.test", TLS1_2_VERSION, NULL);
	SSL_do_handshake(p.ssl);
	n = (size_t)BIO_get_mem_data(p.out, &text);
	assert_in_range(n, 50, sizeof hello - 1);
	memcpy(hello, text, n);
	at = 5 + 4 + 2 + 32;                                             /* record, handshake, version, random */
	at += 1 + hello[at];                                             /* session */
	at += 2 + (size_t)(hello[at] << 8 | hello[at + 1]);              /* suites */
	assert_int_equal(hello[at], 1);
	assert_int_equal(hello[at + 1], 0);
	memmove(hello + at + 2, hello + at + 1, n - at - 1);
	hello[at] = 2;
	hello[at + 1] = 1;
	n++;
	hello[3] = (unsigned char)((n - 5) >> 8);
	hello[4] = (unsigned char)(n - 5);
	hello[7] = (unsigned char)((n - 9) >> 8);
	hello[8] = (unsigned char)(n - 9);
	v = view_of((const char *)hello, n);
	assert_int_equal(tls_handshake(p.server, &v, &p.down), TLS_WANT);
	memcpy(hello, buf_view(&p.down).p, 200);
	assert_int_equal(hello[0], 22);
	assert_int_equal(hello[5], 2); /* ServerHello */
	at = 5 + 4 + 2 + 32;
	at += 1 + hello[at] + 2;
	assert_int_equal(hello[at], 0);
	plain_end(&p);
	tls_context_free(s);
}

/* As long as one with hybrid key shares and more, octet by octet and in pieces. */
static void a_large_client_hello_comes_in_pieces(void **state)
{
	static const int which[] = { EC_A };
	static const size_t pieces[] = { 1, 7, 1400, SIZE_MAX };
	struct tls_context *s = server_of(which, 1, (struct tls_server_options){ 0 });
	unsigned char *protocols = malloc(65536);
	size_t sizes[] = { 1, 8, 254 }, i, k, n; /* protocols of 255 octets */

	(void)state;
	for (i = 0; i < sizeof pieces / sizeof *pieces; i++)
		for (k = 0; k < sizeof sizes / sizeof *sizes; k++) {
			struct plain p;

			plain_begin(&p, s, "a.test", 0, NULL);
			for (n = 0; n < sizes[k]; n++) {
				memset(protocols + n * 256, 'p', 256);
				protocols[n * 256] = 255;
			}
			assert_int_equal(SSL_set_alpn_protos(p.ssl, protocols, (unsigned)(n * 256)), 0);
			assert_true(plain_shake(&p, pieces[i]));
			plain_end(&p);
		}
	free(protocols);
	tls_context_free(s);
}

/* ---- who has both, as super ---- */

static void a_pair_belongs_together_or_is_told(void **state)
{
	struct pki p521 = pki_make("P-521", "x", NULL, NULL, false, 10);
	const struct { struct view chain, key; const char *words; } bad[] = {
		{ VIEW(""), view_cstr(ec_a.key_pem), "chain" },
		{ VIEW("junk"), view_cstr(ec_a.key_pem), "chain" },
		{ view_cstr(ec_a.cert_pem), VIEW(""), "key is missing" },
		{ view_cstr(ec_a.cert_pem), { NULL, 0 }, "key is missing" },
		{ view_cstr(ec_a.cert_pem), view_cstr(ec_b.key_pem), "does not belong" },
		{ view_cstr(ec_a.cert_pem), view_cstr(ec_a.cert_pem), "key is missing" },
		{ view_cstr(rsa_a.cert_pem), view_cstr(ec_a.key_pem), "does not belong" },
		{ view_cstr(p521.cert_pem), view_cstr(p521.key_pem), "curve" },
	};
	struct error e;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(tls_pair_check(bad[i].chain, bad[i].key, &e), -1);
		if (!strstr(e.text, bad[i].words))
			fail_msg("%zu: %s", i, e.text);
	}
	assert_int_equal(tls_pair_check(view_cstr(ec_a.cert_pem), view_cstr(ec_a.key_pem), &e), 0);
	assert_int_equal(tls_pair_check(view_cstr(rsa_a.cert_pem), view_cstr(rsa_a.key_pem), &e), 0);
	assert_true(tls_chain_expires(view_cstr(ec_a.cert_pem)) > 0);
	assert_int_equal(tls_chain_expires(VIEW("junk")), 0);
	assert_false(tls_chain_has_name(VIEW("junk"), VIEW("mx.ours.test")));
	assert_false(tls_chain_has_name(VIEW(""), VIEW("mx.ours.test")));
	assert_false(tls_chain_has_name(view_cstr(ec_a.cert_pem), VIEW("")));
	pki_free(&p521);
}

static int make(void **state)
{
	(void)state;
	ca = pki_make("P-256", "Test CA", NULL, NULL, true, 100);
	ec_a = pki_make("P-256", "a", "DNS:a.test", &ca, false, 50);
	rsa_a = pki_make("RSA-2048", "a", "DNS:a.test", &ca, false, 50);
	ec_b = pki_make("P-384", "b", "DNS:b.test,DNS:also-b.test,DNS:b.wild.test", &ca, false, 50);
	ec_wild = pki_make("P-256", "wild", "DNS:*.wild.test", &ca, false, 50);
	rsa_other = pki_make("RSA-2048", "other.test", NULL, &ca, false, 50);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	pki_free(&ca);
	for (int i = 0; i < ALL; i++)
		pki_free(all[i]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_broken_is_not_shown),
		cmocka_unit_test(a_bad_chain_spoils_no_other),
		cmocka_unit_test(the_name_asked_for_chooses),
		cmocka_unit_test(no_ticket_is_good_for_another_name_or_certificate),
		cmocka_unit_test(clients_are_asked_and_never_have_to),
		cmocka_unit_test(modern_is_1_3_alone),
		cmocka_unit_test(renegotiation_is_refused),
		cmocka_unit_test(compression_is_never_chosen),
		cmocka_unit_test(a_large_client_hello_comes_in_pieces),
		cmocka_unit_test(a_pair_belongs_together_or_is_told),
	};

	return cmocka_run_group_tests(tests, make, unmake);
}
