/* groups.c - key exchange: names that this OpenSSL does not know are left out, the order stays; the first is used by ours with ours; each by
 * itself is enough for a peer. */
#include "pki.h"
#include "tls/openssl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

static bool has(const char *group)
{
	SSL_CTX *s = SSL_CTX_new(TLS_client_method());
	bool yes = SSL_CTX_set1_groups_list(s, group) == 1;

	ERR_clear_error();
	SSL_CTX_free(s);
	return yes;
}

static void sets_nothing(void **state)
{
	SSL_CTX *s = SSL_CTX_new(TLS_client_method());
	char longest[60];
	const char *many[] = { longest, longest, longest, longest, longest, longest, NULL };

	(void)state;
	assert_false(ossl_groups_set(s, (const char *const[]){ NULL }));
	assert_false(ossl_groups_set(s, (const char *const[]){ "NoSuchGroup", "X25519MLKEM9999", "", NULL }));
	assert_int_equal(ERR_peek_error(), 0); /* nothing is left for the next to stumble over */
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = 0;
	assert_false(ossl_groups_set(s, many));
	SSL_CTX_free(s);
}

/* The NamedGroups that a context offers (RFC 8446 4.2.7). */
static size_t offered(SSL_CTX *ctx, int *to, size_t room)
{
	SSL *ssl = SSL_new(ctx);
	BIO *out = BIO_new(BIO_s_mem());
	unsigned char *p;
	long n;
	size_t found = 0;

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
	SSL_set_connect_state(ssl);
	SSL_do_handshake(ssl);
	n = BIO_get_mem_data(out, &p);
	for (long at = 5 + 4 + 2 + 32 + 1 + 32 + 2; at + 8 < n && !found; at++) /* the extension: 10, length, length of the list (two less) */
		if (p[at] == 0 && p[at + 1] == 10 && (p[at + 2] << 8 | p[at + 3]) == (p[at + 4] << 8 | p[at + 5]) + 2 && (p[at + 5] & 1) == 0)
			for (int i = 0; i < (p[at + 4] << 8 | p[at + 5]) && found < room; i += 2)
				to[found++] = p[at + 6 + i] << 8 | p[at + 7 + i];
	SSL_free(ssl);
	ERR_clear_error();
	return found;
}

static void unknown_names_are_left_out(void **state)
{
	SSL_CTX *s = SSL_CTX_new(TLS_client_method());
	int ids[10];

	(void)state;
	assert_true(ossl_groups_set(s, (const char *const[]){ "NoSuchGroup", "P-384", "X25519MLKEM9999", "X25519", "secp999r1", NULL }));
	assert_int_equal(offered(s, ids, 10), 2);
	assert_int_equal(ids[0], 24); /* secp384r1 */
	assert_int_equal(ids[1], 29); /* x25519 */
	SSL_CTX_free(s);
}

static void ours_in_order(void **state)
{
	SSL_CTX *s = SSL_CTX_new(TLS_client_method());
	const struct { const char *name; int id; } known[] = { { "X25519MLKEM768", 0x11ec }, { "X25519", 29 }, { "P-256", 23 }, { "P-384", 24 }, { "P-521", 25 } };
	int ids[10];
	size_t n, k = 0;

	(void)state;
	assert_true(ossl_groups_set(s, ossl_groups));
	n = offered(s, ids, 10);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		assert_string_equal(ossl_groups[i], known[i].name);
		if (has(known[i].name)) /* of the hybrid one, where this OpenSSL has it */
			assert_int_equal(ids[k++], known[i].id);
	}
	assert_null(ossl_groups[sizeof known / sizeof *known]);
	assert_int_equal(k, n);
	assert_true(k >= 4);
	SSL_CTX_free(s);
}

/* ---- handshakes ---- */

static int shake(struct tls_context *server, const char *group)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	struct tls_session *t = tls_session_new(server, true, NULL);
	struct buf down;
	int used = 0, client = 0;

	assert_int_equal(SSL_CTX_set1_groups_list(ctx, group), 1);
	ssl = SSL_new(ctx);
	SSL_set_bio(ssl, in, out);
	SSL_set_connect_state(ssl);
	buf_init(&down, &alloc_libc, 1 << 20);
	for (int turn = 0; turn < 10 && client != 1; turn++) {
		char *p;
		long n;
		struct view v;
		client = SSL_do_handshake(ssl);
		n = BIO_get_mem_data(out, &p);
		v = view_of(p, (size_t)n);
		if (tls_handshake(t, &v, &down) == TLS_FAILED)
			break;
		(void)BIO_reset(out);
		BIO_write(in, buf_view(&down).p, (int)buf_len(&down));
		buf_clear(&down);
	}
	if (client == 1)
		used = SSL_get_negotiated_group(ssl);
	ERR_clear_error();
	buf_free(&down);
	tls_session_free(t);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return used;
}

static void each_by_itself_is_enough(void **state)
{
	struct pki leaf = pki_make("P-256", "mx", "DNS:mx.test", NULL, false, 30);
	struct tls_server_options o = { .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(leaf.cert_pem) }, .certificates_n = 1,
		.signer = { pki_sign, leaf.key }, .session_context = VIEW("t") };
	struct error e;
	struct tls_context *server = tls_server_new(&o, &e);
	unsigned n = 0;

	(void)state;
	assert_non_null(server);
	for (size_t i = 0; ossl_groups[i]; i++)
		if (has(ossl_groups[i])) {
			assert_int_not_equal(shake(server, ossl_groups[i]), 0);
			n++;
		}
	assert_true(n >= 4);
	if (has("X448"))
		assert_int_equal(shake(server, "X448"), 0); /* none of ours */
	tls_context_free(server);
	pki_free(&leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_nothing), cmocka_unit_test(unknown_names_are_left_out), cmocka_unit_test(ours_in_order),
		cmocka_unit_test(each_by_itself_is_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
