/* transport.c - prints docs/transport-security.md from the table of tests/unit/route/tls.def, which the test `route tls` plays.
 *
 * transport md           to standard output
 * transport check FILE   0 when the file is what would be printed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct row {
	const char *what, *rfc, *mx, *address, *first, *second, *sts, *local, *message;
	const char *verdict, *level, *check, *sni, *names, *policy, *event, *result, *words;
} rows[] = {
#define TLS_CASE(...) { __VA_ARGS__ },
#include "tests/unit/route/tls.def"
};

static const char intro[] =
	"# Transport security: what is owed, by situation\n"
	"\n"
	"Printed by `ninja docs-transport` from `tests/unit/route/tls.def`; the test `route tls` plays each row through the one function that decides\n"
	"(`src/route/tls.c`), and tries its laws over every combination of the words below. `test_owed` plays each row in the whole daemon: over a\n"
	"signed DNS tree, with policies over HTTPS, against servers that do to TLS what the row says; it checks outcome, log line and what TLS-RPT\n"
	"counted, and, with attacks on STARTTLS beside, every octet that `send` wrote: none of a MAIL in clear where more than `may` was owed.\n"
	"\n"
	"Columns\n"
	"\n"
	"- MX: `secure`, `insecure` (by our own validation); `none`, `none?`: proven or not that there is none; `failed`, `bogus`; `hop`: the host\n"
	"  is named by the configuration; `+alias`: the domain is an alias; `!`: DANE is off, or this resolver cannot validate.\n"
	"- address: `alias`: a secure CNAME to real.test; `half`: a secure CNAME into an unsigned zone; `alias?`: an insecure one; `literal`.\n"
	"- TLSA: at the name behind the CNAME / at mx.test; `-`: never asked for; `ee`, `ta`: usable; `pkix`, `short`, `empty`, `digest`,\n"
	"  `strange`: unusable.\n"
	"- MTA-STS: the policy's mode; `!`: the host is not in it. Local: the setting `tls`. Message: REQUIRETLS, `TLS-Required: No`, both.\n"
	"- Verdict: `send`, `defer` (not now), `skip` (the next host; with 30 or 10 the mail fails with 5.7.30 or 5.7.10 when no other host will do).\n"
	"- RFC: where the words are that the row obeys; `ours`: what the RFCs leave to us, or where we differ: MTA-STS binds mail for a domain, and a\n"
	"  next hop that the configuration names is a host and no domain with MX records, so that no policy is looked for there (RFC 8461 3.4 speaks\n"
	"  of the domain of a smart host); its level is the setting `tls`.\n"
	"- Session: how its TLS went, and what TLS-RPT counts then; `-`: there is no session, the result is of the verdict.\n"
	"\n"
	"| situation | RFC | MX | address | TLSA | MTA-STS | local | message "
	"| verdict | level owed | certificate | names | session | TLS-RPT | reason, in the log |\n"
	"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

static void print(FILE *to)
{
	fputs(intro, to);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *r = &rows[i];
		fprintf(to, "| %s | %s | %s | %s | %s / %s | %s | %s | %s | %s | %s | %s | %s | %s | %s: %s | ... %s ... |\n", r->what, r->rfc, r->mx,
		        r->address, r->first, r->second, r->sts, r->local, r->message, r->verdict, r->level, r->check,
		        *r->names ? r->names : "-", r->event, r->policy, r->result, r->words);
	}
}

static int check(const char *path)
{
	char *want = NULL, *have;
	size_t n = 0, got;
	FILE *memory = open_memstream(&want, &n), *f = fopen(path, "r");
	int status = 1;

	if (!memory || !f)
		return 1;
	print(memory);
	fclose(memory);
	have = malloc(n + 2);
	got = have ? fread(have, 1, n + 2, f) : 0;
	if (have && got == n && memcmp(have, want, n) == 0)
		status = 0;
	else
		fprintf(stderr, "%s is stale: ninja docs-transport\n", path);
	fclose(f);
	free(have);
	free(want);
	return status;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "check") == 0)
		return check(argv[2]);
	print(stdout);
	return 0;
}
