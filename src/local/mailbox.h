/* mailbox.h - from a recipient to the Maildir that is theirs.
 *
 * A user's name becomes part of a path, so it is judged first: '/', NUL, control octets or a leading dot make it nobody's
 * (550 5.1.1).  A mailbox is known by its directory, as written or in lower case; Postmaster's is made when missing
 * (RFC 5321 4.5.1), and so is that of anybody in the domain's list of users.
 */
#ifndef LOCAL_MAILBOX_H
#define LOCAL_MAILBOX_H
#include "conf/conf.h"

#include <sys/types.h>

#define MAILBOX_PATH 1024 /* shorter than PATH_MAX by what is appended below it */

enum mailbox_kind { MAILBOX_KNOWN = 1, MAILBOX_UNKNOWN, MAILBOX_UNREADABLE };

struct mailbox {
	char path[MAILBOX_PATH];
	bool exists;
	uid_t uid; /* the owner of the mailbox, or of the folder that it would be made in */
};

/* template: the path of `maildir:`; may_make: a mailbox that is not there yet is still known. */
enum mailbox_kind local_mailbox_find(const char *template, struct view user, bool may_make, struct mailbox *out);

#endif
