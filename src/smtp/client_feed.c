/* client_feed.c - replies on their way in.
 *
 * One reply is one event.  Nothing further is read until the caller has taken what it led to, so that views stay valid
 * and a pipelined peer cannot make the session hold more than one reply.  Whether a reply may be believed is decided at
 * its first octet: had the command that it would answer left by then?
 */
#include "smtp/client_state.h"

struct psmtp_reply client_reply(const struct psmtp_client *c)
{
	return smtp_reply_in_get(&c->epoch.reply);
}

static enum client_event event_of(const struct client_epoch *e)
{
	int code = smtp_reply_in_get(&e->reply).code;

	if (e->early)
		return code == 421 ? CLIENT_ON_EARLY_421 : CLIENT_ON_EARLY;
	switch (code) {
	case 220:
		return CLIENT_ON_R220;
	case 235:
		return CLIENT_ON_R235;
	case 334:
		return CLIENT_ON_R334;
	case 354:
		return CLIENT_ON_R354;
	case 421:
		return CLIENT_ON_R421;
	default:
		break;
	}
	/* RFC 5321 4.2.1: a code that is not known speaks by its first digit, and the reader lets 2 to 5 pass */
	return code < 300 ? CLIENT_ON_R2XX : code < 400 ? CLIENT_ON_R3XX : code < 500 ? CLIENT_ON_R4XX : CLIENT_ON_R5XX;
}

static void reply_done(struct psmtp_client *c, bool quiet, uint64_t now)
{
	struct client_epoch *e = &c->epoch;
	enum client_event event = event_of(e);

	e->quiet = quiet;
	if (event == CLIENT_ON_R334)
		client_auth_decode(c);
	client_fire(c, event, now);
	client_run(c, now);
}

/* Reads one reply, or what there is of it; returns how many octets were consumed. */
static size_t reply_read(struct psmtp_client *c, struct view input, uint64_t now)
{
	struct client_epoch *e = &c->epoch;
	size_t taken = 0;

	if (!smtp_reply_in_begun(&e->reply)) {
		smtp_reply_in_next(&e->reply);
		/* RFC 4954 section 4: a challenge has up to 12,288 octets, behind its code and blank */
		e->reply.line_max = c->phase == CLIENT_IN_AUTH ? SMTP_AUTH_LINE_MAX + 4 : SMTP_REPLY_IN_LINE_MAX;
		e->early = c->sent < client_said(c);
	}
	switch (smtp_reply_in_read(&e->reply, input, &taken)) {
	case SMTP_REPLY_MORE:
		break;
	case SMTP_REPLY_DONE:
		reply_done(c, taken == input.n, now);
		break;
	case SMTP_REPLY_BAD:
		client_fire(c, CLIENT_ON_BAD_REPLY, now);
		client_run(c, now);
		break;
	case SMTP_REPLY_MEMORY:
		client_fire(c, CLIENT_ON_NO_MEMORY, now);
		client_run(c, now);
		break;
	}
	return taken;
}

static bool over(const struct psmtp_client *c)
{
	return c->phase == CLIENT_IN_CLOSING || c->phase == CLIENT_IN_CLOSED;
}

size_t psmtp_client_feed(struct psmtp_client *c, unsigned epoch, const void *bytes, size_t n, uint64_t now)
{
	struct view input = view_of(bytes, n);
	size_t used = 0;

	if (n == 0 || over(c))
		return n; /* nobody listens any more */
	/* RFC 3207 section 4.2: what arrived in clear stays in clear; during the handshake nothing is ours to read */
	if (epoch != c->epoch.number || client_phases[c->phase].clock == CLIENT_CLOCK_HANDSHAKE) {
		client_fire(c, CLIENT_ON_BEHIND, now);
		client_run(c, now);
		return n;
	}
	client_run(c, now);
	while (used < n && c->note_count == 0 && !over(c))
		used += reply_read(c, view_slice(input, used, n), now);
	return used;
}
