/* trace_nth.c - runs the daemon and strikes at the n-th system call of one of its processes: kills it there, kills all, or makes
 * the call fail.
 *
 *   trace_nth UID GID -- /path/to/postrider run -c FILE
 *
 * All processes are traced from their first instant (PTRACE_O_TRACEEXEC tells which role one is), but only the calls of the one
 * that is aimed at are stopped at.  Commands come on standard input, one a line, answers go to standard output:
 *
 *   go               starts it; what was aimed and armed before holds from its first call
 *   aim ROLE [K]     the process of this role that runs, or with K the K-th one that is ever started ("super" is a role too)
 *   only CALL ...    counts these calls alone; without words: all
 *   arm ACT N        from now on, at the N-th call: count | list | kill | killexit | killall | short | fail=ERRNO | stay=ERRNO
 *                    (stay: this one and all later ones); N 0 never strikes.  Answer: "armed", once all threads are watched
 *   disarm           answer: "calls N"
 *   end              SIGKILL to all; then the tool ends
 * and unasked: "started PID ROLE K", "hit N CALL FD", "at N CALL FD" (list), "gone PID ROLE STATUS"
 *
 * A call is counted where it is entered.  kill strikes there, so the call has no effect; killexit when it is over.  A failing
 * call is replaced by none (its number becomes -1) and its result written at the exit; close is let through first.  short
 * halves the count of a read or write.  x86_64 only: the registers are.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TASKS 512     /* threads of all processes of one daemon, with room for those that died during a run */
#define CALLS 512     /* numbers of system calls */
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

enum act { ACT_COUNT = 1, ACT_LIST, ACT_KILL, ACT_KILLEXIT, ACT_KILLALL, ACT_SHORT, ACT_FAIL, ACT_STAY };

struct task {
	pid_t tid, tgid; /* tid 0: free */
	bool inside;     /* between the entry and the exit of a call */
	bool fails;      /* its result is to be replaced at the exit */
	bool owed;       /* interrupted, and not stopped yet */
	bool lied;       /* an argument was changed for the kernel's eyes: the program must find it as it left it */
	unsigned long long rdi, rdx;
};

/* A process: what it was last executed as. */
struct process { pid_t tgid; char role[16]; unsigned instance; };

static struct task tasks[TASKS];
static struct process processes[TASKS];
static pid_t target;
static int gate = -1; /* the daemon waits behind it */
static char aimed_role[16];
static unsigned aimed_instance; /* 0: whatever runs */
static bool armed, announced = true, struck;
static enum act act;
static long want, count;
static int error_number;
static bool chosen[CALLS], all_calls = true;

static void say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/* ---- who is who ---- */

static struct task *task_of(pid_t tid)
{
	struct task *empty = NULL;
	char path[64], line[256];
	FILE *f;

	for (size_t i = 0; i < TASKS; i++) {
		if (tasks[i].tid == tid)
			return &tasks[i];
		if (!tasks[i].tid && !empty)
			empty = &tasks[i];
	}
	if (!empty)
		abort();
	*empty = (struct task){ .tid = tid, .tgid = tid };
	snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "Tgid:", 5) == 0)
			empty->tgid = (pid_t)strtol(line + 5, NULL, 10);
	if (f)
		fclose(f);
	return empty;
}

static struct process *process_of(pid_t tgid)
{
	struct process *empty = NULL;

	for (size_t i = 0; i < TASKS; i++) {
		if (processes[i].tgid == tgid)
			return &processes[i];
		if (!processes[i].tgid && !empty)
			empty = &processes[i];
	}
	if (!empty)
		abort();
	*empty = (struct process){ .tgid = tgid };
	return empty;
}

/* "postrider role NAME ...", or "postrider run": super.  Before its exec a child is what its parent was, and nobody's target. */
static void executed(pid_t tgid)
{
	static unsigned super_instances, instances[16];
	static char names[16][16];
	struct process *p = process_of(tgid);
	char path[64], line[512] = "";
	const char *first, *second;
	unsigned *n = &super_instances;
	ssize_t got;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)tgid);
	fd = open(path, O_RDONLY);
	got = fd == -1 ? 0 : read(fd, line, sizeof line - 2);
	if (fd != -1)
		close(fd);
	if (got <= 0)
		return;
	first = line + strlen(line) + 1;
	second = first + strlen(first) + 1;
	if (strcmp(first, "role") == 0) {
		size_t i = 0;
		while (i < 15 && names[i][0] && strcmp(names[i], second) != 0)
			i++;
		snprintf(names[i], sizeof names[i], "%.15s", second);
		n = &instances[i];
		snprintf(p->role, sizeof p->role, "%.15s", second);
	} else if (strcmp(first, "run") == 0) {
		snprintf(p->role, sizeof p->role, "super");
	} else {
		return;
	}
	p->instance = ++*n;
	say("started %d %s %u", (int)tgid, p->role, p->instance);
	if (strcmp(p->role, aimed_role) == 0 && aimed_instance == p->instance)
		target = tgid;
}

/* ---- striking ---- */

static bool watched(const struct task *t)
{
	return armed && t->tgid == target;
}

static void resume(struct task *t, int signum)
{
	ptrace(watched(t) ? PTRACE_SYSCALL : PTRACE_CONT, t->tid, NULL, (void *)(long)signum);
}

static void kill_all(void)
{
	for (int super = 1; super >= 0; super--) /* super first: it would start others anew */
		for (size_t i = 0; i < TASKS; i++)
			if (processes[i].tgid && (strcmp(processes[i].role, "super") == 0) == super)
				kill(processes[i].tgid, SIGKILL);
}

static const char *name_of(long nr, char *room, size_t n)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)nr);

	snprintf(room, n, "%s", name ? name : "unknown");
	free(name);
	return room;
}

static bool may_be_short(long nr)
{
	return nr == SYS_read || nr == SYS_write || nr == SYS_pread64 || nr == SYS_pwrite64 || nr == SYS_sendto || nr == SYS_recvfrom;
}

/* An eventfd, or a pipe of libuv's to itself, cannot fail but by a fault of ours, and libuv ends the process then: not counted
 * where calls are made to fail. */
static bool is_own_wake(const struct task *t, long nr, int fd)
{
	char path[64], where[64];
	ssize_t n;

	if (nr != SYS_read && nr != SYS_write && nr != SYS_close)
		return false;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)t->tgid, fd);
	n = readlink(path, where, sizeof where - 1);
	where[n > 0 ? n : 0] = '\0';
	return strstr(where, "eventfd") || strncmp(where, "pipe:", 5) == 0;
}

static void lie(struct task *t, const struct user_regs_struct *r)
{
	t->lied = true;
	t->rdi = r->rdi;
	t->rdx = r->rdx;
}

static void strike(struct task *t, struct user_regs_struct *r)
{
	switch (act) {
	case ACT_KILL:
		kill(t->tgid, SIGKILL);
		break;
	case ACT_KILLALL:
		kill_all();
		break;
	case ACT_SHORT:
		lie(t, r);
		r->rdx -= r->rdx / 2;
		ptrace(PTRACE_SETREGS, t->tid, NULL, r);
		break;
	case ACT_FAIL:
	case ACT_STAY:
		if (r->orig_rax == SYS_brk) { /* one that fails answers where the end was: as one that asks for it */
			lie(t, r);
			r->rdi = 0;
			ptrace(PTRACE_SETREGS, t->tid, NULL, r);
			break;
		}
		t->fails = true;
		if (r->orig_rax == SYS_close)
			break; /* a close that fails has closed */
		r->orig_rax = (unsigned long long)-1;
		ptrace(PTRACE_SETREGS, t->tid, NULL, r);
		break;
	case ACT_KILLEXIT: /* at its exit */
		t->fails = true;
		break;
	case ACT_COUNT:
	case ACT_LIST:
		break;
	}
}

static void entered(struct task *t)
{
	struct user_regs_struct r;
	char name[64];
	long nr;

	if (ptrace(PTRACE_GETREGS, t->tid, NULL, &r) == -1)
		return;
	nr = (long)r.orig_rax;
	if (nr < 0 || nr >= CALLS || (!all_calls && !chosen[nr]) || (act == ACT_SHORT && (!may_be_short(nr) || r.rdx < 2)))
		return;
	if ((act == ACT_FAIL || act == ACT_STAY || act == ACT_SHORT) && is_own_wake(t, nr, (int)r.rdi))
		return;
	count++;
	if (act == ACT_LIST)
		say("at %ld %s %d", count, name_of(nr, name, sizeof name), (int)r.rdi);
	if (!want || count < want || (count > want && act != ACT_STAY))
		return;
	if (!struck)
		say("hit %ld %s %d", count, name_of(nr, name, sizeof name), (int)r.rdi);
	struck = true;
	strike(t, &r);
}

static void left(struct task *t)
{
	struct user_regs_struct r;

	if (!t->fails && !t->lied)
		return;
	if (t->fails && act == ACT_KILLEXIT) {
		kill(t->tgid, SIGKILL);
		return;
	}
	if (ptrace(PTRACE_GETREGS, t->tid, NULL, &r) == -1)
		return;
	if (t->fails)
		r.rax = (unsigned long long)-(long long)error_number;
	if (t->lied) {
		r.rdi = t->rdi;
		r.rdx = t->rdx;
	}
	t->fails = t->lied = false;
	ptrace(PTRACE_SETREGS, t->tid, NULL, &r);
}

/* ---- stops ---- */

static void gone(pid_t tid, int status)
{
	struct task *t = task_of(tid);

	if (t->tgid == tid) {
		struct process *p = process_of(tid);
		say("gone %d %s %d", (int)tid, p->role[0] ? p->role : "-", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
		p->tgid = 0;
		if (target == tid)
			target = 0;
	}
	t->tid = 0;
}

static void stopped(pid_t tid, int status)
{
	struct task *t = task_of(tid);
	int signum = WSTOPSIG(status), event = status >> 16;

	t->owed = false;
	if (signum == (SIGTRAP | 0x80)) {
		struct __ptrace_syscall_info info;
		/* asked, not guessed: a thread may be watched first at an exit */
		if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof info, &info) > 0) {
			if (info.op == PTRACE_SYSCALL_INFO_ENTRY && watched(t))
				entered(t);
			else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
				left(t);
		}
		resume(t, 0);
		return;
	}
	if (event == PTRACE_EVENT_EXEC)
		executed(t->tgid);
	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
		unsigned long child = 0;
		if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &child) != -1)
			process_of((pid_t)child); /* kill_all must find it before its first stop */
	}
	if (event == PTRACE_EVENT_STOP && (signum == SIGSTOP || signum == SIGTSTP || signum == SIGTTIN || signum == SIGTTOU)) {
		ptrace(PTRACE_LISTEN, tid, NULL, NULL);
		return;
	}
	resume(t, event ? 0 : signum);
}

/* ---- commands ---- */

static void aim(const char *role, unsigned instance)
{
	snprintf(aimed_role, sizeof aimed_role, "%s", role);
	aimed_instance = instance;
	target = 0;
	for (size_t i = 0; i < TASKS; i++)
		if (processes[i].tgid && strcmp(processes[i].role, role) == 0 && (!instance || processes[i].instance == instance))
			target = processes[i].tgid; /* the last one: of two generations the newer stands behind */
}

static void choose(char *words)
{
	all_calls = true;
	memset(chosen, 0, sizeof chosen);
	for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		int nr = seccomp_syscall_resolve_name(w);
		all_calls = false;
		if (nr >= 0 && nr < CALLS)
			chosen[nr] = true;
	}
}

static int errno_of(const char *name)
{
	static const struct { const char *name; int number; } all[] = {
		{ "EIO", EIO }, { "ENOSPC", ENOSPC }, { "EDQUOT", EDQUOT }, { "EMFILE", EMFILE }, { "EINTR", EINTR }, { "ENOMEM", ENOMEM },
		{ "EAGAIN", EAGAIN }, { "ENOBUFS", ENOBUFS }, { "ECONNRESET", ECONNRESET }, { "EPERM", EPERM } };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strcmp(all[i].name, name) == 0)
			return all[i].number;
	return EIO;
}

static void arm(const char *what, long n)
{
	static const char *const names[] = { "", "count", "list", "kill", "killexit", "killall", "short" };

	act = ACT_COUNT;
	for (unsigned i = ACT_COUNT; i <= ACT_SHORT; i++)
		if (strcmp(names[i], what) == 0)
			act = (enum act)i;
	if (strncmp(what, "fail=", 5) == 0 || strncmp(what, "stay=", 5) == 0) {
		act = what[0] == 'f' ? ACT_FAIL : ACT_STAY;
		error_number = errno_of(what + 5);
	}
	want = n;
	count = 0;
	struck = false;
	armed = true;
	announced = false;
	for (size_t i = 0; i < TASKS; i++)
		if (tasks[i].tid && target && tasks[i].tgid == target) /* they run unwatched until they have stopped once */
			tasks[i].owed = ptrace(PTRACE_INTERRUPT, tasks[i].tid, NULL, NULL) == 0;
}

static void announce(void)
{
	for (size_t i = 0; i < TASKS; i++)
		if (tasks[i].tid && tasks[i].owed)
			return;
	announced = true;
	say("armed");
}

static bool command(char *line)
{
	char word[32] = "", name[32] = "";
	long n = 0;

	sscanf(line, "%31s %31s %ld", word, name, &n);
	if (strcmp(word, "aim") == 0) {
		aim(name, (unsigned)n);
	} else if (strcmp(word, "only") == 0) {
		choose(line + 4);
	} else if (strcmp(word, "go") == 0) {
		if (write(gate, "", 1) != 1)
			return false;
		close(gate);
	} else if (strcmp(word, "arm") == 0) {
		arm(name, n);
	} else if (strcmp(word, "disarm") == 0) {
		armed = false;
		say("calls %ld", count);
	} else {
		return false;
	}
	return true;
}

static bool commands(void)
{
	static char text[4096];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, text + have, sizeof text - 1 - have);
	char *end;

	if (n <= 0)
		return false;
	have += (size_t)n;
	text[have] = '\0';
	while ((end = strchr(text, '\n')) != NULL) {
		*end = '\0';
		if (!command(text))
			return false;
		have -= (size_t)(end + 1 - text);
		memmove(text, end + 1, have + 1);
	}
	return true;
}

/* ---- the run ---- */

static void start(char **argv)
{
	int ends[2];
	char c = 0;
	pid_t pid;

	if (pipe(ends) == -1 || (pid = fork()) == -1)
		exit(71);
	if (pid == 0) {
		close(ends[1]);
		if (read(ends[0], &c, 1) != 1)
			_exit(71);
		close(ends[0]);
		if (geteuid() == 0 && argv[1][0] != '-' &&
		    (setgroups(0, NULL) == -1 || setgid((gid_t)strtol(argv[2], NULL, 10)) == -1 || setuid((uid_t)strtol(argv[1], NULL, 10)) == -1))
			_exit(71);
		dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execv(argv[4], argv + 4);
		_exit(127);
	}
	close(ends[0]);
	gate = ends[1];
	fcntl(gate, F_SETFD, FD_CLOEXEC);
	process_of(pid);
	task_of(pid);
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS) == -1) {
		perror("trace_nth: ptrace");
		kill(pid, SIGKILL);
		exit(77); /* not permitted here */
	}
}

int main(int argc, char **argv)
{
	struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .events = POLLIN } };
	struct signalfd_siginfo info;
	sigset_t chld;
	pid_t pid;
	int status;

	if (argc < 5 || strcmp(argv[3], "--") != 0) {
		fprintf(stderr, "usage: trace_nth UID GID -- program arguments; see its first lines\n");
		return 64;
	}
	start(argv); /* before SIGCHLD is blocked: the daemon inherits what it is given */
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	fds[1].fd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	for (bool going = true;;) {
		while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
			if (WIFSTOPPED(status))
				stopped(pid, status);
			else
				gone(pid, status);
		}
		if (pid == -1 && errno == ECHILD) {
			if (!announced) /* the first call of all was struck while others had yet to stop: nobody is left to be watched */
				say("armed");
			return 0;
		}
		if (!announced)
			announce();
		if (poll(fds, going ? 2 : 1, -1) == -1 && errno != EINTR)
			return 71;
		if (going && (fds[0].revents & (POLLIN | POLLHUP)) && !commands()) {
			going = false;
			fds[0] = fds[1];
			kill_all();
		}
		while (read(fds[going ? 1 : 0].fd, &info, sizeof info) > 0)
			;
	}
}
