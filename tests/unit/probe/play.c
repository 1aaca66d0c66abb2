/* `probe client` as a whole, in one process: the cases played to a careless client in a thread, which believes what it is told and goes on. */
#include "probe/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_S 5

struct world {
	struct address to;
	pthread_t thread;
	bool running;
	unsigned cases;
};

/* ---- the careless client ---- */

struct talk {
	int fd;
	SSL *ssl;
	char in[65536];
	size_t at, have;   /* in it: the next octet, and the end */
	char line[16384];
	size_t n;          /* octets of the line so far */
	bool starttls;     /* offered in the last reply */
	bool over;
};

static bool get(struct talk *t, char *c)
{
	if (t->at == t->have) {
		long n = t->ssl ? SSL_read(t->ssl, t->in, sizeof t->in) : read(t->fd, t->in, sizeof t->in);

		t->over = t->over || n <= 0;
		t->at = 0;
		t->have = t->over ? 0 : (size_t)n;
	}
	if (!t->over)
		*c = t->in[t->at++];
	return !t->over;
}

/* The code of the last line of a reply; 0: none came. */
static int hear(struct talk *t)
{
	char c;

	t->starttls = false;
	t->n = 0;
	while (get(t, &c)) {
		if (t->n + 1 < sizeof t->line)
			t->line[t->n++] = c;
		if (c != '\n')
			continue;
		t->line[t->n] = 0;
		t->starttls = t->starttls || strstr(t->line, "STARTTLS");
		if (t->n > 4 && t->line[3] != '-')
			return (int)strtol(t->line, NULL, 10);
		t->n = 0;
	}
	return 0;
}

static int say(struct talk *t, const char *line)
{
	size_t n = strlen(line);

	if (t->over)
		return 0;
	if (t->ssl ? SSL_write(t->ssl, line, (int)n) != (int)n : write(t->fd, line, n) != (ssize_t)n)
		t->over = true;
	return hear(t);
}

static void shake(struct talk *t)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	t->ssl = SSL_new(context);
	SSL_CTX_free(context);
	SSL_set_fd(t->ssl, t->fd);
	t->at = t->have = 0; /* what stood behind the 220 is forgotten */
	t->over = SSL_connect(t->ssl) != 1;
	if (!t->over)
		say(t, "EHLO client.example\r\n");
}

static void *client(void *arg)
{
	const struct world *w = arg;
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct talk t = { .fd = socket(w->to.sa.ss_family, SOCK_STREAM, 0) };

	setsockopt(t.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	t.over = connect(t.fd, (const struct sockaddr *)&w->to.sa, w->to.len) == -1;
	if (!t.over && hear(&t) == 220) {
		if (say(&t, "EHLO client.example\r\n") != 250)
			say(&t, "HELO client.example\r\n");
		if (t.starttls && say(&t, "STARTTLS\r\n") == 220)
			shake(&t);
		say(&t, "MAIL FROM:<a@example.org>\r\n");
		say(&t, "RCPT TO:<b@example.org>\r\n");
		if (say(&t, "DATA\r\n") == 354)
			say(&t, "Subject: x\r\n\r\nHello.\r\n.\r\n");
		say(&t, "QUIT\r\n");
	}
	SSL_free(t.ssl);
	close(t.fd);
	return NULL;
}

/* ---- the probe ---- */

static void listening(void *arg, const struct sockaddr *where)
{
	struct world *w = arg;

	w->to.len = sizeof(struct sockaddr_in);
	memcpy(&w->to.sa, where, w->to.len);
}

static void progress(void *arg, unsigned done, unsigned total, const struct probe_check *c)
{
	struct world *w = arg;

	(void)done, (void)total;
	if (w->running)
		pthread_join(w->thread, NULL);
	w->running = c && pthread_create(&w->thread, NULL, client, w) == 0;
	w->cases += c != NULL;
}

static struct probe_client_options options(struct world *w)
{
	struct probe_client_options o = { .name = "localhost", .expect = CLIENT_MAY, .wait_ms = 5000, .settle_ms = 50, .timeout_ms = 5000,
		.window_ms = 60, .listening = listening, .progress = progress, .arg = w };

	assert_true(address_parse_host(VIEW("127.0.0.1"), 0, &o.listen));
	return o;
}

static const struct probe_finding *found(const struct probe_report *r, unsigned number)
{
	for (unsigned i = 0; i < r->finding_count; i++)
		if (r->findings[i].check->number == number)
			return &r->findings[i];
	fail_msg("no finding %u", number);
	return NULL;
}

static void a_careless_client_is_found_out(void **state)
{
	static const struct { unsigned number; enum probe_verdict verdict; } rows[] = {
		{ 101, PROBE_PASS }, { 102, PROBE_PASS }, { 103, PROBE_PASS }, { 104, PROBE_PASS }, { 201, PROBE_PASS }, { 206, PROBE_PASS },
		{ 207, PROBE_FAIL }, { 301, PROBE_NOTE }, { 302, PROBE_NOTE }, { 303, PROBE_NOTE }, { 304, PROBE_NOTE }, { 305, PROBE_PASS },
		{ 306, PROBE_PASS }, { 307, PROBE_PASS }, { 308, PROBE_PASS }, { 501, PROBE_NOTE }, { 502, PROBE_NOTE }, { 503, PROBE_NOTE },
		{ 601, PROBE_PASS }, { 602, PROBE_UNTESTED }, { 701, PROBE_PASS }, { 702, PROBE_FAIL }, { 703, PROBE_NOTE }, { 705, PROBE_NOTE },
		{ 706, PROBE_PASS }, { 707, PROBE_FAIL }, { 708, PROBE_PASS },
	};
	struct world w = { .running = false };
	struct probe_client_options o = options(&w);
	struct probe_report r;
	struct error e;

	(void)state;
	probe_report_init(&r, "client", "127.0.0.1", 0);
	assert_int_equal(probe_client(&o, &r, &e), 0);
	assert_int_equal(w.cases, client_case_count);
	assert_int_equal(r.finding_count, client_case_count);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct probe_finding *f = found(&r, rows[i].number);

		if (f->verdict != rows[i].verdict)
			fail_msg("%u: %s: %s", rows[i].number, probe_verdict_word(f->verdict), f->text);
		assert_true(f->line_count > 0 || f->verdict == PROBE_UNTESTED);
	}
	assert_false(r.broken);
	probe_report_free(&r);
}

static void nobody_and_nothing(void **state)
{
	static char *const command[] = { "/nowhere/at/all", NULL };
	struct world w = { .running = false };
	struct probe_client_options o = options(&w);
	struct probe_report r;
	struct error e;

	(void)state;
	o.wait_ms = 50;
	o.progress = NULL;
	probe_report_init(&r, "client", "127.0.0.1", 0);
	assert_int_equal(probe_client(&o, &r, &e), -1);
	assert_non_null(strstr(e.text, "no connection came"));
	probe_report_free(&r);
	o.command = command;
	probe_report_init(&r, "client", "127.0.0.1", 0);
	assert_int_equal(probe_client(&o, &r, &e), -1);
	assert_non_null(strstr(e.text, "could not be started; the command was not found"));
	probe_report_free(&r);
	o.chain = VIEW("nonsense");
	probe_report_init(&r, "client", "127.0.0.1", 0);
	assert_int_equal(probe_client(&o, &r, &e), -1);
	assert_int_equal(e.class, ERROR_INPUT);
	probe_report_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_and_nothing),
		cmocka_unit_test(a_careless_client_is_found_out),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
