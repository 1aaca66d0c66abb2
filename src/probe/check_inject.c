/* check_inject.c - checks 301 to 305: commands that reach the server in clear and are executed inside TLS
 * (CVE-2011-0411).
 *
 * The oracle is a reply inside TLS to a command that was never said there.  First it is learned, in a sound session,
 * what the server answers to two commands whose replies have different codes; then each is put behind STARTTLS in turn.
 * A fail needs both extra replies, each with its own code: one stray line could be anything, two that follow what was
 * injected cannot. A server may execute at once, or when the next octets arrive: so after the handshake it is given
 * time in silence, and then EHLO, whose reply of several lines tells where the session is.
 */
#include "probe/inside.h"

/* How the octets of STARTTLS CRLF and the injected line are cut into segments. */
enum cut { CUT_NONE = 1, CUT_BEHIND, CUT_CRLF, CUT_COMMAND };

enum outcome {
	OUT_CLEAN = 1, /* the session is inside TLS, and only our own commands were answered */
	OUT_EXTRA,     /* a reply too many; its code is in `code` */
	OUT_REFUSED,   /* STARTTLS was not answered 220; its code */
	OUT_CLOSED,    /* the connection ended, or the handshake failed */
	OUT_CLEAR,     /* replies in clear behind the 220 */
	OUT_ODD        /* no STARTTLS could be said at all */
};

struct trial {
	enum outcome outcome;
	int code;
	char words[300];
};

/* Inside TLS, before EHLO, as the injected ones would be. */
struct oracle {
	const char *command[2];
	int code[2];
};

static bool learn(struct probe *p, struct oracle *o)
{
	static const char *const commands[] = { "NOOP", "XPRB", "RSET", "HELP", "VRFY postmaster" };
	int codes[5] = { 0 };
	struct probe_link l;
	bool ok = probe_open_tls(p, &l, NULL);

	for (unsigned i = 0; ok && i < 5; i++)
		ok = (codes[i] = probe_ask(&l, "%s", commands[i])) != 0;
	probe_leave(&l);
	o->command[0] = commands[0];
	o->code[0] = codes[0];
	for (unsigned i = 1; i < 5; i++)
		if (codes[0] && codes[i] && codes[i] != codes[0] && codes[i] != 421) {
			o->command[1] = commands[i];
			o->code[1] = codes[i];
			return true;
		}
	return false;
}

static bool write_cut(struct probe_link *l, const char *injected, enum cut cut)
{
	char all[200];
	int n = snprintf(all, sizeof all, "STARTTLS\r\n%s", injected);
	size_t at = cut == CUT_BEHIND ? 10 : cut == CUT_CRLF ? 9 : cut == CUT_COMMAND ? 12 : (size_t)n;

	l->reply = (struct probe_reply){ 0 };
	return probe_write(l, view_of(all, at)) &&
	       ((size_t)n == at || probe_write(l, view_of(all + at, (size_t)n - at)));
}

static void words(struct probe_link *l, struct trial *t, enum outcome outcome)
{
	t->outcome = outcome;
	t->code = l->reply.code;
	snprintf(t->words, sizeof t->words, "%s", probe_stuck(l));
}

/* Inside TLS: are there replies that we did not ask for? */
static void count_replies(struct probe_link *l, struct trial *t)
{
	if (probe_listen(l) && probe_hear_for(l, probe_window(l->p))) {
		words(l, t, OUT_EXTRA);
		return;
	}
	if (!probe_write(l, view_of("", 0)) || !probe_ehlo(l)) {
		/* the reply to EHLO has 250, and usually several lines; another code first may be the injected one's */
		if (l->reply.code && probe_listen(l))
			words(l, t, OUT_EXTRA);
		else
			words(l, t, l->reply.code ? OUT_CLEAN : OUT_CLOSED);
		return;
	}
	if (probe_listen(l))
		words(l, t, OUT_EXTRA); /* the first one was the injected command's: a 250 like EHLO's */
	else
		t->outcome = OUT_CLEAN;
}

static void attempt(struct probe *p, const char *injected, enum cut cut, struct trial *t)
{
	struct probe_link l;

	*t = (struct trial){ 0 };
	if (!probe_open(p, &l) || !probe_ehlo(&l)) {
		words(&l, t, OUT_ODD);
	} else if (!write_cut(&l, injected, cut) || probe_hear(&l) != 220) {
		words(&l, t, l.reply.code ? OUT_REFUSED : OUT_CLOSED);
	} else if (probe_listen(&l)) {
		/* an alert, when the octets reached a handshake that had begun, is no reply */
		words(&l, t, probe_hear_for(&l, probe_window(p)) ? OUT_CLEAR : OUT_CLOSED);
	} else if (!probe_shake(&l, NULL)) {
		words(&l, t, OUT_CLOSED);
	} else {
		count_replies(&l, t);
	}
	probe_leave(&l);
}

static const char *what(const struct trial *t)
{
	return t->outcome == OUT_CLEAN     ? "dropped silently"
	       : t->outcome == OUT_REFUSED ? "answered by an error"
	       : t->outcome == OUT_CLOSED  ? "the session ends"
					   : "unclear";
}

/* The first trial of a cut; the second command only when the first gave an extra reply.  False: judged, stop. */
static bool judge_cut(struct probe *p, const struct oracle *o, enum cut cut, struct trial *t)
{
	static const char *const cuts[] = { "", "in the same segment", "in the next segment", "cut inside CR LF",
					    "cut inside the command" };
	char line[64];
	struct trial second;

	snprintf(line, sizeof line, "%s\r\n", o->command[0]);
	attempt(p, line, cut, t);
	if (t->outcome == OUT_CLEAR) {
		probe_say(p, PROBE_FAIL, "a command %s is answered in clear behind the 220: %s", cuts[cut], t->words);
		return false;
	}
	if (t->outcome != OUT_EXTRA)
		return true;
	snprintf(line, sizeof line, "%s\r\n", o->command[1]);
	attempt(p, line, cut, &second);
	if (second.outcome == OUT_EXTRA && t->code == o->code[0] && second.code == o->code[1])
		probe_say(p, PROBE_FAIL, "commands %s are executed inside TLS: %s gave %s, %s gave %s", cuts[cut],
			  o->command[0], t->words, o->command[1], second.words);
	else
		probe_say(p, PROBE_NOTE,
			  "a reply inside TLS that was not asked for (%s), but it is not that of the command injected",
			  t->words);
	return false;
}

void probe_check_injected_same_segment(struct probe *p)
{
	struct oracle o;
	struct trial t;

	if (!learn(p, &o)) {
		probe_say(p, PROBE_UNTESTED, "no two commands with different replies");
		return;
	}
	if (!judge_cut(p, &o, CUT_NONE, &t))
		return;
	if (t.outcome == OUT_ODD)
		probe_say(p, PROBE_UNTESTED, "%s", t.words);
	else
		probe_say(p, PROBE_PASS, "%s%s%s", what(&t), t.outcome == OUT_CLEAN ? "" : ": ",
			  t.outcome == OUT_CLEAN ? "" : t.words);
}

void probe_check_injected_segments(struct probe *p)
{
	struct oracle o;
	struct trial t[3];

	if (!learn(p, &o)) {
		probe_say(p, PROBE_UNTESTED, "no two commands with different replies");
		return;
	}
	for (enum cut cut = CUT_BEHIND; cut <= CUT_COMMAND; cut++) {
		if (!judge_cut(p, &o, cut, &t[cut - CUT_BEHIND]))
			return;
		if (t[cut - CUT_BEHIND].outcome == OUT_ODD) {
			probe_say(p, PROBE_UNTESTED, "%s", t[cut - CUT_BEHIND].words);
			return;
		}
	}
	probe_say(p, PROBE_PASS, "cut behind STARTTLS: %s; inside CR LF: %s; inside the command: %s", what(&t[0]),
		  what(&t[1]), what(&t[2]));
}

/* MAIL inside TLS without EHLO there: its code, with `injected` behind STARTTLS. */
static int mail_after(struct probe *p, const char *injected, struct trial *t)
{
	struct probe_link l;
	int code = 0;

	*t = (struct trial){ 0 };
	if (!probe_open(p, &l) || !probe_ehlo(&l))
		words(&l, t, OUT_ODD);
	else if (!write_cut(&l, injected, CUT_NONE) || probe_hear(&l) != 220)
		words(&l, t, l.reply.code ? OUT_REFUSED : OUT_CLOSED);
	else if (!probe_shake(&l, NULL))
		words(&l, t, OUT_CLOSED);
	else if ((code = probe_ask(&l, "MAIL FROM:<>")) == 0)
		words(&l, t, OUT_CLOSED);
	else
		words(&l, t, OUT_CLEAN);
	probe_leave(&l);
	return code;
}

void probe_check_injected_silently(struct probe *p)
{
	char line[400];
	struct trial without, with;
	int before = mail_after(p, "", &without), after;

	if (without.outcome != OUT_CLEAN) {
		probe_say(p, PROBE_UNTESTED, "%s", without.words);
		return;
	}
	if (!probe_refused(before)) {
		probe_say(p, PROBE_UNTESTED,
			  "MAIL is taken without EHLO inside TLS, so an injected EHLO would not be seen by it; 301 and "
			  "302 look for its reply");
		return;
	}
	snprintf(line, sizeof line, "EHLO %.255s\r\n", p->o->hello);
	after = mail_after(p, line, &with);
	if (with.outcome == OUT_CLEAN && after == 250)
		probe_say(p, PROBE_FAIL,
			  "MAIL inside TLS is refused without EHLO (%d), and taken after an injected one", before);
	else if (with.outcome == OUT_ODD)
		probe_say(p, PROBE_UNTESTED, "%s", with.words);
	else
		probe_say(p, PROBE_PASS,
			  with.outcome == OUT_CLEAN ? "MAIL is refused as without it: %s" : "the session ends: %s",
			  with.words);
}

/* ---- a partial line ---- */

/* The code inside TLS of `rest`, after `begin` was left behind STARTTLS; "" for none. */
static int completed(struct probe *p, const char *begin, const char *rest, struct trial *t)
{
	struct probe_link l;
	int code = 0;

	*t = (struct trial){ 0 };
	if (!probe_open(p, &l) || !probe_ehlo(&l))
		words(&l, t, OUT_ODD);
	else if (!write_cut(&l, begin, CUT_NONE) || probe_hear(&l) != 220)
		words(&l, t, l.reply.code ? OUT_REFUSED : OUT_CLOSED);
	else if (!probe_shake(&l, NULL) || (code = probe_ask(&l, "%s", rest)) == 0)
		words(&l, t, OUT_CLOSED);
	else
		words(&l, t, OUT_CLEAN);
	probe_leave(&l);
	return code;
}

void probe_check_partial_line(struct probe *p)
{
	struct probe_link l;
	struct trial t;
	int noop = 0, op = 0, t_alone = 0, rset = 0, first, second;

	if (probe_open_tls(p, &l, NULL)) {
		noop = probe_ask(&l, "NOOP");
		op = probe_ask(&l, "OP");
		rset = probe_ask(&l, "RSET");
		t_alone = probe_ask(&l, "T");
	}
	probe_leave(&l);
	if (!noop || !op || noop == op) {
		probe_say(p, PROBE_UNTESTED, "NOOP and OP are answered alike inside TLS, or not at all");
		return;
	}
	first = completed(p, "NO", "OP", &t);
	if (t.outcome == OUT_ODD) {
		probe_say(p, PROBE_UNTESTED, "%s", t.words);
	} else if (t.outcome != OUT_CLEAN) {
		probe_say(p, PROBE_PASS, "%s: %s", what(&t), t.words);
	} else if (first != noop) {
		probe_say(p, PROBE_PASS, "it is dropped: the rest is answered %s", t.words);
	} else {
		second = completed(p, "RSE", "T", &t);
		if (second == rset && rset != t_alone)
			probe_say(
				p, PROBE_FAIL,
				"NO left in clear and OP inside TLS are answered as NOOP (%d), RSE and T as RSET (%d)",
				first, second);
		else
			probe_say(p, PROBE_NOTE, "OP after NO was answered %d, as NOOP is; but T after RSE %s", first,
				  t.words);
	}
}

void probe_check_injected_before_hello(struct probe *p)
{
	const struct probe_hello hello = { .before = "NOOP\r\n" };
	struct probe_link l;
	struct trial t = { 0 };

	if (!probe_open_to_220(p, &l)) {
		probe_untested(&l, "no 220 to STARTTLS");
	} else if (!probe_shake(&l, &hello)) {
		probe_say(p, PROBE_PASS, "no session comes of it: %s", probe_stuck(&l));
	} else {
		count_replies(&l, &t);
		if (t.outcome == OUT_EXTRA)
			probe_say(p, PROBE_FAIL, "it is executed inside TLS: %s", t.words);
		else
			probe_say(p, PROBE_FAIL,
				  "clear text in front of the ClientHello is skipped, and the handshake goes on");
	}
	probe_leave(&l);
}
