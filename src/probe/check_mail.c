/* check_mail.c - checks 701 to 706: where a message ends (CVE-2023-51764 and its sisters).
 *
 * Only with a recipient that the operator owns.  Each message says what it is.  The sequence in question stands in the
 * middle of the text; a server that ends the message there answers at once, while we are silent.  What follows the
 * sequence are words, not commands, so that nothing else is ever sent by a server that falls for it.
 */
#include "probe/inside.h"

#include "base/env.h"
#include "mail/date.h"

#define BEHIND "Behind.\r\n" /* no command anywhere */

/* Up to 354, inside TLS where there is TLS. */
static bool begin(struct probe *p, struct probe_link *l)
{
	bool tls = p->o->implicit || p->survey.starttls;

	/* a submission server wants to know who we are; a password does not go in clear for this */
	return (tls ? probe_open_tls(p, l, NULL) : probe_open(p, l)) && probe_ehlo(l) &&
	       (!p->o->login.n || !tls || !probe_has_word(&l->reply, "AUTH", NULL) || probe_authenticate(l) == 235) &&
	       probe_ask(l, "MAIL FROM:<%s>", p->o->sender) == 250 &&
	       probe_ask(l, "RCPT TO:<%s>", p->o->recipient) / 10 == 25 && probe_ask(l, "DATA") == 354;
}

static bool write_head(struct probe_link *l, const char *what)
{
	struct probe *p = l->p;
	char head[1600], date[MAIL_DATE_SIZE];

	mail_date_text(env_wall_ms(&env_real), date);
	snprintf(head, sizeof head,
		 "From: <%.250s>\r\nTo: <%.250s>\r\nSubject: postrider probe %u\r\nDate: %s\r\nMessage-ID: "
		 "<probe-%016llx@%.200s>\r\n"
		 "Auto-Submitted: auto-generated\r\n\r\nA test of where a message ends, made by postrider probe: "
		 "%s.\r\n",
		 p->o->sender, p->o->recipient, p->now->check->number, date,
		 (unsigned long long)env_random_u64(&env_real), p->o->hello, what);
	return probe_write(l, view_cstr(head));
}

/* A reply came before we ended the message.  2xx: it was ended by the sequence.  A refusal may be one of a server that
 * watches for such sequences and speaks at once; but when what follows the sequence is answered as a command, the
 * message had ended. */
static void judge_early(struct probe_link *l, const char *what, bool behind)
{
	struct probe_reply first = l->reply;
	bool command = false;

	if (first.code >= 400)
		command = (behind || probe_write(l, VIEW(BEHIND))) && probe_listen(l) && probe_hear(l) != 0;
	if (first.code < 400 || command)
		probe_say(l->p, PROBE_FAIL, "%s ends the message: %d %.200s%s", what, first.code, first.text,
			  command ? "; what follows is answered as a command" : "");
	else
		probe_say(l->p, PROBE_PASS, "the message is refused at once: %d %.200s", first.code, first.text);
}

/* First the sequence, and silence: a server that takes it for the end answers, also one that would not serve commands
 * which come before that answer.  Then more text: one may have waited for the octet behind a CR. */
static void end_variant(struct probe *p, const char *sequence, const char *what)
{
	struct probe_link l;
	char text[100];
	bool behind = false, early;

	snprintf(text, sizeof text, "Before.%s", sequence);
	if (!begin(p, &l) || !write_head(&l, what) || !probe_write(&l, view_cstr(text))) {
		probe_untested(&l, "no DATA");
		probe_leave(&l);
		return;
	}
	early = probe_listen(&l) && probe_hear(&l);
	if (!early && l.end == PROBE_OPEN) {
		behind = true;
		early = probe_write(&l, VIEW(BEHIND)) && probe_listen(&l) && probe_hear(&l);
	}
	if (early)
		judge_early(&l, what, behind);
	else if (probe_ask(&l, "."))
		probe_say(p, PROBE_PASS, "%s: %s", l.reply.code >= 500 ? "the message is refused" : "it is text",
			  probe_stuck(&l));
	else if (l.end == PROBE_OPEN)
		probe_say(p, PROBE_FAIL, "the message's end is not seen any more");
	else
		probe_say(p, PROBE_PASS, "%s", l.why);
	probe_leave(&l);
}

void probe_check_end_lf_dot_lf(struct probe *p)
{
	end_variant(p, "\n.\n", "LF . LF");
}

void probe_check_end_lf_dot_crlf(struct probe *p)
{
	end_variant(p, "\n.\r\n", "LF . CR LF");
}

void probe_check_end_crlf_dot_lf(struct probe *p)
{
	end_variant(p, "\r\n.\n", "CR LF . LF");
}

void probe_check_end_cr_dot_cr(struct probe *p)
{
	end_variant(p, "\r.\r", "CR . CR");
}

void probe_check_end_crlf_dot_cr(struct probe *p)
{
	end_variant(p, "\r\n.\r", "CR LF . CR");
}

/* The reply to a message with this inside: its code; 0 (judged) when there is none. */
static int bare(struct probe *p, const char *text, const char *what, char words[200])
{
	struct probe_link l;
	int code = 0;

	if (!begin(p, &l)) {
		probe_untested(&l, "no DATA");
	} else if (!write_head(&l, what) || !probe_write(&l, view_cstr(text)) || (code = probe_ask(&l, ".")) == 0) {
		if (l.end == PROBE_OPEN)
			probe_say(p, PROBE_FAIL, "a message with %s is never answered", what);
		else
			code = 554; /* closed: refused as hard as can be */
	}
	snprintf(words, 200, "%.190s", probe_stuck(&l));
	probe_leave(&l);
	return code;
}

void probe_check_bare_line_ends(struct probe *p)
{
	char lf_words[200], cr_words[200];
	int lf = bare(p, "A bare LF\nhere.\r\n", "a bare LF", lf_words), cr;

	if (!lf)
		return;
	cr = bare(p, "A bare CR\rhere.\r\n", "a bare CR", cr_words);
	if (!cr)
		return;
	if (lf >= 500 && cr >= 500)
		probe_say(p, PROBE_PASS, "both are refused: %s", lf_words);
	else if (lf >= 400 && cr >= 400)
		probe_say(p, PROBE_NOTE, "refused as if it might work later: %s; %s", lf_words, cr_words);
	else
		probe_say(p, PROBE_NOTE, "a bare LF: %s; a bare CR: %s", lf_words, cr_words);
}
