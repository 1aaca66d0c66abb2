/* check_tls.c - checks 601 to 603 and 609 to 612: what a server agrees to in TLS.
 *
 * Versions, ciphers and groups are asked for by a ClientHello of our own (raw.c), because no library of today offers
 * what must not be accepted.  A server that answers with an alert or closes has refused.
 */
#include "probe/inside.h"

#include <openssl/err.h>

/* Offered where nothing else is asked: what RFC 9325 4.2 recommends, RSA key exchange and CBC, so that an old server
 * agrees too. */
static const uint16_t all_ciphers[] = { 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca8, 0xcca9, 0xc009, 0xc013,
					0xc00a, 0xc014, 0xc023, 0xc027, 0x009e, 0x009f, 0x0033, 0x0039,
					0x009c, 0x009d, 0x003c, 0x002f, 0x0035, 0x000a, 0x0005 };
static const uint16_t tls13_ciphers[] = { 0x1301, 0x1302, 0x1303 };
static const uint16_t all_groups[] = { 29, 23, 24, 25, 30 };

#define RENEGOTIATIONS 8 /* more than a limit against abuse allows, too few to be abuse */
#define COUNT(a)       (sizeof(a) / sizeof *(a))

/* One ClientHello on a connection of its own.  1: accepted, 0: refused, -1: it could not be asked (judged). */
static int ask(struct probe *p, const struct probe_raw *raw, struct probe_raw_answer *a)
{
	struct probe_link l;
	int result = -1;

	if (!probe_open_to_220(p, &l)) {
		probe_untested(&l, "no 220 to STARTTLS");
	} else {
		result = probe_raw_shake(&l, raw, a) && a->accepted && a->version == raw->version;
		p->refused = 0;
	}
	probe_close(&l);
	return result;
}

/* An old version is not only agreed to, but comes up: a server may find out behind its ServerHello that it has no
 * signature for it. */
static bool comes_up(struct probe *p, int version)
{
	const struct probe_hello h = { .least = version, .most = version };
	struct probe_link l;
	bool up = probe_open_to_220(p, &l) && probe_shake(&l, &h);

	probe_close(&l);
	return up;
}

static int ask_version(struct probe *p, uint16_t version)
{
	const bool new = version == 0x0304;
	const struct probe_raw raw = { version, new ? tls13_ciphers : all_ciphers, all_groups,
				       (unsigned)(new ? COUNT(tls13_ciphers) : COUNT(all_ciphers)),
				       (unsigned)COUNT(all_groups) };
	struct probe_raw_answer a;
	int got = ask(p, &raw, &a);

	if (got == 1 && (version == TLS1_VERSION || version == TLS1_1_VERSION))
		got = comes_up(p, version);
	return got;
}

void probe_check_versions(struct probe *p)
{
	static const struct {
		uint16_t version;
		const char *name;
	} versions[] = {
		{ 0x0300, "SSL 3" },   { 0x0301, "TLS 1.0" }, { 0x0302, "TLS 1.1" },
		{ 0x0303, "TLS 1.2" }, { 0x0304, "TLS 1.3" },
	};
	char taken[100] = "";
	size_t n = 0;
	int got[COUNT(versions)];

	for (unsigned i = 0; i < COUNT(versions); i++) {
		got[i] = ask_version(p, versions[i].version);
		if (got[i] == -1)
			return;
		if (got[i])
			n += (size_t)snprintf(taken + n, sizeof taken - n, "%s%s", n ? ", " : "", versions[i].name);
	}
	probe_report_fact(p->report, "tls_versions", "%s", taken);
	if (!got[3] && !got[4])
		probe_say(p, PROBE_FAIL, "neither TLS 1.2 nor 1.3: %s", n ? taken : "none");
	else if (got[0] || got[1] || got[2])
		probe_say(p, PROBE_FAIL, "what must not be used any more is accepted: %s", taken);
	else if (!got[4])
		probe_say(p, PROBE_NOTE, "%s alone", taken);
	else
		probe_say(p, PROBE_PASS, "%s", taken);
}

/* ---- ciphers ---- */

static const uint16_t broken_ciphers[] = {
	0x0001, 0x0002, 0x003b, 0x00b0, 0x00b1, 0xc006, 0xc010, 0x0000, /* NULL */
	0x0003, 0x0006, 0x0008, 0x0014, 0x0011, 0x0060, 0x0062, 0x0064, /* export */
	0x0004, 0x0005, 0xc007, 0xc011,                                 /* RC4 */
	0x0009, 0x0015, 0x0012,                                         /* DES */
};
static const uint16_t triple_des[] = { 0x000a, 0x0016, 0xc008, 0xc012, 0x0013 };
static const uint16_t anonymous[] = { 0x0034, 0x003a, 0x006c, 0x006d, 0x00a6, 0x00a7, 0xc018, 0xc019, 0x0018, 0x001b };
static const uint16_t static_rsa[] = { 0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, 0xc09c, 0xc09d };

void probe_check_ciphers(struct probe *p)
{
	static const struct {
		const uint16_t *list;
		unsigned n;
		const char *name;
		enum probe_verdict verdict;
	} sets[] = {
		{ broken_ciphers, COUNT(broken_ciphers), "NULL, export, RC4 or DES", PROBE_FAIL },
		{ triple_des, COUNT(triple_des), "3DES", PROBE_NOTE },
		{ anonymous, COUNT(anonymous), "anonymous", PROBE_NOTE },
		{ static_rsa, COUNT(static_rsa), "without forward secrecy", PROBE_NOTE },
	};
	enum probe_verdict worst = PROBE_PASS;
	char words[300] = "";
	size_t n = 0;

	for (unsigned i = 0; i < COUNT(sets); i++) {
		const struct probe_raw raw = { 0x0303, sets[i].list, all_groups, sets[i].n,
					       (unsigned)COUNT(all_groups) };
		struct probe_raw_answer a;
		int got = ask(p, &raw, &a);

		if (got == -1)
			return;
		if (!got)
			continue;
		n += (size_t)snprintf(words + n, sizeof words - n, "%s%s (%04x)", n ? ", " : "", sets[i].name,
				      a.cipher);
		if (sets[i].verdict > worst)
			worst = sets[i].verdict;
	}
	probe_say(p, worst, "%s%s",
		  n ? "agreed to by TLS 1.2 when nothing better is offered: "
		    : "NULL, export, RC4, DES, 3DES, anonymous and static RSA ones are refused",
		  words);
}

/* ---- groups ---- */

void probe_check_groups(struct probe *p)
{
	static const struct {
		uint16_t group;
		const char *name;
		bool basic;
	} groups[] = {
		{ 29, "X25519", true },
		{ 23, "P-256", true },
		{ 24, "P-384", false },
		{ 0x11ec, "X25519MLKEM768", false },
	};
	char words[100] = "";
	size_t n = 0;
	bool basic = false;

	for (unsigned i = 0; i < COUNT(groups); i++) {
		const struct probe_raw new = { 0x0304, tls13_ciphers, &groups[i].group, (unsigned)COUNT(tls13_ciphers),
					       1 };
		const struct probe_raw before = { 0x0303, all_ciphers, &groups[i].group, 7, 1 };
		struct probe_raw_answer a;
		int got = ask(p, &new, &a);

		/* without TLS 1.3: ECDHE of 1.2; the hybrid is of 1.3 only */
		if (got == 0 && groups[i].basic)
			got = ask(p, &before, &a);
		if (got == -1)
			return;
		if (!got)
			continue;
		basic = basic || groups[i].basic;
		n += (size_t)snprintf(words + n, sizeof words - n, "%s%s", n ? ", " : "", groups[i].name);
	}
	probe_report_fact(p->report, "groups", "%s", n ? words : "none of those asked for");
	if (!basic)
		probe_say(p, PROBE_FAIL, "neither X25519 nor P-256, which everybody has: %s",
			  n ? words : "none of those asked for");
	else
		probe_say(p, PROBE_PASS, "%s", words);
}

/* ---- renegotiation ---- */

/* One more handshake inside the session: did it come about? */
static bool renegotiate_once(struct probe_link *l)
{
	int64_t until = probe_now() + probe_window(l->p);
	bool done = false;

	probe_event(l, "we ask for renegotiation");
	if (l->end != PROBE_OPEN || SSL_renegotiate(l->ssl) != 1)
		return false;
	SSL_do_handshake(l->ssl);
	probe_write(l, view_of("", 0));
	while (!done && l->end == PROBE_OPEN && probe_fill(l, until) == 1) {
		probe_write(l, view_of("", 0));
		done = !SSL_renegotiate_pending(l->ssl) && SSL_is_init_finished(l->ssl);
	}
	return done;
}

static void renegotiate(struct probe_link *l)
{
	struct probe *p = l->p;
	unsigned n = 0;

	while (n < RENEGOTIATIONS && renegotiate_once(l))
		n++;
	if (n == RENEGOTIATIONS)
		probe_say(p, PROBE_FAIL, "the server shakes hands again at the client's word, %u times in a row", n);
	else if (n)
		probe_say(p, PROBE_NOTE,
			  "the server shakes hands again at the client's word %u times, then no more: %s", n,
			  probe_stuck(l));
	else
		probe_say(p, PROBE_PASS, "secure by RFC 5746, and refused when the client asks: %s",
			  l->end == PROBE_OPEN ? "no answer" : l->why);
}

void probe_check_renegotiation(struct probe *p)
{
	const struct probe_hello old = { .least = TLS1_2_VERSION, .most = TLS1_2_VERSION };
	struct probe_link l;

	if (!probe_open_to_220(p, &l)) {
		probe_untested(&l, "no 220 to STARTTLS");
	} else if (!probe_shake(&l, &old)) {
		probe_say(p, PROBE_PASS, "there is no TLS 1.2, and TLS 1.3 has none: %s", probe_stuck(&l));
	} else if (p->o->implicit && probe_hear(&l) != 220) {
		probe_untested(&l, "no greeting");
	} else if (!SSL_get_secure_renegotiation_support(l.ssl)) {
		probe_say(p, PROBE_FAIL, "the server does not know secure renegotiation (RFC 5746)");
	} else if (!probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO inside TLS 1.2");
	} else {
		renegotiate(&l);
	}
	probe_close(&l);
}

/* ---- odd ClientHellos ---- */

/* Whether an ordinary session works: else the oddness of another is not what broke it. */
static bool is_well(struct probe *p)
{
	struct probe_link l;
	bool ok = probe_open_tls(p, &l, NULL) && probe_ehlo(&l);

	probe_leave(&l);
	return ok;
}

/* Whether a session of this kind works; judged when not.  leaf: NULL, or where to put a reference to the certificate.
 */
static bool works(struct probe *p, const struct probe_hello *h, const char *what, X509 **leaf)
{
	struct probe_link l;
	bool ok = probe_open_tls(p, &l, h) && probe_ehlo(&l);

	if (ok && leaf)
		*leaf = SSL_get1_peer_certificate(l.ssl);
	if (ok || !l.ssl) {
		if (!ok)
			probe_untested(&l, "no handshake");
		probe_leave(&l);
		return ok;
	}
	probe_close(&l);
	if (is_well(p))
		probe_say(p, PROBE_FAIL, "%s: %s", what, probe_stuck(&l));
	else
		probe_say(p, PROBE_UNTESTED, "an ordinary handshake fails as well: %s", probe_stuck(&l));
	return false;
}

void probe_check_large_hello(struct probe *p)
{
	const struct probe_hello h = { .padding = 3200 };

	if (works(p, &h, "a ClientHello of some 3,500 octets", NULL))
		probe_say(p, PROBE_PASS, "it is taken");
}

void probe_check_split_hello(struct probe *p)
{
	const struct probe_hello octets = { .cut = PROBE_CUT_OCTETS }, records = { .cut = PROBE_CUT_RECORDS };

	if (works(p, &octets, "a ClientHello in segments of one octet", NULL) &&
	    works(p, &records, "a ClientHello in records of 64 octets", NULL))
		probe_say(p, PROBE_PASS, "in segments of one octet, and in records of 64 octets");
}

void probe_check_sni(struct probe *p)
{
	const struct probe_hello none = { .no_name = true }, own = { 0 }, other = { .name = "n0b0dy.probe.invalid" };
	X509 *without = NULL, *with = NULL;
	struct probe_link l;

	if (!works(p, &none, "without SNI", &without))
		return;
	if (p->name && !works(p, &own, "with its own name", &with)) {
		X509_free(without);
		return;
	}
	if (!probe_open_tls(p, &l, &other))
		probe_say(p, PROBE_NOTE, "a name that it does not know ends the handshake: %s", probe_stuck(&l));
	else
		probe_say(p, PROBE_PASS, "it always succeeds; %s",
			  !with                          ? "no name was known to ask for"
			  : X509_cmp(with, without) == 0 ? "one certificate, named or not"
							 : "named, it shows another certificate");
	probe_leave(&l);
	X509_free(without);
	X509_free(with);
}
