/* base64.h - base64 for AUTH (RFC 4648 section 4; RFC 4954 section 4).
 *
 * Decoding is strict: the standard alphabet, whole groups of four, padding only at the end and only where needed,
 * unused bits zero (section 3.5): one value has one encoding.  No white space.  The empty text is the empty value.
 */
#ifndef SMTP_BASE64_H
#define SMTP_BASE64_H
#include "base/view.h"

#define SMTP_BASE64_ENCODED(n) (((n) + 2) / 3 * 4) /* octets that encoding n octets makes */
#define SMTP_BASE64_DECODED(n) ((n) / 4 * 3)       /* octets that decoding n octets makes at most */

/* to needs SMTP_BASE64_DECODED(v.n) octets and may be v.p itself; returns the length, or -1. */
long smtp_base64_decode(struct view v, unsigned char *to);
/* to needs SMTP_BASE64_ENCODED(v.n) octets and must not overlap v; returns the length. */
size_t smtp_base64_encode(struct view v, char *to);

#endif
