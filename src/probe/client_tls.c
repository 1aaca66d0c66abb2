/* client_tls.c - TLS of the scripted server: an authority and certificates that live as long as the probe, and the handshake.
 *
 * A context of its own for each handshake, because cases differ in what they show; nothing here is fast, and nothing needs to be.
 * Failure    -1 and the reason when OpenSSL makes no certificate, or the operator's does not fit its key.
 */
#include "probe/client_inside.h"

#include "base/env.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define DAY_S (24 * 3600L)
#define READ_STEP 16384 /* a TLS record */

/* ---- certificates ---- */

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *e;
	bool ok;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	ok = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

struct wanted {
	const char *subject, *names; /* names: subjectAltName; NULL: an authority */
	long from_s, to_s;           /* from now */
};

/* Signed by issuer, or by itself (issuer NULL). */
static X509 *make(const struct wanted *w, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	X509 *x = X509_new(), *by = issuer ? issuer : x;
	uint64_t serial = env_random_u64(&env_real) >> 1;
	X509_NAME *name = x ? X509_get_subject_name(x) : NULL;
	bool ok = name && X509_set_version(x, 2) && ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial) &&
		  X509_gmtime_adj(X509_getm_notBefore(x), w->from_s) && X509_gmtime_adj(X509_getm_notAfter(x), w->to_s) && X509_set_pubkey(x, key) &&
		  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)w->subject, -1, -1, 0) &&
		  X509_set_issuer_name(x, X509_get_subject_name(by));

	if (ok && w->names)
		ok = add_extension(x, by, NID_basic_constraints, "critical,CA:FALSE") && add_extension(x, by, NID_subject_alt_name, w->names) &&
		     add_extension(x, by, NID_ext_key_usage, "serverAuth");
	else if (ok)
		ok = add_extension(x, by, NID_basic_constraints, "critical,CA:TRUE") && add_extension(x, by, NID_key_usage, "critical,keyCertSign,cRLSign");
	ok = ok && add_extension(x, by, NID_subject_key_identifier, "hash") &&
	     (!issuer || add_extension(x, by, NID_authority_key_identifier, "keyid")) && X509_sign(x, issuer_key, EVP_sha256()) > 0;
	if (!ok) {
		X509_free(x);
		return NULL;
	}
	return x;
}

static bool write_authority(const X509 *x, const char *path)
{
	BIO *b = BIO_new_file(path, "w");
	bool ok = b && PEM_write_bio_X509(b, (X509 *)(uintptr_t)x) == 1;

	if (b && BIO_free(b) != 1)
		ok = false;
	return ok;
}

/* The operator's chain and key. */
static int read_given(struct client_certificates *c, const struct probe_client_options *o, struct error *e)
{
	BIO *chain = BIO_new_mem_buf(o->chain.p, (int)o->chain.n), *key = BIO_new_mem_buf(o->key.p, (int)o->key.n);
	X509 *one;

	c->given = sk_X509_new_null();
	c->given_key = key ? PEM_read_bio_PrivateKey(key, NULL, NULL, NULL) : NULL;
	while (chain && c->given && (one = PEM_read_bio_X509(chain, NULL, NULL, NULL)))
		sk_X509_push(c->given, one);
	ERR_clear_error(); /* the end of the file is one */
	BIO_free(chain);
	BIO_free(key);
	if (!c->given || sk_X509_num(c->given) == 0)
		return error_set(e, ERROR_INPUT, "--tls-cert: no certificate in it");
	if (!c->given_key)
		return error_set(e, ERROR_INPUT, "--tls-key: no private key in it (one without a password)");
	if (X509_check_private_key(sk_X509_value(c->given, 0), c->given_key) != 1)
		return error_set(e, ERROR_INPUT, "the key does not belong to the certificate");
	return 0;
}

int client_certificates_make(struct client_certificates *c, const struct probe_client_options *o, struct error *e)
{
	char names[600], where[ADDRESS_TEXT];
	const struct wanted authority = { "Postrider probe authority", NULL, -DAY_S, 30 * DAY_S };
	const struct wanted good = { o->name, names, -DAY_S, 30 * DAY_S }, expired = { o->name, names, -30 * DAY_S, -DAY_S };
	const struct wanted wrong = { "wrong.invalid", "DNS:wrong.invalid", -DAY_S, 30 * DAY_S };

	snprintf(names, sizeof names, "DNS:%s,IP:%s", o->name, address_host((const struct sockaddr *)&o->listen.sa, where));
	c->authority_key = EVP_EC_gen("P-256");
	c->key = EVP_EC_gen("P-256");
	if (c->authority_key && c->key) {
		c->authority = make(&authority, c->authority_key, NULL, c->authority_key);
		c->self = make(&good, c->key, NULL, c->key);
	}
	if (c->authority) {
		c->good = make(&good, c->key, c->authority, c->authority_key);
		c->wrong = make(&wrong, c->key, c->authority, c->authority_key);
		c->expired = make(&expired, c->key, c->authority, c->authority_key);
	}
	if (!c->self || !c->good || !c->wrong || !c->expired)
		return error_set(e, ERROR_OURS, "OpenSSL makes no certificate for %s: %s", o->name,
		                 ERR_peek_last_error() ? ERR_reason_error_string(ERR_peek_last_error()) : "out of memory");
	if (o->authority && !write_authority(c->authority, o->authority))
		return error_set(e, ERROR_INPUT, "%s cannot be written", o->authority);
	return o->chain.n ? read_given(c, o, e) : 0;
}

void client_certificates_free(struct client_certificates *c)
{
	EVP_PKEY_free(c->authority_key);
	EVP_PKEY_free(c->key);
	EVP_PKEY_free(c->given_key);
	X509_free(c->authority);
	X509_free(c->good);
	X509_free(c->self);
	X509_free(c->wrong);
	X509_free(c->expired);
	sk_X509_pop_free(c->given, X509_free);
	*c = (struct client_certificates){ 0 };
}

/* ---- the handshake ---- */

static bool use_certificate(SSL_CTX *context, const struct client_certificates *c, enum client_shown shown)
{
	X509 *const leaf[] = { c->good, c->self, c->wrong, c->expired };
	bool ok = true;

	if (shown != CLIENT_SHOWN_GOOD || !c->given)
		return SSL_CTX_use_certificate(context, leaf[shown]) == 1 && SSL_CTX_use_PrivateKey(context, c->key) == 1;
	for (int i = 1; ok && i < sk_X509_num(c->given); i++)
		ok = SSL_CTX_add1_chain_cert(context, sk_X509_value(c->given, i)) == 1;
	return ok && SSL_CTX_use_certificate(context, sk_X509_value(c->given, 0)) == 1 && SSL_CTX_use_PrivateKey(context, c->given_key) == 1;
}

static SSL *prepare(const struct client_probe *c, const struct client_script *s)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	SSL *ssl = NULL;

	if (context && in && out) {
		SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
		SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_num_tickets(context, 0);
		if (s->old_tls) {
			SSL_CTX_set_security_level(context, 0); /* SHA-1, which TLS 1.0 signs with */
			SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
			SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
		}
		if (use_certificate(context, &c->certificates, s->shown))
			ssl = SSL_new(context);
	}
	SSL_CTX_free(context);
	if (!ssl) {
		BIO_free(in);
		BIO_free(out);
		return NULL;
	}
	BIO_set_mem_eof_return(in, -1);
	SSL_set_bio(ssl, in, out);
	SSL_set_accept_state(ssl);
	return ssl;
}

/* What the TLS layer has to say, without a line of evidence for its octets. */
static bool flush(struct probe_link *l)
{
	BIO *out = SSL_get_wbio(l->ssl);
	char *octets;
	long n = BIO_get_mem_data(out, &octets);
	bool ok = true;

	if (n > 0) {
		l->shown = "(octets of TLS)";
		ok = probe_write_clear(l, view_of(octets, (size_t)n));
		l->shown = NULL;
	}
	(void)BIO_reset(out);
	return ok;
}

static bool failed(struct probe_link *l)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	probe_event(l, "the handshake failed: %s", l->end != PROBE_OPEN ? l->why : reason ? reason : "what came is no TLS");
	return false;
}

/* Records that came with the last flight of the handshake. */
static bool read_on(struct probe_link *l)
{
	int n;

	do {
		if (!buf_reserve(&l->in, READ_STEP))
			return false;
		n = SSL_read(l->ssl, buf_tail(&l->in), READ_STEP);
		if (n > 0)
			buf_commit(&l->in, (size_t)n);
	} while (n > 0);
	return SSL_get_error(l->ssl, n) == SSL_ERROR_WANT_READ;
}

bool client_shake(struct client_probe *c, struct probe_link *l, const struct client_script *s)
{
	int64_t until = probe_now() + c->o->timeout_ms;

	ERR_clear_error();
	l->ssl = prepare(c, s);
	if (!l->ssl)
		return failed(l);
	for (;;) {
		int n;

		if (buf_len(&l->in) && BIO_write(SSL_get_rbio(l->ssl), buf_view(&l->in).p, (int)buf_len(&l->in)) != (int)buf_len(&l->in))
			return failed(l);
		buf_clear(&l->in);
		n = SSL_do_handshake(l->ssl);
		if (!flush(l))
			return failed(l);
		if (n == 1)
			break;
		if (SSL_get_error(l->ssl, n) != SSL_ERROR_WANT_READ || probe_fill(l, until) != 1)
			return failed(l);
	}
	l->tls = true;
	probe_event(l, "TLS is up: %s, %s%s%s", SSL_get_version(l->ssl), SSL_get_cipher_name(l->ssl), SSL_get_servername(l->ssl, 0) ? ", asked for " : "",
		    SSL_get_servername(l->ssl, 0) ? SSL_get_servername(l->ssl, 0) : "");
	if (!read_on(l)) {
		/* TLS 1.3: the client looks at our certificate after its own side has seen the end */
		probe_event(l, "and the client ends it: %s", ERR_peek_last_error() ? ERR_reason_error_string(ERR_peek_last_error()) : "close_notify");
		l->tls = false;
		return false;
	}
	return true;
}

void client_notify(struct probe_link *l)
{
	if (!l->tls)
		return;
	SSL_shutdown(l->ssl);
	probe_event(l, "close_notify; the connection stays open");
	flush(l);
	l->tls = false;
	buf_clear(&l->in);
}
