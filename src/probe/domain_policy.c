/* domain_policy.c - the MTA-STS record and policy (RFC 8461), and the TLS-RPT record (RFC 8460), by the code of the role `policy`. */
#include "probe/domain_inside.h"

#include "base/env.h"
#include "policy/sts.h"

#include <stdio.h>

#define NAME_SIZE 280 /* a domain, and a label or two before it */

struct waiting {
	struct domain_probe *d;
	struct loop *loop;
	bool done;
};

static void fail(struct domain_probe *d, enum domain_fetch how, const char *reason)
{
	const struct wire_STS_POLICY m = { .status = WIRE_STS_FAILED, .reason = view_cstr(reason) };

	d->fetch = how;
	snprintf(d->fetch_reason, sizeof d->fetch_reason, "%s", reason);
	send_facts_sts(d->facts, &m);
	domain_event(d, "%s", reason);
}

static void on_fetched(void *arg, const struct fetch_result *r)
{
	struct waiting *w = arg;
	struct domain_probe *d = w->d;
	enum wire_rpt_result result;
	char reason[STS_REASON_SIZE];
	struct wire_STS_POLICY m = { .status = WIRE_STS_FOUND };

	w->done = true;
	loop_stop(w->loop);
	domain_event(d, "HTTPS: %s, %s, %zu octets", r->reason, r->type[0] ? r->type : "no type", r->body.n);
	if (!sts_read_fetched(r, &d->policy, &d->policy_mx, &result, reason)) {
		fail(d, result == WIRE_RPT_STS_POLICY_INVALID ? DOMAIN_POLICY_WRONG : DOMAIN_FETCH_FAILED, reason);
		return;
	}
	d->fetch = DOMAIN_FETCHED;
	m.mode = (uint8_t)d->policy.mode; /* the words stand in the same order */
	m.id = view_cstr(d->sts_id);
	m.mx = buf_view(&d->policy_mx);
	m.ttl_s = d->policy.max_age;
	if (!send_facts_sts(d->facts, &m))
		fail(d, DOMAIN_FETCH_FAILED, "there is no memory for the policy");
	domain_event(d, "policy: mode %s, max_age %u, mx %.*s", sts_mode_name(d->policy.mode), d->policy.max_age, VIEW_ARGS(view_slice(m.mx, 0, 300)));
}

static void fetch(struct domain_probe *d, const struct answer *addresses)
{
	struct waiting w = { d, loop_new(&env_real), false };
	struct error e = { 0 };
	struct fetch_room *room = w.loop ? fetch_room_new(w.loop, &e) : NULL;
	char host[STS_HOST_SIZE], url[FETCH_URL_MAX];
	struct fetch_ask ask = { .url = url, .host = host, .port = d->o->sts_port, .addresses = buf_view(&addresses->list), .trust = d->o->trust,
		.most = STS_POLICY_MAX, .done = on_fetched, .arg = &w };

	sts_url(d->o->domain, d->o->sts_port, host, url);
	domain_event(d, "HTTPS: GET %s", url);
	if (room && fetch_start(room, &ask))
		while (!w.done && loop_run(w.loop) == 0)
			;
	if (!w.done)
		fail(d, DOMAIN_FETCH_FAILED, e.text[0] ? e.text : "no memory for a fetch");
	fetch_room_free(room);
	if (w.loop)
		loop_free(w.loop);
}

static void fetch_policy(struct domain_probe *d)
{
	char host[NAME_SIZE], reason[STS_REASON_SIZE];
	struct answer got;

	domain_turn_to(d, 402);
	snprintf(host, sizeof host, "mta-sts.%s", d->o->domain);
	domain_ask(d, WIRE_RESOLVE_ADDRESS, host, &got);
	if (answer_status(&got) != WIRE_DNS_OK) {
		snprintf(reason, sizeof reason, "mta-sts.%.100s has no address%s%.*s", d->o->domain, got.reason[0] ? ": " : "",
		         VIEW_ARGS(view_slice(view_cstr(got.reason), 0, 40)));
		fail(d, DOMAIN_FETCH_FAILED, reason);
	} else if (!d->o->trust.n) {
		fail(d, DOMAIN_FETCH_FAILED, "there is no bundle of trusted certificates (setting trust)");
	} else {
		fetch(d, &got);
	}
	answer_free(&got);
}

void domain_find_policy(struct domain_probe *d)
{
	char name[NAME_SIZE];
	struct answer got;
	struct wire_RESOLVED m;
	struct wire_record r;
	struct view id = { 0 }, rest;

	d->fetch = DOMAIN_NOT_FETCHED;
	domain_turn_to(d, 401);
	snprintf(name, sizeof name, "_mta-sts.%s", d->o->domain);
	domain_ask(d, WIRE_RESOLVE_TXT, name, &got);
	m = answer_wire(&got);
	rest = m.records;
	while (wire_record_next(&rest, &r) == 1)
		d->sts_there = d->sts_there || sts_record_is(r.address);
	d->sts_record = sts_pick_record(&m, &id);
	snprintf(d->sts_id, sizeof d->sts_id, "%.*s", VIEW_ARGS(id));
	answer_free(&got);
	/* what the mail itself sets aside is looked at all the same: it is the domain that is judged */
	if (!d->sts_record && d->o->mta_sts)
		fetch_policy(d);
}

void domain_find_reports(struct domain_probe *d)
{
	char name[NAME_SIZE];
	struct wire_record r;
	struct view rest, record = { 0 };

	domain_turn_to(d, 501);
	snprintf(name, sizeof name, "_smtp._tls.%s", d->o->domain);
	domain_ask(d, WIRE_RESOLVE_TXT, name, &d->rpt);
	d->rpt_status = answer_status(&d->rpt);
	rest = buf_view(&d->rpt.list);
	while (wire_record_next(&rest, &r) == 1)
		if (rpt_record_is(r.address)) {
			record = r.address;
			d->rpt_records++;
		}
	if (d->rpt_records == 1)
		d->rpt_wrong = rpt_record_read(record, d->rpt_uris, &d->rpt_uri_count);
}
