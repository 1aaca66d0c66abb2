/* channel.h - framed messages between two roles: over a socket pair, or in memory (--single, simulator).
 *
 * A frame is {u32 length, u32 type} and a payload of at most CHANNEL_FRAME_MAX octets, optionally with one descriptor.
 * Frames are queued in the order sent and written once at the end of the loop's turn (channel_flush writes now), so that
 * all frames of a turn are one write.  Order is kept.  The peer's frames are a peer's input: a frame over the limit or a
 * broken header closes the channel.  What waits to be written is capped (CHANNEL_OUT_MAX); a peer that lets it fill is
 * treated as dead.  Streams of bytes are bounded by credit, above this layer (wire.h).
 * Ownership: channel_free closes; payload views live until the handler returns; a received descriptor belongs to the handler.
 * Threads: a channel belongs to one loop.
 */
#ifndef NET_CHANNEL_H
#define NET_CHANNEL_H
#include "base/view.h"
#include "net/loop.h"

#define CHANNEL_FRAME_MAX (1024u * 1024) /* a thousand recipients of the longest kind fit */
#define CHANNEL_OUT_MAX (64u * 1024 * 1024) /* thousands of sessions of one window each; more means the peer is stuck */

struct channel;

struct channel_handler {
	void (*frame)(void *arg, struct channel *, uint32_t type, struct view payload, int fd); /* fd -1: none */
	void (*closed)(void *arg, struct channel *); /* the peer is gone; call channel_free (now or later) */
	/* all frames that arrived together were handed over: a good moment to kick a batch.  May be NULL. */
	void (*turn)(void *arg, struct channel *);
};

/* Takes the descriptor of a SOCK_STREAM unix socket over (made non-blocking). NULL: memory. */
struct channel *channel_new(struct loop *, int fd);
/* Two ends in memory, on one loop (or two loops of one thread). */
int channel_pair(struct loop *, struct channel *ends[2]);
void channel_free(struct channel *);
void channel_set_handler(struct channel *, const struct channel_handler *, void *arg);
bool channel_send(struct channel *, uint32_t type, struct view payload); /* false: closed or full */
bool channel_send_fd(struct channel *, uint32_t type, struct view payload, int fd); /* fd is duplicated */
/* Encodes in place: reserve room for a payload of n octets, write it, commit; saves a copy for body bytes. NULL: full. */
void *channel_reserve(struct channel *, size_t n);
void channel_commit(struct channel *, uint32_t type, size_t n);
void channel_flush(struct channel *);
bool channel_is_open(const struct channel *);
bool channel_was_broken(const struct channel *); /* it ended because the peer's frames broke the rules above */
/* Ends the channel but keeps its descriptor, for a caller that reads and writes it directly (blocking exchanges with
 * `keys`).  Only before anything was sent or received; -1: not possible (in memory, closed); the channel is gone either way. */
int channel_detach_fd(struct channel *);

#endif
