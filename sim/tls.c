/* tls.c - the null engine in the place of OpenSSL (the linker's --wrap); see sim.h.
 *
 * Contexts are those of tls_null_new; which one a session gets is decided by the name asked for and by dice, so that
 * handshakes fail at each step on our side too.
 */
#include "sim/sim.h"
#include "tls/tls.h"

#include <stdlib.h>

#define NAMES_MAX 16
#define CONTEXTS_MAX 8192

static struct tls_context *by_fault[TLS_NULL_FAIL_DATA + 1];
static struct tls_context *verifying[CONTEXTS_MAX]; /* those of all lives of `send` */
static unsigned verifying_n;
static const char *distrusted[NAMES_MAX];
static unsigned distrusted_n;

static struct tls_context *context(enum tls_null_fault f)
{
	if (!by_fault[f])
		by_fault[f] = tls_null_new(f);
	return by_fault[f];
}

void tls_distrust(const char *name)
{
	if (distrusted_n < NAMES_MAX)
		distrusted[distrusted_n++] = name;
}

struct tls_context *__wrap_tls_server_new(const struct tls_server_options *o, struct error *e);
struct tls_context *__wrap_tls_server_new(const struct tls_server_options *o, struct error *e)
{
	(void)o;
	(void)e;
	return tls_null_new(TLS_NULL_FINE);
}

static struct tls_context *client(enum tls_verify verify)
{
	struct tls_context *c = tls_null_new(TLS_NULL_FINE);

	if (verify == TLS_VERIFY_NONE)
		return c;
	if (verifying_n == CONTEXTS_MAX)
		abort();
	return verifying[verifying_n++] = c;
}

struct tls_context *__wrap_tls_client_new(enum tls_verify verify, struct view trust, struct error *e);
struct tls_context *__wrap_tls_client_new(enum tls_verify verify, struct view trust, struct error *e)
{
	(void)trust;
	(void)e;
	return client(verify);
}

struct tls_context *__wrap_tls_client_like(const struct tls_context *like, enum tls_verify verify, struct error *e);
struct tls_context *__wrap_tls_client_like(const struct tls_context *like, enum tls_verify verify, struct error *e)
{
	(void)like;
	(void)e;
	return client(verify);
}

int __wrap_tls_warm_up(struct error *e);
int __wrap_tls_warm_up(struct error *e)
{
	(void)e;
	return 0;
}

static bool verifies(const struct tls_context *c)
{
	for (unsigned i = 0; i < verifying_n; i++)
		if (verifying[i] == c)
			return true;
	return false;
}

struct tls_session *__real_tls_session_new(struct tls_context *, bool server, const char *name);
struct tls_session *__wrap_tls_session_new(struct tls_context *c, bool server, const char *name);
struct tls_session *__wrap_tls_session_new(struct tls_context *c, bool server, const char *name)
{
	enum tls_null_fault fault = TLS_NULL_FINE;

	if (world.faults && rng_chance(&world.net, 40)) {
		fault = (enum tls_null_fault)rng_span(&world.net, TLS_NULL_FAIL_START, TLS_NULL_FAIL_DATA);
		world_fault(FAULT_TLS);
		say("tls %s fails by fault %d", server ? "server" : name ? name : "client", (int)fault);
	}
	for (unsigned i = 0; i < distrusted_n && world.broken != BREAK_TRUST; i++)
		if (!server && name && verifies(c) && strcmp(name, distrusted[i]) == 0)
			fault = TLS_NULL_FAIL_FINISH; /* the certificate is looked at before our last flight */
	return __real_tls_session_new(fault == TLS_NULL_FINE ? c : context(fault), server, name);
}
