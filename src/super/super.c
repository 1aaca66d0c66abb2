/* super.c - `postrider run`: starts the roles, says ready, and looks after them until it is told to stop; see super.h. */
#include "super/super.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const enum role_kind kinds[] = { ROLE_KEYS, ROLE_RESOLVE, ROLE_POLICY, ROLE_LOCAL, ROLE_QUEUE, ROLE_SEND, ROLE_RECEIVE,
	ROLE_WEB }; /* the last one only where there is a section `web` */

const enum role_kind *super_kinds(const struct conf *conf, size_t *n)
{
	*n = sizeof kinds / sizeof *kinds - (conf->web_count == 0);
	return kinds;
}

const struct role_ops *super_ops(enum role_kind kind)
{
	switch (kind) {
	case ROLE_RECEIVE: return &receive_role;
	case ROLE_QUEUE: return &queue_role;
	case ROLE_SEND: return &send_role;
	case ROLE_RESOLVE: return &resolve_role;
	case ROLE_KEYS: return &keys_role;
	case ROLE_POLICY: return &policy_role;
	case ROLE_WEB: return &web_role;
	case ROLE_LOCAL:
	case ROLE_WORKER: return &local_role;
	case ROLE_SUPER: break;
	}
	return NULL;
}

static void settle_soon(struct super *s)
{
	loop_later(s->loop, &s->settle);
}

/* ---- frames of children ---- */

static void on_started(struct super *s, struct child *c, const struct wire_STARTED *m)
{
	if (c->state != CHILD_STARTING)
		return;
	c->state = CHILD_RUNNING;
	c->sandboxed = m->sandboxed;
	topology_connect(c);
	topology_counters(c);
	if ((c->kind == ROLE_RECEIVE || c->kind == ROLE_WEB) && s->phase == SUPER_SERVING)
		topology_listeners(c);
	settle_soon(s);
}

static void refuse_worker(struct child *local, uint32_t uid, const char *reason)
{
	struct wire_NO_WORKER m = { .uid = uid, .reason = view_cstr(reason) };
	struct buf b;

	buf_init(&b, &alloc_libc, 1024);
	if (wire_put_NO_WORKER(&b, &m))
		child_send(local, WIRE_NO_WORKER, &b, -1);
	buf_free(&b);
}

/* The users of roles own the queue and nothing else: a mailbox of theirs is a trap. */
static bool is_user_of_a_role(const struct super *s, uint32_t uid)
{
	gid_t gid;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (confine_uid_of(s->conf, kinds[i], &gid) == (uid_t)uid)
			return true;
	return false;
}

static const char *why_no_worker(const struct super *s, uint32_t uid)
{
	unsigned n = 0;

	for (const struct child *c = s->children; c; c = c->next)
		n += c->kind == ROLE_WORKER;
	if (uid == 0)
		return "nothing is delivered as root";
	if (!s->root || uid == UINT32_MAX)
		return "nobody else's mailbox can be written to without root";
	if (is_user_of_a_role(s, uid))
		return "the mailbox belongs to a user of Postrider itself";
	return n >= SUPER_WORKERS_HARD || s->phase != SUPER_SERVING ? "no worker can be started now" : NULL;
}

/* Children are put in front of the list: the last one was started first. */
static void make_room_for_worker(struct super *s)
{
	struct wire_DRAIN m = { .grace_ms = 0 };
	struct child *oldest = NULL;
	unsigned n = 0;
	struct buf b;

	for (struct child *c = s->children; c; c = c->next)
		if (c->kind == ROLE_WORKER && c->state == CHILD_RUNNING) {
			oldest = c;
			n++;
		}
	if (n < SUPER_WORKERS_MAX)
		return;
	oldest->state = CHILD_DRAINING;
	buf_init(&b, &alloc_libc, 64);
	if (wire_put_DRAIN(&b, &m))
		child_send(oldest, WIRE_DRAIN, &b, -1);
	buf_free(&b);
}

static void on_need_worker(struct super *s, struct child *local, uint32_t uid)
{
	const char *why = why_no_worker(s, uid);
	struct error e = { 0 };
	struct child *c;

	if (why) {
		refuse_worker(local, uid, why);
		return;
	}
	make_room_for_worker(s);
	c = child_add(s, ROLE_WORKER, s->generation, false);
	if (!c) {
		refuse_worker(local, uid, "no memory");
		return;
	}
	c->uid = (uid_t)uid;
	if (super_start_child(s, c, &e) == -1) {
		refuse_worker(local, uid, e.text);
		child_forget(c);
	}
}

/* Whoever breaks the rules of a channel is compromised or broken: what it had in its hands is due again, a new one serves.
 * One that starts has no channel yet: then the word is about a process that has died since. */
static void on_accused(struct super *s, struct child *by, const struct wire_ACCUSED *m)
{
	if (!wire_may_accuse(by->kind, (enum role_kind)m->role))
		return;
	for (struct child *c = s->children; c; c = c->next) {
		if (c->kind != (enum role_kind)m->role || c->generation != m->generation || c->pid <= 0 || c->state == CHILD_STARTING)
			continue;
		EMIT(s->events, ROLE_ACCUSED, F_STR("role_name", role_name(c->kind)), F_I64("pid", c->pid), F_U64("generation", c->generation),
		     F_STR("reason", role_name(by->kind)));
		kill(c->pid, SIGKILL);
	}
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct child *c = arg;
	struct super *s = c->super;
	struct wire_STARTED started;
	struct wire_NEED_WORKER need;
	struct wire_ACCUSED accused;
	struct wire_NOTICE notice;
	bool ok = wire_allowed(type, c->kind, ROLE_SUPER);

	(void)ch;
	if (fd != -1)
		close(fd); /* no child has a descriptor to give */
	if (ok && type == WIRE_STARTED && wire_read_STARTED(payload, &started) == 0)
		on_started(s, c, &started);
	else if (ok && type == WIRE_NEED_WORKER && wire_read_NEED_WORKER(payload, &need) == 0)
		on_need_worker(s, c, need.uid);
	else if (ok && type == WIRE_ACCUSED && wire_read_ACCUSED(payload, &accused) == 0)
		on_accused(s, c, &accused);
	else if (ok && type == WIRE_NOTICE && wire_read_NOTICE(payload, &notice) == 0)
		snprintf(c->notice, sizeof c->notice, "%.*s", VIEW_ARGS(view_slice(notice.text, 0, sizeof c->notice - 1)));
	else if (ok && type == WIRE_CONTROL)
		control_answer(s, c, payload);
	else if (!ok || type != WIRE_DRAINED) /* DRAINED is followed by the end of the process, and that is what counts */
		EMIT(s->events, FAULT, F_STR("where", role_name(c->kind)), F_STR("reason", "it sent super a frame that is none"));
}

static void on_closed(void *arg, struct channel *ch)
{
	struct child *c = arg;

	channel_free(ch);
	c->link = NULL; /* SIGCHLD follows */
}

static const struct channel_handler child_handler = { on_frame, on_closed, NULL };

int super_start_child(struct super *s, struct child *c, struct error *e)
{
	if (spawn_child(s, c, e) == -1)
		return -1;
	channel_set_handler(c->link, &child_handler, c);
	return 0;
}

/* ---- death and restart ---- */

static void restart(void *arg)
{
	struct child *c = arg;
	struct error e = { 0 };

	if (c->super->phase == SUPER_STOPPING)
		return;
	c->restarts++;
	c->generation = c->super->generation; /* it reads the configuration of today */
	if (super_start_child(c->super, c, &e) == -1) {
		EMIT(c->super->events, FAULT, F_STR("where", role_name(c->kind)), F_STR("reason", e.text));
		super_start_later(c, SUPER_RESTART_MAX_MS);
	}
}

void super_start_later(struct child *c, uint64_t pause_ms)
{
	c->state = CHILD_WAITING;
	loop_timer_init(&c->timer, c->super->loop, restart, c);
	loop_timer_set(&c->timer, loop_now(c->super->loop) + pause_ms);
}

static uint64_t restart_pause(struct child *c)
{
	uint64_t pause = SUPER_RESTART_MIN_MS;

	if (loop_now(c->super->loop) - c->started > SUPER_RESTART_CALM_MS)
		c->failures = 0;
	for (unsigned i = 0; i < c->failures && pause < SUPER_RESTART_MAX_MS; i++)
		pause *= 2;
	c->failures++;
	return pause > SUPER_RESTART_MAX_MS ? SUPER_RESTART_MAX_MS : pause;
}

static void on_death(struct super *s, struct child *c, int status)
{
	bool again = c->current && s->phase != SUPER_STOPPING && c->state != CHILD_DRAINING;
	bool starting = c->state == CHILD_STARTING, early = starting && s->phase == SUPER_STARTING;
	uint64_t pause = again && !early ? restart_pause(c) : 0;

	if (c->state != CHILD_DRAINING || WIFSIGNALED(status) || WEXITSTATUS(status) != 0)
		EMIT(s->events, ROLE_EXITED, F_STR("role_name", role_name(c->kind)), F_I64("pid", c->pid), F_U64("generation", c->generation),
		     F_I64("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0), F_I64("status", WIFEXITED(status) ? WEXITSTATUS(status) : 0),
		     F_U64("restart_ms", pause));
	c->pid = 0;
	if (c->link)
		channel_free(c->link);
	c->link = NULL;
	child_drop_waiting(c);
	if (early) { /* it said why; starting it again would only say so again */
		s->exit_status = WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : SUPER_EXIT_SOFTWARE;
		child_forget(c);
		stop_begin(s);
		return;
	}
	if (!again) {
		if (c->kind == ROLE_WORKER && starting && child_current(s, ROLE_LOCAL)) /* later, local sees its channel close */
			refuse_worker(child_current(s, ROLE_LOCAL), (uint32_t)c->uid, "the worker could not start");
		child_forget(c);
		return;
	}
	super_start_later(c, pause);
}

static void on_child_signal(void *arg, int signum)
{
	struct super *s = arg;
	int status;
	pid_t pid;

	(void)signum;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct child *c = s->children; c; c = c->next)
			if (c->pid == pid) {
				on_death(s, c, status);
				break;
			}
	settle_soon(s);
}

/* ---- what is next? ---- */

static bool all_running(struct super *s)
{
	size_t n;
	const enum role_kind *all = super_kinds(s->conf, &n);

	for (size_t i = 0; i < n; i++) {
		struct child *c = child_current(s, all[i]);
		if (!c || c->state != CHILD_RUNNING)
			return false;
	}
	return true;
}

static void say_ready(struct super *s)
{
	size_t n = 0;

	for (struct bound *b = s->bound; b; b = b->next)
		n++;
	s->phase = SUPER_SERVING;
	topology_listeners(child_current(s, ROLE_RECEIVE));
	if (s->conf->web_count)
		topology_listeners(child_current(s, ROLE_WEB));
	EMIT(s->events, READY, F_I64("pid", getpid()), F_U64("listeners", n), F_U64("seconds", (loop_now(s->loop) - s->born) / 1000));
	notify_service("READY=1");
}

static void on_settle(void *arg)
{
	struct super *s = arg;

	if (s->phase == SUPER_STARTING && all_running(s))
		say_ready(s);
	else if (s->phase == SUPER_SERVING)
		reload_step(s);
	else if (s->phase == SUPER_STOPPING)
		stop_step(s);
}

/* ---- signals ---- */

static void on_hangup(void *arg, int signum)
{
	(void)signum;
	reload_begin(arg, NULL);
}

static void on_terminate(void *arg, int signum)
{
	struct super *s = arg;

	EMIT(s->events, STOPPING, F_STR("reason", signum == SIGINT ? "SIGINT" : "SIGTERM"));
	stop_begin(s);
}

static void on_selftest(void *arg, int signum)
{
	struct super *s = arg;
	struct wire_SELFTEST m = { 0 };
	struct buf b;

	(void)signum;
	if (!getenv("POSTRIDER_SELFTEST"))
		return;
	buf_init(&b, &alloc_libc, 64);
	for (struct child *c = s->children; c; c = c->next)
		if (c->state == CHILD_RUNNING && wire_put_SELFTEST(&b, &m)) {
			child_send(c, WIRE_SELFTEST, &b, -1);
			buf_clear(&b);
		}
	buf_free(&b);
}

static int watch_signals(struct super *s, struct error *e)
{
	signal(SIGPIPE, SIG_IGN);
	if (loop_signal_start(&s->on_hup, s->loop, SIGHUP, on_hangup, s) == -1 ||
	    loop_signal_start(&s->on_term, s->loop, SIGTERM, on_terminate, s) == -1 ||
	    loop_signal_start(&s->on_int, s->loop, SIGINT, on_terminate, s) == -1 ||
	    loop_signal_start(&s->on_child, s->loop, SIGCHLD, on_child_signal, s) == -1 ||
	    loop_signal_start(&s->on_usr1, s->loop, SIGUSR1, on_selftest, s) == -1)
		return error_set(e, ERROR_OURS, "signals cannot be watched");
	return 0;
}

/* ---- start ---- */

/* A folder's name is durable once the folder above is synced, and a 250 rests on it.  One that was there is synced too, as
 * well as it goes: a start that was killed may have made it. */
static int make_folder(const char *path, mode_t mode, struct error *e)
{
	bool made = mkdir(path, mode) == 0;
	const char *slash = strrchr(path, '/');
	char above[4096];
	int fd, r;

	if (!made && errno != EEXIST)
		return error_sys(e, errno, "make %s", path);
	snprintf(above, sizeof above, "%.*s", slash && slash != path ? (int)(slash - path) : 1, slash ? path : ".");
	fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd == -1 ? -1 : fsync(fd);
	if (r == -1)
		error_sys(e, errno, "sync %s", above);
	if (fd != -1)
		close(fd);
	return made ? r : 0;
}

/* As root a role's folder belongs to the role's user; an ordinary user's is their own. */
static int make_folder_of(struct super *s, const char *path, enum role_kind kind, struct error *e)
{
	char folder[4096];
	gid_t gid;
	uid_t uid;

	if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
		return error_set(e, ERROR_INPUT, "%.100s...: the path is too long", path);
	for (char *p = folder + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
		*p = 0;
		if (make_folder(folder, 0755, e) == -1)
			return -1;
	}
	if (make_folder(path, 0700, e) == -1)
		return -1;
	if (!s->root)
		return 0;
	uid = confine_uid_of(s->conf, kind, &gid);
	return chown(path, uid, gid) == 0 ? 0 : error_sys(e, errno, "give %s to its user", path);
}

/* What policy keeps can be had again: without a folder it goes on in memory. */
static void make_policy_folder(struct super *s)
{
	struct error e = { 0 };

	if (make_folder_of(s, s->conf->global.policy_folder, ROLE_POLICY, &e) == -1)
		EMIT(s->events, FILE_PROBLEM, F_STR("role_name", "policy"), F_STR("reason", e.text));
}

static void raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r); /* children inherit it; what fails leaves fewer sessions, as status shows */
	}
}

/* The daemon was given no standard descriptors?  Then a socket would get number 2, and log lines would go to a client. */
static void fill_standard_descriptors(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDWR)) != -1 && fd <= 2)
		;
	if (fd > 2)
		close(fd);
}

/* A description of our own behind standard error: its O_NONBLOCK is then nobody else's, and a reader of the log who
 * sleeps stops nobody.  A socket cannot be opened anew; events.c needs nothing more of one. */
static void open_log(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd == -1)
		return;
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static int prepare(struct super *s, struct error *e)
{
	struct conf_warning warnings[16];
	size_t n;

	s->root = geteuid() == 0;
	if (s->root && confine_users_exist(s->conf, e) == -1)
		return SUPER_EXIT_NOUSER;
	n = conf_warnings(s->conf, warnings, sizeof warnings / sizeof *warnings);
	for (size_t i = 0; i < n && i < sizeof warnings / sizeof *warnings; i++)
		EMIT(s->events, CONFIG_WARNING, F_U64("line", warnings[i].line), F_STR("text", warnings[i].text));
	raise_limits();
	make_policy_folder(s);
	if (make_folder_of(s, s->conf->global.spool, ROLE_QUEUE, e) == -1 || listen_control(s, e) == -1 || listen_bind_all(s, s->conf, e) == -1)
		return e->class == ERROR_INPUT ? SUPER_EXIT_CONFIG : SUPER_EXIT_OSERR;
	if (s->root && confine_super(e) == -1)
		return SUPER_EXIT_OSERR;
	return watch_signals(s, e) == -1 ? SUPER_EXIT_OSERR : 0;
}

static int start_all(struct super *s, struct error *e)
{
	size_t n;
	const enum role_kind *all = super_kinds(s->conf, &n);

	for (size_t i = 0; i < n; i++) {
		struct child *c = child_add(s, all[i], s->generation, true);
		if (!c)
			return error_set(e, ERROR_AGAIN, "no memory");
		if (super_start_child(s, c, e) == -1)
			return -1;
	}
	return 0;
}

static void clean_up(struct super *s)
{
	struct loop_signal *signals[] = { &s->on_hup, &s->on_term, &s->on_int, &s->on_child, &s->on_usr1 };

	while (s->children) {
		if (s->children->pid > 0) {
			kill(s->children->pid, SIGKILL);
			waitpid(s->children->pid, NULL, 0);
		}
		child_forget(s->children);
	}
	for (struct bound *b = s->bound; b; b = b->next)
		b->wanted = false;
	listen_close_unwanted(s);
	if (s->control_fd != -1)
		close(s->control_fd);
	if (s->control_path) {
		unlink(s->control_path);
		free(s->control_path);
	}
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		loop_signal_stop(signals[i]); /* also those that were never started */
	if (s->stop_timer.loop)
		loop_timer_stop(&s->stop_timer);
	certificates_stop(s);
	topology_stop(s);
	loop_later_cancel(s->loop, &s->settle);
	loop_free(s->loop);
	events_free(s->events);
	conf_free(s->conf);
}

int super_run(const char *path)
{
	struct super s = { .path = path, .env = &env_real, .control_fd = -1, .generation = 1, .phase = SUPER_STARTING };
	struct error e = { 0 };
	int status;

	fill_standard_descriptors();
	/* The first process of a pid namespace (a container): when what started it is gone, nobody can reach it to stop it,
	 * and it would keep its ports for ever. */
	if (getpid() == 1)
		prctl(PR_SET_PDEATHSIG, SIGTERM);
	setenv("UV_USE_IO_URING", "0", 1); /* a ring made before the walls would let calls pass by them */
	if (conf_load(&s.conf, path, &e) == -1) {
		fprintf(stderr, "postrider: %s\n", e.text);
		return SUPER_EXIT_CONFIG;
	}
	open_log();
	s.loop = loop_new(s.env);
	s.events = events_new(s.env, "super", STDERR_FILENO, EVENT_INFO, NULL);
	if (!s.loop || !s.events) {
		fprintf(stderr, "postrider: no memory\n");
		return SUPER_EXIT_OSERR;
	}
	s.born = loop_now(s.loop);
	s.settle.run = on_settle;
	s.settle.arg = &s;
	status = prepare(&s, &e);
	if (status == 0 && start_all(&s, &e) == -1)
		status = SUPER_EXIT_OSERR;
	if (status == 0 && certificates_start(&s) == -1)
		status = error_set(&e, ERROR_AGAIN, "no memory") ? SUPER_EXIT_OSERR : 0;
	if (status != 0)
		fprintf(stderr, "postrider: %s\n", e.text);
	else {
		loop_run(s.loop);
		status = s.exit_status;
	}
	clean_up(&s);
	return status;
}
