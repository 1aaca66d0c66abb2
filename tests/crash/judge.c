/* judge.c - opens a spool as the daemon would after a crash and says what is in it.
 *
 * judge SPOOL SEGMENT_SIZE BODY_FILE_SIZE INDEX
 *
 *   opened messages=N envelopes=N replayed=N torn=N quarantined=N rebuilt=N      for each start
 *   envelope ID SLOT KIND LOAD-ID SHA256 DEST RECIPIENT[,RECIPIENT...]
 *   bad ID SLOT STATUS                                                           a body that cannot be read
 *   end N
 *
 * KIND is mail or report; LOAD-ID what stands behind X-Load-Id in the body ("-": nothing), SHA256 (32 digits) of the
 * body from that header on.  A spool that falls sick while it is read is closed and opened again, as often as
 * super would start the role: an index that is damaged in its midst is made anew by the start that follows.
 * Exit status 0 when all could be read, 1 when something is bad, 2 when no start succeeded.
 */
#include "base/arena.h"
#include "queue/envelope.h"
#include "spool/spool.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define MARK "X-Load-Id: "
#define PAGE 500u      /* envelopes asked for at once */
#define READ (4u << 20) /* octets of a body; those of the tests are smaller */
#define STARTS 4
#define ARENA (1u << 20)

struct look {
	struct spool *spool;
	struct arena arena;
	bool done;
	enum spool_status status;
	spool_id after;
	uint32_t after_slot;
	size_t n, total, bad;
	struct { spool_id id; uint32_t slot; char *line; } page[PAGE];
	spool_id body_id;
	char load_id[128], sha[33];
};

static void wait(struct look *l)
{
	spool_kick(l->spool);
	while (!l->done) {
		spool_step(l->spool);
		spool_dispatch(l->spool);
		spool_kick(l->spool);
	}
	l->done = false;
}

/* What is behind the body's hash and id: " KIND DEST RECIPIENTS". */
static char *describe(struct look *l, const struct spool_envelope *e)
{
	struct queue_envelope env;
	char *line = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&line, &n);

	if (!f)
		abort();
	arena_reset(&l->arena);
	if (queue_envelope_decode(e->data, &env, &l->arena)) {
		fprintf(f, "undecodable %.*s -", VIEW_ARGS(e->dest));
	} else {
		fprintf(f, "%s %.*s ", env.kind == QUEUE_REPORT ? "report" : "mail", VIEW_ARGS(e->dest));
		for (uint32_t i = 0; i < env.n; i++)
			fprintf(f, "%s%.*s", i ? "," : "", VIEW_ARGS(env.rcpts[i].address));
	}
	fclose(f);
	return line;
}

static void listed(void *arg, enum spool_status status, const struct spool_envelope *e, size_t n)
{
	struct look *l = arg;

	l->done = true;
	l->status = status;
	l->n = status == SPOOL_OK ? n : 0;
	for (size_t i = 0; i < l->n; i++) {
		l->page[i].id = e[i].id;
		l->page[i].slot = e[i].slot;
		l->page[i].line = describe(l, &e[i]);
	}
}

static void got(void *arg, enum spool_status status, struct view bytes)
{
	struct look *l = arg;
	const char *mark = bytes.n ? memmem(bytes.p, bytes.n, MARK, sizeof MARK - 1) : NULL;
	unsigned char digest[EVP_MAX_MD_SIZE];
	struct view rest;
	size_t n;

	l->done = true;
	l->status = status;
	snprintf(l->load_id, sizeof l->load_id, "-");
	snprintf(l->sha, sizeof l->sha, "-");
	if (status != SPOOL_OK || !mark)
		return;
	rest = view_slice(bytes, (size_t)(mark - bytes.p), bytes.n);
	EVP_Digest(rest.p, rest.n, digest, NULL, EVP_sha256(), NULL);
	for (size_t i = 0; i < 16; i++)
		snprintf(l->sha + 2 * i, 3, "%02x", digest[i]);
	rest = view_slice(rest, sizeof MARK - 1, rest.n);
	n = view_find(rest, '\r');
	snprintf(l->load_id, sizeof l->load_id, "%.*s", (int)(n < 100 ? n : 100), rest.p);
}

static void read_page(struct look *l)
{
	for (size_t i = 0; i < l->n; i++) {
		l->total++;
		if (l->page[i].id != l->body_id) {
			spool_read(l->spool, l->page[i].id, 0, READ, got, l);
			wait(l);
			l->body_id = l->status == SPOOL_OK ? l->page[i].id : 0;
		}
		if (l->body_id) {
			char *kind_end = strchr(l->page[i].line, ' ');
			printf("envelope %016" PRIx64 " %u %.*s %s %s%s\n", l->page[i].id, l->page[i].slot, (int)(kind_end - l->page[i].line),
			       l->page[i].line, l->load_id, l->sha, kind_end);
		} else {
			printf("bad %016" PRIx64 " %u %s\n", l->page[i].id, l->page[i].slot, spool_status_name(l->status));
			l->bad++;
		}
		l->after = l->page[i].id;
		l->after_slot = l->page[i].slot;
		free(l->page[i].line);
	}
}

/* 0: all was read; 1: something is bad; -1: the list itself failed */
static int look(struct look *l)
{
	l->after = l->body_id = 0;
	l->after_slot = 0;
	l->total = l->bad = 0;
	do {
		spool_list(l->spool, l->after, l->after_slot, VIEW(""), PAGE, listed, l);
		wait(l);
		if (l->status != SPOOL_OK) {
			printf("list %s\n", spool_status_name(l->status));
			return -1;
		}
		read_page(l);
	} while (l->n == PAGE);
	printf("end %zu\n", l->total);
	return l->bad > 0;
}

int main(int argc, char **argv)
{
	struct spool_options o = { .env = &env_real };
	struct spool_recovery r;
	struct error e = { 0 };
	static struct look l;
	int result = -1;

	if (argc != 5) {
		fprintf(stderr, "usage: judge SPOOL SEGMENT_SIZE BODY_FILE_SIZE INDEX\n");
		return 64;
	}
	o.path = argv[1];
	o.segment_size = strtoull(argv[2], NULL, 10);
	o.body_file_size = strtoull(argv[3], NULL, 10);
	o.index = strcmp(argv[4], "lagging") == 0 ? SPOOL_INDEX_LAGGING : SPOOL_INDEX_STRICT;
	arena_init(&l.arena, &alloc_libc, ARENA);
	for (int i = 0; i < STARTS && result != 0; i++) {
		memset(&r, 0, sizeof r);
		if (spool_open(&l.spool, &o, &r, &e)) {
			printf("refused %s\n", e.text);
			continue;
		}
		printf("opened messages=%" PRIu64 " envelopes=%" PRIu64 " replayed=%" PRIu64 " torn=%" PRIu64 " quarantined=%" PRIu64
		       " rebuilt=%d\n", r.messages, r.envelopes, r.replayed, r.torn_bytes, r.quarantined, (int)r.rebuilt);
		result = look(&l);
		spool_close(l.spool);
	}
	arena_free(&l.arena);
	return result == 0 ? 0 : result == 1 ? 1 : 2;
}
