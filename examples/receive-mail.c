/* receive-mail - a small SMTP server on libpsmtp: blocking sockets, STARTTLS by OpenSSL, a file for each message.
 *
 *   receive-mail ADDRESS PORT DIRECTORY [CERTIFICATE.pem KEY.pem]
 *
 * It serves one client after the other and accepts mail for everybody, so keep it away from the Internet.  PORT 0 takes
 * a free one; the port is printed.  What to look at: serve() is the loop that every user of the library has (bytes in,
 * events, bytes out), and on_event() answers the questions.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <psmtp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct session {
	int fd;
	SSL *ssl; /* NULL while in clear */
	struct psmtp_server *smtp;
	const char *directory;
	SSL_CTX *tls; /* NULL: STARTTLS is not offered */
	FILE *file;   /* of the message that is being received */
	char path[4096], temporary[4096 + 4];
	bool over;
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

/* ---- the message on disk: a temporary name until it is complete and synced ---- */

static bool file_open(struct session *s)
{
	static unsigned count;

	snprintf(s->path, sizeof s->path, "%s/%ld-%u.eml", s->directory, (long)time(NULL), ++count);
	snprintf(s->temporary, sizeof s->temporary, "%s.tmp", s->path);
	s->file = fopen(s->temporary, "wx");
	return s->file != NULL;
}

static void file_discard(struct session *s)
{
	if (!s->file)
		return;
	fclose(s->file);
	unlink(s->temporary);
	s->file = NULL;
}

/* True when the message is safe: only then may the client hear 250. */
static bool file_keep(struct session *s)
{
	bool ok = !ferror(s->file) && fflush(s->file) == 0 && fsync(fileno(s->file)) == 0;

	if (!ok || rename(s->temporary, s->path) == -1) {
		file_discard(s);
		return false;
	}
	fclose(s->file);
	s->file = NULL;
	printf("received %s\n", s->path);
	return true;
}

/* ---- bytes ---- */

/* Writes out all that the session wants to say. */
static void flush_output(struct session *s)
{
	struct psmtp_view out;

	while ((out = psmtp_server_output(s->smtp)).n) {
		long n = s->ssl ? SSL_write(s->ssl, out.p, (int)out.n) : send(s->fd, out.p, out.n, 0);

		if (n <= 0) {
			s->over = true;
			return;
		}
		psmtp_server_sent(s->smtp, (size_t)n, now_ms());
	}
}

/* Reads what is there, or waits for it until the session's deadline.  0: the peer has closed; -1: time is up. */
static long read_input(struct session *s, void *to, size_t size)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	uint64_t now = now_ms(), deadline = psmtp_server_deadline(s->smtp);
	int wait = deadline <= now ? 0 : deadline - now > 1000000 ? 1000000 : (int)(deadline - now);
	long n;

	if ((!s->ssl || !SSL_pending(s->ssl)) && poll(&p, 1, wait) <= 0)
		return -1;
	n = s->ssl ? SSL_read(s->ssl, to, (int)size) : recv(s->fd, to, size, 0);
	return n > 0 ? n : 0;
}

static void start_tls(struct session *s)
{
	struct psmtp_tls_facts facts;

	flush_output(s); /* the 220 goes in clear */
	s->ssl = SSL_new(s->tls);
	SSL_set_fd(s->ssl, s->fd);
	if (s->over || SSL_accept(s->ssl) != 1) {
		psmtp_server_tls_failed(s->smtp, now_ms());
		return;
	}
	facts.protocol = (struct psmtp_view){ SSL_get_version(s->ssl), strlen(SSL_get_version(s->ssl)) };
	facts.cipher = (struct psmtp_view){ SSL_get_cipher(s->ssl), strlen(SSL_get_cipher(s->ssl)) };
	psmtp_server_tls_up(s->smtp, &facts, now_ms());
}

/* ---- events ---- */

static void answer(struct session *s, bool yes)
{
	const struct psmtp_verdict v = { .kind = yes ? PSMTP_YES : PSMTP_NO_TEMPORARY }; /* the library knows the words */

	psmtp_server_answer(s->smtp, &v, now_ms());
}

/* Before STARTTLS is answered: did anything arrive behind it?  The library must see it, and will refuse. */
static void read_behind(struct session *s)
{
	char byte;

	if (recv(s->fd, &byte, 1, MSG_DONTWAIT) == 1)
		psmtp_server_feed(s->smtp, 1, &byte, 1, now_ms());
}

static void on_event(struct session *s, const struct psmtp_server_event *e)
{
	switch (e->type) {
	case PSMTP_SERVER_CONNECT:
	case PSMTP_SERVER_HELLO:
	case PSMTP_SERVER_MAIL:
	case PSMTP_SERVER_RCPT:
		answer(s, true); /* a real server looks at the sender and the recipient here */
		break;
	case PSMTP_SERVER_STARTTLS:
		read_behind(s);
		answer(s, true);
		break;
	case PSMTP_SERVER_BODY_BEGIN:
		answer(s, file_open(s));
		break;
	case PSMTP_SERVER_BODY:
		if (s->file)
			fwrite(e->body.p, 1, e->body.n, s->file);
		break;
	case PSMTP_SERVER_BODY_END:
		answer(s, s->file && file_keep(s));
		break;
	case PSMTP_SERVER_RESET:
		file_discard(s);
		break;
	case PSMTP_SERVER_TLS_START:
		start_tls(s);
		break;
	case PSMTP_SERVER_REJECTED:
		fprintf(stderr, "rejected %.*s: %d (%s)\n", (int)e->command.n, e->command.p, e->reply.code, e->reason);
		break;
	case PSMTP_SERVER_CLOSE:
		s->over = true;
		break;
	default: /* AUTH is not offered here */
		break;
	}
}

static void drain(struct session *s)
{
	struct psmtp_server_event e;
	bool wrote;

	do { /* the machine rests while many replies wait unsent: what stood behind them is served next */
		while (psmtp_server_next(s->smtp, &e, now_ms()))
			on_event(s, &e);
		wrote = psmtp_server_output(s->smtp).n > 0;
		flush_output(s);
	} while (wrote && !s->over);
}

static void serve(struct session *s)
{
	const struct psmtp_allocator memory = { resize, NULL };
	const struct psmtp_server_options options = { .hostname = { "receive-mail.test", 17 },
		.tls = s->tls ? PSMTP_TLS_STARTTLS : PSMTP_TLS_NONE };
	char buffer[16384];

	s->smtp = psmtp_server_new(&options, &memory, now_ms());
	if (!s->smtp)
		return;
	drain(s);
	while (!s->over) {
		unsigned epoch = s->ssl ? 2 : 1; /* bytes belong to the epoch in which they arrived */
		long n = read_input(s, buffer, sizeof buffer);

		if (n == -1)
			psmtp_server_timeout(s->smtp, now_ms());
		else if (n == 0)
			psmtp_server_peer_closed(s->smtp, now_ms());
		for (long at = 0; at < n && !s->over; drain(s)) /* what is not taken is fed again, when events were drained */
			at += (long)psmtp_server_feed(s->smtp, epoch, buffer + at, (size_t)(n - at), now_ms());
		drain(s);
	}
	file_discard(s);
	psmtp_server_free(s->smtp);
	if (s->ssl)
		SSL_shutdown(s->ssl);
	SSL_free(s->ssl);
}

/* ---- start ---- */

static SSL_CTX *tls_load(const char *certificate, const char *key)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

	if (SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) && SSL_CTX_use_certificate_chain_file(tls, certificate) == 1 &&
		SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) == 1)
		return tls;
	fprintf(stderr, "receive-mail: cannot use %s and %s\n", certificate, key);
	exit(1);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof address;
	SSL_CTX *tls;
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if ((argc != 4 && argc != 6) || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
		fprintf(stderr, "usage: receive-mail ADDRESS PORT DIRECTORY [CERTIFICATE.pem KEY.pem]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	tls = argc == 6 ? tls_load(argv[4], argv[5]) : NULL;
	address.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) == -1 || listen(listener, 16) == -1 ||
		getsockname(listener, (struct sockaddr *)&address, &length) == -1) {
		perror("receive-mail");
		return 1;
	}
	printf("listening %u\n", ntohs(address.sin_port));
	for (;;) {
		struct session s = { .fd = accept(listener, NULL, NULL), .directory = argv[3], .tls = tls };
		const struct timeval limit = { .tv_sec = 60 }; /* a client that does not read, or does not shake hands */

		if (s.fd == -1)
			continue;
		setsockopt(s.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
		setsockopt(s.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		serve(&s);
		close(s.fd);
	}
}
