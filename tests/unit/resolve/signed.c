/* signed.c - tests of the role `resolve` against a signed tree that nsd serves (tests/integration/signed_tree.py): what is secure,
 * insecure, bogus, and what a resolver does that cannot validate. */
#include "../receive/rig.h"
#include "resolve/trust.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static struct tree {
	pid_t pid;
	int in;
	unsigned port;
	char folder[64], anchor[200];
} tree;

static void tree_start(void)
{
	int in[2], out[2];
	char line[400] = "";
	size_t used = 0;
	ssize_t n;

	snprintf(tree.folder, sizeof tree.folder, "/tmp/signed.XXXXXX");
	assert_non_null(mkdtemp(tree.folder));
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	tree.pid = fork();
	if (tree.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[0]), close(in[1]), close(out[0]), close(out[1]);
		execl("/usr/bin/python3", "python3", SIGNED_TREE, tree.folder, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	tree.in = in[1];
	fcntl(tree.in, F_SETFD, FD_CLOEXEC);
	while (!strchr(line, '\n') && (n = read(out[0], line + used, sizeof line - 1 - used)) > 0)
		used += (size_t)n;
	close(out[0]);
	if (sscanf(line, "%u %199s", &tree.port, tree.anchor) != 2)
		fail_msg("the signed tree does not stand");
}

static void tree_stop(void)
{
	char command[100];

	close(tree.in); /* it ends by that */
	waitpid(tree.pid, NULL, 0);
	snprintf(command, sizeof command, "%s", tree.folder);
	if (fork() == 0) {
		execlp("rm", "rm", "-rf", command, NULL);
		_exit(127);
	}
	wait(NULL);
}

/* ---- the role, and what it is asked ---- */

struct world {
	struct rig *rig;
	struct channel *to;
	uint64_t asked;
	bool answered;
	struct wire_RESOLVED got;
	char canonical[300], reason[300], records[4096], notice[300];
	unsigned count;
};
static struct world *now;

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_record r;
	struct view list;

	(void)ch;
	(void)fd;
	assert_int_equal(type, WIRE_RESOLVED);
	assert_int_equal(wire_read_RESOLVED(payload, &w->got), 0);
	assert_int_equal(w->got.stream, w->asked);
	w->answered = true;
	w->count = 0;
	snprintf(w->canonical, sizeof w->canonical, "%.*s", VIEW_ARGS(w->got.canonical));
	snprintf(w->reason, sizeof w->reason, "%.*s", VIEW_ARGS(w->got.reason));
	w->records[0] = '\0';
	for (list = w->got.records; wire_record_next(&list, &r) == 1; w->count++)
		snprintf(w->records + strlen(w->records), sizeof w->records - strlen(w->records), "%.*s/%zu ", VIEW_ARGS(r.name), r.address.n);
}

static void on_gone(void *arg, struct channel *ch)
{
	(void)arg;
	(void)ch;
	fail_msg("the channel ended");
}

static void on_super(struct role *role, uint32_t type, struct view payload)
{
	struct wire_NOTICE m;

	(void)role;
	if (type == WIRE_NOTICE && wire_read_NOTICE(payload, &m) == 0 && now)
		snprintf(now->notice, sizeof now->notice, "%.*s", VIEW_ARGS(m.text));
}

static struct world *world_new(const char *anchor, unsigned port, const char *more)
{
	static const struct channel_handler handler = { on_frame, on_gone, NULL };
	struct world *w = calloc(1, sizeof *w);
	struct channel *ends[2];
	char conf[600];

	snprintf(conf, sizeof conf, "resolver = {\"127.0.0.1:%u\"}\ntrust_anchor = \"%s\"\n%s\nlistener \"mx\" { address = {\"127.0.0.1:25\"} tls = none }\n",
	         port, anchor, more);
	now = w;
	w->rig = rig_new(&resolve_role, conf, NULL);
	w->rig->role.to_super = on_super;
	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	w->to = ends[1];
	channel_set_handler(ends[1], &handler, w);
	resolve_role.channel(&w->rig->role, ROLE_SEND, 0, 1, ends[0]);
	return w;
}

static void world_stop(struct world *w)
{
	resolve_role.stop(&w->rig->role);
	w->rig->role.ops = NULL;
	channel_set_handler(w->to, &(struct channel_handler){ on_frame, NULL, NULL }, w);
	channel_free(w->to);
	rig_free(w->rig);
	now = NULL;
	free(w);
}

static void ask(struct world *w, enum wire_resolve_kind kind, const char *name)
{
	struct wire_RESOLVE m = { .stream = ++w->asked, .kind = (uint8_t)kind, .name = view_cstr(name) };

	w->answered = false;
	assert_true(wire_send_RESOLVE(w->to, &m));
	UNTIL(w->rig, w->answered);
}

/* ---- tests ---- */

static void test_tree(void **state)
{
	static const struct {
		enum wire_resolve_kind kind;
		const char *name;
		enum wire_resolve_status status;
		bool secure;
		const char *canonical, *records;
	} cases[] = {
		{ WIRE_RESOLVE_MX, "good", WIRE_DNS_OK, true, "", "mx.good/0 " },
		{ WIRE_RESOLVE_MX, "renamed.good", WIRE_DNS_OK, true, "good", "mx.good/0 " },
		{ WIRE_RESOLVE_MX, "bare.good", WIRE_DNS_NODATA, true, "", "" }, /* proven: no MX */
		{ WIRE_RESOLVE_MX, "nobody.good", WIRE_DNS_NXDOMAIN, true, "", "" }, /* proven: no such name */
		{ WIRE_RESOLVE_MX, "nobody.hashed", WIRE_DNS_NXDOMAIN, true, "", "" }, /* by NSEC3 */
		{ WIRE_RESOLVE_MX, "nobody.plain", WIRE_DNS_NXDOMAIN, false, "", "" },
		{ WIRE_RESOLVE_MX, "plain", WIRE_DNS_OK, false, "", "mx.good/0 " },
		{ WIRE_RESOLVE_MX, "bogus", WIRE_DNS_OK, true, "", "mx.bogus/0 " }, /* this record was left alone */
		{ WIRE_RESOLVE_ADDRESS, "mx.good", WIRE_DNS_OK, true, "", NULL },
		{ WIRE_RESOLVE_ADDRESS, "bare.good", WIRE_DNS_OK, true, "", "/4 " },
		{ WIRE_RESOLVE_ADDRESS, "mx.hashed", WIRE_DNS_OK, true, "", "/4 " },
		{ WIRE_RESOLVE_ADDRESS, "mx.plain", WIRE_DNS_OK, false, "", "/4 " },
		{ WIRE_RESOLVE_ADDRESS, "sub.good", WIRE_DNS_OK, false, "", "/4 " }, /* an insecure delegation below a signed zone */
		{ WIRE_RESOLVE_ADDRESS, "alias.good", WIRE_DNS_OK, true, "mx.good", NULL },
		{ WIRE_RESOLVE_ADDRESS, "half.good", WIRE_DNS_OK, false, "mx.plain", "/4 " },
		{ WIRE_RESOLVE_ADDRESS, "chain.good", WIRE_DNS_OK, false, "mx.plain", "/4 " },
		{ WIRE_RESOLVE_ADDRESS, "back.plain", WIRE_DNS_OK, false, "mx.good", NULL },
		{ WIRE_RESOLVE_ADDRESS, "mx.bogus", WIRE_DNS_BOGUS, false, "", "" },
		{ WIRE_RESOLVE_ADDRESS, "stale", WIRE_DNS_BOGUS, false, "", "" },
		{ WIRE_RESOLVE_ADDRESS, "dead", WIRE_DNS_TEMPORARY, false, "", "" },
		{ WIRE_RESOLVE_ALIAS, "half.good", WIRE_DNS_OK, true, NULL, "" }, /* RFC 7672 2.2.2: the alias alone is secure */
		{ WIRE_RESOLVE_ALIAS, "back.plain", WIRE_DNS_OK, false, NULL, "" },
		{ WIRE_RESOLVE_ALIAS, "bare.good", WIRE_DNS_NODATA, true, "", "" },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.mx.good", WIRE_DNS_OK, true, "", "/35 " },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.alias.good", WIRE_DNS_OK, true, "_25._tcp.mx.good", "/35 " },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.empty.good", WIRE_DNS_OK, true, "", "/0 " },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.short.good", WIRE_DNS_OK, true, "", "/3 " },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.bare.good", WIRE_DNS_NXDOMAIN, true, "", "" },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.mx.plain", WIRE_DNS_OK, false, "", "/35 " },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.mx.bogus", WIRE_DNS_BOGUS, false, "", "" },
		{ WIRE_RESOLVE_TLSA, "_25._tcp.mx.dead", WIRE_DNS_TEMPORARY, false, "", "" },
		{ WIRE_RESOLVE_TXT, "txt.good", WIRE_DNS_OK, true, "", "/14 " },
	};
	struct world *w = world_new(tree.anchor, tree.port, "");

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool usable;
		ask(w, cases[i].kind, cases[i].name);
		usable = w->got.status == cases[i].status && (!w->got.secure) == !cases[i].secure &&
		         (!cases[i].canonical || strcmp(w->canonical, cases[i].canonical) == 0) &&
		         (!cases[i].records || strcmp(w->records, cases[i].records) == 0);
		if (!usable)
			fail_msg("%s %d: status %u secure %u canonical \"%s\" records \"%s\": %s", cases[i].name, cases[i].kind, w->got.status,
			         w->got.secure, w->canonical, w->records, w->reason);
		if (cases[i].status == WIRE_DNS_BOGUS)
			assert_true(w->reason[0]);
	}
	assert_true(rig_logged(w->rig, "event=dnssec_on"));
	assert_false(rig_logged(w->rig, "event=dnssec_off"));
	assert_string_equal(w->notice, "");
	world_stop(w);
}

/* Without validation the same tree answers, and nothing is secure, nothing bogus; it is said once. */
static void check_blind(struct world *w, const char *why)
{
	ask(w, WIRE_RESOLVE_MX, "good");
	assert_int_equal(w->got.status, WIRE_DNS_OK);
	assert_false(w->got.secure);
	ask(w, WIRE_RESOLVE_ADDRESS, "mx.bogus");
	assert_int_equal(w->got.status, WIRE_DNS_OK);
	assert_false(w->got.secure);
	if (why && !rig_logged(w->rig, why))
		fail_msg("%s", rig_log(w->rig));
}

static void test_no_anchor(void **state)
{
	struct world *w = world_new("/nowhere/anchor", tree.port, "");

	(void)state;
	check_blind(w, "event=dnssec_off");
	world_stop(w);
}

static void test_switched_off(void **state)
{
	struct world *w = world_new(tree.anchor, tree.port, "dane = false");

	(void)state;
	check_blind(w, NULL);
	assert_false(rig_logged(w->rig, "event=dnssec"));
	world_stop(w);
}

static void write_anchor(char path[100], const char *text)
{
	FILE *f;

	snprintf(path, 100, "%s/other", tree.folder);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* The servers do not sign with what the anchor says: broken upstream, or the wrong anchor.  Then it is tried again. */
static void test_wrong_anchor(void **state)
{
	char path[100];
	struct world *w;

	(void)state;
	write_anchor(path, "; another root\n. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n");
	w = world_new(path, tree.port, "");
	check_blind(w, "event=dnssec_off");
	assert_non_null(strstr(w->notice, "DANE is off"));
	rig_skew += TRUST_AGAIN_MS + 10; /* and is told no second time */
	rig_turns(w->rig, 50);
	check_blind(w, NULL);
	assert_null(strstr(strstr(rig_log(w->rig), "event=dnssec_off") + 1, "event=dnssec_off"));
	world_stop(w);
}

static void test_bad_anchor(void **state)
{
	static const char *const texts[] = { "", "; nothing\n\n", "this is no record\n", ". IN DS 1 8 2 zz\n" };
	char path[100];

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct world *w;
		write_anchor(path, texts[i]);
		w = world_new(path, tree.port, "");
		check_blind(w, "event=dnssec_off");
		world_stop(w);
	}
}

/* Nobody answers: questions wait for a moment, then they are asked all the same. */
static void test_silence(void **state)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	struct world *w;
	struct wire_RESOLVE m = { .stream = 1, .kind = WIRE_RESOLVE_MX, .name = VIEW("good") };

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	getsockname(fd, (struct sockaddr *)&a, &n);
	w = world_new(tree.anchor, ntohs(a.sin_port), "");
	assert_true(wire_send_RESOLVE(w->to, &m));
	rig_turns(w->rig, 20);
	assert_false(rig_logged(w->rig, "event=dnssec_off"));
	rig_skew += TRUST_WAIT_MS + 10;
	UNTIL(w->rig, rig_logged(w->rig, "event=dnssec_off"));
	assert_non_null(strstr(w->notice, "no DNS server has answered"));
	world_stop(w); /* with its question open */
	close(fd);
}

/* One that goes away while its questions wait. */
static void test_asker_goes(void **state)
{
	struct world *w = world_new(tree.anchor, tree.port, "");
	struct wire_RESOLVE m = { .stream = 1, .kind = WIRE_RESOLVE_MX, .name = VIEW("good") };

	(void)state;
	assert_true(wire_send_RESOLVE(w->to, &m));
	rig_turns(w->rig, 1);
	channel_set_handler(w->to, &(struct channel_handler){ on_frame, NULL, NULL }, w);
	channel_free(w->to);
	UNTIL(w->rig, rig_logged(w->rig, "event=dnssec_on"));
	w->to = NULL;
	resolve_role.stop(&w->rig->role);
	w->rig->role.ops = NULL;
	rig_free(w->rig);
	now = NULL;
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_anchor), cmocka_unit_test(test_bad_anchor), cmocka_unit_test(test_wrong_anchor), cmocka_unit_test(test_silence),
		cmocka_unit_test(test_asker_goes), cmocka_unit_test(test_tree), cmocka_unit_test(test_switched_off),
	};
	int failed;

	tree_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	tree_stop();
	return failed;
}
