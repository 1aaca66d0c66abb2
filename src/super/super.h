/* super.h - inside the room that starts the others, joins them by channels, and starts them anew.
 *
 * super reads configuration, certificates and lists from disk, binds the sockets, and hands all of that over as
 * descriptors; from the network it parses nothing.  Its frames go to a child's `link` and come back on it.
 *
 *   super.c    start, ready line, signals, frames of children
 *   spawn.c    one child: its descriptors, handoff, counters
 *   topology.c which channels there are, and making them when both ends live
 *   listen.c   listening sockets, kept over a reload by address; the control socket
 *   reload.c   a new generation of receive, web, send, resolve; stop.c the orderly end
 *   child.c    the other side of spawn: what runs in the child; confine*.c its walls
 *   single.c   all roles in one process
 *   certificates.c  files of certificates: a changed pair is a reload, a broken one is refused, an end that nears is told
 */
#ifndef SUPER_SUPER_H
#define SUPER_SUPER_H
#include "base/buf.h"
#include "wire/role.h"
#include "wire/wire.h"

#include <sys/types.h>

#define SUPER_EXIT_USAGE 64    /* sysexits.h */
#define SUPER_EXIT_SOFTWARE 70
#define SUPER_EXIT_OSERR 71
#define SUPER_EXIT_NOUSER 67
#define SUPER_EXIT_CONFIG 78

/* Pauses before a crashed role is started again: doubling, back to the first after a minute of life. */
#define SUPER_RESTART_MIN_MS 100u
#define SUPER_RESTART_MAX_MS 30000u
#define SUPER_RESTART_CALM_MS 60000u
/* SIGTERM to the end: 10 s are promised; the last second is for SIGKILL and the corpses. */
#define SUPER_STOP_RECEIVE_MS 4000u
#define SUPER_STOP_QUEUE_MS 7000u
#define SUPER_STOP_ALL_MS 9000u
/* Mailbox owners served at once.  At the limit the worker that was started first is asked to go; those that are still
 * going come on top, up to the second number. */
#define SUPER_WORKERS_MAX 256
#define SUPER_WORKERS_HARD 288
/* Frames with descriptors that wait until a child reads: all channels of 256 loops to three peers, twice. */
#define SUPER_WAITING_MAX 2048
#define SUPER_WAITING_RETRY_MS 10

/* Descriptors of a child, fixed. */
enum child_fd { CHILD_FD_SUPER = 3, CHILD_FD_HANDOFF, CHILD_FD_COUNTERS, CHILD_FD_CONTROL, CHILD_FD_END };

enum child_state { CHILD_STARTING = 1, CHILD_RUNNING, CHILD_DRAINING, CHILD_WAITING /* for its restart */ };

struct waiting {                   /* a frame for which the channel had no room */
	struct waiting *next;
	uint32_t type;
	int fd;
	size_t n;
	char payload[];
};

struct child {
	struct child *next;
	struct super *super;
	enum role_kind kind;
	uint32_t generation;
	uid_t uid;                 /* WORKER */
	pid_t pid;                 /* 0: none now */
	enum child_state state;
	struct channel *link;
	int counters_fd;
	bool current;              /* of the newest generation: restarted when it dies */
	bool sandboxed;
	char notice[200];          /* its own words for `status` (NOTICE) */
	unsigned restarts, failures;
	uint64_t started;
	unsigned stop_asked;
	pid_t counted_by;          /* the `queue` that knows its counters */
	struct loop_timer timer;   /* restart */
	struct waiting *waiting;   /* in order */
	size_t waiting_count;
	struct loop_timer retry;
};

struct bound {                     /* one listening socket */
	struct bound *next;
	struct conf_address address;
	enum role_kind kind;       /* who accepts: receive or web */
	uint32_t listener, number; /* indexes in the current configuration: of its section, and of the address there */
	int fd;
	bool wanted;
};

/* Files of certificates are looked at so often; a change counts when it is as old as that, so that chain and key, which are put in
 * place one after the other, are read as a pair. */
#define SUPER_CERTIFICATES_MS 3000u
#define SUPER_EXPIRY_DAYS 14 /* from then on the end of a certificate is told each day: what renews it has failed more than once */

struct certificate;                /* certificates.c */

/* A channel that could not be made: between these two processes.  As many as all roles have with each other, over many loops. */
#define SUPER_OWED_MAX 256u
struct owed { pid_t a, b; uint32_t index; };

enum super_phase { SUPER_STARTING = 1, SUPER_SERVING, SUPER_STOPPING };

struct super {
	const char *path;          /* of the configuration */
	struct conf *conf;
	const struct env *env;
	struct events *events;
	struct loop *loop;
	struct child *children;
	struct bound *bound;
	int control_fd;
	char *control_path;
	uint32_t generation;
	enum super_phase phase;
	bool root, reloading;
	uint64_t stop_since;
	unsigned killed;
	int exit_status;
	uint64_t born;
	struct loop_signal on_hup, on_term, on_int, on_child, on_usr1;
	struct loop_timer stop_timer;
	struct certificate *certificates; /* one for each of conf */
	struct loop_timer certificate_timer;
	struct owed owed[SUPER_OWED_MAX];
	unsigned owed_n;
	struct loop_timer owed_timer;
	struct loop_later settle;  /* after a child's death or start: what is next? */
};

/* Runs until SIGTERM; returns the exit status. */
int super_run(const char *config_path);
int super_run_single(const char *config_path);
int super_child(int argc, char **argv); /* the subcommand `role`; not for people */

const struct role_ops *super_ops(enum role_kind);
const enum role_kind *super_kinds(const struct conf *, size_t *n); /* the roles that this configuration needs, in the order of their start */
int super_start_child(struct super *, struct child *, struct error *); /* spawns it and listens to it */
void super_start_later(struct child *, uint64_t pause_ms);             /* it could not be started, or ended */

/* spawn.c */
int spawn_child(struct super *, struct child *, struct error *);
struct child *child_add(struct super *, enum role_kind, uint32_t generation, bool current);
void child_forget(struct child *);
void child_drop_waiting(struct child *);
struct child *child_current(struct super *, enum role_kind); /* the newest of its kind */
bool child_send(struct child *, uint32_t type, const struct buf *payload, int fd); /* false: gone, or it does not read */

/* topology.c */
void topology_connect(struct child *);   /* it runs now: channels to all its peers that run */
void topology_stop(struct super *);      /* what is owed is owed no more */
void topology_counters(struct child *);  /* tell `queue` of its counters (or queue of everybody's) */
void topology_listeners(struct child *); /* hand the sockets to this `receive` or `web` */

/* listen.c */
int listen_bind_all(struct super *, const struct conf *, struct error *); /* binds what is new, marks what is wanted */
void listen_close_unwanted(struct super *);
int listen_control(struct super *, struct error *);

/* reload.c, stop.c */
void reload_begin(struct super *, struct error *);
void reload_step(struct super *);
void reload_certificates(struct super *); /* the same configuration, its files read anew */
void stop_begin(struct super *);
void stop_step(struct super *);

/* certificates.c */
int certificates_start(struct super *);
void certificates_stop(struct super *);
/* -1: a pair that worked until now does no more.  All pairs of conf are looked at. */
int certificates_try(struct super *, const struct conf *, struct error *);
void certificates_taken(struct super *); /* s->conf is new, and its files have been read */
struct json_t *certificates_json(struct super *);

/* control.c */
void control_answer(struct super *, struct child *from, struct view payload);

/* confine.c: the walls around a role; called in the child */
struct confine_result { bool landlock, seccomp; int landlock_abi; char missing[160]; };
int confine_user(const struct conf *, enum role_kind, uid_t worker, struct error *); /* as root: become PREFIX-ROLE */
int confine_nobody(struct error *); /* not as root: give up what capabilities we were started with */
int confine_super(struct error *);  /* as root: keep the capabilities that super needs, and no other */
/* looks: `local` as root, which asks about every mailbox and opens none */
int confine_role(const struct conf *, enum role_kind, bool looks, struct confine_result *, struct error *);
int confine_landlock(const struct conf *, enum role_kind, bool looks, struct confine_result *, struct error *);
/* The folder that holds all mailboxes of a template, "" when it has none; to has room for the template. */
void confine_mail_root(const char *template, char *to, size_t room);
bool confine_same_roots(const struct conf *, const struct conf *); /* does `local` reach the same folders under both? */
int confine_seccomp(enum role_kind, struct confine_result *, struct error *);
/* Every user that roles run as exists?  Says what to do when not. */
int confine_users_exist(const struct conf *, struct error *);
uid_t confine_uid_of(const struct conf *, enum role_kind, gid_t *gid);
/* Tries what must be impossible and logs what happened (POSTRIDER_SELFTEST). */
void confine_prove(const struct role *);

/* notify.c: systemd's sd_notify protocol over $NOTIFY_SOCKET; nothing happens without it */
void notify_service(const char *state);

#endif
