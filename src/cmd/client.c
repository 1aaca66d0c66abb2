/* client.c - `postrider client`: sends the message on standard input to one server, by libpsmtp over net/ and tls/.
 *
 * The message is read whole before a connection is made, because what it needs of the server (8BITMIME, SMTPUTF8, SIZE)
 * is judged by its octets.  Line ends of any kind become CRLF; nothing else is changed, and no header is added.
 * Failure: see client_report.c and the manual page.
 */
#include "cmd/client.h"
#include "cmd/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define DEFAULT_TRUST "/etc/ssl/certs/ca-certificates.crt" /* as the setting `trust` */
#define MESSAGE_MAX   (1024ull * 1024 * 1024) /* it is held in memory, twice while line ends are made canonical */
#define FILE_MAX      (16u * 1024 * 1024)     /* a trust bundle or credentials; Debian's bundle has 0.2 MiB */
#define TIMEOUT_MAX   (7 * 86400u)            /* s; more is a slip of the finger */
#define READ_STEP     (64u * 1024)

/* ---- arguments ---- */

static int set_tls(struct client_arguments *a, const char *word)
{
	static const char *const words[] = { "none", "may", "encrypt", "verify" };

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(word, words[i]) == 0) {
			a->tls = (enum conf_tls)(CONF_TLS_NONE + i);
			return 0;
		}
	return cmd_usage("client", "--tls is none, may, encrypt or verify, not %s", word);
}

static int set_server(struct client_arguments *a, const char *text)
{
	struct view host;

	if (text[0] == '/') {
		host = view_cstr(text);
	} else if (!address_split(view_cstr(text), &host, &a->port) || host.n == 0) {
		return cmd_usage("client", "%s is no HOST:PORT", text);
	}
	if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = view_slice(host, 1, host.n - 1);
	if (host.n >= sizeof a->host || memchr(host.p, 0, host.n))
		return cmd_usage("client", "the name of the server is too long");
	memcpy(a->host, host.p, host.n);
	a->host[host.n] = 0;
	return 0;
}

static bool parse(const char *text, unsigned flags, struct psmtp_view *out)
{
	struct psmtp_address address;
	struct psmtp_view v = { text, strlen(text) };

	if (v.n > 1 && v.p[0] == '<' && v.p[v.n - 1] == '>')
		v = (struct psmtp_view){ v.p + 1, v.n - 2 };
	*out = v;
	if (v.n == 0)
		return flags & PSMTP_ADDRESS_NULL;
	return psmtp_address_parse(v, flags | PSMTP_ADDRESS_BARE | PSMTP_ADDRESS_UTF8, &address) == 0 &&
	       address.text.n == v.n;
}

static int add_rcpt(struct client_arguments *a, const char *text)
{
	struct psmtp_client_rcpt *r = &a->rcpts[a->rcpt_count];

	if (!parse(text, PSMTP_ADDRESS_POSTMASTER, &r->address))
		return cmd_usage("client", "%s is no address", text);
	a->rcpt_count++;
	return 0;
}

static int set_timeout(struct client_arguments *a, const char *text)
{
	uint64_t s;

	if (!view_to_u64(view_cstr(text), &s) || s == 0 || s > TIMEOUT_MAX)
		return cmd_usage("client", "--timeout is 1 to %u seconds, not %s", TIMEOUT_MAX, text);
	a->timeout_ms = s * 1000;
	return 0;
}

static int set_helo(struct client_arguments *a, const char *text)
{
	struct psmtp_view name = { text, strlen(text) };
	struct address literal;

	if (!psmtp_domain_valid(name, true) && !(text[0] == '[' && address_parse_host(view_cstr(text), 0, &literal)))
		return cmd_usage("client", "--helo is a domain name or an address literal, not %s", text);
	a->helo = text;
	return 0;
}

/* An option with a value; EX_OK - 1 when it is none of them. */
static int take_value(struct client_arguments *a, const char *option, const char *value, bool *from)
{
	if (strcmp(option, "--from") == 0) {
		if (*from || !parse(value, PSMTP_ADDRESS_NULL, &a->sender))
			return cmd_usage("client", *from ? "more than one --from: %s" : "%s is no address", value);
		*from = true;
		return 0;
	}
	if (strcmp(option, "--to") == 0)
		return add_rcpt(a, value);
	if (strcmp(option, "--server") == 0)
		return set_server(a, value);
	if (strcmp(option, "--tls") == 0)
		return set_tls(a, value);
	if (strcmp(option, "--helo") == 0)
		return set_helo(a, value);
	if (strcmp(option, "--timeout") == 0)
		return set_timeout(a, value);
	if (strcmp(option, "--tls-ca") == 0)
		a->ca_file = value;
	else if (strcmp(option, "--auth-file") == 0)
		a->auth_file = value;
	else
		return cmd_usage("client", "what is %s?", option);
	return 0;
}

static bool take_flag(struct client_arguments *a, const char *option)
{
	if (strcmp(option, "-v") == 0)
		a->verbose = true;
	else if (strcmp(option, "--lmtp") == 0)
		a->lmtp = true;
	else if (strcmp(option, "--tls-implicit") == 0)
		a->implicit = true;
	else if (strcmp(option, "--json") == 0)
		a->json = true;
	else
		return false;
	return true;
}

static int check_arguments(struct client_arguments *a, bool from)
{
	if (!from || !a->rcpt_count || !a->host[0])
		return cmd_usage("client", "%s is missing", !from ? "--from" : !a->rcpt_count ? "--to" : "--server");
	if (a->implicit && a->tls == CONF_TLS_NONE)
		return cmd_usage("client", "--tls-implicit and --tls none contradict each other");
	if (a->auth_file && a->tls != CONF_TLS_ENCRYPT && a->tls != CONF_TLS_VERIFY)
		return cmd_usage("client",
				 "--auth-file wants --tls encrypt or verify: a password is not sent in clear");
	if (!a->port && a->host[0] != '/')
		a->port = a->implicit ? 465 : 25;
	return 0;
}

static int read_arguments(struct client_arguments *a, int argc, char **argv)
{
	bool from = false;
	int status = 0;

	for (int i = 1; i < argc && status == 0; i++) {
		if (take_flag(a, argv[i]))
			continue;
		if (i + 1 == argc)
			return cmd_usage("client",
					 argv[i][0] == '-' ? "%s: what is it, or where is its value?" : "what is %s?",
					 argv[i]);
		status = take_value(a, argv[i], argv[i + 1], &from);
		i++;
	}
	return status ? status : check_arguments(a, from);
}

/* ---- files ---- */

/* 0, or an exit status after words. */
static int read_all(int fd, const char *name, struct buf *to)
{
	ssize_t n;

	for (;;) {
		if (!buf_reserve(to, READ_STEP)) {
			fprintf(stderr, "postrider client: %s: larger than %zu octets, or out of memory\n", name,
				to->max);
			return EX_DATAERR;
		}
		n = read(fd, buf_tail(to), buf_room(to));
		if (n == 0)
			return 0;
		if (n == -1 && errno != EINTR) {
			fprintf(stderr, "postrider client: %s: %s\n", name, strerror(errno));
			return EX_IOERR;
		}
		if (n > 0)
			buf_commit(to, (size_t)n);
	}
}

static int read_file(const char *path, struct buf *to)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), status;

	if (fd == -1) {
		fprintf(stderr, "postrider client: %s: %s\n", path, strerror(errno));
		return EX_NOINPUT;
	}
	status = read_all(fd, path, to);
	close(fd);
	return status;
}

/* Lines as RFC 5321 2.3.8 wants them: a bare CR, a bare LF and CRLF are line ends alike, and the last line has one. */
static bool make_canonical(struct view in, struct buf *out)
{
	bool ok = true;

	while (in.n && ok) {
		size_t cr = view_find(in, '\r'), end = view_find(view_slice(in, 0, cr), '\n');

		ok = buf_add(out, view_slice(in, 0, end)) && buf_add(out, VIEW("\r\n"));
		if (end == cr && end + 1 < in.n && in.p[end + 1] == '\n')
			end++;
		in = view_slice(in, end + 1, in.n);
	}
	return ok;
}

static int read_message(struct buf *content)
{
	struct buf raw;
	int status;

	buf_init(&raw, &alloc_libc, MESSAGE_MAX);
	status = read_all(STDIN_FILENO, "standard input", &raw);
	if (status == 0 && !make_canonical(buf_view(&raw), content)) {
		fprintf(stderr, "postrider client: out of memory\n");
		status = EX_OSERR;
	}
	buf_free(&raw);
	return status;
}

/* ---- the whole ---- */

static int make_tls(const struct client_arguments *a, struct client_run *r)
{
	bool verify = a->tls == CONF_TLS_VERIFY;
	struct error e = { 0 };
	struct buf trust;
	int status = 0;

	if (a->tls == CONF_TLS_NONE)
		return 0;
	buf_init(&trust, &alloc_libc, FILE_MAX);
	if (verify || a->ca_file)
		status = read_file(a->ca_file ? a->ca_file : DEFAULT_TRUST, &trust);
	if (status == 0) {
		if (verify && buf_len(&trust) == 0)
			error_set(&e, ERROR_INPUT, "there is nobody to trust");
		else
			r->tls_context = tls_client_new(buf_view(&trust), &e);
		if (!r->tls_context) {
			fprintf(stderr, "postrider client: %s: %s\n", a->ca_file ? a->ca_file : DEFAULT_TRUST, e.text);
			status = EX_DATAERR;
		}
	}
	buf_free(&trust);
	return status;
}

static void describe(const struct client_arguments *a, struct client_run *r)
{
	struct psmtp_scan scan = { 0 };

	psmtp_scan_bytes(&scan, r->content.p, r->content.n);
	r->message = (struct psmtp_client_message){
		.sender = a->sender,
		.rcpts = a->rcpts,
		.rcpt_count = a->rcpt_count,
		.size = r->content.n,
		.has_8bit = scan.has_8bit,
		.has_utf8 = scan.header_8bit,
		.ret = PSMTP_RET_UNSAID,
	};
}

static int send_message(const struct client_arguments *a, struct client_run *r)
{
	struct buf content, secret;
	int status;

	buf_init(&content, &alloc_libc, 2 * MESSAGE_MAX + READ_STEP);
	buf_init(&secret, &alloc_libc, FILE_MAX);
	status = make_tls(a, r);
	if (status == 0 && a->auth_file)
		status = read_file(a->auth_file, &secret);
	if (status == 0)
		status = read_message(&content);
	if (status == 0) {
		r->content = buf_view(&content);
		if (a->auth_file)
			r->credentials = buf_view(&secret);
		describe(a, r);
		client_session(r);
		status = client_report(r);
	}
	tls_context_free(r->tls_context);
	buf_free(&secret);
	buf_free(&content);
	return status;
}

int cmd_client(int argc, char **argv)
{
	struct client_arguments a = { .tls = CONF_TLS_MAY };
	struct client_run r = { .a = &a };
	int status;

	signal(SIGPIPE, SIG_IGN);
	a.rcpts = calloc((size_t)argc, sizeof *a.rcpts);
	r.results = calloc((size_t)argc, sizeof *r.results);
	if (!a.rcpts || !r.results) {
		fprintf(stderr, "postrider client: out of memory\n");
		status = EX_OSERR;
	} else {
		status = read_arguments(&a, argc, argv);
		if (status == 0)
			status = send_message(&a, &r);
	}
	free(a.rcpts);
	free(r.results);
	return status;
}
