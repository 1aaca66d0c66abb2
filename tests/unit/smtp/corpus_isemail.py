#!/usr/bin/python3
"""corpus_isemail.py JUDGE TESTS.XML - our address parser against the public isemail table (not part of this project).

The table judges RFC 5322 header addresses, DNS and policy besides RFC 5321 envelopes, so its categories are mapped:

  accept   ISEMAIL_VALID_CATEGORY, ISEMAIL_RFC5321 (valid in SMTP, if unusual: quoted, literal, numeric TLD),
           ISEMAIL_DNSWARN (syntax is fine, only the DNS was not)
  refuse   ISEMAIL_ERR, and what only a header may hold: ISEMAIL_CFWS, ISEMAIL_DEPREC, ISEMAIL_RFC5322

EXCEPTIONS names the rows for which the rule is not right, each with its reason.  Exit status 1 when any row differs, or
when an exception is none any more.
"""
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

ACCEPT = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_RFC5321", "ISEMAIL_DNSWARN"}
REFUSE = {"ISEMAIL_ERR", "ISEMAIL_CFWS", "ISEMAIL_DEPREC", "ISEMAIL_RFC5322"}

# id of the row: why our verdict is the other one
EXCEPTIONS = {}


def octets(text):
    """The table writes control characters as U+2400 + code."""
    return "".join(chr(ord(c) - 0x2400) if 0x2400 <= ord(c) < 0x2420 else c for c in text or "").encode()


def main():
    judge, table = sys.argv[1:]
    rows = list(ElementTree.parse(table).getroot().iter("test"))
    lines = "".join(octets(row.findtext("address")).hex() + "\n" for row in rows)
    verdicts = subprocess.run([judge], input=lines, capture_output=True, text=True, check=True).stdout.split()
    assert len(verdicts) == len(rows) > 0
    failed = 0
    for row, verdict in zip(rows, verdicts):
        number, category = int(row.get("id")), row.findtext("category")
        assert category in ACCEPT | REFUSE, category
        right = (verdict == "accept") == (category in ACCEPT)
        if right == (number in EXCEPTIONS):
            failed += 1
            print("row %d %r %s: %s%s" % (number, row.findtext("address"), row.findtext("diagnosis"), verdict,
                                          ", an exception no more" if right else ""))
    print("isemail: %d passed, %d failed, %d exceptions" % (len(rows) - failed, failed, len(EXCEPTIONS)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
