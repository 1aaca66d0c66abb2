/* command.c - verbs and arguments, line limits, and HTTP told apart. */
#include "parse_test.h"
#include "smtp/command.h"

static void parses(void **state)
{
	static const struct {
		struct view line;
		enum smtp_verb verb;
		const char *argument;
	} table[] = {
		{ LIT(""), SMTP_VERB_UNKNOWN, "" },
		{ LIT(" "), SMTP_VERB_UNKNOWN, "" },
		{ LIT(" NOOP"), SMTP_VERB_UNKNOWN, "NOOP" },
		{ LIT("NOO"), SMTP_VERB_UNKNOWN, "" },
		{ LIT("NOOPS"), SMTP_VERB_UNKNOWN, "" },
		{ LIT("NOOP\tx"), SMTP_VERB_UNKNOWN, "" },
		{ LIT("NO OP"), SMTP_VERB_UNKNOWN, "OP" },
		{ LIT("HELLO x"), SMTP_VERB_UNKNOWN, "x" },
		{ LIT("\xc3\xa9"), SMTP_VERB_UNKNOWN, "" },
		{ LIT("DATA\0"), SMTP_VERB_UNKNOWN, "" },
		{ LIT("MAIL:"), SMTP_VERB_UNKNOWN, "" },
		{ LIT("."), SMTP_VERB_UNKNOWN, "" },
		{ LIT("NOOP"), SMTP_VERB_NOOP, "" },
		{ LIT("noop"), SMTP_VERB_NOOP, "" },
		{ LIT("nOoP  \t "), SMTP_VERB_NOOP, "" },
		{ LIT("NOOP x y"), SMTP_VERB_NOOP, "x y" },
		{ LIT("EHLO a.b "), SMTP_VERB_EHLO, "a.b" },
		{ LIT("ehlo  a"), SMTP_VERB_EHLO, " a" },
		{ LIT("HELO a"), SMTP_VERB_HELO, "a" },
		{ LIT("LHLO a"), SMTP_VERB_LHLO, "a" },
		{ LIT("STARTTLS"), SMTP_VERB_STARTTLS, "" },
		{ LIT("STARTTLS x"), SMTP_VERB_STARTTLS, "x" },
		{ LIT("AUTH PLAIN ="), SMTP_VERB_AUTH, "PLAIN =" },
		{ LIT("MAIL FROM:<>"), SMTP_VERB_MAIL, "FROM:<>" },
		{ LIT("RCPT TO:<a@b>"), SMTP_VERB_RCPT, "TO:<a@b>" },
		{ LIT("DATA"), SMTP_VERB_DATA, "" },
		{ LIT("BDAT 1 LAST"), SMTP_VERB_BDAT, "1 LAST" },
		{ LIT("BDAT  1"), SMTP_VERB_BDAT, " 1" },
		{ LIT("RSET"), SMTP_VERB_RSET, "" },
		{ LIT("VRFY a"), SMTP_VERB_VRFY, "a" },
		{ LIT("EXPN a"), SMTP_VERB_EXPN, "a" },
		{ LIT("HELP"), SMTP_VERB_HELP, "" },
		{ LIT("QUIT"), SMTP_VERB_QUIT, "" },
		{ LIT("GET / HTTP/1.1"), SMTP_VERB_HTTP, "/ HTTP/1.1" },
		{ LIT("POST /x HTTP/1.0"), SMTP_VERB_HTTP, "/x HTTP/1.0" },
		{ LIT("HEAD /"), SMTP_VERB_HTTP, "/" },
		{ LIT("PUT /a HTTP/1.1"), SMTP_VERB_HTTP, "/a HTTP/1.1" },
		{ LIT("get /"), SMTP_VERB_HTTP, "/" },
		{ LIT("OPTIONS * HTTP/1.1"), SMTP_VERB_HTTP, "* HTTP/1.1" },
		{ LIT("CONNECT a:25 HTTP/1.1"), SMTP_VERB_HTTP, "a:25 HTTP/1.1" },
		{ LIT("PRI * HTTP/2.0"), SMTP_VERB_HTTP, "* HTTP/2.0" },
		{ LIT("DELETE /a"), SMTP_VERB_HTTP, "/a" },
		{ LIT("Host: a"), SMTP_VERB_HTTP, "a" },
		{ LIT("Host:a"), SMTP_VERB_HTTP, "" },
		{ LIT("user-agent: x"), SMTP_VERB_HTTP, "x" },
		{ LIT("Content-Length: 5"), SMTP_VERB_HTTP, "5" },
		{ LIT("GET"), SMTP_VERB_UNKNOWN, "" },
		{ LIT("Hosts: a"), SMTP_VERB_UNKNOWN, "a" },
		{ LIT("Host a"), SMTP_VERB_UNKNOWN, "a" },
		{ LIT(": a"), SMTP_VERB_UNKNOWN, "a" },
		{ LIT("Subject: a"), SMTP_VERB_UNKNOWN, "a" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view line = exact(table[i].line);
		struct smtp_command c = smtp_command_parse(line);

		if (c.verb != table[i].verb)
			fail_msg("\"%.*s\": %s", VIEW_ARGS(line), smtp_verb_name(c.verb));
		assert_view(c.argument, table[i].argument);
		assert_int_equal(c.has_argument, c.argument.n > 0);
		drop(line);
	}
}

static void names_every_verb(void **state)
{
	(void)state;
	for (enum smtp_verb v = SMTP_VERB_HTTP + 1; v < SMTP_VERB_END_; v++) {
		struct view name = view_cstr(smtp_verb_name(v));

		assert_int_equal(smtp_command_parse(name).verb, v);
	}
	assert_string_equal(smtp_verb_name(SMTP_VERB_MAIL), "MAIL");
	assert_string_equal(smtp_verb_name(SMTP_VERB_END_), "none");
}

static void limits_by_verb(void **state)
{
	static const struct {
		const char *head;
		size_t limit;
	} table[] = {
		{ "", 512 },
		{ "M", 512 },
		{ "MAI", 512 },
		{ "MAIL", 2048 },
		{ "mail from:<", 2048 },
		{ "MAILX", 512 },
		{ "RCPT ", 2048 },
		{ " MAIL", 512 },
		{ "AUTH PLAIN ", 12290 },
		{ "AUTHX", 512 },
		{ "EHLO x", 512 },
		{ "xxxxxxxxxxxxxxxxxxxxxx MAIL", 512 },
		{ "GET /", 512 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		assert_int_equal(smtp_command_limit(view_cstr(table[i].head)), table[i].limit);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(parses), cmocka_unit_test(names_every_verb),
		cmocka_unit_test(limits_by_verb) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
