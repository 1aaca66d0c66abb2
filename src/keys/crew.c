/* crew.c - see crew.h.
 *
 * One lock guards two lists, what is to be done and what is done; each is held for a few instructions.  A thread holds one
 * job, and one more for each waits in the list, so that none is idle while the loop is woken.
 */
#include "keys/crew.h"

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdlib.h>

struct crew {
	void (*done)(void *arg, struct crew_job *);
	void *arg;
	struct loop_wake wake;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct crew_job *todo, **todo_end, *ready, **ready_end;
	bool ending;
	unsigned wanted, running, given;  /* threads; threads that there are; jobs that are not done (the loop's own) */
	pthread_t threads[CREW_THREADS_MAX];
};

/* ---- signing ---- */

static const EVP_MD *digest_of(uint32_t digest)
{
	switch (digest) {
	case TLS_DIGEST_SHA256: return EVP_sha256();
	case TLS_DIGEST_SHA384: return EVP_sha384();
	case TLS_DIGEST_SHA512: return EVP_sha512();
	default: return NULL;
	}
}

/* RFC 8463 3: what Ed25519 signs is the hash. */
static bool sign_ed25519(EVP_PKEY *key, const void *hash, size_t n, unsigned char *to, size_t *made)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 && EVP_DigestSign(ctx, to, made, hash, n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

long crew_sign(EVP_PKEY *key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room, const char **why)
{
	const EVP_MD *md = digest_of(digest);
	bool rsa = EVP_PKEY_is_a(key, "RSA"), ok;
	EVP_PKEY_CTX *ctx;
	size_t made = room;

	if (!md || n != tls_digest_size(digest))
		return *why = "the hash is not as long as its digest", -1;
	if (rsa ? padding != TLS_PADDING_PKCS1 && padding != TLS_PADDING_PSS : padding != TLS_PADDING_NONE)
		return *why = "the padding is not of this kind of key", -1;
	if (room < (size_t)EVP_PKEY_get_size(key))
		return *why = "no room for the signature", -1;
	if (EVP_PKEY_is_a(key, "ED25519"))
		return sign_ed25519(key, hash, n, to, &made) ? (long)made : (*why = "the operation failed", -1);
	ctx = EVP_PKEY_CTX_new(key, NULL);
	ok = ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_signature_md(ctx, md) == 1;
	if (ok && rsa)
		ok = EVP_PKEY_CTX_set_rsa_padding(ctx, padding == TLS_PADDING_PSS ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1;
	if (ok && padding == TLS_PADDING_PSS) /* RFC 8446 4.2.3: the salt is as long as the hash */
		ok = EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
	ok = ok && EVP_PKEY_sign(ctx, to, &made, hash, n) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	if (!ok)
		return *why = "the operation failed", -1;
	return (long)made;
}

static void do_job(struct crew_job *j)
{
	j->made = crew_sign(j->key, j->digest, j->padding, j->hash, j->n, j->signature, sizeof j->signature, &j->why);
}

/* ---- the threads ---- */

static struct crew_job *pop(struct crew_job **list, struct crew_job ***end)
{
	struct crew_job *j = *list;

	if (j && (*list = j->next) == NULL)
		*end = list;
	return j;
}

static void push(struct crew_job ***end, struct crew_job *j)
{
	j->next = NULL;
	**end = j;
	*end = &j->next;
}

static void *thread_main(void *arg)
{
	struct crew *c = arg;
	struct crew_job *j;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!c->todo && !c->ending)
			pthread_cond_wait(&c->work, &c->lock);
		if (c->ending)
			break;
		j = pop(&c->todo, &c->todo_end);
		pthread_mutex_unlock(&c->lock);
		do_job(j);
		pthread_mutex_lock(&c->lock);
		push(&c->ready_end, j);
		loop_wake(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static void on_wake(void *arg)
{
	struct crew *c = arg;
	struct crew_job *list, *next;

	pthread_mutex_lock(&c->lock);
	list = c->ready;
	c->ready = NULL;
	c->ready_end = &c->ready;
	pthread_mutex_unlock(&c->lock);
	for (; list; list = next) {
		next = list->next;
		c->given--;
		c->done(c->arg, list);
	}
}

/* ---- the loop's side ---- */

struct crew *crew_new(struct loop *loop, unsigned threads, void (*done)(void *arg, struct crew_job *), void *arg)
{
	struct crew *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->done = done;
	c->arg = arg;
	c->wanted = threads < CREW_THREADS_MAX ? threads : CREW_THREADS_MAX;
	c->todo_end = &c->todo;
	c->ready_end = &c->ready;
	if (loop_wake_init(&c->wake, loop, on_wake, c) == -1) {
		free(c);
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	return c;
}

int crew_run(struct crew *c, struct error *e)
{
	while (c->running < c->wanted) {
		int r = pthread_create(&c->threads[c->running], NULL, thread_main, c);

		if (r != 0)
			return error_sys(e, r, "start a thread");
		c->running++;
	}
	return 0;
}

bool crew_wants(const struct crew *c)
{
	return c->given < 2 * c->running || c->running == 0;
}

void crew_give(struct crew *c, struct crew_job *j)
{
	if (c->running == 0) {
		do_job(j);
		c->done(c->arg, j);
		return;
	}
	c->given++;
	pthread_mutex_lock(&c->lock);
	push(&c->todo_end, j);
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

void crew_free(struct crew *c, void (*drop)(struct crew_job *))
{
	struct crew_job *j;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	pthread_cond_broadcast(&c->work);
	pthread_mutex_unlock(&c->lock);
	while (c->running > 0)
		pthread_join(c->threads[--c->running], NULL);
	while ((j = pop(&c->todo, &c->todo_end)) || (j = pop(&c->ready, &c->ready_end)))
		drop(j);
	loop_wake_free(&c->wake);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
