/* client_auth.c - the exchange of RFC 4954 section 4 as octets: base64 out and in, an initial response that fits.
 *
 * The mechanism is the caller's.  Responses are secrets: they pass through memory that is wiped, and are never in an
 * event or a log.  Failure: false when memory is out;
	a challenge that cannot be taken only leaves auth_decoded false.
 */
#include "smtp/base64.h"
#include "smtp/client_state.h"

static bool write_encoded(struct psmtp_client *c, struct view response)
{
	size_t n = SMTP_BASE64_ENCODED(response.n);

	if (!buf_reserve(&c->out, n + 2))
		return false;
	n = smtp_base64_encode(response, (char *)buf_tail(&c->out));
	buf_commit(&c->out, n);
	c->written += n;
	if (!client_add(c, VIEW("\r\n")))
		return false;
	c->epoch.said = c->written;
	return true;
}

static bool held_back(struct client_epoch *e)
{
	buf_clear(&e->auth);
	if (!buf_add(&e->auth, e->answer))
		return false;
	e->auth_held = true;
	return true;
}

bool client_auth_say(struct psmtp_client *c)
{
	struct client_epoch *e = &c->epoch;
	struct view mechanism = smtp_view(c->options.auth_mechanism);
	size_t line = sizeof "AUTH  \r\n" - 1 + mechanism.n + SMTP_BASE64_ENCODED(e->answer.n);

	e->auth_begun = true;
	/* RFC 4954 section 4: an empty response is said as =.  Only EXTERNAL has one that means something (RFC 4422
	 * appendix A); in all others nothing to say means that the server speaks first. */
	if (e->answer.n == 0)
		return client_say(c, "AUTH %.*s%s\r\n", VIEW_ARGS(mechanism), view_eq_nocase(mechanism,
			VIEW("EXTERNAL")) ? " =" : "");
	if (line > CLIENT_AUTH_COMMAND) /* section 4: then it must wait for the empty challenge */
		return held_back(e) && client_say(c, "AUTH %.*s\r\n", VIEW_ARGS(mechanism));
	return client_say(c, "AUTH %.*s ", VIEW_ARGS(mechanism)) && write_encoded(c, e->answer);
}

bool client_auth_reply(struct psmtp_client *c)
{
	return write_encoded(c, c->epoch.answer);
}

bool client_auth_held(struct psmtp_client *c)
{
	bool ok = write_encoded(c, buf_view(&c->epoch.auth));

	c->epoch.auth_held = false;
	buf_free(&c->epoch.auth);
	return ok;
}

void client_auth_decode(struct psmtp_client *c)
{
	struct client_epoch *e = &c->epoch;
	struct view text = smtp_view(client_reply(c).text);
	long n;

	e->auth_decoded = false;
	if (e->auth_held) /* what the server says before it has heard the response is nothing to the mechanism */
		return;
	buf_clear(&e->auth);
	if (++e->auth_rounds > CLIENT_AUTH_ROUNDS || !buf_reserve(&e->auth, SMTP_BASE64_DECODED(text.n) + 1))
		return;
	n = smtp_base64_decode(text, buf_tail(&e->auth));
	if (n == -1)
		return;
	buf_commit(&e->auth, (size_t)n);
	e->auth_decoded = true;
}

void client_auth_wipe(struct psmtp_client *c)
{
	buf_free(&c->epoch.auth);
	c->epoch.auth_held = false;
}

int psmtp_client_auth_answer(struct psmtp_client *c, struct psmtp_view response, bool cancel, uint64_t now)
{
	bool done;

	if (c->phase != CLIENT_IN_AUTH_ASK || c->note_count)
		return -1;
	if (!cancel && SMTP_BASE64_ENCODED(response.n) + 2 > CLIENT_AUTH_LINE)
		return -1;
	c->epoch.answer = smtp_view(response);
	done = client_fire(c, cancel ? CLIENT_ON_CANCEL : CLIENT_ON_RESPONSE, now);
	c->epoch.answer = VIEW("");
	client_run(c, now);
	return done ? 0 : -1;
}
