/* rebuild.h - `postrider queue rebuild`; private to cmd/. */
#ifndef CMD_REBUILD_H
#define CMD_REBUILD_H
#include "cmd/control_client.h"

int rebuild_queue(const struct control_where *); /* an exit status */

#endif
