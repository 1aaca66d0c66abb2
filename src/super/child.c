/* child.c - what runs in a role's process: reads its handoff, prepares, confines itself, serves; see role.h for the order.
 *
 * Descriptors come at fixed numbers (super.h).  When super is gone the role ends at once: nobody would start it anew or
 * hand it anything, and a lone `receive` must not keep the port.
 */
#include "super/super.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct child_run {
	struct role role;
	struct channel *super;
	struct conf *conf;
	struct handoff *files;
	struct confine_result walls;
	uint64_t *counters;
	bool proof;
};

static void to_super(struct role *role, uint32_t type, struct view payload)
{
	struct child_run *run = role->runner;

	if (run->super)
		channel_send(run->super, type, payload);
}

static void drained(struct role *role)
{
	struct child_run *run = role->runner;
	struct wire_DRAINED m = { .generation = role->generation };

	if (run->super) {
		wire_send_DRAINED(run->super, &m);
		channel_flush(run->super);
	}
	loop_stop(role->loop);
}

/* ---- frames of super ---- */

static void take_channel(struct child_run *run, struct view payload, int fd)
{
	struct wire_CHANNEL m;
	struct channel *ch;

	if (wire_read_CHANNEL(payload, &m) == -1 || fd == -1)
		return;
	ch = channel_new(run->role.loop, fd);
	if (ch)
		run->role.ops->channel(&run->role, (enum role_kind)m.peer, m.index, m.generation, ch);
}

static int parse_handoff(struct child_run *run, int fd, struct handoff **files, struct conf **conf, struct error *e)
{
	char path[4096];
	struct view name;

	(void)run;
	if (handoff_unpack(files, fd, e) == -1)
		return -1;
	name = handoff_get(*files, "config_path", "");
	snprintf(path, sizeof path, "%.*s", VIEW_ARGS(name));
	return conf_parse(conf, handoff_get(*files, "config", ""), path, e);
}

static void take_reload(struct child_run *run, struct view payload, int fd)
{
	struct wire_RELOAD m;
	struct handoff *files = NULL;
	struct conf *conf = NULL;
	struct error e = { 0 };

	if (wire_read_RELOAD(payload, &m) == -1 || fd == -1)
		return;
	run->role.generation = m.generation; /* that of the configuration: keys counts its sets by it */
	if (parse_handoff(run, fd, &files, &conf, &e) == -1 || !run->role.ops->reload ||
	    run->role.ops->reload(&run->role, conf, files, &e) == -1) {
		EMIT(run->role.events, RELOAD_FAILED, F_STR("reason", e.text));
		conf_free(conf);
		handoff_free(files);
		return;
	}
	run->role.conf = conf;
	run->role.files = files;
	conf_free(run->conf);
	handoff_free(run->files);
	run->conf = conf;
	run->files = files;
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct child_run *run = arg;
	struct wire_DRAIN drain;

	(void)ch;
	switch (type) {
	case WIRE_CHANNEL: take_channel(run, payload, fd); return;
	case WIRE_RELOAD: take_reload(run, payload, fd); return;
	case WIRE_DRAIN:
		if (wire_read_DRAIN(payload, &drain) == 0)
			run->role.ops->drain(&run->role, drain.grace_ms);
		break;
	case WIRE_SELFTEST:
		if (run->proof)
			confine_prove(&run->role);
		break;
	default:
		if (run->role.ops->frame) {
			run->role.ops->frame(&run->role, type, payload, fd);
			return;
		}
	}
	if (fd != -1)
		close(fd);
}

static void on_closed(void *arg, struct channel *ch)
{
	struct child_run *run = arg;

	channel_free(ch);
	run->super = NULL;
	loop_stop(run->role.loop);
}

static const struct channel_handler super_handler = { on_frame, on_closed, NULL };

/* ---- start ---- */

static enum role_kind kind_of(const char *name)
{
	for (enum role_kind k = ROLE_RECEIVE; k <= ROLE_WORKER; k++)
		if (strcmp(role_name(k), name) == 0)
			return k;
	return 0;
}

static void harden(enum role_kind kind)
{
	struct rlimit none = { 0, 0 };

	umask(077); /* other people's mail, also in the files that libraries make */
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* super died without a word */
	if (kind == ROLE_KEYS || kind == ROLE_RECEIVE || kind == ROLE_SEND || kind == ROLE_WEB) {
		setrlimit(RLIMIT_CORE, &none); /* keys and other people's mail do not belong into a core file */
		prctl(PR_SET_DUMPABLE, 0);
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* signals are super's business, also those of a terminal */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
}

/* local looks at mailboxes of all owners before it gives root away; the others never run a line of theirs as root. */
static int prepare_role(struct child_run *run, uid_t uid, struct error *e)
{
	struct role *role = &run->role;
	bool root = geteuid() == 0, looks = root && role->kind == ROLE_LOCAL;

	if (role->kind == ROLE_LOCAL && role->ops->prepare(role, e) == -1)
		return -1;
	if ((root ? confine_user(run->conf, role->kind, uid, e) : confine_nobody(e)) == -1)
		return -1;
	harden(role->kind);
	if (role->kind != ROLE_LOCAL && role->ops->prepare && role->ops->prepare(role, e) == -1)
		return -1;
	if (run->conf->global.sandbox == CONF_OFF)
		return 0;
	return confine_role(run->conf, role->kind, looks, &run->walls, e);
}

static void say_walls(struct child_run *run)
{
	struct role *role = &run->role;
	bool off = run->conf->global.sandbox == CONF_OFF;

	if (run->walls.missing[0])
		EMIT(role->events, SANDBOX_MISSING, F_STR("role_name", role_name(role->kind)), F_STR("reason", run->walls.missing));
	EMIT(role->events, ROLE_STARTED, F_STR("role_name", role_name(role->kind)), F_I64("pid", getpid()), F_U64("generation", role->generation),
	     F_I64("user", geteuid()), F_STR("sandbox", off ? "off" : run->walls.missing[0] ? "partial" : "on"));
	events_flush(role->events); /* before super hears of it, or a log would say ready first */
}

static int start_role(struct child_run *run, enum role_kind kind, uint32_t generation, uid_t uid, struct error *e)
{
	struct role *role = &run->role;

	run->counters = mmap(NULL, (EVENT_END + 1) * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, CHILD_FD_COUNTERS, 0);
	if (run->counters == MAP_FAILED)
		return error_sys(e, errno, "map the counters");
	close(CHILD_FD_COUNTERS);
	role->env = &env_real;
	role->kind = kind;
	role->ops = super_ops(kind);
	role->generation = generation;
	role->extra_fd = kind == ROLE_QUEUE ? CHILD_FD_CONTROL : -1;
	role->to_super = to_super;
	role->drained = drained;
	role->runner = run;
	role->events = events_new(role->env, role_name(kind), STDERR_FILENO, EVENT_INFO, run->counters);
	role->loop = loop_new(role->env);
	if (!role->events || !role->loop)
		return error_set(e, ERROR_AGAIN, "no memory");
	events_gather(role->events);
	loop_log(role->loop, role->events);
	if (parse_handoff(run, CHILD_FD_HANDOFF, &run->files, &run->conf, e) == -1)
		return -1;
	role->conf = run->conf;
	role->files = run->files;
	if (prepare_role(run, uid, e) == -1 || role->ops->start(role, e) == -1)
		return -1;
	run->super = channel_new(role->loop, CHILD_FD_SUPER);
	if (!run->super)
		return error_set(e, ERROR_AGAIN, "no memory for a channel");
	channel_set_handler(run->super, &super_handler, run);
	return 0;
}

int super_child(int argc, char **argv)
{
	static struct child_run run; /* one role a process; not on the stack because of its size alone */
	struct wire_STARTED started;
	struct error e = { 0 };
	enum role_kind kind = argc == 4 ? kind_of(argv[1]) : 0;
	uint64_t generation = 0, uid = 0;

	if (kind == 0 || !view_to_u64(view_cstr(argv[2]), &generation) || !view_to_u64(view_cstr(argv[3]), &uid)) {
		fprintf(stderr, "postrider: `role` is started by `postrider run`, not by hand\n");
		return SUPER_EXIT_USAGE;
	}
	run.proof = getenv("POSTRIDER_SELFTEST") != NULL;
	if (start_role(&run, kind, (uint32_t)generation, (uid_t)uid, &e) == -1) {
		fprintf(stderr, "postrider: %s: %s\n", argv[1], e.text);
		return e.class == ERROR_INPUT ? SUPER_EXIT_CONFIG : SUPER_EXIT_SOFTWARE;
	}
	say_walls(&run);
	started = (struct wire_STARTED){ .generation = (uint32_t)generation,
	                                 .sandboxed = run.conf->global.sandbox == CONF_ON && !run.walls.missing[0] };
	wire_send_STARTED(run.super, &started);
	loop_run(run.role.loop);
	run.role.ops->stop(&run.role);
	if (run.super)
		channel_free(run.super);
	/* the loop and the rest end with the process; keys were wiped by stop */
	handoff_free(run.files);
	conf_free(run.conf);
	events_free(run.role.events);
	_exit(0); /* what libraries do at exit (and a leak checker) wants calls that the walls refuse */
}
