/* reply_out.h - a reply as octets (RFC 5321 4.2, RFC 2034).
 *
 * LF in the text makes lines; a line that would exceed 512 octets with its CR LF is folded, at a blank where one is
 * near.  The enhanced code stands on every line, on 2xx, 4xx and 5xx only, and only when its class agrees with the code
 * (RFC 2034 section 4).  Control and 8-bit octets become '?', so that no reply carries what a peer said into a terminal
 * or out of its line; the tab becomes a blank.
 * Failure: false when the buffer cannot grow; then nothing was added.
 */
#ifndef SMTP_REPLY_OUT_H
#define SMTP_REPLY_OUT_H
#include <psmtp.h>

#include "base/buf.h"

bool smtp_reply_write(struct buf *, const struct psmtp_reply *);

#endif
