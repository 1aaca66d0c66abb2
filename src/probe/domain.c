/* domain.c - gathers what is known of a domain, then makes the table's checks. */
#include "probe/domain_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void (*const functions[])(struct domain_probe *) = {
#define GROUP(hundred, title)
#define CHECK(number, name, severity, needs, reference, title, asks) domain_check_##name,
#include "spec/probe_domain.def"
};

void domain_turn_to(struct domain_probe *d, unsigned number)
{
	struct probe_report *r = d->p.report;

	d->p.now = &d->aside;
	for (unsigned i = 0; i < r->finding_count; i++)
		if (r->findings[i].check->number == number)
			d->p.now = &r->findings[i];
}

void domain_event(struct domain_probe *d, const char *fmt, ...)
{
	char words[PROBE_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	probe_report_line(d->p.report, d->p.now, (uint32_t)(probe_now() - d->p.began_ms), 0, PROBE_EVENT, false, view_cstr(words));
}

static bool is_wanted(const struct probe_domain_options *o, unsigned number)
{
	for (unsigned i = 0; i < o->only_count; i++)
		if (o->only[i] == number)
			return true;
	return o->only_count == 0;
}

/* All findings stand before the first is judged: evidence of one question may belong to any of them. */
static bool add_findings(struct domain_probe *d)
{
	for (unsigned i = 0; i < domain_check_count; i++)
		if (is_wanted(d->o, domain_checks[i].number) && !probe_report_add(d->p.report, &domain_checks[i]))
			return false;
	return true;
}

static void judge(struct domain_probe *d)
{
	for (unsigned i = 0; i < domain_check_count; i++) {
		const struct probe_check *c = &domain_checks[i];

		domain_turn_to(d, c->number);
		if (d->p.now == &d->aside)
			continue;
		if (d->host_count == 0 && c->needs & DOMAIN_NEEDS_HOSTS)
			domain_say(d, PROBE_UNTESTED, "there is no mail host");
		else if (c->needs & DOMAIN_NEEDS_CONNECT && !d->o->connect)
			domain_say(d, PROBE_UNTESTED, "it needs connections: --no-connect was given");
		else
			functions[i](d);
	}
}

int probe_domain(const struct probe_domain_options *o, struct probe_report *r, struct error *e)
{
	static const struct probe_check first = { .id = "aside", .title = "what the checks that were asked for need" };
	struct domain_probe *d = calloc(1, sizeof *d); /* some 100 KiB: not for the stack */
	int status = -1;

	if (!d)
		return error_set(e, ERROR_AGAIN, "out of memory");
	d->o = o;
	d->aside.check = &first;
	d->manners = (struct probe_server_options){ .host = o->domain, .port = o->port, .hello = o->hostname, .pause_ms = o->pause_ms,
		.timeout_ms = o->timeout_ms, .connections_max = o->connections_max, .trust = o->trust };
	d->p = (struct probe){ .o = &d->manners, .report = r, .began_ms = probe_now(), .address_count = 1 };
	buf_init(&d->policy_mx, &alloc_libc, STS_POLICY_MAX);
	answer_init(&d->rpt);
	if (add_findings(d))
		status = domain_gather(d, e);
	else
		error_set(e, ERROR_AGAIN, "out of memory");
	if (status == 0) {
		probe_trust_load(&d->p);
		if (o->connect)
			domain_contact_all(d);
		judge(d);
	}
	r->took_ms = (uint32_t)(probe_now() - d->p.began_ms);
	domain_contacts_free(d);
	X509_STORE_free(d->p.trust);
	domain_dns_close(d);
	send_facts_free(d->facts);
	answer_free(&d->rpt);
	buf_free(&d->policy_mx);
	free(d->aside.lines);
	free(d);
	return status;
}
