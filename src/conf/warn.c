/* warn.c - things that work but are probably not meant; see conf_warnings in conf.h.
 *
 * Each warning says what happens and what would be usual.  Texts live as long as the configuration.
 */
#include "conf/inside.h"
#include "conf/parts.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

/* RFC 5321 4.5.3.1.7 and 4.5.3.1.8: what every server takes at least. */
#define RFC_CONTENT_MIN 65536
#define RFC_RECIPIENTS_MIN 100
/* RFC 5321 4.5.3.2.7: a server waits so long for the next command. */
#define RFC_COMMAND_TIMEOUT_MS (5 * 60 * 1000)

struct warnings {
	const struct conf *c;
	struct conf_warning *to;
	size_t max, n;
};

static void warn(struct warnings *w, unsigned line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void warn(struct warnings *w, unsigned line, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (w->n < w->max) {
		/* the arena is the configuration's memory, not a part of what it says */
		const char *kept = arena_cstr(&w->c->memory->arena, view_cstr(text));
		w->to[w->n] = (struct conf_warning){ line, kept ? kept : "(out of memory)" };
	}
	w->n++;
}

static bool below(const char *path, const char *folder)
{
	const size_t n = strlen(folder);
	return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static void warn_global(struct warnings *w)
{
	static const char *const fleeting[] = { "/tmp", "/run", "/var/run", "/dev/shm" };
	const struct conf_global_set *g = &w->c->global;
	for (size_t i = 0; i < sizeof fleeting / sizeof *fleeting; i++)
		if (below(g->spool, fleeting[i]))
			warn(w, conf_line(w->c, 0, CONF_ROW_GLOBAL_spool),
			     "spool: %s is emptied when the machine restarts, and queued mail with it; /var/spool/postrider is usual",
			     fleeting[i]);
	if (!strchr(g->hostname, '.'))
		warn(w, conf_line(w->c, 0, CONF_ROW_GLOBAL_hostname),
		     "hostname \"%s\" is not a full domain name; many servers refuse mail from such a name (RFC 5321 2.3.5)",
		     g->hostname);
	if (g->sandbox == CONF_OFF)
		warn(w, conf_line(w->c, 0, CONF_ROW_GLOBAL_sandbox),
		     "sandbox = off: a broken role is not confined; for debugging only");
	if (g->message_size_limit < RFC_CONTENT_MIN)
		warn(w, conf_line(w->c, 0, CONF_ROW_GLOBAL_message_size_limit),
		     "message_size_limit is under 64K, which every server should take (RFC 5321 4.5.3.1.7)");
	if (g->lifetime < g->retry_min)
		warn(w, conf_line(w->c, 0, CONF_ROW_GLOBAL_lifetime),
		     "lifetime is shorter than retry_min: no message is ever tried twice");
	if (g->delay_warning && g->delay_warning >= g->lifetime)
		warn(w, conf_line(w->c, 0, CONF_ROW_GLOBAL_delay_warning),
		     "delay_warning is not shorter than lifetime: no sender is ever told of a delay");
}

static bool everywhere(const struct conf_address *a)
{
	static const unsigned char none[16];
	if (a->sa.ss_family == AF_INET)
		return ((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr == 0;
	return memcmp(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr, none, 16) == 0;
}

/* Can the Internet reach it? */
static bool public_address(const struct conf_address *a)
{
	struct conf_network n = { .family = a->sa.ss_family, .prefix = a->sa.ss_family == AF_INET ? 32 : 128 };
	if (a->sa.ss_family == AF_INET)
		memcpy(n.bytes, &((const struct sockaddr_in *)&a->sa)->sin_addr, 4);
	else
		memcpy(n.bytes, &((const struct sockaddr_in6 *)&a->sa)->sin6_addr, 16);
	return everywhere(a) || conf_network_reach(&n) == CONF_REACH_PUBLIC;
}

static void warn_switches(struct warnings *w, size_t nth)
{
	const struct conf_listener *l = &w->c->listeners[nth];
	if (l->set.starttls_pending == CONF_PENDING_DISCARD)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_starttls_pending),
		     "listener \"%s\": starttls_pending = discard serves a client into whose session somebody may have injected commands",
		     l->title);
	if (l->set.ehlo_after_tls == CONF_EHLO_OPTIONAL)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_ehlo_after_tls),
		     "listener \"%s\": ehlo_after_tls = optional serves clients that break RFC 3207 section 4.2",
		     l->title);
	if (l->set.bare_newlines == CONF_BARE_NORMALISE)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_bare_newlines),
		     "listener \"%s\": bare_newlines = normalise alters messages, and with them their signatures",
		     l->title);
	if (l->set.recipients < RFC_RECIPIENTS_MIN)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_recipients),
		     "listener \"%s\": every server should take 100 recipients (RFC 5321 4.5.3.1.8)", l->title);
	if (l->set.command_timeout < RFC_COMMAND_TIMEOUT_MS)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_command_timeout),
		     "listener \"%s\": command_timeout is under the 5 minutes of RFC 5321 4.5.3.2.7", l->title);
	if (l->set.sessions_per_address > l->set.sessions)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_sessions_per_address),
		     "listener \"%s\": sessions_per_address is over sessions: one client may take them all", l->title);
}

static void warn_listener(struct warnings *w, size_t nth)
{
	const struct conf_listener *l = &w->c->listeners[nth];
	const unsigned tls_line = conf_line(w->c, nth, CONF_ROW_LISTENER_tls);
	bool mx = false, open = false;
	for (size_t i = 0; i < l->address_count; i++) {
		mx = mx || conf_address_port(&l->addresses[i]) == CONF_PORT_SMTP;
		open = open || public_address(&l->addresses[i]);
	}
	/* RFC 3207 section 4: a publicly-referenced server must not require STARTTLS */
	if (mx && l->set.tls == CONF_LISTENER_REQUIRED)
		warn(w, tls_line,
		     "listener \"%s\": tls = required on port 25 refuses mail from servers without TLS, which RFC 3207 section 4 "
		     "forbids a public MX; starttls is usual",
		     l->title);
	if (mx && l->set.tls == CONF_LISTENER_IMPLICIT)
		warn(w, tls_line, "listener \"%s\": no server speaks implicit TLS to port 25; starttls is usual",
		     l->title);
	if (mx && l->set.tls != CONF_LISTENER_NONE && l->set.tls_policy == CONF_POLICY_MODERN)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_tls_policy),
		     "listener \"%s\": tls_policy = modern on port 25 makes servers without TLS 1.3 send in clear or not at all; "
		     "intermediate is usual",
		     l->title);
	if (l->set.tls == CONF_LISTENER_NONE && l->set.client_certificates == CONF_CLIENTS_ASK)
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_client_certificates),
		     "listener \"%s\": tls = none asks no client for a certificate", l->title);
	if (l->set.tls == CONF_LISTENER_NONE && w->c->memory->tls_defaulted &&
	    !conf_given(w->c, nth, CONF_ROW_LISTENER_tls))
		warn(w, l->line,
		     "listener \"%s\": there is no certificate, so TLS is not offered; write certificate \"default\" { ... }, or "
		     "tls = none to say that it is meant",
		     l->title);
	else if (l->set.tls == CONF_LISTENER_NONE && open)
		warn(w, tls_line, "listener \"%s\": all mail comes in clear; starttls is usual", l->title);
	if (l->set.tls == CONF_LISTENER_NONE && conf_given(w->c, nth, CONF_ROW_LISTENER_certificate))
		warn(w, conf_line(w->c, nth, CONF_ROW_LISTENER_certificate),
		     "listener \"%s\": tls = none shows no certificate", l->title);
	if (l->set.lmtp && open)
		warn(w, l->line,
		     "listener \"%s\": LMTP is for a local server, but this address can be reached from everywhere",
		     l->title);
	warn_switches(w, nth);
}

static void warn_hop(struct warnings *w, const char *what, const struct conf_hop *hop, size_t nth, unsigned source_row,
                     unsigned tls_row)
{
	const enum conf_delivery_kind kind = hop->delivery.kind;
	if (kind == CONF_DELIVER_MX || kind == CONF_DELIVER_SMTP || kind == CONF_DELIVER_LMTP) {
		if (hop->tls == CONF_TLS_ENCRYPT && hop->auth_file[0])
			warn(w, conf_line(w->c, nth, tls_row),
			     "%s: auth with tls = encrypt shows the password to whoever answers; verify is usual",
			     what);
		return;
	}
	if (hop->source[0])
		warn(w, conf_line(w->c, nth, source_row),
		     "%s: source has no effect, because the delivery makes no connection", what);
	if (conf_given(w->c, nth, tls_row))
		warn(w, conf_line(w->c, nth, tls_row),
		     "%s: tls has no effect, because the delivery makes no connection", what);
}

static void warn_certificates(struct warnings *w)
{
	for (unsigned i = 0; i < w->c->certificate_count; i++) {
		if (!conf_listener_shows(w->c, i) && !conf_web_shows(w->c, i) && !conf_client_shows(w->c, i))
			warn(w, w->c->certificates[i].line, "certificate \"%s\" is shown by no listener, and to no next hop",
			     w->c->certificates[i].title);
	}
}

/* RFC 8460 3: whoever gets a report by mail that is not signed by our domain is to ignore it. */
static void warn_reports(struct warnings *w)
{
	const struct conf *c = w->c;
	const char *from = c->tls_report.from;
	bool is_signed = false;
	for (size_t i = 0; i < c->dkim_count; i++)
		is_signed = is_signed || conf_dkim_signs(&c->dkim[i], from);
	if (c->tls_report.send && !is_signed)
		warn(w, conf_line(c, 0, CONF_ROW_TLS_REPORT_send),
		     "tls_report: reports go by mail from %s, and no dkim section signs for its domain: many who get them will ignore them", from);
	for (size_t i = 0; i < c->dkim_count; i++)
		if (!c->tls_report.send || !conf_dkim_signs(&c->dkim[i], from))
			warn(w, c->dkim[i].line, "dkim \"%s\" signs nothing: only reports about TLS are signed, and %s", c->dkim[i].title,
			     c->tls_report.send ? "their author is of another domain" : "none are sent");
}

static void warn_web(struct warnings *w, size_t nth)
{
	const struct conf_web *web = &w->c->webs[nth];
	if (w->c->sts_policy_count == 0)
		warn(w, web->line, "web \"%s\": there is no sts_policy section, so it has nothing to serve", web->title);
	for (size_t i = 0; i < web->address_count; i++)
		if (conf_address_port(&web->addresses[i]) != CONF_PORT_HTTPS && public_address(&web->addresses[i]))
			warn(w, conf_line(w->c, nth, CONF_ROW_WEB_address),
			     "web \"%s\": senders look for policies at port 443 alone (RFC 8461 3.3), not at %s", web->title,
			     web->set.address.items[i]);
	if (web->set.connections_per_address > web->set.connections)
		warn(w, conf_line(w->c, nth, CONF_ROW_WEB_connections_per_address),
		     "web \"%s\": connections_per_address is over connections: one client may take them all", web->title);
}

static void warn_relay(struct warnings *w)
{
	const struct conf *c = w->c;
	const unsigned line = conf_line(c, 0, CONF_ROW_RELAY_from);
	bool open = false;
	for (size_t i = 0; i < c->network_count; i++) {
		const struct conf_network *n = &c->networks[i];
		const unsigned broad = n->family == AF_INET ? 24 : 48; /* what one site has */
		if (conf_network_reach(n) != CONF_REACH_PUBLIC)
			continue;
		open = true;
		warn(w, line, "relay: whoever sends from %s may send anywhere through us%s", c->relay.from.items[i],
		     n->prefix < broad ? ", and that is more than one site: near an open relay"
		                       : "; is the whole network yours?");
	}
	if (open && c->route_hop.delivery.kind == CONF_DELIVER_MX)
		warn(w, conf_line(c, 0, CONF_ROW_ROUTE_deliver),
		     "route: mail from those public networks goes straight to any domain in the world, under our name");
}

static void warn_whole(struct warnings *w)
{
	const struct conf *c = w->c;
	bool mailbox = false;
	for (size_t i = 0; i < c->domain_count; i++)
		mailbox = mailbox || c->domains[i].hop.delivery.kind == CONF_DELIVER_MAILDIR;
	if (c->listener_count == 0)
		warn(w, 1, "there is no listener: no mail comes in over the network");
	if (c->domain_count == 0 && c->network_count == 0)
		warn(w, 1, "there is no domain and no relay network: every recipient is refused");
	/* RFC 5321 4.5.1: mail for Postmaster without a domain must find somebody */
	if (c->domain_count && !mailbox && c->global.postmaster[0] == '\0')
		warn(w, 1,
		     "mail for Postmaster goes nowhere that a person reads; write postmaster = \"user@domain\" or \"maildir:/path\"");
}

size_t conf_warnings(const struct conf *c, struct conf_warning *to, size_t max)
{
	struct warnings w = { c, to, max, 0 };
	warn_global(&w);
	warn_certificates(&w);
	for (size_t i = 0; i < c->listener_count; i++)
		warn_listener(&w, i);
	for (size_t i = 0; i < c->web_count; i++)
		warn_web(&w, i);
	for (size_t i = 0; i < c->domain_count; i++) {
		char what[300];
		snprintf(what, sizeof what, "domain \"%s\"", c->domains[i].title);
		warn_hop(&w, what, &c->domains[i].hop, i, CONF_ROW_DOMAIN_source, CONF_ROW_DOMAIN_tls);
	}
	warn_hop(&w, "route", &c->route_hop, 0, CONF_ROW_ROUTE_source, CONF_ROW_ROUTE_tls);
	warn_relay(&w);
	warn_reports(&w);
	warn_whole(&w);
	return w.n;
}
