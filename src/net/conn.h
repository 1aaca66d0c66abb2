/* conn.h - a connection: descriptor, optional TLS, buffers.  The only place where bytes meet the protocol.
 *
 * Pull model: bytes read are shown to `input`, which says how many it took; bytes to write are asked of `output`, and
 * `sent` says how many left.  In clear nothing is copied; with TLS each octet is copied by the cipher alone.
 *
 * Reading   Bytes go to input in order, each with the epoch in which it arrived: 1 in clear, 2 in TLS (never 1 again).
 *           Taking fewer than shown keeps the rest here and stops reading until conn_resume.  input_done follows every
 *           round of input: the place to draw the protocol's events, answer them, conn_resume, conn_read_once.
 * Writing   conn_pump asks for it; it happens at the end of the loop's turn, so that the replies of a pipelined group, or
 *           of one commit, are one write (one flight of TLS records).  It is asked by itself after input_done and tls_up.
 * TLS       conn_start_tls waits until all output is written, reads nothing more in clear, then shakes hands.  While an RSA
 *           signature is awaited the loop serves others; the peer's end is still seen.
 * Ending    the peer's end is told once (peer_closed: end of file, close_notify, or reset); conn_close writes out what is
 *           left, says close_notify, lingers so that the last reply survives, and tells `closed`; conn_close_now does not
 *           linger.  conn_free may be called at any time, in any callback, and cuts at once.
 * Ownership the conn is embedded in its owner and owns the descriptor; ops, arg and TLS context are borrowed.
 * Memory    an idle conn holds no buffer (in TLS: what OpenSSL keeps).
 * Failure   `failed` once (memory, EIO, TLS broken in mid-stream): only conn_free is left to do.
 */
#ifndef NET_CONN_H
#define NET_CONN_H
#include "base/buf.h"
#include "base/error.h"
#include "base/view.h"
#include "net/loop.h"
#include "tls/tls.h"

#define CONN_CLEAR 1u /* epochs */
#define CONN_TLS 2u

/* Ciphertext that waits for the socket: above it output is not asked, so that a slow peer holds little memory. */
#define CONN_OUT_HIGH (64u * 1024)
/* Bytes in clear or plaintext that input left, plus one more read: the parser never leaves more than it was shown. */
#define CONN_IN_MAX (256u * 1024)
/* Lingering (after the last write): a peer that still talks is listened to for so long and so much, not answered. */
#define CONN_LINGER_MS 2000u
#define CONN_LINGER_BYTES (256u * 1024)
/* A peer that does not take the last reply is cut after so long. */
#define CONN_CLOSE_MS 10000u

struct conn_ops {
	size_t (*input)(void *arg, unsigned epoch, const void *bytes, size_t n); /* returns how many it took */
	void (*input_done)(void *arg);                              /* may be NULL */
	struct view (*output)(void *arg);                           /* what should be written now; empty: nothing */
	void (*sent)(void *arg, size_t n);                          /* n of it are written (or encrypted) */
	void (*drained)(void *arg);                                 /* may be NULL: all that output showed is in the kernel */
	void (*peer_closed)(void *arg);
	void (*tls_up)(void *arg, const struct tls_facts *);
	void (*tls_failed)(void *arg, const char *why);             /* the alert is sent; conn_close or conn_free is next */
	void (*failed)(void *arg, const struct error *);
	void (*closed)(void *arg);                                  /* conn_close is through: conn_free is next.  May be NULL */
};

struct conn {
	struct loop *loop;
	const struct conn_ops *ops;
	void *arg;
	/* private */
	int fd;
	unsigned epoch, flags;
	struct loop_watch watch;
	struct loop_timer timer; /* closing */
	struct loop_later later;
	struct tls_session *tls;
	struct tls_context *tls_context;
	const struct tls_peer_check *tls_check;
	struct buf in, raw, out; /* left by input; ciphertext not yet taken; ciphertext not yet written */
	size_t lingered;
	bool *gone;              /* set while a callback runs: conn_free tells the frames above it */
	uint64_t bytes_in, bytes_out; /* on the socket; for the log */
};

/* Nothing is read before conn_open.  alloc: of its buffers. */
void conn_init(struct conn *, struct loop *, const struct alloc *, const struct conn_ops *, void *arg);
/* Takes a connected stream socket over.  Whoever made it has set TCP_NODELAY (listen.c, dial.c): replies are written whole,
 * so Nagle's delay gains nothing.  Each call here says MSG_DONTWAIT.  -1: closed again. */
int conn_open(struct conn *, int fd, struct error *);
void conn_free(struct conn *);
bool conn_is_open(const struct conn *);

void conn_pump(struct conn *);
/* Backpressure: stop reading; go on (what input left is shown again, at the latest at the end of this turn). */
void conn_pause(struct conn *);
void conn_resume(struct conn *);

/* One more read in clear of what the kernel has now, shown to input at once, before the 220 to STARTTLS is queued
 * (RFC 3207 section 6; design.md section 2).  Not from within input: call it in input_done or outside of callbacks.
 * Returns the octets that were pending: left by input before and read now. */
size_t conn_read_once(struct conn *);
/* server: accept a handshake (check is NULL), else begin one and check the peer (borrowed until tls_up or tls_failed).
 * -1 when octets in clear are pending (input left them), or when TLS is or was there already: end the session.
 * Otherwise tls_up or tls_failed follows; the time is the caller's to limit.  What output shows before the handshake begins
 * leaves in clear: after this call show nothing new until tls_up. */
int conn_start_tls(struct conn *, struct tls_context *, bool server, const struct tls_peer_check *);
/* What is known of the TLS session, also in and after tls_failed; NULL: there was none. */
const struct tls_facts *conn_tls_facts(struct conn *);
/* `closed` follows (not from within); a connection that was never opened has nothing to close, and none follows. */
void conn_close(struct conn *);
/* The same, but the descriptor is given back as soon as the kernel has the last octet: for a peer that was turned away, and
 * may not hold what others need.  It loses that octet only if it sent something itself that was not read. */
void conn_close_now(struct conn *);

#endif
