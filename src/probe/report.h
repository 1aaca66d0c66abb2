/* report.h - what a probe found: findings with their evidence, and the forms in which they are printed.
 *
 * A report is made by a kind of probe ("server", "domain", "client"): probe_report_init, then for each check
 * probe_report_add, evidence by probe_report_line while the check runs, a verdict by probe_report_judge; facts (name
 * and value) for what is known but not judged.  Then any number of probe_print_*.
 *
 * Ownership  the report owns all its text; what it is given is copied, but for struct probe_check and what it points to,
 *            which are rows of a table and borrowed.
 * Failure    a report whose memory ran out says so (broken) and is not printed as if it were whole; printing returns
 *            false when the stream or memory failed.
 */
#ifndef PROBE_REPORT_H
#define PROBE_REPORT_H
#include "base/arena.h"
#include "base/error.h"
#include "base/view.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PROBE_SCHEMA 1             /* of --json: docs/probe.schema.json */
#define PROBE_TEXT_MAX (32u << 20) /* octets of text of one report: a server that talks without end is cut */
#define PROBE_LINES_MAX 400u       /* of evidence of one finding; what is above is counted */
#define PROBE_LINE_MAX 500u        /* columns of a line of evidence: 512 of RFC 5321 4.5.3.1.5, less its ends */

enum probe_verdict { PROBE_PASS = 1, PROBE_NOTE, PROBE_FAIL, PROBE_UNTESTED };
enum probe_severity { PROBE_LOW = 1, PROBE_MEDIUM, PROBE_HIGH };
const char *probe_verdict_word(enum probe_verdict);   /* "pass", "note", "fail", "not-tested" */
const char *probe_severity_word(enum probe_severity); /* "low", "medium", "high" */

/* One line of a dialog: what we sent, what came, or what happened. */
enum probe_direction { PROBE_SENT = 1, PROBE_GOT, PROBE_EVENT };
struct probe_line {
	uint32_t at_ms;      /* since the report was begun */
	uint32_t connection; /* numbered from 1 in a report; 0: none */
	enum probe_direction direction;
	bool tls;         /* inside TLS */
	const char *text; /* printable ASCII */
};

/* What a check is: a row of a table. */
struct probe_check {
	unsigned number;
	const char *id, *title;
	const char *const *group; /* the checks of one group share it */
	const char *reference, *sends;
	enum probe_severity severity;
	unsigned needs; /* of the table's own kind */
};

struct probe_finding {
	const struct probe_check *check;
	enum probe_verdict verdict; /* UNTESTED until judged */
	const char *text;           /* why, a sentence without a full stop */
	struct probe_line *lines;
	unsigned line_count, line_room, lines_cut;
};

struct probe_fact {
	const char *name, *value; /* name: words with _, as a JSON key */
};

struct probe_report {
	const char *kind, *target; /* "server", "mx.example.org:25" */
	int64_t began_ms;          /* since the epoch */
	uint32_t took_ms, connections;
	int64_t certificate_end_s; /* of the one shown, since the epoch; 0: unknown */
	struct probe_finding *findings;
	unsigned finding_count, finding_room;
	struct probe_fact *facts;
	unsigned fact_count, fact_room;
	struct arena text;
	bool broken; /* memory ran out: it is not whole */
};

void probe_report_init(struct probe_report *, const char *kind, const char *target, int64_t now_ms);
void probe_report_free(struct probe_report *);
/* Borrowed until the next probe_report_add; NULL (and broken) without memory. */
struct probe_finding *probe_report_add(struct probe_report *, const struct probe_check *);
void probe_report_judge(struct probe_report *, struct probe_finding *, enum probe_verdict, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void probe_report_fact(struct probe_report *, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
const char *probe_report_get(const struct probe_report *, const char *name); /* a fact's value; NULL: unknown */
/* Octets as they went over the wire: what is not printable ASCII is spelt \r, \n, \t, \\ or \xNN. */
void probe_report_line(struct probe_report *, struct probe_finding *, uint32_t at_ms, uint32_t connection,
		       enum probe_direction, bool tls, struct view octets);
unsigned probe_report_count(const struct probe_report *, enum probe_verdict);

/* ---- another report, read back from its JSON ---- */

/* What differs from an older one. */
struct probe_change {
	unsigned number;
	const char *id, *title;
	enum probe_verdict before, after; /* 0: was not in that report */
	const char *text;                 /* of the newer, "" when the check is not there any more */
	bool worse;                       /* fail or note that was better before; or not tested any more */
};
struct probe_diff {
	struct probe_change *changes;
	unsigned count, worse;
	struct arena text;
};
/* 0, or -1 and why: json is no report of this schema and kind, or of another target. */
int probe_diff_make(struct probe_diff *, struct view json, const struct probe_report *, struct error *);
void probe_diff_free(struct probe_diff *);

/* ---- the forms ----  diff: NULL, or printed with it.  False: the stream failed, or memory ran out. */

bool probe_print_json(const struct probe_report *, const struct probe_diff *, FILE *);
bool probe_print_markdown(const struct probe_report *, const struct probe_diff *, FILE *);
bool probe_print_html(const struct probe_report *, const struct probe_diff *, FILE *);
bool probe_print_prometheus(const struct probe_report *, FILE *);
/* A line of evidence as all forms but JSON show it: "3 TLS > EHLO x", without the time. */
void probe_line_words(const struct probe_line *, char to[PROBE_LINE_MAX + 40]);
const char *probe_time_words(int64_t ms, char to[32]); /* UTC: "2026-11-27 22:40:04 UTC" */

#endif
