/* dest.h - where a recipient goes, as one line of text: the scheduling key of the spool, the `dest` of a DELIVER frame,
 * and what the operator sees in `queue list`.
 *
 * queue builds it from the configuration; send and local read it back, and need nothing else to know the next hop and
 * the TLS level owed.  Two recipients may share an envelope exactly when their texts are equal.
 *
 *   discard
 *   maildir:DOMAIN                  the path is that of the domain's section
 *   maildir:/PATH                   (the setting `postmaster`) the path itself, with %{user}
 *   mx:DOMAIN[OPTIONS]
 *   smtp:HOST:PORT[OPTIONS]         an IPv6 address stands in brackets
 *   lmtp:HOST:PORT[OPTIONS]
 *   lmtp:/PATH[OPTIONS]
 *   unroutable                      nothing says where to: the queue fails the recipient
 *   OPTIONS: ;tls=none|encrypt|verify  (may is not said)   ;source=ADDRESS   ;auth=DOMAIN (auth= alone: the route's)
 *            ;certificate=TITLE (shown to the next hop if it asks for one)
 *            ;require (the mail says REQUIRETLS)   ;relaxed (its header says TLS-Required: No): RFC 8689; such mail shares no link
 * In a path or title, '%' and ';' and controls are written %XX.  Domain names are in lower case (ASCII).
 *
 * Ownership: a parsed struct points into itself; do not copy it.
 */
#ifndef ROUTE_DEST_H
#define ROUTE_DEST_H
#include "base/buf.h"
#include "conf/conf.h"

#define ROUTE_DEST_MAX 1024 /* a domain (255), a source address, the domain of its credentials, a title (100, thrice), or a path of ours */

struct route_dest {
	bool unroutable, require, relaxed;
	struct conf_hop hop; /* auth_file is never set: credentials are handed over by title.  client_certificate: may have gone since */
	const char *domain;  /* mx: the domain to look up; maildir: the section's title; else NULL */
	const char *auth;    /* title of the credentials for handoff_get("auth", ...); NULL: none */
	char text[2 * ROUTE_DEST_MAX];
};

/* The text for a recipient address (local@domain, or local alone for Postmaster) at the end of `out`.  Postmaster at our own
 * hostname is Postmaster, unless a section says otherwise.
 * *rewritten: the address to deliver to when it is not the one given (the setting `postmaster`, Postmaster without a
 * domain); it is written to `address` (cleared first) and rewritten is then true.
 * false: memory. */
bool route_dest_build(const struct conf *, struct view recipient, struct buf *out, struct buf *address,
		      bool *rewritten);

/* What the mail itself asks of TLS (RFC 8689), at the end of a text that goes to `send`; require beats relaxed (section 4.1).  Nothing
 * is owed where the mail does not leave this machine.  false: memory. */
bool route_dest_mark(struct buf *dest, bool require, bool relaxed);

/* Mail that was queued under a TLS level keeps it: if `before` owes more than the text in `dest` does, the text is given
 * that level (design 1.3: once computed it can only rise).  false: memory. */
bool route_dest_raise(struct buf *dest, struct view before);

/* Checked: 0, or -1 when it is no such text. */
int route_dest_parse(struct view, struct route_dest *);

/* May a hop be shared by recipients?  discard and unroutable are settled by the queue, maildir by local, else send. */
enum route_dest_role { ROUTE_BY_QUEUE = 1, ROUTE_BY_LOCAL, ROUTE_BY_SEND };
enum route_dest_role route_dest_role(struct view dest);

#endif
