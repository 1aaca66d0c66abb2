/* mailbox.c - see mailbox.h. */
#include "local/mailbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define USER_MARK "%{user}"
#define USER_MAX 64 /* RFC 5321 4.5.3.1.1: a local part */

static bool name_is_safe(struct view user)
{
	if (user.n == 0 || user.n > USER_MAX || user.p[0] == '.')
		return false;
	for (size_t i = 0; i < user.n; i++)
		if ((unsigned char)user.p[i] < 0x20 || user.p[i] == 0x7f || user.p[i] == '/')
			return false;
	return true;
}

/* Every %{user} in the template becomes the name. */
static bool expand(const char *template, struct view user, char *to, size_t room)
{
	size_t n = 0;

	while (*template) {
		const char *mark = strstr(template, USER_MARK);
		size_t plain = mark ? (size_t)(mark - template) : strlen(template);
		if (n + plain + (mark ? user.n : 0) >= room)
			return false;
		memcpy(to + n, template, plain);
		n += plain;
		if (mark) {
			memcpy(to + n, user.p, user.n);
			n += user.n;
		}
		template += plain + (mark ? sizeof USER_MARK - 1 : 0);
	}
	to[n] = 0;
	return true;
}

static enum mailbox_kind look(struct mailbox *m)
{
	struct stat st;

	if (stat(m->path, &st) == 0) {
		m->exists = true;
		m->uid = st.st_uid;
		return S_ISDIR(st.st_mode) ? MAILBOX_KNOWN : MAILBOX_UNKNOWN;
	}
	return errno == ENOENT || errno == ENOTDIR ? MAILBOX_UNKNOWN : MAILBOX_UNREADABLE;
}

/* The part of the template that is the same for everybody: the folder in which users' names begin. */
static bool fixed_part(const char *template, char to[MAILBOX_PATH])
{
	const char *mark = strstr(template, USER_MARK), *slash;
	size_t n = mark ? (size_t)(mark - template) : strlen(template);

	if (n >= MAILBOX_PATH)
		return false;
	memcpy(to, template, n);
	to[n] = 0;
	slash = strrchr(to, '/');
	if (!slash)
		return false;
	to[slash == to ? 1 : slash - to] = 0;
	return true;
}

/* Whose mailbox would it be?  The owner's of the nearest folder above it that is there.  A tree whose fixed part is away
 * (not yet mounted) says nothing of anybody: nobody's mail is bounced for that. */
static enum mailbox_kind look_above(const char *template, struct mailbox *m)
{
	char above[MAILBOX_PATH], *slash;
	struct stat st;

	m->exists = false;
	if (!fixed_part(template, above) || stat(above, &st) == -1)
		return MAILBOX_UNREADABLE;
	snprintf(above, sizeof above, "%s", m->path);
	do { /* ends at the fixed part at the latest */
		slash = strrchr(above, '/');
		if (!slash)
			return MAILBOX_UNREADABLE;
		above[slash == above ? 1 : slash - above] = 0;
	} while (stat(above, &st) == -1 && slash != above);
	m->uid = st.st_uid;
	return MAILBOX_KNOWN;
}

enum mailbox_kind local_mailbox_find(const char *template, struct view user, bool may_make, struct mailbox *out)
{
	char lower[USER_MAX];
	enum mailbox_kind kind;

	memset(out, 0, sizeof *out);
	if (!name_is_safe(user))
		return MAILBOX_UNKNOWN;
	if (!expand(template, user, out->path, sizeof out->path))
		return MAILBOX_UNKNOWN;
	kind = look(out);
	if (kind != MAILBOX_UNKNOWN)
		return kind;
	for (size_t i = 0; i < user.n; i++)
		lower[i] = view_lower(user.p[i]);
	if (!expand(template, view_of(lower, user.n), out->path, sizeof out->path))
		return MAILBOX_UNKNOWN;
	kind = look(out);
	if (kind != MAILBOX_UNKNOWN)
		return kind;
	kind = look_above(template, out);
	return may_make || kind == MAILBOX_UNREADABLE ? kind : MAILBOX_UNKNOWN;
}
