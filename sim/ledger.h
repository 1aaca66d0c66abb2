/* ledger.h - the oracle's books: what clients sent and were told, what next hops and mailboxes got, what the log said.
 *
 * It looks at octets at the edges of the system and at the log; of our insides it knows nothing.
 * A mail is one attempt of one client to hand one message over: tried again, it is another mail, with another number in its
 * header, its sender and its recipients.  So every copy that arrives says which 250 it belongs to.
 */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H
#include "sim/sim.h"

#define RCPTS_MAX 6

enum site { /* where a recipient's domain goes; in the order of `sites` in plan.c */
	SITE_KEEP = 1, SITE_SINK, SITE_PLAIN, SITE_MAY, SITE_OWED, SITE_CHECK, SITE_BADCERT, SITE_MX, SITE_LMTP, SITE_VIA, SITE_BACK, SITE_DANE, SITE_STS,
	SITE_ASTRAY,
	SITE_END
};
struct site_of { const char *domain; bool tls_owed, verified; /* and only to whom the identity belongs */ };
extern const struct site_of sites[SITE_END];

struct report { int64_t at; char action[16]; };

struct mail_rcpt {
	enum site site;
	char address[64];
	bool no;             /* its next hop refuses it for good */
	bool taken;          /* our server said 250 to it */
	int notify;          /* as psmtp's bits; 0 unsaid */
	unsigned delivered;  /* copies that were taken */
	unsigned refused;    /* 5xx that a next hop said to it, and other causes for a bounce */
	unsigned failed, delayed, relayed, good; /* reports by what they say */
	bool deleted;        /* by the operator */
};

struct mail {
	unsigned number;
	struct node *node;
	char from[64];       /* "" null */
	struct mail_rcpt rcpts[RCPTS_MAX];
	unsigned rcpts_n;
	struct buf body;     /* as it must arrive, with CRLF */
	bool bare;           /* it has a bare CR, LF or NUL: it must be refused */
	size_t raw;          /* where that part begins */
	bool dot_sent;       /* the client wrote all of it */
	int answer;          /* to the final dot; 0: none came */
	int64_t born, told;
};

extern struct mail **mails;
extern unsigned mails_n;

struct copy { /* one delivery of one recipient */
	unsigned mail, rcpt;
	int64_t at;
	char id[24], inner[24]; /* of the last and of the first Received line */
	struct node *from;      /* the node that handed it over */
	unsigned session;
	bool told;              /* our side was sent the 250 */
};
extern struct copy *copies;
extern unsigned copies_n;

struct mail *ledger_mail(void);                      /* a new one, numbered */
struct mail *ledger_find(unsigned number);
/* The mail and the recipient of an address of ours; false: none of them. */
bool ledger_address(struct view address, struct mail **, struct mail_rcpt **);
void ledger_answer(struct mail *, int code);
/* A whole message arrived somewhere: headers are checked, copies booked, reports read. */
void ledger_delivered(enum site, struct node *from, unsigned session, struct view sender, struct mail_rcpt *const *rcpts, unsigned n,
		      struct view text, bool maildir);
void ledger_report(const char *to, struct view text);
void ledger_mailbox(void *node, const char *path, struct view content); /* for disk_each */
void ledger_refused(struct view address, const char *why); /* a lasting no, or another cause for a bounce */
void ledger_domain_refused(enum site, const char *why);    /* the same for all of a domain: answers are kept a while */
bool ledger_may_bounce(const struct mail_rcpt *);
void ledger_deleted(const char *id);                  /* by the operator */
void ledger_log(struct node *, struct view line);
void ledger_crash(struct node *, bool power);        /* it may cost an outcome */
void ledger_disturbed(struct node *);                /* the same for another fault, of the disk */
bool ledger_open(void);                              /* is something owed to somebody? */
void ledger_check(void);                             /* at the end: laws.c */
/* For laws.c. */
unsigned ledger_doubles_logged(struct node *, const char *received, const char *sender);
bool ledger_disturbed_between(struct node *, int64_t from, int64_t to);
unsigned ledger_disturbances(struct node *);
bool ledger_discarded(const char *address);
void ledger_marks_lost(struct node *);    /* the marks of what was under way: a disk error on `inflight` */
bool ledger_no_marks(struct node *);      /* that, or a power cut: they are not synced (queue/flight.h) */
const char *ledger_some_id(struct node *, uint64_t roll);
int64_t ledger_lifetime(void);
void ledger_set_lifetime(int64_t ms);

/* client.c, hop.c */
struct client_plan {
	struct node *to;
	unsigned mails;          /* messages of this connection */
	int trick;               /* enum trick, client.c */
};
void client_begin(const struct client_plan *);
unsigned client_tricks(void);
unsigned clients_alive(void);
struct hop;
struct hop *hop_new(enum site, const char *address, unsigned window);
void hop_behave(struct hop *, unsigned badness); /* 0: good */
unsigned hops_open(void);

#endif
