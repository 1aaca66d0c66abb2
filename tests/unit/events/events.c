/* events.c - log lines: a peer cannot forge one, a slow reader cannot stop us, nothing is lost uncounted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "events/events.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t now_ms;
static int64_t fake_wall(void *arg)
{
	(void)arg;
	return now_ms;
}
static const struct env fake_env = { .wall_ms = fake_wall };

static char got[1 << 20];

static size_t drain(int fd)
{
	size_t n = 0;
	const int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	for (;;) {
		const ssize_t r = read(fd, got + n, sizeof got - 1 - n);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	got[n] = '\0';
	return n;
}

static int pair[2];
static struct events *ev;

static void begin(int flags, enum event_level least, uint64_t *counters)
{
	assert_int_equal(pipe2(pair, O_CLOEXEC | flags), 0);
	now_ms = 1785544205678; /* 2026-08-01T00:30:05.678Z */
	ev = events_new(&fake_env, "queue", pair[1], least, counters);
	assert_non_null(ev);
}

static void end(void)
{
	events_free(ev);
	close(pair[0]);
	close(pair[1]);
}

static void aborts_in_child(void (*bad)(void))
{
	const pid_t pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		const struct rlimit none = { 0, 0 };
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		fclose(stderr);
		bad();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void emit_undeclared(void)
{
	EMIT(ev, FAULT, F_STR("were", "x")); /* a part of a declared key */
}
static void emit_prefix(void)
{
	EMIT(ev, FAULT, F_STR("reaso", "x"));
}
static void emit_none(void)
{
	bool checked = false;

	events_emit(ev, EVENT_NONE, &checked, NULL, 0);
}

static void undeclared_keys_are_our_bug(void **state)
{
	(void)state;
	begin(0, EVENT_DEBUG, NULL);
	aborts_in_child(emit_undeclared);
	aborts_in_child(emit_prefix);
	aborts_in_child(emit_none);
	end();
}

static void a_line_is_logfmt(void **state)
{
	(void)state;
	begin(0, EVENT_DEBUG, NULL);
	EMIT(ev, READY, F_U64("pid", 7), F_I64("seconds", -2), F_ID("listeners", 0x123456789abcdef0));
	drain(pair[0]);
	assert_string_equal(got, "time=2026-08-01T00:30:05.678Z level=info role=queue event=ready pid=7 seconds=-2 "
	                         "listeners=123456789abcdef0\n");
	end();
}

static void times_are_right(void **state)
{
	(void)state;
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{ -5, "time=1970-01-01T00:00:00.000Z " },
		{ 0, "time=1970-01-01T00:00:00.000Z " },
		{ 951782400000, "time=2000-02-29T00:00:00.000Z " },
		{ 951868799999, "time=2000-02-29T23:59:59.999Z " },
		{ 951868800000, "time=2000-03-01T00:00:00.000Z " },
		{ 1709164800001, "time=2024-02-29T00:00:00.001Z " },
		{ 4107542400000, "time=2100-03-01T00:00:00.000Z " },
		{ 1767225599999, "time=2025-12-31T23:59:59.999Z " },
	};
	begin(0, EVENT_DEBUG, NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		now_ms = cases[i].ms;
		EMIT(ev, READY);
		drain(pair[0]);
		assert_memory_equal(got, cases[i].text, strlen(cases[i].text));
	}
	end();
}

static void a_peer_cannot_forge_a_line(void **state)
{
	(void)state;
	static const struct {
		struct view in;
		const char *out;
	} cases[] = {
		{ { "", 0 }, " reason=\"\"\n" },
		{ { NULL, 0 }, " reason=\"\"\n" },
		{ { "plain", 5 }, " reason=plain\n" },
		{ { "two words", 9 }, " reason=\"two words\"\n" },
		{ { "a\nevent=ready", 13 }, " reason=\"a\\x0aevent=ready\"\n" },
		{ { "x\" event=ready y=\"", 18 }, " reason=\"x\\\" event=ready y=\\\"\"\n" },
		{ { "back\\slash", 10 }, " reason=\"back\\\\slash\"\n" },
		{ { "k=v", 3 }, " reason=\"k=v\"\n" },
		{ { "nul\0del\x7f\xc3\xa9", 10 }, " reason=\"nul\\x00del\\x7f\\xc3\\xa9\"\n" },
		{ { "\r\t\x1b[2J", 6 }, " reason=\"\\x0d\\x09\\x1b[2J\"\n" },
	};
	begin(0, EVENT_DEBUG, NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		EMIT(ev, FAULT, F_VIEW("reason", cases[i].in));
		const size_t n = drain(pair[0]), want = strlen(cases[i].out);
		assert_true(n > want);
		assert_string_equal(got + n - want, cases[i].out);
	}
	end();
}

static void long_values_are_cut_and_the_line_ends(void **state)
{
	(void)state;
	begin(0, EVENT_DEBUG, NULL);
	char big[9000];
	for (int fill = 0; fill < 3; fill++) {
		memset(big, "x\n\""[fill], sizeof big);
		for (size_t n = 1000; n < sizeof big; n += 37) {
			const struct view v = { big, n };
			EMIT(ev, FAULT, F_VIEW("where", v), F_VIEW("reason", v), F_VIEW("reason", v),
			     F_VIEW("reason", v), F_VIEW("reason", v), F_VIEW("reason", v), F_U64("where", UINT64_MAX));
			const size_t len = drain(pair[0]);
			assert_in_range(len, 1000, 4096);
			assert_int_equal(got[len - 1], '\n');
			assert_ptr_equal(strchr(got, '\n'), got + len - 1);
			if (n > 1024)
				assert_non_null(strstr(got, "...\""));
			size_t quotes = 0;
			for (size_t i = 0; i < len; i++)
				if (got[i] == '\\')
					i++;
				else
					quotes += got[i] == '"';
			assert_int_equal(quotes % 2, 0);
		}
	}
	end();
}

static void levels_hide_lines_but_not_counts(void **state)
{
	(void)state;
	uint64_t counters[EVENT_COUNTERS] = { 0 };
	begin(0, EVENT_WARN, counters);
	EMIT(ev, READY);
	EMIT(ev, READY);
	EMIT(ev, FAULT);
	drain(pair[0]);
	assert_null(strstr(got, "event=ready"));
	assert_non_null(strstr(got, "event=fault"));
	assert_int_equal(counters[EVENT_READY], 2);
	assert_int_equal(counters[EVENT_FAULT], 1);
	EMIT(NULL, READY);
	end();
	ev = events_new(&fake_env, "queue", -1, EVENT_DEBUG, counters);
	EMIT(ev, READY);
	assert_int_equal(counters[EVENT_READY], 3);
	events_free(ev);
}

/* The three kinds of descriptors that a log may be: none is waited for. */
static void a_slow_reader_costs_lines_not_time(void **state)
{
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		uint64_t counters[EVENT_COUNTERS] = { 0 };
		begin(kind == 1 ? O_NONBLOCK : 0, EVENT_DEBUG, counters);
		if (kind == 2) {
			end();
			assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
			ev = events_new(&fake_env, "queue", pair[1], EVENT_DEBUG, counters);
		}
		uint64_t sent = 0;
		errno = 77;
		for (; counters[EVENT_END] < 5; sent++)
			EMIT(ev, FAULT, F_STR("reason", "nobody reads what I say"));
		assert_int_equal(errno, 77);
		assert_int_equal(counters[EVENT_FAULT], sent);
		drain(pair[0]);
		uint64_t lines = 0, told = 0;
		for (const char *p = got; (p = strstr(p, "event=fault")) != NULL; p++)
			lines++;
		assert_int_equal(lines, sent - 5);
		/* the short line that tells of the first may still have fitted where the next did not */
		for (const char *p = got; (p = strstr(p, "event=dropped n=")) != NULL; p++)
			told += strtoull(p + 16, NULL, 10);
		EMIT(ev, READY);
		drain(pair[0]);
		const char *rest = strstr(got, "event=dropped n=");
		assert_non_null(rest);
		assert_int_equal(told + strtoull(rest + 16, NULL, 10), 5);
		assert_non_null(strstr(rest, "event=ready"));
		EMIT(ev, READY);
		drain(pair[0]);
		assert_null(strstr(got, "event=dropped"));
		end();
	}
}

static void a_closed_reader_is_survived(void **state)
{
	(void)state;
	uint64_t counters[EVENT_COUNTERS] = { 0 };
	begin(0, EVENT_DEBUG, counters);
	signal(SIGPIPE, SIG_IGN);
	close(pair[0]);
	EMIT(ev, READY);
	assert_int_equal(counters[EVENT_END], 1);
	events_free(ev); /* tries once more to tell */
	signal(SIGPIPE, SIG_DFL);
	close(pair[1]);
}

static void *worker(void *arg)
{
	for (int i = 0; i < 2000; i++)
		EMIT(arg, FAULT, F_STR("where", "a thread"), F_U64("reason", i));
	return NULL;
}

static void threads_share_an_emitter(void **state)
{
	(void)state;
	uint64_t counters[EVENT_COUNTERS] = { 0 };
	begin(0, EVENT_DEBUG, counters);
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, worker, ev), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(counters[EVENT_FAULT], 8000);
	drain(pair[0]);
	uint64_t lines = 0;
	for (const char *p = got; *p; p++) {
		assert_memory_equal(p, "time=", 5);
		p = strchr(p, '\n');
		assert_non_null(p);
		lines++;
	}
	assert_int_equal(lines + counters[EVENT_END], 8000);
	end();
}

/* Lines gather until the flush, several in one write; a warning takes along what waits, in order. */
static void lines_gather_until_the_flush(void **state)
{
	(void)state;
	begin(0, EVENT_INFO, NULL);
	events_gather(ev);
	EMIT(ev, STOPPING, F_STR("reason", "one"));
	EMIT(ev, STOPPING, F_STR("reason", "two"));
	assert_int_equal(drain(pair[0]), 0);
	events_flush(ev);
	drain(pair[0]);
	assert_non_null(strstr(got, "reason=one\n"));
	assert_true(strstr(got, "reason=one\n") < strstr(got, "reason=two\n"));
	events_flush(ev);
	assert_int_equal(drain(pair[0]), 0);
	EMIT(ev, STOPPING, F_STR("reason", "three"));
	EMIT(ev, FAULT, F_STR("where", "here"), F_STR("reason", "four"));
	drain(pair[0]);
	assert_true(strstr(got, "reason=three\n") && strstr(got, "reason=three\n") < strstr(got, "reason=four\n"));
	EMIT(ev, STOPPING, F_STR("reason", "five"));
	events_free(ev); /* what waits leaves at the end */
	drain(pair[0]);
	assert_non_null(strstr(got, "reason=five\n"));
	close(pair[0]);
	close(pair[1]);
}

/* More than a batch holds leaves by itself, and no line is torn; those that cannot leave are counted one by one. */
static void a_full_batch_leaves_and_a_lost_one_is_counted(void **state)
{
	uint64_t counters[EVENT_COUNTERS] = { 0 };
	size_t lines = 0, n;
	int i;

	(void)state;
	begin(O_NONBLOCK, EVENT_INFO, counters);
	events_gather(ev);
	for (i = 0; i < 200; i++)
		EMIT(ev, STOPPING, F_STR("reason", "again and again"));
	events_flush(ev);
	n = drain(pair[0]);
	for (size_t k = 0; k < n; k++)
		lines += got[k] == '\n';
	assert_int_equal(lines, 200);
	for (i = 0; i < 20000; i++)
		EMIT(ev, STOPPING, F_STR("reason", "nobody reads"));
	events_flush(ev);
	n = drain(pair[0]);
	for (lines = 0; n--;)
		lines += got[n] == '\n';
	assert_true(lines > 0 && lines < 20000);
	assert_int_equal(lines + counters[EVENT_END], 20000);
	assert_int_equal(counters[EVENT_STOPPING], 20200);
	end();
}

static void ids_have_sixteen_digits(void **state)
{
	(void)state;
	char to[EVENT_ID_SIZE];
	assert_string_equal(event_id_text(0, to), "0000000000000000");
	assert_string_equal(event_id_text(UINT64_MAX, to), "ffffffffffffffff");
	assert_string_equal(event_id_text(0x0123456789abcdef, to), "0123456789abcdef");
}

/* The table itself: words of the log are lower case, names and keys are unique, nothing is undocumented. */
static void the_table_is_sound(void **state)
{
	(void)state;
	for (unsigned e = 1; e < EVENT_END; e++) {
		const char *name = event_name((enum event)e);
		assert_true(strlen(name) > 0 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name));
		assert_true(strlen(event_help((enum event)e)) > 0);
		assert_string_not_equal(event_level_name(event_level_of((enum event)e)), "unknown");
		for (unsigned k = 1; k < e; k++)
			assert_string_not_equal(name, event_name((enum event)k));
	}
	static const char *const keys[] = {
#define EVENT(id, name, level, keys, help) keys,
#include "spec/events.def"
	};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		assert_true(strspn(keys[i], "abcdefghijklmnopqrstuvwxyz0123456789_ ") == strlen(keys[i]));
		char padded[1024];
		snprintf(padded, sizeof padded, " %s ", keys[i]);
		/* these four stand on every line already */
		assert_null(strstr(padded, " time "));
		assert_null(strstr(padded, " level "));
		assert_null(strstr(padded, " role "));
		assert_null(strstr(padded, " event "));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(undeclared_keys_are_our_bug),
		cmocka_unit_test(a_line_is_logfmt),
		cmocka_unit_test(times_are_right),
		cmocka_unit_test(a_peer_cannot_forge_a_line),
		cmocka_unit_test(long_values_are_cut_and_the_line_ends),
		cmocka_unit_test(levels_hide_lines_but_not_counts),
		cmocka_unit_test(a_slow_reader_costs_lines_not_time),
		cmocka_unit_test(a_closed_reader_is_survived),
		cmocka_unit_test(threads_share_an_emitter),
		cmocka_unit_test(lines_gather_until_the_flush),
		cmocka_unit_test(a_full_batch_leaves_and_a_lost_one_is_counted),
		cmocka_unit_test(ids_have_sixteen_digits),
		cmocka_unit_test(the_table_is_sound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
