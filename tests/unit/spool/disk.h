/* disk.h - a model disk beneath the spool: the power can be cut at each call, and what was not synced is forgotten, in
 * sectors, all or some of it, with files and unlinks whose directory was not synced.
 *
 * It keeps real files and remembers how to undo: every write since its file's last sync, every file made and unlinked
 * since its directory's.  Both ways to the disk go through it: the environment's calls, and SQLite's (its default file
 * layer from disk_install on). */
#ifndef TEST_SPOOL_DISK_H
#define TEST_SPOOL_DISK_H
#include "base/env.h"

#include <stdbool.h>
#include <stdint.h>

enum cut { CUT_ALL = 1, CUT_NONE, CUT_SOME, CUT_END }; /* of what was not synced: lost */

void disk_install(void);                     /* beneath SQLite, once */
struct env disk_env(void);
void disk_begin(const char *grave, uint32_t seed); /* a directory for unlinked files, outside the spool */
/* The power goes at the n-th call from now; it takes effect, or does not.  n < 0: never. */
void disk_cut_at(long n, bool takes_effect);
bool disk_dead(void);
long disk_calls(void);                       /* made since disk_begin */
void disk_lose(enum cut);                    /* what the disk is like when the power comes back; it is back then */

#endif
