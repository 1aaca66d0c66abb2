/* Memory runs out at the n-th request while an operator asks: the answer is whole, or an error, or the connection ends; the
 * messages are as before, and the next connection is served.  malloc, calloc and realloc are wrapped by the linker;
 * jansson's memory fails with ours. */
#include "harness.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);

static long countdown = -1; /* requests until one fails; negative: none */

static bool fails(void)
{
	return !harness_busy && countdown >= 0 && countdown-- == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
	return n && fails() ? NULL : __real_realloc(p, n);
}

static void *for_jansson(size_t n)
{
	return malloc(n);
}

static struct harness *start(struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	static unsigned serial;

	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(at->sun_path + 1, sizeof at->sun_path - 1, "postrider-test-m-%d-%u", (int)getpid(), serial++);
	assert_int_not_equal(bind(fd, (struct sockaddr *)at, sizeof *at), -1);
	assert_int_not_equal(listen(fd, 8), -1);
	return harness_new_with(NULL, fd);
}

static int dial(struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_not_equal(connect(fd, (struct sockaddr *)at, sizeof *at), -1);
	return fd;
}

/* What came, until nothing moves any more. */
static size_t hear(struct harness *h, int fd, char *to, size_t room)
{
	size_t n = 0;

	for (unsigned i = 0; i < 6; i++) {
		ssize_t got;

		harness_run(h);
		while ((got = recv(fd, to + n, room - 1 - n, MSG_DONTWAIT)) > 0)
			n += (size_t)got;
		if (got == 0)
			break;
	}
	to[n] = '\0';
	return n;
}

/* Each line is whole JSON, whatever failed. */
static void check_lines(const char *text, size_t n)
{
	while (n) {
		const char *lf = memchr(text, '\n', n);
		json_t *o;

		if (!lf)
			return; /* the connection ended in the middle of a line: no line */
		o = json_loadb(text, (size_t)(lf - text), 0, NULL);
		if (!o)
			fail_msg("no JSON: %.*s", (int)(lf - text), text);
		json_decref(o);
		n -= (size_t)(lf + 1 - text);
		text = lf + 1;
	}
}

/* True when the n-th request of memory failed. */
static bool ask(const char *request, long n)
{
	static char text[1 << 20];
	struct sockaddr_un at;
	struct harness *h = start(&at);
	bool failed;
	size_t got;
	int fd;

	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	for (unsigned i = 0; i < 3; i++)
		submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test", "y@other.example" } }, WIRE_DONE_OK);
	harness_pass(h, 1000);
	h->send.script = NULL;
	fd = dial(&at);
	countdown = n;
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	got = hear(h, fd, text, sizeof text);
	failed = countdown < 0;
	countdown = -1;
	check_lines(text, got);
	if (strstr(text, "\"ok\":true") && strstr(request, "\"list\"")) { /* said to be whole: it is */
		unsigned items = 0, rcpts = 0;

		for (const char *p = text; (p = strstr(p, "{\"item\":")); p++)
			items++;
		for (const char *p = text; (p = strstr(p, "{\"address\":")); p++)
			rcpts++;
		if (items != (strstr(request, "max") ? 2u : 6u))
			fail_msg("request %ld of memory: %s", n, text);
		assert_int_equal(rcpts, items);
	}
	if (!failed)
		assert_non_null(strstr(text, "\"ok\":"));
	close(fd);
	harness_run(h);
	harness_pass(h, 6000); /* what waited for super is over */
	fd = dial(&at);
	assert_true(send(fd, "{\"cmd\":\"list\"}\n", 15, MSG_NOSIGNAL) == 15);
	got = hear(h, fd, text, sizeof text);
	assert_non_null(strstr(text, "\"ok\":true"));
	if (!strstr(request, "delete"))
		assert_int_equal(stats(h).messages, 3);
	close(fd);
	harness_free(h);
	return failed;
}

static void every_request(void **state)
{
	static const char *const requests[] = {
		"{\"cmd\":\"list\"}\n",
		"{\"cmd\":\"list\",\"max\":2,\"dest\":\"mx:other.example\"}\n",
		"{\"cmd\":\"hold\",\"all\":true}\n",
		"{\"cmd\":\"release\",\"all\":true}\n",
		"{\"cmd\":\"flush\"}\n",
		"{\"cmd\":\"delete\",\"dest\":\"mx:other.example\"}\n",
		"{\"cmd\":\"prometheus\"}\n",
		"{\"cmd\":\"nonsense\"}\n",
		"{}\n",
	};
	unsigned long all = 0;

	(void)state;
	json_set_alloc_funcs(for_jansson, free);
	for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
		long n = 0;

		while (ask(requests[i], n))
			n += n < 60 ? 1 : 7; /* a list makes hundreds of small ones, all alike */
		assert_true(n > 3);
		all += (unsigned long)n;
	}
	print_message("%lu requests\n", all);
}

/* show and why read the body and the envelope of one message. */
static void one_message(void **state)
{
	static const char *const words[] = { "show", "why", "hold", "delete" };
	char request[120], id[EVENT_ID_SIZE];
	struct sockaddr_un at;
	struct harness *h = start(&at); /* ids are made from the clock, which stands still: the first is the same each time */
	uint64_t first = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test", "y@other.example" } }, WIRE_DONE_OK);

	(void)state;
	harness_free(h);
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		long n = 0;

		snprintf(request, sizeof request, "{\"cmd\":\"%s\",\"id\":\"%s\"}\n", words[i], event_id_text(first, id));
		while (ask(request, n))
			n += n < 60 ? 1 : 5;
		assert_true(n > 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_request), cmocka_unit_test(one_message) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
