/* error.c - see error.h. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum error_class error_class_of(int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
		return ERROR_FULL;
	case EAGAIN:
	case EINTR:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EBUSY:
	case ENOBUFS:
		return ERROR_AGAIN;
	case EPIPE:
	case ECONNRESET:
		return ERROR_CLOSED;
	default:
		return ERROR_OURS;
	}
}

bool error_is_want(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

const char *error_class_name(enum error_class class)
{
	switch (class) {
	case ERROR_AGAIN: return "again";
	case ERROR_CLOSED: return "closed";
	case ERROR_PEER: return "peer";
	case ERROR_POLICY: return "policy";
	case ERROR_INPUT: return "input";
	case ERROR_FULL: return "full";
	case ERROR_OURS: return "ours";
	}
	return "unknown";
}

int error_set(struct error *e, enum error_class class, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return -1;
	e->class = class;
	e->sys = 0;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	return -1;
}

int error_sys(struct error *e, int err, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!e)
		return -1;
	e->class = error_class_of(err);
	e->sys = err;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof e->text - n, ": %s", strerror(err));
	return -1;
}
