/* good.c - what a configuration means once read: values, defaults, domains found, networks that may relay. */
#include "util.h"

#include <arpa/inet.h>
#include <limits.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void the_whole_working_configuration_works(void **state)
{
	(void)state;
	struct conf *c = parse_good(SAMPLE, "/etc/postrider/postrider.conf");
	assert_string_equal(c->global.hostname, "mx.sink.test");
	assert_string_equal(c->global.spool, "/var/tmp/postrider/spool");
	assert_string_equal(c->global.control, "/var/tmp/postrider/control.sock");
	assert_int_equal(c->global.message_size_limit, 50 << 20);
	assert_int_equal(c->global.sandbox, CONF_ON);
	assert_int_equal(c->global.retry_min, 5 * 60 * 1000);
	assert_int_equal(c->global.lifetime, 5ll * 24 * 3600 * 1000);
	assert_int_equal(c->certificate_count, 1);
	assert_string_equal(c->certificates[0].set.chain, "/etc/postrider/cert.pem");
	assert_string_equal(c->certificates[0].set.key, "/etc/postrider/key.pem");
	assert_int_equal(c->listener_count, 1);
	assert_string_equal(c->listeners[0].title, "mx");
	assert_int_equal(c->listeners[0].line, 5);
	assert_int_equal(c->listeners[0].set.tls, CONF_LISTENER_STARTTLS);
	assert_int_equal(c->listeners[0].certificate_count, 1);
	assert_int_equal(c->listeners[0].certificates[0], 0);
	assert_int_equal(c->listeners[0].address_count, 1);
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&c->listeners[0].addresses[0].sa;
	assert_int_equal(sin->sin_family, AF_INET);
	assert_int_equal(ntohs(sin->sin_port), 2620);
	assert_int_equal(ntohl(sin->sin_addr.s_addr), INADDR_LOOPBACK);
	assert_int_equal(c->domain_count, 3);
	assert_int_equal(c->domains[0].hop.delivery.kind, CONF_DELIVER_DISCARD);
	assert_int_equal(c->domains[1].hop.delivery.kind, CONF_DELIVER_MAILDIR);
	assert_string_equal(c->domains[1].hop.delivery.path, "/var/tmp/postrider/mail/%{user}");
	assert_int_equal(c->domains[2].hop.delivery.kind, CONF_DELIVER_SMTP);
	assert_string_equal(c->domains[2].hop.delivery.host, "127.0.0.1");
	assert_int_equal(c->domains[2].hop.delivery.port, 2650);
	assert_int_equal(c->domains[2].hop.tls, CONF_TLS_MAY);
	assert_int_equal(c->route_hop.delivery.kind, CONF_DELIVER_MX);
	assert_int_equal(c->route_hop.tls, CONF_TLS_MAY);
	assert_int_equal(c->network_count, 1);
	struct conf_warning w[4];
	assert_int_equal(conf_warnings(c, w, 4), 0);
	conf_free(c);
}

static void every_value_arrives(void **state)
{
	(void)state;
	struct conf *c = parse_good(RICH, "/etc/p.conf");
	const struct conf_global_set *g = &c->global;
	assert_string_equal(g->spool, "/etc/spool.d");
	assert_int_equal(g->message_size_limit, 3 << 20);
	assert_int_equal(g->workers, 3);
	assert_int_equal(g->sandbox, CONF_OFF);
	assert_int_equal(g->retry_min, 90000);
	assert_int_equal(g->delay_warning, 0);
	assert_int_equal(g->connect_timeout, 1500);
	assert_int_equal(c->resolver_count, 3);
	assert_int_equal(ntohs(((const struct sockaddr_in *)&c->resolvers[0].sa)->sin_port), 5353);
	assert_int_equal(c->resolvers[1].sa.ss_family, AF_INET6);
	assert_int_equal(ntohs(((const struct sockaddr_in6 *)&c->resolvers[1].sa)->sin6_port), 53);
	assert_int_equal(ntohs(((const struct sockaddr_in6 *)&c->resolvers[2].sa)->sin6_port), 54);
	assert_null(c->postmaster);
	assert_string_equal(c->certificates[0].set.chain, "/etc/a \"b\" \\ c.pem");
	assert_string_equal(c->certificates[0].set.key, "/etc/k.pem");
	assert_string_equal(c->certificates[1].set.key, "/k");
	const struct conf_listener *l = &c->listeners[0];
	assert_int_equal(l->address_count, 2);
	assert_int_equal(l->certificate_count, 1);
	assert_int_equal(l->certificates[0], 0);
	assert_int_equal(l->set.tls, CONF_LISTENER_REQUIRED);
	assert_int_equal(l->set.bare_newlines, CONF_BARE_NORMALISE);
	assert_int_equal(l->set.starttls_pending, CONF_PENDING_DISCARD);
	assert_int_equal(l->set.ehlo_after_tls, CONF_EHLO_OPTIONAL);
	assert_true(l->set.binarymime);
	assert_false(l->set.lmtp);
	assert_int_equal(l->set.greeting_delay, 250);
	assert_true(c->listeners[1].set.lmtp);
	assert_int_equal(c->listeners[1].certificate_count, 0);
	assert_string_equal(c->domains[0].hop.delivery.host, "2001:db8::1");
	assert_int_equal(c->domains[0].hop.delivery.port, 26);
	assert_string_equal(c->domains[0].set.users, "/etc/u/list");
	assert_string_equal(c->domains[0].hop.auth_file, "/etc/secret");
	assert_string_equal(c->domains[0].hop.source, "::1");
	assert_int_equal(c->domains[1].hop.delivery.kind, CONF_DELIVER_LMTP_UNIX);
	assert_string_equal(c->domains[1].hop.delivery.path, "/run/dovecot/lmtp");
	assert_int_equal(c->domains[2].hop.delivery.kind, CONF_DELIVER_LMTP);
	assert_string_equal(c->domains[2].hop.delivery.host, "mail.example");
	assert_int_equal(c->domains[3].hop.tls, CONF_TLS_ENCRYPT);
	assert_string_equal(c->route_hop.delivery.host, "smart.example");
	assert_int_equal(c->route_hop.delivery.port, 25);
	assert_string_equal(c->route_hop.source, "192.0.2.9");
	conf_free(c);
}

static void a_delivery_may_be_the_postmaster(void **state)
{
	(void)state;
	struct conf *c = parse_good(BASE "postmaster = \"maildir:/var/mail/postmaster\"\n", "f");
	assert_non_null(c->postmaster);
	assert_int_equal(c->postmaster->kind, CONF_DELIVER_MAILDIR);
	conf_free(c);
}

static void which_certificate_a_next_hop_is_shown(void **state)
{
	struct conf *c = parse_good(BASE "client_certificate = all\n"
	                            "certificate all { chain = a key = b }\ncertificate one { chain = a key = b }\ncertificate server { chain = a key = b }\n"
	                            "listener l { address = \"127.0.0.1:1\" certificate = {\"server\", \"one\"} }\n"
	                            "domain all.test { deliver = mx }\n"
	                            "domain one.test { deliver = \"smtp://a.test:25\" client_certificate = one }\n"
	                            "domain none.test { deliver = mx client_certificate = none }\n"
	                            "domain clear.test { deliver = mx tls = none }\n"
	                            "domain here.test { deliver = \"maildir:/m/%{user}\" }\n", "t");

	(void)state;
	assert_string_equal(c->route_hop.client_certificate, "all");
	assert_string_equal(conf_find_domain(c, VIEW("all.test"))->hop.client_certificate, "all");
	assert_string_equal(conf_find_domain(c, VIEW("one.test"))->hop.client_certificate, "one");
	assert_null(conf_find_domain(c, VIEW("none.test"))->hop.client_certificate);
	assert_null(conf_find_domain(c, VIEW("clear.test"))->hop.client_certificate);
	assert_null(conf_find_domain(c, VIEW("here.test"))->hop.client_certificate);
	assert_int_equal(conf_find_certificate(c, "one"), 1);
	assert_int_equal(conf_find_certificate(c, "none"), -1);
	assert_true(conf_client_shows(c, 0) && conf_client_shows(c, 1) && !conf_client_shows(c, 2));
	assert_true(!conf_listener_shows(c, 0) && conf_listener_shows(c, 1) && conf_listener_shows(c, 2));
	conf_free(c);
	c = parse_good(BASE "certificate all { chain = a key = b }\n", "t");
	assert_null(c->route_hop.client_certificate);
	assert_false(conf_client_shows(c, 0) || conf_listener_shows(c, 0));
	conf_free(c);
}

static void a_listener_shows_one_or_several_certificates(void **state)
{
	struct conf *c = parse_good(BASE "certificate a { chain = a key = b }\ncertificate b { chain = a key = b }\n"
	                            "certificate default { chain = a key = b }\n"
	                            "listener one { address = \"127.0.0.1:1\" certificate = b }\n"
	                            "listener two { address = \"127.0.0.1:2\" certificate = {\"b\", \"a\"} tls_policy = modern client_certificates = ask }\n"
	                            "listener usual { address = \"127.0.0.1:3\" }\n",
	                            "x.conf");
	(void)state;
	assert_int_equal(c->listeners[0].certificate_count, 1);
	assert_int_equal(c->listeners[0].certificates[0], 1);
	assert_int_equal(c->listeners[0].set.tls_policy, CONF_POLICY_INTERMEDIATE);
	assert_int_equal(c->listeners[0].set.client_certificates, CONF_CLIENTS_NO);
	assert_int_equal(c->listeners[1].certificate_count, 2);
	assert_int_equal(c->listeners[1].certificates[0], 1);
	assert_int_equal(c->listeners[1].certificates[1], 0);
	assert_int_equal(c->listeners[1].set.tls_policy, CONF_POLICY_MODERN);
	assert_int_equal(c->listeners[1].set.client_certificates, CONF_CLIENTS_ASK);
	assert_int_equal(c->listeners[2].certificate_count, 1);
	assert_int_equal(c->listeners[2].certificates[0], 2);
	assert_true(c->global.session_tickets);
	conf_free(c);
}

static void web_sections_and_their_policies(void **state)
{
	struct conf *c = parse_good(BASE "certificate a { chain = a key = b }\ncertificate default { chain = a key = b }\n"
	                            "sts_policy \"Good.test\" { mx = mx.good.test }\nsts_policy \"b\xc3\xbc" "cher.example\" { mode = none }\n"
	                            "listener mx { address = \"127.0.0.1:25\" }\n"
	                            "web one { address = \"127.0.0.1:443\" }\nweb two { address = {\"[::1]:443\", \"127.0.0.2:443\"} certificate = {\"a\", \"default\"} }\n",
	                            "x.conf");
	(void)state;
	assert_int_equal(c->web_count, 2);
	assert_string_equal(c->webs[0].title, "one");
	assert_int_equal(c->webs[0].line, 9);
	assert_int_equal(c->webs[0].certificate_count, 1);
	assert_int_equal(c->webs[0].certificates[0], 1);
	assert_int_equal(c->webs[0].set.request_timeout, 30000);
	assert_int_equal(c->webs[0].set.tls_policy, CONF_POLICY_INTERMEDIATE);
	assert_int_equal(c->webs[1].address_count, 2);
	assert_int_equal(c->webs[1].certificate_count, 2);
	assert_ptr_equal(conf_find_sts_policy(c, VIEW("gOOD.test")), &c->sts_policies[0]);
	assert_ptr_equal(conf_find_sts_policy(c, VIEW("xn--bcher-kva.example")), &c->sts_policies[1]);
	assert_null(conf_find_sts_policy(c, VIEW("other.test")));
	assert_null(conf_find_sts_policy(c, VIEW("")));
	assert_null(conf_find_sts_policy(c, VIEW("a b")));
	conf_free(c);
}

/* Without any certificate TLS that nobody asked for is left out; the warning is in warn.c. */
static void tls_by_default_needs_a_certificate(void **state)
{
	(void)state;
	struct conf *c = parse_good(BASE "listener mx { address = \"127.0.0.1:1\" }\n", "f");
	assert_int_equal(c->listeners[0].set.tls, CONF_LISTENER_NONE);
	assert_int_equal(c->listeners[0].certificate_count, 0);
	conf_free(c);
	c = parse_good(BASE "certificate default { chain = a key = b }\nlistener mx { address = \"127.0.0.1:1\" }\n",
	               "f");
	assert_int_equal(c->listeners[0].set.tls, CONF_LISTENER_STARTTLS);
	assert_string_equal(c->certificates[0].set.chain, "a"); /* no folder in the path: nothing to put before it */
	conf_free(c);
}

static void line_ends_of_windows_are_read(void **state)
{
	(void)state;
	struct conf *c = parse_good(
		"hostname = \"mx.a.test\"\r\nspool = \"/s\" # x\r\n\r\ncontrol = \"/c\"\r\nworkers = 2\r\n", "f");
	assert_string_equal(c->global.hostname, "mx.a.test");
	assert_int_equal(c->global.workers, 2);
	conf_free(c);
}

static void domains_are_found_in_any_spelling(void **state)
{
	(void)state;
	struct conf *c = parse_good(BASE "domain \"B\xc3\xbc"
	                                 "cher.Example\" { deliver = discard }\n"
	                                 "domain \"xn--fa-hia.example\" { deliver = discard }\n"
	                                 "domain \"local.test\" { deliver = discard }\n",
	                            "f");
	static const struct {
		const char *name;
		int nth; /* -1: none */
	} cases[] = {
		{ "local.test", 2 },
		{ "LOCAL.Test", 2 },
		{ "xlocal.test", -1 },
		{ "local.tes", -1 },
		{ "sub.local.test", -1 },
		{ "local.test.", -1 },
		{ "", -1 },
		{ "xn--bcher-kva.example", 0 },
		{ "XN--BCHER-KVA.example", 0 },
		{ "b\xc3\xbc"
		  "cher.example",
		  0 },
		{ "B\xc3\x9c"
		  "CHER.EXAMPLE",
		  0 },
		{ "bu\xcc\x88"
		  "cher.example",
		  0 },
		{ "fa\xc3\x9f.example", 1 },
		{ "fass.example", -1 },
		{ "[127.0.0.1]", -1 },
		{ "\xff.example", -1 },
		{ "local.test\n", -1 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct conf_domain *d = conf_find_domain(c, view_cstr(cases[i].name));
		const struct conf_domain *want = cases[i].nth == -1 ? NULL : &c->domains[cases[i].nth];
		if (d != want)
			fail_msg("%s: %s", cases[i].name, d ? d->title : "not found");
	}
	assert_null(conf_find_domain(c, view_of("local.test\0", 11)));
	assert_null(conf_find_domain(c, view_of(NULL, 0)));
	char big[2000];
	for (size_t n = 200; n < sizeof big; n += 9) {
		memset(big, n % 2 ? 'a' : '\xc3', n);
		assert_null(conf_find_domain(c, view_of(big, n)));
	}
	conf_free(c);
}

static void sock(const char *text, struct sockaddr_storage *to)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
	memset(to, 0, sizeof *to);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		v4->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		v6->sin6_family = AF_INET6;
	else
		to->ss_family = AF_UNIX;
}

static void only_the_networks_named_may_relay(void **state)
{
	(void)state;
	struct conf *c = parse_good(
		BASE "relay { from = {\"10.0.0.0/8\", \"192.0.2.128/25\", \"198.51.100.7/32\", \"2001:db8::/33\", "
		     "\"::1/128\"} }\n",
		"f");
	static const struct {
		const char *client;
		bool may;
	} cases[] = {
		{ "10.0.0.0", true },
		{ "10.255.255.255", true },
		{ "11.0.0.0", false },
		{ "9.255.255.255", false },
		{ "192.0.2.127", false },
		{ "192.0.2.128", true },
		{ "192.0.2.255", true },
		{ "192.0.3.0", false },
		{ "198.51.100.7", true },
		{ "198.51.100.6", false },
		{ "::ffff:10.1.2.3", true },
		{ "::ffff:11.1.2.3", false },
		{ "::ffff:192.0.2.200", true },
		{ "2001:db8:7fff::1", true },
		{ "2001:db8:8000::1", false },
		{ "::1", true },
		{ "::2", false },
		{ "127.0.0.1", false },
		{ "::10.0.0.1", false },
		{ "0a00::", false },
		{ "unix", false },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sockaddr_storage sa;
		sock(cases[i].client, &sa);
		if (conf_may_relay(c, (const struct sockaddr *)&sa) != cases[i].may)
			fail_msg("%s", cases[i].client);
	}
	conf_free(c);
	c = parse_good(BASE, "f");
	struct sockaddr_storage sa;
	sock("127.0.0.1", &sa);
	assert_false(conf_may_relay(c, (const struct sockaddr *)&sa));
	conf_free(c);
}

static void ten_thousand_domains_are_no_burden(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, &alloc_libc, 4 << 20);
	assert_true(buf_add(&b, VIEW(BASE)));
	for (unsigned i = 0; i < 10000; i++)
		assert_true(buf_addf(&b, "domain \"d%u.example.org\" { deliver = \"smtp://127.0.0.1:%u\" }\n",
		                     i * 7919 % 10000, 1 + i));
	struct conf *c;
	struct error e;
	assert_int_equal(conf_parse(&c, buf_view(&b), "f", &e), 0);
	buf_free(&b);
	for (unsigned i = 0; i < 10000; i++) {
		char name[40];
		snprintf(name, sizeof name, "D%u.example.org", i);
		const struct conf_domain *d = conf_find_domain(c, view_cstr(name));
		assert_non_null(d);
		assert_string_equal(d->title + 1, name + 1);
	}
	conf_free(c);
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* Relative paths begin at the folder where the file is seen: of a symbolic link that is the link's. */
static void files_know_their_folder(void **state)
{
	(void)state;
	char dir[] = "/tmp/postrider-conf-XXXXXX", path[100], want[200], link[100];
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/elsewhere", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/elsewhere/p.conf", dir);
	put_file(path, "hostname = a.b\nspool = s\ncontrol = \"c/d\"\n");
	snprintf(link, sizeof link, "%s/q.conf", dir);
	assert_int_equal(symlink(path, link), 0);
	struct conf *c;
	struct error e;
	assert_int_equal(conf_load(&c, path, &e), 0);
	snprintf(want, sizeof want, "%s/elsewhere/c/d", dir);
	assert_string_equal(c->global.control, want);
	conf_free(c);
	assert_int_equal(conf_load(&c, link, &e), 0);
	snprintf(want, sizeof want, "%s/s", dir);
	assert_string_equal(c->global.spool, want);
	conf_free(c);
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(conf_load(&c, "q.conf", &e), 0);
	assert_string_equal(c->global.spool, want);
	conf_free(c);
	put_file(path, "hostname = a.b\nspol = s\n");
	assert_int_equal(conf_load(&c, "elsewhere/p.conf", &e), -1);
	assert_non_null(strstr(e.text, "elsewhere/p.conf:2: there is no setting spol; did you mean spool?"));
	assert_int_equal(chdir("/"), 0);
	unlink(link);
	unlink(path);
	snprintf(path, sizeof path, "%s/elsewhere", dir);
	rmdir(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_working_configuration_works),
		cmocka_unit_test(every_value_arrives),
		cmocka_unit_test(a_delivery_may_be_the_postmaster),
		cmocka_unit_test(web_sections_and_their_policies), cmocka_unit_test(a_listener_shows_one_or_several_certificates),
		cmocka_unit_test(which_certificate_a_next_hop_is_shown),
		cmocka_unit_test(tls_by_default_needs_a_certificate),
		cmocka_unit_test(line_ends_of_windows_are_read),
		cmocka_unit_test(domains_are_found_in_any_spelling),
		cmocka_unit_test(only_the_networks_named_may_relay),
		cmocka_unit_test(ten_thousand_domains_are_no_burden),
		cmocka_unit_test(files_know_their_folder),
	};
	return RUN(tests);
}
