/* memory.c - deliveries with the n-th allocation of `local` failing, for every n: no crash, no leak, and a recipient that is told
 * delivered has its message, whole, in new/. */
#include "../receive/rig.h"
#include "local/local.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>

static bool armed;
static long calls, fail_at;

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);

static bool fails(void)
{
	return armed && ++calls == fail_at;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fails() ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

static char root[64];

struct world {
	struct rig *rig;
	struct channel *queue;
	unsigned outcomes, delivered;
};

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_OUTCOME o;
	struct wire_result r;

	(void)ch;
	(void)fd;
	if (type != WIRE_OUTCOME)
		return;
	assert_int_equal(wire_read_OUTCOME(payload, &o), 0);
	w->outcomes++;
	while (wire_result_next(&o.results, &r) == 1)
		w->delivered += r.kind == WIRE_DELIVERED;
}

static void on_closed(void *arg, struct channel *ch)
{
	((struct world *)arg)->queue = NULL;
	channel_free(ch);
}

static const struct channel_handler handler = { on_frame, on_closed, NULL };

static unsigned whole_mails(const char *user, size_t size)
{
	char path[300], name[600];
	struct stat st;
	unsigned n = 0;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof path, "%s/%s/new", root, user);
	dir = opendir(path);
	while (dir && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", path, d->d_name);
		assert_int_equal(stat(name, &st), 0);
		assert_int_equal(st.st_size, size);
		n++;
	}
	if (dir)
		closedir(dir);
	return n;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static bool try_once(long n, size_t size)
{
	static char bytes[400 * 1024];
	struct world w = { 0 };
	struct channel *ends[2];
	struct buf list;
	char conf[400];
	bool ok;
	struct wire_DELIVER m = { .stream = 1, .dest = VIEW("maildir:l.test"), .sender = VIEW("a@b.test"), .size = size };

	snprintf(root, sizeof root, "/tmp/test_local_XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(conf, sizeof conf, "listener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none }\ndomain \"l.test\" { deliver = \"maildir:%s/%%{user}\" }\n",
	         root);
	w.rig = rig_new(&local_role, conf, NULL);
	snprintf(conf, sizeof conf, "%s/bob", root);
	assert_int_equal(mkdir(conf, 0700), 0);
	assert_int_equal(channel_pair(w.rig->loop, ends), 0);
	w.queue = ends[1];
	channel_set_handler(ends[1], &handler, &w);
	local_role.channel(&w.rig->role, ROLE_QUEUE, 0, 1, ends[0]);
	buf_init(&list, &alloc_libc, 65536);
	wire_rcpt_add(&list, &(struct wire_rcpt){ .address = VIEW("bob@l.test") });
	wire_rcpt_add(&list, &(struct wire_rcpt){ .address = VIEW("postmaster@l.test") });
	m.rcpts = buf_view(&list);
	wire_send_DELIVER(w.queue, &m);
	memset(bytes, 'x', size);
	for (size_t at = 0; at < size; at += WIRE_BODY_FRAME) {
		size_t part = size - at < WIRE_BODY_FRAME ? size - at : WIRE_BODY_FRAME;
		wire_send_DELIVER_BYTES(w.queue, &(struct wire_DELIVER_BYTES){ .stream = 1, .last = at + part == size, .bytes = view_of(bytes + at, part) });
	}
	buf_free(&list);
	calls = 0;
	fail_at = n;
	armed = true;
	rig_turns(w.rig, 8);
	armed = false;
	fail_at = 0;
	assert_true(w.outcomes == 1 || !w.queue);
	assert_true(whole_mails("bob", size + strlen("Return-Path: <a@b.test>\nDelivered-To: bob@l.test\n")) +
	                    whole_mails("postmaster", size + strlen("Return-Path: <a@b.test>\nDelivered-To: postmaster@l.test\n")) >=
	            w.delivered);
	ok = w.delivered == 2;
	local_role.stop(&w.rig->role);
	w.rig->role.ops = NULL;
	rig_turns(w.rig, 3);
	if (w.queue)
		channel_free(w.queue);
	rig_free(w.rig);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return ok;
}

static void test_every_allocation(void **state)
{
	static const size_t sizes[] = { 300, 400 * 1024 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		long failed = 0, n = 1;
		for (; n < 2000; n++) {
			failed += !try_once(n, sizes[i]);
			if (calls < n)
				break;
		}
		assert_true(failed > 3);
		assert_true(n < 2000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_allocation) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
