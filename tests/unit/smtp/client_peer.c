/* client_peer.c - see client_peer.h. */
#include "client_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOT_MAX (1 << 20)
#define LOG_MAX 65536

struct peer {
	const struct caller *caller;
	struct psmtp_client *client;
	char *got;        /* octets that the client wrote and no step has asked for yet */
	size_t got_n;
	char log[LOG_MAX];
	size_t log_n;
	uint64_t now;
	unsigned epoch, message, answer;
	size_t body_at, one;  /* one: octets that `sent` takes at once, 0: all */
	bool body_open, failed_alloc;
	unsigned requests, fail_at;
	long live;            /* blocks that are allocated */
};

/* Realloc that can fail, and that always moves, so that a stale view is found by the sanitizer. */
static void *resize(void *arg, void *old, size_t size)
{
	struct peer *p = arg;
	size_t *block = old ? (size_t *)old - 2 : NULL, *fresh;

	if (size == 0) {
		p->live -= old != NULL;
		free(block);
		return NULL;
	}
	if (p->fail_at && ++p->requests == p->fail_at) {
		p->failed_alloc = true;
		return NULL;
	}
	fresh = malloc(size + 2 * sizeof *fresh);
	fresh[0] = size;
	if (block) {
		memcpy(fresh + 2, old, block[0] < size ? block[0] : size);
		free(block);
	} else {
		p->live++;
	}
	return fresh + 2;
}

static void note(struct peer *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct peer *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	p->log_n += (size_t)vsnprintf(p->log + p->log_n, LOG_MAX - p->log_n, fmt, ap);
	va_end(ap);
	assert_true(p->log_n < LOG_MAX);
}

static void note_reply(struct peer *p, const struct psmtp_client_event *e)
{
	note(p, " %d", e->reply.code);
	if (e->reply.enhanced[0])
		note(p, " %u.%u.%u", e->reply.enhanced[0], e->reply.enhanced[1], e->reply.enhanced[2]);
	/* touch every octet, for the sanitizer */
	for (size_t i = 0; i < e->reply.text.n; i++)
		assert_true(e->reply.text.p[i] != 0);
	if (e->local)
		note(p, " local");
}

static void on_ready(struct peer *p)
{
	const struct caller *c = p->caller;

	note(p, "ready\n");
	if (p->message < c->message_count) {
		p->body_at = 0;
		assert_int_equal(psmtp_client_send(p->client, &c->messages[p->message++], p->now), 0);
	} else if (!c->stay) {
		assert_int_equal(psmtp_client_quit(p->client, p->now), 0);
	}
}

static void on_auth(struct peer *p, const struct psmtp_client_event *e)
{
	const char *answer = p->caller->answers[p->answer++];
	struct psmtp_view v = { answer, answer ? strlen(answer) : 0 };

	note(p, "auth %.*s\n", (int)e->data.n, e->data.p);
	if (answer && strcmp(answer, "-") == 0)
		v = (struct psmtp_view){ NULL, 0 };
	assert_int_equal(psmtp_client_auth_answer(p->client, v, answer == NULL, p->now), 0);
}

static void on_event(struct peer *p, const struct psmtp_client_event *e)
{
	static const char *faults[] = { "", "temporary", "permanent", "protocol", "tls", "policy" };

	switch (e->type) {
	case PSMTP_CLIENT_READY:
		on_ready(p);
		break;
	case PSMTP_CLIENT_TLS_START:
		assert_int_equal(psmtp_client_output(p->client).n, 0);
		note(p, "tls_start\n");
		break;
	case PSMTP_CLIENT_TLS_REFUSED:
		note(p, "tls_refused %d %s\n", e->reply.code, e->reason);
		break;
	case PSMTP_CLIENT_AUTH:
		on_auth(p, e);
		break;
	case PSMTP_CLIENT_RCPT:
		note(p, "rcpt %u", e->rcpt_index);
		note_reply(p, e);
		note(p, "\n");
		break;
	case PSMTP_CLIENT_BODY:
		note(p, "body\n");
		p->body_open = true;
		break;
	case PSMTP_CLIENT_RESULT:
		note(p, "result %u", e->rcpt_index);
		note_reply(p, e);
		note(p, "\n");
		break;
	case PSMTP_CLIENT_DONE:
		note(p, "done\n");
		p->body_open = false;
		break;
	case PSMTP_CLIENT_FAILED:
		note(p, "failed %s %d %s%s\n", faults[e->fault], e->reply.code, e->reason, e->maybe_delivered ? " maybe" : "");
		p->body_open = false;
		break;
	case PSMTP_CLIENT_CLOSE:
		note(p, "close\n");
		break;
	}
}

static void drain(struct peer *p)
{
	struct psmtp_client_event e;

	while (psmtp_client_next(p->client, &e, p->now))
		on_event(p, &e);
}

static bool collect(struct peer *p)
{
	struct psmtp_view out = psmtp_client_output(p->client);
	size_t n = p->one && out.n > p->one ? p->one : out.n;

	if (!n)
		return false;
	assert_true(p->got_n + n <= GOT_MAX);
	memcpy(p->got + p->got_n, out.p, n);
	p->got_n += n;
	psmtp_client_sent(p->client, n, p->now);
	return true;
}

static bool write_body(struct peer *p)
{
	const struct caller *c = p->caller;
	size_t len = c->body_len ? c->body_len : c->body ? strlen(c->body) : 0, n = len - p->body_at, taken;
	bool last;

	if (!p->body_open)
		return false;
	if (c->body_piece && n > c->body_piece)
		n = c->body_piece;
	if (n == 0 && c->body_open)
		return false;
	last = p->body_at + n == len && !c->body_open;
	taken = psmtp_client_body(p->client, c->body ? c->body + p->body_at : "", n, last, p->now);
	p->body_at += taken;
	if (last && taken == n)
		p->body_open = false;
	return taken > 0 || !p->body_open;
}

/* Everything that can go on without the server goes on. */
static void settle(struct peer *p)
{
	do
		drain(p);
	while (write_body(p) || collect(p));
	drain(p);
}

static void feed(struct peer *p, unsigned epoch, const char *bytes, size_t n)
{
	while (n) {
		size_t used = psmtp_client_feed(p->client, epoch, bytes, n, p->now);

		assert_true(used <= n);
		bytes += used;
		n -= used;
		settle(p);
	}
}

/* The server sends text; `at` is the octet of its whole stream that it begins with. */
static void server_says(struct peer *p, const char *text, size_t at, size_t split)
{
	size_t n = strlen(text);

	if (split == SIZE_MAX) {
		for (size_t i = 0; i < n; i++)
			feed(p, p->epoch, text + i, 1);
	} else if (split > at && split < at + n) {
		feed(p, p->epoch, text, split - at);
		feed(p, p->epoch, text + (split - at), n - (split - at));
	} else {
		feed(p, p->epoch, text, n);
	}
}

static void client_said_check(struct peer *p, const char *text)
{
	size_t n = strlen(text);

	settle(p);
	if (p->got_n < n || memcmp(p->got, text, n) != 0) {
		print_error("wanted: %s\ngot: %.*s\ntranscript:\n%s", text, (int)p->got_n, p->got, p->log);
		fail();
	}
	memmove(p->got, p->got + n, p->got_n - n);
	p->got_n -= n;
}

static void take_step(struct peer *p, const struct step *step, size_t *at, size_t split)
{
	const struct psmtp_tls_facts facts = { TEXT("TLSv1.3"), TEXT("TLS_AES_256_GCM_SHA384") };

	switch (step->kind) {
	case STEP_SERVER:
		server_says(p, step->text, *at, split);
		*at += strlen(step->text);
		break;
	case STEP_CLIENT:
		if (!p->failed_alloc)
			client_said_check(p, step->text);
		break;
	case STEP_TLS:
		if (psmtp_client_tls_up(p->client, &facts, p->now) == 0)
			p->epoch = 2;
		else
			assert_true(p->failed_alloc);
		break;
	case STEP_TLS_FAILED:
		assert_int_equal(psmtp_client_tls_failed(p->client, p->now), 0);
		break;
	case STEP_EOF:
		psmtp_client_peer_closed(p->client, p->now);
		break;
	case STEP_WAIT:
		p->now += step->ms;
		psmtp_client_timeout(p->client, p->now);
		break;
	case STEP_ABORT:
		psmtp_client_body_abort(p->client, p->now);
		break;
	case STEP_CLEAR_BYTES:
		feed(p, 1, step->text, strlen(step->text));
		break;
	}
	settle(p);
}

/* Returns the number of octets that the server sent. */
static size_t replay(struct peer *p, const struct step *steps, size_t split)
{
	const struct psmtp_allocator allocator = { resize, p };
	size_t at = 0;

	p->epoch = 1;
	p->got = malloc(GOT_MAX);
	p->one = split == SIZE_MAX;
	p->client = psmtp_client_new(&p->caller->options, &allocator, p->now);
	if (p->client) {
		settle(p);
		for (; steps->kind; steps++)
			take_step(p, steps, &at, split);
		psmtp_client_idle(p->client);
		psmtp_client_free(p->client);
	} else {
		assert_true(p->failed_alloc);
	}
	assert_int_equal(p->live, 0);
	return at;
}

static void check_end(struct peer *p, const char *transcript)
{
	if (p->got_n || strcmp(p->log, transcript) != 0) {
		print_error("left: %.*s\ntranscript:\n%s--- wanted:\n%s", (int)p->got_n, p->got, p->log, transcript);
		fail();
	}
	free(p->got);
}

static size_t replay_check(const struct caller *caller, const struct step *steps, const char *transcript, size_t split)
{
	struct peer *p = calloc(1, sizeof *p);
	size_t octets;

	p->caller = caller;
	p->now = 1000;
	octets = replay(p, steps, split);
	check_end(p, transcript);
	free(p);
	return octets;
}

void peer_check_whole(const struct caller *caller, const struct step *steps, const char *transcript)
{
	replay_check(caller, steps, transcript, 0);
}

void peer_check(const struct caller *caller, const struct step *steps, const char *transcript)
{
	size_t octets = replay_check(caller, steps, transcript, 0);

	replay_check(caller, steps, transcript, SIZE_MAX);
	for (size_t split = 1; split < octets; split++)
		replay_check(caller, steps, transcript, split);
}

bool peer_check_memory(const struct caller *caller, const struct step *steps, unsigned nth)
{
	struct peer *p = calloc(1, sizeof *p);
	bool failed;

	p->caller = caller;
	p->now = 1000;
	p->fail_at = nth;
	replay(p, steps, 0);
	failed = p->failed_alloc;
	/* Memory ran out: no session, or a session that failed as temporary, said so and ended. */
	if (failed && p->log_n)
		assert_non_null(strstr(p->log, "close\n"));
	free(p->got);
	free(p);
	return !failed;
}

struct psmtp_client_options peer_options(enum psmtp_client_tls tls)
{
	return (struct psmtp_client_options){ .hello = TEXT("me.test"), .tls = tls };
}
