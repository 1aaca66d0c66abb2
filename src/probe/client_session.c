/* client_session.c - one connection of a client, answered as the script of its case wants; what it does goes into its trace.
 *
 * Every wait ends: a command has the probe's timeout, silence on our side has the window.  A client that has delivered and stays
 * (to send more mail later) is told 421 after a moment, so that the next case gets a connection of its own.
 */
#include "probe/client_inside.h"

#include "base/env.h"

#include <poll.h>
#include <stdlib.h>

#define SOUND_CLEAR "8BITMIME\nPIPELINING\nSIZE 52428800\nSMTPUTF8\nDSN\nSTARTTLS"
#define SOUND_TLS "8BITMIME\nPIPELINING\nSIZE 52428800\nSMTPUTF8\nDSN\nCHUNKING\nAUTH PLAIN LOGIN"
#define FLOOD_STEP (1u << 20)
#define FLOOD_STEPS 13u  /* MiB: what some clients were seen to swallow */
#define SESSION_WAITS 8u /* a session lasts at most so many times what one command may take */
#define SEGMENT_MS 20    /* between two segments that must not become one on the way */
#define RECORD_HANDSHAKE 22
#define IS_RECORD(v) ((v).n >= 3 && (v).p[0] >= 20 && (v).p[0] <= 23 && (v).p[1] == 3)

struct step_row { const char *command, *reply; char letter; };
static const struct step_row rows[CLIENT_STEP_COUNT] = {
#define STEP(tag, word, sign, text) [CLIENT_##tag] = { .command = word, .reply = text, .letter = sign },
	CLIENT_STEPS
#undef STEP
};

struct session {
	struct client_probe *c;
	struct probe_link *l;
	struct client_trace *trace;
	bool delivered, broken; /* broken: TLS was begun and is not there */
};

static void mark(struct session *s, char letter)
{
	if (s->trace->n < CLIENT_TRACE_MAX)
		s->trace->steps[s->trace->n++] = letter;
	s->trace->steps[s->trace->n] = 0;
}

static void heard(struct probe_link *l, struct view v)
{
	struct probe *p = l->p;

	probe_report_line(p->report, p->now, (uint32_t)(probe_now() - p->began_ms), l->number, PROBE_GOT, l->tls, v);
}

/* ---- what comes ---- */

/* Records of a TLS session that is no more, or never was: looked over, as a server would that has lost it. */
static bool skip_record(struct session *s)
{
	struct view v = buf_view(&s->l->in);
	size_t n = v.n >= 5 ? 5 + ((size_t)(unsigned char)v.p[3] << 8 | (unsigned char)v.p[4]) : 6;

	if (v.n < n)
		return false;
	heard(s->l, VIEW("(a record of TLS)"));
	buf_take(&s->l->in, n);
	return true;
}

enum got { GOT_LINE = 1, GOT_HELLO, GOT_END };

/* One line, without its end; it stays in l->in until it is taken. */
static enum got next_line(struct session *s, struct view *line, size_t *whole)
{
	struct probe_link *l = s->l;
	int64_t until = probe_now() + (s->delivered ? s->c->o->settle_ms : s->c->o->timeout_ms);
	bool over = false;

	for (;;) {
		struct view v = buf_view(&l->in);
		size_t lf = view_find(v, '\n');

		if (!l->tls && IS_RECORD(v)) {
			if (!s->broken)
				return GOT_HELLO;
			if (skip_record(s))
				continue;
		} else if (lf < v.n && lf < CLIENT_LINE_MAX) {
			*whole = lf + 1;
			*line = view_slice(v, 0, lf && v.p[lf - 1] == '\r' ? lf - 1 : lf);
			return GOT_LINE;
		} else if (v.n >= CLIENT_LINE_MAX) {
			probe_event(l, "a line of more than %u octets", CLIENT_LINE_MAX);
			return GOT_END;
		}
		if (over)
			return GOT_END;
		over = probe_fill(l, until) != 1; /* and once more round: a last line may come together with the end */
	}
}

static enum client_step step_of(struct view line)
{
	struct view word = view_slice(line, 0, view_find(line, ' '));

	for (enum client_step i = CLIENT_GREETING; i < CLIENT_STEP_COUNT; i++)
		if (rows[i].command[0] && view_eq_nocase(word, view_cstr(rows[i].command)))
			return i;
	return CLIENT_OTHER;
}

static void keep_parameters(struct client_seen *seen, bool tls, struct view line)
{
	char *to = seen->parameters[tls];
	size_t have = strlen(to);

	snprintf(to + have, CLIENT_PARAMETERS_MAX - have, "%.*s\n", VIEW_ARGS(line));
}

/* A message's text, to its end: CR LF . CR LF. */
static bool take_message(struct session *s)
{
	struct view line;
	size_t whole, octets = 0;
	int64_t until = probe_now() + 4 * (int64_t)s->c->o->timeout_ms;

	while (octets < CLIENT_MESSAGE_MAX && probe_now() < until && next_line(s, &line, &whole) == GOT_LINE) {
		bool end = view_eq(line, VIEW(".")) && whole == 3;

		buf_take(&s->l->in, whole);
		octets += whole;
		if (end) {
			probe_event(s->l, "the message's end, %zu octets", octets);
			return true;
		}
	}
	probe_event(s->l, "the message does not end");
	return false;
}

static bool take_chunk(struct session *s, size_t octets)
{
	int64_t until = probe_now() + s->c->o->timeout_ms;

	while (octets) {
		size_t n = buf_len(&s->l->in) < octets ? buf_len(&s->l->in) : octets;

		buf_take(&s->l->in, n);
		octets -= n;
		if (octets && probe_fill(s->l, until) != 1)
			return false;
	}
	return true;
}

/* ---- what goes ---- */

static bool write_ehlo(struct session *s, const char *words, const char *behind)
{
	struct view rest = view_cstr(words);
	struct buf b;
	bool ok;

	buf_init(&b, &alloc_libc, 65536);
	ok = buf_addf(&b, "250%cprobe.invalid\r\n", rest.n ? '-' : ' ');
	while (ok && rest.n) {
		size_t lf = view_find(rest, '\n');

		ok = buf_addf(&b, "250%c%.*s\r\n", lf < rest.n ? '-' : ' ', (int)lf, rest.p);
		rest = view_slice(rest, lf + 1, rest.n);
	}
	ok = ok && (!behind || buf_add(&b, view_cstr(behind))) && probe_write(s->l, buf_view(&b));
	buf_free(&b);
	return ok;
}

static bool write_flood(struct session *s)
{
	static const char line[] = "250-one more line of a reply without end, as long as a line may be or nearly so\r\n";
	struct buf b;
	bool ok = true;

	buf_init(&b, &alloc_libc, FLOOD_STEP * 2);
	while (ok && buf_len(&b) < FLOOD_STEP)
		ok = buf_add(&b, view_of(line, sizeof line - 1));
	s->l->shown = "(a MiB of lines that begin with 250-)";
	for (unsigned i = 0; ok && i < FLOOD_STEPS; i++)
		ok = probe_write(s->l, buf_view(&b));
	s->l->shown = NULL;
	buf_free(&b);
	return ok && probe_write(s->l, VIEW("250 STARTTLS\r\n"));
}

static const struct client_answer *answer_of(const struct session *s, enum client_step step)
{
	return &s->c->script.answer[step][s->l->tls];
}

/* The silence before a late answer: whoever speaks into it does not wait for us. */
static void keep_silent(struct session *s, enum client_step step)
{
	int64_t until = probe_now() + s->c->o->window_ms;

	if (!answer_of(s, step)->late)
		return;
	while (buf_len(&s->l->in) == 0 && probe_fill(s->l, until) == 1)
		;
	if (buf_len(&s->l->in)) {
		probe_event(s->l, "that came before our reply");
		heard(s->l, view_slice(buf_view(&s->l->in), 0, view_find(buf_view(&s->l->in), '\r')));
		s->c->seen.early[step][s->l->tls] = true;
	}
}

static bool answer(struct session *s, enum client_step step)
{
	const struct client_answer *a = answer_of(s, step);
	const struct client_script *script = &s->c->script;
	bool tls = s->l->tls;

	keep_silent(s, step);
	if (s->l->end != PROBE_OPEN)
		return false;
	if (step == CLIENT_EHLO && script->flood && !tls)
		return write_flood(s);
	if (step == CLIENT_EHLO && !a->reply)
		return write_ehlo(s, script->words[tls] ? script->words[tls] : tls ? SOUND_TLS : SOUND_CLEAR, script->behind_ehlo[tls]);
	return probe_write(s->l, view_cstr(a->reply ? a->reply : rows[step].reply));
}

/* ---- steps that are more than a reply ---- */

static bool is_class(const struct session *s, enum client_step step, char class)
{
	const struct client_answer *a = answer_of(s, step);

	return (a->reply ? a->reply : rows[step].reply)[0] == class;
}

/* The first octets behind the 220: a ClientHello, or commands in clear. */
static bool wait_for_hello(struct session *s)
{
	int64_t until = probe_now() + s->c->o->timeout_ms;

	while (buf_len(&s->l->in) < 3)
		if (probe_fill(s->l, until) != 1)
			return false;
	return buf_view(&s->l->in).p[0] == RECORD_HANDSHAKE;
}

/* What stands behind a 220: the handshake, or what the script has instead of it. */
static bool begin_tls(struct session *s)
{
	const struct client_script *script = &s->c->script;

	s->broken = true;
	if (!wait_for_hello(s)) {
		mark(s, s->l->end == PROBE_OPEN && buf_len(&s->l->in) ? '%' : '!');
		return s->l->end == PROBE_OPEN;
	}
	if (script->after == CLIENT_AFTER_SHAKE && client_shake(s->c, s->l, script)) {
		s->broken = false;
		mark(s, '[');
		return true;
	}
	mark(s, '!');
	mark(s, '%');
	if (script->after == CLIENT_AFTER_GARBAGE)
		return probe_write(s->l, VIEW("no TLS here\r\n250 2.0.0 fine\r\n250 2.0.0 fine\r\n"));
	if (script->after == CLIENT_AFTER_ALERT)
		return probe_write(s->l, VIEW("\x15\x03\x03\x00\x02\x02\x28")); /* fatal, handshake_failure */
	return s->l->end == PROBE_OPEN;
}

static bool starttls(struct session *s)
{
	const struct client_script *script = &s->c->script;
	struct buf both;
	bool ok;

	if (s->l->tls)
		return probe_write(s->l, VIEW("503 5.5.1 TLS is up\r\n"));
	if (answer_of(s, CLIENT_STARTTLS)->reply)
		return answer(s, CLIENT_STARTTLS);
	keep_silent(s, CLIENT_STARTTLS);
	buf_init(&both, &alloc_libc, 65536);
	ok = buf_add(&both, view_cstr(rows[CLIENT_STARTTLS].reply)) && (!script->behind_220 || buf_add(&both, view_cstr(script->behind_220))) &&
	     probe_write(s->l, buf_view(&both));
	buf_free(&both);
	if (ok && script->segment) {
		poll(NULL, 0, SEGMENT_MS);
		ok = probe_write(s->l, view_cstr(script->segment));
	}
	return ok && script->after != CLIENT_AFTER_CLOSE && begin_tls(s);
}

static bool data(struct session *s)
{
	if (!answer(s, CLIENT_DATA))
		return false;
	if (!is_class(s, CLIENT_DATA, '3'))
		return true;
	if (!take_message(s))
		return false;
	mark(s, '.');
	s->delivered = true;
	s->c->seen.delivered[s->l->tls]++;
	return answer(s, CLIENT_END);
}

static bool bdat(struct session *s, struct view line)
{
	struct view rest = view_trim(view_slice(line, 5, line.n)), number = view_slice(rest, 0, view_find(rest, ' '));
	uint64_t octets;
	bool last = view_ends_nocase(line, VIEW(" LAST"));

	if (!view_to_u64(number, &octets) || octets > CLIENT_MESSAGE_MAX)
		return probe_write(s->l, VIEW("501 5.5.4 not a chunk\r\n"));
	if (!take_chunk(s, (size_t)octets))
		return false;
	if (last) {
		mark(s, '.');
		s->delivered = true;
		s->c->seen.delivered[s->l->tls]++;
	}
	return answer(s, CLIENT_BDAT);
}

/* Whoever the client says it is, it is taken; what it says is not shown. */
static bool auth(struct session *s, bool login, bool initial)
{
	struct view line;
	size_t whole;

	for (unsigned i = initial ? 1 : 0; i < (login ? 2u : 1u); i++) {
		if (!probe_write(s->l, login ? i == 0 ? VIEW("334 VXNlcm5hbWU6\r\n") : VIEW("334 UGFzc3dvcmQ6\r\n") : VIEW("334 \r\n")) ||
		    next_line(s, &line, &whole) != GOT_LINE)
			return false;
		heard(s->l, VIEW("(a line of AUTH, not shown)"));
		buf_take(&s->l->in, whole);
	}
	return answer(s, CLIENT_AUTH);
}

/* ---- the dialog ---- */

static bool act(struct session *s, enum client_step step, struct view line)
{
	bool login = view_starts_nocase(line, VIEW("AUTH LOGIN")), initial = view_find(view_slice(line, 5, line.n), ' ') + 5 < line.n;

	switch (step) {
	case CLIENT_STARTTLS: return starttls(s);
	case CLIENT_DATA: return data(s);
	case CLIENT_BDAT: return bdat(s, line);
	case CLIENT_AUTH: return auth(s, login, initial);
	case CLIENT_QUIT: answer(s, step); return false;
	case CLIENT_MAIL:
		if (!answer(s, step))
			return false;
		if (s->c->script.notify && s->l->tls) {
			client_notify(s->l);
			s->broken = true;
			mark(s, '%');
		}
		return true;
	default: return answer(s, step);
	}
}

/* One command.  False: it was the last. */
static bool turn(struct session *s)
{
	char words[CLIENT_LINE_MAX + 1];
	struct view line;
	size_t whole;
	enum client_step step;
	bool ok;

	switch (next_line(s, &line, &whole)) {
	case GOT_HELLO: probe_event(s->l, "a ClientHello"); mark(s, 'h'); return false;
	case GOT_END: mark(s, s->l->end == PROBE_OPEN ? 'X' : 'x'); return false;
	default: break;
	}
	/* a copy: the buffer moves when more comes */
	memcpy(words, line.p, line.n);
	words[line.n] = 0;
	line.p = words;
	buf_take(&s->l->in, whole);
	step = step_of(line);
	heard(s->l, step == CLIENT_AUTH ? VIEW("AUTH (the rest is not shown)") : line);
	mark(s, rows[step].letter);
	if (step == CLIENT_MAIL || step == CLIENT_RCPT) {
		keep_parameters(&s->c->seen, s->l->tls, line);
		s->c->seen.pipelined[s->l->tls] = s->c->seen.pipelined[s->l->tls] || buf_len(&s->l->in);
	}
	ok = act(s, step, line);
	if (!ok && s->l->end != PROBE_OPEN && step != CLIENT_QUIT)
		mark(s, 'x');
	return ok;
}

void client_serve(struct client_probe *c, struct probe_link *l, struct client_trace *trace)
{
	struct session s = { c, l, trace, false, false };
	int64_t until = probe_now() + SESSION_WAITS * (int64_t)c->o->timeout_ms;
	unsigned turns = 0;
	bool ok = answer(&s, CLIENT_GREETING);

	while (ok && turns++ < CLIENT_TRACE_MAX && probe_now() < until)
		ok = turn(&s);
	/* the flood is swallowed when something came behind it */
	if (c->script.flood && trace->n > 1 && trace->steps[1] != 'x')
		c->seen.flooded = true;
	if (l->end == PROBE_OPEN && trace->n && trace->steps[trace->n - 1] == 'X')
		probe_write(l, VIEW("421 4.4.2 bye\r\n"));
}
