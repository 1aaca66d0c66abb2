/* check_border.c - checks 401 to 403, the border of TLS; 501 and 502, lines and pipelining. */
#include "probe/inside.h"

#define GROUP_MAX 8 /* commands of the pipelined group */

/* What comes in clear after we spoke clear text where TLS was due. */
static void judge_clear(struct probe_link *l, const char *after)
{
	struct probe *p = l->p;
	int64_t until = probe_now() + probe_window(p);
	struct view v;

	while (buf_len(&l->in) < 4 && probe_fill(l, until) == 1)
		;
	v = buf_view(&l->in);
	if (v.n >= 3 && v.p[0] >= '2' && v.p[0] <= '5' && v.p[1] >= '0' && v.p[1] <= '9') {
		int code = probe_hear_for(l, probe_window(p));

		if (code && code < 400)
			probe_say(p, PROBE_FAIL, "%s the server goes on in clear: %s", after, probe_stuck(l));
		else
			probe_say(p, PROBE_PASS, "%s it refuses in clear: %s", after, probe_stuck(l));
	} else if (v.n) {
		probe_event(l, "%zu octets came, which are no reply", v.n);
		probe_say(p, PROBE_PASS, "no reply in clear: %s", v.p[0] == 21 ? "a TLS alert" : "octets of TLS");
	} else if (l->end != PROBE_OPEN) {
		probe_say(p, PROBE_PASS, "%s", l->why);
	} else {
		probe_say(p, PROBE_PASS, "no reply within %u ms", probe_window(p));
	}
}

void probe_check_plaintext_after_220(struct probe *p)
{
	struct probe_link l;
	char line[400];

	snprintf(line, sizeof line, "NOOP\r\nEHLO %.255s\r\n", p->o->hello);
	if (!probe_open_to_220(p, &l) || !probe_write_clear(&l, view_cstr(line)))
		probe_untested(&l, "no 220 to STARTTLS");
	else
		judge_clear(&l, "after its 220");
	probe_close(&l);
}

void probe_check_failed_handshake(struct probe *p)
{
	static const uint16_t nobodys[] = { 0xfefe }, group[] = { 29 };
	const struct probe_raw raw = { 0x0303, nobodys, group, 1, 1 };
	struct probe_raw_answer a;
	struct probe_link l;
	char line[400];

	snprintf(line, sizeof line, "EHLO %.255s\r\n", p->o->hello);
	if (!probe_open_to_220(p, &l)) {
		probe_untested(&l, "no 220 to STARTTLS");
	} else if (probe_raw_shake(&l, &raw, &a) && a.accepted) {
		probe_say(p, PROBE_FAIL, "the server takes a cipher that does not exist (%04x)", a.cipher);
	} else if (l.end != PROBE_OPEN || !probe_write_clear(&l, view_cstr(line))) {
		probe_say(p, PROBE_PASS, "%s", probe_stuck(&l));
	} else {
		judge_clear(&l, "after a failed handshake");
	}
	probe_close(&l);
}

void probe_check_close_notify(struct probe *p)
{
	struct probe_link l;
	int64_t until;

	if (!probe_open_tls(p, &l, NULL) || !probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO inside TLS");
		probe_close(&l);
		return;
	}
	probe_event(&l, "we send close_notify");
	SSL_shutdown(l.ssl);
	probe_write(&l, view_of("", 0));
	until = probe_now() + probe_window(p);
	while (probe_fill(&l, until) == 1)
		;
	if (l.end == PROBE_NOTIFIED)
		l.end = PROBE_OPEN; /* the TLS session is over; is the connection? */
	l.tls = false;
	l.why[0] = 0;
	if (l.end != PROBE_OPEN || !probe_write_clear(&l, VIEW("NOOP\r\n")))
		probe_say(p, PROBE_PASS, "the connection is closed");
	else
		judge_clear(&l, "after close_notify");
	probe_close(&l);
}

/* ---- pipelining ---- */

static const char *const group[] = { "NOOP", "XPRB", "RSET", "MAIL FROM:<>", "RSET", "NOOP" };
#define GROUP_COUNT (sizeof group / sizeof *group)

static bool one_by_one(struct probe_link *l, int codes[GROUP_MAX])
{
	for (unsigned i = 0; i < GROUP_COUNT; i++)
		if ((codes[i] = probe_ask(l, "%s", group[i])) == 0)
			return false;
	return true;
}

/* In one segment, or in two cut inside the fourth command. */
static bool at_once(struct probe_link *l, bool cut, int codes[GROUP_MAX])
{
	char all[200] = "";
	size_t n = 0, at;

	for (unsigned i = 0; i < GROUP_COUNT; i++)
		n += (size_t)snprintf(all + n, sizeof all - n, "%s\r\n", group[i]);
	at = cut ? n / 2 : n;
	l->reply = (struct probe_reply){ 0 };
	if (!probe_write(l, view_of(all, at)) || (at < n && !probe_write(l, view_of(all + at, n - at))))
		return false;
	for (unsigned i = 0; i < GROUP_COUNT; i++)
		codes[i] = probe_hear(l);
	return true;
}

/* Whether the replies are those of the commands said one by one; judged when not. */
static bool same(struct probe_link *l, const int *want, const int *got, const char *where)
{
	for (unsigned i = 0; i < GROUP_COUNT; i++)
		if (want[i] != got[i]) {
			if (got[i])
				probe_say(l->p, PROBE_FAIL,
					  "%s the reply to command %u of the group (%s) is %d; alone it is %d", where,
					  i + 1, group[i], got[i], want[i]);
			else
				probe_say(l->p, PROBE_FAIL, "%s command %u of the group (%s) gets no reply: %s", where,
					  i + 1, group[i], probe_stuck(l));
			return false;
		}
	return true;
}

void probe_check_pipelining_order(struct probe *p)
{
	int want[GROUP_MAX] = { 0 }, got[GROUP_MAX] = { 0 };
	struct probe_link l;
	bool clear = !p->o->implicit, ok;

	if (!p->survey.pipelining) {
		probe_say(p, PROBE_UNTESTED, "PIPELINING is not offered");
		return;
	}
	ok = (clear ? probe_open(p, &l) : probe_open_tls(p, &l, NULL)) && probe_ehlo(&l) && one_by_one(&l, want) &&
	     at_once(&l, false, got);
	if (!ok) {
		probe_untested(&l, "the session");
	} else if (same(&l, want, got, clear ? "in clear" : "inside TLS")) {
		probe_leave(&l);
		if (!clear || !p->survey.starttls) {
			probe_say(p, PROBE_PASS, "all answered, in order");
			return;
		}
		if (!probe_open_tls(p, &l, NULL) || !probe_ehlo(&l) || !one_by_one(&l, want) || !at_once(&l, true, got))
			probe_untested(&l, "the session inside TLS");
		else if (same(&l, want, got, "inside TLS"))
			probe_say(p, PROBE_PASS, "all answered, in order, in clear and inside TLS");
	}
	probe_leave(&l);
}

/* ---- line ends ---- */

/* How many NOOPs a line was taken for: its replies of 250.  -1: it got no reply at all. */
static int noops(struct probe *p, const char *line, struct probe_link *l)
{
	bool up = p->o->implicit ? probe_open_tls(p, l, NULL) : probe_open(p, l);
	int n = -1;

	if (up && probe_ehlo(l) && probe_write(l, view_cstr(line)) && probe_hear(l)) {
		n = l->reply.code == 250;
		for (unsigned i = 0; i < 3 && probe_listen(l) && probe_hear_for(l, probe_window(p)); i++)
			n += l->reply.code == 250;
	}
	probe_leave(l);
	return n;
}

void probe_check_line_ends(struct probe *p)
{
	struct probe_link l;
	int cr = noops(p, "NOOP\rNOOP\r\n", &l), lf;

	if (cr == -1 && l.end != PROBE_CLOSED) {
		probe_untested(&l, "NOOP CR NOOP");
		return;
	}
	lf = noops(p, "NOOP\nNOOP\r\n", &l);
	if (cr > 1)
		probe_say(p, PROBE_FAIL, "a bare CR ends a command: NOOP CR NOOP CR LF is answered as %d NOOPs", cr);
	else if (lf > 1)
		probe_say(p, PROBE_NOTE, "a bare LF ends a command: NOOP LF NOOP CR LF is answered as %d NOOPs", lf);
	else
		probe_say(p, PROBE_PASS, "neither does");
}
