/* dkim.h - a DKIM signature as text (RFC 6376): canonical octets, and the field.  Pure: hashing and signing are the caller's.
 *
 *   1  mail_dkim_body     the body's canonical octets, whose SHA-256 is the body hash
 *   2  mail_dkim_begin    the field up to its empty b=
 *   3  mail_dkim_octets   what is signed: the fields that it names, and itself; the SHA-256 of these goes to whoever has the key
 *   4  mail_dkim_finish   the signature, folded, behind it
 *
 * Both parts are canonicalised relaxed (3.4.2, 3.4.4).  From is named once more than it occurs, so that no second one can be added
 * (5.4.2).  Lines end with CRLF; a bare CR or LF is an octet like others.
 * Failure: false when a buffer is full or memory ends; what it holds is then of no use.
 */
#ifndef MAIL_DKIM_H
#define MAIL_DKIM_H
#include "base/buf.h"

struct mail_dkim {
	struct view algorithm; /* rsa-sha256, or ed25519-sha256 (RFC 8463) */
	struct view domain, selector;
	struct view body_hash; /* base64 */
	int64_t time_s;
};

bool mail_dkim_body(struct view body, struct buf *to);
/* One field, with or without its final CRLF; the canonical one ends with CRLF. */
bool mail_dkim_field(struct view field, struct buf *to);
/* header: of the message, without the empty line. */
bool mail_dkim_begin(const struct mail_dkim *, struct view header, struct buf *field);
/* field: as begin made it, or any other DKIM-Signature field whose b= is empty. */
bool mail_dkim_octets(struct view header, struct view field, struct buf *to);
bool mail_dkim_finish(struct view signature /* base64 */, struct buf *field);

#endif
