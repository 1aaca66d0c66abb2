/* pair.h - a server and a client session that shake hands in memory. */
#ifndef TEST_PAIR_H
#define TEST_PAIR_H
#include "tls/tls.h"

#pragma GCC diagnostic ignored "-Wunused-function"

struct pair {
	struct tls_session *server, *client;
	struct buf up, down; /* client to server, server to client */
	enum tls_status s, c;
};

static void step(struct pair *p)
{
	struct view v;

	if (p->c == TLS_WANT) {
		v = buf_view(&p->down);
		p->c = tls_handshake(p->client, &v, &p->up);
		buf_take(&p->down, buf_len(&p->down) - v.n);
	}
	if (p->s == TLS_WANT) {
		v = buf_view(&p->up);
		p->s = tls_handshake(p->server, &v, &p->down);
		buf_take(&p->up, buf_len(&p->up) - v.n);
	}
}

static struct pair shake_with(struct tls_context *server, struct tls_context *client, const struct tls_peer_check *check)
{
	struct pair p = { .s = TLS_WANT, .c = TLS_WANT };
	unsigned i;

	buf_init(&p.up, &alloc_libc, 1 << 20);
	buf_init(&p.down, &alloc_libc, 1 << 20);
	p.server = tls_session_new(server, true, NULL);
	p.client = tls_session_new(client, false, check);
	assert_non_null(p.server);
	assert_non_null(p.client);
	for (i = 0; i < 10 && (p.s == TLS_WANT || p.c == TLS_WANT); i++)
		step(&p);
	return p;
}

static struct pair shake(struct tls_context *server, struct tls_context *client, const char *name)
{
	return shake_with(server, client, &(const struct tls_peer_check){ .how = TLS_CHECK_NONE, .name = name });
}

static struct pair shake_strict(struct tls_context *server, struct tls_context *client, const char *name)
{
	return shake_with(server, client, &(const struct tls_peer_check){ .how = TLS_CHECK_CHAIN_AND_NAME, .name = name });
}

static void end(struct pair *p)
{
	tls_session_free(p->server);
	tls_session_free(p->client);
	buf_free(&p->up);
	buf_free(&p->down);
}

/* One text each way. */
static void talk(struct pair *p)
{
	char to[64];
	size_t got;
	struct view v;

	assert_int_equal(p->s, TLS_OK);
	assert_int_equal(p->c, TLS_OK);
	assert_int_equal(tls_write(p->client, VIEW("EHLO a"), &p->up), TLS_OK);
	v = buf_view(&p->up);
	assert_int_equal(tls_read(p->server, &v, to, sizeof to, &got, &p->down), TLS_OK);
	assert_int_equal(v.n, 0);
	assert_int_equal(got, 6);
	buf_take(&p->up, buf_len(&p->up));
	assert_int_equal(tls_write(p->server, VIEW("250 b"), &p->down), TLS_OK);
	v = buf_view(&p->down);
	assert_int_equal(tls_read(p->client, &v, to, sizeof to, &got, &p->up), TLS_OK);
	assert_int_equal(got, 5);
	assert_int_equal(tls_read(p->client, &v, to, sizeof to, &got, &p->up), TLS_WANT);
	buf_take(&p->down, buf_len(&p->down));
}

#endif
