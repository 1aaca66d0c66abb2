/* single.c - `run --single`: every role in this process, on one loop, joined by channels in memory.
 *
 * For debugging (one process under gdb) and as the shape in which a simulator runs them.  There are no walls, no threads but
 * the spool's, no restarts and no reload; SIGTERM drains in the order of stop.c.
 */
#include "super/super.h"

#include "keys/keys.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SINGLE_ROLES 8 /* the last one, web, only where there is a section of it */

static const enum role_kind kinds[SINGLE_ROLES] = { ROLE_KEYS, ROLE_RESOLVE, ROLE_POLICY, ROLE_LOCAL, ROLE_QUEUE, ROLE_SEND,
                                                     ROLE_RECEIVE, ROLE_WEB };

struct single {
	struct super super; /* sockets, configuration, events: the same code as with processes */
	struct role roles[SINGLE_ROLES];
	struct handoff *files[SINGLE_ROLES];
	bool started[SINGLE_ROLES], drained[SINGLE_ROLES];
	struct loop_later next;
	struct loop_timer patience;
	bool stopping;
};

static struct role *role_of(struct single *s, enum role_kind kind)
{
	for (int i = 0; i < SINGLE_ROLES; i++)
		if (kinds[i] == kind && s->started[i])
			return &s->roles[i];
	return NULL;
}

/* ---- the end ---- */

static void on_next(void *arg)
{
	static const enum role_kind order[] = { ROLE_RECEIVE, ROLE_WEB, ROLE_QUEUE };
	struct single *s = arg;

	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		for (int k = 0; k < SINGLE_ROLES; k++)
			if (kinds[k] == order[i] && s->started[k] && !s->drained[k])
				return;
	loop_stop(s->super.loop);
}

static void on_drained(struct role *role)
{
	struct single *s = role->runner;
	int at = (int)(role - s->roles);

	if (s->drained[at])
		return;
	s->drained[at] = true;
	if (role->kind == ROLE_RECEIVE)
		queue_role.drain(role_of(s, ROLE_QUEUE), SUPER_STOP_QUEUE_MS - SUPER_STOP_RECEIVE_MS);
	loop_later(s->super.loop, &s->next);
}

static void on_patience(void *arg)
{
	loop_stop(((struct single *)arg)->super.loop);
}

static void stop_all(struct single *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	loop_timer_set(&s->patience, loop_now(s->super.loop) + SUPER_STOP_ALL_MS);
	receive_role.drain(role_of(s, ROLE_RECEIVE), SUPER_STOP_RECEIVE_MS);
	if (role_of(s, ROLE_WEB))
		web_role.drain(role_of(s, ROLE_WEB), SUPER_STOP_RECEIVE_MS);
}

static void on_terminate(void *arg, int signum)
{
	struct single *s = arg;

	EMIT(s->super.events, STOPPING, F_STR("reason", signum == SIGINT ? "SIGINT" : "SIGTERM"));
	stop_all(s);
}

/* ---- what roles ask of super ---- */

static void to_super(struct role *role, uint32_t type, struct view payload)
{
	struct single *s = role->runner;
	struct wire_CONTROL ask;
	struct wire_CONTROL_DONE done;
	json_t *json;
	char *text;
	struct buf b;

	if (type != WIRE_CONTROL || wire_read_CONTROL(payload, &ask) == -1)
		return;
	if (ask.command == WIRE_CONTROL_RELOAD)
		json = json_pack("{s:b, s:s}", "ok", 0, "error", "run --single reads its configuration once");
	else
		json = json_pack("{s:b, s:i, s:b}", "ok", 1, "pid", (int)getpid(), "single", 1);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	done = (struct wire_CONTROL_DONE){ .stream = ask.stream, .json = text ? view_cstr(text) : VIEW("{\"ok\":false}") };
	buf_init(&b, &alloc_libc, CHANNEL_FRAME_MAX);
	if (wire_put_CONTROL_DONE(&b, &done))
		role->ops->frame(role, WIRE_CONTROL_DONE, buf_view(&b), -1);
	buf_free(&b);
	free(text);
	if (ask.command == WIRE_CONTROL_STOP)
		stop_all(s);
}

/* ---- the beginning ---- */

static int make_role(struct single *s, int i, struct error *e)
{
	struct role *r = &s->roles[i];

	*r = (struct role){
		.kind = kinds[i], .ops = super_ops(kinds[i]), .conf = s->super.conf, .env = s->super.env, .events = s->super.events,
		.loop = s->super.loop, .generation = 1, .single = true, .extra_fd = kinds[i] == ROLE_QUEUE ? s->super.control_fd : -1,
		.to_super = to_super, .drained = on_drained, .runner = s, .sign = keys_sign, .sign_arg = &s->roles[0],
	};
	if (handoff_read(&s->files[i], s->super.conf, s->super.path, role_name(kinds[i]), e) == -1)
		return -1;
	r->files = s->files[i];
	if ((r->ops->prepare && r->ops->prepare(r, e) == -1) || r->ops->start(r, e) == -1)
		return -1;
	s->started[i] = true;
	return 0;
}

static int join_all(struct single *s, struct error *e)
{
	static const struct { enum role_kind from, to; } edges[] = {
#define EDGE(f, t, why) { ROLE_##f, ROLE_##t },
#include "wire/edges.def"
	};
	struct channel *ends[2];

	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
		struct role *a = role_of(s, edges[i].from), *b = role_of(s, edges[i].to);
		/* keys is called, not written to, but by policy, which signs mail one after the other */
		if (!a || !b || (b->kind == ROLE_KEYS && a->kind != ROLE_POLICY))
			continue;
		if (channel_pair(s->super.loop, ends) == -1)
			return error_set(e, ERROR_AGAIN, "no memory for a channel");
		b->ops->channel(b, a->kind, 0, 1, ends[1]);
		a->ops->channel(a, b->kind, 0, 1, ends[0]);
	}
	return 0;
}

static void hand_listeners(struct single *s)
{
	for (struct bound *b = s->super.bound; b; b = b->next) {
		struct wire_LISTENER m = { .listener = b->listener, .address = b->number };
		struct role *to = role_of(s, b->kind);
		struct buf frame;
		int fd = dup(b->fd);
		buf_init(&frame, &alloc_libc, 64);
		if (fd != -1 && wire_put_LISTENER(&frame, &m))
			to->ops->frame(to, WIRE_LISTENER, buf_view(&frame), fd);
		buf_free(&frame);
	}
}

static int begin(struct single *s, struct error *e)
{
	struct super *super = &s->super;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* nothing is read twice here */
	if (listen_control(super, e) == -1 || listen_bind_all(super, super->conf, e) == -1)
		return -1;
	for (int i = 0; i < SINGLE_ROLES; i++)
		if ((kinds[i] != ROLE_WEB || super->conf->web_count) && make_role(s, i, e) == -1)
			return -1;
	if (join_all(s, e) == -1)
		return -1;
	hand_listeners(s);
	if (loop_signal_start(&super->on_term, super->loop, SIGTERM, on_terminate, s) == -1 ||
	    loop_signal_start(&super->on_int, super->loop, SIGINT, on_terminate, s) == -1)
		return error_set(e, ERROR_OURS, "signals cannot be watched");
	s->next.run = on_next;
	s->next.arg = s;
	loop_timer_init(&s->patience, super->loop, on_patience, s);
	return 0;
}

static void end(struct single *s)
{
	struct super *super = &s->super;

	for (int i = SINGLE_ROLES - 1; i >= 0; i--)
		if (s->roles[i].state)
			s->roles[i].ops->stop(&s->roles[i]);
	for (int i = 0; i < SINGLE_ROLES; i++)
		handoff_free(s->files[i]);
	for (struct bound *b = super->bound; b; b = b->next)
		b->wanted = false;
	listen_close_unwanted(super);
	if (super->control_path)
		unlink(super->control_path);
	free(super->control_path);
	loop_signal_stop(&super->on_term);
	loop_signal_stop(&super->on_int);
	if (s->patience.loop) { /* begun whole, so ended whole; else the loop goes with the process */
		loop_timer_stop(&s->patience);
		loop_later_cancel(super->loop, &s->next);
		loop_free(super->loop);
	}
	events_free(super->events);
	conf_free(super->conf);
}

int super_run_single(const char *path)
{
	static struct single s;
	struct error e = { 0 };
	int status = 0;

	s.super = (struct super){ .path = path, .env = &env_real, .control_fd = -1, .generation = 1 };
	if (conf_load(&s.super.conf, path, &e) == -1) {
		fprintf(stderr, "postrider: %s\n", e.text);
		return SUPER_EXIT_CONFIG;
	}
	s.super.loop = loop_new(s.super.env);
	s.super.events = events_new(s.super.env, "single", STDERR_FILENO, EVENT_INFO, NULL);
	if (!s.super.loop || !s.super.events || begin(&s, &e) == -1) {
		fprintf(stderr, "postrider: %s\n", e.text[0] ? e.text : "no memory");
		status = SUPER_EXIT_SOFTWARE;
	} else {
		events_gather(s.super.events);
		loop_log(s.super.loop, s.super.events);
		EMIT(s.super.events, READY, F_I64("pid", getpid()), F_U64("listeners", 1));
		loop_run(s.super.loop);
	}
	end(&s);
	return status;
}
