"""The order of things on the disk and on the wire, by strace over all processes: what a 250 promises is synced before it leaves,
and a mailbox has its message for good before anybody is told so.

A sync counts where it came back with 0, everything else where it began; strace sees the stops of all threads one by one.
"""
import json
import os
import re
import shutil
import socket
import time

import pytest

from conftest import wait_for
from tracing import ended, first, steps, traced  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")

SYNCS = ("fdatasync", "fsync")
CALLS = (*SYNCS, "pwrite64", "pwritev", "pwritev2", "write", "writev", "sendto", "sendmsg", "rename", "renameat", "renameat2", "mkdir", "mkdirat")
QUIET = 'domain "held.test" { deliver = "smtp://127.0.0.1:9" tls = none }\nretry_min = 1h'
LARGE = 1536 * 1024   # above the size from which a body has a file of its own


def one_message(p, talk, body, to="x@held.test"):
    """The octets of its 250."""
    t = talk(p.port)
    for line in ("EHLO c.test", "MAIL FROM:<a@src.test>", f"RCPT TO:<{to}>"):
        assert t.say(line).startswith("250")
    assert t.say("DATA").startswith("354")
    t.send(f"Subject: order\r\n\r\n{body}\r\n.\r\n")
    reply = t.reply()
    assert reply.startswith("250 2.0.0")
    t.say("QUIT")
    t.close()
    return len(reply) + 2


class Trace:
    """Steps of a daemon that has ended; each `after` must be found behind the one before, or the test fails with its name."""

    def __init__(self, p, roles):
        self.threads = {role: {int(t) for t in os.listdir(f"/proc/{pid}/task")} for role, pid in p.pids().items() if role in roles}
        ended(p)
        self.steps, self.dir = steps(p.trace), re.escape(str(p.dir))

    def at(self, what, test, after=-1):
        found = first(self.steps, test, after)
        assert found is not None, f"not found behind step {after}: {what}\n" + "\n".join(f"{t} {n}({r[:150]}" for n, r, t in self.steps[-250:])
        return found

    def sync(self, path, after=-1):
        """A sync of the file or directory that came back well."""
        return self.at(f"the sync of {path}", lambda name, rest: name in SYNCS and re.search(rf"^\d+<{self.dir}/{path}>\s*\) += 0", rest), after)

    def write(self, path, text="", after=-1):
        return self.at(f"the write of {path}", lambda name, rest: name.startswith("pw") and re.match(rf"\d+<{self.dir}/{path}>", rest) and text in rest, after)

    def answer(self, octets, after=-1):
        """receive may not be looked into (PR_SET_DUMPABLE), not even by strace: its 250 is known by its length."""
        for i, (name, rest, thread) in enumerate(self.steps):
            if i > after and thread in self.threads["receive"] and name == "sendto" and re.match(rf"\d+\S*, [^,]+, {octets}, ", rest):
                return i
        pytest.fail(f"no 250 behind step {after}")


HELD = 'domain "held.test" { deliver = "smtp://127.0.0.1:9" tls = none }\n'
SEGMENT = r"spool/segments/\d+"


@pytest.fixture
def watched(traced, certificate):
    """A short list of authorities: reading the system's takes longer than the rest of the start."""
    return lambda octets, extra="": traced(CALLS, ["-y", "-s", str(octets)], extra=f'{extra}trust = "{certificate.chain}"')


@pytest.mark.parametrize("index", ["strict", "lagging"])
def test_the_order_of_one_accept(watched, talk, index):
    p = watched(4096, f"{HELD}queue_index = {index}\n")
    first_octets = one_message(p, talk, "THE-FIRST-BODY")
    wait_for(lambda: p.events("deferred"), 5, "the outcome of the first")
    octets = one_message(p, talk, "THE-SECOND-BODY")
    t = Trace(p, ["receive"])

    # the first makes a segment: its name must last as well
    written = t.write(SEGMENT, "THE-FIRST-BODY")
    named = t.sync("spool/segments")
    synced = t.sync(SEGMENT, written)
    row = t.write(r"spool/index\.db-wal", after=synced)     # lagging: the segment alone must last, but the row is there
    committed = t.sync(r"spool/index\.db-wal", row) if index == "strict" else row
    answered = t.answer(first_octets)
    assert max(named, synced, committed) < answered, (named, synced, committed, answered)

    # the second has one that is there
    written = t.write(SEGMENT, "THE-SECOND-BODY", answered)
    synced = t.sync(SEGMENT, written)
    row = t.write(r"spool/index\.db-wal", after=synced)
    committed = t.sync(r"spool/index\.db-wal", row) if index == "strict" else row
    answered = t.answer(octets, answered)
    assert written < synced < committed < answered, (written, synced, committed, answered)


def test_the_order_of_an_accept_with_a_body_of_its_own_file(watched, talk):
    p = watched(1024, f"{HELD}queue_index = strict\n")
    octets = one_message(p, talk, ("x" * 70 + "\r\n") * (LARGE // 72))
    t = Trace(p, ["receive"])
    last = max(i for i, (name, rest, _) in enumerate(t.steps) if name.startswith("pw") and "/spool/bodies/" in rest)
    body = t.sync(r"spool/bodies/[0-9a-f]{16}", last)       # nothing is written to it behind its sync
    folder = t.sync("spool/bodies", body)
    record = t.write(SEGMENT, "held.test", folder)          # the record that names it comes behind both
    synced = t.sync(SEGMENT, record)
    committed = t.sync(r"spool/index\.db-wal", synced)
    answered = t.answer(octets)
    assert last < body < folder < record < synced < committed < answered, (last, body, folder, record, synced, committed, answered)


def test_the_order_of_a_delivery_to_a_mailbox(watched, talk):
    p = watched(4096)
    p.mailbox("alice")
    octets = one_message(p, talk, "FOR-THE-MAILBOX", to="alice@local.test")
    p.wait_event("delivered", to="alice@local.test")
    t = Trace(p, ["receive", "local", "queue"])
    box = "mail/alice"
    answered = t.answer(octets)
    folders = t.sync(box)                                    # tmp, new and cur were made
    written = t.write(f"{box}/tmp/[^>]+", "FOR-THE-MAILBOX")
    synced = t.sync(f"{box}/tmp/[^>]+", written)
    renamed = t.at("the rename", lambda name, rest: name.startswith("rename") and re.search(rf"{t.dir}/{box}/tmp/.*{t.dir}/{box}/new/", rest), synced)
    lasting = t.sync(f"{box}/new", renamed)
    told = [i for i, (name, _, thread) in enumerate(t.steps) if thread in t.threads["local"] and name in ("sendmsg", "sendto", "write", "writev") and i > written]
    assert told, "local told its outcome"
    logged = t.at("the log line", lambda name, rest: "event=delivered" in rest, written)
    assert answered < written and folders < lasting, (answered, folders, written, lasting)
    assert written < synced < renamed < lasting < told[0] < logged, (written, synced, renamed, lasting, told[:3], logged)


def test_bytes_that_come_while_starttls_is_read_are_found(traced, talk, certificate):
    """Every read of receive is made to last: what is sent meanwhile waits in the kernel when STARTTLS is judged, and only one more
    read can find it.  Not found, it would be taken for the handshake."""
    p = traced(["recvfrom"], ["-e", "inject=recvfrom:delay_exit=60000"], extra=f'trust = "{certificate.chain}"')
    t = talk(p.port)
    assert t.say("EHLO c.test").startswith("250")
    t.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    t.send("STARTTLS\r\n")
    time.sleep(0.02)
    t.send("NOOP injected\r\n")
    assert t.reply().startswith("554 5.5.1")
    assert t.closed()
    t.close()


def test_a_long_operation_says_that_it_goes_on(traced, talk):
    """A million envelopes take the disk a minute; a disk that takes seconds for one shows the same: the client is told to wait, and does."""
    p = traced(SYNCS, options=("-e", "inject=fdatasync:delay_enter=2600000:when=2+"), extra=QUIET)
    one_message(p, talk, "x")
    wait_for(lambda: p.events("deferred"), 30, "a first attempt")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(p.dir / "control.sock"))
        s.sendall(b'{"cmd": "flush"}\n')
        lines = s.makefile()
        said = [json.loads(lines.readline())]
        while "ok" not in said[-1]:
            said.append(json.loads(lines.readline()))
    assert {"working": True} in said[:-1] and said[-1] == {"ok": True, "n": 1}
    assert p.ctl("queue", "hold", "--all").stdout == "1 envelope on hold\n"
    p.kill_all()
