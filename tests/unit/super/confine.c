/* The walls of each role, tried from inside a process of its own: what is refused, and that what the role needs still
 * works.  Each attempt is made once without walls as well, so that a refusal means the walls. */
#include "super/super.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is tried; the outcome of each is one octet of the report. */
enum attempt {
	TRY_OPEN = 1, TRY_CREATE, TRY_EXECVE, TRY_FORK, TRY_INET, TRY_INET6, TRY_UDP, TRY_UNIX, TRY_PAIR, TRY_RAW, TRY_NETLINK, TRY_ACCEPT, TRY_CONNECT,
	TRY_BIND, TRY_CODE, TRY_KILL, TRY_PTRACE, TRY_STAT, TRY_INSIDE, TRY_ESCAPE, TRY_LINK_OUT, TRY_THREAD, TRY_PIPE, TRY_SEND, TRY_PREAD,
	TRY_ADD_RULES, TRY_URING, TRY_NAMESPACE, TRY_END
};
static const char *const names[TRY_END] = { "", "open", "create", "execve", "fork", "inet", "inet6", "udp", "unix", "socketpair", "raw", "netlink", "accept",
	"connect", "bind", "code", "kill", "ptrace", "stat", "inside", "escape", "link out", "thread", "pipe", "send", "pread", "prctl dumpable",
	"io_uring", "namespace" };

static char folder[64], inside[80], outside[80];
static int listening, given[2];

static void *idle_thread(void *arg)
{
	return arg;
}

static long close_if(long fd)
{
	int err = errno;

	if (fd >= 0)
		close((int)fd);
	errno = err;
	return fd;
}

static long try_fork(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)SIGCHLD, NULL, NULL, NULL, 0ul);

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return pid;
}

static long try_create(const char *in)
{
	char path[120];

	snprintf(path, sizeof path, "%s/new-%d", in, (int)getpid());
	return close_if(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static long try_escape(const char *how)
{
	char from[120], to[120];

	snprintf(from, sizeof from, "%s/new-%d", inside, (int)getpid());
	snprintf(to, sizeof to, "%s/out-%d", outside, (int)getpid());
	return how[0] == 'l' ? link(from, to) : rename(from, to);
}

static long try_accept(void)
{
	long fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

	return fd == -1 && errno == EAGAIN ? 0 : close_if(fd);
}

/* On a descriptor that is no socket: allowed calls say ENOTSOCK. */
static long allowed_if(long rc, int err)
{
	return rc == -1 && errno == err ? 0 : rc;
}

static long attempt(enum attempt what)
{
	char nowhere[] = "/nonexistent", *argv[] = { nowhere, NULL }, *envp[] = { NULL }, octet;
	struct sockaddr sa = { .sa_family = AF_INET };
	struct stat st;
	pthread_t thread;
	int fds[2];
	void *p;

	switch (what) {
	case TRY_OPEN: return close_if(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
	case TRY_CREATE: return try_create(outside);
	case TRY_EXECVE: return allowed_if(execve(nowhere, argv, envp), ENOENT);
	case TRY_FORK: return try_fork();
	case TRY_INET: return close_if(socket(AF_INET, SOCK_STREAM, 0));
	case TRY_INET6: return allowed_if(close_if(socket(AF_INET6, SOCK_STREAM, 0)), EAFNOSUPPORT);
	case TRY_UDP: return close_if(socket(AF_INET, SOCK_DGRAM, 0));
	case TRY_UNIX: return close_if(socket(AF_UNIX, SOCK_STREAM, 0));
	case TRY_PAIR:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
			return -1;
		close(fds[0]);
		close(fds[1]);
		return 0;
	case TRY_RAW: return close_if(socket(AF_PACKET, SOCK_RAW, 0));
	case TRY_NETLINK: return close_if(socket(AF_NETLINK, SOCK_RAW, 0));
	case TRY_ACCEPT: return try_accept();
	case TRY_CONNECT: return allowed_if(connect(given[0], &sa, sizeof sa), EINVAL);
	case TRY_BIND: return allowed_if(bind(STDERR_FILENO, &sa, sizeof sa), ENOTSOCK);
	case TRY_CODE:
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		return p == MAP_FAILED ? -1 : 0;
	case TRY_KILL: return kill(getppid(), 0);
	case TRY_PTRACE: return allowed_if(syscall(SYS_ptrace, 0xffffL, 0L, 0L, 0L), ESRCH);
	case TRY_STAT: return stat("/etc/passwd", &st);
	case TRY_INSIDE: return try_create(inside);
	case TRY_ESCAPE: return try_escape("rename");
	case TRY_LINK_OUT: return try_escape("link");
	case TRY_THREAD: return pthread_create(&thread, NULL, idle_thread, NULL) == 0 ? pthread_join(thread, NULL) : -1;
	case TRY_PIPE:
		if (pipe2(fds, O_CLOEXEC) == -1)
			return -1;
		close(fds[0]);
		close(fds[1]);
		return 0;
	case TRY_SEND: return send(given[0], "x", 1, MSG_NOSIGNAL) == 1 && read(given[1], &octet, 1) == 1 ? 0 : -1;
	case TRY_PREAD: return allowed_if(pread(given[0], &octet, 1, 0), ESPIPE);
	case TRY_ADD_RULES: return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	case TRY_URING: return allowed_if(close_if(syscall(SYS_io_uring_setup, 1, NULL)), EFAULT);
	case TRY_NAMESPACE: return syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */);
	case TRY_END: break;
	}
	return -1;
}

static struct conf *configuration(void)
{
	struct conf *conf = NULL;
	struct error e = { 0 };
	char text[1000];

	snprintf(text, sizeof text,
	         "hostname = \"mx.sink.test\"\nspool = \"%s\"\npolicy_folder = \"%s\"\ncontrol = \"%s/control\"\nlistener \"mx\" { address = {\"127.0.0.1:2620\"} tls = none }\n"
	         "domain \"local.test\" { deliver = \"maildir:%s/%%{user}\" }\n", inside, inside, folder, inside);
	if (conf_parse(&conf, view_cstr(text), "test.conf", &e) == -1)
		fail_msg("%s", e.text);
	return conf;
}

/* In a process of its own; done[attempt]: 1 worked, 0 refused. */
static void try_all(enum role_kind kind, bool looks, bool walls, unsigned char done[TRY_END])
{
	struct conf *conf = configuration();
	struct confine_result r = { 0 };
	struct error e = { 0 };
	int report[2], status;
	pid_t pid;

	assert_int_equal(pipe(report), 0);
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		unsigned char out[TRY_END] = { 0 };
		if (confine_nobody(&e) == -1 || (walls && confine_role(conf, kind, looks, &r, &e) == -1)) {
			fprintf(stderr, "%s\n", e.text);
			_exit(1);
		}
		for (enum attempt a = TRY_OPEN; a < TRY_END; a++)
			out[a] = attempt(a) != -1;
		out[0] = walls ? r.landlock && r.seccomp : 1;
		_exit(write(report[1], out, sizeof out) == sizeof out ? 0 : 2);
	}
	close(report[1]);
	assert_int_equal(read(report[0], done, TRY_END), TRY_END);
	close(report[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	conf_free(conf);
}

static bool is_in(enum attempt a, const enum attempt *list)
{
	while (*list)
		if (*list++ == a)
			return true;
	return false;
}

/* `may` ends with 0; every role may also what all need. */
static void expect(enum role_kind kind, bool looks, const enum attempt *may)
{
	static const enum attempt all[] = { TRY_THREAD, TRY_PIPE, TRY_SEND, TRY_PREAD, 0 };
	unsigned char done[TRY_END];

	try_all(kind, looks, true, done);
	if (!done[0])
		skip(); /* this kernel lacks a part: status says so */
	for (enum attempt a = TRY_OPEN; a < TRY_END; a++) {
		bool wanted = is_in(a, all) || is_in(a, may);
		if (done[a] != wanted)
			fail_msg("%s: %s %s", role_name(kind), names[a], wanted ? "is needed, but refused" : "must be refused, but works");
	}
}

static void without_walls(void **state)
{
	static const enum attempt must[] = { TRY_OPEN, TRY_CREATE, TRY_EXECVE, TRY_FORK, TRY_INET, TRY_INET6, TRY_UDP, TRY_UNIX, TRY_PAIR, TRY_NETLINK, TRY_ACCEPT,
		TRY_CODE, TRY_KILL, TRY_STAT, TRY_INSIDE, TRY_ESCAPE, TRY_THREAD, TRY_PIPE, TRY_SEND, TRY_PREAD, TRY_ADD_RULES, 0 };
	unsigned char done[TRY_END];

	(void)state;
	try_all(ROLE_RECEIVE, false, false, done);
	for (size_t i = 0; must[i]; i++)
		if (!done[must[i]])
			fail_msg("%s does not work even without walls", names[must[i]]);
}

static void receive(void **state)
{
	(void)state;
	expect(ROLE_RECEIVE, false, (enum attempt[]){ TRY_ACCEPT, 0 });
}

static void keys(void **state)
{
	(void)state;
	expect(ROLE_KEYS, false, (enum attempt[]){ 0 });
}

static void queue(void **state)
{
	(void)state;
	expect(ROLE_QUEUE, false, (enum attempt[]){ TRY_ACCEPT, TRY_STAT, TRY_INSIDE, 0 });
}

static void send_role_walls(void **state)
{
	(void)state;
	expect(ROLE_SEND, false, (enum attempt[]){ TRY_INET, TRY_INET6, TRY_UDP, TRY_UNIX, TRY_CONNECT, TRY_BIND, 0 });
}

static void resolve(void **state)
{
	(void)state;
	expect(ROLE_RESOLVE, false, (enum attempt[]){ TRY_INET, TRY_INET6, TRY_UDP, TRY_CONNECT, TRY_BIND, 0 });
}

static void policy(void **state)
{
	(void)state;
	expect(ROLE_POLICY, false, (enum attempt[]){ TRY_INET, TRY_INET6, TRY_UDP, TRY_CONNECT, TRY_BIND, TRY_STAT, TRY_INSIDE, 0 });
}

static void web(void **state)
{
	(void)state;
	expect(ROLE_WEB, false, (enum attempt[]){ TRY_ACCEPT, TRY_PAIR, 0 });
}

static void local(void **state)
{
	(void)state;
	expect(ROLE_LOCAL, false, (enum attempt[]){ TRY_STAT, TRY_INSIDE, 0 });
	expect(ROLE_WORKER, false, (enum attempt[]){ TRY_STAT, TRY_INSIDE, 0 });
}

static void local_as_root_looks_and_opens_nothing(void **state)
{
	(void)state;
	expect(ROLE_LOCAL, true, (enum attempt[]){ TRY_STAT, 0 });
}

/* ---- folders of mailboxes ---- */

static void mail_roots(void **state)
{
	static const struct { const char *template, *root; } cases[] = {
		{ "/var/mail/%{user}", "/var/mail" },
		{ "/home/%{user}/Maildir", "/home" },
		{ "/srv/mail/box-%{user}", "/srv/mail" },
		{ "/srv/mail/postmaster", "/srv/mail" },
		{ "/%{user}", "/" },
		{ "/x", "/" },
		{ "none", "" },
		{ "", "" },
	};
	char root[100];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		confine_mail_root(cases[i].template, root, sizeof root);
		assert_string_equal(root, cases[i].root);
	}
}

static struct conf *with_domains(const char *domains)
{
	struct conf *conf = NULL;
	struct error e = { 0 };
	char text[1000];

	snprintf(text, sizeof text, "hostname = \"mx.sink.test\"\nspool = \"/s\"\ncontrol = \"/c\"\nlistener \"mx\" { address = {\"127.0.0.1:2620\"} tls = none }\n%s",
	         domains);
	if (conf_parse(&conf, view_cstr(text), "test.conf", &e) == -1)
		fail_msg("%s", e.text);
	return conf;
}

static void same_roots(void **state)
{
	struct conf *one = with_domains("domain \"a.test\" { deliver = \"maildir:/m/%{user}\" }\n");
	struct conf *again = with_domains("domain \"b.test\" { deliver = \"discard\" }\ndomain \"c.test\" { deliver = \"maildir:/m/x-%{user}\" }\n");
	struct conf *more = with_domains("domain \"a.test\" { deliver = \"maildir:/m/%{user}\" }\ndomain \"b.test\" { deliver = \"maildir:/n/%{user}\" }\n");
	struct conf *postmaster = with_domains("postmaster = \"maildir:/p/box\"\ndomain \"a.test\" { deliver = \"maildir:/m/%{user}\" }\n");

	(void)state;
	assert_true(confine_same_roots(one, one));
	assert_true(confine_same_roots(one, again));
	assert_false(confine_same_roots(one, more));
	assert_false(confine_same_roots(more, one));
	assert_false(confine_same_roots(one, postmaster));
	conf_free(one);
	conf_free(again);
	conf_free(more);
	conf_free(postmaster);
}

/* ---- the folder of the test ---- */

static int make(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	(void)state;
	snprintf(folder, sizeof folder, "/tmp/confine-test-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(inside, sizeof inside, "%s/inside", folder);
	snprintf(outside, sizeof outside, "%s/outside", folder);
	listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (mkdir(inside, 0700) == -1 || mkdir(outside, 0700) == -1 || listening == -1 || bind(listening, (struct sockaddr *)&sa, sizeof sa) == -1 ||
	    listen(listening, 1) == -1)
		return -1;
	return socketpair(AF_UNIX, SOCK_STREAM, 0, given);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int clean(void **state)
{
	(void)state;
	return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_walls), cmocka_unit_test(receive), cmocka_unit_test(keys), cmocka_unit_test(queue),
		cmocka_unit_test(send_role_walls), cmocka_unit_test(resolve), cmocka_unit_test(policy), cmocka_unit_test(web), cmocka_unit_test(local),
		cmocka_unit_test(local_as_root_looks_and_opens_nothing), cmocka_unit_test(mail_roots), cmocka_unit_test(same_roots),
	};

	return cmocka_run_group_tests(tests, make, clean);
}
