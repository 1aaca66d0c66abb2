/* domain_dns.c - questions to the DNS, one after the other, by libunbound in this thread (no child, no thread of its own).
 *
 * As the role `resolve` does it: when the root's keys do not validate, nothing can be secure, and questions go to a context that does not
 * validate.
 */
#include "probe/domain_inside.h"

#include "resolve/context.h"

#include <stdio.h>
#include <unbound.h>

#define DNS_CLASS_IN 1
#define DNS_TYPE_DNSKEY 48

static void on_bad_server(void *arg, const char *reason)
{
	domain_event(arg, "resolv.conf: %s", reason);
}

static struct ub_ctx *open_context(struct domain_probe *d, struct view anchor, struct error *e)
{
	const struct probe_domain_options *o = d->o;
	const struct context_options options = { anchor, o->resolvers, o->resolver_count, o->resolv_conf, on_bad_server, d };
	struct ub_ctx *ctx = ub_ctx_create();

	if (!ctx) {
		error_set(e, ERROR_AGAIN, "libunbound cannot start");
		return NULL;
	}
	if (context_set_up(ctx, &options, e) == 0)
		return ctx;
	ub_ctx_delete(ctx);
	return NULL;
}

int domain_dns_open(struct domain_probe *d, struct error *e)
{
	struct ub_result *root = NULL;
	int status;

	if (d->o->dane && d->o->anchor.n) {
		d->dns = open_context(d, d->o->anchor, e);
		if (!d->dns)
			return -1;
		status = ub_resolve(d->dns, ".", DNS_TYPE_DNSKEY, DNS_CLASS_IN, &root);
		d->validates = status == 0 && root->secure;
		domain_event(d, "DNS: the keys of the root %s%s", d->validates ? "validate" : "do not validate: ",
		             d->validates ? "" : status != 0 ? ub_strerror(status) : root->why_bogus ? root->why_bogus : "no answer that is signed");
		ub_resolve_free(root);
		if (d->validates)
			return 0;
		ub_ctx_delete(d->dns);
	}
	d->dns = open_context(d, view_of("", 0), e);
	return d->dns ? 0 : -1;
}

void domain_dns_close(struct domain_probe *d)
{
	if (d->dns)
		ub_ctx_delete(d->dns);
	d->dns = NULL;
}

static void put(struct domain_probe *d, const char *name, enum packet_type type, struct answer *to)
{
	struct ub_result *r = NULL;
	int e = ub_resolve(d->dns, name, (int)type, DNS_CLASS_IN, &r);

	if (e != 0) {
		answer_fail(to, ub_strerror(e));
		return;
	}
	answer_take(to, type, r->rcode, r->answer_len > 0 ? view_of(r->answer_packet, (size_t)r->answer_len) : view_of(NULL, 0),
	            r->secure ? 2 : r->bogus ? 1 : 0, r->why_bogus);
	ub_resolve_free(r);
}

/* ---- what is told ---- */

static const char *status_word(const struct answer *a)
{
	switch (answer_status(a)) {
	case WIRE_DNS_OK: return "";
	case WIRE_DNS_NODATA: return "nothing";
	case WIRE_DNS_NXDOMAIN: return "there is no such name";
	case WIRE_DNS_BOGUS: return "bogus";
	case WIRE_DNS_TEMPORARY: break;
	}
	return "no answer";
}

static void put_record(enum wire_resolve_kind kind, const struct wire_record *r, struct buf *b)
{
	struct route_tlsa tlsa;
	struct address address;
	char text[ADDRESS_TEXT];

	switch (kind) {
	case WIRE_RESOLVE_MX: buf_addf(b, "%u %.*s.", r->preference, VIEW_ARGS(r->name)); break;
	case WIRE_RESOLVE_TXT: buf_addf(b, "\"%.*s\"", VIEW_ARGS(view_slice(r->address, 0, 300))); break;
	case WIRE_RESOLVE_TLSA:
		tlsa = route_tlsa_read(r->address.n ? r->address : VIEW(""));
		route_tlsa_text(&tlsa, b);
		break;
	case WIRE_RESOLVE_ADDRESS:
		if (address_from_octets(r->address, 0, &address))
			buf_addf(b, "%s", address_host((const struct sockaddr *)&address.sa, text));
		break;
	case WIRE_RESOLVE_ALIAS: break;
	}
}

static void tell(struct domain_probe *d, enum wire_resolve_kind kind, const char *name, const struct answer *a)
{
	static const char *const kinds[] = { "?", "MX", "addresses", "TXT", "TLSA", "CNAME" };
	const struct wire_RESOLVED m = answer_wire(a);
	struct view rest = m.records;
	struct wire_record r;
	struct buf b;
	bool first = true;

	buf_init(&b, &alloc_libc, 65536);
	while (kind != WIRE_RESOLVE_ALIAS && wire_record_next(&rest, &r) == 1) {
		buf_add(&b, first ? VIEW("") : VIEW(", "));
		put_record(kind, &r, &b);
		first = false;
	}
	domain_event(d, "DNS: %s of %s: %s%.*s%s%s%s%s%s", kinds[kind], name, status_word(a), VIEW_ARGS(buf_view(&b)),
		     a->canonical[0] ? ", behind an alias: " : "", a->canonical, a->reason[0] ? ": " : "", a->reason, m.secure ? " (secure)" : "");
	buf_free(&b);
}

void domain_ask(struct domain_probe *d, enum wire_resolve_kind kind, const char *name, struct answer *to)
{
	static const enum packet_type types[] = { [WIRE_RESOLVE_MX] = PACKET_MX, [WIRE_RESOLVE_TXT] = PACKET_TXT, [WIRE_RESOLVE_TLSA] = PACKET_TLSA,
		[WIRE_RESOLVE_ALIAS] = PACKET_CNAME, [WIRE_RESOLVE_ADDRESS] = PACKET_AAAA };
	char ascii[PACKET_NAME_MAX];

	answer_init(to);
	if (!answer_name(view_cstr(name), ascii)) {
		answer_no_name(to);
	} else {
		put(d, ascii, types[kind], to);
		if (kind == WIRE_RESOLVE_ADDRESS)
			put(d, ascii, PACKET_A, to);
	}
	tell(d, kind, name, to);
}
