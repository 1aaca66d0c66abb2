/* sim.h - the whole system in one process, simulated: what its files share.
 *
 * The rooms of src/ are linked as they are.  Ours stand where they meet the machine:
 *   uv.c      the few calls of libuv that net/loop.c makes; time jumps to the next deadline
 *   net.c     the network: partial reads and writes, delays, resets; calls.c the rooms' socket calls (the linker's --wrap)
 *   disk.c    files behind env.disk that forget what was not synced; vfs.c the same for SQLite
 *   dns.c     libunbound's calls, answered (and lied to) from a table
 *   tls.c     the null engine in place of OpenSSL
 *   policy.c  the role `policy`, played: MTA-STS from a table
 *   pipe.c    channels between roles, with delays and the deaths of either end
 *   node.c    one Postrider: all its roles, started, crashed, started anew, reloaded; slow.c its spool; operator.c its operator
 *   client.c  clients with a script; hop.c next hops with a script; smtp.c what both need
 *   ledger.c  the oracle: what clients were told, what next hops took; laws.c what must hold
 *   plan.c    what happens, by seed; world.c the clock; main.c the command
 * One run is one process (main.c forks), so that globals are the world's and a run cannot colour the next.
 * Nothing here decides by an address, a real clock or real randomness: a seed gives the same run again, to the octet.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H
#include "base/buf.h"
#include "base/env.h"
#include "net/address.h"
#include "wire/role.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- world.c: dice, the clock, the trace ---- */

struct rng { uint64_t s; };
uint64_t rng_next(struct rng *);
uint64_t rng_below(struct rng *, uint64_t bound);
int64_t rng_span(struct rng *, int64_t least, int64_t most); /* both included */
bool rng_chance(struct rng *, unsigned permille);

/* Something that happens at a time; equal times in the order they were set.  Memory is the caller's or malloc's. */
struct happening { int64_t at; uint64_t seq; size_t place; void (*run)(void *arg); void *arg; };
void happen_at(struct happening *, int64_t at, void (*run)(void *arg), void *arg);
void happen_in(struct happening *, int64_t ms, void (*run)(void *arg), void *arg);
void happen_never(struct happening *);
void happen_once(int64_t ms, void (*run)(void *arg), void *arg); /* with memory of its own */
void world_run_until(int64_t at); /* ms */

enum fault {
#define FAULT(id, words) FAULT_##id,
#include "sim/faults.def"
	FAULT_END
};
extern const char *const fault_words[FAULT_END];

#define NODES_MAX 2
#define BREAKS_MAX 32
enum breakage { /* how the world is broken on purpose, so that a law must fail: negative controls */
	BREAK_NOTHING = 0, /* none */
#define BREAKAGE(id, name, law) BREAK_##id,
#include "sim/breakages.def"
	BREAK_END
};
struct breakage_of { const char *name, *law; };
extern const struct breakage_of breakages[BREAK_END];

struct world {
	uint64_t seed;
	int64_t now;             /* ms since the world began */
	uint64_t seq;
	struct happening **heap;
	size_t heap_n, heap_cap;
	struct rng plan, net, disk, peers; /* apart, so that one more roll here changes little there */
	bool trace;              /* print it */
	uint64_t hash;           /* of the whole trace */
	bool faults;             /* on: things go wrong */
	uint64_t faults_n[FAULT_END];
	uint64_t turns, mails, deliveries, reports;
	struct node *nodes[NODES_MAX], *running; /* running: whose loop is turned */
	unsigned nodes_n;
	enum breakage broken;
	char failure[512];       /* the first law that was broken, "" none */
};
extern struct world world;

/* One line of the trace: printed when asked for, always hashed. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void world_fault(enum fault);                 /* counts it */
void law_broken(const char *law, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void world_hash(const void *, size_t n);

/* ---- uv.c ---- */

struct loop;
/* Turns until nothing is left to do now.  False: it spins. */
bool loop_settle(struct loop *);
int64_t loop_wakes_at(struct loop *); /* -1: never */

/* ---- net.c ---- */

#define SIM_FD 1000000 /* descriptors of ours begin here */
struct sock;
struct sock_ops { /* of a script: called when octets, the end or the connection come */
	void (*opened)(void *arg);              /* of a dialled one */
	void (*data)(void *arg);                /* take them by sock_take */
	void (*ended)(void *arg, bool reset);   /* once */
};
int sock_listen(const char *address, struct node *); /* a descriptor for a node's role */
int sock_listen_path(const char *path, struct node *);
void sock_serve(const char *address, void (*accepted)(void *arg, struct sock *), void *arg); /* a script's */
struct sock *sock_dial(const char *from, const char *to, const struct sock_ops *, void *arg);
void sock_set_ops(struct sock *, const struct sock_ops *, void *arg);
struct view sock_peek(struct sock *);
void sock_take(struct sock *, size_t n);
void sock_put(struct sock *, const void *, size_t n);
void sock_shut(struct sock *);  /* no more from us, after what is under way */
void sock_close(struct sock *);
void sock_reset(struct sock *); /* both ends fail, what was under way may be lost */
bool sock_drained(const struct sock *); /* all that was put has arrived and was read */
uint64_t sock_number(const struct sock *);
unsigned fd_ready(int fd, unsigned want); /* LOOP_READ | LOOP_WRITE */
void net_kill(bool dead);       /* while a role is taken apart: it can say nothing any more */
void net_heal(void);            /* connections that live lose their bad luck */
void net_down(const char *address, bool down, bool silent); /* nobody listens there: refused, or no answer at all */
unsigned net_open_of(const struct node *);
struct part;
int log_fd(struct part *);
bool sock_wanted(const struct sock *); /* is the other end still open, as far as its own side knows? */
struct node *sock_other_node(const struct sock *);

/* ---- disk.c, vfs.c ---- */

struct disk;
struct disk *disk_new(struct node *);
void disk_env(struct disk *, enum role_kind, struct env_disk *);
void disk_mkdir(struct disk *, const char *path);
void disk_off(struct disk *, enum role_kind, bool); /* its calls fail and change nothing: the process is dead */
void disk_crash_after(struct disk *, enum role_kind, uint64_t calls); /* node_crash_role at that call; 0: never */
void disk_cut(struct disk *);        /* the power goes: what was not synced is lost, whole or in part */
void disk_faults(struct disk *, unsigned permille); /* calls that fail */
void disk_fill(struct disk *, bool full);
bool disk_each(struct disk *, const char *folder, void (*found)(void *arg, const char *path, struct view content), void *arg);
struct disk *disk_of_path(const char *path);
bool disk_is_dir(struct disk *, const char *path);
bool disk_exists(struct disk *, const char *path);
void vfs_register(void);

/* ---- dns.c ---- */

void dns_host(const char *name, const char *address);
void dns_mx(const char *domain, unsigned preference, const char *host);
void dns_lie(unsigned permille);
/* All of that domain is signed: who lies of it can only spoil answers. */
void dns_sign(const char *domain);
void dns_tlsa(const char *host, const char *identity); /* whose key its record 3 1 1 names */

/* ---- policy.c ---- */

void policy_enforce(const char *domain, const char *mx); /* mx: patterns, a line each */
extern const struct role_ops sim_policy_role;

/* ---- pipe.c ---- */

/* Joins two roles; ends[] as from channel_pair.  Frames take a while; either end can die. */
struct duct;
struct duct *duct_new(struct loop *, struct channel *ends[2], const char *what);
void duct_die(struct duct *, unsigned side); /* that side died: what it wrote and has not arrived may be lost */

/* ---- node.c ---- */

enum node_state { NODE_DOWN = 1, NODE_UP };
#define NODE_ROLES 7
struct part; /* one running role */
struct node {
	unsigned number;
	const char *name, *address;
	enum node_state state;
	bool stopping;                /* orderly */
	bool tls_required;            /* of its listener */
	unsigned deliveries;          /* the setting, the largest it ever had */
	struct conf *conf;
	struct env env;
	struct rng random;
	struct disk *disk;
	struct loop *loop;
	int64_t wall_offset, wall_forward; /* steps so far; those forward alone */
	struct part *parts[NODE_ROLES], *old; /* old: of an earlier generation, draining */
	uint32_t generation;
	int64_t relaxed_at;           /* a reload that owes no TLS to owed.test any more; 0: none */
	struct spool *spool;          /* of the running queue; for spool_step */
	bool spool_busy, disk_slow;
	struct happening crash, spool_done;
	int control, listeners[4];    /* super's descriptors: they outlive the roles */
	unsigned crashes;
};
struct node *node_new(unsigned number, const char *name, const char *address, const char *config);
void node_start(struct node *);
void node_crash_role(struct node *, enum role_kind); /* it starts again a little later, as super does */
void node_die_here(struct node *, enum role_kind);   /* the same from within a call of its own */
bool node_queue_died(struct node *);
void node_crash(struct node *, bool power);          /* all of them; power: the disk forgets */
void node_stop(struct node *);                       /* drained, then stopped: some seconds */
void node_reload(struct node *, const char *config);
void node_control(struct node *, const char *line);  /* an operator's command */
void node_step_clock(struct node *, int64_t ms);
bool node_quiet(struct node *);                      /* nothing queued but what is held */
struct spool *node_spool(struct node *);
void spool_wake_after(struct node *);
void node_log(struct part *, struct view octets);     /* a role's log comes here */
int64_t node_wall(const struct node *);

/* ---- plan.c ---- */

void plan_run(void);

#endif
