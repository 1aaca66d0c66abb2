/* handoff.c - each role gets its due and no more; what is handed over is checked to the last octet. */
#include "util.h"

#include "conf/handoff.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static const char *at(const char *name)
{
	static char paths[4][128];
	static unsigned turn;
	char *to = paths[turn++ % 4];
	snprintf(to, sizeof paths[0], "%s/%s", dir, name);
	return to;
}

static void put_file(const char *name, const char *text, mode_t mode)
{
	FILE *f = fopen(at(name), "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(at(name), mode), 0);
}

static const char *const names[] = { "p.conf", "chain.pem", "key.pem", "trust.pem",
	                             "users",  "auth",      "auth2",   "chain2.pem", "out.pem", "out.key" };

static int set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/postrider-handoff-XXXXXX");
	assert_non_null(mkdtemp(dir));
	put_file("chain.pem", "the chain", 0644);
	put_file("key.pem", "the secret key", 0600);
	put_file("trust.pem", "the trust", 0644);
	put_file("users", "alice\nbob\n", 0644);
	put_file("auth", "me:secret", 0600);
	put_file("auth2", "route:secret", 0600);
	put_file("chain2.pem", "", 0644);
	put_file("out.pem", "another chain", 0644);
	put_file("out.key", "another key", 0600);
	put_file("p.conf",
	         "hostname = mx.a.test\nspool = s\ncontrol = c\ntrust = \"trust.pem\"\n"
	         "certificate default { chain = \"chain.pem\" key = \"key.pem\" }\n"
	         "certificate second { chain = \"chain2.pem\" key = \"nokey.pem\" }\n"
	         "certificate out { chain = \"out.pem\" key = \"out.key\" }\n"
	         "listener mx { address = \"127.0.0.1:1\" }\n"
	         "domain a.test { deliver = \"maildir:/m/%{user}\" users = users }\n"
	         "domain b.test { deliver = \"smtp://h.test\" tls = verify auth = auth }\n"
	         "route { deliver = \"smtp://s.test\" tls = encrypt auth = auth2 client_certificate = out }\n",
	         0644);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unlink(at(names[i]));
	return rmdir(dir);
}

static struct conf *load(void)
{
	struct conf *c;
	struct error e;
	if (conf_load(&c, at("p.conf"), &e) == -1)
		fail_msg("%s", e.text);
	return c;
}

static struct handoff *read_for(const struct conf *c, const char *role)
{
	struct handoff *h;
	struct error e;
	if (handoff_read(&h, c, at("p.conf"), role, &e) == -1)
		fail_msg("%s", e.text);
	return h;
}

static bool holds(const struct handoff *h, const char *kind, const char *title, const char *content)
{
	const struct view v = handoff_get(h, kind, title);
	if (!content)
		return v.p == NULL;
	return v.p && view_eq(v, view_cstr(content)) && v.p[v.n] == '\0'; /* terminated: super uses a path as it stands */
}

static void each_role_gets_its_due(void **state)
{
	(void)state;
	static const struct {
		const char *kind, *title, *content, *roles;
	} cases[] = {
		{ "key", "default", "the secret key", " keys " },
		{ "key", "second", NULL, " " },
		{ "chain", "default", "the chain", " receive web " },
		{ "chain", "second", NULL, " " }, /* no key: no TLS with it */
		{ "key", "out", "another key", " keys " },
		{ "chain", "out", "another chain", " receive send web " }, /* send shows it to servers */
		{ "trust", "", "the trust", " send policy " },
		{ "auth", "b.test", "me:secret", " send " },
		{ "auth", "", "route:secret", " send " },
		{ "auth", "a.test", NULL, " " },
		{ "users", "a.test", "alice\nbob\n", " receive local " },
		{ "users", "b.test", NULL, " " },
	};
	static const char *const roles[] = { "receive", "queue", "send",   "resolve", "local",
		                             "keys",    "policy", "web", "super", "worker", "" };
	struct conf *c = load();
	for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
		struct handoff *h = read_for(c, roles[r]);
		char role[20];
		snprintf(role, sizeof role, " %s ", roles[r]);
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
			const bool due = roles[r][0] && strstr(cases[i].roles, role);
			if (!holds(h, cases[i].kind, cases[i].title, due ? cases[i].content : NULL))
				fail_msg("%s: %s \"%s\"", roles[r], cases[i].kind, cases[i].title);
		}
		assert_true(handoff_get(h, "config", "").n > 300);
		assert_true(handoff_get(h, "config", NULL).p != NULL);
		assert_true(holds(h, "config_path", "", at("p.conf")));
		assert_int_equal(handoff_get(h, "hosts", "").p != NULL,
		                 strcmp(roles[r], "resolve") == 0 && access("/etc/hosts", R_OK) == 0);
		handoff_free(h);
	}
	conf_free(c);
}

/* The text travels from the struct, not from the file: a generation agrees on what it was made from. */
static void a_changed_file_changes_nothing(void **state)
{
	(void)state;
	struct conf *c = load(), *d;
	struct error e;
	put_file("users", "carol\n", 0644);
	FILE *f = fopen(at("p.conf"), "a");
	fputs("workers = 9\n", f);
	fclose(f);
	struct handoff *h = read_for(c, "queue");
	assert_int_equal(conf_parse(&d, handoff_get(h, "config", ""), "/x/p.conf", &e), 0);
	assert_int_equal(d->global.workers, 0);
	assert_string_equal(d->global.spool, "/x/s");
	conf_free(d);
	handoff_free(h);
	conf_free(c);
	put_file("users", "alice\nbob\n", 0644);
}

static void tls_that_cannot_work_is_a_problem_not_an_error(void **state)
{
	(void)state;
	struct conf *c = load();
	const char *text[4];
	struct handoff *h = read_for(c, "keys");
	assert_int_equal(handoff_problems(h, text, 4), 1);
	assert_non_null(strstr(text[0], "nokey.pem: cannot be opened"));
	assert_non_null(strstr(text[0], "No such file"));
	handoff_free(h);
	h = read_for(c, "receive");
	assert_int_equal(handoff_problems(h, text, 4), 1);
	assert_non_null(strstr(text[0], "certificate \"second\" cannot be used"));
	assert_non_null(strstr(text[0], "nokey.pem"));
	handoff_free(h);
	h = read_for(c, "queue");
	assert_int_equal(handoff_problems(h, text, 4), 0);
	handoff_free(h);
	chmod(at("key.pem"), 0644);
	h = read_for(c, "keys");
	assert_int_equal(handoff_problems(h, text, 4), 2);
	assert_non_null(strstr(text[0], "chmod 600"));
	assert_true(holds(h, "key", "default", "the secret key"));
	handoff_free(h);
	chmod(at("key.pem"), 0600);
	unlink(at("chain.pem"));
	assert_int_equal(mkdir(at("chain.pem"), 0700), 0);
	h = read_for(c, "receive");
	assert_int_equal(handoff_problems(h, text, 4), 2);
	assert_non_null(strstr(text[0], "chain.pem: is not a regular file"));
	assert_true(holds(h, "chain", "default", NULL));
	handoff_free(h);
	rmdir(at("chain.pem"));
	put_file("chain.pem", "the chain", 0644);
	conf_free(c);
}

static void lists_that_cannot_be_read_are_errors(void **state)
{
	(void)state;
	static const struct {
		const char *file, *role, *text;
	} cases[] = { { "users", "receive", "alice\nbob\n" },
		      { "users", "local", "alice\nbob\n" },
		      { "auth", "send", "me:secret" },
		      { "auth2", "send", "route:secret" } };
	struct conf *c = load();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct handoff *h;
		struct error e;
		unlink(at(cases[i].file));
		assert_int_equal(handoff_read(&h, c, at("p.conf"), cases[i].role, &e), -1);
		assert_null(h);
		assert_non_null(strstr(e.text, at(cases[i].file)));
		assert_non_null(strstr(e.text, "No such file"));
		h = read_for(c, "queue");
		handoff_free(h);
		put_file(cases[i].file, cases[i].text, 0600);
	}
	conf_free(c);
}

static int memory_of(const unsigned char *p, size_t n)
{
	const int fd = memfd_create("test", MFD_CLOEXEC);
	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, p, n), n);
	return fd;
}

static void what_is_packed_is_sealed_and_comes_back(void **state)
{
	(void)state;
	struct conf *c = load();
	struct handoff *h = read_for(c, "send"), *back;
	struct error e;
	const int fd = handoff_pack(h, &e);
	assert_int_not_equal(fd, -1);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(handoff_unpack(&back, fd, &e), 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
	assert_true(holds(back, "auth", "", "route:secret"));
	assert_true(holds(back, "auth", "b.test", "me:secret"));
	assert_true(holds(back, "trust", "", "the trust"));
	assert_true(holds(back, "trust", "x", NULL));
	assert_true(holds(back, "", "", NULL));
	assert_int_equal(handoff_get(back, "config", "").n, handoff_get(h, "config", "").n);
	handoff_free(back);
	handoff_free(h);
	conf_free(c);
	assert_true(handoff_get(NULL, "config", "").p == NULL);
	handoff_free(NULL);
}

static void what_is_forgotten_is_missing(void **state)
{
	(void)state;
	struct conf *c = load();
	struct handoff *h = read_for(c, "keys");
	assert_true(holds(h, "key", "default", "the secret key"));
	handoff_forget(h, "key", "default");
	handoff_forget(h, "key", "default");
	handoff_forget(h, "key", "none");
	assert_true(holds(h, "key", "default", NULL));
	assert_true(handoff_get(h, "config", "").n > 0);
	handoff_free(h);
	conf_free(c);
}

/* Every truncation, every lengthening, and every octet of the heads changed. */
static void broken_handoffs_are_refused(void **state)
{
	(void)state;
	struct conf *c = load();
	struct handoff *h = read_for(c, "receive"), *back;
	struct error e;
	const int fd = handoff_pack(h, &e);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	const size_t n = (size_t)st.st_size;
	unsigned char *all = malloc(n + 1);
	assert_int_equal(pread(fd, all, n, 0), n);
	close(fd);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(handoff_unpack(&back, memory_of(all, i), &e), -1);
		assert_null(back);
		assert_int_equal(e.class, ERROR_PEER);
	}
	all[n] = 0;
	assert_int_equal(handoff_unpack(&back, memory_of(all, n + 1), &e), -1);
	for (size_t i = 0; i < n; i++)
		for (unsigned bit = 1; bit < 256; bit = bit << 3 | 1) {
			all[i] ^= (unsigned char)bit;
			if (handoff_unpack(&back, memory_of(all, n), &e) == 0)
				handoff_free(
					back); /* a content or a name was changed: nothing that lengths could tell */
			all[i] ^= (unsigned char)bit;
		}
	assert_int_equal(handoff_unpack(&back, memory_of(all, n), &e), 0);
	handoff_free(back);
	assert_int_equal(handoff_unpack(&back, -1, &e), -1);
	free(all);
	handoff_free(h);
	conf_free(c);
}

static void two_of_one_name_are_refused(void **state)
{
	(void)state;
	unsigned char all[100];
	struct handoff *back;
	struct error e;
	size_t n = 0;
	const uint32_t count = 2, head[3] = { 5, 0, 1 };
	memcpy(all, "PRHAND1\n", 8);
	memcpy(all + 8, &count, 4);
	for (n = 12; n < 12 + 2 * 18; n += 18) {
		memcpy(all + n, head, 12);
		memcpy(all + n + 12, "trustA", 6);
	}
	assert_int_equal(handoff_unpack(&back, memory_of(all, n), &e), -1);
	all[12 + 12] = 'T';
	assert_int_equal(handoff_unpack(&back, memory_of(all, n), &e), 0);
	assert_true(holds(back, "Trust", "", "A"));
	handoff_free(back);
}

/* /etc/resolv.conf is of no use beside servers that the configuration names, and need not even be there. */
static void servers_of_the_configuration_stand_in_place_of_resolv_conf(void **state)
{
	(void)state;
	const char text[] = "hostname = mx.a.test\nspool = s\ncontrol = c\n", with[] = "resolver = \"127.0.0.1:5353\"\n";
	char both[200];
	struct conf *c;
	struct handoff *h;
	struct error e;
	snprintf(both, sizeof both, "%s%s", text, with);
	assert_int_equal(conf_parse(&c, view_cstr(both), at("p.conf"), &e), 0);
	h = read_for(c, "resolve");
	assert_null(handoff_get(h, "resolv.conf", "").p);
	handoff_free(h);
	conf_free(c);
	assert_int_equal(conf_parse(&c, view_cstr(text), at("p.conf"), &e), 0);
	h = read_for(c, "resolve");
	assert_int_equal(handoff_get(h, "resolv.conf", "").p != NULL, access("/etc/resolv.conf", R_OK) == 0);
	handoff_free(h);
	conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_role_gets_its_due),
		cmocka_unit_test(a_changed_file_changes_nothing),
		cmocka_unit_test(tls_that_cannot_work_is_a_problem_not_an_error),
		cmocka_unit_test(lists_that_cannot_be_read_are_errors),
		cmocka_unit_test(what_is_packed_is_sealed_and_comes_back),
		cmocka_unit_test(what_is_forgotten_is_missing),
		cmocka_unit_test(broken_handoffs_are_refused),
		cmocka_unit_test(two_of_one_name_are_refused),
		cmocka_unit_test(servers_of_the_configuration_stand_in_place_of_resolv_conf),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
