/* probe.h - what the pages of all kinds of probe are made of; private to gen/probe*.c. */
#ifndef GEN_PROBE_H
#define GEN_PROBE_H
#include "base/buf.h"
#include "probe/report.h"

void page_cell(struct buf *, const char *text); /* of a table in Markdown */
void page_text(struct buf *, const char *text); /* a line of mdoc */
/* The checks as tables, one a group; `check` and `sends` head two of the columns. */
void page_table(struct buf *, const struct probe_check *, unsigned count, const char *check, const char *sends,
		void (*needs)(struct buf *, unsigned bits));
/* The checks as lists of mdoc; `sends` stands before what is sent. */
void page_list(struct buf *, const struct probe_check *, unsigned count, const char *sends);

/* ---- probe_kinds.c ---- */

void page_client_md(struct buf *);
void page_client_man(struct buf *);
void page_domain_md(struct buf *);
void page_domain_man(struct buf *);

#endif
