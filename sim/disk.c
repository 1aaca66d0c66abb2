/* disk.c - the model disk behind env.disk; see disk.h.
 *
 * Names are a journal: made and removed, each with its folder, until the folder is synced; a cut takes the journal back,
 * newest first, all of it, nothing, or each by dice.
 */
#include "sim/disk.h"
#include "sim/ledger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define OPEN_MAX_FILES 256
#define DISK_FD 2000000
#define DISK_BYTES (512u * 1024 * 1024) /* what a healthy disk says is free */

struct name { struct name *before; struct file *file; bool made; char from[200], folder[200]; /* folder: whose sync makes it last */ };

struct user_of { struct disk *disk; enum user user; bool off; uint64_t calls, crash_at; };

struct disk {
	struct node *node;
	struct file *files;
	struct name *journal; /* newest first */
	struct user_of users[USER_END];
	struct file *open[OPEN_MAX_FILES];
	unsigned faults;
	bool full;
};

/* ---- the content of a file ---- */

static void grow(unsigned char **mem, size_t *cap, size_t n)
{
	size_t to = *cap ? *cap : 4096;

	if (n <= *cap)
		return;
	while (to < n)
		to *= 2;
	*mem = realloc(*mem, to);
	if (!*mem)
		abort();
	memset(*mem + *cap, 0, to - *cap);
	*cap = to;
}

static void mark(struct file *f, size_t n, size_t at)
{
	size_t first = at / SECTOR, last = n ? (at + n - 1) / SECTOR : first;

	grow(&f->dirty, &f->dirty_cap, last + 1);
	for (; first <= last && n; first++)
		f->dirty[first] = 1;
}

bool disk_write(struct file *f, const void *from, size_t n, size_t at)
{
	if (f->disk->full && at + n > f->n)
		return false;
	if (at + n > f->n) {
		grow(&f->now, &f->n_cap, at + n);
		if (at > f->n)
			memset(f->now + f->n, 0, at - f->n);
		f->n = at + n;
	}
	memcpy(f->now + at, from, n);
	mark(f, n, at);
	return true;
}

size_t disk_read(struct file *f, void *to, size_t n, size_t at)
{
	if (at >= f->n)
		return 0;
	if (n > f->n - at)
		n = f->n - at;
	memcpy(to, f->now + at, n);
	return n;
}

void disk_truncate(struct file *f, size_t n)
{
	if (n > f->n) {
		grow(&f->now, &f->n_cap, n);
		memset(f->now + f->n, 0, n - f->n);
	}
	f->n = n;
}

void disk_sync(struct file *f)
{
	grow(&f->kept, &f->kept_cap, f->n);
	if (f->kept_n < f->n)
		memset(f->kept + f->kept_n, 0, f->n - f->kept_n);
	f->kept_n = f->n;
	for (size_t i = 0; i * SECTOR < f->n; i++)
		if (i < f->dirty_cap && f->dirty[i]) {
			size_t n = f->n - i * SECTOR < SECTOR ? f->n - i * SECTOR : SECTOR;
			memcpy(f->kept + i * SECTOR, f->now + i * SECTOR, n);
			f->dirty[i] = 0;
		}
}

/* The platter, with each unsynced sector by chance. */
static void settle_content(struct file *f, unsigned keep_permille)
{
	size_t n = f->kept_n == f->n || rng_chance(&world.disk, keep_permille) ? f->n : f->kept_n;

	if (!f->n_cap)
		return;
	grow(&f->now, &f->n_cap, f->kept_n);
	for (size_t i = 0; i * SECTOR < f->n_cap; i++) {
		bool dirty = i < f->dirty_cap && f->dirty[i];
		size_t at = i * SECTOR, some = f->n_cap - at < SECTOR ? f->n_cap - at : SECTOR;
		if (!dirty || rng_chance(&world.disk, keep_permille))
			continue;
		memset(f->now + at, 0, some);
		if (at < f->kept_n)
			memcpy(f->now + at, f->kept + at, f->kept_n - at < some ? f->kept_n - at : some);
	}
	f->n = n;
	if (f->n_cap > n)
		memset(f->now + n, 0, f->n_cap - n);
	disk_sync(f);
}

/* ---- names ---- */

void disk_folder_of(const char *path, char to[200])
{
	char *slash;

	snprintf(to, 200, "%s", path);
	slash = strrchr(to, '/');
	if (slash)
		*slash = 0;
}

/* A folder may be named by what is in it: "x/." and "x/y/..". */
static const char *plain(const char *path, char to[200])
{
	size_t n = strlen(path);

	if (n > 3 && strcmp(path + n - 3, "/..") == 0) {
		char folder[200];
		snprintf(folder, sizeof folder, "%.*s", (int)(n - 3 < 199 ? n - 3 : 199), path);
		disk_folder_of(folder, to);
		return to;
	}
	if (n > 2 && strcmp(path + n - 2, "/.") == 0) {
		snprintf(to, 200, "%.*s", (int)(n - 2 < 199 ? n - 2 : 199), path);
		return to;
	}
	return path;
}

struct file *disk_find(struct disk *d, const char *path)
{
	char room[200];

	path = plain(path, room);
	for (struct file *f = d->files; f; f = f->next)
		if (f->linked && strcmp(f->path, path) == 0)
			return f;
	return NULL;
}

static void note(struct disk *d, struct file *f, bool made, const char *from, const char *path)
{
	struct name *n = calloc(1, sizeof *n);

	if (!n)
		abort();
	*n = (struct name){ .before = d->journal, .file = f, .made = made };
	snprintf(n->from, sizeof n->from, "%s", from);
	disk_folder_of(path, n->folder);
	d->journal = n;
}

struct file *disk_make(struct disk *d, const char *path, bool folder)
{
	struct file *f = calloc(1, sizeof *f), **at = &d->files;

	if (!f)
		abort();
	f->disk = d;
	f->folder = folder;
	f->linked = true;
	snprintf(f->path, sizeof f->path, "%s", path);
	while (*at) /* in the order made: a listing must not depend on chance */
		at = &(*at)->next;
	*at = f;
	note(d, f, true, path, path);
	return f;
}

void disk_unlink(struct disk *d, struct file *f)
{
	f->linked = false;
	note(d, f, false, f->path, f->path);
}

void disk_sync_names(struct disk *d, const char *folder)
{
	struct name **at = &d->journal, *n;

	while ((n = *at) != NULL) {
		if (strcmp(n->folder, folder) == 0) {
			*at = n->before;
			free(n);
		} else {
			at = &n->before;
		}
	}
}

void disk_cut(struct disk *d)
{
	static const unsigned keeps[] = { 0, 1000, 500, 500, 900 };
	unsigned keep = keeps[rng_below(&world.disk, sizeof keeps / sizeof *keeps)];
	struct name *n;

	say("disk of %s: cut, %u of 1000 unsynced sectors survive", d->node->name, keep);
	while ((n = d->journal) != NULL) {
		d->journal = n->before;
		if (!rng_chance(&world.disk, keep)) {
			if (n->made) {
				n->file->linked = false;
			} else if (!disk_find(d, n->from)) {
				n->file->linked = true;
				snprintf(n->file->path, sizeof n->file->path, "%s", n->from);
			}
		}
		free(n);
	}
	for (struct file *f = d->files; f; f = f->next)
		if (!f->folder)
			settle_content(f, keep);
}

/* ---- faults ---- */

bool disk_alive(const struct disk *d, enum user user)
{
	return !d->users[user].off;
}

bool disk_call(struct disk *d, enum user user, const char *what, const char *path, bool writes)
{
	struct user_of *u = &d->users[user];

	u->calls++;
	if (!u->off && u->crash_at && u->calls >= u->crash_at) {
		u->crash_at = 0;
		world_fault(FAULT_CRASH_IN_WRITE);
		say("disk of %s: its process dies at %s %s", d->node->name, what, path);
		node_die_here(d->node, user == USER_QUEUE ? ROLE_QUEUE : ROLE_LOCAL);
	}
	if (u->off) {
		errno = EIO;
		return false;
	}
	if (d->faults && world.faults && rng_chance(&world.disk, d->faults)) {
		errno = writes && rng_chance(&world.disk, 300) ? ENOSPC : rng_chance(&world.disk, 100) ? ENOMEM : EIO;
		world_fault(FAULT_DISK_ERROR);
		if (strstr(path, "/inflight"))
			ledger_marks_lost(d->node);
		say("disk of %s: %s %s fails with %d", d->node->name, what, path, errno);
		return false;
	}
	return true;
}

void disk_off(struct disk *d, enum role_kind kind, bool off)
{
	if (kind == ROLE_QUEUE || kind == ROLE_LOCAL) {
		struct user_of *u = &d->users[kind == ROLE_QUEUE ? USER_QUEUE : USER_LOCAL];
		u->off = off;
		u->crash_at = 0;
	}
}

void disk_crash_after(struct disk *d, enum role_kind kind, uint64_t calls)
{
	struct user_of *u = &d->users[kind == ROLE_QUEUE ? USER_QUEUE : USER_LOCAL];

	u->crash_at = calls ? u->calls + calls : 0;
}

void disk_faults(struct disk *d, unsigned permille)
{
	d->faults = permille;
}

void disk_fill(struct disk *d, bool full)
{
	d->full = full;
}

/* ---- env.disk ---- */

static struct file *file_of(struct disk *d, int fd)
{
	assert(fd >= DISK_FD && fd < DISK_FD + OPEN_MAX_FILES && d->open[fd - DISK_FD]);
	return d->open[fd - DISK_FD];
}

static int d_open(void *arg, const char *path, int flags, mode_t mode)
{
	struct user_of *u = arg;
	struct disk *d = u->disk;
	struct file *f = disk_find(d, path);
	char folder[200];
	int i = 0;

	(void)mode;
	if (!disk_call(d, u->user, "open", path, false))
		return -1;
	disk_folder_of(path, folder);
	if (f && (flags & O_CREAT) && (flags & O_EXCL)) {
		errno = EEXIST;
		return -1;
	}
	if (!f && (!(flags & O_CREAT) || !disk_is_dir(d, folder))) {
		errno = ENOENT;
		return -1;
	}
	while (i < OPEN_MAX_FILES && d->open[i])
		i++;
	if (i == OPEN_MAX_FILES) {
		errno = EMFILE;
		return -1;
	}
	if (!f)
		f = disk_make(d, path, false);
	if (flags & O_TRUNC)
		disk_truncate(f, 0);
	d->open[i] = f;
	return DISK_FD + i;
}

static int d_close(void *arg, int fd)
{
	struct disk *d = ((struct user_of *)arg)->disk;

	(void)file_of(d, fd);
	d->open[fd - DISK_FD] = NULL;
	return 0;
}

static ssize_t d_pread(void *arg, int fd, void *to, size_t n, off_t at)
{
	struct user_of *u = arg;
	struct file *f = file_of(u->disk, fd);

	if (!disk_call(u->disk, u->user, "read", f->path, false))
		return -1;
	return (ssize_t)disk_read(f, to, n, (size_t)at);
}

static ssize_t d_pwrite(void *arg, int fd, const void *from, size_t n, off_t at)
{
	struct user_of *u = arg;
	struct file *f = file_of(u->disk, fd);
	bool lived = disk_alive(u->disk, u->user);

	if (!disk_call(u->disk, u->user, "write", f->path, true)) {
		int error = errno;
		if (lived && n > 1 && rng_chance(&world.disk, 500)) /* a part of it was written */
			disk_write(f, from, 1 + rng_below(&world.disk, n - 1), (size_t)at);
		errno = error;
		return -1;
	}
	if (n > 1 && u->disk->faults && world.faults && rng_chance(&world.disk, 50)) {
		n = 1 + rng_below(&world.disk, n - 1); /* short */
		if (strstr(f->path, "/inflight"))
			ledger_marks_lost(u->disk->node);
	}
	if (!disk_write(f, from, n, (size_t)at)) {
		errno = ENOSPC;
		return -1;
	}
	return (ssize_t)n;
}

static int d_sync(void *arg, int fd)
{
	struct user_of *u = arg;
	struct file *f = file_of(u->disk, fd);

	if (!disk_call(u->disk, u->user, "sync", f->path, true)) {
		errno = errno == ENOSPC ? EIO : errno;
		return -1;
	}
	if (f->folder)
		disk_sync_names(u->disk, f->path);
	else if (world.broken != BREAK_NO_SYNC)
		disk_sync(f);
	return 0;
}

static int d_truncate(void *arg, int fd, off_t size)
{
	struct user_of *u = arg;
	struct file *f = file_of(u->disk, fd);

	if (!disk_call(u->disk, u->user, "truncate", f->path, true))
		return -1;
	disk_truncate(f, (size_t)size);
	return 0;
}

/* Was its making still to be synced?  Then what makes the new name last makes all of it last. */
static bool forget_made(struct disk *d, const struct file *f)
{
	for (struct name **at = &d->journal, *n; (n = *at) != NULL; at = &n->before)
		if (n->file == f && n->made) {
			*at = n->before;
			free(n);
			return true;
		}
	return false;
}

static int d_rename(void *arg, const char *from, const char *to)
{
	struct user_of *u = arg;
	struct file *f = disk_find(u->disk, from), *old = disk_find(u->disk, to);

	if (!disk_call(u->disk, u->user, "rename", from, true))
		return -1;
	if (!f) {
		errno = ENOENT;
		return -1;
	}
	if (old)
		disk_unlink(u->disk, old);
	disk_unlink(u->disk, f);
	/* one name goes, another comes: one entry of the journal, so that no cut leaves neither */
	struct name *gone = u->disk->journal;
	u->disk->journal = gone->before;
	free(gone);
	snprintf(f->path, sizeof f->path, "%s", to);
	f->linked = true;
	note(u->disk, f, forget_made(u->disk, f), from, to); /* taken back: its old name, or none if that never lasted */
	return 0;
}

static int d_unlink(void *arg, const char *path)
{
	struct user_of *u = arg;
	struct file *f = disk_find(u->disk, path);

	if (!disk_call(u->disk, u->user, "unlink", path, true))
		return -1;
	if (!f) {
		errno = ENOENT;
		return -1;
	}
	disk_unlink(u->disk, f);
	return 0;
}

static int d_mkdir(void *arg, const char *path, mode_t mode)
{
	struct user_of *u = arg;
	char folder[200];

	(void)mode;
	if (!disk_call(u->disk, u->user, "mkdir", path, true))
		return -1;
	disk_folder_of(path, folder);
	if (disk_find(u->disk, path) || !disk_is_dir(u->disk, folder)) {
		errno = disk_find(u->disk, path) ? EEXIST : ENOENT;
		return -1;
	}
	disk_make(u->disk, path, true);
	return 0;
}

static int d_list(void *arg, const char *path, int (*found)(void *ctx, const char *name), void *ctx)
{
	struct user_of *u = arg;
	char folder[200];
	int r = 0;

	if (!disk_call(u->disk, u->user, "list", path, false))
		return -1;
	if (!disk_is_dir(u->disk, path)) {
		errno = ENOENT;
		return -1;
	}
	for (struct file *f = u->disk->files; f && r == 0; f = f->next) {
		disk_folder_of(f->path, folder);
		if (f->linked && strcmp(folder, path) == 0)
			r = found(ctx, f->path + strlen(folder) + 1);
	}
	return r;
}

static int64_t d_size(void *arg, int fd)
{
	return (int64_t)file_of(((struct user_of *)arg)->disk, fd)->n;
}

static int64_t d_free_bytes(void *arg, const char *path)
{
	(void)path;
	return ((struct user_of *)arg)->disk->full ? 0 : DISK_BYTES;
}

void disk_env(struct disk *d, enum role_kind kind, struct env_disk *e)
{
	*e = (struct env_disk){ d_open, d_close, d_pread, d_pwrite, d_sync, d_sync, d_truncate, d_rename, d_unlink, d_mkdir, d_list,
				d_size, d_free_bytes, &d->users[kind == ROLE_QUEUE ? USER_QUEUE : USER_LOCAL] };
}

/* ---- the world's own looks ---- */

struct disk *disk_new(struct node *node)
{
	struct disk *d = calloc(1, sizeof *d);

	if (!d)
		abort();
	d->node = node;
	for (int i = 1; i < USER_END; i++)
		d->users[i] = (struct user_of){ .disk = d, .user = (enum user)i };
	return d;
}

void disk_mkdir(struct disk *d, const char *path)
{
	char folder[200];

	disk_make(d, path, true);
	disk_folder_of(path, folder);
	disk_sync_names(d, folder); /* it was there before the world began */
}

bool disk_is_dir(struct disk *d, const char *path)
{
	struct file *f = disk_find(d, path);

	return f && f->folder;
}

bool disk_exists(struct disk *d, const char *path)
{
	return disk_find(d, path) != NULL;
}

/* Paths begin with /sim/NODE. */
struct disk *disk_of_path(const char *path)
{
	for (unsigned i = 0; i < world.nodes_n; i++) {
		char top[64];
		int n = snprintf(top, sizeof top, "/sim/%s/", world.nodes[i]->name);
		if (strncmp(path, top, (size_t)n) == 0)
			return world.nodes[i]->disk;
	}
	return NULL;
}

bool disk_each(struct disk *d, const char *folder, void (*found)(void *arg, const char *path, struct view content), void *arg)
{
	char in[200];
	bool any = false;

	for (struct file *f = d->files; f; f = f->next) {
		if (!f->linked || f->folder)
			continue;
		disk_folder_of(f->path, in);
		if (strcmp(in, folder) != 0)
			continue;
		any = true;
		found(arg, f->path, view_of((const char *)f->now, f->n));
	}
	return any;
}
