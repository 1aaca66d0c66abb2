/* conf.h - the configuration: one immutable struct per process, made from spec/config.def.
 *
 * conf_parse reads text (not a file: confined roles get the text from `super`), checks everything that can be checked
 * without the disk, and says file, line and what would be right.  conf_load is for `super` and the commands: reads
 * the file and parses.  The struct and all it points to live until conf_free.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H
#include "base/error.h"
#include "base/view.h"

#include <netinet/in.h>
#include <sys/socket.h>

struct conf_list {
	const char **items;
	size_t n;
};

/* Fields of each section, by type; see spec/config.def. */
#define CONF_T_STR const char *
#define CONF_T_PATH const char *
#define CONF_T_SIZE uint64_t
#define CONF_T_COUNT uint64_t
#define CONF_T_DURATION uint64_t
#define CONF_T_LIST struct conf_list
#define CONF_T_CHOICE unsigned
#define CONF_T_FLAG bool

/* Indexes of the choices, from 1, in the order of config.def. */
enum conf_listener_tls { CONF_LISTENER_NONE = 1, CONF_LISTENER_STARTTLS, CONF_LISTENER_REQUIRED, CONF_LISTENER_IMPLICIT };
enum conf_bare { CONF_BARE_REJECT = 1, CONF_BARE_NORMALISE };
enum conf_tls_policy { CONF_POLICY_MODERN = 1, CONF_POLICY_INTERMEDIATE };
enum conf_client_certificates { CONF_CLIENTS_NO = 1, CONF_CLIENTS_ASK };
enum conf_pending { CONF_PENDING_REFUSE = 1, CONF_PENDING_DISCARD };
enum conf_ehlo { CONF_EHLO_REQUIRED = 1, CONF_EHLO_OPTIONAL };
enum conf_switch { CONF_ON = 1, CONF_OFF };
enum conf_sts_mode { CONF_STS_NONE = 1, CONF_STS_TESTING, CONF_STS_ENFORCE }; /* as enum sts_mode */
enum conf_dkim_algorithm { CONF_DKIM_RSA = 1, CONF_DKIM_ED25519 };
enum conf_tls { CONF_TLS_NONE = 1, CONF_TLS_MAY, CONF_TLS_ENCRYPT, CONF_TLS_VERIFY };

/* Certificates of one listener: as many as tls/ takes. */
#define CONF_CERTIFICATES_MAX 64
/* Octets of a client certificate's title: it stands in the queue's text of a destination (route/dest.h). */
#define CONF_CLIENT_TITLE_MAX 100

/* A `deliver` setting, understood. */
enum conf_delivery_kind {
	CONF_DELIVER_DISCARD = 1,
	CONF_DELIVER_MAILDIR, /* path, with %{user} */
	CONF_DELIVER_MX,      /* by the DNS of the recipient's domain */
	CONF_DELIVER_SMTP,    /* host, port; no MX lookup; a literal address or a name */
	CONF_DELIVER_LMTP,    /* host, port */
	CONF_DELIVER_LMTP_UNIX /* path */
};
struct conf_delivery {
	enum conf_delivery_kind kind;
	const char *host, *path;
	uint16_t port;
};

struct conf_address { struct sockaddr_storage sa; socklen_t len; const char *text; };
struct conf_network { int family; unsigned char bytes[16]; unsigned prefix; };

/* One struct of settings per section, named as in config.def: struct conf_global_set { const char *hostname; ... }. */
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#define CONF_YES(type, name) type name;
#define CONF_NO(type, name)
#define CONF_PICK_GLOBAL CONF_NO
#define CONF_PICK_CERTIFICATE CONF_NO
#define CONF_PICK_LISTENER CONF_NO
#define CONF_PICK_DOMAIN CONF_NO
#define CONF_PICK_ROUTE CONF_NO
#define CONF_PICK_RELAY CONF_NO
#define CONF_PICK_TLS_REPORT CONF_NO
#define CONF_PICK_STS_POLICY CONF_NO
#define CONF_PICK_DKIM CONF_NO
#define CONF_PICK_WEB CONF_NO
#undef CONF_PICK_GLOBAL
#define CONF_PICK_GLOBAL CONF_YES
struct conf_global_set {
#include "spec/config.def"
};
#undef CONF_PICK_GLOBAL
#define CONF_PICK_GLOBAL CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_CERTIFICATE
#define CONF_PICK_CERTIFICATE CONF_YES
struct conf_certificate_set {
#include "spec/config.def"
};
#undef CONF_PICK_CERTIFICATE
#define CONF_PICK_CERTIFICATE CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_LISTENER
#define CONF_PICK_LISTENER CONF_YES
struct conf_listener_set {
#include "spec/config.def"
};
#undef CONF_PICK_LISTENER
#define CONF_PICK_LISTENER CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_DOMAIN
#define CONF_PICK_DOMAIN CONF_YES
struct conf_domain_set {
#include "spec/config.def"
};
#undef CONF_PICK_DOMAIN
#define CONF_PICK_DOMAIN CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_ROUTE
#define CONF_PICK_ROUTE CONF_YES
struct conf_route_set {
#include "spec/config.def"
};
#undef CONF_PICK_ROUTE
#define CONF_PICK_ROUTE CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_RELAY
#define CONF_PICK_RELAY CONF_YES
struct conf_relay_set {
#include "spec/config.def"
};
#undef CONF_PICK_RELAY
#define CONF_PICK_RELAY CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_TLS_REPORT
#define CONF_PICK_TLS_REPORT CONF_YES
struct conf_tls_report_set {
#include "spec/config.def"
};
#undef CONF_PICK_TLS_REPORT
#define CONF_PICK_TLS_REPORT CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_STS_POLICY
#define CONF_PICK_STS_POLICY CONF_YES
struct conf_sts_policy_set {
#include "spec/config.def"
};
#undef CONF_PICK_STS_POLICY
#define CONF_PICK_STS_POLICY CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_DKIM
#define CONF_PICK_DKIM CONF_YES
struct conf_dkim_set {
#include "spec/config.def"
};
#undef CONF_PICK_DKIM
#define CONF_PICK_DKIM CONF_NO
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help) CONF_PICK_##TAG(CONF_T_##type, name)
#undef CONF_PICK_WEB
#define CONF_PICK_WEB CONF_YES
struct conf_web_set {
#include "spec/config.def"
};
#undef CONF_PICK_WEB
#define CONF_PICK_WEB CONF_NO

struct conf_certificate { const char *title; unsigned line; struct conf_certificate_set set; };
struct conf_listener {
	const char *title;
	unsigned line;
	struct conf_listener_set set;
	struct conf_address *addresses;
	size_t address_count;
	unsigned *certificates; /* indexes into conf.certificates */
	size_t certificate_count; /* 0: TLS is not configured */
};
struct conf_sts_policy { const char *title; unsigned line; struct conf_sts_policy_set set; };
struct conf_dkim { const char *title; unsigned line; struct conf_dkim_set set; };
struct conf_web {
	const char *title;
	unsigned line;
	struct conf_web_set set;
	struct conf_address *addresses;
	size_t address_count;
	unsigned *certificates; /* indexes into conf.certificates; at least one */
	size_t certificate_count;
};
struct conf_hop { /* what a domain or the route says of its next hop */
	struct conf_delivery delivery;
	enum conf_tls tls;
	const char *source, *auth_file;
	const char *client_certificate; /* title of its section; NULL: none is shown */
};
struct conf_domain { const char *title; unsigned line; struct conf_domain_set set; struct conf_hop hop; };

struct conf {
	struct conf_global_set global;
	struct conf_certificate *certificates;
	size_t certificate_count;
	struct conf_listener *listeners;
	size_t listener_count;
	struct conf_domain *domains;
	size_t domain_count;
	struct conf_route_set route;
	struct conf_hop route_hop; /* default mx, may */
	struct conf_relay_set relay;
	struct conf_sts_policy *sts_policies;
	size_t sts_policy_count;
	struct conf_dkim *dkim;
	size_t dkim_count;
	struct conf_web *webs;
	size_t web_count;
	struct conf_tls_report_set tls_report; /* its texts are never empty */
	struct conf_network *networks; /* relay from */
	size_t network_count;
	struct conf_address *resolvers; /* global.resolver, port 53 when none was said */
	size_t resolver_count;
	struct conf_delivery *postmaster; /* global.postmaster when it is a delivery; NULL: an address, or not set */
	struct conf_memory *memory;       /* private */
};

struct conf_warning { unsigned line; const char *text; };

/* path is for messages, and its folder for the relative paths in the text (as text: nothing is looked up on disk).
 * 0, or -1 with e->text = "FILE:LINE: what; what would be right".  To be called before confinement or in a role that
 * may call ioctl on a descriptor that is none (the parser's isatty); not from two threads' hot paths: it takes a lock.
 */
int conf_parse(struct conf **, struct view text, const char *path, struct error *);
int conf_load(struct conf **, const char *path, struct error *); /* relative paths in the file are relative to the file's folder */
void conf_free(struct conf *);

/* The file's octets and its absolute path, for those that hand both on; both are freed by the caller (buf_free, free).
 */
struct buf;
int conf_read(const char *path, struct buf *text, char **absolute, struct error *);

/* Things that work but are probably not meant; at most max; returns how many there are. */
size_t conf_warnings(const struct conf *, struct conf_warning *, size_t max);

/* The section of a recipient's domain (exact, case-insensitive), or NULL. */
const struct conf_domain *conf_find_domain(const struct conf *, struct view domain);
/* Does it sign for that author: is its domain the address's, or one above it? */
bool conf_dkim_signs(const struct conf_dkim *, const char *address);
/* The MTA-STS policy that we publish for this domain, or NULL. */
const struct conf_sts_policy *conf_find_sts_policy(const struct conf *, struct view domain);
/* Of which host its file is asked for (RFC 8461 3.2): mta-sts. and the domain, as the DNS has it. */
#define CONF_STS_HOST_SIZE 262
const char *conf_sts_host(const struct conf_sts_policy *, char to[CONF_STS_HOST_SIZE]);
long conf_find_certificate(const struct conf *, const char *title); /* its index; -1: there is none */
bool conf_listener_shows(const struct conf *, size_t certificate);  /* some listener shows it to clients */
bool conf_web_shows(const struct conf *, size_t certificate);       /* some web section does */
bool conf_client_shows(const struct conf *, size_t certificate);    /* it is a client_certificate of the route or of some domain */
bool conf_may_relay(const struct conf *, const struct sockaddr *);
bool conf_network_parse(struct view text, struct conf_network *);
bool conf_network_has(const struct conf_network *, const struct sockaddr *);

/* One `deliver` value; strings are kept in the arena.  NULL, or what is wrong with it and what would be right. */
struct arena;
const char *conf_delivery_parse(struct view text, struct arena *, struct conf_delivery *);
#define CONF_DELIVERY_TEXT 4200 /* maildir: and a longest value */
const char *conf_delivery_text(const struct conf_delivery *, char to[CONF_DELIVERY_TEXT]);

/* Effective values in the syntax of the file, every setting, with absolute paths: parsing it gives an equal struct. */
int conf_show(const struct conf *, struct buf *out);
int conf_show_json(const struct conf *, struct buf *out);

#endif
