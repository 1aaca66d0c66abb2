/* kit.h - what the spool's tests share: a spool in a directory of its own, and calls that wait for their answer. */
#ifndef TEST_SPOOL_KIT_H
#define TEST_SPOOL_KIT_H
#include "spool/spool.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

enum kit_engine { KIT_MEM = 1, KIT_STEPPED, KIT_THREADED };

extern enum spool_index kit_index; /* of every kit_init from now on; strict at first */
/* The tests once in each mode of the index. */
#define KIT_BOTH_MODES(tests, setup) kit_both_modes((tests), sizeof(tests) / sizeof *(tests), (setup))
int kit_both_modes(const struct CMUnitTest *, size_t n, CMFixtureFunction setup);

struct kit {
	enum kit_engine engine;
	char path[256];
	struct spool *spool;
	struct spool_options options;
	struct spool_recovery found;
	struct error error;
};

struct kit_answer {
	bool done;
	unsigned calls;
	enum spool_status status;
	spool_id id;
};

struct kit_found {
	bool done;
	enum spool_status status;
	size_t n;
	struct { spool_id id; uint32_t slot, attempts; int64_t due, created, expires; bool held; uint64_t size, count;
		char dest[64]; char data[128]; } e[2048];
	int64_t next_due;
};

void kit_dir(char *path, size_t n);       /* a new empty directory's name, not made yet */
void kit_remove(const char *path);        /* and all in it */
void kit_copy(const char *from, const char *to); /* as a crash would leave it: no closing */

void kit_init(struct kit *, enum kit_engine);
int kit_open(struct kit *);               /* 0, or -1 with kit->error */
void kit_close(struct kit *);
void kit_wait(struct kit *, const bool *done);
void kit_end(struct kit *);               /* close, remove */

void kit_done(void *answer, enum spool_status, spool_id);
struct spool_envelope kit_envelope(const char *dest, int64_t due, const char *data);
/* Accepts text with n envelopes for dest; lease: all of them. */
void kit_begin_accept(struct kit *, const char *text, size_t size, const char *dest, uint32_t n, bool lease,
                      struct kit_answer *);
struct kit_answer kit_accept(struct kit *, const char *text, const char *dest, uint32_t n, bool lease);
void kit_lease(struct kit *, const char *dest, int64_t now, size_t max, struct kit_found *);
void kit_due(struct kit *, int64_t now, size_t max, struct kit_found *);
void kit_list(struct kit *, spool_id after, uint32_t slot, const char *dest, size_t max, struct kit_found *);
struct kit_answer kit_settle(struct kit *, spool_id, uint32_t slot, const struct spool_envelope *remains);
struct kit_answer kit_hold(struct kit *, spool_id, const char *dest, bool on);
struct kit_answer kit_flush(struct kit *, spool_id, const char *dest, int64_t now);
struct kit_answer kit_delete(struct kit *, spool_id, const char *dest);
/* The body, malloc'ed; NULL and the status when it cannot be read. */
char *kit_read(struct kit *, spool_id, uint64_t offset, size_t n, size_t *got, enum spool_status *);
void kit_assert_body(struct kit *, spool_id, const char *text);
size_t kit_count(struct kit *); /* envelopes, by list */

#endif
