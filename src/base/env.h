/* env.h - the world, injected: clock, randomness and disk.
 *
 * No other file of the daemon reads a clock, asks for random bytes or opens a file for the queue; so a simulator
 * can run every role on its own time, with its own faults, and a test can make the n-th disk call fail.
 * Sockets are the business of net/.  env_real is the machine.
 */
#ifndef BASE_ENV_H
#define BASE_ENV_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Disk calls: as the system calls of the same name, -1 and errno on failure.  Paths are ours, NUL-terminated. */
struct env_disk {
	int (*open)(void *arg, const char *path, int flags, mode_t mode);
	int (*close)(void *arg, int fd);
	ssize_t (*pread)(void *arg, int fd, void *to, size_t n, off_t at);
	ssize_t (*pwrite)(void *arg, int fd, const void *from, size_t n, off_t at);
	int (*fdatasync)(void *arg, int fd);
	int (*fsync)(void *arg, int fd); /* also for directories */
	int (*ftruncate)(void *arg, int fd, off_t size);
	int (*rename)(void *arg, const char *from, const char *to);
	int (*unlink)(void *arg, const char *path);
	int (*mkdir)(void *arg, const char *path, mode_t mode);
	/* calls found(name) for every entry but . and ..; stops when it returns non-zero */
	int (*list)(void *arg, const char *path, int (*found)(void *ctx, const char *name), void *ctx);
	int64_t (*size)(void *arg, int fd);                 /* bytes, -1 on failure */
	int64_t (*free_bytes)(void *arg, const char *path); /* of the file system, -1 on failure */
	void *arg;
};

struct env {
	int64_t (*wall_ms)(void *arg);  /* since the epoch; may step */
	int64_t (*mono_ms)(void *arg);  /* never goes back; for deadlines */
	void (*random)(void *arg, void *to, size_t n);
	void *arg;
	struct env_disk disk;
};

extern const struct env env_real;

static inline int64_t env_wall_ms(const struct env *e) { return e->wall_ms(e->arg); }
static inline int64_t env_mono_ms(const struct env *e) { return e->mono_ms(e->arg); }
uint64_t env_random_u64(const struct env *e);
uint64_t env_random_below(const struct env *e, uint64_t bound); /* [0, bound), bound > 0, unbiased enough for jitter */

#endif
