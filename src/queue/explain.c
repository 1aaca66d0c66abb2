/* explain.c - the request "explain" of control.h: the destination of an address by the configuration of now, and what `send` knows of it. */
#include "queue/client.h"
#include "queue/deliver.h"
#include "route/dest.h"
#include "wire/wire.h"

#define EXPLAIN_FIELDS 9

static void end(struct client *c, json_t *o)
{
	client_put(c, o);
	client_finish(c);
}

static void fail(struct client *c, const char *why)
{
	end(c, json_pack("{s:b, s:s}", "ok", 0, "error", why));
}

static bool wants(const struct client *c, const char *word)
{
	return json_is_true(json_object_get(c->request, word));
}

static bool build(struct client *c, struct view address, struct buf *dest)
{
	struct buf other;
	bool rewritten, ok;

	buf_init(&other, &alloc_libc, 4096);
	ok = route_dest_build(c->q->conf, address, dest, &other, &rewritten) && route_dest_mark(dest, wants(c, "require"), wants(c, "relaxed"));
	buf_free(&other);
	return ok;
}

static void ask(struct client *c, struct view dest)
{
	struct peer *p = deliver_pick_peer(c->q, ROLE_SEND);
	struct wire_EXPLAIN m = { .stream = c->serial, .dest = dest };

	c->task = CLIENT_EXPLAIN;
	if (p && wire_send_EXPLAIN(p->channel, &m))
		loop_timer_set(&c->timer, loop_now(c->q->loop) + CLIENT_EXPLAIN_WAIT);
	else
		fail(c, "the role send is not running");
}

void client_begin_explain(struct client *c)
{
	json_t *address = json_object_get(c->request, "address");
	enum route_dest_role by;
	struct buf dest;

	if (!json_is_string(address) || !json_string_length(address)) {
		fail(c, "explain wants an address");
		return;
	}
	buf_init(&dest, &alloc_libc, 4096);
	if (!build(c, view_of(json_string_value(address), json_string_length(address)), &dest)) {
		fail(c, "memory");
		buf_free(&dest);
		return;
	}
	by = route_dest_role(buf_view(&dest));
	if (by == ROUTE_BY_SEND) {
		json_object_set_new(c->request, "text", client_text(buf_view(&dest)));
		ask(c, buf_view(&dest));
	} else
		end(c, json_pack("{s:b, s:o, s:s}", "ok", 1, "dest", client_text(buf_view(&dest)), "by", by == ROUTE_BY_LOCAL ? "local" : "queue"));
	buf_free(&dest);
}

/* A peer's words: a line with other than nine fields is left out. */
static json_t *host_json(struct view line)
{
	static const char *const names[EXPLAIN_FIELDS] = { "host", "preference", "verdict", "level", "check", "policy", "names", "addresses", "why" };
	json_t *o = json_object();

	for (size_t i = 0; i < EXPLAIN_FIELDS; i++) {
		size_t n = view_find(line, '\t');
		if (n == line.n) {
			json_decref(o);
			return NULL;
		}
		json_object_set_new(o, names[i], client_text(view_slice(line, 0, n)));
		line = view_slice(line, n + 1, line.n);
	}
	return o;
}

void client_explained(struct client *c, const struct wire_EXPLAINED *m)
{
	json_t *hosts, *one;

	if (!m) {
		fail(c, "send has no answer in time: the DNS or the policy's server is slow");
		return;
	}
	hosts = json_array();
	for (struct view v = m->hosts; v.n;) {
		size_t n = view_find(v, '\n');
		one = host_json(view_slice(v, 0, n));
		if (one)
			json_array_append_new(hosts, one);
		v = view_slice(v, n + 1, v.n);
	}
	end(c, json_pack("{s:b, s:O, s:s, s:o, s:o}", "ok", 1, "dest", json_object_get(c->request, "text"), "by", "send", "failure",
			 client_text(m->failure), "hosts", hosts));
}
