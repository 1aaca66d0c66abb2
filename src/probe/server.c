/* server.c - runs the table's checks against one server. */
#include "probe/inside.h"

#include "base/env.h"

#include <netdb.h>
#include <psmtp.h>
#include <stdlib.h>

static void (*const functions[])(struct probe *) = {
#define GROUP(hundred, title)
#define CHECK(number, name, severity, needs, reference, title, sends) probe_check_##name,
#include "spec/probe.def"
};

/* ---- where to ---- */

static void add_address(struct probe *p, const struct sockaddr *sa, socklen_t len)
{
	struct address *a = &p->addresses[p->address_count];

	if (p->address_count == PROBE_ADDRESSES_MAX || len > sizeof a->sa)
		return;
	*a = (struct address){ .len = len };
	memcpy(&a->sa, sa, len);
	p->address_count++;
}

static int find_addresses(struct probe *p, struct error *e)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	struct address one;
	char port[8];
	int status;

	for (unsigned i = 0; i < p->o->address_count; i++) {
		if (!address_parse_host(view_cstr(p->o->addresses[i]), p->o->port, &one))
			return error_set(e, ERROR_INPUT, "%s is no address", p->o->addresses[i]);
		add_address(p, (const struct sockaddr *)&one.sa, one.len);
	}
	if (p->address_count)
		return 0;
	if (address_parse_host(view_cstr(p->o->host), p->o->port, &one)) {
		add_address(p, (const struct sockaddr *)&one.sa, one.len);
		return 0;
	}
	snprintf(port, sizeof port, "%u", p->o->port);
	status = getaddrinfo(p->o->host, port, &hints, &list);
	if (status != 0)
		return error_set(e, ERROR_AGAIN, "%s: %s", p->o->host, gai_strerror(status));
	for (struct addrinfo *a = list; a; a = a->ai_next)
		add_address(p, a->ai_addr, a->ai_addrlen);
	freeaddrinfo(list);
	return p->address_count ? 0 : error_set(e, ERROR_AGAIN, "%s: no address", p->o->host);
}

/* ---- the checks ---- */

static const char *missing(const struct probe *p, unsigned needs)
{
	if (!p->survey.reached)
		return "the server was not reached";
	if (needs & (PROBE_NEEDS_CLEAR | PROBE_NEEDS_STARTTLS) && p->o->implicit)
		return "TLS is up from the start here";
	if (needs & (PROBE_NEEDS_STARTTLS | PROBE_NEEDS_TLS) && !p->o->implicit && !p->survey.starttls)
		return "STARTTLS is not offered";
	if (needs & PROBE_NEEDS_INTRUSIVE && !p->o->intrusive)
		return "it is intrusive: --intrusive was not given";
	if (needs & PROBE_NEEDS_RECIPIENT && !p->o->recipient)
		return "it needs a recipient of yours: --recipient was not given";
	if (needs & PROBE_NEEDS_LOGIN && !p->o->login.n)
		return "it needs credentials: --auth-file was not given";
	return NULL;
}

static bool is_wanted(const struct probe_server_options *o, unsigned number)
{
	for (unsigned i = 0; i < o->only_count; i++)
		if (o->only[i] == number)
			return true;
	return o->only_count == 0;
}

/* The first connection tells what the others need; its evidence belongs to the first check. */
static void survey(struct probe *p)
{
	struct probe_link l;
	bool greeted = probe_open(p, &l);

	if (greeted && p->o->implicit)
		greeted = false;
	if (greeted)
		probe_report_fact(p->report, "greeting", "%s", l.reply.text);
	if (greeted && probe_ehlo(&l)) {
		p->survey.reached = true;
		p->survey.starttls = probe_has_word(&l.reply, "STARTTLS", NULL);
		p->survey.pipelining = probe_has_word(&l.reply, "PIPELINING", NULL);
		probe_words(&l.reply, p->survey.clear, sizeof p->survey.clear);
	} else if (!greeted || l.end != PROBE_OPEN || !l.reply.code) {
		snprintf(p->error->text, sizeof p->error->text, "%s", probe_stuck(&l));
	} else {
		p->survey.reached = true; /* it speaks; 101 says what is wrong */
	}
	probe_leave(&l);
}

static void survey_implicit(struct probe *p)
{
	struct probe_link l;

	if (probe_open_tls(p, &l, NULL)) {
		probe_report_fact(p->report, "greeting", "%s", l.reply.text);
		p->survey.reached = true;
		if (probe_ehlo(&l))
			p->survey.pipelining = probe_has_word(&l.reply, "PIPELINING", NULL);
	} else {
		snprintf(p->error->text, sizeof p->error->text, "%s", probe_stuck(&l));
	}
	probe_leave(&l);
}

static void run_checks(struct probe *p)
{
	const struct probe_server_options *o = p->o;
	unsigned total = 0, done = 0;

	for (unsigned i = 0; i < probe_check_count; i++)
		total += is_wanted(o, probe_checks[i].number);
	for (unsigned i = 0; i < probe_check_count; i++) {
		const struct probe_check *c = &probe_checks[i];
		const char *lack = missing(p, c->needs);

		if (!is_wanted(o, c->number))
			continue;
		if (o->progress)
			o->progress(o->arg, done, total, c);
		done++;
		p->address = 0;
		p->now = probe_report_add(p->report, c);
		if (!p->now)
			return;
		if (lack)
			probe_say(p, PROBE_UNTESTED, "%s", lack);
		else
			functions[i](p);
	}
	if (o->progress)
		o->progress(o->arg, done, total, NULL);
}

static void tell_facts(struct probe *p)
{
	char all[PROBE_ADDRESSES_MAX * (ADDRESS_TEXT + 2)] = "", where[ADDRESS_TEXT];
	size_t n = 0;

	for (unsigned i = 0; i < p->address_count; i++)
		n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "",
				      address_text((const struct sockaddr *)&p->addresses[i].sa, where));
	probe_report_fact(p->report, "addresses", "%s", all);
	probe_report_fact(p->report, "we_said", "%s", p->o->hello);
}

int probe_server(const struct probe_server_options *o, struct probe_report *r, struct error *e)
{
	static const struct probe_check first = { .id = "survey" };
	struct probe p = { .o = o, .report = r, .began_ms = probe_now(), .name = o->name };
	struct error ours = { .class = ERROR_AGAIN };
	struct probe_finding aside = { .check = &first };
	struct address literal;
	int status = 0;

	p.error = &ours;
	if (!p.name && !address_parse_host(view_cstr(o->host), 0, &literal))
		p.name = o->host;
	if (find_addresses(&p, e) == -1)
		return -1;
	tell_facts(&p);
	probe_trust_load(&p);
	p.now = &aside;
	if (o->implicit)
		survey_implicit(&p);
	else
		survey(&p);
	if (!p.survey.reached)
		status = error_set(e, ERROR_AGAIN, "%s", ours.text);
	else
		run_checks(&p);
	r->took_ms = (uint32_t)(probe_now() - p.began_ms);
	free(aside.lines);
	sk_X509_pop_free(p.chain, X509_free);
	X509_STORE_free(p.trust);
	return status;
}
