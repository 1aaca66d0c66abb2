/* rpt.c - see rpt.h. */
#include "route/rpt.h"

#include "route/fields.h"

#include <psmtp.h>

static const struct view version = { "v=TLSRPTv1", 10 };
static const struct view mailto = { "mailto:", 7 }, https = { "https://", 8 };

bool rpt_record_is(struct view record)
{
	return fields_begin(record, version);
}

/* RFC 3986's characters, but for "!" and ",", which must be encoded here (RFC 8460 3). */
static bool uri_ok(struct view uri)
{
	for (size_t i = 0; i < uri.n; i++)
		if (uri.p[i] <= 0x20 || uri.p[i] >= 0x7f || strchr("\"<>\\^`{|}!,", uri.p[i]))
			return false;
	return uri.n > 0 && uri.n <= RPT_URI_MAX && view_find(uri, ':') < uri.n;
}

/* No name and password before the host: a stranger would choose what we log in with. */
static bool https_ok(struct view uri)
{
	struct view rest = view_slice(uri, https.n, uri.n), host;
	size_t end = view_find(rest, '/'), query = view_find(rest, '?'), hash = view_find(rest, '#');

	end = end < query ? end : query;
	host = view_slice(rest, 0, end < hash ? end : hash);
	host = view_slice(host, 0, view_find(host, ':'));
	return host.n > 0 && view_find(rest, '@') == rest.n && psmtp_domain_valid((struct psmtp_view){ host.p, host.n }, false);
}

static const char *read_rua(struct view value, struct rpt_uri *uris, size_t *n)
{
	char address[RPT_ADDRESS_SIZE];

	while (value.n) {
		size_t comma = view_find(value, ',');
		struct view uri = view_trim(view_slice(value, 0, comma));
		if (comma + 1 == value.n || !uri_ok(uri))
			return "a rua is no list of URIs";
		value = view_slice(value, comma + 1, value.n);
		if (*n == RPT_URIS_MAX)
			continue;
		if (view_starts_nocase(uri, mailto) && rpt_mailto_address(uri, address))
			uris[(*n)++] = (struct rpt_uri){ RPT_MAILTO, uri };
		else if (view_starts_nocase(uri, https) && https_ok(uri))
			uris[(*n)++] = (struct rpt_uri){ RPT_HTTPS, uri };
	}
	return NULL;
}

const char *rpt_record_read(struct view record, struct rpt_uri uris[RPT_URIS_MAX], size_t *n)
{
	struct view rest, name, value;
	const char *wrong = NULL;
	bool found = false;
	int next;

	*n = 0;
	if (!rpt_record_is(record))
		return "it does not begin with v=TLSRPTv1";
	rest = view_slice(record, version.n, record.n);
	while (!wrong && (next = fields_next(&rest, &name, &value)) != 0) {
		if (next == -1)
			wrong = "it is not a list of name=value";
		else if (view_eq(name, VIEW("rua"))) {
			wrong = read_rua(value, uris, n);
			found = true;
		} else if (!fields_value(value))
			wrong = "a field has a value that cannot be";
	}
	if (!wrong && !found)
		wrong = "it has no rua";
	if (wrong)
		*n = 0;
	return wrong;
}

static int hex(char c)
{
	c = view_lower(c);
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool rpt_mailto_address(struct view uri, char to[RPT_ADDRESS_SIZE])
{
	struct psmtp_address parsed;
	struct view v;
	size_t n = 0;

	if (!view_starts_nocase(uri, mailto))
		return false;
	v = view_slice(uri, mailto.n, view_find(uri, '?'));
	for (size_t i = 0; i < v.n; i++) {
		char c = v.p[i];
		if (c == '%') {
			if (v.n - i < 3 || hex(v.p[i + 1]) == -1 || hex(v.p[i + 2]) == -1)
				return false;
			c = (char)(hex(v.p[i + 1]) << 4 | hex(v.p[i + 2]));
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || n + 1 >= RPT_ADDRESS_SIZE)
			return false;
		to[n++] = c;
	}
	to[n] = 0;
	return psmtp_address_parse((struct psmtp_view){ to, n }, PSMTP_ADDRESS_BARE, &parsed) == 0 && parsed.kind == PSMTP_DOMAIN_NAME;
}
