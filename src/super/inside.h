/* inside.h - what the files of src/super share: the house and its children.
 *
 *   super.c     begin, signals, end                    child_list.c  children, their frames, who is joined with whom
 *   bind.c      sockets and folders                    restart.c     a child ended
 *   users.c     who each role runs as                  reload.c      SIGHUP
 *   spawn.c     a role as a process                    stop.c        SIGTERM, in order
 *   single.c    a role inside this process             worker.c      processes under the uid of a mailbox
 *   notify.c    systemd                                status.c      what the control socket is told
 *   runner.h    the role's side of all that
 */
#ifndef SUPER_INSIDE_H
#define SUPER_INSIDE_H
#include "super/runner.h"
#include "super/super.h"
#include "wire/wire.h"

#include <sys/types.h>

/* Descriptors of a role's process at its start. */
enum child_fd { CHILD_FD_CHANNEL = 3, CHILD_FD_HANDOFF, CHILD_FD_COUNTERS, CHILD_FD_EXTRA, CHILD_FD_END };

/* A crashed role comes back after 100 ms, then twice that, ...: fast enough that a client does not see one crash, slow
 * enough that a role that cannot live does not eat the machine. */
#define RESTART_MIN_MS 100u
#define RESTART_MAX_MS 30000u
#define RESTART_STABLE_MS 10000u /* served so long: its next crash is a first one */
#define RESTART_FIRST_MAX 5u     /* before `ready`: so many attempts (3 s), then Postrider gives up and says why */

/* SIGTERM: everything is out within 10 s (the unit's and the promise); the last second is for SIGKILL. */
#define STOP_RECEIVE_GRACE_MS 2500u
#define STOP_RECEIVE_MS 3500u
#define STOP_QUEUE_GRACE_MS 2500u
#define STOP_QUEUE_MS 3500u
#define STOP_REST_MS 1500u

/* Processes for users' mailboxes at once; beyond it the oldest is asked to go. */
#define WORKERS_MAX 200u
#define WORKERS_HARD 240u      /* with those that are going */
#define WORKER_PAUSE_MS 1000u  /* one that crashed is not started again at once */

/* Frames with descriptors that wait for a child to read: more than all channels of two generations at 256 loops. */
#define CHILD_WAITING_MAX 4096u
#define CHILD_RETRY_MS 10u

enum child_state { CHILD_STARTING = 1, CHILD_SERVING, CHILD_DRAINING };

struct super;

struct waiting { /* a frame that the channel had no room for */
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
	enum child_state state;
	uint32_t generation;
	unsigned loops;
	pid_t pid;                /* 0: inside this process */
	struct runner *runner;    /* inside this process; NULL: a process */
	uid_t uid;
	struct channel *channel;  /* NULL: closed */
	struct waiting *first, **last;
	size_t waiting_count;
	struct loop_timer retry;
	uint64_t since;           /* ms, monotonic */
	uint8_t sandbox;          /* enum confine_bit */
	bool killed;              /* by us */
	bool retired;             /* its successor is started; it ends when nobody needs it any more */
	struct child *broker;     /* worker: the `local` that asked for it; NULL: gone */
};

struct place { /* of a role in the house */
	struct child *now;        /* NULL: to be started again */
	uint32_t generation;      /* the last one given */
	unsigned restarts, failures;
	struct loop_timer again;
	struct super *super;
	enum role_kind kind;
};

struct bound { /* a listening socket; lives as long as the configuration names its address */
	struct sockaddr_storage sa;
	socklen_t len;
	int fd;
	bool fresh, wanted; /* during a reload */
};

struct role_user {
	uid_t uid;
	gid_t gid;
};

struct recent_crash { uint32_t uid; uint64_t at; };

enum stop_phase { STOP_NOT = 1, STOP_RECEIVE, STOP_QUEUE, STOP_REST, STOP_KILL };

struct super {
	struct super_options o;
	struct conf *conf;
	char *path;                /* absolute */
	struct loop *loop;
	struct events *events;
	uint64_t *counters[ROLE_WORKER + 1]; /* shared with the role's processes; each process only adds */
	int counters_fd[ROLE_WORKER + 1];
	int log_fd, control_fd;
	dev_t control_dev;
	ino_t control_ino;
	struct bound *bound;
	size_t bound_count;
	bool root, selftest, ready;
	struct role_user users[ROLE_WORKER + 1];
	struct place places[ROLE_WORKER + 1];
	struct child *children;
	struct loop_signal signals[5];
	unsigned signal_count;
	uint64_t begun;
	uint32_t generation;       /* of the configuration */
	uint8_t selftest_round;
	enum stop_phase stop;
	struct loop_timer stop_timer;
	struct recent_crash crashes[16];
	unsigned crash_next;
	int status;                /* what super_run returns */
};

/* child_list.c */
struct child *child_new(struct super *, enum role_kind);
void child_watch(struct child *, struct channel *); /* takes the channel over */
void child_give(struct child *, uint32_t type, struct view payload, int fd); /* fd stays the caller's */
void child_free(struct child *);
void child_kill(struct child *);                    /* now */
void child_drain(struct child *, uint32_t grace_ms);
void child_join(struct child *);                    /* channels to all that it may talk to; listeners; counters */
bool child_is_current(const struct child *);
size_t child_count(const struct super *, enum role_kind);
/* A child's end, whatever the reason.  status as of waitpid; inside: the runner's status << 8. */
void child_gone(struct child *, int status);
void child_retire_old(struct super *);              /* what is not needed any more is asked to go */

/* spawn.c, single.c */
struct child *super_spawn(struct super *, enum role_kind, uid_t worker_uid, gid_t worker_gid, struct error *);
int spawn_process(struct child *, struct handoff *, gid_t gid, struct error *);
int spawn_inside(struct child *, struct handoff *, struct error *);
int spawn_reap(struct super *); /* SIGCHLD */

/* bind.c */
int bind_folders(struct super *, struct error *);
int bind_listeners(struct super *, const struct conf *, struct error *); /* additional ones are marked fresh */
void bind_undo(struct super *);                     /* closes fresh ones */
void bind_settle(struct super *);                   /* closes those no longer wanted */
int bind_find(const struct super *, const struct conf_address *);
int bind_control(struct super *, struct error *);
void bind_close(struct super *);

/* users.c */
int users_find(struct super *, struct error *);
bool users_is_role(const struct super *, uid_t);

/* restart.c, reload.c, stop.c, worker.c, status.c, notify.c */
void restart_init(struct super *);
void restart_after(struct super *, enum role_kind, bool served_long, int status);
void restart_cancel(struct super *);
int reload_now(struct super *, struct error *);
void stop_begin(struct super *, int status);
void stop_go_on(struct super *);
void worker_wanted(struct child *local, uint32_t uid);
void worker_gone(struct child *worker, bool crashed);
char *status_json(const struct super *);            /* malloc; NULL: memory */
const char *sandbox_text(uint8_t bits, char to[64]);
void notify_systemd(const char *what);

#endif
