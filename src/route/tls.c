/* tls.c - see tls.h.  Each judge_* looks at one source, and returns true when it has said the last word. */
#include "route/tls.h"
#include "route/sts.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const levels[] = { "?", "none", "may", "encrypt", "verify", "dane" };
static const char *const verdicts[] = { "?", "send", "defer", "skip" };
static const char *const policies[] = { "?", "no-policy-found", "tlsa", "sts" };
static const char *const results[] = { "?", "successful", "starttls-not-supported", "certificate-host-mismatch", "certificate-expired",
	"certificate-not-trusted", "validation-failure", "tlsa-invalid", "dnssec-invalid" };

#define NAME_OF(list, i) ((size_t)(i) < sizeof(list) / sizeof *(list) ? (list)[i] : (list)[0])

const char *route_level_name(enum route_level l) { return NAME_OF(levels, l); }
const char *route_verdict_name(enum route_verdict v) { return NAME_OF(verdicts, v); }
const char *route_rpt_policy_name(enum route_rpt_policy p) { return NAME_OF(policies, p); }
const char *route_rpt_result_name(enum route_rpt_result r) { return NAME_OF(results, r); }

__attribute__((format(printf, 2, 3))) static void say(struct route_tls_choice *c, const char *format, ...)
{
	size_t used = strlen(c->why);
	va_list args;

	if (used + 2 >= sizeof c->why)
		return;
	if (used) {
		memcpy(c->why + used, "; ", 3);
		used += 2;
	}
	va_start(args, format);
	vsnprintf(c->why + used, sizeof c->why - used, format, args);
	va_end(args);
}

static void raise(struct route_tls_choice *c, enum route_level to)
{
	if (c->level < to)
		c->level = to;
}

static bool is_said(const char *name)
{
	return name && *name;
}

static bool same_name(const char *a, const char *b)
{
	struct view x = view_cstr(a), y = view_cstr(b);

	if (x.n && x.p[x.n - 1] == '.')
		x.n--;
	if (y.n && y.p[y.n - 1] == '.')
		y.n--;
	return view_eq_nocase(x, y);
}

static bool is_alias(const struct route_tls_host *h)
{
	return is_said(h->expanded) && !same_name(h->expanded, h->name);
}

static void add_name(struct route_tls_choice *c, const char *name)
{
	if (!is_said(name) || c->names_n == ROUTE_TLS_NAMES)
		return;
	for (size_t i = 0; i < c->names_n; i++)
		if (same_name(c->names[i], name))
			return;
	c->names[c->names_n++] = name;
}

/* ---- DANE ---- */

/* What the message or the operator has set aside is not looked up either. */
static bool looks_at_policies(const struct route_tls_facts *f)
{
	return f->local != ROUTE_LEVEL_NONE && (!f->relaxed || f->require); /* RFC 8689 4.1: REQUIRETLS beats the header field */
}

/* May TLSA records of this host be believed?  Why not, or NULL.  RFC 7672 2.2.1: the MX lookup was secure; 2.2.2: the addresses
 * are, or at least the alias that leads to them.  Behind an insecure address no TLSA is asked for: the servers of unsigned
 * zones are those that choke on the question. */
static const char *dane_not(const struct route_tls_facts *f, const struct route_tls_host *h)
{
	if (!f->dane)
		return "DANE is off here";
	if (h->literal)
		return "no DANE: an address has no TLSA records";
	if (f->domain && !f->mx.secure)
		return "no DANE: the MX lookup is insecure";
	if (h->address.status != ROUTE_FOUND || (!h->address.secure && !(is_alias(h) && h->alias_secure)))
		return "no DANE: the address is insecure";
	return NULL;
}

/* The names in the order in which RFC 7672 2.2.2 wants them tried. */
static size_t bases(const struct route_tls_host *h, const char *list[ROUTE_TLS_BASES])
{
	size_t n = 0;

	if (is_alias(h) && h->address.secure)
		list[n++] = h->expanded;
	list[n++] = h->name;
	return n;
}

/* Is there nothing that binds here, so that the next name is tried? */
static bool is_void(const struct route_answer *a)
{
	return a->status == ROUTE_NOTHING || (a->status == ROUTE_FOUND && !a->secure);
}

const char *route_tls_ask(const struct route_tls_facts *f, const struct route_tls_host *h, size_t *base)
{
	const char *list[ROUTE_TLS_BASES];
	size_t n;

	if (!looks_at_policies(f) || dane_not(f, h))
		return NULL;
	n = bases(h, list);
	for (*base = 0; *base < n; ++*base) {
		if (!h->tlsa[*base].answer.status)
			return list[*base];
		if (!is_void(&h->tlsa[*base].answer))
			return NULL;
	}
	return NULL;
}

static void owe_dane(const struct route_tls_facts *f, const struct route_tls_host *h, struct route_tls_choice *c, const char *base)
{
	raise(c, ROUTE_LEVEL_DANE);
	c->check = ROUTE_CHECK_DANE;
	c->names_n = 0;
	c->sni = base; /* RFC 7672 8.1, 3.2.2: the TLSA base domain, and it comes first */
	add_name(c, base);
	add_name(c, h->name);
	if (f->domain) { /* RFC 7672 3.2.2: the MX lookup was secure, so the domain itself is a name too */
		add_name(c, f->domain);
		add_name(c, f->expanded);
	}
	say(c, "DANE: secure TLSA records at %s", base);
}

static bool judge_dane(const struct route_tls_facts *f, const struct route_tls_host *h, struct route_tls_choice *c)
{
	const char *list[ROUTE_TLS_BASES], *not = dane_not(f, h);
	size_t n = bases(h, list), i = 0;
	const struct route_tlsa_set *set;

	if (not) {
		if (f->dane)
			say(c, "%s", not);
		return false;
	}
	while (i < n && is_void(&h->tlsa[i].answer))
		i++;
	if (i == n) {
		say(c, "no DANE: no secure TLSA records");
		return false;
	}
	set = &h->tlsa[i];
	if (set->answer.status != ROUTE_FOUND) { /* RFC 7672 2.1.2: unreachable; 0 (not asked) is no better */
		c->verdict = ROUTE_DEFER;
		raise(c, ROUTE_LEVEL_DANE);
		c->policy = ROUTE_RPT_TLSA;
		c->result = ROUTE_RPT_DNSSEC_INVALID;
		say(c, "the TLSA lookup at %s %s, so nothing goes there now", list[i],
		    set->answer.status == ROUTE_BOGUS ? "is bogus (DNSSEC)" : "failed");
		return true;
	}
	c->policy = ROUTE_RPT_TLSA;
	c->tlsa = set;
	for (size_t r = 0; r < set->n; r++)
		if (set->records[r].usable) {
			owe_dane(f, h, c, list[i]);
			return true;
		}
	c->tlsa_useless = true; /* RFC 7672 2.2, 2.2.3: TLS is owed; whom to believe is not said */
	raise(c, ROUTE_LEVEL_ENCRYPT);
	say(c, "the TLSA records at %s are unusable: TLS is owed, without authentication", list[i]);
	return false;
}

/* ---- a name in a chain to the trust bundle ---- */

static void owe_name(const struct route_tls_host *h, struct route_tls_choice *c)
{
	raise(c, ROUTE_LEVEL_VERIFY);
	c->check = ROUTE_CHECK_CHAIN;
	c->names_n = 0;
	add_name(c, h->name); /* RFC 8461 4.2, RFC 8689 4.2.1: as the MX record says it */
	c->sni = h->name;
}

static void watch_name(const struct route_tls_host *h, struct route_tls_choice *c)
{
	c->watch = true;
	add_name(c, h->name);
	c->sni = h->name;
}

/* RFC 8461 5: mail for a domain, to each host of its MX records. */
static bool judge_sts(const struct route_tls_facts *f, const struct route_tls_host *h, struct route_tls_choice *c)
{
	bool among = sts_mx_match(f->sts_mx, view_cstr(h->name));

	if (!f->domain || h->literal || !f->sts)
		return false;
	switch (f->sts) {
	case ROUTE_STS_NONE: return false;
	case ROUTE_STS_FAILED:
		say(c, "MTA-STS: no policy to be had%s%.120s", is_said(f->sts_why) ? ": " : "", is_said(f->sts_why) ? f->sts_why : "");
		return false;
	case ROUTE_STS_MODE_NONE: say(c, "MTA-STS: mode none"); return false;
	case ROUTE_STS_TESTING:
		c->policy = ROUTE_RPT_STS;
		watch_name(h, c);
		if (!among)
			c->result = ROUTE_RPT_VALIDATION_FAILURE;
		say(c, "MTA-STS testing%s", among ? "" : ": the host is not in the policy");
		return false;
	case ROUTE_STS_ENFORCE: break;
	}
	c->policy = ROUTE_RPT_STS;
	owe_name(h, c);
	if (among) {
		say(c, "MTA-STS enforce");
		return false;
	}
	c->verdict = ROUTE_SKIP;
	c->result = ROUTE_RPT_VALIDATION_FAILURE;
	say(c, "MTA-STS enforce: the host is not in the policy");
	return true;
}

/* ---- REQUIRETLS ---- */

static void refuse(struct route_tls_choice *c, uint16_t detail, const char *why)
{
	c->verdict = ROUTE_SKIP;
	c->refuse = detail;
	say(c, "REQUIRETLS: %s", why);
}

static void judge_require(const struct route_tls_facts *f, const struct route_tls_host *h, struct route_tls_choice *c)
{
	bool listed = (f->sts == ROUTE_STS_TESTING || f->sts == ROUTE_STS_ENFORCE) && sts_mx_match(f->sts_mx, view_cstr(h->name));

	/* RFC 8689 4.2.1, 2: a name that anybody could have put into the DNS proves nothing.  A hop of the configuration is
	 * the operator's word. */
	if (f->domain && !h->literal && !f->mx.secure && !listed) {
		raise(c, ROUTE_LEVEL_VERIFY);
		refuse(c, 30, "neither DNSSEC nor MTA-STS proves the name of the host");
		return;
	}
	if (h->literal && f->domain) {
		raise(c, ROUTE_LEVEL_VERIFY);
		refuse(c, 30, "an address has no name that could be proven");
		return;
	}
	if (c->check != ROUTE_CHECK_DANE)
		owe_name(h, c);
	say(c, "REQUIRETLS");
}

/* ---- together ---- */

static bool judge_address(const struct route_tls_host *h, struct route_tls_choice *c)
{
	if (h->literal || h->address.status == ROUTE_FOUND)
		return false;
	c->verdict = h->address.status == ROUTE_NOTHING ? ROUTE_SKIP : ROUTE_DEFER;
	say(c, h->address.status == ROUTE_NOTHING ? "the host has no address" :
	       h->address.status == ROUTE_BOGUS ? "the address of the host is bogus (DNSSEC)" : "the address of the host cannot be had now");
	if (h->address.status == ROUTE_BOGUS)
		c->result = ROUTE_RPT_DNSSEC_INVALID;
	return true;
}

static void judge_local(const struct route_tls_facts *f, const struct route_tls_host *h, struct route_tls_choice *c)
{
	raise(c, f->local);
	if (f->local != ROUTE_LEVEL_MAY)
		say(c, "tls = %s is configured", route_level_name(f->local));
	if (f->local >= ROUTE_LEVEL_VERIFY)
		owe_name(h, c);
}

static bool judge_mx(const struct route_tls_facts *f, struct route_tls_choice *c)
{
	if (!f->domain || !f->mx.status || f->mx.status == ROUTE_FOUND || f->mx.status == ROUTE_NOTHING)
		return false;
	c->verdict = ROUTE_DEFER; /* RFC 7672 2.1.2: nothing about this domain is known */
	if (f->mx.status == ROUTE_BOGUS)
		c->result = ROUTE_RPT_DNSSEC_INVALID;
	say(c, f->mx.status == ROUTE_BOGUS ? "the MX lookup is bogus (DNSSEC)" : "the MX lookup failed");
	return true;
}

void route_tls_judge(const struct route_tls_facts *f, const struct route_tls_host *h, struct route_tls_choice *c)
{
	*c = (struct route_tls_choice){ .verdict = ROUTE_SEND, .level = ROUTE_LEVEL_NONE, .check = ROUTE_CHECK_NOTHING,
					.policy = ROUTE_RPT_NO_POLICY };
	judge_local(f, h, c);
	if (judge_mx(f, c) || judge_address(h, c))
		return;
	if (f->local == ROUTE_LEVEL_NONE) {
		if (f->require)
			refuse(c, 10, "and there is no TLS to this hop");
		return;
	}
	if (!looks_at_policies(f)) {
		say(c, "\"TLS-Required: No\": DANE and MTA-STS are set aside");
		if (!c->sni && !h->literal)
			c->sni = h->name;
		return;
	}
	if (!judge_dane(f, h, c) && judge_sts(f, h, c))
		return;
	if (c->verdict != ROUTE_SEND)
		return;
	if (f->require)
		judge_require(f, h, c);
	if (!c->sni && !h->literal)
		c->sni = h->name; /* whoever answers may have several certificates */
	if (c->level == ROUTE_LEVEL_MAY && !c->why[0])
		say(c, "nothing asks for more");
}

enum route_rpt_result route_tls_result(const struct route_tls_choice *c, enum route_tls_event event)
{
	switch (event) {
	case ROUTE_TLS_UP: break;
	case ROUTE_TLS_NOT_OFFERED: return ROUTE_RPT_STARTTLS_NOT_SUPPORTED;
	case ROUTE_TLS_NAME:
	case ROUTE_TLS_TLSA: return ROUTE_RPT_CERTIFICATE_HOST_MISMATCH; /* RFC 8460 4.3.1: it is not what the policy, or DANE, wants */
	case ROUTE_TLS_EXPIRED: return ROUTE_RPT_CERTIFICATE_EXPIRED;
	case ROUTE_TLS_UNTRUSTED: return ROUTE_RPT_CERTIFICATE_NOT_TRUSTED;
	case ROUTE_TLS_BROKE: return ROUTE_RPT_VALIDATION_FAILURE;
	}
	if (c->result) /* testing: TLS is fine, the policy is not kept */
		return c->result;
	return c->policy == ROUTE_RPT_TLSA && c->tlsa_useless ? ROUTE_RPT_TLSA_INVALID : ROUTE_RPT_SUCCESS;
}
