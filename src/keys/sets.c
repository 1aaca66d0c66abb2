/* sets.c - see sets.h. */
#include "keys/sets.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>

#define RSA_BITS_MIN 2048 /* as tls/context.c asks of certificates */
#define RSA_BITS_MAX 8192

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

void keys_set_free(struct key_set *s)
{
	for (size_t i = 0; i < s->count; i++)
		EVP_PKEY_free(s->keys[i].pkey); /* wipes the private part */
	free(s);
}

struct key_set *keys_set_read(struct role *role, const struct conf *conf, const struct handoff *files, uint32_t generation)
{
	size_t n = conf->certificate_count + conf->dkim_count;
	struct key_set *s = calloc(1, sizeof *s + n * sizeof *s->keys);

	if (!s)
		return NULL;
	s->generation = generation;
	s->count = n;
	for (size_t i = 0; i < s->count; i++) {
		const struct conf_dkim *dkim = i < conf->certificate_count ? NULL : &conf->dkim[i - conf->certificate_count];
		const char *kind = dkim ? "dkim" : "key", *title = dkim ? dkim->title : conf->certificates[i].title;
		const char *why = read_key(handoff_get(files, kind, title), dkim, &s->keys[i]);

		s->keys[i].for_policy = dkim != NULL;
		s->keys[i].for_receive = !dkim && conf_listener_shows(conf, i);
		s->keys[i].for_web = !dkim && conf_web_shows(conf, i);
		s->keys[i].for_send = !dkim && conf_client_shows(conf, i);
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

static bool is_for(const struct key *k, enum role_kind peer)
{
	switch (peer) {
	case ROLE_RECEIVE: return k->for_receive;
	case ROLE_WEB: return k->for_web;
	case ROLE_SEND: return k->for_send;
	case ROLE_POLICY: return k->for_policy;
	default: return false;
	}
}

const struct key *keys_set_find(const struct key_set *s, uint32_t number, enum role_kind peer, const char **why)
{
	const struct key *k;

	if (number >= s->count)
		return *why = "no such key", NULL;
	k = &s->keys[number];
	if (!is_for(k, peer))
		return *why = "that key is not for this role", NULL;
	if (!k->pkey)
		return *why = "the key is broken", NULL;
	return k;
}
