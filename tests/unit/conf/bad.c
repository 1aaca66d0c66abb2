/* bad.c - configurations that are refused: each with its line, with what is wrong and with what would be right. */
#include "util.h"

#define TEN "\"c\",\"c\",\"c\",\"c\",\"c\",\"c\",\"c\",\"c\",\"c\",\"c\""
#define SEVENTY TEN "," TEN "," TEN "," TEN "," TEN "," TEN "," TEN

/* line 0: no line is said.  words: all of them are in the message. */
static const struct bad {
	const char *text;
	unsigned line;
	const char *words[3];
} bads[] = {
	/* ---- syntax ---- */
	{ "hostname \"x\"\n" BASE, 1, { "hostname has no value", "hostname = VALUE" } },
	{ "", 1, { "hostname is missing", "write hostname =" } },
	{ "hostname = \"mx.example.org\"\n\n# x\ncontrol = \"/c\"\n", 1, { "spool is missing" } },
	{ "hostname = \"mx.example.org\"\nspool = \"/s\"\n", 1, { "control is missing", "Socket" } },
	{ BASE "spool = \"/again\"\n", 4, { "spool is set again", "line 2", "keep one" } },
	{ BASE "\n# comment\nhostnam = \"x\"\n", 6, { "no setting hostnam", "did you mean hostname?" } },
	{ BASE "message-size-limit = 5\n", 4, { "did you mean message_size_limit?" } },
	{ BASE "zzqqxx = 5\n", 4, { "no setting zzqqxx" } },
	{ BASE "tls = may\n", 4, { "no setting tls", "belongs inside a section listener" } },
	{ BASE "from = {\"10.0.0.0/8\"}\n", 4, { "belongs inside a section relay" } },
	{ BASE "listner \"mx\" { }\n", 4, { "no section listner", "did you mean listener?" } },
	{ BASE "include(\"other.conf\")\n", 4, { "include()", "write everything in this file" } },
	{ BASE "relay {\n from = {\"10.0.0.0/8\"}\n}\nrelay { }\n", 7, { "section relay again", "line 4", "in one" } },
	{ BASE "route { }\nroute { }\n", 5, { "section route again" } },
	{ BASE "relay \"x\" { }\n", 4, { "relay has no title" } },
	{ BASE "relay = {\"10.0.0.0/8\"}\n", 4, { "relay is a section", "relay { ... }" } },
	{ BASE "listener { address = \"127.0.0.1:1\" }\n", 4, { "needs a title", "listener \"title\" { ... }" } },
	{ BASE "listener \"\" { address = \"127.0.0.1:1\" }\n", 4, { "needs a title" } },
	{ BASE "listener \"mx\" address = \"127.0.0.1:1\"\n", 4, { "stand in braces" } },
	{ BASE "listener \"mx\" {\n tls = none\n", 4, { "never closed", "write }" } },
	{ BASE "relay {\n listener \"mx\" { }\n}\n", 5, { "do not stand inside each other", "close relay", "line 4" } },
	{ BASE "}\n", 4, { "closes nothing" } },
	{ BASE "\"hostname\" = 5\n", 4, { "names are written without quotes" } },
	{ BASE "= 5\n", 4, { "a name should stand here" } },
	{ BASE "relay {\n from =\n}\n", 5, { "from has no value" } },
	{ BASE "listener mx {\n tls =\n recipients = 5 }\n", 5, { "tls has no value", "in one line" } },
	{ BASE "workers\n", 4, { "workers has no value" } },
	{ BASE "workers = {\"5\"}\n", 4, { "takes one value", "without braces" } },
	{ BASE "resolver = {\"127.0.0.1\" \"::1\"}\n", 4, { "after an item comes a comma" } },
	{ BASE "resolver = {,}\n", 4, { "the list is broken" } },
	{ BASE "resolver = {\"127.0.0.1\"\n", 5, { "after an item comes a comma" } },
	{ BASE "resolver += {\"127.0.0.1\"}\n", 4, { "+= is not used" } },
	{ BASE "relay|from = {\"10.0.0.0/8\"}\n", 4, { "'|' outside quotes" } },
	{ BASE "workers = 5;\n", 4, { "';' outside quotes" } },
	{ BASE "// comment\n", 4, { "comments begin with #" } },
	{ BASE "/* comment */\n", 4, { "comments begin with #" } },
	{ BASE "trust = /etc/ca.pem\n", 4, { "'/' outside quotes", "in quotes" } },
	{ BASE "trust = \"${HOME}/ca.pem\"\n", 4, { "environment variables are not read", "the value itself" } },
	{ BASE "trust = ${HOME}\n", 4, { "environment variables are not read" } },
	{ BASE "trust = \"/etc/ca.pem\nworkers = 5\n", 4, { "without its closing \"" } },
	{ BASE "trust = '/etc/ca.pem\n", 4, { "without its closing '" } },
	{ BASE "trust = \"/etc\\n\"\n", 4, { "a backslash in a string" } },
	{ BASE "trust = 'a\\b'\n", 4, { "a backslash in a string" } },
	{ BASE "trust = \"a\tb\"\n", 4, { "control octet (9)" } },
	{ BASE "trust = \"\xff\"\n", 4, { "not UTF-8" } },
	{ BASE "trust = \"\xc0\xaf\"\n", 4, { "not UTF-8" } },
	{ BASE "trust = \"\xed\xa0\x80\"\n", 4, { "not UTF-8" } },
	{ BASE "\x01\n", 4, { "octet with the value 1" } },
	{ "\xef\xbb\xbf" BASE, 1, { "octet with the value 239" } },
	{ "hostname = \"mx.example.org\"\rspool = \"/s\"\n", 1, { "octet with the value 13" } },
	/* ---- single values ---- */
	{ BASE "message_size_limit = 5X\n", 4, { "is no size", "50M" } },
	{ BASE "message_size_limit = 0\n", 4, { "too small", "between 1 and 1024G" } },
	{ BASE "message_size_limit = 99999999T\n", 4, { "is no size" } },
	{ BASE "message_size_limit = -1\n", 4, { "is no size" } },
	{ BASE "message_size_limit = \"5 M\"\n", 4, { "is no size" } },
	{ BASE "workers = 257\n", 4, { "too large", "between 0 and 256" } },
	{ BASE "workers = many\n", 4, { "is no number" } },
	{ BASE "workers = 0x10\n", 4, { "is no number", "plain number" } },
	{ BASE "lifetime = 5\n", 4, { "is no duration", "30s, 5m, 4h or 5d" } },
	{ BASE "lifetime = 5w\n", 4, { "is no duration" } },
	{ BASE "lifetime = 0s\n", 4, { "too small" } },
	{ BASE "lifetime = 18446744073709551615d\n", 4, { "is no duration" } },
	{ BASE "sandbox = maybe\n", 4, { "sandbox = \"maybe\" is not known", "on or off" } },
	{ BASE "trust = \"\"\n", 4, { "trust is empty", "remove the line" } },
	{ "hostname = \"\"\nspool = \"/s\"\ncontrol = \"/c\"\n", 1, { "hostname is empty" } },
	{ BASE "listener mx { address = \"127.0.0.1:1\"\n tls = startls }\n",
	  5,
	  { "none, starttls, required or implicit" } },
	{ BASE "listener mx { address = \"127.0.0.1:1\"\n tls = none lmtp = perhaps }\n", 5, { "true or false" } },
	{ BASE "listener mx { address = \"127.0.0.1:1\" tls = none\n recipient = 5 }\n",
	  5,
	  { "no setting recipient in a section listener", "did you mean recipients?" } },
	{ BASE "listener mx { address = \"127.0.0.1:1\" tls = none\n spool = \"x\" }\n",
	  5,
	  { "belongs outside any section" } },
	/* ---- outside sections ---- */
	{ "hostname = \"my host\"\nspool = \"/s\"\ncontrol = \"/c\"\n", 1, { "no domain name", "mx.example.org" } },
	{ "hostname = \"192.0.2.1\"\nspool = \"/s\"\ncontrol = \"/c\"\n", 1, { "no domain name" } },
	{ "hostname = \"b\xc3\xbc"
	  "cher.example\"\nspool = \"/s\"\ncontrol = \"/c\"\n",
	  1,
	  { "must be ASCII", "xn--bcher-kva.example" } },
	{ BASE "resolver = {\"127.0.0.1\",\n\"dns.example.org\"}\n", 5, { "dns.example.org", "is no address" } },
	{ BASE "postmaster = \"root\"\n", 4, { "neither an address nor a delivery" } },
	{ BASE "user_prefix = Root\n", 4, { "begins no user's name" } },
	{ BASE "retry_min = 5h\n", 4, { "shorter than retry_min" } },
	{ BASE "retry_max = 1m\n", 4, { "shorter than retry_min" } },
	{ "hostname = \"a.b\"\nspool = \"/s\"\n"
	  "control = \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
	  3,
	  { "at most 107 octets" } },
	/* ---- certificates and listeners ---- */
	{ BASE "certificate \"c\" { chain = \"a\" }\n", 4, { "certificate \"c\" has no key" } },
	{ BASE "certificate \"c\" { chain = \"a\" key = \"\" }\n", 4, { "key is empty" } },
	{ BASE "certificate c { chain = \"a\" key = \"b\" }\ncertificate \"c\" { chain = \"a\" key = \"b\" }\n",
	  5,
	  { "certificate \"c\" again", "line 4" } },
	{ BASE "listener \"mx\" {\n tls = none\n}\n", 4, { "listener \"mx\" has no address", "address = {\"...\"}" } },
	{ BASE "listener mx { address = {} tls = none }\n", 4, { "address is empty" } },
	{ BASE "listener mx { address = {\"127.0.0.1:1\",\n\"127.0.0.1\"} tls = none }\n",
	  5,
	  { "no address with a port" } },
	{ BASE "listener mx { address = \"*:25\" tls = none }\n", 4, { "0.0.0.0:25 and [::]:25" } },
	{ BASE "listener mx { address = \"localhost:25\" tls = none }\n", 4, { "no address with a port" } },
	{ BASE "listener mx { address = \"::1:25\" tls = none }\n", 4, { "no address with a port" } },
	{ BASE "listener mx { address = \"127.0.0.1:0\" tls = none }\n", 4, { "no address with a port" } },
	{ BASE "listener mx { address = \"127.0.0.1:65536\" tls = none }\n", 4, { "no address with a port" } },
	{ BASE
	  "listener a { address = \"127.0.0.1:1\" tls = none }\nlistener b { address = \"127.0.0.1:1\" tls = none }\n",
	  5,
	  { "listened on already by listener \"a\"", "line 4" } },
	{ BASE "listener a { address = {\"127.0.0.1:1\", \"127.0.0.1:1\"} tls = none }\n",
	  4,
	  { "listened on already" } },
	{ BASE "listener a { address = \"127.0.0.1:25\" tls = none lmtp = true }\n", 4, { "RFC 2033" } },
	{ BASE "listener a { address = \"127.0.0.1:1\"\n tls = starttls }\n",
	  5,
	  { "no certificate for TLS", "or tls = none" } },
	{ BASE "certificate c { chain = a key = b }\nlistener a { address = \"127.0.0.1:1\" }\n",
	  5,
	  { "no certificate for TLS", "certificate \"default\"" } },
	{ BASE "listener a { address = \"127.0.0.1:1\"\n certificate = x }\n", 5, { "certificate \"x\"" } },
	{ BASE "listener a { address = \"127.0.0.1:1\" tls = none\n certificate = x }\n", 5, { "certificate \"x\"" } },
	{ BASE "certificate c { chain = a key = b }\nlistener a { address = \"127.0.0.1:1\" certificate = {\"c\",\n \"x\"} }\n", 6, { "certificate \"x\"" } },
	{ BASE "certificate c { chain = a key = b }\nlistener a { address = \"127.0.0.1:1\" certificate = {\"c\",\n \"c\"} }\n", 6, { "certificate \"c\" again" } },
	{ BASE "certificate c { chain = a key = b }\nlistener a { address = \"127.0.0.1:1\" certificate = {} }\n", 5, { "certificate is empty" } },
	/* ---- web ---- */
	{ BASE "web w { }\n", 4, { "web \"w\" has no address" } },
	{ BASE "web w { address = \"127.0.0.1:443\" }\n", 4, { "web \"w\" has no certificate for TLS", "certificate \"default\"" } },
	{ BASE "certificate c { chain = a key = b }\nweb w {\naddress = \"127.0.0.1:443\" }\n", 5, { "no certificate for TLS", "or name another" } },
	{ BASE "certificate c { chain = a key = b }\nweb w { address = \"127.0.0.1:443\"\n certificate = {c, x} }\n", 6, { "certificate \"x\"" } },
	{ BASE "certificate c { chain = a key = b }\nweb w { address = \"127.0.0.1:443\"\n certificate = {c, c} }\n", 6, { "certificate \"c\" again" } },
	{ BASE "certificate c { chain = a key = b }\nweb w { address = \"127.0.0.1:443\"\n certificate = {} }\n", 6, { "web \"w\": certificate is empty" } },
	{ BASE "certificate default { chain = a key = b }\nweb w { address = \"127.0.0.1\" }\n", 5, { "no address with a port", "192.0.2.1:443" } },
	{ BASE "certificate default { chain = a key = b }\nlistener a { address = \"127.0.0.1:443\" }\nweb w { address = \"127.0.0.1:443\" }\n",
	  6,
	  { "listened on already by listener \"a\"", "line 5" } },
	{ BASE "certificate default { chain = a key = b }\nweb v { address = \"127.0.0.1:443\" }\nweb w { address = {\"127.0.0.1:444\", \"127.0.0.1:443\"} }\n",
	  6,
	  { "listened on already by web \"v\"", "line 5" } },
	{ BASE "certificate default { chain = a key = b }\nweb w { address = {\"127.0.0.1:443\", \"127.0.0.1:443\"} }\n", 5, { "listened on already by web \"w\"" } },
	{ BASE "web w { address = \"127.0.0.1:1\" connections = 0 }\n", 4, { "between 1 and 100000" } },
	{ BASE "web w { address = \"127.0.0.1:1\" connections_per_address = 0 }\n", 4, { "between 1 and 100000" } },
	{ BASE "web w { address = \"127.0.0.1:1\" request_timeout = 11m }\n", 4, { "between 1s and 10m" } },
	{ BASE "certificate c { chain = a key = b }\nlistener a { address = \"127.0.0.1:1\"\n certificate = {" SEVENTY "} }\n", 6, { "names 70 certificates", "64" } },
	{ BASE "session_tickets = maybe\n", 4, { "neither true nor false" } },
	{ BASE "certificate default { chain = a key = b }\nlistener a { address = \"127.0.0.1:1\"\n tls_policy = old }\n", 6, { "modern", "intermediate" } },
	{ BASE "certificate default { chain = a key = b }\nlistener a { address = \"127.0.0.1:1\"\n client_certificates = require }\n", 6, { "ask" } },
	/* ---- domains, route, relay ---- */
	{ BASE "domain \"a.test\" { }\n", 4, { "domain \"a.test\" has no deliver" } },
	{ BASE "domain \"-a.test\" { deliver = discard }\n", 4, { "is no domain name" } },
	{ BASE "domain \"a..test\" { deliver = discard }\n", 4, { "is no domain name" } },
	{ BASE "domain \"127.0.0.1\" { deliver = discard }\n", 4, { "is no domain name" } },
	{ BASE "domain \"*.test\" { deliver = discard }\n", 4, { "is no domain name" } },
	{ BASE "domain \"a.test\" { deliver = discard }\ndomain \"A.Test\" { deliver = mx }\n",
	  5,
	  { "again", "line 4" } },
	{ BASE "domain \"b\xc3\xbc"
	       "cher.example\" { deliver = discard }\n\ndomain \"xn--bcher-kva.example\" { deliver = mx }\n",
	  6,
	  { "again", "line 4" } },
	{ BASE "domain a.test { deliver = nowhere }\n", 4, { "is no delivery", "smtp://host:port" } },
	{ BASE "domain a.test { deliver = \"maildir:mail/%{user}\" }\n", 4, { "absolute path" } },
	{ BASE "domain a.test { deliver = \"maildir:/m/../%{user}\" }\n", 4, { ". or .." } },
	{ BASE "domain a.test { deliver = \"maildir:/m/%{domain}\" }\n", 4, { "does not begin %{user}" } },
	{ BASE "domain a.test { deliver = \"maildir:/%{user}/%{user}\" }\n", 4, { "twice" } },
	{ BASE "domain a.test { deliver = \"maildir:/m/\" }\n", 4, { "empty path component" } },
	{ BASE "domain a.test { deliver = \"lmtp:/m/%{user}\" }\n", 4, { "maildir: only" } },
	{ BASE "domain a.test { deliver = \"lmtp://host\" }\n", 4, { "needs a port" } },
	{ BASE "domain a.test { deliver = \"lmtp://host:25\" }\n", 4, { "RFC 2033" } },
	{ BASE "domain a.test { deliver = \"smtp://\" }\n", 4, { "no host name" } },
	{ BASE "domain a.test { deliver = \"smtp://host:0\" }\n", 4, { "no port between 1 and 65535" } },
	{ BASE "domain a.test { deliver = \"smtp://host:25/\" }\n", 4, { "no port between" } },
	{ BASE "domain a.test { deliver = \"smtp://2001:db8::1\" }\n", 4, { "without brackets" } },
	{ BASE "domain a.test { deliver = \"smtp://[192.0.2.1]:25\" }\n", 4, { "no IPv6 address in its brackets" } },
	{ BASE "domain a.test { deliver = \"smtp://[::1:25\" }\n", 4, { "[ without its ]" } },
	{ BASE "domain a.test { deliver = mx\n source = \"eth0\" }\n", 5, { "is no address" } },
	{ BASE "domain a.test { deliver = mx\n auth = \"file\" }\n", 5, { "auth needs tls = verify or encrypt" } },
	{ BASE "domain a.test { deliver = discard\n auth = \"file\" tls = verify }\n", 5, { "no TLS can be owed" } },
	{ BASE "domain a.test { deliver = \"lmtp:/s\"\n tls = encrypt }\n", 5, { "no TLS can be owed" } },
	{ BASE "domain a.test { deliver = discard\n auth = \"file\" }\n", 5, { "nothing to log in to" } },
	{ BASE "route { deliver = \"smtp://smart.example\"\n auth = \"file\" tls = none }\n", 5, { "auth needs tls" } },
	{ BASE "route { deliver = \"maildir:/m/%{user}\" }\n", 4, { "has no mailbox here" } },
	{ BASE "client_certificate = c\n", 4, { "\"c\" names no section", "certificate \"c\" {" } },
	{ BASE "route { client_certificate = none }\nclient_certificate = c\n", 5, { "names no section" } },
	{ BASE "domain a.test { deliver = mx\n client_certificate = c }\n", 5, { "names no section" } },
	{ BASE "route {\n client_certificate = c }\n", 5, { "names no section" } },
	{ BASE "certificate c { chain = a key = b }\ndomain a.test { deliver = mx tls = none\n client_certificate = c }\n", 6, { "tls = none forbids it" } },
	{ BASE "certificate c { chain = a key = b }\ndomain a.test { deliver = discard\n client_certificate = c }\n", 6, { "uses no network" } },
	{ BASE "certificate \"a234567890123456789b234567890123456789c234567890123456789d234567890123456789e234567890123456789f23456\" { chain = a key = b }\n"
	       "client_certificate = \"a234567890123456789b234567890123456789c234567890123456789d234567890123456789e234567890123456789f23456\"\n",
	  5,
	  { "more than 100 octets" } },
	{ BASE "relay { from = {\"0.0.0.0/0\"} }\n", 4, { "open relay", "/8 or longer" } },
	{ BASE "relay { from = {\"128.0.0.0/1\"} }\n", 4, { "open relay" } },
	{ BASE "relay { from = {\"10.0.0.0/8\",\n\"::/0\"} }\n", 5, { "open relay", "/16 or longer" } },
	{ BASE "relay { from = {\"2000::/3\"} }\n", 4, { "open relay" } },
	{ BASE "relay { from = {\"::ffff:0:0/96\"} }\n", 4, { "IPv4 addresses in IPv6 form" } },
	{ BASE "relay { from = {\"127.0.0.1/8\"} }\n", 4, { "did you mean 127.0.0.0/8?" } },
	{ BASE "relay { from = {\"2001:db8::1/32\"} }\n", 4, { "did you mean 2001:db8::/32?" } },
	{ BASE "relay { from = {\"192.0.2.1\"} }\n", 4, { "write 192.0.2.1/32" } },
	{ BASE "relay { from = {\"2001:db8::1\"} }\n", 4, { "write 2001:db8::1/128" } },
	{ BASE "relay { from = {\"192.0.2.0/33\"} }\n", 4, { "is no network" } },
	{ BASE "relay { from = {\"192.0.2.0/+24\"} }\n", 4, { "is no network" } },
	{ BASE "relay { from = {\"all\"} }\n", 4, { "is no network" } },
	{ BASE "relay { from = {\"\"} }\n", 4, { "is no network" } },
	/* ---- dkim ---- */
	{ BASE "dkim \"a b\" { domain = a.test key = k }\n", 4, { "is no selector", "s2026" } },
	{ BASE "dkim \"-a\" { domain = a.test key = k }\n", 4, { "is no selector" } },
	{ BASE "dkim \"a..b\" { domain = a.test key = k }\n", 4, { "is no selector" } },
	{ BASE "dkim \"a.\" { domain = a.test key = k }\n", 4, { "is no selector" } },
	{ BASE "dkim a { domain = \"a test\" key = k }\n", 4, { "is no domain name in ASCII", "example.org" } },
	{ BASE "dkim a {\n domain = \"b\xc3\xbc.test\" key = k }\n", 5, { "is no domain name in ASCII" } },
	{ BASE "dkim a { key = k }\n", 4, { "has no domain", "write domain" } },
	{ BASE "dkim a { domain = a.test }\n", 4, { "has no key" } },
	{ BASE "dkim a { domain = a.test key = k algorithm = dsa }\n", 4, { "algorithm", "rsa", "ed25519" } },
	{ BASE "dkim a { domain = a.test key = k }\ndkim A { domain = b.test key = k }\n", 5, { "again", "line 4", "selector of its own" } },
};

static void bad_configurations_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
		struct conf *c;
		struct error e = { 0 };
		char place[40];
		if (conf_parse(&c, view_cstr(bads[i].text), "/etc/p.conf", &e) == 0)
			fail_msg("case %zu was accepted:\n%s", i, bads[i].text);
		assert_null(c);
		assert_int_equal(e.class, ERROR_INPUT);
		snprintf(place, sizeof place, "/etc/p.conf:%u: ", bads[i].line);
		if (strncmp(e.text, place, strlen(place)) != 0)
			fail_msg("case %zu: not at line %u: %s\n%s", i, bads[i].line, e.text, bads[i].text);
		for (size_t w = 0; w < 3 && bads[i].words[w]; w++)
			if (!strstr(e.text, bads[i].words[w]))
				fail_msg("case %zu: \"%s\" is not in: %s", i, bads[i].words[w], e.text);
		/* libconfuse has one lexer for the process: nothing of a refused text may reach the next */
		if (i % 16 == 0)
			conf_free(parse_good(SAMPLE, "x"));
	}
}

static void a_nul_ends_nothing(void **state)
{
	(void)state;
	struct conf *c;
	struct error e;
	static const char text[] = BASE "# hidden \0 relay\nrelay { from = {\"10.0.0.0/8\"} }\n";
	assert_int_equal(conf_parse(&c, view_of(text, sizeof text - 1), "f", &e), -1);
	assert_memory_equal(e.text, "f:4: a NUL", 10);
}

static void too_much_is_refused(void **state)
{
	(void)state;
	struct conf *c;
	struct error e;
	const size_t n = 17u << 20;
	char *text = malloc(n);
	memset(text, '\n', n);
	assert_int_equal(conf_parse(&c, view_of(text, n), "f", &e), -1);
	assert_non_null(strstr(e.text, "larger than 16 MiB"));
	memset(text, 'a', n);
	assert_int_equal(conf_parse(&c, view_of(text, 1 << 20), "f", &e), -1);
	assert_non_null(strstr(e.text, "more than 4096 octets"));
	text[0] = '"';
	assert_int_equal(conf_parse(&c, view_of(text, 1 << 20), "f", &e), -1);
	assert_non_null(strstr(e.text, "closing quote"));
	free(text);
}

static void files_that_cannot_be_read_are_named(void **state)
{
	(void)state;
	struct conf *c;
	struct error e;
	assert_int_equal(conf_load(&c, "/nonexistent/p.conf", &e), -1);
	assert_non_null(strstr(e.text, "/nonexistent/p.conf: cannot be opened"));
	assert_int_equal(conf_load(&c, "/tmp", &e), -1);
	assert_non_null(strstr(e.text, "/tmp: cannot be read"));
	assert_int_equal(conf_parse(&c, VIEW("x"), "f", NULL), -1);
}

/* Every beginning of valid texts, and texts with random octets changed: refused or read, never a crash, and never
 * two readings of one text. */
static void mutilated_texts_never_crash(void **state)
{
	(void)state;
	static const char *const texts[] = { SAMPLE, RICH };
	uint64_t seed = 0x9e3779b97f4a7c15;
	for (size_t t = 0; t < 2; t++) {
		const size_t n = strlen(texts[t]);
		for (size_t i = 0; i < n; i++) {
			struct conf *c;
			struct error e;
			char *cut = malloc(i ? i : 1); /* exact, so that the sanitizer sees the first octet too far */
			memcpy(cut, texts[t], i);
			if (conf_parse(&c, view_of(cut, i), "f", &e) == 0)
				conf_free(c);
			else
				assert_int_equal(e.class, ERROR_INPUT);
			free(cut);
		}
		for (unsigned round = 0; round < 3000; round++) {
			struct conf *c;
			struct error e;
			char *bent = malloc(n);
			memcpy(bent, texts[t], n);
			for (unsigned k = 0; k <= round % 3; k++) {
				seed ^= seed << 13;
				seed ^= seed >> 7;
				seed ^= seed << 17;
				static const char odd[] = "{}=\"'#\\$\n ,/*+%|()\0\xff";
				bent[seed % n] =
					seed >> 60 < 12 ? odd[(seed >> 32) % (sizeof odd - 1)] : (char)(seed >> 40);
			}
			if (conf_parse(&c, view_of(bent, n), "f", &e) == 0) {
				char *text = show_text(c);
				assert_non_null(strstr(text, "hostname = "));
				free(text);
				conf_free(c);
			} else {
				assert_int_equal(e.class, ERROR_INPUT);
			}
			free(bent);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations_are_refused),
		cmocka_unit_test(a_nul_ends_nothing),
		cmocka_unit_test(too_much_is_refused),
		cmocka_unit_test(files_that_cannot_be_read_are_named),
		cmocka_unit_test(mutilated_texts_never_crash),
	};
	return RUN(tests);
}
