/* metamorphic_play.c - plays acts and batteries on a session whose memory can be copied; see metamorphic.h.
 *
 * The tale holds what the outside can see: octets written, questions with what they were about, events, and the facts
 * for a Received line after each command.  It holds no counter: the error budget and the count of transactions are
 * meant to outlive errors and TLS, and metamorphic.c judges them by themselves.
 */
#define REGION_SIZE (1024u * 1024)
#include "metamorphic.h"
#include "region.h"

#include <assert.h>
#include <stdlib.h>

static struct {
	struct psmtp_server *s;
	const struct script *script;
	unsigned asked;
	struct done done;
} play;
#define NOW 1000u

struct psmtp_server *play_session(void)
{
	return play.s;
}

void snapshot_take(struct snapshot *p)
{
	p->copy = realloc(p->copy, region.used);
	assert(p->copy);
	memcpy(p->copy, region.bytes, region.used);
	p->used = region.used;
}

void snapshot_put(const struct snapshot *p)
{
	memcpy(region.bytes, p->copy, p->used);
	region.used = p->used;
	region.starved = false;
}

static void tell(struct tale *t, const char *word, struct psmtp_view v)
{
	size_t n = strlen(word);

	if (!t)
		return;
	assert(t->n + n + v.n + 2 < sizeof t->text);
	memcpy(t->text + t->n, word, n);
	if (v.n)
		memcpy(t->text + t->n + n, v.p, v.n);
	t->n += n + v.n;
	t->text[t->n++] = '\n';
	t->text[t->n] = '\0';
}

static void tell_number(struct tale *t, const char *word, uint64_t number)
{
	char text[24];

	if (t)
		tell(t, word, (struct psmtp_view){ text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)number) });
}

static void tell_mail(struct tale *t, const struct psmtp_mail *m)
{
	tell(t, "  sender ", m->sender.text);
	tell(t, "  envid ", m->envid);
	tell(t, "  auth ", m->auth);
	tell_number(t, "  size ", m->size);
	tell_number(t, "  kinds ", (uint64_t)m->body << 8 | (uint64_t)m->ret << 4 | (m->smtputf8 ? 1u : 0u));
}

static void tell_event(struct tale *t, const struct psmtp_server_event *e)
{
	if (!t)
		return;
	tell_number(t, "event ", e->type);
	tell(t, "  hello ", e->hello);
	tell(t, "  mechanism ", e->auth_mechanism);
	tell(t, "  data ", e->auth_data);
	tell(t, "  body ", e->body);
	tell(t, "  command ", e->command);
	tell_number(t, "  numbers ", (uint64_t)e->rcpt_index << 40 | (uint64_t)e->rcpt_count << 20 | e->body_size);
	tell_number(t, "  flags ", (uint64_t)e->hello_kind << 8 | (e->chunked ? 1u : 0u) | (e->auth_has_data ? 2u : 0u));
	if (e->mail)
		tell_mail(t, e->mail);
	if (e->rcpt) {
		tell(t, "  recipient ", e->rcpt->recipient.text);
		tell(t, "  orcpt ", e->rcpt->orcpt);
		tell_number(t, "  notify ", e->rcpt->notify);
	}
	if (e->reason)
		tell(t, "  reason ", (struct psmtp_view){ e->reason, strlen(e->reason) });
}

static void write_out(struct tale *t)
{
	struct psmtp_view v = psmtp_server_output(play.s);

	for (size_t at = 0; at + 4 < v.n;) { /* each line's code */
		const char *end = memchr(v.p + at, '\n', v.n - at);

		if (v.p[at] == '4' || v.p[at] == '5')
			play.done.error = true;
		if (!end)
			break;
		at = (size_t)(end - v.p) + 1;
	}
	if (v.n)
		tell(t, "", v);
	psmtp_server_sent(play.s, v.n, NOW);
}

static void answer(const struct psmtp_server_event *e)
{
	static const struct psmtp_verdict yes = { .kind = PSMTP_YES, .identity = { "user", 4 } };
	const struct psmtp_verdict *v = &yes;

	if (play.script && play.asked < play.script->n)
		v = &play.script->verdicts[play.asked];
	play.asked++;
	if (e->type == PSMTP_SERVER_BODY_BEGIN || e->type == PSMTP_SERVER_BODY_END)
		play.done.content = true;
	if (psmtp_server_answer(play.s, v, NOW) == -1) { /* a challenge where none can be: the act is another one's twin */
		play.done.refused_early = true;
		assert(psmtp_server_answer(play.s, &yes, NOW) == 0);
	}
}

static void drain(struct tale *t)
{
	struct psmtp_server_event e;

	while (psmtp_server_next(play.s, &e, NOW)) {
		write_out(t);
		tell_event(t, &e);
		if (e.type <= PSMTP_SERVER_BODY_END)
			answer(&e);
	}
	write_out(t);
}

static void say(const char *text, struct tale *t)
{
	size_t n = strlen(text), at = 0;

	while (at < n) {
		size_t took = psmtp_server_feed(play.s, play.s->epoch_number, text + at, n - at, NOW);

		at += took;
		drain(t);
		assert(took || play.s->phase == PHASE_CLOSED);
	}
}

void play_open(const struct psmtp_server_options *options)
{
	const struct psmtp_allocator memory = { region_resize, NULL };
	const struct psmtp_tls_facts tls = { { "TLSv1.3", 7 }, { "TLS_NULL", 8 } };

	region.used = 0;
	region.starved = false;
	play.s = psmtp_server_new(options, &memory, NOW);
	assert(play.s);
	play.script = NULL;
	if (options->tls == PSMTP_TLS_IMPLICIT)
		assert(psmtp_server_tls_up(play.s, &tls, NOW) == 0);
	drain(NULL);
}

/* Whatever the line began is brought to its end, so that a command is waited for again. */
static void finish(const struct act *a, struct tale *t)
{
	bool first = true;

	for (unsigned turns = 0; turns < 8; turns++, first = false) {
		if (play.s->phase == PHASE_DATA) {
			play.done.content = true;
			say(a->content && first ? a->content : "Subject: x\r\n\r\n..\r\n.\r\n", t);
		} else if (play.s->phase == PHASE_AUTH_REPLY) {
			say(a->response && first ? a->response : "*\r\n", t);
		} else {
			break;
		}
	}
	assert(play.s->phase == PHASE_COMMAND || play.s->phase == PHASE_CLOSED || play.s->phase == PHASE_HANDSHAKE);
}

struct done play_act(const struct act *a, const struct script *script, struct tale *t)
{
	play.script = script;
	play.asked = 0;
	play.done = (struct done){ 0 };
	if (a->tight) {
		psmtp_server_idle(play.s); /* no spare room that an earlier growth left */
		region.starved = buf_reserve(&play.s->epoch.in, 2048) && buf_reserve(&play.s->epoch.out, 4096);
	}
	say(a->say, t);
	region.starved = false;
	finish(a, t);
	play.done.asked = play.asked;
	play.done.refused_early |= script && play.asked < script->n;
	play.done.content |= strncmp(a->say, "BDAT", 4) == 0;
	if (t) {
		struct psmtp_server_facts f;

		psmtp_server_get_facts(play.s, &f);
		tell(t, "then ", (struct psmtp_view){ f.phase, strlen(f.phase) });
		tell(t, "  hello ", f.hello);
		tell(t, "  with ", f.with);
		tell(t, "  tls ", f.tls_protocol);
		tell(t, "  who ", f.identity);
		tell_number(t, "  kinds ", (uint64_t)f.hello_kind << 8 | (f.tls ? 1u : 0u) | (f.smtputf8 ? 2u : 0u));
		tell_number(t, "  due ", psmtp_server_deadline(play.s));
	}
	return play.done;
}

void play_tls_up(struct tale *t)
{
	const struct psmtp_tls_facts tls = { { "TLSv1.3", 7 }, { "TLS_NULL", 8 } };

	assert(psmtp_server_tls_up(play.s, &tls, NOW) == 0);
	drain(t);
}

void play_battery(const struct battery *b, struct tale *t)
{
	t->n = 0;
	t->text[0] = '\0';
	for (unsigned i = 0; b->lines[i] && play.s->phase != PHASE_CLOSED; i++) {
		const struct act a = { .say = b->lines[i] };

		tell(t, "> ", (struct psmtp_view){ a.say, strcspn(a.say, "\r") });
		play_act(&a, NULL, t);
		if (play.s->phase == PHASE_HANDSHAKE)
			play_tls_up(t);
	}
}

/* What tells two nodes apart: the facts, and the small counts that facts are made of; fine: the sizes and words too. */
uint64_t play_key(bool fine)
{
	const struct psmtp_server *s = play.s;
	const struct server_transaction *tx = &s->epoch.hello.transaction;
	const uint64_t parts[] = { server_facts(s, NULL), s->epoch.hello.kind, tx->rcpts, s->epoch_number,
				   !tx->live ? 0 : fine ? tx->body.size : tx->body.size > 0,
				   fine && tx->live && tx->mail.smtputf8, fine && tx->live && tx->mail.envid.n };
	uint64_t h = 1469598103934665603u;

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		h ^= parts[i] + UINT64_C(0x9e3779b97f4a7c15) + (h << 6) + (h >> 2);
		h *= UINT64_C(0x2545f4914f6cdd1d);
	}
	return h;
}
