/* parts.c - quantities, the table's own soundness, hints. */
#include "util.h"

#include "base/arena.h"
#include "conf/outline.h"
#include "conf/parts.h"

static void sizes_and_durations(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool size;
		uint64_t want; /* UINT64_MAX: refused */
	} cases[] = {
		{ "0", true, 0 },
		{ "1", true, 1 },
		{ "50M", true, 50 << 20 },
		{ "2K", true, 2048 },
		{ "3G", true, 3ull << 30 },
		{ "1T", true, 1ull << 40 },
		{ "18446744073709551614", true, UINT64_MAX - 1 },
		{ "18446744073709551616", true, UINT64_MAX },
		{ "16777216T", true, UINT64_MAX },
		{ "", true, UINT64_MAX },
		{ "M", true, UINT64_MAX },
		{ "5m", true, UINT64_MAX },
		{ "5MB", true, UINT64_MAX },
		{ "+5", true, UINT64_MAX },
		{ "5 M", true, UINT64_MAX },
		{ "0x5", true, UINT64_MAX },
		{ "1.5M", true, UINT64_MAX },
		{ "0", false, 0 },
		{ "0s", false, 0 },
		{ "250ms", false, 250 },
		{ "30s", false, 30000 },
		{ "5m", false, 300000 },
		{ "4h", false, 14400000 },
		{ "5d", false, 432000000 },
		{ "5", false, UINT64_MAX },
		{ "5w", false, UINT64_MAX },
		{ "1h30m", false, UINT64_MAX },
		{ "-1s", false, UINT64_MAX },
		{ "213503982335d", false, UINT64_MAX },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t got = UINT64_MAX;
		const struct view v = view_cstr(cases[i].text);
		const bool ok = cases[i].size ? conf_size_parse(v, &got) : conf_duration_parse(v, &got);
		if (ok != (cases[i].want != UINT64_MAX) || got != cases[i].want)
			fail_msg("%s", cases[i].text);
	}
}

static void durations_are_shown_exactly(void **state)
{
	(void)state;
	static const uint64_t values[] = { 0,       1,       999,      1000,      90000,     60000,
		                           3600000, 5400000, 86400000, 432000000, 432000001, UINT64_MAX };
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		char text[CONF_QUANTITY_TEXT];
		uint64_t back;
		assert_true(conf_duration_parse(view_cstr(conf_duration_text(values[i], text)), &back));
		assert_int_equal(back, values[i]);
	}
	char text[CONF_QUANTITY_TEXT];
	assert_string_equal(conf_duration_text(432000000, text), "5d");
	assert_string_equal(conf_duration_text(0, text), "0s");
}

static void networks(void **state)
{
	(void)state;
	struct conf_network n;
	assert_true(conf_network_parse(VIEW("0.0.0.0/0"), &n)); /* the relay's limits are the relay's */
	assert_true(conf_network_parse(VIEW("2001:db8::/32"), &n));
	assert_int_equal(n.family, AF_INET6);
	assert_int_equal(n.prefix, 32);
	static const char *const bad[] = {
		"",       "/",      "10.0.0.0",     "10.0.0.0/",   "10.0.0.1/8",      "10.0.0.0/33",
		"10.0/8", "::/129", "10.0.0.0/08x", "010.0.0.0/8", "fe80::1%eth0/64", "10.0.0.0/0008"
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (conf_network_parse(view_cstr(bad[i]), &n))
			fail_msg("%s", bad[i]);
}

static void deliveries_survive_their_text(void **state)
{
	(void)state;
	static const char *const texts[] = { "discard",
		                             "mx",
		                             "maildir:/m/%{user}",
		                             "maildir:/m/x%{user}/y",
		                             "smtp://a.example:25",
		                             "smtp://192.0.2.1:2525",
		                             "smtp://[2001:db8::1]:25",
		                             "lmtp://127.0.0.1:24",
		                             "lmtp:/run/s" };
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct arena a;
		struct conf_delivery d;
		char to[CONF_DELIVERY_TEXT];
		arena_init(&a, &alloc_libc, 1 << 16);
		assert_null(conf_delivery_parse(view_cstr(texts[i]), &a, &d));
		assert_string_equal(conf_delivery_text(&d, to), texts[i]);
		arena_free(&a);
	}
}

/* Each default and bound of the table is itself a value that the table allows, and each row can be found. */
static void the_table_is_sound(void **state)
{
	(void)state;
	for (enum conf_tag tag = CONF_TAG_GLOBAL; tag < CONF_TAG_END; tag++) {
		assert_true(conf_row_count(tag) > 0);
		assert_int_equal(conf_tag_find(view_cstr(conf_kinds[tag].word)),
		                 tag == CONF_TAG_GLOBAL ? CONF_TAG_END : tag);
		for (unsigned i = conf_kinds[tag].first; i < conf_kinds[tag + 1].first; i++) {
			const struct conf_row *row = &conf_rows[i];
			const char *least = NULL, *most = NULL;
			uint64_t low, high;
			assert_int_equal(row->tag, tag);
			assert_ptr_equal(conf_row_find(tag, view_cstr(row->name)), row);
			assert_true(strlen(row->help) > 0);
			const bool quantity = row->type == CONF_TYPE_SIZE || row->type == CONF_TYPE_COUNT ||
			                      row->type == CONF_TYPE_DURATION;
			assert_int_equal(conf_row_range(row, &least, &most), quantity);
			if (row->type == CONF_TYPE_DURATION) {
				assert_true(conf_duration_parse(view_cstr(least), &low));
				assert_true(conf_duration_parse(view_cstr(most), &high));
				assert_true(low < high);
			}
			if (row->type == CONF_TYPE_CHOICE)
				assert_true(conf_choice_word(row, 2).p && row->fallback);
		}
	}
	conf_free(parse_good(BASE, "f"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_and_durations),
		cmocka_unit_test(durations_are_shown_exactly),
		cmocka_unit_test(networks),
		cmocka_unit_test(deliveries_survive_their_text),
		cmocka_unit_test(the_table_is_sound),
	};
	return RUN(tests);
}
