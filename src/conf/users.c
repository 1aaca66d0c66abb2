/* users.c - see users.h. */
#include "conf/users.h"

bool conf_users_has(struct view list, struct view local)
{
	while (list.n) {
		size_t end = view_find(list, '\n');
		struct view line = view_slice(list, 0, end);

		list = view_slice(list, end + 1, list.n);
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		line = view_trim(line);
		if (line.n && line.p[0] != '#' && view_eq_nocase(line, local))
			return true;
	}
	return false;
}
