/* null.c - an engine that hides nothing: for tests and the simulator.  Never offered by configuration.
 *
 * A record is a marker octet that no SMTP text begins with, a length of two octets (high first), and the octets in clear.
 *   client              server
 *   HELLO name   ->
 *                <-     HELLO identity
 *   FINISH       ->
 *   (up)                (up)       then DATA both ways, CLOSE as close_notify, ALERT before giving up
 * Anything else where a record should begin fails the session, as clear text in a TLS stream does.
 */
#include "tls/engine.h"

#include <stdio.h>
#include <stdlib.h>

enum marker { NULL_HELLO = 0xF1, NULL_FINISH = 0xF2, NULL_DATA = 0xF3, NULL_CLOSE = 0xF4, NULL_ALERT = 0xF5 };
#define HEADER 3u
#define RECORD_MAX 16384u /* as in TLS, so that splits look alike */

struct null_context {
	struct tls_context base;
	enum tls_null_fault fault;
};

struct null_session {
	struct tls_session base;
	enum tls_null_fault fault;
	enum tls_check how; /* a peer that says nothing of itself is right, unless the fault says otherwise */
	bool server, greeted, up, closed;
	char name[256];
	char names[TLS_NAMES_MAX][256];          /* acceptable */
	unsigned char digests[TLS_TLSA_MAX][32]; /* of TLSA records 3 1 1 */
	unsigned names_n, digests_n;
	enum tls_fault refused;                  /* why the peer is not who it should be; 0: it is */
	struct buf record;  /* the record being collected, header included */
	size_t given;       /* octets of its payload that were handed out */
	struct tls_facts facts;
};

static enum tls_status fail(struct null_session *s, struct buf *out, const char *why)
{
	const unsigned char alert[HEADER] = { NULL_ALERT, 0, 0 };

	snprintf(s->base.why, sizeof s->base.why, "%s", why);
	if (out)
		buf_add(out, view_of((const char *)alert, sizeof alert));
	s->closed = true;
	return TLS_FAILED;
}

static bool put(struct buf *out, enum marker m, struct view v)
{
	const unsigned char head[HEADER] = { (unsigned char)m, (unsigned char)(v.n >> 8), (unsigned char)v.n };

	return buf_add(out, view_of((const char *)head, sizeof head)) && buf_add(out, v);
}

static size_t record_size(const struct buf *b)
{
	const unsigned char *p = (const unsigned char *)buf_view(b).p;

	return HEADER + ((size_t)p[1] << 8 | p[2]);
}

/* Collects one record. TLS_OK: s->record holds it whole. */
static enum tls_status collect(struct null_session *s, struct view *in, struct buf *out)
{
	while (in->n) {
		size_t have = buf_len(&s->record), want = have < HEADER ? HEADER : record_size(&s->record), n;

		if (have == 0 && ((unsigned char)in->p[0] < NULL_HELLO || (unsigned char)in->p[0] > NULL_ALERT))
			return fail(s, out, "not a record: clear text where TLS is spoken");
		if (want > HEADER + RECORD_MAX)
			return fail(s, out, "a record is too long");
		n = want - have < in->n ? want - have : in->n;
		if (!buf_add(&s->record, view_of(in->p, n)))
			return fail(s, NULL, "out of memory");
		*in = view_slice(*in, n, in->n);
		have += n;
		if (have >= HEADER && have == record_size(&s->record))
			return TLS_OK;
	}
	return TLS_WANT;
}

static enum tls_status server_step(struct null_session *s, unsigned char marker, struct view payload, struct buf *out)
{
	if (!s->greeted) {
		if (marker != NULL_HELLO || payload.n >= sizeof s->name)
			return fail(s, out, "the hello is wrong");
		if (s->fault == TLS_NULL_FAIL_HELLO)
			return fail(s, out, "told to fail at the hello");
		memcpy(s->name, payload.p, payload.n);
		s->name[payload.n] = 0;
		s->greeted = true;
		if (s->fault != TLS_NULL_FAIL_STALL && !put(out, NULL_HELLO, VIEW("")))
			return fail(s, NULL, "out of memory");
		return TLS_WANT;
	}
	if (marker != NULL_FINISH)
		return fail(s, out, "the finish is wrong");
	if (s->fault == TLS_NULL_FAIL_FINISH)
		return fail(s, out, "told to fail at the finish");
	return TLS_OK;
}

void tls_null_digest(struct view identity, unsigned char to[32])
{
	uint64_t h = view_hash(identity);

	for (int i = 0; i < 32; i++) {
		h = h * 6364136223846793005u + 1442695040888963407u;
		to[i] = (unsigned char)(h >> 56);
	}
}

/* Is it whom we want?  0, or what is wrong. */
static enum tls_fault judge(const struct null_session *s, struct view identity)
{
	unsigned char digest[32];

	if (s->how == TLS_CHECK_NONE || !identity.n)
		return 0;
	tls_null_digest(identity, digest);
	for (unsigned i = 0; s->how == TLS_CHECK_CHAIN_AND_NAME && i < s->names_n; i++)
		if (view_eq_nocase(identity, view_cstr(s->names[i])))
			return 0;
	for (unsigned i = 0; s->how == TLS_CHECK_DANE && i < s->digests_n; i++)
		if (memcmp(s->digests[i], digest, sizeof digest) == 0)
			return 0;
	return s->how == TLS_CHECK_DANE ? TLS_FAULT_TLSA : TLS_FAULT_NAME;
}

static enum tls_status client_step(struct null_session *s, unsigned char marker, struct view identity, struct buf *out)
{
	if (marker != NULL_HELLO)
		return fail(s, out, "the hello is wrong");
	s->refused = judge(s, identity);
	if (s->refused)
		return fail(s, out, "the peer is somebody else");
	if (s->fault == TLS_NULL_FAIL_FINISH)
		return fail(s, out, "told to fail at the finish");
	if (!put(out, NULL_FINISH, VIEW("")))
		return fail(s, NULL, "out of memory");
	return TLS_OK;
}

static enum tls_status null_handshake(struct tls_session *base, struct view *in, struct buf *out)
{
	struct null_session *s = (struct null_session *)base;
	enum tls_status st;

	if (s->closed)
		return TLS_FAILED;
	if (!s->server && !s->greeted) {
		if (s->fault == TLS_NULL_FAIL_HELLO)
			return fail(s, out, "told to fail at the hello");
		if (!put(out, NULL_HELLO, view_cstr(s->name)))
			return fail(s, NULL, "out of memory");
		s->greeted = true;
	}
	while ((st = collect(s, in, out)) == TLS_OK) {
		struct view r = buf_view(&s->record);
		unsigned char marker = (unsigned char)r.p[0];

		if (marker == NULL_ALERT)
			return fail(s, NULL, "the peer gave up");
		st = s->server ? server_step(s, marker, view_slice(r, HEADER, r.n), out) : client_step(s, marker, view_slice(r, HEADER, r.n), out);
		buf_take(&s->record, r.n);
		if (st != TLS_WANT) {
			s->up = st == TLS_OK;
			return st;
		}
	}
	return st;
}

static enum tls_status null_read(struct tls_session *base, struct view *in, void *to, size_t n, size_t *got, struct buf *out)
{
	struct null_session *s = (struct null_session *)base;
	struct view r;
	size_t some;
	enum tls_status st;

	if (s->closed || !s->up)
		return TLS_FAILED;
	do {
		if (!s->given) {
			st = collect(s, in, out);
			if (st != TLS_OK)
				return st;
			if (s->fault == TLS_NULL_FAIL_DATA)
				return fail(s, out, "told to fail at the first data");
			s->given = HEADER;
		}
		r = buf_view(&s->record);
		if ((unsigned char)r.p[0] == NULL_CLOSE)
			return TLS_CLOSED;
		if ((unsigned char)r.p[0] != NULL_DATA)
			return fail(s, out, (unsigned char)r.p[0] == NULL_ALERT ? "the peer gave up" : "an unexpected record");
		some = r.n - s->given < n ? r.n - s->given : n;
		if (some)
			memcpy(to, r.p + s->given, some);
		s->given += some;
		if (s->given == r.n) {
			buf_take(&s->record, r.n);
			buf_release(&s->record);
			s->given = 0;
		}
	} while (!some);
	*got = some;
	return TLS_OK;
}

static enum tls_status null_write(struct tls_session *base, struct view v, struct buf *out)
{
	struct null_session *s = (struct null_session *)base;

	if (s->closed || !s->up)
		return TLS_FAILED;
	while (v.n) {
		size_t n = v.n < RECORD_MAX ? v.n : RECORD_MAX;

		if (!put(out, NULL_DATA, view_slice(v, 0, n)))
			return fail(s, NULL, "out of memory");
		v = view_slice(v, n, v.n);
	}
	return TLS_OK;
}

static void null_close(struct tls_session *base, struct buf *out)
{
	struct null_session *s = (struct null_session *)base;

	if (!s->closed && s->up)
		put(out, NULL_CLOSE, VIEW(""));
}

static const struct tls_facts *null_facts(struct tls_session *base)
{
	struct null_session *s = (struct null_session *)base;

	bool checked = !s->refused && (s->how == TLS_CHECK_CHAIN_AND_NAME || s->how == TLS_CHECK_DANE);

	s->facts = (struct tls_facts){ .protocol = VIEW("NULL"), .cipher = VIEW("NULL"), .verified = checked,
				       .verify = checked ? VIEW("verified") : VIEW("not checked"),
				       .by = s->how == TLS_CHECK_DANE ? TLS_BY_DANE_EE : checked ? TLS_BY_CHAIN : TLS_BY_NOTHING, 
				       .fault = s->refused ? s->refused : TLS_FAULT_NONE,
				       .peer_name = VIEW(""), .sni = view_cstr(s->name) };
	return &s->facts;
}

static void null_free(struct tls_session *base)
{
	struct null_session *s = (struct null_session *)base;

	buf_free(&s->record);
	alloc_put(&alloc_libc, s);
}

static bool keep_check(struct null_session *s, const struct tls_peer_check *check)
{
	for (unsigned i = 0; i < check->names_n && i < TLS_NAMES_MAX; i++) {
		if (strlen(check->names[i]) >= sizeof *s->names)
			return false;
		memcpy(s->names[s->names_n++], check->names[i], strlen(check->names[i]) + 1);
	}
	if (!check->names_n && check->name)
		memcpy(s->names[s->names_n++], check->name, strlen(check->name) + 1); /* its length was looked at */
	for (unsigned i = 0; i < check->records_n && s->digests_n < TLS_TLSA_MAX; i++)
		if (check->records[i].usage == 3 && check->records[i].data.n == sizeof *s->digests)
			memcpy(s->digests[s->digests_n++], check->records[i].data.p, sizeof *s->digests);
	return true;
}

static struct tls_session *null_start(struct tls_context *base, bool server, const struct tls_peer_check *check)
{
	struct null_context *c = (struct null_context *)base;
	const char *name = check ? check->name : NULL;
	struct null_session *s;

	if (c->fault == TLS_NULL_FAIL_START || (name && strlen(name) >= sizeof s->name))
		return NULL;
	s = alloc_get(&alloc_libc, sizeof *s);
	if (!s)
		return NULL;
	*s = (struct null_session){ .base.engine = base->engine, .fault = c->fault, .how = check ? check->how : TLS_CHECK_NONE, .server = server };
	buf_init(&s->record, &alloc_libc, HEADER + RECORD_MAX);
	if (check && !server && !keep_check(s, check)) {
		alloc_put(&alloc_libc, s);
		return NULL;
	}
	if (name && !server)
		memcpy(s->name, name, strlen(name) + 1);
	return &s->base;
}

static void null_context_free(struct tls_context *c)
{
	alloc_put(&alloc_libc, c);
}

static int null_check(struct tls_context *c, unsigned nth, struct error *e)
{
	(void)c;
	(void)nth;
	(void)e;
	return 0;
}

static bool null_works(const struct tls_context *c)
{
	(void)c;
	return true;
}

static const struct tls_engine null_engine = {
	.start = null_start,
	.free = null_free,
	.handshake = null_handshake,
	.read = null_read,
	.write = null_write,
	.close = null_close,
	.facts = null_facts,
	.context_free = null_context_free,
	.context_check = null_check,
	.context_works = null_works,
};

struct tls_context *tls_null_new(enum tls_null_fault fault)
{
	struct null_context *c = alloc_get(&alloc_libc, sizeof *c);

	if (!c)
		return NULL;
	*c = (struct null_context){ .base.engine = &null_engine, .fault = fault };
	return &c->base;
}
