/* web.h - inside the room that serves pages over HTTPS: the role, its connections, and libmicrohttpd.
 *
 * A visit is one connection.  TLS is net/conn's, as everywhere, so that the private key stays in `keys`; what is inside goes
 * through a pair of sockets to libmicrohttpd, which parses HTTP and knows nothing of the network
 * (docs/decisions/012-https-without-a-key.md):
 *
 *   client == TLS == visit.outer | in  -> | visit.inner == pair == libmicrohttpd (http.c) -> pages.c
 *                                | <- out |
 *
 * One loop, no threads.  A reload is a new generation of the whole role: nothing here changes its configuration.
 */
#ifndef WEB_WEB_H
#define WEB_WEB_H
#include "base/buf.h"
#include "net/address.h"
#include "net/conn.h"
#include "net/listen.h"
#include "net/peers.h"
#include "net/signer.h"
#include "wire/role.h"
#include "wire/wire.h"

/* Octets of request line and header, and of the answer's header: libmicrohttpd's memory for one connection.  Senders ask in
 * 200; more gets 431 or 414. */
#define WEB_REQUEST_MAX (16u * 1024)
#define WEB_TARGET_MAX 1024  /* octets of a target that may name a page; a longer one names none */
#define WEB_PIPE_MAX (32u * 1024) /* octets that wait one way between TLS and HTTP; then the other side is not read */
#define WEB_REQUESTS_MAX 100 /* of one connection; a client with more to ask opens another */
#define WEB_DEFER_S 10       /* so long the kernel keeps a client that says nothing; then it is ours, and its time begins */
/* Descriptors that no visit has: standard ones, channels, listeners with their reserves, the loop's, those being turned away. */
#define WEB_DESCRIPTORS_KEPT 128u
#define WEB_DESCRIPTORS_EACH 3u /* its socket, and the pair */
#define WEB_SNI_SIZE 256

struct http;

struct accepting { /* one bound address */
	struct accepting *next;
	struct web *room;
	uint32_t section; /* index into conf->webs */
	struct listener on;
	bool started;
	int fd;           /* until started */
};

struct section { /* one of conf->webs, as this role serves it */
	struct tls_context *tls; /* NULL: broken */
	uint64_t broken;         /* bits: which of its certificates cannot be shown */
	unsigned visits;
};

struct web {
	struct role *role;
	struct section *sections;
	struct signer keys;
	struct peers *peers;
	struct http *http;
	struct accepting *accepting;
	struct visit *visits;
	unsigned visit_count, visit_most; /* most: what the descriptors of the process allow */
	bool draining;
	struct loop_timer grace;
};

struct visit {
	struct visit *next, **at;
	struct web *room;
	uint32_t section;
	const struct conf_web *set;
	struct conn outer, inner;
	struct buf in, out;       /* from the client; to it */
	struct address peer;
	char client[ADDRESS_TEXT];
	uint64_t id;
	struct loop_timer deadline;
	int http_fd;              /* the end of the pair that is libmicrohttpd's; -1: not yet */
	bool in_peers, up, closing;
	bool early;               /* octets came since the last answer: a request is under way */
	char sni[WEB_SNI_SIZE];
	/* the request under way, by http.c */
	bool begun, target_long;
	char target[WEB_TARGET_MAX + 1];
	unsigned asked, answered; /* requests whose first line was read; those that pages.c answered */
};

/* web.c */
void web_visit_gone(struct web *); /* drained now? */

/* visit.c */
void visit_open(struct web *, uint32_t section, int fd, const struct address *peer); /* owns fd from here on */
void visit_answered(struct visit *);  /* libmicrohttpd has written an answer: time for the next request begins */
void visit_shutdown(struct visit *);  /* after the answer that is under way; at once when there is none */
void visit_free(struct visit *);

/* http.c: libmicrohttpd on our loop */
int http_start(struct web *, struct error *);
void http_stop(struct web *);
/* Hands one end of a pair over; false: it is closed. */
bool http_add(struct web *, struct visit *, int fd);
void http_forget(struct web *, struct visit *); /* its end of the pair is closed by us: libmicrohttpd will see it */

#endif
