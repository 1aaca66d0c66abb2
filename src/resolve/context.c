/* context.c - see context.h. */
#include "resolve/context.h"

#include "net/address.h"

#include <stdio.h>
#include <unbound.h>

#define DNS_SERVER_PORT 53

/* ---- servers ---- */

static int add_server(struct ub_ctx *ctx, struct view text, struct error *e)
{
	struct address a;
	char host[ADDRESS_TEXT], server[ADDRESS_TEXT + 8];

	if (!address_parse(text, &a) && !address_parse_host(text, DNS_SERVER_PORT, &a))
		return error_set(e, ERROR_INPUT, "not the address of a DNS server: %.*s", VIEW_ARGS(text));
	snprintf(server, sizeof server, "%s@%u", address_host((struct sockaddr *)&a.sa, host), address_port((struct sockaddr *)&a.sa));
	if (ub_ctx_set_fwd(ctx, server) != 0)
		return error_set(e, ERROR_OURS, "DNS server %s: refused by libunbound", server);
	return 0;
}

static void servers_of_resolv_conf(struct ub_ctx *ctx, const struct context_options *o)
{
	static const char word[] = "nameserver";
	struct view text = o->resolv_conf;
	struct error e;

	while (text.n) {
		size_t end = view_find(text, '\n');
		struct view line = view_trim(view_slice(text, 0, end));
		text = view_slice(text, end + 1, text.n);
		if (!view_starts_nocase(line, view_of(word, sizeof word - 1)))
			continue;
		line = view_trim(view_slice(line, sizeof word - 1, line.n));
		line = view_slice(line, 0, view_find(line, ' '));
		if (add_server(ctx, line, &e) == -1)
			o->bad_server(o->arg, e.text);
	}
}

static int set_options(struct ub_ctx *ctx, bool validating, struct error *e)
{
	static const struct { const char *name, *value; } options[] = {
		{ "do-not-query-localhost:", "no" }, /* a resolver on this host is the usual case */
		{ "msg-cache-size:", "8m" },
		{ "rrset-cache-size:", "16m" },
		{ "cache-max-negative-ttl:", "300" }, /* a new domain is found soon */
		{ "use-caps-for-id:", "no" },
		{ "outgoing-range:", "512" },
		{ "num-queries-per-thread:", "1024" },
	};

	if (ub_ctx_set_option(ctx, "module-config:", validating ? "validator iterator" : "iterator") != 0 ||
	    (validating && ub_ctx_set_option(ctx, "val-log-level:", "2") != 0)) /* without it nobody learns why it is bogus */
		return error_set(e, ERROR_OURS, "libunbound cannot validate");
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (ub_ctx_set_option(ctx, options[i].name, options[i].value) != 0)
			return error_set(e, ERROR_OURS, "libunbound refuses %s %s", options[i].name, options[i].value);
	return 0;
}

/* The last word to the context: it takes no server after it. */
static int open_zones(struct ub_ctx *ctx, struct error *e)
{
	/* Special-use names (RFC 6761, RFC 8375) that libunbound answers itself with "no such name", but that a server of
	 * the operator's may well know; asking it is right, as we are given its address. */
	if (ub_ctx_zone_add(ctx, "test.", "transparent") != 0 || ub_ctx_zone_add(ctx, "home.arpa.", "transparent") != 0)
		return error_set(e, ERROR_OURS, "libunbound does not start: does the trust anchor hold a line that is no DS or DNSKEY record?");
	return 0;
}

/* ---- the anchor ---- */

/* One record a line; comments and empty lines between them. */
static int add_anchor(struct ub_ctx *ctx, struct view text, struct error *e)
{
	char line[4096]; /* a key of 4096 bits has some 800 characters */
	size_t n = 0, all = text.n;

	while (text.n) {
		size_t end = view_find(text, '\n');
		struct view v = view_trim(view_slice(text, 0, end));
		text = view_slice(text, end + 1, text.n);
		v = view_trim(view_slice(v, 0, view_find(v, ';')));
		if (!v.n)
			continue;
		if (v.n >= sizeof line)
			return error_set(e, ERROR_INPUT, "a line of the trust anchor is too long");
		memcpy(line, v.p, v.n);
		line[v.n] = '\0';
		if (memchr(line, 0, v.n) || ub_ctx_add_ta(ctx, line) != 0)
			return error_set(e, ERROR_INPUT, "the trust anchor holds a line that is no DS or DNSKEY record");
		n++;
	}
	return n || !all ? 0 : error_set(e, ERROR_INPUT, "the trust anchor holds no record");
}

int context_set_up(struct ub_ctx *ctx, const struct context_options *o, struct error *e)
{
	ub_ctx_debuglevel(ctx, 0);
	ub_ctx_debugout(ctx, NULL); /* what it has to say comes with the answers */
	if (set_options(ctx, o->anchor.n > 0, e) == -1 || add_anchor(ctx, o->anchor, e) == -1)
		return -1;
	for (size_t i = 0; i < o->servers_n; i++)
		if (add_server(ctx, view_cstr(o->servers[i]), e) == -1)
			return -1;
	if (o->servers_n == 0)
		servers_of_resolv_conf(ctx, o);
	return open_zones(ctx, e);
}
