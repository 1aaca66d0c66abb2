/* session.c - one TLS session over OpenSSL, fed from a view and writing to a buffer.
 *
 * The BIO between OpenSSL and us copies from the view that the caller passes in and appends to its buffer; it owns neither
 * and knows them only during a call.  OpenSSL reads a record's header, then its body, and keeps a part of a record
 * itself, so that the view is always used up when it wants more; read-ahead is off, so that octets behind the handshake's last record
 * stay with the caller.
 *
 * A handshake that may ask for an RSA signature runs on a stack of its own (fiber.h), so that it can be left in the middle.  Such
 * a session is freed only after that stack was run to its end: the signature is given up, OpenSSL fails the handshake and frees what
 * it holds.
 */
#include "tls/fiber.h"
#include "tls/openssl.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <assert.h>
#include <stdio.h>

struct ossl_session {
	struct tls_session base;
	struct ossl_context *context;
	SSL *ssl;
	struct view *in;  /* during a call */
	struct buf *out;
	bool starved;     /* the write to out failed: memory, or its cap */
	bool named;       /* a name is checked */
	enum tls_check how;
	struct tls_facts facts;
	char peer[OSSL_PEER_MAX]; /* the subject of its certificate, then the name that matched */
	char words[40];
	struct buf key;   /* of its context's cache; empty: it is not kept */
	char resumed_peer[OSSL_PEER_MAX]; /* whom the session that is resumed was verified as */
	struct fiber *fiber; /* the handshake that was left in the middle; NULL: none */
	const struct tls_signature *awaited; /* by it */
	bool given_up;       /* nobody waits for the handshake any more */
	int result;          /* of SSL_do_handshake */
};

#define CACHE_KEY_MAX (TLS_NAMES_MAX * OSSL_PEER_MAX + OSSL_PEER_MAX + 1)

/* ---- the BIO ---- */

static int bio_read(BIO *b, char *to, size_t n, size_t *got)
{
	struct ossl_session *s = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (!s || !s->in || s->in->n == 0) {
		BIO_set_retry_read(b);
		return 0;
	}
	*got = n < s->in->n ? n : s->in->n;
	memcpy(to, s->in->p, *got);
	*s->in = view_slice(*s->in, *got, s->in->n);
	return 1;
}

static int bio_write(BIO *b, const char *from, size_t n, size_t *put)
{
	struct ossl_session *s = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (!s || !s->out || !buf_add(s->out, view_of(from, n))) {
		if (s)
			s->starved = true;
		return 0;
	}
	*put = n;
	return 1;
}

static long bio_ctrl(BIO *b, int cmd, long n, void *p)
{
	(void)b;
	(void)n;
	(void)p;
	return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *ossl_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "postrider");

	if (m && (BIO_meth_set_read_ex(m, bio_read) != 1 || BIO_meth_set_write_ex(m, bio_write) != 1 ||
		  BIO_meth_set_ctrl(m, bio_ctrl) != 1)) {
		BIO_meth_free(m);
		return NULL;
	}
	return m;
}

/* ---- life ---- */

/* The subject in one printable line, for the log. */
static void subject(X509 *x, char *to, size_t room)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *p = NULL;
	long n;

	to[0] = 0;
	if (!b)
		return;
	if (X509_NAME_print_ex(b, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0 && (n = BIO_get_mem_data(b, &p)) > 0)
		snprintf(to, room, "%.*s", (int)n, p);
	BIO_free(b);
	ERR_clear_error();
}

/* Sees the peer's certificate before it is judged: a handshake that fails on it has no other way to name it. */
static int on_certificate(X509_STORE_CTX *store, void *unused)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct ossl_session *s = SSL_get_app_data(ssl);
	X509 *x = X509_STORE_CTX_get0_cert(store);
	int ok;

	(void)unused;
	if (x)
		subject(x, s->peer, sizeof s->peer);
	ok = X509_verify_cert(store);
	return s->context->server ? 1 : ok; /* a client may show what it likes: the verdict stays in the store and is told */
}

struct ossl_context *ossl_context_of(const SSL *ssl)
{
	return ((const struct ossl_session *)SSL_get_app_data(ssl))->context;
}

/* ---- resumption ---- */

/* A ticket came, or the session itself can be resumed (TLS 1.2).  A copy is kept: OpenSSL spoils its own when a connection ends
 * without close_notify, as many do. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct ossl_session *s = SSL_get_app_data(ssl);
	const char *matched = X509_VERIFY_PARAM_get0_peername(SSL_get0_param(ssl));
	SSL_SESSION *copy = s && buf_len(&s->key) ? SSL_SESSION_dup(session) : NULL;

	if (copy)
		ossl_cache_put(s->context->cache, buf_view(&s->key), copy, matched ? matched : s->resumed_peer);
	return 0; /* theirs stays theirs */
}

void ossl_resume_watch(SSL_CTX *c)
{
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c, on_session);
}

/* Without one, or when the server has forgotten it, the handshake is a whole one. */
static void resume(struct ossl_session *s, const struct tls_peer_check *check)
{
	SSL_SESSION *session;

	if (!s->context->cache)
		return;
	if (!ossl_cache_key(&s->key, check)) {
		buf_clear(&s->key);
		return;
	}
	session = ossl_cache_take(s->context->cache, buf_view(&s->key), s->resumed_peer);
	if (!session)
		return;
	if (SSL_set_session(s->ssl, session) != 1)
		ERR_clear_error();
	SSL_SESSION_free(session);
}

void ossl_check_watch(SSL_CTX *c)
{
	SSL_CTX_set_cert_verify_callback(c, on_certificate, NULL);
}

/* Whether what the check asks for is there at all. */
static bool possible(const struct ossl_context *c, bool server, const struct tls_peer_check *check)
{
	if (server != c->server || server != !check)
		return false;
	return server || check->how != TLS_CHECK_CHAIN_AND_NAME || c->trusting;
}

struct tls_session *ossl_start(struct tls_context *base, bool server, const struct tls_peer_check *check)
{
	struct ossl_context *c = (struct ossl_context *)base;
	struct ossl_session *s;
	BIO *bio;

	if (!possible(c, server, check))
		return NULL;
	s = alloc_get(&alloc_libc, sizeof *s);
	if (!s)
		return NULL;
	*s = (struct ossl_session){ .base.engine = base->engine, .context = c, .how = server ? TLS_CHECK_NONE : check->how };
	buf_init(&s->key, &alloc_libc, CACHE_KEY_MAX);
	ERR_clear_error();
	s->ssl = SSL_new(s->how == TLS_CHECK_NONE ? c->ssl : c->strict);
	bio = s->ssl ? BIO_new(c->bio) : NULL;
	if (!bio || SSL_set_app_data(s->ssl, s) != 1)
		goto fail;
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(s->ssl, bio, bio);
	bio = NULL;
	if (server)
		SSL_set_accept_state(s->ssl);
	else
		SSL_set_connect_state(s->ssl);
	if (!server && !ossl_check_set(s->ssl, check))
		goto fail;
	s->named = !server && (check->name || check->names_n);
	if (!server)
		resume(s, check);
	return &s->base;
fail:
	BIO_free(bio);
	SSL_free(s->ssl);
	buf_free(&s->key);
	alloc_put(&alloc_libc, s);
	ERR_clear_error();
	return NULL;
}

/* ---- a handshake that can be left ---- */

bool tls_signature_init(struct tls_signature *later)
{
	struct ossl_session *s = fiber_arg();

	if (!s)
		return false;
	later->made = 0;
	later->ready = s->base.ready;
	later->arg = s->base.ready_arg;
	return true;
}

bool tls_signature_wait(struct tls_signature *later)
{
	struct ossl_session *s = fiber_arg();

	s->awaited = later;
	while (later->made == 0 && !s->given_up)
		fiber_pause();
	s->awaited = NULL;
	return later->made != 0;
}

static void shake(void *arg)
{
	struct ossl_session *s = arg;

	s->result = SSL_do_handshake(s->ssl);
}

/* As SSL_do_handshake, to where it ends or waits. */
static enum fiber_state go_on(struct ossl_session *s)
{
	struct fibers *stacks = s->context->signer.fibers;
	enum fiber_state st = FIBER_OVER;

	if (s->fiber)
		st = fiber_resume(stacks, s->fiber);
	else if (s->context->may_wait && s->base.ready && !SSL_is_init_finished(s->ssl))
		st = fiber_start(stacks, shake, s, &s->fiber);
	else
		shake(s);
	if (st == FIBER_OVER)
		s->fiber = NULL;
	return st;
}

static void give_up(struct ossl_session *s)
{
	enum fiber_state st;

	s->given_up = true;
	ERR_clear_error();
	st = go_on(s); /* its alert goes nowhere */
	assert(st == FIBER_OVER);
	ERR_clear_error();
}

static void ossl_free(struct tls_session *base)
{
	struct ossl_session *s = (struct ossl_session *)base;

	if (s->fiber)
		give_up(s);
	SSL_free(s->ssl);
	buf_free(&s->key);
	alloc_put(&alloc_libc, s);
}

/* ---- what went wrong ---- */

static enum tls_status judge(struct ossl_session *s, int ret, const char *during)
{
	int e = SSL_get_error(s->ssl, ret);
	char words[160];
	long verify = SSL_get_verify_result(s->ssl);

	if (s->starved)
		snprintf(words, sizeof words, "out of memory, or the peer takes nothing");
	else if (e == SSL_ERROR_WANT_READ)
		return TLS_WANT;
	else if (e == SSL_ERROR_ZERO_RETURN)
		return TLS_CLOSED;
	else if (verify != X509_V_OK && s->how != TLS_CHECK_NONE && !SSL_is_init_finished(s->ssl))
		snprintf(words, sizeof words, "certificate not accepted: %s", X509_verify_cert_error_string(verify));
	else
		ossl_words(words, sizeof words);
	snprintf(s->base.why, sizeof s->base.why, "%s: %s", during, words);
	ERR_clear_error();
	return TLS_FAILED;
}

static void enter(struct ossl_session *s, struct view *in, struct buf *out)
{
	s->in = in;
	s->out = out;
	ERR_clear_error(); /* SSL_get_error reads the thread's queue */
}

static void leave(struct ossl_session *s)
{
	s->in = NULL;
	s->out = NULL;
}

/* ---- the calls ---- */

static enum tls_status ossl_handshake(struct tls_session *base, struct view *in, struct buf *out)
{
	struct ossl_session *s = (struct ossl_session *)base;
	enum tls_status st = TLS_SIGNING;

	if (s->awaited && s->awaited->made == 0)
		return st;
	enter(s, in, out);
	switch (go_on(s)) {
	case FIBER_PAUSED: break;
	case FIBER_OVER: st = s->result == 1 ? TLS_OK : judge(s, s->result, "handshake"); break;
	case FIBER_NO_MEMORY:
		snprintf(s->base.why, sizeof s->base.why, "handshake: no memory for a stack");
		st = TLS_FAILED;
		break;
	}
	if (st == TLS_CLOSED) { /* close_notify before the end of the handshake */
		snprintf(s->base.why, sizeof s->base.why, "handshake: the peer closed it");
		st = TLS_FAILED;
	}
	leave(s);
	return st;
}

static enum tls_status ossl_read(struct tls_session *base, struct view *in, void *to, size_t n, size_t *got, struct buf *out)
{
	struct ossl_session *s = (struct ossl_session *)base;
	enum tls_status st;
	int r;

	enter(s, in, out);
	r = SSL_read_ex(s->ssl, to, n, got);
	st = r == 1 ? TLS_OK : judge(s, r, "read");
	leave(s);
	return st;
}

static enum tls_status ossl_write(struct tls_session *base, struct view v, struct buf *out)
{
	struct ossl_session *s = (struct ossl_session *)base;
	enum tls_status st = TLS_OK;
	size_t done = 0;
	int r;

	if (v.n == 0)
		return TLS_OK;
	enter(s, NULL, out);
	r = SSL_write_ex(s->ssl, v.p, v.n, &done);
	if (r != 1) {
		st = judge(s, r, "write");
		if (st != TLS_FAILED) { /* the buffer takes all, so nothing else can be waited for */
			snprintf(s->base.why, sizeof s->base.why, "write: not possible now");
			st = TLS_FAILED;
		}
	}
	leave(s);
	return st;
}

static void ossl_close(struct tls_session *base, struct buf *out)
{
	struct ossl_session *s = (struct ossl_session *)base;

	enter(s, NULL, out);
	if (!s->fiber && SSL_is_init_finished(s->ssl))
		SSL_shutdown(s->ssl); /* once: close_notify goes out; the peer's is not waited for */
	ERR_clear_error();
	leave(s);
}

static void address(SSL *ssl, char *to, size_t room)
{
	char *ip = X509_VERIFY_PARAM_get1_ip_asc(SSL_get0_param(ssl));

	snprintf(to, room, "%s", ip ? ip : "");
	OPENSSL_free(ip);
}

/* The record that matched: usage, and in words. */
static enum tls_verified_by by_dane(struct ossl_session *s)
{
	uint8_t usage = 0, selector = 0, matching = 0;

	if (SSL_get0_dane_authority(s->ssl, NULL, NULL) < 0 ||
	    SSL_get0_dane_tlsa(s->ssl, &usage, &selector, &matching, NULL, NULL) < 0)
		return TLS_BY_NOTHING;
	snprintf(s->words, sizeof s->words, "verified by TLSA %u %u %u", usage, selector, matching);
	return usage == TLSA_DANE_EE ? TLS_BY_DANE_EE : TLS_BY_DANE_TA;
}

/* Who the peer is and how we know, in facts that say nothing yet.  Without its certificate the handshake failed, maybe on it. */
static void judge_peer(struct ossl_session *s, struct tls_facts *f, X509 *peer)
{
	const char *matched = X509_VERIFY_PARAM_get0_peername(SSL_get0_param(s->ssl));
	long verify = SSL_get_verify_result(s->ssl);

	if (f->resumed && s->resumed_peer[0]) /* its certificate was judged when the session was made */
		matched = s->resumed_peer;
	f->by = TLS_BY_NOTHING;
	f->fault = TLS_FAULT_NONE;
	if (!peer && !s->peer[0]) {
		f->fault = TLS_FAULT_NO_CERTIFICATE;
		f->verify = VIEW("no certificate");
		return;
	}
	if (s->how != TLS_CHECK_DANE && !s->context->trusting) {
		f->verify = VIEW("not checked");
		return;
	}
	if (verify != X509_V_OK) {
		f->fault = ossl_check_fault(verify);
		f->verify = view_cstr(X509_verify_cert_error_string(verify));
		return;
	}
	if (s->how != TLS_CHECK_DANE && !s->named && !s->context->server) {
		f->verify = VIEW("no name to check");
		return;
	}
	f->by = s->how == TLS_CHECK_DANE ? by_dane(s) : TLS_BY_CHAIN;
	f->verified = f->by != TLS_BY_NOTHING && peer;
	f->verify = s->words[0] ? view_cstr(s->words) : f->verified ? VIEW("verified") : VIEW("not checked");
	if (!f->verified)
		return;
	if (matched)
		snprintf(s->peer, sizeof s->peer, "%s", matched);
	else if (f->by == TLS_BY_CHAIN && s->named) /* an address */
		address(s->ssl, s->peer, sizeof s->peer);
	f->peer_name = view_cstr(s->peer);
}

static const struct tls_facts *ossl_facts(struct tls_session *base)
{
	struct ossl_session *s = (struct ossl_session *)base;
	struct tls_facts *f = &s->facts;
	X509 *peer = SSL_get0_peer_certificate(s->ssl);
	const SSL_CIPHER *cipher = SSL_get_current_cipher(s->ssl);

	*f = (struct tls_facts){
		.protocol = view_cstr(SSL_get_version(s->ssl)),
		.cipher = view_cstr(cipher ? SSL_CIPHER_get_name(cipher) : ""),
		.bits = cipher ? (unsigned)SSL_CIPHER_get_bits(cipher, NULL) : 0,
		.resumed = SSL_session_reused(s->ssl) == 1,
	};
	f->sni = view_cstr(SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name));
	if (!f->sni.p)
		f->sni = VIEW("");
	if (peer && !s->peer[0]) /* resumed: it was looked at then */
		subject(peer, s->peer, sizeof s->peer);
	f->peer_name = view_cstr(s->peer);
	judge_peer(s, f, peer);
	return f;
}

const struct tls_engine ossl_engine = {
	.start = ossl_start,
	.free = ossl_free,
	.handshake = ossl_handshake,
	.read = ossl_read,
	.write = ossl_write,
	.close = ossl_close,
	.facts = ossl_facts,
	.context_free = ossl_context_free,
	.context_check = ossl_context_check,
	.context_works = ossl_context_works,
};
