/* explain.c - `postrider route explain`: the plan of a destination, told instead of followed; see send.h.
 *
 * The same plan as for mail: made if there is none, and kept as such.  EXPLAINED has one line a host, fields separated by TAB:
 *     host  preference  verdict  level  check  policy  names (blank-separated)  addresses (blank-separated)  why
 */
#include "send/send.h"

#include <stdlib.h>

struct explain {
	struct explain *next;
	uint64_t stream;
};

/* Words of a peer may not make fields of their own. */
static void put(struct buf *b, struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		buf_add(b, (unsigned char)v.p[i] < 32 || v.p[i] == 127 ? VIEW("?") : view_slice(v, i, i + 1));
	buf_add(b, VIEW("\t"));
}

static void put_host(const struct target *t, size_t h, struct buf *b)
{
	static const char *const checks[] = { "?", "nothing", "chain", "dane" };
	const struct route_tls_choice *c = &t->facts->hosts[h].choice;
	char text[ADDRESS_TEXT];
	bool first = true;

	put(b, view_cstr(t->hosts[h].name));
	buf_addf(b, "%u\t%s\t%s\t%s\t%s\t", t->hosts[h].preference, route_verdict_name(c->verdict), route_level_name(c->level),
	         c->watch && c->check == ROUTE_CHECK_NOTHING ? "watch" : checks[c->check], route_rpt_policy_name(c->policy));
	for (size_t i = 0; i < c->names_n; i++)
		buf_addf(b, "%s%s", i ? " " : "", c->names[i]);
	buf_add(b, VIEW("\t"));
	for (size_t i = 0; i < t->candidate_count; i++)
		if (t->candidates[i].host == h && t->candidates[i].address.len) {
			buf_addf(b, "%s%s", first ? "" : " ", address_host((const struct sockaddr *)&t->candidates[i].address.sa, text));
			first = false;
		}
	buf_add(b, VIEW("\t"));
	put(b, view_cstr(c->why));
	buf_add(b, VIEW("\n"));
}

static void answer(struct sender *s, uint64_t stream, const struct target *t, const char *failure)
{
	struct wire_EXPLAINED m = { .stream = stream, .failure = view_cstr(failure) };
	struct buf hosts;

	buf_init(&hosts, &alloc_libc, 65536);
	if (t && t->facts)
		for (size_t h = 0; h < t->host_count && h < ROUTE_HOSTS_MAX; h++)
			put_host(t, h, &hosts);
	m.hosts = buf_view(&hosts);
	if (s->queue)
		wire_send_EXPLAINED(s->queue, &m);
	buf_free(&hosts);
}

void send_explain(struct sender *s, const struct wire_EXPLAIN *m)
{
	struct target *t = send_target_get(s, m->dest);
	struct explain *e = t ? calloc(1, sizeof *e) : NULL;

	if (!e) {
		answer(s, m->stream, NULL, "there is no such destination");
		return;
	}
	e->stream = m->stream;
	e->next = t->explains;
	t->explains = e;
	t->used = loop_now(s->loop);
	if (t->state == PLAN_ASKING)
		return;
	if (t->state == PLAN_READY && t->plan_until > loop_now(s->loop))
		send_explain_done(t, "");
	else if (t->opening_n == 0) /* the plan may not be renewed under a link that opens */
		send_plan_start(t);
	else
		send_explain_done(t, t->state == PLAN_READY ? "" : t->failure_text);
}

void send_explain_done(struct target *t, const char *failure)
{
	struct explain *e;

	while ((e = t->explains) != NULL) {
		t->explains = e->next;
		answer(t->sender, e->stream, t, failure);
		free(e);
	}
}
