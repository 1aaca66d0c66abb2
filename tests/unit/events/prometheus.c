/* prometheus.c - the metrics' text: sums per role, one series once, a full buffer is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "events/events.h"

#include <stdio.h>

static void a_full_buffer_is_told(void **state)
{
	(void)state;
	uint64_t one[EVENT_COUNTERS] = { [EVENT_FAULT] = 1, [EVENT_END] = 2 };
	const uint64_t *const counters[] = { one };
	const char *const roles[] = { "queue" };
	struct buf b;
	size_t whole;
	buf_init(&b, &alloc_libc, 65536);
	assert_true(events_prometheus(counters, roles, 1, &b));
	whole = buf_len(&b);
	buf_free(&b);
	for (size_t max = 1; max < whole; max++) {
		buf_init(&b, &alloc_libc, max);
		assert_false(events_prometheus(counters, roles, 1, &b));
		buf_free(&b);
	}
}

static void processes_of_a_role_are_summed(void **state)
{
	(void)state;
	uint64_t a[EVENT_COUNTERS] = { 0 }, b[EVENT_COUNTERS] = { 0 }, c[EVENT_COUNTERS] = { 0 };
	a[EVENT_FAULT] = 2;
	b[EVENT_FAULT] = 40;
	c[EVENT_FAULT] = 5;
	c[EVENT_END] = 7;
	struct buf out;
	buf_init(&out, &alloc_libc, 65536);
	assert_true(events_prometheus((const uint64_t *const[]){ a, c, b, NULL },
	                              (const char *const[]){ "receive", "queue", "receive", "send" }, 4, &out));
	assert_true(buf_add(&out, view_of("", 1)));
	const char *text = buf_view(&out).p;
	assert_non_null(strstr(text, "# TYPE postrider_events_total counter\n"));
	assert_non_null(strstr(text, "# HELP postrider_events_total "));
	assert_non_null(strstr(text, "postrider_events_total{event=\"fault\",role=\"receive\"} 42\n"));
	assert_non_null(strstr(text, "postrider_events_total{event=\"fault\",role=\"queue\"} 5\n"));
	assert_null(strstr(text, "postrider_events_total{event=\"fault\",role=\"send\"}"));
	assert_non_null(strstr(text, "postrider_log_lines_dropped_total{role=\"queue\"} 7\n"));
	assert_non_null(strstr(text, "postrider_log_lines_dropped_total{role=\"send\"} 0\n"));
	const char *first = strstr(text, "lines_dropped_total{role=\"receive\"}");
	assert_non_null(first);
	assert_null(strstr(first + 1, "lines_dropped_total{role=\"receive\"}"));
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_buffer_is_told),
		cmocka_unit_test(processes_of_a_role_are_summed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
