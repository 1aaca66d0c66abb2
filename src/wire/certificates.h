/* certificates.h - what a role that accepts TLS shows on one of its listeners, with keys that are elsewhere.
 *
 * The chains are those that super handed over; the signatures come from the role `keys` through a signing line, or in
 * `run --single` from role->sign.  A certificate that cannot be loaded, or whose key does not answer, is left out and told
 * (CERTIFICATE_BROKEN), each time that it breaks.
 * Ownership: what the description points to is borrowed, and must outlive the context (its signer and tickets do).
 * Failure: NULL, and told: the listener has no TLS.
 */
#ifndef WIRE_CERTIFICATES_H
#define WIRE_CERTIFICATES_H
#include "net/signer.h"
#include "tls/tls.h"
#include "wire/role.h"

struct certificates_shown {
	const char *title;            /* of the listener: also what a session ticket is bound to */
	const unsigned *certificates; /* indexes into conf->certificates, at most CONF_CERTIFICATES_MAX */
	size_t n;
	enum tls_policy policy;
	struct tls_tickets *tickets;       /* NULL: none */
	const struct tls_context *clients; /* NULL: no client is asked for a certificate */
	struct signer *keys;
	bool silent; /* another loop of the role tells what is broken */
};

struct tls_context *certificates_context(const struct role *, const struct certificates_shown *);
/* Tries each certificate (as the signing line comes up).  broken: a bit for each that did not work at the last look; kept by
 * the caller, 0 at first. */
void certificates_check(const struct role *, const struct certificates_shown *, struct tls_context *, uint64_t *broken);

#endif
