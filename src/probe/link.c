/* link.c - one connection of the probe: every wait has an end, every octet is kept as evidence.
 *
 * Blocking by poll(2) with a deadline: the probe does one thing at a time, so a loop would only hide the order of a
 * check.
 */
#include "probe/inside.h"

#include "base/env.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define READ_STEP    16384u /* a TLS record */
#define WINDOW_LEAST 1000u  /* ms: a server under load may think for so long, and silence is a verdict */
#define SETTLE_MS    2000u  /* of a good-bye: nothing is at stake */

int64_t probe_now(void)
{
	return env_mono_ms(&env_real);
}

uint32_t probe_window(const struct probe *p)
{
	return p->o->window_ms ? p->o->window_ms : WINDOW_LEAST + 4 * p->round_trip_ms;
}

static void record(struct probe_link *l, enum probe_direction d, bool tls, struct view octets)
{
	struct probe *p = l->p;

	if (d == PROBE_SENT && l->shown)
		octets = view_cstr(l->shown);
	else if (d == PROBE_SENT && octets.n > 2 && view_ends_nocase(octets, VIEW("\r\n")))
		octets.n -= 2;
	/* a reply of ours is read line by line; commands show what stood in one segment */
	for (size_t cr; d == PROBE_SENT && p->peer && (cr = view_find(octets, '\r')) + 2 < octets.n && octets.p[cr + 1] == '\n';) {
		probe_report_line(p->report, p->now, (uint32_t)(probe_now() - p->began_ms), l->number, d, tls, view_slice(octets, 0, cr));
		octets = view_slice(octets, cr + 2, octets.n);
	}
	probe_report_line(p->report, p->now, (uint32_t)(probe_now() - p->began_ms), l->number, d, tls, octets);
}

void probe_event(struct probe_link *l, const char *fmt, ...)
{
	char words[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	record(l, PROBE_EVENT, l->tls, view_cstr(words));
}

static void end(struct probe_link *l, enum probe_end how, const char *why)
{
	if (l->end != PROBE_OPEN)
		return;
	l->end = how;
	snprintf(l->why, sizeof l->why, "%s", why);
	probe_event(l, "%s", why);
}

static void end_peer(struct probe_link *l, enum probe_end how, const char *did)
{
	char why[200];

	snprintf(why, sizeof why, "%s %s", l->p->peer ? l->p->peer : "the server", did);
	end(l, how, why);
}

/* ---- connecting ---- */

static void take_turn(struct probe *p)
{
	int64_t wait = p->ended_ms ? p->ended_ms + p->o->pause_ms - probe_now() : 0;

	while (wait > 0) {
		poll(NULL, 0, (int)wait);
		wait = p->ended_ms + p->o->pause_ms - probe_now();
	}
}

static int dial(const struct address *to, uint32_t timeout_ms)
{
	int fd = socket(to->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, err = 0;
	socklen_t len = sizeof err;
	struct pollfd wait = { .fd = fd, .events = POLLOUT };

	if (fd == -1)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a write is a segment: checks depend on it */
	if (connect(fd, (const struct sockaddr *)&to->sa, to->len) == 0)
		return fd;
	if (errno == EINPROGRESS) {
		int n = poll(&wait, 1, (int)timeout_ms);

		if (n == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0)
			return fd;
		errno = n == 0 ? ETIMEDOUT : err;
	}
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

bool probe_connect(struct probe *p, struct probe_link *l)
{
	char where[ADDRESS_TEXT];
	int64_t began;

	*l = (struct probe_link){ .p = p, .fd = -1, .end = PROBE_OPEN };
	buf_init(&l->in, &alloc_libc, PROBE_INPUT_MAX);
	if (p->report->connections >= p->o->connections_max) {
		end(l, PROBE_LATE, "the bound on connections is reached");
		return false;
	}
	if (p->refused >= PROBE_REFUSED_MOST) {
		end(l, PROBE_LATE, "the server turned several connections away in a row, so it is left alone");
		return false;
	}
	take_turn(p);
	l->number = ++p->report->connections;
	began = probe_now();
	l->fd = dial(&p->addresses[p->address], p->o->timeout_ms);
	address_text((const struct sockaddr *)&p->addresses[p->address].sa, where);
	if (l->fd == -1) {
		char why[200];

		p->refused++;
		snprintf(why, sizeof why, "no connection to %s: %s", where, strerror(errno));
		end(l, PROBE_CLOSED, why);
		return false;
	}
	p->round_trip_ms = (uint32_t)(probe_now() - began);
	probe_event(l, "connected to %s in %u ms", where, p->round_trip_ms);
	return true;
}

bool probe_open(struct probe *p, struct probe_link *l)
{
	if (!probe_connect(p, l))
		return false;
	if (probe_hear(l) == 220) {
		p->refused = 0;
		return true;
	}
	p->refused++;
	if (l->end == PROBE_OPEN)
		snprintf(l->why, sizeof l->why, "the greeting was %s", probe_stuck(l));
	return false;
}

void probe_close(struct probe_link *l)
{
	if (l->fd != -1) {
		close(l->fd);
		l->p->ended_ms = probe_now();
		l->fd = -1;
	}
	SSL_free(l->ssl);
	SSL_SESSION_free(l->session);
	l->ssl = NULL;
	l->session = NULL;
	buf_free(&l->in);
	if (l->end == PROBE_OPEN)
		l->end = PROBE_CLOSED;
}

void probe_leave(struct probe_link *l)
{
	if (l->fd != -1 && l->end == PROBE_OPEN && probe_write(l, VIEW("QUIT\r\n")) && probe_hear_for(l, SETTLE_MS) &&
	    l->tls && l->end == PROBE_OPEN) {
		SSL_shutdown(l->ssl);
		probe_write(l, view_of("", 0)); /* the alert */
	}
	probe_close(l);
}

/* ---- writing ---- */

static bool write_all(struct probe_link *l, struct view octets)
{
	int64_t until = probe_now() + l->p->o->timeout_ms;

	while (octets.n && l->end == PROBE_OPEN) {
		struct pollfd wait = { .fd = l->fd, .events = POLLOUT };
		ssize_t n = send(l->fd, octets.p, octets.n, MSG_NOSIGNAL);

		if (n >= 0) {
			octets = view_slice(octets, (size_t)n, octets.n);
		} else if (errno == EAGAIN) {
			int64_t left = until - probe_now();

			if (left <= 0 || poll(&wait, 1, (int)left) == 0)
				end_peer(l, PROBE_LATE, "does not read");
		} else if (errno != EINTR) {
			end(l, PROBE_RESET, "the connection was closed while we wrote");
		}
	}
	return l->end == PROBE_OPEN;
}

bool probe_write_clear(struct probe_link *l, struct view octets)
{
	if (l->fd == -1 || l->end != PROBE_OPEN)
		return false;
	record(l, PROBE_SENT, false, octets);
	return write_all(l, octets);
}

bool probe_write(struct probe_link *l, struct view octets)
{
	char *cipher;
	long n;
	BIO *out;

	if (!l->tls)
		return probe_write_clear(l, octets);
	if (l->fd == -1 || l->end != PROBE_OPEN)
		return false;
	if (octets.n) {
		record(l, PROBE_SENT, true, octets);
		if (SSL_write(l->ssl, octets.p, (int)octets.n) != (int)octets.n) {
			end(l, PROBE_TLS_BROKE, "TLS takes no more octets");
			return false;
		}
	}
	out = SSL_get_wbio(l->ssl);
	n = BIO_get_mem_data(out, &cipher);
	if (n > 0 && !write_all(l, view_of(cipher, (size_t)n)))
		return false;
	(void)BIO_reset(out);
	return true;
}

/* ---- reading ---- */

/* Plaintext of the records that have arrived whole. */
static int decrypt(struct probe_link *l)
{
	for (;;) {
		int n;

		if (!buf_reserve(&l->in, READ_STEP)) {
			end_peer(l, PROBE_FLOOD, "sends without end");
			return -1;
		}
		ERR_clear_error();
		n = SSL_read(l->ssl, buf_tail(&l->in), READ_STEP);
		if (n > 0) {
			buf_commit(&l->in, (size_t)n);
			continue;
		}
		switch (SSL_get_error(l->ssl, n)) {
		case SSL_ERROR_WANT_READ:
			probe_write(l, view_of("", 0)); /* answers of the TLS layer */
			return 1;
		case SSL_ERROR_ZERO_RETURN: end_peer(l, PROBE_NOTIFIED, "ended TLS by close_notify"); return -1;
		default: {
			const char *reason = ERR_reason_error_string(ERR_peek_last_error());
			char why[200];

			snprintf(why, sizeof why, "the TLS session ended: %s", reason ? reason : "no reason is known");
			end(l, PROBE_TLS_BROKE, why);
			return -1;
		}
		}
	}
}

int probe_fill(struct probe_link *l, int64_t until)
{
	unsigned char octets[READ_STEP];
	struct pollfd wait = { .fd = l->fd, .events = POLLIN };
	ssize_t n;

	if (l->fd == -1 || l->end != PROBE_OPEN)
		return -1;
	for (;;) {
		int64_t left = until - probe_now();
		int ready = poll(&wait, 1, left > 0 ? (int)left : 0);

		if (ready == 0)
			return 0;
		n = recv(l->fd, octets, sizeof octets, 0);
		if (n >= 0 || (errno != EINTR && errno != EAGAIN))
			break;
	}
	if (n <= 0) {
		if (n == 0)
			end_peer(l, PROBE_CLOSED, "closed the connection");
		else
			end(l, PROBE_RESET, "the connection was reset");
		return -1;
	}
	if (l->tls) {
		if (BIO_write(SSL_get_rbio(l->ssl), octets, (int)n) != (int)n)
			end(l, PROBE_FLOOD, "out of memory");
		return decrypt(l);
	}
	if (!buf_add(&l->in, view_of((const char *)octets, (size_t)n))) {
		end_peer(l, PROBE_FLOOD, "sends without end");
		return -1;
	}
	return 1;
}

bool probe_listen(struct probe_link *l)
{
	int64_t until = probe_now() + probe_window(l->p);

	while (buf_len(&l->in) == 0 && probe_fill(l, until) == 1)
		;
	if (buf_len(&l->in) == 0 && l->end == PROBE_OPEN)
		probe_event(l, "silence for %u ms", probe_window(l->p));
	return buf_len(&l->in) > 0;
}

/* Takes one line of a reply.  -1: it is none; 0: more lines follow; 1: the last. */
static int take_line(struct probe_reply *r, struct view line)
{
	int code = 0;
	size_t have = strlen(r->text), room = sizeof r->text - have;

	r->lines++;
	for (size_t i = 0; i < 3; i++)
		code = i < line.n && line.p[i] >= '0' && line.p[i] <= '9' ? code * 10 + (line.p[i] - '0') : -10000;
	if (code < 200 || code > 599 || (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-') ||
	    (r->code && r->code != code)) {
		r->odd = true;
		return -1;
	}
	r->code = code;
	if (room > 1)
		snprintf(r->text + have, room, "%s%.*s", r->lines > 1 ? "\n" : "",
			 VIEW_ARGS(view_slice(line, 4, line.n)));
	return line.n > 3 && line.p[3] == '-' ? 0 : 1;
}

int probe_hear_for(struct probe_link *l, uint32_t ms)
{
	struct probe_reply *r = &l->reply;
	int64_t until = probe_now() + ms;
	int state = 0;

	*r = (struct probe_reply){ 0 };
	while (state == 0) {
		struct view v = buf_view(&l->in);
		size_t lf = view_find(v, '\n');

		if (lf < v.n) {
			struct view line = view_slice(v, 0, lf);

			if (line.n && line.p[line.n - 1] == '\r')
				line.n--;
			else
				r->odd = true; /* a reply's line ends with CR LF (RFC 5321 4.2) */
			record(l, PROBE_GOT, l->tls, line);
			state = take_line(r, line);
			buf_take(&l->in, lf + 1);
			if (r->lines >= PROBE_REPLY_LINES_MAX) {
				end(l, PROBE_FLOOD, "a reply without end");
				state = -1;
			}
		} else {
			int got = probe_fill(l, until);

			if (got == 1 ||
			    view_find(buf_view(&l->in), '\n') < buf_len(&l->in)) /* also what came with the end */
				continue;
			if (got == 0)
				probe_event(l, "no reply within %u ms", ms);
			state = -1;
		}
	}
	if (state == -1 && buf_len(&l->in))
		record(l, PROBE_GOT, l->tls, buf_view(&l->in));
	if (state == -1)
		r->code = 0;
	return r->code;
}

int probe_hear(struct probe_link *l)
{
	return probe_hear_for(l, l->p->o->timeout_ms);
}

/* ---- both ---- */

static int ask(struct probe_link *l, struct view line)
{
	struct buf whole;
	bool ok;

	l->reply = (struct probe_reply){ 0 };
	buf_init(&whole, &alloc_libc, PROBE_INPUT_MAX);
	ok = buf_add(&whole, line) && buf_add(&whole, VIEW("\r\n")) && probe_write(l, buf_view(&whole));
	buf_free(&whole); /* wiped: it may have been a password */
	return ok ? probe_hear(l) : 0;
}

int probe_ask_secret(struct probe_link *l, struct view line, const char *shown)
{
	int code;

	l->shown = shown;
	code = ask(l, line);
	l->shown = NULL;
	return code;
}

int probe_ask(struct probe_link *l, const char *fmt, ...)
{
	char line[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	return ask(l, view_cstr(line));
}

const char *probe_stuck(struct probe_link *l)
{
	struct probe_reply *r = &l->reply;

	if (r->code)
		snprintf(l->words, sizeof l->words, "%d %.200s", r->code, r->text);
	else if (l->why[0])
		snprintf(l->words, sizeof l->words, "%s", l->why);
	else if (r->odd)
		snprintf(l->words, sizeof l->words, "what came was no reply");
	else
		snprintf(l->words, sizeof l->words, "no reply");
	return l->words;
}
