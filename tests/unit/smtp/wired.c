/* wired.c - the server machine wired to the client machine, with no socket between them.
 *
 * Every combination of options carries the same messages; each must arrive octet for octet,
	each recipient must get the
 * result that the server decided, and both sessions must end.  The wire takes as few octets at once as it is told, so
 * that every buffer sees pieces.  TLS is a null engine: both sides are told that it is up, and octets change epoch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <psmtp.h>

#define TEXT(literal) { "" literal, sizeof(literal) - 1 }
#define BODY_MAX (1 << 20)
#define MESSAGES 5
#define LETTER(literal) ((struct letter){ "" literal, sizeof(literal) - 1, false })

enum { LMTP = 1, AUTH = 2, NO_CHUNKING = 4, NO_PIPELINING = 8, BINARY = 16, OPTIONS_END = 32 };

struct letter {
	const char *octets;
	size_t n;
	bool has_8bit;
};

struct wire {
	unsigned options;
	enum psmtp_client_tls tls;
	size_t piece;
	struct psmtp_client *client;
	struct psmtp_server *server;
	unsigned epoch;
	bool client_tls, server_tls, client_over, server_over, failed;
	const struct letter *letters;
	unsigned sending, arrived;
	size_t body_at;
	bool writing;
	char *body;
	size_t body_n;
	unsigned results, rcpts_seen, done, auths;
	bool result_ok;
};

static void *resize(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size)
		return realloc(old, size);
	free(old);
	return NULL;
}
static const struct psmtp_allocator memory = { resize, NULL };

static const struct psmtp_client_rcpt rcpts[3] = { { .address = TEXT("good@b.test"), .notify = PSMTP_NOTIFY_FAILURE },
	{ .address = TEXT("refused@b.test") }, { .address = TEXT("\"late one\"@b.test") } };

/* ---- the server's caller ---- */

static void verdict(struct wire *w, enum psmtp_verdict_kind kind)
{
	const struct psmtp_verdict v = { .kind = kind };

	assert_int_equal(psmtp_server_answer(w->server, &v, 0), 0);
}

/* The message as it must arrive: canonical lines; DATA adds the last line's end. */
static void body_check(struct wire *w)
{
	const struct letter *l = &w->letters[w->arrived];
	bool chunked = !(w->options & NO_CHUNKING);
	char *want = malloc(2 * l->n + 2);
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		bool cr = l->octets[i] == '\r', lf = l->octets[i] == '\n';

		if (w->options & BINARY || (!cr && !lf)) {
			want[n++] = l->octets[i];
			continue;
		}
		want[n++] = '\r';
		want[n++] = '\n';
		i += cr && i + 1 < l->n && l->octets[i + 1] == '\n';
	}
	if (!chunked && n && want[n - 1] != '\n') {
		want[n++] = '\r';
		want[n++] = '\n';
	}
	assert_int_equal(w->body_n, n);
	assert_memory_equal(w->body, want, n);
	free(want);
}

static void server_event(struct wire *w, const struct psmtp_server_event *e)
{
	struct psmtp_server_facts facts;

	switch (e->type) {
	case PSMTP_SERVER_CONNECT:
	case PSMTP_SERVER_HELLO:
	case PSMTP_SERVER_STARTTLS:
	case PSMTP_SERVER_MAIL:
		verdict(w, PSMTP_YES);
		break;
	case PSMTP_SERVER_RCPT:
		w->rcpts_seen++;
		verdict(w, e->rcpt->recipient.local.p[0] == 'r' ? PSMTP_NO_PERMANENT : PSMTP_YES);
		break;
	case PSMTP_SERVER_AUTH:
		assert_true(e->auth_has_data);
		assert_memory_equal(e->auth_data.p, "\0user\0pass", 10);
		w->auths++;
		psmtp_server_answer(w->server,
			&(struct psmtp_verdict){ .kind = PSMTP_YES, .identity = TEXT("user") }, 0);
		break;
	case PSMTP_SERVER_BODY_BEGIN:
		w->body_n = 0;
		verdict(w, PSMTP_YES);
		break;
	case PSMTP_SERVER_BODY:
		assert_true(w->body_n + e->body.n <= BODY_MAX);
		memcpy(w->body + w->body_n, e->body.p, e->body.n);
		w->body_n += e->body.n;
		break;
	case PSMTP_SERVER_BODY_END:
		psmtp_server_get_facts(w->server, &facts);
		assert_int_equal(facts.tls, w->tls != PSMTP_CLIENT_TLS_NONE);
		if (e->rcpt_index == 0)
			body_check(w);
		verdict(w, e->rcpt_index == 1 ? PSMTP_NO_TEMPORARY : PSMTP_YES);
		if (!(w->options & LMTP) || e->rcpt_index == 1)
			w->arrived++;
		break;
	case PSMTP_SERVER_TLS_START:
		w->server_tls = true;
		break;
	case PSMTP_SERVER_REJECTED: /* our own verdicts with the library's words are no surprise */
		if (strcmp(e->reason, "permanent") == 0 || strcmp(e->reason, "temporary") == 0)
			break;
		print_error("rejected: %.*s %d %s\n", (int)e->command.n, e->command.p, e->reply.code, e->reason);
		w->failed = true;
		break;
	case PSMTP_SERVER_CLOSE:
		assert_string_equal(e->reason, "quit");
		w->server_over = true;
		break;
	case PSMTP_SERVER_RESET:
	case PSMTP_SERVER_AUTH_DATA:
		break;
	}
}

/* ---- the client's caller ---- */

static void client_ready(struct wire *w)
{
	struct psmtp_client_message m = { .sender = TEXT("s@a.test"), .rcpts = rcpts, .rcpt_count = 3, .ret = PSMTP_RET_HDRS,
		.envid = TEXT("id=1") };

	if (w->sending == MESSAGES) {
		assert_int_equal(psmtp_client_quit(w->client, 0), 0);
		return;
	}
	m.size = w->letters[w->sending].n;
	m.has_8bit = w->letters[w->sending].has_8bit;
	m.binary = w->options & BINARY;
	w->body_at = 0;
	w->results = 0;
	assert_int_equal(psmtp_client_send(w->client, &m, 0), 0);
}

static void client_result(struct wire *w, const struct psmtp_client_event *e)
{
	int want = e->rcpt_index == 0 ? 250 : e->rcpt_index == 1 ? 550 : w->options & LMTP ? 451 : 250;

	assert_int_equal(e->reply.code, want);
	assert_false(w->results & 1u << e->rcpt_index); /* exactly one each */
	w->results |= 1u << e->rcpt_index;
}

static void client_event(struct wire *w, const struct psmtp_client_event *e)
{
	switch (e->type) {
	case PSMTP_CLIENT_READY:
		client_ready(w);
		break;
	case PSMTP_CLIENT_TLS_START:
		w->client_tls = true;
		break;
	case PSMTP_CLIENT_AUTH:
		assert_int_equal(psmtp_client_auth_answer(w->client, (struct psmtp_view){ "\0user\0pass", 10 }, false, 0), 0);
		break;
	case PSMTP_CLIENT_BODY:
		w->writing = true;
		break;
	case PSMTP_CLIENT_RESULT:
		client_result(w, e);
		break;
	case PSMTP_CLIENT_DONE:
		assert_int_equal(w->results, 7);
		w->done++;
		w->sending++;
		w->writing = false;
		break;
	case PSMTP_CLIENT_CLOSE:
		w->client_over = true;
		break;
	case PSMTP_CLIENT_TLS_REFUSED:
	case PSMTP_CLIENT_FAILED:
		print_error("failed: %s %d %.*s\n", e->reason, e->reply.code, (int)e->reply.text.n, e->reply.text.p);
		w->failed = true;
		w->client_over = true;
		break;
	case PSMTP_CLIENT_RCPT:
		break;
	}
}

/* ---- the wire ---- */

static bool drain(struct wire *w)
{
	struct psmtp_client_event c;
	struct psmtp_server_event s;
	bool any = false;

	for (; psmtp_client_next(w->client, &c, 0); any = true)
		client_event(w, &c);
	for (; psmtp_server_next(w->server, &s, 0); any = true)
		server_event(w, &s);
	return any;
}

static bool write_body(struct wire *w)
{
	const struct letter *l;
	size_t n, taken;

	if (!w->writing)
		return false;
	l = &w->letters[w->sending];
	n = l->n - w->body_at;
	if (n > 1000 * w->piece)
		n = 1000 * w->piece;
	taken = psmtp_client_body(w->client, l->octets + w->body_at, n, w->body_at + n == l->n, 0);
	w->body_at += taken;
	w->writing = w->body_at != l->n;
	return taken > 0 || !w->writing;
}

static bool to_server(struct wire *w)
{
	struct psmtp_view out = psmtp_client_output(w->client);
	size_t n = out.n < w->piece ? out.n : w->piece, used;
	char bytes[4096];

	if (!n || w->server_over)
		return false;
	memcpy(bytes, out.p, n);
	psmtp_client_sent(w->client, n, 0);
	for (used = 0; used < n; drain(w))
		used += psmtp_server_feed(w->server, w->epoch, bytes + used, n - used, 0);
	return true;
}

static bool to_client(struct wire *w)
{
	struct psmtp_view out = psmtp_server_output(w->server);
	size_t n = out.n < w->piece ? out.n : w->piece, used;
	char bytes[4096];

	if (!n)
		return false;
	memcpy(bytes, out.p, n);
	psmtp_server_sent(w->server, n, 0);
	for (used = 0; used < n; drain(w))
		used += psmtp_client_feed(w->client, w->epoch, bytes + used, n - used, 0);
	return true;
}

static bool shake_hands(struct wire *w)
{
	const struct psmtp_tls_facts facts = { TEXT("TLSv1.3"), TEXT("TLS_NULL") };

	if (!w->client_tls || !w->server_tls || psmtp_server_output(w->server).n)
		return false;
	assert_int_equal(psmtp_client_output(w->client).n, 0);
	w->client_tls = w->server_tls = false;
	w->epoch = 2;
	assert_int_equal(psmtp_client_tls_up(w->client, &facts, 0), 0);
	assert_int_equal(psmtp_server_tls_up(w->server, &facts, 0), 0);
	return true;
}

static void carry(const struct letter *letters, unsigned options, enum psmtp_client_tls tls, size_t piece)
{
	struct wire w = { .options = options, .tls = tls, .piece = piece, .epoch = 1, .letters = letters,
		.body = malloc(BODY_MAX) };
	const struct psmtp_client_options co = { .hello = TEXT("client.test"), .tls = tls, .lmtp = options & LMTP,
		.no_pipelining = options & NO_PIPELINING, .auth_in_clear = true,
		.auth_mechanism = { "PLAIN", options & AUTH ? 5 : 0 } };
	const struct psmtp_server_options so = { .hostname = TEXT("server.test"), .lmtp = options & LMTP,
		.tls = tls == PSMTP_CLIENT_TLS_NONE ? PSMTP_TLS_NONE : tls == PSMTP_CLIENT_TLS_IMPLICIT ? PSMTP_TLS_IMPLICIT :
			tls == PSMTP_CLIENT_TLS_MAY ? PSMTP_TLS_STARTTLS : PSMTP_TLS_REQUIRED,
		.no_chunking = options & NO_CHUNKING, .binarymime = options & BINARY, .auth = TEXT("PLAIN LOGIN"),
		.auth_in_clear = true };

	w.client = psmtp_client_new(&co, &memory, 0);
	w.server = psmtp_server_new(&so, &memory, 0);
	assert_true(w.client && w.server);
	w.client_tls = w.server_tls = tls == PSMTP_CLIENT_TLS_IMPLICIT;
	while (drain(&w) || shake_hands(&w) || write_body(&w) || to_server(&w) || to_client(&w))
		assert_false(w.failed);
	assert_true(w.client_over && w.server_over);
	assert_int_equal(w.done, MESSAGES);
	assert_int_equal(w.arrived, MESSAGES);
	assert_int_equal(w.rcpts_seen, 3 * MESSAGES);
	assert_int_equal(w.auths, (options & AUTH) != 0);
	psmtp_client_free(w.client);
	psmtp_server_free(w.server);
	free(w.body);
}

/* Octets that lines can be cut from in every wrong way. */
static void letters_make(struct letter letters[MESSAGES], size_t large)
{
	char *many = malloc(large);
	unsigned x = 12345;

	for (size_t i = 0; i < large; i++) {
		x = x * 1103515245 + 12345;
		many[i] = "ab.\r\n\r\n.x \xe4z.\n.\r..c"[x >> 16 & 15];
	}
	letters[0] = LETTER("Subject: hello\r\n\r\n.\r\n..\r\nbody\r\n");
	letters[1] = LETTER("no end of line");
	letters[2] = LETTER("");
	letters[3] = (struct letter){ many, large, true };
	letters[4] = LETTER(".\r\n.\r\nMAIL FROM:<x@y>\r\n\r");
}

static void all_options(void **state)
{
	struct letter letters[MESSAGES];

	(void)state;
	letters_make(letters, 3000);
	for (enum psmtp_client_tls tls = PSMTP_CLIENT_TLS_NONE; tls <= PSMTP_CLIENT_TLS_IMPLICIT; tls++)
		for (unsigned options = 0; options < OPTIONS_END; options++) {
			if (options & BINARY && options & NO_CHUNKING)
				continue; /* it could not be sent: client_message.c */
			for (size_t piece = 1; piece <= 4096; piece = piece == 1 ? 7 : piece == 7 ? 4096 : 8192)
				carry(letters, options, tls, piece);
		}
	free((char *)letters[3].octets);
}

static void large(void **state)
{
	struct letter letters[MESSAGES];

	(void)state;
	letters_make(letters, 400000);
	carry(letters, 0, PSMTP_CLIENT_TLS_MAY, 4096);
	carry(letters, NO_CHUNKING, PSMTP_CLIENT_TLS_MAY, 4096);
	carry(letters, NO_PIPELINING, PSMTP_CLIENT_TLS_MAY, 4096);
	carry(letters, BINARY, PSMTP_CLIENT_TLS_MUST, 4096);
	carry(letters, BINARY | NO_PIPELINING, PSMTP_CLIENT_TLS_NONE, 1000);
	carry(letters, LMTP, PSMTP_CLIENT_TLS_NONE, 1000);
	free((char *)letters[3].octets);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all_options), cmocka_unit_test(large) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
