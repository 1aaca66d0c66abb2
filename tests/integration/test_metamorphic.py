"""The same answers, however a state was reached: the relations of tests/unit/smtp/metamorphic.c, judged of the running
daemon over real TLS, for a sample (every command there is, in walks from a fixed seed).

After any clear-text dialog, STARTTLS and a fixed battery must answer as on a session that said only EHLO and STARTTLS,
and as on a listener with implicit TLS.  After a refused command or message, as on a session that never said it.
"""
import random
import re

import pytest

from conftest import free_port

WAYS, ERROR_WALKS = 24, 12
BIG = b"x" * 70 + b"\r\n"
# (what is said, content when a 354 comes); a BDAT brings its octets
STEPS = [
    ("EHLO clear.test", None), ("HELO clear.test", None), ("EHLO", None), ("EHLO a b", None), ("LHLO clear.test", None), ("NOOP", None),
    ("RSET", None), ("RSET now", None), ("HELP", None), ("VRFY x", None), ("VRFY", None), ("EXPN x", None), ("XYZZY", None), ("NO\nOP", None),
    ("N\0OP", None), ("STARTTLS now", None), ("AUTH PLAIN AGEAYg==", None), ("QUIT now", None), ("x" * 3000, None),
    ("MAIL FROM:<clear@a.test>", None), ("MAIL FROM:<clear@a.test> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=clear", None),
    ("MAIL FROM:<clear@a.test> SIZE=99999999999", None), ("MAIL FROM:<clear@a.test> XYZZY=1", None), ("MAIL FROM:<a@@b>", None), ("MAIL", None),
    ("RCPT TO:<u@local.test>", None), ("RCPT TO:<nobody@local.test>", None), ("RCPT TO:<a@@b>", None), ("RCPT TO:<u@sink.test> NOTIFY=NEVER", None),
    ("RCPT TO:<u@sink.test> XYZZY", None), ("DATA", b"Subject: clear\r\n\r\nhello\r\n.\r\n"), ("DATA", b"a\nb\r\n.\r\n"), ("DATA", b"a\0b\r\n.\r\n"),
    ("DATA", BIG * 60 + b".\r\n"), ("DATA now", None), ("BDAT 3\r\nabc", b""), ("BDAT 3 LAST\r\nx\r\n", b""), ("BDAT 3 LAST\r\na\nb", b""),
    ("BDAT 3 FIRST\r\nabc", b""), ("BDAT 0 LAST\r\n", b""),
]
BATTERY = [
    ("MAIL FROM:<in@a.test>", None), ("RCPT TO:<u@local.test>", None), ("DATA", b"x\r\n.\r\n"), ("RSET", None), ("NOOP", None), ("HELP", None), ("VRFY x", None),
    ("XYZZY", None), ("STARTTLS", None), ("AUTH PLAIN AGEAYg==", None), ("HELO inside.test", None), ("EHLO inside.test", None), ("STARTTLS", None),
    ("MAIL FROM:<in@a.test> SIZE=5 BODY=8BITMIME", None), ("RCPT TO:<u@local.test>", None), ("RCPT TO:<nobody@local.test>", None), ("STARTTLS", None),
    ("DATA", b"Subject: in\r\n\r\ninside\r\n.\r\n"), ("MAIL FROM:<in@a.test>", None), ("RCPT TO:<u@sink.test>", None), ("BDAT 3\r\nabc", b""),
    ("RCPT TO:<u@sink.test>", None), ("BDAT 3 LAST\r\nx\r\n", b""), ("DATA", None), ("QUIT", None),
]


def say(t, line, content):
    """One step, whole: the replies as text.  Only the id of a message is its own each time."""
    if content == b"":  # BDAT: its octets follow, and no line end
        t.send(line)
        reply = t.reply()
    else:
        reply = t.say(line.encode("latin-1"))
    if reply.startswith("354"):
        t.send(content or b"x\r\n.\r\n")
        reply += "\n" + t.reply()
    return re.sub("Accepted as [0-9a-f]{16}", "Accepted as ID", reply)


@pytest.fixture(scope="module")
def port_tls():
    return free_port()


@pytest.fixture
def daemon(postrider, port_tls):
    p = postrider(listener="errors = 1000", extra=f'message_size_limit = 4096\nlistener "tls" {{ address = {{"127.0.0.1:{port_tls}"}} tls = implicit errors = 1000 }}')
    p.mailbox("u")
    return p


def inside(t):
    return [say(t, *step) for step in BATTERY]


def test_starttls_forgets_every_way(daemon, talk, port_tls):
    """Also the Received line: it says the name said inside TLS, whatever was said before."""
    fresh = talk(daemon.port)
    fresh.say("EHLO other.test")
    fresh.starttls()
    want = inside(fresh)
    assert any("354" in r and r.endswith("Accepted as ID") for r in want)
    implicit = talk(port_tls, greet=False)
    implicit.wrap()
    implicit.reply()
    assert inside(implicit) == want
    dice = random.Random(20261127)
    steps_seen = set()
    for _ in range(WAYS):
        t = talk(daemon.port)
        way = [dice.choice(STEPS) for _ in range(dice.randint(1, 14))]
        for step in way:
            say(t, *step)
            steps_seen.add(step)
        t.say("EHLO leaving.test")
        t.starttls()
        assert inside(t) == want, way
        t.close()
    assert len(steps_seen) > len(STEPS) * 3 // 4
    got = daemon.mailbox("u").wait(WAYS + 2)
    letters = [m for m in got if b"Subject: in\r\n" in m or b"Subject: in\n" in m]
    assert len(letters) == WAYS + 2
    for m in letters:
        trace = m.split(b"Received: ", 1)[1].split(b"\nSubject", 1)[0]
        assert b"inside.test" in trace and b"with ESMTPS" in trace
        assert b"clear" not in trace and b"leaving.test" not in trace


# refused in whatever state they are said, and nothing of them may stay
ALWAYS_REFUSED = ["EHLO", "EHLO a b", "LHLO clear.test", "RSET now", "VRFY", "EXPN x", "XYZZY", "NO\nOP", "N\0OP", "STARTTLS now", "AUTH PLAIN AGEAYg==",
                  "QUIT now", "x" * 3000, "MAIL FROM:<clear@a.test> SIZE=99999999999", "MAIL FROM:<clear@a.test> XYZZY=1", "MAIL FROM:<a@@b>", "MAIL",
                  "RCPT TO:<nobody@local.test>", "RCPT TO:<a@@b>", "RCPT TO:<u@sink.test> XYZZY", "DATA now"]


def test_errors_leave_no_trace(daemon, talk):
    """The same commands with and without refused ones between them, in clear and in TLS."""
    dice = random.Random(20261128)
    rest = [s for s in BATTERY if s[0] != "STARTTLS"]
    for walk in range(ERROR_WALKS):
        plain, marred = talk(daemon.port), talk(daemon.port)
        for t in (plain, marred):
            t.say("EHLO walk.test")
            if walk % 2:
                t.starttls()
        for step in [dice.choice(STEPS) for _ in range(12)] + rest:
            for wrong in dice.sample(ALWAYS_REFUSED, dice.randint(0, 2)):
                answer = say(marred, wrong, None)
                assert answer[:1] in "45", (wrong, answer)
            assert say(marred, *step) == say(plain, *step), step


def test_a_refused_message_is_a_reset(daemon, talk):
    """Each way in which a message is refused, against RSET in its place."""
    envelope = [("MAIL FROM:<in@a.test>", None), ("RCPT TO:<u@sink.test>", None)]
    for content in (("DATA", b"a\nb\r\n.\r\n"), ("DATA", b"a\0b\r\n.\r\n"), ("DATA", BIG * 60 + b".\r\n"), ("BDAT 3 LAST\r\na\nb", b""),
                    ("BDAT 3 FIRST\r\nabc", b""), ("BDAT 5000 LAST\r\n" + "x" * 5000, b"")):
        marred, plain = talk(daemon.port), talk(daemon.port)
        for t in (marred, plain):
            t.say("EHLO walk.test")
            for step in envelope:
                assert say(t, *step).startswith("250")
        assert say(marred, *content)[-80:].split("\n")[-1][:1] == "5"
        plain.say("RSET")
        after = [("RCPT TO:<u@sink.test>", None), ("DATA", b"x\r\n.\r\n"), *BATTERY[9:]]
        after = [s for s in after if s[0] != "STARTTLS"]
        assert [say(marred, *s) for s in after] == [say(plain, *s) for s in after], content
