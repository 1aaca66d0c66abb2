/* vfs.c - SQLite on the model disk: the default VFS of the simulator's process, so that src/spool/sqlite.c opens it.
 *
 * As the unix VFS: a new -wal file syncs its folder with its first sync, a sector is not harmed by a write beside it, shared
 * memory and locks live as long as somebody has the file open.  Both connections of a spool are in one thread, so a lock
 * is a count.
 */
#include "sim/disk.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define SHM_LOCKS SQLITE_SHM_NLOCK
#define SHM_REGIONS 64

struct shared {
	unsigned readers, reserved, exclusive, mapped;
	void *region[SHM_REGIONS];
	int shm_shared[SHM_LOCKS];
	const void *shm_exclusive[SHM_LOCKS];
};

struct vfile {
	sqlite3_file base;
	struct disk *disk;
	struct file *file;
	int level;
	bool fresh, temporary, mapped;
	unsigned has_shared, has_exclusive; /* bits of shm locks */
};

static struct vfile *of(sqlite3_file *f)
{
	return (struct vfile *)f;
}

static struct shared *shared_of(struct vfile *v)
{
	if (!v->file->shared) {
		v->file->shared = calloc(1, sizeof *v->file->shared);
		if (!v->file->shared)
			abort();
	}
	return v->file->shared;
}

static bool call(struct vfile *v, const char *what, bool writes)
{
	return v->temporary || disk_call(v->disk, USER_QUEUE, what, v->file->path, writes);
}

/* ---- content ---- */

static int v_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
	struct vfile *v = of(f);
	size_t got;

	if (!call(v, "read", false))
		return SQLITE_IOERR_READ;
	got = disk_read(v->file, to, (size_t)n, (size_t)at);
	if (got == (size_t)n)
		return SQLITE_OK;
	memset((char *)to + got, 0, (size_t)n - got);
	return SQLITE_IOERR_SHORT_READ;
}

static int v_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
	struct vfile *v = of(f);

	if (!call(v, "write", true))
		return errno == ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
	return disk_write(v->file, from, (size_t)n, (size_t)at) ? SQLITE_OK : SQLITE_FULL;
}

static int v_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	struct vfile *v = of(f);

	if (!call(v, "truncate", true))
		return SQLITE_IOERR_TRUNCATE;
	disk_truncate(v->file, (size_t)n);
	return SQLITE_OK;
}

static int v_sync(sqlite3_file *f, int flags)
{
	struct vfile *v = of(f);
	char folder[200];

	(void)flags;
	if (!call(v, "sync", true))
		return SQLITE_IOERR_FSYNC;
	if (v->temporary)
		return SQLITE_OK;
	if (world.broken != BREAK_NO_SYNC)
		disk_sync(v->file);
	if (v->fresh) {
		v->fresh = false;
		disk_folder_of(v->file->path, folder);
		disk_sync_names(v->disk, folder);
	}
	return SQLITE_OK;
}

static int v_size(sqlite3_file *f, sqlite3_int64 *n)
{
	*n = (sqlite3_int64)of(f)->file->n;
	return SQLITE_OK;
}

/* ---- locks of the file ---- */

static int v_unlock(sqlite3_file *f, int level)
{
	struct vfile *v = of(f);
	struct shared *s = shared_of(v);

	if (v->level > SQLITE_LOCK_SHARED && level <= SQLITE_LOCK_SHARED) {
		s->reserved = 0;
		s->exclusive = 0;
		v->level = SQLITE_LOCK_SHARED;
	}
	if (v->level == SQLITE_LOCK_SHARED && level == SQLITE_LOCK_NONE) {
		s->readers--;
		v->level = SQLITE_LOCK_NONE;
	}
	return SQLITE_OK;
}

static int v_lock(sqlite3_file *f, int level)
{
	struct vfile *v = of(f);
	struct shared *s = shared_of(v);

	if (level <= v->level)
		return SQLITE_OK;
	if (v->level == SQLITE_LOCK_NONE) {
		if (s->exclusive)
			return SQLITE_BUSY;
		s->readers++;
		v->level = SQLITE_LOCK_SHARED;
	}
	if (level > SQLITE_LOCK_SHARED) {
		if (v->level == SQLITE_LOCK_SHARED && s->reserved)
			return SQLITE_BUSY;
		s->reserved = 1;
		v->level = SQLITE_LOCK_RESERVED;
	}
	if (level == SQLITE_LOCK_EXCLUSIVE) {
		if (s->readers > 1)
			return SQLITE_BUSY;
		s->exclusive = 1;
		v->level = SQLITE_LOCK_EXCLUSIVE;
	}
	return SQLITE_OK;
}

static int v_reserved(sqlite3_file *f, int *is)
{
	*is = shared_of(of(f))->reserved != 0;
	return SQLITE_OK;
}

static int v_control(sqlite3_file *f, int op, void *arg)
{
	(void)f;
	(void)op;
	(void)arg;
	return SQLITE_NOTFOUND;
}

static int v_sector(sqlite3_file *f)
{
	(void)f;
	return SECTOR;
}

static int v_character(sqlite3_file *f)
{
	(void)f;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* ---- shared memory ---- */

static int v_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **to)
{
	struct vfile *v = of(f);
	struct shared *s = shared_of(v);

	*to = NULL;
	if (region >= SHM_REGIONS)
		return SQLITE_IOERR_NOMEM;
	if (!v->mapped) {
		v->mapped = true;
		s->mapped++;
	}
	if (!s->region[region] && extend && !(s->region[region] = calloc(1, (size_t)size)))
		return SQLITE_IOERR_NOMEM;
	*to = s->region[region];
	return SQLITE_OK;
}

static int v_shm_lock(sqlite3_file *f, int first, int n, int flags)
{
	struct vfile *v = of(f);
	struct shared *s = shared_of(v);
	unsigned bits = ((1u << n) - 1) << first;

	for (int i = first; i < first + n && (flags & SQLITE_SHM_LOCK); i++) {
		int others = s->shm_shared[i] - (v->has_shared >> i & 1);
		if (s->shm_exclusive[i] && s->shm_exclusive[i] != v)
			return SQLITE_BUSY;
		if ((flags & SQLITE_SHM_EXCLUSIVE) && others > 0)
			return SQLITE_BUSY;
	}
	for (int i = first; i < first + n; i++) {
		unsigned bit = 1u << i;
		if (flags & SQLITE_SHM_UNLOCK) {
			s->shm_shared[i] -= (v->has_shared & bit) != 0;
			if (v->has_exclusive & bit)
				s->shm_exclusive[i] = NULL;
		} else if (flags & SQLITE_SHM_SHARED) {
			s->shm_shared[i] += (v->has_shared & bit) == 0;
		} else {
			s->shm_exclusive[i] = v;
		}
	}
	if (flags & SQLITE_SHM_UNLOCK) {
		v->has_shared &= ~bits;
		v->has_exclusive &= ~bits;
	} else if (flags & SQLITE_SHM_SHARED) {
		v->has_shared |= bits;
	} else {
		v->has_exclusive |= bits;
	}
	return SQLITE_OK;
}

static void v_shm_barrier(sqlite3_file *f)
{
	(void)f;
}

static int v_shm_unmap(sqlite3_file *f, int delete)
{
	struct vfile *v = of(f);
	struct shared *s = shared_of(v);

	(void)delete;
	if (!v->mapped)
		return SQLITE_OK;
	v_shm_lock(f, 0, SHM_LOCKS, SQLITE_SHM_UNLOCK);
	v->mapped = false;
	if (--s->mapped == 0)
		for (int i = 0; i < SHM_REGIONS; i++) { /* the last one has gone: the memory goes too */
			free(s->region[i]);
			s->region[i] = NULL;
		}
	return SQLITE_OK;
}

/* ---- files ---- */

static int v_close(sqlite3_file *f)
{
	struct vfile *v = of(f);

	v_shm_unmap(f, 0);
	v_unlock(f, SQLITE_LOCK_NONE);
	if (v->temporary) {
		free(v->file->now);
		free(v->file->dirty);
		free(v->file->shared);
		free(v->file);
	}
	f->pMethods = NULL;
	return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
	.iVersion = 2, .xClose = v_close, .xRead = v_read, .xWrite = v_write, .xTruncate = v_truncate, .xSync = v_sync, .xFileSize = v_size,
	.xLock = v_lock, .xUnlock = v_unlock, .xCheckReservedLock = v_reserved, .xFileControl = v_control, .xSectorSize = v_sector,
	.xDeviceCharacteristics = v_character, .xShmMap = v_shm_map, .xShmLock = v_shm_lock, .xShmBarrier = v_shm_barrier,
	.xShmUnmap = v_shm_unmap,
};

static int v_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out)
{
	struct vfile *v = of(f);

	(void)vfs;
	memset(v, 0, sizeof *v);
	if (!path) {
		v->temporary = true;
		v->disk = world.nodes[0]->disk;
		v->file = calloc(1, sizeof *v->file);
		if (!v->file)
			return SQLITE_IOERR_NOMEM;
		v->file->disk = v->disk;
	} else {
		v->disk = disk_of_path(path);
		if (!v->disk || !disk_call(v->disk, USER_QUEUE, "open", path, false))
			return SQLITE_CANTOPEN;
		v->file = disk_find(v->disk, path);
		if (!v->file && !(flags & SQLITE_OPEN_CREATE))
			return SQLITE_CANTOPEN;
		if (!v->file) {
			v->file = disk_make(v->disk, path, false);
			v->fresh = (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0;
		}
	}
	v->base.pMethods = &methods;
	if (out)
		*out = flags;
	return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
	struct disk *d = disk_of_path(path);
	struct file *f = d ? disk_find(d, path) : NULL;
	char folder[200];

	(void)vfs;
	if (!d || !disk_call(d, USER_QUEUE, "unlink", path, true))
		return SQLITE_IOERR_DELETE;
	if (!f)
		return SQLITE_IOERR_DELETE_NOENT;
	disk_unlink(d, f);
	disk_folder_of(path, folder);
	if (sync)
		disk_sync_names(d, folder);
	return SQLITE_OK;
}

static int v_access(sqlite3_vfs *vfs, const char *path, int flags, int *is)
{
	struct disk *d = disk_of_path(path);
	struct file *f = d ? disk_find(d, path) : NULL;

	(void)vfs;
	*is = f && (flags != SQLITE_ACCESS_EXISTS || f->n > 0);
	return SQLITE_OK;
}

static int v_full(sqlite3_vfs *vfs, const char *path, int n, char *to)
{
	(void)vfs;
	sqlite3_snprintf(n, to, "%s", path);
	return SQLITE_OK;
}

static int v_random(sqlite3_vfs *vfs, int n, char *to)
{
	(void)vfs;
	for (int i = 0; i < n; i++)
		to[i] = (char)rng_next(&world.disk);
	return n;
}

static int v_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	return us;
}

static int v_time(sqlite3_vfs *vfs, sqlite3_int64 *ms)
{
	(void)vfs;
	*ms = 210866760000000LL + world.now; /* Julian; nothing is decided by it */
	return SQLITE_OK;
}

static int v_error(sqlite3_vfs *vfs, int n, char *to)
{
	(void)vfs;
	(void)n;
	(void)to;
	return 0;
}

void vfs_register(void)
{
	static sqlite3_vfs vfs = {
		.iVersion = 2, .szOsFile = sizeof(struct vfile), .mxPathname = 199, .zName = "sim", .xOpen = v_open, .xDelete = v_delete,
		.xAccess = v_access, .xFullPathname = v_full, .xRandomness = v_random, .xSleep = v_sleep, .xGetLastError = v_error,
		.xCurrentTimeInt64 = v_time,
	};

	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
		abort();
}
