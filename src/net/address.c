/* address.c - see address.h. */
#include "net/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/un.h>

#define HOST_MAX 46 /* INET6_ADDRSTRLEN */

/* The IPv4 address inside an IPv6 one, or NULL. */
static const unsigned char *mapped(const struct sockaddr *sa)
{
	static const unsigned char prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;

	if (sa->sa_family != AF_INET6 || memcmp(&in6->sin6_addr, prefix, sizeof prefix) != 0)
		return NULL;
	return (const unsigned char *)&in6->sin6_addr + sizeof prefix;
}

bool address_from_octets(struct view octets, uint16_t port, struct address *a)
{
	memset(a, 0, sizeof *a);
	if (octets.n == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)&a->sa;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, octets.p, 4);
		a->len = sizeof *in;
		return true;
	}
	if (octets.n == 16) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->sa;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, octets.p, 16);
		a->len = sizeof *in6;
		return true;
	}
	return false;
}

static bool parse_bare(struct view host, int family, uint16_t port, struct address *a)
{
	char text[HOST_MAX];
	unsigned char octets[16];

	if (host.n == 0 || host.n >= sizeof text || memchr(host.p, 0, host.n))
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = 0;
	if (inet_pton(family, text, octets) != 1)
		return false;
	return address_from_octets(view_of((char *)octets, family == AF_INET ? 4 : 16), port, a);
}

bool address_parse_host(struct view text, uint16_t port, struct address *a)
{
	if (text.n >= 2 && text.p[0] == '[' && text.p[text.n - 1] == ']') {
		text = view_slice(text, 1, text.n - 1);
		if (view_starts_nocase(text, VIEW("IPv6:"))) /* RFC 5321 4.1.3 */
			return parse_bare(view_slice(text, 5, text.n), AF_INET6, port, a);
	}
	return parse_bare(text, AF_INET, port, a) || parse_bare(text, AF_INET6, port, a);
}

bool address_split(struct view text, struct view *host, uint16_t *port)
{
	size_t colon;
	uint64_t n;

	*port = 0;
	if (text.n && text.p[0] == '[') {
		colon = view_find(text, ']');
		if (colon == text.n)
			return false;
		colon++;
	} else {
		colon = view_find(text, ':');
		if (colon < text.n && view_find(view_slice(text, colon + 1, text.n), ':') < text.n - colon - 1)
			colon = text.n; /* two colons: an IPv6 address without brackets, and so without a port */
	}
	*host = view_slice(text, 0, colon);
	if (host->n == 0)
		return false;
	if (colon == text.n)
		return true;
	if (text.p[colon] != ':' || !view_to_u64(view_slice(text, colon + 1, text.n), &n) || n == 0 || n > 65535)
		return false;
	*port = (uint16_t)n;
	return true;
}

bool address_parse(struct view text, struct address *a)
{
	struct view host;
	uint16_t port;

	if (!address_split(text, &host, &port) || port == 0)
		return false;
	if (host.p[0] == '[') {
		host = view_slice(host, 1, host.n - 1);
		return parse_bare(host, AF_INET6, port, a);
	}
	return parse_bare(host, AF_INET, port, a);
}

uint16_t address_port(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port);
	if (sa->sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)sa)->sin6_port);
	return 0;
}

/* Returns AF_INET or AF_INET6 as printed, 0 for neither. */
static int print_host(const struct sockaddr *sa, char to[HOST_MAX])
{
	const unsigned char *v4 = mapped(sa);

	if (sa->sa_family == AF_INET)
		v4 = (const unsigned char *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	if (v4)
		return inet_ntop(AF_INET, v4, to, HOST_MAX) ? AF_INET : 0;
	if (sa->sa_family == AF_INET6)
		return inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, to, HOST_MAX) ? AF_INET6 : 0;
	return 0;
}

static const char *neither(const struct sockaddr *sa, char to[ADDRESS_TEXT])
{
	snprintf(to, ADDRESS_TEXT, "%s", sa->sa_family == AF_UNIX ? "unix" : "unknown");
	return to;
}

const char *address_text(const struct sockaddr *sa, char to[ADDRESS_TEXT])
{
	char host[HOST_MAX];
	int family = print_host(sa, host);

	if (!family)
		return neither(sa, to);
	snprintf(to, ADDRESS_TEXT, family == AF_INET ? "%s:%u" : "[%s]:%u", host, address_port(sa));
	return to;
}

const char *address_host(const struct sockaddr *sa, char to[ADDRESS_TEXT])
{
	char host[HOST_MAX];

	if (!print_host(sa, host))
		return neither(sa, to);
	snprintf(to, ADDRESS_TEXT, "%s", host);
	return to;
}

const char *address_literal(const struct sockaddr *sa, char to[ADDRESS_TEXT])
{
	char host[HOST_MAX];
	int family = print_host(sa, host);

	if (!family)
		return neither(sa, to);
	snprintf(to, ADDRESS_TEXT, family == AF_INET ? "[%s]" : "[IPv6:%s]", host);
	return to;
}

bool address_is_loopback(const struct sockaddr *sa)
{
	const unsigned char *v4 = mapped(sa);

	if (sa->sa_family == AF_UNIX)
		return true;
	if (sa->sa_family == AF_INET)
		v4 = (const unsigned char *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	if (v4)
		return v4[0] == 127;
	return sa->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

/* The address as 16 octets, IPv4 mapped. */
static bool sixteen(const struct sockaddr *sa, unsigned char to[16])
{
	if (sa->sa_family == AF_INET6) {
		memcpy(to, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
		return true;
	}
	if (sa->sa_family != AF_INET)
		return false;
	memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	memcpy(to + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	return true;
}

bool address_equal_host(const struct sockaddr *a, const struct sockaddr *b)
{
	unsigned char x[16], y[16];

	return sixteen(a, x) && sixteen(b, y) && memcmp(x, y, 16) == 0;
}
