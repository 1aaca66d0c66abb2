/* probe_client.c - `postrider probe client`: reads the arguments, lets probe/client.h play its cases, prints the report.
 *
 * Without --run it tells on standard error where it listens and which case is next, and the operator has the client send one message to it
 * each time.  With --run it starts the sending command itself; its words follow --run to the end, and no shell sees them.
 */
#include "cmd/probe.h"

#include "base/buf.h"
#include "base/env.h"
#include "cmd/cmd.h"
#include "probe/client.h"

#include <stdio.h>
#include <unistd.h>

#define FILE_MAX (1u << 20) /* of a certificate chain, or a key */
#define TIMEOUT_S_MAX 3600u
#define SILENCE_MS_MAX 60000u

struct arguments {
	struct probe_client_options o;
	struct probe_output output;
	const char *listen, *chain, *key;
	unsigned only[PROBE_LIST_MAX];
};

static int set_expect(enum client_expect *to, const char *text)
{
	static const char *const words[] = { "may", "encrypt", "verify" };

	for (unsigned i = 0; i < 3; i++)
		if (strcmp(text, words[i]) == 0) {
			*to = (enum client_expect)(CLIENT_MAY + i);
			return 0;
		}
	return cmd_usage("probe", "--expect is may, encrypt or verify, not %s", text);
}

/* An address, and a port behind it; without one any that is free. */
static int set_listen(struct address *to, const char *text)
{
	struct view host;
	uint16_t port = 0;

	if (address_parse_host(view_cstr(text), 0, to) || (address_split(view_cstr(text), &host, &port) && address_parse_host(host, port, to)))
		return 0;
	return cmd_usage("probe", "--listen: %s is no ADDRESS:PORT", text);
}

static int take_value(struct arguments *a, const char *option, const char *value)
{
	struct probe_client_options *o = &a->o;

	if (strcmp(option, "--expect") == 0)
		return set_expect(&o->expect, value);
	if (strcmp(option, "--name") == 0)
		return probe_set_name(&o->name, option, value);
	if (strcmp(option, "--cases") == 0)
		return probe_set_checks(a->only, &o->only_count, option, value, client_case_find);
	if (strcmp(option, "--timeout") == 0)
		return probe_set_number(&o->timeout_ms, option, value, 1, TIMEOUT_S_MAX, 1000);
	if (strcmp(option, "--settle") == 0)
		return probe_set_number(&o->settle_ms, option, value, 50, SILENCE_MS_MAX, 1);
	if (strcmp(option, "--window") == 0)
		return probe_set_number(&o->window_ms, option, value, 50, SILENCE_MS_MAX, 1);
	if (strcmp(option, "--listen") == 0) {
		a->listen = value;
		return set_listen(&o->listen, value);
	}
	if (strcmp(option, "--tls-cert") == 0)
		a->chain = value;
	else if (strcmp(option, "--tls-key") == 0)
		a->key = value;
	else if (strcmp(option, "--ca-out") == 0)
		o->authority = value;
	else
		return cmd_usage("probe", "what is %s?", option);
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
		} else if (strcmp(argv[i], "--requiretls") == 0) {
			a->o.requiretls = true;
		} else if (strcmp(argv[i], "--run") == 0) {
			if (i + 1 == argc)
				return cmd_usage("probe", "--run: which command?");
			a->o.command = argv + i + 1; /* ends with NULL, as argv does */
			break;
		} else if (i + 1 == argc) {
			status = cmd_usage("probe", "%s: what is it, or where is its value?", argv[i]);
		} else {
			status = take_value(a, argv[i], argv[i + 1]);
			i++;
		}
	}
	if (status == 0 && !a->chain != !a->key)
		status = cmd_usage("probe", "--tls-cert and --tls-key go together");
	return status;
}

static void listening(void *arg, const struct sockaddr *where)
{
	char text[ADDRESS_TEXT];

	(void)arg;
	fprintf(stderr, "postrider probe: listening on %s\n", address_text(where, text));
}

static void progress(void *arg, unsigned done, unsigned total, const struct probe_check *c)
{
	const struct arguments *a = arg;

	if (a->o.command)
		probe_screen_progress(done, total, c);
	else if (c)
		fprintf(stderr, "case %u, %u of %u: %s\n  it plays: %s\n  now let the client send a message\n", c->number, done + 1, total, c->title, c->sends);
}

static int run(struct arguments *a, struct buf *chain, struct buf *key)
{
	struct probe_report report;
	struct error e;
	int status = 0;

	if (a->chain)
		status = probe_read_file(a->chain, chain);
	if (status == 0 && a->key)
		status = probe_read_file(a->key, key);
	if (status != 0)
		return status;
	a->o.chain = buf_view(chain);
	a->o.key = buf_view(key);
	probe_report_init(&report, "client", a->listen, env_wall_ms(&env_real));
	if (probe_client(&a->o, &report, &e) == -1) {
		probe_screen_progress(0, 0, NULL);
		fprintf(stderr, "postrider probe: %s\n", e.text);
		status = e.class == ERROR_INPUT ? EX_DATAERR : EX_UNAVAILABLE;
	} else {
		status = probe_output(&a->output, &report);
	}
	probe_report_free(&report);
	return status;
}

int probe_client_command(int argc, char **argv)
{
	struct arguments a = { .o = { .name = "localhost", .expect = CLIENT_MAY, .timeout_ms = 60000, .settle_ms = 2000, .window_ms = 1000,
		.listening = listening, .progress = progress }, .listen = "127.0.0.1" };
	struct buf chain, key;
	int status;

	status = set_listen(&a.o.listen, a.listen);
	if (status == 0)
		status = read_arguments(&a, argc, argv);
	if (status != 0)
		return status;
	a.o.wait_ms = a.o.timeout_ms;
	a.o.only = a.only;
	a.o.arg = &a;
	a.o.command_speaks = a.output.verbose;
	buf_init(&chain, &alloc_libc, FILE_MAX);
	buf_init(&key, &alloc_libc, FILE_MAX);
	status = run(&a, &chain, &key);
	buf_free(&chain);
	buf_free(&key);
	return status;
}
