/* sign_client.h - asks the role `keys` for signatures: a struct tls_signer over a descriptor.
 *
 * sign_client_sign asks and waits, at most SIGN_CLIENT_MS: an ECDSA answer takes some 100 us.  sign_client_begin asks and
 * returns (RSA: milliseconds, and `keys` may have others to serve first); sign_client_take, called when the descriptor can be
 * read (net/signer.h does), hands the answers out.  Both share the descriptor: who waits for his own answer hands out those of others.
 * Frames are those of the channel (u32 length, u32 type, payload), read and written here directly, because this floor lies
 * below net/ and the first kind waits.
 * An answer is a peer's input: length, type, stream number and size are checked; anything wrong, an answer that is too late, and the end
 * of `keys` break the client: what is awaited fails, and so does every request (the caller sees sign_client_is_open) until a new
 * descriptor is given.  The old one stays open till then, shut, so that a watch on it can be ended in order.
 */
#ifndef TLS_SIGN_CLIENT_H
#define TLS_SIGN_CLIENT_H
#include "tls/fiber.h"
#include "tls/tls.h"

#define SIGN_CLIENT_MS 5000 /* `keys` may be busy with an RSA key of 4096 bits for every thread; more means it is dead */
/* RSA signatures that `keys` owes at once; beyond it handshakes fail.  Each holds a stack of some 20 KiB; those of 4096 bits take
 * a loop's half of a core 5 s. */
#define SIGN_CLIENT_PENDING_MAX 512u
/* The answer's frame: header, u64 stream, u8 ok, u32 length, signature. */
#define SIGN_CLIENT_FRAME_MAX 1045u

struct sign_client {
	int fd;
	bool broken;
	uint32_t ask, answer; /* the types of KEY_SIGN and KEY_SIGNED, given by the caller (wire/ is above) */
	uint32_t timeout_ms;  /* SIGN_CLIENT_MS; a test may shorten it */
	uint64_t stream;      /* the last one given */
	struct tls_signature *awaited;
	unsigned owed;        /* answers to sign_client_begin that have not come, those forgotten included */
	struct fibers fibers; /* for struct tls_signer */
	uint64_t asked, failed, waited_us; /* counted, for the log */
	size_t in_n;
	unsigned char in[SIGN_CLIENT_FRAME_MAX]; /* of an answer that came in part */
};

void sign_client_init(struct sign_client *, uint32_t ask, uint32_t answer); /* without a descriptor: every request fails */
void sign_client_set_fd(struct sign_client *, int fd); /* takes it over, closes an earlier one; -1: none */
bool sign_client_is_open(const struct sign_client *);
void sign_client_free(struct sign_client *); /* after the sessions: nothing is awaited */
struct tls_signer sign_client_signer(struct sign_client *); /* borrows it */
/* Hands out what has come, without waiting.  False: it is broken. */
bool sign_client_take(struct sign_client *);
/* To put into struct tls_signer with the sign_client as arg. */
long sign_client_sign(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n,
		      unsigned char *to, size_t room);
int sign_client_begin(void *arg, struct tls_signature *, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n);
void sign_client_forget(void *arg, struct tls_signature *);

#endif
