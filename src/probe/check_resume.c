/* check_resume.c - checks 607 and 608: sessions offered again, at the same address and at the others of the name. */
#include "probe/inside.h"

#define TICKET_MOST_S 604800u /* RFC 8446 4.6.1: a ticket lives seven days at most */
#define DIFFERENT_MAX 600

/* A session that works: EHLO inside TLS.  Its ticket comes behind the handshake in TLS 1.3, so it is taken after EHLO's
 * reply. */
static bool session(struct probe *p, struct probe_link *l, const struct probe_hello *h, SSL_SESSION **keep, char *words,
		    size_t room)
{
	bool ok = probe_open_tls(p, l, h) && probe_ehlo(l);

	if (ok && words)
		probe_words(&l->reply, words, room);
	if (ok && keep && l->session)
		*keep = SSL_SESSION_dup(
			l->session); /* a copy: the end of its connection makes a session one that is not offered */
	return ok;
}

/* For one version: 1 resumed, 0 not, -1 judged, -2 there is no such version. */
static int resume(struct probe *p, int version, const char *name)
{
	struct probe_hello h = { .least = version, .most = version };
	SSL_SESSION *ticket = NULL;
	struct probe_link l;
	int result = 0;

	if (!session(p, &l, &h, &ticket, NULL, 0)) {
		result = l.tls || l.reply.code || l.end == PROBE_LATE ? -1 : -2;
		if (result == -1)
			probe_untested(&l, name);
		probe_leave(&l);
		return result;
	}
	probe_leave(&l);
	if (!ticket)
		return 0;
	if (SSL_SESSION_get_ticket_lifetime_hint(ticket) > TICKET_MOST_S) {
		probe_say(p, PROBE_FAIL, "a ticket of %s is said to live %lu s, more than seven days", name,
			  SSL_SESSION_get_ticket_lifetime_hint(ticket));
		result = -1;
	} else {
		h.session = ticket;
		if (session(p, &l, &h, NULL, NULL, 0)) {
			result = SSL_session_reused(l.ssl);
		} else {
			/* before the handshake nothing was offered yet */
			probe_say(p, l.ssl ? PROBE_FAIL : PROBE_UNTESTED,
				  "a session of %s that offers a ticket does not come about: %s", name,
				  probe_stuck(&l));
			result = -1;
		}
		probe_leave(&l);
	}
	SSL_SESSION_free(ticket);
	return result;
}

void probe_check_resumption(struct probe *p)
{
	static const char *const words[] = { "it is resumed", "it is shaken hands for anew",
					     "there is no such version" };
	int old = resume(p, TLS1_2_VERSION, "TLS 1.2"), new;

	if (old == -1)
		return;
	new = resume(p, TLS1_3_VERSION, "TLS 1.3");
	if (new == -1)
		return;
	if (old == -2 && new == -2)
		probe_say(p, PROBE_UNTESTED, "no session of TLS 1.2 or 1.3");
	else
		probe_say(p, PROBE_PASS, "TLS 1.2: %s; TLS 1.3: %s",
			  words[old == 1   ? 0
				: old == 0 ? 1
					   : 2],
			  words[new == 1   ? 0
				: new == 0 ? 1
					   : 2]);
}

void probe_check_farm(struct probe *p)
{
	struct probe_hello h = { 0 };
	SSL_SESSION *ticket = NULL;
	char first[2000], here[2000], odd[DIFFERENT_MAX] = "", where[ADDRESS_TEXT];
	struct probe_link l;
	unsigned resumed = 0;

	if (p->address_count < 2) {
		probe_say(p, PROBE_UNTESTED, "there is one address");
		return;
	}
	if (!session(p, &l, &h, &ticket, first, sizeof first)) {
		probe_untested(&l, "the first address");
		probe_leave(&l);
		return;
	}
	probe_leave(&l);
	h.session = ticket;
	for (p->address = 1; p->address < p->address_count; p->address++) {
		bool ok = session(p, &l, &h, NULL, here, sizeof here);

		address_text((const struct sockaddr *)&p->addresses[p->address].sa, where);
		if (!ok) {
			probe_say(p, l.ssl ? PROBE_FAIL : PROBE_NOTE, "at %s no session comes about%s: %s", where,
				  l.ssl && ticket ? " with the ticket of the first address" : "", probe_stuck(&l));
			probe_leave(&l);
			break;
		}
		resumed += (unsigned)SSL_session_reused(l.ssl);
		if (!odd[0] && strcmp(first, here) != 0)
			snprintf(odd, sizeof odd, "%s offers other extensions: %.400s", where, here);
		probe_leave(&l);
	}
	SSL_SESSION_free(ticket);
	if (p->address < p->address_count)
		;
	else if (odd[0])
		probe_say(p, PROBE_NOTE, "%s", odd);
	else
		probe_say(p, PROBE_PASS, "%u addresses, alike; %u of the others %s", p->address_count, resumed,
			  ticket ? "resumed the first one's session" : "could resume: there was no ticket");
	p->address = 0;
}
