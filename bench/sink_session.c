/* sink_session.c - one session of the sink.
 *
 * The same loop as any user of psmtp_server has: feed what was read, answer events, write what is shown.  Of a message only
 * its header is looked at, up to the line with the id.  An answer may be delayed (--delay): the session then reads nothing.
 */
#include "sink.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

static uint64_t ms(int64_t us)
{
	return (uint64_t)us / 1000;
}

static bool chance(struct sink_session *s, long percent)
{
	s->random = s->random * 6364136223846793005u + 1442695040888963407u;
	return percent && (long)((s->random >> 33) % 100) < percent;
}

/* ---- the header ---- */

static void line_end(struct sink_session *s)
{
	static const size_t n = sizeof ID_HEADER - 1;

	if (s->line_n == 0) { /* the header's end: there is no id */
		s->header = false;
	} else if (s->line_n > n && strncasecmp(s->line, ID_HEADER, n) == 0) {
		memcpy(s->id, s->line + n, s->line_n - n);
		s->id[s->line_n - n] = '\0';
		s->header = false;
	}
	s->line_n = 0;
}

static void look(struct sink_session *s, struct psmtp_view v)
{
	while (v.n && s->header) {
		const char *end = memchr(v.p, '\n', v.n);
		size_t line = end ? (size_t)(end - v.p) : v.n, room = LINE_KEPT - 1 - s->line_n, kept = line < room ? line : room;

		memcpy(s->line + s->line_n, v.p, kept);
		s->line_n += (unsigned)kept;
		if (!end)
			return;
		if (s->line_n && s->line[s->line_n - 1] == '\r')
			s->line_n--;
		line_end(s);
		v.p += line + 1;
		v.n -= line + 1;
	}
}

/* ---- answers ---- */

static void answer(struct sink_session *s, enum psmtp_verdict_kind kind, int64_t now)
{
	const struct psmtp_verdict v = { .kind = kind };

	psmtp_server_answer(s->smtp, &v, ms(now));
}

static void answer_message(struct sink_session *s, int64_t now)
{
	if (chance(s, sink.defer)) {
		atomic_fetch_add(&count.deferred, 1);
		answer(s, PSMTP_NO_TEMPORARY, now);
		return;
	}
	sink_book(s, now);
	answer(s, PSMTP_YES, now);
}

static void body_end(struct sink_session *s, int64_t now)
{
	if (!sink.delay_ms) {
		answer_message(s, now);
		return;
	}
	s->answer_at = now + sink.delay_ms * 1000;
	s->waiting = true;
	s->next = NULL;
	*s->w->delayed_end = s;
	s->w->delayed_end = &s->next;
}

static void rcpt(struct sink_session *s, int64_t now)
{
	bool no = chance(s, sink.reject);

	if (no)
		atomic_fetch_add(&count.rejected, 1);
	answer(s, no ? PSMTP_NO_PERMANENT : PSMTP_YES, now);
}

static void connect_(struct sink_session *s, int64_t now)
{
	static const struct psmtp_verdict busy = { .kind = PSMTP_NO_TEMPORARY,
		.reply = { .code = 421, .enhanced = { 4, 3, 2 }, .text = { "busy", 4 }, .close = true } };

	if (!chance(s, sink.refuse)) {
		answer(s, PSMTP_YES, now);
		return;
	}
	atomic_fetch_add(&count.refused, 1);
	psmtp_server_answer(s->smtp, &busy, ms(now));
}

/* Before STARTTLS is answered: the library must see what stands behind it. */
static void read_behind(struct sink_session *s, int64_t now)
{
	char byte;

	if (pipe_read(&s->io, &byte, 1) == 1)
		psmtp_server_feed(s->smtp, 1, &byte, 1, ms(now));
}

static void tls_begin(struct sink_session *s)
{
	if (!(s->io.ssl = SSL_new(sink.tls)))
		die("no TLS session");
	SSL_set_fd(s->io.ssl, s->io.fd);
	SSL_set_accept_state(s->io.ssl);
	s->shaking = true;
}

static void on_event(struct sink_session *s, const struct psmtp_server_event *e, int64_t now)
{
	switch (e->type) {
	case PSMTP_SERVER_CONNECT:
		connect_(s, now);
		break;
	case PSMTP_SERVER_RCPT:
		rcpt(s, now);
		break;
	case PSMTP_SERVER_STARTTLS:
		read_behind(s, now);
		answer(s, PSMTP_YES, now);
		break;
	case PSMTP_SERVER_BODY_BEGIN:
		s->header = true;
		s->line_n = 0;
		s->id[0] = '\0';
		answer(s, PSMTP_YES, now);
		break;
	case PSMTP_SERVER_BODY:
		look(s, e->body);
		break;
	case PSMTP_SERVER_BODY_END:
		s->rcpts = e->rcpt_count;
		s->octets = e->body_size;
		body_end(s, now);
		break;
	case PSMTP_SERVER_TLS_START:
		s->shaking = true; /* begins when the 220 is written */
		break;
	case PSMTP_SERVER_CLOSE:
		s->over = true;
		break;
	case PSMTP_SERVER_HELLO:
	case PSMTP_SERVER_MAIL:
		answer(s, PSMTP_YES, now);
		break;
	default: /* RESET, REJECTED: nothing is kept.  AUTH is not offered */
		break;
	}
}

/* ---- rounds ---- */

static void session_free(struct sink_session *s)
{
	atomic_fetch_sub(&count.open, 1);
	pipe_close(&s->io);
	psmtp_server_free(s->smtp);
	free(s);
}

/* False: the socket takes nothing more now, or the session is over. */
static bool flush(struct sink_session *s, int64_t now)
{
	struct psmtp_view out;

	while ((out = psmtp_server_output(s->smtp)).n) {
		long n = pipe_write(&s->io, out.p, out.n);

		if (n == PIPE_AGAIN) {
			pipe_watch(&s->io, s->w->epoll, EPOLLIN | EPOLLOUT, s);
			return false;
		}
		if (n == PIPE_END) {
			s->over = true;
			return false;
		}
		psmtp_server_sent(s->smtp, (size_t)n, ms(now));
	}
	pipe_watch(&s->io, s->w->epoll, EPOLLIN, s);
	return true;
}

static void pump(struct sink_session *s, int64_t now)
{
	struct psmtp_server_event e;
	bool moved = true;

	while (moved) {
		moved = false;
		for (; psmtp_server_next(s->smtp, &e, ms(now)); moved = true)
			on_event(s, &e, now);
		if (!flush(s, now))
			return;
	}
	if (s->shaking && !s->io.ssl)
		tls_begin(s);
}

static void shake(struct sink_session *s, int64_t now)
{
	struct psmtp_tls_facts facts;

	switch (pipe_shake(&s->io)) {
	case SHAKE_READ:
		pipe_watch(&s->io, s->w->epoll, EPOLLIN, s);
		return;
	case SHAKE_WRITE:
		pipe_watch(&s->io, s->w->epoll, EPOLLIN | EPOLLOUT, s);
		return;
	case SHAKE_DONE:
		atomic_fetch_add(&count.tls, 1);
		s->shaking = false;
		s->tls = true;
		facts.protocol = text_view(SSL_get_version(s->io.ssl));
		facts.cipher = text_view(SSL_get_cipher_name(s->io.ssl));
		psmtp_server_tls_up(s->smtp, &facts, ms(now));
		break;
	default:
		s->shaking = false;
		s->over = true;
		return;
	}
	pump(s, now);
}

/* False: nothing more to read now. */
static bool read_once(struct sink_session *s, int64_t now)
{
	char buffer[READ_SIZE];
	long n = pipe_read(&s->io, buffer, sizeof buffer);

	if (n == PIPE_AGAIN)
		return false;
	if (n == PIPE_END) {
		psmtp_server_peer_closed(s->smtp, ms(now));
		pump(s, now);
		s->over = true;
		return false;
	}
	for (long at = 0; at < n && !s->over && !s->shaking; pump(s, now)) {
		long took = (long)psmtp_server_feed(s->smtp, s->tls ? 2 : 1, buffer + at, (size_t)(n - at), ms(now));

		at += took;
		if (!took && s->waiting) { /* a client that pipelines behind the final dot (RFC 2920 forbids it) */
			s->over = true;
			return false;
		}
	}
	if (s->tls)
		return SSL_has_pending(s->io.ssl);
	return false;
}

static void turn(struct sink_session *s, uint32_t events, int64_t now)
{
	if (s->shaking && s->io.ssl) {
		shake(s, now);
		if (!s->tls || !SSL_has_pending(s->io.ssl))
			return;
	}
	if (events & EPOLLOUT)
		pump(s, now);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		while (!s->over && !s->shaking && !s->waiting && read_once(s, now))
			;
}

void sink_event(struct sink_session *s, uint32_t events)
{
	turn(s, events, now_us());
	if (s->over && !s->waiting)
		session_free(s);
}

void sink_answer_due(struct sink_worker *w, int64_t now)
{
	while (w->delayed && w->delayed->answer_at <= now) {
		struct sink_session *s = w->delayed;

		w->delayed = s->next;
		if (!w->delayed)
			w->delayed_end = &w->delayed;
		s->waiting = false;
		answer_message(s, now);
		pump(s, now);
		if (s->over)
			session_free(s);
	}
}

void sink_accept(struct sink_worker *w, int fd)
{
	struct sink_session *s = calloc(1, sizeof *s);
	int64_t now = now_us();
	long open = atomic_fetch_add(&count.open, 1) + 1, most = atomic_load(&count.most_open);

	atomic_fetch_add(&count.connections, 1);
	while (open > most && !atomic_compare_exchange_weak(&count.most_open, &most, open))
		;
	if (!s || !(s->smtp = psmtp_server_new(&sink.smtp, &libc_memory, ms(now))))
		die("out of memory");
	s->w = w;
	s->io.fd = fd;
	s->random = w->random += 0x9e3779b97f4a7c15u;
	no_delay(fd);
	if (sink.implicit)
		tls_begin(s);
	pipe_watch(&s->io, w->epoll, EPOLLIN, s);
	if (!s->shaking)
		pump(s, now);
	if (s->over)
		session_free(s);
}
