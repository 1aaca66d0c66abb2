/* trust.c - see trust.h. */
#include "resolve/trust.h"
#include "base/buf.h"
#include "resolve/context.h"
#include "resolve/ub_loop.h"
#include "wire/wire.h"

#include <stdio.h>
#include <unbound.h>
#include <unbound-event.h>

#define DNS_CLASS_IN 1
#define DNS_TYPE_DNSKEY 48

/* ---- contexts ---- */

static void on_bad_server(void *arg, const char *reason)
{
	const struct trust *t = arg;

	EMIT(t->role->events, FAULT, F_STR("where", "resolv.conf"), F_STR("reason", reason));
}

/* anchor: empty for a context that does not validate. */
static struct ub_ctx *make_context(struct trust *t, struct view anchor, struct error *e)
{
	const struct conf_list *servers = &t->role->conf->global.resolver;
	const struct context_options options = { anchor, servers->items, servers->n, handoff_get(t->role->files, "resolv.conf", ""), on_bad_server, t };
	struct ub_ctx *ctx = ub_ctx_create_ub_event(t->base);

	if (!ctx) {
		error_set(e, ERROR_AGAIN, "libunbound cannot start");
		return NULL;
	}
	if (context_set_up(ctx, &options, e) == 0)
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
