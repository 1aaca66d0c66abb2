/* keys.c - the role `keys`: private keys in, signatures out.
 *
 * Keys live in sets, one a generation of the configuration: a receive of an older generation that finishes its sessions
 * goes on to mean the keys of its own configuration by its numbers.  A set goes when it is not the newest and no
 * channel of its generation is left.
 * Behind the keys of certificates come those of DKIM, which only `policy` may use, and no others.
 * A request is a peer's input: whatever is wrong with it is answered by ok=0 and counted; a frame that does not decode
 * ends the channel.  Only a hash of the right length is signed, so what is signed can never be chosen freely.
 *
 * ECDSA (and Ed25519, which costs no more) is signed on the spot, because a loop waits for it.  RSA takes twenty to a hundred times
 * as long and nobody waits: it is signed by the threads of the crew, the channels taking turns, each within what it may spend.
 */
#include "keys/keys.h"

#include "keys/crew.h"
#include "keys/sets.h"
#include "tls/sign_client.h"
#include "wire/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

/* What one channel may have signed, as time of a core: half of it, and half a second's worth at once; for ECDSA and for RSA each.  What
 * is above is refused, or, of RSA, waits.  A loop that does what it should comes there with RSA at most, under a flood of
 * handshakes, and then half of a core is left for everything else.  One that was broken into cannot take the keys from all others. */
#define KEYS_BUSY_US_PER_MS 500u
#define KEYS_BURST_MAX_US 500000u
/* RSA requests of one channel that wait: what an honest loop asks for at once, and some that it asks for on the spot (checks). */
#define KEYS_WAITING_MAX 640u
_Static_assert(KEYS_WAITING_MAX > SIGN_CLIENT_PENDING_MAX + CONF_CERTIFICATES_MAX, "what an honest loop asks for has its place");
/* What a signature costs, about (2 cores of 2026): P-256 and P-384 with all around it; RSA grows with the cube of its length. */
#define COST_EC_US 50u
#define COST_RSA_2048_US 600u

struct budget {
	uint64_t us, at; /* left; when it was reckoned, in ms */
};

struct link {
	struct link *next;
	struct keys *room;
	struct channel *channel;
	enum role_kind peer;
	uint32_t generation;
	uint64_t signed_n, refused;
	struct budget ec, rsa;
	struct crew_job *waiting, **waiting_end;
	unsigned waiting_n, given_n; /* given: to the crew */
	uint64_t turn;               /* when it was last served */
	bool gone;                   /* its channel is: it is kept for jobs that the crew has */
};

struct keys {
	struct role *role;
	struct key_set *newest;
	struct link *links;
	struct crew *crew;
	struct loop_timer pause; /* until somebody who waits may spend again */
	uint64_t turns;
	bool dispatching;
};

/* ---- sets ---- */

/* The keys that a peer means: those of its configuration, or the nearest that are left.  `policy` outlives reloads, as we do. */
static const struct key_set *set_of(const struct keys *k, const struct link *l)
{
	const struct key_set *s;

	if (l->peer == ROLE_POLICY)
		return k->newest;
	for (s = k->newest; s->older; s = s->older)
		if (s->generation <= l->generation)
			break;
	return s;
}

/* Lets go of sets that nobody can mean any more. */
static void sweep(struct keys *k)
{
	struct key_set **p = &k->newest->older, *s;

	while ((s = *p) != NULL) {
		const struct link *l;

		for (l = k->links; l && set_of(k, l) != s; l = l->next)
			;
		if (l) {
			p = &s->older;
			continue;
		}
		*p = s->older;
		keys_set_free(s);
	}
}

/* ---- what may be spent ---- */

static uint64_t cost_of(EVP_PKEY *rsa)
{
	uint64_t bits = (uint64_t)EVP_PKEY_get_bits(rsa);

	return COST_RSA_2048_US * bits / 2048 * bits / 2048 * bits / 2048;
}

/* False: it has spent all. */
static bool may_spend(const struct link *l, struct budget *b, uint64_t cost)
{
	uint64_t now = (uint64_t)env_mono_ms(l->room->role->env), more = (now - b->at) * KEYS_BUSY_US_PER_MS;

	b->at = now;
	b->us = more > KEYS_BURST_MAX_US - b->us ? KEYS_BURST_MAX_US : b->us + more;
	return b->us >= cost;
}

/* ---- answers ---- */

static void answer(struct link *l, uint64_t stream, long made, const unsigned char *signature, uint32_t key, const char *why)
{
	struct wire_KEY_SIGNED m = { .stream = stream, .signature = VIEW("") };

	if (made > 0) {
		m.ok = 1;
		m.signature = view_of((const char *)signature, (size_t)made);
		l->signed_n++;
	} else {
		l->refused++;
		if ((l->refused & (l->refused - 1)) == 0) /* a broken peer must not fill the log */
			EMIT(l->room->role->events, KEY_REFUSED, F_STR("peer", role_name(l->peer)), F_U64("generation", l->generation),
			     F_U64("key", key), F_STR("reason", why), F_U64("n", l->refused));
	}
	wire_send_KEY_SIGNED(l->channel, &m); /* false: the peer is gone, and closed will say so */
}

static void job_free(struct crew_job *j)
{
	EVP_PKEY_free(j->key);
	free(j);
}

/* ---- RSA ---- */

/* Whose turn it is among those that wait and may spend; *pause: how many ms until another one may (UINT64_MAX: none waits). */
static struct link *next_link(const struct keys *k, uint64_t *pause)
{
	struct link *best = NULL;

	*pause = UINT64_MAX;
	for (struct link *l = k->links; l; l = l->next) {
		uint64_t cost = l->waiting ? cost_of(l->waiting->key) : 0, ms;

		if (!l->waiting)
			continue;
		if (may_spend(l, &l->rsa, cost)) {
			best = !best || l->turn < best->turn ? l : best;
			continue;
		}
		ms = (cost - l->rsa.us + KEYS_BUSY_US_PER_MS - 1) / KEYS_BUSY_US_PER_MS;
		*pause = ms < *pause ? ms : *pause;
	}
	return best;
}

static void dispatch(struct keys *k)
{
	uint64_t pause = UINT64_MAX;
	struct link *l;

	if (k->dispatching) /* without threads a job is done within crew_give */
		return;
	k->dispatching = true;
	while (crew_wants(k->crew) && (l = next_link(k, &pause)) != NULL) {
		struct crew_job *j = l->waiting;

		l->waiting = j->next;
		if (!l->waiting)
			l->waiting_end = &l->waiting;
		l->waiting_n--;
		l->given_n++;
		l->turn = ++k->turns;
		l->rsa.us -= cost_of(j->key);
		crew_give(k->crew, j);
	}
	k->dispatching = false;
	if (pause != UINT64_MAX)
		loop_timer_set(&k->pause, loop_now(k->role->loop) + pause);
}

static void on_pause(void *arg)
{
	dispatch(arg);
}

/* The job is done, or never will be; its link may have waited for that. */
static void give_back(struct crew_job *j)
{
	struct link *l = j->of;

	job_free(j);
	l->given_n--;
	if (l->gone && l->given_n == 0)
		free(l);
}

static void on_done(void *arg, struct crew_job *j)
{
	struct link *l = j->of;

	if (!l->gone)
		answer(l, j->stream, j->made, j->signature, j->number, j->why);
	give_back(j);
	dispatch(arg);
}

/* What is refused, or NULL: it will be answered. */
static const char *put_in_line(struct link *l, const struct wire_KEY_SIGN *ask, const struct key *key)
{
	struct crew_job *j;

	if (l->waiting_n >= KEYS_WAITING_MAX)
		return "more signatures than a loop can need";
	if (ask->hash.n > TLS_HASH_MAX)
		return "the hash is not as long as its digest";
	j = malloc(sizeof *j);
	if (!j || EVP_PKEY_up_ref(key->pkey) != 1) {
		free(j);
		return "out of memory";
	}
	j->next = NULL;
	j->key = key->pkey;
	j->digest = ask->digest;
	j->padding = ask->padding;
	j->n = ask->hash.n;
	memcpy(j->hash, ask->hash.p, ask->hash.n);
	j->of = l;
	j->stream = ask->stream;
	j->number = ask->key;
	*l->waiting_end = j;
	l->waiting_end = &j->next;
	l->waiting_n++;
	dispatch(l->room);
	return NULL;
}

/* ---- requests ---- */

static long sign_now(struct link *l, const struct wire_KEY_SIGN *ask, const struct key *key, unsigned char *to, size_t room, const char **why)
{
	if (!may_spend(l, &l->ec, COST_EC_US))
		return *why = "more signatures than a loop can need", -1;
	l->ec.us -= COST_EC_US;
	return crew_sign(key->pkey, ask->digest, ask->padding, ask->hash.p, ask->hash.n, to, room, why);
}

static void take_request(struct link *l, const struct wire_KEY_SIGN *ask)
{
	unsigned char sig[TLS_SIGNATURE_MAX];
	const char *why = NULL;
	const struct key *key = keys_set_find(set_of(l->room, l), ask->key, l->peer, &why);
	long made = -1;

	if (key && key->rsa)
		why = put_in_line(l, ask, key);
	else if (key)
		made = sign_now(l, ask, key, sig, sizeof sig, &why);
	if (!key || !key->rsa || why)
		answer(l, ask->stream, made, sig, ask->key, why);
}

long keys_sign(void *role, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room)
{
	const struct keys *k = ((struct role *)role)->state;
	const char *why;

	if (!k || key >= k->newest->count || !k->newest->keys[key].pkey)
		return -1;
	return crew_sign(k->newest->keys[key].pkey, digest, padding, hash, n, to, room, &why);
}

/* ---- channels ---- */

static void link_end(struct link *l)
{
	struct keys *k = l->room;
	struct link **p = &k->links;

	while (*p != l)
		p = &(*p)->next;
	*p = l->next;
	if (l->signed_n || l->refused)
		EMIT(k->role->events, KEYS_COUNTED, F_STR("peer", role_name(l->peer)), F_U64("generation", l->generation),
		     F_U64("signed", l->signed_n), F_U64("n", l->refused));
	channel_free(l->channel);
	l->channel = NULL;
	for (struct crew_job *j = l->waiting, *next; j; j = next) {
		next = j->next;
		job_free(j);
	}
	l->gone = true;
	if (l->given_n == 0)
		free(l);
	sweep(k);
}

static void on_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct link *l = arg;
	struct wire_KEY_SIGN ask;

	(void)c;
	if (fd == -1 && type == WIRE_KEY_SIGN && wire_allowed(type, l->peer, ROLE_KEYS) && wire_read_KEY_SIGN(payload, &ask) == 0) {
		take_request(l, &ask);
		return;
	}
	if (fd != -1)
		close(fd);
	EMIT(l->room->role->events, FRAME_REFUSED, F_STR("peer", role_name(l->peer)), F_STR("frame", wire_name(type)),
	     F_STR("reason", "not a request to sign"));
	wire_accuse(l->room->role, l->peer, l->generation);
	link_end(l);
}

static void on_closed(void *arg, struct channel *c)
{
	struct link *l = arg;

	if (channel_was_broken(c))
		wire_accuse(l->room->role, l->peer, l->generation);
	link_end(l);
}

static const struct channel_handler handler = { .frame = on_frame, .closed = on_closed };

static void on_channel(struct role *role, enum role_kind peer, uint32_t index, uint32_t generation, struct channel *channel)
{
	struct keys *k = role->state;
	struct link *l = calloc(1, sizeof *l);

	(void)index;
	if (!l) {
		channel_free(channel); /* that thread of the peer offers no TLS */
		return;
	}
	*l = (struct link){ .next = k->links, .room = k, .channel = channel, .peer = peer, .generation = generation,
			    .ec = { KEYS_BURST_MAX_US, (uint64_t)env_mono_ms(role->env) } };
	l->rsa = l->ec;
	l->waiting_end = &l->waiting;
	k->links = l;
	channel_set_handler(channel, &handler, l);
}

/* ---- the role ---- */

static int prepare(struct role *role, struct error *e)
{
	struct keys *k = calloc(1, sizeof *k);

	if (!k)
		return error_set(e, ERROR_AGAIN, "no memory for the keys");
	k->role = role;
	k->newest = keys_set_read(role, role->conf, role->files, role->generation);
	k->crew = k->newest ? crew_new(role->loop, role_loops(role->conf), on_done, k) : NULL;
	if (!k->crew) {
		if (k->newest)
			keys_set_free(k->newest);
		free(k);
		return error_set(e, ERROR_AGAIN, "no memory for the keys");
	}
	loop_timer_init(&k->pause, role->loop, on_pause, k);
	role->state = k;
	return tls_warm_up(e); /* signs and verifies once: what OpenSSL loads late is loaded before confinement */
}

static int start(struct role *role, struct error *e)
{
	struct keys *k = role->state;

	return role->single ? 0 : crew_run(k->crew, e);
}

static void frame(struct role *role, uint32_t type, struct view payload, int fd)
{
	(void)role;
	(void)type;
	(void)payload;
	if (fd != -1)
		close(fd); /* super has nothing else to say to this role */
}

static int reload(struct role *role, const struct conf *conf, const struct handoff *files, struct error *e)
{
	struct keys *k = role->state;
	uint32_t generation = role->generation > k->newest->generation ? role->generation : k->newest->generation + 1;
	struct key_set *s = keys_set_read(role, conf, files, generation);

	if (!s)
		return error_set(e, ERROR_AGAIN, "no memory for the keys");
	s->older = k->newest;
	k->newest = s;
	sweep(k);
	return 0;
}

/* Others still shake hands until they are drained, and so it serves until it is stopped. */
static void drain(struct role *role, uint32_t grace_ms)
{
	(void)grace_ms;
	role->drained(role);
}

static void stop(struct role *role)
{
	struct keys *k = role->state;
	struct key_set *s;

	if (!k)
		return;
	crew_free(k->crew, give_back);
	while (k->links)
		link_end(k->links);
	loop_timer_stop(&k->pause);
	while ((s = k->newest) != NULL) {
		k->newest = s->older;
		keys_set_free(s);
	}
	free(k);
	role->state = NULL;
}

static unsigned loops(const struct conf *conf)
{
	(void)conf;
	return 1;
}

const struct role_ops keys_role = {
	.kind = ROLE_KEYS,
	.prepare = prepare,
	.start = start,
	.channel = on_channel,
	.frame = frame,
	.reload = reload,
	.drain = drain,
	.stop = stop,
	.loops = loops,
};
