/* client_cases_more.c - cases 401 to 708: replies injected, certificates, REQUIRETLS, odd replies, and ends. */
#include "probe/client_inside.h"

#define PLAIN_WORDS "8BITMIME\nSIZE 52428800" /* neither PIPELINING nor CHUNKING: each step waits for its reply */
#define OVERLONG 8000u                        /* octets: more than any buffer that was seen to cut a line */

/* ---- replies injected ---- */

static void judge_injected(struct client_probe *c, bool believed)
{
	char words[200];

	if (believed)
		client_say(c, PROBE_FAIL, "it believes inside TLS what came in clear: %s", client_outcome(c, words));
	else if (!client_judge_clear(c))
		client_pass(c, client_shook(&c->seen) ? "it is dropped silently" : "the session is ended");
}

static const char injected[] = "250-probe.invalid\r\n250-8BITMIME\r\n250 SIZE 52428800\r\n";

void client_case_injected_reply(struct client_probe *c)
{
	c->script.behind_220 = injected;
	c->script.answer[CLIENT_EHLO][1].late = true;
	if (client_play(c))
		judge_injected(c, c->seen.early[CLIENT_EHLO][1]);
}

void client_case_injected_segment(struct client_probe *c)
{
	c->script.segment = injected;
	c->script.answer[CLIENT_EHLO][1].late = true;
	if (client_play(c))
		judge_injected(c, c->seen.early[CLIENT_EHLO][1]);
}

void client_case_injected_partial(struct client_probe *c)
{
	bool refused;

	c->script.behind_220 = "550 ";
	/* one line, so that the two glued together are one refusal */
	c->script.answer[CLIENT_EHLO][1].reply = "250 probe.invalid\r\n";
	if (!client_play(c))
		return;
	refused = client_has_order(&c->seen, "[EH") || client_has_order(&c->seen, "[EQ") || client_has_order(&c->seen, "[Ex") ||
		  client_has_order(&c->seen, "[EX");
	judge_injected(c, refused);
}

static const char unasked[] = "250 2.1.0 fine\r\n250 2.1.5 fine\r\n354 go on\r\n";

void client_case_unasked_clear(struct client_probe *c)
{
	c->script.words[0] = PLAIN_WORDS;
	c->script.behind_ehlo[0] = unasked;
	c->script.answer[CLIENT_MAIL][0].late = true;
	if (!client_play(c))
		return;
	if (c->seen.early[CLIENT_MAIL][0]) /* no clause forbids it */
		client_say(c, PROBE_NOTE, "it takes a reply that came before MAIL for the reply to MAIL");
	else if (c->o->expect >= CLIENT_ENCRYPT && !client_did(&c->seen, CLIENT_MAIL, false))
		client_say(c, PROBE_UNTESTED, "it sends nothing in clear");
	else
		client_pass(c, client_did(&c->seen, CLIENT_MAIL, false) ? "they are dropped" : "the session is ended");
}

void client_case_unasked_tls(struct client_probe *c)
{
	c->script.words[1] = PLAIN_WORDS;
	c->script.behind_ehlo[1] = unasked;
	c->script.answer[CLIENT_MAIL][1].late = true;
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (c->seen.early[CLIENT_MAIL][1])
		client_say(c, PROBE_NOTE, "it takes a reply that came before MAIL for the reply to MAIL");
	else
		client_pass(c, client_did(&c->seen, CLIENT_MAIL, true) ? "they are dropped" : "the session is ended");
}

/* ---- certificates ---- */

static void play_certificate(struct client_probe *c, enum client_shown shown)
{
	c->script.shown = shown;
	if (!client_play(c))
		return;
	if (!client_did(&c->seen, CLIENT_MAIL, true)) {
		if (!client_judge_clear(c))
			client_pass(c, "it is refused");
	} else if (c->o->expect == CLIENT_VERIFY) {
		client_say(c, PROBE_FAIL, "it sends mail to a server whose certificate is not right, though that is owed (--expect verify)");
	} else {
		client_say(c, PROBE_NOTE, "it is taken, as a client may that does not verify");
	}
}

void client_case_self_signed(struct client_probe *c) { play_certificate(c, CLIENT_SHOWN_SELF); }
void client_case_wrong_name(struct client_probe *c) { play_certificate(c, CLIENT_SHOWN_WRONG); }
void client_case_expired(struct client_probe *c) { play_certificate(c, CLIENT_SHOWN_EXPIRED); }

/* ---- REQUIRETLS ---- */

void client_case_requiretls_in_clear(struct client_probe *c)
{
	c->script.words[0] = "8BITMIME\nSIZE 52428800\nREQUIRETLS\nSTARTTLS";
	if (!client_play(c))
		return;
	for (unsigned tls = 0; tls < 2; tls++)
		if (strcasestr(c->seen.parameters[tls], " REQUIRETLS")) {
			client_say(c, PROBE_FAIL, "it says REQUIRETLS %s", tls ? "inside TLS, where it is not offered" : "in clear");
			return;
		}
	client_pass(c, "");
}

void client_case_requiretls_missing(struct client_probe *c)
{
	if (!client_play(c))
		return;
	if (client_did(&c->seen, CLIENT_MAIL, false) || client_did(&c->seen, CLIENT_MAIL, true))
		client_say(c, PROBE_FAIL, "the message goes %s",
			   client_did(&c->seen, CLIENT_MAIL, false) ? "in clear" : "to a server that does not offer REQUIRETLS");
	else
		client_pass(c, "");
}

void client_case_requiretls_stripped(struct client_probe *c)
{
	c->script.words[0] = "8BITMIME\nSIZE 52428800\nREQUIRETLS";
	if (!client_play(c))
		return;
	if (client_did(&c->seen, CLIENT_MAIL, false))
		client_say(c, PROBE_FAIL, "the message goes in clear");
	else
		client_pass(c, "");
}

/* ---- refusals, odd replies, ends ---- */

void client_case_greeting_421(struct client_probe *c)
{
	char words[200];

	c->script.answer[CLIENT_GREETING][0].reply = "421 4.3.2 not now\r\n";
	if (!client_play(c))
		return;
	if (client_did(&c->seen, CLIENT_EHLO, false) || client_did(&c->seen, CLIENT_HELO, false) || client_did(&c->seen, CLIENT_MAIL, false))
		client_say(c, PROBE_FAIL, "it goes on: %s", client_outcome(c, words));
	else
		client_pass(c, "the attempt is ended");
}

/* MAIL inside TLS is answered by what is no success: nothing of the transaction should follow. */
static void play_mail(struct client_probe *c, const char *reply, enum probe_verdict bad, const char *what)
{
	char words[200];

	c->script.words[1] = PLAIN_WORDS;
	c->script.answer[CLIENT_MAIL][1].reply = reply;
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (client_has_order(&c->seen, "MR") || client_has_order(&c->seen, "MD"))
		client_say(c, bad, "%s: %s", what, client_outcome(c, words));
	else if (!client_judge_clear(c))
		client_pass(c, "the transaction is ended");
}

void client_case_closing_421(struct client_probe *c)
{
	play_mail(c, "421 4.3.2 closing\r\n", PROBE_FAIL, "it goes on after the 421");
}

void client_case_mixed_codes(struct client_probe *c)
{
	play_mail(c, "250-2.1.0 fine\r\n550 5.1.0 not fine\r\n", PROBE_NOTE, "it goes by the first line, as RFC 5321 4.2.1 allows");
}

void client_case_overlong_line(struct client_probe *c)
{
	static const char head[] = "250-", tail[] = "\r\n250-8BITMIME\r\n250 SIZE 52428800\r\n";
	char reply[sizeof head + OVERLONG + sizeof tail];
	size_t n = sizeof head - 1;
	char words[200];

	memcpy(reply, head, n);
	while (n < OVERLONG) { /* wherever it is cut, what follows begins with a code */
		memcpy(reply + n, "550 ", 4);
		n += 4;
	}
	memcpy(reply + n, tail, sizeof tail);
	c->script.answer[CLIENT_EHLO][1].reply = reply;
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (client_has_order(&c->seen, "[EH"))
		client_say(c, PROBE_FAIL, "it reads the line's tail as a refusal, and falls back to HELO: %s", client_outcome(c, words));
	else if (!client_judge_clear(c))
		client_pass(c, client_did(&c->seen, CLIENT_MAIL, true) ? "it is read as one line" : "the session is ended");
}

void client_case_flood(struct client_probe *c)
{
	char words[200];

	c->script.flood = true;
	if (!client_play(c))
		return;
	if (c->seen.flooded)
		client_say(c, PROBE_NOTE, "it reads all 13 MB: %s", client_outcome(c, words));
	else
		client_pass(c, "the session is ended");
}

void client_case_data_not_354(struct client_probe *c)
{
	char words[200];

	for (unsigned tls = 0; tls < 2; tls++)
		c->script.answer[CLIENT_DATA][tls].reply = "250 2.0.0 fine\r\n";
	c->script.words[0] = PLAIN_WORDS "\nSTARTTLS";
	c->script.words[1] = PLAIN_WORDS;
	if (!client_play(c))
		return;
	if (client_has_order(&c->seen, "D?"))
		client_say(c, PROBE_FAIL, "it sends the message: %s", client_outcome(c, words));
	else if (client_has_order(&c->seen, "D"))
		client_pass(c, "the transaction is ended");
	else
		client_say(c, PROBE_UNTESTED, "it did not come to DATA: %s", client_outcome(c, words));
}

void client_case_rcpt_refused(struct client_probe *c)
{
	char words[200];

	for (unsigned tls = 0; tls < 2; tls++)
		c->script.answer[CLIENT_RCPT][tls].reply = "550 5.1.1 nobody of that name\r\n";
	c->script.words[0] = PLAIN_WORDS "\nSTARTTLS";
	c->script.words[1] = PLAIN_WORDS;
	if (!client_play(c))
		return;
	if (client_has_order(&c->seen, "RD"))
		client_say(c, PROBE_FAIL, "it says DATA without a recipient: %s", client_outcome(c, words));
	else if (client_has_order(&c->seen, "R"))
		client_pass(c, "the transaction is ended");
	else
		client_say(c, PROBE_UNTESTED, "it did not come to RCPT: %s", client_outcome(c, words));
}

void client_case_close_notify(struct client_probe *c)
{
	c->script.words[1] = PLAIN_WORDS;
	c->script.notify = true;
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (!client_judge_clear(c))
		client_pass(c, "nothing is sent in clear");
}
