/* smoke.h - the scenarios whose instructions bench/smoke counts: a fixed piece of work on one room each.
 *
 * Same work, same instructions: no clock, no randomness, no socket; only what libc and the disk's error path choose may differ.
 * prepare may cost what it likes; only what run does, called by measured() in smoke.c, is counted.
 */
#ifndef BENCH_SMOKE_H
#define BENCH_SMOKE_H
#include <stddef.h>

#define SMOKE_SIZE 4096 /* octets of a message */

struct smoke {
	const char *name;
	void (*prepare)(unsigned n, const char *folder);
	void (*run)(unsigned n); /* n messages */
};

extern const struct smoke smoke_server_1, smoke_server_20, smoke_server_bdat, smoke_client_1, smoke_client_20, smoke_scan, smoke_spool, smoke_spool_read;

void smoke_die(const char *why) __attribute__((noreturn));
size_t smoke_text(char to[SMOKE_SIZE]); /* a message of about that size: a header, then lines; returns its octets */

#endif
