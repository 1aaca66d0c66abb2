/* send-mail - a small SMTP client on libpsmtp: a blocking socket, STARTTLS by OpenSSL, the message from standard input.
 *
 *   send-mail [--ca FILE] HOST PORT FROM TO... < message
 *
 * With --ca TLS is required, and HOST must be the name in a certificate that FILE vouches for; without it TLS is used
 * when the server offers it, whoever it is.  Exit 0: every recipient was accepted; 1: not; 2: usage.
 * What to look at: main() holds the loop that every user of the library has (events, body, bytes out, bytes in).
 */
#include <netdb.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <psmtp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct session {
	int fd;
	SSL *ssl; /* NULL while in clear */
	struct psmtp_client *smtp;
	const char *host, *ca;
	struct psmtp_client_message message;
	char *text; /* the message, and how much of it has been handed over */
	size_t length, taken;
	bool sent, writing, over;
	uint32_t refused, results;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void *resize(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size)
		return realloc(old, size);
	free(old);
	return NULL;
}

static void die(const char *what)
{
	fprintf(stderr, "send-mail: %s\n", what);
	exit(1);
}

/* ---- bytes ---- */

static int connect_to(const char *host, const char *port)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *a;
	int fd = -1;

	if (getaddrinfo(host, port, &hints, &list) != 0)
		die("the host is not known");
	for (a = list; a && fd == -1; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
		if (fd != -1 && connect(fd, a->ai_addr, a->ai_addrlen) == -1) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	if (fd == -1)
		die("cannot connect");
	return fd;
}

/* Writes out all that the session wants to say; false when there was nothing. */
static bool flush_output(struct session *s)
{
	struct psmtp_view out = psmtp_client_output(s->smtp);
	bool any = out.n > 0;

	while (out.n) {
		long n = s->ssl ? SSL_write(s->ssl, out.p, (int)out.n) : send(s->fd, out.p, out.n, 0);

		if (n <= 0) {
			psmtp_client_peer_closed(s->smtp, now_ms());
			return true;
		}
		psmtp_client_sent(s->smtp, (size_t)n, now_ms());
		out = psmtp_client_output(s->smtp);
	}
	return any;
}

static void on_event(struct session *s, const struct psmtp_client_event *e);

/* All events that there are; true when there was one. */
static bool drain(struct session *s)
{
	struct psmtp_client_event e;
	bool any = false;

	for (; psmtp_client_next(s->smtp, &e, now_ms()); any = true)
		on_event(s, &e);
	return any;
}

/* Reads what is there, or waits for it until the session's deadline. */
static void read_input(struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	uint64_t now = now_ms(), deadline = psmtp_client_deadline(s->smtp);
	int wait = deadline <= now ? 0 : deadline - now > 1000000 ? 1000000 : (int)(deadline - now);
	unsigned epoch = s->ssl ? 2 : 1; /* bytes belong to the epoch in which they arrived */
	char buffer[16384];
	long n;

	if ((!s->ssl || !SSL_pending(s->ssl)) && poll(&p, 1, wait) <= 0) {
		psmtp_client_timeout(s->smtp, now_ms());
		return;
	}
	n = s->ssl ? SSL_read(s->ssl, buffer, sizeof buffer) : recv(s->fd, buffer, sizeof buffer, 0);
	if (n <= 0)
		psmtp_client_peer_closed(s->smtp, now_ms());
	for (long at = 0; at < n; drain(s)) /* what is not taken is fed again, when the events have been drained */
		at += (long)psmtp_client_feed(s->smtp, epoch, buffer + at, (size_t)(n - at), now_ms());
}

static void start_tls(struct session *s)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
	const struct psmtp_tls_facts facts = { { 0 }, { 0 } };

	SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
	if (s->ca && SSL_CTX_load_verify_locations(tls, s->ca, NULL) != 1)
		die("cannot use the CA file");
	SSL_CTX_set_verify(tls, s->ca ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	s->ssl = SSL_new(tls);
	SSL_CTX_free(tls);
	SSL_set_tlsext_host_name(s->ssl, s->host);
	SSL_set_hostflags(s->ssl, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT); /* subjectAltName alone decides */
	SSL_set1_host(s->ssl, s->host);
	SSL_set_fd(s->ssl, s->fd);
	if (SSL_connect(s->ssl) == 1)
		psmtp_client_tls_up(s->smtp, &facts, now_ms());
	else
		psmtp_client_tls_failed(s->smtp, now_ms());
}

/* ---- events ---- */

static void on_event(struct session *s, const struct psmtp_client_event *e)
{
	switch (e->type) {
	case PSMTP_CLIENT_READY:
		if (s->sent || psmtp_client_send(s->smtp, &s->message, now_ms()) == -1)
			psmtp_client_quit(s->smtp, now_ms());
		s->sent = true;
		break;
	case PSMTP_CLIENT_TLS_START:
		start_tls(s);
		break;
	case PSMTP_CLIENT_TLS_REFUSED:
		fprintf(stderr, "going on without TLS: %s\n", e->reason);
		break;
	case PSMTP_CLIENT_BODY:
		s->writing = true;
		break;
	case PSMTP_CLIENT_RESULT: {
		struct psmtp_view to = s->message.rcpts[e->rcpt_index].address;

		printf("%.*s: %d %.*s\n", (int)to.n, to.p, e->reply.code, (int)e->reply.text.n, e->reply.text.p);
		s->results++;
		s->refused += e->reply.code / 100 != 2;
		break;
	}
	case PSMTP_CLIENT_DONE:
		s->writing = false;
		break;
	case PSMTP_CLIENT_FAILED:
		fprintf(stderr, "failed: %s %d %.*s\n", e->reason, e->reply.code, (int)e->reply.text.n, e->reply.text.p);
		s->writing = false;
		break;
	case PSMTP_CLIENT_CLOSE:
		s->over = true;
		break;
	default: /* RCPT: its result follows; AUTH: not asked for */
		break;
	}
}

/* Hands over as much of the message as is taken now; true when something was. */
static bool write_body(struct session *s)
{
	size_t rest = s->length - s->taken, n;

	if (!s->writing)
		return false;
	n = psmtp_client_body(s->smtp, s->text + s->taken, rest, true, now_ms());
	s->taken += n;
	if (n == rest)
		s->writing = false;
	return n > 0 || n == rest;
}

/* ---- start ---- */

static void read_message(struct session *s)
{
	struct psmtp_scan scan = { 0 };
	size_t n, room = 0;

	do {
		if (s->length == room && !(s->text = realloc(s->text, room = room * 2 + 65536)))
			die("out of memory");
		n = fread(s->text + s->length, 1, room - s->length, stdin);
		s->length += n;
	} while (n);
	psmtp_scan_bytes(&scan, s->text, s->length); /* what the message needs is judged from its bytes */
	s->message.has_8bit = scan.has_8bit;
	s->message.has_utf8 = scan.header_8bit;
	s->message.size = s->length;
}

int main(int argc, char **argv)
{
	const struct psmtp_allocator memory = { resize, NULL };
	struct psmtp_client_options options = { .hello = { "send-mail.test", 14 }, .tls = PSMTP_CLIENT_TLS_MAY };
	struct session s = { 0 };
	struct psmtp_client_rcpt *rcpts;

	if (argc > 2 && strcmp(argv[1], "--ca") == 0) {
		s.ca = argv[2];
		options.tls = PSMTP_CLIENT_TLS_MUST;
		argc -= 2, argv += 2;
	}
	if (argc < 5 || !(rcpts = calloc((size_t)argc, sizeof *rcpts))) {
		fprintf(stderr, "usage: send-mail [--ca FILE] HOST PORT FROM TO... < message\n");
		return 2;
	}
	for (int i = 4; i < argc; i++)
		rcpts[s.message.rcpt_count++].address = (struct psmtp_view){ argv[i], strlen(argv[i]) };
	s.message.rcpts = rcpts;
	s.message.sender = (struct psmtp_view){ argv[3], strlen(argv[3]) };
	s.host = argv[1];
	signal(SIGPIPE, SIG_IGN);
	read_message(&s);
	s.fd = connect_to(argv[1], argv[2]);
	if (!(s.smtp = psmtp_client_new(&options, &memory, now_ms())))
		die("out of memory");
	while (!s.over) /* whatever can go on without the server goes first */
		if (!drain(&s) && !write_body(&s) && !flush_output(&s))
			read_input(&s);
	psmtp_client_free(s.smtp);
	if (s.ssl)
		SSL_shutdown(s.ssl);
	SSL_free(s.ssl);
	close(s.fd);
	free(s.text);
	free(rcpts);
	return s.results == s.message.rcpt_count && s.refused == 0 ? 0 : 1;
}
