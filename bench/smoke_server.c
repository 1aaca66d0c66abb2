/* smoke_server.c - scenarios of psmtp_server: a session with one message, with twenty, and one by BDAT; commands pipelined as
 * senders do.  Also the scan that the daemon lays over each body (mail/scan.h, psmtp_scan).
 */
#include "smoke.h"

#include "mail/scan.h"

#include <psmtp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1000000u

static char text[SMOKE_SIZE], stuffed[SMOKE_SIZE * 2], chunk[SMOKE_SIZE * 2];
static size_t text_n, stuffed_n, chunk_n;
static unsigned accepted;

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
	char *at = stuffed;

	(void)n, (void)folder;
	text_n = smoke_text(text);
	for (size_t i = 0; i < text_n; i++) {
		if (text[i] == '.' && i && text[i - 1] == '\n')
			*at++ = '.';
		*at++ = text[i];
	}
	memcpy(at, ".\r\n", 3);
	stuffed_n = (size_t)(at - stuffed) + 3;
	chunk_n = (size_t)snprintf(chunk, sizeof chunk, "MAIL FROM:<a@src.test>\r\nRCPT TO:<b@sink.test>\r\nBDAT %zu LAST\r\n", text_n);
	memcpy(chunk + chunk_n, text, text_n);
	chunk_n += text_n;
}

static void drain(struct psmtp_server *s)
{
	const struct psmtp_verdict yes = { .kind = PSMTP_YES };
	struct psmtp_server_event e;

	while (psmtp_server_next(s, &e, NOW)) {
		switch (e.type) {
		case PSMTP_SERVER_BODY_END:
			accepted++;
			psmtp_server_answer(s, &yes, NOW);
			break;
		case PSMTP_SERVER_CONNECT:
		case PSMTP_SERVER_HELLO:
		case PSMTP_SERVER_MAIL:
		case PSMTP_SERVER_RCPT:
		case PSMTP_SERVER_BODY_BEGIN:
			psmtp_server_answer(s, &yes, NOW);
			break;
		default:
			break;
		}
	}
	psmtp_server_sent(s, psmtp_server_output(s).n, NOW);
}

static void say(struct psmtp_server *s, const char *bytes, size_t n)
{
	for (size_t at = 0; at < n; drain(s))
		at += psmtp_server_feed(s, 1, bytes + at, n - at, NOW);
}

#define SAY(s, literal) say(s, literal, sizeof literal - 1)

static void sessions(unsigned n, unsigned each, bool bdat)
{
	const struct psmtp_allocator memory = { resize, NULL };
	const struct psmtp_server_options options = { .hostname = { "mx.sink.test", 12 }, .tls = PSMTP_TLS_STARTTLS };

	accepted = 0;
	for (unsigned i = 0; i < n / each; i++) {
		struct psmtp_server *s = psmtp_server_new(&options, &memory, NOW);

		drain(s);
		SAY(s, "EHLO a.example\r\n");
		for (unsigned j = 0; j < each; j++) {
			if (bdat) {
				say(s, chunk, chunk_n);
			} else {
				SAY(s, "MAIL FROM:<a@src.test>\r\nRCPT TO:<b@sink.test>\r\nDATA\r\n");
				say(s, stuffed, stuffed_n);
			}
		}
		SAY(s, "QUIT\r\n");
		psmtp_server_free(s);
	}
	if (accepted != n)
		smoke_die("the server did not take all messages");
}

static void run_1(unsigned n)
{
	sessions(n, 1, false);
}

static void run_20(unsigned n)
{
	sessions(n, 20, false);
}

static void run_bdat(unsigned n)
{
	sessions(n, 20, true);
}

const struct smoke smoke_server_1 = { "server-1", prepare, run_1 };
const struct smoke smoke_server_20 = { "server-20", prepare, run_20 };
const struct smoke smoke_server_bdat = { "server-20-bdat", prepare, run_bdat };

static void run_scan(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct mail_scan header = { 0 };
		struct psmtp_scan content = { 0 };

		mail_scan_bytes(&header, view_of(text, text_n));
		psmtp_scan_bytes(&content, text, text_n);
		if (header.received != 1 || content.has_8bit)
			smoke_die("the scan misread the message");
	}
}

const struct smoke smoke_scan = { "scan", prepare, run_scan };
