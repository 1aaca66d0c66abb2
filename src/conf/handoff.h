/* handoff.h - files as bytes: what `super` reads from disk on behalf of roles that may open nothing.
 *
 * A handoff is a set of named blobs packed into one sealed memory file (memfd).  The child copies it out and closes it,
 * so that what is secret in it can be wiped; no role keeps a descriptor from which it could be read again.
 * Names: "config" (the text), "config_path", "chain:TITLE" (PEM), "key:TITLE" (PEM; for `keys` only), "trust" (bundle),
 * "users:DOMAIN", "auth:DOMAIN" and "auth:" for the route (for `send` only), "resolv.conf", "trust_anchor", "hosts".
 */
#ifndef CONF_HANDOFF_H
#define CONF_HANDOFF_H
#include "base/error.h"
#include "base/view.h"

#include "conf/conf.h"

struct handoff;

/* What may be in it is decided by the role's name ("receive", "keys", ...): the caller never gets more than its due:
 * all: config, config_path; keys: key; receive: chain, users, and trust where a listener asks for client
 * certificates; send: auth, trust; policy: trust; web: chain; resolve: resolv.conf,
 * trust_anchor, hosts; local: users.
 * The text and path are those that conf was parsed from, so that all roles of a generation see the same even when the
 * file changes meanwhile; config_path is not looked at.
 * -1: a list of users or credentials that cannot be read (without it, mail would be judged or sent wrongly); e says
 * the file and why.  A key, chain or trust bundle that cannot be read is only a problem: its blob is missing and that
 * TLS is not offered.  receive and web get no chain whose key cannot be opened either. */
int handoff_read(struct handoff **, const struct conf *, const char *config_path, const char *role, struct error *);
int handoff_pack(const struct handoff *, struct error *);             /* a new sealed memfd, or -1 */
int handoff_unpack(struct handoff **, int fd, struct error *);        /* checks every length; closes fd */
void handoff_free(struct handoff *);                                  /* wiped */
/* Problems met by handoff_read, for the log: at most max; returns how many there are.  Texts live as long as the
 * handoff; they do not travel with it. */
size_t handoff_problems(const struct handoff *, const char **texts, size_t max);
/* The blob, or a view with p NULL when there is none. */
struct view handoff_get(const struct handoff *, const char *kind, const char *title);
/* Overwrites one blob, which is then missing: for secrets whose owner has taken what it needs. */
void handoff_forget(const struct handoff *, const char *kind, const char *title);

#endif
