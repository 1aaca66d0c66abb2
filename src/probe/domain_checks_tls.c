/* domain_checks_tls.c - checks 104, 105, 301 to 304, 406 and from 601 on: the hosts' TLS, and what our own sender would do. */
#include "probe/domain_inside.h"

#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

#define SOON_S (14 * 86400L) /* a renewal that comes later than this before the end has usually failed */

/* What is said of many addresses: the worst verdict, and the words that belong to it. */
struct sum {
	enum probe_verdict verdict;
	unsigned counted;
	char words[600];
};

static void add(struct sum *s, enum probe_verdict verdict, const char *place, const char *why)
{
	size_t have;

	s->counted++;
	if (verdict > s->verdict && verdict != PROBE_UNTESTED)
		s->words[0] = 0;
	if (verdict == PROBE_UNTESTED || verdict < s->verdict)
		return;
	s->verdict = verdict;
	have = strlen(s->words);
	if (have + strlen(place) + strlen(why) + 8 < sizeof s->words)
		snprintf(s->words + have, sizeof s->words - have, "%s%s%s%s", have ? "; " : "", place, *why ? ": " : "", why);
}

static void say(struct domain_probe *d, const struct sum *s, const char *nothing)
{
	if (!s->counted || !s->verdict)
		domain_say(d, PROBE_UNTESTED, "%s", nothing);
	else
		domain_say(d, s->verdict, "%s", s->words);
}

/* Calls look for each address. */
#define EACH(d, h, i, c) \
	for (size_t h = 0; h < (d)->host_count; h++) \
		for (unsigned i = 0; i < (d)->about[h].contact_count; i++) \
			for (struct domain_contact *c = &(d)->about[h].contacts[i]; c; c = NULL)

/* ---- reachable, STARTTLS ---- */

void domain_check_reachable(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char place[DOMAIN_WORDS];
	bool any = false;

	EACH(d, h, i, c) {
		domain_place(d, h, i, place);
		any = any || c->reach > DOMAIN_NO_ROUTE;
		if (c->reach == DOMAIN_SILENT)
			add(&sum, PROBE_FAIL, place, c->why);
		else if (c->reach == DOMAIN_NO_ROUTE)
			add(&sum, PROBE_NOTE, place, c->why);
		else
			add(&sum, PROBE_PASS, place, "");
	}
	if (sum.counted && !any)
		domain_say(d, PROBE_FAIL, "none is reached from here, where port %u may be shut for all that goes out: %.300s", d->o->port, sum.words);
	else
		say(d, &sum, "there is no address");
}

void domain_check_starttls(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char place[DOMAIN_WORDS];

	EACH(d, h, i, c) {
		domain_place(d, h, i, place);
		if (c->reach == DOMAIN_TLS_UP)
			add(&sum, PROBE_PASS, place, "");
		else if (c->reach == DOMAIN_NO_STARTTLS || c->reach == DOMAIN_TLS_BROKE)
			add(&sum, PROBE_FAIL, place, c->why);
	}
	say(d, &sum, "no address was reached");
}

/* ---- DANE ---- */

static const struct route_tlsa_set *set_of(const struct domain_probe *d, size_t host)
{
	const struct route_tls_host *h = &d->facts->hosts[host].tls;

	for (unsigned i = 0; i < ROUTE_TLS_BASES; i++)
		if (h->tlsa[i].answer.status && h->tlsa[i].answer.status != ROUTE_NOTHING)
			return &h->tlsa[i];
	return NULL;
}

void domain_check_tlsa(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char words[60];

	for (size_t h = 0; h < d->host_count; h++) {
		const struct route_tlsa_set *set = set_of(d, h);

		if (!set && !d->facts->hosts[h].tls.tlsa[0].answer.status)
			continue; /* not asked for: insecure before */
		snprintf(words, sizeof words, "%zu", set ? set->n : 0);
		if (!set)
			add(&sum, PROBE_NOTE, d->hosts[h].name, "there are none");
		else if (set->answer.status == ROUTE_BOGUS || set->answer.status == ROUTE_FAILED)
			add(&sum, PROBE_FAIL, d->hosts[h].name,
			    set->answer.status == ROUTE_BOGUS ? "bogus, so nobody who obeys DANE sends there"
							      : "the lookup fails, so nobody who obeys DANE sends there");
		else if (!set->answer.secure)
			add(&sum, PROBE_NOTE, d->hosts[h].name, "they are insecure, and count for nothing");
		else
			add(&sum, PROBE_PASS, d->hosts[h].name, words);
	}
	say(d, &sum, "MX or addresses are insecure, so that TLSA records would count for nothing");
}

/* The secure records of a host; false: there are none. */
static bool has_records(const struct domain_probe *d, size_t host, const struct route_tlsa_set **set)
{
	*set = set_of(d, host);
	return *set && (*set)->answer.status == ROUTE_FOUND && (*set)->answer.secure && (*set)->n;
}

static const char *record_words(const struct route_tlsa *r, char to[200])
{
	struct buf b;

	buf_init(&b, &alloc_libc, 16384);
	route_tlsa_text(r, &b);
	snprintf(to, 200, "%.*s", VIEW_ARGS(view_slice(buf_view(&b), 0, 80)));
	buf_free(&b);
	return to;
}

void domain_check_tlsa_usable(struct domain_probe *d)
{
	struct sum sum = { 0 };
	const struct route_tlsa_set *set;
	char words[200];

	for (size_t h = 0; h < d->host_count; h++) {
		bool some = false;

		if (!has_records(d, h, &set))
			continue;
		for (size_t i = 0; i < set->n; i++)
			some = some || set->records[i].usable;
		for (size_t i = 0; i < set->n; i++)
			if (!set->records[i].usable)
				add(&sum, some ? PROBE_NOTE : PROBE_FAIL, d->hosts[h].name, record_words(&set->records[i], words));
		if (some)
			add(&sum, PROBE_PASS, d->hosts[h].name, "");
	}
	say(d, &sum, "there are no secure TLSA records");
}

void domain_check_tlsa_match(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char place[DOMAIN_WORDS];

	EACH(d, h, i, c) {
		domain_place(d, h, i, place);
		if (d->facts->hosts[h].choice.check != ROUTE_CHECK_DANE || c->reach == DOMAIN_SILENT || c->reach == DOMAIN_NO_ROUTE)
			continue;
		if (c->verified)
			add(&sum, PROBE_PASS, place, c->words);
		else
			add(&sum, PROBE_FAIL, place, c->tried ? c->words : c->why);
	}
	say(d, &sum, "there are no usable TLSA records, or no address was reached");
}

void domain_check_tlsa_stale(struct domain_probe *d)
{
	struct sum sum = { 0 };
	const struct route_tlsa_set *set;
	char words[200];

	for (size_t h = 0; h < d->host_count; h++) {
		bool seen = false;

		for (unsigned i = 0; i < d->about[h].contact_count; i++)
			seen = seen || d->about[h].contacts[i].chain;
		if (!seen || !has_records(d, h, &set))
			continue;
		for (size_t r = 0; r < set->n; r++) {
			bool matches = false;

			for (unsigned i = 0; i < d->about[h].contact_count; i++)
				matches = matches || domain_tlsa_matches(&set->records[r], d->about[h].contacts[i].chain);
			if (matches || !set->records[r].usable)
				add(&sum, PROBE_PASS, d->hosts[h].name, "");
			else /* one for the next key is right, and looks the same */
				add(&sum, PROBE_NOTE, d->hosts[h].name, record_words(&set->records[r], words));
		}
	}
	say(d, &sum, "there are no secure TLSA records, or no certificate was seen");
}

/* ---- certificates ---- */

/* With the trust bundle, in date: what is wrong, or NULL.  Names are looked at apart. */
static const char *chain_fault(const struct domain_probe *d, const struct domain_contact *c)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	const char *why = "out of memory";

	if (ctx && X509_STORE_CTX_init(ctx, d->p.trust, sk_X509_value(c->chain, 0), c->chain) == 1) {
		X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_NO_CHECK_TIME); /* 601 */
		why = X509_verify_cert(ctx) == 1 ? NULL : X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
	}
	X509_STORE_CTX_free(ctx);
	return why;
}

static bool names(const struct domain_contact *c, const char *host)
{
	return X509_check_host(sk_X509_value(c->chain, 0), host, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

void domain_check_sts_certificates(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char place[DOMAIN_WORDS];

	if (d->fetch != DOMAIN_FETCHED || d->policy.mode == STS_NONE) {
		domain_say(d, PROBE_UNTESTED, "there is no policy");
		return;
	}
	EACH(d, h, i, c) {
		const char *why = c->chain ? chain_fault(d, c) : c->why;
		enum probe_verdict bad = d->policy.mode == STS_ENFORCE ? PROBE_FAIL : PROBE_NOTE;
		time_t now = time(NULL);

		domain_place(d, h, i, place);
		if (c->reach == DOMAIN_SILENT || c->reach == DOMAIN_NO_ROUTE)
			continue;
		if (c->chain && !why && !names(c, d->hosts[h].name))
			why = "the certificate has another name";
		if (c->chain && !why && X509_cmp_time(X509_get0_notAfter(sk_X509_value(c->chain, 0)), &now) < 0)
			why = "the certificate has expired";
		add(&sum, why ? bad : PROBE_PASS, place, why ? why : "");
	}
	say(d, &sum, "no address was reached");
}

void domain_check_certificate_dates(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char place[DOMAIN_WORDS];
	time_t now = time(NULL), soon = now + SOON_S;

	EACH(d, h, i, c) {
		const X509 *leaf = c->chain ? sk_X509_value(c->chain, 0) : NULL;
		/* DANE-EE sets dates aside (RFC 7672 3.1.1), but not for who does not know DANE */
		bool dane = d->facts->hosts[h].choice.check == ROUTE_CHECK_DANE && c->verified;

		if (!leaf)
			continue;
		domain_place(d, h, i, place);
		if (X509_cmp_time(X509_get0_notBefore(leaf), &now) > 0)
			add(&sum, dane ? PROBE_NOTE : PROBE_FAIL, place, "it is not valid yet");
		else if (X509_cmp_time(X509_get0_notAfter(leaf), &now) < 0)
			add(&sum, dane ? PROBE_NOTE : PROBE_FAIL, place, "it has expired");
		else if (X509_cmp_time(X509_get0_notAfter(leaf), &soon) < 0)
			add(&sum, PROBE_NOTE, place, "it ends within two weeks");
		else
			add(&sum, PROBE_PASS, place, "");
	}
	say(d, &sum, "no certificate was seen");
}

void domain_check_certificate_names(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char place[DOMAIN_WORDS];

	EACH(d, h, i, c) {
		const char *why = c->chain ? chain_fault(d, c) : NULL;

		if (!c->chain)
			continue;
		domain_place(d, h, i, place);
		/* nothing but a policy demands either: 303 and 406 judge those */
		if (!names(c, d->hosts[h].name))
			add(&sum, PROBE_NOTE, place, "another name");
		else
			add(&sum, why ? PROBE_NOTE : PROBE_PASS, place, why ? why : "");
	}
	say(d, &sum, "no certificate was seen");
}

/* ---- what our own sender would do ---- */

static const char *by_what(const struct route_tls_choice *c)
{
	if (c->check == ROUTE_CHECK_DANE)
		return "with DANE";
	if (c->check == ROUTE_CHECK_CHAIN)
		return c->policy == ROUTE_RPT_STS ? "with MTA-STS" : "with a certificate that is verified";
	if (c->level >= ROUTE_LEVEL_ENCRYPT)
		return "encrypted, to whoever answers";
	return c->level == ROUTE_LEVEL_MAY ? "encrypted where it can be had, to whoever answers" : "in clear";
}

void domain_check_decision(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char words[ROUTE_TLS_WORDS + 80];

	for (size_t h = 0; h < d->host_count; h++) {
		const struct route_tls_choice *c = &d->facts->hosts[h].choice;

		if (!d->about[h].contact_count && c->verdict == ROUTE_SEND)
			snprintf(words, sizeof words, "no address");
		else if (c->verdict == ROUTE_SEND)
			snprintf(words, sizeof words, "would deliver %s (%s)", by_what(c), c->why);
		else
			snprintf(words, sizeof words, "would %s because %s", c->verdict == ROUTE_DEFER ? "defer" : "pass it over", c->why);
		if (c->verdict != ROUTE_SEND || !d->about[h].contact_count)
			add(&sum, PROBE_FAIL, d->hosts[h].name, words);
		else
			add(&sum, c->level < ROUTE_LEVEL_VERIFY ? PROBE_NOTE : PROBE_PASS, d->hosts[h].name, words);
	}
	say(d, &sum, "there is no mail host");
}

/* Whether the level that is owed was met; level `may` is met by anything that speaks SMTP. */
static enum probe_verdict outcome(const struct domain_probe *d, size_t h, const struct domain_contact *c, char words[DOMAIN_WORDS])
{
	const struct route_tls_choice *choice = &d->facts->hosts[h].choice;

	if (choice->verdict != ROUTE_SEND) {
		snprintf(words, DOMAIN_WORDS, "would %s because %.200s", choice->verdict == ROUTE_DEFER ? "defer" : "pass it over", choice->why);
		return PROBE_FAIL;
	}
	if (c->reach == DOMAIN_SILENT || c->reach == DOMAIN_NO_ROUTE) {
		snprintf(words, DOMAIN_WORDS, "not reached");
		return PROBE_NOTE;
	}
	if (choice->level <= ROUTE_LEVEL_MAY) {
		snprintf(words, DOMAIN_WORDS, "would deliver %s", c->up ? "inside TLS, to whoever answers" : "in clear");
		return PROBE_NOTE;
	}
	if (c->tried && c->up) {
		snprintf(words, DOMAIN_WORDS, "would deliver %s, %.200s", by_what(choice), c->words);
		return choice->level >= ROUTE_LEVEL_VERIFY ? PROBE_PASS : PROBE_NOTE;
	}
	snprintf(words, DOMAIN_WORDS, "would defer because %.150s, and %s is owed", c->tried ? c->words : c->why, route_level_name(choice->level));
	return PROBE_FAIL;
}

void domain_check_delivery(struct domain_probe *d)
{
	struct sum sum = { 0 };
	char place[DOMAIN_WORDS], words[DOMAIN_WORDS];

	EACH(d, h, i, c) {
		enum probe_verdict v = outcome(d, h, c, words);

		add(&sum, v, domain_place(d, h, i, place), words);
		domain_event(d, "%s: %s", place, words);
	}
	say(d, &sum, "there is no address");
}
