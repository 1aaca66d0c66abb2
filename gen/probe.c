/* probe.c - prints docs/probe.md and man/postrider-probe.8 from spec/probe.def, and (probe_kinds.c) the pages of the other kinds of
 * probe, or checks that they are what it would print.
 *
 * Use       probe write SOURCE_ROOT   after a change of the table or of this file
 *           probe check SOURCE_ROOT   in the tests: fails when a page is stale
 */
#include "gen/probe.h"

#include "probe/server.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MAX    (1u << 20)
#define MAN_COLUMNS 116 /* as the other pages */

/* ---- docs/probe.md ---- */

static const char md_head[] =
	"# What `postrider probe server` asks\n\n"
	"Printed by `gen/probe` from `spec/probe.def`; do not edit. How the command is used: `postrider-probe(8)`. The "
	"form of `--json`:\n"
	"[probe.schema.json](probe.schema.json).\n\n"
	"How servers and clients of today do: [field.md](field.md). What `--html` looks like, on a desk and on a phone "
	"(aiosmtpd):\n"
	"[probe-desktop.png](probe-desktop.png), [probe-phone.png](probe-phone.png).\n\n"
	"Each check gives **pass**, **fail**, **note** (worth knowing, no rule is broken) or **not tested** (and why), "
	"with the dialog as\n"
	"evidence. A number is never used again for anything else. N is the name of `--helo`.\n";

void page_cell(struct buf *to, const char *text)
{
	for (; *text; text++) {
		if (strchr("|<>_*", *text))
			buf_add(to, VIEW("\\"));
		buf_add(to, view_of(text, 1));
	}
}

static void md_needs(struct buf *to, unsigned needs)
{
	static const struct {
		unsigned bit;
		const char *words;
	} all[] = {
		{ PROBE_NEEDS_CLEAR, "a clear session" },
		{ PROBE_NEEDS_STARTTLS, "STARTTLS" },
		{ PROBE_NEEDS_TLS, "TLS" },
		{ PROBE_NEEDS_LOGIN, "`--auth-file`" },
		{ PROBE_NEEDS_RECIPIENT, "`--recipient`" },
		{ PROBE_NEEDS_INTRUSIVE, "`--intrusive`" },
	};
	bool some = false;

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (needs & all[i].bit) {
			buf_addf(to, "%s%s", some ? ", " : "", all[i].words);
			some = true;
		}
}

void page_table(struct buf *to, const struct probe_check *checks, unsigned count, const char *check, const char *sends,
		void (*needs)(struct buf *, unsigned bits))
{
	const char *const *group = NULL;

	for (unsigned i = 0; i < count; i++) {
		const struct probe_check *c = &checks[i];

		if (c->group != group) {
			group = c->group;
			buf_addf(to, "\n## %s\n\n| number | %s | needs | severity | reference | %s |\n|---|---|---|---|---|---|\n", *group,
				 check, sends);
		}
		buf_addf(to, "| %u `%s` | ", c->number, c->id);
		page_cell(to, c->title);
		buf_add(to, VIEW(" | "));
		needs(to, c->needs);
		buf_addf(to, " | %s | %s | ", probe_severity_word(c->severity), c->reference);
		page_cell(to, c->sends);
		buf_add(to, VIEW(" |\n"));
	}
}

static void print_md(struct buf *to)
{
	buf_add(to, view_cstr(md_head));
	page_table(to, probe_checks, probe_check_count, "check", "sends", md_needs);
}

/* ---- man/postrider-probe.8 ---- */

static const char man_head[] =
	".\\\" Printed by gen/probe from spec/probe.def; do not edit.\n"
	".Dd November 27, 2026\n"
	".Dt POSTRIDER-PROBE 8\n"
	".Os\n"
	".Sh NAME\n"
	".Nm postrider-probe\n"
	".Nd see how a mail server treats STARTTLS\n"
	".Sh SYNOPSIS\n"
	".Nm postrider probe server\n"
	".Op Fl -tls-implicit\n"
	".Op Fl -helo Ar name\n"
	".Op Fl -name Ar name\n"
	".Op Fl -address Ar address ...\n"
	".Op Fl -tls-ca Ar file\n"
	".Op Fl -recipient Ar addr\n"
	".Op Fl -from Ar addr\n"
	".Op Fl -auth-file Ar file\n"
	".Op Fl -intrusive\n"
	".Op Fl -check Ar number Ns Op , Ns Ar number ...\n"
	".Op Fl -pause Ar seconds\n"
	".Op Fl -timeout Ar seconds\n"
	".Op Fl -window Ar milliseconds\n"
	".Op Fl -connections Ar number\n"
	".Op Fl v\n"
	".Op Fl -json | Fl -markdown | Fl -html | Fl -prometheus\n"
	".Op Fl -diff Ar old.json\n"
	".Ar host Ns Op : Ns Ar port\n"
	".Sh DESCRIPTION\n"
	".Nm postrider probe server\n"
	"examines one receiving mail server by a fixed, numbered list of checks.\n"
	"Each gives pass, fail, note or not tested, with the lines of its dialog as evidence: what was sent, what "
	"came, when, and whether it was inside TLS.\n"
	"No daemon and no configuration are needed.\n"
	".Pp\n"
	"Manners: one connection at a time with a pause between two of them, a bound on their number, a name of "
	"one\\(cqs own in EHLO.\n"
	"No recipient is ever named without\n"
	".Fl -recipient ,\n"
	"and nothing is sent that may do harm without\n"
	".Fl -intrusive .\n"
	"A server that turns several connections away in a row is left alone.\n"
	"A whole run makes some 70 connections, and with the usual pause takes about two minutes; the server\\(cqs log "
	"will show failed handshakes and commands that do not exist.\n"
	"Probe servers of your own, or of those who asked you to.\n"
	".Bl -tag -width Ds\n"
	".It Ar host Ns Op : Ns Ar port\n"
	"A name, an IPv4 address, or an IPv6 address in brackets; port 25 when none is said.\n"
	".It Fl -tls-implicit\n"
	"TLS comes up before the greeting (port 465, RFC 8314); checks about STARTTLS are not made.\n"
	".It Fl -helo Ar name\n"
	"Our name; the machine\\(cqs, when that is a domain name, else probe.invalid.\n"
	".It Fl -name Ar name\n"
	"The name that the certificate must have and that SNI asks for; host, when that is a name.\n"
	".It Fl -address Ar address\n"
	"Connect to this address instead of those of host; several times for the addresses of a farm.\n"
	".It Fl -tls-ca Ar file\n"
	"The roots that are trusted, PEM; those of the system when none is said.\n"
	".It Fl -recipient Ar addr\n"
	"An address of your own at the server, to which test messages may be sent.\n"
	".It Fl -from Ar addr\n"
	"Their sender; postmaster at the name of\n"
	".Fl -helo .\n"
	".It Fl -auth-file Ar file\n"
	"Credentials for AUTH PLAIN: one line, user:password; they are never shown.\n"
	".It Fl -intrusive\n"
	"Also make the checks that send test messages, or a password in clear.\n"
	".It Fl -check Ar number , ...\n"
	"Make these checks only.\n"
	".It Fl -pause Ar seconds\n"
	"Between two connections; 1.\n"
	".It Fl -timeout Ar seconds\n"
	"Of a connection, a reply and a handshake; 30.\n"
	".It Fl -window Ar milliseconds\n"
	"How long silence must last to be believed; four round trips and a second.\n"
	".It Fl -connections Ar number\n"
	"At most so many; 150.\n"
	"What is left then is not tested.\n"
	".It Fl v\n"
	"Show the evidence of every check, not only of those that failed.\n"
	".It Fl -json\n"
	"As described by docs/probe.schema.json, which has a version.\n"
	".It Fl -markdown\n"
	"For a ticket or a page.\n"
	".It Fl -html\n"
	"One page that loads nothing and runs nothing; the dialogs are folded.\n"
	".It Fl -prometheus\n"
	"As text for Prometheus: postrider_probe_check is 0 pass, 1 note, 2 fail, \\-1 not tested.\n"
	".It Fl -diff Ar old.json\n"
	"Compare with an older report of the same server made by\n"
	".Fl -json .\n"
	"The exit status then tells whether something got worse.\n"
	".El\n"
	".Sh CHECKS\n"
	"What each sends; N is the name of\n"
	".Fl -helo .\n"
	"Each connection but those that end in a broken handshake closes with QUIT.\n";

static const char man_tail[] = ".Sh ENVIRONMENT\n"
			       ".Bl -tag -width NO_COLOR\n"
			       ".It Ev COLUMNS\n"
			       "The width of the terminal, when the terminal does not tell.\n"
			       ".It Ev NO_COLOR\n"
			       "Not empty: no colour.\n"
			       ".El\n"
			       ".Sh EXIT STATUS\n"
			       "0 when no check failed, 1 when one did; with\n"
			       ".Fl -diff ,\n"
			       "1 when something is worse than before: a pass became a note or a fail, a note became a "
			       "fail, a verdict can not be given any more.\n"
			       "64 for wrong arguments, 65 for an older report that is none, 66 for a file that is "
			       "missing, 69 when the server is not reached, 74 when the report cannot be written.\n"
			       ".Sh EXAMPLES\n"
			       "See how a server of yours does, and keep what was found:\n"
			       ".Bd -literal -offset indent\n"
			       "postrider probe server mx.example.org\n"
			       "postrider probe server --json mx.example.org > mx.json\n"
			       ".Ed\n"
			       ".Pp\n"
			       "Once a day, speak up when something got worse:\n"
			       ".Bd -literal -offset indent\n"
			       "postrider probe server --diff mx.json mx.example.org || mail -s probe root\n"
			       ".Ed\n"
			       ".Sh SEE ALSO\n"
			       ".Xr postrider 8 ,\n"
			       ".Xr postrider-probe-client 8 ,\n"
			       ".Xr postrider-probe-domain 8\n"
			       ".Sh STANDARDS\n"
			       "RFC 3207 (STARTTLS), RFC 5321 (SMTP), RFC 8446 (TLS 1.3), RFC 9325 (use of TLS).\n";

void page_text(struct buf *to, const char *text)
{
	if (*text == '.' || *text == '\'')
		buf_add(to, VIEW("\\&"));
	for (; *text; text++)
		buf_add(to, *text == '\\' ? VIEW("\\e") : view_of(text, 1));
	buf_add(to, VIEW("\n"));
}

void page_list(struct buf *to, const struct probe_check *checks, unsigned count, const char *sends)
{
	const char *const *group = NULL;

	for (unsigned i = 0; i < count; i++) {
		const struct probe_check *c = &checks[i];

		if (c->group != group) {
			buf_addf(to, "%s.Ss %s\n.Bl -tag -width Ds\n", group ? ".El\n" : "", *c->group);
			group = c->group;
		}
		/* quoted: a word of it may be a macro's name */
		buf_addf(to, ".It %u \"%s\"\n(%s; severity %s)\n.br\n%s ", c->number, c->title, c->reference, probe_severity_word(c->severity), sends);
		page_text(to, c->sends);
	}
	buf_add(to, VIEW(".El\n"));
}

static void print_man(struct buf *to)
{
	buf_add(to, view_cstr(man_head));
	page_list(to, probe_checks, probe_check_count, "Sends");
	buf_add(to, view_cstr(man_tail));
}

/* Ends lines of text before MAN_COLUMNS, as gen/config_man.c does for its page. */
static void fold(char *page, size_t n)
{
	for (size_t at = 0; at < n;) {
		const size_t len = view_find(view_of(page + at, n - at), '\n');
		size_t cut = 0;

		for (size_t i = 1; page[at] != '.' && len > MAN_COLUMNS && i <= MAN_COLUMNS; i++)
			if (page[at + i] == ' ' && page[at + i + 1] != '.' && page[at + i + 1] != '\'')
				cut = i;
		if (cut)
			page[at + cut] = '\n';
		at += (cut ? cut : len) + 1;
	}
}

/* ---- write and check ---- */

static const struct page {
	const char *path;
	void (*print)(struct buf *);
} pages[] = {
	{ "docs/probe.md", print_md },
	{ "man/postrider-probe.8", print_man },
	{ "docs/probe-client.md", page_client_md },
	{ "man/postrider-probe-client.8", page_client_man },
	{ "docs/probe-domain.md", page_domain_md },
	{ "man/postrider-probe-domain.8", page_domain_man },
};

static bool is_there(const char *path, struct view text)
{
	FILE *f = fopen(path, "r");
	char *there = malloc(PAGE_MAX);
	bool same = f && there && view_eq(view_of(there, fread(there, 1, PAGE_MAX, f)), text);

	if (f)
		fclose(f);
	free(there);
	if (!same)
		fprintf(stderr, "%s is stale: run `ninja probe-pages` and commit what it writes\n", path);
	return same;
}

static bool write_page(const char *path, struct view text)
{
	FILE *f = fopen(path, "w");
	bool ok = f && fwrite(text.p, 1, text.n, f) == text.n;

	if (f && fclose(f) != 0)
		ok = false;
	if (!ok)
		perror(path);
	return ok;
}

int main(int argc, char **argv)
{
	bool ok = true;

	if (argc != 3 || (strcmp(argv[1], "write") != 0 && strcmp(argv[1], "check") != 0)) {
		fputs("usage: probe write|check SOURCE_ROOT\n", stderr);
		return 64;
	}
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
		char path[PATH_MAX];
		struct buf page;

		buf_init(&page, &alloc_libc, PAGE_MAX);
		snprintf(path, sizeof path, "%s/%s", argv[2], pages[i].path);
		pages[i].print(&page);
		if (view_ends_nocase(view_cstr(path), VIEW(".8")))
			fold((char *)page.mem + page.rd, buf_len(&page));
		ok = (argv[1][0] == 'w' ? write_page(path, buf_view(&page)) : is_there(path, buf_view(&page))) && ok;
		buf_free(&page);
	}
	return ok ? 0 : 1;
}
