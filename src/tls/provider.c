/* provider.c - an OpenSSL 3 provider that signs by asking somebody else (struct tls_signer).
 *
 * For ECDSA the answer is waited for: it takes less time than to come back to.  RSA takes milliseconds: the handshake is left
 * in the middle where its driver can wait (session.c), and goes on here when the signature is there.
 *
 * It offers key management for EC and RSA (provider_key.c) and the one-shot DigestSign of ECDSA and RSA (PKCS#1 v1.5, and
 * PSS with MGF1 of the same digest and a salt as long as the hash: what TLS 1.2 and 1.3 use), and nothing else: no
 * verification, no decryption, no other digests than SHA-256, -384, -512.  The hash is computed here by the default provider; only
 * the hash leaves.
 */
#include "tls/engine.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>

struct sign_ctx {
	OSSL_LIB_CTX *lib;
	const struct provider_key *key;
	EVP_MD *md;
	uint32_t digest;
	uint8_t padding;
};

size_t tls_digest_size(uint32_t digest)
{
	return digest == TLS_DIGEST_SHA256 ? 32 : digest == TLS_DIGEST_SHA384 ? 48 : digest == TLS_DIGEST_SHA512 ? 64 : 0;
}

static void *sign_new(void *provctx, const char *propq)
{
	struct sign_ctx *s = OPENSSL_zalloc(sizeof *s);

	(void)propq;
	if (s)
		s->lib = provctx;
	return s;
}

static void sign_free(void *arg)
{
	struct sign_ctx *s = arg;

	if (!s)
		return;
	EVP_MD_free(s->md);
	OPENSSL_free(s);
}

static void *sign_dup(void *arg)
{
	struct sign_ctx *from = arg, *s = OPENSSL_zalloc(sizeof *s);

	if (!s)
		return NULL;
	*s = *from;
	if (s->md && !EVP_MD_up_ref(s->md)) {
		OPENSSL_free(s);
		return NULL;
	}
	return s;
}

/* OpenSSL passes these as numbers or as words. */
static int number_or_word(const OSSL_PARAM *p, const char *word, int of_word, int *to)
{
	if (p->data_type == OSSL_PARAM_UTF8_STRING) {
		if (!p->data || strcmp(p->data, word) != 0)
			return 0;
		*to = of_word;
		return 1;
	}
	return OSSL_PARAM_get_int(p, to);
}

static int sign_set_params(void *arg, const OSSL_PARAM params[])
{
	struct sign_ctx *s = arg;
	const OSSL_PARAM *p;
	int v = 0;

	if (!params)
		return 1;
	p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
	if (p) {
		if (!number_or_word(p, OSSL_PKEY_RSA_PAD_MODE_PSS, RSA_PKCS1_PSS_PADDING, &v) &&
		    !number_or_word(p, OSSL_PKEY_RSA_PAD_MODE_PKCSV15, RSA_PKCS1_PADDING, &v))
			return 0;
		if (s->padding == TLS_PADDING_NONE || (v != RSA_PKCS1_PSS_PADDING && v != RSA_PKCS1_PADDING))
			return 0;
		s->padding = v == RSA_PKCS1_PSS_PADDING ? TLS_PADDING_PSS : TLS_PADDING_PKCS1;
	}
	p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
	if (p && (!number_or_word(p, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST, &v) ||
		  (v != RSA_PSS_SALTLEN_DIGEST && v != (int)tls_digest_size(s->digest))))
		return 0;
	p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST);
	if (p && (p->data_type != OSSL_PARAM_UTF8_STRING || !s->md || !EVP_MD_is_a(s->md, p->data)))
		return 0;
	return 1;
}

static const OSSL_PARAM *sign_settable(void *ctx, void *provctx)
{
	static const OSSL_PARAM list[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
		OSSL_PARAM_END,
	};

	(void)ctx;
	(void)provctx;
	return list;
}

static int sign_init(void *arg, const char *mdname, void *key, const OSSL_PARAM params[])
{
	struct sign_ctx *s = arg;

	if (key)
		s->key = key;
	if (!s->key || !s->key->signer)
		return 0;
	EVP_MD_free(s->md);
	s->md = EVP_MD_fetch(s->lib, mdname && *mdname ? mdname : "SHA256", "provider=default");
	if (!s->md)
		return 0;
	s->digest = EVP_MD_is_a(s->md, "SHA256") ? TLS_DIGEST_SHA256 :
		    EVP_MD_is_a(s->md, "SHA384") ? TLS_DIGEST_SHA384 :
		    EVP_MD_is_a(s->md, "SHA512") ? TLS_DIGEST_SHA512 : 0;
	s->padding = strcmp(s->key->type, "RSA") == 0 ? TLS_PADDING_PKCS1 : TLS_PADDING_NONE;
	return s->digest && sign_set_params(s, params);
}

/* Octets, or -1.  The stack that this stands on may be left in the middle. */
static long sign_rsa(const struct sign_ctx *s, const struct tls_signer *by, const unsigned char *hash, size_t n, unsigned char *to, size_t room)
{
	struct tls_signature later;
	long made = -1;

	if (!by->begin || !tls_signature_init(&later))
		return by->sign(by->arg, s->key->key, s->digest, s->padding, hash, n, to, room);
	if (by->begin(by->arg, &later, s->key->key, s->digest, s->padding, hash, n) == -1)
		return -1;
	if (!tls_signature_wait(&later))
		by->forget(by->arg, &later);
	else if (later.made > 0 && (size_t)later.made <= room)
		memcpy(to, later.octets, (size_t)(made = later.made));
	return made;
}

static int sign_digest_sign(void *arg, unsigned char *sig, size_t *siglen, size_t sigsize, const unsigned char *tbs,
			    size_t tbslen)
{
	struct sign_ctx *s = arg;
	const struct tls_signer *by = s->key->signer;
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	long made;
	int max = EVP_PKEY_get_size(s->key->public);
	size_t room;

	if (max <= 0 || max > TLS_SIGNATURE_MAX)
		return 0;
	if (!sig) {
		*siglen = (size_t)max;
		return 1;
	}
	if (EVP_Digest(tbs, tbslen, hash, &n, s->md, NULL) != 1 || n != tls_digest_size(s->digest))
		return 0;
	room = sigsize < (size_t)max ? sigsize : (size_t)max;
	made = s->padding == TLS_PADDING_NONE ? by->sign(by->arg, s->key->key, s->digest, s->padding, hash, n, sig, room) :
						sign_rsa(s, by, hash, n, sig, room);
	if (made <= 0)
		return 0;
	*siglen = (size_t)made;
	return 1;
}

#define FN(f) ((void (*)(void))(f))
static const OSSL_DISPATCH signature[] = {
	{ OSSL_FUNC_SIGNATURE_NEWCTX, FN(sign_new) },
	{ OSSL_FUNC_SIGNATURE_FREECTX, FN(sign_free) },
	{ OSSL_FUNC_SIGNATURE_DUPCTX, FN(sign_dup) },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, FN(sign_init) },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN, FN(sign_digest_sign) },
	{ OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, FN(sign_set_params) },
	{ OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, FN(sign_settable) },
	{ 0, NULL },
};

/* ---- the provider ---- */

/* The names must be those of the default provider, or the two would not be the same algorithm to OpenSSL. */
static const OSSL_ALGORITHM keymgmts[] = {
	{ "EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=" PROVIDER_NAME, provider_ec_keymgmt, NULL },
	{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=" PROVIDER_NAME, provider_rsa_keymgmt, NULL },
	{ NULL, NULL, NULL, NULL },
};
static const OSSL_ALGORITHM signatures[] = {
	{ "ECDSA", "provider=" PROVIDER_NAME, signature, NULL },
	{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=" PROVIDER_NAME, signature, NULL },
	{ NULL, NULL, NULL, NULL },
};

static const OSSL_ALGORITHM *query(void *provctx, int op, int *no_cache)
{
	(void)provctx;
	*no_cache = 0;
	return op == OSSL_OP_KEYMGMT ? keymgmts : op == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static void teardown(void *provctx)
{
	(void)provctx;
}

static const OSSL_DISPATCH provider[] = {
	{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, FN(query) },
	{ OSSL_FUNC_PROVIDER_TEARDOWN, FN(teardown) },
	{ 0, NULL },
};

/* The context of the provider is the library context that it was loaded into: it is part of this program. */
static int init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provctx)
{
	for (; in->function_id != 0; in++)
		if (in->function_id == OSSL_FUNC_CORE_GET_LIBCTX)
			*provctx = OSSL_FUNC_core_get_libctx(in)(handle);
	if (!*provctx)
		return 0;
	*out = provider;
	return 1;
}

int tls_provider_load(OSSL_LIB_CTX *lib, OSSL_PROVIDER *loaded[2])
{
	loaded[0] = OSSL_PROVIDER_load(lib, "default");
	if (!loaded[0])
		return -1;
	if (OSSL_PROVIDER_add_builtin(lib, PROVIDER_NAME, init) == 1)
		loaded[1] = OSSL_PROVIDER_load(lib, PROVIDER_NAME);
	return loaded[1] && EVP_set_default_properties(lib, "?provider=default") == 1 ? 0 : -1;
}
