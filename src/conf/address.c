/* address.c - addresses and networks in values; see parts.h and conf.h. */
#include "conf/parts.h"

#include <arpa/inet.h>
#include <stdio.h>

/* An address in text form is at most this long; longer input is none. */
#define HOST_MAX INET6_ADDRSTRLEN

/* Shortest prefixes that may relay: /8 is the largest block ever given to one holder; an IPv6 /16 is more than any
 * registry gives away.  Anything shorter is a slip that makes an open relay. */
#define RELAY_PREFIX_MIN_V4 8
#define RELAY_PREFIX_MIN_V6 16

/* NUL-terminates host for inet_pton; digits, dots, colons and hex only, so no scope and no blanks get through. */
static bool host_text(struct view host, char to[HOST_MAX])
{
	if (host.n == 0 || host.n >= HOST_MAX || memchr(host.p, '\0', host.n))
		return false;
	memcpy(to, host.p, host.n);
	to[host.n] = '\0';
	return true;
}

static bool ipv4(struct view host, uint16_t port, struct conf_address *out)
{
	char text[HOST_MAX];
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
	if (!host_text(host, text) || inet_pton(AF_INET, text, &sin.sin_addr) != 1)
		return false;
	*out = (struct conf_address){ .len = sizeof sin };
	memcpy(&out->sa, &sin, sizeof sin);
	return true;
}

static bool ipv6(struct view host, uint16_t port, struct conf_address *out)
{
	char text[HOST_MAX];
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	if (!host_text(host, text) || inet_pton(AF_INET6, text, &sin6.sin6_addr) != 1)
		return false;
	*out = (struct conf_address){ .len = sizeof sin6 };
	memcpy(&out->sa, &sin6, sizeof sin6);
	return true;
}

bool conf_host_parse(struct view text, struct conf_address *out)
{
	return ipv4(text, 0, out) || ipv6(text, 0, out);
}

static bool port_parse(struct view text, uint16_t *port)
{
	uint64_t n;
	if (text.n > 5 || !view_to_u64(text, &n) || n == 0 || n > 65535)
		return false;
	*port = (uint16_t)n;
	return true;
}

bool conf_address_parse(struct view text, uint16_t fallback_port, struct conf_address *out)
{
	uint16_t port = fallback_port;
	if (text.n && text.p[0] == '[') {
		const size_t close = view_find(text, ']');
		const struct view rest = view_slice(text, close + 1, text.n);
		if (close == text.n)
			return false;
		if (rest.n ? rest.p[0] != ':' || !port_parse(view_slice(rest, 1, rest.n), &port) : !fallback_port)
			return false;
		return ipv6(view_slice(text, 1, close), port, out);
	}
	if (fallback_port && ipv6(text, port, out))
		return true;
	const size_t colon = view_find(text, ':');
	if (colon < text.n ? !port_parse(view_slice(text, colon + 1, text.n), &port) : !fallback_port)
		return false;
	return ipv4(view_slice(text, 0, colon), port, out);
}

uint16_t conf_address_port(const struct conf_address *a)
{
	if (a->sa.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)&a->sa)->sin_port);
	return ntohs(((const struct sockaddr_in6 *)&a->sa)->sin6_port);
}

/* ---- networks ---- */

/* Address and prefix without the judgement on host bits. */
static bool split(struct view text, struct conf_network *out)
{
	const size_t slash = view_find(text, '/');
	struct conf_address a;
	uint64_t prefix;
	if (slash == text.n || text.n - slash > 4 || !view_to_u64(view_slice(text, slash + 1, text.n), &prefix) ||
	    !conf_host_parse(view_slice(text, 0, slash), &a))
		return false;
	*out = (struct conf_network){ .family = a.sa.ss_family, .prefix = (unsigned)prefix };
	if (a.sa.ss_family == AF_INET)
		memcpy(out->bytes, &((const struct sockaddr_in *)&a.sa)->sin_addr, 4);
	else
		memcpy(out->bytes, &((const struct sockaddr_in6 *)&a.sa)->sin6_addr, 16);
	return prefix <= (a.sa.ss_family == AF_INET ? 32 : 128);
}

/* Clears the bits behind the prefix; true when there were none. */
static bool mask(struct conf_network *n)
{
	bool clean = true;
	for (unsigned i = 0; i < sizeof n->bytes; i++) {
		const unsigned bits = n->prefix > i * 8 ? n->prefix - i * 8 : 0;
		const unsigned char keep = bits >= 8 ? 0xff : (unsigned char)(0xff00u >> bits);
		clean = clean && (n->bytes[i] & (unsigned char)~keep) == 0;
		n->bytes[i] &= keep;
	}
	return clean;
}

bool conf_network_parse(struct view text, struct conf_network *out)
{
	return split(text, out) && mask(out);
}

static bool begins_with(const unsigned char *bytes, const unsigned char *network, unsigned prefix)
{
	const unsigned whole = prefix / 8, rest = prefix % 8;
	if (memcmp(bytes, network, whole) != 0)
		return false;
	return rest == 0 || ((bytes[whole] ^ network[whole]) & (0xff00u >> rest) & 0xff) == 0;
}

static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff }; /* ::ffff:0:0/96, RFC 4291 2.5.5.2 */

bool conf_network_has(const struct conf_network *n, const struct sockaddr *sa)
{
	unsigned char bytes[16] = { 0 };
	int family = sa->sa_family;
	if (family == AF_INET) {
		memcpy(bytes, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	} else if (family == AF_INET6) {
		memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
		/* a client of an IPv6 socket that came by IPv4 is an IPv4 client */
		if (memcmp(bytes, mapped, sizeof mapped) == 0) {
			family = AF_INET;
			memmove(bytes, bytes + 12, 4);
		}
	}
	return family == n->family && begins_with(bytes, n->bytes, n->prefix);
}

enum conf_reach conf_network_reach(const struct conf_network *n)
{
	static const struct {
		const char *text;
		enum conf_reach reach;
	} known[] = {
		{ "127.0.0.0/8", CONF_REACH_LOOPBACK },   { "::1/128", CONF_REACH_LOOPBACK },
		{ "10.0.0.0/8", CONF_REACH_PRIVATE },     { "172.16.0.0/12", CONF_REACH_PRIVATE },  /* RFC 1918 */
		{ "192.168.0.0/16", CONF_REACH_PRIVATE }, { "169.254.0.0/16", CONF_REACH_PRIVATE }, /* RFC 3927 */
		{ "fc00::/7", CONF_REACH_PRIVATE },       { "fe80::/10", CONF_REACH_PRIVATE },      /* RFC 4193, 4291 */
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		struct conf_network k;
		if (conf_network_parse(view_cstr(known[i].text), &k) && k.family == n->family &&
		    n->prefix >= k.prefix && begins_with(n->bytes, k.bytes, k.prefix))
			return known[i].reach;
	}
	return CONF_REACH_PUBLIC;
}

static void network_text(const struct conf_network *n, char *to, size_t size)
{
	char host[INET6_ADDRSTRLEN];
	snprintf(to, size, "%s/%u", inet_ntop(n->family, n->bytes, host, sizeof host), n->prefix);
}

const char *conf_network_check(struct view text, struct conf_network *n, char words[CONF_NETWORK_WORDS])
{
	struct conf_address alone;
	char right[INET6_ADDRSTRLEN + 4];
	if (conf_host_parse(text, &alone)) {
		snprintf(words, CONF_NETWORK_WORDS, "has no prefix length; write %.*s/%d for this one address",
		         VIEW_ARGS(text), alone.sa.ss_family == AF_INET ? 32 : 128);
		return words;
	}
	if (!split(text, n))
		return "is no network; write it as 192.0.2.0/24 or 2001:db8::/32";
	const unsigned least = n->family == AF_INET ? RELAY_PREFIX_MIN_V4 : RELAY_PREFIX_MIN_V6;
	if (n->prefix < least) {
		snprintf(words, CONF_NETWORK_WORDS, "would make an open relay; the prefix must be /%u or longer",
		         least);
		return words;
	}
	if (n->family == AF_INET6 && begins_with(n->bytes, mapped, n->prefix < 96 ? n->prefix : 96) && n->prefix > 64)
		return "holds IPv4 addresses in IPv6 form; write them as IPv4, like 192.0.2.0/24";
	if (!mask(n)) {
		network_text(n, right, sizeof right);
		snprintf(words, CONF_NETWORK_WORDS, "has address bits behind its prefix; did you mean %s?", right);
		return words;
	}
	return NULL;
}
