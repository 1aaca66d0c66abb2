/* dns.c - what resolve/resolve.c asks of libunbound, answered from a table, with lies; see sim.h.
 *
 * Answers are packets as the wire has them, so that resolve/packet.c reads them as it would read the world's.
 */
#include "sim/ledger.h"
#include "tls/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>
#include <unbound-event.h>

enum type { TYPE_A = 1, TYPE_MX = 15, TYPE_AAAA = 28, TYPE_DNSKEY = 48, TYPE_TLSA = 52 };

static struct { const char *name, *address; } hosts[16];
static struct { const char *domain, *host; unsigned preference; } mxs[16];
static struct { char name[80]; const char *identity; } tlsas[8];
static const char *signeds[8]; /* domains */
static unsigned hosts_n, mxs_n, tlsas_n, signeds_n, lies;

struct ub_ctx { bool gone; };

struct asked {
	struct ub_ctx *ctx;
	void *arg;
	ub_event_callback_type done;
	int type, rcode, security; /* as libunbound has it: 0 insecure, 1 bogus, 2 secure */
	bool silent;
	unsigned char packet[1024];
	size_t n;
};

void dns_host(const char *name, const char *address)
{
	hosts[hosts_n].name = name;
	hosts[hosts_n++].address = address;
}

void dns_mx(const char *domain, unsigned preference, const char *host)
{
	mxs[mxs_n].domain = domain;
	mxs[mxs_n].host = host;
	mxs[mxs_n++].preference = preference;
}

void dns_sign(const char *domain)
{
	signeds[signeds_n++] = domain;
}

void dns_tlsa(const char *host, const char *identity)
{
	snprintf(tlsas[tlsas_n].name, sizeof tlsas[0].name, "_25._tcp.%s", host);
	tlsas[tlsas_n++].identity = identity;
}

void dns_lie(unsigned permille)
{
	lies = permille;
}

/* ---- packets (RFC 1035 4.1) ---- */

static void put8(struct asked *a, unsigned v)
{
	if (a->n < sizeof a->packet)
		a->packet[a->n++] = (unsigned char)v;
}

static void put16(struct asked *a, unsigned v)
{
	put8(a, v >> 8);
	put8(a, v & 0xff);
}

static void put_name(struct asked *a, const char *name)
{
	while (*name) {
		size_t n = strcspn(name, ".");
		put8(a, (unsigned)n);
		for (size_t i = 0; i < n; i++)
			put8(a, (unsigned char)name[i]);
		name += n + (name[n] == '.');
	}
	put8(a, 0);
}

static void begin(struct asked *a, const char *name, unsigned rcode)
{
	put16(a, 7);
	put16(a, 0x8180 | rcode);
	put16(a, 1);
	put16(a, 0);
	put16(a, 0);
	put16(a, 0);
	put_name(a, name);
	put16(a, (unsigned)a->type);
	put16(a, 1);
}

static size_t begin_record(struct asked *a)
{
	put16(a, 0xc00c);
	put16(a, (unsigned)a->type);
	put16(a, 1);
	put16(a, 0);
	put16(a, 60); /* seconds it may be kept */
	put16(a, 0);
	a->packet[7]++;
	return a->n;
}

static void end_record(struct asked *a, size_t from)
{
	a->packet[from - 2] = (unsigned char)((a->n - from) >> 8);
	a->packet[from - 1] = (unsigned char)(a->n - from);
}

static void put_mx(struct asked *a, unsigned preference, const char *host)
{
	size_t from = begin_record(a);

	put16(a, preference);
	put_name(a, host);
	end_record(a, from);
}

static void put_host(struct asked *a, const char *address)
{
	size_t from = begin_record(a);
	unsigned o[4];

	if (sscanf(address, "%u.%u.%u.%u", &o[0], &o[1], &o[2], &o[3]) == 4)
		for (int i = 0; i < 4; i++)
			put8(a, o[i]);
	end_record(a, from);
}

static void put_tlsa(struct asked *a, const char *identity)
{
	size_t from = begin_record(a);
	unsigned char digest[32];

	put8(a, 3);
	put8(a, 1);
	put8(a, 1);
	tls_null_digest(view_cstr(identity), digest);
	for (int i = 0; i < 32; i++)
		put8(a, digest[i]);
	end_record(a, from);
}

static bool is_signed(const char *name)
{
	for (unsigned i = 0; i < signeds_n; i++)
		if (view_ends_nocase(view_cstr(name), view_cstr(signeds[i])))
			return true;
	return strcmp(name, ".") == 0; /* the keys of the root: DNSSEC works here (trust.h asks) */
}

static unsigned truth(struct asked *a, const char *name)
{
	unsigned rcode = 3;

	begin(a, name, 0);
	for (unsigned i = 0; i < mxs_n; i++)
		if (strcmp(mxs[i].domain, name) == 0) {
			rcode = 0;
			if (a->type == TYPE_MX)
				put_mx(a, mxs[i].preference, mxs[i].host);
		}
	for (unsigned i = 0; i < hosts_n; i++)
		if (strcmp(hosts[i].name, name) == 0) {
			rcode = 0;
			if (a->type == TYPE_A)
				put_host(a, hosts[i].address);
		}
	for (unsigned i = 0; i < tlsas_n; i++)
		if (strcmp(tlsas[i].name, name) == 0) {
			rcode = 0;
			if (a->type == TYPE_TLSA)
				put_tlsa(a, tlsas[i].identity);
		}
	if (a->type == TYPE_DNSKEY)
		rcode = 0;
	a->packet[3] = (unsigned char)(0x80 | rcode);
	a->security = is_signed(name) ? 2 : 0;
	return rcode;
}

/* Of a signed name nothing else can be made believed: the answer is bogus, or there is none. */
static void spoil(struct asked *a, const char *name)
{
	static const char *const kinds[] = { "SERVFAIL", "bogus", "silence" };
	uint64_t kind = rng_below(&world.net, sizeof kinds / sizeof *kinds);

	if (a->type == TYPE_DNSKEY)
		return; /* who takes the root's keys away has DANE switched off, loudly (docs/decisions): another story */
	world_fault(FAULT_DNS);
	say("dns is spoilt for %s: %s", name, kinds[kind]);
	a->rcode = kind == 2 ? 0 : 2;
	a->security = kind == 1 ? 1 : 0;
	a->silent = kind == 2;
	if (world.broken == BREAK_BELIEVE && kind == 1 && a->type == TYPE_TLSA) { /* whoever validates for us does not */
		a->rcode = 3;
		a->packet[3] = 0x83;
		a->packet[7] = 0;
		a->security = 2;
	}
}

static enum site site_of(const char *name)
{
	for (int i = 1; i < SITE_END; i++)
		if (view_ends_nocase(view_cstr(name), view_cstr(sites[i].domain)))
			return (enum site)i;
	return SITE_MX;
}

static void lie(struct asked *a, const char *name)
{
	static const char *const kinds[] = { "SERVFAIL", "NXDOMAIN", "no data", "cut short", "another's address", "null MX", "ourselves", "silence" };
	uint64_t kind = rng_below(&world.net, sizeof kinds / sizeof *kinds);

	world_fault(FAULT_DNS);
	say("dns lies of %s: %s", name, kinds[kind]);
	switch (kind) {
	case 0: a->rcode = 2; break;
	case 1:
		a->packet[3] = 0x83;
		a->packet[7] = 0;
		ledger_domain_refused(site_of(name), "NXDOMAIN");
		break;
	case 2:
		a->packet[7] = 0;
		ledger_domain_refused(site_of(name), "no records");
		break;
	case 3: a->n = 12 + rng_below(&world.net, a->n - 12); break;
	case 4:
		if (a->type == TYPE_A)
			put_host(a, "10.0.1.2");
		break;
	case 5:
		if (a->type == TYPE_MX) {
			a->n = 0;
			memset(a->packet, 0, sizeof a->packet);
			begin(a, name, 0);
			put_mx(a, 0, "");
			ledger_domain_refused(site_of(name), "null MX");
		}
		break;
	case 6:
		if (a->type == TYPE_MX) {
			put_mx(a, 1, "mxa.test");
			ledger_domain_refused(site_of(name), "we are the best MX");
		}
		break;
	default: a->silent = true;
	}
}

static void answer(void *arg)
{
	struct asked *a = arg;

	if (!a->ctx->gone)
		a->done(a->arg, a->silent ? 2 : a->rcode, a->packet, a->silent ? 0 : (int)a->n, a->silent ? 0 : a->security, NULL, 0);
	free(a);
}

/* ---- libunbound's names ---- */

struct ub_ctx *ub_ctx_create_ub_event(struct ub_event_base *base)
{
	(void)base;
	return calloc(1, sizeof(struct ub_ctx));
}

void ub_ctx_delete(struct ub_ctx *ctx)
{
	if (ctx)
		ctx->gone = true; /* answers that are under way still look at it */
}

int ub_ctx_set_option(struct ub_ctx *ctx, const char *option, const char *value)
{
	(void)ctx;
	(void)option;
	(void)value;
	return 0;
}

int ub_ctx_set_fwd(struct ub_ctx *ctx, const char *address)
{
	(void)ctx;
	(void)address;
	return 0;
}

int ub_ctx_zone_add(struct ub_ctx *ctx, const char *zone, const char *kind)
{
	(void)ctx;
	(void)zone;
	(void)kind;
	return 0;
}

int ub_ctx_debuglevel(struct ub_ctx *ctx, int level)
{
	(void)ctx;
	(void)level;
	return 0;
}

int ub_ctx_debugout(struct ub_ctx *ctx, void *out)
{
	(void)ctx;
	(void)out;
	return 0;
}

int ub_ctx_add_ta(struct ub_ctx *ctx, const char *record)
{
	(void)ctx;
	(void)record;
	return 0;
}

const char *ub_strerror(int e)
{
	(void)e;
	return "simulated";
}

int ub_resolve_event(struct ub_ctx *ctx, const char *name, int type, int class, void *arg, ub_event_callback_type done, int *id)
{
	struct asked *a = calloc(1, sizeof *a);
	int64_t wait = rng_span(&world.net, 0, 40);

	(void)class;
	(void)id;
	if (!a)
		return UB_NOMEM;
	*a = (struct asked){ .ctx = ctx, .arg = arg, .done = done, .type = type };
	truth(a, name);
	if (world.faults && rng_chance(&world.net, lies)) {
		if (a->security == 2)
			spoil(a, name);
		else
			lie(a, name);
	}
	if (a->silent)
		wait = 20000; /* libunbound gives up by itself */
	say("dns is asked for %s, type %d", name, type);
	happen_once(wait, answer, a);
	return 0;
}
