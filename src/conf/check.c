/* check.c - what the type of a single value does not tell: addresses, deliveries, names, and how sections relate.
 *
 * Fills the understood forms (addresses, hops, networks, the index of domains) while it checks them.
 * Failure: the first thing that is wrong, in the order global, listeners and web (check_listen.c), domains, route,
 * reports, policies, relay.
 */
#include "conf/check.h"

#include "conf/parts.h"

#include <stdlib.h>
#include <sys/un.h>

void *conf_check_take(const struct check *k, size_t size)
{
	void *p = arena_take(&k->c->memory->arena, size);
	if (!p)
		error_set(k->e, ERROR_AGAIN, "%s: out of memory", k->path);
	return p;
}

struct conf_spot conf_check_item(const struct check *k, size_t nth, unsigned row_number, size_t item)
{
	const struct conf_row *row = &conf_rows[row_number];
	const struct outline *o = &k->c->memory->outline;
	const struct outline_section *in = conf_lines(k->c, row->tag, nth);
	struct conf_spot spot = { k->path, conf_line(k->c, nth, row_number), k->e };
	if (in) {
		const struct outline_setting *set = &in->settings[row_number - conf_kinds[row->tag].first];
		if (set->line && item < set->items)
			spot.line = o->item_lines[set->first + item];
	}
	return spot;
}

/* ---- outside sections ---- */

static int check_hostname(const struct check *k)
{
	const char *name = k->c->global.hostname;
	char ascii[CONF_DOMAIN_SIZE];
	/* RFC 5321 2.3.5 and 4.1.1.1: what we say of ourselves is a domain name in ASCII */
	if (!conf_domain_ascii(view_cstr(name), ascii))
		return conf_refuse(SPOT(k, 0, CONF_ROW_GLOBAL_hostname),
		                   "hostname = \"%.100s\" is no domain name; write one like mx.example.org", name);
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p >= 0x80)
			return conf_refuse(SPOT(k, 0, CONF_ROW_GLOBAL_hostname),
			                   "hostname must be ASCII, because every greeting shows it; write %s", ascii);
	return 0;
}

static int check_resolvers(const struct check *k)
{
	const struct conf_list *list = &k->c->global.resolver;
	k->c->resolvers = conf_check_take(k, list->n * sizeof *k->c->resolvers);
	if (!k->c->resolvers)
		return -1;
	for (size_t i = 0; i < list->n; i++) {
		struct conf_address *a = &k->c->resolvers[i];
		const struct conf_spot spot = conf_check_item(k, 0, CONF_ROW_GLOBAL_resolver, i);
		if (!conf_address_parse(view_cstr(list->items[i]), CONF_PORT_DNS, a))
			return conf_refuse(
				&spot,
				"resolver \"%.100s\" is no address; write one like 192.0.2.53 or [2001:db8::53]:53",
				list->items[i]);
		a->text = list->items[i];
	}
	k->c->resolver_count = list->n;
	return 0;
}

/* local@domain, without the finer points of RFC 5321: those come when mail is routed there. */
static bool address_like(const char *text)
{
	const char *at = strrchr(text, '@');
	char ascii[CONF_DOMAIN_SIZE];
	return at && at > text && !strpbrk(text, " \t<>\"") && conf_domain_ascii(view_cstr(at + 1), ascii);
}

static int check_postmaster(const struct check *k)
{
	const char *text = k->c->global.postmaster;
	if (text[0] == '\0' || address_like(text))
		return 0;
	struct conf_delivery *d = conf_check_take(k, sizeof *d);
	if (!d)
		return -1;
	const char *wrong = conf_delivery_parse(view_cstr(text), &k->c->memory->arena, d);
	if (wrong)
		return conf_refuse(
			SPOT(k, 0, CONF_ROW_GLOBAL_postmaster),
			"postmaster = \"%.100s\" is neither an address nor a delivery; write user@example.org or maildir:/path",
			text);
	k->c->postmaster = d;
	return 0;
}

/* Beside the spool and not in it: the spool belongs to another user. */
static int default_policy_folder(const struct check *k)
{
	struct conf_global_set *g = &k->c->global;
	size_t n = strlen(g->spool);
	char *path;
	if (g->policy_folder[0])
		return 0;
	path = conf_check_take(k, n + sizeof "-policy");
	if (!path)
		return -1;
	memcpy(path, g->spool, n);
	memcpy(path + n, "-policy", sizeof "-policy");
	g->policy_folder = path;
	return 0;
}

static int check_client_title(const struct conf_spot *spot, const struct conf *c, const char *title)
{
	if (conf_find_certificate(c, title) == -1)
		return conf_refuse(spot, "client_certificate = \"%.60s\" names no section; write certificate \"%.60s\" { chain = \"...\" key = \"...\" }",
		                   title, title);
	if (strlen(title) > CONF_CLIENT_TITLE_MAX)
		return conf_refuse(spot, "client_certificate: a title of more than %d octets; choose a shorter one", CONF_CLIENT_TITLE_MAX);
	return 0;
}

static int check_global(const struct check *k)
{
	const struct conf_global_set *g = &k->c->global;
	const size_t socket_max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
	if (check_hostname(k) == -1 || check_resolvers(k) == -1 || check_postmaster(k) == -1 || default_policy_folder(k) == -1)
		return -1;
	if (strlen(g->control) > socket_max)
		return conf_refuse(SPOT(k, 0, CONF_ROW_GLOBAL_control),
		                   "control: a socket's name has at most %zu octets, this one %zu; "
		                   "choose a shorter path",
		                   socket_max, strlen(g->control));
	if (strspn(g->user_prefix, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(g->user_prefix) ||
	    g->user_prefix[0] == '-' || strlen(g->user_prefix) > 20)
		return conf_refuse(SPOT(k, 0, CONF_ROW_GLOBAL_user_prefix),
		                   "user_prefix = \"%.40s\" begins no user's name; write up to 20 of a-z, 0-9, _ and -",
		                   g->user_prefix);
	if (g->retry_max < g->retry_min)
		return conf_refuse(SPOT(k, 0,
		                        conf_given(k->c, 0, CONF_ROW_GLOBAL_retry_max) ? CONF_ROW_GLOBAL_retry_max
		                                                                       : CONF_ROW_GLOBAL_retry_min),
		                   "retry_max is shorter than retry_min; make it at least as long");
	if (g->client_certificate[0] && strcmp(g->client_certificate, "none") != 0)
		return check_client_title(SPOT(k, 0, CONF_ROW_GLOBAL_client_certificate), k->c, g->client_certificate);
	return 0;
}

/* ---- where mail goes ---- */

struct hop_rows {
	unsigned deliver, tls, source, auth, client_certificate;
};
static const struct hop_rows domain_rows = { CONF_ROW_DOMAIN_deliver, CONF_ROW_DOMAIN_tls, CONF_ROW_DOMAIN_source,
	                                     CONF_ROW_DOMAIN_auth, CONF_ROW_DOMAIN_client_certificate };
static const struct hop_rows route_rows = { CONF_ROW_ROUTE_deliver, CONF_ROW_ROUTE_tls, CONF_ROW_ROUTE_source,
	                                    CONF_ROW_ROUTE_auth, CONF_ROW_ROUTE_client_certificate };

/* Which certificate the hop is shown: its own setting, else the global one; the word none is neither. */
static int check_client_certificate(const struct check *k, size_t nth, const struct hop_rows *rows, const char *title, bool network,
                                    struct conf_hop *hop)
{
	const struct conf_spot *spot = SPOT(k, nth, rows->client_certificate);
	const bool own = title[0] != '\0';
	if (!own)
		title = k->c->global.client_certificate;
	hop->client_certificate = NULL;
	if (title[0] == '\0' || strcmp(title, "none") == 0)
		return 0;
	if (own && check_client_title(spot, k->c, title) == -1)
		return -1;
	if (own && (!network || hop->tls == CONF_TLS_NONE))
		return conf_refuse(spot, "client_certificate is shown inside TLS alone, and %s; remove it",
		                   network ? "tls = none forbids it" : "the delivery uses no network");
	if (network && hop->tls != CONF_TLS_NONE)
		hop->client_certificate = title;
	return 0;
}

static int check_hop(const struct check *k, size_t nth, const struct hop_rows *rows, const char *deliver,
                     const char *client_certificate, struct conf_hop *hop)
{
	struct conf_address source;
	const char *wrong = conf_delivery_parse(view_cstr(deliver), &k->c->memory->arena, &hop->delivery);
	if (wrong)
		return conf_refuse(SPOT(k, nth, rows->deliver), "deliver = \"%.100s\" %s", deliver, wrong);
	const enum conf_delivery_kind kind = hop->delivery.kind;
	const bool network = kind == CONF_DELIVER_MX || kind == CONF_DELIVER_SMTP || kind == CONF_DELIVER_LMTP;
	const bool owed = hop->tls == CONF_TLS_ENCRYPT || hop->tls == CONF_TLS_VERIFY;
	if (hop->source[0] && !conf_host_parse(view_cstr(hop->source), &source))
		return conf_refuse(SPOT(k, nth, rows->source),
		                   "source = \"%.100s\" is no address; write one like 192.0.2.1 or 2001:db8::1",
		                   hop->source);
	/* a level that is owed but cannot be had would only ever defer mail */
	if (owed && !network)
		return conf_refuse(SPOT(k, nth, rows->tls),
		                   "deliver = \"%.100s\" uses no network, so no TLS can be owed; remove tls", deliver);
	if (hop->auth_file[0] && !network)
		return conf_refuse(SPOT(k, nth, rows->auth),
		                   "deliver = \"%.100s\" uses no network, so there is nothing to log in to; "
		                   "remove auth",
		                   deliver);
	/* a password leaves only for a server that is owed TLS */
	if (hop->auth_file[0] && !owed)
		return conf_refuse(SPOT(k, nth, rows->auth),
		                   "auth needs tls = verify or encrypt, or the password could leave in clear");
	return check_client_certificate(k, nth, rows, client_certificate, network, hop);
}

static int check_domains(const struct check *k)
{
	char ascii[CONF_DOMAIN_SIZE];
	struct conf *c = k->c;
	c->memory->keys = conf_check_take(k, c->domain_count * sizeof *c->memory->keys);
	if (!c->memory->keys)
		return -1;
	for (size_t i = 0; i < c->domain_count; i++) {
		struct conf_domain *d = &c->domains[i];
		const struct conf_spot spot = { k->path, d->line, k->e };
		if (!conf_domain_ascii(view_cstr(d->title), ascii))
			return conf_refuse(&spot, "domain \"%.100s\" is no domain name; write one like example.org",
			                   d->title);
		const char *name = arena_cstr(&c->memory->arena, view_cstr(ascii));
		if (!name)
			return error_set(k->e, ERROR_AGAIN, "%s: out of memory", k->path);
		c->memory->keys[i] = (struct conf_domain_key){ name, d };
		d->hop = (struct conf_hop){ .tls = (enum conf_tls)d->set.tls,
			                    .source = d->set.source,
			                    .auth_file = d->set.auth };
		if (check_hop(k, i, &domain_rows, d->set.deliver, d->set.client_certificate, &d->hop) == -1)
			return -1;
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct conf_domain_key *x = a, *y = b;
	const int order = strcmp(x->name, y->name);
	return order ? order : x->domain->line < y->domain->line ? -1 : x->domain->line > y->domain->line;
}

/* Sorts the index; two spellings of one domain (case, U-label and A-label) are a repetition too. */
static int index_domains(const struct check *k)
{
	struct conf_domain_key *keys = k->c->memory->keys;
	const size_t n = k->c->domain_count;
	const struct conf_domain_key *again = NULL;
	qsort(keys, n, sizeof *keys, by_name);
	for (size_t i = 1; i < n; i++)
		if (strcmp(keys[i - 1].name, keys[i].name) == 0 &&
		    (!again || keys[i].domain->line < again->domain->line))
			again = &keys[i];
	if (!again)
		return 0;
	return conf_refuse(&(struct conf_spot){ k->path, again->domain->line, k->e },
	                   "domain \"%.100s\" again (first in line %u as \"%.100s\"); keep one of the two",
	                   again->domain->title, again[-1].domain->line, again[-1].domain->title);
}

static int check_route(const struct check *k)
{
	struct conf *c = k->c;
	c->route_hop = (struct conf_hop){ .tls = (enum conf_tls)c->route.tls,
		                          .source = c->route.source,
		                          .auth_file = c->route.auth };
	if (check_hop(k, 0, &route_rows, c->route.deliver, c->route.client_certificate, &c->route_hop) == -1)
		return -1;
	if (c->route_hop.delivery.kind == CONF_DELIVER_MAILDIR)
		return conf_refuse(SPOT(k, 0, CONF_ROW_ROUTE_deliver),
		                   "route: mail for other domains has no mailbox here; write mx or smtp://host:port");
	return 0;
}

static int check_relay(const struct check *k)
{
	const struct conf_list *list = &k->c->relay.from;
	char words[CONF_NETWORK_WORDS];
	k->c->networks = conf_check_take(k, list->n * sizeof *k->c->networks);
	if (!k->c->networks)
		return -1;
	for (size_t i = 0; i < list->n; i++) {
		const struct conf_spot spot = conf_check_item(k, 0, CONF_ROW_RELAY_from, i);
		const char *wrong = conf_network_check(view_cstr(list->items[i]), &k->c->networks[i], words);
		if (wrong)
			return conf_refuse(&spot, "from \"%.100s\" %s", list->items[i], wrong);
	}
	k->c->network_count = list->n;
	return 0;
}

/* ["*."] Domain (RFC 8461 3.2), in ASCII: it stands in a file that others parse. */
static bool is_pattern(const char *text)
{
	char ascii[CONF_DOMAIN_SIZE];
	const char *domain = strncmp(text, "*.", 2) == 0 ? text + 2 : text;
	for (const char *p = domain; *p; p++)
		if ((unsigned char)*p >= 0x80)
			return false;
	return conf_domain_ascii(view_cstr(domain), ascii) && domain[strlen(domain) - 1] != '.';
}

static int check_sts_policies(const struct check *k)
{
	char ascii[CONF_DOMAIN_SIZE], other[CONF_DOMAIN_SIZE];
	for (size_t i = 0; i < k->c->sts_policy_count; i++) {
		const struct conf_sts_policy *p = &k->c->sts_policies[i];
		const struct conf_spot spot = { k->path, p->line, k->e };
		if (!conf_domain_ascii(view_cstr(p->title), ascii))
			return conf_refuse(&spot, "sts_policy \"%.100s\" is no domain name; write one like example.org", p->title);
		for (size_t n = 0; n < i; n++)
			if (conf_domain_ascii(view_cstr(k->c->sts_policies[n].title), other) && strcmp(ascii, other) == 0)
				return conf_refuse(&spot, "sts_policy \"%.100s\" again (first in line %u); keep one of the two", p->title,
				                   k->c->sts_policies[n].line);
		if (p->set.mx.n == 0 && p->set.mode != CONF_STS_NONE)
			return conf_refuse(&spot, "sts_policy \"%.100s\" names no mx; write mx = {\"mx.%.100s\"}", p->title, ascii);
		for (size_t n = 0; n < p->set.mx.n; n++) {
			const struct conf_spot item = conf_check_item(k, i, CONF_ROW_STS_POLICY_mx, n);
			if (!is_pattern(p->set.mx.items[n]))
				return conf_refuse(&item, "mx \"%.100s\" is no host name; write one like mx.example.org or *.example.org",
				                   p->set.mx.items[n]);
		}
	}
	return 0;
}

/* RFC 6376 3.1: labels of letters, digits and hyphens. */
static bool is_selector(const char *text)
{
	static const char alnum[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t n = strlen(text);
	for (const char *p = text; *p; p++)
		if (!strchr(alnum, *p) && ((*p != '-' && *p != '.') || p == text || !strchr(alnum, p[-1])))
			return false;
	return n > 0 && n <= 63 && strchr(alnum, text[n - 1]);
}

static int check_dkim(const struct check *k)
{
	char ascii[CONF_DOMAIN_SIZE];
	for (size_t i = 0; i < k->c->dkim_count; i++) {
		const struct conf_dkim *d = &k->c->dkim[i];
		const struct conf_spot spot = { k->path, d->line, k->e };
		if (!is_selector(d->title))
			return conf_refuse(&spot, "dkim \"%.100s\" is no selector; write letters and digits, as \"s2026\"", d->title);
		for (size_t n = 0; n < i; n++)
			if (strcasecmp(d->title, k->c->dkim[n].title) == 0)
				return conf_refuse(&spot, "dkim \"%.100s\" again (first in line %u); give each key a selector of its own", d->title,
				                   k->c->dkim[n].line);
		/* it stands in a field, and in the DNS: A-labels */
		if (!conf_domain_ascii(view_cstr(d->set.domain), ascii) || strcasecmp(ascii, d->set.domain) != 0)
			return conf_refuse(SPOT(k, i, CONF_ROW_DKIM_domain), "domain = \"%.100s\" is no domain name in ASCII; write one like example.org",
			                   d->set.domain);
	}
	return 0;
}

/* Names that everybody may read: addresses of a mailbox, and who we are. */
static int check_tls_report(const struct check *k)
{
	struct conf_tls_report_set *r = &k->c->tls_report;
	const char *hostname = k->c->global.hostname;
	const struct { const char *text; unsigned row; } addresses[] = { { r->from, CONF_ROW_TLS_REPORT_from }, { r->contact, CONF_ROW_TLS_REPORT_contact } };
	char *from;
	for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
		if (addresses[i].text[0] && !address_like(addresses[i].text))
			return conf_refuse(SPOT(k, 0, addresses[i].row), "\"%.100s\" is no address; write one like tlsrpt@example.org", addresses[i].text);
	if (!r->from[0]) {
		from = conf_check_take(k, strlen(hostname) + sizeof "tlsrpt@");
		if (!from)
			return -1;
		memcpy(from, "tlsrpt@", sizeof "tlsrpt@" - 1);
		memcpy(from + sizeof "tlsrpt@" - 1, hostname, strlen(hostname) + 1);
		r->from = from;
	}
	r->contact = r->contact[0] ? r->contact : r->from;
	r->organization = r->organization[0] ? r->organization : hostname;
	return 0;
}

int conf_check(struct conf *c, const char *path, struct error *e)
{
	const struct check k = { c, path, e };
	if (check_global(&k) == -1)
		return -1;
	if (conf_check_listeners(&k) == -1)
		return -1;
	if (check_domains(&k) == -1 || index_domains(&k) == -1 || check_route(&k) == -1 || check_tls_report(&k) == -1 || check_sts_policies(&k) == -1 ||
	    check_dkim(&k) == -1)
		return -1;
	return check_relay(&k);
}

/* ---- questions ---- */

const struct conf_domain *conf_find_domain(const struct conf *c, struct view domain)
{
	char ascii[CONF_DOMAIN_SIZE];
	if (!conf_domain_ascii(domain, ascii))
		return NULL;
	size_t low = 0, high = c->domain_count;
	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		const int order = strcmp(ascii, c->memory->keys[middle].name);
		if (order == 0)
			return c->memory->keys[middle].domain;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

bool conf_dkim_signs(const struct conf_dkim *d, const char *address)
{
	const char *at = strrchr(address, '@');
	struct view domain = view_cstr(at ? at + 1 : ""), signer = view_cstr(d->set.domain);
	return view_eq_nocase(domain, signer) ||
	       (domain.n > signer.n && domain.p[domain.n - signer.n - 1] == '.' && view_ends_nocase(domain, signer));
}

const struct conf_sts_policy *conf_find_sts_policy(const struct conf *c, struct view domain)
{
	char wanted[CONF_DOMAIN_SIZE], ascii[CONF_DOMAIN_SIZE];
	if (!conf_domain_ascii(domain, wanted))
		return NULL;
	for (size_t i = 0; i < c->sts_policy_count; i++)
		if (conf_domain_ascii(view_cstr(c->sts_policies[i].title), ascii) && strcmp(wanted, ascii) == 0)
			return &c->sts_policies[i];
	return NULL;
}

const char *conf_sts_host(const struct conf_sts_policy *p, char to[CONF_STS_HOST_SIZE])
{
	memcpy(to, "mta-sts.", 8);
	conf_domain_ascii(view_cstr(p->title), to + 8); /* the check has seen that it is a name */
	return to;
}

long conf_find_certificate(const struct conf *c, const char *title)
{
	for (size_t i = 0; i < c->certificate_count; i++)
		if (strcmp(c->certificates[i].title, title) == 0)
			return (long)i;
	return -1;
}

static bool hop_shows(const struct conf_hop *hop, const char *title)
{
	return hop->client_certificate && strcmp(hop->client_certificate, title) == 0;
}

bool conf_listener_shows(const struct conf *c, size_t certificate)
{
	for (size_t i = 0; i < c->listener_count; i++)
		for (size_t n = 0; n < c->listeners[i].certificate_count; n++)
			if (c->listeners[i].certificates[n] == certificate)
				return true;
	return false;
}

bool conf_web_shows(const struct conf *c, size_t certificate)
{
	for (size_t i = 0; i < c->web_count; i++)
		for (size_t n = 0; n < c->webs[i].certificate_count; n++)
			if (c->webs[i].certificates[n] == certificate)
				return true;
	return false;
}

bool conf_client_shows(const struct conf *c, size_t certificate)
{
	const char *title = c->certificates[certificate].title;
	bool shown = hop_shows(&c->route_hop, title);
	for (size_t i = 0; i < c->domain_count && !shown; i++)
		shown = hop_shows(&c->domains[i].hop, title);
	return shown;
}

bool conf_may_relay(const struct conf *c, const struct sockaddr *client)
{
	for (size_t i = 0; i < c->network_count; i++)
		if (conf_network_has(&c->networks[i], client))
			return true;
	return false;
}
