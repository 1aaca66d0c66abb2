/* util.h - what the tests of src/conf share: cmocka with what it needs, and texts that parse or do not. */
#ifndef TESTS_CONF_UTIL_H
#define TESTS_CONF_UTIL_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "conf/conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN(tests) cmocka_run_group_tests(tests, NULL, NULL)

/* The three lines that every configuration needs. */
#define BASE                                                                                                           \
	"hostname = \"mx.example.org\"\n"                                                                              \
	"spool = \"/var/spool/postrider\"\n"                                                                           \
	"control = \"/run/postrider.sock\"\n"

/* The whole working configuration, as printed there. */
#define SAMPLE                                                                                                         \
	"        hostname = \"mx.sink.test\"\n"                                                                        \
	"        spool    = \"/var/tmp/postrider/spool\"\n"                                                            \
	"        control  = \"/var/tmp/postrider/control.sock\"\n"                                                     \
	"        certificate \"default\" { chain = \"cert.pem\"  key = \"key.pem\" }\n"                                \
	"        listener \"mx\"         { address = {\"127.0.0.1:2620\"}  tls = starttls }\n"                         \
	"        domain \"sink.test\"    { deliver = \"discard\" }\n"                                                  \
	"        domain \"local.test\"   { deliver = \"maildir:/var/tmp/postrider/mail/%{user}\" }\n"                  \
	"        domain \"relay.test\"   { deliver = \"smtp://127.0.0.1:2650\"  tls = may }\n"                         \
	"        relay                 { from = {\"127.0.0.0/8\"} }\n"

/* Something of everything, nothing at its default. */
#define RICH                                                                                                           \
	"hostname = 'mx.example.org'\nspool = spool.d\ncontrol = \"sock\"\nmessage_size_limit = 3M\nworkers = 3\n"      \
	"user_prefix = px\nsandbox = off\ntrust = \"/t/ca.pem\"\nresolver = {\"127.0.0.1:5353\", \"::1\", \"[::2]:54\"}\n" \
	"postmaster = \"admin@example.org\"\nretry_min = 90s\nretry_max = 3h\nlifetime = 2d\nbounce_lifetime = 36h\n"   \
	"delay_warning = 0\ndestination_window = 7\ndeliveries = 70\nmax_hops = 30\nconnect_timeout = 1500ms\n"         \
	"connection_idle = 0s\nconnection_messages = 9\n"                                                              \
	"certificate main { chain = \"a \\\"b\\\" \\\\ c.pem\" key = k.pem } # the odd name is meant\n"                      \
	"certificate \"other\" { key = \"/k\" chain = \"/c\" }\n"                                                      \
	"listener mx {\n\taddress = {\"0.0.0.0:25\",\n\t\t\"[::]:25\",}\n\ttls = required\n\tcertificate = main\n\tlmtp = no\n" \
	"bare_newlines = normalise starttls_pending = discard ehlo_after_tls = optional binarymime = yes sessions = 5\n" \
	"sessions_per_address = 6 recipients = 99 messages = 1 errors = 2 command_timeout = 3s handshake_timeout = 4m\n" \
	"data_timeout = 5h data_min_rate = 8 greeting_delay = 250ms }\n"                                               \
	"listener lmtp { address = \"127.0.0.1:24\" tls = none lmtp = true }\n"                                          \
	"domain \"b\xc3\xbc" "cher.example\" { deliver = \"smtp://[2001:db8::1]:26\" tls = verify users = \"u/list\" source = \"::1\" " \
	"auth = \"secret\" }\n"                                                                                        \
	"domain \"a.example\" { deliver = \"lmtp:/run/dovecot/lmtp\" }\n"                                              \
	"domain \"b.example\" { deliver = \"lmtp://Mail.Example:24\" }\n"                                              \
	"domain \"c.example\" { deliver = \"mx\" tls = encrypt }\n"                                                    \
	"route { deliver = \"smtp://smart.example\" tls = verify auth = \"/etc/smart\" source = 192.0.2.9 }\n"         \
	"relay { from = {\"10.0.0.0/8\", \"2001:db8::/32\"} }\n"

static inline struct conf *parse_good(const char *text, const char *path)
{
	struct conf *c = NULL;
	struct error e;
	if (conf_parse(&c, view_cstr(text), path, &e) == -1)
		fail_msg("refused: %s\n%s", e.text, text);
	return c;
}

/* What conf_show says, terminated; freed by the caller. */
static inline char *show_text(const struct conf *c)
{
	struct buf b;
	buf_init(&b, &alloc_libc, 64 << 20);
	assert_int_equal(conf_show(c, &b), 0);
	char *text = strndup(buf_view(&b).p, buf_len(&b));
	buf_free(&b);
	return text;
}

#endif
