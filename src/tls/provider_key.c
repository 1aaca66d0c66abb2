/* provider_key.c - the key objects of our OpenSSL provider: a public key, and who signs for it.
 *
 * The public part is an ordinary key of the default provider, to which everything that needs no secret is left.  Export of
 * a private part is refused, and that is what keeps OpenSSL from moving the operation to another provider: EVP first
 * tries the default provider's signature, asks us to export the key to it, and comes back to ours when that fails.
 */
#include "tls/engine.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/param_build.h>
#include <stdlib.h>

#define PARAM_SIGNER "postrider-signer" /* octets of a pointer: both sides are this program */
#define PARAM_KEY "postrider-key"

static void *key_new(void *lib, const char *type)
{
	struct provider_key *k = OPENSSL_zalloc(sizeof *k);

	if (k) {
		k->lib = lib;
		k->type = type;
	}
	return k;
}

static void *ec_new(void *provctx)
{
	return key_new(provctx, "EC");
}

static void *rsa_new(void *provctx)
{
	return key_new(provctx, "RSA");
}

static void key_free(void *arg)
{
	struct provider_key *k = arg;

	if (!k)
		return;
	EVP_PKEY_free(k->public);
	OPENSSL_free(k);
}

static int key_has(const void *arg, int selection)
{
	const struct provider_key *k = arg;

	if (!k)
		return 0;
	if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && !k->signer)
		return 0;
	return selection == 0 || k->public != NULL;
}

static int key_match(const void *a, const void *b, int selection)
{
	const struct provider_key *k1 = a, *k2 = b;

	(void)selection;
	return k1->public && k2->public && EVP_PKEY_eq(k1->public, k2->public) == 1;
}

static int key_import(void *arg, int selection, const OSSL_PARAM params[])
{
	struct provider_key *k = arg;
	const OSSL_PARAM *signer = OSSL_PARAM_locate_const(params, PARAM_SIGNER),
			 *number = OSSL_PARAM_locate_const(params, PARAM_KEY);
	EVP_PKEY_CTX *ctx;
	EVP_PKEY *public = NULL;

	if (!(selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY))
		return 0;
	ctx = EVP_PKEY_CTX_new_from_name(k->lib, k->type, "provider=default");
	if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &public, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)(uintptr_t)params) != 1) {
		EVP_PKEY_CTX_free(ctx);
		return 0;
	}
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(k->public);
	k->public = public;
	if (signer && signer->data_type == OSSL_PARAM_OCTET_STRING && signer->data_size == sizeof k->signer && number &&
	    OSSL_PARAM_get_uint32(number, &k->key) == 1)
		memcpy(&k->signer, signer->data, sizeof k->signer);
	return 1;
}

static int key_export(void *arg, int selection, OSSL_CALLBACK *cb, void *cbarg)
{
	struct provider_key *k = arg;

	if (!k->public || ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && k->signer))
		return 0;
	return EVP_PKEY_export(k->public, EVP_PKEY_PUBLIC_KEY, cb, cbarg);
}

static const OSSL_PARAM *key_types(int selection)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
		OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
		OSSL_PARAM_END,
	};

	return selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY ? types : NULL;
}

static int key_get_params(void *arg, OSSL_PARAM params[])
{
	struct provider_key *k = arg;

	return k->public && EVP_PKEY_get_params(k->public, params) == 1;
}

static const OSSL_PARAM *key_gettable(void *provctx)
{
	static const OSSL_PARAM list[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
		OSSL_PARAM_END,
	};

	(void)provctx;
	return list;
}

static const char *ec_operation(int op)
{
	return op == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static const char *rsa_operation(int op)
{
	return op == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

#define FN(f) ((void (*)(void))(f))
#define KEYMGMT(new_fn, operation_fn)                                                                                  \
	{                                                                                                              \
		{ OSSL_FUNC_KEYMGMT_NEW, FN(new_fn) }, { OSSL_FUNC_KEYMGMT_FREE, FN(key_free) },                       \
		{ OSSL_FUNC_KEYMGMT_HAS, FN(key_has) }, { OSSL_FUNC_KEYMGMT_MATCH, FN(key_match) },                    \
		{ OSSL_FUNC_KEYMGMT_IMPORT, FN(key_import) }, { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, FN(key_types) },       \
		{ OSSL_FUNC_KEYMGMT_EXPORT, FN(key_export) }, { OSSL_FUNC_KEYMGMT_EXPORT_TYPES, FN(key_types) },       \
		{ OSSL_FUNC_KEYMGMT_GET_PARAMS, FN(key_get_params) },                                                  \
		{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, FN(key_gettable) },                                               \
		{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, FN(operation_fn) },                                          \
		{ 0, NULL },                                                                                           \
	}
const OSSL_DISPATCH provider_ec_keymgmt[] = KEYMGMT(ec_new, ec_operation);
const OSSL_DISPATCH provider_rsa_keymgmt[] = KEYMGMT(rsa_new, rsa_operation);

EVP_PKEY *tls_provider_key(OSSL_LIB_CTX *lib, EVP_PKEY *public, const struct tls_signer *signer, uint32_t key)
{
	const char *type = EVP_PKEY_is_a(public, "EC") ? "EC" : EVP_PKEY_is_a(public, "RSA") ? "RSA" : NULL;
	OSSL_PARAM own[3], *from = NULL, *all = NULL;
	EVP_PKEY_CTX *ctx = NULL;
	EVP_PKEY *made = NULL;

	own[0] = OSSL_PARAM_construct_octet_string(PARAM_SIGNER, &signer, sizeof signer);
	own[1] = OSSL_PARAM_construct_uint32(PARAM_KEY, &key);
	own[2] = OSSL_PARAM_construct_end();
	if (type && EVP_PKEY_todata(public, EVP_PKEY_PUBLIC_KEY, &from) == 1 && (all = OSSL_PARAM_merge(from, own)) != NULL &&
	    (ctx = EVP_PKEY_CTX_new_from_name(lib, type, "provider=" PROVIDER_NAME)) != NULL &&
	    EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &made, EVP_PKEY_KEYPAIR, all) != 1)
		made = NULL;
	EVP_PKEY_CTX_free(ctx);
	OPENSSL_free(all);
	OSSL_PARAM_free(from);
	return made;
}
