/* check_talk.c - checks 101 to 107: how STARTTLS is offered, taken and refused.
 *
 * RFC 3207 names three replies to STARTTLS (220, 501, 454) and says nothing of its place in a session.  So what a
 * server refuses is right, what it takes is a matter of taste as long as it works, and a fail is what leaves client and
 * server in different states.
 */
#include "probe/inside.h"

#include <psmtp.h>

/* A word of EHLO: an ehlo-keyword, and parameters of printable ASCII (RFC 5321 4.1.1.1). */
static const char *bad_word(const char *words)
{
	for (const char *p = words; *p; p++) {
		if (p != words && p[-1] != '\n')
			continue;
		if (!((*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')))
			return p;
		for (const char *q = p; *q && *q != '\n'; q++)
			if (*q < 32 || *q > 126)
				return p;
	}
	return NULL;
}

static void tell_words(struct probe *p, const char *words, unsigned n)
{
	char list[2200];
	size_t at = 0;

	for (const char *w = words; *w && at + 3 < sizeof list; w++)
		if (*w != '\n')
			list[at++] = *w;
		else if (w[1])
			at += (size_t)snprintf(list + at, sizeof list - at, ", ");
	list[at] = 0;
	probe_say(p, PROBE_PASS, n ? "%u extensions: %s" : "no extensions", n, list);
}

void probe_check_greeting(struct probe *p)
{
	struct probe_link l;
	char words[2000];
	const char *bad;

	if (!(p->o->implicit ? probe_open_tls(p, &l, NULL) : probe_open(p, &l))) {
		probe_say(p, PROBE_FAIL, "no greeting: %s", probe_stuck(&l));
	} else if (!probe_ehlo(&l)) {
		probe_say(p, PROBE_FAIL, "EHLO was answered %s", probe_stuck(&l));
	} else if (l.reply.odd) {
		probe_say(p, PROBE_FAIL, "a line of the reply to EHLO does not end with CR LF");
	} else {
		probe_words(&l.reply, words, sizeof words);
		bad = bad_word(words);
		if (bad)
			probe_say(p, PROBE_FAIL, "EHLO offers what is no keyword: %.*s", (int)strcspn(bad, "\n"), bad);
		else
			tell_words(p, words, l.reply.lines - 1);
	}
	probe_leave(&l);
}

void probe_check_starttls_offered(struct probe *p)
{
	struct probe_link l;

	if (!probe_open(p, &l) || !probe_ehlo(&l))
		probe_untested(&l, "no EHLO");
	else if (probe_has_word(&l.reply, "STARTTLS", NULL))
		probe_say(p, PROBE_PASS, "it is offered");
	else
		probe_say(p, PROBE_FAIL, "it is not offered: mail to this server can be read on the way");
	probe_leave(&l);
}

/* ---- the strict client: libpsmtp over a link ---- */

static void tls_up(struct probe_link *l, struct psmtp_client *c)
{
	const char *protocol = SSL_get_version(l->ssl), *cipher = SSL_get_cipher_name(l->ssl);
	const struct psmtp_tls_facts facts = { { protocol, strlen(protocol) }, { cipher, strlen(cipher) } };

	psmtp_client_tls_up(c, &facts, (uint64_t)probe_now());
}

/* What the protocol library wants written out and waits for, until it says how it ended. */
static bool drive(struct probe_link *l, struct psmtp_client *c, struct psmtp_client_event *last)
{
	unsigned epoch = 1;
	uint64_t now = (uint64_t)probe_now();

	/* TLS from the start is not asked for by an event (RFC 8314) */
	if (l->p->o->implicit) {
		if (!probe_shake(l, NULL))
			return false;
		tls_up(l, c);
		epoch = 2;
	}
	for (;;) {
		struct psmtp_view out;
		size_t taken;

		while (psmtp_client_next(c, last, now)) {
			if (last->type == PSMTP_CLIENT_READY || last->type == PSMTP_CLIENT_FAILED)
				return last->type == PSMTP_CLIENT_READY;
			if (last->type != PSMTP_CLIENT_TLS_START)
				continue;
			if (!probe_shake(l, NULL)) {
				psmtp_client_tls_failed(c, now);
				continue;
			}
			epoch = 2;
			tls_up(l, c);
		}
		out = psmtp_client_output(c);
		if (out.n) {
			probe_write(l, view_of(out.p, out.n));
			psmtp_client_sent(c, out.n, now);
			continue;
		}
		if (buf_len(&l->in) == 0 && probe_fill(l, probe_now() + l->p->o->timeout_ms) != 1)
			return false;
		taken = psmtp_client_feed(c, epoch, buf_view(&l->in).p, buf_len(&l->in), now);
		probe_event(l, "came: %.*s", (int)(taken > 400 ? 400 : taken), buf_view(&l->in).p);
		buf_take(&l->in, taken);
	}
}

static void *resize(void *arg, void *old, size_t size)
{
	(void)arg;
	return alloc_libc.resize(alloc_libc.arg, old, size);
}

void probe_check_strict_client(struct probe *p)
{
	const struct psmtp_allocator memory = { resize, NULL };
	struct psmtp_client_options o = { .hello = { p->o->hello, strlen(p->o->hello) },
					  .tls = p->o->implicit ? PSMTP_CLIENT_TLS_IMPLICIT : PSMTP_CLIENT_TLS_MUST };
	struct psmtp_client_event last = { 0 };
	struct psmtp_client *c;
	struct probe_link l;

	if (!probe_connect(p, &l)) {
		probe_untested(&l, "no connection");
		probe_close(&l);
		return;
	}
	c = psmtp_client_new(&o, &memory, (uint64_t)probe_now());
	if (!c)
		probe_say(p, PROBE_UNTESTED, "out of memory");
	else if (drive(&l, c, &last))
		probe_say(p, PROBE_PASS, "ready for mail inside %s", l.ssl ? SSL_get_version(l.ssl) : "TLS");
	else if (last.type == PSMTP_CLIENT_FAILED)
		probe_say(p, PROBE_FAIL, "it gives up: %s", last.reason ? last.reason : "unknown");
	else
		probe_say(p, PROBE_FAIL, "it gets no further: %s", probe_stuck(&l));
	psmtp_client_free(c);
	probe_leave(&l);
}

/* ---- STARTTLS out of place ---- */

/* The 220 was given: is what follows a working session?  where: for the words. */
static void judge_taken(struct probe_link *l, enum probe_verdict works, const char *where)
{
	struct probe *p = l->p;

	if (!probe_shake(l, NULL))
		probe_say(p, PROBE_FAIL, "STARTTLS %s is answered 220, and then %s", where, probe_stuck(l));
	else if (!probe_ehlo(l))
		probe_say(p, PROBE_FAIL, "STARTTLS %s is answered 220, and EHLO inside TLS %s", where, probe_stuck(l));
	else
		probe_say(p, works, "STARTTLS %s is taken, and works", where);
}

/* What a STARTTLS out of place was answered. */
static void judge(struct probe_link *l, int wanted, const char *where)
{
	struct probe *p = l->p;
	int code = l->reply.code;

	if (code == 220)
		judge_taken(l, PROBE_NOTE, where);
	else if (code == wanted)
		probe_say(p, PROBE_PASS, "refused: %s", probe_stuck(l));
	else if (code >= 500)
		probe_say(p, PROBE_PASS, "refused, if not with %d: %s", wanted, probe_stuck(l));
	else if (code >= 400)
		probe_say(p, PROBE_NOTE, "refused as if it might work later: %s", probe_stuck(l));
	else if (code)
		probe_say(p, PROBE_FAIL, "STARTTLS %s is answered %s", where, probe_stuck(l));
	else
		probe_say(p, PROBE_FAIL, "STARTTLS %s gets no reply: %s", where, probe_stuck(l));
}

void probe_check_starttls_argument(struct probe *p)
{
	struct probe_link l;

	if (!probe_open(p, &l) || !probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO");
	} else if (probe_ask(&l, "STARTTLS now") == 220) {
		probe_say(p, PROBE_FAIL, "an argument is taken, although there is none (501 is the reply for it)");
	} else {
		judge(&l, 501, "with an argument");
	}
	probe_leave(&l);
}

void probe_check_starttls_before_ehlo(struct probe *p)
{
	struct probe_link l;

	if (!probe_open(p, &l)) {
		probe_untested(&l, "no greeting");
	} else {
		probe_ask(&l, "STARTTLS");
		judge(&l, 503, "before EHLO");
	}
	probe_leave(&l);
}

void probe_check_starttls_after_helo(struct probe *p)
{
	struct probe_link l;

	if (!probe_open(p, &l) || probe_ask(&l, "HELO %s", p->o->hello) != 250) {
		probe_untested(&l, "no HELO");
	} else {
		probe_ask(&l, "STARTTLS");
		judge(&l, 503, "after HELO");
	}
	probe_leave(&l);
}

void probe_check_starttls_in_transaction(struct probe *p)
{
	struct probe_link l;

	if (!probe_open(p, &l) || !probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO");
	} else if (probe_ask(&l, "MAIL FROM:<>") != 250) {
		if (probe_refused(l.reply.code))
			probe_say(p, PROBE_PASS, "no transaction can begin in clear: %s", probe_stuck(&l));
		else
			probe_untested(&l, "no transaction");
	} else {
		probe_ask(&l, "STARTTLS");
		judge(&l, 503, "inside a transaction");
	}
	probe_leave(&l);
}
