/* reload.c - SIGHUP: a new generation beside the old one, on the same sockets; no session is dropped.
 *
 *   1 the file is parsed and checked; a bad one changes nothing
 *   2 addresses that are new are bound; those of before keep their sockets and what waits in them
 *   3 keys, policy, queue and local get the new configuration; new receive, web, send and resolve are started
 *   4 when these run: the sockets go to the new receive and web, the old ones and send drain
 *   5 the old resolve drains once the old send, which asks it, is gone
 *
 * local too gets a new generation when the folders of mailboxes changed, because its walls cannot be moved.  web is there
 * only while the configuration has a section of it.
 */
#include "super/super.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const enum role_kind renewed[] = { ROLE_RESOLVE, ROLE_SEND, ROLE_RECEIVE, ROLE_WEB };
static const enum role_kind kept[] = { ROLE_KEYS, ROLE_POLICY, ROLE_LOCAL, ROLE_QUEUE };

/* What super or the walls of a living role are made of cannot change under them. */
static int check_fixed(const struct conf *old, const struct conf *fresh, struct error *e)
{
	const struct { const char *name; bool same; } fixed[] = {
		{ "spool", strcmp(old->global.spool, fresh->global.spool) == 0 },
		{ "policy_folder", strcmp(old->global.policy_folder, fresh->global.policy_folder) == 0 },
		{ "queue_index", old->global.queue_index == fresh->global.queue_index },
		{ "control", strcmp(old->global.control, fresh->global.control) == 0 },
		{ "user_prefix", strcmp(old->global.user_prefix, fresh->global.user_prefix) == 0 },
		{ "sandbox", old->global.sandbox == fresh->global.sandbox },
	};

	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
		if (!fixed[i].same)
			return error_set(e, ERROR_INPUT, "a new value of `%s` needs a restart", fixed[i].name);
	return 0;
}

/* Not asked for any more: of a role with sections of its own. */
static bool is_gone(const struct super *s, enum role_kind kind)
{
	return kind == ROLE_WEB && s->conf->web_count == 0;
}

static void start_new(struct super *s, enum role_kind kind)
{
	struct child *old = child_current(s, kind), *c;
	struct error e = { 0 };

	if (old) {
		old->current = false;
		if (old->state == CHILD_WAITING) /* for a restart that the new one is */
			child_forget(old);
	}
	if (is_gone(s, kind))
		return;
	c = child_add(s, kind, s->generation, true);
	if (c && super_start_child(s, c, &e) == 0)
		return;
	EMIT(s->events, FAULT, F_STR("where", "reload"), F_STR("reason", c ? e.text : "no memory"));
	if (c)
		super_start_later(c, SUPER_RESTART_MIN_MS);
}

static void fail(struct super *s, struct error *out, const struct error *e)
{
	EMIT(s->events, RELOAD_FAILED, F_STR("reason", e->text));
	if (out)
		*out = *e;
	notify_service("READY=1");
}

static int tell_kept(struct super *s, struct error *e)
{
	struct wire_RELOAD m = { .generation = s->generation };

	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		struct child *c = child_current(s, kept[i]);
		struct handoff *h = NULL;
		struct buf b;
		int fd;
		if (!c || c->state != CHILD_RUNNING)
			continue; /* it reads the new one when it starts */
		if (handoff_read(&h, s->conf, s->path, role_name(kept[i]), e) == -1)
			return -1;
		fd = handoff_pack(h, e);
		handoff_free(h);
		if (fd == -1)
			return -1;
		buf_init(&b, &alloc_libc, 64);
		if (wire_put_RELOAD(&b, &m))
			child_send(c, WIRE_RELOAD, &b, fd);
		buf_free(&b);
		close(fd);
	}
	return 0;
}

/* Files that the new roles need are read before anything is changed: a list that cannot be read refuses the reload. */
static int try_files(struct super *s, const struct conf *conf, struct error *e)
{
	size_t n;
	const enum role_kind *all = super_kinds(conf, &n);
	struct handoff *h;

	for (size_t i = 0; i < n; i++) {
		h = NULL;
		if (handoff_read(&h, conf, s->path, role_name(all[i]), e) == -1)
			return -1;
		handoff_free(h);
	}
	return 0;
}

/* Takes fresh over, or frees it. */
static void reload_to(struct super *s, struct conf *fresh, struct error *out)
{
	struct error e = { 0 };
	bool new_local;

	if (check_fixed(s->conf, fresh, &e) == -1 || (s->root && confine_users_exist(fresh, &e) == -1) || try_files(s, fresh, &e) == -1 ||
	    certificates_try(s, fresh, &e) == -1 || listen_bind_all(s, fresh, &e) == -1) {
		conf_free(fresh);
		listen_close_unwanted(s);
		fail(s, out, &e);
		return;
	}
	new_local = !confine_same_roots(s->conf, fresh); /* the walls of the old one cannot be moved */
	conf_free(s->conf);
	s->conf = fresh;
	s->generation++;
	certificates_taken(s);
	if (tell_kept(s, &e) == -1)
		EMIT(s->events, FAULT, F_STR("where", "reload"), F_STR("reason", e.text));
	if (new_local)
		start_new(s, ROLE_LOCAL);
	for (size_t i = 0; i < sizeof renewed / sizeof *renewed; i++)
		start_new(s, renewed[i]);
	s->reloading = true;
}

static bool may_begin(struct super *s, struct error *out)
{
	struct error e = { 0 };
	char words[64];

	if (s->phase != SUPER_SERVING)
		return false;
	snprintf(words, sizeof words, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)env_mono_ms(s->env) * 1000);
	notify_service(words);
	if (!s->reloading)
		return true;
	error_set(&e, ERROR_AGAIN, "a reload is under way");
	fail(s, out, &e);
	return false;
}

void reload_begin(struct super *s, struct error *out)
{
	struct error e = { 0 };
	struct conf *fresh = NULL;

	if (!may_begin(s, out))
		return;
	if (conf_load(&fresh, s->path, &e) == 0)
		reload_to(s, fresh, out);
	else
		fail(s, out, &e);
}

void reload_certificates(struct super *s)
{
	struct error e = { 0 };
	struct handoff *h = NULL;
	struct conf *same = NULL;
	struct view path;
	int r;

	if (!may_begin(s, NULL))
		return;
	/* the text that is in force: the file may be half edited, and the certificates should not wait for that */
	r = handoff_read(&h, s->conf, s->path, role_name(ROLE_SUPER), &e);
	path = r == 0 ? handoff_get(h, "config_path", "") : VIEW("");
	r = r == 0 && path.p ? conf_parse(&same, handoff_get(h, "config", ""), path.p, &e) : -1; /* blobs are terminated */
	handoff_free(h);
	if (r == 0)
		reload_to(s, same, NULL);
	else
		fail(s, NULL, &e);
}

static bool new_ones_run(struct super *s)
{
	struct child *local = child_current(s, ROLE_LOCAL);

	if (!local || local->state != CHILD_RUNNING)
		return false;
	for (size_t i = 0; i < sizeof renewed / sizeof *renewed; i++) {
		struct child *c = child_current(s, renewed[i]);
		if (is_gone(s, renewed[i]))
			continue;
		if (!c || c->state != CHILD_RUNNING)
			return false;
	}
	return true;
}

static void drain(struct child *c)
{
	struct wire_DRAIN m = { .grace_ms = 0 }; /* no limit: its sessions end by themselves */
	struct buf b;

	if (c->current || c->state == CHILD_DRAINING || !c->link)
		return;
	c->state = CHILD_DRAINING;
	buf_init(&b, &alloc_libc, 64);
	if (wire_put_DRAIN(&b, &m))
		child_send(c, WIRE_DRAIN, &b, -1);
	buf_free(&b);
}

static bool send_of(struct super *s, uint32_t generation)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->kind == ROLE_SEND && c->generation == generation)
			return true;
	return false;
}

void reload_step(struct super *s)
{
	if (!new_ones_run(s))
		return;
	for (struct child *c = s->children; c; c = c->next)
		if (!c->current && c->kind != ROLE_WORKER && (c->kind != ROLE_RESOLVE || !send_of(s, c->generation)))
			drain(c);
	if (!s->reloading)
		return; /* an old one went, and what it leaned on may follow */
	s->reloading = false; /* the next reload may come while old sessions still run */
	listen_close_unwanted(s);
	EMIT(s->events, RELOADED, F_U64("generation", s->generation));
	notify_service("READY=1");
}
