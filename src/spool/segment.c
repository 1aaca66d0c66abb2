/* segment.c - segment files: headers, appending, recycling.  See segment.h; scan.c reads them. */
#include "spool/segment.h"

#include "spool/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define HEAD_MAGIC "PRSEGM01" /* the last two digits are the format's version */
#define HEAD_BYTES 60u
#define HEAD_SECOND 2048u     /* the second copy: in another sector */

static const unsigned char zeros[64 * 1024];

void segments_init(struct segments *ss, struct spool *s)
{
	memset(ss, 0, sizeof *ss);
	ss->spool = s;
	ss->fd = -1;
}

static void free_segment(struct segments *ss, struct segment *s)
{
	if (s)
		alloc_put(ss->spool->alloc, s->refs);
	alloc_put(ss->spool->alloc, s);
}

void segments_free(struct segments *ss)
{
	const struct env_disk *d = &ss->spool->env->disk;

	if (ss->fd != -1)
		d->close(d->arg, ss->fd);
	for (size_t i = 0; i < ss->n; i++)
		free_segment(ss, ss->list[i]);
	for (size_t i = 0; i < ss->spares_n; i++)
		free_segment(ss, ss->spares[i]);
	alloc_put(ss->spool->alloc, ss->list);
	segments_init(ss, ss->spool);
}

void segment_path(const struct segments *ss, uint64_t number, char *to, size_t n)
{
	snprintf(to, n, "%s/segments/%08llx", ss->spool->path, (unsigned long long)number);
}

/* ---- headers ---- */

static void put_head(unsigned char page[SEGMENT_HEAD], const struct segment *s, int64_t now)
{
	memset(page, 0, SEGMENT_HEAD);
	memcpy(page, HEAD_MAGIC, 8);
	put_u64(page + 8, s->generation);
	put_u64(page + 16, s->salt);
	put_u64(page + 24, s->number);
	put_u64(page + 32, s->previous);
	put_u64(page + 40, s->size);
	put_u64(page + 48, (uint64_t)now);
	put_u32(page + 56, crc32c(0, page, HEAD_BYTES - 4));
	memcpy(page + HEAD_SECOND, page, HEAD_BYTES);
}

static bool get_head(const unsigned char *at, struct segment *s)
{
	if (memcmp(at, HEAD_MAGIC, 8) != 0 || get_u32(at + 56) != crc32c(0, at, HEAD_BYTES - 4) ||
	    get_u64(at + 24) != s->number)
		return false;
	s->generation = get_u64(at + 8);
	s->salt = get_u64(at + 16);
	s->previous = get_u64(at + 32);
	s->size = get_u64(at + 40);
	return true;
}

static enum spool_status write_at(struct segments *ss, int fd, const unsigned char *p, size_t n, uint64_t at,
                                  size_t *done)
{
	const struct env_disk *d = &ss->spool->env->disk;

	*done = 0;
	while (*done < n) {
		ssize_t w = d->pwrite(d->arg, fd, p + *done, n - *done, (off_t)(at + *done));
		if (w == -1 && errno == EINTR)
			continue;
		if (w == -1 && status_of_errno(errno) == SPOOL_SICK)
			atomic_store(&ss->spool->sick, true);
		if (w == -1)
			return status_of_errno(errno);
		if (w == 0)
			return SPOOL_FULL;
		*done += (size_t)w;
	}
	return SPOOL_OK;
}

static enum spool_status write_head(struct segments *ss, int fd, struct segment *s)
{
	unsigned char page[SEGMENT_HEAD];
	size_t done;
	enum spool_status status;

	put_head(page, s, env_wall_ms(ss->spool->env));
	status = write_at(ss, fd, page, sizeof page, 0, &done);
	if (status == SPOOL_OK && s->written < SEGMENT_HEAD)
		s->written = SEGMENT_HEAD;
	return status;
}

/* ---- the list ---- */

static int older(const void *a, const void *b)
{
	const struct segment *const *x = a, *const *y = b;

	return ((*x)->generation > (*y)->generation) - ((*x)->generation < (*y)->generation);
}

void segments_sort(struct segments *ss)
{
	if (ss->n)
		qsort(ss->list, ss->n, sizeof(struct segment *), older);
}

static bool list_add(struct segments *ss, struct segment *s)
{
	if (ss->n == ss->cap) {
		size_t cap = ss->cap ? ss->cap * 2 : 64;
		struct segment **list = alloc_get(ss->spool->alloc, cap * sizeof *list);
		if (!list)
			return false;
		if (ss->n)
			memcpy(list, ss->list, ss->n * sizeof *list);
		pthread_mutex_lock(&ss->spool->lock);
		alloc_put(ss->spool->alloc, ss->list);
		ss->list = list;
		ss->cap = cap;
		pthread_mutex_unlock(&ss->spool->lock);
	}
	pthread_mutex_lock(&ss->spool->lock);
	ss->list[ss->n++] = s;
	pthread_mutex_unlock(&ss->spool->lock);
	return true;
}

static void list_remove(struct segments *ss, const struct segment *s)
{
	size_t i = 0;

	while (ss->list[i] != s)
		i++;
	pthread_mutex_lock(&ss->spool->lock);
	memmove(&ss->list[i], &ss->list[i + 1], (ss->n - i - 1) * sizeof *ss->list);
	ss->n--;
	pthread_mutex_unlock(&ss->spool->lock);
}

struct segment *segments_find(const struct segments *ss, uint64_t generation)
{
	size_t lo = 0, hi = ss->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (ss->list[mid]->generation == generation)
			return ss->list[mid];
		if (ss->list[mid]->generation < generation)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

uint64_t segments_number(const struct segments *ss, uint64_t generation)
{
	const struct segment *s = segments_find(ss, generation);

	return s ? s->number : 0;
}

struct found { uint64_t *numbers; size_t n, cap; const struct alloc *alloc; bool failed; };

static int found_file(void *ctx, const char *name)
{
	struct found *f = ctx;
	char *end;
	uint64_t number;

	if (strlen(name) < 8)
		return 0;
	number = strtoull(name, &end, 16);
	if (*end || !number)
		return 0; /* not ours */
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		uint64_t *more = f->alloc->resize(f->alloc->arg, f->numbers, cap * sizeof *more);
		if (!more) {
			f->failed = true;
			return 1;
		}
		f->numbers = more;
		f->cap = cap;
	}
	f->numbers[f->n++] = number;
	return 0;
}

static int load_one(struct segments *ss, uint64_t number, struct error *err)
{
	const struct env_disk *d = &ss->spool->env->disk;
	unsigned char page[SEGMENT_HEAD];
	char path[SPOOL_PATH_MAX];
	struct segment *s = alloc_get(ss->spool->alloc, sizeof *s);
	int64_t size = -1;
	ssize_t r = -1;
	int fd, e;

	if (!s)
		return error_set(err, ERROR_AGAIN, "no memory for the spool's segments");
	memset(s, 0, sizeof *s);
	s->number = number;
	segment_path(ss, number, path, sizeof path);
	fd = d->open(d->arg, path, O_RDONLY, 0);
	if (fd != -1) {
		size = d->size(d->arg, fd);
		if (size != -1)
			r = d->pread(d->arg, fd, page, sizeof page, 0);
		e = errno;
		d->close(d->arg, fd);
		errno = e;
	}
	if (fd == -1 || size == -1 || r == -1) {
		e = errno;
		free_segment(ss, s);
		return error_sys(err, e, "cannot read the segment %s", path);
	}
	if (r < (ssize_t)sizeof page)
		memset(page + r, 0, sizeof page - (size_t)r);
	if (!get_head(page, s) && !get_head(page + HEAD_SECOND, s)) {
		/* Only zeros: a file whose first sync never came.  Else somebody damaged it. */
		s->suspect = memcmp(page, zeros, sizeof page) != 0;
		s->size = ss->spool->segment_size;
	}
	s->written = (uint64_t)size;
	if (s->size < s->written)
		s->size = s->written;
	if (number > ss->last_number)
		ss->last_number = number;
	if (s->generation > ss->last_generation)
		ss->last_generation = s->generation;
	if (!s->generation && !s->suspect) {
		if (ss->spares_n < SEGMENT_SPARES)
			ss->spares[ss->spares_n++] = s;
		else {
			d->unlink(d->arg, path); /* if not, the next start tries again */
			free_segment(ss, s);
		}
		return 0;
	}
	s->used = SEGMENT_HEAD;
	if (!list_add(ss, s)) {
		free_segment(ss, s);
		return error_set(err, ERROR_AGAIN, "no memory for the spool's segments");
	}
	return 0;
}

int segments_load(struct segments *ss, struct error *err)
{
	const struct env_disk *d = &ss->spool->env->disk;
	struct found f = { .alloc = ss->spool->alloc };
	char path[SPOOL_PATH_MAX];
	int r = 0;

	snprintf(path, sizeof path, "%s/segments", ss->spool->path);
	if (d->list(d->arg, path, found_file, &f) == -1)
		r = error_sys(err, errno, "cannot list %s", path);
	else if (f.failed)
		r = error_set(err, ERROR_AGAIN, "no memory for the spool's segments");
	for (size_t i = 0; i < f.n && r == 0; i++)
		r = load_one(ss, f.numbers[i], err);
	alloc_put(ss->spool->alloc, f.numbers);
	segments_sort(ss);
	return r;
}

int segment_read_fd(struct segments *ss, const struct segment *s)
{
	const struct env_disk *d = &ss->spool->env->disk;
	char path[SPOOL_PATH_MAX];

	segment_path(ss, s->number, path, sizeof path);
	return d->open(d->arg, path, O_RDONLY, 0);
}

/* ---- the active one ---- */

static int open_write(struct segments *ss, const struct segment *s, int flags)
{
	const struct env_disk *d = &ss->spool->env->disk;
	char path[SPOOL_PATH_MAX];

	segment_path(ss, s->number, path, sizeof path);
	return d->open(d->arg, path, O_RDWR | flags, 0600);
}

static void close_active(struct segments *ss)
{
	const struct env_disk *d = &ss->spool->env->disk;

	if (ss->fd != -1)
		d->close(d->arg, ss->fd); /* everything that counts was synced by its batch */
	ss->fd = -1;
	ss->active = NULL;
}

static enum spool_status open_failed(struct segments *ss)
{
	enum spool_status status = status_of_errno(errno);

	if (status == SPOOL_SICK)
		atomic_store(&ss->spool->sick, true);
	return status;
}

enum spool_status segments_resume(struct segments *ss, struct segment *s, uint64_t used)
{
	int fd = open_write(ss, s, 0);

	if (fd == -1)
		return open_failed(ss);
	close_active(ss);
	ss->fd = fd;
	ss->active = s;
	s->used = used;
	return SPOOL_OK;
}

static struct segment *take_spare(struct segments *ss, uint64_t size)
{
	for (size_t i = 0; i < ss->spares_n; i++)
		if (ss->spares[i]->size >= size) {
			struct segment *s = ss->spares[i];
			ss->spares[i] = ss->spares[--ss->spares_n];
			return s;
		}
	return NULL;
}

enum spool_status segments_rotate(struct segments *ss, uint64_t need)
{
	const struct env_disk *d = &ss->spool->env->disk;
	uint64_t size = (SEGMENT_HEAD + need + SEGMENT_RESERVE + RECORD_HEADER + RECORD_RANGE + 4095) & ~(uint64_t)4095;
	struct segment *s;
	enum spool_status status;
	bool fresh;
	int fd;

	if (size < ss->spool->segment_size)
		size = ss->spool->segment_size;
	s = take_spare(ss, size);
	fresh = !s;
	if (fresh) {
		int64_t room = d->free_bytes(d->arg, ss->spool->path);
		if (room != -1 && (uint64_t)room < SEGMENT_HEAD + need)
			return SPOOL_FULL;
		s = alloc_get(ss->spool->alloc, sizeof *s);
		if (!s)
			return SPOOL_AGAIN;
		memset(s, 0, sizeof *s);
		s->number = ++ss->last_number;
		s->size = size;
	}
	fd = open_write(ss, s, fresh ? O_CREAT | O_EXCL : 0);
	status = fd == -1 ? open_failed(ss) : SPOOL_OK;
	ss->dir_dirty = ss->dir_dirty || (fresh && fd != -1);
	s->generation = ++ss->last_generation; /* never given twice, even if this attempt fails */
	ss->spool->env->random(ss->spool->env->arg, &s->salt, sizeof s->salt);
	s->previous = ss->sequence;
	s->used = SEGMENT_HEAD;
	/* No sync here: the first batch syncs this file, header and records, before anything in it counts. */
	if (status == SPOOL_OK)
		status = write_head(ss, fd, s);
	if (status == SPOOL_OK && !list_add(ss, s))
		status = SPOOL_AGAIN;
	if (status != SPOOL_OK) {
		/* Without records the header means nothing, whatever reached the disk; the file is a spare. */
		if (fd != -1)
			d->close(d->arg, fd);
		if (ss->spares_n < SEGMENT_SPARES && fd != -1) {
			s->generation = 0;
			ss->spares[ss->spares_n++] = s;
		} else {
			free_segment(ss, s);
		}
		return status;
	}
	close_active(ss);
	ss->fd = fd;
	ss->active = s;
	return SPOOL_OK;
}

/* Zeros ahead of the records.  Being out of space matters only when the records themselves do not fit. */
static enum spool_status write_ahead(struct segments *ss, uint64_t until)
{
	struct segment *s = ss->active;
	uint64_t to = until + SEGMENT_AHEAD;
	enum spool_status status = SPOOL_OK;

	if (until <= s->written)
		return SPOOL_OK;
	to = to > s->size ? s->size : to;
	while (s->written < to && status == SPOOL_OK) {
		size_t n = to - s->written < sizeof zeros ? (size_t)(to - s->written) : sizeof zeros, done;
		status = write_at(ss, ss->fd, zeros, n, s->written, &done);
		s->written += done;
	}
	return until <= s->written ? SPOOL_OK : status;
}

enum spool_status segments_append(struct segments *ss, const unsigned char *p, size_t n)
{
	struct segment *s = ss->active;
	enum spool_status status = write_ahead(ss, s->used + n);
	size_t done = 0;

	assert(s->used + n <= s->size);
	if (status == SPOOL_OK)
		status = write_at(ss, ss->fd, p, n, s->used, &done);
	if (status == SPOOL_OK) {
		s->used += n;
		return status;
	}
	s->used += done;
	segments_take_back(ss, done);
	return status;
}

/* Whole records may stand there.  They were refused, so they must not come back: zeros over them now, and a jump in
 * case the zeros do not stay. */
void segments_take_back(struct segments *ss, size_t n)
{
	struct segment *s = ss->active;
	size_t done = 0;

	s->used -= n;
	for (size_t at = 0; at < n; at += done)
		if (write_at(ss, ss->fd, zeros, n - at < sizeof zeros ? n - at : sizeof zeros, s->used + at, &done) != SPOOL_OK)
			break;
	ss->jump = true;
}

enum spool_status segments_sync(struct segments *ss)
{
	const struct env_disk *d = &ss->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	int fd, r;

	if (ss->dir_dirty) {
		snprintf(path, sizeof path, "%s/segments", ss->spool->path);
		fd = d->open(d->arg, path, O_RDONLY | O_DIRECTORY, 0);
		if (fd == -1)
			return open_failed(ss);
		r = d->fsync(d->arg, fd);
		d->close(d->arg, fd);
		if (r == -1) {
			atomic_store(&ss->spool->sick, true);
			return SPOOL_SICK;
		}
		ss->dir_dirty = false;
	}
	if (ss->fd != -1 && d->fdatasync(d->arg, ss->fd) == -1) {
		/* The kernel may have dropped the pages and marked them clean: a second sync would lie. */
		atomic_store(&ss->spool->sick, true);
		return SPOOL_SICK;
	}
	return SPOOL_OK;
}

/* ---- the end of a segment ---- */

bool segment_pinned(const struct segment *s)
{
	return s->refs_n != 0;
}

bool segment_refer(const struct alloc *a, struct segment *s, uint64_t generation, bool *fresh)
{
	*fresh = false;
	if (generation == s->generation)
		return true;
	for (size_t i = s->refs_n; i-- > 0;) /* most refer to what the last one did */
		if (s->refs[i] == generation)
			return true;
	if (s->refs_n == s->refs_cap) {
		size_t cap = s->refs_cap ? s->refs_cap * 2 : 8;
		uint64_t *refs = a->resize(a->arg, s->refs, cap * sizeof *refs);
		if (!refs)
			return false;
		s->refs = refs;
		s->refs_cap = cap;
	}
	*fresh = true;
	s->refs[s->refs_n++] = generation;
	return true;
}

enum spool_status segments_rehead(struct segments *ss, struct segment *s)
{
	const struct env_disk *d = &ss->spool->env->disk;
	int fd = open_write(ss, s, 0);
	enum spool_status status;

	if (fd == -1)
		return open_failed(ss);
	status = write_head(ss, fd, s);
	if (status == SPOOL_OK && d->fdatasync(d->arg, fd) == -1) {
		atomic_store(&ss->spool->sick, true);
		status = SPOOL_SICK;
	}
	d->close(d->arg, fd);
	return status;
}

enum spool_status segments_retire(struct segments *ss, struct segment *s)
{
	const struct env_disk *d = &ss->spool->env->disk;
	char path[SPOOL_PATH_MAX];
	uint64_t generation = s->generation;
	enum spool_status status;

	assert(s != ss->active && !segment_pinned(s));
	if (ss->spares_n < SEGMENT_SPARES) {
		struct segment head = *s; /* the list, which the reader searches, is ordered by s->generation */
		head.generation = 0;
		status = segments_rehead(ss, &head);
		if (status != SPOOL_OK)
			return status;
	} else {
		segment_path(ss, s->number, path, sizeof path);
		if (d->unlink(d->arg, path) == -1 && errno != ENOENT)
			return open_failed(ss);
		ss->dir_dirty = true;
		status = segments_sync(ss); /* gone for good before anything forgets why it was dead */
		if (status != SPOOL_OK)
			return status;
	}
	list_remove(ss, s);
	pthread_mutex_lock(&ss->spool->lock);
	ss->purges++;
	pthread_mutex_unlock(&ss->spool->lock);
	for (size_t i = 0; i < ss->n; i++) {
		struct segment *o = ss->list[i];
		for (size_t r = 0; r < o->refs_n; r++)
			if (o->refs[r] == generation) {
				o->refs[r] = o->refs[--o->refs_n];
				break;
			}
	}
	if (ss->spares_n < SEGMENT_SPARES) {
		s->generation = 0;
		s->refs_n = 0;
		s->live_n = s->live_bytes = 0;
		s->stuck = s->suspect = false;
		ss->spares[ss->spares_n++] = s;
	} else {
		free_segment(ss, s);
	}
	return SPOOL_OK;
}
