/* dialog.c - plays the dialog files of tests/dialog: whole, octet by octet, and split at every single point.
 *
 *   dialog FILE...            plays them; exit 1 when one differs
 *   dialog --cover FILE...    plays them, and fails too when a row of spec/server.def is reached by none
 *   dialog --record FILE...   prints the file with what the server said in place of its S: lines
 *
 * A file is lines:
 *   # words              a remark
 *   [tls starttls]       before the first C: line: listener policy.  Also [lmtp] [auth PLAIN LOGIN]
 *                        [auth-in-clear] [size 100] [rcpts 2] [mails 1] [errors 3]
 *                        [binarymime] [requiretls] [no-chunking] [no-smtputf8] [no-dsn] [normalise]
 *                        [switch discard] [switch ehlo-optional]
 *   C: text              the client says text and CR LF;  C- text: without CR LF.  \r \n \t \0 \\ \xHH stand for octets
 *   S: text              the server says this line;  at the end of a line ... stands for anything
 *   [accept Q M] [accept Q M CODE words]  [later Q M ...]  [refuse Q M ...]  [close Q M ...]   a verdict: the first
 *                        time that Q (connect hello starttls auth response mail rcpt begin end) asks about something
 *                        that holds M (- is anything).  Without one the caller says yes.  [challenge Q M words]
 *                        [identity Q M name]
 *   [tls up] [tls fails] the handshake that the server asked for
 *   [body text]          the octets of messages given since the last [body]
 *   [reset N]            RESET events so far      [closed reason]   the session has ended with this reason
 *   [phase NAME]         where the machine stands [deadline] the deadline passes   [eof] [shutdown] [wrong epoch text]
 *   [hold] [yes]         from here no question is answered; the one that is open is, and those that follow
 * Everything between two runs of C: lines must hold after the first run, however its octets were cut.
 */
#include "server_rig.h"
#include "smtp/server_state.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LINES_MAX 400
#define DIALOG_LINE 4000
#define TEXT_MAX 40000

struct line {
	char kind; /* C, S, [, # or blank */
	char text[DIALOG_LINE];
	size_t n;
	bool open_end; /* S: ... */
};

struct dialog {
	const char *path;
	struct line lines[LINES_MAX];
	size_t count;
	struct psmtp_server_options options;
	struct rig_rule rules[RIG_RULES];
	unsigned rule_count;
};

static const char *const questions[] = {
	[PSMTP_SERVER_CONNECT] = "connect", [PSMTP_SERVER_HELLO] = "hello", [PSMTP_SERVER_STARTTLS] = "starttls",
	[PSMTP_SERVER_AUTH] = "auth", [PSMTP_SERVER_AUTH_DATA] = "response", [PSMTP_SERVER_MAIL] = "mail",
	[PSMTP_SERVER_RCPT] = "rcpt", [PSMTP_SERVER_BODY_BEGIN] = "begin", [PSMTP_SERVER_BODY_END] = "end",
};

static unsigned hex(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(tolower((unsigned char)c) - 'a' + 10);
}

/* Undoes the backslashes. */
static size_t plain(const char *from, char *to)
{
	size_t n = 0;

	for (; *from; from++) {
		if (*from != '\\' || !from[1]) {
			to[n++] = *from;
			continue;
		}
		switch (*++from) {
		case 'r': to[n++] = '\r'; break;
		case 'n': to[n++] = '\n'; break;
		case 't': to[n++] = '\t'; break;
		case '0': to[n++] = '\0'; break;
		case 'x':
			to[n++] = (char)(hex(from[1]) << 4 | hex(from[2]));
			from += 2;
			break;
		default: to[n++] = *from; break;
		}
	}
	return n;
}

static void bad(const struct dialog *d, const char *what, const char *text)
{
	fprintf(stderr, "%s: %s: %s\n", d->path, what, text);
	exit(2);
}

static const char *after(const char *text, const char *word)
{
	size_t n = strlen(word);

	return strncmp(text, word, n) == 0 && (text[n] == ' ' || text[n] == '\0') ? text + n + (text[n] == ' ') : NULL;
}

static bool parse_verdict(struct dialog *d, const char *text)
{
	static const struct { const char *word; enum psmtp_verdict_kind kind; bool close; } words[] = {
		{ "accept", PSMTP_YES, false }, { "later", PSMTP_NO_TEMPORARY, false }, { "refuse", PSMTP_NO_PERMANENT, false },
		{ "close", PSMTP_NO_PERMANENT, true }, { "challenge", PSMTP_CHALLENGE, false }, { "identity", PSMTP_YES, false },
	};
	struct rig_rule *r = &d->rules[d->rule_count];

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		const char *rest = after(text, words[i].word);
		char question[20];
		int used = 0, used2 = 0;

		if (!rest)
			continue;
		*r = (struct rig_rule){ .verdict = { .kind = words[i].kind } };
		if (sscanf(rest, "%19s %63s %n", question, r->match, &used) < 2)
			bad(d, "verdict", text);
		rest += used;
		if (strcmp(r->match, "-") == 0)
			r->match[0] = '\0';
		for (size_t q = PSMTP_SERVER_CONNECT; q <= PSMTP_SERVER_BODY_END; q++)
			if (strcmp(questions[q], question) == 0)
				r->question = q;
		if (!r->question)
			bad(d, "question", text);
		if (strcmp(words[i].word, "identity") == 0)
			snprintf(r->identity, sizeof r->identity, "%s", rest);
		else if (words[i].kind != PSMTP_CHALLENGE && sscanf(rest, "%d %n", &r->verdict.reply.code, &used2) >= 1)
			rest += used2;
		snprintf(r->text, sizeof r->text, "%s", rest);
		r->verdict.reply.close = words[i].close;
		d->rule_count++;
		return true;
	}
	return false;
}

static bool parse_policy(struct dialog *d, const char *text)
{
	static const char *const tls[] = { "", "none", "starttls", "required", "implicit", "broken" };
	struct psmtp_server_options *o = &d->options;
	const char *rest;

	if ((rest = after(text, "tls"))) {
		for (unsigned i = PSMTP_TLS_NONE; i <= PSMTP_TLS_BROKEN; i++)
			if (strcmp(rest, tls[i]) == 0) {
				o->tls = i;
				return true;
			}
		return false; /* up, fails */
	}
	if (strcmp(text, "lmtp") == 0)
		return o->lmtp = true;
	if ((rest = after(text, "auth")))
		return o->auth = (struct psmtp_view){ rest, strlen(rest) }, true;
	if (strcmp(text, "auth-in-clear") == 0)
		return o->auth_in_clear = true;
	if ((rest = after(text, "size")))
		return o->size_limit = strtoul(rest, NULL, 10), true;
	if ((rest = after(text, "rcpts")))
		return o->rcpt_limit = (uint32_t)strtoul(rest, NULL, 10), true;
	if ((rest = after(text, "mails")))
		return o->mail_limit = (uint32_t)strtoul(rest, NULL, 10), true;
	if ((rest = after(text, "errors")))
		return o->error_limit = (uint32_t)strtoul(rest, NULL, 10), true;
	if ((rest = after(text, "idle")))
		return o->idle_limit = (uint32_t)strtoul(rest, NULL, 10), true;
	if (strcmp(text, "binarymime") == 0)
		return o->binarymime = true;
	if (strcmp(text, "requiretls") == 0)
		return o->requiretls = true;
	if (strcmp(text, "no-chunking") == 0)
		return o->no_chunking = true;
	if (strcmp(text, "no-smtputf8") == 0)
		return o->no_smtputf8 = true;
	if (strcmp(text, "no-dsn") == 0)
		return o->no_dsn = true;
	if (strcmp(text, "normalise") == 0)
		return o->bare = PSMTP_BARE_NORMALISE, true;
	if (strcmp(text, "switch discard") == 0)
		return o->switches |= PSMTP_SWITCH_STARTTLS_DISCARD, true;
	if (strcmp(text, "switch ehlo-optional") == 0)
		return o->switches |= PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL, true;
	return false;
}

static void parse_line(struct dialog *d, char *text)
{
	struct line *l = &d->lines[d->count];
	size_t n = strlen(text);

	if (d->count == LINES_MAX || n >= sizeof l->text)
		bad(d, "too long", text);
	if (strncmp(text, "C: ", 3) == 0 || strcmp(text, "C:") == 0 || strncmp(text, "C- ", 3) == 0) {
		l->kind = 'C';
		l->n = plain(text + (n > 2 ? 3 : 2), l->text);
		if (text[1] == ':') {
			memcpy(l->text + l->n, "\r\n", 2);
			l->n += 2;
		}
	} else if (strncmp(text, "S: ", 3) == 0 || strcmp(text, "S:") == 0) {
		l->kind = 'S';
		l->n = plain(text + (n > 2 ? 3 : 2), l->text);
		l->open_end = l->n >= 3 && memcmp(l->text + l->n - 3, "...", 3) == 0;
		if (l->open_end)
			l->n -= 3;
	} else if (text[0] == '[' && text[n - 1] == ']') {
		l->kind = '[';
		memcpy(l->text, text + 1, n - 2);
		l->text[n - 2] = '\0';
		l->n = n - 2;
		if (parse_policy(d, l->text) || parse_verdict(d, l->text))
			l->kind = '#';
	} else if (text[0] == '#' || text[0] == '\0') {
		l->kind = '#';
	} else {
		bad(d, "what is this", text);
	}
	d->count++;
}

static void load(struct dialog *d, const char *path)
{
	char text[DIALOG_LINE];
	FILE *f = fopen(path, "r");

	*d = (struct dialog){ .path = path,
		.options = { .hostname = { "mx.test", 7 }, .tls = PSMTP_TLS_STARTTLS, .error_limit = 1000, .idle_limit = 1000000 } };
	if (!f) {
		perror(path);
		exit(2);
	}
	while (fgets(text, sizeof text, f)) {
		text[strcspn(text, "\n")] = '\0';
		parse_line(d, text);
	}
	fclose(f);
}

/* ---- playing ---- */

enum cut { CUT_NONE = 1, CUT_EACH, CUT_ONE };

struct play {
	const struct dialog *d;
	struct rig *r;
	enum cut cut;
	size_t point;  /* CUT_ONE: how many octets of the client's come in one piece with what stands before */
	size_t said;   /* octets of the client so far */
	size_t heard;  /* octets of the server's output compared so far */
	size_t bodied; /* octets of the body compared so far */
	unsigned traced; /* transitions looked at so far */
	bool record;
	unsigned wrong;
};

/* Rows that some dialog has reached; looked at after each octet, when few can have fired. */
static bool row_reached[1024];

static void note_rows(const struct psmtp_server *s, unsigned *from)
{
	for (; *from != s->traced; ++*from)
		row_reached[s->trace[*from % SERVER_TRACE_MAX].row] = true;
}

/* What no peer can bring about alone is left to the closure test: want of memory, floods. */
static bool excused(const struct server_row *row)
{
	return row->event == EVENT_NO_MEMORY || row->event == EVENT_OVERRUN || (row->want & SERVER_FACT(NOMEM));
}

static unsigned rows_missed(void)
{
	unsigned missed = 0;

	for (size_t i = 0; i < server_row_count; i++) {
		const struct server_row *row = &server_rows[i];

		if (!row->event || row_reached[i] || excused(row))
			continue;
		fprintf(stderr, "no dialog reaches row %zu: %s, reply %s, next %s\n", i, server_events[row->event].name,
			row->reply ? server_replies[row->reply].id : "none", server_phases[row->next].name);
		missed++;
	}
	return missed;
}

static void differs(struct play *p, const char *what, const char *want, size_t n, const char *got)
{
	if (p->wrong++ == 0)
		fprintf(stderr, "%s (%s %zu): %s: expected \"%.*s\", got \"%.300s\"\n", p->d->path,
			p->cut == CUT_NONE ? "whole" : p->cut == CUT_EACH ? "octets" : "split at", p->point, what, (int)n, want, got);
}

/* One run of the client's lines, cut as the play wants. */
static void feed_run(struct play *p, const char *text, size_t n)
{
	size_t first = p->cut == CUT_ONE && p->point > p->said && p->point < p->said + n ? p->point - p->said : n;

	for (size_t at = 0; at < n;) {
		size_t piece = p->cut == CUT_EACH ? 1 : at == 0 ? first : n - at;

		/* what follows in the run is there for net's last read before TLS starts */
		p->r->more = text + at + piece;
		p->r->more_len = n - at - piece;
		rig_feed(p->r, text + at, piece);
		at = (size_t)(p->r->more - text);
		p->r->more_len = 0;
		note_rows(p->r->s, &p->traced);
	}
	p->said += n;
}

static void expect_line(struct play *p, const struct line *l)
{
	const char *at = p->r->out + p->heard, *end = strstr(at, "\r\n");
	size_t n = end ? (size_t)(end - at) : strlen(at);

	if (p->record)
		return;
	if (n < l->n || memcmp(at, l->text, l->n) != 0 || (n > l->n && !l->open_end))
		differs(p, "line", l->text, l->n, at);
	p->heard += end ? n + 2 : n;
}

static void expect_silence(struct play *p)
{
	if (p->record) {
		while (p->heard < p->r->out_len) {
			size_t n = strcspn(p->r->out + p->heard, "\r");

			printf("S: %.*s\n", (int)n, p->r->out + p->heard);
			p->heard += n + 2;
		}
	} else if (p->heard != p->r->out_len) {
		differs(p, "more than was expected", "", 0, p->r->out + p->heard);
		p->heard = p->r->out_len;
	}
}

static void expect_text(struct play *p, const char *what, const char *want, const char *got)
{
	if (strcmp(want, got) != 0)
		differs(p, what, want, strlen(want), got);
}

static void play_note(struct play *p, const char *text)
{
	struct rig *r = p->r;
	const char *rest;
	char octets[DIALOG_LINE], number[20];

	if (strcmp(text, "tls up") == 0) {
		rig_tls(r);
	} else if (strcmp(text, "tls fails") == 0) {
		if (psmtp_server_tls_failed(r->s, r->now) != 0)
			differs(p, "tls fails", "a handshake", 11, "none");
		rig_drain(r);
	} else if ((rest = after(text, "body"))) {
		size_t n = plain(rest, octets);

		if (r->body_len - p->bodied != n || memcmp(r->body + p->bodied, octets, n) != 0)
			differs(p, "body", rest, strlen(rest), r->body + p->bodied);
		p->bodied = r->body_len;
	} else if ((rest = after(text, "reset"))) {
		snprintf(number, sizeof number, "%u", r->resets);
		expect_text(p, "resets", rest, number);
	} else if ((rest = after(text, "closed"))) {
		expect_text(p, "closed", rest, r->close_reason);
	} else if ((rest = after(text, "phase"))) {
		struct psmtp_server_facts f;

		psmtp_server_get_facts(r->s, &f);
		expect_text(p, "phase", rest, f.phase);
	} else if ((rest = after(text, "with"))) {
		struct psmtp_server_facts f;

		psmtp_server_get_facts(r->s, &f);
		snprintf(octets, sizeof octets, "%.*s", (int)f.with.n, f.with.p);
		expect_text(p, "with", rest, octets);
	} else if (strcmp(text, "hold") == 0) {
		r->hold = true;
	} else if (strcmp(text, "yes") == 0) {
		if (psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES, .identity = { "u", 1 } }, r->now) != 0)
			differs(p, "yes", "a question", 10, "none");
		r->hold = false;
		rig_drain(r);
	} else if (strcmp(text, "deadline") == 0) {
		if (psmtp_server_deadline(r->s) != UINT64_MAX) /* a verdict has none */
			r->now = psmtp_server_deadline(r->s);
		psmtp_server_timeout(r->s, r->now);
		rig_drain(r);
	} else if (strcmp(text, "eof") == 0) {
		psmtp_server_peer_closed(r->s, r->now);
		rig_drain(r);
	} else if (strcmp(text, "shutdown") == 0) {
		psmtp_server_shutdown(r->s, NULL, r->now);
		rig_drain(r);
	} else if ((rest = after(text, "wrong epoch"))) {
		psmtp_server_feed(r->s, 3 - r->epoch, rest, strlen(rest), r->now);
		rig_drain(r);
	} else {
		bad(p->d, "note", text);
	}
}

static unsigned play(const struct dialog *d, enum cut cut, size_t point, size_t *total)
{
	struct play p = { .d = d, .r = calloc(1, sizeof *p.r), .cut = cut, .point = point };
	static char run[TEXT_MAX];
	size_t n = 0;

	if (!p.r)
		return 1;
	memcpy(p.r->rules, d->rules, sizeof d->rules);
	p.r->rule_count = d->rule_count;
	rig_open(p.r, &d->options);
	for (size_t i = 0; i < d->count; i++) {
		const struct line *l = &d->lines[i];

		if (l->kind == 'C') {
			if (n == 0)
				expect_silence(&p);
			memcpy(run + n, l->text, l->n);
			n += l->n;
			continue;
		}
		if (l->kind == '#')
			continue;
		if (n)
			feed_run(&p, run, n);
		n = 0;
		if (l->kind == 'S')
			expect_line(&p, l);
		else
			play_note(&p, l->text);
	}
	if (n)
		feed_run(&p, run, n);
	note_rows(p.r->s, &p.traced);
	expect_silence(&p);
	*total = p.said;
	rig_close(p.r);
	return p.wrong;
}

/* Prints the file again with what the server really said. */
static void record(const struct dialog *d)
{
	struct play p = { .d = d, .r = calloc(1, sizeof *p.r), .cut = CUT_NONE, .record = true };
	FILE *f = fopen(d->path, "r");
	static char run[TEXT_MAX];
	char text[DIALOG_LINE];
	size_t n = 0, i = 0;

	if (!p.r)
		return;
	memcpy(p.r->rules, d->rules, sizeof d->rules);
	p.r->rule_count = d->rule_count;
	rig_open(p.r, &d->options);
	for (; f && fgets(text, sizeof text, f); i++) {
		const struct line *l = &d->lines[i];

		if (l->kind == 'S')
			continue;
		if (n && l->kind != 'C')
			feed_run(&p, run, n), n = 0;
		if (l->kind != '#')
			expect_silence(&p);
		fputs(text, stdout);
		if (l->kind == '[')
			play_note(&p, l->text);
		if (l->kind == 'C')
			memcpy(run + n, l->text, l->n), n += l->n;
	}
	if (n)
		feed_run(&p, run, n);
	expect_silence(&p);
	if (f)
		fclose(f);
	rig_close(p.r);
}

int main(int argc, char **argv)
{
	static struct dialog d;
	unsigned wrong = 0, plays = 0;
	bool recording = argc > 2 && strcmp(argv[1], "--record") == 0, cover = argc > 2 && strcmp(argv[1], "--cover") == 0;

	if (argc < 2) {
		fputs("usage: dialog [--cover|--record] FILE...\n", stderr);
		return 2;
	}
	for (int i = recording || cover ? 2 : 1; i < argc; i++) {
		size_t total = 0, ignored;

		load(&d, argv[i]);
		if (recording) {
			record(&d);
			continue;
		}
		wrong += play(&d, CUT_NONE, 0, &total) != 0;
		wrong += play(&d, CUT_EACH, 0, &ignored) != 0;
		plays += 2;
		for (size_t point = 1; point < total && wrong < 5; point++, plays++)
			wrong += play(&d, CUT_ONE, point, &ignored) != 0;
	}
	if (cover)
		wrong += rows_missed();
	if (!recording)
		printf("%d dialogs, %u plays, %u wrong\n", argc - (cover ? 2 : 1), plays, wrong);
	return wrong ? 1 : 0;
}
