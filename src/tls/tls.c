/* tls.c - the calls of tls.h, handed to the engine of the context. */
#include "tls/engine.h"

struct tls_session *tls_session_new(struct tls_context *c, bool server, const struct tls_peer_check *check)
{
	return c->engine->start(c, server, check);
}

void tls_session_free(struct tls_session *s)
{
	if (s)
		s->engine->free(s);
}

void tls_session_watch(struct tls_session *s, void (*ready)(void *arg), void *arg)
{
	s->ready = ready;
	s->ready_arg = arg;
}

enum tls_status tls_handshake(struct tls_session *s, struct view *in, struct buf *out)
{
	return s->engine->handshake(s, in, out);
}

enum tls_status tls_read(struct tls_session *s, struct view *in, void *to, size_t n, size_t *got, struct buf *out)
{
	*got = 0;
	return s->engine->read(s, in, to, n, got, out);
}

enum tls_status tls_write(struct tls_session *s, struct view v, struct buf *out)
{
	return s->engine->write(s, v, out);
}

void tls_close(struct tls_session *s, struct buf *out)
{
	s->engine->close(s, out);
}

const struct tls_facts *tls_get_facts(struct tls_session *s)
{
	return s->engine->facts(s);
}

const char *tls_why(const struct tls_session *s)
{
	return s->why;
}

void tls_context_free(struct tls_context *c)
{
	if (c)
		c->engine->context_free(c);
}

int tls_server_check(struct tls_context *c, unsigned nth, struct error *e)
{
	return c->engine->context_check(c, nth, e);
}

bool tls_server_works(const struct tls_context *c)
{
	return c->engine->context_works(c);
}
