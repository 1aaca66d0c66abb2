/* dkim.c - `postrider dkim records`: the public keys to publish, so that others can verify what we sign (RFC 6376 3.6.1, RFC 8463 4).
 *
 * Reads the private keys of the dkim sections, so it is for root.  s=tlsrpt: the keys sign reports about TLS alone (RFC 8460 3).
 */
#include "cmd/cmd.h"
#include "conf/conf.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRING_MAX 255 /* octets of one string of a TXT record (RFC 1035 3.3) */

static int no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

/* The public key's octets as the record has them, or -1: the file cannot be read, or has a key of another kind. */
static int public_octets(const struct conf_dkim *d, unsigned char **to)
{
	FILE *f = fopen(d->set.key, "re");
	EVP_PKEY *key = f ? PEM_read_PrivateKey(f, NULL, no_password, NULL) : NULL;
	bool edwards = d->set.algorithm == CONF_DKIM_ED25519;
	size_t n = 32;
	int length = -1;

	if (!f)
		fprintf(stderr, "postrider dkim: %s: %s\n", d->set.key, strerror(errno));
	else if (!key || !EVP_PKEY_is_a(key, edwards ? "ED25519" : "RSA"))
		fprintf(stderr, "postrider dkim: %s: no %s private key that can be read without a password\n", d->set.key, edwards ? "Ed25519" : "RSA");
	else if (!edwards)
		length = i2d_PUBKEY(key, to);
	else if ((*to = OPENSSL_malloc(n)) != NULL && EVP_PKEY_get_raw_public_key(key, *to, &n) == 1) /* RFC 8463 4.2: bare */
		length = (int)n;
	EVP_PKEY_free(key);
	if (f)
		fclose(f);
	return length;
}

static bool put_record(const struct conf_dkim *d)
{
	unsigned char *octets = NULL;
	int n = public_octets(d, &octets);
	char *text = n > 0 ? malloc((size_t)n * 2 + 100) : NULL;
	size_t used;

	if (text) {
		used = (size_t)snprintf(text, 100, "v=DKIM1; k=%s; s=tlsrpt; p=", d->set.algorithm == CONF_DKIM_ED25519 ? "ed25519" : "rsa");
		used += (size_t)EVP_EncodeBlock((unsigned char *)text + used, octets, n);
		printf("%s._domainkey.%s. TXT", d->title, d->set.domain);
		for (size_t at = 0; at < used; at += STRING_MAX)
			printf(" \"%.*s\"", (int)(used - at < STRING_MAX ? used - at : STRING_MAX), text + at);
		putchar('\n');
	}
	free(text);
	OPENSSL_free(octets);
	return text != NULL;
}

int cmd_dkim(int argc, char **argv)
{
	const char *path = CMD_CONFIG;
	struct error e = { 0 };
	struct conf *conf;
	int status = EX_OK;

	if (argc < 2 || strcmp(argv[1], "records") != 0)
		return cmd_usage("dkim", "say `records`");
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
			path = argv[++i];
		else
			return cmd_usage("dkim", "what is %s?", argv[i]);
	if (conf_load(&conf, path, &e) == -1) {
		fprintf(stderr, "postrider dkim: %s\n", e.text);
		return EX_CONFIG;
	}
	if (conf->dkim_count == 0) {
		fprintf(stderr, "postrider dkim: the configuration has no dkim section\n");
		status = EX_CONFIG;
	}
	for (size_t i = 0; i < conf->dkim_count; i++)
		if (!put_record(&conf->dkim[i]))
			status = EX_NOINPUT;
	conf_free(conf);
	return status;
}
