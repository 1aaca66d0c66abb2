/* server.h - `postrider probe server`: one receiving server examined, check by check (spec/probe.def).
 *
 * Needs no daemon and no configuration.  Everything happens in the calling thread, one connection at a time, and every
 * wait has an end.  Which checks there are, what each sends and which clause it judges by is the table's; what is done
 * by default is harmless: no recipient is named, no password sent in clear, nothing sent that may do harm.
 *
 * Failure    -1 when nothing could be judged: no address, or no connection.  A check that could not be made is in the
 *            report as not tested, with the reason.
 */
#ifndef PROBE_SERVER_H
#define PROBE_SERVER_H
#include "probe/report.h"

#define PROBE_ADDRESSES_MAX 16u /* of one name: a farm's addresses show their faults by fewer */

/* What a check needs before it can be made. */
enum probe_needs {
	PROBE_NEEDS_CLEAR = 1,    /* a session that begins in clear */
	PROBE_NEEDS_STARTTLS = 2, /* such a one that offers STARTTLS */
	PROBE_NEEDS_TLS = 4,      /* TLS, by STARTTLS or from the start */
	PROBE_NEEDS_LOGIN = 8,    /* credentials */
	PROBE_NEEDS_RECIPIENT = 16,
	PROBE_NEEDS_INTRUSIVE = 32
};

extern const struct probe_check probe_checks[]; /* by number */
extern const unsigned probe_check_count;
const struct probe_check *probe_check_find(unsigned number); /* NULL: there is none */

struct probe_server_options {
	const char *host; /* a name or an address without brackets */
	uint16_t port;
	bool implicit;                /* TLS from the start (RFC 8314) */
	const char *hello;            /* for EHLO */
	const char *name;             /* that the certificate must have, and for SNI; NULL: host, if it is a name */
	const char *const *addresses; /* to connect to, instead of those of host */
	unsigned address_count;
	struct view trust;              /* PEM; empty: no root is trusted */
	const char *sender, *recipient; /* addresses without angle brackets; recipient NULL: none */
	struct view login;              /* user:password; empty: none */
	bool intrusive;
	uint32_t pause_ms;   /* between two connections */
	uint32_t timeout_ms; /* of a connection, a reply, a handshake */
	uint32_t window_ms;  /* silence that is believed; 0: four round trips and a second */
	uint32_t connections_max;
	const unsigned *only; /* numbers of the checks to make; none: all */
	unsigned only_count;
	void (*progress)(void *arg, unsigned done, unsigned total,
			 const struct probe_check *); /* before each check; or NULL */
	void *arg;
};

/* Fills a report that the caller began with probe_report_init.  Borrows the options while it runs. */
int probe_server(const struct probe_server_options *, struct probe_report *, struct error *);

#endif
