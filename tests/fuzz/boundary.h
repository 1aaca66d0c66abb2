/* boundary.h - the two sides of the STARTTLS boundary under attack: a session of receive, a connection of send.
 *
 * A side is the product's own role on its own loop, with the null TLS engine (tls/null.c) in place of OpenSSL, and a
 * socket whose other end is in the target's hands.  Time is the target's alone.
 */
#ifndef FUZZ_BOUNDARY_H
#define FUZZ_BOUNDARY_H
#include "base/view.h"

/* What came out of the socket, cut into clear text and the null engine's records. */
struct wire_out {
	char clear[16384], inside[16384]; /* the first so many octets, with a NUL */
	size_t clear_n, inside_n;
	char head[3];
	size_t head_n, left; /* of the record that is being read */
	bool records;        /* from here on nothing but records may come */
};

enum { NULL_HELLO = 0xF1, NULL_FINISH = 0xF2, NULL_DATA = 0xF3, NULL_CLOSE = 0xF4, NULL_ALERT = 0xF5 };

struct side {
	void (*begin)(unsigned options);
	void (*put)(struct view bytes); /* to the socket, as they are */
	void (*hang_up)(void);          /* no more is written */
	void (*pass)(unsigned ms);
	void (*turn)(void);
	void (*end)(void);              /* all that must hold at the end, and nothing stays */
};
extern const struct side side_receive, side_send;

/* Adds octets; asserts that nothing stands in clear where records are due. */
void wire_out_add(struct wire_out *, struct view);

#endif
