/* unsynced.h - a disk that remembers what a power cut could take: files written to, and folders whose names changed, since
 * their last sync.  Everything else is the real disk.  For tests that judge an order: at a promise, nothing may be left here. */
#ifndef TEST_UNSYNCED_H
#define TEST_UNSYNCED_H
#include "base/env.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNSYNCED_FDS 256
#define UNSYNCED_PATHS 256

static char unsynced_path_of[UNSYNCED_FDS][300];
static struct {
	char paths[UNSYNCED_PATHS][300]; /* empty: free */
	unsigned long calls; /* writes and syncs so far */
	/* called before each rename, with what it is about to do */
	void (*before_rename)(const char *from, const char *to);
} unsynced;

/* The first path with this text in it that is not synced; NULL: none. */
static const char *unsynced_any(const char *text)
{
	for (size_t i = 0; i < UNSYNCED_PATHS; i++)
		if (unsynced.paths[i][0] && strstr(unsynced.paths[i], text))
			return unsynced.paths[i];
	return NULL;
}

static void unsynced_note(const char *path)
{
	size_t at = 0;

	for (size_t i = 0; i < UNSYNCED_PATHS; i++)
		if (strcmp(unsynced.paths[i], path) == 0)
			return;
	while (at < UNSYNCED_PATHS && unsynced.paths[at][0])
		at++;
	if (at == UNSYNCED_PATHS)
		abort();
	snprintf(unsynced.paths[at], sizeof unsynced.paths[at], "%.299s", path);
}

static void unsynced_folder_of(const char *path)
{
	char folder[300];
	char *slash;

	snprintf(folder, sizeof folder, "%.299s", path);
	slash = strrchr(folder, '/');
	if (slash && slash != folder)
		*slash = '\0';
	unsynced_note(folder);
}

/* What was made there has gone from there: its old folder need not remember it. */
static void unsynced_left(const char *path)
{
	const char *slash = strrchr(path, '/');

	for (size_t i = 0; slash && i < UNSYNCED_PATHS; i++)
		if (strlen(unsynced.paths[i]) == (size_t)(slash - path) && strncmp(unsynced.paths[i], path, (size_t)(slash - path)) == 0)
			unsynced.paths[i][0] = '\0';
}

static void unsynced_done(const char *path)
{
	unsynced.calls++;
	for (size_t i = 0; i < UNSYNCED_PATHS; i++)
		if (strcmp(unsynced.paths[i], path) == 0)
			unsynced.paths[i][0] = '\0';
}

static int unsynced_open(void *arg, const char *path, int flags, mode_t mode)
{
	char whole[PATH_MAX];
	bool there = access(path, F_OK) == 0;
	int fd = env_real.disk.open(arg, path, flags, mode);

	if (fd >= UNSYNCED_FDS)
		abort();
	if (fd == -1)
		return -1;
	/* "spool/." is the spool */
	snprintf(unsynced_path_of[fd], sizeof unsynced_path_of[fd], "%.299s", there && realpath(path, whole) ? whole : path);
	if (!there)
		unsynced_folder_of(path);
	return fd;
}

static ssize_t unsynced_pwrite(void *arg, int fd, const void *from, size_t n, off_t at)
{
	unsynced.calls++;
	unsynced_note(unsynced_path_of[fd]);
	return env_real.disk.pwrite(arg, fd, from, n, at);
}

static int unsynced_fdatasync(void *arg, int fd)
{
	unsynced_done(unsynced_path_of[fd]);
	return env_real.disk.fdatasync(arg, fd);
}

static int unsynced_fsync(void *arg, int fd)
{
	unsynced_done(unsynced_path_of[fd]);
	return env_real.disk.fsync(arg, fd);
}

static int unsynced_rename(void *arg, const char *from, const char *to)
{
	if (unsynced.before_rename)
		unsynced.before_rename(from, to);
	unsynced_left(from);
	unsynced_folder_of(to);
	return env_real.disk.rename(arg, from, to);
}

static int unsynced_mkdir(void *arg, const char *path, mode_t mode)
{
	int r = env_real.disk.mkdir(arg, path, mode);

	if (r == 0)
		unsynced_folder_of(path);
	return r;
}

static struct env unsynced_env(void)
{
	struct env e = env_real;

	memset(&unsynced, 0, sizeof unsynced);
	e.disk.open = unsynced_open;
	e.disk.pwrite = unsynced_pwrite;
	e.disk.fdatasync = unsynced_fdatasync;
	e.disk.fsync = unsynced_fsync;
	e.disk.rename = unsynced_rename;
	e.disk.mkdir = unsynced_mkdir;
	return e;
}

#endif
