/* check_listen.c - the sections that listen, `listener` and `web`: their addresses and the certificates that they show.
 *
 * An address may be listened on once, whoever does it.  TLS that was asked for and cannot be is refused, with the line.
 */
#include "conf/check.h"

#include "conf/parts.h"

/* A section that listens, of either kind. */
struct place {
	const char *word, *title;
	unsigned line, address_row, certificate_row;
	size_t nth;
	const struct conf_list *wanted, *shown; /* as written */
	struct conf_address **addresses;
	size_t *address_count;
	unsigned **certificates;
	size_t *certificate_count;
};

static struct place listener_place(const struct check *k, size_t nth)
{
	struct conf_listener *l = &k->c->listeners[nth];
	return (struct place){ "listener", l->title, l->line, CONF_ROW_LISTENER_address, CONF_ROW_LISTENER_certificate, nth, &l->set.address,
		               &l->set.certificate, &l->addresses, &l->address_count, &l->certificates, &l->certificate_count };
}

static struct place web_place(const struct check *k, size_t nth)
{
	struct conf_web *w = &k->c->webs[nth];
	return (struct place){ "web", w->title, w->line, CONF_ROW_WEB_address, CONF_ROW_WEB_certificate, nth, &w->set.address,
		               &w->set.certificate, &w->addresses, &w->address_count, &w->certificates, &w->certificate_count };
}

/* The nth of both kinds together: listeners first. */
static struct place place_of(const struct check *k, size_t nth)
{
	return nth < k->c->listener_count ? listener_place(k, nth) : web_place(k, nth - k->c->listener_count);
}

/* ---- addresses ---- */

/* Refuses an address that a section before (or this one, before this item) has. */
static int check_alone(const struct check *k, size_t at, size_t item, const struct conf_address *a, const struct conf_spot *spot)
{
	for (size_t m = 0; m <= at; m++) {
		const struct place other = place_of(k, m);
		for (size_t n = 0; n < (m == at ? item : *other.address_count); n++) {
			const struct conf_address *b = &(*other.addresses)[n];
			if (b->len == a->len && memcmp(&b->sa, &a->sa, a->len) == 0)
				return conf_refuse(spot, "address \"%s\" is listened on already by %s \"%.60s\" (line %u); remove one", a->text,
				                   other.word, other.title, other.line);
		}
	}
	return 0;
}

static int check_addresses(const struct check *k, size_t at)
{
	const struct place p = place_of(k, at);
	struct conf_address *all = conf_check_take(k, p.wanted->n * sizeof *all);
	if (!all)
		return -1;
	*p.addresses = all;
	for (size_t i = 0; i < p.wanted->n; i++) {
		const struct conf_spot spot = conf_check_item(k, p.nth, p.address_row, i);
		const unsigned usual = p.address_row == CONF_ROW_WEB_address ? CONF_PORT_HTTPS : CONF_PORT_SMTP;
		if (!conf_address_parse(view_cstr(p.wanted->items[i]), 0, &all[i]))
			return conf_refuse(
				&spot,
				"address \"%.100s\" is no address with a port; write one like 192.0.2.1:%u or [2001:db8::1]:%u "
				"(0.0.0.0:%u and [::]:%u are all of IPv4 and IPv6)",
				p.wanted->items[i], usual, usual, usual, usual);
		all[i].text = p.wanted->items[i];
		/* RFC 2033 section 5: LMTP must not be used on port 25 */
		if (at < k->c->listener_count && k->c->listeners[at].set.lmtp && conf_address_port(&all[i]) == CONF_PORT_SMTP)
			return conf_refuse(
				&spot, "LMTP must not be spoken on port 25 (RFC 2033 section 5); choose another port");
		if (check_alone(k, at, i, &all[i], &spot) == -1)
			return -1;
	}
	*p.address_count = p.wanted->n;
	return 0;
}

/* ---- certificates ---- */

static int no_certificate(const struct check *k, const struct place *p, size_t item, bool named)
{
	const struct conf_spot by_item = conf_check_item(k, p->nth, p->certificate_row, item);
	const bool listener = p->certificate_row == CONF_ROW_LISTENER_certificate;
	const struct conf_spot *spot = named ? &by_item : listener ? SPOT(k, p->nth, CONF_ROW_LISTENER_tls) : &(struct conf_spot){ k->path, p->line, k->e };

	return conf_refuse(spot, "%s \"%.60s\" has no certificate for TLS; write certificate \"%.60s\" { chain = \"...\" key = \"...\" }%s",
	                   p->word, p->title, p->shown->items[item],
	                   k->c->certificate_count ? " or name another" : listener ? " or tls = none" : "");
}

static int find_certificates(const struct check *k, const struct place *p, bool named)
{
	struct conf *c = k->c;
	const struct conf_list *list = p->shown;
	unsigned *found;
	if (list->n == 0)
		return conf_refuse(SPOT(k, p->nth, p->certificate_row), "%s \"%.60s\": certificate is empty; name one%s", p->word, p->title,
		                   p->certificate_row == CONF_ROW_LISTENER_certificate ? ", or write tls = none" : "");
	if (list->n > CONF_CERTIFICATES_MAX)
		return conf_refuse(SPOT(k, p->nth, p->certificate_row), "%s \"%.60s\" names %zu certificates; %d are the most", p->word, p->title,
		                   list->n, CONF_CERTIFICATES_MAX);
	found = conf_check_take(k, list->n * sizeof *found);
	if (!found)
		return -1;
	for (size_t i = 0; i < list->n; i++) {
		const struct conf_spot spot = conf_check_item(k, p->nth, p->certificate_row, i);
		unsigned at = 0;
		while (at < c->certificate_count && strcmp(c->certificates[at].title, list->items[i]) != 0)
			at++;
		if (at == c->certificate_count)
			return no_certificate(k, p, i, named);
		for (size_t n = 0; n < i; n++)
			if (found[n] == at)
				return conf_refuse(&spot, "certificate \"%.60s\" again; remove one", list->items[i]);
		found[i] = at;
	}
	*p->certificates = found;
	*p->certificate_count = list->n;
	return 0;
}

/* Which certificates a listener shows.  TLS that was asked for and cannot be is refused; TLS that is only our default is
 * left out when there is no certificate at all (and conf_warnings says so). */
static int check_certificate(const struct check *k, size_t nth)
{
	struct conf *c = k->c;
	struct conf_listener *l = &c->listeners[nth];
	const struct place p = listener_place(k, nth);
	const bool tls_given = conf_given(c, nth, CONF_ROW_LISTENER_tls);
	const bool named = conf_given(c, nth, CONF_ROW_LISTENER_certificate);
	if (!tls_given && !named && c->certificate_count == 0) {
		l->set.tls = CONF_LISTENER_NONE;
		c->memory->tls_defaulted = true;
		return 0;
	}
	if (l->set.tls == CONF_LISTENER_NONE && !named)
		return 0;
	if (find_certificates(k, &p, named) == -1)
		return -1;
	if (l->set.tls == CONF_LISTENER_NONE)
		l->certificate_count = 0; /* named, and not shown */
	return 0;
}

int conf_check_listeners(const struct check *k)
{
	const size_t listeners = k->c->listener_count;
	for (size_t i = 0; i < listeners; i++)
		if (check_addresses(k, i) == -1 || check_certificate(k, i) == -1)
			return -1;
	for (size_t i = 0; i < k->c->web_count; i++) {
		const struct place p = web_place(k, i);
		if (check_addresses(k, listeners + i) == -1 || find_certificates(k, &p, conf_given(k->c, i, CONF_ROW_WEB_certificate)) == -1)
			return -1;
	}
	return 0;
}
