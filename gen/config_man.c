/* config_man.c - the manual page postrider.conf(5) in mdoc: prose that stays, settings from the table; see config.h. */
#include "config.h"

#define MAN_COLUMNS 78 /* mandoc -T lint complains from 81 on */

static const char head[] =
	".\\\" Printed by gen/config from spec/config.def: change it there, then run `ninja config-pages`.\n"
	".Dd November 24, 2026\n"
	".Dt POSTRIDER.CONF 5\n"
	".Os\n"
	".Sh NAME\n"
	".Nm postrider.conf\n"
	".Nd configuration of the mail transfer agent Postrider\n"
	".Sh DESCRIPTION\n"
	"The file is read by\n"
	".Xr postrider 8\n"
	"when it starts and at each SIGHUP.\n"
	"Only three settings are required:\n"
	".Ic hostname , spool\n"
	"and\n"
	".Ic control .\n"
	"All others have defaults.\n"
	".Pp\n"
	"A setting is a line\n"
	".Ql name = value .\n"
	"A section is a word, for most sections a title, and settings in braces.\n"
	"Comments go from\n"
	".Ql #\n"
	"to the end of the line.\n"
	"Line breaks and indentation mean nothing, but a string ends on the line where it begins.\n"
	"The file is UTF-8.\n"
	".Pp\n"
	"A setting or section that is not known, that is given twice, or whose value is wrong makes the whole file refused,\n"
	"with the file, the line, and what would be right.\n"
	"Nothing is taken from the environment, and no other file is included.\n"
	".Ss Values\n"
	".Bl -tag -width Ds\n"
	".It string, path\n"
	"In double or single quotes; without quotes when it consists of letters, digits and\n"
	".Ql _ - \\&. \\&: % .\n"
	"In double quotes a backslash may stand before a double quote or a backslash only.\n"
	"A path that does not begin with a slash begins at the folder of the file.\n"
	".It list\n"
	"Values in braces with commas between them; a single value needs no braces.\n"
	".It size\n"
	"Octets, or a number with K, M, G or T (of 1024).\n"
	".It duration\n"
	"A number with its unit ms, s, m, h or d.\n"
	".It delivery\n"
	"One of\n"
	".Bl -tag -width Ds -compact\n"
	".It Cm discard\n"
	"Accepted like all mail, then thrown away, which is logged.\n"
	".It Cm maildir:\\& Ns Ar /path/%{user}\n"
	"A Maildir on this machine;\n"
	".Ql %{user}\n"
	"is the local part of the recipient.\n"
	".It Cm mx\n"
	"The servers that the DNS names for the recipient's domain.\n"
	".It Cm smtp:// Ns Ar host Ns Op Ar :port\n"
	"This server, port 25 when none is said; its MX records are not asked for.\n"
	"An IPv6 address stands in brackets.\n"
	".It Cm lmtp:// Ns Ar host:port\n"
	"This LMTP server.\n"
	".It Cm lmtp:\\& Ns Ar /path\n"
	"The LMTP server behind this Unix socket.\n"
	".El\n"
	".It TLS level\n"
	"What is owed to a next hop, decided before it is connected to:\n"
	".Bl -tag -width Ds -compact\n"
	".It Cm none\n"
	"Clear text.\n"
	".It Cm may\n"
	"TLS when the server offers it; clear text when it does not, or when TLS fails.\n"
	".It Cm encrypt\n"
	"TLS, or the mail waits; any certificate will do.\n"
	".It Cm verify\n"
	"TLS with a certificate that\n"
	".Ic trust\n"
	"vouches for and that names the server, or the mail waits.\n"
	".El\n"
	".El\n"
	".Sh SETTINGS\n";

static const char tail[] =
	".Sh OPEN RELAYS\n"
	"Mail from anybody to anywhere is never relayed: mail for a domain without a section is taken from the networks of\n"
	".Ic relay\n"
	"only.\n"
	"Networks with a prefix shorter than /8 (IPv6: /16) and networks with address bits behind their prefix are refused;\n"
	"public networks are warned of.\n"
	".Sh FILES\n"
	".Bl -tag -width Ds\n"
	".It Pa /etc/postrider/postrider.conf\n"
	"The usual place.\n"
	".It Pa /usr/share/doc/postrider/postrider.conf.sample\n"
	"Every setting with its explanation.\n"
	".El\n"
	".Sh EXAMPLES\n"
	"A whole working configuration: mail for one domain is thrown away, for another it goes into Maildirs, for a third it is\n"
	"sent on to a server; this machine may send anywhere.\n"
	".Bd -literal -offset indent\n"
	"hostname = \"mx.sink.test\"\n"
	"spool    = \"/var/tmp/postrider/spool\"\n"
	"control  = \"/var/tmp/postrider/control.sock\"\n"
	"certificate \"default\" { chain = \"cert.pem\"  key = \"key.pem\" }\n"
	"listener \"mx\"         { address = {\"127.0.0.1:2620\"}  tls = starttls }\n"
	"domain \"sink.test\"    { deliver = \"discard\" }\n"
	"domain \"local.test\"   { deliver = \"maildir:/var/tmp/postrider/mail/%{user}\" }\n"
	"domain \"relay.test\"   { deliver = \"smtp://127.0.0.1:2650\"  tls = may }\n"
	"relay                 { from = {\"127.0.0.0/8\"} }\n"
	".Ed\n"
	".Pp\n"
	"All other mail through a smart host that wants a password:\n"
	".Bd -literal -offset indent\n"
	"route { deliver = \"smtp://smart.example.org:587\"  tls = verify  auth = \"smart.secret\" }\n"
	".Ed\n"
	".Sh DIAGNOSTICS\n"
	"A refused file is told of like this:\n"
	".Bd -literal -offset indent\n"
	"/etc/postrider/postrider.conf:7: there is no setting recipient in a section\n"
	"listener; did you mean recipients?\n"
	".Ed\n"
	".Pp\n"
	".Ql postrider config check\n"
	"also warns of what works but is probably not meant.\n"
	".Sh SEE ALSO\n"
	".Xr postrider 8\n"
	".Sh STANDARDS\n"
	"RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 2033 (LMTP), RFC 5890 (internationalised domain names).\n";

/* Text that roff takes as text: a backslash is spelt, a line's first dot or quote is hidden, `...` becomes quotes. */
static bool text(struct buf *to, const char *words)
{
	bool ok = words[0] != '.' && words[0] != '\'' ? true : buf_add(to, VIEW("\\&"));
	bool open = false;
	for (const char *p = words; *p; p++) {
		const char *spelt = *p == '\\' ? "\\e" : *p != '`' ? NULL : open ? "\\(cq" : "\\(oq";
		open ^= *p == '`';
		ok = ok && buf_add(to, spelt ? view_cstr(spelt) : view_of(p, 1));
	}
	return ok;
}

static bool setting(struct buf *to, const struct conf_row *row)
{
	char facts[CONFIG_FACTS_SIZE];
	return buf_addf(to, ".It Ic %s\n", row->name) && text(to, row->help) && buf_add(to, VIEW(".\n.br\n")) &&
	       buf_add(to, VIEW("(")) && text(to, config_facts(row, facts)) && buf_add(to, VIEW(")\n"));
}

static bool section(struct buf *to, enum conf_tag tag)
{
	const struct conf_kind *kind = &conf_kinds[tag];
	bool ok = true;
	if (kind->word[0])
		ok = buf_addf(to, ".Ss %s %s{ ... }\n", kind->word, kind->titled ? "\\(dqtitle\\(dq " : "") && text(to, kind->help) &&
		     buf_addf(to, ".\nThere may be %s.\n", kind->many ? "any number, each with its own title" : "one");
	else
		ok = buf_add(to, VIEW(".Ss Outside sections\n"));
	ok = ok && buf_add(to, VIEW(".Bl -tag -width Ds\n"));
	for (unsigned i = kind->first; i < conf_kinds[tag + 1].first; i++)
		ok = ok && setting(to, &conf_rows[i]);
	return ok && buf_add(to, VIEW(".El\n"));
}

/* Ends lines of text before MAN_COLUMNS where a blank allows it, as mdoc(7) asks; macros and literal blocks stay.
 * Only blanks become ends of lines, and never before what roff would take for a request. */
static void fold(char *page, size_t n)
{
	bool literal = false;
	for (size_t at = 0; at < n;) {
		const size_t len = view_find(view_of(page + at, n - at), '\n');
		const struct view line = view_of(page + at, len);
		if (view_starts_nocase(line, VIEW(".Bd -literal")))
			literal = true;
		else if (view_starts_nocase(line, VIEW(".Ed")))
			literal = false;
		size_t cut = 0;
		if (!literal && len > MAN_COLUMNS && page[at] != '.')
			for (size_t i = 1; i <= MAN_COLUMNS; i++)
				if (page[at + i] == ' ' && page[at + i + 1] != '.' && page[at + i + 1] != '\'')
					cut = i;
		if (cut)
			page[at + cut] = '\n';
		at += (cut ? cut : len) + 1;
	}
}

bool config_print_man(struct buf *to)
{
	bool ok = buf_add(to, view_cstr(head));
	for (enum conf_tag tag = CONF_TAG_GLOBAL; tag < CONF_TAG_END; tag++)
		ok = ok && section(to, tag);
	ok = ok && buf_add(to, view_cstr(tail));
	if (ok)
		fold((char *)to->mem + to->rd, buf_len(to));
	return ok;
}
