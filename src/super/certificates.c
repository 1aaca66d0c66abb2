/* certificates.c - what super knows of the files of certificates; see super.h.
 *
 * A timer looks at name, size and times of each chain and key (no notification: certificates are put in place by renaming, by links
 * into folders that change, or over a network).  A change that has rested is tried as a pair; one that belongs together is a
 * reload with the configuration in force; one that does not is refused loudly, once, and what serves goes on serving.
 * A certificate that never worked stops no reload: its operator is told of it by the roles, as before.
 */
#include "super/super.h"

#include "tls/tls.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DAY_S 86400

struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed, modified;
	bool there;
};

struct certificate {
	struct stamp chain, key, seen_chain, seen_key; /* as taken into service; as last seen by the timer */
	int64_t expires, told_days;
	bool works;
};

static struct stamp stamp_of(const char *path)
{
	struct stamp to;
	struct stat st;

	memset(&to, 0, sizeof to); /* compared as octets */
	if (stat(path, &st) == -1)
		return to;
	to.dev = st.st_dev;
	to.ino = st.st_ino;
	to.size = st.st_size;
	to.changed = st.st_ctim;
	to.modified = st.st_mtim;
	to.there = true;
	return to;
}

static bool same(const struct stamp *a, const struct stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->there == b->there &&
	       memcmp(&a->changed, &b->changed, sizeof a->changed) == 0 && memcmp(&a->modified, &b->modified, sizeof a->modified) == 0;
}

/* ---- pairs ---- */

struct pairs { struct handoff *keys, *chains; };

static int read_pairs(struct pairs *p, const struct super *s, const struct conf *conf, struct error *e)
{
	*p = (struct pairs){ 0 };
	if (handoff_read(&p->keys, conf, s->path, role_name(ROLE_KEYS), e) == 0 &&
	    handoff_read(&p->chains, conf, s->path, role_name(ROLE_RECEIVE), e) == 0)
		return 0;
	handoff_free(p->keys); /* wiped */
	return -1;
}

static void forget_pairs(struct pairs *p)
{
	handoff_free(p->keys);
	handoff_free(p->chains);
}

static int try_pair(const struct pairs *p, const char *title, struct error *e)
{
	return tls_pair_check(handoff_get(p->chains, "chain", title), handoff_get(p->keys, "key", title), e);
}

static bool works_now(const struct super *s, const char *title)
{
	for (size_t i = 0; s->certificates && i < s->conf->certificate_count; i++)
		if (strcmp(s->conf->certificates[i].title, title) == 0)
			return s->certificates[i].works;
	return false;
}

int certificates_try(struct super *s, const struct conf *conf, struct error *e)
{
	struct pairs p;
	struct error why;
	int r = 0;

	if (conf->certificate_count == 0)
		return 0;
	if (read_pairs(&p, s, conf, e) == -1)
		return -1;
	for (size_t i = 0; i < conf->certificate_count && r == 0; i++) {
		const char *title = conf->certificates[i].title;

		if (works_now(s, title) && try_pair(&p, title, &why) == -1)
			r = error_set(e, ERROR_INPUT, "certificate \"%s\": %s; what serves now goes on", title, why.text);
	}
	forget_pairs(&p);
	return r;
}

/* ---- the end of a certificate ---- */

static void tell_expiry(struct super *s, size_t i)
{
	struct certificate *c = &s->certificates[i];
	int64_t left = c->expires - (int64_t)(env_wall_ms(s->env) / 1000), days = left < 0 ? -1 : left / DAY_S;

	if (!c->expires || days > SUPER_EXPIRY_DAYS || days == c->told_days)
		return;
	c->told_days = days;
	EMIT(s->events, CERTIFICATE_EXPIRES, F_STR("title", s->conf->certificates[i].title), F_I64("days", days),
	     F_STR("reason", days < 0 ? "it has ended" : "it was not renewed"));
}

struct json_t *certificates_json(struct super *s)
{
	json_t *all = json_array();

	for (size_t i = 0; s->certificates && i < s->conf->certificate_count; i++)
		json_array_append_new(all, json_pack("{s:s, s:I, s:b}", "title", s->conf->certificates[i].title, "expires",
		                                     (json_int_t)s->certificates[i].expires, "works", (int)s->certificates[i].works));
	return all;
}

/* ---- the watch ---- */

static void look(const struct super *s, size_t i, struct stamp *chain, struct stamp *key)
{
	*chain = stamp_of(s->conf->certificates[i].set.chain);
	*key = stamp_of(s->conf->certificates[i].set.key);
}

void certificates_taken(struct super *s)
{
	struct pairs p;
	struct error e;

	free(s->certificates);
	s->certificates = calloc(s->conf->certificate_count + 1, sizeof *s->certificates);
	for (size_t i = 0; s->certificates && i < s->conf->certificate_count; i++) /* before they are read: a later change is seen */
		look(s, i, &s->certificates[i].chain, &s->certificates[i].key);
	if (!s->certificates || read_pairs(&p, s, s->conf, &e) == -1)
		return;
	for (size_t i = 0; i < s->conf->certificate_count; i++) {
		struct certificate *c = &s->certificates[i];
		const char *title = s->conf->certificates[i].title;

		c->seen_chain = c->chain;
		c->seen_key = c->key;
		c->works = try_pair(&p, title, &e) == 0;
		c->expires = tls_chain_expires(handoff_get(p.chains, "chain", title));
		c->told_days = INT64_MAX;
		tell_expiry(s, i);
	}
	forget_pairs(&p);
}

/* What is new and rests is taken as seen; does any of it make a pair that is not in service? */
static bool rested(struct super *s, bool changed[])
{
	bool any = false;

	for (size_t i = 0; i < s->conf->certificate_count; i++) {
		struct certificate *c = &s->certificates[i];
		struct stamp chain, key;
		bool rests;

		look(s, i, &chain, &key);
		rests = same(&chain, &c->seen_chain) && same(&key, &c->seen_key);
		c->seen_chain = chain;
		c->seen_key = key;
		changed[i] = rests && (!same(&chain, &c->chain) || !same(&key, &c->key));
		any = any || changed[i];
	}
	return any;
}

/* True when there is something to reload for. */
static bool judge(struct super *s, const bool changed[])
{
	bool good = false;
	struct pairs p;
	struct error e;

	if (read_pairs(&p, s, s->conf, &e) == -1)
		return false;
	for (size_t i = 0; i < s->conf->certificate_count; i++) {
		struct certificate *c = &s->certificates[i];
		const char *title = s->conf->certificates[i].title;

		if (!changed[i])
			continue;
		c->chain = c->seen_chain; /* judged: not again before the next change */
		c->key = c->seen_key;
		if (try_pair(&p, title, &e) == 0) {
			good = true;
			EMIT(s->events, CERTIFICATE_CHANGED, F_STR("title", title));
		} else {
			EMIT(s->events, CERTIFICATE_REFUSED, F_STR("title", title), F_STR("reason", e.text));
		}
	}
	forget_pairs(&p);
	return good;
}

static void on_timer(void *arg)
{
	struct super *s = arg;
	bool *changed = NULL;

	loop_timer_set(&s->certificate_timer, loop_now(s->loop) + SUPER_CERTIFICATES_MS);
	if (s->phase != SUPER_SERVING || s->reloading || !s->certificates)
		return;
	for (size_t i = 0; i < s->conf->certificate_count; i++)
		tell_expiry(s, i);
	changed = calloc(s->conf->certificate_count + 1, sizeof *changed);
	if (changed && rested(s, changed) && judge(s, changed))
		reload_certificates(s);
	free(changed);
}

int certificates_start(struct super *s)
{
	loop_timer_init(&s->certificate_timer, s->loop, on_timer, s);
	loop_timer_set(&s->certificate_timer, loop_now(s->loop) + SUPER_CERTIFICATES_MS);
	certificates_taken(s);
	return s->certificates ? 0 : -1;
}

void certificates_stop(struct super *s)
{
	if (s->certificate_timer.loop)
		loop_timer_stop(&s->certificate_timer);
	free(s->certificates);
	s->certificates = NULL;
}
