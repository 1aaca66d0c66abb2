/* client_peer.h - a scripted peer and a scripted caller for the client's tests.
 *
 * A test is a list of steps: what the server sends, what the client must have written by then, octet for octet.  The
 * caller is a struct: messages, body, AUTH answers.  What the client tells becomes a transcript, one word or line per
 * event, that is compared as a whole.  peer_check replays the script whole, octet by octet (in both directions), and
 * with a split at every octet that the server sends; the transcript must be the same each time.
 */
#ifndef CLIENT_PEER_H
#define CLIENT_PEER_H
#include <psmtp.h>

enum step_kind {
	STEP_SERVER = 1,
	STEP_CLIENT,
	STEP_TLS,
	STEP_TLS_FAILED,
	STEP_EOF,
	STEP_WAIT,
	STEP_ABORT,
	STEP_CLEAR_BYTES
};

struct step {
	enum step_kind kind;
	const char *text;
	uint64_t ms;
};

#define S(text_) { STEP_SERVER, text_, 0 }
#define C(text_) { STEP_CLIENT, text_, 0 }
#define TLS { STEP_TLS, "", 0 }
#define TLS_FAILED { STEP_TLS_FAILED, "", 0 }
#define END_OF_FILE { STEP_EOF, "", 0 }
#define WAIT(ms_) { STEP_WAIT, "", ms_ }
#define ABORT_BODY { STEP_ABORT, "", 0 }
#define CLEAR_BYTES(text_) { STEP_CLEAR_BYTES, text_, 0 } /* epoch 1 although TLS is up */

struct caller {
	struct psmtp_client_options options;
	const struct psmtp_client_message *messages;
	unsigned message_count;
	const char *body;
	size_t body_len;   /* 0: strlen */
	size_t body_piece; /* octets a call; 0: all */
	bool body_open;    /* never says last */
	bool stay;         /* no QUIT after the last message */
	const char *answers[4]; /* to AUTH events, in order; NULL: cancel; "-": no initial response */
};

#define STEPS(...) (const struct step[]){ __VA_ARGS__, { 0 } }

/* Replays in every way and compares the transcript. */
void peer_check(const struct caller *, const struct step *, const char *transcript);
/* Replays whole only: for what depends on how the octets arrive. */
void peer_check_whole(const struct caller *, const struct step *, const char *transcript);
/* Replays with an allocator whose nth request fails; returns true when none failed any more (n is beyond them all).
 * Checks that the session ends as it should or completes. */
bool peer_check_memory(const struct caller *, const struct step *, unsigned nth);

/* Options with a name and defaults. */
struct psmtp_client_options peer_options(enum psmtp_client_tls);
#define TEXT(literal) { "" literal, sizeof(literal) - 1 }

#endif
