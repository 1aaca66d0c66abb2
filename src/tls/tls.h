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

struct fibers; /* fiber.h */
struct tls_context;
struct tls_session;

/* ---- who signs ---- */

/* Also the numbers of KEY_SIGN's `digest` and `padding`. */
enum tls_digest { TLS_DIGEST_SHA256 = 1, TLS_DIGEST_SHA384, TLS_DIGEST_SHA512 };
enum tls_padding { TLS_PADDING_NONE = 1 /* ECDSA */, TLS_PADDING_PKCS1, TLS_PADDING_PSS /* salt as long as the hash */ };
#define TLS_HASH_MAX 64       /* SHA-512 */
#define TLS_SIGNATURE_MAX 1024 /* RSA of 8192 bits: larger keys cost seconds of CPU a handshake and are refused */

size_t tls_digest_size(uint32_t digest); /* octets; 0: no such digest */

/* A signature that comes later.  Its memory is the caller's, in place until `made` is not 0 or the signer was told to forget it. */
struct tls_signature {
	struct tls_signature *next; /* the signer's */
	uint64_t number;            /* the signer's */
	long made;                  /* 0: not yet; octets; -1: there will be none */
	void (*ready)(void *arg);   /* called once when made is no longer 0, maybe in the middle of another handshake: it may only note it */
	void *arg;
	unsigned char octets[TLS_SIGNATURE_MAX];
};

struct tls_signer {
	/* Signs the hash with key number `key`.  Returns the octets written to `to`, or -1.  May block (see sign_client.h). */
	long (*sign)(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to,
		     size_t room);
	void *arg;
	/* RSA takes milliseconds: where it can, a handshake does not wait for it (tls_session_watch).  `begin` asks and returns at once:
	 * -1, it cannot.  NULL: `sign` does all.  fibers: the stacks of handshakes that wait, borrowed; of the thread that shakes hands. */
	int (*begin)(void *arg, struct tls_signature *, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n);
	void (*forget)(void *arg, struct tls_signature *);
	struct fibers *fibers;
};

/* ---- contexts ---- */

/* What sealed session tickets are made with, shared by the threads of a process.  A ticket is good for two hours (what OpenSSL
 * tells the client); keys are to be changed every TLS_TICKET_MS, and the last ones open what they sealed for so
 * long.  They die with the process: a reload asks everybody for a full handshake, once. */
#define TLS_TICKET_KEY 80      /* octets: name 16, HMAC 32, AES 32 */
#define TLS_TICKET_KEYS_KEPT 3 /* the present one, and two: a ticket sealed in the last second of its key's hour lives two more */
#define TLS_TICKET_MS 3600000u /* to the next key */
struct tls_tickets;
struct tls_tickets *tls_tickets_new(void); /* seals nothing before the first key */
void tls_tickets_change(struct tls_tickets *, const unsigned char fresh[TLS_TICKET_KEY]); /* random; copied */
void tls_tickets_free(struct tls_tickets *); /* wiped */

/* INTERMEDIATE: TLS 1.2 and 1.3, forward secrecy, AEAD first and CBC last, because a mail server that cannot agree is spoken to
 * in clear (RFC 7435).  MODERN: TLS 1.3 alone, for clients of our own. */
enum tls_policy { TLS_POLICY_MODERN = 1, TLS_POLICY_INTERMEDIATE };

#define TLS_CERTIFICATES_MAX 64 /* of one listener: each costs a context of some 20 KiB a thread */
struct tls_server_certificate {
	struct view chain; /* PEM: the certificate, then its intermediates */
	uint32_t key;      /* its number for the signer */
};
struct tls_server_options {
	/* The first is shown to who names none of them.  Of two that have the name asked for, one ECDSA and one RSA, the former is
	 * shown to a client that can; of two of one kind the earlier, and one with that very name before one with a wildcard. */
	const struct tls_server_certificate *certificates;
	unsigned certificates_n;
	struct tls_signer signer;    /* copied; arg is borrowed and may become able to sign later */
	struct tls_tickets *tickets; /* borrowed; NULL: no tickets */
	struct view session_context; /* the listener's title: a ticket of another listener is not accepted, nor one of another name or certificate */
	enum tls_policy policy;      /* 0: INTERMEDIATE */
	const struct tls_context *clients; /* of tls_client_new: clients are asked for a certificate, which its trust bundle judges; it
					      is told in the facts and decides nothing.  NULL: not asked */
};
struct tls_context *tls_server_new(const struct tls_server_options *, struct error *);
/* Asks the signer for one signature and checks it against the nth certificate (of tls_client_with: 0): -1 (and why) when the key is missing, does not
 * belong to the certificate, or nobody answers.  It is then broken, and not shown until a check says otherwise.  In the thread
 * that shakes hands. */
int tls_server_check(struct tls_context *, unsigned nth, struct error *);
bool tls_server_works(const struct tls_context *); /* false: all are broken.  Offer no TLS */
/* Seconds since the epoch when a PEM chain's first certificate ends; 0: it holds none. */
int64_t tls_chain_expires(struct view chain);
/* Is the name (DNS) among those of a PEM chain's first certificate, as others would judge it? */
bool tls_chain_has_name(struct view chain, struct view name);
/* Whether a private key (PEM, without password) belongs to the chain's first certificate: -1 and why not.  For who has both. */
int tls_pair_check(struct view chain, struct view key, struct error *);

/* For any number of sessions, each with a check of its own.  trust: PEM; empty: nobody is trusted, CHAIN_AND_NAME is impossible. */
struct tls_context *tls_client_new(struct view trust_pem, struct error *);
/* Another one that shares the trusted certificates of a context of tls_client_new: a bundle of 140 costs 50 ms and a MiB to
 * parse, and each thread wants a context of its own.  Either may be freed first. */
struct tls_context *tls_client_like(const struct tls_context *, struct error *);
/* The same with a certificate that is shown to servers that ask for one.  chain: PEM, borrowed during the call; key: its number for the
 * signer, which is copied, its arg borrowed. */
struct tls_context *tls_client_with(const struct tls_context *, struct view chain, uint32_t key, const struct tls_signer *, struct error *);

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
/* Who a server is: the payload of its hello, which a scripted one writes itself (ours says nothing, and is believed).  A client that
 * checks wants one of its names there, or the one whose digest is in a TLSA record 3 1 1. */
void tls_null_digest(struct view identity, unsigned char to[32]);

/* ---- whom a client accepts ---- */

enum tls_check {
	TLS_CHECK_NONE = 1,       /* encrypts to whoever answers; with a trust bundle the check is made and told, but decides nothing */
	TLS_CHECK_CHAIN_AND_NAME, /* a chain to the trust bundle, in date, and a subjectAltName that is one of the names */
	TLS_CHECK_DANE            /* one of the TLSA records (RFC 7672 3.1): DANE-EE ignores names and dates, DANE-TA checks both;
				     the trust bundle counts for nothing */
};

/* A TLSA record (RFC 6698 2.1), as numbers; data is not hex. */
struct tls_tlsa {
	uint8_t usage, selector, matching;
	struct view data;
};
/* Whether SMTP may rely on it: usage 2 or 3 (RFC 7672 3.1.3), selector 0 or 1, matching 0 to 2 with data as long as the digest;
 * for matching 0, a certificate or key that can be read. */
bool tls_tlsa_is_usable(const struct tls_tlsa *);

#define TLS_NAMES_MAX 8  /* acceptable: RFC 7672 3.2.2 has at most four: the domain and the host, each before and after its CNAMEs */
#define TLS_TLSA_MAX 64  /* records of one host, of which some ten are sane: each costs the parsing of a key; what is above is ignored */

/* A failed check fails the handshake.  The subject's common name decides nothing (RFC 6125, RFC 8314). */
struct tls_peer_check {
	enum tls_check how;
	const char *name;              /* asked for by SNI (an address is not): for DANE the TLSA base domain (RFC 7672 3.2.2) */
	const char *const *names;      /* those acceptable; none: `name` alone.  An address can only be the one name */
	unsigned names_n;
	const struct tls_tlsa *records; /* DANE: those unusable are ignored; without a usable one there is no session */
	unsigned records_n;
};

/* ---- sessions ---- */

enum tls_status {
	TLS_OK = 1,  /* handshake: it is up.  read: octets were had */
	TLS_WANT,    /* nothing more without more ciphertext */
	TLS_SIGNING, /* handshake: nothing more before the signer has answered; see tls_session_watch */
	TLS_CLOSED,  /* the peer sent close_notify: nothing it sends after it is read */
	TLS_FAILED   /* see tls_why; `out` may hold an alert that is worth sending */
};

/* What made the peer right, and what did not; the latter also after TLS_FAILED (for RFC 8460 4.3). */
enum tls_verified_by { TLS_BY_NOTHING = 1, TLS_BY_CHAIN, TLS_BY_DANE_TA, TLS_BY_DANE_EE };
enum tls_fault {
	TLS_FAULT_NONE = 1,       /* verified, or not asked for and not to be found out */
	TLS_FAULT_EXPIRED,        /* or not valid yet */
	TLS_FAULT_NAME,           /* no name in it is one of ours */
	TLS_FAULT_NOT_TRUSTED,    /* no chain to the trust bundle */
	TLS_FAULT_TLSA,           /* no TLSA record matches */
	TLS_FAULT_NO_CERTIFICATE,
	TLS_FAULT_OTHER           /* a chain that is wrong otherwise */
};

struct tls_facts {
	struct view protocol;  /* "TLSv1.3" */
	struct view cipher;    /* "TLS_AES_256_GCM_SHA384" */
	unsigned bits;         /* 256 */
	bool verified;         /* the peer was checked, and is right */
	enum tls_verified_by by;
	enum tls_fault fault;
	struct view verify;    /* in words: "verified", "verified by TLSA 3 1 1", "not checked", "no certificate", or why not */
	struct view peer_name; /* the name that matched, or the subject when none did; printable; "" when no certificate came */
	struct view sni;       /* the name asked for: by the client (server), by us (client); "" */
	bool resumed;
};

/* check: of a client (domain names, or an address without brackets), borrowed during the call; NULL on a server.
 * NULL: memory, an impossible name, or a check without what it needs (a name, a trust bundle, a usable record). */
struct tls_session *tls_session_new(struct tls_context *, bool server, const struct tls_peer_check *);
void tls_session_free(struct tls_session *);
/* Before the handshake: whoever drives it can wait.  It may then be TLS_SIGNING, and `ready` is called once (it may only note that)
 * when tls_handshake goes on.  Without it, the signer blocks. */
void tls_session_watch(struct tls_session *, void (*ready)(void *arg), void *arg);
/* Goes on with the handshake: takes from *in (which is advanced), appends to out. TLS_OK, TLS_WANT, TLS_SIGNING or TLS_FAILED. */
enum tls_status tls_handshake(struct tls_session *, struct view *in, struct buf *out);
/* Decrypts: at most n octets to `to`, *got says how many.  Call until TLS_WANT.  out: answers such as key updates. */
enum tls_status tls_read(struct tls_session *, struct view *in, void *to, size_t n, size_t *got, struct buf *out);
/* Encrypts all of v.  TLS_OK or TLS_FAILED. */
enum tls_status tls_write(struct tls_session *, struct view v, struct buf *out);
/* Appends close_notify. */
void tls_close(struct tls_session *, struct buf *out);
const struct tls_facts *tls_get_facts(struct tls_session *); /* after the handshake, or after TLS_FAILED in it */
const char *tls_why(const struct tls_session *); /* after TLS_FAILED: a sentence for the log */

#endif
