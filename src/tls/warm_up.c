/* warm_up.c - one handshake of each version in memory with throw-away keys, before the role is confined.
 *
 * OpenSSL loads its error strings, random source, algorithms and configuration when they are first needed; some of that opens files.
 */
#include "tls/openssl.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>

#define STEPS 8 /* a handshake takes three */

static long sign_here(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n,
		      unsigned char *to, size_t room)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(arg, NULL);
	size_t made = room;
	long r = -1;

	(void)key;
	(void)digest;
	(void)padding; /* the key is EC */
	if (ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, to, &made, hash, n) == 1)
		r = (long)made;
	EVP_PKEY_CTX_free(ctx);
	return r;
}

/* A self-signed certificate as PEM in a memory BIO. */
static BIO *throw_away(EVP_PKEY *key)
{
	X509 *x = X509_new();
	BIO *pem = BIO_new(BIO_s_mem());
	X509_NAME *name = x ? X509_get_subject_name(x) : NULL;

	if (!x || !pem || X509_set_version(x, X509_VERSION_3) != 1 || ASN1_INTEGER_set(X509_get_serialNumber(x), 1) != 1 ||
	    !X509_gmtime_adj(X509_getm_notBefore(x), -3600) || !X509_gmtime_adj(X509_getm_notAfter(x), 3600) ||
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"warm-up", -1, -1, 0) != 1 ||
	    X509_set_issuer_name(x, name) != 1 || X509_set_pubkey(x, key) != 1 || X509_sign(x, key, EVP_sha256()) == 0 ||
	    PEM_write_bio_X509(pem, x) != 1) {
		BIO_free(pem);
		pem = NULL;
	}
	X509_free(x);
	return pem;
}

static bool shake(struct tls_context *server, struct tls_context *client)
{
	static const struct tls_peer_check name = { .how = TLS_CHECK_NONE, .name = "warm-up.invalid" };
	struct tls_session *s = tls_session_new(server, true, NULL), *c = tls_session_new(client, false, &name);
	struct buf up, down;
	enum tls_status a = TLS_WANT, b = TLS_WANT;
	char byte;
	size_t got = 0;
	unsigned i;

	buf_init(&up, &alloc_libc, 65536);
	buf_init(&down, &alloc_libc, 65536);
	for (i = 0; s && c && i < STEPS && (a != TLS_OK || b != TLS_OK); i++) {
		struct view v = buf_view(&down);

		if (a == TLS_WANT)
			a = tls_handshake(c, &v, &up);
		buf_take(&down, buf_len(&down));
		v = buf_view(&up);
		if (b == TLS_WANT)
			b = tls_handshake(s, &v, &down);
		buf_take(&up, buf_len(&up));
	}
	if (a == TLS_OK && b == TLS_OK && tls_write(c, VIEW("x"), &up) == TLS_OK) {
		struct view v = buf_view(&up);

		tls_read(s, &v, &byte, 1, &got, &down);
		tls_close(s, &down);
	}
	buf_free(&up);
	buf_free(&down);
	tls_session_free(s);
	tls_session_free(c);
	return got == 1;
}

int tls_warm_up(struct error *e)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	BIO *pem = key ? throw_away(key) : NULL;
	char *p = NULL;
	long n = pem ? BIO_get_mem_data(pem, &p) : 0;
	const struct tls_server_certificate one = { .chain = { p, (size_t)n } };
	struct tls_tickets *tickets = tls_tickets_new();
	const struct tls_server_options o = { .certificates = &one, .certificates_n = 1, .signer = { sign_here, key },
					      .session_context = VIEW(""), .tickets = tickets };
	static const unsigned char ticket_key[TLS_TICKET_KEY]; /* seals what nobody sees */
	struct tls_context *server = n > 0 ? tls_server_new(&o, e) : NULL, *client = tls_client_new(VIEW(""), e);
	struct ossl_context *oc = (struct ossl_context *)client;
	bool ok = server && client && tickets;

	if (tickets)
		tls_tickets_change(tickets, ticket_key);
	ok = ok && shake(server, client);
	if (ok)
		ok = SSL_CTX_set_max_proto_version(oc->ssl, TLS1_2_VERSION) == 1 && shake(server, client);
	tls_context_free(server);
	tls_tickets_free(tickets);
	tls_context_free(client);
	BIO_free(pem);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return ok ? 0 : error_set(e, ERROR_OURS, "TLS does not work on this machine: no handshake in memory succeeds");
}
