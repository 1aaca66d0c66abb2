/* address.c - a table of our own of paths and mailboxes, derived from RFC 5321 4.1.2, 4.1.3, 4.5.3.1 and RFC 6531 3.3:
 * what is refused first, what is accepted behind it; then the parts.
 */
#include "parse_test.h"

#define U PSMTP_ADDRESS_UTF8
#define N PSMTP_ADDRESS_NULL
#define P PSMTP_ADDRESS_POSTMASTER
#define B PSMTP_ADDRESS_BARE

#define X10  "xxxxxxxxxx"
#define X60  X10 X10 X10 X10 X10 X10
#define L63  X60 "xxx"
#define D255 L63 "." L63 "." L63 "." L63

static const struct {
	struct view text;
	unsigned flags;
} refused[] = {
	/* no path at all */
	{ LIT(""), 0 },
	{ LIT(""), N | P },
	{ LIT("<"), N },
	{ LIT(">"), N },
	{ LIT("a@b"), 0 },
	{ LIT("<a@b"), 0 },
	{ LIT("a@b>"), 0 },
	{ LIT("<>"), 0 },
	{ LIT("<>"), P },
	{ LIT("< >"), N },
	{ LIT("<<>>"), N },
	{ LIT("<a@b>>"), 0 },
	{ LIT("<<a@b>"), 0 },
	{ LIT("<a@b> "), 0 },
	{ LIT(" <a@b>"), 0 },
	{ LIT("<a@b>x"), 0 },
	{ LIT("(c)<a@b>"), 0 },
	{ LIT("Name <a@b>"), 0 },
	{ LIT("<a@b>,<c@d>"), 0 },
	{ LIT("<a@b,c@d>"), 0 },
	{ LIT("<a>"), 0 },
	{ LIT("<a@>"), 0 },
	{ LIT("<@b>"), 0 },
	{ LIT("<@>"), 0 },
	{ LIT("<a b@c>"), 0 },
	{ LIT("<a@b c>"), 0 },
	{ LIT("< a@b>"), 0 },
	{ LIT("<a@b >"), 0 },
	{ LIT("<a @b>"), 0 },
	{ LIT("<a@ b>"), 0 },
	{ LIT("<a\t@b>"), 0 },
	{ LIT("<a@b@c>"), 0 },
	{ LIT("<a@@b>"), 0 },
	{ LIT("<a\r\n@b>"), 0 },
	{ LIT("<a\n@b>"), 0 },
	{ LIT("<a@b\r>"), 0 },
	{ LIT("<a\0@b>"), 0 },
	{ LIT("<a@b\0>"), 0 },
	{ LIT("<a@b\0.c>"), 0 },
	/* Postmaster without a domain: only where it may stand, and only that word */
	{ LIT("<postmaster>"), 0 },
	{ LIT("<postmaster>"), N },
	{ LIT("<postmaster@>"), P },
	{ LIT("<\"postmaster\">"), P },
	{ LIT("<postmasters>"), P },
	{ LIT("<root>"), P },
	{ LIT("< postmaster>"), P },
	/* Dot-string */
	{ LIT("<.a@b>"), 0 },
	{ LIT("<a.@b>"), 0 },
	{ LIT("<a..b@c>"), 0 },
	{ LIT("<.@b>"), 0 },
	{ LIT("<a,b@c>"), 0 },
	{ LIT("<a:b@c>"), 0 },
	{ LIT("<a;b@c>"), 0 },
	{ LIT("<a(c)@d>"), 0 },
	{ LIT("<(c)a@d>"), 0 },
	{ LIT("<a[b]@c>"), 0 },
	{ LIT("<a\\b@c>"), 0 },
	{ LIT("<a\\@b@c>"), 0 },
	{ LIT("<a<b@c>"), 0 },
	{ LIT("<a>b@c>"), 0 },
	{ LIT("<\177@b>"), 0 },
	{ LIT("<a\001@b>"), 0 },
	/* Quoted-string */
	{ LIT("<\"a@b>"), 0 },
	{ LIT("<a\"@b>"), 0 },
	{ LIT("<\"a\"b@c>"), 0 },
	{ LIT("<a\"b\"@c>"), 0 },
	{ LIT("<\"a\".b@c>"), 0 },
	{ LIT("<a.\"b\"@c>"), 0 },
	{ LIT("<\"a\" @c>"), 0 },
	{ LIT("<\"a\"\"b\"@c>"), 0 },
	{ LIT("<\"a\\\"@c>"), 0 },
	{ LIT("<\"\"\"@c>"), 0 },
	{ LIT("<\"a\tb\"@c>"), 0 },
	{ LIT("<\"a\nb\"@c>"), 0 },
	{ LIT("<\"a\r\n b\"@c>"), 0 },
	{ LIT("<\"a\0b\"@c>"), 0 },
	{ LIT("<\"a\\\tb\"@c>"), 0 },
	{ LIT("<\"a\\\0b\"@c>"), 0 },
	{ LIT("<\"\177\"@c>"), 0 },
	{ LIT("<\"a\">"), 0 },
	{ LIT("<\""), 0 },
	{ LIT("<\"\\"), 0 },
	{ LIT("<\"\\>"), 0 },
	/* domains */
	{ LIT("<a@.>"), 0 },
	{ LIT("<a@.b>"), 0 },
	{ LIT("<a@b.>"), 0 },
	{ LIT("<a@b..c>"), 0 },
	{ LIT("<a@-b>"), 0 },
	{ LIT("<a@b->"), 0 },
	{ LIT("<a@b-.c>"), 0 },
	{ LIT("<a@b.-c>"), 0 },
	{ LIT("<a@->"), 0 },
	{ LIT("<a@b_c>"), 0 },
	{ LIT("<a@_b.c>"), 0 },
	{ LIT("<a@b!c>"), 0 },
	{ LIT("<a@b/c>"), 0 },
	{ LIT("<a@b:c>"), 0 },
	{ LIT("<a@b,c>"), 0 },
	{ LIT("<a@\"b\">"), 0 },
	{ LIT("<a@b(c)>"), 0 },
	{ LIT("<a@b%c>"), 0 },
	{ LIT("<a@b#1>"), 0 },
	{ LIT("<a@*.b>"), 0 },
	{ LIT("<a@b\\.c>"), 0 },
	/* literals */
	{ LIT("<a@[]>"), 0 },
	{ LIT("<a@[>"), 0 },
	{ LIT("<a@]>"), 0 },
	{ LIT("<a@[1.2.3.4>"), 0 },
	{ LIT("<a@1.2.3.4]>"), 0 },
	{ LIT("<a@[1.2.3]>"), 0 },
	{ LIT("<a@[1.2.3.4.5]>"), 0 },
	{ LIT("<a@[1.2.3.256]>"), 0 },
	{ LIT("<a@[1.2.3.]>"), 0 },
	{ LIT("<a@[.1.2.3]>"), 0 },
	{ LIT("<a@[1..2.3]>"), 0 },
	{ LIT("<a@[1.2.3.0004]>"), 0 },
	{ LIT("<a@[1.2.3.-4]>"), 0 },
	{ LIT("<a@[1.2.3.+4]>"), 0 },
	{ LIT("<a@[0x1.2.3.4]>"), 0 },
	{ LIT("<a@[ 1.2.3.4]>"), 0 },
	{ LIT("<a@[1.2.3.4 ]>"), 0 },
	{ LIT("<a@[1.2.3.4].b>"), 0 },
	{ LIT("<a@b.[1.2.3.4]>"), 0 },
	{ LIT("<a@[[1.2.3.4]]>"), 0 },
	{ LIT("<a@[1.2.3.4][1.2.3.4]>"), 0 },
	{ LIT("<a@[b.c]>"), 0 },
	{ LIT("<a@[::1]>"), 0 },
	{ LIT("<a@[IPv6:]>"), 0 },
	{ LIT("<a@[IPv6]>"), 0 },
	{ LIT("<a@[IPv6:1]>"), 0 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6:7]>"), 0 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6:7:8:9]>"), 0 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6:7::]>"), 0 },
	{ LIT("<a@[IPv6:::1:2:3:4:5:6:7]>"), 0 },
	{ LIT("<a@[IPv6:1::2::3]>"), 0 },
	{ LIT("<a@[IPv6:::: ]>"), 0 },
	{ LIT("<a@[IPv6::::]>"), 0 },
	{ LIT("<a@[IPv6:12345::1]>"), 0 },
	{ LIT("<a@[IPv6:g::1]>"), 0 },
	{ LIT("<a@[IPv6::1]>"), 0 },
	{ LIT("<a@[IPv6:1:]>"), 0 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6:7:8:]>"), 0 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6:7:1.2.3.4]>"), 0 },
	{ LIT("<a@[IPv6:1:2:3:4:5:1.2.3.4]>"), 0 },
	{ LIT("<a@[IPv6:1.2.3.4::]>"), 0 },
	{ LIT("<a@[IPv6:1::2:3:4:5:1.2.3.4]>"), 0 },
	{ LIT("<a@[IPv6:1.2.3.4]>"), 0 },
	{ LIT("<a@[IPv6:::1.2.3.256]>"), 0 },
	{ LIT("<a@[IPv6:::1%eth0]>"), 0 },
	{ LIT("<a@[IPv6:fe80::1/64]>"), 0 },
	{ LIT("<a@[tag:]>"), 0 },
	{ LIT("<a@[:x]>"), 0 },
	{ LIT("<a@[tag-:x]>"), 0 },
	{ LIT("<a@[t_g:x]>"), 0 },
	{ LIT("<a@[tag:x y]>"), 0 },
	{ LIT("<a@[tag:x\\y]>"), 0 },
	{ LIT("<a@[tag:x[y]>"), 0 },
	{ LIT("<a@[tag:\177]>"), 0 },
	{ LIT("<a@[tag]>"), 0 },
	/* source routes */
	{ LIT("<@a>"), 0 },
	{ LIT("<@a:>"), 0 },
	{ LIT("<@a:b>"), 0 },
	{ LIT("<@:a@b>"), 0 },
	{ LIT("<@a,@b>"), 0 },
	{ LIT("<@a,b:c@d>"), 0 },
	{ LIT("<@a,:b@c>"), 0 },
	{ LIT("<@a,,@b:c@d>"), 0 },
	{ LIT("<@a:@b:c@d>"), 0 },
	{ LIT("<@a :b@c>"), 0 },
	{ LIT("<@a: b@c>"), 0 },
	{ LIT("<@a, @b:c@d>"), 0 },
	{ LIT("<@-a:b@c>"), 0 },
	{ LIT("<@a.:b@c>"), 0 },
	{ LIT("<@[1.2.3.4]:b@c>"), 0 },
	{ LIT("<a:b@c>"), 0 },
	{ LIT("<@a;b@c>"), 0 },
	{ LIT("<@a:postmaster>"), P },
	{ LIT("<@a:>"), N },
	/* bare form: neither brackets nor route */
	{ LIT("<a@b>"), B },
	{ LIT("@a:b@c"), B },
	{ LIT("a"), B },
	{ LIT("a@b "), B },
	{ LIT(""), B },
	{ LIT("<>"), B | N },
	{ LIT("a@b,c@d"), B },
	{ LIT("-f@"), B },
	{ LIT("a@b\n"), B },
	/* UTF-8 without the flag */
	{ LIT("<\xc3\xa9@b>"), 0 },
	{ LIT("<a@\xc3\xa9>"), 0 },
	{ LIT("<\"\xc3\xa9\"@b>"), 0 },
	{ LIT("<@\xc3\xa9:a@b>"), 0 },
	{ LIT("<\xe9@b>"), 0 },
	/* with it, but not valid: lone, cut, overlong, surrogate, beyond U+10FFFF */
	{ LIT("<\xe9@b>"), U },
	{ LIT("<\x80@b>"), U },
	{ LIT("<\xc3@b>"), U },
	{ LIT("<a\xc3>"), U },
	{ LIT("<\xc0\xaf@b>"), U },
	{ LIT("<\xc1\xbf@b>"), U },
	{ LIT("<\xe0\x80\xaf@b>"), U },
	{ LIT("<\xe0\x9f\xbf@b>"), U },
	{ LIT("<\xf0\x80\x80\xaf@b>"), U },
	{ LIT("<\xf0\x8f\xbf\xbf@b>"), U },
	{ LIT("<\xed\xa0\x80@b>"), U },
	{ LIT("<\xed\xbf\xbf@b>"), U },
	{ LIT("<\xf4\x90\x80\x80@b>"), U },
	{ LIT("<\xf5\x80\x80\x80@b>"), U },
	{ LIT("<\xf8\x88\x80\x80\x80@b>"), U },
	{ LIT("<\xfe@b>"), U },
	{ LIT("<\xff@b>"), U },
	{ LIT("<\xe2\x82@b>"), U },
	{ LIT("<\"\xc3\"@b>"), U },
	{ LIT("<\"\\\xc3\xa9\"@b>"), U },
	{ LIT("<a@\xc3>"), U },
	{ LIT("<a@\xed\xa0\x80>"), U },
	{ LIT("<a@b.\xff>"), U },
	{ LIT("<a@[tag:\xc3\xa9]>"), U },
	/* U-labels that are none: C1 controls, hyphens at the ends, what IDNA maps to a dot */
	{ LIT("<a@\xc2\x85>"), U },
	{ LIT("<a@-\xc3\xa9>"), U },
	{ LIT("<a@\xc3\xa9->"), U },
	{ LIT("<a@b\xe3\x80\x82"
	      "c>"),
		U },
	{ LIT("<a@b\xef\xbc\x8e"
	      "c>"),
		U },
	{ LIT("<a@b\xef\xbd\xa1"
	      "c>"),
		U },
	{ LIT("<a@\xc3\xa9.>"), U },
	{ LIT("<a@.\xc3\xa9>"), U },
	/* one octet too many */
	{ LIT("<" X60 "xxxxx@b>"), 0 },
	{ LIT("<\"" X60 "xxx\"@b>"), 0 },
	{ LIT("<a@" L63 "x>"), 0 },
	{ LIT("<a@" L63 "x.b>"), 0 },
	{ LIT("<a@b." L63 "x>"), 0 },
	{ LIT("<a@" D255 ">"), 0 },
	{ LIT("<ab@" L63 "." L63 "." L63 "." X60 ">"), 0 },
	{ LIT("ab@" L63 "." L63 "." L63 "." X60), B },
	{ LIT("<@" L63 "." L63 "." L63 ":a@" L63 ">"), 0 },
};

static const struct {
	struct view text;
	unsigned flags;
	enum psmtp_domain_kind kind;
} accepted[] = {
	{ LIT("<a@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@b.c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<A@B.C>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a.b.c@d>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<1@2>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@1.2.3.4>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@b-c.d>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@b--c.d>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@xn--bcher-kva.example>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@3com.example>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@localhost>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<!#$%&'*+-/=?^_`{|}~@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a+b@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a%b@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a!b@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<-@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<_@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<postmaster@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@b>"), N | P | U, PSMTP_DOMAIN_NAME },
	{ LIT("<>"), N, PSMTP_DOMAIN_NONE },
	{ LIT("<Postmaster>"), P, PSMTP_DOMAIN_NONE },
	{ LIT("<POSTMASTER>"), P, PSMTP_DOMAIN_NONE },
	{ LIT("<pOsTmAsTeR>"), P | N, PSMTP_DOMAIN_NONE },
	/* quoted */
	{ LIT("<\"a\"@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"\"@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\" \"@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"a b\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"a@b\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"a>b\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"a<b\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"a\\\"b\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"a\\\\\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"\\ \"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"\\a\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"..\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"(),:;[]\"@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"a\"@[1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV4 },
	/* literals */
	{ LIT("<a@[1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV4 },
	{ LIT("<a@[0.0.0.0]>"), 0, PSMTP_DOMAIN_IPV4 },
	{ LIT("<a@[255.255.255.255]>"), 0, PSMTP_DOMAIN_IPV4 },
	{ LIT("<a@[001.02.3.255]>"), 0, PSMTP_DOMAIN_IPV4 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6:7:8]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:::]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:::1]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:1::]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[ipv6:fe80::1]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6::]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:::1:2:3:4:5:6]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:1:2:3::4:5:6]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:FFFF:ffff:0:0:0:0:0:0]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:1:2:3:4:5:6:1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:::1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:::ffff:1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:1:2:3:4::1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[IPv6:1::2:3:4:1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV6 },
	{ LIT("<a@[tag:x]>"), 0, PSMTP_DOMAIN_LITERAL },
	{ LIT("<a@[x-400:c=us;a=>@\"!]>"), 0, PSMTP_DOMAIN_LITERAL },
	{ LIT("<a@[IPv7:x]>"), 0, PSMTP_DOMAIN_LITERAL },
	/* source routes */
	{ LIT("<@a:b@c>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<@a,@b.c:d@e>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<@a:b@[1.2.3.4]>"), 0, PSMTP_DOMAIN_IPV4 },
	{ LIT("<@a:\"b:c\"@d>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<@\xc3\xa9:a@b>"), U, PSMTP_DOMAIN_NAME },
	/* bare */
	{ LIT("a@b"), B, PSMTP_DOMAIN_NAME },
	{ LIT(""), B | N, PSMTP_DOMAIN_NONE },
	{ LIT("postmaster"), B | P, PSMTP_DOMAIN_NONE },
	{ LIT("\"a b\"@c"), B, PSMTP_DOMAIN_NAME },
	{ LIT("a@[1.2.3.4]"), B, PSMTP_DOMAIN_IPV4 },
	/* UTF-8 */
	{ LIT("<\xc3\xa9@b>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<a.\xc3\xa9.b@c>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<\"\xc3\xa9 x\"@b>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<a@b\xc3\xbc"
	      "cher.example>"),
		U, PSMTP_DOMAIN_NAME },
	{ LIT("<\xe5\xb0\x8f@\xe4\xbe\x8b.\xe3\x83\x86>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<\xf0\x9f\x93\xa7@b>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<\xed\x9f\xbf@b>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<\xee\x80\x80@b>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<\xf4\x8f\xbf\xbf@b>"), U, PSMTP_DOMAIN_NAME },
	{ LIT("<\xe0\xa0\x80@b>"), U, PSMTP_DOMAIN_NAME },
	/* exactly at the limit */
	{ LIT("<" X60 "xxxx@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<\"" X60 "xx\"@b>"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@" L63 ">"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("<a@" L63 "." L63 "." L63 "." X60 ">"), 0, PSMTP_DOMAIN_NAME },
	{ LIT("a@" L63 "." L63 "." L63 "." X60), B, PSMTP_DOMAIN_NAME },
};

static struct psmtp_address *parse(struct view v, unsigned flags, int want)
{
	static struct psmtp_address a;

	memset(&a, 0x55, sizeof a);
	if (psmtp_address_parse(smtp_public(v), flags, &a) != want)
		fail_msg("%s: \"%.*s\" flags %u", want ? "accepted" : "refused", VIEW_ARGS(v), flags);
	return &a;
}

static void refuses(void **state)
{
	struct psmtp_address none = { 0 };

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct view v = exact(refused[i].text);

		assert_memory_equal(parse(v, refused[i].flags, -1), &none, sizeof none);
		drop(v);
	}
}

static void accepts(void **state)
{
	(void)state;
	assert_true(COUNT(refused) + COUNT(accepted) >= 150);
	for (size_t i = 0; i < COUNT(accepted); i++) {
		struct view v = exact(accepted[i].text);
		struct psmtp_address *a = parse(v, accepted[i].flags, 0);

		if (a->kind != accepted[i].kind)
			fail_msg("kind %d: \"%.*s\"", a->kind, VIEW_ARGS(v));
		if (!(accepted[i].flags & B))
			assert_int_equal(smtp_path_length(v), v.n);
		drop(v);
	}
}

/* Each beginning of an accepted path is refused, unless it is one itself. */
static void refuses_what_is_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(accepted); i++)
		for (size_t n = 0; n < accepted[i].text.n && !(accepted[i].flags & B); n++) {
			struct view v = exact(view_slice(accepted[i].text, 0, n));

			parse(v, accepted[i].flags, -1);
			assert_int_equal(smtp_path_length(v), 0);
			drop(v);
		}
}

static void cuts_into_parts(void **state)
{
	static const struct {
		const char *path, *text, *local, *domain;
		bool quoted, utf8;
	} table[] = {
		{ "<a.b@c.d>", "a.b@c.d", "a.b", "c.d", false, false },
		{ "<\"a @ b\"@c.d>", "\"a @ b\"@c.d", "\"a @ b\"", "c.d", true, false },
		{ "<@x,@y.z:a@c>", "a@c", "a", "c", false, false },
		{ "<a@[IPv6:::1]>", "a@[IPv6:::1]", "a", "[IPv6:::1]", false, false },
		{ "<postmaster>", "postmaster", "postmaster", "", false, false },
		{ "<>", "", "", "", false, false },
		{ "<\xc3\xa9@c>", "\xc3\xa9@c", "\xc3\xa9", "c", false, true },
		{ "<a@\xc3\xa9>", "a@\xc3\xa9", "a", "\xc3\xa9", false, true },
		{ "<@\xc3\xa9:a@b>", "a@b", "a", "b", false, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct psmtp_address *a = parse(view_cstr(table[i].path), U | N | P, 0);

		assert_view(smtp_view(a->text), table[i].text);
		assert_view(smtp_view(a->local), table[i].local);
		assert_view(smtp_view(a->domain), table[i].domain);
		assert_int_equal(a->quoted, table[i].quoted);
		assert_int_equal(a->utf8, table[i].utf8);
	}
}

static void survives_no_text(void **state)
{
	struct psmtp_address a;

	(void)state;
	assert_int_equal(psmtp_address_parse((struct psmtp_view){ NULL, 0 }, B, &a), -1);
	assert_int_equal(psmtp_address_parse((struct psmtp_view){ NULL, 0 }, B | N, &a), 0);
}

static void unquotes(void **state)
{
	static const struct {
		const char *local, *content;
	} table[] = { { "a.b", "a.b" }, { "\"a b\"", "a b" }, { "\"a\\\"b\\\\\"", "a\"b\\" }, { "\"\"", "" },
		{ "", "" }, { "\"", "\"" }, { "\"\\x\"", "x" } };
	char to[16];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		size_t n = psmtp_local_unquote(smtp_public(view_cstr(table[i].local)), to);

		assert_view(view_of(to, n), table[i].content);
	}
}

static void finds_the_end_of_a_path(void **state)
{
	static const struct {
		const char *text;
		size_t n;
	} table[] = {
		{ "<a@b> SIZE=1", 5 },
		{ "<\"a>b\"@c> X", 9 },
		{ "<\"a\\\">\"@c>", 10 },
		{ "<a@[x:>]>>", 9 },
		{ "<>", 2 },
		{ "a@b>", 0 },
		{ "", 0 },
		{ "<a@b", 0 },
		{ "<\"a>", 0 },
		{ "<\"a\\", 0 },
		{ "<[>", 0 },
		{ "<a>b>", 3 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view v = exact(view_cstr(table[i].text));

		assert_int_equal(smtp_path_length(v), table[i].n);
		drop(v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),
		cmocka_unit_test(accepts),
		cmocka_unit_test(refuses_what_is_cut),
		cmocka_unit_test(cuts_into_parts),
		cmocka_unit_test(unquotes),
		cmocka_unit_test(survives_no_text),
		cmocka_unit_test(finds_the_end_of_a_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
