/* smoke_client.c - scenarios of psmtp_client: sessions with one message and with twenty against the replies of a server. */
#include "smoke.h"

#include <psmtp.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1000000u

static char text[SMOKE_SIZE];
static size_t text_n;
static unsigned delivered;

static void *resize(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size)
		return realloc(old, size);
	free(old);
	return NULL;
}

static void prepare(unsigned n, const char *folder)
{
	(void)n, (void)folder;
	text_n = smoke_text(text);
}

struct session {
	struct psmtp_client *smtp;
	struct psmtp_client_message message;
	unsigned left;
	bool closed;
};

static void drain(struct session *s)
{
	struct psmtp_client_event e;

	while (psmtp_client_next(s->smtp, &e, NOW)) {
		switch (e.type) {
		case PSMTP_CLIENT_READY:
			if (s->left ? psmtp_client_send(s->smtp, &s->message, NOW) : psmtp_client_quit(s->smtp, NOW))
				smoke_die("the client was not ready");
			break;
		case PSMTP_CLIENT_BODY:
			if (psmtp_client_body(s->smtp, text, text_n, true, NOW) != text_n)
				smoke_die("the client did not take the body");
			break;
		case PSMTP_CLIENT_RESULT:
			delivered += e.reply.code == 250;
			break;
		case PSMTP_CLIENT_DONE:
			s->left--;
			break;
		case PSMTP_CLIENT_CLOSE:
			s->closed = true;
			break;
		case PSMTP_CLIENT_FAILED:
			smoke_die(e.reason);
		default:
			break;
		}
	}
	psmtp_client_sent(s->smtp, psmtp_client_output(s->smtp).n, NOW);
}

static void hear(struct session *s, const char *reply)
{
	size_t n = strlen(reply);

	drain(s);
	for (size_t at = 0; at < n; drain(s))
		at += psmtp_client_feed(s->smtp, 1, reply + at, n - at, NOW);
}

static void sessions(unsigned n, unsigned each)
{
	static const char hello[] = "250-mx.sink.test\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n";
	const struct psmtp_allocator memory = { resize, NULL };
	const struct psmtp_client_options options = { .hello = { "a.example", 9 }, .tls = PSMTP_CLIENT_TLS_NONE };
	const struct psmtp_client_rcpt to = { .address = { "b@sink.test", 11 } };

	delivered = 0;
	for (unsigned i = 0; i < n / each; i++) {
		struct session s = { .smtp = psmtp_client_new(&options, &memory, NOW), .left = each,
			.message = { .sender = { "a@src.test", 10 }, .rcpts = &to, .rcpt_count = 1, .size = text_n } };

		hear(&s, "220 mx.sink.test ESMTP\r\n");
		hear(&s, hello);
		for (unsigned j = 0; j < each; j++) {
			hear(&s, "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n");
			hear(&s, "250 2.0.0 queued as 12345\r\n");
		}
		hear(&s, "221 2.0.0 bye\r\n");
		if (!s.closed)
			smoke_die("the client did not end");
		psmtp_client_free(s.smtp);
	}
	if (delivered != n)
		smoke_die("the client did not deliver all messages");
}

static void run_1(unsigned n)
{
	sessions(n, 1);
}

static void run_20(unsigned n)
{
	sessions(n, 20);
}

const struct smoke smoke_client_1 = { "client-1", prepare, run_1 };
const struct smoke smoke_client_20 = { "client-20", prepare, run_20 };
