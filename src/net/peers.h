/* peers.h - how many sessions each client address has: the one table that the loops of a role share.
 *
 * IPv6 clients are counted by /64, since one host usually owns that much.  Entries exist only while sessions do, so the
 * table is bounded by the session limit.  Threads: any; one lock, held for a hash look-up.
 */
#ifndef NET_PEERS_H
#define NET_PEERS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct peers;

struct peers *peers_new(uint64_t seed); /* seed: random, so that a client cannot aim at one bucket */
void peers_free(struct peers *);
/* Counts one more session.  limit 0: none.  False (and not counted) at the limit, or when memory is out. */
bool peers_enter(struct peers *, const struct sockaddr *, uint64_t limit);
void peers_leave(struct peers *, const struct sockaddr *);

#endif
