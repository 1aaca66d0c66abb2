/* boxes.c - tests of local/mailbox.c, local/maildir.c and local/pool.c: names, every failing disk call, threads. */
#include "base/buf.h"
#include "local/maildir.h"
#include "local/mailbox.h"
#include "local/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static int make_root(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/test_local_XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *under(const char *name)
{
	static char path[4][512];
	static unsigned at;

	at = (at + 1) % 4;
	snprintf(path[at], sizeof path[at], "%s/%s", root, name);
	return path[at];
}

/* ---- mailbox ---- */

static enum mailbox_kind find(const char *template, const char *user, bool make, struct mailbox *m)
{
	return local_mailbox_find(under(template), view_cstr(user), make, m);
}

static void test_names(void **state)
{
	struct mailbox m;
	char longest[66];

	(void)state;
	static const char *const bad[] = { "", ".", "..", ".hidden", "a/b", "/", "../x", "a\x01", "a\x7f", "a\nb" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(find("%{user}", bad[i], true, &m), MAILBOX_UNKNOWN);
	assert_int_equal(local_mailbox_find(under("%{user}"), view_of("a\0b", 3), true, &m), MAILBOX_UNKNOWN);
	memset(longest, 'a', sizeof longest);
	longest[65] = 0;
	assert_int_equal(find("%{user}", longest, true, &m), MAILBOX_UNKNOWN);
	assert_int_equal(find("%{user}", longest + 1, true, &m), MAILBOX_KNOWN);
}

static void test_found(void **state)
{
	struct mailbox m;

	(void)state;
	assert_int_equal(mkdir(under("Alice"), 0700), 0);
	assert_int_equal(mkdir(under("bob"), 0700), 0);
	assert_int_equal(close(open(under("file"), O_CREAT | O_WRONLY, 0600)), 0);
	assert_int_equal(find("%{user}", "Alice", false, &m), MAILBOX_KNOWN);
	assert_true(m.exists && m.uid == getuid());
	assert_string_equal(m.path, under("Alice"));
	assert_int_equal(find("%{user}", "alice", false, &m), MAILBOX_UNKNOWN); /* as written, or in lower case */
	assert_int_equal(find("%{user}", "BOB", false, &m), MAILBOX_KNOWN);
	assert_string_equal(m.path, under("bob"));
	assert_int_equal(find("%{user}", "file", false, &m), MAILBOX_UNKNOWN);
	assert_int_equal(find("%{user}", "nobody", false, &m), MAILBOX_UNKNOWN);
	assert_int_equal(find("%{user}", "Nobody", true, &m), MAILBOX_KNOWN);
	assert_false(m.exists);
	assert_int_equal(m.uid, getuid());
	assert_string_equal(m.path, under("nobody"));
	assert_int_equal(find("%{user}/%{user}", "bob", false, &m), MAILBOX_UNKNOWN);
}

/* A tree that is away bounces nobody; a user's folder that is not there is an unknown user, not a broken tree. */
static void test_away(void **state)
{
	struct mailbox m;

	(void)state;
	assert_int_equal(find("gone/%{user}", "bob", false, &m), MAILBOX_UNREADABLE);
	assert_int_equal(find("gone/%{user}", "bob", true, &m), MAILBOX_UNREADABLE);
	assert_int_equal(find("gone/fixed", "bob", false, &m), MAILBOX_UNREADABLE);
	assert_int_equal(find("fixed", "bob", true, &m), MAILBOX_KNOWN);
	assert_int_equal(find("%{user}/Maildir", "nobody", false, &m), MAILBOX_UNKNOWN);
	assert_int_equal(find("%{user}/Maildir", "postmaster", true, &m), MAILBOX_KNOWN);
	assert_int_equal(m.uid, getuid());
	assert_int_equal(find("m-%{user}/Maildir", "nobody", false, &m), MAILBOX_UNKNOWN);
	if (geteuid() != 0) {
		assert_int_equal(mkdir(under("closed"), 0), 0);
		assert_int_equal(find("closed/%{user}", "bob", false, &m), MAILBOX_UNREADABLE);
	}
}

/* ---- maildir, with a disk whose nth call fails ---- */

static long calls, fail_at;
static int fail_with;
static bool fail_unlink;

static bool faulty(void)
{
	if (++calls != fail_at)
		return false;
	errno = fail_with;
	return true;
}

static int f_open(void *a, const char *p, int fl, mode_t m) { return faulty() ? -1 : env_real.disk.open(a, p, fl, m); }
static ssize_t f_pread(void *a, int fd, void *to, size_t n, off_t at) { return faulty() ? -1 : env_real.disk.pread(a, fd, to, n, at); }
static ssize_t f_pwrite(void *a, int fd, const void *from, size_t n, off_t at)
{
	if (faulty()) { /* half of it, then no more; a signal comes once */
		if (fail_with == EINTR)
			return -1;
		fail_at = calls + 1;
		return n > 1 ? env_real.disk.pwrite(a, fd, from, n / 2, at) : -1;
	}
	if (calls == fail_at + 1 && fail_at) {
		errno = fail_with;
		return -1;
	}
	return env_real.disk.pwrite(a, fd, from, n, at);
}
static int f_fsync(void *a, int fd) { return faulty() ? -1 : env_real.disk.fsync(a, fd); }
static int f_rename(void *a, const char *x, const char *y) { return faulty() ? -1 : env_real.disk.rename(a, x, y); }
static int f_unlink(void *a, const char *p) { return fail_unlink ? (errno = EIO, -1) : env_real.disk.unlink(a, p); }
static int f_mkdir(void *a, const char *p, mode_t m) { return faulty() ? -1 : env_real.disk.mkdir(a, p, m); }
static int f_close(void *a, int fd)
{
	int r = env_real.disk.close(a, fd); /* a close that fails has closed */

	return faulty() ? -1 : r;
}

static struct env faulty_env(void)
{
	struct env e = env_real;

	e.disk.open = f_open;
	e.disk.pread = f_pread;
	e.disk.pwrite = f_pwrite;
	e.disk.fsync = f_fsync;
	e.disk.rename = f_rename;
	e.disk.unlink = f_unlink;
	e.disk.mkdir = f_mkdir;
	e.disk.close = f_close;
	return e;
}

/* How many files are in a folder; the last one's content goes to `content`. */
static unsigned files_in(const char *mailbox, const char *part, struct buf *content)
{
	char path[1200];
	unsigned n = 0;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof path, "%s/%s", mailbox, part);
	dir = opendir(path);
	while (dir && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		n++;
		if (!content)
			continue;
		snprintf(path, sizeof path, "%s/%s/%s", mailbox, part, d->d_name);
		int fd = open(path, O_RDONLY);
		buf_clear(content);
		assert_true(buf_reserve(content, 4 << 20));
		ssize_t got = read(fd, buf_tail(content), buf_room(content));
		assert_true(got >= 0);
		buf_commit(content, (size_t)got);
		close(fd);
	}
	if (dir)
		closedir(dir);
	return n;
}

static void test_every_fault(void **state)
{
	static const int errors[] = { EIO, ENOSPC, ENOMEM, EDQUOT, EMFILE, EINTR };
	static const enum error_class classes[] = { ERROR_OURS, ERROR_FULL, ERROR_AGAIN, ERROR_FULL, ERROR_AGAIN, ERROR_AGAIN };
	struct env env = faulty_env();
	const char body[] = "Subject: x\r\n\r\nhello\r\n", whole[] = "Return-Path: <>\nSubject: x\n\nhello\n";
	const struct maildir_source source = { .memory = view_of(body, sizeof body - 1), .fd = -1, .size = sizeof body - 1 };
	struct buf got;
	bool done = false;

	(void)state;
	buf_init(&got, &alloc_libc, 8 << 20);
	for (long n = 1; !done; n++)
		for (size_t k = 0; k < sizeof errors / sizeof *errors; k++) {
			char path[128];
			struct error e = { 0 };
			snprintf(path, sizeof path, "%s/box%ld_%zu", root, n, k);
			struct maildir_job job = { .path = path, .header = VIEW("Return-Path: <>\n"), .source = &source, .host = "mx" };
			calls = 0;
			fail_at = n;
			fail_with = errors[k];
			int r = local_maildir_deliver(&env, &job, &e);
			done = calls < n; /* the fault was never reached: all were tried */
			assert_int_equal(files_in(path, "tmp", NULL), 0);
			assert_int_equal(files_in(path, "new", &got), r == 0);
			if (r == 0)
				assert_true(view_eq(buf_view(&got), view_of(whole, sizeof whole - 1)));
			else
				assert_true(e.class == classes[k]);
			assert_true(done == (r == 0) || n > 4); /* what fails before anything is written is told */
			fail_at = 0; /* the next try goes through, whatever the first one left */
			if (r == -1)
				assert_int_equal(local_maildir_deliver(&env, &job, &e), 0);
			assert_int_equal(files_in(path, "new", NULL), 1);
			assert_int_equal(files_in(path, "cur", NULL), 0);
		}
	buf_free(&got);
}

static void deliver(const char *name, struct view body, bool binary, bool by_file, struct buf *got)
{
	struct maildir_source source = { .memory = body, .fd = -1, .size = body.n, .binary = binary };
	char path[256];
	struct error e = { 0 };

	snprintf(path, sizeof path, "%s/%s", root, name);
	struct maildir_job job = { .path = path, .header = VIEW(""), .source = &source, .host = "mx" };
	if (by_file) {
		source.fd = open(root, O_TMPFILE | O_RDWR, 0600);
		assert_int_equal(pwrite(source.fd, body.p, body.n, 0), (ssize_t)body.n);
		source.memory = VIEW("");
	}
	if (local_maildir_deliver(&env_real, &job, &e) == -1)
		fail_msg("%s", e.text);
	if (source.fd != -1)
		close(source.fd);
	assert_int_equal(files_in(path, "new", got), 1);
}

static void test_line_ends(void **state)
{
	static const struct { struct view in, out; } cases[] = {
		{ { "", 0 }, { "", 0 } },
		{ { "a\r\nb\r\n", 6 }, { "a\nb\n", 4 } },
		{ { "a\r\r\nb", 6 }, { "a\r\nb", 5 } },
		{ { "\r", 1 }, { "\r", 1 } },
		{ { "a\nb\rc\r", 6 }, { "a\nb\rc\r", 6 } },
		{ { "\xff\0\r\n", 4 }, { "\xff\0\n", 3 } },
	};
	struct buf got;

	(void)state;
	buf_init(&got, &alloc_libc, 8 << 20);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[32];
		snprintf(name, sizeof name, "ends%zu", i);
		deliver(name, cases[i].in, false, false, &got);
		assert_true(view_eq(buf_view(&got), cases[i].out));
		snprintf(name, sizeof name, "binary%zu", i);
		deliver(name, cases[i].in, true, true, &got);
		assert_true(view_eq(buf_view(&got), cases[i].in));
	}
	buf_free(&got);
}

/* CR and LF on both sides of every boundary of the chunks, from memory and from a file. */
static void test_big(void **state)
{
	enum { N = 3 * 32 * 1024 + 7 };
	struct buf got;
	char *in = malloc(N), *out = malloc(N);
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		size_t place = i % (32 * 1024);
		in[i] = place == 32 * 1024 - 1 ? '\r' : place == 0 && i ? '\n' : (char)('a' + i % 26);
	}
	for (size_t i = 0; i < N; i++)
		if (!(in[i] == '\r' && i + 1 < N && in[i + 1] == '\n'))
			out[n++] = in[i];
	buf_init(&got, &alloc_libc, 8 << 20);
	deliver("big1", view_of(in, N), false, false, &got);
	assert_true(view_eq(buf_view(&got), view_of(out, n)));
	deliver("big2", view_of(in, N), false, true, &got);
	assert_true(view_eq(buf_view(&got), view_of(out, n)));
	buf_free(&got);
	free(in);
	free(out);
}

/* One folder above may be missing, two may not: a tree that is away is not made anew beneath a mount point. */
static void test_make(void **state)
{
	struct error e = { 0 };
	struct stat st;

	(void)state;
	assert_int_equal(local_maildir_make(&env_real, under("u/Maildir"), &e), 0);
	assert_int_equal(stat(under("u/Maildir/new"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(local_maildir_make(&env_real, under("u/Maildir"), &e), 0);
	assert_int_equal(local_maildir_make(&env_real, under("x/y/Maildir"), &e), -1);
	assert_int_equal(stat(under("x"), &st), -1);
}

/* ---- pool ---- */

struct counted {
	struct pool_job job;
	atomic_uint *ran;
	unsigned done;
	pthread_t on;
};

static void run_counted(struct pool_job *job)
{
	struct counted *c = (struct counted *)job;

	c->on = pthread_self();
	usleep(50);
	atomic_fetch_add(c->ran, 1);
}

static unsigned all_done;

static void done_counted(struct pool_job *job)
{
	((struct counted *)job)->done++;
	all_done++;
}

static void test_pool(void **state)
{
	static struct counted jobs[500];

	(void)state;
	for (unsigned threads = 0; threads <= 20; threads += 4)
		for (int wait = 0; wait < 2; wait++) {
			struct loop *loop = loop_new(&env_real);
			struct pool *p = local_pool_new(loop, threads);
			atomic_uint ran = 0;

			assert_non_null(p);
			all_done = 0;
			for (size_t i = 0; i < 500; i++) {
				jobs[i] = (struct counted){ .job = { .run = run_counted, .done = done_counted }, .ran = &ran };
				local_pool_add(p, &jobs[i].job);
				assert_int_equal(jobs[i].done, 0); /* never from within */
			}
			while (wait && all_done < 500)
				loop_turn(loop, threads > 0);
			local_pool_free(p); /* waits for what runs, and tells what was not told */
			assert_int_equal(atomic_load(&ran), 500);
			for (size_t i = 0; i < 500; i++) {
				assert_int_equal(jobs[i].done, 1);
				assert_int_equal(pthread_equal(jobs[i].on, pthread_self()) != 0, threads == 0);
			}
			loop_turn(loop, false);
			loop_free(loop);
		}
	local_pool_free(NULL);
}

#define ON_DISK(f) cmocka_unit_test_setup_teardown(f, make_root, drop_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_DISK(test_names), ON_DISK(test_away), ON_DISK(test_found), ON_DISK(test_every_fault), ON_DISK(test_line_ends),
		ON_DISK(test_big), ON_DISK(test_make), cmocka_unit_test(test_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
