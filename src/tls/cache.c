/* cache.c - sessions that a client may resume: a handshake without signature and certificates, where the server gave a ticket.
 *
 * A session is kept under all that was checked when it was made (how, the name asked for, the names acceptable), and only
 * found by who would check the same; one verified by TLSA records is not kept, because these have their own lifetime.  It is used
 * once (RFC 8446 C.4) and forgotten after CACHE_SECONDS, so that a certificate taken back is not believed for days.
 * A table without chains: who has the same place goes.  Threads may share a context, so there is a lock.
 */
#include "tls/openssl.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define CACHE_PLACES 256u  /* of a context; a session with its certificates is some 5 KiB */
#define CACHE_SECONDS 7200 /* what servers of the field commonly give their tickets */

struct kept {
	char *key;
	size_t key_n;
	SSL_SESSION *session;
	char peer[OSSL_PEER_MAX];
};

struct ossl_cache {
	pthread_mutex_t lock;
	struct kept kept[CACHE_PLACES];
};

struct ossl_cache *ossl_cache_new(void)
{
	struct ossl_cache *c = alloc_get(&alloc_libc, sizeof *c);

	if (!c)
		return NULL;
	memset(c, 0, sizeof *c);
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void forget(struct kept *k)
{
	SSL_SESSION_free(k->session);
	alloc_put(&alloc_libc, k->key);
	*k = (struct kept){ 0 };
}

void ossl_cache_free(struct ossl_cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CACHE_PLACES; i++)
		forget(&c->kept[i]);
	pthread_mutex_destroy(&c->lock);
	alloc_put(&alloc_libc, c);
}

/* Names end with a NUL, which none of them holds.  False: not to be kept, or no memory. */
bool ossl_cache_key(struct buf *to, const struct tls_peer_check *check)
{
	char how = (char)check->how;

	if (check->how == TLS_CHECK_DANE || !check->name)
		return false;
	if (!buf_add(to, view_of(&how, 1)) || !buf_add(to, view_of(check->name, strlen(check->name) + 1)))
		return false;
	for (unsigned i = 0; i < check->names_n; i++)
		if (!buf_add(to, view_of(check->names[i], strlen(check->names[i]) + 1)))
			return false;
	return true;
}

static struct kept *place_of(struct ossl_cache *c, struct view key)
{
	return &c->kept[view_hash(key) % CACHE_PLACES];
}

void ossl_cache_put(struct ossl_cache *c, struct view key, SSL_SESSION *session, const char *peer)
{
	char *copy = alloc_get(&alloc_libc, key.n);
	struct kept *k;

	if (!copy) {
		SSL_SESSION_free(session);
		return;
	}
	memcpy(copy, key.p, key.n);
	pthread_mutex_lock(&c->lock);
	k = place_of(c, key);
	forget(k);
	*k = (struct kept){ .key = copy, .key_n = key.n, .session = session };
	snprintf(k->peer, sizeof k->peer, "%s", peer ? peer : "");
	pthread_mutex_unlock(&c->lock);
}

SSL_SESSION *ossl_cache_take(struct ossl_cache *c, struct view key, char peer[OSSL_PEER_MAX])
{
	SSL_SESSION *session = NULL;
	struct kept *k;

	pthread_mutex_lock(&c->lock);
	k = place_of(c, key);
	if (k->session && view_eq(view_of(k->key, k->key_n), key)) {
		session = k->session;
		k->session = NULL;
		memcpy(peer, k->peer, OSSL_PEER_MAX);
		forget(k);
	}
	pthread_mutex_unlock(&c->lock);
	if (session && (time(NULL) - (time_t)SSL_SESSION_get_time(session) > CACHE_SECONDS || SSL_SESSION_is_resumable(session) != 1)) {
		SSL_SESSION_free(session);
		session = NULL;
	}
	return session;
}
