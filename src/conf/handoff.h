/* handoff.h - files as bytes: what `super` reads from disk on behalf of roles that may open nothing.
 *
 * A handoff is a set of named blobs packed into one sealed memory file (memfd) that a child maps read-only.
 * Names: "config" (the text), "config_path", "chain:TITLE" (PEM), "key:TITLE" (PEM; for `keys` only), "trust" (PEM bundle),
 * "users:DOMAIN", "auth:DOMAIN" and "auth:" for the route (for `send` only), "resolv.conf", "hosts".
 */
#ifndef CONF_HANDOFF_H
#define CONF_HANDOFF_H
#include "base/error.h"
#include "base/view.h"

#include "conf/conf.h"

struct handoff;

/* What may be in it is decided by the role's name ("receive", "keys", ...): the caller never gets more than its due. */
int handoff_read(struct handoff **, const struct conf *, const char *config_path, const char *role, struct error *);
int handoff_pack(const struct handoff *, struct error *);             /* a new sealed memfd, or -1 */
int handoff_unpack(struct handoff **, int fd, struct error *);        /* checks every length; closes fd */
void handoff_free(struct handoff *);                                  /* wiped */
/* The blob, or a view with p NULL when there is none. */
struct view handoff_get(const struct handoff *, const char *kind, const char *title);

#endif
