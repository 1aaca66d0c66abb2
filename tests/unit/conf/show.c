/* show.c - what is shown parses to the same; nothing is left out; JSON says the same. */
#include "util.h"

#include "conf/table.h"

#include <jansson.h>

static bool same_list(const struct conf_list *a, const struct conf_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}

static void same_set(enum conf_tag tag, const void *a, const void *b)
{
	for (unsigned i = conf_kinds[tag].first; i < conf_kinds[tag + 1].first; i++) {
		const struct conf_row *row = &conf_rows[i];
		const void *x = (const char *)a + row->offset, *y = (const char *)b + row->offset;
		bool same = false;
		switch (row->type) {
		case CONF_TYPE_STR:
		case CONF_TYPE_PATH:
			same = strcmp(*(const char *const *)x, *(const char *const *)y) == 0;
			break;
		case CONF_TYPE_SIZE:
		case CONF_TYPE_COUNT:
		case CONF_TYPE_DURATION:
			same = *(const uint64_t *)x == *(const uint64_t *)y;
			break;
		case CONF_TYPE_LIST:
			same = same_list(x, y);
			break;
		case CONF_TYPE_CHOICE:
			same = *(const unsigned *)x == *(const unsigned *)y;
			break;
		case CONF_TYPE_FLAG:
			same = *(const bool *)x == *(const bool *)y;
			break;
		}
		if (!same)
			fail_msg("%s differs", row->name);
	}
}

static void same_hop(const struct conf_hop *a, const struct conf_hop *b)
{
	char x[CONF_DELIVERY_TEXT], y[CONF_DELIVERY_TEXT];
	assert_string_equal(conf_delivery_text(&a->delivery, x), conf_delivery_text(&b->delivery, y));
	assert_int_equal(a->tls, b->tls);
}

static void same_conf(const struct conf *a, const struct conf *b)
{
	same_set(CONF_TAG_GLOBAL, &a->global, &b->global);
	same_set(CONF_TAG_ROUTE, &a->route, &b->route);
	same_set(CONF_TAG_RELAY, &a->relay, &b->relay);
	same_set(CONF_TAG_TLS_REPORT, &a->tls_report, &b->tls_report);
	assert_int_equal(a->dkim_count, b->dkim_count);
	for (size_t i = 0; i < a->dkim_count; i++)
		same_set(CONF_TAG_DKIM, &a->dkim[i].set, &b->dkim[i].set);
	assert_int_equal(a->sts_policy_count, b->sts_policy_count);
	for (size_t i = 0; i < a->sts_policy_count; i++)
		same_set(CONF_TAG_STS_POLICY, &a->sts_policies[i].set, &b->sts_policies[i].set);
	assert_int_equal(a->web_count, b->web_count);
	for (size_t i = 0; i < a->web_count; i++) {
		assert_string_equal(a->webs[i].title, b->webs[i].title);
		same_set(CONF_TAG_WEB, &a->webs[i].set, &b->webs[i].set);
		assert_int_equal(a->webs[i].certificate_count, b->webs[i].certificate_count);
		assert_int_equal(a->webs[i].address_count, b->webs[i].address_count);
	}
	same_hop(&a->route_hop, &b->route_hop);
	assert_int_equal(a->certificate_count, b->certificate_count);
	for (size_t i = 0; i < a->certificate_count; i++) {
		assert_string_equal(a->certificates[i].title, b->certificates[i].title);
		same_set(CONF_TAG_CERTIFICATE, &a->certificates[i].set, &b->certificates[i].set);
	}
	assert_int_equal(a->listener_count, b->listener_count);
	for (size_t i = 0; i < a->listener_count; i++) {
		assert_string_equal(a->listeners[i].title, b->listeners[i].title);
		assert_int_equal(a->listeners[i].certificate_count, b->listeners[i].certificate_count);
		for (size_t k = 0; k < a->listeners[i].certificate_count; k++)
			assert_int_equal(a->listeners[i].certificates[k], b->listeners[i].certificates[k]);
		same_set(CONF_TAG_LISTENER, &a->listeners[i].set, &b->listeners[i].set);
	}
	assert_int_equal(a->domain_count, b->domain_count);
	for (size_t i = 0; i < a->domain_count; i++) {
		assert_string_equal(a->domains[i].title, b->domains[i].title);
		same_set(CONF_TAG_DOMAIN, &a->domains[i].set, &b->domains[i].set);
		same_hop(&a->domains[i].hop, &b->domains[i].hop);
	}
	assert_int_equal(a->network_count, b->network_count);
	for (size_t i = 0; i < a->network_count; i++)
		assert_memory_equal(&a->networks[i], &b->networks[i], sizeof a->networks[i]);
}

static const char *const texts[] = {
	BASE,
	SAMPLE,
	RICH,
	BASE "listener mx { address = \"127.0.0.1:1\" }\n",
	BASE "sts_policy a.test { mode = enforce mx = {mx.a.test, \"*.b.test\"} max_age = 30d }\nsts_policy b.test { mode = none }\ndkim s1 { domain = b.test key = k.pem }\ndkim s2 { domain = b.test algorithm = ed25519 key = \"/k2.pem\" }\ntls_report { send = yes }\n",
	BASE "certificate default { chain = a key = b }\ncertificate c { chain = a key = b }\nsts_policy a.test { mx = mx.a.test }\n"
	"web v { address = {\"127.0.0.1:443\", \"[::1]:443\"} certificate = {c, default} tls_policy = modern connections = 7 connections_per_address = 2\n"
	" request_timeout = 3s }\nweb w { address = \"127.0.0.1:444\" }\n",
	BASE
	"certificate default { chain = a key = b }\nlistener mx { address = \"127.0.0.1:1\" tls = none certificate = default }\n",
};

static void what_is_shown_is_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct conf *a, *b;
		struct error e;
		a = parse_good(texts[i], "/etc/p.conf");
		char *shown = show_text(a);
		if (conf_parse(&b, view_cstr(shown), "/elsewhere/q.conf", &e) == -1)
			fail_msg("%s\n%s", e.text, shown);
		same_conf(a, b);
		char *again = show_text(b);
		assert_string_equal(shown, again);
		free(shown);
		free(again);
		conf_free(a);
		conf_free(b);
	}
}

static void every_setting_is_shown(void **state)
{
	(void)state;
	struct conf *c = parse_good(SAMPLE "sts_policy a.test { mx = {mx.a.test} }\nweb w { address = \"127.0.0.1:443\" }\ndkim s1 { domain = a.test key = k }\n", "/etc/p.conf");
	char *shown = show_text(c);
	for (unsigned i = 0; i < CONF_ROW_END; i++) {
		char line[80];
		snprintf(line, sizeof line, "%s = ", conf_rows[i].name);
		if (!strstr(shown, line))
			fail_msg("%s is not shown", conf_rows[i].name);
	}
	free(shown);
	conf_free(c);
}

static void a_full_buffer_is_told(void **state)
{
	(void)state;
	struct conf *c = parse_good(RICH, "/etc/p.conf");
	for (size_t n = 1; n < 1500; n += 13) {
		struct buf b;
		buf_init(&b, &alloc_libc, n);
		assert_int_equal(conf_show(c, &b), -1);
		buf_clear(&b);
		assert_int_equal(conf_show_json(c, &b), -1);
		buf_free(&b);
	}
	conf_free(c);
}

static void json_says_the_same(void **state)
{
	(void)state;
	struct conf *c = parse_good(RICH, "/etc/p.conf");
	struct buf b;
	buf_init(&b, &alloc_libc, 1 << 20);
	assert_int_equal(conf_show_json(c, &b), 0);
	json_t *root = json_loadb(buf_view(&b).p, buf_len(&b), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "hostname")), "mx.example.org");
	assert_int_equal(json_integer_value(json_object_get(root, "message_size_limit")), 3 << 20);
	assert_int_equal(json_integer_value(json_object_get(root, "retry_min")), 90000);
	assert_int_equal(json_array_size(json_object_get(root, "resolver")), 3);
	json_t *mx = json_object_get(json_object_get(root, "listener"), "mx");
	assert_string_equal(json_string_value(json_object_get(mx, "tls")), "required");
	assert_true(json_is_true(json_object_get(mx, "binarymime")));
	json_t *d = json_object_get(json_object_get(root, "domain"), "b\xc3\xbc"
	                                                             "cher.example");
	assert_string_equal(json_string_value(json_object_get(d, "source")), "::1");
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(json_object_get(root, "relay"), "from"), 0)),
		"10.0.0.0/8");
	json_decref(root);
	buf_free(&b);
	conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_shown_is_the_same),
		cmocka_unit_test(every_setting_is_shown),
		cmocka_unit_test(a_full_buffer_is_told),
		cmocka_unit_test(json_says_the_same),
	};
	return RUN(tests);
}
