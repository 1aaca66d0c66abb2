/* plan.c - one run: the world is built by seed, goes wrong for a while, then everything is good again and must drain.
 *
 *   0          nodes start, clients begin to come
 *   until bad  faults: by the seed's profile, from a world with hardly any to one where most things fail
 *   then       next hops, network, DNS and disks are good; roles that are sick are started anew; holds are released
 *   at last    nobody is owed anything, nothing is queued, nothing is open; the laws of laws.c
 */
#include "sim/ledger.h"

#include <stdio.h>
#include <stdlib.h>

#define HOPS_MAX 16
#define DRAIN_STEP 60000
#define HOUR 3600000

const struct site_of sites[SITE_END] = {
	[SITE_KEEP] = { "keep.test", false },   [SITE_SINK] = { "sink.test", false }, [SITE_PLAIN] = { "plain.test", false },
	[SITE_MAY] = { "may.test", false },     [SITE_OWED] = { "owed.test", true },  [SITE_CHECK] = { "check.test", true, true },
	[SITE_BADCERT] = { "bad.test", true, true },  [SITE_MX] = { "mx.test", false },     [SITE_LMTP] = { "lmtp.test", false },
	[SITE_VIA] = { "via.test", false },     [SITE_BACK] = { "back.test", false },
	[SITE_DANE] = { "dane.test", true, true }, [SITE_STS] = { "sts.test", true, true }, [SITE_ASTRAY] = { "astray.test", true, true },
};

struct profile {
	unsigned hops, dns, disk, crash, power, clock, operator, full, reload;
	bool slow;
};

static struct hop *all_hops[HOPS_MAX];
static unsigned hops_n, window;
static struct profile profile;
static int64_t bad_until, lifetime, bounce_lifetime;

/* ---- building ---- */

static void add_hop(enum site site, const char *address)
{
	all_hops[hops_n++] = hop_new(site, address, window);
}

struct choice { unsigned deliveries; bool required; }; /* what the oracle must know of a configuration */

/* Each roll is a statement of its own: the order of arguments is the compiler's. */
static struct choice settings(struct buf *b, const char *name, const char *address, bool required)
{
	struct rng *r = &world.plan;
	unsigned retry_min = (unsigned)rng_span(r, 10, 120), retry_max = (unsigned)rng_span(r, 3, 20);
	unsigned warning = rng_chance(r, 500) ? 0 : (unsigned)rng_span(r, 60, 1800);
	unsigned deliveries = (unsigned)rng_span(r, 2, 30), idle = (unsigned)rng_span(r, 0, 10), messages = (unsigned)rng_span(r, 1, 10);
	unsigned command = (unsigned)rng_span(r, 30, 300), data = (unsigned)rng_span(r, 60, 600), greeting = rng_chance(r, 200) ? 2 : 0;

	buf_addf(b, "hostname = \"mx%s.test\"\nspool = \"/sim/%s/spool\"\ncontrol = \"/sim/%s/control\"\nresolver = {\"10.0.0.53\"}\n",
	          name, name, name);
	buf_addf(b, "retry_min = \"%us\"\nretry_max = \"%um\"\nlifetime = \"%us\"\nbounce_lifetime = \"%us\"\ndelay_warning = \"%us\"\n", retry_min,
		 retry_max, (unsigned)(lifetime / 1000), (unsigned)(bounce_lifetime / 1000), warning);
	buf_addf(b, "destination_window = %u\ndeliveries = %u\nconnection_idle = \"%us\"\nconnection_messages = %u\nconnect_timeout = \"20s\"\n", window,
		 deliveries, idle, messages);
	buf_addf(b, "queue_index = %s\n", world.seed % 4 == 0 ? "strict" : "lagging");
	buf_addf(b, "certificate \"default\" { chain = \"/sim/c\" key = \"/sim/k\" }\n");
	buf_addf(b, "listener \"mx\" { address = {\"%s:25\"} tls = %s command_timeout = \"%us\" data_timeout = \"%us\" greeting_delay = \"%us\" }\n",
		 address, required ? "required" : "starttls", command, data, greeting);
	buf_addf(b, "relay { from = {\"10.0.0.0/16\"} }\n");
	return (struct choice){ deliveries, required };
}

static void note_choice(struct node *n, struct choice c)
{
	n->tls_required = c.required;
	if (c.deliveries > n->deliveries)
		n->deliveries = c.deliveries;
}

static void domains_of_a(struct buf *b, bool relaxed)
{
	buf_addf(b, "domain \"keep.test\" { deliver = \"maildir:/sim/a/mail/%%{user}\" }\ndomain \"sink.test\" { deliver = \"discard\" }\n"
		 "domain \"plain.test\" { deliver = \"smtp://10.0.1.1:25\" tls = none }\ndomain \"may.test\" { deliver = \"smtp://10.0.1.2:25\" }\n"
		 "domain \"owed.test\" { deliver = \"smtp://10.0.1.3:25\" tls = %s }\ndomain \"check.test\" { deliver = \"smtp://10.0.1.4:25\" tls = verify }\n"
		 "domain \"bad.test\" { deliver = \"smtp://10.0.1.5:25\" tls = verify }\ndomain \"mx.test\" { deliver = \"mx\" }\n"
		 "domain \"lmtp.test\" { deliver = \"lmtp://10.0.1.8:24\" }\ndomain \"via.test\" { deliver = \"smtp://10.0.0.2:25\" tls = encrypt }\n"
		 "domain \"dane.test\" { deliver = \"mx\" }\ndomain \"sts.test\" { deliver = \"mx\" }\ndomain \"astray.test\" { deliver = \"mx\" }\n"
		 "domain \"back.test\" { deliver = \"smtp://10.0.1.10:25\" }\n", relaxed ? "none" : "encrypt");
}

static void build_a(void)
{
	struct buf b;
	struct node *n;
	struct choice c;
	char path[64];

	buf_init(&b, &alloc_libc, 1 << 16);
	c = settings(&b, "a", "10.0.0.1", rng_chance(&world.plan, 200));
	domains_of_a(&b, false);
	n = node_new(0, "a", "10.0.0.1", buf_view(&b).p);
	note_choice(n, c);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "/sim/a/mail/u%d", i);
		disk_mkdir(n->disk, path);
	}
	buf_free(&b);
}

/* SIGHUP with another configuration: other limits, and once perhaps a lower TLS level, which old mail must not notice. */
static void reload(void)
{
	struct node *a = world.nodes[0];
	struct buf b;

	if (a->state != NODE_UP || a->old)
		return;
	buf_init(&b, &alloc_libc, 1 << 16);
	note_choice(a, settings(&b, "a", "10.0.0.1", a->tls_required));
	if (!a->relaxed_at && rng_chance(&world.plan, 300))
		a->relaxed_at = world.now;
	domains_of_a(&b, a->relaxed_at != 0);
	node_reload(a, buf_view(&b).p);
	buf_free(&b);
}

static void build_b(void)
{
	struct buf b;
	struct choice c;

	buf_init(&b, &alloc_libc, 1 << 16);
	c = settings(&b, "b", "10.0.0.2", false);
	buf_addf(&b, "domain \"via.test\" { deliver = \"smtp://10.0.1.9:25\" }\ndomain \"back.test\" { deliver = \"smtp://10.0.1.10:25\" }\n");
	note_choice(node_new(1, "b", "10.0.0.2", buf_view(&b).p), c);
	buf_free(&b);
}

static void build_hops(void)
{
	add_hop(SITE_PLAIN, "10.0.1.1:25");
	add_hop(SITE_MAY, "10.0.1.2:25");
	add_hop(SITE_OWED, "10.0.1.3:25");
	add_hop(SITE_CHECK, "10.0.1.4:25");
	add_hop(SITE_BADCERT, "10.0.1.5:25");
	add_hop(SITE_MX, "10.0.1.6:25");
	add_hop(SITE_MX, "10.0.1.7:25");
	add_hop(SITE_LMTP, "10.0.1.8:24");
	add_hop(SITE_VIA, "10.0.1.9:25");
	add_hop(SITE_BACK, "10.0.1.10:25");
	add_hop(SITE_DANE, "10.0.1.11:25");
	add_hop(SITE_STS, "10.0.1.12:25");
	add_hop(SITE_ASTRAY, "10.0.1.13:25"); /* its TLSA record is of a key that it does not have */
	dns_sign("dane.test");
	dns_sign("astray.test");
	dns_mx("dane.test", 10, "h.dane.test");
	dns_host("h.dane.test", "10.0.1.11");
	dns_tlsa("h.dane.test", "h.dane.test");
	dns_mx("sts.test", 10, "h.sts.test");
	dns_host("h.sts.test", "10.0.1.12");
	policy_enforce("sts.test", "h.sts.test\n");
	dns_mx("astray.test", 10, "h.astray.test");
	dns_host("h.astray.test", "10.0.1.13");
	dns_tlsa("h.astray.test", "another key");
	dns_mx("mx.test", 10, "h1.mx.test");
	dns_mx("mx.test", 20, "h2.mx.test");
	dns_host("h1.mx.test", "10.0.1.6");
	dns_host("h2.mx.test", "10.0.1.7");
	dns_host("mxa.test", "10.0.0.1");
}

static void choose_profile(void)
{
	struct rng *r = &world.plan;
	static const unsigned levels[] = { 0, 0, 20, 60, 150, 300 };

#define LEVEL() levels[rng_below(r, sizeof levels / sizeof *levels)]
	profile.hops = LEVEL();
	profile.dns = LEVEL();
	profile.disk = rng_chance(r, 250) ? 1 + (unsigned)rng_below(r, 8) : 0;
	profile.crash = LEVEL();
	profile.power = rng_chance(r, 300) ? LEVEL() : 0;
	if (world.broken == BREAK_NO_SYNC)
		profile.power = 300; /* what is not synced must be missed */
	profile.clock = rng_chance(r, 150) ? LEVEL() : 0;
	profile.operator = rng_chance(r, 300) ? LEVEL() : 0;
	profile.full = rng_chance(r, 100) ? LEVEL() : 0;
	profile.reload = rng_chance(r, 250) ? LEVEL() / 2 : 0;
	profile.slow = rng_chance(r, 500);
#undef LEVEL
	bad_until = rng_span(r, 60, 3000) * 1000;
	lifetime = rng_chance(r, 700) ? rng_span(r, 1, 4) * HOUR : rng_span(r, 5, 40) * 60000;
	bounce_lifetime = lifetime > bad_until + 2 * HOUR ? lifetime : bad_until + 2 * HOUR; /* also of other mail from <> */
	window = (unsigned)rng_span(r, 1, 6);
	ledger_set_lifetime(lifetime);
	say("hops %u, dns %u, disk %u, crash %u, power %u, clock %u, slow %d, bad for %lld ms, lifetime %lld ms, window %u", profile.hops, profile.dns,
	    profile.disk, profile.crash, profile.power, profile.clock, profile.slow, (long long)bad_until, (long long)lifetime, window);
}

/* ---- what goes wrong ---- */

static struct node *some_node(void)
{
	return world.nodes[rng_below(&world.plan, world.nodes_n)];
}

static void start_again(void *arg)
{
	struct node *n = arg;

	if (n->stopping) /* first it ends */
		happen_once(10000, start_again, n);
	else
		node_start(n);
}

static void crash_something(void)
{
	static const enum role_kind kinds[] = { ROLE_QUEUE, ROLE_QUEUE, ROLE_QUEUE, ROLE_SEND, ROLE_SEND, ROLE_RECEIVE, ROLE_LOCAL, ROLE_RESOLVE,
						ROLE_KEYS, ROLE_POLICY };
	struct node *n = some_node();
	enum role_kind kind = kinds[rng_below(&world.plan, sizeof kinds / sizeof *kinds)];

	if ((kind == ROLE_QUEUE || kind == ROLE_LOCAL) && rng_chance(&world.plan, 500))
		disk_crash_after(n->disk, kind, 1 + rng_below(&world.plan, 60));
	else
		node_crash_role(n, kind);
}

static void cut_power(void)
{
	struct node *n = some_node();

	if (n->state != NODE_UP)
		return;
	if (rng_chance(&world.plan, 200))
		node_stop(n);
	else
		node_crash(n, rng_chance(&world.plan, 700));
	happen_once(rng_span(&world.plan, 500, 60000), start_again, n);
}

static void operate(void)
{
	static const char *const all[] = { "hold", "release", "flush" };
	struct node *n = some_node();
	const char *id = ledger_some_id(n, rng_next(&world.plan));
	char line[200];

	switch (rng_below(&world.plan, 4)) {
	case 0: snprintf(line, sizeof line, "{\"cmd\":\"%s\",\"all\":true}", all[rng_below(&world.plan, 3)]); break;
	case 1: snprintf(line, sizeof line, "{\"cmd\":\"list\"}"); break;
	case 2:
		if (!id)
			return;
		snprintf(line, sizeof line, "{\"cmd\":\"delete\",\"id\":\"%s\"}", id);
		break;
	default:
		if (!id)
			return;
		snprintf(line, sizeof line, "{\"cmd\":\"%s\",\"id\":\"%s\"}", all[rng_below(&world.plan, 3)], id);
	}
	node_control(n, line);
}

static void unfill(void *arg)
{
	disk_fill(((struct node *)arg)->disk, false);
}

static void trouble(void *arg)
{
	struct happening *again = arg;
	struct rng *r = &world.plan;

	if (world.now >= bad_until)
		return;
	if (rng_chance(r, profile.crash))
		crash_something();
	if (rng_chance(r, profile.power))
		cut_power();
	if (rng_chance(r, profile.clock)) {
		int64_t step = rng_chance(r, 500) ? rng_span(r, -600000, 600000) : rng_span(r, -4 * HOUR, 4 * HOUR);
		node_step_clock(some_node(), step);
	}
	if (rng_chance(r, profile.operator))
		operate();
	if (rng_chance(r, profile.reload))
		reload();
	if (rng_chance(r, profile.full)) {
		struct node *n = some_node();
		world_fault(FAULT_DISK_FULL);
		disk_fill(n->disk, true);
		ledger_disturbed(n);
		happen_once(rng_span(r, 1000, 120000), unfill, n);
	}
	for (unsigned i = 0; i < hops_n; i++)
		if (rng_chance(r, 30))
			hop_behave(all_hops[i], rng_chance(r, 300) ? 0 : profile.hops);
	happen_in(again, rng_span(r, 100, 20000), trouble, again);
}

/* ---- clients ---- */

static void one_client(void *arg)
{
	struct rng *r = &world.plan;
	struct client_plan p = { .to = arg, .mails = 1 + (unsigned)rng_below(r, 4) };

	if (rng_chance(r, 300))
		p.trick = 2 + (int)rng_below(r, client_tricks() - 2);
	client_begin(&p);
}

static void invite_clients(void)
{
	unsigned n = (unsigned)rng_span(&world.plan, 2, 12);

	while (n--)
		happen_once(rng_span(&world.plan, 10, bad_until), one_client, world.nodes[0]);
	happen_once(bad_until + 1000, one_client, world.nodes[0]); /* and one when all is well */
}

/* ---- the good end ---- */

static void heal(void)
{
	say("from now on all is well");
	world.faults = false;
	for (unsigned i = 0; i < hops_n; i++)
		hop_behave(all_hops[i], 0);
	net_heal();
	dns_lie(0);
	for (unsigned i = 0; i < world.nodes_n; i++) {
		struct node *n = world.nodes[i];
		disk_faults(n->disk, 0);
		disk_fill(n->disk, false);
		disk_crash_after(n->disk, ROLE_QUEUE, 0);
		disk_crash_after(n->disk, ROLE_LOCAL, 0);
		if (profile.disk || profile.full) /* a spool that met an error wants a restart: the operator's */
			node_crash_role(n, ROLE_QUEUE);
	}
}

static void order_all(const char *line)
{
	for (unsigned i = 0; i < world.nodes_n; i++)
		node_control(world.nodes[i], line);
}

static bool all_quiet(void)
{
	for (unsigned i = 0; i < world.nodes_n; i++)
		if (!node_quiet(world.nodes[i]))
			return false;
	return !ledger_open() && clients_alive() == 0;
}

/* How long the rest may take: every message has had its last try by then, whichever way the clocks went. */
static int64_t patience(void)
{
	int64_t back = 0;

	for (unsigned i = 0; i < world.nodes_n; i++)
		if (world.nodes[i]->wall_forward - world.nodes[i]->wall_offset > back)
			back = world.nodes[i]->wall_forward - world.nodes[i]->wall_offset;
	return world.now + bounce_lifetime + back + 2 * HOUR;
}

static void drain(void)
{
	int64_t until;

	if (world.broken == BREAK_STUCK)
		order_all("{\"cmd\":\"hold\",\"all\":true}");
	world_run_until(world.now + 2 * DRAIN_STEP);
	if (world.broken != BREAK_STUCK)
		order_all("{\"cmd\":\"release\",\"all\":true}");
	until = patience();
	while (!world.failure[0] && world.now < until && !all_quiet())
		world_run_until(world.now + DRAIN_STEP);
	world_run_until(world.now + 15 * DRAIN_STEP); /* idle connections end, lingering ones too */
	if (world.broken == BREAK_LATE) {
		client_begin(&(struct client_plan){ .to = world.nodes[0], .mails = 1 });
		world_run_until(world.now + 1);
	}
	if (world.failure[0])
		return;
	for (unsigned i = 0; i < world.nodes_n; i++) {
		if (!node_quiet(world.nodes[i]))
			law_broken("without faults everything drains", "%s still has mail at the end", world.nodes[i]->name);
		if (net_open_of(world.nodes[i]) > 0)
			law_broken("every connection ends", "%s has %u connections at the end", world.nodes[i]->name, net_open_of(world.nodes[i]));
	}
	if (clients_alive() > 0)
		law_broken("every connection ends", "%u clients are still served or waiting at the end", clients_alive());
}

static void read_mailboxes(void)
{
	char path[64];

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "/sim/a/mail/u%d/new", i);
		disk_each(world.nodes[0]->disk, path, ledger_mailbox, world.nodes[0]);
	}
}

void plan_run(void)
{
	static struct happening again;

	choose_profile();
	build_a();
	if (rng_chance(&world.plan, 600))
		build_b();
	build_hops();
	for (unsigned i = 0; i < world.nodes_n; i++)
		node_start(world.nodes[i]);
	world_run_until(100);
	world.faults = true;
	dns_lie(profile.dns);
	for (unsigned i = 0; i < hops_n; i++)
		hop_behave(all_hops[i], rng_chance(&world.plan, 400) ? 0 : profile.hops);
	for (unsigned i = 0; i < world.nodes_n; i++) {
		disk_faults(world.nodes[i]->disk, profile.disk);
		world.nodes[i]->disk_slow = profile.slow;
	}
	invite_clients();
	happen_in(&again, 100, trouble, &again);
	world_run_until(bad_until);
	heal();
	drain();
	read_mailboxes();
	if (!world.failure[0])
		ledger_check();
}
