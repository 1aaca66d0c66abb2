/* hop.c - next hops with a script: an SMTP or LMTP server of its own making, good or bad by dice; see ledger.h.
 *
 * What it takes it books in the ledger; what it refuses for good it books as a cause for a bounce.  It judges two laws where
 * they can be broken: nothing in clear where TLS is owed, and no more deliveries at once than the destination's window.
 */
#include "sim/ledger.h"
#include "sim/smtp.h"

#include <stdio.h>
#include <stdlib.h>

struct hop {
	struct hop *next;
	enum site site;
	char address[64];
	unsigned window, badness; /* badness: permille of bad luck at each step */
	char identity[64];        /* what its certificate says */
	bool strips, plain;       /* STARTTLS: taken out of EHLO's answer; never offered */
	struct visit *visits;
};

struct visit { /* one connection */
	struct visit *next;
	struct hop *hop;
	struct talk talk;
	struct node *from_node;
	bool impostor;            /* it has another's certificate this time */
	bool greeted, gone, stalled, waits, in_data, esmtp, chunking, dsn;
	char from[64];
	bool has_from;
	struct mail_rcpt *rcpts[RCPTS_MAX];
	char back[RCPTS_MAX][64]; /* SITE_BACK: whose reports */
	unsigned rcpts_n;
	struct buf text;
	uint64_t chunk;           /* octets of a BDAT that are still to come */
	bool chunk_last, in_chunk;
	unsigned first_copy, end_copy; /* whose 250 was sent and not yet known to be read */
	struct happening later;
	void (*after)(struct visit *);
};

static struct hop *hops;

static bool owed(const struct hop *h)
{
	return sites[h->site].tls_owed || (world.broken == BREAK_STRIP && h->site == SITE_MAY);
}

static bool bad(struct visit *v, unsigned divide)
{
	return world.faults && v->hop->badness && rng_chance(&world.peers, v->hop->badness / divide);
}

static void leave(struct visit *v)
{
	struct visit **at = &v->hop->visits;

	if (v->gone)
		return;
	v->gone = true;
	happen_never(&v->later);
	sock_close(v->talk.s);
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
}

/* Bad luck that ends or stops the dialog at this step.  True: nothing more is said. */
static bool broke(struct visit *v)
{
	if (!bad(v, 2))
		return false;
	world_fault(FAULT_HOP_CLOSED);
	switch (rng_below(&world.peers, 4)) {
	case 0: leave(v); break;
	case 1: sock_reset(v->talk.s); leave(v); break;
	case 2:
		talk_say(&v->talk, "421 4.3.2 going away\r\n");
		leave(v);
		break;
	default:
		say("hop %llu says nothing more", (unsigned long long)sock_number(v->talk.s));
		v->stalled = true;
	}
	return true;
}

/* ---- a message ---- */

static void end_transaction(struct visit *v)
{
	v->has_from = false;
	v->rcpts_n = 0;
	v->in_data = v->in_chunk = false;
	buf_free(&v->text);
}

static void take(struct visit *v)
{
	v->first_copy = copies_n;
	if (v->hop->site == SITE_BACK) {
		for (unsigned i = 0; i < v->rcpts_n; i++)
			ledger_report(v->back[i], buf_view(&v->text));
	} else {
		if (world.broken == BREAK_CORRUPT)
			v->text.mem[v->text.wr - 3] ^= 1;
		ledger_delivered(v->hop->site, v->from_node, (unsigned)sock_number(v->talk.s), view_cstr(v->from), v->rcpts, v->rcpts_n,
				 buf_view(&v->text), false);
	}
	v->end_copy = copies_n;
}

static void refuse_all(struct visit *v, const char *why)
{
	for (unsigned i = 0; i < v->rcpts_n && v->hop->site != SITE_BACK; i++)
		ledger_refused(view_cstr(v->rcpts[i]->address), why);
}

static void answer_taken(struct visit *v)
{
	unsigned n = v->hop->site == SITE_LMTP ? v->rcpts_n : 1;

	while (n--)
		talk_say(&v->talk, "250 2.0.0 taken\r\n");
	end_transaction(v);
}

static void go_on(void *arg);

/* The final dot, or the last chunk. */
static void whole(struct visit *v)
{
	bool lasting;

	v->in_data = false;
	if (!bad(v, 1)) {
		take(v);
		answer_taken(v);
		return;
	}
	switch (rng_below(&world.peers, 5)) {
	case 0: /* taken, and the answer is lost */
		world_fault(FAULT_HOP_LATE);
		take(v);
		leave(v);
		return;
	case 1: /* taken, and the answer is late */
		world_fault(FAULT_HOP_LATE);
		take(v);
		v->waits = true;
		v->after = answer_taken;
		happen_in(&v->later, rng_span(&world.peers, 1000, 1500000), go_on, v);
		return;
	case 2: /* not taken */
		world_fault(FAULT_HOP_CLOSED);
		leave(v);
		return;
	default:
		lasting = v->hop->site != SITE_BACK && rng_chance(&world.peers, 300);
		world_fault(lasting ? FAULT_HOP_5XX : FAULT_HOP_4XX);
		if (lasting)
			refuse_all(v, "5xx to the final dot");
		for (unsigned n = v->hop->site == SITE_LMTP ? v->rcpts_n : 1; n; n--)
			talk_say(&v->talk, lasting ? "554 5.7.1 not this\r\n" : "451 4.3.0 not now\r\n");
		end_transaction(v);
	}
}

/* ---- limits ---- */

static void check_window(struct visit *v)
{
	/* a reload that takes a TLS level away makes two destinations of one host: old mail keeps its level, and its own window */
	bool two = v->hop->site == SITE_OWED && v->from_node && v->from_node->relaxed_at;
	unsigned n = 0, all = 0, allowed = v->hop->window * (two ? 2 : 1);

	for (struct hop *h = hops; h; h = h->next)
		for (struct visit *o = h->visits; o; o = o->next)
			if (o->rcpts_n > 0 && o->from_node == v->from_node && sock_wanted(o->talk.s)) {
				all++;
				n += h->site == v->hop->site;
			}
	if (world.broken == BREAK_WINDOW)
		n *= 4;
	if (v->from_node && all > v->from_node->deliveries)
		law_broken("limits of destinations are kept", "%u deliveries at once, %u are allowed", all, v->from_node->deliveries);
	if (v->from_node && n > allowed)
		law_broken("limits of destinations are kept", "%u deliveries at once to %s, %u are allowed", n, sites[v->hop->site].domain,
			   allowed);
}

/* ---- commands ---- */

static void hello(struct visit *v, bool esmtp)
{
	bool tls = !v->hop->plain && v->talk.tls == TALK_CLEAR && !v->hop->strips;

	end_transaction(v);
	if (esmtp && bad(v, 6)) {
		talk_say(&v->talk, "502 5.5.1 what is that\r\n");
		return;
	}
	v->esmtp = esmtp;
	if (!esmtp) {
		talk_say(&v->talk, "250 hop.test\r\n");
		return;
	}
	if (!v->hop->plain && v->hop->strips)
		world_fault(FAULT_STRIPPED);
	v->chunking = rng_chance(&world.peers, 400);
	v->dsn = rng_chance(&world.peers, 500);
	talk_say(&v->talk, "250-hop.test\r\n%s%s%s%s250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n", rng_chance(&world.peers, 800) ? "250-PIPELINING\r\n" : "",
		 tls ? "250-STARTTLS\r\n" : "", v->chunking ? "250-CHUNKING\r\n" : "", v->dsn ? "250-DSN\r\n" : "");
}

static void starttls(struct visit *v)
{
	if (v->hop->plain || v->talk.tls != TALK_CLEAR) {
		talk_say(&v->talk, "502 5.5.1 no\r\n");
		return;
	}
	if (bad(v, 2)) {
		world_fault(FAULT_STRIPPED);
		talk_say(&v->talk, "454 4.7.0 TLS is not available\r\n");
		return;
	}
	if (bad(v, 3)) {
		world_fault(FAULT_INJECTED);
		talk_say(&v->talk, "220 2.0.0 go\r\n250-evil\r\n250 PIPELINING\r\n");
	} else {
		talk_say(&v->talk, "220 2.0.0 go\r\n");
	}
	v->impostor = v->hop->site == SITE_BADCERT || v->hop->site == SITE_ASTRAY || bad(v, 2);
	if (v->impostor)
		world_fault(FAULT_IMPOSTOR);
	v->talk.identity = world.broken == BREAK_TRUST ? "" : v->impostor ? "somebody else" : v->hop->identity;
	if (bad(v, 2))
		v->talk.fault = (enum talk_fault)rng_span(&world.peers, TALK_ALERT, TALK_FAULTS_END - 1);
	talk_start_tls(&v->talk);
	end_transaction(v);
}

static struct view path_of(struct view line)
{
	size_t from = view_find(line, '<') + 1, to = view_find(line, '>');

	return from <= to && to < line.n ? view_slice(line, from, to) : VIEW("");
}

/* What was accepted before a reload took the level away keeps it (design.md 1.3). */
static bool still_owed(const struct visit *v, struct view sender)
{
	struct mail *m;
	struct mail_rcpt *r;

	if (!owed(v->hop) || v->hop->site != SITE_OWED || !v->from_node || !v->from_node->relaxed_at)
		return owed(v->hop);
	return ledger_address(sender, &m, &r) && m->told && m->told < v->from_node->relaxed_at;
}

static void mail_from(struct visit *v, struct view line)
{
	struct view path = path_of(line);

	if (still_owed(v, path) && v->talk.tls != TALK_UP)
		law_broken("never in clear when TLS is owed", "%s: %.*s", sites[v->hop->site].domain, VIEW_ARGS(line));
	if (still_owed(v, path) && sites[v->hop->site].verified && v->impostor)
		law_broken("never to somebody else when a name is owed", "%s: %.*s", sites[v->hop->site].domain, VIEW_ARGS(line));
	if (v->has_from) {
		talk_say(&v->talk, "503 5.5.1 nested MAIL\r\n");
		return;
	}
	if (bad(v, 2)) {
		world_fault(FAULT_HOP_4XX);
		talk_say(&v->talk, "451 4.3.0 not now\r\n");
		return;
	}
	snprintf(v->from, sizeof v->from, "%s%.*s", world.broken == BREAK_ASTRAY ? "x" : "", VIEW_ARGS(path));
	v->has_from = true;
	talk_say(&v->talk, "250 2.1.0 ok\r\n");
}

static void refuse_rcpt(struct visit *v, struct view path, const char *why)
{
	world_fault(FAULT_HOP_5XX);
	ledger_refused(path, why);
	talk_say(&v->talk, "550 5.1.1 %s\r\n", why);
}

static void rcpt_to(struct visit *v, struct view line)
{
	struct view path = path_of(line);
	struct mail *m;
	struct mail_rcpt *r;

	if (!v->has_from) {
		talk_say(&v->talk, "503 5.5.1 MAIL first\r\n");
		return;
	}
	if (!ledger_address(path, &m, &r)) {
		law_broken("mail goes where it was sent", "RCPT TO:<%.*s> at %s", VIEW_ARGS(path), sites[v->hop->site].domain);
		return;
	}
	if (v->rcpts_n == RCPTS_MAX || bad(v, 2)) {
		world_fault(FAULT_HOP_4XX);
		talk_say(&v->talk, "450 4.2.1 not now\r\n");
		return;
	}
	if (v->hop->site == SITE_BACK) {
		snprintf(v->back[v->rcpts_n++], sizeof *v->back, "%.*s", VIEW_ARGS(path));
	} else if (!r) {
		law_broken("mail goes where it was sent", "a report to <%.*s> at %s", VIEW_ARGS(path), sites[v->hop->site].domain);
		return;
	} else if (r->site != v->hop->site) {
		refuse_rcpt(v, path, "not here: relaying denied");
		return;
	} else if (r->no) {
		refuse_rcpt(v, path, "no such user");
		return;
	} else if (bad(v, 10)) {
		refuse_rcpt(v, path, "not wanted");
		return;
	} else {
		v->rcpts[v->rcpts_n++] = r;
	}
	check_window(v);
	talk_say(&v->talk, "250 2.1.5 ok\r\n");
}

static void data(struct visit *v)
{
	if (v->rcpts_n == 0) {
		talk_say(&v->talk, "503 5.5.1 no recipients\r\n");
		return;
	}
	if (bad(v, 2)) {
		world_fault(FAULT_HOP_4XX);
		talk_say(&v->talk, "451 4.3.0 not now\r\n");
		end_transaction(v);
		return;
	}
	v->in_data = true;
	buf_init(&v->text, &alloc_libc, SIZE_MAX / 4);
	talk_say(&v->talk, "354 go\r\n");
}

static void bdat(struct visit *v, struct view line)
{
	struct view rest = view_trim(view_slice(line, 5, line.n));
	size_t end = view_find(rest, ' ');

	if (!view_to_u64(view_slice(rest, 0, end), &v->chunk)) {
		talk_say(&v->talk, "501 5.5.4 BDAT\r\n");
		return;
	}
	if (buf_len(&v->text) == 0)
		buf_init(&v->text, &alloc_libc, SIZE_MAX / 4);
	v->chunk_last = view_eq_nocase(view_trim(view_slice(rest, end, rest.n)), VIEW("LAST"));
	v->in_chunk = true;
}

static void command(struct visit *v, struct view line)
{
	say("hop %llu < %.*s", (unsigned long long)sock_number(v->talk.s), VIEW_ARGS(line));
	for (; v->first_copy < v->end_copy; v->first_copy++)
		copies[v->first_copy].told = true; /* it goes on, so it has read the answer */
	if (broke(v))
		return;
	if (view_starts_nocase(line, VIEW("EHLO ")) || view_starts_nocase(line, VIEW("LHLO ")))
		hello(v, true);
	else if (view_starts_nocase(line, VIEW("HELO ")))
		hello(v, false);
	else if (view_eq_nocase(line, VIEW("STARTTLS")))
		starttls(v);
	else if (view_starts_nocase(line, VIEW("MAIL FROM:")))
		mail_from(v, line);
	else if (view_starts_nocase(line, VIEW("RCPT TO:")))
		rcpt_to(v, line);
	else if (view_eq_nocase(line, VIEW("DATA")))
		data(v);
	else if (view_starts_nocase(line, VIEW("BDAT ")))
		bdat(v, line);
	else if (view_eq_nocase(line, VIEW("RSET")) || view_eq_nocase(line, VIEW("NOOP"))) {
		end_transaction(v);
		talk_say(&v->talk, "250 2.0.0 ok\r\n");
	} else if (view_eq_nocase(line, VIEW("QUIT")) && world.broken != BREAK_MUMBLE) {
		talk_say(&v->talk, "221 2.0.0 bye\r\n");
		leave(v);
	} else {
		law_broken("our client speaks SMTP", "%s was told: %.*s", sites[v->hop->site].domain, VIEW_ARGS(line));
	}
}

/* Lines end with CRLF and nothing else.  False: the line is not whole. */
static bool text_line(struct visit *v)
{
	struct view in = buf_view(&v->talk.in), line;
	size_t end = 0;

	while (end + 1 < in.n && !(in.p[end] == '\r' && in.p[end + 1] == '\n'))
		end++;
	if (end + 1 >= in.n)
		return false;
	line = view_slice(in, 0, end + 2);
	if (line.n == 3 && line.p[0] == '.') {
		buf_take(&v->talk.in, 3);
		whole(v);
		return true;
	}
	buf_add(&v->text, line.p[0] == '.' ? view_slice(line, 1, line.n) : line);
	buf_take(&v->talk.in, line.n);
	return true;
}

static bool chunk_octets(struct visit *v)
{
	struct view in = buf_view(&v->talk.in);
	size_t n = in.n < v->chunk ? in.n : (size_t)v->chunk;

	buf_add(&v->text, view_slice(in, 0, n));
	buf_take(&v->talk.in, n);
	v->chunk -= n;
	if (v->chunk)
		return false;
	v->in_chunk = false;
	if (v->rcpts_n == 0)
		talk_say(&v->talk, "503 5.5.1 no recipients\r\n");
	else if (v->chunk_last)
		whole(v);
	else
		talk_say(&v->talk, "250 2.0.0 chunk\r\n");
	return true;
}

static void work(struct visit *v)
{
	struct view line;

	while (!v->gone && !v->stalled && !v->waits && v->greeted) {
		if (!talk_read(&v->talk)) {
			if (v->talk.fault == TALK_STALL)
				v->stalled = true;
			else
				leave(v);
			return;
		}
		if (v->in_data) {
			if (!text_line(v))
				return;
		} else if (v->in_chunk) {
			if (!chunk_octets(v))
				return;
		} else {
			char copy[2100];
			if (!talk_line(&v->talk, &line))
				return;
			snprintf(copy, sizeof copy, "%.*s", VIEW_ARGS(line));
			talk_took(&v->talk);
			command(v, view_cstr(copy));
		}
	}
}

static void go_on(void *arg)
{
	struct visit *v = arg;

	v->waits = false;
	v->after(v);
	work(v);
}

static void greet(struct visit *v)
{
	v->greeted = true;
	if (bad(v, 3)) {
		world_fault(FAULT_HOP_4XX);
		talk_say(&v->talk, rng_chance(&world.peers, 500) ? "421 4.3.2 busy\r\n" : "554 5.3.2 no service\r\n");
		leave(v);
		return;
	}
	if (broke(v))
		return;
	talk_say(&v->talk, "220 hop.test ESMTP\r\n");
}

static void on_data(void *arg)
{
	work(arg);
}

static void on_ended(void *arg, bool reset)
{
	(void)reset;
	leave(arg);
}

static void on_accepted(void *arg, struct sock *s)
{
	static const struct sock_ops visit_ops = { NULL, on_data, on_ended };
	struct hop *h = arg;
	struct visit *v = calloc(1, sizeof *v);

	if (!v)
		abort();
	v->hop = h;
	v->next = h->visits;
	h->visits = v;
	v->from_node = sock_other_node(s);
	talk_init(&v->talk, s, true);
	buf_init(&v->text, &alloc_libc, SIZE_MAX / 4);
	sock_set_ops(s, &visit_ops, v);
	v->waits = true;
	v->after = greet;
	happen_in(&v->later, bad(v, 4) ? rng_span(&world.peers, 100, 400000) : 0, go_on, v);
}

struct hop *hop_new(enum site site, const char *address, unsigned window)
{
	struct hop *h = calloc(1, sizeof *h);

	if (!h)
		abort();
	h->next = hops;
	hops = h;
	h->site = site;
	h->window = window;
	snprintf(h->address, sizeof h->address, "%s", address);
	if (site == SITE_DANE || site == SITE_STS || site == SITE_ASTRAY)
		snprintf(h->identity, sizeof h->identity, "h.%s", sites[site].domain);
	else
		snprintf(h->identity, sizeof h->identity, "%.*s", (int)strcspn(address, ":"), address);
	h->plain = site == SITE_PLAIN || site == SITE_LMTP;
	sock_serve(address, on_accepted, h);
	return h;
}

void hop_behave(struct hop *h, unsigned badness)
{
	bool down, silent;

	h->badness = badness;
	h->strips = world.broken == BREAK_STRIP || (badness && rng_chance(&world.peers, 200));
	down = badness && rng_chance(&world.peers, 150);
	silent = rng_chance(&world.peers, 500);
	net_down(h->address, down, silent);
}

unsigned hops_open(void)
{
	unsigned n = 0;

	for (struct hop *h = hops; h; h = h->next)
		for (struct visit *v = h->visits; v; v = v->next)
			n++;
	return n;
}
