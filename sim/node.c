/* node.c - one Postrider with all its roles: started, crashed and started anew as super does; see sim.h.
 *
 * What super/single.c is to one life, this is to many: each role (a part) has its own role struct, its ducts to the others
 * and its end.  A crash takes the disk and the network away from the part first, then lets its `stop` free what it holds:
 * nothing that it does there can be seen from outside.
 */
#include "sim/sim.h"
#include "sim/ledger.h"
#include "queue/queue.h"
#include "spool/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DUCTS_MAX 64
#define RESTART_MS 100 /* SUPER_RESTART_MIN_MS; it doubles in life, which only makes crashes rarer */
#define EPOCH 1767225600000 /* 2026-01-01: what the wall clock says when the world begins */

struct link { struct duct *duct; struct part *a, *b; };

struct part {
	struct node *node;
	struct part *older;          /* in node->old: of an earlier generation, on its way out */
	struct role role;
	struct env env;
	bool running, draining, drained, mute; /* mute: dead, and still on the stack */
	struct events *events;
	struct buf log;              /* a line that is not whole yet */
	uint32_t generation;
	struct happening again;
};

struct parts {
	struct link links[DUCTS_MAX];
	unsigned links_n;
};

static struct parts ducts[NODES_MAX];

static const enum role_kind kinds[NODE_ROLES] = { ROLE_KEYS, ROLE_RESOLVE, ROLE_LOCAL, ROLE_QUEUE, ROLE_SEND, ROLE_RECEIVE, ROLE_POLICY };
static const struct role_ops *const ops[NODE_ROLES] = { &keys_role, &resolve_role, &local_role, &queue_role, &send_role, &receive_role, &sim_policy_role };
static const struct { enum role_kind from, to; } edges[] = {
#define EDGE(f, t, why) { ROLE_##f, ROLE_##t },
#include "wire/edges.def"
};

/* ---- the injected world ---- */

static int64_t mono(void *arg)
{
	(void)arg;
	return world.now + 1000000;
}

int64_t node_wall(const struct node *n)
{
	return EPOCH + world.now + n->wall_offset;
}

static int64_t wall(void *arg)
{
	return node_wall(arg);
}

static void dice(void *arg, void *to, size_t n)
{
	struct node *node = arg;
	unsigned char *p = to;

	while (n--)
		*p++ = (unsigned char)rng_next(&node->random);
}

struct view __wrap_handoff_get(const struct handoff *h, const char *kind, const char *title);
struct view __wrap_handoff_get(const struct handoff *h, const char *kind, const char *title)
{
	(void)h;
	(void)title;
	/* certificates are the null engine's; lists of users there are none */
	return strcmp(kind, "chain") == 0 || strcmp(kind, "trust") == 0 || strcmp(kind, "trust_anchor") == 0 ? VIEW("simulated") : view_of(NULL, 0);
}

/* ---- the spool's completions (slow.c) ---- */

void spool_wake_after(struct node *n)
{
	struct part *p = n->parts[3];

	if (p->running)
		queue_pump_soon(p->role.state);
}

/* ---- the log ---- */

static bool has_words(struct view line, struct view words)
{
	for (size_t i = 0; i + words.n <= line.n; i++)
		if (memcmp(line.p + i, words.p, words.n) == 0)
			return true;
	return false;
}

/* In a process of its own `queue` ends where its index is damaged, and is started anew on one that is built. */
static void ends_itself(void *arg)
{
	struct part *p = arg;

	if (p->running)
		node_crash_role(p->node, ROLE_QUEUE);
}

void node_log(struct part *p, struct view octets)
{
	struct view v;
	size_t end;

	if (p->mute)
		return;
	buf_add(&p->log, octets);
	for (;;) {
		struct view line;
		v = buf_view(&p->log);
		end = view_find(v, '\n');
		if (end == v.n)
			return;
		line = view_slice(v, 0, end);
		say("%s %.*s", p->node->name, VIEW_ARGS(line));
		ledger_log(p->node, line);
		if (p->role.kind == ROLE_QUEUE && has_words(line, VIEW("what=index status=damaged")))
			happen_once(0, ends_itself, p);
		buf_take(&p->log, end + 1);
	}
}

/* ---- parts ---- */

static struct part *part_of(struct node *n, enum role_kind kind)
{
	for (int i = 0; i < NODE_ROLES; i++)
		if (kinds[i] == kind)
			return n->parts[i];
	return NULL;
}

static void to_super(struct role *role, uint32_t type, struct view payload)
{
	(void)role;
	(void)type;
	(void)payload;
}

static void retire(void *arg);

static void drained(struct role *role)
{
	struct part *p = role->runner;

	if (p->drained)
		return;
	p->drained = true;
	if (p->draining)
		happen_once(0, retire, p);
}

static void hand_listeners(struct node *n, struct part *p)
{
	for (uint32_t i = 0; i < n->conf->listener_count; i++)
		for (uint32_t k = 0; k < n->conf->listeners[i].address_count; k++) {
			struct wire_LISTENER m = { .listener = i, .address = k };
			struct buf frame;
			int fd = dup(n->listeners[i]);
			buf_init(&frame, &alloc_libc, 64);
			if (fd != -1 && wire_put_LISTENER(&frame, &m))
				p->role.ops->frame(&p->role, WIRE_LISTENER, buf_view(&frame), fd);
			buf_free(&frame);
		}
}

static void join(struct node *n, struct part *a, struct part *b, const char *what)
{
	struct parts *all = &ducts[n->number];
	struct channel *ends[2];
	struct duct *d = duct_new(n->loop, ends, what);
	unsigned i = 0;

	while (i < all->links_n && all->links[i].duct)
		i++;
	if (i == DUCTS_MAX)
		abort();
	all->links[i] = (struct link){ d, a, b };
	if (i == all->links_n)
		all->links_n++;
	b->role.ops->channel(&b->role, a->role.kind, 0, a->generation, ends[1]);
	a->role.ops->channel(&a->role, b->role.kind, 0, b->generation, ends[0]);
}

/* As super/topology.c: send and resolve go together by generation; an old receive still needs the others. */
static bool belong_together(const struct part *a, const struct part *b)
{
	bool pair = a->role.kind == ROLE_SEND && b->role.kind == ROLE_RESOLVE;

	if (!a->running || !b->running || a == b || b->role.kind == ROLE_KEYS)
		return false; /* keys is called, not written to, in one process */
	if ((a->draining && a->role.kind != ROLE_RECEIVE) || b->draining)
		return false;
	return !pair || a->generation == b->generation;
}

static void connect_two(struct node *n, struct part *p, struct part *o)
{
	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
		if (edges[i].from == p->role.kind && edges[i].to == o->role.kind && belong_together(p, o))
			join(n, p, o, role_name(p->role.kind));
		if (edges[i].from == o->role.kind && edges[i].to == p->role.kind && belong_together(o, p))
			join(n, o, p, role_name(o->role.kind));
	}
}

static void connect_part(struct node *n, struct part *p)
{
	for (int i = 0; i < NODE_ROLES; i++)
		connect_two(n, p, n->parts[i]);
	for (struct part *o = n->old; o; o = o->older)
		connect_two(n, p, o);
}

static void start_part(void *arg);
static void go_on_with_reload(struct node *n);

static void start_later(struct part *p)
{
	happen_in(&p->again, rng_span(&world.plan, RESTART_MS, RESTART_MS * 4), start_part, p);
}

static void start_part(void *arg)
{
	struct part *p = arg;
	struct node *n = p->node;
	struct error e = { 0 };
	const struct role_ops *o = p->role.ops;

	if (n->state != NODE_UP || n->stopping || p->running)
		return;
	world.running = n;
	p->generation = n->generation;
	p->drained = p->draining = p->mute = false;
	p->env = n->env;
	disk_env(n->disk, o->kind, &p->env.disk);
	disk_off(n->disk, o->kind, false);
	p->role = (struct role){
		.kind = o->kind, .ops = o, .conf = n->conf, .env = &p->env, .events = p->events, .loop = n->loop, .generation = n->generation,
		.single = true, .extra_fd = o->kind == ROLE_QUEUE ? dup(n->control) : -1, .to_super = to_super, .drained = drained, .runner = p,
	};
	say("%s starts %s", n->name, role_name(o->kind));
	if ((o->prepare && o->prepare(&p->role, &e) == -1) || o->start(&p->role, &e) == -1) {
		say("%s: %s does not start: %s", n->name, role_name(o->kind), e.text);
		net_kill(true);
		if (p->role.state)
			o->stop(&p->role);
		net_kill(false);
		start_later(p);
		return;
	}
	p->running = true;
	connect_part(n, p);
	if (o->kind == ROLE_RECEIVE)
		hand_listeners(n, p);
	go_on_with_reload(n);
}

/* From this moment it does nothing that others see. */
static void cut_off(struct part *p)
{
	struct parts *all = &ducts[p->node->number];

	p->mute = true;
	disk_off(p->node->disk, p->role.kind, true);
	for (unsigned i = 0; i < all->links_n; i++)
		if (all->links[i].duct && (all->links[i].a == p || all->links[i].b == p))
			duct_die(all->links[i].duct, all->links[i].b == p);
}

static void forget_ducts(struct part *p)
{
	struct parts *all = &ducts[p->node->number];

	for (unsigned i = 0; i < all->links_n; i++)
		if (all->links[i].duct && (all->links[i].a == p || all->links[i].b == p))
			all->links[i].duct = NULL; /* the duct lives until both ends have seen the end */
}

static void take_apart(struct part *p)
{
	if (!p->running)
		return;
	world.running = p->node;
	cut_off(p);
	p->running = false;
	net_kill(true);
	p->role.ops->stop(&p->role);
	net_kill(false);
	forget_ducts(p);
}

/* Its control socket says nothing any more, although the turn in which it died goes on. */
bool node_queue_died(struct node *n)
{
	return part_of(n, ROLE_QUEUE)->mute;
}

void node_crash_role(struct node *n, enum role_kind kind)
{
	struct part *p = part_of(n, kind);

	if (n->old && n->old->role.kind == kind && n->old->running && rng_chance(&world.plan, 500)) { /* an old one dies: nobody starts it again */
		p = n->old;
		n->old = p->older;
	}
	if (n->state != NODE_UP || !p->running)
		return;
	world_fault(FAULT_ROLE_CRASH);
	n->crashes++;
	say("%s: %s crashes", n->name, role_name(kind));
	ledger_crash(n, false);
	take_apart(p);
	if (part_of(n, kind) == p)
		start_later(p);
	else
		go_on_with_reload(n);
}

static void die(void *arg)
{
	struct part *p = arg;

	node_crash_role(p->node, p->role.kind);
}

/* In the middle of a disk call: nothing more is done or said; the rest of the turn is a dead man's. */
void node_die_here(struct node *n, enum role_kind kind)
{
	struct part *p = part_of(n, kind);

	cut_off(p);
	happen_in(&n->crash, 0, die, p);
}

void node_crash(struct node *n, bool power)
{
	if (n->state != NODE_UP)
		return;
	say("%s: %s", n->name, power ? "the power goes" : "everything is killed");
	world_fault(power ? FAULT_POWER : FAULT_ROLE_CRASH);
	n->crashes++;
	ledger_crash(n, power);
	n->state = NODE_DOWN;
	n->stopping = false;
	for (int i = NODE_ROLES - 1; i >= 0; i--) {
		take_apart(n->parts[i]);
		happen_never(&n->parts[i]->again);
	}
	for (; n->old; n->old = n->old->older)
		take_apart(n->old);
	for (size_t i = 0; i < n->conf->listener_count; i++)
		close(n->listeners[i]);
	close(n->control);
	if (power)
		disk_cut(n->disk);
}

/* ---- reload: as super/reload.c ---- */

static struct part *part_new(struct node *n, int i)
{
	struct part *p = calloc(1, sizeof *p);

	if (!p)
		abort();
	p->node = n;
	buf_init(&p->log, &alloc_libc, 1 << 20);
	p->events = events_new(&n->env, role_name(kinds[i]), log_fd(p), EVENT_INFO, NULL);
	p->role.ops = ops[i];
	p->role.kind = kinds[i];
	return p;
}

/* An old one that has finished: an orderly end. */
static void retire(void *arg)
{
	struct part *p = arg;
	struct node *n = p->node;
	struct part **at = &n->old;

	while (*at && *at != p)
		at = &(*at)->older;
	if (!*at || !p->running)
		return;
	*at = p->older;
	say("%s: the old %s has finished", n->name, role_name(p->role.kind));
	world.running = n;
	p->running = false;
	p->role.ops->stop(&p->role);
	forget_ducts(p);
	go_on_with_reload(n); /* its resolve may follow */
}

static bool old_send(struct node *n, uint32_t generation)
{
	for (struct part *o = n->old; o; o = o->older)
		if (o->role.kind == ROLE_SEND && o->generation == generation)
			return true;
	return false;
}

/* When the new ones run, the old ones drain; resolve when its send has gone. */
static void go_on_with_reload(struct node *n)
{
	for (int i = 0; i < NODE_ROLES; i++)
		if (!n->parts[i]->running)
			return;
	for (struct part *o = n->old, *next; o; o = next) {
		next = o->older;
		if (o->draining || !o->running || (o->role.kind == ROLE_RESOLVE && old_send(n, o->generation)))
			continue;
		o->draining = true;
		o->role.ops->drain(&o->role, 0);
	}
}

void node_reload(struct node *n, const char *config)
{
	static const int renewed[] = { 1, 4, 5 }, kept[] = { 0, 2, 3, 6 };
	struct error e = { 0 };
	struct conf *fresh;
	char path[64];

	if (n->state != NODE_UP || n->stopping || n->old)
		return; /* one at a time, as super has it */
	snprintf(path, sizeof path, "/sim/%s/postrider.conf", n->name);
	if (conf_parse(&fresh, view_cstr(config), path, &e) == -1)
		abort();
	world_fault(FAULT_RELOAD);
	n->generation++;
	n->conf = fresh; /* the old one lives as long as the world */
	say("%s is reloaded, generation %u", n->name, n->generation);
	world.running = n;
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		struct part *p = n->parts[kept[i]];
		if (!p->running || !p->role.ops->reload)
			continue;
		p->role.generation = n->generation;
		if (p->role.ops->reload(&p->role, fresh, NULL, &e) == -1)
			law_broken("no role is at fault", "%s refuses a reload: %s", role_name(p->role.kind), e.text);
		p->role.conf = fresh;
	}
	for (size_t i = 0; i < sizeof renewed / sizeof *renewed; i++) {
		struct part *p = n->parts[renewed[i]];
		n->parts[renewed[i]] = part_new(n, renewed[i]);
		happen_never(&p->again); /* the new one is its restart */
		if (p->running) {
			p->older = n->old;
			n->old = p;
		}
	}
	for (size_t i = 0; i < sizeof renewed / sizeof *renewed; i++)
		start_part(n->parts[renewed[i]]);
}

void node_start(struct node *n)
{
	char path[64];

	if (n->state == NODE_UP)
		return;
	n->state = NODE_UP;
	snprintf(path, sizeof path, "/sim/%s/control", n->name);
	n->control = sock_listen_path(path, n);
	for (size_t i = 0; i < n->conf->listener_count; i++)
		n->listeners[i] = sock_listen(n->conf->listeners[i].set.address.items[0], n);
	for (int i = 0; i < NODE_ROLES; i++)
		start_part(n->parts[i]);
}

/* ---- the orderly end: as super/stop.c ---- */

static void all_stop(void *arg)
{
	struct node *n = arg;

	if (n->state != NODE_UP || !n->stopping)
		return;
	say("%s stops", n->name);
	world.running = n;
	ledger_crash(n, false); /* what was under way is cut here */
	n->state = NODE_DOWN;
	n->stopping = false;
	for (int i = NODE_ROLES - 1; i >= 0; i--) {
		struct part *p = n->parts[i];
		happen_never(&p->again);
		if (!p->running)
			continue;
		p->running = false;
		p->role.ops->stop(&p->role);
		forget_ducts(p);
	}
	for (; n->old; n->old = n->old->older)
		take_apart(n->old);
	for (size_t i = 0; i < n->conf->listener_count; i++)
		close(n->listeners[i]);
	close(n->control);
}

static void queue_stops(void *arg)
{
	struct node *n = arg;
	struct part *p = part_of(n, ROLE_QUEUE);

	if (n->state != NODE_UP || !n->stopping)
		return;
	if (p->running)
		p->role.ops->drain(&p->role, 3000);
	happen_once(3000, all_stop, n);
}

void node_stop(struct node *n)
{
	struct part *p = part_of(n, ROLE_RECEIVE);

	if (n->state != NODE_UP || n->stopping)
		return;
	say("%s is told to stop", n->name);
	world_fault(FAULT_STOP);
	n->stopping = true;
	if (p->running)
		p->role.ops->drain(&p->role, 3500);
	happen_once(4000, queue_stops, n);
}

struct node *node_new(unsigned number, const char *name, const char *address, const char *config)
{
	struct node *n = calloc(1, sizeof *n);
	struct error e = { 0 };
	char path[64];

	if (!n)
		abort();
	*n = (struct node){ .number = number, .name = name, .address = address, .state = NODE_DOWN, .generation = 1 };
	n->random.s = world.seed * 77 + number;
	n->env = (struct env){ .wall_ms = wall, .mono_ms = mono, .random = dice, .arg = n };
	n->disk = disk_new(n);
	world.nodes[world.nodes_n++] = n;
	snprintf(path, sizeof path, "/sim/%s/postrider.conf", name);
	if (conf_parse(&n->conf, view_cstr(config), path, &e) == -1) {
		fprintf(stderr, "the simulator's configuration is wrong: %s\n", e.text);
		abort();
	}
	snprintf(path, sizeof path, "/sim/%s", name);
	disk_mkdir(n->disk, path);
	snprintf(path, sizeof path, "/sim/%s/mail", name);
	disk_mkdir(n->disk, path);
	n->loop = loop_new(&n->env);
	if (!n->loop)
		abort();
	for (int i = 0; i < NODE_ROLES; i++)
		n->parts[i] = part_new(n, i);
	return n;
}

void node_step_clock(struct node *n, int64_t ms)
{
	world_fault(FAULT_CLOCK);
	say("%s: the clock steps by %lld ms", n->name, (long long)ms);
	n->wall_offset += ms;
	if (ms > 0)
		n->wall_forward += ms;
}

bool node_quiet(struct node *n)
{
	struct spool_stats st;

	if (n->state != NODE_UP || !n->spool)
		return false;
	spool_get_stats(n->spool, &st);
	return st.envelopes == 0;
}

struct spool *node_spool(struct node *n)
{
	return n->spool;
}
