/* keys.c - the role `keys`: private keys in, signatures out.
 *
 * Keys live in sets, one a generation of the configuration: a receive of an older generation that finishes its sessions
 * goes on to mean the keys of its own configuration by its numbers.  A set goes when it is not the newest and no
 * channel of its generation is left.  The PEM octets are overwritten as soon as a key has been read.
 * Behind the keys of certificates come those of DKIM, which only `policy` may use, and no others.
 * A request is a peer's input: whatever is wrong with it is answered by ok=0 and counted; a frame that does not decode
 * ends the channel.  Only a hash of the right length is signed, so what is signed can never be chosen freely.
 */
#include "keys/keys.h"

#include "tls/tls.h"
#include "wire/wire.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <unistd.h>

#define RSA_BITS_MIN 2048 /* as tls/context.c asks of certificates */
#define RSA_BITS_MAX 8192

/* What one channel may have signed, as time of a core: half of it, and a second's worth at once.  A loop of `receive` waits for each
 * answer, so that one that does what it should never comes here: it would do nothing but shake hands.  One that was broken into
 * can ask without waiting, and would take the keys from all others. */
#define KEYS_BUSY_US_PER_MS 500u
#define KEYS_BURST_MAX_US 500000u
/* What a signature costs, about (2 cores of 2026): P-256 and P-384 with all around it; RSA grows with the cube of its length. */
#define COST_EC_US 50u
#define COST_RSA_2048_US 600u

struct key {
	EVP_PKEY *pkey; /* NULL: cannot be used */
	bool rsa, dkim;
};

struct key_set {
	struct key_set *older;
	uint32_t generation;
	size_t count;
	struct key keys[];
};

struct link {
	struct link *next;
	struct keys *room;
	struct channel *channel;
	enum role_kind peer;
	uint32_t generation;
	uint64_t signed_n, refused;
	uint64_t budget_us, budget_at; /* left; when it was reckoned, in ms */
};

struct keys {
	struct role *role;
	struct key_set *newest;
	struct link *links;
};

/* ---- sets ---- */

static int no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1; /* nobody is there to ask */
}

/* A key of DKIM is of the kind that its section says: the field names it before keys is asked. */
static const char *judge_dkim(EVP_PKEY *k, unsigned algorithm)
{
	if (algorithm == CONF_DKIM_ED25519)
		return EVP_PKEY_is_a(k, "ED25519") ? NULL : "the key is not Ed25519, as algorithm says";
	return EVP_PKEY_is_a(k, "RSA") ? NULL : "the key is not RSA, as algorithm says";
}

/* Why the key is not one of ours, or NULL. */
static const char *judge(EVP_PKEY *k, bool *rsa)
{
	char group[32];
	size_t n = 0;

	*rsa = EVP_PKEY_is_a(k, "RSA");
	if (*rsa)
		return EVP_PKEY_get_bits(k) < RSA_BITS_MIN || EVP_PKEY_get_bits(k) > RSA_BITS_MAX ?
			       "the RSA key is shorter than 2048 or longer than 8192 bits" : NULL;
	if (!EVP_PKEY_is_a(k, "EC"))
		return "the key is neither ECDSA nor RSA";
	if (EVP_PKEY_get_group_name(k, group, sizeof group, &n) != 1 ||
	    (strcmp(group, "prime256v1") != 0 && strcmp(group, "P-256") != 0 && strcmp(group, "secp384r1") != 0 &&
	     strcmp(group, "P-384") != 0))
		return "the key's curve is neither P-256 nor P-384";
	return NULL;
}

static const char *read_key(struct view pem, const struct conf_dkim *dkim, struct key *k)
{
	BIO *bio;
	const char *why;

	if (!pem.p)
		return "the key's file cannot be read, or its octets were already taken";
	if (pem.n > INT_MAX || !(bio = BIO_new_mem_buf(pem.p, (int)pem.n)))
		return "out of memory";
	k->pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
	BIO_free(bio);
	ERR_clear_error();
	if (!k->pkey)
		return "the file holds no private key in PEM that can be read without a password";
	k->dkim = dkim != NULL;
	why = dkim ? judge_dkim(k->pkey, dkim->set.algorithm) : NULL;
	if (!why && !EVP_PKEY_is_a(k->pkey, "ED25519"))
		why = judge(k->pkey, &k->rsa);
	else if (!dkim)
		why = "the key is neither ECDSA nor RSA";
	if (why) {
		EVP_PKEY_free(k->pkey);
		k->pkey = NULL;
	}
	return why;
}

static void set_free(struct key_set *s)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		EVP_PKEY_free(s->keys[i].pkey); /* wipes the private part */
	free(s);
}

static struct key_set *set_read(struct role *role, const struct conf *conf, const struct handoff *files, uint32_t generation)
{
	size_t i, n = conf->certificate_count + conf->dkim_count;
	struct key_set *s = calloc(1, sizeof *s + n * sizeof *s->keys);

	if (!s)
		return NULL;
	s->generation = generation;
	s->count = n;
	for (i = 0; i < s->count; i++) {
		const struct conf_dkim *dkim = i < conf->certificate_count ? NULL : &conf->dkim[i - conf->certificate_count];
		const char *kind = dkim ? "dkim" : "key", *title = dkim ? dkim->title : conf->certificates[i].title;
		const char *why = read_key(handoff_get(files, kind, title), dkim, &s->keys[i]);

		handoff_forget(files, kind, title);
		if (why)
			EMIT(role->events, KEY_BROKEN, F_STR("title", title), F_STR("reason", why));
		else
			EMIT(role->events, KEY_READY, F_STR("title", title),
			     F_STR("type", s->keys[i].rsa ? "RSA" : EVP_PKEY_is_a(s->keys[i].pkey, "EC") ? "ECDSA" : "Ed25519"),
			     F_I64("bits", EVP_PKEY_get_bits(s->keys[i].pkey)));
	}
	return s;
}

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
		set_free(s);
	}
}

/* ---- signing ---- */

static const EVP_MD *digest_of(uint32_t digest)
{
	switch (digest) {
	case TLS_DIGEST_SHA256: return EVP_sha256();
	case TLS_DIGEST_SHA384: return EVP_sha384();
	case TLS_DIGEST_SHA512: return EVP_sha512();
	default: return NULL;
	}
}

/* RFC 8463 3: what Ed25519 signs is the hash. */
static bool sign_ed25519(EVP_PKEY *key, struct view hash, unsigned char *to, size_t *made)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
	          EVP_DigestSign(ctx, to, made, (const unsigned char *)hash.p, hash.n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

/* Octets of the signature, or -1 and why. */
static long make(const struct key_set *s, uint32_t number, uint32_t digest, uint8_t padding, struct view hash, unsigned char *to,
		 size_t room, const char **why)
{
	const EVP_MD *md = digest_of(digest);
	EVP_PKEY_CTX *ctx;
	const struct key *k;
	size_t made = room;
	bool ok;

	if (number >= s->count)
		return *why = "no such key", -1;
	k = &s->keys[number];
	if (!k->pkey)
		return *why = "the key is broken", -1;
	if (!md || hash.n != tls_digest_size(digest))
		return *why = "the hash is not as long as its digest", -1;
	if (k->rsa ? padding != TLS_PADDING_PKCS1 && padding != TLS_PADDING_PSS : padding != TLS_PADDING_NONE)
		return *why = "the padding is not of this kind of key", -1;
	if (room < (size_t)EVP_PKEY_get_size(k->pkey))
		return *why = "no room for the signature", -1;
	if (EVP_PKEY_is_a(k->pkey, "ED25519"))
		return sign_ed25519(k->pkey, hash, to, &made) ? (long)made : (*why = "the operation failed", -1);
	ctx = EVP_PKEY_CTX_new(k->pkey, NULL);
	ok = ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_signature_md(ctx, md) == 1;
	if (ok && k->rsa)
		ok = EVP_PKEY_CTX_set_rsa_padding(ctx, padding == TLS_PADDING_PSS ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1;
	if (ok && padding == TLS_PADDING_PSS) /* RFC 8446 4.2.3: the salt is as long as the hash */
		ok = EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
	ok = ok && EVP_PKEY_sign(ctx, to, &made, (const unsigned char *)hash.p, hash.n) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	if (!ok)
		return *why = "the operation failed", -1;
	return (long)made;
}

long keys_sign(void *role, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room)
{
	const struct keys *k = ((struct role *)role)->state;
	const char *why;

	return k ? make(k->newest, key, digest, padding, view_of(hash, n), to, room, &why) : -1;
}

static uint64_t cost_of(const struct key_set *s, uint32_t number)
{
	uint64_t bits = number < s->count && s->keys[number].pkey && s->keys[number].rsa ? (uint64_t)EVP_PKEY_get_bits(s->keys[number].pkey) : 0;

	return bits ? COST_RSA_2048_US * bits / 2048 * bits / 2048 * bits / 2048 : COST_EC_US;
}

/* Takes the cost from what the channel may spend; false: it has spent all. */
static bool may_spend(struct link *l, uint64_t cost)
{
	uint64_t now = (uint64_t)env_mono_ms(l->room->role->env), more = (now - l->budget_at) * KEYS_BUSY_US_PER_MS;

	l->budget_at = now;
	l->budget_us = more > KEYS_BURST_MAX_US - l->budget_us ? KEYS_BURST_MAX_US : l->budget_us + more;
	if (l->budget_us < cost)
		return false;
	l->budget_us -= cost;
	return true;
}

static void answer(struct link *l, const struct wire_KEY_SIGN *ask)
{
	struct keys *k = l->room;
	unsigned char sig[TLS_SIGNATURE_MAX];
	struct wire_KEY_SIGNED m = { .stream = ask->stream };
	const char *why = "";
	const struct key_set *s = set_of(k, l);
	long n = -1;

	if (ask->key < s->count && s->keys[ask->key].dkim != (l->peer == ROLE_POLICY))
		why = "that key is not for this role"; /* one that was broken into cannot speak for the other */
	else if (may_spend(l, cost_of(s, ask->key)))
		n = make(s, ask->key, ask->digest, ask->padding, ask->hash, sig, sizeof sig, &why);
	else
		why = "more signatures than a loop can need";

	if (n > 0) {
		m.ok = 1;
		m.signature = view_of((const char *)sig, (size_t)n);
		l->signed_n++;
	} else {
		l->refused++;
		if ((l->refused & (l->refused - 1)) == 0) /* a broken peer must not fill the log */
			EMIT(k->role->events, KEY_REFUSED, F_STR("peer", role_name(l->peer)), F_U64("generation", l->generation),
			     F_U64("key", ask->key), F_STR("reason", why), F_U64("n", l->refused));
		m.signature = VIEW("");
	}
	wire_send_KEY_SIGNED(l->channel, &m); /* false: the peer is gone, and closed will say so */
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
	free(l);
	sweep(k);
}

static void on_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct link *l = arg;
	struct wire_KEY_SIGN ask;

	(void)c;
	if (fd == -1 && type == WIRE_KEY_SIGN && wire_allowed(type, l->peer, ROLE_KEYS) && wire_read_KEY_SIGN(payload, &ask) == 0) {
		answer(l, &ask);
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
			    .budget_us = KEYS_BURST_MAX_US, .budget_at = (uint64_t)env_mono_ms(role->env) };
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
	k->newest = set_read(role, role->conf, role->files, role->generation);
	if (!k->newest) {
		free(k);
		return error_set(e, ERROR_AGAIN, "no memory for the keys");
	}
	role->state = k;
	return tls_warm_up(e); /* signs and verifies once: what OpenSSL loads late is loaded before confinement */
}

static int start(struct role *role, struct error *e)
{
	(void)role;
	(void)e;
	return 0;
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
	struct key_set *s = set_read(role, conf, files, generation);

	if (!s)
		return error_set(e, ERROR_AGAIN, "no memory for the keys");
	s->older = k->newest;
	k->newest = s;
	sweep(k);
	return 0;
}

/* Nothing is ever in flight here; others still shake hands until they are drained, and so it serves until it is stopped. */
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
	while (k->links)
		link_end(k->links);
	while ((s = k->newest) != NULL) {
		k->newest = s->older;
		set_free(s);
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
