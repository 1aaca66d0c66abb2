/* maildir.h - one message into one Maildir, so that it is there after a power cut or not at all.
 *
 * The order is the safety: write tmp/NAME, fsync it, rename it to new/NAME, fsync new/.  Only then is the message
 * delivered.  rename never overwrites, because the name holds random bits and tmp/NAME was made with O_EXCL.
 * Line ends become LF, as every reader of Maildirs on Unix expects (docs/decisions/001); the content is not altered.
 * All calls block on the disk: they run on the pool's threads (pool.h), never on the loop.
 */
#ifndef LOCAL_MAILDIR_H
#define LOCAL_MAILDIR_H
#include "base/env.h"
#include "base/error.h"
#include "base/view.h"

/* The body of a delivery: in memory while small, else in an unlinked file; read many times, never changed. */
struct maildir_source {
	struct view memory; /* when fd is -1 */
	int fd;
	uint64_t size;
	bool binary; /* octets are opaque: line ends stay as they are */
};

struct maildir_job {
	const char *path;    /* the Maildir */
	struct view header;  /* Return-Path and Delivered-To lines, LF-terminated */
	const struct maildir_source *source;
	const char *host;    /* for the file's name */
};

/* Makes path, the folder above it (what is above that must exist) and tmp, new, cur below it when missing, mode 0700, and syncs what it made. */
int local_maildir_make(const struct env *, const char *path, struct error *);
/* 0 when the message is durable in new/; -1 with a class: FULL, AGAIN, INPUT (no such mailbox), OURS. */
int local_maildir_deliver(const struct env *, const struct maildir_job *, struct error *);

#endif
