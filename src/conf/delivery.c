/* delivery.c - the value of `deliver`; see conf_delivery_parse in conf.h. */
#include "base/arena.h"
#include "conf/parts.h"

#include <stdio.h>
#include <sys/un.h>

#define FORMS "discard, maildir:/path/%{user}, mx, smtp://host:port, lmtp://host:port or lmtp:/socket"
#define USER "%{user}"

/* A path that stays where it says: absolute, without . and .. and empty components, %{user} at most once. */
static const char *path_check(struct view path, bool may_user)
{
	size_t users = 0;
	if (path.n < 2 || path.p[0] != '/')
		return "needs an absolute path, beginning with /";
	for (struct view rest = view_slice(path, 1, path.n);;) {
		const size_t n = view_find(rest, '/');
		const struct view part = view_slice(rest, 0, n);
		if (part.n == 0)
			return "has an empty path component; write the path without // and without / at its end";
		if (view_eq(part, VIEW(".")) || view_eq(part, VIEW("..")))
			return "has a path with . or ..; write the path without them";
		if (n == rest.n)
			break;
		rest = view_slice(rest, n + 1, rest.n);
	}
	for (size_t i = 0; i < path.n; i++) {
		if (path.p[i] != '%')
			continue;
		const struct view at = view_slice(path, i, i + sizeof USER - 1);
		if (!may_user || !view_eq(at, VIEW(USER)))
			return may_user ? "has a % that does not begin %{user}"
			                : "has a % in its path; %{user} is for maildir: only";
		if (++users > 1)
			return "has %{user} twice; once is enough";
	}
	return NULL;
}

static const char *keep(struct arena *a, struct view v, const char **to)
{
	*to = arena_cstr(a, v);
	return *to ? NULL : "does not fit into memory";
}

static bool port_of(struct view text, uint16_t *port)
{
	uint64_t n;
	if (text.n > 5 || !view_to_u64(text, &n) || n == 0 || n > 65535)
		return false;
	*port = (uint16_t)n;
	return true;
}

/* host, host:port, 192.0.2.1:port, [2001:db8::1]:port; fallback 0: the port must be said. */
static const char *remote(struct view text, uint16_t fallback, struct arena *a, struct conf_delivery *out)
{
	struct view host = text, port = view_of("", 0);
	struct conf_address literal;
	char name[CONF_DOMAIN_SIZE];
	if (text.n && text.p[0] == '[') {
		const size_t close = view_find(text, ']');
		if (close == text.n)
			return "has a [ without its ]";
		host = view_slice(text, 1, close);
		port = view_slice(text, close + 1, text.n);
		if (!conf_host_parse(host, &literal) || literal.sa.ss_family != AF_INET6)
			return "has no IPv6 address in its brackets; write [2001:db8::1]:25";
	} else {
		const size_t colon = view_find(text, ':');
		host = view_slice(text, 0, colon);
		port = view_slice(text, colon, text.n);
		if (conf_host_parse(text, &literal) && literal.sa.ss_family == AF_INET6)
			return "has an IPv6 address without brackets; write [2001:db8::1]:25";
	}
	out->port = fallback;
	if (port.n == 0 && fallback == 0)
		return "needs a port; write lmtp://host:port";
	if (port.n && (port.p[0] != ':' || !port_of(view_slice(port, 1, port.n), &out->port)))
		return "has no port between 1 and 65535 behind its host; write host:port and nothing behind it";
	if (!conf_host_parse(host, &literal)) {
		if (!conf_domain_ascii(host, name))
			return "has no host name or address; write host:port";
		host = view_cstr(name); /* what the DNS and the certificate are asked for */
		return keep(a, host, &out->host);
	}
	return keep(a, host, &out->host);
}

static bool strip(struct view *text, struct view prefix)
{
	if (text->n < prefix.n || !view_eq(view_slice(*text, 0, prefix.n), prefix))
		return false;
	*text = view_slice(*text, prefix.n, text->n);
	return true;
}

const char *conf_delivery_parse(struct view text, struct arena *a, struct conf_delivery *out)
{
	const char *wrong;
	*out = (struct conf_delivery){ .kind = CONF_DELIVER_DISCARD };
	if (view_eq(text, VIEW("discard")))
		return NULL;
	if (view_eq(text, VIEW("mx"))) {
		out->kind = CONF_DELIVER_MX;
		return NULL;
	}
	if (strip(&text, VIEW("smtp://"))) {
		out->kind = CONF_DELIVER_SMTP;
		return remote(text, CONF_PORT_SMTP, a, out);
	}
	if (strip(&text, VIEW("lmtp://"))) {
		out->kind = CONF_DELIVER_LMTP;
		wrong = remote(text, 0, a, out);
		if (!wrong && out->port == CONF_PORT_SMTP)
			return "is LMTP to port 25, which RFC 2033 section 5 forbids; write the port of the LMTP server";
		return wrong;
	}
	if (strip(&text, VIEW("maildir:"))) {
		out->kind = CONF_DELIVER_MAILDIR;
		wrong = path_check(text, true);
		return wrong ? wrong : keep(a, text, &out->path);
	}
	if (strip(&text, VIEW("lmtp:"))) {
		out->kind = CONF_DELIVER_LMTP_UNIX;
		wrong = path_check(text, false);
		if (!wrong && text.n >= sizeof((struct sockaddr_un *)0)->sun_path)
			return "has a path longer than a socket's name may be (107 octets)";
		return wrong ? wrong : keep(a, text, &out->path);
	}
	return "is no delivery; write " FORMS;
}

const char *conf_delivery_text(const struct conf_delivery *d, char to[CONF_DELIVERY_TEXT])
{
	const bool brackets = d->host && strchr(d->host, ':');
	const char *open = brackets ? "[" : "", *close = brackets ? "]" : "";
	switch (d->kind) {
	case CONF_DELIVER_DISCARD:
		return "discard";
	case CONF_DELIVER_MX:
		return "mx";
	case CONF_DELIVER_MAILDIR:
		snprintf(to, CONF_DELIVERY_TEXT, "maildir:%s", d->path);
		break;
	case CONF_DELIVER_SMTP:
	case CONF_DELIVER_LMTP:
		snprintf(to, CONF_DELIVERY_TEXT, "%s://%s%s%s:%u", d->kind == CONF_DELIVER_SMTP ? "smtp" : "lmtp", open,
		         d->host, close, d->port);
		break;
	case CONF_DELIVER_LMTP_UNIX:
		snprintf(to, CONF_DELIVERY_TEXT, "lmtp:%s", d->path);
		break;
	}
	return to;
}
