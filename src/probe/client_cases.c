/* client_cases.c - cases 101 to 308: a sound server, what was learned in clear, and TLS that cannot be had. */
#include "probe/client_inside.h"

/* ---- a sound server ---- */

void client_case_starttls_used(struct client_probe *c)
{
	char words[200];

	if (!client_play(c))
		return;
	if (c->seen.delivered[1])
		client_pass(c, "");
	else
		client_say(c, PROBE_FAIL, "%s", client_outcome(c, words));
}

void client_case_ehlo_again(struct client_probe *c)
{
	char words[200];

	if (!client_play(c) || client_lacks_tls(c))
		return;
	for (unsigned i = 0; i < c->seen.connections; i++) {
		const char *inside = strchr(c->seen.trace[i].steps, '[');

		if (inside && inside[1] && !strchr("ExX", inside[1])) {
			client_say(c, PROBE_FAIL, "the first command inside TLS is another: %s", client_outcome(c, words));
			return;
		}
	}
	client_pass(c, "");
}

void client_case_patience(struct client_probe *c)
{
	static const struct { enum client_step step; bool tls; const char *words; } waits[] = {
		{ CLIENT_GREETING, false, "the greeting" }, { CLIENT_EHLO, false, "the reply to EHLO in clear" },
		{ CLIENT_STARTTLS, false, "the reply to STARTTLS" }, { CLIENT_EHLO, true, "the reply to EHLO inside TLS" },
		{ CLIENT_MAIL, true, "the reply to MAIL, without PIPELINING" },
	};

	for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++)
		c->script.answer[waits[i].step][waits[i].tls].late = true;
	c->script.words[1] = "8BITMIME\nSIZE 52428800";
	if (!client_play(c))
		return;
	for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++)
		if (c->seen.early[waits[i].step][waits[i].tls]) {
			client_say(c, PROBE_FAIL, "it does not wait for %s", waits[i].words);
			return;
		}
	client_pass(c, "");
}

void client_case_reply_forms(struct client_probe *c)
{
	char words[200];

	c->script.answer[CLIENT_GREETING][0].reply = "220-probe.invalid ESMTP\r\n220-a second line\r\n220 a third one\r\n";
	for (unsigned tls = 0; tls < 2; tls++) {
		c->script.answer[CLIENT_MAIL][tls].reply = "250\r\n";
		c->script.answer[CLIENT_RCPT][tls].reply = "259 2.1.5 fine, as far as anybody knows\r\n";
	}
	if (!client_play(c))
		return;
	if (c->seen.delivered[0] || c->seen.delivered[1])
		client_pass(c, "");
	else
		client_say(c, PROBE_FAIL, "%s", client_outcome(c, words));
}

/* ---- what was learned in clear ---- */

void client_case_size_forgotten(struct client_probe *c)
{
	char words[200];

	c->script.words[0] = "8BITMIME\nSIZE 1\nSTARTTLS";
	if (!client_play(c))
		return;
	if (client_did(&c->seen, CLIENT_MAIL, true))
		client_pass(c, "");
	else if (client_has_order(&c->seen, "!"))
		client_say(c, PROBE_UNTESTED, "the handshake failed: %s", client_outcome(c, words));
	else
		client_say(c, PROBE_FAIL, "it gives up by the SIZE that was said in clear: %s", client_outcome(c, words));
}

void client_case_parameters_forgotten(struct client_probe *c)
{
	static const char *const parameters[] = { " BODY=", " SMTPUTF8", " RET=", " ENVID=", " NOTIFY=", " ORCPT=" };

	c->script.words[1] = "PIPELINING\nSIZE 52428800";
	if (!client_play(c) || client_lacks_tls(c))
		return;
	for (unsigned i = 0; i < sizeof parameters / sizeof *parameters; i++)
		if (strcasestr(c->seen.parameters[1], parameters[i])) {
			client_say(c, PROBE_FAIL, "it says%s, which is not offered inside TLS", parameters[i]);
			return;
		}
	client_pass(c, "");
}

void client_case_pipelining_forgotten(struct client_probe *c)
{
	c->script.words[1] = "8BITMIME\nSIZE 52428800";
	c->script.answer[CLIENT_MAIL][1].late = true;
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (c->seen.pipelined[1] || c->seen.early[CLIENT_MAIL][1])
		client_say(c, PROBE_FAIL, "it sends commands behind MAIL without waiting for its reply");
	else
		client_pass(c, "");
}

void client_case_chunking_forgotten(struct client_probe *c)
{
	c->script.words[0] = "8BITMIME\nSIZE 52428800\nCHUNKING\nSTARTTLS";
	c->script.words[1] = "8BITMIME\nSIZE 52428800";
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (client_did(&c->seen, CLIENT_BDAT, true))
		client_say(c, PROBE_FAIL, "it says BDAT inside TLS, where CHUNKING is not offered");
	else
		client_pass(c, "");
}

void client_case_auth_forgotten(struct client_probe *c)
{
	c->script.words[0] = "8BITMIME\nSIZE 52428800\nAUTH PLAIN LOGIN\nSTARTTLS";
	c->script.words[1] = "8BITMIME\nSIZE 52428800";
	if (!client_play(c))
		return;
	if (client_did(&c->seen, CLIENT_AUTH, false))
		client_say(c, PROBE_FAIL, "it says AUTH in clear, where anybody can read it, though STARTTLS is offered");
	else if (client_did(&c->seen, CLIENT_AUTH, true))
		client_say(c, PROBE_FAIL, "it says AUTH inside TLS, where it is not offered");
	else if (!client_lacks_tls(c))
		client_pass(c, "");
}

void client_case_second_starttls(struct client_probe *c)
{
	c->script.words[1] = "PIPELINING\n8BITMIME\nSIZE 52428800\nSTARTTLS";
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (client_did(&c->seen, CLIENT_STARTTLS, true))
		client_say(c, PROBE_FAIL, "it says STARTTLS inside TLS");
	else
		client_pass(c, "");
}

void client_case_ehlo_refused_in_tls(struct client_probe *c)
{
	char words[200];

	c->script.answer[CLIENT_EHLO][1].reply = "502 5.5.1 not here\r\n";
	if (!client_play(c) || client_lacks_tls(c))
		return;
	if (client_has_order(&c->seen, "[EM") || client_has_order(&c->seen, "[M"))
		client_say(c, PROBE_FAIL, "it sends MAIL without a greeting: %s", client_outcome(c, words));
	else if (client_did(&c->seen, CLIENT_MAIL, true))
		client_say(c, PROBE_NOTE, "it falls back to HELO inside TLS, which RFC 5321 allows and no server of today wants: %s", client_outcome(c, words));
	else if (!client_judge_clear(c))
		client_pass(c, "the session is ended");
}

/* ---- when TLS cannot be had ---- */

static void play_without_tls(struct client_probe *c)
{
	if (client_play(c) && !client_judge_clear(c))
		client_pass(c, "nothing is sent in clear");
}

void client_case_stripped(struct client_probe *c)
{
	c->script.words[0] = "PIPELINING\n8BITMIME\nSIZE 52428800";
	play_without_tls(c);
}

void client_case_refused_454(struct client_probe *c)
{
	c->script.answer[CLIENT_STARTTLS][0].reply = "454 4.7.0 TLS is not available now\r\n";
	play_without_tls(c);
}

void client_case_ehlo_refused(struct client_probe *c)
{
	c->script.answer[CLIENT_EHLO][0].reply = "502 5.5.1 not here\r\n";
	play_without_tls(c);
}

void client_case_not_220(struct client_probe *c)
{
	c->script.answer[CLIENT_STARTTLS][0].reply = "250 2.0.0 fine\r\n";
	if (!client_play(c))
		return;
	if (client_has_order(&c->seen, "h"))
		client_say(c, PROBE_NOTE, "it sends a ClientHello, as RFC 5321 4.2.1 allows to who goes by the first digit");
	else if (!client_judge_clear(c))
		client_pass(c, "nothing is sent in clear");
}

void client_case_garbage(struct client_probe *c)
{
	c->script.after = CLIENT_AFTER_GARBAGE;
	play_without_tls(c);
}

void client_case_handshake_alert(struct client_probe *c)
{
	c->script.after = CLIENT_AFTER_ALERT;
	play_without_tls(c);
}

void client_case_closed_behind_220(struct client_probe *c)
{
	c->script.after = CLIENT_AFTER_CLOSE;
	play_without_tls(c);
}

void client_case_old_tls(struct client_probe *c)
{
	c->script.old_tls = true;
	if (!client_play(c))
		return;
	if (client_shook(&c->seen))
		client_say(c, PROBE_FAIL, "it agrees to TLS 1.0 or 1.1");
	else if (!client_judge_clear(c))
		client_pass(c, "the handshake is refused");
}
