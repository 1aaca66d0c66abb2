/* crew.h - the threads of `keys` that sign with RSA, so that its loop goes on answering ECDSA meanwhile.
 *
 * Use        crew_give takes a job; `done` is called on the loop when it is signed, in any order.  Who gives decides whose turn it is:
 *            crew_wants says whether another one is of use now.
 * Ownership  a job is the giver's again in `done`; crew_free drops what is not done, by `drop`.
 * Threads    all calls are the loop's; without crew_run (--single, no threads) a job is signed at once, in crew_give.
 */
#ifndef KEYS_CREW_H
#define KEYS_CREW_H
#include "base/error.h"
#include "net/loop.h"
#include "tls/tls.h"

#include <openssl/evp.h>

/* More than this many cores are not given to handshakes. */
#define CREW_THREADS_MAX 8u

struct crew_job {
	struct crew_job *next;
	EVP_PKEY *key;        /* a reference of the job's own: a reload may let go of its set meanwhile */
	uint32_t digest;
	uint8_t padding;
	size_t n;
	unsigned char hash[TLS_HASH_MAX];
	void *of;             /* the giver's */
	uint64_t stream;      /* the giver's, as is number */
	uint32_t number;
	const char *why;      /* made is -1 */
	long made;
	unsigned char signature[TLS_SIGNATURE_MAX];
};

struct crew;

struct crew *crew_new(struct loop *, unsigned threads, void (*done)(void *arg, struct crew_job *), void *arg); /* NULL: memory, descriptors */
int crew_run(struct crew *, struct error *); /* starts the threads */
bool crew_wants(const struct crew *);
void crew_give(struct crew *, struct crew_job *);
void crew_free(struct crew *, void (*drop)(struct crew_job *)); /* waits for what is being signed */

/* Signs a hash that fits its digest: octets, or -1 and why. */
long crew_sign(EVP_PKEY *, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room, const char **why);

#endif
