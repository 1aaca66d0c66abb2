/* limits.h - the limits of the protocol, each with its reason.  Line limits count the CRLF, as RFC 5321 does. */
#ifndef SMTP_LIMITS_H
#define SMTP_LIMITS_H

/* ---- addresses (RFC 5321 4.5.3.1.1 to .3) ---- */
#define SMTP_LOCAL_MAX 64   /* octets of a local part, quotes included */
#define SMTP_DOMAIN_MAX 255 /* octets of a domain or address literal */
#define SMTP_PATH_MAX 256   /* octets of a path, with angle brackets and source route */
#define SMTP_LABEL_MAX 63   /* octets of a label (RFC 1035 2.3.4) */

/* ---- lines we read ---- */
#define SMTP_LINE_MAX 512 /* a command line (RFC 5321 4.5.3.1.4) */
/* MAIL and RCPT: 512, and what extensions add: SIZE 26, BODY 17, SMTPUTF8 10, AUTH 500, RET 9, ENVID 306 (100 octets
 * in xtext), NOTIFY 28, ORCPT 507; together below 2,048. */
#define SMTP_ENVELOPE_LINE_MAX 2048
#define SMTP_AUTH_LINE_MAX (12288 + 2) /* RFC 4954 section 4: 12,288 octets of base64 */

/* ---- lines we write ---- */
#define SMTP_REPLY_LINE_MAX 512 /* RFC 5321 4.5.3.1.5 */

/* ---- replies we read ---- */
/* Servers break the 512 of RFC 5321 with long URLs in their words; eight times that is no server's mistake. */
#define SMTP_REPLY_IN_LINE_MAX 4096

/* ---- parameters ---- */
#define SMTP_SIZE_DIGITS 20  /* RFC 1870 section 3: SIZE is 1*20DIGIT */
#define SMTP_ENVID_MAX 100   /* octets, decoded (RFC 3461 4.4) */
#define SMTP_ORCPT_MAX 500   /* octets as said (RFC 3461 4.2) */
#define SMTP_MAIL_AUTH_MAX 500 /* octets as said (RFC 4954 section 3: what AUTH= may add to MAIL) */

#endif
