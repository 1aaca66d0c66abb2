/* load_session.c - one session of the loader: a socket, perhaps TLS, and a psmtp_client between them.
 *
 * Order of one round: events of the library, then as much of the body as it takes, then its output to the socket, until
 * nothing moves.  The text of the messages is made once; what the library copies of it, dots stuffed, is what any
 * client built on it pays.
 * A message that is refused or deferred is counted and the session goes on, as a sender's would.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define ASK (EPOLLIN)
#define ASK_BOTH (EPOLLIN | EPOLLOUT)

static uint64_t ms(int64_t us)
{
	return (uint64_t)us / 1000;
}

/* ---- failure ---- */

static void fail(struct session *s, const char *reason, int code, struct psmtp_view words)
{
	struct load_count *c = &s->w->count;
	size_t i = 0;

	if (s->failed)
		return;
	s->failed = s->over = true;
	c->lost += s->in_message;
	while (i < ERRORS_MAX - 1 && c->errors[i].n && strcmp(c->errors[i].reason, reason) != 0)
		i++;
	c->errors[i].reason = reason;
	c->errors[i].n++;
	if (!c->first_error[0])
		snprintf(c->first_error, sizeof c->first_error, "%s after %ld messages: %d %.*s", reason, s->done, code, (int)words.n, words.p);
}

static void fail_sys(struct session *s, const char *reason, int err)
{
	fail(s, reason, err, text_view(strerror(err)));
}

/* ---- messages ---- */

static void message_begin(struct session *s, int64_t now)
{
	long id = load.number_from + s->number * load.per_session + s->done;
	const char *domain = load.domain;

	for (long i = 0; i < load.rcpts; i++) {
		char *to = s->room->address[i];
		int n;

		if (load.domains)
			n = snprintf(to, ADDRESS_MAX, "%s%ld@d%ld.%s", load.local, i, load.domains_from + id % load.domains, domain);
		else
			n = snprintf(to, ADDRESS_MAX, "%s%ld@%s", load.local, i, domain);
		s->room->rcpts[i].address = (struct psmtp_view){ to, (size_t)n };
	}
	s->head_n = (size_t)snprintf(s->room->head, HEAD_MAX,
		"From: <%s>\r\nTo: <%s>\r\nSubject: load %s-%ld\r\nMessage-ID: <%s-%ld@bench.test>\r\n"
		"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n" ID_HEADER "%s-%ld\r\n\r\n",
		load.sender, s->room->address[0], load.run, id, load.run, id, load.run, id);
	s->head_at = s->text_at = 0;
	s->accepted = s->in_message = true;
	s->message = (struct psmtp_client_message){ .sender = text_view(load.sender), .rcpts = s->room->rcpts,
		.rcpt_count = (uint32_t)load.rcpts };
	s->message_began = now;
	if (psmtp_client_send(s->smtp, &s->message, ms(now)) == -1)
		fail(s, "out_of_turn", 0, text_view("the library did not take the message"));
}

static void ready(struct session *s, int64_t now)
{
	if (load.hold > 0) {
		s->step = SESSION_HOLDING;
		psmtp_client_idle(s->smtp);
		session_holds(s);
	} else if (s->done < load.per_session) {
		message_begin(s, now);
	} else {
		psmtp_client_quit(s->smtp, ms(now));
	}
}

/* True when the library took something. */
static bool write_body(struct session *s, uint64_t now)
{
	size_t head, text, n, rest;

	if (!s->writing)
		return false;
	head = s->head_n - s->head_at;
	if (head) {
		n = psmtp_client_body(s->smtp, s->room->head + s->head_at, head, false, now);
		s->head_at += n;
		if (n < head)
			return n > 0;
	}
	rest = load.text_n - s->text_at;
	text = psmtp_client_body(s->smtp, load.text + s->text_at, rest, true, now);
	s->text_at += text;
	s->writing = text < rest;
	return text > 0;
}

static void result(struct session *s, const struct psmtp_client_event *e)
{
	if (e->reply.code / 100 == 2)
		return;
	s->accepted = false;
	if (e->reply.code / 100 == 5)
		s->w->count.refused++;
	else
		s->w->count.deferred++;
}

static void done(struct session *s, int64_t now)
{
	s->writing = s->in_message = false;
	s->done++;
	if (!s->accepted)
		return;
	s->w->count.messages_ok++;
	samples_add(&s->w->count.message, now - s->message_began);
}

/* ---- TLS ---- */

static void tls_begin(struct session *s, int64_t now)
{
	s->io.ssl = SSL_new(s->w->tls);
	if (!s->io.ssl)
		die("no TLS session");
	SSL_set_fd(s->io.ssl, s->io.fd);
	SSL_set_connect_state(s->io.ssl);
	SSL_set_tlsext_host_name(s->io.ssl, load.name);
	if (s->w->ticket)
		SSL_set_session(s->io.ssl, s->w->ticket);
	s->step = SESSION_SHAKING;
	s->shake_began = now;
}

static void tls_note(struct session *s)
{
	struct load_count *c = &s->w->count;
	const char *group;

	c->resumed += SSL_session_reused(s->io.ssl);
	if (c->protocol[0])
		return;
	group = OBJ_nid2sn((int)(SSL_get_negotiated_group(s->io.ssl) & 0xffff));
	snprintf(c->protocol, sizeof c->protocol, "%s", SSL_get_version(s->io.ssl));
	snprintf(c->cipher, sizeof c->cipher, "%s", SSL_get_cipher_name(s->io.ssl));
	snprintf(c->group, sizeof c->group, "%s", group ? group : "?");
}

/* True when the handshake is through, well or not. */
static bool shake(struct session *s, int64_t *now)
{
	struct psmtp_tls_facts facts = { { 0 }, { 0 } };

	switch (pipe_shake(&s->io)) {
	case SHAKE_DONE:
		*now = now_us();
		samples_add(&s->w->count.handshake, *now - s->shake_began);
		tls_note(s);
		s->tls = true;
		s->step = SESSION_TALKING;
		pipe_watch(&s->io, s->w->epoll, ASK, s);
		if (psmtp_client_tls_up(s->smtp, &facts, ms(*now)) == -1)
			fail(s, "out_of_turn", 0, text_view("the library did not take the handshake"));
		return true;
	case SHAKE_READ:
		pipe_watch(&s->io, s->w->epoll, ASK, s);
		return false;
	case SHAKE_WRITE:
		pipe_watch(&s->io, s->w->epoll, ASK_BOTH, s);
		return false;
	default:
		psmtp_client_tls_failed(s->smtp, ms(*now));
		return true;
	}
}

/* ---- rounds ---- */

static void on_event(struct session *s, const struct psmtp_client_event *e, int64_t now)
{
	switch (e->type) {
	case PSMTP_CLIENT_READY:
		ready(s, now);
		break;
	case PSMTP_CLIENT_TLS_START:
		tls_begin(s, now);
		break;
	case PSMTP_CLIENT_BODY:
		s->writing = true;
		break;
	case PSMTP_CLIENT_RESULT:
		result(s, e);
		break;
	case PSMTP_CLIENT_DONE:
		done(s, now);
		break;
	case PSMTP_CLIENT_FAILED:
		fail(s, e->reason, e->reply.code, e->reply.text);
		break;
	case PSMTP_CLIENT_CLOSE:
		s->over = true;
		break;
	default: /* RCPT: its result follows.  TLS_REFUSED and AUTH: not under these options */
		break;
	}
}

static bool drain(struct session *s, int64_t now)
{
	struct psmtp_client_event e;
	bool any = false;

	for (; s->step != SESSION_SHAKING && psmtp_client_next(s->smtp, &e, ms(now)); any = true)
		on_event(s, &e, now);
	return any;
}

/* True when the socket took something; it is watched for room when it did not take all. */
static bool flush(struct session *s, int64_t now)
{
	struct psmtp_view out = psmtp_client_output(s->smtp);
	long n;

	if (!out.n) {
		pipe_watch(&s->io, s->w->epoll, ASK, s);
		return false;
	}
	n = pipe_write(&s->io, out.p, out.n);
	if (n == PIPE_AGAIN) {
		pipe_watch(&s->io, s->w->epoll, ASK_BOTH, s);
		return false;
	}
	if (n == PIPE_END) {
		psmtp_client_peer_closed(s->smtp, ms(now));
		fail(s, "write", 0, text_view(""));
		return false;
	}
	s->w->count.bytes_out += n;
	psmtp_client_sent(s->smtp, (size_t)n, ms(now));
	return true;
}

/* Until nothing moves. */
static void pump(struct session *s, int64_t now)
{
	bool moved = true;

	while (moved && s->step != SESSION_SHAKING) {
		moved = drain(s, now);
		if (s->step == SESSION_SHAKING)
			break;
		moved |= write_body(s, ms(now));
		if (!s->failed)
			moved |= flush(s, now);
	}
}

/* False: nothing more to read now. */
static bool read_once(struct session *s, int64_t now)
{
	char buffer[READ_SIZE];
	unsigned epoch = s->tls ? 2 : 1;
	long n = pipe_read(&s->io, buffer, sizeof buffer);

	if (n == PIPE_AGAIN)
		return false;
	if (n == PIPE_END) {
		psmtp_client_peer_closed(s->smtp, ms(now));
		pump(s, now);
		if (!s->over)
			fail(s, "eof", 0, text_view(""));
		return false;
	}
	for (long at = 0; at < n && !s->over && s->step != SESSION_SHAKING; pump(s, now))
		at += (long)psmtp_client_feed(s->smtp, epoch, buffer + at, (size_t)(n - at), ms(now));
	return s->tls && SSL_has_pending(s->io.ssl); /* what OpenSSL holds, epoll does not know of */
}

static void talk(struct session *s, uint32_t events, int64_t now)
{
	if (events & EPOLLOUT)
		pump(s, now);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		while (!s->over && (s->step == SESSION_TALKING || s->step == SESSION_HOLDING) && read_once(s, now))
			;
}

static void connected(struct session *s, uint32_t events, int64_t now)
{
	int err = 0;
	socklen_t n = sizeof err;

	if (events & (EPOLLERR | EPOLLHUP))
		getsockopt(s->io.fd, SOL_SOCKET, SO_ERROR, &err, &n);
	if (err) {
		fail_sys(s, "connect", err);
		return;
	}
	s->step = SESSION_TALKING;
	if (load.tls == LOAD_IMPLICIT)
		tls_begin(s, now);
	else
		pump(s, now);
}

static void settle(struct session *s)
{
	if (!s->over)
		return;
	pipe_close(&s->io);
	psmtp_client_free(s->smtp);
	s->smtp = NULL;
	session_settled(s);
}

void session_event(struct session *s, uint32_t events)
{
	int64_t now = now_us();

	if (!s->smtp)
		return;
	if (s->step == SESSION_CONNECTING)
		connected(s, events, now);
	if (s->step == SESSION_TALKING || s->step == SESSION_HOLDING)
		talk(s, events, now);
	if (s->step == SESSION_SHAKING && !s->over && shake(s, &now))
		pump(s, now);
	settle(s);
}

void session_sweep(struct session *s, uint64_t now)
{
	if (!s->smtp)
		return;
	if (s->step == SESSION_CONNECTING ? now > s->give_up_ms : now >= psmtp_client_deadline(s->smtp)) {
		if (s->step != SESSION_CONNECTING) {
			psmtp_client_timeout(s->smtp, now);
			s->step = SESSION_TALKING;
			drain(s, (int64_t)now * 1000);
		}
		fail(s, "timeout", 0, text_view("no progress"));
		settle(s);
	}
}

void session_release(struct session *s)
{
	if (!s->smtp)
		return;
	s->over = true;
	settle(s);
}

/* ---- start ---- */

static bool dial(struct session *s)
{
	int on = 1;

	s->io.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->io.fd == -1)
		return false;
	no_delay(s->io.fd);
	if (load.sources > 1) { /* 127.0.1.1 and up: many clients, and more ports than one address has */
		struct sockaddr_in from = { .sin_family = AF_INET };

		from.sin_addr.s_addr = htonl(0x7f000101u + (uint32_t)((s->w->id * 7 + s->w->source++) % load.sources));
		setsockopt(s->io.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
		if (bind(s->io.fd, (struct sockaddr *)&from, sizeof from) == -1)
			return false;
	}
	return connect(s->io.fd, (const struct sockaddr *)&load.to, sizeof load.to) == 0 || errno == EINPROGRESS;
}

void session_start(struct worker *w, long number, int64_t due)
{
	struct session *s = w->free[--w->free_n];
	struct load_room *room = s->room;
	int64_t now = now_us();

	*s = (struct session){ .w = w, .io = { .fd = -1 }, .step = SESSION_CONNECTING, .number = number, .began = due, .room = room };
	w->open++;
	w->pending++;
	s->smtp = psmtp_client_new(&load.smtp, &libc_memory, ms(now));
	if (!s->smtp)
		die("out of memory");
	s->give_up_ms = ms(now) + (uint64_t)load.timeout_ms;
	if (dial(s)) /* where the server speaks first, its greeting says that the connection stands */
		pipe_watch(&s->io, w->epoll, load.tls == LOAD_IMPLICIT ? EPOLLOUT : ASK, s);
	else
		fail_sys(s, "connect", errno);
	settle(s);
}
