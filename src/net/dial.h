/* dial.h - one non-blocking connection attempt, with a source address and a deadline.
 *
 * dial_start always answers by `done`, once, never from within dial_start itself; dial_cancel takes the answer back.
 * On success done owns the descriptor (conn_open takes it); on failure fd is -1 and the error's class says whether another try
 * makes sense (again: refused, unreachable, timed out; ours: a source address that is not ours); where error_is_want(its sys) it was
 * never tried for want of a descriptor or of memory.
 * Unix sockets (lmtp:/path) are dialled alike.
 */
#ifndef NET_DIAL_H
#define NET_DIAL_H
#include "base/error.h"
#include "net/address.h"
#include "net/loop.h"

struct dial {
	/* private */
	struct loop *loop;
	struct loop_watch watch;
	struct loop_timer timer;
	struct loop_later later;
	int fd;
	bool active;
	struct error error;
	struct address to;
	void (*done)(void *arg, int fd, const struct error *);
	void *arg;
};

/* source: NULL, or an address whose port is ignored.  timeout in ms. */
void dial_start(struct dial *, struct loop *, const struct sockaddr *to, socklen_t, const struct address *source,
		uint32_t timeout, void (*done)(void *arg, int fd, const struct error *), void *arg);
/* The same to a unix socket. */
void dial_start_unix(struct dial *, struct loop *, struct view path, uint32_t timeout,
		     void (*done)(void *arg, int fd, const struct error *), void *arg);
void dial_cancel(struct dial *);

#endif
