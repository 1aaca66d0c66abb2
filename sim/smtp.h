/* smtp.h - what scripted clients and next hops have in common: lines, and the null engine's records; independent of src/smtp.
 *
 * A talk sits on a sock.  talk_read takes what came, and undoes records once TLS is up; talk_line hands out whole lines.
 */
#ifndef SIM_SMTP_H
#define SIM_SMTP_H
#include "sim/sim.h"

enum talk_tls { TALK_CLEAR = 1, TALK_HELLO, TALK_FINISH, TALK_UP };

/* Where a handshake of a script goes wrong. */
enum talk_fault {
	TALK_FINE = 1,
	TALK_ALERT,       /* instead of the first answer */
	TALK_CLOSE,       /* the same, without a word */
	TALK_GARBAGE,     /* octets that are no record */
	TALK_STALL,       /* nothing more is said */
	TALK_CLOSE_AFTER, /* the handshake is whole, then the end */
	TALK_CLEAR_AFTER, /* ... then a line in clear */
	TALK_FAULTS_END
};

struct talk {
	struct sock *s;
	enum talk_tls tls;
	enum talk_fault fault;
	const char *identity; /* of a server: what its certificate says; "": nothing, and it is believed */
	bool server, broken; /* broken: what came was no record, or an alert */
	bool cut;            /* write in pieces */
	struct buf in;       /* as the peer meant it */
	uint64_t out_n;      /* octets written */
};

void talk_init(struct talk *, struct sock *, bool server);
void talk_start_tls(struct talk *);  /* a client says its hello; a server waits for it */
bool talk_read(struct talk *);       /* false: broken */
bool talk_line(struct talk *, struct view *line); /* without its end; lives until talk_took */
void talk_took(struct talk *);
void talk_say(struct talk *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void talk_put(struct talk *, const void *, size_t n);

#endif
