/* date.c - see date.h. */
#include "mail/date.h"

#include <stdio.h>

#define LAST_SECOND 253402300799 /* 9999-12-31T23:59:59: RFC 5322's year has four digits here */

const char *mail_date_text(int64_t wall_ms, char to[MAIL_DATE_SIZE])
{
	static const char days[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	int64_t s = wall_ms < 0 ? 0 : wall_ms / 1000, day, era, year;
	unsigned of_era, year_of_era, of_year, mp, mday, month, sec;

	if (s > LAST_SECOND)
		s = LAST_SECOND;
	day = s / 86400;
	sec = (unsigned)(s % 86400);
	/* The civil calendar in eras of 400 years that begin on a 1 March, so that the leap day is a year's last. */
	era = (day + 719468) / 146097;
	of_era = (unsigned)(day + 719468 - era * 146097);
	year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	mp = (5 * of_year + 2) / 153;
	mday = of_year - (153 * mp + 2) / 5 + 1;
	month = mp < 10 ? mp + 3 : mp - 9;
	year = (int64_t)year_of_era + era * 400 + (month <= 2);
	snprintf(to, MAIL_DATE_SIZE, "%.3s, %u %.3s %04u %02u:%02u:%02u +0000", days + day % 7 * 3, mday % 100,
		 months + (month - 1) % 12 * 3, (unsigned)(year % 10000), sec / 3600 % 24, sec / 60 % 60, sec % 60);
	return to;
}
