/* groups.c - which key exchanges are offered, in order: those that this OpenSSL has.
 *
 * A list that names an unknown group is refused whole, so that each is tried by itself first.  Hybrid post-quantum key exchange comes with
 * OpenSSL 3.5; a FIPS provider may lack X25519; what is left serves.
 */
#include "tls/openssl.h"

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#define GROUPS_TEXT 256 /* of the whole list: five names of some ten characters */

const char *const ossl_groups[] = { "X25519MLKEM768", "X25519", "P-256", "P-384", "P-521", NULL };

bool ossl_groups_set(SSL_CTX *s, const char *const *names)
{
	char list[GROUPS_TEXT] = "";
	size_t n = 0;

	for (; *names; names++) {
		if (SSL_CTX_set1_groups_list(s, *names) != 1) {
			ERR_clear_error();
			continue;
		}
		if (n + strlen(*names) + 2 > sizeof list)
			return false;
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ":" : "", *names);
	}
	return n > 0 && SSL_CTX_set1_groups_list(s, list) == 1; /* none at all: no TLS that we would want */
}
