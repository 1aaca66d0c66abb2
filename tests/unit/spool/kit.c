/* kit.c - see kit.h. */
#include "kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 20 /* no answer of the spool takes that long */

enum spool_index kit_index = SPOOL_INDEX_STRICT;

int kit_both_modes(const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup)
{
	int failed = _cmocka_run_group_tests("strict", tests, n, setup, NULL);

	kit_index = SPOOL_INDEX_LAGGING;
	return failed + _cmocka_run_group_tests("lagging", tests, n, NULL, NULL);
}

void kit_dir(char *path, size_t n)
{
	const char *tmp = getenv("SPOOL_TEST_DIR");

	/* Memory: thousands of syncs cost nothing there, and a power cut is simulated anyway (power.c). */
	snprintf(path, n, "%s/spool-test-XXXXXX", tmp ? tmp : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(path));
	rmdir(path);
}

void kit_remove(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d)) != NULL) {
		char name[1024];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		if (unlink(name) == -1)
			kit_remove(name);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

static void copy_file(const char *from, const char *to)
{
	static char bytes[1 << 16];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t n;

	assert_true(in != -1 && out != -1);
	while ((n = read(in, bytes, sizeof bytes)) > 0)
		assert_int_equal(write(out, bytes, (size_t)n), n);
	close(in);
	close(out);
}

void kit_copy(const char *from, const char *to)
{
	DIR *d = opendir(from);
	struct dirent *e;

	assert_non_null(d);
	mkdir(to, 0700);
	while ((e = readdir(d)) != NULL) {
		char a[1024], b[1024];
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(a, sizeof a, "%s/%s", from, e->d_name);
		snprintf(b, sizeof b, "%s/%s", to, e->d_name);
		assert_int_equal(stat(a, &st), 0);
		if (S_ISDIR(st.st_mode))
			kit_copy(a, b);
		else
			copy_file(a, b);
	}
	closedir(d);
}

void kit_init(struct kit *k, enum kit_engine engine)
{
	memset(k, 0, sizeof *k);
	k->engine = engine;
	kit_dir(k->path, sizeof k->path);
	k->options = (struct spool_options){ .path = k->path, .env = &env_real, .threaded = engine == KIT_THREADED,
		.segment_size = 256 * 1024, .body_file_size = 32 * 1024, .index = kit_index };
}

int kit_open(struct kit *k)
{
	k->options.path = k->path;
	if (k->engine == KIT_MEM)
		return spool_open_mem(&k->spool, &k->options, &k->error);
	return spool_open(&k->spool, &k->options, &k->found, &k->error);
}

void kit_close(struct kit *k)
{
	spool_close(k->spool);
	k->spool = NULL;
}

void kit_end(struct kit *k)
{
	kit_close(k);
	kit_remove(k->path);
}

void kit_wait(struct kit *k, const bool *done)
{
	time_t limit = time(NULL) + WAIT_S;

	spool_kick(k->spool);
	while (!*done) {
		if (k->engine == KIT_THREADED)
			usleep(100);
		else
			spool_step(k->spool);
		spool_dispatch(k->spool);
		spool_kick(k->spool);
		assert_true(time(NULL) < limit);
	}
}

void kit_done(void *answer, enum spool_status status, spool_id id)
{
	struct kit_answer *a = answer;

	a->done = true;
	a->calls++;
	a->status = status;
	a->id = id;
}

struct spool_envelope kit_envelope(const char *dest, int64_t due, const char *data)
{
	return (struct spool_envelope){ .dest = view_cstr(dest), .due = due, .created = 1000, .expires = 900000,
		.data = view_cstr(data) };
}

void kit_begin_accept(struct kit *k, const char *text, size_t size, const char *dest, uint32_t n, bool lease,
                      struct kit_answer *a)
{
	struct spool_body *b = spool_body_begin(k->spool, size);
	struct spool_envelope e[32];
	bool leases[32];

	memset(a, 0, sizeof *a);
	if (!b) {
		kit_done(a, SPOOL_AGAIN, 0);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		e[i] = kit_envelope(dest, 100, "data");
		leases[i] = lease;
	}
	for (size_t at = 0; at < size; at += 5000)
		spool_body_write(b, text + at, size - at < 5000 ? size - at : 5000);
	spool_accept(k->spool, b, e, leases, n, kit_done, a);
}

struct kit_answer kit_accept(struct kit *k, const char *text, const char *dest, uint32_t n, bool lease)
{
	struct kit_answer a;

	kit_begin_accept(k, text, strlen(text), dest, n, lease, &a);
	kit_wait(k, &a.done);
	return a;
}

static void take_list(void *arg, enum spool_status status, const struct spool_envelope *e, size_t n)
{
	struct kit_found *f = arg;

	f->done = true;
	f->status = status;
	f->n = n;
	assert_true(n <= 2048);
	for (size_t i = 0; i < n; i++) {
		f->e[i].id = e[i].id;
		f->e[i].slot = e[i].slot;
		f->e[i].attempts = e[i].attempts;
		f->e[i].due = e[i].due;
		f->e[i].created = e[i].created;
		f->e[i].expires = e[i].expires;
		f->e[i].held = e[i].held;
		f->e[i].size = e[i].body_size;
		snprintf(f->e[i].dest, sizeof f->e[i].dest, "%.*s", VIEW_ARGS(e[i].dest));
		snprintf(f->e[i].data, sizeof f->e[i].data, "%.*s", VIEW_ARGS(e[i].data));
	}
}

void kit_lease(struct kit *k, const char *dest, int64_t now, size_t max, struct kit_found *f)
{
	memset(f, 0, sizeof *f);
	spool_lease(k->spool, view_cstr(dest), now, max, take_list, f);
	kit_wait(k, &f->done);
}

static void take_due(void *arg, enum spool_status status, const struct spool_due *d, size_t n, int64_t next)
{
	struct kit_found *f = arg;

	f->done = true;
	f->status = status;
	f->n = n;
	f->next_due = next;
	for (size_t i = 0; i < n; i++) {
		snprintf(f->e[i].dest, sizeof f->e[i].dest, "%.*s", VIEW_ARGS(d[i].dest));
		f->e[i].due = d[i].due;
		f->e[i].count = d[i].count;
	}
}

void kit_due(struct kit *k, int64_t now, size_t max, struct kit_found *f)
{
	memset(f, 0, sizeof *f);
	spool_due(k->spool, now, max, take_due, f);
	kit_wait(k, &f->done);
}

void kit_list(struct kit *k, spool_id after, uint32_t slot, const char *dest, size_t max, struct kit_found *f)
{
	memset(f, 0, sizeof *f);
	spool_list(k->spool, after, slot, view_cstr(dest), max, take_list, f);
	kit_wait(k, &f->done);
}

struct kit_answer kit_settle(struct kit *k, spool_id id, uint32_t slot, const struct spool_envelope *remains)
{
	struct kit_answer a = { 0 };

	spool_settle(k->spool, id, slot, remains, NULL, 0, kit_done, &a);
	kit_wait(k, &a.done);
	return a;
}

struct kit_answer kit_hold(struct kit *k, spool_id id, const char *dest, bool on)
{
	struct kit_answer a = { 0 };

	spool_hold(k->spool, id, view_cstr(dest), on, kit_done, &a);
	kit_wait(k, &a.done);
	return a;
}

struct kit_answer kit_flush(struct kit *k, spool_id id, const char *dest, int64_t now)
{
	struct kit_answer a = { 0 };

	spool_flush(k->spool, id, view_cstr(dest), now, kit_done, &a);
	kit_wait(k, &a.done);
	return a;
}

struct kit_answer kit_delete(struct kit *k, spool_id id, const char *dest)
{
	struct kit_answer a = { 0 };

	spool_delete(k->spool, id, view_cstr(dest), kit_done, &a);
	kit_wait(k, &a.done);
	return a;
}

struct chunk { bool done; enum spool_status status; char *p; size_t n; };

static void take_chunk(void *arg, enum spool_status status, struct view bytes)
{
	struct chunk *c = arg;

	c->done = true;
	c->status = status;
	c->n = bytes.n;
	c->p = malloc(bytes.n + 1);
	memcpy(c->p, bytes.p, bytes.n);
	c->p[bytes.n] = '\0';
}

char *kit_read(struct kit *k, spool_id id, uint64_t offset, size_t n, size_t *got, enum spool_status *status)
{
	struct chunk c = { 0 };

	spool_read(k->spool, id, offset, n, take_chunk, &c);
	kit_wait(k, &c.done);
	*status = c.status;
	*got = c.n;
	if (c.status == SPOOL_OK)
		return c.p;
	free(c.p);
	return NULL;
}

void kit_assert_body(struct kit *k, spool_id id, const char *text)
{
	size_t n;
	enum spool_status status;
	char *p = kit_read(k, id, 0, strlen(text) + 100, &n, &status);

	assert_int_equal(status, SPOOL_OK);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(p, text, n);
	free(p);
}

size_t kit_count(struct kit *k)
{
	static struct kit_found f;
	size_t n = 0;
	spool_id id = 0;
	uint32_t slot = 0;

	do {
		kit_list(k, id, slot, "", 1000, &f);
		assert_int_equal(f.status, SPOOL_OK);
		n += f.n;
		if (f.n) {
			id = f.e[f.n - 1].id;
			slot = f.e[f.n - 1].slot;
		}
	} while (f.n == 1000);
	return n;
}
