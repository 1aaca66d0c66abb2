/* warn.c - what works but is probably not meant is said, with its line; what is usual is not warned of. */
#include "util.h"

#define CERT "certificate default { chain = \"/c\" key = \"/k\" }\n"
#define DOMAIN "domain a.test { deliver = \"maildir:/m/%{user}\" }\n"

static const struct {
	const char *text;
	unsigned line;
	const char *words; /* NULL: no warning at all */
} cases[] = {
	{ BASE CERT "listener mx { address = {\"0.0.0.0:25\", \"[::]:25\"} }\n" DOMAIN
	            "relay { from = {\"10.0.0.0/8\", \"::1/128\"} }\n",
	  0, NULL },
	{ BASE CERT DOMAIN "listener mx { address = \"0.0.0.0:25\"\n tls = required }\n", 7,
	  "tls = required on port 25" },
	{ BASE CERT DOMAIN "listener mx { address = \"0.0.0.0:587\"\n tls = required }\n", 0, NULL },
	{ BASE CERT DOMAIN "listener mx { address = \"0.0.0.0:25\"\n tls = implicit }\n", 7,
	  "implicit TLS to port 25" },
	{ BASE DOMAIN "listener mx { address = \"127.0.0.1:25\" }\n", 5, "there is no certificate" },
	{ BASE DOMAIN "listener mx { address = \"127.0.0.1:25\" tls = none }\n", 0, NULL },
	{ BASE DOMAIN "listener mx { address = \"192.0.2.1:25\"\n tls = none }\n", 6, "all mail comes in clear" },
	{ BASE DOMAIN "listener mx { address = \"192.168.1.1:25\" tls = none }\n", 0, NULL },
	{ BASE DOMAIN CERT "listener mx { address = \"127.0.0.1:25\"\n tls = none certificate = default }\n", 5,
	  "shown by no listener" },
	{ BASE CERT "client_certificate = default\n" DOMAIN "listener mx { address = \"127.0.0.1:25\" tls = none }\n", 0, NULL },
	{ BASE DOMAIN CERT "listener mx { address = \"127.0.0.1:25\"\n tls_policy = modern }\n", 7, "modern on port 25" },
	{ BASE DOMAIN CERT "listener mx { address = \"127.0.0.1:25\" tls = none }\nsts_policy a.test { mode = none }\nweb w { address = \"127.0.0.1:443\" }\n", 0, NULL },
	{ BASE DOMAIN CERT "listener mx { address = \"127.0.0.1:25\" }\nweb w { address = \"127.0.0.1:443\" }\n", 7, "nothing to serve" },
	{ BASE DOMAIN CERT "listener mx { address = \"127.0.0.1:25\" }\nsts_policy a.test { mode = none }\nweb w {\naddress = \"0.0.0.0:8443\" }\n", 9, "port 443 alone" },
	{ BASE DOMAIN CERT "listener mx { address = \"127.0.0.1:25\" }\nsts_policy a.test { mode = none }\nweb w { address = \"127.0.0.1:8443\"\nconnections = 5 }\n", 8,
	  "connections_per_address is over connections" },
	{ BASE DOMAIN CERT "listener mx { address = \"127.0.0.1:587\"\n tls_policy = modern }\n", 0, NULL },
	{ BASE DOMAIN "listener mx { address = \"127.0.0.1:25\" tls = none\n client_certificates = ask }\n", 6, "asks no client" },
	{ BASE DOMAIN "listener l { address = \"[::]:24\" tls = none lmtp = true }\n", 5,
	  "LMTP is for a local server" },
	{ BASE CERT DOMAIN "listener mx { address = \"127.0.0.1:25\"\n starttls_pending = discard }\n", 7, "injected" },
	{ BASE CERT DOMAIN "listener mx { address = \"127.0.0.1:25\"\n ehlo_after_tls = optional }\n", 7, "RFC 3207" },
	{ BASE CERT DOMAIN "listener mx { address = \"127.0.0.1:25\"\n bare_newlines = normalise }\n", 7,
	  "signatures" },
	{ BASE CERT DOMAIN "listener mx { address = \"127.0.0.1:25\"\n recipients = 50 }\n", 7, "100 recipients" },
	{ BASE CERT DOMAIN "listener mx { address = \"127.0.0.1:25\"\n command_timeout = 30s }\n", 7, "5 minutes" },
	{ BASE CERT DOMAIN "listener mx { address = \"127.0.0.1:25\"\n sessions = 5 }\n", 6,
	  "sessions_per_address is over sessions" },
	{ "hostname = localhost\nspool = \"/s\"\ncontrol = \"/c\"\n", 1, "not a full domain name" },
	{ "hostname = a.b\nspool = \"/tmp/spool\"\ncontrol = \"/c\"\n", 2, "/tmp is emptied" },
	{ "hostname = a.b\nspool = \"/dev/shm\"\ncontrol = \"/c\"\n", 2, "/dev/shm is emptied" },
	{ "hostname = a.b\nspool = \"/tmpfoo\"\ncontrol = \"/c\"\n", 1, "there is no listener" },
	{ BASE DOMAIN "tls_report {\n send = true }\n", 6, "no dkim section signs for its domain" },
	{ BASE DOMAIN "tls_report {\n send = true from = \"a@b.test\" }\ndkim s { domain = c.test key = k }\n", 7, "another domain" },
	{ BASE DOMAIN "dkim s { domain = example.org key = k }\n", 5, "none are sent" },
	{ BASE CERT "listener mx { address = {\"0.0.0.0:25\", \"[::]:25\"} }\n" DOMAIN
	            "tls_report { send = true from = \"a@sub.b.test\" }\ndkim s { domain = B.test key = k }\n", 0, NULL },
	{ BASE "sandbox = off\n", 4, "not confined" },
	{ BASE "message_size_limit = 1000\n", 4, "under 64K" },
	{ BASE "lifetime = 1m\n", 4, "tried twice" },
	{ BASE "delay_warning = 5d\n", 4, "told of a delay" },
	{ BASE, 1, "no domain and no relay network" },
	{ BASE "domain a.test { deliver = discard }\n", 1, "Postmaster" },
	{ BASE "domain a.test { deliver = discard\n source = \"::1\" }\n", 5, "source has no effect" },
	{ BASE "domain a.test { deliver = discard\n tls = none }\n", 5, "tls has no effect" },
	{ BASE "domain a.test { deliver = mx\n tls = encrypt auth = f }\n", 5, "shows the password" },
	{ BASE "relay {\n from = {\"192.0.2.0/24\"} }\n", 5, "is the whole network yours?" },
	{ BASE "relay {\n from = {\"100.0.0.0/8\"} }\n", 5, "near an open relay" },
	{ BASE "relay {\n from = {\"2001:db8::/32\"} }\n", 5, "near an open relay" },
	{ BASE "relay {\n from = {\"128.0.0.0/8\"} }\nroute {\n deliver = mx }\n", 7, "any domain in the world" },
};

static void each_is_said_with_its_line(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct conf *c = parse_good(cases[i].text, "f");
		struct conf_warning w[20];
		const size_t n = conf_warnings(c, w, 20);
		bool said = false;
		assert_in_range(n, 0, 20);
		for (size_t k = 0; k < n; k++) {
			said = said ||
			       (cases[i].words && strstr(w[k].text, cases[i].words) && w[k].line == cases[i].line);
			if (!cases[i].words)
				fail_msg("case %zu: %u: %s", i, w[k].line, w[k].text);
		}
		if (cases[i].words && !said)
			fail_msg("case %zu: not said: %s (%zu said; the first: %u: %s)", i, cases[i].words, n,
			         n ? w[0].line : 0, n ? w[0].text : "");
		/* how many there are is said also when they do not fit */
		assert_int_equal(conf_warnings(c, w, 0), n);
		conf_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_is_said_with_its_line) };
	return RUN(tests);
}
