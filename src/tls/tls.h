/* tls.h - the TLS engine: contexts made from bytes, sessions that turn ciphertext into plaintext without doing I/O.
 *
 * A session reads ciphertext from a view and appends ciphertext to a buffer; net/conn.c does the rest.  So one flight is
 * one write, and neither engine needs a descriptor.  Two engines stand behind the same calls: OpenSSL 3 (TLS 1.2 and 1.3
 * only; no renegotiation, no compression, no early data) and a null engine for tests and the simulator (tls_null_new).
 * Private keys are elsewhere: a server context signs by a callback (struct tls_signer), through an OpenSSL provider of ours.
 *
 * Threads    a context is immutable once made and may be used by several threads at once, but its signer is called in
 *            the thread that shakes hands: threads with a signer of their own make a context of their own.
 *            A session belongs to one thread.
 * Ownership  views in facts live until the session is freed or the next call on it.  A context must outlive its sessions.
 * Failure    contexts: NULL and an error; sessions: TLS_FAILED and tls_why.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H
#include "base/buf.h"
#include "base/error.h"
#include "base/view.h"

#include <stdbool.h>
#include <stdint.h>

struct tls_context;
struct tls_session;

/* ---- who signs ---- */

/* Also the numbers of KEY_SIGN's `digest` and `padding`. */
enum tls_digest { TLS_DIGEST_SHA256 = 1, TLS_DIGEST_SHA384, TLS_DIGEST_SHA512 };
enum tls_padding { TLS_PADDING_NONE = 1 /* ECDSA */, TLS_PADDING_PKCS1, TLS_PADDING_PSS /* salt as long as the hash */ };
#define TLS_HASH_MAX 64       /* SHA-512 */
#define TLS_SIGNATURE_MAX 1024 /* RSA of 8192 bits: larger keys cost seconds of CPU a handshake and are refused */

size_t tls_digest_size(uint32_t digest); /* octets; 0: no such digest */

struct tls_signer {
	/* Signs the hash with key number `key`.  Returns the octets written to `to`, or -1.  May block (see sign_client.h). */
	long (*sign)(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to,
		     size_t room);
	void *arg;
};

/* ---- contexts ---- */

#define TLS_TICKET_KEYS 80 /* octets: name 16, HMAC 32, AES 32 */

struct tls_server_options {
	struct view chain;                /* PEM: the certificate, then its intermediates */
	struct tls_signer signer;         /* copied; arg is borrowed and may become able to sign later */
	uint32_t key;                     /* its number for the signer */
	const unsigned char *ticket_keys; /* TLS_TICKET_KEYS random octets of this process start, shared by its threads; NULL: no tickets */
	struct view session_context;      /* the listener's title: a ticket of another listener is not accepted */
};
struct tls_context *tls_server_new(const struct tls_server_options *, struct error *);
/* Asks the signer for one signature and checks it against the certificate: -1 (and why) when the key is missing, does not
 * belong to the certificate, or nobody answers.  The certificate is then broken: offer no STARTTLS. */
int tls_server_check(struct tls_context *, struct error *);
/* Seconds since the epoch when the first certificate of the chain ends; 0: unknown (null engine). */
int64_t tls_context_expires(const struct tls_context *);

/* NONE: encrypts to whoever answers.  CHAIN_AND_NAME: a chain to the trust bundle, in date, and a subjectAltName that is
 * the name asked for; the subject's common name decides nothing (RFC 6125, RFC 8314).  A failed check fails the handshake. */
enum tls_verify { TLS_VERIFY_NONE = 1, TLS_VERIFY_CHAIN_AND_NAME };
/* With NONE and a bundle, the check is made and stated in the facts, but decides nothing. */
struct tls_context *tls_client_new(enum tls_verify, struct view trust_pem, struct error *);
/* Another one that shares the trusted certificates of a context of tls_client_new: a bundle of 140 costs 50 ms and a MiB to
 * parse, and each thread wants contexts of its own.  Either may be freed first. */
struct tls_context *tls_client_like(const struct tls_context *, enum tls_verify, struct error *);

void tls_context_free(struct tls_context *);

/* One handshake in memory with throw-away keys, so that everything OpenSSL loads late is loaded before confinement. */
int tls_warm_up(struct error *);

/* ---- null engine ---- */

/* Where a null handshake is made to fail. */
enum tls_null_fault {
	TLS_NULL_FINE = 1,
	TLS_NULL_FAIL_START,  /* the session cannot be made */
	TLS_NULL_FAIL_HELLO,  /* the first flight is refused */
	TLS_NULL_FAIL_FINISH, /* the last flight is refused */
	TLS_NULL_FAIL_STALL,  /* the peer's hello is never answered */
	TLS_NULL_FAIL_DATA    /* the first record after the handshake is refused */
};
/* Works as server and as client context.  Records are marker, length, octets in clear: see null.c. */
struct tls_context *tls_null_new(enum tls_null_fault);

/* ---- sessions ---- */

enum tls_status {
	TLS_OK = 1,  /* handshake: it is up.  read: octets were had */
	TLS_WANT,    /* nothing more without more ciphertext */
	TLS_CLOSED,  /* the peer sent close_notify: nothing it sends after it is read */
	TLS_FAILED   /* see tls_why; `out` may hold an alert that is worth sending */
};

struct tls_facts {
	struct view protocol;  /* "TLSv1.3" */
	struct view cipher;    /* "TLS_AES_256_GCM_SHA384" */
	unsigned bits;         /* 256 */
	bool verified;         /* the peer's chain and name were checked and are right */
	struct view verify;    /* in words: "verified", "not checked", "no certificate", or why not ("self-signed certificate") */
	struct view peer_name; /* the name that matched, or the subject when none did; printable; "" when no certificate came */
	struct view sni;       /* the name asked for: by the client (server), by us (client); "" */
	bool resumed;
};

/* name: what the client asks for by SNI and checks (a domain name, or an address without brackets); NULL on a server.
 * NULL: memory, or an impossible name. */
struct tls_session *tls_session_new(struct tls_context *, bool server, const char *name);
void tls_session_free(struct tls_session *);
/* Goes on with the handshake: takes from *in (which is advanced), appends to out. TLS_OK, TLS_WANT or TLS_FAILED. */
enum tls_status tls_handshake(struct tls_session *, struct view *in, struct buf *out);
/* Decrypts: at most n octets to `to`, *got says how many.  Call until TLS_WANT.  out: answers such as key updates. */
enum tls_status tls_read(struct tls_session *, struct view *in, void *to, size_t n, size_t *got, struct buf *out);
/* Encrypts all of v.  TLS_OK or TLS_FAILED. */
enum tls_status tls_write(struct tls_session *, struct view v, struct buf *out);
/* Appends close_notify. */
void tls_close(struct tls_session *, struct buf *out);
const struct tls_facts *tls_get_facts(struct tls_session *);
const char *tls_why(const struct tls_session *); /* after TLS_FAILED: a sentence for the log */

#endif
