/* server_rig.c - see server_rig.h. */
#include "server_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void *rig_resize(void *arg, void *old, size_t size)
{
	struct rig *r = arg;
	void *p;

	if (size == 0) {
		if (old)
			r->blocks--;
		free(old);
		return NULL;
	}
	if (++r->requests == r->fail_at)
		return NULL;
	p = realloc(old, size);
	if (!old && p)
		r->blocks++;
	return p;
}

void rig_open(struct rig *r, const struct psmtp_server_options *options)
{
	static const struct psmtp_server_options usual = { .hostname = { "mx.test", 7 }, .tls = PSMTP_TLS_STARTTLS };
	const struct psmtp_allocator memory = { rig_resize, r };

	r->options = options ? *options : usual;
	r->epoch = 1;
	r->now = 1000;
	r->s = psmtp_server_new(&r->options, &memory, r->now);
	if (r->s)
		rig_drain(r);
}

void rig_close(struct rig *r)
{
	psmtp_server_free(r->s);
	assert_int_equal(r->blocks, 0);
	free(r);
}

void rig_rule(struct rig *r, enum psmtp_server_event_type q, const char *match, enum psmtp_verdict_kind kind,
	int code, const char *text)
{
	struct rig_rule *rule = &r->rules[r->rule_count++];

	assert_true(r->rule_count <= RIG_RULES);
	*rule = (struct rig_rule){ .question = q, .verdict = { .kind = kind, .reply = { .code = code } } };
	snprintf(rule->match, sizeof rule->match, "%s", match);
	snprintf(rule->text, sizeof rule->text, "%s", text ? text : "");
}

static bool holds(struct psmtp_view v, const char *word)
{
	return !*word || (v.n && memmem(v.p, v.n, word, strlen(word)));
}

static struct psmtp_verdict verdict_for(struct rig *r, const struct psmtp_server_event *e)
{
	struct psmtp_view about = e->hello;

	if (e->type == PSMTP_SERVER_MAIL)
		about = e->mail->sender.text;
	else if (e->type == PSMTP_SERVER_RCPT)
		about = e->rcpt->recipient.text;
	else if (e->type == PSMTP_SERVER_AUTH)
		about = e->auth_mechanism;
	else if (e->type == PSMTP_SERVER_AUTH_DATA)
		about = e->auth_data;
	for (unsigned i = 0; i < r->rule_count; i++) {
		struct rig_rule *rule = &r->rules[i];

		if (rule->used || rule->question != e->type || !holds(about, rule->match))
			continue;
		rule->used = true;
		if (rule->verdict.kind == PSMTP_CHALLENGE)
			rule->verdict.challenge = (struct psmtp_view){ rule->text, strlen(rule->text) };
		else
			rule->verdict.reply.text = (struct psmtp_view){ rule->text, strlen(rule->text) };
		rule->verdict.identity = (struct psmtp_view){ rule->identity, strlen(rule->identity) };
		return rule->verdict;
	}
	return (struct psmtp_verdict){ .kind = PSMTP_YES, .identity = { "somebody", 8 } };
}

static void keep(char *to, size_t cap, struct psmtp_view v)
{
	snprintf(to, cap, "%.*s", (int)v.n, v.n ? v.p : "");
}

static void answer(struct rig *r, const struct psmtp_server_event *e)
{
	struct psmtp_verdict v;

	r->asks++;
	r->last_question = *e;
	r->begins += e->type == PSMTP_SERVER_BODY_BEGIN;
	r->ends += e->type == PSMTP_SERVER_BODY_END;
	if (e->type == PSMTP_SERVER_HELLO)
		keep(r->hello, sizeof r->hello, e->hello);
	else if (e->type == PSMTP_SERVER_MAIL)
		keep(r->sender, sizeof r->sender, e->mail->sender.text);
	else if (e->type == PSMTP_SERVER_RCPT)
		keep(r->rcpt, sizeof r->rcpt, e->rcpt->recipient.text);
	if (r->hold)
		return;
	v = verdict_for(r, e);
	if (e->type == PSMTP_SERVER_STARTTLS && r->pending_len) {
		size_t took = psmtp_server_feed(r->s, r->epoch, r->pending, r->pending_len, r->now);

		r->pending += took;
		r->pending_len -= took;
	}
	if (e->type == PSMTP_SERVER_STARTTLS && r->more_len) {
		size_t took = psmtp_server_feed(r->s, r->epoch, r->more, r->more_len, r->now);

		r->more += took;
		r->more_len -= took;
	}
	assert_int_equal(psmtp_server_answer(r->s, &v, r->now), 0);
}

static void write_out(struct rig *r)
{
	struct psmtp_view v = psmtp_server_output(r->s);

	assert_true(v.n < RIG_OUT - r->out_len);
	if (v.n)
		memcpy(r->out + r->out_len, v.p, v.n);
	r->out_len += v.n;
	r->out[r->out_len] = '\0';
	psmtp_server_sent(r->s, v.n, r->now);
}

void rig_drain(struct rig *r)
{
	struct psmtp_server_event e;

	while (psmtp_server_next(r->s, &e, r->now)) {
		switch (e.type) {
		case PSMTP_SERVER_BODY:
			assert_true(e.body.n > 0 && e.body.n < RIG_OUT - r->body_len);
			memcpy(r->body + r->body_len, e.body.p, e.body.n);
			r->body_len += e.body.n;
			break;
		case PSMTP_SERVER_RESET:
			r->resets++;
			break;
		case PSMTP_SERVER_CLOSE:
			r->closes++;
			snprintf(r->close_reason, sizeof r->close_reason, "%s", e.reason ? e.reason : "(null)");
			break;
		case PSMTP_SERVER_REJECTED:
			r->rejects++;
			r->reject_code = e.reply.code;
			snprintf(r->reject_reason, sizeof r->reject_reason, "%s", e.reason);
			keep(r->reject_command, sizeof r->reject_command, e.command);
			break;
		case PSMTP_SERVER_TLS_START:
			r->tls_starts++;
			break;
		default:
			answer(r, &e);
		}
	}
	write_out(r);
}

size_t rig_feed(struct rig *r, const char *bytes, size_t n)
{
	size_t at = 0;

	r->pending = NULL;
	r->pending_len = 0;
	while (at < n) {
		size_t took = psmtp_server_feed(r->s, r->epoch, bytes + at, n - at, r->now);

		at += took;
		r->pending = bytes + at;
		r->pending_len = n - at;
		rig_drain(r);
		at = n - r->pending_len;
		if (took == 0 && at < n && r->hold)
			break;
	}
	r->pending_len = 0;
	return at;
}

void rig_say(struct rig *r, const char *text)
{
	rig_feed(r, text, strlen(text));
}

const char *rig_ask(struct rig *r, const char *text)
{
	size_t was = r->out_len;

	rig_say(r, text);
	return r->out + was;
}

void rig_tls(struct rig *r)
{
	const struct psmtp_tls_facts facts = { { "TLSv1.3", 7 }, { "TLS_AES_256_GCM_SHA384", 22 } };

	write_out(r);
	assert_int_equal(psmtp_server_tls_up(r->s, &facts, r->now), 0);
	r->epoch = 2;
	rig_drain(r);
}
