/* client_judge.c - questions that cases ask about what was seen of a client, and the verdicts that many of them share. */
#include "probe/client_inside.h"

#include <stdio.h>

static const char letters[CLIENT_STEP_COUNT] = {
#define STEP(tag, command, letter, reply) [CLIENT_##tag] = letter,
	CLIENT_STEPS
#undef STEP
};

bool client_did(const struct client_seen *seen, enum client_step step, bool tls)
{
	for (unsigned i = 0; i < seen->connections; i++) {
		bool inside = false;

		for (const char *p = seen->trace[i].steps; *p; p++) {
			if (*p == '[' || *p == '%')
				inside = *p == '[';
			else if (*p == letters[step] && inside == tls)
				return true;
		}
	}
	return false;
}

bool client_shook(const struct client_seen *seen)
{
	return client_has_order(seen, "[");
}

bool client_went_on(const struct client_seen *seen)
{
	for (unsigned i = 0; i < seen->connections; i++) {
		const char *behind = strchr(seen->trace[i].steps, '%');

		if (behind && strpbrk(behind, "EHMRD"))
			return true;
	}
	return false;
}

bool client_has_order(const struct client_seen *seen, const char *steps)
{
	for (unsigned i = 0; i < seen->connections; i++)
		if (strstr(seen->trace[i].steps, steps))
			return true;
	return false;
}

bool client_judge_clear(struct client_probe *c)
{
	if (client_went_on(&c->seen)) {
		client_say(c, PROBE_FAIL, "it goes on in clear on a connection on which TLS was begun");
		return true;
	}
	if (!client_did(&c->seen, CLIENT_MAIL, false))
		return false;
	if (c->o->expect >= CLIENT_ENCRYPT)
		client_say(c, PROBE_FAIL, "it sends MAIL in clear, though TLS is owed (--expect)");
	else
		client_say(c, PROBE_NOTE, "it sends %s in clear, as a client may that takes TLS only where it can be had",
			   c->seen.delivered[0] ? "the message" : "MAIL");
	return true;
}

const char *client_outcome(const struct client_probe *c, char to[200])
{
	const struct client_seen *s = &c->seen;
	char traces[120] = "";

	for (unsigned i = 0; i < s->connections && strlen(traces) + 8 < sizeof traces; i++)
		snprintf(traces + strlen(traces), sizeof traces - strlen(traces), "%s%s", i ? " " : "", s->trace[i].steps);
	snprintf(to, 200, "%s (%s)", s->delivered[1] ? "the message is delivered inside TLS" : s->delivered[0] ? "the message is delivered in clear" :
	         "no message is delivered", traces[0] ? traces : "nothing was said");
	return to;
}

bool client_lacks_tls(struct client_probe *c)
{
	char words[200];

	if (client_shook(&c->seen))
		return false;
	client_say(c, PROBE_UNTESTED, "TLS did not come up: %s", client_outcome(c, words));
	return true;
}

void client_pass(struct client_probe *c, const char *what)
{
	char words[200];

	client_say(c, PROBE_PASS, "%s%s%s", what, *what ? "; " : "", client_outcome(c, words));
}
