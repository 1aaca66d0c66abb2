/* env.c - the real machine behind env.h. */
#include "base/env.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static int64_t clock_ms(clockid_t id)
{
	struct timespec t;

	if (clock_gettime(id, &t) == -1)
		abort(); /* cannot happen with these ids, and no deadline could be kept without */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t real_wall(void *arg)
{
	(void)arg;
	return clock_ms(CLOCK_REALTIME);
}

static int64_t real_mono(void *arg)
{
	(void)arg;
	return clock_ms(CLOCK_MONOTONIC);
}

static void kernel_random(void *to, size_t n)
{
	unsigned char *p = to;

	while (n) {
		ssize_t r = getrandom(p, n, 0);
		if (r == -1) {
			if (errno == EINTR)
				continue;
			abort(); /* without randomness nothing safe can be done */
		}
		p += r;
		n -= (size_t)r;
	}
}

/* Ids and jitter want a few octets at a time: they come from a supply that one call fills for many.  Handed out octets are
 * wiped from it.  Nobody here forks without exec, so no two processes share one.  Keys come from the kernel directly. */
#define SUPPLY 512u
#define SUPPLY_LARGEST 16u

static void real_random(void *arg, void *to, size_t n)
{
	static _Thread_local unsigned char supply[SUPPLY];
	static _Thread_local size_t left;

	(void)arg;
	if (n > SUPPLY_LARGEST) {
		kernel_random(to, n);
		return;
	}
	if (left < n) {
		kernel_random(supply, SUPPLY);
		left = SUPPLY;
	}
	left -= n;
	memcpy(to, supply + left, n);
	memset(supply + left, 0, n);
}

static int real_open(void *arg, const char *path, int flags, mode_t mode)
{
	(void)arg;
	return open(path, flags | O_CLOEXEC, mode);
}

static int real_close(void *arg, int fd)
{
	(void)arg;
	return close(fd);
}

static ssize_t real_pread(void *arg, int fd, void *to, size_t n, off_t at)
{
	(void)arg;
	return pread(fd, to, n, at);
}

static ssize_t real_pwrite(void *arg, int fd, const void *from, size_t n, off_t at)
{
	(void)arg;
	return pwrite(fd, from, n, at);
}

static int real_fdatasync(void *arg, int fd)
{
	(void)arg;
	return fdatasync(fd);
}

static int real_fsync(void *arg, int fd)
{
	(void)arg;
	return fsync(fd);
}

static int real_ftruncate(void *arg, int fd, off_t size)
{
	(void)arg;
	return ftruncate(fd, size);
}

static int real_rename(void *arg, const char *from, const char *to)
{
	(void)arg;
	return rename(from, to);
}

static int real_unlink(void *arg, const char *path)
{
	(void)arg;
	return unlink(path);
}

static int real_mkdir(void *arg, const char *path, mode_t mode)
{
	(void)arg;
	return mkdir(path, mode);
}

static int real_list(void *arg, const char *path, int (*found)(void *ctx, const char *name), void *ctx)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int r = 0;

	(void)arg;
	if (!d)
		return -1;
	for (errno = 0; r == 0 && (e = readdir(d)) != NULL; errno = 0)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = found(ctx, e->d_name);
	if (r == 0 && errno != 0)
		r = -1;
	closedir(d);
	return r;
}

static int64_t real_size(void *arg, int fd)
{
	struct stat st;

	(void)arg;
	return fstat(fd, &st) == -1 ? -1 : (int64_t)st.st_size;
}

static int64_t real_free_bytes(void *arg, const char *path)
{
	struct statvfs v;

	(void)arg;
	if (statvfs(path, &v) == -1)
		return -1;
	return (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

const struct env env_real = {
	.wall_ms = real_wall,
	.mono_ms = real_mono,
	.random = real_random,
	.disk = {
		.open = real_open,
		.close = real_close,
		.pread = real_pread,
		.pwrite = real_pwrite,
		.fdatasync = real_fdatasync,
		.fsync = real_fsync,
		.ftruncate = real_ftruncate,
		.rename = real_rename,
		.unlink = real_unlink,
		.mkdir = real_mkdir,
		.list = real_list,
		.size = real_size,
		.free_bytes = real_free_bytes,
	},
};

uint64_t env_random_u64(const struct env *e)
{
	uint64_t v;

	e->random(e->arg, &v, sizeof v);
	return v;
}

uint64_t env_random_below(const struct env *e, uint64_t bound)
{
	assert(bound > 0);
	return env_random_u64(e) % bound;
}
