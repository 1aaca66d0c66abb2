/* listen.h - accepting connections from a listening socket that somebody else bound.
 *
 * Each turn takes at most LISTEN_BATCH connections, so that sessions are served between.  Out of descriptors, the
 * reserve is given up to accept one and refuse it (or else the loop would spin on a socket that stays readable), then
 * accepting pauses LISTEN_PAUSE_MS.  The new socket is non-blocking and close-on-exec, and belongs to `accepted`.
 * Ownership: the listener owns the descriptor from listen_start on; several loops may each own a duplicate of it.
 */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H
#include "base/error.h"
#include "net/address.h"
#include "net/loop.h"

#define LISTEN_BATCH 64       /* connections a turn: a burst is taken in without starving sessions */
#define LISTEN_PAUSE_MS 100   /* after EMFILE, ENFILE, ENOBUFS, ENOMEM: time for some session to end */
#define LISTEN_BACKLOG 4096   /* what comes while a loop is busy; a connection beyond it waits for a second or more (Linux: net.core.somaxconn caps it) */

struct listener {
	/* private but for reading */
	struct loop *loop;
	struct loop_watch watch;
	struct loop_timer timer;
	int fd, reserve;
	bool paused;
	void (*accepted)(void *arg, int fd, const struct address *peer);
	void (*refused)(void *arg, int err); /* may be NULL: one was dropped for want of descriptors, or accept failed */
	void *arg;
};

/* Binds and listens (super's work; also tests).  Returns the descriptor or -1. */
int listen_open(const struct sockaddr *, socklen_t, struct error *);
int listen_start(struct listener *, struct loop *, int fd, void (*accepted)(void *arg, int fd, const struct address *peer),
		 void (*refused)(void *arg, int err), void *arg);
/* Clients that talk first (implicit TLS) are accepted when they have, or after that many seconds; 0: at once. */
void listen_defer(int fd, unsigned seconds);
void listen_pause(struct listener *);  /* pressure; connections wait in the kernel */
void listen_resume(struct listener *);
void listen_stop(struct listener *);   /* closes its descriptor */

#endif
