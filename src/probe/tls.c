/* tls.c - the probe's handshakes: OpenSSL over memory, so that the octets of the first flight can be cut as a check
 * wants.
 *
 * A context of its own for each handshake, because each differs.  No certificate is refused here: what is wrong with it
 * is for a check to say.  Security level 0: a server that agrees to what is weak is to be found out, not spared.
 */
#include "probe/inside.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>

#define RECORD_CUT        64u     /* octets of a record when the first flight is cut into records */
#define UNKNOWN_EXTENSION 0xfe42u /* of the private range (RFC 8446 11): nobody may know it */

static int new_session(SSL *ssl, SSL_SESSION *session)
{
	struct probe_link *l = SSL_get_app_data(ssl);

	SSL_SESSION_free(l->session);
	l->session = session;
	return 1; /* ours now */
}

static int add_padding(SSL *ssl, unsigned type, unsigned context, const unsigned char **out, size_t *n, X509 *x,
		       size_t index, int *alert, void *arg)
{
	static const unsigned char zeros[16384];
	const size_t *padding = arg;

	(void)ssl, (void)type, (void)context, (void)x, (void)index, (void)alert;
	*out = zeros;
	*n = *padding < sizeof zeros ? *padding : sizeof zeros;
	return 1;
}

static SSL_CTX *make_context(struct probe_link *l, const struct probe_hello *h, size_t *padding)
{
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());

	if (!c)
		return NULL;
	SSL_CTX_set_security_level(c, 0);
	SSL_CTX_set_cipher_list(
		c, "DEFAULT:@SECLEVEL=0"); /* TLS 1.0 and 1.1 sign by MD5 and SHA-1, which higher levels do not take */
	SSL_CTX_set_options(c, SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_verify(c, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c, new_session);
	if (!SSL_CTX_set_min_proto_version(c, h->least) || !SSL_CTX_set_max_proto_version(c, h->most) ||
	    (h->padding && !SSL_CTX_add_custom_ext(c, UNKNOWN_EXTENSION, SSL_EXT_CLIENT_HELLO, add_padding, NULL,
						   padding, NULL, NULL))) {
		SSL_CTX_free(c);
		return NULL;
	}
	if (l->p->trust)
		SSL_CTX_set1_cert_store(c, l->p->trust);
	return c;
}

static bool prepare(struct probe_link *l, const struct probe_hello *h, size_t *padding)
{
	SSL_CTX *c = make_context(l, h, padding);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	const char *name = h->no_name ? NULL : h->name ? h->name : l->p->name;

	l->ssl = c ? SSL_new(c) : NULL;
	SSL_CTX_free(c);
	if (!l->ssl || !in || !out) {
		BIO_free(in);
		BIO_free(out);
		return false;
	}
	BIO_set_mem_eof_return(in, -1);
	SSL_set_bio(l->ssl, in, out);
	SSL_set_app_data(l->ssl, l);
	SSL_set_connect_state(l->ssl);
	return (!name || SSL_set_tlsext_host_name(l->ssl, name)) &&
	       (!h->session || SSL_set_session(l->ssl, h->session));
}

/* The first flight, one plaintext record, as records of RECORD_CUT octets (RFC 8446 5.1: a handshake message may span
 * records). */
static bool cut_records(struct probe_link *l, struct view flight)
{
	struct buf cut;
	bool ok = flight.n > 5;
	const struct view head = view_slice(flight, 0, 3);

	buf_init(&cut, &alloc_libc, PROBE_INPUT_MAX);
	for (struct view rest = view_slice(flight, 5, flight.n); ok && rest.n;) {
		struct view piece = view_slice(rest, 0, RECORD_CUT);
		const char length[2] = { 0, (char)piece.n };

		ok = buf_add(&cut, head) && buf_add(&cut, view_of(length, 2)) && buf_add(&cut, piece);
		rest = view_slice(rest, piece.n, rest.n);
	}
	ok = ok && probe_write_clear(l, buf_view(&cut));
	buf_free(&cut);
	return ok;
}

/* Octets of the TLS layer: no line of evidence shows them. */
static bool send_raw(struct probe_link *l, struct view octets)
{
	int64_t until = probe_now() + l->p->o->timeout_ms;

	while (octets.n) {
		struct pollfd wait = { .fd = l->fd, .events = POLLOUT };
		ssize_t n = send(l->fd, octets.p, octets.n, MSG_NOSIGNAL);

		if (n > 0) {
			octets = view_slice(octets, (size_t)n, octets.n);
		} else if (errno == EAGAIN) {
			int64_t left = until - probe_now();

			if (left <= 0 || poll(&wait, 1, (int)left) != 1)
				return false;
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

static bool cut_octets(struct probe_link *l, struct view flight)
{
	probe_event(l, "the ClientHello, %zu octets, in a segment each", flight.n);
	for (size_t i = 0; i < flight.n; i++) {
		if (!send_raw(l, view_slice(flight, i, i + 1)))
			return false;
		poll(NULL, 0, i < 64 ? 2 : 0); /* the first ones, which hold the lengths, certainly arrive alone */
	}
	return true;
}

static bool flush(struct probe_link *l, const struct probe_hello *h, bool *first)
{
	BIO *out = SSL_get_wbio(l->ssl);
	char *octets;
	long n = BIO_get_mem_data(out, &octets);
	bool ok = true;

	if (n <= 0)
		return true;
	if (*first && h->before) {
		struct buf both;

		buf_init(&both, &alloc_libc, PROBE_INPUT_MAX);
		probe_event(l, "in one segment: %.*s and the ClientHello", (int)strcspn(h->before, "\r"), h->before);
		ok = buf_add(&both, view_cstr(h->before)) && buf_add(&both, view_of(octets, (size_t)n)) &&
		     send_raw(l, buf_view(&both));
		buf_free(&both);
	} else if (*first && h->cut == PROBE_CUT_RECORDS) {
		ok = cut_records(l, view_of(octets, (size_t)n));
	} else if (*first && h->cut == PROBE_CUT_OCTETS) {
		ok = cut_octets(l, view_of(octets, (size_t)n));
	} else {
		ok = send_raw(l, view_of(octets, (size_t)n));
	}
	*first = false;
	(void)BIO_reset(out);
	return ok;
}

/* what: NULL, for OpenSSL's own words; may be l->why. */
static bool failed(struct probe_link *l, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;
	char words[sizeof l->why];

	snprintf(words, sizeof words, "the handshake failed: %s",
		 what     ? what
		 : reason ? reason
			  : "the server does not speak TLS");
	snprintf(l->why, sizeof l->why, "%s", words);
	probe_event(l, "%s", l->why);
	if (l->end == PROBE_OPEN)
		l->end = PROBE_TLS_BROKE;
	return false;
}

static void tell(struct probe_link *l)
{
	X509 *leaf = SSL_get0_peer_certificate(l->ssl);
	int nid = SSL_get_negotiated_group(l->ssl);
	const char *group = nid & TLSEXT_nid_unknown || !nid ? NULL : OBJ_nid2sn(nid);
	char subject[200] = "none";

	if (leaf)
		X509_NAME_oneline(X509_get_subject_name(leaf), subject, sizeof subject);
	probe_event(l, "TLS is up: %s, %s%s%s%s, certificate %s", SSL_get_version(l->ssl), SSL_get_cipher_name(l->ssl),
		    group ? ", " : "", group ? group : "", SSL_session_reused(l->ssl) ? ", resumed" : "", subject);
}

bool probe_shake(struct probe_link *l, const struct probe_hello *hello)
{
	static const struct probe_hello ordinary;
	const struct probe_hello *h = hello ? hello : &ordinary;
	int64_t until = probe_now() + l->p->o->timeout_ms;
	size_t padding = h->padding;
	bool first = true;

	if (l->fd == -1 || l->end != PROBE_OPEN)
		return false;
	l->reply = (struct probe_reply){ 0 };
	ERR_clear_error();
	if (!prepare(l, h, &padding))
		return failed(l, "out of memory");
	/* what came in clear behind the 220 is for the TLS layer, as it would be for any client */
	if (BIO_write(SSL_get_rbio(l->ssl), buf_view(&l->in).p, (int)buf_len(&l->in)) != (int)buf_len(&l->in) &&
	    buf_len(&l->in))
		return failed(l, "out of memory");
	buf_clear(&l->in);
	for (;;) {
		int n = SSL_do_handshake(l->ssl), got;

		if (!flush(l, h, &first))
			return failed(l, "the server does not take it");
		if (n == 1)
			break;
		if (SSL_get_error(l->ssl, n) != SSL_ERROR_WANT_READ)
			return failed(l, NULL);
		got = probe_fill(l, until);
		if (got != 1)
			return failed(l, got == 0 ? "nothing came in time" : l->why);
		if (BIO_write(SSL_get_rbio(l->ssl), buf_view(&l->in).p, (int)buf_len(&l->in)) <= 0)
			return failed(l, "out of memory");
		buf_clear(&l->in);
	}
	tell(l);
	l->tls = true;
	return true;
}

void probe_trust_load(struct probe *p)
{
	BIO *pem = BIO_new_mem_buf(p->o->trust.p, (int)p->o->trust.n);
	X509 *one;

	p->trust = X509_STORE_new();
	while (pem && p->trust && (one = PEM_read_bio_X509(pem, NULL, NULL, NULL))) {
		X509_STORE_add_cert(p->trust, one);
		X509_free(one);
	}
	ERR_clear_error(); /* the end of the file is one */
	BIO_free(pem);
}
