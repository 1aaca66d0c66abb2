/* role.c - tests of local as a role that delivers itself: queue and receive at the other end of channels in memory. */
#include "../receive/rig.h"
#include "local/local.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>

static char root[64];
static int tmpfile_error; /* open with O_TMPFILE fails with it */
static bool disk_full;

static int some_open(void *a, const char *p, int fl, mode_t m)
{
	if (tmpfile_error && (fl & O_TMPFILE) == O_TMPFILE) {
		errno = tmpfile_error;
		return -1;
	}
	return env_real.disk.open(a, p, fl, m);
}

static ssize_t some_pwrite(void *a, int fd, const void *from, size_t n, off_t at)
{
	if (disk_full) {
		errno = ENOSPC;
		return -1;
	}
	return env_real.disk.pwrite(a, fd, from, n, at);
}

struct world {
	struct rig *rig;
	struct channel *queue, *receive;
	bool queue_closed;
	unsigned outcomes, verdicts;
	uint64_t stream, credit;
	struct wire_result results[8];
	char text[8][200];
	unsigned result_n, verdict;
};

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_OUTCOME o;
	struct wire_DELIVER_CREDIT c;
	struct wire_RCPT_VERDICT v;
	struct view list;

	(void)ch;
	(void)fd;
	if (type == WIRE_OUTCOME) {
		assert_int_equal(wire_read_OUTCOME(payload, &o), 0);
		w->outcomes++;
		w->stream = o.stream;
		w->result_n = 0;
		for (list = o.results; wire_result_next(&list, &w->results[w->result_n]) == 1; w->result_n++)
			snprintf(w->text[w->result_n], 200, "%.*s", VIEW_ARGS(w->results[w->result_n].text));
	} else if (type == WIRE_DELIVER_CREDIT) {
		assert_int_equal(wire_read_DELIVER_CREDIT(payload, &c), 0);
		w->credit += c.bytes;
	} else {
		assert_int_equal(wire_read_RCPT_VERDICT(payload, &v), 0);
		w->verdicts++;
		w->stream = v.stream;
		w->verdict = v.verdict;
	}
}

static void on_closed(void *arg, struct channel *ch)
{
	struct world *w = arg;

	if (ch == w->queue) {
		w->queue = NULL;
		w->queue_closed = true;
	} else {
		w->receive = NULL;
	}
	channel_free(ch);
}

static const struct channel_handler handler = { on_frame, on_closed, NULL };

static struct channel *connect_role(struct world *w, enum role_kind kind)
{
	struct channel *ends[2];

	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	channel_set_handler(ends[1], &handler, w);
	local_role.channel(&w->rig->role, kind, 0, 1, ends[0]);
	return ends[1];
}

static struct world world_new(const char *more)
{
	struct world w = { 0 };
	char conf[1024], list[128];
	struct env_disk disk = env_real.disk;
	int fd;

	tmpfile_error = 0;
	disk_full = false;
	snprintf(root, sizeof root, "/tmp/test_local_XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(list, sizeof list, "%s/users", root);
	fd = open(list, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "# people\n new \r\n", 16), 16);
	close(fd);
	snprintf(conf, sizeof conf,
	         "listener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none }\n"
	         "domain \"local.test\" { deliver = \"maildir:%s/mail/%%{user}\" users = \"%s\" }\n"
	         "domain \"free.test\" { deliver = \"maildir:%s/free/%%{user}/Maildir\" }\n"
	         "domain \"relay.test\" { deliver = \"mx\" }\n%s",
	         root, list, root, more);
	disk.open = some_open;
	disk.pwrite = some_pwrite;
	w.rig = rig_new(&local_role, conf, &disk);
	return w;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static void world_free(struct world *w)
{
	rig_turns(w->rig, 2);
	local_role.stop(&w->rig->role);
	w->rig->role.ops = NULL;
	rig_turns(w->rig, 2);
	if (w->queue)
		channel_free(w->queue);
	if (w->receive)
		channel_free(w->receive);
	rig_free(w->rig);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void deliver(struct world *w, uint64_t stream, const char *dest, const char *const *to)
{
	struct buf list;
	struct wire_DELIVER m = { .stream = stream, .id = stream, .dest = view_cstr(dest), .sender = VIEW("a@b.test") };

	buf_init(&list, &alloc_libc, 65536);
	for (; *to; to++)
		wire_rcpt_add(&list, &(struct wire_rcpt){ .address = view_cstr(*to) });
	m.rcpts = buf_view(&list);
	assert_true(wire_send_DELIVER(w->queue, &m));
	buf_free(&list);
}

static void send_body(struct world *w, uint64_t stream, struct view bytes, size_t step)
{
	do {
		struct wire_DELIVER_BYTES m = { .stream = stream, .bytes = view_slice(bytes, 0, step) };
		bytes = view_slice(bytes, m.bytes.n, bytes.n);
		m.last = bytes.n == 0;
		assert_true(wire_send_DELIVER_BYTES(w->queue, &m));
	} while (bytes.n);
}

static unsigned mails(const char *box, char *content, size_t room)
{
	char path[512];
	unsigned n = 0;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof path, "%s/%s/new", root, box);
	dir = opendir(path);
	while (dir && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		n++;
		if (content) {
			char name[1024];
			snprintf(name, sizeof name, "%s/%s", path, d->d_name);
			int fd = open(name, O_RDONLY);
			ssize_t got = read(fd, content, room - 1);
			content[got > 0 ? got : 0] = 0;
			close(fd);
		}
	}
	if (dir)
		closedir(dir);
	return n;
}

static void make(const char *box)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", root, box);
	assert_int_equal(mkdir(path, 0700), 0);
}

#define TO(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_refusals(void **state)
{
	struct world w = world_new("");

	(void)state;
	w.queue = connect_role(&w, ROLE_QUEUE);
	deliver(&w, 1, "maildir:local.test", TO("nobody@local.test", "a/b@local.test", "\"..\"@local.test", "not an address"));
	send_body(&w, 1, VIEW("x\r\n"), 100);
	UNTIL(w.rig, w.outcomes == 1);
	assert_int_equal(w.result_n, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(w.results[i].kind, WIRE_FAILED);
	assert_int_equal(w.results[0].code, 550);
	/* the configuration changed: nobody is bounced for that */
	deliver(&w, 2, "maildir:other.test", TO("a@other.test"));
	send_body(&w, 2, VIEW("x\r\n"), 100);
	UNTIL(w.rig, w.outcomes == 2);
	assert_int_equal(w.results[0].kind, WIRE_DEFERRED);
	world_free(&w);
}

static void test_delivers(void **state)
{
	struct world w = world_new("");
	char text[4096];

	(void)state;
	make("mail/bob");
	w.queue = connect_role(&w, ROLE_QUEUE);
	/* bob has a mailbox, new is in the list, postmaster is always made, nobody is none */
	deliver(&w, 7, "maildir:local.test", TO("Bob@local.test", "new@local.test", "Postmaster@local.test", "nobody@local.test"));
	send_body(&w, 7, VIEW("Subject: hi\r\n\r\nhello\r\n"), 3);
	UNTIL(w.rig, w.outcomes == 1);
	assert_int_equal(w.stream, 7);
	assert_int_equal(w.results[0].kind, WIRE_DELIVERED);
	assert_int_equal(w.results[1].kind, WIRE_DELIVERED);
	assert_int_equal(w.results[2].kind, WIRE_DELIVERED);
	assert_int_equal(w.results[3].kind, WIRE_FAILED);
	assert_int_equal(mails("mail/bob", text, sizeof text), 1);
	assert_string_equal(text, "Return-Path: <a@b.test>\nDelivered-To: Bob@local.test\nSubject: hi\n\nhello\n");
	assert_int_equal(mails("mail/new", NULL, 0), 1);
	assert_int_equal(mails("mail/postmaster", NULL, 0), 1);
	assert_true(w.credit > 0);
	deliver(&w, 8, "maildir:free.test", TO("postmaster@free.test", "ghost@free.test"));
	send_body(&w, 8, VIEW("\r\n"), 100);
	UNTIL(w.rig, w.outcomes == 2);
	assert_int_equal(w.results[0].kind, WIRE_DELIVERED);
	assert_int_equal(w.results[1].kind, WIRE_FAILED);
	assert_int_equal(mails("free/postmaster/Maildir", NULL, 0), 1);
	world_free(&w);
}

static void test_loop(void **state)
{
	struct world w = world_new("");

	(void)state;
	make("mail/bob");
	w.queue = connect_role(&w, ROLE_QUEUE);
	deliver(&w, 1, "maildir:local.test", TO("bob@local.test", "new@local.test"));
	send_body(&w, 1, VIEW("A: b\r\ndelivered-TO:  BOB@local.test \r\n\r\n"), 5);
	UNTIL(w.rig, w.outcomes == 1);
	assert_int_equal(w.results[0].kind, WIRE_FAILED);
	assert_int_equal(w.results[0].code, 554);
	assert_int_equal(w.results[1].kind, WIRE_DELIVERED);
	/* in the body the words mean nothing */
	deliver(&w, 2, "maildir:local.test", TO("bob@local.test"));
	send_body(&w, 2, VIEW("A: b\r\n\r\nDelivered-To: bob@local.test\r\n"), 500);
	UNTIL(w.rig, w.outcomes == 2);
	assert_int_equal(w.results[0].kind, WIRE_DELIVERED);
	/* who relayed it may have folded the line, and an empty one is not his */
	deliver(&w, 3, "maildir:local.test", TO("bob@local.test"));
	send_body(&w, 3, VIEW("Delivered-To:\r\n\tbob@local.test\r\n\r\n"), 500);
	UNTIL(w.rig, w.outcomes == 3);
	assert_int_equal(w.results[0].code, 554);
	deliver(&w, 4, "maildir:local.test", TO("bob@local.test"));
	send_body(&w, 4, VIEW("Delivered-To:\r\nTo: bob@local.test\r\n\r\n"), 500);
	UNTIL(w.rig, w.outcomes == 4);
	assert_int_equal(w.results[0].kind, WIRE_DELIVERED);
	world_free(&w);
}

/* Bodies beyond what memory holds go by a file: in small and in large frames, also without O_TMPFILE; the header of a
 * spilled one is still searched. */
static void test_big(void **state)
{
	static const size_t steps[] = { WIRE_BODY_FRAME, 900 * 1024, 70000 };
	size_t n = 700 * 1024;
	char *body = malloc(n), *text = malloc(n + 4096);

	(void)state;
	memset(body, 'x', n);
	memcpy(body, "A: b\r\n\r\n", 8);
	for (int i = 0; i < 6; i++) {
		struct world w = world_new("");
		make("mail/bob");
		tmpfile_error = i >= 3 ? EOPNOTSUPP : 0;
		w.queue = connect_role(&w, ROLE_QUEUE);
		deliver(&w, 1, "maildir:local.test", TO("bob@local.test"));
		send_body(&w, 1, view_of(body, n), steps[i % 3]);
		UNTIL(w.rig, w.outcomes == 1);
		assert_int_equal(w.results[0].kind, WIRE_DELIVERED);
		assert_int_equal(mails("mail/bob", text, n + 4096), 1);
		assert_int_equal(strlen(text), n - 2 + strlen("Return-Path: <a@b.test>\nDelivered-To: bob@local.test\n"));
		assert_int_equal(mails("mail/bob/../bob", NULL, 0), 1);
		memcpy(body, "Delivered-To: bob@local.test\r\n\r\n", 32);
		deliver(&w, 2, "maildir:local.test", TO("bob@local.test"));
		send_body(&w, 2, view_of(body, n), steps[i % 3]);
		UNTIL(w.rig, w.outcomes == 2);
		assert_int_equal(w.results[0].code, 554);
		memset(body, 'x', 32);
		memcpy(body, "A: b\r\n\r\n", 8);
		world_free(&w);
	}
	free(body);
	free(text);
}

static void test_disk_full(void **state)
{
	struct world w = world_new("");
	size_t n = 400 * 1024;
	char *body = calloc(1, n);

	(void)state;
	make("mail/bob");
	w.queue = connect_role(&w, ROLE_QUEUE);
	disk_full = true;
	deliver(&w, 1, "maildir:local.test", TO("bob@local.test", "nobody@local.test"));
	send_body(&w, 1, VIEW("small\r\n"), 100);
	UNTIL(w.rig, w.outcomes == 1);
	assert_int_equal(w.results[0].kind, WIRE_DEFERRED);
	assert_int_equal(w.results[0].code, 452);
	assert_int_equal(w.results[1].kind, WIRE_FAILED);
	deliver(&w, 2, "maildir:local.test", TO("bob@local.test"));
	send_body(&w, 2, view_of(body, n), WIRE_BODY_FRAME);
	UNTIL(w.rig, w.outcomes == 2);
	assert_int_equal(w.results[0].kind, WIRE_DEFERRED);
	assert_int_equal(mails("mail/bob", NULL, 0), 0);
	free(body);
	world_free(&w);
}

static void test_checks(void **state)
{
	struct world w = world_new("");
	static const struct { const char *domain, *user; unsigned verdict; } cases[] = {
		{ "local.test", "bob", WIRE_RCPT_YES }, { "LOCAL.test", "BOB", WIRE_RCPT_YES }, { "local.test", "x", WIRE_RCPT_NO },
		{ "local.test", "..", WIRE_RCPT_NO }, { "relay.test", "bob", WIRE_RCPT_AGAIN }, { "none.test", "bob", WIRE_RCPT_AGAIN },
		{ "free.test", "ghost", WIRE_RCPT_NO }, { "local.test", "", WIRE_RCPT_NO },
	};

	(void)state;
	make("mail/bob");
	w.receive = connect_role(&w, ROLE_RECEIVE);
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wire_RCPT_CHECK m = { .stream = i, .domain = view_cstr(cases[i].domain), .user = view_cstr(cases[i].user) };
		wire_send_RCPT_CHECK(w.receive, &m);
		UNTIL(w.rig, w.verdicts == i + 1);
		assert_int_equal(w.stream, i);
		assert_int_equal(w.verdict, cases[i].verdict);
	}
	/* receive may not deliver */
	channel_send(w.receive, WIRE_DELIVER, VIEW("x"));
	UNTIL(w.rig, w.receive == NULL);
	world_free(&w);
}

/* receive dies with a question under way: nobody did anything wrong, and nobody is accused. */
static void test_asker_gone(void **state)
{
	struct world w = world_new("");
	struct wire_RCPT_CHECK m = { .stream = 1, .domain = VIEW("local.test"), .user = VIEW("bob") };

	(void)state;
	w.receive = connect_role(&w, ROLE_RECEIVE);
	wire_send_RCPT_CHECK(w.receive, &m);
	channel_free(w.receive);
	w.receive = NULL;
	rig_turns(w.rig, 5);
	assert_null(strstr(rig_log(w.rig), "frame_refused"));
	world_free(&w);
}

static void test_bad_frames(void **state)
{
	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		struct world w = world_new("");
		make("mail/bob");
		w.queue = connect_role(&w, ROLE_QUEUE);
		deliver(&w, 1, "maildir:local.test", TO("bob@local.test"));
		if (kind == 0)
			deliver(&w, 1, "maildir:local.test", TO("bob@local.test")); /* the stream is taken */
		else if (kind == 1)
			channel_send(w.queue, WIRE_DELIVER, VIEW("abc"));
		else if (kind == 2)
			channel_send(w.queue, WIRE_RCPT_CHECK, VIEW(""));
		else
			deliver(&w, 2, "maildir:local.test", (const char *const[]){ NULL });
		UNTIL(w.rig, w.queue_closed);
		assert_int_equal(w.outcomes, 0);
		assert_int_equal(mails("mail/bob", NULL, 0), 0);
		world_free(&w);
	}
}

/* Draining ends with the last delivery, however it ends. */
static void test_drain(void **state)
{
	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		struct world w = world_new("");
		make("mail/bob");
		w.queue = connect_role(&w, ROLE_QUEUE);
		if (kind > 0)
			deliver(&w, 1, "maildir:local.test", TO("bob@local.test"));
		rig_turns(w.rig, 3);
		local_role.drain(&w.rig->role, 1000);
		assert_int_equal(w.rig->drained, kind == 0);
		if (kind == 1)
			send_body(&w, 1, VIEW("x\r\n"), 10);
		else if (kind == 2)
			wire_send_DELIVER_ABORT(w.queue, &(struct wire_DELIVER_ABORT){ .stream = 1 });
		else if (kind == 3) {
			channel_free(w.queue);
			w.queue = NULL;
		}
		UNTIL(w.rig, w.rig->drained == 1);
		rig_turns(w.rig, 3);
		assert_int_equal(w.rig->drained, 1);
		assert_int_equal(mails("mail/bob", NULL, 0), kind == 1);
		world_free(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals), cmocka_unit_test(test_asker_gone), cmocka_unit_test(test_bad_frames), cmocka_unit_test(test_disk_full), cmocka_unit_test(test_loop),
		cmocka_unit_test(test_big), cmocka_unit_test(test_checks), cmocka_unit_test(test_delivers), cmocka_unit_test(test_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
