/* control.h - the control socket: operators ask and command the running queue.
 *
 * The protocol, for the client (`postrider queue`, `postrider status`)
 *   A unix stream socket at the setting `control`.  Only root and the uid that Postrider runs as are served
 * (SO_PEERCRED; nothing that the peer says about itself is believed).  One request is one line, a JSON object; requests
 * are answered one after the other.  An answer is any number of lines with an "item", then exactly one line with "ok":
 *     {"item": {...}}
 *     {"ok": true, ...}            or            {"ok": false, "error": "words"}
 *   While the spool works on flush, hold, release or delete, {"working": true} comes every CLIENT_TICK: wait on.
 *   A request line is at most CONTROL_LINE_MAX octets.  Message ids are strings of 16 hex digits, as in the log; times
 *   are integers, ms since the epoch.  Requests:
 *
 *   {"cmd": "list"  [, "dest": KEY] [, "max": N]}   items: ENVELOPE; ok line: "n", "more" (true: cut off at max)
 *   {"cmd": "show", "id": ID}                       items: ENVELOPE with "recipients" of that message; ok line: "n" and
 *                                                   "header": the message's header as it will be sent (cut at 64 KiB)
 *   {"cmd": "why",  "id": ID}                       items: {"id", "slot", "dest", "why": sentence, "next": ms}
 *   {"cmd": "flush"   [, "id": ID] [, "dest": KEY]}  ok line: "n" envelopes made due now; back-off of the destinations
 * ends
 *   {"cmd": "hold"    [, "id": ID] [, "dest": KEY]}  ok line: "n".  Neither id nor dest: everything, said by "all":
 * true
 *   {"cmd": "release" [, "id": ID] [, "dest": KEY]}  ok line: "n".  likewise
 *   {"cmd": "delete", "id": ID}  or  "dest": KEY     ok line: "n"; error when what was named is being delivered just
 *   now.  Neither id nor dest: everything, said by "everything": true
 *   {"cmd": "status"}     ok line: "super": what super says of the roles, "spool": {messages, envelopes, held,
 * in_flight, segments, bytes_live, bytes_total, commits, syncs, oldest, pressure}, "counters": {event: n},
 *                         "destinations": [{dest, in_flight, window, failures, retry}] (busy or failing, at most 100)
 *   {"cmd": "explain", "address": ADDRESS [, "require": true] [, "relaxed": true]}  ok line: "dest", "by" ("queue", "local", "send"); of
 *                         send "failure" ("": none) and "hosts": [{host, preference, verdict, level, check, policy, names, addresses, why}]
 *   {"cmd": "reports"}    TLS-RPT reports of days that are over go now; ok line: "domains" (results of a day of one, to be reported or dropped),
 *                         "reports" (made before, that wait)
 *   {"cmd": "prometheus"} ok line: "text": the metrics in Prometheus' text format
 *   {"cmd": "reload"}     ok line: "super": what super says
 *   {"cmd": "stop"}       the same; the answer comes before the end
 *
 *   ENVELOPE: {"id", "slot", "dest", "state": "active"|"queued"|"deferred"|"held", "sender", "size", "attempts", "due",
 *              "created", "expires", "nrcpt", "recipients": [{"address", "code", "text", "remote", "last"}]}
 *   (list gives at most the first 10 recipients, show all)
 *
 * A list is made in batches as the client reads, so a queue of millions costs no memory here.
 */
#ifndef QUEUE_CONTROL_H
#define QUEUE_CONTROL_H
#include "base/view.h"

#include <stdint.h>

#define CONTROL_LINE_MAX    (64u * 1024) /* of a request; the longest holds an id and a destination */
#define CONTROL_CLIENTS_MAX 64           /* at once; an operator's scripts, not a service */

struct queue;

int control_start(struct queue *); /* watches role->extra_fd; -1: no memory */
void control_stop(struct queue *);
/* super answered a CONTROL frame. */
void control_super_done(struct queue *, uint64_t stream, struct view json);
/* send answered an EXPLAIN frame. */
struct wire_EXPLAINED;
void control_explained(struct queue *, const struct wire_EXPLAINED *);
/* policy answered a REPORT_NOW frame. */
struct wire_REPORT_GOING;
void control_reported(struct queue *, const struct wire_REPORT_GOING *);

#endif
