/* The report: what a peer wrote steers nothing, limits hold, each form tells the same. */
#include "probe/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static const char *const group = "A <group>";
static const struct probe_check checks[] = {
	{ 101, "first", "It \"is\" <right> | so", &group, "RFC 1", "NOOP", PROBE_HIGH, 0 },
	{ 102, "second", "Other", &group, "RFC 2", "", PROBE_LOW, 0 },
};

static void make(struct probe_report *r)
{
	struct probe_finding *f;

	probe_report_init(r, "server", "mx.example.org:25", 1795820539000);
	r->took_ms = 12345;
	r->connections = 3;
	f = probe_report_add(r, &checks[0]);
	probe_report_line(r, f, 7, 1, PROBE_SENT, false, VIEW("EHLO x\r\n"));
	probe_report_line(r, f, 1042, 1, PROBE_GOT, true, VIEW("250 \033[2J<script>\xff\\ `x`"));
	probe_report_judge(r, f, PROBE_FAIL, "seen: %s", "\033[31m<b>&\nnext");
	f = probe_report_add(r, &checks[1]);
	probe_report_judge(r, f, PROBE_PASS, "fine");
	probe_report_fact(r, "greeting", "%s", "mx <i>\"x\"</i>");
	r->certificate_end_s = 1803596455;
}

static char *printed(bool (*print)(const struct probe_report *, const struct probe_diff *, FILE *),
		     const struct probe_report *r)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert_non_null(f);
	assert_true(print(r, NULL, f));
	assert_int_equal(fclose(f), 0);
	for (size_t i = 0; i < n; i++)
		assert_true((text[i] >= 32 && text[i] < 127) || text[i] == '\n' || text[i] == '\t');
	return text;
}

static void octets_are_spelt(void **state)
{
	struct probe_report r;

	(void)state;
	make(&r);
	assert_string_equal(r.findings[0].lines[0].text, "EHLO x\\r\\n");
	assert_string_equal(r.findings[0].lines[1].text, "250 \\x1b[2J<script>\\xff\\\\ `x`");
	assert_string_equal(r.findings[0].text, "seen: ?[31m<b>&|next");
	assert_string_equal(probe_report_get(&r, "greeting"), "mx <i>\"x\"</i>");
	assert_null(probe_report_get(&r, "nothing"));
	probe_report_free(&r);
}

static void a_long_line_is_cut_and_says_so(void **state)
{
	static char octets[5000];
	struct probe_report r;
	struct probe_finding *f;

	(void)state;
	memset(octets, 1, sizeof octets);
	probe_report_init(&r, "server", "x", 0);
	f = probe_report_add(&r, &checks[0]);
	probe_report_line(&r, f, 0, 1, PROBE_GOT, false, view_of(octets, sizeof octets));
	assert_true(strlen(f->lines[0].text) <= PROBE_LINE_MAX);
	assert_non_null(strstr(f->lines[0].text, "(5000 octets)"));
	probe_report_free(&r);
}

static void too_many_lines_are_counted(void **state)
{
	struct probe_report r;
	struct probe_finding *f;

	(void)state;
	probe_report_init(&r, "server", "x", 0);
	f = probe_report_add(&r, &checks[0]);
	for (unsigned i = 0; i < PROBE_LINES_MAX + 5; i++)
		probe_report_line(&r, f, 0, 1, PROBE_GOT, false, VIEW("250 x"));
	assert_int_equal(f->line_count, PROBE_LINES_MAX);
	assert_int_equal(f->lines_cut, 5);
	assert_false(r.broken);
	probe_report_free(&r);
}

/* The arena's limit is the only memory that a server's talk can use up. */
static void a_report_without_memory_is_not_printed_as_whole(void **state)
{
	static char octets[400];
	struct probe_report r;
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	(void)state;
	memset(octets, 'x', sizeof octets);
	probe_report_init(&r, "server", "x", 0);
	for (unsigned i = 0; i < 1000 && !r.broken; i++) {
		struct probe_finding *f = probe_report_add(&r, &checks[0]);

		for (unsigned j = 0; j < PROBE_LINES_MAX; j++)
			probe_report_line(&r, f, 0, 1, PROBE_GOT, false, view_of(octets, sizeof octets));
	}
	assert_true(r.broken);
	assert_false(probe_print_json(&r, NULL, to));
	assert_false(probe_print_markdown(&r, NULL, to));
	assert_false(probe_print_html(&r, NULL, to));
	assert_false(probe_print_prometheus(&r, to));
	fclose(to);
	free(text);
	probe_report_free(&r);
}

static void html_escapes(void **state)
{
	struct probe_report r;
	char *text;

	(void)state;
	make(&r);
	text = printed(probe_print_html, &r);
	assert_null(strstr(text, "<script"));
	assert_null(strstr(text, "<i>"));
	assert_null(strstr(text, "<right>"));
	assert_non_null(strstr(text, "&lt;script&gt;"));
	assert_non_null(strstr(text, "<details id=c101 open>")); /* a fail is unfolded, a pass is not */
	assert_non_null(strstr(text, "<details id=c102>"));
	assert_null(strstr(text, "http://"));
	assert_null(strstr(text, "src="));
	free(text);
	probe_report_free(&r);
}

static void markdown_escapes(void **state)
{
	struct probe_report r;
	char *text;

	(void)state;
	make(&r);
	text = printed(probe_print_markdown, &r);
	assert_non_null(strstr(text, "seen: ?\\[31m\\<b\\>&\\|next"));
	assert_non_null(strstr(text, "    1 tls   < 250 \\x1b[2J<script>"));
	assert_non_null(strstr(text, "| 102 | Other | pass | fine | RFC 2 | low |"));
	free(text);
	probe_report_free(&r);
}

static bool prometheus(const struct probe_report *r, const struct probe_diff *d, FILE *f)
{
	(void)d;
	return probe_print_prometheus(r, f);
}

static void prometheus_tells_numbers(void **state)
{
	struct probe_report r;
	char *text;

	(void)state;
	make(&r);
	text = printed(prometheus, &r);
	assert_non_null(strstr(text, "postrider_probe_check{kind=\"server\",target=\"mx.example.org:25\",number="
				     "\"101\",id=\"first\",severity=\"high\"} 2\n"));
	assert_non_null(strstr(text, "verdict=\"pass\"} 1\n"));
	assert_non_null(
		strstr(text, "certificate_expires_seconds{kind=\"server\",target=\"mx.example.org:25\"} 1803596455\n"));
	assert_non_null(strstr(text, "duration_seconds{kind=\"server\",target=\"mx.example.org:25\"} 12.345\n"));
	free(text);
	probe_report_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_long_line_is_cut_and_says_so),
		cmocka_unit_test(too_many_lines_are_counted),
		cmocka_unit_test(a_report_without_memory_is_not_printed_as_whole),
		cmocka_unit_test(octets_are_spelt),
		cmocka_unit_test(html_escapes),
		cmocka_unit_test(markdown_escapes),
		cmocka_unit_test(prometheus_tells_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
