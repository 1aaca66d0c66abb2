/* check_state.c - checks 201 to 210: what survives the handshake.
 *
 * A server's state is seen in its replies alone.  Replies differ from server to server, so where a reply must be told
 * from another one, both are asked for first in a session where it is known which it is; where they do not differ,
 * nothing is claimed.
 */
#include "probe/inside.h"

#include "base/env.h"

#define NONCE 12 /* letters of a random label: 56 bits, so that no server says it by chance */

static void nonce(char to[NONCE + 1])
{
	for (unsigned i = 0; i < NONCE; i++)
		to[i] = (char)('a' + env_random_below(&env_real, 26));
	to[NONCE] = 0;
}

void probe_check_starttls_hidden(struct probe *p)
{
	struct probe_link l;

	if (!probe_open_tls(p, &l, NULL) || !probe_ehlo(&l))
		probe_untested(&l, "no EHLO inside TLS");
	else if (probe_has_word(&l.reply, "STARTTLS", NULL))
		probe_say(p, PROBE_FAIL, "STARTTLS is offered inside TLS");
	else
		probe_say(p, PROBE_PASS, "it is not offered");
	probe_leave(&l);
}

/* A STARTTLS inside TLS was answered. */
static void judge_second(struct probe_link *l)
{
	struct probe *p = l->p;
	struct probe_reply first = l->reply;

	if (first.code == 0)
		probe_say(p, PROBE_FAIL, "no reply: %s", probe_stuck(l));
	else if (first.code < 400)
		probe_say(p, PROBE_FAIL, "answered %s", probe_stuck(l));
	else if (probe_ask(l, "NOOP") != 250)
		probe_say(p, PROBE_FAIL, "answered %d %.100s, and NOOP after it: %s", first.code, first.text,
			  probe_stuck(l));
	else
		probe_say(p, first.code >= 500 ? PROBE_PASS : PROBE_NOTE, "%s: %d %.200s",
			  first.code >= 500 ? "refused" : "refused as if it might work later", first.code, first.text);
}

void probe_check_second_starttls(struct probe *p)
{
	struct probe_link l;

	if (!probe_open_tls(p, &l, NULL) || !probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO inside TLS");
	} else {
		probe_ask(&l, "STARTTLS");
		judge_second(&l);
	}
	probe_leave(&l);
}

void probe_check_mail_without_ehlo(struct probe *p)
{
	struct probe_link clear, l;
	bool needs;
	int code;

	/* a server that never asks for EHLO keeps nothing by not asking inside TLS */
	if (!probe_open(p, &clear) || !probe_ask(&clear, "MAIL FROM:<>")) {
		probe_untested(&clear, "no reply to MAIL");
		probe_leave(&clear);
		return;
	}
	code = clear.reply.code;
	/* refused, and taken after EHLO: so it is EHLO that was missing */
	needs = probe_refused(code) && probe_ehlo(&clear) && probe_ask(&clear, "MAIL FROM:<>") == 250;
	probe_leave(&clear);
	if (!probe_open_tls(p, &l, NULL) || !probe_ask(&l, "MAIL FROM:<>"))
		probe_untested(&l, "no reply to MAIL inside TLS");
	else if (probe_refused(l.reply.code))
		probe_say(p, PROBE_PASS, "refused: %s", probe_stuck(&l));
	else if (needs)
		probe_say(p, PROBE_FAIL,
			  "MAIL needs EHLO in clear (%d), and not inside TLS (%d): the clear one counts there", code,
			  l.reply.code);
	else
		probe_say(p, PROBE_NOTE,
			  "MAIL is taken without EHLO; in clear it is %s, so nothing is known of what survives",
			  probe_refused(code) ? "refused whatever was said before" : "as well");
	probe_leave(&l);
}

/* HELO was refused: because it is HELO, or because of our name? */
static void judge_helo(struct probe_link *l)
{
	struct probe_reply helo = l->reply;

	if (helo.code && !probe_ehlo(l))
		probe_say(l->p, PROBE_UNTESTED, "our name is not taken: %d %.200s", helo.code, helo.text);
	else if (helo.code)
		probe_say(l->p, PROBE_FAIL, "HELO is answered %d %.200s; EHLO is taken", helo.code, helo.text);
	else
		probe_say(l->p, PROBE_FAIL, "HELO is not answered: %s", probe_stuck(l));
}

void probe_check_helo_after_tls(struct probe *p)
{
	struct probe_link l;

	if (!probe_open_tls(p, &l, NULL))
		probe_untested(&l, "no TLS");
	else if (probe_ask(&l, "HELO %s", p->o->hello) != 250)
		judge_helo(&l);
	else if (l.reply.lines > 1)
		probe_say(p, PROBE_FAIL, "HELO is answered with %u lines, as only EHLO may be", l.reply.lines);
	else if (probe_ask(&l, "NOOP") != 250)
		probe_say(p, PROBE_FAIL, "after HELO the session is of no use: %s", probe_stuck(&l));
	else
		probe_say(p, PROBE_PASS, "it is taken");
	probe_leave(&l);
}

void probe_check_ehlo_name_survives(struct probe *p)
{
	static const char *const commands[] = { "NOOP", "HELP", "VRFY postmaster", "MAIL FROM:<>" };
	char word[NONCE + 1];
	struct probe_link l;
	const char *said = NULL;

	nonce(word);
	if (!probe_open(p, &l) || probe_ask(&l, "EHLO %s.%s", word, p->o->hello) != 250 || !probe_starttls(&l, NULL)) {
		probe_untested(&l, "no TLS after EHLO with a random name");
		probe_leave(&l);
		return;
	}
	for (unsigned i = 0; i < sizeof commands / sizeof *commands && !said; i++)
		if (probe_ask(&l, "%s", commands[i]) && strstr(l.reply.text, word))
			said = commands[i];
	if (!said && probe_ehlo(&l) && strstr(l.reply.text, word))
		said = "EHLO";
	if (said)
		probe_say(p, PROBE_FAIL, "the reply to %s names what was said in clear: %.200s", said, l.reply.text);
	else if (!l.reply.code)
		probe_untested(&l, "the session ended early");
	else
		probe_say(p, PROBE_PASS, "no reply inside TLS names it");
	probe_leave(&l);
}

/* ---- the envelope ---- */

struct envelope_words {
	char data_without[300], data_with[300], mail_without[300], mail_with[300];
};

static void ask_words(struct probe_link *l, const char *command, char to[300])
{
	int code = probe_ask(l, "%s", command);

	snprintf(to, 300, "%d %.280s", code, l->reply.text);
	if (code == 354) /* no recipient, and yet: an end that delivers to nobody */
		probe_ask(l, ".");
}

/* What the server says with and without a transaction, inside TLS. */
static bool learn_words(struct probe *p, struct envelope_words *w)
{
	struct probe_link l;
	bool ok = probe_open_tls(p, &l, NULL);

	if (ok) {
		ask_words(&l, "DATA", w->data_without);
		ask_words(&l, "MAIL FROM:<>", w->mail_without);
	}
	probe_leave(&l);
	ok = ok && probe_open_tls(p, &l, NULL) && probe_ehlo(&l) && probe_ask(&l, "MAIL FROM:<>") == 250;
	if (ok) {
		ask_words(&l, "DATA", w->data_with);
		ask_words(&l, "MAIL FROM:<>", w->mail_with);
	}
	probe_leave(&l);
	return ok;
}

static void judge_envelope(struct probe_link *l, const struct envelope_words *w)
{
	struct probe *p = l->p;
	char data[300], mail[300];

	ask_words(l, "DATA", data);
	ask_words(l, "MAIL FROM:<>", mail);
	if (strcmp(w->data_with, w->data_without) != 0 && strcmp(data, w->data_with) == 0)
		probe_say(p, PROBE_FAIL, "DATA is answered as inside a transaction: %s", data);
	else if (strcmp(w->mail_with, w->mail_without) != 0 && strcmp(mail, w->mail_with) == 0)
		probe_say(p, PROBE_FAIL, "MAIL is answered as inside a transaction: %s", mail);
	else if (strcmp(w->data_with, w->data_without) == 0 && strcmp(w->mail_with, w->mail_without) == 0)
		probe_say(p, PROBE_UNTESTED, "this server answers alike with and without a transaction");
	else if (strncmp(data, "0 ", 2) == 0 && strncmp(mail, "0 ", 2) == 0)
		probe_untested(l, "the session ended");
	else
		probe_say(p, PROBE_PASS, "it is gone");
}

void probe_check_envelope_survives(struct probe *p)
{
	struct envelope_words w = { "", "", "", "" };
	struct probe_link l;

	if (!learn_words(p, &w)) {
		probe_say(p, PROBE_UNTESTED, "no transaction could be begun inside TLS, to know its replies");
		return;
	}
	if (!probe_open(p, &l) || !probe_ehlo(&l))
		probe_untested(&l, "no EHLO");
	else if (probe_ask(&l, "MAIL FROM:<>") != 250 && probe_refused(l.reply.code))
		probe_say(p, PROBE_PASS, "no transaction can begin in clear: %s", probe_stuck(&l));
	else if (l.reply.code == 250 && probe_ask(&l, "STARTTLS") != 220 && probe_refused(l.reply.code))
		probe_say(p, PROBE_PASS, "STARTTLS is refused inside a transaction: %s", probe_stuck(&l));
	else if (l.reply.code != 220 || !probe_shake(&l, NULL))
		probe_untested(&l, "no TLS after MAIL");
	else
		judge_envelope(&l, &w);
	probe_leave(&l);
}

/* ---- capabilities ---- */

/* Words of `of` that are not in `in`, to `to`; their number. */
static unsigned difference(const char *of, const char *in, char *to, size_t room)
{
	unsigned n = 0;
	size_t at = 0;

	to[0] = 0;
	for (const char *p = of; *p;) {
		size_t line = strcspn(p, "\n"), word = strcspn(p, " \n");
		char one[100];

		snprintf(one, sizeof one, "%.*s", (int)word, p);
		if (word && word < sizeof one && !probe_word_in(in, one) && at + word + 2 < room) {
			at += (size_t)snprintf(to + at, room - at, "%s%s", n ? " " : "", one);
			n++;
		}
		p += line + (p[line] == '\n');
	}
	return n;
}

void probe_check_capabilities(struct probe *p)
{
	char inside[2000], lost[600], won[600];
	struct probe_link l;

	if (!probe_open_tls(p, &l, NULL) || !probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO inside TLS");
		probe_leave(&l);
		return;
	}
	probe_words(&l.reply, inside, sizeof inside);
	probe_leave(&l);
	difference(inside, p->survey.clear, won, sizeof won);
	difference(p->survey.clear, inside, lost, sizeof lost);
	if (probe_word_in(p->survey.clear, "REQUIRETLS"))
		probe_say(p, PROBE_FAIL, "REQUIRETLS is offered in clear, where it cannot be kept");
	else if (strcmp(lost, "STARTTLS") != 0 && lost[0] && probe_word_in(p->survey.clear, "STARTTLS") &&
		 strcmp(lost, "STARTTLS") != 0)
		probe_say(p, PROBE_NOTE, "gone inside TLS: %s; new: %s", lost, won[0] ? won : "nothing");
	else
		probe_say(p, PROBE_PASS, "gone inside TLS: %s; new: %s", lost[0] ? lost : "nothing",
			  won[0] ? won : "nothing");
}

/* ---- AUTH ---- */

static bool has_mechanism(struct view words, const char *mechanism)
{
	while (words.n) {
		size_t n = view_find(words, ' ');

		if (view_eq_nocase(view_slice(words, 0, n), view_cstr(mechanism)))
			return true;
		words = view_slice(words, n + 1, words.n);
	}
	return false;
}

void probe_check_auth_in_clear(struct probe *p)
{
	struct probe_link l;
	struct view mechanisms = { "", 0 };

	if (!probe_open(p, &l) || !probe_ehlo(&l))
		probe_untested(&l, "no EHLO");
	else if (!probe_has_word(&l.reply, "AUTH", &mechanisms))
		probe_say(p, PROBE_PASS, "AUTH is not offered in clear");
	else if (has_mechanism(mechanisms, "PLAIN") || has_mechanism(mechanisms, "LOGIN"))
		probe_say(p, probe_is_same_host(&l) ? PROBE_NOTE : PROBE_FAIL,
			  "AUTH %.*s is offered in clear: a client may send its password for all to read%s",
			  VIEW_ARGS(mechanisms),
			  probe_is_same_host(&l) ? "; but we come from the server's own address, which some trust"
						 : "");
	else
		probe_say(p, PROBE_PASS, "no mechanism that shows the password: %.*s", VIEW_ARGS(mechanisms));
	probe_leave(&l);
}

void probe_check_starttls_after_auth(struct probe *p)
{
	struct probe_link l;

	if (!probe_open_tls(p, &l, NULL) || !probe_ehlo(&l) || probe_authenticate(&l) != 235) {
		probe_untested(&l, "AUTH PLAIN inside TLS");
	} else {
		probe_ask(&l, "STARTTLS");
		judge_second(&l);
	}
	probe_leave(&l);
}

void probe_check_auth_survives(struct probe *p)
{
	struct probe_link l;
	struct view mechanisms = { "", 0 };

	if (!probe_open(p, &l) || !probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO");
	} else if (!probe_has_word(&l.reply, "AUTH", &mechanisms) || !has_mechanism(mechanisms, "PLAIN")) {
		probe_say(p, PROBE_PASS, "AUTH PLAIN is not offered in clear, so no identity can be brought along");
	} else if (probe_authenticate(&l) != 235) {
		probe_untested(&l, "AUTH PLAIN in clear");
	} else if (probe_ask(&l, "STARTTLS") != 220) {
		probe_say(p, l.reply.code ? PROBE_PASS : PROBE_UNTESTED, "STARTTLS after AUTH: %s", probe_stuck(&l));
	} else if (!probe_shake(&l, NULL) || !probe_ehlo(&l) || !probe_authenticate(&l)) {
		probe_untested(&l, "TLS after AUTH");
	} else if (l.reply.code == 503) {
		probe_say(p, PROBE_FAIL, "inside TLS it is still authenticated: %s", probe_stuck(&l));
	} else {
		probe_say(p, PROBE_PASS, "inside TLS it can authenticate anew: %s", probe_stuck(&l));
	}
	probe_leave(&l);
}
