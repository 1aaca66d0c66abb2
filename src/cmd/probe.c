/* probe.c - `postrider probe`: reads the arguments, lets the room probe/ work, prints the report.
 *
 * No configuration is read and no daemon is needed.  The exit status tells a monitor what it wants to know: 0, or 1
 * when a check failed (with --diff: when something is worse than in the older report); those of sysexits.h when nothing
 * was judged.
 */
#include "cmd/probe.h"

#include "base/buf.h"
#include "base/env.h"
#include "cmd/cmd.h"
#include "net/address.h"
#include "probe/server.h"

#include <errno.h>
#include <fcntl.h>
#include <psmtp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define DEFAULT_TRUST   "/etc/ssl/certs/ca-certificates.crt" /* as the setting `trust` */
#define FILE_SIZE_MAX   (64u << 20)                          /* of a report, a trust bundle or credentials */
#define PAUSE_S_MAX     3600u
#define TIMEOUT_S_MAX   600u
#define WINDOW_MS_MAX   60000u
#define CONNECTIONS_MAX 1000u /* what one run may make at all */
#define HOST_MAX        256   /* a domain name and NUL */

int probe_read_file(const char *path, struct buf *to)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	while (fd != -1 && buf_reserve(to, 65536) && (n = read(fd, buf_tail(to), buf_room(to))) > 0)
		buf_commit(to, (size_t)n);
	if (n == 0) {
		close(fd);
		return 0;
	}
	fprintf(stderr, "postrider probe: %s: %s\n", path, fd == -1 || n == -1 ? strerror(errno) : "it is too large");
	if (fd != -1)
		close(fd);
	return fd == -1 ? EX_NOINPUT : EX_IOERR;
}

/* ---- output ---- */

int probe_output_option(struct probe_output *o, const char *option, const char *value)
{
	static const char *const forms[] = { "--json", "--markdown", "--html", "--prometheus" };

	for (unsigned i = 0; i < 4; i++)
		if (strcmp(option, forms[i]) == 0) {
			if (o->form) {
				cmd_usage("probe", "more than one form of output: %s", option);
				return -1;
			}
			o->form = (enum probe_form)(PROBE_FORM_JSON + i);
			return 1;
		}
	if (strcmp(option, "-v") == 0) {
		o->verbose = true;
		return 1;
	}
	if (strcmp(option, "--diff") != 0)
		return 0;
	if (!value) {
		cmd_usage("probe", "--diff: where is the older report?");
		return -1;
	}
	o->old_path = value;
	return 2;
}

static int compare(const char *path, const struct probe_report *r, struct probe_diff *d)
{
	struct buf old;
	struct error e;
	int status;

	buf_init(&old, &alloc_libc, FILE_SIZE_MAX);
	status = probe_read_file(path, &old);
	if (status == 0 && probe_diff_make(d, buf_view(&old), r, &e) == -1) {
		fprintf(stderr, "postrider probe: %s: %s\n", path, e.text);
		status = EX_DATAERR;
	}
	buf_free(&old);
	return status;
}

int probe_output(const struct probe_output *o, const struct probe_report *r)
{
	struct probe_diff diff = { 0 };
	const struct probe_diff *d = o->old_path ? &diff : NULL;
	bool ok = true;
	int status = d ? compare(o->old_path, r, &diff) : 0;

	if (status != 0)
		return status;
	switch (o->form) {
	case PROBE_FORM_JSON: ok = probe_print_json(r, d, stdout); break;
	case PROBE_FORM_MARKDOWN: ok = probe_print_markdown(r, d, stdout); break;
	case PROBE_FORM_HTML: ok = probe_print_html(r, d, stdout); break;
	case PROBE_FORM_PROMETHEUS: ok = probe_print_prometheus(r, stdout); break;
	default: probe_screen_report(r, d, o->verbose, stdout); ok = !r->broken;
	}
	if (!ok || fflush(stdout) != 0) {
		fprintf(stderr, "postrider probe: the report could not be written: %s\n",
			r->broken ? "out of memory" : strerror(errno));
		status = EX_IOERR;
	} else {
		status = d ? diff.worse != 0 : probe_report_count(r, PROBE_FAIL) != 0;
	}
	if (d)
		probe_diff_free(&diff);
	return status;
}

/* ---- arguments of `probe server` ---- */

struct arguments {
	struct probe_server_options o;
	struct probe_output output;
	const char *ca_file, *auth_file;
	const char *addresses[PROBE_ADDRESSES_MAX];
	unsigned only[PROBE_LIST_MAX];
	char host[HOST_MAX], hello[HOST_MAX];
};

static int set_host(struct arguments *a, const char *text)
{
	struct view host;
	uint16_t port = 0;
	struct address literal;

	if (address_parse_host(view_cstr(text), 0, &literal))
		host = view_cstr(text); /* an IPv6 address needs no brackets when no port follows */
	else if (!address_split(view_cstr(text), &host, &port) || host.n == 0)
		return cmd_usage("probe", "%s is no HOST or HOST:PORT", text);
	if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = view_slice(host, 1, host.n - 1);
	if (host.n >= sizeof a->host || (!address_parse_host(host, 0, &literal) &&
					 !psmtp_domain_valid((struct psmtp_view){ host.p, host.n }, false)))
		return cmd_usage("probe", "%.*s is neither a domain name nor an address", VIEW_ARGS(host));
	memcpy(a->host, host.p, host.n);
	a->o.host = a->host;
	a->o.port = port;
	return 0;
}

static int set_address(const char **to, const char *option, const char *text)
{
	struct psmtp_address address;

	if (psmtp_address_parse((struct psmtp_view){ text, strlen(text) }, PSMTP_ADDRESS_BARE, &address) != 0)
		return cmd_usage("probe", "%s: %s is no address", option, text);
	*to = text;
	return 0;
}

int probe_set_name(const char **to, const char *option, const char *text)
{
	struct address literal;
	bool address =
		strcmp(option, "--helo") == 0 && text[0] == '[' && address_parse_host(view_cstr(text), 0, &literal);

	if (!address && !psmtp_domain_valid((struct psmtp_view){ text, strlen(text) }, false))
		return cmd_usage("probe", "%s: %s is no domain name", option, text);
	*to = text;
	return 0;
}

int probe_set_number(uint32_t *to, const char *option, const char *text, uint64_t least, uint64_t most, uint32_t factor)
{
	uint64_t n;

	if (!view_to_u64(view_cstr(text), &n) || n < least || n > most)
		return cmd_usage("probe", "%s is %u to %u, not %s", option, (unsigned)least, (unsigned)most, text);
	*to = (uint32_t)n * factor;
	return 0;
}

int probe_set_checks(unsigned list[PROBE_LIST_MAX], unsigned *count, const char *option, const char *text,
                     const struct probe_check *(*find)(unsigned number))
{
	struct view rest = view_cstr(text);

	for (;;) {
		struct view one = view_slice(rest, 0, view_find(rest, ','));
		uint64_t n;

		if (!view_to_u64(one, &n) || n > UINT32_MAX || !find((unsigned)n))
			return cmd_usage("probe", "%s: there is no check \"%.*s\"", option, VIEW_ARGS(one));
		if (*count == PROBE_LIST_MAX)
			return cmd_usage("probe", "%s: more than %u numbers", option, PROBE_LIST_MAX);
		list[(*count)++] = (unsigned)n;
		if (one.n == rest.n)
			break;
		rest = view_slice(rest, one.n + 1, rest.n);
	}
	return 0;
}

static int take_value(struct arguments *a, const char *option, const char *value)
{
	struct probe_server_options *o = &a->o;

	if (strcmp(option, "--helo") == 0)
		return probe_set_name(&o->hello, option, value);
	if (strcmp(option, "--name") == 0)
		return probe_set_name(&o->name, option, value);
	if (strcmp(option, "--recipient") == 0)
		return set_address(&o->recipient, option, value);
	if (strcmp(option, "--from") == 0)
		return set_address(&o->sender, option, value);
	if (strcmp(option, "--check") == 0)
		return probe_set_checks(a->only, &a->o.only_count, option, value, probe_check_find);
	if (strcmp(option, "--pause") == 0)
		return probe_set_number(&o->pause_ms, option, value, 0, PAUSE_S_MAX, 1000);
	if (strcmp(option, "--timeout") == 0)
		return probe_set_number(&o->timeout_ms, option, value, 1, TIMEOUT_S_MAX, 1000);
	if (strcmp(option, "--window") == 0)
		return probe_set_number(&o->window_ms, option, value, 50, WINDOW_MS_MAX, 1);
	if (strcmp(option, "--connections") == 0)
		return probe_set_number(&o->connections_max, option, value, 1, CONNECTIONS_MAX, 1);
	if (strcmp(option, "--address") == 0) {
		if (o->address_count == PROBE_ADDRESSES_MAX)
			return cmd_usage("probe", "more than %u times --address", PROBE_ADDRESSES_MAX);
		a->addresses[o->address_count++] = value;
	} else if (strcmp(option, "--tls-ca") == 0) {
		a->ca_file = value;
	} else if (strcmp(option, "--auth-file") == 0) {
		a->auth_file = value;
	} else {
		return cmd_usage("probe", "what is %s?", option);
	}
	return 0;
}

static int read_arguments(struct arguments *a, int argc, char **argv)
{
	int status = 0;

	for (int i = 0; i < argc && status == 0; i++) {
		int taken = probe_output_option(&a->output, argv[i], i + 1 < argc ? argv[i + 1] : NULL);

		if (taken == -1)
			return EX_USAGE;
		if (taken) {
			i += taken - 1;
		} else if (strcmp(argv[i], "--intrusive") == 0) {
			a->o.intrusive = true;
		} else if (strcmp(argv[i], "--tls-implicit") == 0) {
			a->o.implicit = true;
		} else if (argv[i][0] != '-') {
			status = a->o.host ? cmd_usage("probe", "more than one server: %s", argv[i])
					   : set_host(a, argv[i]);
		} else if (i + 1 == argc) {
			status = cmd_usage("probe", "%s: what is it, or where is its value?", argv[i]);
		} else {
			status = take_value(a, argv[i], argv[i + 1]);
			i++;
		}
	}
	if (status == 0 && !a->o.host)
		status = cmd_usage("probe", "which server?");
	return status;
}

const char *probe_our_name(char *to, size_t room)
{
	if (gethostname(to, room - 1) == -1 || !strchr(to, '.') || !psmtp_domain_valid((struct psmtp_view){ to, strlen(to) }, false))
		snprintf(to, room, "probe.invalid");
	return to;
}

static void progress(void *arg, unsigned done, unsigned total, const struct probe_check *c)
{
	(void)arg;
	probe_screen_progress(done, total, c);
}

static int run(struct arguments *a, struct buf *trust, struct buf *login)
{
	struct probe_report report;
	struct error e;
	char target[HOST_MAX + 10];
	int status = 0;

	if (a->ca_file || access(DEFAULT_TRUST, R_OK) == 0)
		status = probe_read_file(a->ca_file ? a->ca_file : DEFAULT_TRUST, trust);
	if (status == 0 && a->auth_file)
		status = probe_read_file(a->auth_file, login);
	if (status != 0)
		return status;
	a->o.trust = buf_view(trust);
	a->o.login = view_slice(buf_view(login), 0,
				view_find(buf_view(login), '\n')); /* the first line, as `client` takes it */
	if (a->o.login.n && a->o.login.p[a->o.login.n - 1] == '\r')
		a->o.login.n--;
	snprintf(target, sizeof target, strchr(a->host, ':') ? "[%s]:%u" : "%s:%u", a->host, a->o.port);
	probe_report_init(&report, "server", target, env_wall_ms(&env_real));
	if (probe_server(&a->o, &report, &e) == -1) {
		probe_screen_progress(0, 0, NULL);
		fprintf(stderr, "postrider probe: %s: %s\n", target, e.text);
		status = EX_UNAVAILABLE;
	} else {
		status = probe_output(&a->output, &report);
	}
	probe_report_free(&report);
	return status;
}

static int probe_server_command(int argc, char **argv)
{
	struct arguments a = {
		.o = { .pause_ms = 1000, .timeout_ms = 30000, .connections_max = 150, .progress = progress }
	};
	struct buf trust, login;
	char sender[HOST_MAX + 20];
	int status = read_arguments(&a, argc, argv);

	if (status != 0)
		return status;
	if (!a.o.port)
		a.o.port = a.o.implicit ? 465 : 25;
	a.o.addresses = a.addresses;
	a.o.only = a.only;
	if (!a.o.hello)
		a.o.hello = probe_our_name(a.hello, sizeof a.hello);
	snprintf(sender, sizeof sender, "postmaster@%s", a.o.hello);
	if (!a.o.sender)
		a.o.sender = sender;
	buf_init(&trust, &alloc_libc, FILE_SIZE_MAX);
	buf_init(&login, &alloc_libc, FILE_SIZE_MAX);
	status = run(&a, &trust, &login);
	buf_free(&trust);
	buf_free(&login);
	return status;
}

int cmd_probe(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return cmd_usage("probe", "what is to be probed?");
	if (strcmp(argv[1], "server") == 0)
		return probe_server_command(argc - 2, argv + 2);
	if (strcmp(argv[1], "client") == 0)
		return probe_client_command(argc - 2, argv + 2);
	if (strcmp(argv[1], "domain") == 0)
		return probe_domain_command(argc - 2, argv + 2);
	return cmd_usage("probe", "what is %s?", argv[1]);
}
