/* raw.c - a ClientHello written by hand, and the first octets of the answer read: for versions, ciphers and groups that
 * no TLS library offers any more.  The handshake is not completed.
 *
 * RFC 8446 4.1.2 and 4.2.8: with an empty key_share a server that has the group asks for it by HelloRetryRequest, which
 * is a ServerHello on the wire; so a group is found out without having it here.
 */
#include "probe/inside.h"

#include "base/env.h"

#define RECORD_HANDSHAKE       22
#define RECORD_ALERT           21
#define SERVER_HELLO           2
#define EXT_SUPPORTED_VERSIONS 43
#define EXT_KEY_SHARE          51

static bool put8(struct buf *b, unsigned v)
{
	const char c = (char)v;

	return buf_add(b, view_of(&c, 1));
}

static bool put16(struct buf *b, unsigned v)
{
	return put8(b, v >> 8) && put8(b, v & 255);
}

/* An extension whose content is a vector with a length of `prefix` octets. */
static bool extension(struct buf *b, unsigned type, unsigned prefix, struct view content)
{
	return put16(b, type) && put16(b, (unsigned)content.n + prefix) &&
	       (prefix == 0 || (prefix == 1 ? put8(b, (unsigned)content.n) : put16(b, (unsigned)content.n))) &&
	       buf_add(b, content);
}

static bool server_name(struct buf *b, const char *name)
{
	size_t n = strlen(name);

	return put16(b, 0) && put16(b, (unsigned)n + 5) && put16(b, (unsigned)n + 3) && put8(b, 0) &&
	       put16(b, (unsigned)n) && buf_add(b, view_cstr(name));
}

static bool extensions(struct buf *b, const struct probe_link *l, const struct probe_raw *raw)
{
	static const char signatures[] =
		"\x04\x03\x05\x03\x06\x03\x08\x04\x08\x05\x08\x06\x04\x01\x05\x01\x06\x01\x02\x03\x02\x01\x08\x07";
	char groups[64];
	unsigned n = 0;

	for (unsigned i = 0; i < raw->group_count && n + 2 <= sizeof groups; i++) {
		groups[n++] = (char)(raw->groups[i] >> 8);
		groups[n++] = (char)(raw->groups[i] & 255);
	}
	if (raw->version < 0x0301)
		return true; /* SSL 3 has none */
	return (!l->p->name || server_name(b, l->p->name)) && extension(b, 10, 2, view_of(groups, n)) &&
	       extension(b, 11, 1, view_of("\0", 1)) &&
	       (raw->version < 0x0303 || extension(b, 13, 2, view_of(signatures, sizeof signatures - 1))) &&
	       extension(b, 23, 0, view_of("", 0)) && /* extended master secret: some servers want it */
	       (raw->version < 0x0304 || (extension(b, EXT_SUPPORTED_VERSIONS, 1, VIEW("\x03\x04")) &&
					  extension(b, EXT_KEY_SHARE, 2, view_of("", 0))));
}

static bool client_hello(struct buf *b, const struct probe_link *l, const struct probe_raw *raw)
{
	unsigned legacy = raw->version > 0x0303 ? 0x0303 : raw->version;
	struct buf inner, ext;
	unsigned char random[64];
	bool ok;

	env_real.random(env_real.arg, random, sizeof random);
	buf_init(&inner, &alloc_libc, 4096);
	buf_init(&ext, &alloc_libc, 2048);
	ok = put16(&inner, legacy) && buf_add(&inner, view_of((char *)random, 32)) &&
	     (raw->version > 0x0303 ? put8(&inner, 32) && buf_add(&inner, view_of((char *)random + 32, 32))
				    : put8(&inner, 0)) &&
	     put16(&inner, 2 * (raw->cipher_count + 1));
	for (unsigned i = 0; ok && i < raw->cipher_count; i++)
		ok = put16(&inner, raw->ciphers[i]);
	/* 00ff: secure renegotiation is known (RFC 5746 3.3) */
	ok = ok && put16(&inner, 0x00ff) && buf_add(&inner, view_of("\1\0", 2)) && extensions(&ext, l, raw);
	if (ok && buf_len(&ext))
		ok = put16(&inner, (unsigned)buf_len(&ext)) && buf_add(&inner, buf_view(&ext));
	ok = ok && put8(b, RECORD_HANDSHAKE) && put16(b, raw->version > 0x0301 ? 0x0301 : raw->version) &&
	     put16(b, (unsigned)buf_len(&inner) + 4) && put8(b, 1) && put8(b, 0) &&
	     put16(b, (unsigned)buf_len(&inner)) && buf_add(b, buf_view(&inner));
	buf_free(&ext);
	buf_free(&inner);
	return ok;
}

/* ---- the answer ---- */

static unsigned get16(struct view v, size_t at)
{
	return at + 2 <= v.n ? (unsigned)((unsigned char)v.p[at] << 8 | (unsigned char)v.p[at + 1]) : 0;
}

bool probe_raw_read(struct view v, struct probe_raw_answer *a)
{
	size_t at = 4 + 2 + 32;

	if (v.n < at + 4 || v.p[0] != SERVER_HELLO)
		return false;
	a->version = (uint16_t)get16(v, 4);
	at += 1 + (unsigned char)v.p[at];
	if (at + 3 > v.n)
		return false;
	a->cipher = (uint16_t)get16(v, at);
	at += 3 + 2; /* the compression method, the length of the extensions */
	for (; at + 4 <= v.n; at += 4 + get16(v, at + 2)) {
		if (get16(v, at) == EXT_SUPPORTED_VERSIONS)
			a->version = (uint16_t)get16(v, at + 4);
		if (get16(v, at) == EXT_KEY_SHARE)
			a->group = (uint16_t)get16(v, at + 4);
	}
	a->accepted = true;
	return true;
}

/* The first record, whole; empty when it does not come. */
static struct view first_record(struct probe_link *l)
{
	int64_t until = probe_now() + l->p->o->timeout_ms;

	for (;;) {
		struct view v = buf_view(&l->in);

		if (v.n >= 5 && v.n >= 5 + get16(v, 3))
			return view_slice(v, 0, 5 + get16(v, 3));
		if (probe_fill(l, until) != 1)
			return view_of("", 0);
	}
}

bool probe_raw_shake(struct probe_link *l, const struct probe_raw *raw, struct probe_raw_answer *a)
{
	struct buf hello;
	struct view v;
	bool ok;

	*a = (struct probe_raw_answer){ .alert = -1 };
	l->reply = (struct probe_reply){ 0 };
	if (l->fd == -1 || l->end != PROBE_OPEN)
		return false;
	buf_init(&hello, &alloc_libc, 8192);
	ok = client_hello(&hello, l, raw);
	probe_event(l, "a ClientHello that offers version %04x, %u ciphers, %u groups", raw->version, raw->cipher_count,
		    raw->group_count);
	l->shown = "(its octets)";
	ok = ok && probe_write_clear(l, buf_view(&hello));
	l->shown = NULL;
	buf_free(&hello);
	v = ok ? first_record(l) : view_of("", 0);
	if (v.n >= 7 && v.p[0] == RECORD_ALERT) {
		a->alert = (unsigned char)v.p[6];
		probe_event(l, "alert %d", a->alert);
	} else if (v.n > 5 && v.p[0] == RECORD_HANDSHAKE && probe_raw_read(view_slice(v, 5, v.n), a)) {
		probe_event(l, "a ServerHello: version %04x, cipher %04x, group %04x", a->version, a->cipher, a->group);
	} else {
		if (!l->why[0])
			snprintf(l->why, sizeof l->why, "neither a ServerHello nor an alert came");
		return false;
	}
	buf_take(&l->in, v.n);
	return true;
}
