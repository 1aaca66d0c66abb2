/* closure_explore.c - breadth first through every state of one listener policy; see closure.h.
 *
 * All memory of a session comes from one static region (region.h), so a state is kept as a copy of the region's used
 * part and restored by copying it back to the same addresses.
 */
#include "closure.h"
#include "region.h"

#include <assert.h>
#include <stdlib.h>

#define STATES_MAX 4000u
#define HASH_SIZE 16384u /* a power of two above STATES_MAX */
#define FLOOD_MAX (40u * 1024 * 1024) /* more than SERVER_OVERRUN and twice the small limits below */

struct state {
	unsigned char *copy;
	size_t used;
	uint64_t key;
	bool way_out;
	size_t *to; /* edges */
	size_t to_count;
};

static struct {
	struct state states[STATES_MAX];
	size_t count;
	size_t hash[HASH_SIZE]; /* index + 1 */
	struct psmtp_server *s;
	uint64_t now;
	char out[70000];
	size_t out_len;
	struct { unsigned long offered, fired; } words[4]; /* by {TLS, identity}: bits over the rows with OFFER */
} x;

static uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v + UINT64_C(0x9e3779b97f4a7c15) + (h << 6) + (h >> 2);
	return h * UINT64_C(0x2545f4914f6cdd1d);
}

/* What tells states apart: the phase, all facts, and the small counts that facts are made of. */
static uint64_t key_of(const struct psmtp_server *s)
{
	const struct server_transaction *tx = &s->epoch.hello.transaction;
	const struct server_command *c = &tx->command;
	uint64_t h = mix(s->phase, server_facts(s, NULL));

	h = mix(h, s->epoch.hello.kind);
	h = mix(h, (uint64_t)tx->rcpts << 8 | tx->judged);
	h = mix(h, s->options.error_limit > 3 ? 0 : s->errors < s->options.error_limit ? s->errors : s->options.error_limit);
	h = mix(h, s->options.idle_limit > 3 ? 0 : s->idle < s->options.idle_limit ? s->idle : s->options.idle_limit);
	h = mix(h, s->options.mail_limit ? s->mails : 0);
	h = mix(h, c->held);
	if (tx->live || s->phase == PHASE_JUDGE_MAIL) /* what will be known when the verdict is yes */
		h = mix(h, tx->mail.body == PSMTP_BODY_BINARYMIME);
	h = mix(h, (uint64_t)(buf_len(&s->epoch.in) > c->line) << 4 | (uint64_t)c->chunk.last << 3 |
			   (uint64_t)(c->chunk.left > 0) << 2 | (uint64_t)tx->committed << 1 | s->epoch.lines.skipping);
	return h;
}

static void restore(const struct state *st)
{
	memcpy(region.bytes, st->copy, st->used);
	region.used = st->used;
	region.starved = false;
}

static size_t intern(void)
{
	uint64_t key = key_of(x.s);
	size_t at = key % HASH_SIZE;
	struct state *st;

	for (; x.hash[at]; at = (at + 1) % HASH_SIZE)
		if (x.states[x.hash[at] - 1].key == key)
			return x.hash[at] - 1;
	assert(x.count < STATES_MAX);
	st = &x.states[x.count];
	st->copy = malloc(region.used);
	st->to = calloc(closure_input_count, sizeof *st->to);
	assert(st->copy && st->to);
	memcpy(st->copy, region.bytes, region.used);
	st->used = region.used;
	st->key = key;
	st->to_count = 0;
	st->way_out = x.s->phase == PHASE_CLOSED;
	x.hash[at] = ++x.count;
	return x.count - 1;
}

static void drain(struct closure_edge *e)
{
	struct psmtp_server_event event;

	for (;;) {
		struct psmtp_view v;
		bool more = psmtp_server_next(x.s, &event, x.now);

		v = psmtp_server_output(x.s);
		if (v.n <= sizeof x.out - x.out_len) {
			memcpy(x.out + x.out_len, v.p, v.n);
			x.out_len += v.n;
		}
		psmtp_server_sent(x.s, v.n, x.now);
		if (!more)
			return;
		e->asks += event.type <= PSMTP_SERVER_BODY_END;
		e->starts += event.type == PSMTP_SERVER_TLS_START;
		e->bodies += event.type == PSMTP_SERVER_BODY;
		e->resets += event.type == PSMTP_SERVER_RESET;
		e->closes += event.type == PSMTP_SERVER_CLOSE;
	}
}

static void say(struct closure_edge *e, const char *text, size_t n)
{
	size_t at = 0;

	while (at < n) {
		size_t took = psmtp_server_feed(x.s, x.s->epoch_number, text + at, n - at, x.now);

		at += took;
		drain(e);
		if (took == 0)
			break; /* a verdict is owed: the caller would wait with the rest */
	}
}

static void flood(struct closure_edge *e)
{
	static char junk[16384];
	enum server_phase was = x.s->phase;

	memset(junk, 'x', sizeof junk);
	for (size_t n = 0; n < FLOOD_MAX && x.s->phase == was && e->policy->flood; n += sizeof junk)
		say(e, junk, sizeof junk);
}

static void apply(struct closure_edge *e)
{
	static char long_line[20000];
	const struct closure_input *in = e->input;
	const struct psmtp_tls_facts tls = { { "TLSv1.3", 7 }, { "TLS_AES_128_GCM_SHA256", 22 } };

	region.starved = in->kind == INPUT_STARVED || in->kind == INPUT_STARVED_VERDICT;
	if (in->kind >= INPUT_STARVED && in->kind <= INPUT_TIGHT_VERDICT && in->kind != INPUT_VERDICT)
		psmtp_server_idle(x.s); /* no spare room that an earlier growth left */
	if (in->kind == INPUT_TIGHT || in->kind == INPUT_TIGHT_VERDICT)
		region.starved = buf_reserve(&x.s->epoch.in, 2048) && buf_reserve(&x.s->epoch.out, 4096);
	switch (in->kind) {
	case INPUT_BYTES:
	case INPUT_STARVED:
	case INPUT_TIGHT:
		if (!in->text) {
			memset(long_line, 'x', sizeof long_line);
			memcpy(long_line + sizeof long_line - 2, "\r\n", 2);
			say(e, long_line, sizeof long_line);
		} else {
			say(e, in->text, strlen(in->text));
		}
		break;
	case INPUT_VERDICT:
	case INPUT_STARVED_VERDICT:
	case INPUT_TIGHT_VERDICT:
		e->refused_call = psmtp_server_answer(x.s, &in->verdict, x.now) != 0;
		break;
	case INPUT_EOF:
		psmtp_server_peer_closed(x.s, x.now);
		break;
	case INPUT_TIMEOUT:
		if (psmtp_server_deadline(x.s) != UINT64_MAX)
			psmtp_server_timeout(x.s, psmtp_server_deadline(x.s));
		break;
	case INPUT_SHUTDOWN:
		psmtp_server_shutdown(x.s, NULL, x.now);
		break;
	case INPUT_WRONG_EPOCH:
		psmtp_server_feed(x.s, 3 - x.s->epoch_number, in->text, strlen(in->text), x.now);
		break;
	case INPUT_TLS_UP:
		e->refused_call = psmtp_server_tls_up(x.s, &tls, x.now) != 0;
		break;
	case INPUT_TLS_FAILED:
		e->refused_call = psmtp_server_tls_failed(x.s, x.now) != 0;
		break;
	case INPUT_FLOOD:
		flood(e);
		break;
	}
	drain(e);
	region.starved = false;
}

/* Which words EHLO says, as bits over the rows with an OFFER, and which of those rows were reached. */
static void note_offers(const struct closure_edge *e)
{
	unsigned at = (e->facts & SERVER_FACT(TLS) ? 1u : 0u) + (e->facts & SERVER_FACT(IDENTITY) ? 2u : 0u), bit = 0;
	bool ehlo = e->facts & SERVER_FACT(CAPABLE) && e->from == PHASE_JUDGE_HELLO && e->out_len > 4 &&
		    memcmp(e->out, "250", 3) == 0;

	for (size_t i = 0; i < server_row_count; i++) {
		size_t row = i + 1;
		char word[40];
		size_t n;

		if (!server_rows[i].offers)
			continue;
		while (!server_rows[row].event)
			row++;
		n = strcspn(server_rows[i].offers, " ");
		snprintf(word, sizeof word, "%.*s", (int)n, server_rows[i].offers);
		if (ehlo) {
			char *line = memmem(e->out, e->out_len, word, n);

			if (line && line - e->out >= 4 && (line[n] == '\r' || line[n] == ' ') && memcmp(line - 4, "250", 3) == 0)
				x.words[at].offered |= 1ul << bit;
		}
		for (unsigned k = 0; k < e->fired_count; k++)
			if (e->fired[k] == row && e->facts & SERVER_FACT(HELLO))
				x.words[at].fired |= 1ul << bit;
		bit++;
	}
}

static void one_edge(const struct closure_policy *p, struct closure_result *r, size_t from,
	const struct closure_input *in)
{
	struct closure_edge e = { .policy = p, .input = in, .s = x.s };
	const struct server_transaction *tx = &x.s->epoch.hello.transaction;
	unsigned traced;
	size_t to;

	restore(&x.states[from]);
	e.from = x.s->phase;
	e.facts = server_facts(x.s, NULL);
	e.live = tx->live;
	e.committed = tx->committed;
	e.asking = x.s->asking;
	e.closed = x.s->phase == PHASE_CLOSED;
	e.rcpts = tx->rcpts;
	e.hello = x.s->epoch.hello.kind;
	traced = x.s->traced;
	x.out_len = 0;
	apply(&e);
	e.out = x.out;
	e.out_len = x.out_len;
	for (unsigned i = traced; i != x.s->traced && e.fired_count < SERVER_TRACE_MAX; i++) {
		e.fired[e.fired_count] = x.s->trace[i % SERVER_TRACE_MAX].row;
		r->row_fired[e.fired[e.fired_count++]] = true;
	}
	closure_judge(&e);
	note_offers(&e);
	r->edges++;
	if (x.s->eof && x.s->phase != PHASE_CLOSED && server_phase_owes(x.s->phase))
		return; /* the close waits for the verdict: the same states follow, and are explored without it */
	if (x.s->shutdown && x.s->phase != PHASE_CLOSED)
		return; /* likewise: the end waits for a safe place */
	to = intern();
	x.states[from].to[x.states[from].to_count++] = to;
}

/* From every state a path to closed: backwards from the closed ones until nothing changes. */
static void judge_way_out(const struct closure_policy *p)
{
	bool changed = true;

	while (changed) {
		changed = false;
		for (size_t i = 0; i < x.count; i++)
			for (size_t k = 0; k < x.states[i].to_count && !x.states[i].way_out; k++)
				if (x.states[x.states[i].to[k]].way_out)
					changed = x.states[i].way_out = true;
	}
	for (size_t i = 0; i < x.count; i++)
		if (!x.states[i].way_out)
			closure_break(LAW_WAY_OUT, &(struct closure_edge){ .policy = p }, "none");
}

static void judge_offers(const struct closure_policy *p)
{
	for (unsigned at = 0; at < 4; at++)
		if (x.words[at].offered != x.words[at].fired) {
			char why[100];

			snprintf(why, sizeof why, "offered %lx, reached %lx (bits over OFFER rows; TLS %u, identity %u)",
				x.words[at].offered, x.words[at].fired, at & 1, at >> 1);
			closure_break(LAW_OFFERED_IS_SERVED, &(struct closure_edge){ .policy = p }, why);
		}
}

void closure_explore(const struct closure_policy *p, struct closure_result *r)
{
	const struct psmtp_allocator memory = { region_resize, NULL };

	memset(&x, 0, sizeof x);
	region.used = 0;
	region.starved = false;
	x.now = 1000;
	x.s = psmtp_server_new(&p->options, &memory, x.now);
	assert(x.s);
	{
		struct closure_edge e = { .policy = p, .s = x.s };

		drain(&e); /* the greeting's question */
		r->row_fired[x.s->trace[0].row] = true;
	}
	intern();
	for (size_t i = 0; i < x.count; i++)
		for (size_t k = 0; k < closure_input_count; k++)
			one_edge(p, r, i, &closure_inputs[k]);
	judge_way_out(p);
	judge_offers(p);
	r->states += x.count;
	for (size_t i = 0; i < x.count; i++) {
		free(x.states[i].copy);
		free(x.states[i].to);
	}
}
