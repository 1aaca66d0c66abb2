/* received.h - the trace line that every hop adds: RFC 5321 4.4, `with` words of RFC 3848 and 6531, the `tls` clause of
 * RFC 8314 4.3.
 *
 * What a client said (its name, an address) is made harmless: an octet that could end the line, the clause or a comment
 * becomes '?'.  Lines are folded at 78 columns where a blank allows it (RFC 5322 2.1.1).
 */
#ifndef MAIL_RECEIVED_H
#define MAIL_RECEIVED_H
#include "base/buf.h"
#include "base/view.h"

/* Longest line built: all texts below are cut so that it fits a spool prefix of 4 KiB. */
#define MAIL_RECEIVED_MAX 3072

struct mail_received {
	struct view hello;   /* the name said in EHLO, HELO or LHLO, in this epoch; empty: unknown */
	struct view address; /* the client's, as text: "192.0.2.1", "2001:db8::1"; empty: a local submission */
	struct view by;      /* our name */
	struct view with;    /* "ESMTPS" ... */
	struct view id;      /* the message's id or empty */
	struct view
		recipient; /* only when there is exactly one; else empty: others must not be revealed (RFC 5321 7.2) */
	struct view tls_protocol, tls_cipher; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384"; empty: clear */
	unsigned tls_bits;                    /* 0: not said */
	struct view tls_verify; /* what is known of the client's certificate: "no client certificate", ... */
	bool utf8; /* the message is SMTPUTF8: names and addresses keep their octets above 127 (RFC 6531 3.7.3) */
	int64_t wall_ms;
};

/* Appends the whole field with its CRLF; false (out unchanged in length) when memory is out. */
bool mail_received_build(struct buf *out, const struct mail_received *);

#endif
