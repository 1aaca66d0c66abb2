/* record.h - what the segments hold: records, as bytes.  Pure: no disk.
 *
 *   header, 40 bytes, little-endian:
 *     0  magic 4   "PrR1": the last character is the format's version
 *     4  type 1    enum record_type
 *     5  flags 1   RECORD_MORE: counts only together with the next record
 *     6  zero 2
 *     8  generation 8   of the segment; unique for the spool's life
 *    16  offset 8       of this header in its file
 *    24  sequence 8     counts up through all segments
 *    32  length 4       of the payload; the next record begins at the next multiple of 8
 *    36  crc 4          CRC-32C of salt, header without crc, payload
 *   The salt is random and in the segment's header: nobody can send a mail that contains a record of ours.
 *
 * A record found at another offset, in another generation or with another salt does not check: leftovers of a
 * recycled segment end a scan.  Nothing is ever changed in place.
 * Failure: decoding returns false on anything that is not exactly as encoding makes it.
 */
#ifndef SPOOL_RECORD_H
#define SPOOL_RECORD_H
#include "spool/spool.h"

#define RECORD_HEADER 40u
#define RECORD_ALIGN(n) (((n) + 7) & ~(uint64_t)7)
#define RECORD_MORE 1u

enum record_type {
	RECORD_MESSAGE = 1, /* a message with all its envelopes; its body inside, or the number of its file */
	RECORD_MOVED,       /* the same with the state of now: replaces an earlier record of that message */
	RECORD_OUTCOME,     /* an envelope is done, or what remains of it */
	RECORD_HOLD,        /* lists of envelopes */
	RECORD_RELEASE,
	RECORD_FLUSH,
	RECORD_DELETE,
	RECORD_ABORT,       /* the sequences [first, last] never counted: their commit failed */
	RECORD_MARK         /* the sequence jumps: what an earlier run left behind it can be told from what follows */
};

struct record {
	enum record_type type;
	unsigned flags;
	uint64_t generation, offset, sequence;
	struct view payload;
};

static inline uint64_t record_size(uint64_t payload)
{
	return RECORD_ALIGN(RECORD_HEADER + payload);
}

/* Writes the header in front of a payload of n bytes that stands at `at + RECORD_HEADER` already, and the padding
 * behind it.  Returns record_size(n). */
uint64_t record_seal(unsigned char *at, const struct record *, uint64_t n, uint64_t salt);

enum record_check {
	RECORD_GOOD = 1,
	RECORD_FOREIGN, /* nothing of this generation: zeros, or an earlier life of the segment */
	RECORD_BAD      /* of this generation, but damaged or cut */
};
/* Looks at n bytes that stand at `offset` in a segment.  *need: bytes that the whole record takes, when the header
 * looks right (RECORD_BAD with *need > n: give more). */
enum record_check record_parse(const unsigned char *, size_t n, uint64_t generation, uint64_t salt, uint64_t offset,
                               struct record *, uint64_t *need);

/* ---- payloads ---- */

#define RECORD_MESSAGE_FIXED 56u
struct record_message {
	spool_id id;
	int64_t created;
	uint32_t n;            /* envelopes */
	uint64_t body_size;
	uint64_t body_file;    /* 0: the body is in the record */
	uint32_t body_start;   /* of the body within its file */
	uint32_t body_crc;
	struct view envelopes; /* encoded one after the other */
	struct view body;
};
/* Bytes from the record's beginning to the body. */
uint64_t record_body_offset(const struct record_message *);
uint64_t record_message_size(const struct record_message *); /* payload; body_size counts when body_file is 0 */
/* Writes the payload except for the body; returns where the body goes. */
unsigned char *record_put_message(unsigned char *to, const struct record_message *);
bool record_get_message(struct view payload, struct record_message *);
/* Its envelopes decode, each slot once and in order, and its id is one that we give: what a checksum cannot tell. */
bool record_message_sound(const struct record_message *);

size_t record_envelope_size(const struct spool_envelope *);
unsigned char *record_put_envelope(unsigned char *to, const struct spool_envelope *);
bool record_get_envelope(struct view *rest, struct spool_envelope *); /* id and body_size are left alone */

struct record_outcome {
	spool_id id;
	uint32_t slot;
	bool remains;
	uint32_t attempts;
	int64_t due, expires;
	struct view data;
};
#define RECORD_OUTCOME_FIXED 40u
unsigned char *record_put_outcome(unsigned char *to, const struct record_outcome *);
bool record_get_outcome(struct view payload, struct record_outcome *);

#define RECORD_LIST_FIXED 16u /* due 8, count 4, zero 4 */
#define RECORD_LIST_ITEM 16u  /* id 8, slot 4, zero 4 */
struct record_list { int64_t due; uint32_t n; const char *items; };
void record_put_list(unsigned char *to, int64_t due, uint32_t n);
void record_put_item(unsigned char *to, uint32_t i, spool_id id, uint32_t slot);
bool record_get_list(struct view payload, struct record_list *);
void record_get_item(const struct record_list *, uint32_t i, spool_id *, uint32_t *slot);

#define RECORD_RANGE 16u /* ABORT: first, last; MARK: the sequence before it, 0 */
void record_put_range(unsigned char *to, uint64_t first, uint64_t last);
bool record_get_range(struct view payload, uint64_t *first, uint64_t *last);

/* little-endian numbers, wherever they stand */
void put_u32(unsigned char *to, uint32_t v);
void put_u64(unsigned char *to, uint64_t v);
uint32_t get_u32(const void *from);
uint64_t get_u64(const void *from);

#endif
