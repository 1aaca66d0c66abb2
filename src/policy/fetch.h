/* fetch.h - one HTTPS request on our loop, by libcurl: a policy is fetched, a report is posted.
 *
 * What is the same for all: TLS 1.2 or later, the certificate checked against the bundle handed over, by the DNS names in it and
 * never by its common name (RFC 8461 3.3); no redirects, no proxy, no cookies, no name and password, no compression; addresses come
 * from `resolve` and libcurl asks nobody; a cap on octets and on time.  `done` comes once and never from within fetch_start.
 * Ownership: the caller's texts are copied but for a body that is posted, which must stay until done or fetch_cancel.  In `done` the
 * request is still whole, and goes behind it: cancelling it there is wrong.
 */
#ifndef POLICY_FETCH_H
#define POLICY_FETCH_H
#include "base/buf.h"
#include "base/error.h"
#include "net/loop.h"

#define FETCH_TIME_MS 60000u    /* RFC 8461 3.3 suggests a minute for the whole fetch */
#define FETCH_CONNECT_MS 20000u /* of it, to be connected: there may be several addresses to try */
#define FETCH_URL_MAX 2200      /* RPT_URI_MAX, or the longest name in our own */
#define FETCH_TYPE_MAX 100      /* of a Content-Type that we look at */
#define FETCH_AT_ONCE_MAX 100   /* requests under way; more wait for their turn */

enum fetch_end {
	FETCH_OK = 1,   /* status 200 to 299 */
	FETCH_TLS,      /* no TLS, or a certificate that is not theirs */
	FETCH_LARGE,    /* more octets than asked for */
	FETCH_STATUS,   /* another status */
	FETCH_NETWORK   /* no connection, no time, no HTTP */
};

struct fetch_result {
	enum fetch_end end;
	long status;           /* 0: none was had */
	const char *type;      /* Content-Type, "" when none */
	struct view body;
	const char *reason;    /* in words */
};

struct fetch_room;
struct fetch;

struct fetch_ask {
	const char *url, *host; /* host: as in url */
	unsigned port;
	struct view addresses;  /* wire_record list */
	struct view trust;      /* PEM */
	const char *post_type;  /* NULL: GET */
	struct view post;
	size_t most;            /* octets of the answer */
	void (*done)(void *arg, const struct fetch_result *);
	void *arg;
};

/* Before confinement. */
struct fetch_room *fetch_room_new(struct loop *, struct error *);
void fetch_room_free(struct fetch_room *);
struct fetch *fetch_start(struct fetch_room *, const struct fetch_ask *); /* NULL: memory */
void fetch_cancel(struct fetch *);
/* Host and port of an https URI; false when it is none that libcurl takes. */
bool fetch_url_parts(const char *url, char *host, size_t room, unsigned *port);

#endif
