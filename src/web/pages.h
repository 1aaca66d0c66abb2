/* pages.h - which page answers a request: a table of pages, and what HTTP asks around them.  Pure.
 *
 * A page has one exact path; what it says may depend on the host that was asked for.  To add one: a row in pages.c and a
 * function that makes its text.
 */
#ifndef WEB_PAGES_H
#define WEB_PAGES_H
#include "base/buf.h"
#include "conf/conf.h"

#define WEB_PAGE_MAX (1024u * 1024) /* of an answer; a policy is 64 KiB at most (RFC 8461 3.3) */

struct page_ask {
	struct view method;
	struct view target; /* as it came, octet by octet: neither decoded nor cut at a question mark */
	struct view host;   /* the field Host */
	unsigned hosts;     /* how many there were of it */
	struct view sni;    /* the name that TLS asked for; "": none */
};

struct page_answer {
	unsigned status;      /* of HTTP */
	const char *reason;   /* one word for the log; "" with 200 */
	const char *type;     /* Content-Type */
	struct view host;     /* the name that was asked for, without port and final dot; into the question */
	struct view path;     /* as well */
	struct buf text;      /* the caller frees it */
};

void pages_answer(const struct conf *, const struct page_ask *, struct page_answer *);

#endif
