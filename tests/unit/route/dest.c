/* Destinations: what is built reads back, and what is malformed is refused. */
#include "route/dest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const char config[] =
	"hostname = \"mx.sink.test\"\nspool = \"/tmp/s\"\ncontrol = \"/tmp/c\"\n"
	"listener \"mx\" { address = {\"127.0.0.1:2620\"} tls = none }\n"
	"domain \"Sink.test\" { deliver = \"discard\" }\n"
	"domain \"local.test\" { deliver = \"maildir:/m/%{user}\" }\n"
	"domain \"relay.test\" { deliver = \"smtp://127.0.0.1:2650\" tls = verify source = \"127.0.0.2\" }\n"
	"domain \"six.test\" { deliver = \"smtp://[::1]:26\" tls = none }\n"
	"domain \"lmtp.test\" { deliver = \"lmtp:/run/a;b\" }\n"
	"domain \"strict.test\" { deliver = \"mx\" tls = encrypt }\n";

static struct conf *parse(const char *more)
{
	char text[2048];
	struct conf *c;
	struct error e;

	snprintf(text, sizeof text, "%s%s", config, more);
	if (conf_parse(&c, view_cstr(text), "test", &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return c;
}

static void expect(const struct conf *c, struct view rcpt, const char *dest, const char *rewritten)
{
	struct buf out, address;
	struct route_dest d;
	bool changed;

	buf_init(&out, &alloc_libc, 65536);
	buf_init(&address, &alloc_libc, 65536);
	assert_true(route_dest_build(c, rcpt, &out, &address, &changed));
	if (!view_eq(buf_view(&out), view_cstr(dest)))
		fprintf(stderr, "%.*s is not %s\n", VIEW_ARGS(buf_view(&out)), dest);
	assert_true(view_eq(buf_view(&out), view_cstr(dest)));
	assert_int_equal(changed, rewritten != NULL);
	if (rewritten)
		assert_true(view_eq(buf_view(&address), view_cstr(rewritten)));
	assert_int_equal(route_dest_parse(buf_view(&out), &d), 0);
	buf_free(&out);
	buf_free(&address);
}

static void malformed(void **state)
{
	static const char *bad[] = { "",
				     "x",
				     "smtp",
				     "smtp:",
				     "smtp:host",
				     "smtp:host:",
				     "smtp:host:0",
				     "smtp:host:65536",
				     "smtp:host:-1",
				     "smtp:a:b:25",
				     "smtp:[::1]",
				     "smtp::25",
				     "mx:",
				     "mx:a;tls=",
				     "mx:a;tls=maybe",
				     "mx:a;tls",
				     "mx:a;evil=1",
				     "mx:a;source=",
				     "maildir:",
				     "maildir:a;tls=none",
				     "maildir:/a%",
				     "maildir:/a%2",
				     "maildir:/a%00",
				     "maildir:/a%zz",
				     "pipe:x",
				     "discard:",
				     ";:",
				     "mx;a:b" };
	struct route_dest d;
	char big[ROUTE_DEST_MAX + 8];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(route_dest_parse(view_cstr(bad[i]), &d), -1);
	memset(big, 'a', sizeof big);
	memcpy(big, "mx:", 3);
	assert_int_equal(route_dest_parse(view_of(big, sizeof big), &d), -1);
	assert_int_equal(route_dest_parse(view_of("mx:a\0b", 6), &d), -1);
}

static void hostile_addresses(void **state)
{
	struct conf *c = parse("");

	(void)state;
	expect(c, VIEW("a@x.test;tls=none"), "unroutable", NULL);
	expect(c, VIEW("a@x:25"), "unroutable", NULL);
	expect(c, VIEW("a@x y"), "unroutable", NULL);
	expect(c, VIEW("a@[127.0.0.1;tls=none]"), "unroutable", NULL);
	expect(c, VIEW("a@[x400:foo]"), "unroutable", NULL);
	expect(c, VIEW("\"a@b\"@Sink.Test"), "discard", NULL);
	conf_free(c);
}

static void hops(void **state)
{
	struct conf *c = parse("");

	(void)state;
	expect(c, VIEW("a@sink.TEST"), "discard", NULL);
	expect(c, VIEW("a@Local.test"), "maildir:local.test", NULL);
	expect(c, VIEW("a@relay.test"), "smtp:127.0.0.1:2650;tls=verify;source=127.0.0.2", NULL);
	expect(c, VIEW("a@six.test"), "smtp:[::1]:26;tls=none", NULL);
	expect(c, VIEW("a@lmtp.test"), "lmtp:/run/a%3Bb", NULL);
	expect(c, VIEW("a@strict.test"), "mx:strict.test;tls=encrypt", NULL);
	expect(c, VIEW("a@Other.Example"), "mx:other.example", NULL);
	expect(c, VIEW("a@[192.0.2.1]"), "smtp:192.0.2.1:25", NULL);
	expect(c, VIEW("a@[IPv6:2001:DB8::1]"), "smtp:[2001:db8::1]:25", NULL);
	conf_free(c);
}

static void postmaster(void **state)
{
	struct conf *c = parse("");

	(void)state;
	expect(c, VIEW("PostMaster"), "maildir:local.test", "PostMaster@local.test");
	expect(c, VIEW("postmaster@local.test"), "maildir:local.test", NULL);
	expect(c, VIEW("Postmaster@MX.sink.test"), "maildir:local.test", "Postmaster@local.test");
	expect(c, VIEW("postmasters@mx.sink.test"), "mx:mx.sink.test", NULL);
	conf_free(c);
	c = parse("postmaster = \"maildir:/var/pm\"\n");
	expect(c, VIEW("postmaster"), "maildir:/var/pm", NULL);
	expect(c, VIEW("postmaster@mx.sink.test"), "maildir:/var/pm", NULL);
	expect(c, VIEW("postmaster@sink.test"), "maildir:/var/pm", NULL);
	expect(c, VIEW("postmaster@relay.test"), "smtp:127.0.0.1:2650;tls=verify;source=127.0.0.2", NULL);
	conf_free(c);
	c = parse("postmaster = \"ops@six.test\"\n");
	expect(c, VIEW("Postmaster"), "smtp:[::1]:26;tls=none", "ops@six.test");
	conf_free(c);
}

/* A buffer that is too small by any number of octets: false, and never a destination that was cut. */
static void no_room(void **state)
{
	static const char *const rcpts[] = { "a@sink.test", "a@local.test", "a@relay.test", "a@six.test", "a@lmtp.test", "a@strict.test",
					     "a@auth.test", "a@odd.test", "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "a@[x400:foo]", "a@x y",
					     "postmaster", "Postmaster@local.test" };
	static const char *const more[] = { "", "postmaster = \"maildir:/var/p;m\"\n", "postmaster = \"ops@relay.test\"\n",
					    "postmaster = \"discard\"\n" };
	unsigned refused = 0;

	(void)state;
	for (size_t m = 0; m < sizeof more / sizeof more[0]; m++) {
		char text[512];
		struct conf *c;

		snprintf(text, sizeof text, "%sdomain \"auth.test\" { deliver = \"smtp://a.test:25\" tls = verify auth = \"/c\" }\n"
			 "domain \"odd.test\" { deliver = \"lmtp:/run/a;b\" }\n", more[m]);
		c = parse(text);
		for (size_t i = 0; i < sizeof rcpts / sizeof rcpts[0]; i++) {
			struct buf whole, address, out, to;
			bool changed, changed2;

			buf_init(&whole, &alloc_libc, 65536);
			buf_init(&address, &alloc_libc, 65536);
			assert_true(route_dest_build(c, view_cstr(rcpts[i]), &whole, &address, &changed));
			for (size_t cap = 0; cap <= buf_len(&whole) + buf_len(&address); cap++) {
				buf_init(&out, &alloc_libc, cap);
				buf_init(&to, &alloc_libc, cap);
				if (route_dest_build(c, view_cstr(rcpts[i]), &out, &to, &changed2)) {
					assert_true(view_eq(buf_view(&out), buf_view(&whole)) && changed == changed2);
					assert_true(view_eq(buf_view(&to), buf_view(&address)));
				} else {
					/* text that is printed wants an octet more, for its NUL */
					assert_true(cap <= buf_len(&whole) || cap <= buf_len(&address));
					refused++;
				}
				buf_free(&out);
				buf_free(&to);
			}
			buf_free(&whole);
			buf_free(&address);
		}
		conf_free(c);
	}
	assert_true(refused > 500);
}

static void raises(void **state)
{
	static const struct {
		const char *before, *now, *want;
	} cases[] = {
		{ "mx:a.test;tls=verify", "mx:a.test", "mx:a.test;tls=verify" },
		{ "mx:a.test;tls=encrypt", "mx:a.test;tls=none;source=192.0.2.1", "mx:a.test;tls=encrypt;source=192.0.2.1" },
		{ "mx:a.test;tls=encrypt", "mx:a.test;source=192.0.2.1", "mx:a.test;tls=encrypt;source=192.0.2.1" },
		{ "mx:a.test;tls=encrypt", "mx:a.test;tls=verify", "mx:a.test;tls=verify" },
		{ "mx:a.test;tls=verify", "mx:b.test;tls=encrypt;auth=b.test", "mx:b.test;tls=verify;auth=b.test" },
		{ "mx:a.test", "mx:a.test;tls=none", "mx:a.test;tls=none" },
		{ "mx:a.test;tls=none", "mx:a.test", "mx:a.test" },
		{ "mx:a.test;tls=verify", "maildir:a.test", "maildir:a.test" },
		{ "mx:a.test;tls=verify", "discard", "discard" },
		{ "maildir:a.test", "mx:a.test", "mx:a.test" },
		{ "discard", "mx:a.test", "mx:a.test" },
		{ "no destination", "mx:a.test", "mx:a.test" },
		{ "mx:a.test;tls=sometimes", "mx:a.test", "mx:a.test" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t cap = strlen(cases[i].now); cap < 80; cap++) {
			struct buf b;

			buf_init(&b, &alloc_libc, cap);
			assert_true(buf_add(&b, view_cstr(cases[i].now)));
			if (route_dest_raise(&b, view_cstr(cases[i].before)))
				assert_true(view_eq(buf_view(&b), view_cstr(cases[i].want)));
			else
				assert_true(cap < strlen(cases[i].want)); /* no room: said, and nothing leaves under less than was owed */
			buf_free(&b);
		}
}

static void more_hops(void **state)
{
	struct conf *c = parse("domain \"auth.test\" { deliver = \"smtp://a.test:25\" tls = verify auth = \"/c\" }\n"
			       "domain \"odd.test\" { deliver = \"lmtp:/run/a;b\" }\n"
			       "postmaster = \"discard\"\n");
	struct route_dest d;
	char place[ROUTE_DEST_MAX + 1];

	(void)state;
	expect(c, VIEW("a@auth.test"), "smtp:a.test:25;tls=verify;auth=auth.test", NULL);
	expect(c, VIEW("a@odd.test"), "lmtp:/run/a%3Bb", NULL);
	expect(c, VIEW("postmaster"), "discard", NULL);
	expect(c, VIEW("a@x_y.test"), "mx:x_y.test", NULL);
	expect(c, VIEW("a@b\xc3\xbc.test"), "mx:b\xc3\xbc.test", NULL);
	expect(c, VIEW("a@[]"), "unroutable", NULL);
	expect(c, VIEW("a@[IPv6:]"), "unroutable", NULL);
	expect(c, VIEW("a@[11111111111111111111111111111111111111111111111111111111111111111111111111]"), "unroutable", NULL);
	conf_free(c);
	/* every field at its longest, and longer than the struct holds */
	memset(place, 'a', sizeof place);
	memcpy(place, "lmtp:/", 6);
	assert_int_equal(route_dest_parse(view_of(place, ROUTE_DEST_MAX), &d), 0);
	assert_int_equal(route_dest_parse(VIEW("maildir:/a%0Ab"), &d), 0);
	assert_string_equal(d.hop.delivery.path, "/a\nb");
	assert_int_equal(route_dest_parse(VIEW("maildir:/a%:0"), &d), -1);
	assert_int_equal(route_dest_parse(VIEW("maildir:/a%0:"), &d), -1);
	assert_int_equal(route_dest_parse(VIEW("maildir:/a%G0"), &d), -1);
	assert_int_equal(route_dest_parse(VIEW("smtp:[::1:25"), &d), -1);
	assert_int_equal(route_dest_parse(view_of("mx:a;source=b\0c", 15), &d), -1);
	assert_int_equal(route_dest_parse(view_of("mx:a;auth=b\0c", 13), &d), -1);
	assert_int_equal(route_dest_parse(view_of("maildir:/b\0c", 12), &d), -1);
	assert_int_equal(route_dest_parse(view_of("maildir:b\0c", 11), &d), -1);
}

static void reads_back(void **state)
{
	struct conf *c = parse("certificate \"a;b%c\" { chain = a key = b }\ncertificate d { chain = a key = b }\n"
			       "domain \"odd.test\" { deliver = \"smtp://a.test:25\" tls = verify client_certificate = \"a;b%c\" }\n"
			       "client_certificate = d\n");
	struct route_dest d;

	(void)state;
	expect(c, VIEW("a@odd.test"), "smtp:a.test:25;tls=verify;certificate=a%3Bb%25c", NULL);
	expect(c, VIEW("a@other.test"), "mx:other.test;certificate=d", NULL);
	conf_free(c);
	assert_int_equal(route_dest_parse(VIEW("smtp:a.test:25;tls=verify;certificate=a%3Bb%25c;require"), &d), 0);
	assert_string_equal(d.hop.client_certificate, "a;b%c");
	assert_true(d.require && d.hop.tls == CONF_TLS_VERIFY);
	assert_int_equal(route_dest_parse(VIEW("mx:a;certificate=a%3"), &d), -1);
	assert_int_equal(route_dest_parse(view_of("mx:a;certificate=b\0c", 20), &d), -1);
	assert_int_equal(route_dest_parse(VIEW("smtp:[::1]:26;tls=verify;source=::2;auth="), &d), 0);
	assert_int_equal(d.hop.delivery.kind, CONF_DELIVER_SMTP);
	assert_string_equal(d.hop.delivery.host, "::1");
	assert_int_equal(d.hop.delivery.port, 26);
	assert_int_equal(d.hop.tls, CONF_TLS_VERIFY);
	assert_string_equal(d.hop.source, "::2");
	assert_string_equal(d.auth, "");
	assert_int_equal(route_dest_parse(VIEW("mx:a.test"), &d), 0);
	assert_string_equal(d.domain, "a.test");
	assert_int_equal(d.hop.tls, CONF_TLS_MAY);
	assert_null(d.auth);
	assert_null(d.hop.client_certificate);
	assert_int_equal(route_dest_parse(VIEW("lmtp:/run/a%3Bb%25;auth=x.test"), &d), 0);
	assert_string_equal(d.hop.delivery.path, "/run/a;b%");
	assert_string_equal(d.auth, "x.test");
	assert_int_equal(route_dest_parse(VIEW("maildir:/a"), &d), 0);
	assert_string_equal(d.hop.delivery.path, "/a");
	assert_null(d.domain);
	assert_int_equal(route_dest_role(VIEW("discard")), ROUTE_BY_QUEUE);
	assert_int_equal(route_dest_role(VIEW("maildir:x")), ROUTE_BY_LOCAL);
	assert_int_equal(route_dest_role(VIEW("lmtp:/x")), ROUTE_BY_SEND);
}

/* What the mail itself asks of TLS stands at the end, is read back, and is raised with the rest. */
static void marks(void **state)
{
	static const struct { const char *text, *marked; bool require, relaxed; } cases[] = {
		{ "mx:a.test", "mx:a.test", false, false }, { "mx:a.test", "mx:a.test;require", true, false }, { "mx:a.test", "mx:a.test;relaxed", false, true },
		{ "mx:a.test;tls=verify", "mx:a.test;tls=verify;require", true, true }, { "smtp:h:25", "smtp:h:25;relaxed", false, true },
		{ "lmtp:h:24", "lmtp:h:24;require", true, false }, { "lmtp:/run/x", "lmtp:/run/x", true, false },
		{ "maildir:a.test", "maildir:a.test", true, true }, { "discard", "discard", true, false }, { "unroutable", "unroutable", true, false },
	};
	struct route_dest d;
	struct buf b, tiny;

	(void)state;
	buf_init(&b, &alloc_libc, 4096);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		buf_clear(&b);
		buf_add(&b, view_cstr(cases[i].text));
		assert_true(route_dest_mark(&b, cases[i].require, cases[i].relaxed));
		assert_true(view_eq(buf_view(&b), view_cstr(cases[i].marked)));
		assert_int_equal(route_dest_parse(buf_view(&b), &d), 0);
		assert_int_equal(d.require, strstr(cases[i].marked, "require") != NULL);
		assert_int_equal(d.relaxed, strstr(cases[i].marked, "relaxed") != NULL);
	}
	buf_clear(&b);
	buf_add(&b, VIEW("mx:a.test;require"));
	assert_true(route_dest_raise(&b, VIEW("mx:a.test;tls=encrypt;require")));
	assert_true(view_eq(buf_view(&b), VIEW("mx:a.test;tls=encrypt;require")));
	assert_int_equal(route_dest_parse(VIEW("mx:a.test;required"), &d), -1);
	assert_int_equal(route_dest_parse(VIEW("mx:a.test;require="), &d), -1);
	buf_init(&tiny, &alloc_libc, 1);
	assert_true(!buf_add(&tiny, VIEW("mx:a.test")) || !route_dest_mark(&tiny, true, false));
	buf_free(&tiny);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed),  cmocka_unit_test(hostile_addresses), cmocka_unit_test(hops),
		cmocka_unit_test(postmaster), cmocka_unit_test(reads_back),
		cmocka_unit_test(no_room),    cmocka_unit_test(raises),            cmocka_unit_test(more_hops),
		cmocka_unit_test(marks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
