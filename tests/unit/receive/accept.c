/* accept.c - tests of receive/accept.c: who may send to whom, every relay trick. */
#include "rig.h"

#include "conf/users.h"
#include "net/address.h"
#include "receive/accept.h"

#include <string.h>

static struct conf *conf;
static struct handoff *files, *no_files;
static char list_path[64];

static int set_up(void **state)
{
	char text[2048];
	struct error e;
	int fd;

	(void)state;
	snprintf(list_path, sizeof list_path, "/tmp/test_accept_XXXXXX");
	fd = mkstemp(list_path);
	if (write(fd, "# comment\r\n  Carol\t\r\n\n#dave\nerin", 32) == -1)
		return -1;
	close(fd);
	snprintf(text, sizeof text,
	         "hostname = \"mx.ours.test\"\nspool = \"/s\"\ncontrol = \"/c\"\n"
	         "listener \"mx\" { address = {\"127.0.0.1:25\"} tls = none }\n"
	         "domain \"sink.test\" { deliver = \"discard\" }\n"
	         "domain \"local.test\" { deliver = \"maildir:/m/%%{user}\" }\n"
	         "domain \"listed.test\" { deliver = \"maildir:/m/%%{user}\" users = \"%s\" }\n"
	         "domain \"hop.test\" { deliver = \"smtp://192.0.2.1:25\" }\n"
	         "domain \"hoplisted.test\" { deliver = \"mx\" users = \"%s\" }\n"
	         "domain \"lmtp.test\" { deliver = \"lmtp:/run/x\" }\n"
	         "relay { from = {\"10.0.0.0/8\", \"2001:db8::/32\"} }\n",
	         list_path, list_path);
	if (conf_parse(&conf, view_cstr(text), "/t.conf", &e) == -1 || handoff_read(&files, conf, "/t.conf", "receive", &e) == -1 ||
	    handoff_read(&no_files, conf, "/t.conf", "resolve", &e) == -1)
		fail_msg("%s", e.text);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(list_path);
	handoff_free(files);
	handoff_free(no_files);
	conf_free(conf);
	return 0;
}

static struct accept_judgement judge(const char *client, const char *path, const struct handoff *with)
{
	struct accept_judgement j;
	struct psmtp_address a;
	struct address from;

	assert_true(address_parse_host(view_cstr(client), 1, &from));
	if (psmtp_address_parse((struct psmtp_view){ path, strlen(path) }, PSMTP_ADDRESS_POSTMASTER | PSMTP_ADDRESS_UTF8, &a) == -1)
		return (struct accept_judgement){ .kind = ACCEPT_REFUSE, .reply = { .code = 501 } };
	receive_accept_judge(conf, with, (const struct sockaddr *)&from.sa, &a, &j);
	return j;
}

#define STRANGER "192.0.2.9"
#define FRIEND "10.1.2.3"

static void test_table(void **state)
{
	static const struct { const char *client, *path; enum accept_kind kind; int code; } cases[] = {
		/* strangers: only what is ours */
		{ STRANGER, "<a@elsewhere.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@sub.sink.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@xsink.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@mx.ours.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@localhost>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@[127.0.0.1]>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@[192.0.2.9]>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@[IPv6:::1]>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<postmaster@elsewhere.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<postmaster@[127.0.0.1]>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a@sink.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<A@SINK.Test>", ACCEPT_YES, 0 },
		{ STRANGER, "<a@local.test>", ACCEPT_ASK_LOCAL, 0 },
		{ STRANGER, "<a@hop.test>", ACCEPT_YES, 0 },
		/* the usual tricks */
		{ STRANGER, "<victim%elsewhere.test@hop.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<elsewhere.test!victim@hop.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<\"victim@elsewhere.test\"@hop.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<\"victim%elsewhere.test\"@hop.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<\"victim\\@elsewhere.test\"@hop.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<\"vic\\%tim\"@lmtp.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<a%b@hoplisted.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<@sink.test:victim@elsewhere.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<@elsewhere.test,@sink.test:a@sink.test>", ACCEPT_YES, 0 }, /* the route is stripped (RFC 5321 4.1.1.3) */
		{ STRANGER, "<@sink.test:victim%elsewhere.test@hop.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<victim@elsewhere.test@sink.test>", ACCEPT_REFUSE, 501 },
		{ STRANGER, "<victim@elsewhere.test>@sink.test", ACCEPT_REFUSE, 501 },
		{ STRANGER, "<sink.test:victim@elsewhere.test>", ACCEPT_REFUSE, 501 },
		{ STRANGER, "<victim%elsewhere.test@local.test>", ACCEPT_ASK_LOCAL, 0 }, /* a mailbox of that name, or none */
		{ STRANGER, "<victim%elsewhere.test@sink.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<\"victim@elsewhere.test\">", ACCEPT_REFUSE, 501 },
		/* postmaster is always there (RFC 5321 4.5.1) */
		{ STRANGER, "<Postmaster>", ACCEPT_YES, 0 },
		{ STRANGER, "<postmaster@MX.ours.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<\"Postmaster\"@mx.ours.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<postmasters@mx.ours.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<POSTMASTER@local.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<\"postmaster\"@listed.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<postmaster@hoplisted.test>", ACCEPT_YES, 0 },
		/* lists */
		{ STRANGER, "<carol@listed.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<\"ERIN\"@listed.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<dave@listed.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<\"#dave\"@listed.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<\"\"@listed.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<caro@listed.test>", ACCEPT_REFUSE, 550 },
		{ STRANGER, "<erin@hoplisted.test>", ACCEPT_YES, 0 },
		{ STRANGER, "<bob@hoplisted.test>", ACCEPT_REFUSE, 550 },
		{ FRIEND, "<bob@hoplisted.test>", ACCEPT_REFUSE, 550 }, /* trust makes no mailbox */
		/* friends */
		{ FRIEND, "<a@elsewhere.test>", ACCEPT_YES, 0 },
		{ FRIEND, "<a%b@elsewhere.test>", ACCEPT_YES, 0 },
		{ FRIEND, "<a%b@hop.test>", ACCEPT_YES, 0 },
		{ FRIEND, "<a@[192.0.2.1]>", ACCEPT_YES, 0 },
		{ "2001:db8::7", "<a@elsewhere.test>", ACCEPT_YES, 0 },
		{ "::ffff:10.9.9.9", "<a@elsewhere.test>", ACCEPT_YES, 0 }, /* IPv4 in IPv6 is IPv4 */
		{ "2001:db9::7", "<a@elsewhere.test>", ACCEPT_REFUSE, 550 },
		{ "11.0.0.1", "<a@elsewhere.test>", ACCEPT_REFUSE, 550 },
		{ "127.0.0.1", "<a@elsewhere.test>", ACCEPT_REFUSE, 550 }, /* not even ourselves, unless it says so */
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct accept_judgement j = judge(cases[i].client, cases[i].path, files);
		if (j.kind != cases[i].kind || (j.kind == ACCEPT_REFUSE && j.reply.code != cases[i].code))
			fail_msg("%s from %s: kind %d code %d", cases[i].path, cases[i].client, (int)j.kind, j.reply.code);
		assert_true(j.kind != ACCEPT_ASK_LOCAL || j.domain);
	}
}

/* A list that did not come is our fault: 451, never a bounce and never everybody. */
static void test_list_missing(void **state)
{
	struct accept_judgement j = judge(STRANGER, "<carol@listed.test>", no_files);

	(void)state;
	assert_int_equal(j.kind, ACCEPT_REFUSE);
	assert_int_equal(j.reply.code, 451);
	assert_int_equal(judge(STRANGER, "<postmaster@listed.test>", no_files).kind, ACCEPT_YES);
}

static void test_users(void **state)
{
	(void)state;
	assert_false(conf_users_has(VIEW(""), VIEW("")));
	assert_false(conf_users_has(VIEW("\n\r\n \n"), VIEW("")));
	assert_true(conf_users_has(VIEW("a\nb c\n"), VIEW("B c")));
	assert_true(conf_users_has(VIEW("x \r\ny"), VIEW("x")));
	assert_true(conf_users_has(VIEW("x \r\ny"), VIEW("Y")));
	assert_false(conf_users_has(VIEW("#x\n"), VIEW("#x")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list_missing), cmocka_unit_test(test_table), cmocka_unit_test(test_users),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
