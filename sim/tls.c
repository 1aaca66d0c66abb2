/* tls.c - the null engine in the place of OpenSSL (the linker's --wrap); see sim.h.
 *
 * Contexts are those of tls_null_new; which one a session gets is decided by the name asked for and by dice, so that
 * handshakes fail at each step on our side too.
 */
#include "sim/sim.h"
#include "tls/tls.h"

#include <stdlib.h>

static struct tls_context *by_fault[TLS_NULL_FAIL_DATA + 1];

static struct tls_context *context(enum tls_null_fault f)
{
	if (!by_fault[f])
		by_fault[f] = tls_null_new(f);
	return by_fault[f];
}

struct tls_context *__wrap_tls_server_new(const struct tls_server_options *o, struct error *e);
struct tls_context *__wrap_tls_server_new(const struct tls_server_options *o, struct error *e)
{
	(void)o;
	(void)e;
	return tls_null_new(TLS_NULL_FINE);
}

struct tls_context *__wrap_tls_client_new(struct view trust, struct error *e);
struct tls_context *__wrap_tls_client_new(struct view trust, struct error *e)
{
	(void)trust;
	(void)e;
	return tls_null_new(TLS_NULL_FINE);
}

struct tls_context *__wrap_tls_client_like(const struct tls_context *like, struct error *e);
struct tls_context *__wrap_tls_client_like(const struct tls_context *like, struct error *e)
{
	(void)like;
	(void)e;
	return tls_null_new(TLS_NULL_FINE);
}

int __wrap_tls_warm_up(struct error *e);
int __wrap_tls_warm_up(struct error *e)
{
	(void)e;
	return 0;
}

struct tls_session *__real_tls_session_new(struct tls_context *, bool server, const struct tls_peer_check *);
struct tls_session *__wrap_tls_session_new(struct tls_context *c, bool server, const struct tls_peer_check *check);
struct tls_session *__wrap_tls_session_new(struct tls_context *c, bool server, const struct tls_peer_check *check)
{
	enum tls_null_fault fault = TLS_NULL_FINE;
	const char *name = check && check->name ? check->name : "client";

	if (world.faults && rng_chance(&world.net, 40)) {
		fault = (enum tls_null_fault)rng_span(&world.net, TLS_NULL_FAIL_START, TLS_NULL_FAIL_DATA);
		world_fault(FAULT_TLS);
		say("tls %s fails by fault %d", server ? "server" : name, (int)fault);
	}
	return __real_tls_session_new(fault == TLS_NULL_FINE ? c : context(fault), server, check);
}
