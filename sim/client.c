/* client.c - clients with a script, good and bad; see ledger.h.
 *
 * A client sends its mails one after the other: EHLO, STARTTLS where it likes, MAIL, RCPT, DATA or BDAT, pipelined or not.
 * A trick breaks it off, slows it down, or makes it an attacker.  Replies are matched to what was asked, in order.
 */
#include "sim/ledger.h"
#include "sim/smtp.h"

#include <stdio.h>
#include <stdlib.h>

enum trick {
	TRICK_NONE = 1, TRICK_CLOSE, TRICK_RESET, TRICK_SLOW, TRICK_STALL, TRICK_SMUGGLE, TRICK_INJECT, TRICK_EARLY, TRICK_GARBAGE, TRICK_TLS,
	TRICK_HALF, TRICKS_END
};

enum ask { ASK_GREETING = 1, ASK_EHLO, ASK_STARTTLS, ASK_MAIL, ASK_RCPT, ASK_DATA, ASK_DOT, ASK_CHUNK, ASK_RSET, ASK_QUIT, ASK_GARBAGE, ASK_NOTHING };

#define ASKS_MAX 32

struct client {
	struct client *next;
	struct node *to;
	struct talk talk;
	enum trick trick;
	unsigned left;           /* mails to send */
	uint64_t cut_at;         /* octets written, after which the trick is played */
	bool gone, tls_wanted, tls_done, pipelining, chunking, dsn, starttls, played, may_pipeline;
	struct { enum ask what; unsigned rcpt; } asks[ASKS_MAX];
	unsigned asks_first, asks_n;
	struct mail *mail;
	bool mail_ok;
	int chunk_code;          /* of the first chunk that was refused */
	struct happening pause;
	bool pausing;
	char target[64];
};

static struct client *clients;

/* ---- mails ---- */

static const enum site choices[] = { SITE_KEEP, SITE_SINK, SITE_PLAIN, SITE_MAY, SITE_OWED, SITE_CHECK, SITE_BADCERT, SITE_MX, SITE_LMTP, SITE_VIA,
				     SITE_MAY, SITE_OWED, SITE_MX, SITE_VIA, SITE_PLAIN, SITE_KEEP, SITE_DANE, SITE_STS, SITE_ASTRAY };

static void add_rcpt(struct mail *m)
{
	static const int notifies[] = { 0, 0, 0, 0, 1, 4, 2 | 4, 4 | 8, 2 | 4 | 8, 2 };
	struct mail_rcpt *r = &m->rcpts[m->rcpts_n];

	r->site = choices[rng_below(&world.peers, sizeof choices / sizeof *choices)];
	if (r->site == SITE_VIA && world.nodes_n < 2)
		r->site = SITE_MAY;
	r->no = r->site != SITE_KEEP && r->site != SITE_SINK && rng_chance(&world.peers, 80);
	r->notify = notifies[rng_below(&world.peers, sizeof notifies / sizeof *notifies)];
	if (r->site == SITE_KEEP) /* mailboxes are few: one of a mail each */
		for (unsigned i = 0; i < m->rcpts_n; i++)
			if (m->rcpts[i].site == SITE_KEEP)
				return;
	if (r->site == SITE_KEEP)
		snprintf(r->address, sizeof r->address, "u%u@%s", (unsigned)rng_below(&world.peers, 4), sites[r->site].domain);
	else
		snprintf(r->address, sizeof r->address, "r%ux%u%s@%s", m->number, m->rcpts_n, r->no ? "no" : "", sites[r->site].domain);
	m->rcpts_n++;
}

static void add_lines(struct buf *b, size_t size)
{
	static const char *const odd[] = { ".\r\n", "..\r\n", ".hidden\r\n", "\r\n", "From here\r\n", "MAIL FROM:<x@y.test>\r\n", "QUIT\r\n" };

	while (size) {
		if (rng_chance(&world.peers, 100)) {
			buf_add(b, view_cstr(odd[rng_below(&world.peers, sizeof odd / sizeof *odd)]));
			size -= size < 3 ? size : 3;
			continue;
		}
		size_t n = 1 + rng_below(&world.peers, rng_chance(&world.peers, 50) ? 990 : 76), i;
		char line[1000];
		for (i = 0; i < n && i < size; i++)
			line[i] = (char)('a' + rng_below(&world.peers, 26));
		buf_add(b, view_of(line, i));
		buf_add(b, VIEW("\r\n"));
		size -= i;
	}
}

/* Ends that some servers take for the end of a message, each with another message behind it. */
static void add_smuggled(struct mail *m)
{
	static const char *const ends[] = { "\n.\r\n", "\n.\n", "\r.\r", "\r\n.\n", "\n.\r", "\r\n.\r", "x\n\r\n.\n" };

	m->bare = true;
	m->raw = buf_len(&m->body); /* from here on no dot is doubled */
	world_fault(FAULT_SMUGGLE);
	buf_add(&m->body, view_cstr(ends[rng_below(&world.peers, sizeof ends / sizeof *ends)]));
	buf_addf(&m->body, "MAIL FROM:<s%u@back.test>\r\nRCPT TO:<%s>\r\nDATA\r\nX-Smuggled: yes\r\n\r\nbad\r\n", m->number, m->rcpts[0].address);
}

static struct mail *make_mail(struct client *c)
{
	struct mail *m = ledger_mail();
	/* around what a segment takes, what gets a file of its own, what is kept in memory, and what credit is for */
	static const size_t sizes[] = { 0, 10, 300, 300, 300, 300, 2000, 2000, 2000, 9000, 9000, 30000, 30000, 70000 };
	unsigned n = 1 + (unsigned)rng_below(&world.peers, rng_chance(&world.peers, 700) ? 2 : RCPTS_MAX);

	m->node = c->to;
	if (!rng_chance(&world.peers, 60))
		snprintf(m->from, sizeof m->from, "s%u@back.test", m->number);
	for (unsigned i = 0; i < n; i++)
		add_rcpt(m);
	buf_addf(&m->body, "Subject: %u\r\nX-Sim: %u\r\nFrom: <a@src.test>\r\n\r\n", m->number, m->number);
	add_lines(&m->body, rng_chance(&world.peers, 15) ? 300000 : sizes[rng_below(&world.peers, sizeof sizes / sizeof *sizes)]);
	if (c->trick == TRICK_SMUGGLE)
		add_smuggled(m);
	if (world.broken == BREAK_SMUGGLED)
		m->bare = true;
	return m;
}

/* ---- the end ---- */

static void leave(struct client *c)
{
	struct client **at = &clients;

	if (c->gone)
		return;
	c->gone = true;
	happen_never(&c->pause);
	sock_close(c->talk.s);
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
}

/* The moment of a trick that depends on how much was written. */
static bool played_out(struct client *c)
{
	if (c->played || c->talk.out_n < c->cut_at)
		return false;
	c->played = true;
	world_fault(FAULT_CLIENT);
	switch (c->trick) {
	case TRICK_CLOSE: leave(c); return true;
	case TRICK_RESET: sock_reset(c->talk.s); leave(c); return true;
	case TRICK_STALL: c->pausing = true; return true; /* for ever: the server's deadline ends it */
	default: return false;
	}
}

/* ---- asking ---- */

static void push(struct client *c, enum ask what, unsigned rcpt)
{
	unsigned at = (c->asks_first + c->asks_n++) % ASKS_MAX;

	if (c->asks_n > ASKS_MAX)
		abort();
	c->asks[at].what = what;
	c->asks[at].rcpt = rcpt;
}

static void hello(struct client *c)
{
	talk_say(&c->talk, "EHLO client.test\r\n");
	push(c, ASK_EHLO, 0);
}

static void say_rcpt(struct client *c, unsigned i)
{
	const struct mail_rcpt *r = &c->mail->rcpts[i];
	char notify[60] = "";

	if (world.broken == BREAK_ASKED && c->dsn && r->notify & 1)
		snprintf(notify, sizeof notify, " NOTIFY=FAILURE,DELAY");
	else if (c->dsn && r->notify)
		snprintf(notify, sizeof notify, " NOTIFY=%s", r->notify & 1 ? "NEVER" : r->notify == 2 ? "SUCCESS" : r->notify == 4 ? "FAILURE"
			 : r->notify == (2 | 4) ? "SUCCESS,FAILURE" : r->notify == (4 | 8) ? "FAILURE,DELAY" : "SUCCESS,FAILURE,DELAY");
	talk_say(&c->talk, "RCPT TO:<%s>%s\r\n", r->address, notify);
	push(c, ASK_RCPT, i);
}

static void put_body(struct client *c)
{
	struct view rest = buf_view(&c->mail->body), line;
	struct buf out;
	size_t at = 0;

	/* dots are doubled at the beginnings of lines, which are behind CRLF alone */
	buf_init(&out, &alloc_libc, SIZE_MAX / 4);
	while (rest.n) {
		size_t end = 0;
		while (end + 1 < rest.n && !(rest.p[end] == '\r' && rest.p[end + 1] == '\n'))
			end++;
		line = view_slice(rest, 0, end + 2);
		if (line.p[0] == '.' && (!c->mail->raw || at < c->mail->raw))
			buf_add(&out, VIEW("."));
		at += line.n;
		buf_add(&out, line);
		rest = view_slice(rest, line.n, rest.n);
	}
	buf_add(&out, VIEW(".\r\n"));
	say("client %llu: (%zu octets of mail %u)", (unsigned long long)sock_number(c->talk.s), buf_len(&out), c->mail->number);
	rest = buf_view(&out);
	if (!c->played && c->cut_at > c->talk.out_n && c->cut_at < c->talk.out_n + rest.n && (c->trick == TRICK_CLOSE || c->trick == TRICK_RESET ||
	    c->trick == TRICK_STALL)) { /* in the middle of it */
		talk_put(&c->talk, rest.p, (size_t)(c->cut_at - c->talk.out_n));
		buf_free(&out);
		played_out(c);
		return;
	}
	talk_put(&c->talk, rest.p, rest.n);
	c->mail->dot_sent = true;
	push(c, ASK_DOT, 0);
	if (c->trick == TRICK_HALF && c->left == 1) { /* it says no more, and listens */
		world_fault(FAULT_CLIENT);
		sock_shut(c->talk.s);
	}
	buf_free(&out);
}

static void put_chunks(struct client *c)
{
	struct view rest = buf_view(&c->mail->body);

	while (rest.n) {
		size_t n = rng_chance(&world.peers, 500) ? rest.n : 1 + rng_below(&world.peers, rest.n);
		if (c->asks_n > ASKS_MAX - 4)
			n = rest.n;
		talk_say(&c->talk, "BDAT %zu%s\r\n", n, n == rest.n ? " LAST" : "");
		talk_put(&c->talk, rest.p, n);
		push(c, n == rest.n ? ASK_DOT : ASK_CHUNK, 0);
		rest = view_slice(rest, n, rest.n);
	}
	c->mail->dot_sent = true;
}

static void quit(struct client *c)
{
	talk_say(&c->talk, "QUIT\r\n");
	push(c, ASK_QUIT, 0);
}

static void next_mail(struct client *c)
{
	if (c->left == 0) {
		quit(c);
		return;
	}
	if (c->trick == TRICK_GARBAGE && !c->played) {
		c->played = true;
		world_fault(FAULT_CLIENT);
		talk_say(&c->talk, "\x01\xffSPAM ME<> \r\n");
		push(c, ASK_GARBAGE, 0);
	}
	c->mail = make_mail(c);
	c->mail_ok = false;
	c->chunk_code = 0;
	talk_say(&c->talk, "MAIL FROM:<%s>\r\n", c->mail->from);
	push(c, ASK_MAIL, 0);
	if (!c->pipelining)
		return;
	for (unsigned i = 0; i < c->mail->rcpts_n; i++)
		say_rcpt(c, i);
	if (!c->chunking) {
		talk_say(&c->talk, "DATA\r\n");
		push(c, ASK_DATA, 0);
	}
}

static void done_with_mail(struct client *c)
{
	c->left--;
	c->mail = NULL;
	next_mail(c);
}

static void reset_mail(struct client *c)
{
	talk_say(&c->talk, "RSET\r\n");
	push(c, ASK_RSET, 0);
}

/* ---- answers ---- */

static bool any_taken(const struct mail *m)
{
	for (unsigned i = 0; i < m->rcpts_n; i++)
		if (m->rcpts[i].taken)
			return true;
	return false;
}

static void extension(struct client *c, struct view word)
{
	c->may_pipeline = c->may_pipeline || view_eq_nocase(word, VIEW("PIPELINING"));
	c->starttls = c->starttls || view_eq_nocase(word, VIEW("STARTTLS"));
	c->dsn = c->dsn || view_eq_nocase(word, VIEW("DSN"));
	if (view_eq_nocase(word, VIEW("CHUNKING")) && c->trick != TRICK_SMUGGLE && c->trick != TRICK_HALF)
		c->chunking = rng_chance(&world.peers, 300);
}

static void after_hello(struct client *c)
{
	if (c->tls_wanted && c->starttls && !c->tls_done) {
		if (c->trick == TRICK_INJECT) {
			struct mail *m = c->mail = make_mail(c);
			m->bare = true; /* whatever comes of it is a fault */
			world_fault(FAULT_INJECTED);
			talk_say(&c->talk, "STARTTLS\r\nMAIL FROM:<%s>\r\nRCPT TO:<%s>\r\n", m->from, m->rcpts[0].address);
		} else {
			talk_say(&c->talk, "STARTTLS\r\n");
		}
		push(c, ASK_STARTTLS, 0);
		return;
	}
	c->pipelining = c->may_pipeline && rng_chance(&world.peers, 600);
	next_mail(c);
}

static void all_rcpts_answered(struct client *c)
{
	if (!any_taken(c->mail) && !c->pipelining)
		reset_mail(c);
	else if (c->chunking)
		put_chunks(c);
	else if (!c->pipelining) {
		talk_say(&c->talk, "DATA\r\n");
		push(c, ASK_DATA, 0);
	}
}

static void rcpt_answered(struct client *c, unsigned i, int code, struct view line)
{
	c->mail->rcpts[i].taken = code == 250;
	if (code >= 500 && c->mail_ok && c->trick == TRICK_NONE)
		law_broken("a fault of ours is a 4xx", "RCPT TO:<%s> was answered %.*s", c->mail->rcpts[i].address, VIEW_ARGS(line));
	if (i + 1 == c->mail->rcpts_n)
		all_rcpts_answered(c);
	else if (!c->pipelining)
		say_rcpt(c, i + 1);
}

static void mail_answered(struct client *c, int code, struct view line)
{
	bool clear = c->to->tls_required && c->talk.tls != TALK_UP;

	c->mail_ok = code == 250;
	if (clear && c->mail_ok)
		law_broken("never in clear when TLS is owed", "a listener that requires TLS took MAIL in clear");
	if (code >= 500 && !clear && c->trick == TRICK_NONE)
		law_broken("a fault of ours is a 4xx", "MAIL was answered %.*s", VIEW_ARGS(line));
	if (c->pipelining)
		return;
	if (c->mail_ok)
		say_rcpt(c, 0);
	else
		done_with_mail(c);
}

static void answered(struct client *c, int code, struct view line)
{
	enum ask what = ASK_NOTHING;
	unsigned rcpt = 0;

	if (c->asks_n) {
		what = c->asks[c->asks_first].what;
		rcpt = c->asks[c->asks_first].rcpt;
		c->asks_first = (c->asks_first + 1) % ASKS_MAX;
		c->asks_n--;
	}
	if (code == 421) { /* it ends the session, whatever was asked */
		if (what == ASK_DOT)
			ledger_answer(c->mail, code);
		leave(c);
		return;
	}
	switch (what) {
	case ASK_GREETING:
		if (code == 220 && c->trick != TRICK_EARLY)
			hello(c);
		else if (code != 220)
			leave(c);
		break;
	case ASK_EHLO:
		if (code == 250)
			after_hello(c);
		else
			leave(c);
		break;
	case ASK_STARTTLS:
		if (code != 220) {
			leave(c);
			break;
		}
		if (c->trick == TRICK_TLS)
			c->talk.fault = (enum talk_fault)rng_span(&world.peers, TALK_ALERT, TALK_FAULTS_END - 1);
		c->tls_done = true;
		c->starttls = c->may_pipeline = c->dsn = c->chunking = false;
		talk_start_tls(&c->talk);
		break;
	case ASK_MAIL: mail_answered(c, code, line); break;
	case ASK_RCPT: rcpt_answered(c, rcpt, code, line); break;
	case ASK_DATA:
		if (code == 354)
			put_body(c);
		else
			reset_mail(c);
		break;
	case ASK_GARBAGE: break;
	case ASK_CHUNK:
		if (code >= 400 && !c->chunk_code)
			c->chunk_code = code; /* what follows it is only its echo */
		break;
	case ASK_DOT:
		if (any_taken(c->mail))
			ledger_answer(c->mail, c->chunk_code ? c->chunk_code : code);
		done_with_mail(c);
		break;
	case ASK_RSET: done_with_mail(c); break;
	case ASK_QUIT: leave(c); break;
	case ASK_NOTHING: leave(c); break;
	}
}

static void paused(void *arg);

static void work(struct client *c)
{
	struct view line;
	bool was_up = c->talk.tls == TALK_UP;

	while (!c->gone && !c->pausing) {
		char copy[1100];
		int code;
		if (!talk_read(&c->talk)) {
			if (c->talk.fault != TALK_STALL)
				leave(c);
			return;
		}
		if (!was_up && c->talk.tls == TALK_UP) {
			was_up = true;
			hello(c);
		}
		if (!talk_line(&c->talk, &line))
			return;
		snprintf(copy, sizeof copy, "%.*s", VIEW_ARGS(line));
		talk_took(&c->talk);
		line = view_cstr(copy);
		say("client %llu < %s", (unsigned long long)sock_number(c->talk.s), copy);
		code = line.n >= 3 ? (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0') : 0;
		if (c->asks_n && c->asks[c->asks_first].what == ASK_EHLO && line.n > 4)
			extension(c, view_slice(line, 4, line.n));
		if (line.n > 3 && line.p[3] == '-')
			continue;
		if (c->trick == TRICK_SLOW && !c->pausing && rng_chance(&world.peers, 400)) {
			world_fault(FAULT_CLIENT);
			c->pausing = true;
			happen_in(&c->pause, rng_span(&world.peers, 1000, 200000), paused, c);
		}
		answered(c, code, line);
		if (!c->gone && played_out(c))
			return;
	}
}

static void paused(void *arg)
{
	struct client *c = arg;

	c->pausing = false;
	work(c);
}

static void on_opened(void *arg)
{
	struct client *c = arg;

	if (c->trick == TRICK_EARLY) {
		world_fault(FAULT_CLIENT);
		hello(c);
	}
}

static void on_data(void *arg)
{
	work(arg);
}

static void on_ended(void *arg, bool reset)
{
	struct client *c = arg;

	(void)reset;
	c->pausing = false;
	work(c); /* what was said before the end counts */
	leave(c);
}

void client_begin(const struct client_plan *p)
{
	static const struct sock_ops client_ops = { on_opened, on_data, on_ended };
	struct client *c = calloc(1, sizeof *c);
	static unsigned numbers;
	char from[64];

	if (!c)
		abort();
	c->to = p->to;
	c->trick = world.faults && p->trick ? (enum trick)p->trick : TRICK_NONE;
	c->left = p->mails;
	c->cut_at = UINT64_MAX;
	c->tls_wanted = c->trick == TRICK_INJECT || c->trick == TRICK_TLS || rng_chance(&world.peers, p->to->tls_required ? 900 : 500);
	if (c->trick == TRICK_CLOSE || c->trick == TRICK_RESET || c->trick == TRICK_STALL)
		c->cut_at = rng_below(&world.peers, rng_chance(&world.peers, 600) ? 700 : 20000);
	c->next = clients;
	clients = c;
	push(c, ASK_GREETING, 0);
	snprintf(from, sizeof from, "10.0.9.%u:%u", 1 + numbers % 20, 20000 + numbers);
	numbers++;
	snprintf(c->target, sizeof c->target, "%s:25", p->to->address);
	talk_init(&c->talk, NULL, false);
	c->talk.s = sock_dial(from, c->target, &client_ops, c);
}

unsigned client_tricks(void)
{
	return TRICKS_END;
}

unsigned clients_alive(void)
{
	unsigned n = 0;

	for (struct client *c = clients; c; c = c->next)
		n++;
	return n;
}
