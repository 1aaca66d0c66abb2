/* smtp.c - see smtp.h. */
#include "sim/smtp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum marker { MARK_HELLO = 0xF1, MARK_FINISH = 0xF2, MARK_DATA = 0xF3, MARK_CLOSE = 0xF4, MARK_ALERT = 0xF5 };
#define HEADER 3u
#define RECORD 16384u

void talk_init(struct talk *t, struct sock *s, bool server)
{
	*t = (struct talk){ .s = s, .tls = TALK_CLEAR, .fault = TALK_FINE, .server = server, .identity = "" };
	buf_init(&t->in, &alloc_libc, SIZE_MAX / 4);
	t->cut = world.faults && rng_chance(&world.peers, 150);
}

static void write_cut(struct talk *t, const char *p, size_t n)
{
	t->out_n += n;
	while (t->cut && n > 1) {
		size_t some = 1 + rng_below(&world.peers, n < 400 ? n : 400);
		sock_put(t->s, p, some);
		p += some;
		n -= some;
	}
	if (n)
		sock_put(t->s, p, n);
}

static void put_record(struct talk *t, enum marker m, const void *p, size_t n)
{
	char record[HEADER + RECORD];

	record[0] = (char)m;
	record[1] = (char)(n >> 8);
	record[2] = (char)n;
	memcpy(record + HEADER, p, n);
	write_cut(t, record, HEADER + n);
}

void talk_put(struct talk *t, const void *p, size_t n)
{
	const char *c = p;

	if (t->tls != TALK_UP) {
		write_cut(t, c, n);
		return;
	}
	while (n) {
		size_t some = n < RECORD ? n : RECORD;
		put_record(t, MARK_DATA, c, some);
		c += some;
		n -= some;
	}
}

void talk_say(struct talk *t, const char *fmt, ...)
{
	char line[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	say("%s %llu: %s%.*s", t->server ? "hop" : "client", (unsigned long long)sock_number(t->s), t->tls == TALK_UP ? "(tls) " : "",
	    n > 2 ? n - 2 : 0, line);
	talk_put(t, line, (size_t)n);
}

static void end_badly(struct talk *t)
{
	switch (t->fault) {
	case TALK_ALERT: put_record(t, MARK_ALERT, "", 0); sock_close(t->s); break;
	case TALK_CLOSE: sock_close(t->s); break;
	case TALK_GARBAGE: write_cut(t, "\x16\x03\x01 garbage\r\n", 13); break;
	case TALK_STALL: break;
	case TALK_FINE:
	case TALK_CLOSE_AFTER:
	case TALK_CLEAR_AFTER:
	case TALK_FAULTS_END: return;
	}
	world_fault(FAULT_TLS);
	say("%s %llu: the handshake goes wrong by %d", t->server ? "hop" : "client", (unsigned long long)sock_number(t->s), (int)t->fault);
	t->broken = true;
}

void talk_start_tls(struct talk *t)
{
	t->tls = TALK_HELLO;
	if (t->server)
		return;
	if (t->fault != TALK_FINE && t->fault < TALK_CLOSE_AFTER)
		end_badly(t);
	else
		put_record(t, MARK_HELLO, "sim", 3);
}

static void came_up(struct talk *t)
{
	t->tls = TALK_UP;
	if (t->fault == TALK_CLOSE_AFTER || t->fault == TALK_CLEAR_AFTER) {
		world_fault(FAULT_TLS);
		if (t->fault == TALK_CLEAR_AFTER)
			write_cut(t, "250 in clear\r\n", 14);
		else
			sock_close(t->s);
		t->broken = true;
	}
}

static void take_record(struct talk *t, unsigned char marker, struct view v)
{
	if (marker == MARK_DATA && t->tls == TALK_UP) {
		buf_add(&t->in, v);
	} else if (marker == MARK_HELLO && t->tls == TALK_HELLO && t->server) {
		end_badly(t);
		if (t->broken)
			return;
		put_record(t, MARK_HELLO, t->identity, strlen(t->identity));
		t->tls = TALK_FINISH;
	} else if (marker == MARK_HELLO && t->tls == TALK_HELLO) {
		put_record(t, MARK_FINISH, "", 0);
		came_up(t);
	} else if (marker == MARK_FINISH && t->tls == TALK_FINISH) {
		came_up(t);
	} else if (marker != MARK_CLOSE) {
		t->broken = true;
	}
}

bool talk_read(struct talk *t)
{
	struct view v;

	while (!t->broken && (v = sock_peek(t->s)).n) {
		const unsigned char *p = (const unsigned char *)v.p;
		size_t n;
		if (t->tls == TALK_CLEAR) {
			buf_add(&t->in, v);
			sock_take(t->s, v.n);
			continue;
		}
		if (p[0] < MARK_HELLO || p[0] > MARK_ALERT) {
			t->broken = true;
			break;
		}
		if (v.n < HEADER || v.n < HEADER + (n = (size_t)p[1] << 8 | p[2]))
			break;
		take_record(t, p[0], view_slice(v, HEADER, HEADER + n));
		if (!t->broken)
			sock_take(t->s, HEADER + n);
	}
	return !t->broken;
}

bool talk_line(struct talk *t, struct view *line)
{
	struct view v = buf_view(&t->in);
	size_t end = view_find(v, '\n');

	if (end == v.n)
		return false;
	*line = view_slice(v, 0, end > 0 && v.p[end - 1] == '\r' ? end - 1 : end);
	return true;
}

void talk_took(struct talk *t)
{
	struct view v = buf_view(&t->in);

	buf_take(&t->in, view_find(v, '\n') + 1);
}
