/* probe_kinds.c - the pages of `postrider probe client` and `postrider probe domain`, from spec/probe_client.def and
 * spec/probe_domain.def.
 */
#include "gen/probe.h"

#include "probe/client.h"
#include "probe/domain.h"

/* ---- probe client ---- */

static const char client_md[] =
	"# What `postrider probe client` plays\n\n"
	"Printed by `gen/probe` from `spec/probe_client.def`; do not edit. How the command is used: `postrider-probe-client(8)`. The form of "
	"`--json`:\n[probe.schema.json](probe.schema.json).\n\n"
	"Each case is a scripted server that the sending program meets with every connection of the case. A sound one offers STARTTLS in clear "
	"and, inside\nTLS, PIPELINING, 8BITMIME, SMTPUTF8, DSN, CHUNKING, SIZE and AUTH, and takes every message; the last column says where the "
	"case differs from\nit. Each gives **pass**, **fail**, **note** (no rule is broken, or it depends on what the client was told: `--expect`) or **not "
	"tested** (and why), with the\ndialog as evidence. Traces in verdicts have one letter a command: E EHLO, H HELO, S STARTTLS, M MAIL, R "
	"RCPT, D DATA, B BDAT, `.` the end of a\nmessage, A AUTH, T RSET, N NOOP, Q QUIT, `?` anything else; `[` TLS came up, `!` the handshake "
	"failed, `%` what follows is in clear where TLS was\nbegun, h a ClientHello that nobody asked for, x the client closed, X the probe closed.\n";

static void client_needs(struct buf *to, unsigned needs)
{
	if (needs & CLIENT_NEEDS_REQUIRE)
		buf_add(to, VIEW("`--requiretls`"));
}

void page_client_md(struct buf *to)
{
	buf_add(to, view_cstr(client_md));
	page_table(to, client_cases, client_case_count, "what is expected", "what is played", client_needs);
}

static const char client_man_head[] =
	".\\\" Printed by gen/probe from spec/probe_client.def; do not edit.\n"
	".Dd November 27, 2026\n"
	".Dt POSTRIDER-PROBE-CLIENT 8\n"
	".Os\n"
	".Sh NAME\n"
	".Nm postrider-probe-client\n"
	".Nd see how a sending program treats STARTTLS\n"
	".Sh SYNOPSIS\n"
	".Nm postrider probe client\n"
	".Op Fl -listen Ar address Ns Op : Ns Ar port\n"
	".Op Fl -expect Cm may | encrypt | verify\n"
	".Op Fl -requiretls\n"
	".Op Fl -cases Ar number Ns Op , Ns Ar number ...\n"
	".Op Fl -name Ar name\n"
	".Op Fl -tls-cert Ar file Fl -tls-key Ar file\n"
	".Op Fl -ca-out Ar file\n"
	".Op Fl -timeout Ar seconds\n"
	".Op Fl -settle Ar milliseconds\n"
	".Op Fl -window Ar milliseconds\n"
	".Op Fl v\n"
	".Op Fl -json | Fl -markdown | Fl -html | Fl -prometheus\n"
	".Op Fl -diff Ar old.json\n"
	".Op Fl -run Ar command ...\n"
	".Sh DESCRIPTION\n"
	".Nm postrider probe client\n"
	"plays a fixed, numbered list of scripted mail servers, one after the other, and grades any program that sends mail to them: "
	"pass, fail, note or not tested, with the lines of the dialog as evidence.\n"
	"No daemon and no configuration are needed.\n"
	".Pp\n"
	"Without\n"
	".Fl -run\n"
	"it says on standard error where it listens and which case is next, and waits for the program to be made to send a message there.\n"
	"Every connection of a case meets the same server, so a second attempt in clear is seen too; the case is over when the program has "
	"been away for the time of\n"
	".Fl -settle .\n"
	"Messages that come are thrown away.\n"
	"A program with a queue should be given a new message for each case, and one that keeps addresses that failed apart for a while needs "
	"to be told not to.\n"
	".Pp\n"
	"What a program owes depends on how it was set up, which only its operator knows: say it by\n"
	".Fl -expect .\n"
	".Bl -tag -width Ds\n"
	".It Fl -listen Ar address Ns Op : Ns Ar port\n"
	"Where; 127.0.0.1, and any free port when none is said.\n"
	".It Fl -expect Cm may\n"
	"TLS where it can be had; what goes in clear, or to a server that cannot prove itself, is a note.\n"
	"This is the default.\n"
	".It Fl -expect Cm encrypt\n"
	"Nothing may go in clear.\n"
	".It Fl -expect Cm verify\n"
	"And nothing to a server whose certificate is not right.\n"
	"The program has to trust the certificate of the other cases: see\n"
	".Fl -ca-out\n"
	"and\n"
	".Fl -tls-cert .\n"
	".It Fl -requiretls\n"
	"The messages that are sent ask for REQUIRETLS (RFC 8689).\n"
	".It Fl -cases Ar number , ...\n"
	"Play these only.\n"
	".It Fl -name Ar name\n"
	"The name in the certificates that are made; localhost.\n"
	"The address of\n"
	".Fl -listen\n"
	"is in them too.\n"
	".It Fl -tls-cert Ar file , Fl -tls-key Ar file\n"
	"A certificate with its chain, and its key (PEM, without a password), instead of one made for the occasion.\n"
	"Cases about certificates still show made ones.\n"
	".It Fl -ca-out Ar file\n"
	"Write the certificate of the authority that was made for the occasion, for the program to trust.\n"
	"Its key is never written, and is gone at the end.\n"
	".It Fl -timeout Ar seconds\n"
	"How long to wait for the first connection of a case, and for each command; 60.\n"
	".It Fl -settle Ar milliseconds\n"
	"How long a program must have been away before its case is over; 2,000.\n"
	".It Fl -window Ar milliseconds\n"
	"How long the server keeps silent where a case looks for impatience; 1,000.\n"
	".It Fl v\n"
	"Show the evidence of every case, and what the command of\n"
	".Fl -run\n"
	"prints.\n"
	".It Fl -run Ar command ...\n"
	"Start this command for each case; all that follows is its words.\n"
	"In them {port}, {address} and {case} are filled in; no shell sees them, unless the command is one.\n"
	"It is ended when its case is.\n"
	".It Fl -json , Fl -markdown , Fl -html , Fl -prometheus , Fl -diff Ar old.json\n"
	"As in\n"
	".Xr postrider-probe 8 .\n"
	".El\n"
	".Sh CASES\n"
	"Where the server that is played differs from a sound one.\n";

static const char client_man_tail[] =
	".Sh EXIT STATUS\n"
	"0 when no case failed, 1 when one did; with\n"
	".Fl -diff ,\n"
	"1 when something is worse than before.\n"
	"64 for wrong arguments, 65 for a certificate, a key or an older report that is none, 66 for a file that is missing, 69 when the address "
	"cannot be used or nobody came, 74 when the report cannot be written.\n"
	".Sh EXAMPLES\n"
	"A program that sends one message and ends:\n"
	".Bd -literal -offset indent\n"
	"postrider probe client --expect encrypt --run curl -s --ssl-reqd -k \\e\n"
	"    --mail-from a@example.org --mail-rcpt b@example.org \\e\n"
	"    --upload-file message smtp://{address}:{port}\n"
	".Ed\n"
	".Pp\n"
	"A mail server that relays to port 2525 of this machine, by hand:\n"
	".Bd -literal -offset indent\n"
	"postrider probe client --listen 127.0.0.1:2525 --html > report.html\n"
	".Ed\n"
	".Sh SEE ALSO\n"
	".Xr postrider 8 ,\n"
	".Xr postrider-probe 8 ,\n"
	".Xr postrider-probe-domain 8\n"
	".Sh STANDARDS\n"
	"RFC 3207 (STARTTLS), RFC 5321 (SMTP), RFC 8689 (REQUIRETLS), RFC 8446 (TLS 1.3).\n";

void page_client_man(struct buf *to)
{
	buf_add(to, view_cstr(client_man_head));
	page_list(to, client_cases, client_case_count, "Plays");
	buf_add(to, view_cstr(client_man_tail));
}

/* ---- probe domain ---- */

static const char domain_md[] =
	"# What `postrider probe domain` looks at\n\n"
	"Printed by `gen/probe` from `spec/probe_domain.def`; do not edit. How the command is used: `postrider-probe-domain(8)`. The form of "
	"`--json`:\n[probe.schema.json](probe.schema.json). What is owed to which host, and why: [transport-security.md](transport-security.md).\n\n"
	"Each check gives **pass**, **fail**, **note** (worth knowing, no rule is broken) or **not tested** (and why). D is the domain, H each of "
	"its mail\nhosts, P the port (25), N the name of `--helo`.\n";

static void domain_needs(struct buf *to, unsigned needs)
{
	buf_add(to, needs & DOMAIN_NEEDS_CONNECT ? VIEW("mail hosts, connections") : needs & DOMAIN_NEEDS_HOSTS ? VIEW("mail hosts") : VIEW(""));
}

void page_domain_md(struct buf *to)
{
	buf_add(to, view_cstr(domain_md));
	page_table(to, domain_checks, domain_check_count, "check", "asks", domain_needs);
}

static const char domain_man_head[] =
	".\\\" Printed by gen/probe from spec/probe_domain.def; do not edit.\n"
	".Dd November 27, 2026\n"
	".Dt POSTRIDER-PROBE-DOMAIN 8\n"
	".Os\n"
	".Sh NAME\n"
	".Nm postrider-probe-domain\n"
	".Nd see a domain as a mail server that sends to it does\n"
	".Sh SYNOPSIS\n"
	".Nm postrider probe domain\n"
	".Op Fl c Ar file\n"
	".Op Fl -resolver Ar address Ns Op : Ns Ar port ...\n"
	".Op Fl -trust-anchor Ar file\n"
	".Op Fl -tls-ca Ar file\n"
	".Op Fl -helo Ar name\n"
	".Op Fl -require\n"
	".Op Fl -no-connect\n"
	".Op Fl -port Ar number\n"
	".Op Fl -mta-sts-port Ar number\n"
	".Op Fl -check Ar number Ns Op , Ns Ar number ...\n"
	".Op Fl -pause Ar seconds\n"
	".Op Fl -timeout Ar seconds\n"
	".Op Fl -connections Ar number\n"
	".Op Fl v\n"
	".Op Fl -json | Fl -markdown | Fl -html | Fl -prometheus\n"
	".Op Fl -diff Ar old.json\n"
	".Ar domain\n"
	".Sh DESCRIPTION\n"
	".Nm postrider probe domain\n"
	"looks up mail hosts, DNSSEC, TLSA records, the MTA-STS policy and the TLS-RPT record of a domain, connects to every address of its mail "
	"hosts, and joins all that into what our own sender would do with mail for it: to which host it would deliver, by which level of TLS, and "
	"what it would defer and why.\n"
	"That decision is made by the functions that delivery uses, as in\n"
	".Nm postrider route explain ;\n"
	"no daemon is asked, and a policy that one has kept from before is not known here.\n"
	".Pp\n"
	"Manners: one connection at a time with a pause between two of them, at most two to each address, a name of one\\(cqs own in EHLO; no "
	"mail is sent.\n"
	".Bl -tag -width Ds\n"
	".It Fl c Ar file\n"
	"Go by this configuration: its DNS servers, trust anchor and bundle, its host name, and what it says of the domain.\n"
	"Without it the settings are as when nobody sets them.\n"
	".It Fl -resolver Ar address Ns Op : Ns Ar port\n"
	"A DNS server to ask, instead of those of the configuration or of /etc/resolv.conf; several times for several.\n"
	"The form address@port is taken too.\n"
	".It Fl -trust-anchor Ar file\n"
	"DS or DNSKEY records with which validation begins; /usr/share/dns/root.key.\n"
	".It Fl -tls-ca Ar file\n"
	"The roots that are trusted, PEM; those of the system.\n"
	".It Fl -helo Ar name\n"
	"Our name, in EHLO and to know ourselves among the mail hosts; the machine\\(cqs, when that is a domain name, else probe.invalid.\n"
	".It Fl -require\n"
	"Decide for mail that asks for REQUIRETLS (RFC 8689).\n"
	".It Fl -no-connect\n"
	"Ask DNS and web only.\n"
	".It Fl -port Ar number , Fl -mta-sts-port Ar number\n"
	"Others than 25 and 443, for tests; TLSA records are looked up for that port.\n"
	".It Fl -check Ar number , ...\n"
	"Judge these only.\n"
	".It Fl -pause Ar seconds\n"
	"Between two connections; 1.\n"
	".It Fl -timeout Ar seconds\n"
	"Of a connection, a reply and a handshake; 30.\n"
	".It Fl -connections Ar number\n"
	"At most so many; 100.\n"
	".It Fl v\n"
	"Show the evidence of every check.\n"
	".It Fl -json , Fl -markdown , Fl -html , Fl -prometheus , Fl -diff Ar old.json\n"
	"As in\n"
	".Xr postrider-probe 8 .\n"
	".El\n"
	".Sh CHECKS\n"
	"What each asks of the DNS, the web and the mail hosts; D is the domain, H each of its mail hosts, P the port, N the name of\n"
	".Fl -helo .\n";

static const char domain_man_tail[] =
	".Sh EXIT STATUS\n"
	"0 when no check failed, 1 when one did; with\n"
	".Fl -diff ,\n"
	"1 when something is worse than before.\n"
	"64 for wrong arguments, 65 for a destination or an older report that is none, 66 for a file that is missing, 69 when nothing could be asked, "
	"74 when the report cannot be written, 78 for a configuration that is wrong.\n"
	".Sh EXAMPLES\n"
	".Bd -literal -offset indent\n"
	"postrider probe domain example.org\n"
	"postrider probe domain -c /etc/postrider/postrider.conf --json example.org > example.json\n"
	"postrider probe domain --diff example.json example.org || mail -s probe root\n"
	".Ed\n"
	".Sh SEE ALSO\n"
	".Xr postrider.conf 5 ,\n"
	".Xr postrider 8 ,\n"
	".Xr postrider-probe 8 ,\n"
	".Xr postrider-probe-client 8\n"
	".Sh STANDARDS\n"
	"RFC 7672 (DANE for SMTP), RFC 8461 (MTA-STS), RFC 8460 (TLS-RPT), RFC 8689 (REQUIRETLS).\n";

void page_domain_man(struct buf *to)
{
	buf_add(to, view_cstr(domain_man_head));
	page_list(to, domain_checks, domain_check_count, "Asks");
	buf_add(to, view_cstr(domain_man_tail));
}
