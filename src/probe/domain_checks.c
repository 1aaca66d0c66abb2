/* domain_checks.c - checks 101 to 202, 401 to 405 and 501: what the DNS and the policy say. */
#include "probe/domain_inside.h"

#include <stdio.h>

#define WEEK_S 604800u
#define DAY_S 86400u

/* Names of hosts for a verdict: "a, b and 3 more". */
struct names {
	char text[400];
	unsigned n, more;
};

static void add_name(struct names *to, const char *name, const char *why)
{
	size_t have = strlen(to->text), need = strlen(name) + strlen(why) + 8;

	if (have + need >= sizeof to->text) {
		to->more++;
		return;
	}
	snprintf(to->text + have, sizeof to->text - have, "%s%s%s%s", to->n ? ", " : "", name, *why ? ": " : "", why);
	to->n++;
}

static const char *told(struct names *of)
{
	size_t have = strlen(of->text);

	if (of->more)
		snprintf(of->text + have, sizeof of->text - have, " and %u more", of->more);
	return of->text;
}

/* ---- mail hosts ---- */

void domain_check_mx(struct domain_probe *d)
{
	struct names hosts = { 0 };

	for (size_t h = 0; h < d->host_count; h++)
		add_name(&hosts, d->hosts[h].name, "");
	if (d->mx_status == WIRE_DNS_NXDOMAIN)
		domain_say(d, PROBE_FAIL, "there is no such domain");
	else if (d->plan == 0)
		domain_say(d, PROBE_FAIL, "the MX lookup %s: %s", d->mx_status == WIRE_DNS_BOGUS ? "is bogus" : "has no answer", d->mx_reason);
	else if (d->plan == ROUTE_PLAN_NULL_MX)
		domain_say(d, PROBE_NOTE, "the domain takes no mail (null MX)");
	else if (d->plan == ROUTE_PLAN_LOOP)
		domain_say(d, PROBE_FAIL, "the best mail host is ourselves (%s)", d->o->hostname);
	else if (d->plan == ROUTE_PLAN_IMPLICIT)
		domain_say(d, PROBE_NOTE, "there is no MX record: mail goes to the domain's own addresses");
	else
		domain_say(d, PROBE_PASS, "%zu: %s", d->host_count, told(&hosts));
}

void domain_check_addresses(struct domain_probe *d)
{
	struct names without = { 0 };
	unsigned all = 0;

	for (size_t h = 0; h < d->host_count; h++) {
		const struct domain_host *a = &d->about[h];

		all += a->contact_count;
		if (!a->contact_count)
			add_name(&without, d->hosts[h].name, a->status == WIRE_DNS_BOGUS ? "bogus" : a->status == WIRE_DNS_TEMPORARY ? "no answer" : "none");
	}
	if (without.n)
		domain_say(d, PROBE_FAIL, "%s", told(&without));
	else
		domain_say(d, PROBE_PASS, "%u", all);
}

void domain_check_aliases(struct domain_probe *d)
{
	struct names aliases = { 0 };

	for (size_t h = 0; h < d->host_count; h++) {
		const char *behind = d->facts->hosts[h].tls.expanded;

		if (d->plan == ROUTE_PLAN_HOSTS && behind && *behind)
			add_name(&aliases, d->hosts[h].name, behind);
	}
	if (aliases.n)
		domain_say(d, PROBE_FAIL, "an MX record names an alias: %s", told(&aliases));
	else
		domain_say(d, PROBE_PASS, "none");
}

/* ---- DNSSEC ---- */

void domain_check_dnssec_mx(struct domain_probe *d)
{
	if (!d->validates)
		domain_say(d, PROBE_UNTESTED, "DNSSEC %s", d->o->dane ? "cannot be validated with these DNS servers and this trust anchor" : "is switched off");
	else if (d->mx_status == WIRE_DNS_BOGUS)
		domain_say(d, PROBE_FAIL, "bogus: %s", d->mx_reason);
	else if (d->facts->tls.mx.secure)
		domain_say(d, PROBE_PASS, "secure");
	else
		domain_say(d, PROBE_NOTE, "insecure: the domain is not signed, so DANE cannot protect its mail");
}

void domain_check_dnssec_addresses(struct domain_probe *d)
{
	struct names bogus = { 0 }, insecure = { 0 };

	for (size_t h = 0; h < d->host_count; h++) {
		if (d->about[h].status == WIRE_DNS_BOGUS)
			add_name(&bogus, d->hosts[h].name, d->about[h].reason);
		else if (!d->facts->hosts[h].tls.address.secure)
			add_name(&insecure, d->hosts[h].name, "");
	}
	if (!d->validates)
		domain_say(d, PROBE_UNTESTED, "DNSSEC %s", d->o->dane ? "cannot be validated with these DNS servers and this trust anchor" : "is switched off");
	else if (bogus.n)
		domain_say(d, PROBE_FAIL, "bogus: %s", told(&bogus));
	else if (insecure.n)
		domain_say(d, PROBE_NOTE, "insecure: %s", told(&insecure));
	else
		domain_say(d, PROBE_PASS, "secure");
}

/* ---- MTA-STS ---- */

void domain_check_sts_record(struct domain_probe *d)
{
	if (!d->sts_record)
		domain_say(d, PROBE_PASS, "id %s", d->sts_id);
	else
		domain_say(d, d->sts_there ? PROBE_FAIL : PROBE_NOTE, "%s", d->sts_record);
}

/* What a check of the policy cannot say without one. */
static bool has_policy(struct domain_probe *d)
{
	if (d->fetch == DOMAIN_FETCHED)
		return true;
	domain_say(d, PROBE_UNTESTED, "there is no policy%s", d->fetch == DOMAIN_NOT_FETCHED && !d->o->mta_sts ? ": MTA-STS is switched off" : "");
	return false;
}

void domain_check_sts_policy(struct domain_probe *d)
{
	if (d->fetch == DOMAIN_FETCH_FAILED || d->fetch == DOMAIN_POLICY_WRONG)
		domain_say(d, PROBE_FAIL, "%s", d->fetch_reason);
	else if (has_policy(d))
		domain_say(d, PROBE_PASS, "mode %s, max_age %u", sts_mode_name(d->policy.mode), d->policy.max_age);
}

void domain_check_sts_mode(struct domain_probe *d)
{
	if (!has_policy(d))
		return;
	if (d->policy.mode == STS_ENFORCE)
		domain_say(d, PROBE_PASS, "enforce");
	else
		domain_say(d, PROBE_NOTE, "mode %s: it protects nothing%s", sts_mode_name(d->policy.mode),
			   d->policy.mode == STS_TESTING ? ", and failures are reported only" : "");
}

static bool is_some_host(const struct domain_probe *d, struct view pattern)
{
	for (size_t h = 0; h < d->host_count; h++)
		if (sts_mx_match(pattern, view_cstr(d->hosts[h].name)))
			return true;
	return false;
}

void domain_check_sts_hosts(struct domain_probe *d)
{
	struct names strangers = { 0 }, unused = { 0 };

	if (!has_policy(d))
		return;
	for (size_t h = 0; h < d->host_count; h++)
		if (!sts_mx_match(buf_view(&d->policy_mx), view_cstr(d->hosts[h].name)))
			add_name(&strangers, d->hosts[h].name, "");
	for (struct view rest = buf_view(&d->policy_mx); rest.n;) {
		struct view line = view_slice(rest, 0, view_find(rest, '\n'));
		char pattern[ROUTE_HOST_MAX];

		snprintf(pattern, sizeof pattern, "%.*s", VIEW_ARGS(view_slice(line, 0, sizeof pattern - 1)));
		if (line.n && !is_some_host(d, line))
			add_name(&unused, pattern, "");
		rest = view_slice(rest, line.n + 1, rest.n);
	}
	if (strangers.n && d->policy.mode != STS_NONE)
		domain_say(d, d->policy.mode == STS_ENFORCE ? PROBE_FAIL : PROBE_NOTE, "not in the policy%s: %s",
			   d->policy.mode == STS_ENFORCE ? ", so nobody who obeys it sends there" : "", told(&strangers));
	else if (unused.n)
		domain_say(d, PROBE_NOTE, "the policy names hosts that are none: %s", told(&unused));
	else
		domain_say(d, PROBE_PASS, "all");
}

void domain_check_sts_max_age(struct domain_probe *d)
{
	if (!has_policy(d))
		return;
	if (d->policy.max_age < DAY_S && d->policy.mode != STS_NONE)
		domain_say(d, PROBE_NOTE, "max_age is %u s: who sends less often than that is never protected", d->policy.max_age);
	else if (d->policy.max_age < WEEK_S && d->policy.mode == STS_ENFORCE)
		domain_say(d, PROBE_NOTE, "max_age is %u s; RFC 8461 3.2 thinks of weeks", d->policy.max_age);
	else
		domain_say(d, PROBE_PASS, "%u s", d->policy.max_age);
}

/* ---- TLS-RPT ---- */

void domain_check_rpt_record(struct domain_probe *d)
{
	char mailbox[RPT_ADDRESS_SIZE];

	if (d->rpt_status == WIRE_DNS_TEMPORARY || d->rpt_status == WIRE_DNS_BOGUS) {
		domain_say(d, PROBE_FAIL, "the lookup %s: %s", d->rpt_status == WIRE_DNS_BOGUS ? "is bogus" : "has no answer", d->rpt.reason);
		return;
	}
	if (d->rpt_records == 0) {
		domain_say(d, PROBE_NOTE, "there is none, so nobody tells the domain of failures");
		return;
	}
	if (d->rpt_records > 1 || d->rpt_wrong) {
		domain_say(d, PROBE_FAIL, "%s", d->rpt_wrong ? d->rpt_wrong : "several TLS-RPT records, which count as none");
		return;
	}
	for (size_t i = 0; i < d->rpt_uri_count; i++)
		if (d->rpt_uris[i].scheme == RPT_MAILTO && !rpt_mailto_address(d->rpt_uris[i].text, mailbox)) {
			domain_say(d, PROBE_FAIL, "no address: %.*s", VIEW_ARGS(view_slice(d->rpt_uris[i].text, 0, 200)));
			return;
		}
	if (d->rpt_uri_count == 0)
		domain_say(d, PROBE_FAIL, "it names no place that is mailto or https");
	else
		domain_say(d, PROBE_PASS, "%zu: %.*s%s", d->rpt_uri_count, VIEW_ARGS(view_slice(d->rpt_uris[0].text, 0, 200)),
			   d->rpt_uri_count > 1 ? " ..." : "");
}
