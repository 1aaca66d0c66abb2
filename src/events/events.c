/* events.c - one event is one logfmt line and one count.
 *
 * Use       events_new at the start of a role, events_emit (or EMIT) from any thread, events_free at its end.
 * Batches   with events_gather lines wait for events_flush, which the loop calls before it sleeps; warnings and errors never
 *           wait.  A crash loses the lines of its turn, no counts.
 * Ownership the descriptor and the counters are borrowed; fields are read during the call only.
 * Failure   nothing here fails towards the caller: a line that cannot leave now is dropped and counted, and the count is
 *           reported by a `dropped` line before the next line that can leave.  A count is never lost.
 * Signals   the process ignores SIGPIPE: the log's reader may go away.
 * Order     the count comes before the line, so that a reader of the log who then asks for the metrics never sees fewer.
 */
#include "events/events.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* POSIX makes writes of up to PIPE_BUF (4,096 on Linux) to a pipe whole: lines of several processes never mix. */
#define LINE_MAX_OCTETS 4096
/* One value as it is printed: a remote's words fit (an SMTP reply line has 512 octets), a hostile one leaves room. */
#define VALUE_MAX_OCTETS 1024
/* Kept free at the end of a line for the marks of a cut value and the newline. */
#define LINE_RESERVE 8

struct row {
	const char *name, *keys, *help;
	enum event_level level;
};

static const struct row rows[EVENT_END] = {
#define EVENT(id, name_, level_, keys_, help_) \
	[EVENT_##id] = { .name = name_, .keys = keys_, .help = help_, .level = EVENT_##level_ },
#include "spec/events.def"
};

struct events {
	const struct env *env;
	const char *role;
	int fd;
	bool socket;      /* fd is a socket: MSG_DONTWAIT says all */
	bool nonblocking; /* fd never blocks by itself: no poll needed */
	enum event_level least;
	uint64_t *counters;
	uint64_t own[EVENT_END + 1];
	uint64_t dropped; /* lines not reported yet; under lock */
	pthread_mutex_t lock;
	bool gather;
	size_t waiting, lines; /* octets and lines in batch; changed under lock, looked at without */
	char batch[LINE_MAX_OCTETS]; /* leaves in one write, which a pipe keeps whole as it does a line */
};

struct line {
	char text[LINE_MAX_OCTETS];
	size_t n;
};

static const struct row *row_of(enum event e)
{
	assert(e > EVENT_NONE && e < EVENT_END);
	return &rows[e];
}

const char *event_name(enum event e)
{
	return row_of(e)->name;
}

const char *event_help(enum event e)
{
	return row_of(e)->help;
}

enum event_level event_level_of(enum event e)
{
	return row_of(e)->level;
}

const char *event_level_name(enum event_level level)
{
	switch (level) {
	case EVENT_DEBUG:
		return "debug";
	case EVENT_INFO:
		return "info";
	case EVENT_WARN:
		return "warn";
	case EVENT_ERROR:
		return "error";
	}
	return "unknown";
}

const char *event_id_text(uint64_t id, char to[EVENT_ID_SIZE])
{
	static const char hex[] = "0123456789abcdef";
	for (int i = 0; i < EVENT_ID_SIZE - 1; i++)
		to[i] = hex[id >> (60 - 4 * i) & 15];
	to[EVENT_ID_SIZE - 1] = '\0';
	return to;
}

/* True when key is one of the blank-separated words of keys. */
static bool declared(const char *keys, const char *key)
{
	const size_t n = strlen(key);
	for (const char *at = keys; n && (at = strstr(at, key)) != NULL; at += n)
		if ((at == keys || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
			return true;
	return false;
}

/* ---- a line ---- */

/* Adds all of it or nothing; the reserve stays for the end of the line. */
static bool put(struct line *l, const char *p, size_t n)
{
	if (n > LINE_MAX_OCTETS - LINE_RESERVE - l->n)
		return false;
	memcpy(l->text + l->n, p, n);
	l->n += n;
	return true;
}

static void put_word(struct line *l, const char *key, const char *word)
{
	if (l->n)
		put(l, " ", 1);
	put(l, key, strlen(key));
	put(l, "=", 1);
	put(l, word, strlen(word));
}

/* Printable without quotes: what no reader of logfmt could take for the end of a value. */
static bool plain(struct view v)
{
	for (size_t i = 0; i < v.n; i++) {
		const unsigned char c = (unsigned char)v.p[i];
		if (c <= ' ' || c >= 127 || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return v.n > 0;
}

static size_t escape(unsigned char c, char to[5])
{
	if (c == '"' || c == '\\') {
		to[0] = '\\';
		to[1] = (char)c;
		return 2;
	}
	if (c >= ' ' && c < 127) {
		to[0] = (char)c;
		return 1;
	}
	return (size_t)snprintf(to, 5, "\\x%02x", c);
}

/* A value from anywhere, hostile peers included: no octet of it can end the line or begin another key. */
static void put_value(struct line *l, struct view v)
{
	if (v.n <= VALUE_MAX_OCTETS && plain(v) && put(l, v.p, v.n))
		return;
	/* without room for both quotes there is no value; the reserve holds the dots and the closing quote of a cut one
	 */
	if (!put(l, "\"", 1))
		return;
	const size_t start = l->n;
	bool cut = false;
	for (size_t i = 0; i < v.n && !cut; i++) {
		char to[5];
		const size_t n = escape((unsigned char)v.p[i], to);
		cut = l->n - start + n > VALUE_MAX_OCTETS || !put(l, to, n);
	}
	if (cut) {
		memcpy(l->text + l->n, "...", 3);
		l->n += 3;
	}
	l->text[l->n++] = '"';
}

/* The decimal digits of v, without the cost of a format. */
static size_t decimal(uint64_t v, char to[20])
{
	char digits[20];
	size_t n = 0, i;

	do
		digits[n++] = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	for (i = 0; i < n; i++)
		to[i] = digits[n - 1 - i];
	return n;
}

static void put_field(struct line *l, const struct event_field *f)
{
	char text[24];
	const size_t key = strlen(f->key);
	/* a key without room for any value behind it is left out whole, with all that follow */
	if (l->n + key + sizeof text + 2 > LINE_MAX_OCTETS - LINE_RESERVE)
		return;
	put(l, " ", 1);
	put(l, f->key, key);
	put(l, "=", 1);
	switch (f->type) {
	case EVENT_FIELD_VIEW:
		put_value(l, f->text);
		return;
	case EVENT_FIELD_U64:
		text[decimal(f->number, text)] = '\0';
		break;
	case EVENT_FIELD_I64:
		snprintf(text, sizeof text, "%lld", (long long)f->number);
		break;
	case EVENT_FIELD_ID:
		event_id_text(f->number, text);
		break;
	}
	put(l, text, strlen(text));
}

/* ISO 8601, UTC, to the second.  By arithmetic: gmtime_r may read the time zone's file, which a confined role cannot. */
static void format_second(int64_t seconds, char text[40])
{
	/* days of the proleptic Gregorian calendar, counted from 1 March of year 0 so that the leap day ends a year */
	const int64_t days = seconds / 86400 + 719468;
	const int64_t era = days / 146097, of_era = days % 146097;
	const int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	const int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	const int64_t shifted = (5 * of_year + 2) / 153; /* month, March is 0 */
	const int day = (int)(of_year - (153 * shifted + 2) / 5 + 1);
	const int month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
	const long long year = (long long)(year_of_era + era * 400 + (month <= 2));

	snprintf(text, 40, "%04lld-%02d-%02dT%02d:%02d:%02d", year, month, day, (int)(seconds / 3600 % 24), (int)(seconds / 60 % 60),
	         (int)(seconds % 60));
}

/* A second has many lines: what is common to them is written once for each thread. */
static void put_time(struct line *l, int64_t wall_ms)
{
	static _Thread_local int64_t last = -1;
	static _Thread_local char text[40];
	const int64_t ms = wall_ms > 0 ? wall_ms : 0;
	const unsigned part = (unsigned)(ms % 1000);
	const char rest[5] = { '.', (char)('0' + part / 100), (char)('0' + part / 10 % 10), (char)('0' + part % 10), 'Z' };

	if (last != ms / 1000) {
		last = ms / 1000;
		format_second(last, text);
	}
	put_word(l, "time", text);
	put(l, rest, sizeof rest);
}

static void compose(struct line *l, const struct events *ev, enum event e, const struct event_field *fields, size_t n)
{
	const struct row *row = row_of(e);
	l->n = 0;
	put_time(l, env_wall_ms(ev->env));
	put_word(l, "level", event_level_name(row->level));
	put_word(l, "role", ev->role);
	put_word(l, "event", row->name);
	for (size_t i = 0; i < n; i++)
		put_field(l, &fields[i]);
	l->text[l->n++] = '\n';
}

/* ---- leaving ---- */

/* One write, never waiting.  The lock makes poll-then-write safe among our threads; among processes that share a
 * blocking pipe a race for its last free page remains, so `super` should hand out a non-blocking one. */
static bool leave(const struct events *ev, const char *text, size_t count)
{
	ssize_t n;
	int ready;
	do {
		if (ev->socket) {
			n = send(ev->fd, text, count, MSG_DONTWAIT | MSG_NOSIGNAL);
		} else {
			struct pollfd p = { .fd = ev->fd, .events = POLLOUT };
			do
				ready = ev->nonblocking ? 1 : poll(&p, 1, 0);
			while (ready == -1 && errno == EINTR);
			if (ready != 1 || !(ev->nonblocking || p.revents & POLLOUT))
				return false;
			n = write(ev->fd, text, count);
		}
	} while (n == -1 && errno == EINTR);
	/* a short write (a full disk, never a pipe) leaves a torn line behind: nothing better than to count it */
	return n == (ssize_t)count;
}

static void count(struct events *ev, size_t index, uint64_t n)
{
	__atomic_fetch_add(&ev->counters[index], n, __ATOMIC_RELAXED);
}

static void drop(struct events *ev, size_t lines)
{
	ev->dropped += lines;
	count(ev, EVENT_END, lines);
}

/* Tells of dropped lines first, so that the log never hides a hole.  Called under the lock. */
static bool report_dropped(struct events *ev)
{
	struct line l;
	if (ev->dropped == 0)
		return true;
	compose(&l, ev, EVENT_DROPPED, (const struct event_field[]){ F_U64("n", ev->dropped) }, 1);
	if (!leave(ev, l.text, l.n))
		return false;
	count(ev, EVENT_DROPPED, 1);
	ev->dropped = 0;
	return true;
}

/* What waits leaves, or is dropped.  Called under the lock. */
static void let_go(struct events *ev)
{
	if (ev->waiting && (!report_dropped(ev) || !leave(ev, ev->batch, ev->waiting)))
		drop(ev, ev->lines);
	__atomic_store_n(&ev->waiting, 0, __ATOMIC_RELAXED);
	ev->lines = 0;
}

static void gather(struct events *ev, const struct line *l)
{
	if (ev->waiting + l->n > sizeof ev->batch)
		let_go(ev);
	memcpy(ev->batch + ev->waiting, l->text, l->n);
	ev->lines++;
	__atomic_store_n(&ev->waiting, ev->waiting + l->n, __ATOMIC_RELAXED);
}

void events_gather(struct events *ev)
{
	ev->gather = true;
}

void events_flush(struct events *ev)
{
	if (!ev || !__atomic_load_n(&ev->waiting, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&ev->lock);
	let_go(ev);
	pthread_mutex_unlock(&ev->lock);
}

void events_emit(struct events *ev, enum event e, bool *checked, const struct event_field *fields, size_t n)
{
	const struct row *row = row_of(e);
	/* our own bug, whatever the level: a key that the table does not declare is not in the documentation either.  The keys
	 * of one place in the code are always the same, so they are looked up once. */
	for (size_t i = 0; !__atomic_load_n(checked, __ATOMIC_RELAXED) && i < n; i++)
		assert(declared(row->keys, fields[i].key));
	__atomic_store_n(checked, true, __ATOMIC_RELAXED);
	if (!ev)
		return;
	count(ev, e, 1);
	if (row->level < ev->least || ev->fd == -1)
		return;
	const int err = errno;
	struct line l;
	compose(&l, ev, e, fields, n);
	pthread_mutex_lock(&ev->lock);
	if (ev->gather && row->level < EVENT_WARN) {
		gather(ev, &l);
	} else {
		let_go(ev); /* in the order in which things happened */
		if (!report_dropped(ev) || !leave(ev, l.text, l.n))
			drop(ev, 1);
	}
	pthread_mutex_unlock(&ev->lock);
	errno = err;
}

struct events *events_new(const struct env *env, const char *role, int fd, enum event_level least, uint64_t *counters)
{
	struct events *ev = calloc(1, sizeof *ev);
	struct stat st;
	if (!ev)
		return NULL;
	if (pthread_mutex_init(&ev->lock, NULL) != 0) {
		free(ev);
		return NULL;
	}
	const int flags = fd == -1 ? -1 : fcntl(fd, F_GETFL);
	ev->env = env;
	ev->role = role;
	ev->fd = fd;
	ev->socket = fd != -1 && fstat(fd, &st) != -1 && S_ISSOCK(st.st_mode);
	ev->nonblocking = flags != -1 && (flags & O_NONBLOCK);
	ev->least = least;
	ev->counters = counters ? counters : ev->own;
	return ev;
}

void events_free(struct events *ev)
{
	if (!ev)
		return;
	pthread_mutex_lock(&ev->lock);
	let_go(ev);
	report_dropped(ev);
	pthread_mutex_unlock(&ev->lock);
	pthread_mutex_destroy(&ev->lock);
	free(ev);
}
