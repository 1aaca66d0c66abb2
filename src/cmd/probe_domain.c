/* probe_domain.c - `postrider probe domain`: reads the arguments and, when there is one, the configuration; lets probe/domain.h work, prints.
 *
 * No daemon is asked.  With -c the configuration says what it says to the daemon: which DNS servers, which trust anchor and bundle,
 * what is owed to the domain; without it, what the settings are when nobody sets them, and what an option says goes before both.
 */
#include "cmd/probe.h"

#include "base/buf.h"
#include "base/env.h"
#include "cmd/cmd.h"
#include "conf/conf.h"
#include "net/address.h"
#include "probe/domain.h"
#include "resolve/answer.h"
#include "route/dest.h"

#include <psmtp.h>
#include <stdio.h>
#include <unistd.h>

#define RESOLV_CONF "/etc/resolv.conf"
#define DEFAULT_TRUST "/etc/ssl/certs/ca-certificates.crt" /* these two as the settings of their names */
#define DEFAULT_ANCHOR "/usr/share/dns/root.key"
#define FILE_MAX (64u << 20) /* of a trust bundle */
#define RESOLVERS_MAX 8      /* of --resolver */
#define PAUSE_S_MAX 3600u
#define TIMEOUT_S_MAX 600u
#define CONNECTIONS_MAX 1000u /* what one run may make at all */

struct arguments {
	struct probe_domain_options o;
	struct probe_output output;
	const char *conf_path, *anchor_path, *trust_path;
	char resolver_text[RESOLVERS_MAX][ADDRESS_TEXT], domain[PACKET_NAME_MAX];
	const char *resolvers[RESOLVERS_MAX];
	char hostname[PACKET_NAME_MAX];
	bool require;
	unsigned only[PROBE_LIST_MAX];
};

struct files {
	struct buf resolv_conf, anchor, trust, dest, rewritten;
	struct conf *conf;
};

/* ADDRESS, ADDRESS:PORT, or as DNS tools have it ADDRESS@PORT. */
static int add_resolver(struct arguments *a, const char *text)
{
	struct view v = view_cstr(text), host = view_slice(v, 0, view_find(v, '@'));
	struct address address;
	uint64_t port = 53;
	size_t n = a->o.resolver_count;
	bool ok = host.n == v.n && address_parse(v, &address);

	if (!ok && (host.n == v.n || (view_to_u64(view_slice(v, host.n + 1, v.n), &port) && port && port < 65536)))
		ok = address_parse_host(host, (uint16_t)port, &address);
	if (ok && n == RESOLVERS_MAX)
		return cmd_usage("probe", "more than %d times --resolver", RESOLVERS_MAX);
	if (ok) {
		address_text((const struct sockaddr *)&address.sa, a->resolver_text[n]);
		a->resolvers[n] = a->resolver_text[n];
		a->o.resolver_count++;
		return 0;
	}
	return cmd_usage("probe", "--resolver: %s is no ADDRESS, ADDRESS:PORT or ADDRESS@PORT", text);
}

static int set_port(uint16_t *to, const char *option, const char *text)
{
	uint32_t n = 0;
	int status = probe_set_number(&n, option, text, 1, 65535, 1);

	*to = (uint16_t)n;
	return status;
}

static int take_value(struct arguments *a, const char *option, const char *value)
{
	struct probe_domain_options *o = &a->o;

	if (strcmp(option, "--resolver") == 0)
		return add_resolver(a, value);
	if (strcmp(option, "--helo") == 0)
		return probe_set_name(&o->hostname, option, value);
	if (strcmp(option, "--check") == 0)
		return probe_set_checks(a->only, &o->only_count, option, value, domain_check_find);
	if (strcmp(option, "--port") == 0)
		return set_port(&o->port, option, value);
	if (strcmp(option, "--mta-sts-port") == 0)
		return set_port(&o->sts_port, option, value);
	if (strcmp(option, "--pause") == 0)
		return probe_set_number(&o->pause_ms, option, value, 0, PAUSE_S_MAX, 1000);
	if (strcmp(option, "--timeout") == 0)
		return probe_set_number(&o->timeout_ms, option, value, 1, TIMEOUT_S_MAX, 1000);
	if (strcmp(option, "--connections") == 0)
		return probe_set_number(&o->connections_max, option, value, 1, CONNECTIONS_MAX, 1);
	if (strcmp(option, "-c") == 0)
		a->conf_path = value;
	else if (strcmp(option, "--trust-anchor") == 0)
		a->anchor_path = value;
	else if (strcmp(option, "--tls-ca") == 0)
		a->trust_path = value;
	else
		return cmd_usage("probe", "what is %s?", option);
	return 0;
}

static int set_domain(struct arguments *a, const char *text)
{
	if (a->o.domain)
		return cmd_usage("probe", "more than one domain: %s", text);
	if (!answer_name(view_cstr(text), a->domain) || !psmtp_domain_valid((struct psmtp_view){ a->domain, strlen(a->domain) }, false))
		return cmd_usage("probe", "%s is no domain name", text);
	a->o.domain = a->domain;
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
		} else if (strcmp(argv[i], "--no-connect") == 0) {
			a->o.connect = false;
		} else if (strcmp(argv[i], "--require") == 0) {
			a->require = true;
		} else if (argv[i][0] != '-') {
			status = set_domain(a, argv[i]);
		} else if (i + 1 == argc) {
			status = cmd_usage("probe", "%s: what is it, or where is its value?", argv[i]);
		} else {
			status = take_value(a, argv[i], argv[i + 1]);
			i++;
		}
	}
	if (status == 0 && !a->o.domain)
		status = cmd_usage("probe", "which domain?");
	return status;
}

/* ---- the configuration ---- */

static int take_conf(struct arguments *a, struct files *f)
{
	struct probe_domain_options *o = &a->o;
	struct error e = { 0 };
	char address[PACKET_NAME_MAX + 20];
	bool rewritten = false;

	if (conf_load(&f->conf, a->conf_path, &e) == -1) {
		fprintf(stderr, "postrider probe: %s\n", e.text);
		return EX_CONFIG;
	}
	if (!o->resolver_count) {
		o->resolvers = f->conf->global.resolver.items;
		o->resolver_count = f->conf->global.resolver.n;
	}
	if (!o->hostname)
		o->hostname = f->conf->global.hostname;
	if (!o->sts_port)
		o->sts_port = (uint16_t)f->conf->global.mta_sts_port;
	o->dane = f->conf->global.dane;
	o->mta_sts = f->conf->global.mta_sts;
	a->trust_path = a->trust_path ? a->trust_path : f->conf->global.trust;
	a->anchor_path = a->anchor_path ? a->anchor_path : f->conf->global.trust_anchor;
	snprintf(address, sizeof address, "probe@%s", a->domain);
	return route_dest_build(f->conf, view_cstr(address), &f->dest, &f->rewritten, &rewritten) ? 0 : EX_OSERR;
}

static bool is_there(const char *path)
{
	return access(path, R_OK) == 0;
}

/* A file that is the usual one may be missing; one that was named may not. */
static int read_files(struct arguments *a, struct files *f)
{
	const char *trust = a->trust_path ? a->trust_path : DEFAULT_TRUST, *anchor = a->anchor_path ? a->anchor_path : DEFAULT_ANCHOR;
	int status = 0;

	if (is_there(RESOLV_CONF))
		status = probe_read_file(RESOLV_CONF, &f->resolv_conf);
	if (status == 0 && ((a->trust_path && !a->conf_path) || is_there(trust)))
		status = probe_read_file(trust, &f->trust);
	if (status == 0 && ((a->anchor_path && !a->conf_path) || is_there(anchor)))
		status = probe_read_file(anchor, &f->anchor);
	a->o.resolv_conf = buf_view(&f->resolv_conf);
	a->o.trust = buf_view(&f->trust);
	a->o.anchor = buf_view(&f->anchor);
	return status;
}

static bool finish_dest(const struct arguments *a, struct buf *dest)
{
	return (buf_len(dest) || buf_addf(dest, "mx:%s", a->domain)) && route_dest_mark(dest, a->require, false) && buf_add(dest, view_of("", 1));
}

static void progress(void *arg, unsigned done, unsigned total, const struct probe_check *c)
{
	(void)arg;
	probe_screen_progress(done, total, c);
}

static int run(struct arguments *a, struct files *f)
{
	struct probe_report report;
	struct error e = { 0 };
	int status = a->conf_path ? take_conf(a, f) : 0;

	if (status == 0)
		status = read_files(a, f);
	if (status == 0 && !finish_dest(a, &f->dest))
		status = EX_OSERR;
	if (status != 0)
		return status;
	if (!a->o.hostname)
		a->o.hostname = probe_our_name(a->hostname, sizeof a->hostname);
	a->o.sts_port = a->o.sts_port ? a->o.sts_port : 443;
	a->o.dest = buf_view(&f->dest).p;
	probe_report_init(&report, "domain", a->domain, env_wall_ms(&env_real));
	if (probe_domain(&a->o, &report, &e) == -1) {
		probe_screen_progress(0, 0, NULL);
		fprintf(stderr, "postrider probe: %s\n", e.text);
		status = e.class == ERROR_INPUT ? EX_DATAERR : EX_UNAVAILABLE;
	} else {
		status = probe_output(&a->output, &report);
	}
	probe_report_free(&report);
	return status;
}

int probe_domain_command(int argc, char **argv)
{
	struct arguments a = { .o = { .dane = true, .mta_sts = true, .connect = true, .port = 25, .pause_ms = 1000, .timeout_ms = 30000,
		.connections_max = 100, .progress = progress } };
	struct files f = { .conf = NULL };
	int status;

	a.o.resolvers = a.resolvers;
	a.o.only = a.only;
	status = read_arguments(&a, argc, argv);
	if (status != 0)
		return status;
	buf_init(&f.resolv_conf, &alloc_libc, FILE_MAX);
	buf_init(&f.anchor, &alloc_libc, FILE_MAX);
	buf_init(&f.trust, &alloc_libc, FILE_MAX);
	buf_init(&f.dest, &alloc_libc, ROUTE_DEST_MAX);
	buf_init(&f.rewritten, &alloc_libc, ROUTE_DEST_MAX);
	status = run(&a, &f);
	buf_free(&f.resolv_conf);
	buf_free(&f.anchor);
	buf_free(&f.trust);
	buf_free(&f.dest);
	buf_free(&f.rewritten);
	conf_free(f.conf);
	return status;
}
