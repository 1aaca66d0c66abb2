/* Reports.  Without an argument: the tests that C can do.  With a variant's name: prints that report, for dsn.py, which
 * reads it with Python's email package and judges its structure. */
#include "mail/dsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ORIGINAL "From: a@b.test\r\nSubject: hello\r\n\r\nbody line\r\n.dot\r\n"
#define NOW      1795516081000

static const struct mail_dsn_rcpt rcpts[] = {
	{ .address = VIEW("x@dest.test"),
	  .orcpt_type = VIEW("rfc822"),
	  .orcpt = VIEW("orig+x@dest.test"),
	  .action = MAIL_DSN_FAILED,
	  .status = { 5, 1, 1 },
	  .remote = VIEW("mx.dest.test[192.0.2.9]:25"),
	  .code = 550,
	  .text = VIEW("5.1.1 no such user\nEvil: header"),
	  .last_attempt = NOW - 1000 },
	{ .address = VIEW("y@dest.test"),
	  .action = MAIL_DSN_FAILED,
	  .status = { 4, 4, 7 },
	  .text = VIEW("not reached in time"),
	  .local = true,
	  .last_attempt = NOW - 1000 },
};

static struct mail_dsn base(void)
{
	return (struct mail_dsn){ .action = MAIL_DSN_FAILED,
				  .host = VIEW("mx.sink.test"),
				  .sender = VIEW("a@b.test"),
				  .envid = VIEW("QQ314159"),
				  .id = 0x6430a1b2c3d4e,
				  .nonce = 42,
				  .arrival = NOW - 60000,
				  .now = NOW,
				  .rcpts = rcpts,
				  .n = 2,
				  .original = VIEW(ORIGINAL),
				  .whole = true };
}

static struct mail_dsn_rcpt other;
static char *big;

static bool variant(const char *name, struct mail_dsn *d)
{
	*d = base();
	other = rcpts[0];
	if (!strcmp(name, "failed"))
		return true;
	if (!strcmp(name, "headers")) {
		d->whole = false;
		return true;
	}
	if (!strcmp(name, "delayed")) {
		other.action = d->action = MAIL_DSN_DELAYED;
		other.status[0] = 4;
		other.retry_until = NOW + 86400000;
	} else if (!strcmp(name, "relayed"))
		other.action = d->action = MAIL_DSN_RELAYED;
	else if (!strcmp(name, "literal"))
		other.remote = VIEW("192.0.2.9[192.0.2.9]:2525");
	else if (!strcmp(name, "literal6"))
		other.remote = VIEW("2001:db8::9[2001:db8::9]:25");
	else if (!strcmp(name, "socket"))
		other.remote = VIEW("/run/lmtp");
	else if (!strcmp(name, "8bit"))
		d->original = VIEW("Subject: h\r\n\r\ncaf\xc3\xa9\r\n");
	else if (!strcmp(name, "utf8")) {
		d->utf8 = true;
		d->sender = VIEW("\xc3\xa9@b.test");
		other.address = VIEW("\xc3\xbc@dest.test");
		other.orcpt_type = VIEW("utf-8");
		other.orcpt = VIEW("\xc3\xbc@dest.test");
		d->original = VIEW("Subject: h\xc3\xa9\r\n\r\nx\r\n");
	} else if (!strcmp(name, "xtext")) {
		other.orcpt_type = VIEW("utf-8");
		other.orcpt = VIEW("\xc3\xbc\xe2\x82\xac\xf0\x9f\x99\x82@dest.test");
		other.text = VIEW("5.1.1 n\xc3\xa9in");
	} else if (!strcmp(name, "big")) {
		big = malloc(200000);
		memset(big, 'b', 200000);
		memcpy(big, ORIGINAL, sizeof ORIGINAL - 1);
		d->original = view_of(big, 200000);
	} else if (!strcmp(name, "boundary"))
		d->original = VIEW("Subject: h\r\n\r\n--=_postrider_0006430a1b2c3d4e_000000000000002a--\r\n");
	else
		return false;
	d->rcpts = &other;
	d->n = 1;
	return true;
}

static void out_of_memory(void **state)
{
	static const char *names[] = { "failed", "headers", "delayed", "relayed", "utf8", "xtext" };
	struct mail_dsn d;
	struct buf b;
	size_t max, whole;
	bool high;

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		assert_true(variant(names[i], &d));
		buf_init(&b, &alloc_libc, 1 << 20);
		assert_true(mail_dsn_build(&b, &d, &high));
		whole = buf_len(&b);
		buf_free(&b);
		for (max = 1; max < whole; max++) { /* wherever it ends, that is told */
			buf_init(&b, &alloc_libc, max);
			assert_false(mail_dsn_build(&b, &d, &high));
			buf_free(&b);
		}
	}
}

static int shorten(const char *text, size_t n, size_t max, struct buf *out)
{
	buf_init(out, &alloc_libc, max);
	return mail_dsn_shorten(out, view_of(text, n));
}

/* A report that returns 8-bit text, for a hop without 8BITMIME: the part that it returned goes, the rest has 7 bits. */
static void shortened(void **state)
{
	struct mail_dsn d;
	struct buf b, out;
	struct view v;
	bool high;

	(void)state;
	assert_true(variant("8bit", &d));
	buf_init(&b, &alloc_libc, 1 << 20);
	assert_true(mail_dsn_build(&b, &d, &high));
	assert_true(high);
	v = buf_view(&b);
	assert_int_equal(shorten(v.p, v.n, 1 << 20, &out), 1);
	for (size_t i = 0; i < buf_len(&out); i++)
		assert_true((unsigned char)buf_view(&out).p[i] < 128);
	assert_null(memmem(buf_view(&out).p, buf_len(&out), "8bit", 4));
	assert_non_null(memmem(buf_view(&out).p, buf_len(&out), "Final-Recipient", 15));
	assert_memory_equal(buf_view(&out).p + buf_len(&out) - 4, "--\r\n", 4);
	for (size_t max = 1, whole = buf_len(&out); max < whole; max++) {
		buf_free(&out);
		assert_int_equal(shorten(v.p, v.n, max, &out), -1);
	}
	buf_free(&out);
	buf_free(&b);
}

/* What no report of ours is, or has nothing to leave out, stays as it is. */
static void not_shortened(void **state)
{
#define PART "\r\n--=_postrider_1\r\n"
	static const struct view texts[] = {
		VIEW(""),
		VIEW("Subject: x\r\n\r\nx\r\n"),
		VIEW("Content-Type: multipart/report; boundary=\"=_postrider_1"),
		VIEW("Content-Type: multipart/report; boundary=\"=_postrider_1\"\r\n" PART "one" PART "two"),
		VIEW("boundary=\"=_postrider_1\"\r\nContent-Transfer-Encoding: 8bit\r\n" PART "caf\xc3\xa9" PART "two" PART "three"),
		VIEW("boundary=\"=_postrider_1\"\r\nContent-Transfer-Encoding: 7bit\r\n" PART "one" PART "two" PART "three"),
		VIEW("boundary=\"=_postrider_1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\r\n"),
	};
	struct buf out;

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		assert_int_equal(shorten(texts[i].p, texts[i].n, 1 << 20, &out), 0);
		assert_int_equal(buf_len(&out), 0);
		buf_free(&out);
	}
}

/* Every line ends in CRLF, is within 998 octets, and no foreign word begins a line. */
static void lines(void **state)
{
	static const char *names[] = { "failed", "headers", "delayed", "relayed", "8bit", "utf8", "xtext", "boundary", "literal6" };
	struct mail_dsn d;
	struct buf b;
	size_t i, at, n;
	bool high;

	(void)state;
	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct view v;

		assert_true(variant(names[i], &d));
		buf_init(&b, &alloc_libc, 1 << 20);
		assert_true(mail_dsn_build(&b, &d, &high));
		v = buf_view(&b);
		for (at = 0; at < v.n; at += n + 1) {
			n = view_find(view_slice(v, at, v.n), '\n');
			assert_true(at + n < v.n && n >= 1 && n < 999);
			assert_int_equal(v.p[at + n - 1], '\r');
			assert_false(view_starts_nocase(view_slice(v, at, v.n), VIEW("Evil:")));
		}
		for (at = 0; !high && at < v.n; at++)
			assert_true((unsigned char)v.p[at] < 128);
		buf_free(&b);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(out_of_memory), cmocka_unit_test(shortened), cmocka_unit_test(not_shortened), cmocka_unit_test(lines) };
	struct mail_dsn d;
	struct buf b;
	bool high;

	if (argc == 1)
		return cmocka_run_group_tests(tests, NULL, NULL);
	buf_init(&b, &alloc_libc, 1 << 20);
	if (!variant(argv[1], &d) || !mail_dsn_build(&b, &d, &high))
		return 1;
	fwrite(buf_view(&b).p, 1, buf_len(&b), stdout);
	buf_free(&b);
	free(big);
	return 0;
}
