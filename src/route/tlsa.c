/* tlsa.c - see tlsa.h. */
#include "route/tlsa.h"

#define TEXT_DATA 64 /* a SHA-512; whole certificates are no help to a reader */

enum { DANE_TA = 2, DANE_EE = 3, SELECT_CERT = 0, SELECT_KEY = 1, MATCH_FULL = 0, MATCH_SHA256 = 1, MATCH_SHA512 = 2 };

/* A DER SEQUENCE of exactly these octets: a certificate or a key is no other thing. */
static bool is_sequence(struct view v)
{
	const unsigned char *p = (const unsigned char *)v.p;
	size_t n = 0, more;

	if (v.n < 2 || p[0] != 0x30)
		return false;
	if (p[1] < 0x80)
		return p[1] == v.n - 2;
	more = p[1] & 0x7f;
	if (more < 1 || more > 2 || v.n < 2 + more)
		return false;
	for (size_t i = 0; i < more; i++)
		n = n << 8 | p[2 + i];
	return n == v.n - 2 - more;
}

static bool is_usable(const struct route_tlsa *r)
{
	/* PKIX-TA and PKIX-EE are undefined for SMTP: there is no common set of authorities (RFC 7672 3.1.3) */
	if (r->usage != DANE_TA && r->usage != DANE_EE)
		return false;
	if (r->selector != SELECT_CERT && r->selector != SELECT_KEY)
		return false;
	switch (r->matching) { /* a digest of another length can match nothing */
	case MATCH_FULL: return r->data.n <= ROUTE_TLSA_DATA_MAX && is_sequence(r->data);
	case MATCH_SHA256: return r->data.n == 32;
	case MATCH_SHA512: return r->data.n == 64;
	default: return false;
	}
}

struct route_tlsa route_tlsa_read(struct view rdata)
{
	const unsigned char *p = (const unsigned char *)rdata.p;
	struct route_tlsa r = { 0 };

	if (rdata.n < 3)
		return r;
	r = (struct route_tlsa){ .usage = p[0], .selector = p[1], .matching = p[2], .data = view_slice(rdata, 3, rdata.n) };
	r.usable = is_usable(&r);
	return r;
}

bool route_tlsa_text(const struct route_tlsa *r, struct buf *to)
{
	size_t n = r->data.n < TEXT_DATA ? r->data.n : TEXT_DATA;
	bool ok = buf_addf(to, "%u %u %u ", r->usage, r->selector, r->matching);

	for (size_t i = 0; ok && i < n; i++)
		ok = buf_addf(to, "%02x", (unsigned char)r->data.p[i]);
	return ok && (n == r->data.n || buf_add(to, VIEW("...")));
}
