/* parts.h - the small languages inside values: quantities, addresses, domain names.
 *
 * Pure; none looks at the disk, the clock or the DNS.  Private to src/conf and its tests.
 */
#ifndef CONF_PARTS_H
#define CONF_PARTS_H
#include "conf/conf.h"

#define CONF_PORT_SMTP 25
#define CONF_PORT_DNS 53
#define CONF_PORT_HTTPS 443

/* "52428800", "50M" (K, M, G, T of 1024).  False: it is none, or too large. */
bool conf_size_parse(struct view text, uint64_t *octets);
/* "0", "500ms", "30s", "5m", "4h", "5d". */
bool conf_duration_parse(struct view text, uint64_t *ms);
#define CONF_QUANTITY_TEXT 24
const char *conf_duration_text(uint64_t ms, char to[CONF_QUANTITY_TEXT]); /* in the largest unit that is exact */

/* "192.0.2.1:25", "[2001:db8::1]:25"; with fallback_port not 0 the port may be missing, and then the brackets too. */
bool conf_address_parse(struct view text, uint16_t fallback_port, struct conf_address *); /* text is left NULL */
/* "192.0.2.1", "2001:db8::1". */
bool conf_host_parse(struct view text, struct conf_address *);
uint16_t conf_address_port(const struct conf_address *);

enum conf_reach { CONF_REACH_LOOPBACK = 1, CONF_REACH_PRIVATE, CONF_REACH_PUBLIC };
/* How far away the nearest to public address of a network is. */
enum conf_reach conf_network_reach(const struct conf_network *);
/* What is wrong with it as a relay network and what would be right, or NULL. */
#define CONF_NETWORK_WORDS 200
const char *conf_network_check(struct view text, struct conf_network *, char words[CONF_NETWORK_WORDS]);

/* A domain name as it is compared: A-labels (RFC 5890), lower case.  U-labels are converted.  NULL: it is no domain
 * name (RFC 5321 4.1.2: letters, digits, inner hyphens; labels of 63, all of 253 octets; no address). */
#define CONF_DOMAIN_SIZE 254
const char *conf_domain_ascii(struct view text, char to[CONF_DOMAIN_SIZE]);

#endif
