/* corpus_isemail.c - judges addresses for corpus_isemail.py: one a line on standard input, in hexadecimal, so that any
 * octet may stand in it; "accept" or "refuse" for each on standard output.
 */
#include <psmtp.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_ 4096 /* the longest address of the table has some 300 octets */

static int digit(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

int main(void)
{
	char line[LINE_MAX_], text[LINE_MAX_ / 2];
	struct psmtp_address a;

	while (fgets(line, sizeof line, stdin)) {
		size_t n = 0;

		while (digit(line[2 * n]) != -1 && digit(line[2 * n + 1]) != -1) {
			text[n] = (char)(digit(line[2 * n]) * 16 + digit(line[2 * n + 1]));
			n++;
		}
		puts(psmtp_address_parse((struct psmtp_view){ text, n }, PSMTP_ADDRESS_BARE, &a) == 0 ? "accept" : "refuse");
	}
	return 0;
}
