/* client.h - `postrider probe client`: a sending program graded by servers that are played to it, case by case (spec/probe_client.def).
 *
 * Listens on one address, and for each case waits for the client to come (or starts it): every connection of a case meets the same
 * script.  A case is over when the client has been away for a moment, so that its second attempt, which may be in clear, is
 * seen too.  One connection at a time, in the calling thread; every wait has an end, and so has what a client may send.
 * What the client owes depends on how it was set up, which only the operator knows: `expect`.
 * Failure    -1 when nothing could be judged: the address cannot be bound, the command not started, nobody came to the first case.
 */
#ifndef PROBE_CLIENT_H
#define PROBE_CLIENT_H
#include "net/address.h"
#include "probe/report.h"

enum client_expect {
	CLIENT_MAY = 1, /* TLS where it can be had: what goes in clear is a note */
	CLIENT_ENCRYPT, /* nothing in clear */
	CLIENT_VERIFY   /* and only to a server whose certificate is right */
};

enum client_needs { CLIENT_NEEDS_REQUIRE = 1 };

extern const struct probe_check client_cases[]; /* by number */
extern const unsigned client_case_count;
const struct probe_check *client_case_find(unsigned number); /* NULL: there is none */

struct probe_client_options {
	struct address listen;     /* port 0: any */
	const char *name;          /* that our certificate has; the address is in it too */
	struct view chain, key;    /* PEM: a certificate of the operator's for all cases but those about certificates; empty: one is made */
	const char *authority;     /* where the PEM of our own authority is written, so that the client can trust it; NULL: nowhere */
	enum client_expect expect;
	bool requiretls;           /* the message that the client is given asks for it */
	char *const *command;      /* argv of what sends one message, started for each case; NULL: the operator does it */
	bool command_speaks;       /* to our standard error; else it is not heard */
	uint32_t wait_ms;          /* for the first connection of a case */
	uint32_t settle_ms;        /* for one more */
	uint32_t timeout_ms;       /* for a command of the client's */
	uint32_t window_ms;        /* silence for so long means: it waits for us */
	const unsigned *only;      /* numbers of the cases to play; none: all */
	unsigned only_count;
	void (*listening)(void *arg, const struct sockaddr *);
	/* before each case; case NULL: the last is over */
	void (*progress)(void *arg, unsigned done, unsigned total, const struct probe_check *);
	void *arg;
};

/* Fills a report that the caller began with probe_report_init.  Borrows the options while it runs. */
int probe_client(const struct probe_client_options *, struct probe_report *, struct error *);

#endif
