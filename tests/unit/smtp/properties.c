/* properties.c - what must hold of every parser for any input at all, over inputs glued from words that matter.
 *
 * As a test it makes its own inputs, from a fixed seed, for as many rounds as take some seconds under the sanitizers.
 * With -DPROPERTIES_FUZZER -fsanitize=fuzzer (and -lcmocka, for parse_test.h) the same properties are libFuzzer's
 * targets, each some of them (PROPERTIES_FIRST, PROPERTIES_COUNT): the first octet chooses among these, the second gives
 * options, the rest is the input.
 */
#include <assert.h>

#include "parse_test.h"
#include "smtp/base64.h"
#include "smtp/bdat.h"
#include "smtp/body.h"
#include "smtp/command.h"
#include "smtp/line.h"
#include "smtp/params.h"
#include "smtp/reply_in.h"
#include "smtp/reply_out.h"

#define ROUNDS    300000
#define INPUT_MAX 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool has_control(struct psmtp_view v)
{
	for (size_t i = 0; i < v.n; i++)
		if (smtp_is_control(v.p[i]))
			return true;
	return false;
}

/* An accepted address holds no control octet, is valid UTF-8, and its text alone is accepted with the same parts. */
static void address(struct view v, unsigned opt, char *room)
{
	struct psmtp_address a, again;

	if (psmtp_address_parse(smtp_public(v), opt & 15, &a) == -1) {
		assert(!a.kind);
		return;
	}
	assert(a.kind && !has_control(a.text) && smtp_utf8_valid(smtp_view(a.text)));
	assert(psmtp_local_unquote(a.local, room) <= a.local.n);
	assert(a.utf8 == smtp_has_8bit(smtp_view(a.text)) && (!a.utf8 || opt & PSMTP_ADDRESS_UTF8));
	if (a.kind == PSMTP_DOMAIN_NONE)
		return;
	assert(a.local.n + 1 + a.domain.n == a.text.n && a.domain.p[-1] == '@');
	assert(psmtp_address_parse(a.text, PSMTP_ADDRESS_BARE | PSMTP_ADDRESS_UTF8, &again) == 0);
	assert(again.kind == a.kind && again.local.n == a.local.n && again.quoted == a.quoted);
}

/* What is accepted can be written into a report or a log. */
static void parameters(struct view v, unsigned opt, char *room)
{
	struct arena arena;
	struct psmtp_mail mail;
	struct psmtp_rcpt rcpt;

	(void)room;
	arena_init(&arena, &alloc_libc, 65536);
	if (smtp_mail_parse(v, opt, &arena, &mail).fault == SMTP_PARSE_OK) {
		assert(mail.sender.kind && mail.body && mail.ret && !has_control(mail.envid) &&
			!has_control(mail.auth));
		assert(mail.smtputf8 || !mail.sender.utf8);
	}
	if (smtp_rcpt_parse(v, opt, opt & 128, &arena, &rcpt).fault == SMTP_PARSE_OK) {
		assert(rcpt.recipient.kind && !has_control(rcpt.orcpt) && !has_control(rcpt.orcpt_type));
		assert(!(rcpt.notify & PSMTP_NOTIFY_NEVER) || rcpt.notify == PSMTP_NOTIFY_NEVER);
	}
	arena_free(&arena);
}

static void commands(struct view v, unsigned opt, char *room)
{
	struct smtp_command c = smtp_command_parse(v);
	struct smtp_bdat b = smtp_bdat_parse(c.argument);

	(void)room;
	assert(c.verb && c.word.n + c.argument.n <= v.n && smtp_command_limit(v) >= SMTP_LINE_MAX);
	assert(b.fault && b.left == b.size && (b.fault == SMTP_BDAT_OK || !b.last));
	if (smtp_hello_valid(v, opt & 1))
		assert(!has_control(smtp_public(v)) && smtp_utf8_valid(v));
}

/* Lines are made of all the input but its tail, and none is longer than it may be. */
static void lines(struct view v, unsigned opt, char *room)
{
	struct smtp_line_state state = { 0 };
	size_t limit = opt % 64 + 2;
	struct smtp_line line;

	(void)room;
	while ((line = smtp_line_read(&state, v, limit)).take) {
		assert(line.take <= v.n && line.text.n + 2 <= limit);
		assert(line.kind == SMTP_LINE_NONE ||
			(line.take >= 2 && v.p[line.take - 1] == '\n' && v.p[line.take - 2] == '\r'));
		v = view_slice(v, line.take, v.n);
	}
	assert(v.n < limit);
}

/* Whatever is given under either policy holds no bare CR, bare LF or NUL. */
static void bodies(struct view v, unsigned opt, char *room)
{
	struct smtp_body b;
	struct psmtp_scan scan = { 0 };
	size_t given = 0;

	(void)room;
	smtp_body_begin(&b, opt & 1 ? PSMTP_BARE_REJECT : PSMTP_BARE_NORMALISE, opt & 2, false);
	if (opt & 4)
		b.limit = opt;
	while (v.n) {
		struct smtp_body_step step = smtp_body_read(&b, v);

		assert(step.take <= v.n && (step.take || step.give.n || step.end));
		psmtp_scan_bytes(&scan, step.give.p, step.give.n);
		given += step.give.n;
		if (step.end)
			break;
		v = view_slice(v, step.take, v.n);
	}
	given += smtp_body_finish(&b).n;
	assert(given <= b.limit && (b.fault || b.over || given == b.size));
	assert(!scan.has_nul && !scan.has_bare);
}

static void codes(struct view v, unsigned opt, char *room)
{
	long n = smtp_base64_decode(v, (unsigned char *)room);

	(void)opt;
	if (n >= 0) {
		char *code = malloc(v.n + 1);

		assert(smtp_base64_encode(view_of(room, (size_t)n), code) == v.n && memcmp(code, v.p, v.n) == 0);
		free(code);
	}
	n = psmtp_xtext_decode(smtp_public(v), room);
	assert(n == -1 || (size_t)n <= v.n);
}

/* Octet by octet: the same reply, or the same fault, at the same place. */
static void read_slowly(struct view v, const struct smtp_reply_in *whole, enum smtp_reply_status want, size_t taken)
{
	struct psmtp_reply a = smtp_reply_in_get(whole), b;
	enum smtp_reply_status status = SMTP_REPLY_MORE;
	struct smtp_reply_in in;
	size_t n = 0, one;

	smtp_reply_in_init(&in, &alloc_libc, whole->octet_limit, whole->line_limit);
	while (n < v.n && status == SMTP_REPLY_MORE) {
		status = smtp_reply_in_read(&in, view_slice(v, n, n + 1), &one);
		assert(one == 1);
		n++;
	}
	b = smtp_reply_in_get(&in);
	assert(status == want && n == taken && in.reason == whole->reason && a.code == b.code && in.lines == whole->lines);
	assert(a.text.n == b.text.n && (!a.text.n || memcmp(a.text.p, b.text.p, a.text.n) == 0));
	assert(memcmp(a.enhanced, b.enhanced, sizeof a.enhanced) == 0);
	smtp_reply_in_free(&in);
}

/* A reply is lines of one code, of which only the last is not marked as going on; its words hold no control octet. */
static void check_reply(struct view said, const struct smtp_reply_in *in)
{
	struct psmtp_reply r = smtp_reply_in_get(in);
	unsigned lines = 0;

	assert(r.code >= 200 && r.code <= 599);
	while (said.n) {
		size_t lf = view_find(said, '\n');
		bool last = lf + 1 == said.n;

		assert(lf >= 4 && said.p[lf - 1] == '\r');
		assert((said.p[0] - '0') * 100 + (said.p[1] - '0') * 10 + (said.p[2] - '0') == r.code);
		assert(lf == 4 ? last : said.p[3] == (last ? ' ' : '-'));
		said = view_slice(said, lf + 1, said.n);
		lines++;
	}
	assert(lines == in->lines && lines <= in->line_limit);
	for (size_t i = 0; i < r.text.n; i++)
		assert(!smtp_is_control(r.text.p[i]) || r.text.p[i] == '\t' || r.text.p[i] == '\n');
	assert(r.enhanced[0] == 0 || r.enhanced[0] == r.code / 100);
}

static void replies_read(struct view v, unsigned opt, char *room)
{
	struct smtp_reply_in in;
	enum smtp_reply_status status = SMTP_REPLY_DONE;
	size_t taken;

	(void)room;
	smtp_reply_in_init(&in, &alloc_libc, 100 + opt, 5);
	while (v.n && status == SMTP_REPLY_DONE) {
		smtp_reply_in_next(&in);
		status = smtp_reply_in_read(&in, v, &taken);
		assert((status == SMTP_REPLY_BAD) == (in.reason != NULL));
		if (status == SMTP_REPLY_DONE)
			check_reply(view_slice(v, 0, taken), &in);
		read_slowly(v, &in, status, taken);
		v = view_slice(v, taken, v.n);
	}
	smtp_reply_in_free(&in);
}

/* Whatever a reply says, it is printable lines of 512 at most, and our own reader takes it for one reply. */
static void replies_written(struct view v, unsigned opt, char *room)
{
	struct psmtp_reply reply = { .code = 550, .enhanced = { 5, (uint16_t)opt, 1 }, .text = smtp_public(v) };
	struct smtp_reply_in in;
	struct buf out;
	size_t taken;

	(void)room;
	buf_init(&out, &alloc_libc, 65536);
	assert(smtp_reply_write(&out, &reply));
	for (struct view w = buf_view(&out); w.n;) {
		size_t lf = view_find(w, '\n');

		assert(lf < w.n && lf + 1 <= SMTP_REPLY_LINE_MAX && w.p[lf - 1] == '\r');
		for (size_t i = 0; i + 1 < lf; i++)
			assert(w.p[i] >= ' ' && w.p[i] <= '~');
		w = view_slice(w, lf + 1, w.n);
	}
	smtp_reply_in_init(&in, &alloc_libc, 65536, 65536);
	assert(smtp_reply_in_read(&in, buf_view(&out), &taken) == SMTP_REPLY_DONE && taken == buf_len(&out));
	smtp_reply_in_free(&in);
	buf_free(&out);
}

static void (*const properties[])(struct view, unsigned opt, char *room) = {
	address, parameters, codes, commands, lines, bodies, replies_read, replies_written,
};
#ifndef PROPERTIES_FIRST /* a fuzz target takes some of them */
#define PROPERTIES_FIRST 0
#define PROPERTIES_COUNT COUNT(properties)
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct view v;
	char *room;

	if (n < 2)
		return 0;
	v = exact(view_of((const char *)data + 2, n - 2));
	room = malloc(v.n + 1);
	properties[PROPERTIES_FIRST + data[0] % PROPERTIES_COUNT](v, data[1], room);
	free(room);
	drop(v);
	return 0;
}

#ifndef PROPERTIES_FUZZER
static const char *const words[] = {
	"\r\n",
	"\r",
	"\n",
	"\r\n.\r\n",
	".",
	"..",
	" ",
	"\t",
	"<",
	">",
	"@",
	"\"",
	"\\",
	"[",
	"]",
	":",
	"::",
	",",
	";",
	"=",
	"+",
	"+2B",
	"-",
	"a",
	"ab",
	"b.c",
	"<a@b.c>",
	"<>",
	"postmaster",
	"\"a b\"@c",
	"[1.2.3.4]",
	"[IPv6:",
	"1:2:3",
	"ffff",
	"255",
	"256",
	"FROM:",
	"TO:",
	"SIZE=1",
	"BODY=8BITMIME",
	"SMTPUTF8",
	"RET=FULL",
	"ENVID=",
	"AUTH=<>",
	"NOTIFY=NEVER",
	"NOTIFY=SUCCESS,DELAY",
	"ORCPT=rfc822;",
	"ORCPT=utf-8;",
	"\\x{E9}",
	"MAIL ",
	"RCPT ",
	"BDAT ",
	"LAST",
	"EHLO ",
	"GET / HTTP/1.1",
	"250 ",
	"250-",
	"550",
	"2.1.5 ",
	"5.1.1",
	"\xc3\xa9",
	"\xe3\x80\x82",
	"\xff",
	"\xed\xa0\x80",
	"\x7f",
	"\x1b",
	"Zg==",
	"Zm9v",
	"18446744073709551616",
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
};

static unsigned random_next(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

static void hold_for_any_input(void **state)
{
	unsigned seed = 5321;
	uint8_t input[INPUT_MAX + 80];

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t n = 2;

		input[0] = (uint8_t)round;
		input[1] = (uint8_t)random_next(&seed);
		for (unsigned k = random_next(&seed) % 12; k && n < INPUT_MAX; k--) {
			const char *word = words[random_next(&seed) % COUNT(words)];

			memcpy(input + n, word, strlen(word));
			n += strlen(word);
			if (random_next(&seed) % 16 == 0)
				input[n++] = (uint8_t)random_next(&seed); /* NUL too */
		}
		LLVMFuzzerTestOneInput(input, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(hold_for_any_input) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
