/* certificates.c - what super knows of the files of certificates; see super.h.
 *
 * A timer looks at name, size and times of each chain and key (no notification: certificates are put in place by renaming, by links
 * into folders that change, or over a network).  A change that has rested is tried as a pair; one that belongs together is a
 * reload with the configuration in force; one that does not is refused loudly, once, and what serves goes on serving.
 * A certificate that never worked stops no reload: its operator is told of it by the roles, as before.
 */
#include "super/super.h"

#include "tls/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

struct verdict {
	int64_t expires;
	bool works;
	char why[200];
};

/* In the process that is to end: what it knows of keys goes with it. */
static void judge_all(const struct super *s, const struct conf *conf, struct verdict *to)
{
	struct handoff *keys = NULL, *chains = NULL;
	struct error e = { 0 };

	if (handoff_read(&keys, conf, s->path, role_name(ROLE_KEYS), &e) == -1 ||
	    handoff_read(&chains, conf, s->path, role_name(ROLE_RECEIVE), &e) == -1)
		_exit(SUPER_EXIT_OSERR);
	for (size_t i = 0; i < conf->certificate_count; i++) {
		struct view chain = handoff_get(chains, "chain", conf->certificates[i].title);

		to[i].expires = tls_chain_expires(chain);
		to[i].works = tls_pair_check(chain, handoff_get(keys, "key", conf->certificates[i].title), &e) == 0;
		snprintf(to[i].why, sizeof to[i].why, "%.*s", (int)sizeof to[i].why - 1, to[i].works ? "" : e.text);
	}
}

static bool move_all(int fd, void *bytes, size_t n, bool out)
{
	char *p = bytes;

	while (n) {
		ssize_t r = out ? write(fd, p, n) : read(fd, p, n);

		if (r == -1 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		p += r;
		n -= (size_t)r;
	}
	return true;
}

/* One verdict for each certificate of conf, or NULL; the caller frees.  A process of its own tries the pairs, because OpenSSL leaves
 * traces of a key that it has parsed, and only `keys` may hold any; it takes some milliseconds. */
static struct verdict *try_all(const struct super *s, const struct conf *conf)
{
	size_t size = (conf->certificate_count + 1) * sizeof(struct verdict);
	struct verdict *all = calloc(1, size);
	bool ok;
	int fds[2];
	pid_t pid;

	if (!all || pipe2(fds, O_CLOEXEC) == -1) {
		free(all);
		return NULL;
	}
	pid = fork();
	if (pid == 0) {
		judge_all(s, conf, all);
		_exit(move_all(fds[1], all, size, true) ? 0 : SUPER_EXIT_OSERR);
	}
	close(fds[1]);
	ok = pid != -1 && move_all(fds[0], all, size, false);
	close(fds[0]);
	if (pid != -1)
		while (waitpid(pid, NULL, 0) == -1 && errno == EINTR)
			;
	if (ok)
		return all;
	free(all);
	return NULL;
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
	struct verdict *all;
	int r = 0;

	if (conf->certificate_count == 0)
		return 0;
	all = try_all(s, conf);
	if (!all)
		return error_set(e, ERROR_AGAIN, "the certificates cannot be tried");
	for (size_t i = 0; i < conf->certificate_count && r == 0; i++)
		if (!all[i].works && works_now(s, conf->certificates[i].title))
			r = error_set(e, ERROR_INPUT, "certificate \"%s\": %s; what serves now goes on", conf->certificates[i].title, all[i].why);
	free(all);
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
	struct verdict *all;

	free(s->certificates);
	s->certificates = calloc(s->conf->certificate_count + 1, sizeof *s->certificates);
	for (size_t i = 0; s->certificates && i < s->conf->certificate_count; i++) /* before they are read: a later change is seen */
		look(s, i, &s->certificates[i].chain, &s->certificates[i].key);
	all = s->certificates && s->conf->certificate_count ? try_all(s, s->conf) : NULL;
	for (size_t i = 0; all && i < s->conf->certificate_count; i++) {
		struct certificate *c = &s->certificates[i];

		c->seen_chain = c->chain;
		c->seen_key = c->key;
		c->works = all[i].works;
		c->expires = all[i].expires;
		c->told_days = INT64_MAX;
		tell_expiry(s, i);
	}
	free(all);
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
	struct verdict *all = try_all(s, s->conf);
	bool good = false;

	for (size_t i = 0; all && i < s->conf->certificate_count; i++) {
		struct certificate *c = &s->certificates[i];
		const char *title = s->conf->certificates[i].title;

		if (!changed[i])
			continue;
		c->chain = c->seen_chain; /* judged: not again before the next change */
		c->key = c->seen_key;
		if (all[i].works) {
			good = true;
			EMIT(s->events, CERTIFICATE_CHANGED, F_STR("title", title));
		} else {
			EMIT(s->events, CERTIFICATE_REFUSED, F_STR("title", title), F_STR("reason", all[i].why));
		}
	}
	free(all);
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
