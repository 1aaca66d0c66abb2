/* metamorphic.h - the same answers, however a state was reached; see metamorphic.c.
 *
 * A node is a session that waits for a command line, kept as a copy of its memory (region.h).  An act is one command
 * with all that belongs to it: the caller's verdicts, the content, the responses to challenges.  Where an act ends,
 * the session waits for a command again, or is closed.
 */
#ifndef TESTS_METAMORPHIC_H
#define TESTS_METAMORPHIC_H
#include "smtp/server_state.h"

#include <stdio.h>

#define ACT_VERDICTS 4
#define TALE_MAX     (48u * 1024) /* of what one battery brings about */

struct act {
	const char *say;      /* a command line; a BDAT brings its octets */
	const char *content;  /* said when a 354 came; NULL: a good message */
	const char *response; /* said to a challenge; NULL: a star */
	bool tight;           /* no memory can be had but the buffers' */
};
extern const struct act acts[];
extern const size_t act_count;

/* The caller's answers to the questions of one act, in their order; behind the last it says yes. */
struct script {
	const char *name;
	unsigned n;
	struct psmtp_verdict verdicts[ACT_VERDICTS];
};
extern const struct script scripts[];
extern const size_t script_count;

/* A fixed row of commands, said whatever the answers are.  NULL ends it. */
#define BATTERY_MAX 40
struct battery {
	const char *name;
	const char *lines[BATTERY_MAX];
};
extern const struct battery batteries[];
extern const size_t battery_count;

/* All that one act or battery brought about: what was written, what the caller was asked and told. */
struct tale {
	char text[TALE_MAX];
	size_t n;
};

/* What an act did. */
struct done {
	bool error;   /* a 4xx or 5xx was said */
	bool content; /* the caller was asked for a sink, or a chunk was consumed: its transaction is over when it failed */
	bool refused_early; /* fewer questions were asked than the script answers: the same as a shorter script */
	unsigned asked;     /* questions to the caller */
};

/* metamorphic_play.c */
void play_open(const struct psmtp_server_options *); /* a new session in the region, greeted */
struct done play_act(const struct act *, const struct script *, struct tale *);
void play_tls_up(struct tale *);
void play_battery(const struct battery *, struct tale *);
struct psmtp_server *play_session(void);
uint64_t play_key(bool fine);

struct snapshot {
	unsigned char *copy;
	size_t used;
};
void snapshot_take(struct snapshot *); /* the copy is reused, or allocated when NULL */
void snapshot_put(const struct snapshot *);

#endif
