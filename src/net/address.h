/* address.h - socket addresses as text, and back.
 *
 * Three spellings: "192.0.2.1:25" / "[2001:db8::1]:25" (configuration, log), "192.0.2.1" / "2001:db8::1" (names of hosts),
 * and the address literals of RFC 5321 4.1.3, "[192.0.2.1]" / "[IPv6:2001:db8::1]".  No names are looked up.
 * An IPv4 address mapped into IPv6 prints as the IPv4 address that it is.  Unix sockets print as "unix".
 */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H
#include "base/view.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define ADDRESS_TEXT 64 /* "[IPv6:" + 45 + "]:65535" and NUL fit */

struct address {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* host:port, where host is an IPv4 address or an IPv6 address in brackets.  False: it is not. */
bool address_parse(struct view text, struct address *);
/* An address alone, with or without brackets, also with the IPv6: tag; and the port to give it. */
bool address_parse_host(struct view text, uint16_t port, struct address *);
/* "host:port" split, host being anything (a name too); port 0 when none was said.  False: a port that is none. */
bool address_split(struct view text, struct view *host, uint16_t *port);
/* From 4 or 16 octets, as DNS answers carry them. */
bool address_from_octets(struct view octets, uint16_t port, struct address *);

const char *address_text(const struct sockaddr *, char to[ADDRESS_TEXT]);    /* with port */
const char *address_host(const struct sockaddr *, char to[ADDRESS_TEXT]);    /* without */
const char *address_literal(const struct sockaddr *, char to[ADDRESS_TEXT]); /* [..] */
uint16_t address_port(const struct sockaddr *);
bool address_is_loopback(const struct sockaddr *);
bool address_equal_host(const struct sockaddr *, const struct sockaddr *); /* ports and IPv4-in-IPv6 do not matter */

#endif
