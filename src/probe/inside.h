/* inside.h - the probe's engine: one connection at a time, its dialog kept as evidence; private to probe/.
 *
 * A check is a function that opens links (link.c), says and hears lines on them, shakes hands (tls.c) or writes octets
 * that no client should write (raw.c), and judges what came of it exactly once.  A link that ends early makes the calls
 * on it answer 0 or false at once, so a check need look only where it judges: probe_stuck then says what happened.
 */
#ifndef PROBE_INSIDE_H
#define PROBE_INSIDE_H
#include "base/buf.h"
#include "net/address.h"
#include "probe/server.h"

#include <openssl/ssl.h>

#define PROBE_INPUT_MAX       (256u * 1024) /* octets of a server's that wait to be read: what is above ends the link */
#define PROBE_REPLY_LINES_MAX 200u          /* of one reply: EHLO has some 20 */
#define PROBE_WORDS_MAX       64u           /* of one EHLO reply that are looked at */
#define PROBE_REFUSED_MOST    4u /* connections refused in a row before the rest is left undone: it is meant for us */

/* What was learned by the first connection. */
struct probe_survey {
	bool reached, starttls, pipelining;
	char clear[2000]; /* words of EHLO in clear, LF between them */
};

struct probe {
	const struct probe_server_options *o;
	struct probe_report *report;
	struct probe_finding *now; /* whose evidence is gathered */
	struct address addresses[PROBE_ADDRESSES_MAX];
	unsigned address_count, address; /* which one is connected to */
	int64_t began_ms, ended_ms;      /* monotonic; when the last link ended, 0: none did */
	uint32_t round_trip_ms, refused;
	const char *name; /* for the certificate and SNI; NULL: none */
	X509_STORE *trust;
	struct probe_survey survey;
	STACK_OF(X509) * chain; /* the server's, once seen; NULL */
	long chain_verdict;
	bool chain_asked;
	struct error *error;
	const char *peer;                /* in words; NULL: "the server" */
};

struct probe_reply {
	int code; /* 0: none came */
	unsigned lines;
	char text[4096]; /* the lines' text, LF between them; cut when longer */
	bool odd;        /* not as RFC 5321 4.2 wants it */
};

enum probe_end {
	PROBE_OPEN = 1,
	PROBE_CLOSED,
	PROBE_NOTIFIED /* close_notify */,
	PROBE_RESET,
	PROBE_TLS_BROKE,
	PROBE_LATE,
	PROBE_FLOOD
};

struct probe_link {
	struct probe *p;
	uint32_t number;
	int fd;
	SSL *ssl; /* up once tls is true */
	bool tls;
	enum probe_end end;
	const char *shown;        /* in the evidence, instead of what is sent; NULL: that */
	char words[300];          /* of probe_stuck */
	char why[300];            /* the link's end, or what was not as it should be, in words */
	struct buf in;            /* octets of the present epoch that nobody took */
	struct probe_reply reply; /* the last one */
	SSL_SESSION *session;     /* the last one that can be resumed, this link's own */
};

/* ---- link.c ---- */

/* Waits its turn, connects to p->address and takes the greeting: 220, or false.  Always to be closed. */
bool probe_open(struct probe *, struct probe_link *);
bool probe_connect(struct probe *, struct probe_link *); /* the same without the greeting */
void probe_close(struct probe_link *);                   /* at once */
void probe_leave(struct probe_link *);                   /* with QUIT, if it is open */
/* Sends octets as one segment; inside TLS as one record. */
bool probe_write(struct probe_link *, struct view octets);
bool probe_write_clear(struct probe_link *, struct view octets); /* under the TLS layer, if there is one */
/* Hears one reply: its code, or 0.  probe_hear_for waits no longer than ms. */
int probe_hear(struct probe_link *);
int probe_hear_for(struct probe_link *, uint32_t ms);
/* Says a line (CR LF is added) and hears its reply. */
int probe_ask(struct probe_link *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same; the evidence shows `shown` instead of what is sent. */
int probe_ask_secret(struct probe_link *, struct view line, const char *shown);
/* Waits until something comes or the window is over; what came is in l->in.  False: silence. */
bool probe_listen(struct probe_link *);
/* More octets of the socket into l->in, or to the TLS layer.  1: some came (perhaps none to read), 0: the time is over,
 * -1: the end. */
int probe_fill(struct probe_link *, int64_t until);
uint32_t probe_window(const struct probe *);
int64_t probe_now(void); /* monotonic, ms */
void probe_event(struct probe_link *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What became of the link, or of the last reply, for a verdict: "the connection was closed", "503 5.5.1 ..." */
const char *probe_stuck(struct probe_link *);

/* ---- tls.c ---- */

enum probe_cut { PROBE_CUT_NONE = 0, PROBE_CUT_OCTETS, PROBE_CUT_RECORDS };

/* How to shake hands; all zero: as an ordinary client would. */
struct probe_hello {
	int least, most;      /* versions; 0: any */
	bool no_name;         /* no SNI */
	const char *name;     /* another SNI than the server's name */
	SSL_SESSION *session; /* to offer */
	size_t padding;       /* octets of an extension that nobody knows */
	enum probe_cut cut;   /* how the first flight is cut */
	const char *before;   /* clear text in front of the first flight, in its segment */
};
bool probe_shake(struct probe_link *, const struct probe_hello *); /* hello NULL: as all zero */
/* Reads what the server sends behind the handshake (tickets), without waiting for it. */
void probe_trust_load(struct probe *); /* o->trust to p->trust */

/* ---- raw.c ---- */

struct probe_raw {
	uint16_t version; /* offered: 0x0300 ... 0x0304 */
	const uint16_t *ciphers, *groups;
	unsigned cipher_count, group_count;
};
struct probe_raw_answer {
	bool accepted;                   /* a ServerHello came */
	uint16_t version, cipher, group; /* group 0: not said */
	int alert;                       /* its number; -1: none came */
};
/* Sends one ClientHello and reads what comes first.  False: neither a ServerHello nor an alert came (l->why). */
bool probe_raw_shake(struct probe_link *, const struct probe_raw *, struct probe_raw_answer *);
/* Reads a handshake record's content, a server's: true when it is a ServerHello, or a HelloRetryRequest. */
bool probe_raw_read(struct view, struct probe_raw_answer *);

/* ---- steps.c: what many checks begin with ---- */

bool probe_ehlo(struct probe_link *); /* EHLO with our name: 250 */
bool probe_has_word(const struct probe_reply *ehlo, const char *word,
		    struct view *arguments);                             /* arguments: NULL or where to */
void probe_words(const struct probe_reply *ehlo, char *to, size_t room); /* the words, LF between them, in upper case */
bool probe_word_in(const char *words, const char *word);
bool probe_starttls(struct probe_link *, const struct probe_hello *); /* STARTTLS 220 and the handshake */
/* Open, EHLO, STARTTLS, handshake (implicit: handshake, greeting): inside TLS, where no EHLO was said yet. */
bool probe_open_tls(struct probe *, struct probe_link *, const struct probe_hello *);
bool probe_open_to_220(struct probe *,
		       struct probe_link *);        /* open, EHLO, STARTTLS answered 220 (implicit: just connected) */
int probe_authenticate(struct probe_link *);        /* AUTH PLAIN with the given credentials: the reply's code */
bool probe_is_same_host(const struct probe_link *); /* our address is the server's */
/* True when the reply is 5xx or 4xx. */
static inline bool probe_refused(int code)
{
	return code >= 400 && code < 600;
}
#define probe_say(p, verdict, ...) probe_report_judge((p)->report, (p)->now, verdict, __VA_ARGS__)
/* Judges not tested: what it wanted, and what happened on the link. */
void probe_untested(struct probe_link *, const char *wanted);

/* ---- checks: each judges p->now ---- */

#define GROUP(hundred, title)
#define CHECK(number, name, severity, needs, reference, title, sends) void probe_check_##name(struct probe *);
#include "spec/probe.def"

#endif
