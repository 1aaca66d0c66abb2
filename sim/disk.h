/* disk.h - the model disk, to vfs.c: files by name, and what of them is durable.
 *
 * Every file has its content as it is seen and as the platter has it; a sync makes them equal, sector by sector.  Names
 * are durable when their folder was synced.  A cut goes back to the platter, or to something between.
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H
#include "sim/sim.h"

#define SECTOR 512u

struct file {
	struct file *next;
	struct disk *disk;
	char path[200];
	bool folder, linked;         /* linked: it has its name now */
	unsigned refs;
	unsigned char *now, *kept;   /* as seen; as on the platter */
	size_t n, n_cap, kept_n, kept_cap;
	unsigned char *dirty;        /* a flag a sector of `now` */
	size_t dirty_cap;
	struct shared *shared;       /* vfs.c: locks and shared memory of an index */
};

enum user { USER_QUEUE = 1, USER_LOCAL, USER_END };

/* False: the call fails with errno; it may have happened, in part or whole, or not. */
bool disk_call(struct disk *, enum user, const char *what, const char *path, bool writes);
bool disk_alive(const struct disk *, enum user); /* false: the process is dead, nothing more happens */
struct file *disk_find(struct disk *, const char *path);
struct file *disk_make(struct disk *, const char *path, bool folder);
void disk_unlink(struct disk *, struct file *);
bool disk_write(struct file *, const void *, size_t n, size_t at); /* false: full */
size_t disk_read(struct file *, void *, size_t n, size_t at);
void disk_truncate(struct file *, size_t n);
void disk_sync(struct file *);        /* its content */
void disk_sync_names(struct disk *, const char *folder);
void disk_folder_of(const char *path, char to[200]);

#endif
