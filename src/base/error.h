/* error.h - an error has a class, so that the caller can decide without reading words.
 *
 * Functions of the daemon that can fail take `struct error *` last and return 0 or -1.  The words are for the
 * log and the operator; the class decides between retry, refuse and stop.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H
#include <stdbool.h>

enum error_class {
	ERROR_AGAIN = 1, /* temporary: memory, descriptors, a busy lock; the same call may work later */
	ERROR_CLOSED,    /* the other side is gone */
	ERROR_PEER,      /* the other side broke the rules */
	ERROR_POLICY,    /* our rules forbid it */
	ERROR_INPUT,     /* what the operator gave is wrong (configuration, arguments) */
	ERROR_FULL,      /* no space: disk or quota */
	ERROR_OURS,      /* a fault of ours or of the machine (EIO) */
};

struct error {
	enum error_class class;
	int sys;        /* errno, 0 when none */
	char text[400]; /* a sentence without a full stop; always terminated */
};

/* Fills e (which may be NULL) and returns -1, so that `return error_set(...)` reads well. */
int error_set(struct error *e, enum error_class class, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with errno: its class is derived from it (ENOSPC and EDQUOT full, ENOMEM and EMFILE again, ...),
 * its words are appended. */
int error_sys(struct error *e, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
enum error_class error_class_of(int err);
/* Is this process or machine out of descriptors, buffers or memory?  Then err says nothing about what was reached for. */
bool error_is_want(int err);
const char *error_class_name(enum error_class class);

#endif
