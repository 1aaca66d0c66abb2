/* peers.c - see peers.h. */
#include "net/peers.h"

#include "base/view.h"

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Twenty thousand sessions make chains of five at worst on average; more sessions than that need more descriptors
 * than a process usually has. */
#define PEERS_BUCKETS 4096

struct peer {
	struct peer *next;
	unsigned char key[17]; /* family, then 4 octets or the first 8 of 16 */
	uint64_t sessions;
};

struct peers {
	pthread_mutex_t lock;
	uint64_t seed;
	struct peer *buckets[PEERS_BUCKETS];
};

static void key_of(const struct sockaddr *sa, unsigned char key[17])
{
	memset(key, 0, 17);
	if (sa->sa_family == AF_INET6) {
		const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
		if (IN6_IS_ADDR_V4MAPPED(a)) {
			key[0] = 4;
			memcpy(key + 1, a->s6_addr + 12, 4);
		} else {
			key[0] = 6;
			memcpy(key + 1, a->s6_addr, 8);
		}
	} else if (sa->sa_family == AF_INET) {
		key[0] = 4;
		memcpy(key + 1, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	}
}

static struct peer **find(struct peers *p, const unsigned char key[17])
{
	uint64_t h = view_hash(view_of((const char *)key, 17)) ^ p->seed;
	struct peer **at;

	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9ULL;
	at = &p->buckets[(h >> 32) % PEERS_BUCKETS];
	while (*at && memcmp((*at)->key, key, 17) != 0)
		at = &(*at)->next;
	return at;
}

struct peers *peers_new(uint64_t seed)
{
	struct peers *p = calloc(1, sizeof *p);

	if (p) {
		pthread_mutex_init(&p->lock, NULL);
		p->seed = seed;
	}
	return p;
}

void peers_free(struct peers *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < PEERS_BUCKETS; i++)
		while (p->buckets[i]) {
			struct peer *next = p->buckets[i]->next;
			free(p->buckets[i]);
			p->buckets[i] = next;
		}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

bool peers_enter(struct peers *p, const struct sockaddr *sa, uint64_t limit)
{
	unsigned char key[17];
	struct peer **at;
	bool ok = false;

	key_of(sa, key);
	pthread_mutex_lock(&p->lock);
	at = find(p, key);
	if (!*at && (*at = calloc(1, sizeof **at)) != NULL)
		memcpy((*at)->key, key, sizeof key);
	if (*at && (limit == 0 || (*at)->sessions < limit)) {
		(*at)->sessions++;
		ok = true;
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

void peers_leave(struct peers *p, const struct sockaddr *sa)
{
	unsigned char key[17];
	struct peer **at, *gone;

	key_of(sa, key);
	pthread_mutex_lock(&p->lock);
	at = find(p, key);
	assert(*at && (*at)->sessions > 0); /* every leave follows an enter that said yes */
	if (--(*at)->sessions == 0) {
		gone = *at;
		*at = gone->next;
		free(gone);
	}
	pthread_mutex_unlock(&p->lock);
}
