/* users.h - a domain's list of users, as text: one local part a line.
 *
 * Blanks around a line and a CR at its end do not count, empty lines and lines that begin with '#' are none, and ASCII case
 * does not matter.  `receive` judges by it who exists, `local` whose mailbox may be made: one reading for both.
 */
#ifndef CONF_USERS_H
#define CONF_USERS_H
#include "base/view.h"

/* local: without quotes and backslashes. */
bool conf_users_has(struct view list, struct view local);

#endif
