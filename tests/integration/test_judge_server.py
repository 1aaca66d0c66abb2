"""An independent judge of the server: what bytes on the wire are answered, clause by clause.

One line is one case: where it starts, what is sent, what must come back, and the RFC that says so.  Every case runs
three times: in one write with the sending half closed behind it, in clear in small pieces, and inside TLS.  Behind each
case that leaves the session open a whole plain transaction must be answered as in a session that never took the case:
no error may leave anything behind.  Every reply line is held to the same hygiene.
"""
import contextlib
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
import zlib

import pytest
from conftest import Postrider, Talk, free_port

LIMIT = 20000
CONFIG = '''
hostname = "mx.sink.test"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
message_size_limit = 20000
workers  = 1
certificate "default" {{ chain = "{chain}"  key = "{key}" }}
listener "mx"    {{ address = {{"127.0.0.1:{port}"}}  errors = 1000  idle_commands = 100000  sessions_per_address = 5000 }}
listener "must"  {{ address = {{"127.0.0.1:{must}"}}  tls = required  errors = 1000 }}
listener "none"  {{ address = {{"127.0.0.1:{none}"}}  tls = none }}
listener "smtps" {{ address = {{"127.0.0.1:{smtps}"}}  tls = implicit  errors = 1000 }}
listener "lmtp"  {{ address = {{"127.0.0.1:{lmtp}"}}  lmtp = true }}
listener "norm"  {{ address = {{"127.0.0.1:{norm}"}}  bare_newlines = normalise }}
listener "bin"   {{ address = {{"127.0.0.1:{bin}"}}  binarymime = true }}
listener "few"   {{ address = {{"127.0.0.1:{few}"}}  recipients = 2  messages = 2  errors = 3 }}
listener "quick" {{ address = {{"127.0.0.1:{quick}"}}  command_timeout = "1s"  handshake_timeout = "1s"  data_timeout = "1s"  data_min_rate = 100000 }}
listener "lax"   {{ address = {{"127.0.0.1:{lax}"}}  starttls_pending = discard  ehlo_after_tls = optional }}
listener "late"  {{ address = {{"127.0.0.1:{late}"}}  greeting_delay = "1s" }}
domain "sink.test"    {{ deliver = "discard" }}
domain "local.test"   {{ deliver = "maildir:{dir}/mail/%{{user}}" }}
relay                 {{ from = {{"192.0.2.0/24"}} }}
'''
LISTENERS = ("must", "none", "smtps", "lmtp", "norm", "bin", "few", "quick", "lax", "late")

E, M, R = "EHLO c.test|", "MAIL FROM:<a@src.test>|", "RCPT TO:<x@sink.test>|"
START = {  # where a case starts: what was sent, and the answers
    "":  ("", "G"),
    "E": (E, "G E"),
    "H": ("HELO c.test|", "G H"),
    "M": (E + M, "G E 250-2.1.0"),
    "R": (E + M + R, "G E 250-2.1.0 250-2.1.5"),
    "D": (E + M + R + "DATA|", "G E 250-2.1.0 250-2.1.5 354"),
    "U": (E + "MAIL FROM:<a@src.test> SMTPUTF8|", "G E 250-2.1.0"),
}
F, T, OK, BAD, ORDER, ARG = "250-2.1.0", "250-2.1.5", "250-2.0.0", "500-5.5.2", "503-5.5.1", "501-5.5.4"
AGAIN = ("RSET|EHLO again.test|MAIL FROM:<b@src.test>|RCPT TO:<y@sink.test>|DATA|Subject: y||y|.|NOOP|",
         f"{OK} E {F} {T} 354 {OK} {OK}")


def name(n):
    """A domain name of n octets."""
    text = ".".join(["d" * 61] * (n // 62 + 1))
    return text[:n - 1].rstrip(".").ljust(n - 1, "e") + "f"


def m(what):
    return "MAIL FROM:" + what + "|"


def r(what):
    return "RCPT TO:" + what + "|"


# ---- the table: (RFC clause, start, sent, expected).  | is CR LF; ^ the server closes; a,b either; = no tail behind it ----

LINES = [
    ("5321 4.1.1.9", "", "NOOP|", OK), ("5321 4.1.1.9", "", "NOOP anything at all|", OK), ("5321 2.4", "", "noop|", OK),
    ("5321 4.1.1", "", "NOOP \t |", OK), ("5321 4.1.1.5", "", "RSET|", OK), ("5321 4.1.1.5", "", "RSET x|", ARG),
    ("5321 4.1.1.8", "", "HELP|", "214-2.0.0"), ("5321 4.1.1.8", "", "HELP MAIL|", "214-2.0.0"), ("5321 3.5.3", "", "VRFY x|", "252-2.5.0"),
    ("5321 4.1.1.6", "", "VRFY|", ARG), ("5321 4.1.1.7", "", "EXPN list|", "502-5.5.1"), ("5321 4.1.1.10", "", "QUIT|", "221-2.0.0 ^"),
    ("5321 4.1.1.10", "", "QUIT x|", ARG), ("5321 4.1.1.10", "E", "QUIT|NOOP|", "221-2.0.0 ^"), ("5321 4.1.1.10", "R", "QUIT|", "221-2.0.0 ^"),
    ("5321 4.2.4", "", "NONSENSE|", BAD), ("5321 4.2.4", "", "|", BAD), ("5321 4.2.4", "", "   |", BAD), ("5321 4.2.4", "", " NOOP|", BAD),
    ("5321 4.2.4", "E", "NOOPX|MAILFROM:<a@b.test>|", f"{BAD} {BAD}"), ("5321 4.2.4", "E", "XCLIENT NAME=x|TURN|ETRN x|", " ".join(["500-5.5.2,502-5.5.1"] * 3)),
    ("821 obsolete", "E", "SEND FROM:<a@b.test>|SOML FROM:<a@b.test>|SAML FROM:<a@b.test>|", " ".join(["500-5.5.2,502-5.5.1"] * 3)),
    ("5321 4.5.3.1.4", "", "NOOP " + "x" * 505 + "|", OK), ("5321 4.5.3.1.4", "", "NOOP " + "x" * 506 + "|", BAD),
    ("5321 4.5.3.1.4", "", "NOOP " + "x" * 5000 + "|NOOP|", f"{BAD} {OK}"), ("5321 4.5.3.1.4", "", "x" * 100000 + " QUIT|", BAD),
    ("5321 4.5.3.1.4", "", "NOOP " + "x" * 600 + "\nQUIT\r" + "x" * 600 + "|", BAD), ("5321 4.5.3.1.4", "", "x" * 510 + "|" + "x" * 511 + "|", f"{BAD} {BAD}"),
    ("5321 2.3.8", "", "NOOP\nNOOP|", BAD), ("5321 2.3.8", "", "NOOP\rNOOP|", BAD), ("5321 2.3.8", "", "NOOP\r|", BAD), ("5321 2.3.8", "", "\n|", BAD),
    ("5321 2.3.8", "", "\r|", BAD), ("5321 2.3.8", "", "NOOP\n\r|", BAD), ("5321 2.3.8", "", "NOOP\0|", BAD), ("5321 2.3.8", "", "\0|\0NOOP|", f"{BAD} {BAD}"),
    ("5321 2.3.8", "E", "MAIL FROM:<a\0@b.test>|", BAD), ("5321 2.3.8", "E", "MAIL FROM:<a@b.test>\0SIZE=1|", BAD), ("5321 4.1.2", "", "NOOP \x01\x1b[31m|", BAD),
    ("5321 4.1.2", "", "\xff\xfe\xfd|", BAD), ("5321 4.1.2", "", "NOOP \xe9|", f"{OK},{BAD}"), ("5321 4.1.2", "", "NO\xc3\x96P|", BAD),
    ("5321 2.3.8", "M", "RCPT TO:<x@sink.test>\nDATA|", BAD), ("5321 7.8", "", "GET / HTTP/1.1|Host: x|NOOP|", "554-5.5.1 ^"),
    ("5321 7.8", "E", "POST /x HTTP/1.0|NOOP|", "554-5.5.1 ^"), ("5321 7.8", "", "Host: mx.test|NOOP|", "554-5.5.1 ^"), ("5321 4.2.4", "", "GET|", BAD),
    ("5321 2.2.2", "E", "AUTH PLAIN AGEAYg==|NOOP|", f"502-5.5.1,503-5.5.1,504-5.5.4,500-5.5.2 {OK}"), ("4954 4", "", "AUTH|", "502-5.5.1,503-5.5.1,501-5.5.4"),
]

HELLO = [
    ("5321 4.1.1.1", "", "EHLO|", ARG), ("5321 4.1.1.1", "", "HELO|", ARG), ("2033 4.1", "", "LHLO c.test|", "500-5.5.1"), ("5321 2.4", "", "eHlO c.test|", "E"),
    ("5321 4.1.1.1", "", "HELO c.test|", "H"), ("5321 4.1.1.1", "", "EHLO c.test  |", "E"), ("5321 4.1.1.1", "", "EHLO\tc.test|", BAD),
    ("5321 4.1.1.1", "", "EHLO two words|", ARG), ("5321 4.1.2", "", "EHLO -x.test|", ARG), ("5321 4.1.2", "", "EHLO x..test|", ARG),
    ("5321 4.1.2", "", "EHLO .test|", ARG), ("5321 4.1.3", "", "EHLO [127.0.0.1]|", "E"), ("5321 4.1.3", "", "EHLO [IPv6:::1]|", "E"),
    ("5321 4.1.3", "", "HELO [127.0.0.1]|", "H"), ("5321 4.1.3", "", "EHLO [300.1.1.1]|", ARG), ("5321 4.1.3", "", "EHLO [1.2.3]|", ARG),
    ("5321 4.1.3", "", "EHLO [127.0.0.1|", ARG), ("5321 4.1.3", "", "EHLO [IPv6:1::2::3]|", ARG), ("6531 3.2", "", "EHLO \xc3\xa9.test|", ARG),
    ("5321 4.1.2", "", "EHLO <script>|", ARG), ("5321 4.1.2", "", "EHLO a;b|", ARG), ("5321 4.5.3.1.2", "", f"EHLO {name(255)}|", "E"),
    ("5321 4.5.3.1.2", "", f"EHLO {name(256)}|", ARG), ("1035 2.3.4", "", "EHLO " + "x" * 63 + "|", "E"), ("1035 2.3.4", "", "EHLO " + "x" * 64 + "|", ARG),
    ("5321 4.1.4", "R", "EHLO c.test|DATA|", f"E {ORDER}"), ("5321 4.1.4", "R", "HELO c.test|DATA|", f"H {ORDER}"),
    ("5321 4.1.4", "R", "EHLO bad name|DATA|x|.|", f"{ARG} 354 {OK}"), ("5321 4.1.4", "M", "EHLO|" + R, f"{ARG} {T}"),
    ("5321 4.1.4", "H", "EHLO bad name|MAIL FROM:<a@b.test> SIZE=1|", f"{ARG} 555-5.5.4"), ("5321 4.1.4", "E", "HELO c.test|MAIL FROM:<a@b.test> SIZE=1|", "H 555-5.5.4"),
    ("5321 4.1.4", "H", "EHLO c.test|MAIL FROM:<a@b.test> SIZE=1|", f"E {F}"), ("5321 4.1.4", "E", "LHLO c.test|" + M, f"500-5.5.1 {F}"),
]

ORDERS = [
    ("5321 4.1.4", "", M, ORDER), ("5321 4.1.4", "", R, ORDER), ("5321 4.1.4", "", "DATA|", ORDER), ("3030 2", "", "BDAT 4 LAST|ab|", ORDER),
    ("5321 3.3", "E", R, ORDER), ("5321 3.3", "E", "DATA|", ORDER), ("3030 2", "E", "BDAT 4 LAST|ab|NOOP|", f"{ORDER} {OK}"), ("5321 3.3", "M", "DATA|", "554-5.5.1"),
    ("5321 3.3", "M", "DATA|" + R + "DATA|x|.|", f"554-5.5.1 {T} 354 {OK}"), ("5321 4.1.4", "M", M, ORDER), ("5321 4.1.4", "R", M + "DATA|x|.|", f"{ORDER} 354 {OK}"),
    ("5321 4.1.1.5", "R", "RSET|DATA|", f"{OK} {ORDER}"), ("5321 4.1.1.5", "R", "RSET|" + M + "DATA|", f"{OK} {F} 554-5.5.1"), ("5321 4.1.1.5", "R", "RSET|RSET|", f"{OK} {OK}"),
    ("5321 4.1.1", "R", "NOOP|VRFY x|EXPN x|HELP|DATA|x|.|", f"{OK} 252-2.5.0 502-5.5.1 214-2.0.0 354 {OK}"), ("5321 4.1.1.4", "R", "DATA x|DATA|x|.|", f"{ARG} 354 {OK}"),
    ("5321 3.3", "R", "RCPT TO:<bad>|DATA|x|.|", f"501-5.1.3 354 {OK}"), ("5321 3.3", "M", "RCPT TO:<z@away.test>|DATA|", "550-5.7.1 554-5.5.1"),
    ("5321 3.3", "D", "x|.|DATA|", f"{OK} {ORDER}"), ("5321 3.3", "D", "x|.|" + R, f"{OK} {ORDER}"), ("2920 3.1", "E", M + R + R + "DATA|a|.|" + M + R + "DATA|b|.|",
     f"{F} {T} {T} 354 {OK} {F} {T} 354 {OK}"), ("2920 3.1", "D", "x|.|RSET|NOOP|QUIT|", f"{OK} {OK} {OK} 221-2.0.0 ^"), ("5321 4.1.1.10", "D", "QUIT|.|", OK),
    ("5321 4.2.4", "R", "NONSENSE|DATA|x|.|", f"{BAD} 354 {OK}"), ("5321 4.1.1.2", "E", "MAIL FROM:<bad|MAIL FROM:<a@b.test>|", f"501-5.1.7 {F}"),
    ("5321 4.1.1.2", "E", "MAIL FROM:<u1@b.test> SMTPUTF8 SIZE=99999|" + M + "RCPT TO:<\xc3\xa9@sink.test>|", f"552-5.3.4 {F} 553-5.6.7"),
    ("3461 5", "E", "MAIL FROM:<b@b.test> BODY=WRONG|DATA|", f"{ARG} {ORDER}"),
]

MAIL = [
    ("5321 4.1.1.2", "E", "MAIL|", ARG), ("5321 4.1.1.2", "E", "MAIL a@b.test|", ARG), ("5321 4.1.1.2", "E", "MAIL FROM|", ARG), ("5321 4.1.1.2", "E", "MAIL FROM:|", ARG),
    ("5321 4.1.1.2", "E", "MAIL TO:<a@b.test>|", ARG), ("5321 4.1.1.2", "E", m("a@b.test"), "501-5.1.7"), ("5321 4.1.2", "E", m("<a@b.test"), "501-5.1.7"),
    ("5321 4.5.5", "E", m("<>"), F), ("5321 3.3", "E", m(" <a@b.test>"), F), ("5321 2.4", "E", "mail from:<a@b.test>|", F), ("5321 4.1.2", "E", m("< >"), "501-5.1.7"),
    ("5321 4.1.2", "E", m("<a@>"), "501-5.1.7"), ("5321 4.1.2", "E", m("<@b.test>"), "501-5.1.7"), ("5321 4.1.2", "E", m("<a>"), "501-5.1.7"),
    ("5321 4.1.2", "E", m("<postmaster>"), "501-5.1.7"), ("5321 4.1.2", "E", m("<a b@c.test>"), "501-5.1.7"), ("5321 4.1.2", "E", m('<"a b"@c.test>'), F),
    ("5321 4.1.2", "E", m('<"a\\"b"@c.test>'), F), ("5321 4.1.2", "E", m('<"a>b"@c.test>'), F), ("5321 4.1.2", "E", m('<"a@b"@c.test>'), F), ("5321 4.1.2", "E", m('<""@c.test>'), F),
    ("5321 4.1.2", "E", m('<"ab@c.test>'), "501-5.1.7"), ("5321 4.1.2", "E", m('<a"b"@c.test>'), "501-5.1.7"), ("5321 4.1.2", "E", m("<.a@b.test>"), "501-5.1.7"),
    ("5321 4.1.2", "E", m("<a.@b.test>"), "501-5.1.7"), ("5321 4.1.2", "E", m("<a..b@c.test>"), "501-5.1.7"), ("5321 4.1.2", "E", m("<a@b@c.test>"), "501-5.1.7"),
    ("5321 4.1.2", "E", m("<a@b..test>"), "501-5.1.7"), ("5321 4.1.2", "E", m("<a@-b.test>"), "501-5.1.7"), ("5321 4.1.2", "E", m("<a@b_c.test>"), "501-5.1.7"),
    ("5321 4.1.2", "E", m("<a@b.test>>"), "501-5.1.7,501-5.5.4"), ("5321 4.1.2", "E", m("<<a@b.test>>"), "501-5.1.7,501-5.5.4"), ("5321 4.1.2", "E", m("<a@b.test>x"), ARG),
    ("5321 4.1.2", "E", m("<a@b.test>SIZE=1"), ARG), ("5321 4.1.2", "E", m("<a@b.test> <c@d.test>"), ARG), ("5321 4.1.3", "E", m("<a@[127.0.0.1]>"), F),
    ("5321 4.1.3", "E", m("<a@[IPv6:2001:db8::1]>"), F), ("5321 4.1.3", "E", m("<a@[1.2.3]>"), "501-5.1.7"), ("5321 4.1.3", "E", m("<a@[IPv6:zz]>"), "501-5.1.7"),
    ("5321 C", "E", m("<@r.test,@s.test:a@b.test>"), F), ("5321 C", "E", m("<@r.test:>"), "501-5.1.7"), ("5321 C", "E", m("<@r.test,a@b.test>"), "501-5.1.7"),
    ("5321 4.5.3.1.1", "E", m("<" + "l" * 64 + "@b.test>"), F), ("5321 4.5.3.1.1", "E", m("<" + "l" * 65 + "@b.test>"), "501-5.1.7"),
    ("5321 4.5.3.1.3", "E", m(f"<a@{name(252)}>"), F), ("5321 4.5.3.1.3", "E", m(f"<a@{name(253)}>"), "501-5.1.7"), ("6531 3.5", "E", m("<\xc3\xa9@b.test>"), "553-5.6.7"),
    ("6531 3.4", "E", m("<\xc3\xa9@b\xc3\xa9.test> SMTPUTF8"), F), ("3629 3", "E", m("<\xe9@b.test> SMTPUTF8"), "501-5.1.7"), ("3629 3", "E", m("<\xc0\xaf@b.test> SMTPUTF8"), "501-5.1.7"),
    ("6531 3.4", "E", m("<a@b.test> SMTPUTF8=1"), ARG), ("6531 3.4", "H", m("<a@b.test> SMTPUTF8"), "555-5.5.4"),
    ("1870 5", "E", m("<a@b.test> SIZE=0"), F), ("1870 6.1", "E", m("<a@b.test> SIZE=20000"), F), ("1870 6.1", "E", m("<a@b.test> SIZE=20001"), "552-5.3.4"),
    ("1870 3", "E", m("<a@b.test> SIZE="), ARG), ("1870 3", "E", m("<a@b.test> SIZE"), ARG), ("1870 3", "E", m("<a@b.test> SIZE=-1"), ARG), ("1870 3", "E", m("<a@b.test> SIZE=+1"), ARG),
    ("1870 3", "E", m("<a@b.test> SIZE=0x10"), ARG), ("1870 3", "E", m("<a@b.test> SIZE=1k"), ARG), ("1870 3", "E", m("<a@b.test> SIZE=00000000000000000001"), F),
    ("1870 3", "E", m("<a@b.test> SIZE=000000000000000000001"), ARG), ("1870 3", "E", m("<a@b.test> SIZE=99999999999999999999"), "552-5.3.4"),
    ("1870 3", "E", m("<a@b.test> SIZE=18446744073709551616"), "552-5.3.4"), ("5321 4.1.1.11", "E", m("<a@b.test> SIZE=1 SIZE=2"), ARG), ("1870 5", "H", m("<a@b.test> SIZE=1"), "555-5.5.4"),
    ("6152 2", "E", m("<a@b.test> BODY=7bit"), F), ("6152 2", "E", m("<a@b.test> BODY=8BITMIME"), F), ("6152 2", "E", m("<a@b.test> BODY=9BIT"), ARG),
    ("6152 2", "E", m("<a@b.test> BODY"), ARG), ("3030 3", "E", m("<a@b.test> BODY=BINARYMIME"), "555-5.5.4"), ("3461 4.3", "E", m("<a@b.test> RET=FULL"), F),
    ("3461 4.3", "E", m("<a@b.test> ret=hdrs"), F), ("3461 4.3", "E", m("<a@b.test> RET=NONE"), ARG), ("3461 4.4", "E", m("<a@b.test> ENVID=x+3Dy"), F),
    ("3461 4.4", "E", m("<a@b.test> ENVID="), ARG), ("3461 4.4", "E", m("<a@b.test> ENVID=x=y"), ARG), ("3461 4", "E", m("<a@b.test> ENVID=x+3dy"), ARG),
    ("3461 4", "E", m("<a@b.test> ENVID=x+"), ARG), ("3461 4.4", "E", m("<a@b.test> ENVID=x+0D+0Ay"), ARG), ("3461 4.4", "E", m("<a@b.test> ENVID=x+00"), ARG),
    ("3461 4.4", "E", m("<a@b.test> ENVID=" + "x" * 100), F), ("3461 4.4", "E", m("<a@b.test> ENVID=" + "x" * 101), ARG), ("3461 4.4", "E", m("<a@b.test> ENVID=\xe9"), ARG),
    ("3461 4.3", "H", m("<a@b.test> RET=FULL"), "555-5.5.4"), ("5321 4.1.1.11", "E", m("<a@b.test> RET=FULL RET=FULL"), ARG), ("3461 4.1", "E", m("<a@b.test> NOTIFY=NEVER"), "555-5.5.4"),
    ("5321 4.1.1.11", "E", m("<a@b.test> FOO=1"), "555-5.5.4"), ("5321 4.1.1.11", "E", m("<a@b.test> FOO"), "555-5.5.4"), ("5321 4.1.2", "E", m("<a@b.test> -FOO"), "501-5.5.4,555-5.5.4"),
    ("4954 5", "E", m("<a@b.test> AUTH=<>"), "555-5.5.4"), ("6710", "E", m("<a@b.test> MT-PRIORITY=3"), "555-5.5.4"),
    ("5321 4.1.2", "E", m("<a@b.test>   SIZE=1   BODY=7BIT  "), F), ("5321 4.1.1.11", "E", m("<a@b.test> " + "X" * 2000), "555-5.5.4"),
    ("5321 4.5.3.1.4", "E", "MAIL FROM:<a@b.test> " + "X" * 2025 + "|", "555-5.5.4"), ("5321 4.5.3.1.4", "E", "MAIL FROM:<a@b.test> " + "X" * 2026 + "|", BAD),
]

RCPT = [
    ("5321 4.1.1.3", "M", "RCPT|", ARG), ("5321 4.1.1.3", "M", "RCPT x@sink.test|", ARG), ("5321 4.1.1.3", "M", "RCPT FROM:<x@sink.test>|", ARG), ("5321 4.1.1.3", "M", r("<>"), "501-5.1.3"),
    ("5321 4.1.1.3", "M", r("x@sink.test"), "501-5.1.3"), ("5321 4.1.2", "M", r("<x>"), "501-5.1.3"), ("5321 4.5.1", "M", r("<postmaster>"), T), ("5321 4.5.1", "M", r("<POSTmaster>"), T),
    ("5321 4.5.1", "M", r("<Postmaster@sink.test>"), T), ("5321 C", "M", r("<@a.test,@b.test:x@sink.test>"), T), ("5321 C", "M", r("<@sink.test:x@away.test>"), "550-5.7.1"),
    ("5321 3.6.1", "M", r("<x@away.test>"), "550-5.7.1"), ("5321 4.1.3", "M", r("<x@[192.0.2.9]>"), "550-5.7.1"), ("5321 4.1.2", "M", r('<"x y"@sink.test>'), T),
    ("5321 2.4", "M", "rcpt to:<x@SINK.test>|", T), ("5321 4.1.1.3", "M", r("<nobody@local.test>"), "550-5.1.1"), ("5321 4.1.2", "M", r("<x@sink.test>y"), ARG),
    ("5321 4.1.2", "M", r("<x@sink.test."), "501-5.1.3"), ("6531 3.5", "M", r("<\xc3\xa9@sink.test>"), "553-5.6.7"), ("6531 3.5", "U", r("<\xc3\xa9@sink.test>"), T),
    ("3629 3", "U", r("<\xed\xa0\x80@sink.test>"), "501-5.1.3"), ("3461 4.1", "M", r("<x@sink.test> NOTIFY=NEVER"), T), ("3461 4.1", "M", r("<x@sink.test> NOTIFY=SUCCESS,FAILURE,DELAY"), T),
    ("3461 4.1", "M", r("<x@sink.test> notify=delay,failure"), T), ("3461 4.1", "M", r("<x@sink.test> NOTIFY=NEVER,SUCCESS"), ARG), ("3461 4.1", "M", r("<x@sink.test> NOTIFY=SUCCESS,NEVER"), ARG),
    ("3461 4.1", "M", r("<x@sink.test> NOTIFY="), ARG), ("3461 4.1", "M", r("<x@sink.test> NOTIFY"), ARG), ("3461 4.1", "M", r("<x@sink.test> NOTIFY=SUCCESS,"), ARG),
    ("3461 4.1", "M", r("<x@sink.test> NOTIFY=SOMETIMES"), ARG), ("3461 4.2", "M", r("<x@sink.test> ORCPT=rfc822;x+2By@sink.test"), T), ("3461 4.2", "M", r("<x@sink.test> ORCPT=rfc822"), ARG),
    ("3461 4.2", "M", r("<x@sink.test> ORCPT=;x"), ARG), ("3461 4.2", "M", r("<x@sink.test> ORCPT=rfc822;x+zz"), ARG), ("3461 4.2", "M", r("<x@sink.test> ORCPT=rfc822;x+0D+0AX"), ARG),
    ("3461 4.2", "M", r("<x@sink.test> ORCPT=rfc822;" + "x" * 493), T), ("3461 4.2", "M", r("<x@sink.test> ORCPT=rfc822;" + "x" * 494), ARG),
    ("6533 3", "M", r("<x@sink.test> ORCPT=utf-8;x\\x{E9}@sink.test"), T), ("6533 3", "M", r("<x@sink.test> ORCPT=utf-8;x\\x{D800}@sink.test"), ARG),
    ("5321 4.1.1.11", "M", r("<x@sink.test> NOTIFY=NEVER NOTIFY=NEVER"), ARG), ("5321 4.1.1.11", "M", r("<x@sink.test> SIZE=1"), "555-5.5.4"), ("3461 4.3", "M", r("<x@sink.test> RET=FULL"), "555-5.5.4"),
    ("5321 4.1.1.11", "H", m("<a@b.test>") + r("<x@sink.test> NOTIFY=NEVER"), f"{F} 555-5.5.4"), ("5321 3.3", "M", R * 5, " ".join([T] * 5)),
]

DATA = [
    ("5321 4.1.1.4", "R", "DATA|.|", f"354 {OK}"), ("5321 4.1.1.4", "R", "DATA  |x|.|", f"354 {OK}"), ("5321 4.5.2", "D", "..|...|.x|.|", OK),
    ("5321 4.5.3.1.6", "D", "x" * 15000 + "|.|", OK), ("6152 3", "D", "".join(chr(c) for c in range(128, 256)) + "|.|", OK),
    ("1870 6.3", "D", "x" * (LIMIT - 2) + "|.|", OK), ("1870 6.3", "D", "x" * (LIMIT - 1) + "|.|NOOP|", f"552-5.3.4 {OK}"), ("1870 6.3", "D", ("x" * 98 + "|") * 350 + ".|", "552-5.3.4"),
    ("5321 2.3.8", "D", "a\nb|.|", "554-5.6.0"), ("5321 2.3.8", "D", "a\rb|.|", "554-5.6.0"), ("5321 2.3.8", "D", "a\0b|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a\n.\nRSET|.|", "554-5.6.0"),
    ("5321 4.1.1.4", "D", "a\n.|RSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a|.\nRSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a|.\rRSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a\r.\rRSET|.|", "554-5.6.0"),
    ("5321 4.1.1.4", "D", "a\r.|RSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a|\0.|RSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a|.\0|RSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a|.\r\r\nRSET|.|", "554-5.6.0"),
    ("5321 4.1.1.4", "D", "a\r\r\n.|RSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a\r\n\r.\r\nRSET|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "a|. |RSET|.|", OK),
    ("5321 4.1.1.4", "D", "\n.|.|", "554-5.6.0"), ("5321 4.1.1.4", "D", "|.|", OK), ("5321 4.1.1.4", "D", "a|.|.|", f"{OK} {BAD}"), ("5321 4.1.1.4", "D", "a\n|.|", "554-5.6.0"),
    ("5321 3.8", "D", "half a message|", "="), ("5321 3.8", "D", "half a message|.", "="), ("5321 3.8", "D", "half a message|.\r", "="), ("5321 3.8", "R", "DATA", "="), ("5321 2.3.8", "", "NOOP\n", "="),
]

BDAT = [
    ("3030 2", "R", "BDAT 4 LAST|ab|", OK), ("3030 2", "R", "BDAT 4|ab|BDAT 0 LAST|", f"{OK} {OK}"), ("3030 2", "R", "bdat 4 last|ab|", OK), ("3030 2", "R", "BDAT 0 LAST|", OK),
    ("3030 2", "R", "BDAT 0|BDAT 0|BDAT 4 LAST|ab|", f"{OK} {OK} {OK}"), ("3030 2", "R", "BDAT 4 LASTX|ab|BDAT 0 LAST|", f"{ARG} {ORDER}"), ("3030 2", "R", "BDAT 4 LAST x|ab|NOOP|", f"{ARG} {OK}"),
    ("3030 2", "R", "BDAT 5 x|RSE|", ARG), ("3030 2", "R", "BDAT -4|NOOP|", f"{ARG} ^"), ("3030 2", "R", "BDAT +4|NOOP|", f"{ARG} ^"), ("3030 2", "R", "BDAT 0x4|NOOP|", f"{ARG} ^"),
    ("3030 2", "R", "BDAT 4.0|NOOP|", f"{ARG} ^"), ("3030 2", "R", "BDAT four|NOOP|", f"{ARG} ^"), ("3030 2", "R", "BDAT|NOOP|", f"{ARG} ^"), ("3030 2", "R", "BDAT LAST|NOOP|", f"{ARG} ^"),
    ("3030 2", "R", "BDAT 99999999999999999999 LAST|NOOP|", f"{ARG} ^"), ("3030 2", "R", "BDAT 18446744073709551616|NOOP|", f"{ARG} ^"), ("3030 2", "R", "BDAT 00000000000000000004 LAST|ab|", OK),
    ("3030 2", "R", "BDAT 18446744073709551615 LAST|NOOP|", "="), ("3030 2", "R", "BDAT 40 LAST|too short|", "="), ("3030 2", "R", "BDAT 4|ab|DATA|", f"{OK} {ORDER}"),
    ("3030 2", "R", "BDAT 4|ab|" + R + "BDAT 0 LAST|", f"{OK} {ORDER} {OK}"), ("3030 2", "R", "BDAT 4|ab|" + M + "BDAT 0 LAST|", f"{OK} {ORDER} {OK}"),
    ("3030 2", "R", "BDAT 4|ab|NOOP|VRFY x|BDAT 0 LAST|", f"{OK} {OK} 252-2.5.0 {OK}"), ("3030 2", "R", "BDAT 4|ab|RSET|BDAT 4 LAST|cd|", f"{OK} {OK} {ORDER}"),
    ("3030 2", "R", "BDAT 4|ab|EHLO c.test|BDAT 4 LAST|cd|", f"{OK} E {ORDER}"), ("3030 2", "M", "BDAT 4 LAST|ab|" + R, f"554-5.5.1 {ORDER}"), ("3030 2", "E", "BDAT 6|QUIT|NOOP|", f"{ORDER} {OK}"),
    ("3030 2", "H", m("<a@b.test>") + R + "BDAT 4 LAST|ab|", f"{F} {T} 503-5.5.1,502-5.5.1"), ("1870 6.3", "R", f"BDAT {LIMIT + 1} LAST|" + "x" * (LIMIT + 1) + "NOOP|", f"552-5.3.4 {OK}"),
    ("1870 6.3", "R", "BDAT 10000|" + "x" * 10000 + "BDAT 10001 LAST|" + "x" * 10001 + "BDAT 0 LAST|", f"{OK} 552-5.3.4 {ORDER}"), ("1870 6.3", "R", f"BDAT {LIMIT - 2}|" + "x" * (LIMIT - 2) + "BDAT 2 LAST||", f"{OK} {OK}"),
    ("5321 2.3.8", "R", "BDAT 3 LAST|a\nb", "554-5.6.0"), ("5321 2.3.8", "R", "BDAT 2 LAST|a\0", "554-5.6.0"), ("5321 2.3.8", "R", "BDAT 1 LAST|\r", "554-5.6.0"), ("3030 2", "R", "BDAT 1|\rBDAT 1 LAST|\n", f"{OK} {OK}"),
    ("3030 2", "R", "BDAT 1|\rBDAT 1 LAST|x", f"{OK} 554-5.6.0"), ("5321 2.3.8", "R", "BDAT 3|a\nbBDAT 0 LAST|", f"554-5.6.0 {ORDER}"), ("3030 2", "R", "BDAT 5 LAST||.|NOOP|", f"{OK} {OK}"),
    ("3030 2", "R", "BDAT 13 LAST|.|RSET|QUIT", OK), ("3030 2", "R", "BDAT 4 LAST|ab|BDAT 4 LAST|cd|", f"{OK} {ORDER}"), ("3030 2", "R", "BDAT 3 LAST|a.b" + M, f"{OK} {F}"),
    ("3030 2", "R", "BDAT 2 LAST|ab", OK), ("2920 3.1", "E", (M + R + "BDAT 4|ab|BDAT 4 LAST|cd|") * 2, f"{F} {T} {OK} {OK} " * 2),
]

CLEAR = [  # in clear only
    ("8689 2", "E", m("<a@b.test> REQUIRETLS"), "555-5.5.4"),
    ("3207 4", "", "STARTTLS|", ORDER), ("3207 4", "", "STARTTLS|NOOP|", f"{ORDER} {OK}"), ("3207 4", "H", "STARTTLS|", ORDER), ("3207 4", "E", "STARTTLS x|NOOP|", f"{ARG} {OK}"),
    ("3207 4", "M", "STARTTLS|" + R + "DATA|x|.|", f"{ORDER} {T} 354 {OK}"), ("3207 4", "R", "STARTTLS|DATA|x|.|", f"{ORDER} 354 {OK}"), ("3207 4.2", "E", "STARTTLS|NOOP|", "554-5.5.1 ^"),
    ("3207 4.2", "E", "STARTTLS|EHLO x|MAIL FROM:<evil@x.test>|", "554-5.5.1 ^"), ("3207 4.2", "E", "NOOP|STARTTLS|\x16\x03\x01", f"{OK} 554-5.5.1 ^"), ("3207 4.2", "E", "STARTTLS||", "554-5.5.1 ^"),
    ("3207 4", "D", "STARTTLS|.|", OK), ("3207 4", "R", "BDAT 10|STARTTLS|STARTTLS|BDAT 0 LAST|", f"{OK} {ORDER} {OK}"), ("3207 4", "D", "x|.|STARTTLS|NOOP|", f"{OK} 554-5.5.1 ^"),
    ("3207 4", "E", "HELO c.test|STARTTLS|", f"H {ORDER}"), ("3207 4", "", "STARTTLS|" * 3, " ".join([ORDER] * 3)), ("5321 4.2.4", "E", "STARTTL|STARTTLSX|", f"{BAD} {BAD}"),
]
TLS = [  # inside TLS only
    ("8689 2", "E", m("<a@b.test> REQUIRETLS"), F), ("8689 2", "E", m("<a@b.test> REQUIRETLS=1"), ARG), ("8689 2", "E", m("<a@b.test> REQUIRETLS REQUIRETLS"), ARG),
    ("3207 4.2", "", "STARTTLS|", ORDER), ("3207 4.2", "E", "STARTTLS|NOOP|", f"{ORDER} {OK}"), ("3207 4.2", "E", "STARTTLS x|", f"{ORDER},{ARG}"), ("3207 4.2", "R", "STARTTLS|DATA|x|.|", f"{ORDER} 354 {OK}"),
    ("3207 4.2", "M", "STARTTLS|" * 5 + R, " ".join([ORDER] * 5) + " " + T), ("3207 4.2", "H", "STARTTLS|" + M, f"{ORDER} {F}"),
]
OTHERS = {  # listener -> cases in clear
    "must": [("3207 4", "", what, "530-5.7.0") for what in ("HELO c.test|", M, R, "DATA|", "RSET|", "VRFY x|", "EXPN x|", "HELP|", "AUTH PLAIN|", "NONSENSE|", "BDAT 4 LAST|ab|", "BDAT 12|RSET|RSET|")]
    + [("3207 4", "", "NOOP|", OK), ("3207 4", "", "QUIT|", "221-2.0.0 ^"), ("3207 4", "", "STARTTLS|", ORDER), ("3207 4", "E", M + R + "DATA|x|", "530-5.7.0 530-5.7.0 530-5.7.0 530-5.7.0")],
    "none": [("5321 4.2.4", "E", "STARTTLS|NOOP|", f"502-5.5.1 {OK}"), ("5321 4.2.4", "", "STARTTLS|", "502-5.5.1")],
    "lmtp": [("2033 4.1", "", "EHLO c.test|", "500-5.5.1"), ("2033 4.1", "", "HELO c.test|", "500-5.5.1"), ("2033 4.1", "", "LHLO|", ARG), ("2033 4.2", "", "LHLO c.test|" + M + "DATA|", f"E {F} 503-5.5.1"),
             ("2033 4.2", "", "LHLO c.test|" + M + R + R + "DATA|x|.|NOOP|", f"E {F} {T} {T} 354 {OK} {OK} {OK}"), ("2033 4.2", "", "LHLO c.test|" + M + R + R + "DATA|a\nb|.|NOOP|", f"E {F} {T} {T} 354 554-5.6.0 554-5.6.0 {OK}"),
             ("2033 4.3", "", "LHLO c.test|" + M + R + R + "BDAT 4|ab|BDAT 0 LAST|NOOP|", f"E {F} {T} {T} {OK} {OK} {OK} {OK}"), ("2033 4.2", "", "LHLO c.test|" + M + R + "RCPT TO:<z@away.test>|DATA|x|.|NOOP|", f"E {F} {T} 550-5.7.1 354 {OK} {OK}"),
             ("2033 4.3", "", "LHLO c.test|" + M + R + R + f"BDAT {LIMIT + 1} LAST|" + "x" * (LIMIT + 1) + "NOOP|", f"E {F} {T} {T} 552-5.3.4 552-5.3.4 {OK}")],
    "norm": [("5321 4.1.1.4", "D", bad + "|.|NOOP|", f"{OK} {OK}") for bad in ("a\nb", "a\rb", "a\0b", "a\n.\nRSET", "a\n.|RSET", "a|.\nRSET", "a|.\rRSET", "a\r.|RSET", "a|\0.|RSET", "a|.\0|RSET")],
    "bin": [("3030 3", "E", m("<a@b.test> BODY=BINARYMIME") + R + "DATA|BDAT 3 LAST|a\n\0NOOP|", f"{F} {T} {ORDER} {OK} {OK}"), ("3030 3", "E", m("<a@b.test> BODY=8BITMIME") + R + "BDAT 3 LAST|a\n\0", f"{F} {T} 554-5.6.0")],
    "few": [("5321 4.5.3.1", "M", R * 3 + "DATA|x|.|", f"{T} {T} 452-4.5.3 354 {OK} ="), ("5321 4.5.3.1.10", "M", R * 40 + "DATA|x|.|", f"{T} {T} " + "452-4.5.3 " * 38 + f"354 {OK} ="), ("5321 4.5.3.1", "E", (M + "RSET|") * 2 + M, f"{F} {OK} {F} {OK} 421-4.7.0 ^"), ("5321 7.8", "", "A|B|C|NOOP|", f"{BAD} {BAD} {BAD} 421-4.7.0 ^"),
            ("5321 7.8", "", "A|B|C|QUIT|", f"{BAD} {BAD} {BAD} 421-4.7.0,221-2.0.0 ^")],
}


@pytest.fixture(scope="module")
def judge(folder, certificate):
    p = Postrider(folder, certificate, config=CONFIG, **{n: free_port() for n in LISTENERS})
    p.start()
    p.roles = p.pids()
    yield p
    assert p.pids() == p.roles, "a role was restarted"
    p.stop()


def wire(text):
    return text.replace("|", "\r\n").encode("latin-1")


def replies(stream):
    """All replies of a byte stream, checked octet by octet, as text."""
    assert not stream or stream.endswith(b"\r\n"), stream[-80:]
    found, lines = [], []
    for line in stream.split(b"\r\n")[:-1]:
        assert re.fullmatch(rb"[2-5][0-5][0-9][ -][\x20-\x7e]*", line), line  # RFC 5321 4.2: no control, no 8-bit octet, no bare CR or LF
        assert len(line) <= 510, len(line)                                     # RFC 5321 4.5.3.1.5
        lines.append(line.decode())
        assert line[:3] == lines[0][:3].encode()
        if line[3:4] == b" ":
            first = lines[0]
            hello = first.startswith("250") and first[4:].startswith("mx.sink.test")
            if not (first.startswith(("220 mx.", "220-mx.", "354", "334")) or hello):  # RFC 2034 4
                assert all(re.match(r"%s[ -]%s\.\d{1,3}\.\d{1,3} \S" % (line[:3].decode(), first[0]), x) for x in lines), lines
            found.append("\n".join(lines))
            lines = []
    assert not lines, lines
    return found


def matches(token, reply):
    if token == "G":
        return reply.startswith("220 mx.sink.test ")
    if token == "E":
        return reply.startswith("250-mx.sink.test") and "\n" in reply
    if token == "H":
        return reply.startswith("250 mx.sink.test") and "\n" not in reply
    return any(reply.startswith(t.replace("-", " ", 1)) for t in token.split(","))


def read_to_end(sock):
    data = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while chunk := sock.recv(65536):
            data += chunk
    return data


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    return c


CONTEXT = context()


def put(sock, data, pieces=None):
    """Sends all; a server that has closed need not read it."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
        for i in range(0, len(data), pieces or len(data) or 1):
            sock.sendall(data[i:i + (pieces or len(data))])


def say_in(how, port, data):
    sock = connect(port)
    with contextlib.closing(sock):
        if how == "half-closed":
            put(sock, data)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            return read_to_end(sock)
        if how == "pieces":
            cut = random.Random(len(data)).randrange(len(data)) if data else 0
            put(sock, data[:cut], 7 if cut < 2000 else 999)
            time.sleep(0.002)
            put(sock, data[cut:] + b"QUIT\r\n", 5 if len(data) < 2000 else 777)
            return read_to_end(sock)
        t = Talk(port)
        t.say("EHLO before.test")
        t.starttls()
        put(t.sock, data + b"QUIT\r\n")
        banner = t.banner.encode() + b"\r\n"
        return banner + read_to_end(t.sock)


def judge_case(how, port, start, sent, expected):
    before, answers = START[start]
    tokens = (answers + " " + expected).split()
    tail = not expected.endswith(("^", "=")) and expected != "="
    ends, tokens = tokens[-1] == "^", [t for t in tokens if t not in "^="]
    data = wire(before + sent)
    if tail:
        data += wire(AGAIN[0])
        tokens += AGAIN[1].split()
    if how != "half-closed" and not tail and not ends:
        return  # it stops inside something: only the end of the connection can follow
    got = replies(say_in(how, port, data))
    if how != "half-closed" and not ends:
        tokens.append("221-2.0.0")
    assert len(got) == len(tokens) and all(map(matches, tokens, got)), "\n".join([f"{how}: sent {data[:300]!r}", "expected " + " ".join(tokens), *got])


def rows(*tables):
    return [pytest.param(*row[1:], id=f"{row[0].replace(' ', '-')}-{row[1]}-{re.sub('[^ -~]', '?', row[2])[:40]}") for table in tables for row in table]


@pytest.mark.parametrize("start, sent, expected", rows(LINES, HELLO, ORDERS, MAIL, RCPT, DATA, BDAT))
def test_case(judge, start, sent, expected):
    for how in ("half-closed", "pieces", "tls"):
        judge_case(how, judge.port, start, sent, expected)


@pytest.mark.parametrize("start, sent, expected", rows(CLEAR))
def test_case_in_clear(judge, start, sent, expected):
    judge_case("half-closed", judge.port, start, sent, expected)
    if "554-5.5.1 ^" not in expected:  # in pieces the bytes may come behind the 220, where they are no handshake
        judge_case("pieces", judge.port, start, sent, expected)


@pytest.mark.parametrize("start, sent, expected", rows(TLS))
def test_case_in_tls(judge, start, sent, expected):
    judge_case("tls", judge.port, start, sent, expected)


@pytest.mark.parametrize("listener, start, sent, expected", [pytest.param(n, *p.values, id=f"{n}-{p.id}") for n, table in OTHERS.items() for p in rows(table)])
def test_case_of_another_listener(judge, listener, start, sent, expected):
    port = judge.values[listener]
    if listener in ("must", "few", "lmtp"):  # their tail differs or may not come
        before, answers = START[start]
        got = replies(say_in("half-closed", port, wire(before + sent)))
        tokens = [t for t in (answers + " " + expected).split() if t not in "^="]
        assert len(got) == len(tokens) and all(map(matches, tokens, got)), (tokens, got)
    else:
        judge_case("half-closed", port, start, sent, expected)
        judge_case("pieces", port, start, sent, expected)


# ---- nothing crosses the TLS boundary (RFC 3207 4.2): whatever was done in clear, TLS begins as if nothing had been ----

PAST = ["", "EHLO one.test|EHLO two.test|", M + "RSET|", M + R + "RSET|", M + R + "DATA|x|.|", M + R + "BDAT 4 LAST|ab|", M + R + "BDAT 4|ab|RSET|", M + R + "DATA|a\nb|.|",
        "MAIL FROM:<a@b.test> SIZE=19999 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x|RSET|", "MAIL FROM:<a@b.test> SIZE=99999|", "MAIL FROM:<bad|", R, "DATA|", "BDAT 4 LAST|ab|", "BDAT 5|QUIT!", "NONSENSE|" * 5,
        "x" * 3000 + "|", "NOOP\0|", "a\nb|", "HELO old.test|EHLO c.test|", "HELO old.test|" + M + R + "EHLO c.test|", "STARTTLS now|", M + "STARTTLS|RSET|", M + R + "STARTTLS|RSET|", "LHLO x|", "EHLO bad name|", "EHLO [127.0.0.1]|",
        "VRFY x|EXPN x|HELP|", "AUTH PLAIN AGEAYg==|", M + "RCPT TO:<z@away.test>|DATA|RSET|", M + R + "DATA|" + "x" * 30000 + "|.|", M + R + "BDAT 20001 LAST|" + "x" * 20001, M + "EHLO c.test|", M + R + "NOOP|EHLO c.test|",
        M + R + "BDAT 4 LASTX|ab|", (M + R + "DATA|x|.|") * 3]
BATTERY = (M + R + "DATA|BDAT 4 LAST|ab|BDAT 0|RCPT TO:<postmaster>|MAIL FROM:<a@b.test> SIZE=1|MAIL FROM:<\xc3\xa9@b.test>|AUTH PLAIN|STARTTLS|VRFY x|NOOP|RSET|EHLO new.test|" + R + "DATA|BDAT 4|ab|STARTTLS|"
           "MAIL FROM:<a@b.test> SIZE=19999 RET=FULL|" + R + "RCPT TO:<\xc3\xa9@sink.test>|DATA|x|.|BDAT 0 LAST|HELO h.test|MAIL FROM:<> SIZE=1|MAIL FROM:<>|BDAT 4 LAST|ab|QUIT|")


def after_starttls(port, past):
    sock = connect(port)
    with contextlib.closing(sock):
        data = wire(E + past + "NOOP |")
        put(sock, data)
        got = b""
        while len([x for x in got.split(b"\r\n") if x[:8] == b"250 2.0." and x.endswith(b"Ok")]) < 1 + past.count("RSET|") + past.count("NOOP|"):
            got += sock.recv(65536)
        t = Talk.__new__(Talk)
        t.sock, t.buffer = sock, b""
        t.starttls()
        with contextlib.closing(t.sock):
            put(t.sock, wire(BATTERY))
            return nameless(read_to_end(t.sock))


def nameless(stream):
    """The replies, but for the ids of messages."""
    return [re.sub(r"(Accepted as) \w+", r"\1 ID", reply) for reply in replies(stream)]


@pytest.fixture(scope="module")
def fresh(judge):
    got = after_starttls(judge.port, "")
    assert [g[:3] for g in got[:9]] == ["503"] * 5 + ["503", "503", "503", "502"] and got[-1].startswith("221"), got
    return got


@pytest.mark.parametrize("past", PAST, ids=[str(i) for i in range(len(PAST))])
def test_tls_forgets(judge, fresh, past):
    assert after_starttls(judge.port, past) == fresh


def test_implicit_tls_is_the_same(judge, fresh):
    sock = CONTEXT.wrap_socket(connect(judge.values["smtps"]))
    with contextlib.closing(sock):
        put(sock, wire(BATTERY))
        got = nameless(read_to_end(sock))
    assert got[0].startswith("220 mx.sink.test") and got[1:] == fresh


def test_the_trace_forgets(judge):
    box = judge.mailbox("trace")
    for past in (M + R + "RSET|", "HELO older.test|EHLO old.test|"):
        t = Talk(judge.port)
        t.send(wire("EHLO old.test|" + past + "NOOP |"))
        while "2.0.0 Ok" not in t.reply() or t.buffer:
            pass
        t.starttls()
        put(t.sock, wire("EHLO new.test|" + M + "RCPT TO:<trace@local.test>|DATA|Subject: x||.|QUIT|"))
        read_to_end(t.sock)
    for message in box.wait(2):
        text = message.decode().replace("\n\t", " ").replace("\n ", " ")
        assert "from new.test" in text and "ESMTPS" in text and "old" not in text.lower().split("subject")[0], text


def test_errors_are_remembered_over_tls(judge):
    t = Talk(judge.values["few"])
    for line in ("EHLO c.test", "A", "B"):
        t.say(line)
    t.starttls()
    assert t.say("D").startswith("500") and t.say("NOOP").startswith("421 4.7.0")


@pytest.mark.parametrize("behind", ["NOOP|", "MAIL FROM:<evil@x.test>|RCPT TO:<x@sink.test>|DATA|", "x" * 3000, "EHLO evil.test|QUIT|"], ids=range(4))
def test_switch_drops_what_is_behind_starttls(judge, behind):
    t = Talk(judge.values["lax"])
    t.say("EHLO c.test")
    t.send(wire("STARTTLS|" + behind))
    assert t.reply().startswith("220")
    t.wrap()
    assert t.say("DATA").startswith("503")
    assert t.say(M.rstrip("|")).startswith("250 2.1.0")  # the other switch: no EHLO is needed
    assert t.say("STARTTLS").startswith("503 5.5.1")


@pytest.mark.parametrize("early", ["EHLO c.test|", "x", "|", "GET / HTTP/1.0||"])
def test_who_talks_before_the_greeting(judge, early):
    got = replies(say_in("half-closed", judge.values["late"], wire(early)))
    assert len(got) == 1 and got[0].startswith("554 5.5.1"), got


def test_half_closed_before_the_greeting(judge):
    assert say_in("half-closed", judge.values["late"], b"") in (b"", b"220 mx.sink.test ESMTP Postrider\r\n")


@pytest.mark.parametrize("blanks", ["", " ", "  \t "])
def test_starttls_with_blanks(judge, blanks):
    t = Talk(judge.port)
    t.say("EHLO c.test")
    assert t.say("starttls" + blanks).startswith("220 2.0.0")
    t.wrap()
    assert "STARTTLS" not in t.say("EHLO c.test")


@pytest.mark.parametrize("garbage", [b"EHLO x\r\n", b"\0" * 64, b"\xff" * 500, b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x15\x03\x01\x00\x02\x02\x28",
                                     b"\x80\x2e\x01\x00\x02", b"\x17\x03\x03\x00\x10" + b"y" * 16, b""], ids=lambda g: repr(g[:8]))
def test_garbage_for_a_handshake(judge, garbage):
    t = Talk(judge.port)
    t.say("EHLO c.test")
    assert t.say("STARTTLS").startswith("220")
    put(t.sock, garbage)
    with contextlib.suppress(OSError):
        t.sock.shutdown(socket.SHUT_WR)
    rest = read_to_end(t.sock)
    assert not re.search(rb"[245]\d\d[ -]", rest), rest


def test_second_epoch_bytes(judge):
    """close_notify in mid session, then clear text: never read."""
    for _ in range(3):
        t = Talk(judge.port)
        t.say("EHLO c.test")
        t.starttls()
        t.say("EHLO c.test")
        t.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<x@sink.test>\r\nDATA\r\nhalf")
        for _ in range(3):
            t.reply()
        raw = t.sock.unwrap()
        put(raw, b"\r\n.\r\nEHLO clear.test\r\n")
        raw.settimeout(5)
        assert read_to_end(raw) == b""


# ---- the end of data at every boundary ----

ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\n\r.\r\n", b"\r\n .\r\n", b"\r\n..\r\n", b"\r\n. \r\n"]


@pytest.mark.parametrize("end", ENDS, ids=lambda e: repr(e))
@pytest.mark.parametrize("listener", ["port", "norm"])
def test_smuggling_at_every_split(judge, listener, end):
    body = b"Subject: x\r\n\r\nbody" + end + b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<x@sink.test>\r\nDATA\r\nevil\r\n.\r\nNOOP\r\nQUIT\r\n"
    clean = not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", end)
    final = OK if clean or listener == "norm" else "554-5.6.0"
    tokens = f"G E {F} {T} 354 {final} {OK} 221-2.0.0".split()
    for cut in range(17, 17 + len(end) + 6):
        sock = connect(judge.values[listener])
        with contextlib.closing(sock):
            put(sock, wire(START["D"][0]) + body[:cut])
            time.sleep(0.001)
            put(sock, body[cut:])
            got = replies(read_to_end(sock))
        assert len(got) == len(tokens) and all(map(matches, tokens, got)), (cut, got)


@pytest.mark.parametrize("sent, kept", [(b"..\r\n...\r\n.x\r\n", b".\r\n..\r\nx\r\n"), (b"", b""), (b"\r\n", b"\r\n"), (b"x" * 9000 + b"\r\n", b"x" * 9000 + b"\r\n"), (bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"") + b"\r\n",) * 2,
                                        (b" \t\r\n  \r\n", b" \t\r\n  \r\n"), (b".\xff\r\n", b"\xff\r\n"), (b"From x\r\n>From y\r\n", b"From x\r\n>From y\r\n")], ids=range(8))
@pytest.mark.parametrize("how", ["data", "bdat"])
def test_bytes_are_kept(judge, how, sent, kept):
    user = f"keep{zlib.crc32(sent)}{how}"
    box = judge.mailbox(user)
    head = b"Subject: k\r\n\r\n"
    data = head + sent + b".\r\n" if how == "data" else head + sent
    if how == "bdat":
        kept, half = sent, len(data) // 2
        data = b"BDAT %d\r\n" % half + data[:half] + b"BDAT %d LAST\r\n" % (len(data) - half) + data[half:]
    got = replies(say_in("half-closed", judge.port, wire(E + M + f"RCPT TO:<{user}@local.test>|" + ("DATA|" if how == "data" else "")) + data))
    assert got[-1].startswith("250 2.0.0"), got
    message = box.wait()[0]
    body = message[message.index(b"Subject: k"):]
    expected = head + kept
    assert body == expected or body == expected.replace(b"\r\n", b"\n"), (body[:200], expected[:200])


# ---- random walks: the same replies however the bytes are cut, and inside TLS ----

STEPS = [E, "HELO c.test|", M, M, M, "MAIL FROM:<b@src.test> SIZE=5 BODY=8BITMIME|", "MAIL FROM:<|", R, R, R, "RCPT TO:<z@away.test>|", "DATA|", "DATA|x|.|", "DATA|a\nb|.|", ".|", "x|.|", "BDAT 4|ab|", "BDAT 4 LAST|ab|", "BDAT 0 LAST|",
         "BDAT 0|", "BDAT 2|\n\0", "BDAT 30 LAST|", "BDAT 3 LASTING|abc", "RSET|", "NOOP|", "NOOP\n|", "\0|", "x" * 700 + "|", "VRFY x|", "EXPN|", "HELP|", "|", "\r|", "RSET x|", "XYZZY|", "EHLO|", "LHLO c.test|"]


@pytest.mark.parametrize("seed", range(40))
def test_random_walk(judge, seed):
    r = random.Random(seed)
    data = wire("".join(r.choice([E, ""]) + r.choice(["", M + R]) + "".join(r.choices(STEPS, k=6)) for _ in range(5)))
    said = []
    for how in ("whole", "pieces", "single", "tls"):
        sock = connect(judge.port)
        with contextlib.closing(sock):
            if how == "tls":
                t = Talk.__new__(Talk)
                t.sock, t.buffer = sock, b""
                t.reply(), t.say("EHLO before.test"), t.starttls()
                sock = t.sock
            put(sock, data, {"pieces": r.randrange(2, 40), "single": 1}.get(how))
            with contextlib.closing(socket.socket(fileno=os.dup(sock.fileno()))) as raw, contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_WR)
            got = [g.replace("250-STARTTLS\n", "").replace("250-REQUIRETLS\n", "") for g in nameless(read_to_end(sock))]
            sock.close()
        said.append(got if how == "tls" else got[1:])
    assert said[0] == said[1] == said[2] == said[3]


# ---- deadlines, half-open and broken connections ----

def timed_end(sock, feed=b"", every=0.1, seconds=8):
    """Feeds slowly until the server closes; how long that took, and what it said."""
    started, got = time.monotonic(), b""
    sock.settimeout(every)
    while time.monotonic() - started < seconds:
        try:
            chunk = sock.recv(65536)
            if not chunk:
                return time.monotonic() - started, got
            got += chunk
        except TimeoutError:
            with contextlib.suppress(OSError):
                sock.send(feed)
        except OSError:
            return time.monotonic() - started, got
    pytest.fail(f"still open after {seconds} s: {got!r}")


@pytest.mark.parametrize("before, feed", [("", b""), ("", b"N"), (E, b""), (E, b"x"), (E + M, b""), (E + M + R + "DATA|", b""), (E + M + R + "DATA|", b"x\r\n"), (E + M + R + "BDAT 9000|", b"x"), (E + "BDAT 9000|", b"x"),
                                          (E + "STARTTLS|", b""), (E + "STARTTLS|", b"\x16"), (E + "x" * 700, b"x")], ids=range(12))
def test_deadlines(judge, before, feed):
    sock = connect(judge.values["quick"])
    with contextlib.closing(sock):
        put(sock, wire(before))
        took, got = timed_end(sock, feed)
        assert 0.5 < took < 4, took
        assert got.splitlines()[-1].startswith(b"220 2" if "STARTTLS" in before else b"421 4.4.2"), got


def test_resets_everywhere(judge):
    states = ["", E, E + "MAIL FR", E + M, E + M + R, E + M + R + "DATA|", E + M + R + "DATA|half", E + M + R + "DATA|x|.|", E + M + R + "BDAT 100|x", E + "STARTTLS|", E + "NOOP|" * 2000]
    for i in range(110):
        sock = connect(judge.port)
        put(sock, wire(states[i % len(states)]))
        if i % 3 == 0:
            time.sleep(0.002)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert Talk(judge.port).say("EHLO c.test").startswith("250")
    assert judge.pids() == judge.roles


def test_many_connections_quickly(judge):
    for _ in range(4):
        socks = [connect(judge.port) for _ in range(100)]
        for s in socks:
            put(s, wire(E + M + R + "DATA|x|.|QUIT|"))
        for s in socks:
            with contextlib.closing(s):
                assert replies(read_to_end(s))[-2].startswith("250 2.0.0")


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1])


@pytest.mark.parametrize("flood", [b"NOOP\r\n", b"EHLO c.test\r\n", b"HELP\r\n" * 3, b"\r\n"])
def test_a_client_that_never_reads_costs_little(judge, flood):
    pid = judge.roles["receive"]
    before, socks, sent = rss(pid), [], 0
    for _ in range(8):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", judge.port))
        sock.setblocking(False)
        socks.append(sock)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for sock in socks:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                sent += sock.send(flood * 5000)
        time.sleep(0.005)
    grown = rss(pid) - before
    for sock in socks:
        sock.close()
    assert grown < 8192, f"{grown} KiB for {sent} octets that nobody reads the answers to"
    assert Talk(judge.port).say("NOOP").startswith("250")


def test_nobody_holds_up_the_end(folder, certificate):
    """SIGTERM with clients that never read, stop in the middle of things, or hold TLS: all is over within its ten seconds."""
    p = Postrider(folder, certificate).start()
    held = []
    for sent in (b"NOOP\r\n" * 400000, wire(E), wire(E + M + R + "DATA|half"), wire(E + M + R + "BDAT 100|x"), wire(E + "STARTTLS|"), b"NOO", wire(E + "STARTTLS|") + b"\x16"):
        sock = connect(p.port)
        sock.settimeout(0.2)
        with contextlib.suppress(OSError):
            sock.sendall(sent)
        held.append(sock)
    assert p.stop(11) == 0
    for sock in held:
        sock.close()


def test_a_client_that_reads_late_gets_all(judge):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", judge.port))
    sender = threading.Thread(target=put, args=(sock, b"NOOP\r\n" * 30000 + b"QUIT\r\n"), daemon=True)
    sender.start()
    time.sleep(0.3)
    got = replies(read_to_end(sock))
    assert len(got) == 30002 and got[-1].startswith("221")


def test_a_late_reader_over_tls_gets_all(judge):
    t = Talk(judge.port)
    t.say("EHLO c.test")
    t.starttls()
    put(t.sock, b"EHLO c.test\r\n" + b"NOOP\r\n" * 3000 + wire(M + R + "DATA|x|.|") + b"QUIT\r\n")
    time.sleep(0.2)
    got = replies(read_to_end(t.sock))
    assert len(got) == 3006 and got[-2].startswith("250 2.0.0 ") and got[-1].startswith("221")


def test_half_closed_tls_client_gets_its_250(judge):
    """The TCP half is closed behind the TLS record that ends the message, without close_notify."""
    t = Talk(judge.port)
    t.say("EHLO c.test")
    t.starttls()
    put(t.sock, wire(E + M + R + "DATA|x|.|NOOP|"))
    duplicate = socket.socket(fileno=os.dup(t.sock.fileno()))
    duplicate.shutdown(socket.SHUT_WR)
    got = replies(read_to_end(t.sock))
    assert [g[:3] for g in got] == ["250", "250", "250", "354", "250", "250"] and "Accepted" in got[4], got
    duplicate.close()


def test_an_unfinished_message_is_nobodys(judge):
    accepted = len(judge.events("accepted"))
    for sent in ("DATA|x|.", "DATA|x|.\r", "DATA|x|", "BDAT 4|ab|", "BDAT 5 LAST|ab|", "BDAT 4|ab|QUIT|"):
        say_in("half-closed", judge.port, wire(E + M + R + sent))
    time.sleep(0.2)
    assert len(judge.events("accepted")) == accepted


def test_capabilities(judge):
    clear, tls = Talk(judge.port).say("EHLO c.test"), Talk(judge.port)
    tls.say("EHLO c.test")
    tls.starttls()
    words = {line[4:].split(" ")[0] for line in clear.splitlines()[1:]}
    assert words == {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "ENHANCEDSTATUSCODES", "LIMITS", "STARTTLS"}, words
    assert {line[4:].split(" ")[0] for line in tls.say("EHLO c.test").splitlines()[1:]} == words - {"STARTTLS"} | {"REQUIRETLS"}
    assert "SIZE 20000" in clear and "RCPTMAX=1000" in clear
    few = Talk(judge.values["few"]).say("EHLO c.test")
    assert "RCPTMAX=2" in few and "MAILMAX=2" in few
    assert "STARTTLS" not in Talk(judge.values["none"]).say("EHLO c.test") and "BINARYMIME" in Talk(judge.values["bin"]).say("EHLO c.test")
    must = Talk(judge.values["must"]).say("EHLO c.test")
    assert "STARTTLS" in must and not any(w in must for w in ("SIZE", "8BITMIME", "CHUNKING", "DSN", "SMTPUTF8")), must


def test_zz_no_fault_was_logged(judge):
    assert not judge.events("fault") and not judge.events("frame_refused") and not judge.events("role_exited")
