/* check.c - whom a client accepts: TLSA records that are none, those that do not match, then names, dates and chains. */
#include "pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "pair.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

static struct pki ca, ca2, leaf, expired, other_name, stranger;
static struct tls_context *client;

struct record { unsigned char octets[4096]; struct tls_tlsa r; };

/* The record that publishes x. */
static struct tls_tlsa *record(struct record *to, unsigned usage, unsigned selector, unsigned matching, X509 *x)
{
	unsigned char *der = NULL;
	int n = selector == 1 ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der) : i2d_X509(x, &der);
	unsigned int made = (unsigned)n;

	assert_in_range(n, 1, sizeof to->octets);
	if (matching == 1)
		EVP_Digest(der, (size_t)n, to->octets, &made, EVP_sha256(), NULL);
	else if (matching == 2)
		EVP_Digest(der, (size_t)n, to->octets, &made, EVP_sha512(), NULL);
	else
		memcpy(to->octets, der, (size_t)n);
	OPENSSL_free(der);
	to->r = (struct tls_tlsa){ (uint8_t)usage, (uint8_t)selector, (uint8_t)matching, view_of((const char *)to->octets, made) };
	return &to->r;
}

/* The leaf and, if chain, its issuer. */
static struct tls_context *server_of(const struct pki *p, const struct pki *issuer)
{
	char *pem = malloc(16384);
	struct error e;
	struct tls_context *c;

	snprintf(pem, 16384, "%s%s", p->cert_pem, issuer ? issuer->cert_pem : "");
	c = tls_server_new(&(const struct tls_server_options){ .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(pem) }, .certificates_n = 1, .signer = { pki_sign, p->key }, .session_context = VIEW("mx") }, &e);
	assert_non_null(c);
	free(pem);
	return c;
}

/* ---- records ---- */

static void records_that_are_none(void **state)
{
	struct record a, b;
	struct tls_tlsa r;
	unsigned u, s, m;

	(void)state;
	for (u = 0; u < 256; u++)
		for (s = 0; s < 256; s += s < 3 ? 1 : 63)
			for (m = 0; m < 256; m += m < 4 ? 1 : 63) {
				record(&a, u, s == 1, m > 2 ? 1 : m, leaf.cert);
				a.r.selector = (uint8_t)s;
				a.r.matching = (uint8_t)m;
				assert_int_equal(tls_tlsa_is_usable(&a.r), (u == 2 || u == 3) && s <= 1 && m <= 2);
			}
	for (m = 0; m <= 2; m++) { /* lengths: 0 and 3 octets, one too few, one too many */
		r = *record(&a, 3, 1, m, leaf.cert);
		assert_true(tls_tlsa_is_usable(&r));
		r.data.n--;
		assert_false(tls_tlsa_is_usable(&r));
		r.data.n += 2;
		assert_false(tls_tlsa_is_usable(&r));
		r.data.n = 3;
		assert_false(tls_tlsa_is_usable(&r));
		r.data = VIEW("");
		assert_false(tls_tlsa_is_usable(&r));
		r.data = (struct view){ NULL, 0 };
		assert_false(tls_tlsa_is_usable(&r));
	}
	r = *record(&a, 3, 0, 0, leaf.cert); /* a certificate where a key is said to be, and the other way round */
	r.selector = 1;
	assert_false(tls_tlsa_is_usable(&r));
	r = *record(&b, 3, 1, 0, leaf.cert);
	r.selector = 0;
	assert_false(tls_tlsa_is_usable(&r));
}

static void without_a_usable_record_there_is_no_session(void **state)
{
	struct record a, b;
	struct tls_tlsa two[2] = { *record(&a, 1, 1, 1, leaf.cert), *record(&b, 3, 1, 1, leaf.cert) };
	struct tls_peer_check check = { .how = TLS_CHECK_DANE, .name = "mx.test", .records = two, .records_n = 2 };
	struct tls_session *s;

	(void)state;
	two[1].data.n = 3;
	assert_null(tls_session_new(client, false, &check));
	check.records_n = 0;
	assert_null(tls_session_new(client, false, &check));
	check.records_n = 2;
	two[1].data.n = 32;
	check.name = NULL;
	assert_null(tls_session_new(client, false, &check));
	check.name = "127.0.0.1"; /* DANE is of names */
	assert_null(tls_session_new(client, false, &check));
	check.name = "mx.test";
	s = tls_session_new(client, false, &check);
	assert_non_null(s);
	tls_session_free(s);
}

/* ---- DANE ---- */

struct row {
	const char *what;
	unsigned usage, selector, matching;
	const struct pki *of, *served, *with; /* the record's certificate; what the server shows */
	const char *name;
	bool fine;
	enum tls_fault fault;
};

static void play(const struct row *row)
{
	struct record one, junk[3];
	struct tls_tlsa records[4];
	struct tls_peer_check check = { .how = TLS_CHECK_DANE, .name = row->name, .records = records, .records_n = 4 };
	struct tls_context *server = server_of(row->served, row->with);
	const struct tls_facts *f;
	struct pair p;
	char words[40];

	records[0] = *record(&junk[0], 1, 1, 1, row->served->cert); /* unusable: neither helps nor hurts */
	records[1] = *record(&junk[1], 3, 1, 1, row->served->cert);
	records[1].data = VIEW("");
	records[2] = *record(&one, row->usage, row->selector, row->matching, row->of->cert);
	records[3] = *record(&junk[2], 3, 7, 1, row->served->cert);
	p = shake_with(server, client, &check);
	f = tls_get_facts(p.client);
	if ((p.c == TLS_OK) != row->fine || f->verified != row->fine || f->fault != row->fault)
		fail_msg("%s: %s, fault %d, %s", row->what, p.c == TLS_OK ? "up" : "not up", (int)f->fault, tls_why(p.client));
	assert_false(f->resumed);
	if (row->fine) {
		talk(&p);
		snprintf(words, sizeof words, "verified by TLSA %u %u %u", row->usage, row->selector, row->matching);
		assert_true(view_eq(f->verify, view_cstr(words)));
		assert_int_equal(f->by, row->usage == 3 ? TLS_BY_DANE_EE : TLS_BY_DANE_TA);
		assert_true(f->peer_name.n > 0);
	} else {
		assert_int_equal(f->by, TLS_BY_NOTHING);
		assert_non_null(strstr(tls_why(p.client), "certificate not accepted"));
		assert_true(view_starts_nocase(f->peer_name, VIEW("CN="))); /* whose it was, although it was refused */
		assert_int_equal(p.s, TLS_FAILED);
	}
	end(&p);
	tls_context_free(server);
}

static void dane(void **state)
{
	const struct row rows[] = {
		{ "EE of another certificate", 3, 0, 1, &ca, &leaf, NULL, "mx.test", false, TLS_FAULT_TLSA },
		{ "EE of another key", 3, 1, 1, &stranger, &leaf, NULL, "mx.test", false, TLS_FAULT_TLSA },
		{ "EE of another key, SHA-512", 3, 1, 2, &stranger, &leaf, NULL, "mx.test", false, TLS_FAULT_TLSA },
		{ "EE of another key, whole", 3, 1, 0, &stranger, &leaf, NULL, "mx.test", false, TLS_FAULT_TLSA },
		{ "EE published of the issuer", 3, 1, 1, &ca, &leaf, &ca, "mx.test", false, TLS_FAULT_TLSA },
		{ "TA that the server does not send", 2, 0, 1, &ca, &leaf, NULL, "mx.test", false, TLS_FAULT_TLSA },
		{ "TA of another chain", 2, 0, 1, &ca2, &leaf, &ca, "mx.test", false, TLS_FAULT_TLSA },
		{ "TA beside a chain that it did not sign", 2, 0, 1, &ca2, &leaf, &ca2, "mx.test", false, TLS_FAULT_TLSA },
		{ "TA, name mismatch", 2, 0, 1, &ca, &other_name, &ca, "mx.test", false, TLS_FAULT_NAME },
		{ "TA, expired leaf", 2, 0, 1, &ca, &expired, &ca, "mx.test", false, TLS_FAULT_EXPIRED },
		{ "EE 3 0 0", 3, 0, 0, &leaf, &leaf, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "EE 3 0 1", 3, 0, 1, &leaf, &leaf, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "EE 3 0 2", 3, 0, 2, &leaf, &leaf, &ca, "mx.test", true, TLS_FAULT_NONE },
		{ "EE 3 1 0", 3, 1, 0, &leaf, &leaf, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "EE 3 1 1", 3, 1, 1, &leaf, &leaf, &ca, "mx.test", true, TLS_FAULT_NONE },
		{ "EE 3 1 2", 3, 1, 2, &leaf, &leaf, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "EE, expired", 3, 1, 1, &expired, &expired, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "EE, another name", 3, 1, 1, &other_name, &other_name, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "EE, self-signed of nobody", 3, 1, 1, &stranger, &stranger, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "TA 2 0 0, also when it is not sent", 2, 0, 0, &ca, &leaf, NULL, "mx.test", true, TLS_FAULT_NONE },
		{ "TA 2 0 1", 2, 0, 1, &ca, &leaf, &ca, "mx.test", true, TLS_FAULT_NONE },
		{ "TA 2 0 2", 2, 0, 2, &ca, &leaf, &ca, "MX.test.", true, TLS_FAULT_NONE },
		{ "TA 2 1 1", 2, 1, 1, &ca, &leaf, &ca, "mx.test", true, TLS_FAULT_NONE },
		{ "TA 2 1 0", 2, 1, 0, &ca, &leaf, &ca, "mx.test", true, TLS_FAULT_NONE },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		play(&rows[i]);
}

/* RFC 7671 9: with SHA-512 published for the same usage and selector, a SHA-256 that matches is not enough. */
static void the_strongest_digest_counts(void **state)
{
	struct record a, b;
	struct tls_tlsa two[2] = { *record(&a, 3, 1, 1, leaf.cert), *record(&b, 3, 1, 2, stranger.cert) };
	struct tls_peer_check check = { .how = TLS_CHECK_DANE, .name = "mx.test", .records = two, .records_n = 2 };
	struct tls_context *server = server_of(&leaf, NULL);
	struct pair p = shake_with(server, client, &check);

	(void)state;
	assert_int_equal(p.c, TLS_FAILED);
	assert_int_equal(tls_get_facts(p.client)->fault, TLS_FAULT_TLSA);
	end(&p);
	two[1] = *record(&b, 3, 0, 2, stranger.cert); /* another selector: a choice of its own */
	p = shake_with(server, client, &check);
	talk(&p);
	end(&p);
	tls_context_free(server);
}

/* ---- names ---- */

static void any_of_the_names_will_do(void **state)
{
	static const char *const none[] = { "a.test", "b.test" }, *const second[] = { "a.test", "mx.test" }, *const mixed[] = { "mx.test", "127.0.0.1" };
	struct record ta;
	struct tls_peer_check chain = { .how = TLS_CHECK_CHAIN_AND_NAME, .name = "asked.test", .names = none, .names_n = 2 }, tlsa;
	struct tls_context *server = server_of(&leaf, &ca);
	struct pair p;
	const char *many[TLS_NAMES_MAX + 1];
	unsigned i;

	(void)state;
	p = shake_with(server, client, &chain);
	assert_int_equal(p.c, TLS_FAILED);
	assert_int_equal(tls_get_facts(p.client)->fault, TLS_FAULT_NAME);
	end(&p);
	chain.names = second;
	p = shake_with(server, client, &chain);
	talk(&p);
	assert_true(view_eq(tls_get_facts(p.client)->peer_name, VIEW("mx.test")));
	assert_int_equal(tls_get_facts(p.client)->by, TLS_BY_CHAIN);
	assert_true(view_eq(tls_get_facts(p.server)->sni, VIEW("asked.test")));
	end(&p);
	tlsa = chain;
	tlsa.how = TLS_CHECK_DANE;
	tlsa.records = record(&ta, 2, 1, 1, ca.cert);
	tlsa.records_n = 1;
	p = shake_with(server, client, &tlsa); /* RFC 7672 3.2.2: more than one reference identifier */
	talk(&p);
	assert_true(view_eq(tls_get_facts(p.client)->peer_name, VIEW("mx.test")));
	assert_true(view_eq(tls_get_facts(p.server)->sni, VIEW("asked.test")));
	end(&p);
	tlsa.names = none;
	p = shake_with(server, client, &tlsa);
	assert_int_equal(p.c, TLS_FAILED);
	assert_int_equal(tls_get_facts(p.client)->fault, TLS_FAULT_NAME);
	end(&p);
	chain.names = mixed;
	assert_null(tls_session_new(client, false, &chain));
	for (i = 0; i <= TLS_NAMES_MAX; i++)
		many[i] = "mx.test";
	chain.names = many;
	chain.names_n = TLS_NAMES_MAX + 1;
	assert_null(tls_session_new(client, false, &chain));
	chain.names_n = TLS_NAMES_MAX;
	p = shake_with(server, client, &chain);
	talk(&p);
	end(&p);
	tls_context_free(server);
}

static void faults_of_a_chain_have_names(void **state)
{
	static const struct { struct pki *served; const char *name; enum tls_fault fault; } rows[] = {
		{ &expired, "mx.test", TLS_FAULT_EXPIRED }, { &other_name, "mx.test", TLS_FAULT_NAME },
		{ &stranger, "mx.test", TLS_FAULT_NOT_TRUSTED }, { &leaf, "127.0.0.1", TLS_FAULT_NAME },
		{ &leaf, "mx.test", TLS_FAULT_NONE },
	};
	struct error e;
	struct tls_context *nobody = tls_client_new(VIEW(""), &e);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tls_peer_check check = { .how = TLS_CHECK_CHAIN_AND_NAME, .name = rows[i].name };
		struct tls_context *server = server_of(rows[i].served, NULL);
		struct pair p = shake_with(server, client, &check);

		assert_int_equal(p.c, rows[i].fault == TLS_FAULT_NONE ? TLS_OK : TLS_FAILED);
		assert_int_equal(tls_get_facts(p.client)->fault, rows[i].fault);
		end(&p);
		check.how = TLS_CHECK_NONE; /* told, not decided */
		p = shake_with(server, client, &check);
		talk(&p);
		assert_int_equal(tls_get_facts(p.client)->fault, rows[i].fault);
		assert_int_equal(tls_get_facts(p.client)->by, rows[i].fault == TLS_FAULT_NONE ? TLS_BY_CHAIN : TLS_BY_NOTHING);
		end(&p);
		p = shake_with(server, nobody, &check);
		talk(&p);
		assert_int_equal(tls_get_facts(p.client)->fault, TLS_FAULT_NONE);
		assert_true(view_eq(tls_get_facts(p.client)->verify, VIEW("not checked")));
		end(&p);
		tls_context_free(server);
	}
	tls_context_free(nobody);
}

static int make(void **state)
{
	struct error e;

	(void)state;
	ca = pki_make("P-256", "Test CA", NULL, NULL, true, 100);
	ca2 = pki_make("P-256", "Another CA", NULL, NULL, true, 100);
	leaf = pki_make("P-256", "leaf", "DNS:mx.test", &ca, false, 50);
	expired = pki_make("P-256", "expired", "DNS:mx.test", &ca, false, -1);
	other_name = pki_make("P-256", "other", "DNS:other.test", &ca, false, 50);
	stranger = pki_make("P-256", "stranger", "DNS:mx.test", NULL, false, 50);
	client = tls_client_new(view_cstr(ca.cert_pem), &e);
	return client ? 0 : -1;
}

static int unmake(void **state)
{
	(void)state;
	tls_context_free(client);
	pki_free(&ca);
	pki_free(&ca2);
	pki_free(&leaf);
	pki_free(&expired);
	pki_free(&other_name);
	pki_free(&stranger);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_that_are_none),
		cmocka_unit_test(without_a_usable_record_there_is_no_session),
		cmocka_unit_test(dane),
		cmocka_unit_test(the_strongest_digest_counts),
		cmocka_unit_test(any_of_the_names_will_do),
		cmocka_unit_test(faults_of_a_chain_have_names),
	};

	return cmocka_run_group_tests(tests, make, unmake);
}
