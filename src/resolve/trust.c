/* trust.c - see trust.h. */
#include "resolve/trust.h"
#include "base/buf.h"
#include "net/address.h"
#include "resolve/ub_loop.h"
#include "wire/wire.h"

#include <stdio.h>
#include <unbound.h>
#include <unbound-event.h>

#define DNS_CLASS_IN 1
#define DNS_TYPE_DNSKEY 48
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

static void servers_of_resolv_conf(const struct role *role, struct ub_ctx *ctx, struct view text, struct error *e)
{
	static const char word[] = "nameserver";

	while (text.n) {
		size_t end = view_find(text, '\n');
		struct view line = view_trim(view_slice(text, 0, end));
		text = view_slice(text, end + 1, text.n);
		if (!view_starts_nocase(line, view_of(word, sizeof word - 1)))
			continue;
		line = view_trim(view_slice(line, sizeof word - 1, line.n));
		line = view_slice(line, 0, view_find(line, ' '));
		if (add_server(ctx, line, e) == -1)
			EMIT(role->events, FAULT, F_STR("where", "resolv.conf"), F_STR("reason", e->text));
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
		return error_set(e, ERROR_OURS, "libunbound refuses a local zone");
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

/* ---- contexts ---- */

/* anchor: empty for a context that does not validate. */
static struct ub_ctx *make_context(struct trust *t, struct view anchor, struct error *e)
{
	const struct role *role = t->role;
	const struct conf_list *servers = &role->conf->global.resolver;
	struct ub_ctx *ctx = ub_ctx_create_ub_event(t->base);
	bool ok;

	if (!ctx) {
		error_set(e, ERROR_AGAIN, "libunbound cannot start");
		return NULL;
	}
	ub_ctx_debuglevel(ctx, 0);
	ub_ctx_debugout(ctx, NULL); /* what it has to say comes with the answers */
	ok = set_options(ctx, anchor.n > 0, e) == 0 && add_anchor(ctx, anchor, e) == 0;
	for (size_t i = 0; ok && i < servers->n; i++)
		ok = add_server(ctx, view_cstr(servers->items[i]), e) == 0;
	if (ok && servers->n == 0)
		servers_of_resolv_conf(role, ctx, handoff_get(role->files, "resolv.conf", ""), e);
	if (ok && open_zones(ctx, e) == 0)
		return ctx;
	ub_ctx_delete(ctx);
	return NULL;
}

/* ---- what is told ---- */

static void tell(struct trust *t, const char *text)
{
	struct wire_NOTICE m = { .generation = t->role->generation, .text = view_cstr(text) };
	struct buf b;

	buf_init(&b, &alloc_libc, 4096);
	if (t->role->to_super && wire_put_NOTICE(&b, &m))
		t->role->to_super(t->role, WIRE_NOTICE, buf_view(&b));
	buf_free(&b);
}

static void tell_off(struct trust *t, const char *why)
{
	char text[200];

	if (t->told)
		return;
	t->told = true;
	EMIT(t->role->events, DNSSEC_OFF, F_STR("reason", why));
	snprintf(text, sizeof text, "the DNS cannot be validated, DANE is off: %.120s", why);
	tell(t, text);
}

/* ---- the probe ---- */

static void probe(struct trust *t);

static void settle(struct trust *t, enum trust_state state)
{
	bool waiting = t->state == TRUST_ASKING;

	t->state = state;
	if (waiting)
		t->changed(t->arg);
}

static void on_probe(void *arg, int rcode, void *packet, int length, int security, char *why_bogus, int limited)
{
	struct trust *t = arg;
	char why[160];

	(void)limited;
	(void)packet;
	t->probing = false;
	if (security == 2 && length > 0) {
		loop_timer_stop(&t->timer);
		EMIT(t->role->events, DNSSEC_ON, F_U64("ms", loop_now(t->role->loop) - t->began));
		tell(t, "");
		settle(t, TRUST_GOOD);
		return;
	}
	if (security == 1)
		snprintf(why, sizeof why, "%.150s", why_bogus ? why_bogus : "the keys of the root do not validate");
	else
		snprintf(why, sizeof why, "the DNS servers do not give the keys of the root (code %d)", rcode);
	tell_off(t, why);
	settle(t, TRUST_BROKEN);
	loop_timer_set(&t->timer, loop_now(t->role->loop) + TRUST_AGAIN_MS);
}

static void on_timer(void *arg)
{
	struct trust *t = arg;

	if (t->state == TRUST_ASKING) { /* libunbound asks on; a good answer is welcome later too */
		tell_off(t, "no DNS server has answered for the keys of the root");
		settle(t, TRUST_BROKEN);
	}
	if (!t->probing)
		probe(t);
}

static void probe(struct trust *t)
{
	int e;

	t->probing = true;
	e = ub_resolve_event(t->validating, ".", DNS_TYPE_DNSKEY, DNS_CLASS_IN, t, on_probe, NULL);
	if (e != 0)
		on_probe(t, 0, NULL, 0, 0, NULL, 0);
}

/* ---- life ---- */

int trust_init(struct trust *t, struct role *role, void (*changed)(void *), void *arg, struct error *e)
{
	struct view anchor = handoff_get(role->files, "trust_anchor", "");

	*t = (struct trust){ .role = role, .state = TRUST_NONE, .changed = changed, .arg = arg, .base = ub_loop_base(role->loop) };
	loop_timer_init(&t->timer, role->loop, on_timer, t);
	t->plain = t->base ? make_context(t, VIEW(""), e) : NULL;
	if (!t->plain)
		return t->base ? -1 : error_set(e, ERROR_AGAIN, "no memory");
	if (!role->conf->global.dane || !anchor.n)
		return 0;
	t->validating = make_context(t, anchor, e);
	if (t->validating)
		t->state = TRUST_ASKING;
	else /* mail goes on without it, and it is said */
		EMIT(role->events, FAULT, F_STR("where", "trust_anchor"), F_STR("reason", e->text));
	return 0;
}

void trust_start(struct trust *t)
{
	t->began = loop_now(t->role->loop);
	if (t->state == TRUST_ASKING) {
		loop_timer_set(&t->timer, t->began + TRUST_WAIT_MS);
		probe(t);
	} else if (t->role->conf->global.dane)
		tell_off(t, "there is no trust anchor");
}

struct ub_ctx *trust_context(const struct trust *t)
{
	switch (t->state) {
	case TRUST_ASKING: return NULL;
	case TRUST_GOOD: return t->validating;
	case TRUST_NONE:
	case TRUST_BROKEN: break;
	}
	return t->plain;
}

void trust_free(struct trust *t)
{
	loop_timer_stop(&t->timer);
	if (t->validating)
		ub_ctx_delete(t->validating);
	if (t->plain)
		ub_ctx_delete(t->plain);
	ub_loop_free(t->base);
}
