/* spool.c - the disk image is the input: what a start makes of segments that hold anything.
 *
 * Input: options, then segments with records (see build).  A record is sealed with a right checksum unless the input
 * says otherwise, so that what is tried is recovery and not CRC-32C.  The index is missing, is somebody's octets, or
 * was made by an earlier start from a part of the segments.  The spool is stepped, on a directory in memory.
 *
 * Judged: a start never fails; what it lists can be read or is called damaged; a message accepted then is there after
 * the next start and after a rebuild; one that was settled does not come back.
 */
#include "input.h"

#include "spool/crc32c.h"
#include "spool/record.h"
#include "spool/segment.h"
#include "spool/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENTS_MAX 4
#define RECORDS_MAX  24
#define IMAGE_MAX    20480 /* of a segment: a scan for what is behind damage looks at each octet */
#define RECORD_ROOM  4096  /* more than the largest record of the input takes */
#define LIST_MAX     600
#define STEPS_MAX    100000
#define HEAD_BYTES   60u /* of segment.c: magic, fields, checksum */
#define HEAD_SECOND  2048u

enum { NO_INDEX = 1, BAD_INDEX = 2, OLD_INDEX = 4, ORDER_REBUILD = 8, BODY_FILES = 16, REBUILD_AFTER = 32 };
enum { BREAK_CRC = 1, BREAK_CUT = 2, BREAK_GENERATION = 3, BREAK_ZERO = 4 };

static char root[64];
static uint64_t seed;

static void fill(void *arg, void *to, size_t n)
{
	unsigned char *p = to;

	(void)arg;
	while (n--)
		*p++ = (unsigned char)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33);
}

static int64_t clock_now(void *arg)
{
	(void)arg;
	return 1795516081000;
}

/* ---- files ---- */

static void empty(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	char name[400];

	while (d && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		if (unlink(name) == -1)
			empty(name);
	}
	if (d)
		closedir(d);
	if (d && strcmp(path, root) != 0)
		rmdir(path);
}

static void put_file(const char *name, const void *p, size_t n)
{
	char path[200];
	int fd;

	snprintf(path, sizeof path, "%s/%s", root, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert(fd != -1 && write(fd, p, n) == (ssize_t)n);
	close(fd);
}

static void remove_root(void)
{
	empty(root);
	rmdir(root);
}

static void prepare(void)
{
	char path[100];

	if (!root[0]) {
		snprintf(root, sizeof root, "%s/spool-fuzz-XXXXXX",
			 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
		assert(mkdtemp(root));
		atexit(remove_root);
	}
	empty(root);
	snprintf(path, sizeof path, "%s/segments", root);
	mkdir(path, 0700);
	snprintf(path, sizeof path, "%s/bodies", root);
	mkdir(path, 0700);
}

/* ---- the image ---- */

static size_t put_payload(struct input *in, unsigned type, unsigned char *to)
{
	static unsigned char envelopes[4096];
	struct record_message m = { .created = 1000 };
	struct record_outcome o = { .attempts = 3, .due = 2000, .expires = 900000 };
	unsigned options = input_byte(in), items;
	struct view text;

	if (options & 128) { /* anything */
		text = input_text(in);
		memcpy(to, text.p, text.n);
		return text.n;
	}
	switch (type) {
	case RECORD_MESSAGE:
	case RECORD_MOVED: {
		unsigned char *end = envelopes;

		m.id = 1000 + input_byte(in);
		m.n = 1 + options % 4;
		for (uint32_t i = 0; i < m.n; i++) {
			struct spool_envelope e = { .slot = options & 4 ? input_byte(in) : i,
						    .due = input_u16(in),
						    .created = 1000,
						    .expires = 900000,
						    .held = options & 8,
						    .dest = options & 16 ? input_text(in) : VIEW("d"),
						    .data = VIEW("data") };

			end = record_put_envelope(end, &e);
		}
		m.envelopes = view_of((const char *)envelopes, (size_t)(end - envelopes));
		text = input_text(in);
		m.body_size = text.n;
		m.body_crc = crc32c(0, text.p, text.n);
		if (options & 32) {
			m.body_file = 1 + input_byte(in) % 3;
			m.body_start = 4096 + (options & 64 ? input_byte(in) : 0);
		}
		to = record_put_message(to, &m);
		if (!m.body_file)
			memcpy(to, text.p, text.n);
		return RECORD_MESSAGE_FIXED + m.envelopes.n + (m.body_file ? 0 : text.n);
	}
	case RECORD_OUTCOME:
		o.id = 1000 + input_byte(in);
		o.slot = options % 4;
		o.remains = options & 8;
		o.data = o.remains ? input_text(in) : view_of("", 0);
		record_put_outcome(to, &o);
		return RECORD_OUTCOME_FIXED + o.data.n;
	case RECORD_HOLD:
	case RECORD_RELEASE:
	case RECORD_FLUSH:
	case RECORD_DELETE:
		items = options % 8;
		record_put_list(to, input_u16(in), items);
		for (uint32_t i = 0; i < items; i++)
			record_put_item(to + RECORD_LIST_FIXED + RECORD_LIST_ITEM * i, 0, 1000 + input_byte(in),
					options & 16 ? i : 0);
		return RECORD_LIST_FIXED + RECORD_LIST_ITEM * (options & 32 ? items / 2 : items);
	default: record_put_range(to, input_byte(in), input_byte(in)); return RECORD_RANGE;
	}
}

static size_t put_record(struct input *in, unsigned char *image, size_t at, uint64_t generation, uint64_t *sequence)
{
	unsigned kind = input_byte(in), how = input_byte(in);
	struct record r = {
		.type = kind % 11, .flags = kind & 128 ? RECORD_MORE : 0, .generation = generation, .offset = at
	};
	size_t n = put_payload(in, r.type, image + at + RECORD_HEADER);
	uint64_t size;

	*sequence += how & 16 ? input_byte(in) : 1;
	if (how & 32)
		*sequence += (uint64_t)1 << 32;
	r.sequence = *sequence;
	if (how % 8 == BREAK_GENERATION)
		r.generation++;
	size = record_seal(image + at, &r, n, 7);
	if (how % 8 == BREAK_CRC)
		image[at + RECORD_HEADER + n / 2] ^= 1;
	else if (how % 8 == BREAK_ZERO)
		memset(image + at, 0, size);
	else if (how % 8 == BREAK_CUT)
		memset(image + at + size / 2, 0, size - size / 2);
	return size;
}

static void put_head(unsigned char *page, uint64_t generation, uint64_t number, uint64_t previous, unsigned how)
{
	memcpy(page, "PRSEGM01", 8);
	put_u64(page + 8, generation);
	put_u64(page + 16, 7);
	put_u64(page + 24, number);
	put_u64(page + 32, previous);
	put_u64(page + 40, IMAGE_MAX * (how & 4 ? 8u : 1u));
	put_u64(page + 48, 1000);
	put_u32(page + 56, crc32c(0, page, HEAD_BYTES - 4));
	memcpy(page + HEAD_SECOND, page, HEAD_BYTES);
	page[8] ^= (unsigned char)(how & 1);
	page[HEAD_SECOND + 8] ^= (unsigned char)(how >> 1 & 1);
}

/* One segment file from the input; false at its end. */
static bool build(struct input *in, unsigned number, uint64_t *sequence)
{
	static unsigned char image[IMAGE_MAX + RECORD_ROOM];
	unsigned how = input_byte(in), records = input_byte(in) % RECORDS_MAX;
	uint64_t generation = how & 16 ? input_byte(in) : number,
		 previous = *sequence + (how & 32 ? input_byte(in) : 0);
	size_t at = SEGMENT_HEAD, length = IMAGE_MAX;
	char name[40];

	if (!in->n)
		return false;
	memset(image, 0, sizeof image);
	put_head(image, generation, number, previous, how);
	while (records-- && in->n && at < IMAGE_MAX - RECORD_ROOM)
		at += put_record(in, image, at, generation, sequence);
	if (how & 8)
		length = at - input_byte(in) % 64; /* cut short */
	snprintf(name, sizeof name, "segments/%08x", number);
	put_file(name, image, length);
	return true;
}

/* ---- a life of the spool ---- */

struct entry {
	spool_id id;
	uint32_t slot;
	bool held;
};
struct seen {
	struct spool *spool;
	bool done;
	enum spool_status status;
	spool_id id;
	size_t n;
	struct entry list[LIST_MAX];
};

static void on_done(void *arg, enum spool_status status, spool_id id)
{
	struct seen *s = arg;

	s->done = true;
	s->status = status;
	s->id = id;
}

static void on_list(void *arg, enum spool_status status, const struct spool_envelope *e, size_t n)
{
	struct seen *s = arg;

	on_done(s, status, 0);
	for (size_t i = 0; i < n && s->n < LIST_MAX; i++)
		s->list[s->n++] = (struct entry){ e[i].id, e[i].slot, e[i].held };
}

static void on_chunk(void *arg, enum spool_status status, struct view bytes)
{
	on_done(arg, status, bytes.n);
}

static void wait_for(struct seen *s)
{
	unsigned steps = 0;

	while (!s->done) {
		spool_kick(s->spool);
		spool_step(s->spool);
		spool_dispatch(s->spool);
		assert(++steps < STEPS_MAX);
	}
	s->done = false;
}

static void list(struct seen *s)
{
	s->n = 0;
	spool_list(s->spool, 0, 0, view_of("", 0), LIST_MAX, on_list, s);
	wait_for(s);
	assert(s->status == SPOOL_OK);
}

static bool listed(const struct seen *s, spool_id id)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i].id == id)
			return true;
	return false;
}

static void use(struct seen *s)
{
	for (size_t i = 0; i < s->n && i < 16; i++) {
		spool_read(s->spool, s->list[i].id, 0, 4096, on_chunk, s);
		wait_for(s);
		assert(s->status == SPOOL_OK || s->status == SPOOL_SICK || s->status == SPOOL_GONE);
		assert(i == 0 || s->list[i - 1].id < s->list[i].id || s->list[i - 1].slot < s->list[i].slot);
	}
}

static spool_id accept_one(struct seen *s)
{
	struct spool_envelope e = {
		.dest = VIEW("new"), .due = 100, .created = 1000, .expires = 900000, .data = VIEW("x")
	};
	struct spool_body *b = spool_body_begin(s->spool, 10);

	assert(b && spool_body_write(b, "0123456789", 10) == SPOOL_OK);
	spool_accept(s->spool, b, &e, NULL, 1, on_done, s);
	wait_for(s);
	assert(s->status == SPOOL_OK && s->id);
	return s->id;
}

static void start(struct seen *s, const struct spool_options *o)
{
	struct spool_recovery found;
	struct error e = { 0 };

	if (spool_open(&s->spool, o, &found, &e) == -1) {
		fprintf(stderr, "the start failed: %s\n", e.text);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct seen s;
	struct input in = { data, n };
	struct env env = env_real;
	const struct spool_options o = {
		.path = root, .env = &env, .segment_size = IMAGE_MAX, .body_file_size = 8192, .min_free = 1
	};
	unsigned options = input_byte(&in), number = 1;
	uint64_t sequence = 0;
	struct spool_recovery found;
	struct error e;
	spool_id kept, settled = 0;
	size_t before;

	seed = 1;
	env.random = fill;
	env.wall_ms = clock_now;
	prepare();
	if (options & BODY_FILES)
		put_file("bodies/0000000000000001", input_text(&in).p, 0);
	if (options & OLD_INDEX && build(&in, number, &sequence)) { /* then the segments change behind its back */
		number++;
		start(&s, &o);
		spool_close(s.spool);
	}
	while (number <= SEGMENTS_MAX && build(&in, number, &sequence))
		number++;
	if (options & BAD_INDEX)
		put_file("index.db", data, n);
	if (options & ORDER_REBUILD)
		put_file("rebuild", "", 0);
	start(&s, &o);
	list(&s);
	use(&s);
	kept = accept_one(&s);
	if (s.n && s.list[0].id != kept) {
		settled = s.list[0].id;
		spool_settle(s.spool, settled, s.list[0].slot, NULL, NULL, 0, on_done, &s);
		wait_for(&s);
		settled = s.status == SPOOL_OK ? settled : 0;
	}
	list(&s);
	before = s.n;
	spool_close(s.spool);
	if (options & REBUILD_AFTER)
		assert(spool_rebuild(&o, &found, &e) == 0);
	start(&s, &o);
	list(&s);
	assert(listed(&s, kept));
	assert(options & REBUILD_AFTER || s.n == before);
	assert(s.n <= before || options & REBUILD_AFTER);
	spool_close(s.spool);
	return 0;
}
