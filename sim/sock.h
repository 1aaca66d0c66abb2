/* sock.h - the inside of the simulated network, shared by net.c (its world) and calls.c (the calls of the rooms). */
#ifndef SIM_SOCK_H
#define SIM_SOCK_H
#include "sim/sim.h"

#define FDS 4096
#define WINDOW (64u * 1024) /* octets under way and unread, one way */

enum sock_kind { SOCK_STREAMING = 1, SOCK_LISTENING, SOCK_FRESH, SOCK_LOG };

struct luck {
	size_t read_max, write_max;
	uint64_t reset_after;  /* octets both ways; 0: never */
	uint64_t stall_after;  /* octets; 0: never */
	int64_t stall_ms, delay, jitter;
	uint64_t passed;
	unsigned partials;     /* so many are left: a long body need not go octet by octet to its end */
};

struct sock {
	enum sock_kind kind;
	unsigned refs; /* descriptors, and 1 for a script */
	uint64_t number;
	struct node *node; /* whose; NULL: a script's */
	char address[64], other[64];
	/* listening */
	struct sock *next;
	struct sock *backlog[64];
	unsigned waiting;
	void (*accepted)(void *arg, struct sock *);
	/* streaming */
	struct sock *peer;
	struct luck *luck; /* both ends share it */
	struct buf in;
	size_t under_way;  /* octets to us */
	int64_t last;      /* when the last piece to us arrives */
	unsigned epoch;    /* raised by a reset: pieces of before are lost */
	bool connected, eof, shut, closed, told;
	int error;
	const struct sock_ops *ops;
	void *arg;
};

enum end { END_NONE = 0 /* octets */, END_FIN, END_RESET };

extern struct sock *net_fds[FDS]; /* by descriptor */
extern struct sock *net_listening;
extern bool net_dead; /* a role is being taken apart */

struct sock *net_make(enum sock_kind, struct node *);
int net_give_fd(struct sock *);
struct sock *net_of_fd(int fd); /* NULL: none of ours */
void net_send(struct sock *to, const void *octets, size_t n, enum end);
void net_sent(struct sock *);   /* what was sent counts: the luck of the connection may end here */
void net_fail(struct sock *, int error);
void net_dial(struct sock *, const char *to);
size_t net_room(const struct sock *); /* octets that a write could take */

#endif
