/* maildir.c - see maildir.h. */
#include "local/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Bytes converted and written at once: large enough to make system calls rare, small enough for the stack. */
#define MAILDIR_CHUNK (32 * 1024)

static int sync_directory(const struct env *env, const char *path, struct error *e)
{
	const struct env_disk *d = &env->disk;
	int fd = d->open(d->arg, path, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -1)
		return error_sys(e, errno, "open %s", path);
	if (d->fsync(d->arg, fd) == -1) {
		error_sys(e, errno, "sync %s", path);
		d->close(d->arg, fd);
		return -1;
	}
	d->close(d->arg, fd);
	return 0;
}

/* The folder above path; "." when there is none. */
static void parent_of(const char *path, char *to, size_t n)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		snprintf(to, n, ".");
	else if (slash == path)
		snprintf(to, n, "/");
	else
		snprintf(to, n, "%.*s", (int)(slash - path), path);
}

static int make_one(const struct env *env, const char *path, bool *made, struct error *e)
{
	const struct env_disk *d = &env->disk;

	if (d->mkdir(d->arg, path, 0700) == 0) {
		*made = true;
		return 0;
	}
	return errno == EEXIST ? 0 : error_sys(e, errno, "make %s", path);
}

int local_maildir_make(const struct env *env, const char *path, struct error *e)
{
	static const char *const parts[] = { "tmp", "new", "cur" };
	char name[PATH_MAX], parent[PATH_MAX], above[PATH_MAX];
	bool made = false, made_root = false, made_parent = false;

	parent_of(path, parent, sizeof parent);
	if (make_one(env, path, &made_root, e) == -1) {
		/* maildir:/mail/%{user}/Maildir: the user's folder may be missing too, but nothing above it */
		if (!e || e->sys != ENOENT || make_one(env, parent, &made_parent, e) == -1 || make_one(env, path, &made_root, e) == -1)
			return -1;
	}
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if ((size_t)snprintf(name, sizeof name, "%s/%s", path, parts[i]) >= sizeof name)
			return error_set(e, ERROR_INPUT, "path too long: %s", path);
		if (make_one(env, name, &made, e) == -1)
			return -1;
	}
	/* A name is durable once its folder is: children before the parent, so that no crash leaves a mailbox
	 * that lost the folders in it. */
	if (made && sync_directory(env, path, e) == -1)
		return -1;
	if (made_root && sync_directory(env, parent, e) == -1)
		return -1;
	parent_of(parent, above, sizeof above);
	return made_parent ? sync_directory(env, above, e) : 0;
}

static int write_all(const struct env *env, int fd, const char *p, size_t n, off_t *at, struct error *e)
{
	const struct env_disk *d = &env->disk;

	while (n) {
		ssize_t r = d->pwrite(d->arg, fd, p, n, *at);
		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return error_sys(e, errno, "write");
		if (r == 0)
			return error_set(e, ERROR_FULL, "write: nothing was taken");
		p += r;
		n -= (size_t)r;
		*at += r;
	}
	return 0;
}

/* CRLF to LF; a CR at the end of a chunk waits for the next one. */
static size_t to_lf(const char *from, size_t n, char *to, bool *cr)
{
	size_t w = 0;

	for (size_t i = 0; i < n; i++) {
		if (*cr && from[i] != '\n')
			to[w++] = '\r';
		*cr = from[i] == '\r';
		if (!*cr)
			to[w++] = from[i];
	}
	return w;
}

static int copy_body(const struct env *env, const struct maildir_source *s, int fd, off_t *at, struct error *e)
{
	const struct env_disk *d = &env->disk;
	char in[MAILDIR_CHUNK], out[MAILDIR_CHUNK + 1];
	bool cr = false;

	for (uint64_t done = 0; done < s->size;) {
		size_t want = s->size - done < sizeof in ? (size_t)(s->size - done) : sizeof in;
		const char *p = in;
		ssize_t got = (ssize_t)want;
		if (s->fd == -1)
			p = s->memory.p + done;
		else
			got = d->pread(d->arg, s->fd, in, want, (off_t)done);
		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == -1 ? error_sys(e, errno, "read the body") : error_set(e, ERROR_OURS, "the body is short");
		done += (uint64_t)got;
		size_t n = (size_t)got;
		if (!s->binary) {
			n = to_lf(p, n, out, &cr);
			p = out;
		}
		if (write_all(env, fd, p, n, at, e) == -1)
			return -1;
	}
	return cr ? write_all(env, fd, "\r", 1, at, e) : 0;
}

static int write_file(const struct env *env, const struct maildir_job *job, const char *tmp, struct error *e)
{
	const struct env_disk *d = &env->disk;
	int fd = d->open(d->arg, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600), r;
	off_t at = 0;

	if (fd == -1)
		return errno == ENOENT || errno == ENOTDIR ? error_set(e, ERROR_INPUT, "no mailbox at %s", job->path)
		                                            : error_sys(e, errno, "make %s", tmp);
	r = write_all(env, fd, job->header.p, job->header.n, &at, e);
	if (r == 0)
		r = copy_body(env, job->source, fd, &at, e);
	if (r == 0 && d->fsync(d->arg, fd) == -1)
		r = error_sys(e, errno, "sync %s", tmp);
	if (d->close(d->arg, fd) == -1 && r == 0)
		r = error_sys(e, errno, "close %s", tmp);
	if (r == -1)
		d->unlink(d->arg, tmp); /* it was never delivered */
	return r;
}

int local_maildir_deliver(const struct env *env, const struct maildir_job *job, struct error *e)
{
	const struct env_disk *d = &env->disk;
	char name[160], tmp[PATH_MAX], done[PATH_MAX], dir[PATH_MAX];
	int64_t now = env_wall_ms(env);

	/* time.random.host: the random part makes it unique across processes and threads */
	snprintf(name, sizeof name, "%lld.%03d_%016llx.%.64s", (long long)(now / 1000), (int)(now % 1000),
	         (unsigned long long)env_random_u64(env), job->host);
	if ((size_t)snprintf(tmp, sizeof tmp, "%s/tmp/%s", job->path, name) >= sizeof tmp ||
	    (size_t)snprintf(done, sizeof done, "%s/new/%s", job->path, name) >= sizeof done ||
	    (size_t)snprintf(dir, sizeof dir, "%s/new", job->path) >= sizeof dir)
		return error_set(e, ERROR_INPUT, "path too long: %s", job->path);
	if (local_maildir_make(env, job->path, e) == -1 || write_file(env, job, tmp, e) == -1)
		return -1;
	if (d->rename(d->arg, tmp, done) == -1) {
		error_sys(e, errno, "rename into %s", dir);
		d->unlink(d->arg, tmp);
		return -1;
	}
	if (sync_directory(env, dir, e) == -1) {
		/* It may be lost in a power cut and may be seen by a reader now: take it back, since it will be
		 * tried again.  If that fails too, a double is the lesser fault. */
		d->unlink(d->arg, done);
		return -1;
	}
	return 0;
}
