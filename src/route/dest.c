/* dest.c - see dest.h. */
#include "route/dest.h"

#include <string.h>

/* ---- building ---- */

static bool put(struct buf *b, const char *s)
{
	return buf_add(b, view_cstr(s));
}

static bool put_lower(struct buf *b, struct view v)
{
	size_t i;

	if (!buf_reserve(b, v.n))
		return false;
	for (i = 0; i < v.n; i++)
		buf_tail(b)[i] = (unsigned char)view_lower(v.p[i]);
	buf_commit(b, v.n);
	return true;
}

static bool put_path(struct buf *b, const char *path)
{
	const unsigned char *p;
	bool ok = true;

	for (p = (const unsigned char *)path; ok && *p; p++)
		ok = *p == '%' || *p == ';' || *p < 32 || *p == 127 ? buf_addf(b, "%%%02X", *p)
								    : buf_add(b, view_of((const char *)p, 1));
	return ok;
}

static bool put_host_port(struct buf *b, const char *scheme, const char *host, unsigned port)
{
	bool v6 = strchr(host, ':') != NULL;

	return put(b, scheme) && (!v6 || put(b, "[")) && put_lower(b, view_cstr(host)) &&
	       buf_addf(b, "%s:%u", v6 ? "]" : "", port);
}

static const char *const tls_words[] = {
	[CONF_TLS_NONE] = "none", [CONF_TLS_MAY] = "may", [CONF_TLS_ENCRYPT] = "encrypt", [CONF_TLS_VERIFY] = "verify"
};

static bool put_options(struct buf *b, const struct conf_hop *hop, const char *auth)
{
	bool ok = true;

	if (hop->tls != CONF_TLS_MAY && hop->tls >= CONF_TLS_NONE && hop->tls <= CONF_TLS_VERIFY)
		ok = put(b, ";tls=") && put(b, tls_words[hop->tls]);
	if (ok && hop->source && *hop->source)
		ok = put(b, ";source=") && put(b, hop->source);
	if (ok && hop->auth_file && *hop->auth_file)
		ok = put(b, ";auth=") && put(b, auth);
	if (ok && hop->client_certificate)
		ok = put(b, ";certificate=") && put_path(b, hop->client_certificate);
	return ok;
}

/* The address was checked by receive, but a frame is a peer's input: a domain must never smuggle an option in. */
static bool is_plain(struct view domain)
{
	size_t i;

	for (i = 0; i < domain.n; i++) {
		unsigned char u = (unsigned char)view_lower(domain.p[i]);

		if (!((u >= 'a' && u <= 'z') || (u >= '0' && u <= '9') || u == '-' || u == '.' || u == '_' ||
		      u == ':' || u > 127))
			return false;
	}
	return domain.n > 0 && domain.n <= 255; /* RFC 5321 4.5.3.1.2 */
}

/* An address literal is reached without the DNS (RFC 5321 5.1); port 25 as for every MX. */
static bool put_literal(struct buf *b, struct view literal)
{
	struct view inner = view_slice(literal, 1, literal.n - 1);
	char host[64];

	if (view_starts_nocase(inner, VIEW("IPv6:")))
		inner = view_slice(inner, 5, inner.n);
	else if (view_find(inner, ':') != inner.n)
		return put(b, "unroutable"); /* a General-address-literal: no such network is known */
	if (inner.n >= sizeof host || !is_plain(inner))
		return put(b, "unroutable");
	memcpy(host, inner.p, inner.n);
	host[inner.n] = '\0';
	return put_host_port(b, "smtp:", host, 25);
}

static bool put_hop(struct buf *b, const struct conf_hop *hop, struct view domain, const char *title)
{
	const struct conf_delivery *d = &hop->delivery;
	bool ok = false;

	switch (d->kind) {
	case CONF_DELIVER_DISCARD: return put(b, "discard");
	case CONF_DELIVER_MAILDIR: /* by the section's title, so that a path changed later holds for queued mail too */
		return put(b, "maildir:") && put_lower(b, view_cstr(title));
	case CONF_DELIVER_MX:
		if (domain.n > 2 && domain.p[0] == '[') {
			if (!put_literal(b, domain))
				return false;
			if (buf_len(b) >= 10 && view_ends_nocase(buf_view(b), VIEW("unroutable")))
				return true;
			ok = true;
		} else if (!is_plain(domain) || view_find(domain, ':') != domain.n)
			return put(b, "unroutable");
		else
			ok = put(b, "mx:") && put_lower(b, domain);
		break;
	case CONF_DELIVER_SMTP: ok = put_host_port(b, "smtp:", d->host, d->port); break;
	case CONF_DELIVER_LMTP: ok = put_host_port(b, "lmtp:", d->host, d->port); break;
	case CONF_DELIVER_LMTP_UNIX: ok = put(b, "lmtp:") && put_path(b, d->path); break;
	}
	return ok && put_options(b, hop, title);
}

static size_t at_of(struct view address)
{
	size_t i;

	for (i = address.n; i > 0; i--)
		if (address.p[i - 1] == '@')
			return i - 1;
	return address.n;
}

static bool is_local(const struct conf_domain *d)
{
	return d && (d->hop.delivery.kind == CONF_DELIVER_MAILDIR || d->hop.delivery.kind == CONF_DELIVER_DISCARD);
}

/* Whose postmaster does Postmaster without a domain mean (RFC 5321 4.5.1)?  That of our name, else of our first domain
 * with mailboxes, else of our first domain. */
static const struct conf_domain *own_domain(const struct conf *c)
{
	const struct conf_domain *d = conf_find_domain(c, view_cstr(c->global.hostname));
	size_t i;

	for (i = 0; !d && i < c->domain_count; i++)
		if (c->domains[i].hop.delivery.kind == CONF_DELIVER_MAILDIR)
			d = &c->domains[i];
	return d || !c->domain_count ? d : &c->domains[0];
}

/* The setting `postmaster`, when it is set: an address or a maildir. */
static bool put_postmaster(const struct conf *c, struct buf *out, struct buf *address, bool *rewritten)
{
	struct view where = view_cstr(c->global.postmaster), domain;
	const struct conf_domain *d;

	if (view_starts_nocase(where, VIEW("maildir:")))
		return put(out, "maildir:") && put_path(out, c->global.postmaster + 8);
	if (view_eq_nocase(where, VIEW("discard")))
		return put(out, "discard");
	domain = view_slice(where, at_of(where) + 1, where.n);
	if (!domain.n)
		return put(out, "unroutable");
	d = conf_find_domain(c, domain);
	*rewritten = true;
	return buf_add(address, where) && put_hop(out, d ? &d->hop : &c->route_hop, domain, d ? d->title : "");
}

bool route_dest_build(const struct conf *c, struct view recipient, struct buf *out, struct buf *address,
		      bool *rewritten)
{
	size_t at = at_of(recipient);
	struct view local = view_slice(recipient, 0, at), domain = view_slice(recipient, at + 1, recipient.n);
	const struct conf_domain *d = domain.n ? conf_find_domain(c, domain) : NULL;
	bool postmaster = view_eq_nocase(local, VIEW("postmaster"));

	*rewritten = false;
	buf_clear(address);
	if (postmaster && !d && view_eq_nocase(domain, view_cstr(c->global.hostname)))
		domain.n = 0; /* the name that our greeting and our reports give */
	if (postmaster && (!domain.n || is_local(d)) && c->global.postmaster && *c->global.postmaster)
		return put_postmaster(c, out, address, rewritten);
	if (!domain.n) {
		d = own_domain(c);
		if (!d)
			return put(out, "unroutable");
		*rewritten = true;
		domain = view_cstr(d->title);
		return buf_add(address, local) && put(address, "@") && put_lower(address, domain) &&
		       put_hop(out, &d->hop, domain, d->title);
	}
	return put_hop(out, d ? &d->hop : &c->route_hop, domain, d ? d->title : "");
}

/* ---- reading back ---- */

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Copies v into the struct's text, %XX undone when it is a path; NULL when it does not fit or is malformed. */
static char *keep(struct route_dest *d, size_t *used, struct view v, bool path)
{
	char *to = d->text + *used;
	size_t i, n = 0;
	int high, low;

	if (v.n + 1 > sizeof d->text - *used)
		return NULL;
	for (i = 0; i < v.n; i++) {
		if (!v.p[i])
			return NULL;
		if (!path || v.p[i] != '%') {
			to[n++] = v.p[i];
			continue;
		}
		high = i + 2 < v.n ? hex(v.p[i + 1]) : -1;
		low = i + 2 < v.n ? hex(v.p[i + 2]) : -1;
		if (high < 0 || low < 0 || !(high * 16 + low))
			return NULL;
		to[n++] = (char)(high * 16 + low);
		i += 2;
	}
	to[n] = '\0';
	*used += n + 1;
	return to;
}

static int parse_options(struct route_dest *d, size_t *used, struct view v)
{
	struct view option;
	size_t n;
	unsigned tls;

	for (; v.n; v = view_slice(v, n, v.n)) {
		v = view_slice(v, 1, v.n); /* the ';' */
		n = view_find(v, ';');
		option = view_slice(v, 0, n);
		if (view_starts_nocase(option, VIEW("tls="))) {
			option = view_slice(option, 4, option.n);
			for (tls = CONF_TLS_NONE; tls <= CONF_TLS_VERIFY; tls++)
				if (view_eq(option, view_cstr(tls_words[tls])))
					break;
			if (tls > CONF_TLS_VERIFY)
				return -1; /* an unknown level must never become a lower one */
			d->hop.tls = (enum conf_tls)tls;
		} else if (view_starts_nocase(option, VIEW("source="))) {
			d->hop.source = keep(d, used, view_slice(option, 7, option.n), false);
			if (!d->hop.source || !*d->hop.source)
				return -1;
		} else if (view_starts_nocase(option, VIEW("auth="))) {
			d->auth = keep(d, used, view_slice(option, 5, option.n), false);
			if (!d->auth)
				return -1;
		} else if (view_starts_nocase(option, VIEW("certificate="))) {
			d->hop.client_certificate = keep(d, used, view_slice(option, 12, option.n), true);
			if (!d->hop.client_certificate)
				return -1;
		} else if (view_eq(option, VIEW("require")))
			d->require = true;
		else if (view_eq(option, VIEW("relaxed")))
			d->relaxed = true;
		else
			return -1;
	}
	return 0;
}

static int parse_host_port(struct route_dest *d, size_t *used, struct view v)
{
	struct view host;
	uint64_t port;
	size_t colon = v.n;

	while (colon > 0 && v.p[colon - 1] != ':')
		colon--;
	if (!colon || !view_to_u64(view_slice(v, colon, v.n), &port) || !port || port > 65535)
		return -1;
	host = view_slice(v, 0, colon - 1);
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = view_slice(host, 1, host.n - 1);
	else if (view_find(host, ':') != host.n)
		return -1;
	d->hop.delivery.port = (uint16_t)port;
	d->hop.delivery.host = host.n ? keep(d, used, host, false) : NULL;
	return d->hop.delivery.host ? 0 : -1;
}

/* What stands between the scheme and the options. */
static int parse_place(struct route_dest *d, size_t *used, struct view scheme, struct view place)
{
	bool path = place.n && place.p[0] == '/';

	if (!place.n)
		return -1;
	if (view_eq(scheme, VIEW("maildir"))) {
		d->hop.delivery.kind = CONF_DELIVER_MAILDIR;
		if (!path)
			return (d->domain = keep(d, used, place, false)) ? 0 : -1;
		return (d->hop.delivery.path = keep(d, used, place, true)) ? 0 : -1;
	}
	if (view_eq(scheme, VIEW("mx"))) {
		d->hop.delivery.kind = CONF_DELIVER_MX;
		return (d->domain = keep(d, used, place, false)) ? 0 : -1;
	}
	if (view_eq(scheme, VIEW("lmtp")) && path) {
		d->hop.delivery.kind = CONF_DELIVER_LMTP_UNIX;
		return (d->hop.delivery.path = keep(d, used, place, true)) ? 0 : -1;
	}
	if (view_eq(scheme, VIEW("lmtp")))
		d->hop.delivery.kind = CONF_DELIVER_LMTP;
	else if (view_eq(scheme, VIEW("smtp")))
		d->hop.delivery.kind = CONF_DELIVER_SMTP;
	else
		return -1;
	return parse_host_port(d, used, place);
}

int route_dest_parse(struct view v, struct route_dest *d)
{
	size_t colon = view_find(v, ':'), used = 0, options;

	memset(d, 0, sizeof *d);
	d->hop.tls = CONF_TLS_MAY;
	if (v.n > ROUTE_DEST_MAX)
		return -1;
	if (view_eq(v, VIEW("discard"))) {
		d->hop.delivery.kind = CONF_DELIVER_DISCARD;
		return 0;
	}
	if (view_eq(v, VIEW("unroutable"))) {
		d->unroutable = true;
		return 0;
	}
	if (colon == v.n)
		return -1;
	options = view_find(v, ';');
	if (options < colon || parse_place(d, &used, view_slice(v, 0, colon), view_slice(v, colon + 1, options)))
		return -1;
	if (d->hop.delivery.kind == CONF_DELIVER_MAILDIR && options != v.n)
		return -1;
	return parse_options(d, &used, view_slice(v, options, v.n));
}

enum route_dest_role route_dest_role(struct view dest)
{
	if (view_eq(dest, VIEW("discard")) || view_eq(dest, VIEW("unroutable")))
		return ROUTE_BY_QUEUE;
	return view_starts_nocase(dest, VIEW("maildir:")) ? ROUTE_BY_LOCAL : ROUTE_BY_SEND;
}

bool route_dest_mark(struct buf *dest, bool require, bool relaxed)
{
	struct view text = buf_view(dest);

	if ((!require && !relaxed) || route_dest_role(text) != ROUTE_BY_SEND || view_starts_nocase(text, VIEW("lmtp:/")))
		return true;
	return put(dest, require ? ";require" : ";relaxed");
}

/* The level that a text owes; MAY (nothing) where it owes none or is none of ours. */
static enum conf_tls owed(struct view text)
{
	struct route_dest d;

	return route_dest_parse(text, &d) == 0 && route_dest_role(text) == ROUTE_BY_SEND ? d.hop.tls : CONF_TLS_MAY;
}

bool route_dest_raise(struct buf *dest, struct view before)
{
	struct view text = buf_view(dest), place, rest;
	enum conf_tls level = owed(before);
	struct buf raised;
	bool ok;

	if (level <= CONF_TLS_MAY || route_dest_role(text) != ROUTE_BY_SEND || level <= owed(text))
		return true;
	place = view_slice(text, 0, view_find(text, ';'));
	rest = view_slice(text, place.n, text.n);
	if (view_starts_nocase(rest, VIEW(";tls="))) /* always the first option: put_options */
		rest = view_slice(rest, 1 + view_find(view_slice(rest, 1, rest.n), ';'), rest.n);
	buf_init(&raised, dest->alloc, dest->max);
	ok = buf_add(&raised, place) && put(&raised, ";tls=") && put(&raised, tls_words[level]) && buf_add(&raised, rest);
	if (ok) {
		buf_clear(dest);
		ok = buf_add(dest, buf_view(&raised));
	}
	buf_free(&raised);
	return ok;
}
