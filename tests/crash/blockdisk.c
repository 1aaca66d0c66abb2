/* blockdisk.c - a disk that remembers every write and every flush, so that the power can be cut at any of them.
 *
 * blockdisk FOLDER BYTES LIMIT   mounts a FUSE file system at FOLDER with one file, `disk`; a loop device over it is
 * the disk.  All is in memory.  Commands come as lines on stdin, one line answers each:
 *
 *   position            how many entries the journal has
 *   dump FILE           the journal as text: number, kind (W or F), ns since the epoch, offset, length
 *   dump2 FILE          the same of what was written since the last `cut`
 *   cut N KEEP SEED UNIT LIE   the disk as the cut found it: the first N entries have reached the device; the entries
 *                       before the last flush among them are there, of those behind it what KEEP says:
 *                         all    all of it         none   nothing
 *                         some   whole writes, by chance    torn   units of UNIT octets, by chance
 *                       LIE: that many flushes before the cut are taken as never done (a disk that lies)
 *   again N KEEP SEED UNIT     the same within what was written since the last `cut` (a cut during recovery)
 *   second              how many entries were written since the last `cut`
 *   save FILE           the disk as it is now, sparse
 *
 * It ends when stdin does.  A write that arrives before the first `cut` is of the life that is recorded.  Requests are
 * served one by one, so the order of the journal is the order in which the device answered.  FUSE_FSYNC is what
 * the loop driver makes of FLUSH and of FUA.
 *
 * Failure: LIMIT octets of journal, or no memory: the write fails with ENOSPC, and `position` says `full`.
 */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DISK_INODE 2
#define REQUEST_MAX (1u << 20) /* of one write: what the kernel gives at once at most */
#define SUPERBLOCK 4096u       /* the first unit is never torn finer: ext4 writes its superblock there, outside its journal */
#define FOREVER 86400.0        /* names and attributes never change */

enum kind { WRITE = 1, FLUSH };

struct entry { enum kind kind; int64_t when; uint64_t at; uint32_t n; unsigned char *bytes; };
struct journal { struct entry *e; size_t n, cap; };
struct undo { uint64_t at; uint32_t n; unsigned char *old; };

static struct {
	unsigned char *image;
	uint64_t size, limit, held;
	bool full;
	struct journal first, second; /* the life that is recorded; what was written since the cut */
	bool was_cut, twice;
	size_t base;                  /* entries of the first journal that are in the image for good */
	struct undo *undo;
	size_t undo_n, undo_cap, undo_cut; /* undo_cut: where the writes since the cut begin */
	uint64_t random;
} disk;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "blockdisk: out of memory\n");
		abort();
	}
	return p;
}

/* xorshift64*: the same seed makes the same disk */
static uint64_t roll(void)
{
	disk.random ^= disk.random >> 12;
	disk.random ^= disk.random << 25;
	disk.random ^= disk.random >> 27;
	return disk.random * 2685821657736338717u >> 32;
}

/* ---- the image and its past ---- */

static bool note(struct journal *j, enum kind kind, uint64_t at, const void *bytes, size_t n)
{
	struct entry *e;

	if (disk.held + n > disk.limit) {
		disk.full = true;
		return false;
	}
	if (j->n == j->cap) {
		j->cap = j->cap ? 2 * j->cap : 1024;
		j->e = must(realloc(j->e, j->cap * sizeof *j->e));
	}
	e = &j->e[j->n++];
	*e = (struct entry){ .kind = kind, .when = now_ns(), .at = at, .n = (uint32_t)n };
	if (n) {
		e->bytes = must(malloc(n));
		memcpy(e->bytes, bytes, n);
		disk.held += n;
	}
	return true;
}

static void forget(struct journal *j)
{
	for (size_t i = 0; i < j->n; i++) {
		disk.held -= j->e[i].n;
		free(j->e[i].bytes);
	}
	j->n = 0;
}

/* Writes so that it can be taken back. */
static void put(uint64_t at, const void *bytes, uint32_t n)
{
	struct undo *u;

	if (disk.undo_n == disk.undo_cap) {
		disk.undo_cap = disk.undo_cap ? 2 * disk.undo_cap : 1024;
		disk.undo = must(realloc(disk.undo, disk.undo_cap * sizeof *disk.undo));
	}
	u = &disk.undo[disk.undo_n++];
	*u = (struct undo){ at, n, must(malloc(n)) };
	memcpy(u->old, disk.image + at, n);
	memcpy(disk.image + at, bytes, n);
}

static void take_back(size_t to)
{
	while (disk.undo_n > to) {
		struct undo *u = &disk.undo[--disk.undo_n];
		memcpy(disk.image + u->at, u->old, u->n);
		free(u->old);
	}
}

/* ---- the cut ---- */

struct how { char keep[8]; uint64_t seed; unsigned unit, lie; };

static void put_some(const struct entry *e, const struct how *h, unsigned chance)
{
	uint32_t n;

	if (strcmp(h->keep, "none") == 0)
		return;
	if (strcmp(h->keep, "all") == 0 || ((strcmp(h->keep, "some") == 0 || e->at < SUPERBLOCK) && roll() % 100 < chance)) {
		put(e->at, e->bytes, e->n);
		return;
	}
	if (strcmp(h->keep, "torn") != 0 || e->at < SUPERBLOCK)
		return;
	for (uint32_t at = 0; at < e->n; at += n) {
		n = h->unit - (uint32_t)((e->at + at) % h->unit);
		n = n > e->n - at ? e->n - at : n;
		if (roll() % 100 < chance)
			put(e->at + at, e->bytes + at, n);
	}
}

/* How many of the first n entries are safe: all before the last flush that was really done. */
static size_t safe(const struct journal *j, size_t n, unsigned lie)
{
	while (n > 0 && (j->e[n - 1].kind != FLUSH || lie-- > 0))
		n--;
	return n;
}

static void put_tail(const struct journal *j, size_t from, size_t to, const struct how *h)
{
	static const unsigned chances[] = { 10, 50, 50, 90 };
	unsigned chance;

	disk.random = h->seed * 2654435761u + 88172645463325252u;
	chance = chances[roll() % 4];
	for (size_t i = from; i < to; i++)
		if (j->e[i].kind == WRITE)
			put_some(&j->e[i], h, chance);
}

static void cut(size_t n, const struct how *h)
{
	size_t base;

	take_back(0);
	forget(&disk.second);
	if (n > disk.first.n)
		n = disk.first.n;
	base = safe(&disk.first, n, h->lie);
	if (!disk.was_cut || base < disk.base) { /* from an empty disk */
		madvise(disk.image, disk.size, MADV_DONTNEED);
		disk.base = 0;
	}
	for (; disk.base < base; disk.base++)
		if (disk.first.e[disk.base].kind == WRITE)
			memcpy(disk.image + disk.first.e[disk.base].at, disk.first.e[disk.base].bytes, disk.first.e[disk.base].n);
	put_tail(&disk.first, base, n, h);
	disk.was_cut = true;
	disk.twice = false;
	disk.undo_cut = disk.undo_n;
}

static void again(size_t n, const struct how *h)
{
	size_t base;

	take_back(disk.undo_cut);
	if (n > disk.second.n)
		n = disk.second.n;
	base = safe(&disk.second, n, h->lie);
	for (size_t i = 0; i < base; i++)
		if (disk.second.e[i].kind == WRITE)
			put(disk.second.e[i].at, disk.second.e[i].bytes, disk.second.e[i].n);
	put_tail(&disk.second, base, n, h);
	disk.twice = true; /* the second journal stays as it is: other cuts of it may follow */
}

/* ---- the file ---- */

static struct stat attributes(fuse_ino_t ino)
{
	struct stat s = { .st_ino = ino, .st_nlink = 1 };

	s.st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600;
	s.st_size = ino == DISK_INODE ? (off_t)disk.size : 0;
	return s;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = DISK_INODE, .attr_timeout = FOREVER, .entry_timeout = FOREVER };

	if (parent != FUSE_ROOT_ID || strcmp(name, "disk") != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	e.attr = attributes(DISK_INODE);
	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat s = attributes(ino);

	(void)fi;
	fuse_reply_attr(req, &s, FOREVER);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (ino != DISK_INODE) {
		fuse_reply_err(req, EISDIR);
		return;
	}
	fi->direct_io = 1; /* the kernel keeps nothing back: what the loop device is given comes here at once */
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t n, off_t at, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	if ((uint64_t)at >= disk.size)
		n = 0;
	else if (n > disk.size - (uint64_t)at)
		n = disk.size - (uint64_t)at;
	fuse_reply_buf(req, (const char *)disk.image + (n ? at : 0), n);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t n, off_t at, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	if ((uint64_t)at >= disk.size || n > disk.size - (uint64_t)at) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	if (!disk.twice && !note(disk.was_cut ? &disk.second : &disk.first, WRITE, (uint64_t)at, bytes, n)) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	if (disk.was_cut)
		put((uint64_t)at, bytes, (uint32_t)n);
	else
		memcpy(disk.image + at, bytes, n);
	fuse_reply_write(req, n);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	if (!disk.twice)
		note(disk.was_cut ? &disk.second : &disk.first, FLUSH, 0, NULL, 0);
	fuse_reply_err(req, 0);
}

static void op_init(void *arg, struct fuse_conn_info *c)
{
	(void)arg;
	c->max_write = REQUEST_MAX;
	c->max_readahead = 0;
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init, .lookup = op_lookup, .getattr = op_getattr, .open = op_open, .read = op_read, .write = op_write,
	.fsync = op_fsync,
};

/* ---- commands ---- */

static bool dump(const struct journal *j, const char *path)
{
	FILE *f = fopen(path, "w");

	for (size_t i = 0; f && i < j->n; i++) {
		const struct entry *e = &j->e[i];
		fprintf(f, "%zu %c %" PRId64 " %" PRIu64 " %" PRIu32 "\n", i, e->kind == WRITE ? 'W' : 'F', e->when, e->at, e->n);
	}
	return f && fclose(f) == 0;
}

static bool save(const char *path)
{
	static const unsigned char zeros[65536];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool ok = fd != -1 && ftruncate(fd, (off_t)disk.size) == 0;

	for (uint64_t at = 0; ok && at < disk.size; at += sizeof zeros) {
		size_t n = disk.size - at < sizeof zeros ? disk.size - at : sizeof zeros;
		if (memcmp(disk.image + at, zeros, n) != 0)
			ok = pwrite(fd, disk.image + at, n, (off_t)at) == (ssize_t)n;
	}
	return fd != -1 && close(fd) == 0 && ok;
}

static void obey(char *line)
{
	struct how h = { .unit = 512 };
	char path[4096];
	size_t n;

	if (strcmp(line, "position") == 0) {
		printf("%zu%s\n", disk.first.n, disk.full ? " full" : "");
	} else if (strcmp(line, "second") == 0) {
		printf("%zu\n", disk.second.n);
	} else if (sscanf(line, "dump2 %4095s", path) == 1) {
		puts(dump(&disk.second, path) ? "ok" : "failed");
	} else if (sscanf(line, "dump %4095s", path) == 1) {
		puts(dump(&disk.first, path) ? "ok" : "failed");
	} else if (sscanf(line, "save %4095s", path) == 1) {
		puts(save(path) ? "ok" : "failed");
	} else if (sscanf(line, "cut %zu %7s %" SCNu64 " %u %u", &n, h.keep, &h.seed, &h.unit, &h.lie) == 5 && h.unit) {
		cut(n, &h);
		puts("ok");
	} else if (sscanf(line, "again %zu %7s %" SCNu64 " %u", &n, h.keep, &h.seed, &h.unit) == 4 && h.unit) {
		again(n, &h);
		puts("ok");
	} else {
		puts("unknown");
	}
	fflush(stdout);
}

/* false: the other end is gone. */
static bool commands(void)
{
	static char line[8192];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, line + have, sizeof line - 1 - have);
	char *end;

	if (n <= 0)
		return false;
	have += (size_t)n;
	line[have] = '\0';
	while ((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		obey(line);
		have -= (size_t)(end + 1 - line);
		memmove(line, end + 1, have + 1);
	}
	return have < sizeof line - 1;
}

static int serve(struct fuse_session *s)
{
	struct pollfd p[] = { { fuse_session_fd(s), POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
	struct fuse_buf buf = { 0 };
	int n;

	while (!fuse_session_exited(s)) {
		if (poll(p, 2, -1) == -1 && errno != EINTR)
			return 1;
		if (p[0].revents & (POLLERR | POLLHUP))
			return 0; /* unmounted by somebody else */
		if (p[0].revents & POLLIN) {
			n = fuse_session_receive_buf(s, &buf);
			if (n > 0)
				fuse_session_process_buf(s, &buf);
			else if (n != -EINTR && n != -EAGAIN)
				return 0;
		}
		if (p[1].revents && !commands())
			return 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	char *fuse_argv[] = { argv[0], "-o", "fsname=blockdisk", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, fuse_argv);
	struct fuse_session *s;
	int status;

	if (argc != 4) {
		fprintf(stderr, "usage: blockdisk FOLDER BYTES LIMIT\n");
		return 64;
	}
	disk.size = strtoull(argv[2], NULL, 10);
	disk.limit = strtoull(argv[3], NULL, 10);
	disk.image = mmap(NULL, disk.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (disk.size == 0 || disk.image == MAP_FAILED) {
		fprintf(stderr, "blockdisk: no memory for %s octets\n", argv[2]);
		return 71;
	}
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* our own allocations must not wait for writes to ourselves */
	s = fuse_session_new(&args, &ops, sizeof ops, NULL);
	if (!s || fuse_session_mount(s, argv[1]) != 0) {
		fprintf(stderr, "blockdisk: cannot mount at %s\n", argv[1]);
		return 71;
	}
	puts("ready");
	fflush(stdout);
	status = serve(s);
	fuse_session_unmount(s);
	fuse_session_destroy(s);
	return status;
}
