/* confine_seccomp.c - which system calls a role may make: lists of what is allowed; everything else is EPERM.
 *
 * EPERM and not a kill: a library that tries a nicety (reading a tuning file, say) goes on without it, and an attacker
 * gains nothing.  clone3 answers ENOSYS, so that the C library falls back to clone, whose flags can be looked at: threads
 * are made, processes are not.
 */
#include "super/super.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* memory, threads, time, events, and talking over descriptors that one was given */
static const int everybody[] = {
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
	SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(set_tid_address), SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(getrandom),
	SCMP_SYS(getrusage), SCMP_SYS(prlimit64), SCMP_SYS(getrlimit), SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(membarrier),
	SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup3), SCMP_SYS(lseek),
	SCMP_SYS(pread64), /* the handoff of a reload */
	SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(shutdown), SCMP_SYS(fstat),
	SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(eventfd2), SCMP_SYS(pipe2), SCMP_SYS(fcntl),
	SCMP_SYS(ioctl), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
};
static const int accepts[] = { SCMP_SYS(accept4), SCMP_SYS(accept) };
static const int dials[] = { SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(sendmmsg), SCMP_SYS(recvmmsg) };
static const int files[] = {
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(statfs),
	SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
	SCMP_SYS(getcwd), SCMP_SYS(getdents64), SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(pwritev2),
	SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range), SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(fadvise64),
	SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(mkdir), SCMP_SYS(mkdirat),
	SCMP_SYS(link), SCMP_SYS(linkat), SCMP_SYS(flock), SCMP_SYS(fchmod), SCMP_SYS(fchown), SCMP_SYS(utimensat), SCMP_SYS(umask),
	SCMP_SYS(copy_file_range), SCMP_SYS(sendfile), SCMP_SYS(msync), SCMP_SYS(rmdir),
};

static int allow(scmp_filter_ctx f, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
		if (r < 0 && r != -EDOM) /* EDOM: this machine has no such call */
			return r;
	}
	return 0;
}
#define ALLOW(f, list) allow(f, list, sizeof list / sizeof *list)

static int allow_sockets(scmp_filter_ctx f, const int *families, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
		if (r < 0)
			return r;
	}
	return 0;
}

static int allow_threads(scmp_filter_ctx f)
{
	int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

	return r < 0 ? r : seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

/* Memory that is run must have been loaded before; signals go to ourselves (abort does that). */
static int allow_within(scmp_filter_ctx f)
{
	int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	return r;
}

/* fstat() of the C library: newfstatat on a descriptor with an empty path, and nothing else of it */
static int allow_fstat(scmp_filter_ctx f)
{
	return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1, SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
}

static int fill(scmp_filter_ctx f, enum role_kind kind)
{
	static const int net[] = { AF_INET, AF_INET6, AF_UNIX, AF_NETLINK };
	int r = ALLOW(f, everybody);

	if (r == 0)
		r = allow_threads(f);
	if (r == 0)
		r = allow_within(f);
	if (r < 0)
		return r;
	switch (kind) {
	case ROLE_RECEIVE:
		r = ALLOW(f, accepts);
		return r < 0 ? r : allow_fstat(f);
	case ROLE_WEB: /* pairs of its own carry plaintext from TLS to libmicrohttpd and back */
		r = ALLOW(f, accepts);
		if (r == 0)
			r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
		return r < 0 ? r : allow_fstat(f);
	case ROLE_SEND: /* AF_UNIX: lmtp:/path */
		r = ALLOW(f, dials);
		r = r < 0 ? r : allow_sockets(f, net, 3);
		return r < 0 ? r : allow_fstat(f);
	case ROLE_POLICY: /* dials as resolve does, and has a database */
		r = ALLOW(f, dials);
		r = r < 0 ? r : allow_sockets(f, net, 2);
		return r < 0 ? r : ALLOW(f, files);
	case ROLE_RESOLVE:
		r = ALLOW(f, dials);
		r = r < 0 ? r : allow_sockets(f, net, 2);
		return r < 0 ? r : allow_fstat(f);
	case ROLE_QUEUE: /* the control socket is accepted from, nothing is dialled */
		r = ALLOW(f, accepts);
		return r < 0 ? r : ALLOW(f, files);
	case ROLE_LOCAL:
	case ROLE_WORKER: return ALLOW(f, files);
	default: return allow_fstat(f);
	}
}

int confine_seccomp(enum role_kind kind, struct confine_result *result, struct error *e)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!f)
		return error_set(e, ERROR_AGAIN, "no memory for a system call filter");
	r = fill(f, kind);
	if (r == 0)
		r = seccomp_load(f);
	seccomp_release(f);
	if (r == -EINVAL || r == -ENOSYS) {
		if (!result->missing[0])
			snprintf(result->missing, sizeof result->missing, "this kernel has no seccomp filters");
		return 0;
	}
	result->seccomp = r == 0;
	return r == 0 ? 0 : error_sys(e, -r, "load the system call filter");
}
