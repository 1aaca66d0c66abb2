/* runner.c - see runner.h. */
#include "super/runner.h"

#include "base/buf.h"
#include "super/confine.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In --single: channels between being made and their frame; all roles' channels together are some tens. */
#define CHANNELS_MAX 64

struct runner {
	struct runner_options o;
	struct role role;
	struct conf *conf;
	struct handoff *files;
	struct loop_later end;
	struct channel *channels[CHANNELS_MAX];
	size_t channel_count;
	bool prepared, started, ending, stopped;
	int status;
	uint8_t sandbox_bits;
	char sandbox[64], user[64];
};

int runner_status(const struct error *e)
{
	switch (e->class) {
	case ERROR_AGAIN:
	case ERROR_FULL: return EX_TEMPFAIL;
	case ERROR_INPUT: return EX_CONFIG;
	case ERROR_POLICY: return EX_NOPERM;
	case ERROR_CLOSED:
	case ERROR_PEER:
	case ERROR_OURS: break;
	}
	return EX_SOFTWARE;
}

struct role *runner_role(struct runner *r)
{
	return &r->role;
}

/* ---- the end ---- */

static void role_stop(struct runner *r)
{
	if (r->stopped)
		return;
	r->stopped = true;
	if (r->prepared)
		r->o.ops->stop(&r->role);
}

static void run_end(void *arg)
{
	struct runner *r = arg;

	role_stop(r);
	channel_free(r->o.super); /* writes what is still there: DRAINED */
	r->o.super = NULL;
	r->o.ended(r->o.arg, r->status);
}

/* At the end of the turn: the role may be on the stack. */
static void finish(struct runner *r, int status)
{
	if (r->ending)
		return;
	r->ending = true;
	r->status = status;
	r->end.run = run_end;
	r->end.arg = r;
	loop_later(r->o.loop, &r->end);
}

static void drained(struct role *role)
{
	struct runner *r = role->runner;
	struct wire_DRAINED m = { .generation = role->generation };

	if (r->ending)
		return;
	wire_send_DRAINED(r->o.super, &m);
	finish(r, EX_OK);
}

static void to_super(struct role *role, uint32_t type, struct view payload)
{
	struct runner *r = role->runner;

	if (r->o.super)
		channel_send(r->o.super, type, payload);
}

/* ---- configuration and files ---- */

static int unpack(int fd, struct conf **conf, struct handoff **files, struct error *e)
{
	struct view path;
	char name[4200];

	*conf = NULL;
	*files = NULL;
	if (handoff_unpack(files, fd, e) == -1)
		return -1;
	path = handoff_get(*files, "config_path", "");
	if (path.n >= sizeof name)
		path.n = sizeof name - 1;
	if (path.n)
		memcpy(name, path.p, path.n);
	name[path.n] = '\0';
	if (conf_parse(conf, handoff_get(*files, "config", ""), name, e) == -1) {
		handoff_free(*files);
		*files = NULL;
		return -1;
	}
	return 0;
}

static void fault(struct runner *r, const char *where, const char *why)
{
	EMIT(r->o.events, FAULT, F_STR("where", where), F_STR("reason", why));
}

/* ---- frames of super ---- */

static void do_start(struct runner *r)
{
	struct wire_STARTED m = { .generation = r->role.generation, .sandboxed = r->sandbox_bits };
	struct error e = { 0 };

	if (r->started)
		return;
	r->started = true;
	if (r->o.ops->start && r->o.ops->start(&r->role, &e) == -1) {
		fault(r, "start", e.text);
		finish(r, runner_status(&e));
		return;
	}
	EMIT(r->o.events, ROLE_STARTED, F_STR("role_name", role_name(r->role.kind)), F_U64("pid", getpid()),
	     F_U64("generation", r->role.generation), F_STR("user", r->user), F_STR("sandbox", r->sandbox));
	wire_send_STARTED(r->o.super, &m);
}

static bool do_channel(struct runner *r, struct view payload, int fd)
{
	struct wire_CHANNEL m;
	struct channel *ch;

	if (wire_read_CHANNEL(payload, &m) == -1 || (fd == -1) != r->role.single || (r->role.single && r->channel_count == 0)) {
		if (fd != -1)
			close(fd);
		return false;
	}
	if (r->role.single) {
		ch = r->channels[0];
		memmove(r->channels, r->channels + 1, --r->channel_count * sizeof *r->channels);
	} else {
		ch = channel_new(r->o.loop, fd);
	}
	if (!ch) {
		fault(r, "channel", "no memory");
		return true; /* the other side sees it closed */
	}
	r->o.ops->channel(&r->role, (enum role_kind)m.peer, m.index, m.generation, ch);
	return true;
}

static void do_reload(struct runner *r, int fd)
{
	struct conf *conf, *old_conf = r->conf;
	struct handoff *files, *old_files = r->files;
	struct error e = { 0 };

	if (!r->o.ops->reload) {
		close(fd);
		fault(r, "reload", "this role is started anew instead");
		return;
	}
	if (unpack(fd, &conf, &files, &e) == -1) {
		fault(r, "reload", e.text);
		return;
	}
	if (r->o.ops->reload(&r->role, conf, files, &e) == -1) { /* it goes on with the old one */
		fault(r, "reload", e.text);
		conf_free(conf);
		handoff_free(files);
		return;
	}
	r->role.conf = r->conf = conf;
	r->role.files = r->files = files;
	conf_free(old_conf);
	handoff_free(old_files);
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct runner *r = arg;
	struct wire_DRAIN drain;
	struct wire_SELFTEST selftest;
	bool fd_due = wire_has_fd(type) && !(type == WIRE_CHANNEL && r->role.single);

	(void)ch;
	if (r->ending || !wire_allowed(type, ROLE_SUPER, r->role.kind) || fd_due != (fd != -1)) {
		if (fd != -1)
			close(fd);
		if (!r->ending)
			fault(r, "super", "a frame that cannot be");
		return;
	}
	switch (type) {
	case WIRE_START:
		do_start(r);
		break;
	case WIRE_CHANNEL:
		if (!do_channel(r, payload, fd))
			fault(r, "super", "a channel that cannot be");
		break;
	case WIRE_RELOAD:
		do_reload(r, fd);
		break;
	case WIRE_DRAIN:
		if (wire_read_DRAIN(payload, &drain) == 0 && r->started)
			r->o.ops->drain(&r->role, drain.grace_ms);
		else
			finish(r, EX_OK);
		break;
	case WIRE_SELFTEST:
		if (wire_read_SELFTEST(payload, &selftest) == 0 && r->o.selftest)
			confine_selftest(r->o.events, role_name(r->role.kind));
		break;
	default:
		if (r->o.ops->frame)
			r->o.ops->frame(&r->role, type, payload, fd);
		else if (fd != -1)
			close(fd);
	}
}

/* Without super nobody would start, join or stop us in order. */
static void on_closed(void *arg, struct channel *ch)
{
	(void)ch;
	finish(arg, EX_UNAVAILABLE);
}

static const struct channel_handler super_handler = { on_frame, on_closed, NULL };

/* ---- begin ---- */

struct runner *runner_new(const struct runner_options *o, struct error *e)
{
	struct runner *r = calloc(1, sizeof *r);

	if (!r) {
		error_set(e, ERROR_AGAIN, "no memory for a role");
		close(o->handoff_fd);
		channel_free(o->super);
		if (o->extra_fd != -1)
			close(o->extra_fd);
		return NULL;
	}
	r->o = *o;
	r->role = (struct role){ .kind = o->kind, .ops = o->ops, .env = o->env, .events = o->events, .loop = o->loop,
		.generation = o->generation, .single = o->single, .extra_fd = o->extra_fd, .to_super = to_super, .drained = drained,
		.runner = r, .sign = o->sign, .sign_arg = (void *)(uintptr_t)o->keys };
	if (unpack(o->handoff_fd, &r->conf, &r->files, e) == -1) {
		runner_free(r);
		return NULL;
	}
	r->role.conf = r->conf;
	r->role.files = r->files;
	r->prepared = true; /* `stop` frees what a failed prepare has made */
	if (o->ops->prepare && o->ops->prepare(&r->role, e) == -1) {
		runner_free(r);
		return NULL;
	}
	return r;
}

void runner_serve(struct runner *r, uint8_t bits, const char *sandbox, const char *user)
{
	r->sandbox_bits = bits;
	snprintf(r->sandbox, sizeof r->sandbox, "%s", sandbox);
	snprintf(r->user, sizeof r->user, "%s", user);
	channel_set_handler(r->o.super, &super_handler, r);
}

bool runner_add_channel(struct runner *r, struct channel *ch)
{
	if (r->channel_count == CHANNELS_MAX)
		return false;
	r->channels[r->channel_count++] = ch;
	return true;
}

void runner_free(struct runner *r)
{
	if (!r)
		return;
	loop_later_cancel(r->o.loop, &r->end);
	role_stop(r);
	for (size_t i = 0; i < r->channel_count; i++)
		channel_free(r->channels[i]);
	channel_free(r->o.super);
	/* queue closes the control socket in `stop`; another role, or one that was never prepared, does not */
	if (r->role.extra_fd != -1 && r->role.state == NULL && !r->prepared)
		close(r->role.extra_fd);
	conf_free(r->conf);
	handoff_free(r->files);
	free(r);
}
