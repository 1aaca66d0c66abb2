/* disk.c - see disk.h. */
#include "disk.h"

#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define FDS 256
#define UNDOS 40000
#define NAME 300

enum undo_kind { UNDO_WRITE = 1, UNDO_MADE, UNDO_UNLINKED };
struct undo { enum undo_kind kind; char path[NAME]; off_t at; size_t n; unsigned char *old; };

static struct {
	char fd_path[FDS][NAME];
	struct undo undo[UNDOS];
	size_t n;
	long left;    /* calls until the cut; < 0: never */
	long calls;
	bool after;   /* the call that meets the cut still takes effect */
	bool dead;
	char grave[NAME];
	unsigned graves;
	uint32_t seed;
} disk = { .left = -1 };

static uint32_t roll(void)
{
	disk.seed = disk.seed * 1664525u + 1013904223u;
	return disk.seed >> 16;
}

/* True: the power is off, and this call has no effect. */
static bool off(void)
{
	if (disk.dead)
		return true;
	disk.calls++;
	if (disk.left > 0)
		disk.left--;
	else if (disk.left == 0) {
		disk.dead = true;
		return !disk.after;
	}
	return false;
}

static int done(int r)
{
	if (!disk.dead)
		return r;
	errno = EIO; /* whoever waited for this answer never gets it */
	return -1;
}

static void squeeze(void)
{
	size_t to = 0;

	for (size_t i = 0; i < disk.n; i++)
		if (disk.undo[i].kind)
			disk.undo[to++] = disk.undo[i];
	disk.n = to;
}

static struct undo *remember(enum undo_kind kind, const char *path)
{
	struct undo *u;

	if (disk.n == UNDOS)
		squeeze();
	assert_true(disk.n < UNDOS && strlen(path) < sizeof u->path);
	u = &disk.undo[disk.n++];
	u->at = 0;
	u->n = 0;
	u->old = NULL;
	u->kind = kind;
	memmove(u->path, path, strlen(path) + 1); /* may be one of ours */
	return u;
}

static void forget(struct undo *u)
{
	if (u->kind == UNDO_UNLINKED)
		unlink((char *)u->old);
	free(u->old);
	u->old = NULL;
	u->kind = 0;
}

static void parent(const char *path, char *to)
{
	char *slash;

	snprintf(to, NAME, "%s", path);
	slash = strrchr(to, '/');
	if (slash)
		*slash = '\0';
}

/* What stood where n bytes will be written. */
static void remember_bytes(const char *path, off_t at, size_t n)
{
	struct undo *u = remember(UNDO_WRITE, path);
	int in = open(path, O_RDONLY);

	u->at = at;
	u->n = n;
	u->old = calloc(1, n);
	assert_non_null(u->old);
	if (in != -1 && pread(in, u->old, n, at) == -1)
		memset(u->old, 0, n);
	if (in != -1)
		close(in);
}

static void synced_file(const char *path)
{
	for (size_t i = 0; i < disk.n; i++)
		if (disk.undo[i].kind == UNDO_WRITE && strcmp(disk.undo[i].path, path) == 0)
			forget(&disk.undo[i]);
}

static void synced_folder(const char *path)
{
	char dir[NAME];

	for (size_t i = 0; i < disk.n; i++)
		if (disk.undo[i].kind == UNDO_MADE || disk.undo[i].kind == UNDO_UNLINKED) {
			parent(disk.undo[i].path, dir);
			if (strcmp(dir, path) == 0)
				forget(&disk.undo[i]);
		}
}

static int bury(const char *path)
{
	struct undo *u;
	char to[NAME + 20];

	snprintf(to, sizeof to, "%s/%u", disk.grave, disk.graves++);
	if (rename(path, to) == -1)
		return -1;
	u = remember(UNDO_UNLINKED, path);
	u->old = (unsigned char *)strdup(to);
	return 0;
}

/* ---- the environment's calls ---- */

static int p_open(void *arg, const char *path, int flags, mode_t mode)
{
	bool there = access(path, F_OK) == 0;
	int fd;

	if (off()) {
		errno = EIO;
		return -1;
	}
	fd = env_real.disk.open(arg, path, flags, mode);
	if (fd == -1)
		return -1;
	assert_true(fd < FDS);
	snprintf(disk.fd_path[fd], sizeof disk.fd_path[fd], "%s", path);
	if (!there && (flags & O_CREAT))
		remember(UNDO_MADE, path);
	return fd;
}

static ssize_t p_pread(void *arg, int fd, void *to, size_t n, off_t at)
{
	if (off()) {
		errno = EIO;
		return -1;
	}
	return env_real.disk.pread(arg, fd, to, n, at);
}

static ssize_t p_pwrite(void *arg, int fd, const void *from, size_t n, off_t at)
{
	if (off()) {
		errno = EIO;
		return -1;
	}
	remember_bytes(disk.fd_path[fd], at, n);
	n = (size_t)env_real.disk.pwrite(arg, fd, from, n, at);
	return disk.dead ? done(0) : (ssize_t)n;
}

static int p_sync(void *arg, int fd)
{
	if (off()) {
		errno = EIO;
		return -1;
	}
	(void)arg;
	synced_file(disk.fd_path[fd]);
	synced_folder(disk.fd_path[fd]);
	return done(0);
}

static int p_unlink(void *arg, const char *path)
{
	(void)arg;
	if (off()) {
		errno = EIO;
		return -1;
	}
	return bury(path) == -1 ? -1 : done(0);
}

static int p_rename(void *arg, const char *from, const char *to)
{
	return off() ? -1 : done(env_real.disk.rename(arg, from, to));
}

static int p_mkdir(void *arg, const char *path, mode_t mode)
{
	return off() ? -1 : done(env_real.disk.mkdir(arg, path, mode));
}

static int p_list(void *arg, const char *path, int (*found)(void *, const char *), void *ctx)
{
	return off() ? -1 : env_real.disk.list(arg, path, found, ctx);
}

struct env disk_env(void)
{
	struct env env = env_real;

	env.disk.open = p_open;
	env.disk.pread = p_pread;
	env.disk.pwrite = p_pwrite;
	env.disk.fdatasync = p_sync;
	env.disk.fsync = p_sync;
	env.disk.unlink = p_unlink;
	env.disk.rename = p_rename;
	env.disk.mkdir = p_mkdir;
	env.disk.list = p_list;
	return env;
}

/* ---- SQLite's calls ---- */

/* Reads, locks and shared memory are SQLite's own affair: a power cut is felt at the next write. */
struct file {
	sqlite3_file base;
	char path[NAME];
	bool made;          /* a log of its own making: its first sync is its directory's, too (UNIXFILE_DIRSYNC) */
	sqlite3_file *real; /* behind this */
};

static sqlite3_vfs *unix_vfs, layer;

static sqlite3_file *real_of(sqlite3_file *f)
{
	return ((struct file *)f)->real;
}

static int v_close(sqlite3_file *f)
{
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int v_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
	return real_of(f)->pMethods->xRead(real_of(f), to, n, at);
}

static int v_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
	int rc;

	if (off())
		return SQLITE_IOERR_WRITE;
	remember_bytes(((struct file *)f)->path, at, (size_t)n);
	rc = real_of(f)->pMethods->xWrite(real_of(f), from, n, at);
	return disk.dead ? SQLITE_IOERR_WRITE : rc;
}

static int v_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	sqlite3_int64 was = 0;
	int rc;

	if (off())
		return SQLITE_IOERR_TRUNCATE;
	real_of(f)->pMethods->xFileSize(real_of(f), &was);
	if (was > size)
		remember_bytes(((struct file *)f)->path, size, (size_t)(was - size));
	rc = real_of(f)->pMethods->xTruncate(real_of(f), size);
	return disk.dead ? SQLITE_IOERR_TRUNCATE : rc;
}

static int v_sync(sqlite3_file *f, int flags)
{
	struct file *file = (struct file *)f;
	char dir[NAME];

	(void)flags;
	if (off())
		return SQLITE_IOERR_FSYNC;
	synced_file(file->path);
	if (file->made) {
		parent(file->path, dir);
		synced_folder(dir);
		file->made = false;
	}
	return disk.dead ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int v_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int v_lock(sqlite3_file *f, int how)
{
	return real_of(f)->pMethods->xLock(real_of(f), how);
}

static int v_unlock(sqlite3_file *f, int how)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), how);
}

static int v_reserved(sqlite3_file *f, int *out)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int v_control(sqlite3_file *f, int op, void *arg)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int v_sector(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int v_characteristics(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int v_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **to)
{
	return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, to);
}

static int v_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
	return real_of(f)->pMethods->xShmLock(real_of(f), at, n, flags);
}

static void v_shm_barrier(sqlite3_file *f)
{
	real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int v_shm_unmap(sqlite3_file *f, int remove)
{
	return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2, .xClose = v_close, .xRead = v_read, .xWrite = v_write, .xTruncate = v_truncate, .xSync = v_sync,
	.xFileSize = v_size, .xLock = v_lock, .xUnlock = v_unlock, .xCheckReservedLock = v_reserved,
	.xFileControl = v_control, .xSectorSize = v_sector, .xDeviceCharacteristics = v_characteristics,
	.xShmMap = v_shm_map, .xShmLock = v_shm_lock, .xShmBarrier = v_shm_barrier, .xShmUnmap = v_shm_unmap,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	struct file *file = (struct file *)f;
	bool there = name && access(name, F_OK) == 0;
	int rc;

	(void)v;
	memset(file, 0, sizeof *file);
	file->real = (sqlite3_file *)(file + 1);
	if (off())
		return SQLITE_CANTOPEN;
	rc = unix_vfs->xOpen(unix_vfs, name, file->real, flags, out);
	if (rc != SQLITE_OK)
		return rc;
	file->base.pMethods = &methods;
	assert_non_null(name); /* temporary tables stay in memory */
	snprintf(file->path, sizeof file->path, "%s", name);
	if (!there)
		remember(UNDO_MADE, name);
	file->made = !there && !(flags & SQLITE_OPEN_MAIN_DB);
	return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync_folder)
{
	char dir[NAME];

	(void)v;
	if (off())
		return SQLITE_IOERR_DELETE;
	if (bury(name) == -1)
		return errno == ENOENT ? SQLITE_IOERR_DELETE_NOENT : SQLITE_IOERR_DELETE;
	if (disk.dead)
		return SQLITE_IOERR_DELETE;
	parent(name, dir);
	if (sync_folder)
		synced_folder(dir);
	return SQLITE_OK;
}

void disk_install(void)
{
	unix_vfs = sqlite3_vfs_find(NULL);
	layer = *unix_vfs;
	layer.zName = "model";
	layer.pNext = NULL;
	layer.szOsFile = (int)sizeof(struct file) + unix_vfs->szOsFile;
	layer.xOpen = v_open;
	layer.xDelete = v_delete;
	assert_int_equal(sqlite3_vfs_register(&layer, 1), SQLITE_OK);
}

/* ---- the cut ---- */

void disk_begin(const char *grave, uint32_t seed)
{
	snprintf(disk.grave, sizeof disk.grave, "%s", grave);
	mkdir(disk.grave, 0700);
	disk.seed = seed;
	disk.left = -1;
	disk.calls = 0;
}

void disk_cut_at(long n, bool takes_effect)
{
	disk.left = n;
	disk.after = takes_effect;
}

bool disk_dead(void)
{
	return disk.dead;
}

long disk_calls(void)
{
	return disk.calls;
}

static void take_back(const struct undo *u, enum cut cut)
{
	int fd = open(u->path, O_WRONLY);

	for (size_t at = 0; fd != -1 && at < u->n;) {
		size_t n = SECTOR - ((size_t)u->at + at) % SECTOR;
		n = n > u->n - at ? u->n - at : n;
		if (cut == CUT_ALL || (cut == CUT_SOME && roll() % 2))
			assert_int_equal(pwrite(fd, u->old + at, n, u->at + (off_t)at), (ssize_t)n);
		at += n;
	}
	if (fd != -1)
		close(fd);
}

void disk_lose(enum cut cut)
{
	for (size_t i = disk.n; i-- > 0;) {
		struct undo *u = &disk.undo[i];
		if (u->kind == UNDO_WRITE)
			take_back(u, cut);
		else if (u->kind == UNDO_MADE && (cut == CUT_ALL || (cut == CUT_SOME && roll() % 2)))
			unlink(u->path);
		else if (u->kind == UNDO_UNLINKED && (cut == CUT_ALL || (cut == CUT_SOME && roll() % 2)))
			assert_int_equal(rename((char *)u->old, u->path), 0);
		if (u->kind)
			forget(u);
	}
	disk.n = 0;
	disk.dead = false;
	disk.left = -1;
}
