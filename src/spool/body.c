/* body.c - bodies on their way in: in memory while small, in a file of their own from the threshold on.
 *
 * The owner's thread fills chunks; the bodies' lane writes them, so that no disk is waited for while data arrive.
 * A body file begins with BODY_PREFIX_MAX free bytes: the prefix is known last and must come first.
 * The file is synced before its accept goes on to the writer, which syncs the directory before the row that names it.
 */
#include "spool/engine.h"

#include "spool/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define FIRST_CAP 4096u        /* a typical small message */
#define NAME_TRIES 64          /* names taken by leftovers of an earlier run; recovery removes those */

struct spool_body *spool_body_begin(struct spool *s, uint64_t size_hint)
{
	struct spool_body *b = alloc_get(s->alloc, sizeof *b);

	if (!b)
		return NULL;
	memset(b, 0, sizeof *b);
	b->spool = s;
	b->fd = -1;
	atomic_init(&b->error, SPOOL_OK);
	b->job = alloc_get(s->alloc, sizeof *b->job);
	if (!b->job) {
		alloc_put(s->alloc, b);
		return NULL;
	}
	memset(b->job, 0, sizeof *b->job);
	if (size_hint > FIRST_CAP && size_hint < s->body_file_size) {
		/* The Received line comes on top of what the sender announced; a failure shows at the first write. */
		b->mem = alloc_get(s->alloc, (size_t)size_hint);
		b->cap = b->mem ? (size_t)size_hint : 0;
	}
	return b;
}

static void hold(struct spool_body *b, uint64_t n)
{
	b->held += n;
	atomic_fetch_add(&b->spool->held_bytes, n);
}

static enum spool_status fail(struct spool_body *b, enum spool_status status)
{
	atomic_store(&b->error, (int)status);
	return status;
}

static bool reserve(struct spool_body *b, size_t n)
{
	size_t cap = b->cap ? b->cap : FIRST_CAP;
	unsigned char *mem;

	while (cap < b->n + n)
		cap *= 2;
	if (cap == b->cap)
		return true;
	mem = b->spool->alloc->resize(b->spool->alloc->arg, b->mem, cap);
	if (!mem)
		return false;
	b->mem = mem;
	b->cap = cap;
	return true;
}

/* Hands what is in memory to the bodies' lane. */
static enum spool_status send_chunk(struct spool_body *b)
{
	struct spool *s = b->spool;
	struct job *j;

	if (!b->n)
		return SPOOL_OK;
	j = alloc_get(s->alloc, sizeof *j);
	if (!j)
		return fail(b, SPOOL_AGAIN);
	memset(j, 0, sizeof *j);
	j->kind = JOB_BODY_CHUNK;
	j->body = b;
	j->bytes = b->mem;
	j->bytes_n = b->n;
	b->mem = NULL;
	b->held -= b->n; /* counted with the chunk now */
	b->n = b->cap = 0;
	s->outstanding++;
	spool_pass(s, LANE_BODIES, j);
	return SPOOL_OK;
}

enum spool_status spool_body_write(struct spool_body *b, const void *bytes, size_t n)
{
	struct spool *s = b->spool;
	const unsigned char *p = bytes;
	enum spool_status status = (enum spool_status)atomic_load(&b->error);

	if (status != SPOOL_OK)
		return status;
	if (atomic_load(&s->held_bytes) + n > HELD_BYTES_MAX)
		return fail(b, SPOOL_AGAIN);
	if (!b->file && s->ops->body_files && b->n + n >= s->body_file_size) {
		b->file = true;
		if ((status = send_chunk(b)) != SPOOL_OK)
			return status;
	}
	while (n) {
		size_t take = n;
		if (b->file && take > BODY_CHUNK - b->n)
			take = BODY_CHUNK - b->n;
		if (!reserve(b, take))
			return fail(b, SPOOL_AGAIN);
		memcpy(b->mem + b->n, p, take);
		b->n += take;
		b->total += take;
		hold(b, take);
		p += take;
		n -= take;
		if (b->file && b->n == BODY_CHUNK && (status = send_chunk(b)) != SPOOL_OK)
			return status;
	}
	return SPOOL_OK;
}

enum spool_status spool_body_prefix(struct spool_body *b, struct view v)
{
	enum spool_status status = (enum spool_status)atomic_load(&b->error);

	if (status != SPOOL_OK)
		return status;
	if (v.n > BODY_PREFIX_MAX || b->prefix)
		return fail(b, SPOOL_AGAIN); /* our own bug, but the sender gets a 4xx, not a wrong message */
	if (!v.n)
		return SPOOL_OK;
	b->prefix = alloc_get(b->spool->alloc, v.n);
	if (!b->prefix)
		return fail(b, SPOOL_AGAIN);
	memcpy(b->prefix, v.p, v.n);
	b->prefix_n = v.n;
	return SPOOL_OK;
}

void spool_body_abort(struct spool_body *b)
{
	struct spool *s = b->spool;
	struct job *j = b->job;

	if (!b->file) {
		body_free(b);
		return;
	}
	b->job = NULL;
	j->kind = JOB_BODY_DROP;
	j->body = b;
	s->outstanding++;
	spool_pass(s, LANE_BODIES, j);
}

void body_free(struct spool_body *b)
{
	struct spool *s = b->spool;

	atomic_fetch_sub(&s->held_bytes, b->held);
	if (b->fd != -1)
		s->env->disk.close(s->env->disk.arg, b->fd);
	alloc_put(s->alloc, b->mem);
	alloc_put(s->alloc, b->prefix);
	alloc_put(s->alloc, b->job);
	alloc_put(s->alloc, b);
}

void body_discard(struct spool_body *b)
{
	struct spool *s = b->spool;
	char path[SPOOL_PATH_MAX];

	/* After a failed sync the segment may hold a record that names the file: the next start takes it, or removes an orphan. */
	if (b->number && !atomic_load(&s->sick)) {
		body_path(s, b->number, path, sizeof path);
		s->env->disk.unlink(s->env->disk.arg, path); /* what is left is an orphan too */
	}
	body_free(b);
}

void body_path(const struct spool *s, uint64_t number, char *to, size_t n)
{
	snprintf(to, n, "%s/bodies/%016llx", s->path, (unsigned long long)number);
}

/* ---- the bodies' lane ---- */

static enum spool_status lane_fail(struct spool_body *b, int err)
{
	enum spool_status status = status_of_errno(err);

	if (status == SPOOL_SICK)
		atomic_store(&b->spool->sick, true);
	return fail(b, status);
}

static enum spool_status open_file(struct spool_body *b)
{
	struct spool *s = b->spool;
	const struct env_disk *d = &s->env->disk;
	char path[SPOOL_PATH_MAX];

	for (int i = 0; i < NAME_TRIES; i++) {
		uint64_t now = (uint64_t)env_wall_ms(s->env) * 1000;
		s->body_number = now > s->body_number ? now : s->body_number + 1;
		body_path(s, s->body_number, path, sizeof path);
		b->fd = d->open(d->arg, path, O_RDWR | O_CREAT | O_EXCL, 0600);
		if (b->fd != -1) {
			b->number = s->body_number;
			b->at = BODY_PREFIX_MAX;
			return SPOOL_OK;
		}
		if (errno != EEXIST)
			break;
	}
	return lane_fail(b, errno);
}

static enum spool_status write_all(struct spool_body *b, const unsigned char *p, size_t n, uint64_t at)
{
	const struct env_disk *d = &b->spool->env->disk;

	while (n) {
		ssize_t w = d->pwrite(d->arg, b->fd, p, n, (off_t)at);
		if (w == -1 && errno == EINTR)
			continue;
		if (w == -1)
			return lane_fail(b, errno);
		if (w == 0)
			return lane_fail(b, ENOSPC);
		p += w;
		n -= (size_t)w;
		at += (uint64_t)w;
	}
	return SPOOL_OK;
}

static enum spool_status add_chunk(struct spool_body *b, const unsigned char *p, size_t n)
{
	struct spool *s = b->spool;
	const struct env_disk *d = &s->env->disk;
	enum spool_status status = (enum spool_status)atomic_load(&b->error);
	int64_t room;

	if (status != SPOOL_OK || !n)
		return status;
	if (atomic_load(&s->sick))
		return fail(b, SPOOL_SICK);
	room = d->free_bytes(d->arg, s->path);
	if (room != -1 && (uint64_t)room < s->min_free + n)
		return fail(b, SPOOL_FULL);
	if (b->fd == -1 && (status = open_file(b)) != SPOOL_OK)
		return status;
	if ((status = write_all(b, p, n, b->at)) != SPOOL_OK)
		return status;
	b->at += n;
	b->crc = crc32c(b->crc, p, n);
	return SPOOL_OK;
}

/* The last chunk, the prefix, the sync: after this the file is as durable as its directory entry. */
static enum spool_status finish(struct spool_body *b)
{
	const struct env_disk *d = &b->spool->env->disk;
	enum spool_status status = add_chunk(b, b->mem, b->n);
	uint32_t both[2];
	int r;

	if (status != SPOOL_OK)
		return status;
	status = write_all(b, b->prefix, b->prefix_n, BODY_PREFIX_MAX - b->prefix_n);
	if (status != SPOOL_OK)
		return status;
	if (d->fsync(d->arg, b->fd) == -1) {
		/* Pages that failed to reach the disk may look clean now: nothing later can be trusted. */
		atomic_store(&b->spool->sick, true);
		return fail(b, SPOOL_SICK);
	}
	r = d->close(d->arg, b->fd);
	b->fd = -1;
	if (r == -1)
		return lane_fail(b, errno);
	both[0] = crc32c(0, b->prefix, b->prefix_n);
	both[1] = b->crc;
	b->crc = crc32c(0, both, sizeof both);
	return SPOOL_OK;
}

static void finish_job(struct spool *s, struct job *j)
{
	enum spool_status status = SPOOL_OK;

	for (size_t i = 0; i < j->messages_n && status == SPOOL_OK; i++)
		if (j->messages[i].body->file)
			status = finish(j->messages[i].body);
	if (status == SPOOL_OK) {
		spool_pass(s, LANE_WRITER, j);
		return;
	}
	for (size_t i = 0; i < j->messages_n; i++) {
		body_discard(j->messages[i].body);
		j->messages[i].body = NULL;
	}
	j->status = status;
	spool_post_one(s, j);
}

void bodies_run(struct spool *s, struct job_list *in)
{
	for (struct job *j; (j = job_pop(in)) != NULL;) {
		switch (j->kind) {
		case JOB_BODY_CHUNK:
			add_chunk(j->body, j->bytes, j->bytes_n);
			atomic_fetch_sub(&s->held_bytes, j->bytes_n);
			alloc_put(s->alloc, j->bytes);
			j->bytes = NULL;
			j->status = SPOOL_OK;
			spool_post_one(s, j);
			break;
		case JOB_BODY_DROP:
			body_discard(j->body);
			j->status = SPOOL_OK;
			spool_post_one(s, j);
			break;
		default:
			finish_job(s, j);
			break;
		}
	}
}
