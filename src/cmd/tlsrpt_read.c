/* tlsrpt_read.c - see tlsrpt_read.h.  What is read was written by strangers: every size has a cap. */
#include "cmd/tlsrpt_read.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <zlib.h>

#define CHUNK 65536

static bool unzip(struct view from, struct buf *to)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)from.p, .avail_in = (uInt)from.n };
	int rc = inflateInit2(&z, 15 + 16); /* gzip (RFC 1952) */

	while (rc == Z_OK) {
		if (!buf_reserve(to, CHUNK)) {
			rc = Z_MEM_ERROR;
			break;
		}
		z.next_out = buf_tail(to);
		z.avail_out = CHUNK;
		rc = inflate(&z, Z_NO_FLUSH);
		buf_commit(to, CHUNK - z.avail_out);
		if (rc == Z_BUF_ERROR || (rc == Z_OK && z.avail_in == 0 && z.avail_out > 0))
			break; /* it ends in the middle */
	}
	inflateEnd(&z);
	return rc == Z_STREAM_END;
}

/* ---- mail ---- */

static struct view take_line(struct view *rest)
{
	size_t end = view_find(*rest, '\n');
	struct view line = view_slice(*rest, 0, end);

	*rest = view_slice(*rest, end + 1, rest->n);
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

static bool field_is(struct view line, struct view name, struct view value)
{
	return view_starts_nocase(line, name) && view_starts_nocase(view_trim(view_slice(line, name.n, line.n)), value);
}

/* Finds the part that is a report; *rest is then its body.  The header of the mail itself counts as one of a part. */
static bool find_part(struct view *rest, bool *base64)
{
	bool report = false;

	*base64 = false;
	while (rest->n) {
		struct view line = take_line(rest);
		if (field_is(line, VIEW("Content-Type:"), VIEW("application/tlsrpt")))
			report = true;
		else if (field_is(line, VIEW("Content-Transfer-Encoding:"), VIEW("base64")))
			*base64 = true;
		else if (line.n == 0 && report)
			return true;
		else if (line.n == 0)
			*base64 = false; /* it was another part's */
	}
	return false;
}

static bool take_base64(struct view rest, struct buf *to)
{
	struct buf text;
	unsigned char *out;
	int n = -1;

	buf_init(&text, &alloc_libc, TLSRPT_FILE_MAX);
	while (rest.n) {
		struct view line = view_trim(take_line(&rest));
		if (line.n >= 2 && line.p[0] == '-' && line.p[1] == '-')
			break;
		if (!buf_add(&text, line))
			break;
	}
	out = malloc(buf_len(&text) + 1);
	if (out && buf_len(&text) && buf_len(&text) % 4 == 0)
		n = EVP_DecodeBlock(out, (const unsigned char *)buf_view(&text).p, (int)buf_len(&text));
	for (size_t i = buf_len(&text); n > 0 && i && buf_view(&text).p[i - 1] == '='; i--)
		n--; /* OpenSSL counts the octets that the padding stands for */
	if (n > 0 && !buf_add(to, view_of((const char *)out, (size_t)n)))
		n = -1;
	free(out);
	buf_free(&text);
	return n > 0;
}

/* ---- all of them ---- */

static json_t *parse(struct view text, const char **why)
{
	json_t *j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(j) && json_is_array(json_object_get(j, "policies")))
		return j;
	*why = j ? "it is JSON, but no report" : "its JSON is broken";
	json_decref(j);
	return NULL;
}

static bool is_gzip(struct view v)
{
	return v.n > 2 && (unsigned char)v.p[0] == 0x1f && (unsigned char)v.p[1] == 0x8b;
}

static json_t *parse_packed(struct view v, const char **why)
{
	struct buf text;
	json_t *j = NULL;

	if (!is_gzip(v))
		return parse(v, why);
	buf_init(&text, &alloc_libc, TLSRPT_JSON_MAX + CHUNK);
	if (unzip(v, &text))
		j = parse(buf_view(&text), why);
	else
		*why = "its gzip is broken, or holds more than 64 MiB";
	buf_free(&text);
	return j;
}

json_t *tlsrpt_read(struct view file, const char **why)
{
	struct view rest = file;
	struct buf part;
	json_t *j = NULL;
	bool base64;

	if (is_gzip(file) || (file.n && strchr("{ \t\r\n", file.p[0])))
		return parse_packed(file, why);
	buf_init(&part, &alloc_libc, TLSRPT_FILE_MAX);
	if (!find_part(&rest, &base64))
		*why = "it is neither JSON, nor gzip, nor a mail with a report in it";
	else if (base64 && !take_base64(rest, &part))
		*why = "the report in the mail is no base64";
	else
		j = parse_packed(base64 ? buf_view(&part) : rest, why);
	buf_free(&part);
	return j;
}
