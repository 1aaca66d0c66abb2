/* smoke.c - runs one scenario, for callgrind to count:  smoke NAME MESSAGES FOLDER;  without arguments: their names.
 *
 *   valgrind --tool=callgrind --toggle-collect=measured build/bench/smoke server-1 100 /tmp/x
 *
 * bench/smoke does so for all of them and compares with the committed baseline.
 */
#include "smoke.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE 72

static const struct smoke *const all[] = { &smoke_server_1, &smoke_server_20, &smoke_server_bdat, &smoke_client_1, &smoke_client_20, &smoke_scan,
	&smoke_spool, &smoke_spool_read };

void smoke_die(const char *why)
{
	fprintf(stderr, "smoke: %s\n", why);
	exit(1);
}

size_t smoke_text(char to[SMOKE_SIZE])
{
	size_t n = (size_t)snprintf(to, SMOKE_SIZE,
		"Received: from a.example (a.example [192.0.2.1])\r\n\tby mx.example with ESMTPS id 1;\r\n\tThu, 01 Jan 2026 00:00:00 +0000\r\n"
		"From: <a@src.test>\r\nTo: <b@sink.test>\r\nSubject: smoke\r\nMessage-ID: <1@src.test>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n"
		".dot\r\n");

	while (n + LINE + 2 <= SMOKE_SIZE) {
		memset(to + n, 'a' + (int)(n % 26), LINE);
		memcpy(to + n + LINE, "\r\n", 2);
		n += LINE + 2;
	}
	return n;
}

void measured(const struct smoke *, unsigned n);

/* Callgrind counts from here on, and stops at the return. */
__attribute__((noinline)) void measured(const struct smoke *s, unsigned n)
{
	s->run(n);
	__asm__ volatile("" ::: "memory"); /* not a jump into run: the return is here */
}

int main(int argc, char **argv)
{
	if (argc == 1) {
		for (size_t i = 0; i < sizeof all / sizeof *all; i++)
			puts(all[i]->name);
		return 0;
	}
	for (size_t i = 0; argc == 4 && i < sizeof all / sizeof *all; i++) {
		unsigned n = (unsigned)strtoul(argv[2], NULL, 10);

		if (strcmp(all[i]->name, argv[1]) != 0 || !n)
			continue;
		all[i]->prepare(n, argv[3]);
		measured(all[i], n);
		return 0;
	}
	smoke_die("usage: smoke [NAME MESSAGES FOLDER]");
}
