/* pages.c - see pages.h. */
#include "web/pages.h"

#include "route/sts.h"

enum made { MADE = 1, MADE_NOTHING /* there is no such page */, MADE_BADLY /* memory */ };

/* RFC 8461 3.2: of the host mta-sts.DOMAIN. */
static enum made sts_file(const struct conf *conf, struct view host, struct buf *to)
{
	static const struct view label = { "mta-sts.", 8 };
	const struct conf_sts_policy *p = NULL;

	if (view_starts_nocase(host, label))
		p = conf_find_sts_policy(conf, view_slice(host, label.n, host.n));
	if (!p)
		return MADE_NOTHING;
	return sts_policy_ours(p, to) ? MADE : MADE_BADLY;
}

static const struct page {
	struct view path;
	const char *type;
	enum made (*make)(const struct conf *, struct view host, struct buf *to);
} pages[] = {
	{ { "/.well-known/mta-sts.txt", 24 }, "text/plain", sts_file }, /* RFC 8461 3.2: no other type; 3.3: what is fetched is this path */
};

/* ---- the question ---- */

/* Without port and final dot.  An address in brackets stays as it is: no page is of one. */
static struct view bare_host(struct view host)
{
	size_t colon = view_find(host, ':');

	if (host.n && host.p[0] == '[')
		return host;
	host = view_slice(host, 0, colon);
	return host.n && host.p[host.n - 1] == '.' ? view_slice(host, 0, host.n - 1) : host;
}

/* RFC 9112 3.2.2: a target may be a whole URI, whose host then counts and not the field's. */
static bool split_target(struct view target, struct view *host, struct view *path)
{
	static const struct view scheme = { "https://", 8 };
	size_t slash;

	*path = target;
	if (target.n && target.p[0] == '/')
		return true;
	if (!view_starts_nocase(target, scheme))
		return false;
	target = view_slice(target, scheme.n, target.n);
	slash = view_find(target, '/');
	*host = view_slice(target, 0, slash);
	*path = slash < target.n ? view_slice(target, slash, target.n) : VIEW("/");
	return true;
}

static void refuse(struct page_answer *a, unsigned status, const char *reason, const char *text)
{
	a->status = status;
	a->reason = reason;
	a->type = "text/plain";
	buf_clear(&a->text);
	buf_addf(&a->text, "%s\n", text); /* without memory the status alone must do */
}

static void find(const struct conf *conf, struct page_answer *a)
{
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
		if (!view_eq(a->path, pages[i].path))
			continue;
		switch (pages[i].make(conf, a->host, &a->text)) {
		case MADE:
			a->status = 200;
			a->reason = "";
			a->type = pages[i].type;
			return;
		case MADE_NOTHING: break;
		case MADE_BADLY: refuse(a, 500, "memory", "This page cannot be made now."); return;
		}
	}
	refuse(a, 404, "not_found", "There is nothing here.");
}

void pages_answer(const struct conf *conf, const struct page_ask *ask, struct page_answer *a)
{
	struct view host = ask->host;

	*a = (struct page_answer){ .path = ask->target };
	buf_init(&a->text, &alloc_libc, WEB_PAGE_MAX);
	if (!view_eq(ask->method, VIEW("GET")) && !view_eq(ask->method, VIEW("HEAD"))) { /* RFC 9110 9.1: methods have case */
		a->host = bare_host(host);
		refuse(a, 405, "method", "Only GET and HEAD are served here.");
	} else if (ask->hosts != 1 || !split_target(ask->target, &host, &a->path)) { /* RFC 9112 3.2: 400 also when there are two */
		refuse(a, 400, "malformed", "The request names no host, several, or no path.");
	} else {
		a->host = bare_host(host);
		/* RFC 9110 15.5.20: the certificate was shown for another name */
		if (ask->sni.n && !view_eq_nocase(bare_host(ask->sni), a->host))
			refuse(a, 421, "misdirected", "TLS was asked for another host.");
		else
			find(conf, a);
	}
}
