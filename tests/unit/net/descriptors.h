/* descriptors.h - a process that is out of descriptors, and is so no more. */
#ifndef TESTS_NET_DESCRIPTORS_H
#define TESTS_NET_DESCRIPTORS_H
#include <sys/resource.h>
#include <unistd.h>

static inline void descriptors_out(struct rlimit *old)
{
	struct rlimit few;
	int lowest = dup(0);

	close(lowest);
	getrlimit(RLIMIT_NOFILE, old);
	few = *old;
	few.rlim_cur = (rlim_t)lowest; /* not one more */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
}

static inline void descriptors_back(const struct rlimit *old)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, old), 0);
}

#endif
