/* scan.c - reading a segment from end to end: torn tails, damage, leftovers.  See segment.h. */
#include "spool/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define WINDOW (1024u * 1024) /* read at once; grows for a record that is larger */

int scan_open(struct scan *sc, struct segments *ss, struct segment *s, uint64_t from, uint64_t previous, bool resync,
              struct error *err)
{
	*sc = (struct scan){ .ss = ss, .seg = s, .at = from, .previous = previous, .resync = resync, .error = err };
	sc->end = s->written;
	sc->fd = segment_read_fd(ss, s);
	if (sc->fd == -1)
		return error_sys(err, errno, "cannot open segment %08llx of the spool", (unsigned long long)s->number);
	return 0;
}

void scan_close(struct scan *sc)
{
	const struct env_disk *d = &sc->ss->spool->env->disk;

	if (sc->fd != -1)
		d->close(d->arg, sc->fd);
	sc->fd = -1;
	alloc_put(sc->ss->spool->alloc, sc->window);
	sc->window = NULL;
}

/* Makes n bytes at `at` visible, or those up to the end of the file.  NULL: failure. */
static const unsigned char *look(struct scan *sc, uint64_t at, uint64_t n, size_t *got)
{
	const struct env_disk *d = &sc->ss->spool->env->disk;
	const struct alloc *a = sc->ss->spool->alloc;
	size_t want;

	if (at + n > sc->end)
		n = sc->end > at ? sc->end - at : 0;
	if (sc->window && at >= sc->window_at && at + n <= sc->window_at + sc->window_n) {
		*got = (size_t)(sc->window_at + sc->window_n - at);
		return sc->window + (at - sc->window_at);
	}
	want = n > WINDOW ? (size_t)n : WINDOW;
	if (want > sc->window_cap) {
		unsigned char *w = a->resize(a->arg, sc->window, want);
		if (!w) {
			error_set(sc->error, ERROR_AGAIN, "no memory to read the spool");
			return NULL;
		}
		sc->window = w;
		sc->window_cap = want;
	}
	sc->window_at = at;
	sc->window_n = 0;
	while (sc->window_n < sc->window_cap) {
		ssize_t r = d->pread(d->arg, sc->fd, sc->window + sc->window_n, sc->window_cap - sc->window_n,
		                     (off_t)(at + sc->window_n));
		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1) {
			error_sys(sc->error, errno, "cannot read segment %08llx of the spool", (unsigned long long)sc->seg->number);
			return NULL;
		}
		if (r == 0)
			break;
		sc->window_n += (size_t)r;
	}
	*got = sc->window_n;
	return sc->window;
}

/* The record at `at`, whole. */
static enum record_check check_at(struct scan *sc, uint64_t at, struct record *r, uint64_t *need, bool *failed)
{
	size_t got;
	const unsigned char *p = look(sc, at, RECORD_HEADER, &got);
	enum record_check c;

	*need = 0;
	*failed = !p;
	if (!p || got < RECORD_HEADER)
		return RECORD_FOREIGN;
	c = record_parse(p, got, sc->seg->generation, sc->seg->salt, at, r, need);
	if (c != RECORD_BAD || *need <= got || at + *need > sc->end)
		return c;
	p = look(sc, at, *need, &got);
	*failed = !p;
	return p ? record_parse(p, got, sc->seg->generation, sc->seg->salt, at, r, need) : RECORD_BAD;
}

/* Behind damage: the next place where a record of ours stands.  Its own offset, generation and the salt in its
 * checksum make a false hit impossible, whatever a mail contains. */
static enum scan_result search(struct scan *sc, struct record *r)
{
	uint64_t need;
	bool failed = false;

	for (uint64_t at = sc->at + 8; at + RECORD_HEADER <= sc->end; at += 8) {
		size_t got;
		const unsigned char *p = look(sc, at, RECORD_HEADER, &got);
		if (!p)
			return SCAN_FAILED;
		if (got < RECORD_HEADER)
			break;
		if (memcmp(p, "PrR1", 4) != 0)
			continue;
		if (check_at(sc, at, r, &need, &failed) == RECORD_GOOD && r->sequence > sc->previous) {
			sc->damaged_from = sc->at;
			sc->damaged_to = at;
			sc->at = at + need;
			sc->previous = r->sequence;
			return SCAN_RECORD;
		}
		if (failed)
			return SCAN_FAILED;
	}
	return SCAN_END;
}

enum scan_result scan_next(struct scan *sc, struct record *r)
{
	uint64_t need = 0;
	bool failed = false;
	enum record_check c;

	sc->damaged_from = sc->damaged_to = 0;
	sc->torn = 0;
	if (sc->at + RECORD_HEADER > sc->end)
		return SCAN_END;
	c = check_at(sc, sc->at, r, &need, &failed);
	if (failed)
		return SCAN_FAILED;
	/* A sequence that does not rise is a leftover from before a jump. */
	if (c == RECORD_GOOD && (r->sequence == sc->previous + 1 || (r->type == RECORD_MARK && r->sequence > sc->previous))) {
		sc->at += need;
		sc->previous = r->sequence;
		return SCAN_RECORD;
	}
	if (c == RECORD_BAD)
		sc->torn = sc->at + need <= sc->end ? need : sc->end - sc->at;
	return sc->resync ? search(sc, r) : SCAN_END;
}

void segment_quarantine(struct segments *ss, const struct segment *s, uint64_t from, uint64_t to)
{
	const struct env_disk *d = &ss->spool->env->disk;
	unsigned char bytes[16 * 1024];
	char path[SPOOL_PATH_MAX];
	int in, out;

	snprintf(path, sizeof path, "%s/quarantine/%08llx-%08llx", ss->spool->path, (unsigned long long)s->generation,
	         (unsigned long long)from);
	in = segment_read_fd(ss, s);
	out = d->open(d->arg, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	/* A help for the operator; that it cannot be written must not keep the rest of the mail from coming back. */
	for (uint64_t at = from; in != -1 && out != -1 && at < to;) {
		size_t n = to - at < sizeof bytes ? (size_t)(to - at) : sizeof bytes;
		ssize_t r = d->pread(d->arg, in, bytes, n, (off_t)at);
		if (r <= 0 || d->pwrite(d->arg, out, bytes, (size_t)r, (off_t)(at - from)) != r)
			break;
		at += (uint64_t)r;
	}
	if (in != -1)
		d->close(d->arg, in);
	if (out != -1) {
		d->fsync(d->arg, out);
		d->close(d->arg, out);
	}
}
