/* DKIM as text: what canonicalisation does to odd input, no memory, and the published vectors of RFC 6376 and RFC 8463, whose signatures
 * OpenSSL verifies over the octets that we make of their messages. */
#include "mail/dkim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

static void expect(struct buf *b, const char *octets)
{
	assert_int_equal(buf_len(b), strlen(octets));
	assert_memory_equal(buf_view(b).p, octets, strlen(octets));
	buf_free(b);
}

static void no_memory(void **state)
{
	struct buf b;

	(void)state;
	for (size_t room = 0; room < 12; room++) {
		buf_init(&b, &alloc_libc, room);
		assert_false(mail_dkim_body(VIEW("some words\r\n"), &b));
		assert_false(mail_dkim_field(VIEW("Subject: words\r\n"), &b));
		assert_false(mail_dkim_finish(VIEW("c2lnbmF0dXJl"), &b));
		buf_free(&b);
	}
}

static void bodies(void **state)
{
	static const char *const cases[][2] = {
		{ "", "" }, { "\r\n", "" }, { "\r\n\r\n", "" }, { " \t\r\n", "" }, { "x", "x\r\n" }, { "x\r\n\r\n\r\n", "x\r\n" }, { "x\r\n \r\n", "x\r\n" },
		{ "\r\nx\r\n", "\r\nx\r\n" }, { " a  \t b \r\n", " a b\r\n" }, { "\t\ta\r\n", " a\r\n" }, { "a\n b\r\n", "a\n b\r\n" }, { "a\rb", "a\rb\r\n" },
		{ "a\r\n\t\r\nb\t", "a\r\n\r\nb\r\n" }, { " C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n" }, /* the last is RFC 6376 3.4.5 */
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf b;
		buf_init(&b, &alloc_libc, 4096);
		assert_true(mail_dkim_body(view_cstr(cases[i][0]), &b));
		expect(&b, cases[i][1]);
	}
}

static void fields(void **state)
{
	static const char *const cases[][2] = {
		{ "A: X\r\n", "a:X\r\n" }, { "B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n" }, /* RFC 6376 3.4.5 */
		{ "Subject:\r\n", "subject:\r\n" }, { "Subject:", "subject:\r\n" }, { "nothing", "nothing:\r\n" }, { "", ":\r\n" },
		{ "X-Y:  a\r\n  b\r\n\tc\r\n", "x-y:a b c\r\n" }, { "To:a:b\r\n", "to:a:b\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf b;
		buf_init(&b, &alloc_libc, 4096);
		assert_true(mail_dkim_field(view_cstr(cases[i][0]), &b));
		expect(&b, cases[i][1]);
	}
}

static void which_fields(void **state)
{
	struct view header = VIEW("Received: one\r\nX: first\r\nX: second\r\n folded\r\nFrom: a@b.test\r\nX: third\r\n");
	struct buf b;

	(void)state;
	/* from the bottom up; what is not there adds nothing; folds in h= do not matter */
	buf_init(&b, &alloc_libc, 4096);
	assert_true(mail_dkim_octets(header, VIEW("DKIM-Signature: a=x; h=x : from:X:\r\n\tcc:x:x:from ; b="), &b));
	expect(&b, "x:third\r\nfrom:a@b.test\r\nx:second folded\r\nx:first\r\ndkim-signature:a=x; h=x : from:X: cc:x:x:from ; b=");
	/* no h= at all: the field alone */
	buf_init(&b, &alloc_libc, 4096);
	assert_true(mail_dkim_octets(header, VIEW("DKIM-Signature: a=x; bh=h; b="), &b));
	expect(&b, "dkim-signature:a=x; bh=h; b=");
	/* more names than anybody needs */
	buf_init(&b, &alloc_libc, 65536);
	assert_true(buf_add(&b, VIEW("DKIM-Signature: h=a")));
	for (int i = 0; i < 100; i++)
		assert_true(buf_add(&b, VIEW(":a")));
	char *field = strndup(buf_view(&b).p, buf_len(&b));
	assert_false(mail_dkim_octets(header, view_cstr(field), &b));
	free(field);
	buf_free(&b);
}

static void the_field(void **state)
{
	struct mail_dkim d = { VIEW("rsa-sha256"), VIEW("b.test"), VIEW("s1"), VIEW("aGFzaA=="), 1528637909 };
	char longest[200];
	struct buf b;

	(void)state;
	buf_init(&b, &alloc_libc, 4096);
	assert_true(mail_dkim_begin(&d, VIEW("From: a@b.test\r\nSubject: x\r\nX-Other: y\r\nTo: c@d.test\r\nTo: e@f.test\r\n"), &b));
	assert_true(mail_dkim_finish(VIEW("c2ln"), &b));
	expect(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=b.test; s=s1; t=1528637909;\r\n h=from:from:to:to:subject;\r\n bh=aGFzaA==;\r\n b=c2ln\r\n");
	memset(longest, 'A', sizeof longest);
	buf_init(&b, &alloc_libc, 4096);
	assert_true(mail_dkim_finish(view_of(longest, sizeof longest), &b));
	assert_int_equal(buf_len(&b), 200 + 2 * 3 + 2);
	for (struct view v = buf_view(&b); v.n; v = view_slice(v, view_find(v, '\n') + 1, v.n))
		assert_true(view_find(v, '\n') <= 75);
	buf_free(&b);
}

/* ---- the published vectors ---- */

static size_t decode(const char *text, unsigned char *to)
{
	size_t n = strlen(text);

	assert_int_equal(EVP_DecodeBlock(to, (const unsigned char *)text, (int)n), n / 4 * 3);
	return n / 4 * 3 - (text[n - 1] == '=') - (text[n - 2] == '=');
}

static void verifies(struct view header, struct view field, EVP_PKEY *key, const char *signature)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char sig[512], hash[32];
	size_t n = decode(signature, sig);
	struct buf b;

	buf_init(&b, &alloc_libc, 65536);
	assert_true(mail_dkim_octets(header, field, &b));
	if (EVP_PKEY_is_a(key, "ED25519")) { /* RFC 8463 3: the hash is what is signed */
		assert_int_equal(EVP_Digest(buf_view(&b).p, buf_len(&b), hash, NULL, EVP_sha256(), NULL), 1);
		assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key), 1);
		assert_int_equal(EVP_DigestVerify(ctx, sig, n, hash, sizeof hash), 1);
	} else {
		assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
		assert_int_equal(EVP_DigestVerify(ctx, sig, n, (const unsigned char *)buf_view(&b).p, buf_len(&b)), 1);
	}
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	buf_free(&b);
}

static void body_hash_is(struct view body, const char *base64)
{
	unsigned char hash[32], text[64];
	struct buf b;

	buf_init(&b, &alloc_libc, 65536);
	assert_true(mail_dkim_body(body, &b));
	assert_int_equal(EVP_Digest(buf_view(&b).p, buf_len(&b), hash, NULL, EVP_sha256(), NULL), 1);
	EVP_EncodeBlock(text, hash, sizeof hash);
	assert_string_equal((char *)text, base64);
	buf_free(&b);
}

static EVP_PKEY *rsa_key(const char *base64)
{
	unsigned char der[1024];
	const unsigned char *p = der;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)decode(base64, der));

	assert_non_null(key);
	return key;
}

#define DINNER "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\n" \
	"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
#define DINNER_BODY "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"

/* RFC 8463 appendix A: one message, two signatures. */
static void rfc_8463(void **state)
{
	unsigned char raw[64];

	(void)state;
	body_hash_is(VIEW(DINNER_BODY), "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
	assert_int_equal(decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", raw), 32);
	verifies(VIEW(DINNER),
	         VIEW("DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=brisbane; "
	              "t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="),
	         EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, 32), "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==");
	verifies(VIEW(DINNER),
	         VIEW("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=test; "
	              "t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="),
	         rsa_key("MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"),
	         "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_memory), cmocka_unit_test(bodies), cmocka_unit_test(fields), cmocka_unit_test(which_fields), cmocka_unit_test(the_field),
		cmocka_unit_test(rfc_8463),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
