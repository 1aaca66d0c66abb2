/* crash.c - kill -9 in the middle of everything, threads and all: what the child was told is what its successor finds.
 *
 * The child accepts, settles and defers as fast as it can and writes what it was told to a pipe; the parent kills it at
 * a random moment, opens the spool, and looks for each.  Life after life on the same spool. */
#include "kit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIVES 12
#define UNDER_WAY 40
#define TOLD_MAX 400000

enum word { TOLD_ACCEPTED = 1, TOLD_ENDED, TOLD_DEFERRED, ASKED_END };
struct told { uint64_t id; uint32_t word, check; };

struct sender { struct kit *k; unsigned n; };

static int out;

static void tell(enum word w, uint64_t id)
{
	struct told t = { .id = id, .word = (uint32_t)w, .check = (uint32_t)id ^ (uint32_t)w };

	if (write(out, &t, sizeof t) != sizeof t)
		_exit(1);
}

static void begin(struct sender *);

static void ended(void *arg, enum spool_status status, spool_id id)
{
	struct sender *s = arg;

	if (status == SPOOL_OK)
		tell(s->n % 3 == 1 ? TOLD_ENDED : TOLD_DEFERRED, id);
	begin(s);
}

static void accepted(void *arg, enum spool_status status, spool_id id)
{
	struct sender *s = arg;
	struct spool_envelope later = kit_envelope("", 123456, "deferred");

	if (status != SPOOL_OK)
		_exit(2);
	tell(TOLD_ACCEPTED, id);
	if (s->n % 3 == 0) {
		begin(s);
		return;
	}
	if (s->n % 3 == 1)
		tell(ASKED_END, id); /* from here on its end may have reached the disk */
	spool_settle(s->k->spool, id, 0, s->n % 3 == 1 ? NULL : &later, NULL, 0, ended, s);
}

/* The body says which message of which sender it is, so that a wrong body is seen. */
static void begin(struct sender *s)
{
	struct spool_body *b = spool_body_begin(s->k->spool, 0);
	struct spool_envelope e = kit_envelope("d", 100, "data");
	static char text[3000];
	bool lease = true;

	s->n++;
	memset(text, 'a' + (int)(s->n % 26), sizeof text);
	for (unsigned i = 0; i < (s->n % 50 == 0 ? 20u : 1u); i++) /* some have a file of their own */
		spool_body_write(b, text, s->n % sizeof text);
	spool_accept(s->k->spool, b, &e, &lease, 1, accepted, s);
}

static void child(struct kit *k, int fd)
{
	static struct sender senders[UNDER_WAY];

	out = fd;
	if (kit_open(k) == -1)
		_exit(3);
	for (int i = 0; i < UNDER_WAY; i++) {
		senders[i] = (struct sender){ .k = k, .n = (unsigned)i * 17 };
		begin(&senders[i]);
	}
	for (;;) {
		spool_kick(k->spool);
		spool_dispatch(k->spool);
		usleep(50);
	}
}

static struct told told[TOLD_MAX];
static size_t told_n;

static int by_id(const void *a, const void *b)
{
	const struct told *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->word > y->word) - (x->word < y->word);
}

static void check(struct kit *k)
{
	static struct kit_found f;
	size_t i = 0, at = 0;
	spool_id id = 0;
	uint32_t slot = 0;

	qsort(told, told_n, sizeof *told, by_id);
	kit_list(k, 0, 0, "", 1000, &f);
	while (i < told_n) {
		bool may_be_gone = false, gone = false, deferred = false;
		spool_id want = told[i].id;
		for (; i < told_n && told[i].id == want; i++) {
			may_be_gone = may_be_gone || told[i].word == ASKED_END;
			gone = gone || told[i].word == TOLD_ENDED;
			deferred = deferred || told[i].word == TOLD_DEFERRED;
		}
		while (f.n && (at == f.n || f.e[at].id < want)) {
			if (at < f.n) {
				id = f.e[at].id;
				slot = f.e[at].slot;
				at++;
				continue;
			}
			kit_list(k, id, slot, "", 1000, &f);
			at = 0;
		}
		if (f.n && f.e[at].id == want) {
			assert_false(gone);
			assert_true(!deferred || f.e[at].due == 123456);
		} else {
			assert_true(gone || may_be_gone);
		}
	}
}

static void killed(void **state)
{
	struct kit k;

	(void)state;
	kit_init(&k, KIT_THREADED);
	k.options.segment_size = 1024 * 1024;
	srandom(7);
	for (int life = 0; life < LIVES; life++) {
		int p[2];
		pid_t pid;
		ssize_t n;
		assert_int_equal(pipe(p), 0);
		pid = fork();
		assert_true(pid != -1);
		if (pid == 0) {
			close(p[0]);
			child(&k, p[1]);
		}
		close(p[1]);
		for (long left = 20 + random() % 150; left > 0; left--) { /* ms, while the pipe is kept empty */
			struct timespec ms = { .tv_nsec = 1000000 };
			nanosleep(&ms, NULL);
			if (told_n + 5000 < TOLD_MAX && left % 8 == 0) {
				n = read(p[0], &told[told_n], 4096 * sizeof *told);
				assert_true(n >= 0 && n % (ssize_t)sizeof *told == 0);
				told_n += (size_t)n / sizeof *told;
			}
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while ((n = read(p[0], &told[told_n], 4096 * sizeof *told)) > 0) {
			told_n += (size_t)n / sizeof *told;
			assert_true(told_n + 5000 < TOLD_MAX);
		}
		close(p[0]);
		if (kit_open(&k) == -1)
			fail_msg("%s", k.error.text);
		assert_int_equal(k.found.quarantined, 0);
		check(&k);
		kit_close(&k);
		if (life == LIVES / 2) {
			assert_int_equal(spool_rebuild(&k.options, &k.found, &k.error), 0);
			assert_int_equal(k.found.quarantined, 0);
		}
	}
	assert_true(told_n > 500);
	assert_int_equal(spool_rebuild(&k.options, &k.found, &k.error), 0);
	assert_int_equal(kit_open(&k), 0);
	check(&k);
	print_message("%zu answers checked in %d lives\n", told_n, LIVES);
	told_n = 0;
	kit_end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(killed) };

	return KIT_BOTH_MODES(tests, NULL);
}
