/* params.c - the arguments of MAIL and RCPT: every fault with its code first, then what is understood. */
#include "parse_test.h"
#include "smtp/params.h"

#define X10  "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define ALL  SMTP_PARAM_ALL

static struct arena arena;

static enum smtp_parse_fault mail(struct view v, unsigned allowed, struct psmtp_mail *m)
{
	struct view copy = exact(v);
	struct smtp_parsed r = smtp_mail_parse(copy, allowed, &arena, m);

	drop(copy); /* nothing may point into it */
	return r.fault;
}

static enum smtp_parse_fault rcpt(struct view v, unsigned allowed, bool utf8, struct psmtp_rcpt *m)
{
	struct view copy = exact(v);
	struct smtp_parsed r = smtp_rcpt_parse(copy, allowed, utf8, &arena, m);

	drop(copy);
	return r.fault;
}

static void mail_faults(void **state)
{
	static const struct {
		struct view text;
		unsigned allowed;
		enum smtp_parse_fault fault;
	} table[] = {
		{ LIT(""), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM: "), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("TO:<a@b>"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM :<a@b>"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT(" FROM:<a@b>"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM<a@b>"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b>SIZE=1"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b>\tSIZE=1"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b> =1"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b> -X=1"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b> <c@d>"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b> SI_ZE=1"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b> \xc3\xa9"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:a@b"), ALL, SMTP_PARSE_SENDER },
		{ LIT("FROM:<a@b"), ALL, SMTP_PARSE_SENDER },
		{ LIT("FROM:<a>"), ALL, SMTP_PARSE_SENDER },
		{ LIT("FROM:\t<a@b>"), ALL, SMTP_PARSE_SENDER },
		{ LIT("FROM:<postmaster>"), ALL, SMTP_PARSE_SENDER },
		{ LIT("FROM:<a@b>>"), ALL, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<\xff@b>"), ALL, SMTP_PARSE_SENDER },
		{ LIT("FROM:<a@\xed\xa0\x80> SMTPUTF8"), ALL, SMTP_PARSE_SENDER },
		{ LIT("FROM:<\xc3\xa9@b>"), ALL, SMTP_PARSE_UTF8_SENDER },
		{ LIT("FROM:<a@\xc3\xa9.b> BODY=8BITMIME"), ALL, SMTP_PARSE_UTF8_SENDER },
		{ LIT("FROM:<\xc3\xa9@b> SMTPUTF8"), ALL & ~(unsigned)SMTP_PARAM_UTF8, SMTP_PARSE_NOT_OFFERED },
		/* unknown, of the other command, or not offered: 555 */
		{ LIT("FROM:<a@b> FOO"), ALL, SMTP_PARSE_UNKNOWN },
		{ LIT("FROM:<a@b> FOO=1"), ALL, SMTP_PARSE_UNKNOWN },
		{ LIT("FROM:<a@b> NOTIFY=NEVER"), ALL, SMTP_PARSE_UNKNOWN },
		{ LIT("FROM:<a@b> ORCPT=rfc822;a@b"), ALL, SMTP_PARSE_UNKNOWN },
		{ LIT("FROM:<a@b> SIZES=1"), ALL, SMTP_PARSE_UNKNOWN },
		{ LIT("FROM:<a@b> SIZE=1"), 0, SMTP_PARSE_NOT_OFFERED },
		{ LIT("FROM:<a@b> SIZE=x"), 0, SMTP_PARSE_NOT_OFFERED },
		{ LIT("FROM:<a@b> BODY=8BITMIME"), ALL & ~(unsigned)SMTP_PARAM_BODY, SMTP_PARSE_NOT_OFFERED },
		{ LIT("FROM:<a@b> BODY=BINARYMIME"), ALL & ~(unsigned)SMTP_PARAM_BINARY, SMTP_PARSE_NOT_OFFERED },
		{ LIT("FROM:<a@b> RET=FULL"), ALL & ~(unsigned)SMTP_PARAM_DSN, SMTP_PARSE_NOT_OFFERED },
		{ LIT("FROM:<a@b> AUTH=<>"), ALL & ~(unsigned)SMTP_PARAM_AUTH, SMTP_PARSE_NOT_OFFERED },
		{ LIT("FROM:<a@b> REQUIRETLS"), ALL & ~(unsigned)SMTP_PARAM_TLS, SMTP_PARSE_NOT_OFFERED },
		/* twice */
		{ LIT("FROM:<a@b> SIZE=1 SIZE=1"), ALL, SMTP_PARSE_TWICE },
		{ LIT("FROM:<a@b> SMTPUTF8 smtputf8"), ALL, SMTP_PARSE_TWICE },
		{ LIT("FROM:<a@b> BODY=7BIT BODY=BINARYMIME"), ALL, SMTP_PARSE_TWICE },
		{ LIT("FROM:<a@b> RET=FULL ENVID=x RET=HDRS"), ALL, SMTP_PARSE_TWICE },
		/* SIZE: plain decimal */
		{ LIT("FROM:<a@b> SIZE"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE="), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=-1"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=+1"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=0x10"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=1k"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=1=2"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=100000000000000000000"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=000000000000000000001"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=1\t2"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=1\0"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SIZE=1e3"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> BODY"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> BODY="), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> BODY=9BIT"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SMTPUTF8=1"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> SMTPUTF8="), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> REQUIRETLS=1"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> RET=ALL"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> RET"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> ENVID="), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> ENVID=+4"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> ENVID=a=b"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> ENVID=a+0D+0AX:y"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> ENVID=+00"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> ENVID=+FF"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> ENVID=" X100 "x"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> AUTH"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> AUTH=+0A"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> AUTH=a=b"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> AUTH=+FF"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> AUTH=" X100 X100 X100 X100 X100 "x"), ALL, SMTP_PARSE_VALUE },
		/* the first fault counts */
		{ LIT("FROM:<a@b> SIZE=x FOO"), ALL, SMTP_PARSE_VALUE },
		{ LIT("FROM:<a@b> FOO SIZE=x"), ALL, SMTP_PARSE_UNKNOWN },
		/* what is fine */
		{ LIT("FROM:<>"), 0, SMTP_PARSE_OK },
		{ LIT("from:<a@b>"), 0, SMTP_PARSE_OK },
		{ LIT("FROM:  <a@b>"), 0, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b>  "), 0, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b>   SIZE=1   BODY=7bit "), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<\"a> SIZE=1\"@b>"), 0, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> BODY=7BIT"), SMTP_PARAM_BODY, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> BODY=binarymime"), SMTP_PARAM_BINARY, SMTP_PARSE_OK },
		{ LIT("FROM:<@x,@y:a@b> SIZE=1"), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> ENVID=" X100), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> AUTH=+C3+A9@b"), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<\xc3\xa9@b> SMTPUTF8"), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> SIZE=18446744073709551615"), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> SIZE=18446744073709551616"), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> SIZE=99999999999999999999"), ALL, SMTP_PARSE_OK },
		{ LIT("FROM:<a@b> SIZE=00000000000000000001"), ALL, SMTP_PARSE_OK },
	};
	struct psmtp_mail m;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		enum smtp_parse_fault got = mail(table[i].text, table[i].allowed, &m);

		if (got != table[i].fault)
			fail_msg("\"%.*s\": fault %d, wanted %d", VIEW_ARGS(table[i].text), got, table[i].fault);
		arena_reset(&arena);
	}
}

static void rcpt_faults(void **state)
{
	static const struct {
		struct view text;
		unsigned allowed;
		bool utf8;
		enum smtp_parse_fault fault;
	} table[] = {
		{ LIT(""), ALL, false, SMTP_PARSE_SYNTAX },
		{ LIT("FROM:<a@b>"), ALL, false, SMTP_PARSE_SYNTAX },
		{ LIT("TO:"), ALL, false, SMTP_PARSE_SYNTAX },
		{ LIT("TO:<>"), ALL, false, SMTP_PARSE_RECIPIENT },
		{ LIT("TO:a@b"), ALL, false, SMTP_PARSE_RECIPIENT },
		{ LIT("TO:<a>"), ALL, false, SMTP_PARSE_RECIPIENT },
		{ LIT("TO:<a@b.>"), ALL, false, SMTP_PARSE_RECIPIENT },
		{ LIT("TO:<\xc3\xa9@b>"), ALL, false, SMTP_PARSE_UTF8_RECIPIENT },
		{ LIT("TO:<\xff@b>"), ALL, true, SMTP_PARSE_RECIPIENT },
		{ LIT("TO:<a@b> SIZE=1"), ALL, false, SMTP_PARSE_UNKNOWN },
		{ LIT("TO:<a@b> SMTPUTF8"), ALL, true, SMTP_PARSE_UNKNOWN },
		{ LIT("TO:<a@b> NOTIFY=NEVER"), 0, false, SMTP_PARSE_NOT_OFFERED },
		{ LIT("TO:<a@b> ORCPT=rfc822;a@b"), 0, false, SMTP_PARSE_NOT_OFFERED },
		{ LIT("TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER"), ALL, false, SMTP_PARSE_TWICE },
		{ LIT("TO:<a@b> NOTIFY"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY="), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY=NEVER,SUCCESS"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY=SUCCESS,NEVER"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY=SUCCESS,"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY=,SUCCESS"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY=SUCCESS,,DELAY"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY=ALWAYS"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> NOTIFY=SUCCESS FAILURE"), ALL, false, SMTP_PARSE_UNKNOWN },
		{ LIT("TO:<a@b> ORCPT=a@b"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=;a@b"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc.822;a"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;a+0D+0AX"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;+C3+A9@b"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;+C3@b"), ALL, true, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;+C0+80@b"), ALL, true, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;+C3+A9+0D@b"), ALL, true, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;\xc3\xa9@b"), ALL, true, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=rfc822;" X100 X100 X100 X100 X100), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\xc3\xa9@b"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\xc3@b"), ALL, true, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;a+2B"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{E9"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{0A}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{7F}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{85}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{D800}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{110000}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{1000000E9}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{G}"), ALL, false, SMTP_PARSE_VALUE },
		{ LIT("TO:<Postmaster>"), 0, false, SMTP_PARSE_OK },
		{ LIT("to: <a@b>"), 0, false, SMTP_PARSE_OK },
		{ LIT("TO:<\xc3\xa9@b>"), 0, true, SMTP_PARSE_OK },
		{ LIT("TO:<@x:a@b>"), 0, false, SMTP_PARSE_OK },
		{ LIT("TO:<a@b> ORCPT=utf-8;\\x{E9}\\x{2B}@b"), ALL, false, SMTP_PARSE_OK },
		{ LIT("TO:<a@b> ORCPT=UTF-8;\xc3\xa9@b"), ALL, true, SMTP_PARSE_OK },
		{ LIT("TO:<a@b> ORCPT=rfc822;j+C3+A9+2Bx@b"), ALL, true, SMTP_PARSE_OK }, /* as Postfix says it */
		{ LIT("TO:<a@b> notify=delay,failure orcpt=x400;+20"), ALL, false, SMTP_PARSE_OK },
	};
	struct psmtp_rcpt r;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		enum smtp_parse_fault got = rcpt(table[i].text, table[i].allowed, table[i].utf8, &r);

		if (got != table[i].fault)
			fail_msg("\"%.*s\": fault %d, wanted %d", VIEW_ARGS(table[i].text), got, table[i].fault);
		arena_reset(&arena);
	}
}

static void replies_to_faults(void **state)
{
	static const struct {
		enum smtp_parse_fault fault;
		int code;
		uint16_t enhanced[3];
	} table[] = {
		{ SMTP_PARSE_OK, 0, { 0, 0, 0 } },
		{ SMTP_PARSE_SYNTAX, 501, { 5, 5, 4 } },
		{ SMTP_PARSE_SENDER, 501, { 5, 1, 7 } },
		{ SMTP_PARSE_RECIPIENT, 501, { 5, 1, 3 } },
		{ SMTP_PARSE_UNKNOWN, 555, { 5, 5, 4 } },
		{ SMTP_PARSE_NOT_OFFERED, 555, { 5, 5, 4 } },
		{ SMTP_PARSE_VALUE, 501, { 5, 5, 4 } },
		{ SMTP_PARSE_TWICE, 501, { 5, 5, 4 } },
		{ SMTP_PARSE_UTF8_SENDER, 553, { 5, 6, 7 } },
		{ SMTP_PARSE_UTF8_RECIPIENT, 553, { 5, 6, 7 } },
		{ SMTP_PARSE_MEMORY, 452, { 4, 3, 1 } },
	};

	(void)state;
	assert_int_equal(COUNT(table), SMTP_PARSE_END_ - 1);
	for (size_t i = 0; i < COUNT(table); i++) {
		struct psmtp_reply r = smtp_parse_reply(table[i].fault);

		assert_int_equal(r.code, table[i].code);
		assert_memory_equal(r.enhanced, table[i].enhanced, sizeof r.enhanced);
		assert_true((r.text.n > 0) == (r.code > 0));
		assert_non_null(smtp_parse_reason(table[i].fault));
	}
}

static void understands_mail(void **state)
{
	struct psmtp_mail m;

	(void)state;
	assert_int_equal(mail(LIT("FROM:<@r:a+b@c.d>"), 0, &m), SMTP_PARSE_OK);
	assert_view(smtp_view(m.sender.text), "a+b@c.d");
	assert_true(m.size == 0 && m.body == PSMTP_BODY_7BIT && !m.smtputf8 && !m.requiretls &&
		m.ret == PSMTP_RET_UNSAID && !m.envid.n && !m.auth.n);
	assert_int_equal(mail(LIT("FROM:<> size=123 Body=8bitMIME smtputf8 RET=hdrs ENVID=a+20b+2B "
				  "AUTH=e+3Dmc2@example.com REQUIRETLS"),
				 ALL, &m),
		SMTP_PARSE_OK);
	assert_int_equal(m.sender.kind, PSMTP_DOMAIN_NONE);
	assert_true(m.size == 123 && m.body == PSMTP_BODY_8BITMIME && m.smtputf8 && m.requiretls &&
		m.ret == PSMTP_RET_HDRS);
	assert_view(smtp_view(m.envid), "a b+");
	assert_view(smtp_view(m.auth), "e=mc2@example.com");
	assert_int_equal(mail(LIT("FROM:<a@b> BODY=BINARYMIME RET=FULL AUTH=<>"), ALL, &m), SMTP_PARSE_OK);
	assert_true(m.body == PSMTP_BODY_BINARYMIME && m.ret == PSMTP_RET_FULL);
	assert_view(smtp_view(m.auth), "<>");
	arena_reset(&arena);
}

static void understands_rcpt(void **state)
{
	struct psmtp_rcpt r;

	(void)state;
	assert_int_equal(rcpt(LIT("TO:<a@b>"), 0, false, &r), SMTP_PARSE_OK);
	assert_true(r.notify == PSMTP_NOTIFY_UNSAID && !r.orcpt.n && !r.orcpt_type.n);
	assert_int_equal(rcpt(LIT("TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;Bob+2Bx@b"), ALL, false, &r), SMTP_PARSE_OK);
	assert_int_equal(r.notify, PSMTP_NOTIFY_NEVER);
	assert_view(smtp_view(r.orcpt_type), "rfc822");
	assert_view(smtp_view(r.orcpt), "Bob+x@b");
	assert_int_equal(rcpt(LIT("TO:<a@b> NOTIFY=success,DELAY,Failure,DELAY"), ALL, false, &r), SMTP_PARSE_OK);
	assert_int_equal(r.notify, PSMTP_NOTIFY_SUCCESS | PSMTP_NOTIFY_FAILURE | PSMTP_NOTIFY_DELAY);
	assert_int_equal(rcpt(LIT("TO:<a@b> ORCPT=utf-8;\\x{E9}@b"), ALL, false, &r), SMTP_PARSE_OK);
	assert_view(smtp_view(r.orcpt), "\\x{E9}@b");
	arena_reset(&arena);
}

static void tells_what_was_seen(void **state)
{
	struct psmtp_mail m;
	struct psmtp_rcpt r;

	(void)state;
	assert_int_equal(smtp_mail_parse(LIT("FROM:<> SIZE=1 BODY=BINARYMIME"), ALL, &arena, &m).seen,
		SMTP_PARAM_SIZE | SMTP_PARAM_BINARY);
	assert_int_equal(
		smtp_mail_parse(LIT("FROM:<> BODY=7BIT SMTPUTF8 ENVID=x AUTH=<> REQUIRETLS"), ALL, &arena, &m).seen,
		SMTP_PARAM_BODY | SMTP_PARAM_UTF8 | SMTP_PARAM_DSN | SMTP_PARAM_AUTH | SMTP_PARAM_TLS);
	assert_int_equal(smtp_rcpt_parse(LIT("TO:<a@b> NOTIFY=NEVER"), ALL, false, &arena, &r).seen, SMTP_PARAM_DSN);
	assert_int_equal(smtp_rcpt_parse(LIT("TO:<a@b>"), ALL, false, &arena, &r).seen, 0);
	arena_reset(&arena);
}

static void *no_memory(void *arg, void *old, size_t size)
{
	(void)arg;
	(void)old;
	(void)size;
	return NULL;
}

static void runs_out_of_memory(void **state)
{
	static const struct alloc none = { no_memory, NULL };
	struct arena poor;
	struct psmtp_mail m;
	struct psmtp_rcpt r;

	(void)state;
	arena_init(&poor, &none, 4096);
	assert_int_equal(smtp_mail_parse(LIT("FROM:<>"), ALL, &poor, &m).fault, SMTP_PARSE_MEMORY);
	assert_int_equal(smtp_rcpt_parse(LIT("TO:<a@b>"), ALL, false, &poor, &r).fault, SMTP_PARSE_MEMORY);
	arena_free(&poor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_faults),
		cmocka_unit_test(rcpt_faults),
		cmocka_unit_test(replies_to_faults),
		cmocka_unit_test(understands_mail),
		cmocka_unit_test(understands_rcpt),
		cmocka_unit_test(tells_what_was_seen),
		cmocka_unit_test(runs_out_of_memory),
	};
	int failed;

	arena_init(&arena, &alloc_libc, 65536);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_free(&arena);
	return failed;
}
