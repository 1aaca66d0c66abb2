/* domain_facts.c - gathers the facts that delivery goes by, in the order in which `send` asks for them (send/plan.c), and has them judged. */
#include "probe/domain_inside.h"

#include "base/env.h"

#include <stdio.h>

#define MX_MAX 64 /* records of one domain that are looked at, as in send/plan.c */

static bool find_hosts(struct domain_probe *d)
{
	struct route_mx records[MX_MAX];
	struct answer got;
	struct wire_RESOLVED m;
	struct wire_record r;
	struct view list;
	size_t n = 0;

	domain_ask(d, WIRE_RESOLVE_MX, d->o->domain, &got);
	m = answer_wire(&got);
	d->mx_status = answer_status(&got);
	snprintf(d->mx_reason, sizeof d->mx_reason, "%s", got.reason);
	send_facts_mx(d->facts, &m);
	list = m.records;
	while (n < MX_MAX && wire_record_next(&list, &r) == 1)
		records[n++] = (struct route_mx){ r.preference, r.name };
	if (d->mx_status == WIRE_DNS_OK || d->mx_status == WIRE_DNS_NODATA)
		d->plan = route_plan_mx(records, n, view_cstr(d->o->domain), view_cstr(d->o->hostname), &env_real, d->hosts, &d->host_count);
	answer_free(&got); /* the hosts are copies */
	return d->plan == ROUTE_PLAN_HOSTS || d->plan == ROUTE_PLAN_IMPLICIT;
}

static void keep_addresses(struct domain_probe *d, size_t host, const struct answer *got)
{
	struct domain_host *h = &d->about[host];
	struct view list = buf_view(&got->list);
	struct wire_record r;

	h->status = answer_status(got);
	snprintf(h->reason, sizeof h->reason, "%s", got->reason);
	while (h->contact_count < DOMAIN_HOST_ADDRESSES && wire_record_next(&list, &r) == 1) {
		struct domain_contact *c = &h->contacts[h->contact_count];

		*c = (struct domain_contact){ .reach = DOMAIN_NOT_TRIED, .fault = TLS_FAULT_NONE };
		h->contact_count += address_from_octets(r.address, d->o->port, &c->address);
	}
}

static void ask_host(struct domain_probe *d, size_t host)
{
	char name[SEND_TLSA_NAME];
	struct wire_RESOLVED m;
	struct answer got;
	size_t base;

	domain_turn_to(d, 102);
	domain_ask(d, WIRE_RESOLVE_ADDRESS, d->hosts[host].name, &got);
	m = answer_wire(&got);
	d->facts->hosts[host].tls.name = d->hosts[host].name;
	send_facts_address(d->facts, host, &m);
	keep_addresses(d, host, &got);
	answer_free(&got);
	if (send_facts_want_alias(d->facts, host)) {
		domain_ask(d, WIRE_RESOLVE_ALIAS, d->hosts[host].name, &got);
		m = answer_wire(&got);
		send_facts_alias(d->facts, host, &m);
		answer_free(&got);
	}
	domain_turn_to(d, 301);
	while (send_facts_want_tlsa(d->facts, host, d->o->port, name, &base)) {
		domain_ask(d, WIRE_RESOLVE_TLSA, name, &got);
		m = answer_wire(&got);
		send_facts_tlsa(d->facts, host, base, &m);
		answer_free(&got);
	}
}

/* One fact a host, as `route explain` tells it. */
static void tell_hosts(struct domain_probe *d)
{
	static const char *const names[ROUTE_HOSTS_MAX] = { "host_1", "host_2", "host_3", "host_4", "host_5", "host_6", "host_7", "host_8", "host_9",
		"host_10", "host_11", "host_12", "host_13", "host_14", "host_15", "host_16" };
	static const char *const checks[] = { "?", "nothing", "chain", "dane" };

	for (size_t h = 0; h < d->host_count; h++) {
		const struct route_tls_choice *c = &d->facts->hosts[h].choice;

		probe_report_fact(d->p.report, names[h], "%s, preference %u: %s, level owed %s, certificate checked by %s, reported as %s; %s",
				  d->hosts[h].name, d->hosts[h].preference, route_verdict_name(c->verdict), route_level_name(c->level),
				  c->watch && c->check == ROUTE_CHECK_NOTHING ? "watch" : checks[c->check], route_rpt_policy_name(c->policy), c->why);
	}
}

int domain_gather(struct domain_probe *d, struct error *e)
{
	if (route_dest_parse(view_cstr(d->o->dest), &d->dest) == -1 || d->dest.hop.delivery.kind != CONF_DELIVER_MX)
		return error_set(e, ERROR_INPUT, "%s: the destination is %s, which no MX leads to", d->o->domain, d->o->dest);
	d->facts = send_facts_new(&d->dest, d->o->dane);
	if (!d->facts)
		return error_set(e, ERROR_AGAIN, "out of memory");
	domain_turn_to(d, 101);
	if (domain_dns_open(d, e) == -1)
		return -1;
	probe_report_fact(d->p.report, "dnssec", "%s",
			  d->validates ? "validated from the root" : !d->o->dane ? "switched off" : "cannot be validated here, so nothing is secure");
	if (find_hosts(d))
		for (size_t h = 0; h < d->host_count; h++)
			ask_host(d, h);
	domain_find_policy(d);
	domain_find_reports(d);
	send_facts_judge(d->facts, d->host_count);
	tell_hosts(d);
	return 0;
}
