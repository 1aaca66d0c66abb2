/* screen.c - see screen.h. */
#include "cmd/screen.h"

#include "base/env.h"
#include "base/view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* A terminal narrower than this is a mistake of somebody's setting; wider lines are not read. */
#define WIDTH_MIN 40
#define WIDTH_MAX 500

unsigned screen_width(void)
{
	struct winsize w;
	uint64_t n = 0;
	const char *said = getenv("COLUMNS");

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (!(said && view_to_u64(view_cstr(said), &n)) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0)
		n = w.ws_col;
	return n == 0 ? 80 : n < WIDTH_MIN ? WIDTH_MIN : n > WIDTH_MAX ? WIDTH_MAX : (unsigned)n;
}

/* Octets of the well-formed UTF-8 character at p (RFC 3629 section 4); 0: none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	size_t more = p[0] < 0x80                    ? 0
		      : p[0] >= 0xc2 && p[0] <= 0xdf ? 1
		      : (p[0] & 0xf0) == 0xe0        ? 2
		      : p[0] >= 0xf0 && p[0] <= 0xf4 ? 3
						     : 9;

	if (more >= n)
		return 0;
	for (size_t i = 1; i <= more; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return more + 1;
}

/* The next character of a peer's text: its octets, or 0 when '?' must stand for the one octet. */
static size_t harmless(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t length = utf8_length(p, n);

	if (p[0] < 32 || p[0] == 127 ||
	    (p[0] == 0xc2 && length == 2 && p[1] < 0xa0)) /* C0, DEL; C1 begins ESC [ in one octet */
		return 0;
	return length;
}

void screen_peer(const char *text, size_t n, bool lines, FILE *to)
{
	for (size_t i = 0; i < n;) {
		size_t length = harmless(text + i, n - i);

		if (lines && (text[i] == '\n' || text[i] == '\t'))
			fputc(text[i], to);
		else if (lines && text[i] == '\r' && i + 1 < n && text[i + 1] == '\n')
			; /* the line ends of mail */
		else if (length)
			fwrite(text + i, 1, length, to);
		else
			fputc('?', to);
		i += length ? length : 1;
	}
}

void screen_add(struct screen_line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->text + l->n, sizeof l->text - l->n, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	l->cut = l->cut || (size_t)n >= sizeof l->text - l->n;
	l->n += (size_t)n < sizeof l->text - l->n ? (size_t)n : sizeof l->text - 1 - l->n;
}

/* Octets of the first `columns` characters; one column each (a wide character may wrap a line, which is no harm). */
static size_t octets_of(const struct screen_line *l, size_t columns)
{
	size_t i = 0;

	while (i < l->n && columns--) {
		size_t length = harmless(l->text + i, l->n - i);
		i += length ? length : 1;
	}
	return i;
}

void screen_end(struct screen_line *l, unsigned width, FILE *to)
{
	size_t n = width ? octets_of(l, width) : l->n;
	bool cut = l->cut || n < l->n;

	if (cut && width)
		n = octets_of(l, width - 3);
	screen_peer(l->text, n, false, to);
	fputs(cut ? "...\n" : "\n", to);
	l->n = 0;
	l->cut = false;
}

const char *screen_size(int64_t octets, char to[SCREEN_UNIT])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;
	int64_t n = octets;

	while (n >= 10000 && unit + 1 < sizeof units / sizeof *units) {
		n = n / 1024 + (n % 1024 >= 512);
		unit++;
	}
	snprintf(to, SCREEN_UNIT, "%" PRId64 " %s", n, units[unit]);
	return to;
}

const char *screen_span(int64_t ms, char to[SCREEN_UNIT])
{
	int64_t s = ms / 1000;

	if (ms <= 0)
		snprintf(to, SCREEN_UNIT, "now");
	else if (s < 120)
		snprintf(to, SCREEN_UNIT, "%" PRId64 " s", s);
	else if (s < 7200)
		snprintf(to, SCREEN_UNIT, "%" PRId64 " min", s / 60);
	else if (s < 172800)
		snprintf(to, SCREEN_UNIT, "%" PRId64 " h", s / 3600);
	else
		snprintf(to, SCREEN_UNIT, "%" PRId64 " d", s / 86400);
	return to;
}

const char *screen_time(int64_t ms, char to[SCREEN_TIME])
{
	time_t s = (time_t)(ms / 1000);
	struct tm tm;

	if (ms == 0 || !localtime_r(&s, &tm) || strftime(to, SCREEN_TIME, "%Y-%m-%d %H:%M:%S %z", &tm) == 0)
		snprintf(to, SCREEN_TIME, "-");
	return to;
}

int64_t screen_now(void)
{
	return env_wall_ms(&env_real);
}
