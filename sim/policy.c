/* policy.c - the role `policy`, played: what domains ask of TLS by MTA-STS is in a table; see sim.h.
 *
 * The real one fetches over HTTPS and keeps what it had (tests/integration/test_policy.py).  What matters here is the side of `send`: answers
 * come late, or never, because the role dies; mail must not go by less meanwhile.
 */
#include "sim/sim.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <unistd.h>

#define POLICIES_MAX 4

static struct { const char *domain, *mx; } policies[POLICIES_MAX];
static unsigned policies_n;

struct seat { /* one life of the role */
	bool stopped;
	unsigned late; /* answers under way */
	struct guest { struct seat *seat; struct channel *channel; struct guest *next; } *guests;
};

struct late_answer { struct seat *seat; struct guest *to; struct wire_STS_POLICY m; };

void policy_enforce(const char *domain, const char *mx)
{
	policies[policies_n].domain = domain;
	policies[policies_n++].mx = mx;
}

static bool is_here(const struct seat *s, const struct guest *g)
{
	const struct guest *each = s->guests;

	while (each && each != g)
		each = each->next;
	return each && each->channel;
}

static void free_if_over(struct seat *s)
{
	if (!s->stopped || s->late)
		return;
	while (s->guests) {
		struct guest *next = s->guests->next;
		free(s->guests);
		s->guests = next;
	}
	free(s);
}

static void say_it(void *arg)
{
	struct late_answer *a = arg;

	a->seat->late--;
	if (!a->seat->stopped && is_here(a->seat, a->to))
		wire_send_STS_POLICY(a->to->channel, &a->m);
	free_if_over(a->seat);
	free(a);
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct guest *g = arg;
	struct wire_STS_ASK ask;
	struct late_answer *a;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (type != WIRE_STS_ASK || wire_read_STS_ASK(payload, &ask) == -1)
		return; /* TLS_RESULT: nobody reports in this world */
	a = calloc(1, sizeof *a);
	if (!a)
		abort();
	*a = (struct late_answer){ .seat = g->seat, .to = g, .m = { .stream = ask.stream, .status = WIRE_STS_NONE, .mode = WIRE_STS_MODE_NONE } };
	for (unsigned i = 0; i < policies_n; i++)
		if (view_eq_nocase(ask.domain, view_cstr(policies[i].domain)))
			a->m = (struct wire_STS_POLICY){ .stream = ask.stream, .status = WIRE_STS_FOUND, .mode = WIRE_STS_MODE_ENFORCE, .ttl_s = 600,
				.id = VIEW("1"), .mx = view_cstr(policies[i].mx) };
	g->seat->late++;
	happen_once(world.faults && rng_chance(&world.net, 100) ? rng_span(&world.net, 1000, 200000) : rng_span(&world.net, 0, 50), say_it, a);
}

static void on_closed(void *arg, struct channel *ch)
{
	struct guest *g = arg;

	g->channel = NULL;
	channel_free(ch);
}

static int start(struct role *role, struct error *e)
{
	(void)e;
	role->state = calloc(1, sizeof(struct seat));
	return role->state ? 0 : -1;
}

static void channel(struct role *role, enum role_kind peer, uint32_t index, uint32_t generation, struct channel *ch)
{
	static const struct channel_handler handler = { on_frame, on_closed, NULL };
	struct seat *s = role->state;
	struct guest *g = calloc(1, sizeof *g);

	(void)peer;
	(void)index;
	(void)generation;
	if (!g)
		abort();
	*g = (struct guest){ s, ch, s->guests };
	s->guests = g;
	channel_set_handler(ch, &handler, g);
}

static void drain(struct role *role, uint32_t grace_ms)
{
	(void)grace_ms;
	role->drained(role);
}

static void stop(struct role *role)
{
	struct seat *s = role->state;

	for (struct guest *g = s->guests; g; g = g->next)
		if (g->channel)
			channel_free(g->channel);
	for (struct guest *g = s->guests; g; g = g->next)
		g->channel = NULL;
	s->stopped = true;
	free_if_over(s);
	role->state = NULL;
}

const struct role_ops sim_policy_role = { .kind = ROLE_POLICY, .start = start, .channel = channel, .drain = drain, .stop = stop };
