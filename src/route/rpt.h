/* rpt.h - the TXT record of TLS-RPT (RFC 8460 3): where reports about TLS to a domain go.  Pure.
 *
 * The record comes from a stranger: what breaks the ABNF is refused whole, unknown fields and URIs of other schemes are stepped
 * over.  Views point into the record.
 */
#ifndef ROUTE_RPT_H
#define ROUTE_RPT_H
#include "base/view.h"

#define RPT_URIS_MAX 8        /* places that one domain's report goes to; one is usual, and each costs us a delivery */
#define RPT_URI_MAX 2000      /* longer URIs are taken by few */
#define RPT_ADDRESS_SIZE 321  /* RFC 5321 4.5.3.1: 64 @ 255, and NUL */

enum rpt_scheme { RPT_MAILTO = 1, RPT_HTTPS };
struct rpt_uri { enum rpt_scheme scheme; struct view text; }; /* text: the whole URI */

/* Does this TXT record say that it is one of TLS-RPT? */
bool rpt_record_is(struct view record);
/* Its URIs that we can use, RPT_URIS_MAX at most; *n may be 0.  NULL, or what is wrong with the record. */
const char *rpt_record_read(struct view record, struct rpt_uri uris[RPT_URIS_MAX], size_t *n);
/* The one address of a mailto URI (RFC 6068; header fields behind "?" are left out), decoded and a mailbox of RFC 5321. */
bool rpt_mailto_address(struct view uri, char to[RPT_ADDRESS_SIZE]);

#endif
