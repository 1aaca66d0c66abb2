"""Every situation of tests/unit/route/tls.def in the whole daemon: real resolver and signed DNS, real policies over HTTPS, real TLS.

For each row: what became of the mail, what the log says was owed and reached and why, and what TLS-RPT counted.  And over all of them, with
attacks on STARTTLS beside: every octet that `send` wrote, as the kernel was given it (strace on its writing calls, as root: no
proxy that could miss a connection), on every connection where more than `may` was owed is EHLO, STARTTLS and QUIT, then TLS records.
"""
import contextlib
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess

import pytest

from conftest import Postrider, wait_for
from owed_world import LEVELS, WELL, attacked, rows, world
from test_tlsrpt import RESULT_NAMES

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="next hops on port 25, and strace of a role that may not be looked into: both need root"),
              pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"), pytest.mark.xdist_group("owed")]

TABLE = rows()
BASES = [next(r for r in TABLE if r["what"] == what and r["session"] in ("up", "clear"))
         for what in ("DANE-EE", "enforce", "encrypt", "verify is not lowered by testing", "PKIX-EE: undefined for SMTP", "REQUIRETLS, DANE")]
ATTACKS = [attacked(b, s) for b in BASES for s in ("454", "502", "injected", "closes", "EHLO 500", "broke", "clear")]
# what the table's words cannot say
EE, TA = (next(r for r in TABLE if r["what"] == what) for what in ("DANE-EE", "DANE-TA"))
MORE = [dict(EE, what="DANE-EE: name and date do not count", rfc="7672 3.1.1", session="odd"),
        dict(TA, what="DANE-TA: a certificate for the domain, not the host", rfc="7672 3.2.2", session="domain"),
        dict(TA, what="the TLSA record is an alias: the base domain is that of the host", rfc="7672 2.2.3", tlsa="moved")]
PLAYED = TABLE + MORE
ALL = PLAYED + ATTACKS
CALLS = ("write", "writev", "sendto", "sendmsg", "sendmmsg", "pwrite64", "sendfile", "splice")  # with connect: all that seccomp leaves to `send`, and more
# what may be said in clear to a host that is owed TLS
CLEAR = re.compile(rb"(EHLO [\w.-]+\r\n|STARTTLS\r\n|QUIT\r\n)*\Z")
TLS_TYPES = (20, 21, 22, 23)


class Capture:
    """strace on `send` from outside: a file of calls for each of its threads."""

    def __init__(self, p):
        self.base, self.path = p.dir, p.dir / "octets"
        self.process = subprocess.Popen(["strace", "-ff", "-p", str(p.pids()["send"]), "-xx", "-yy", "-s", "1000000", "-qq", "-e", "signal=none",
                                         "-e", "trace=connect," + ",".join("?" + c for c in CALLS), "-o", str(self.path)],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        task = f"/proc/{p.pids()['send']}/task"
        wait_for(lambda: self.process.poll() is not None or all("TracerPid:\t0\n" not in pathlib.Path(f"{task}/{t}/status").read_text() for t in os.listdir(task)),
                 10, "strace on every thread of send")
        assert self.process.poll() is None, self.process.stderr.read()

    def end(self):
        self.process.terminate()
        self.process.wait(30)

    def connections(self):
        """{(our address, the peer's): octets that the kernel took}, in the order in which they were written."""
        found = {}
        for path in self.base.glob("octets.*"):
            mine = {}
            for line in path.read_text().splitlines():
                m = re.match(r"(\w+)\(\d+<TCP(?:v6)?:\[(\S+)->(\S+?)\]>(.*)\) = (-?\d+)", line)
                if not m:
                    assert "<TCP" not in line or line.startswith(("connect(", "close(")), f"not understood: {line[:300]}"
                    continue
                call, ours, theirs, arguments, taken = m.groups()
                data = b"".join(bytes.fromhex(s.replace("\\x", "")) for s in re.findall(r'"((?:\\x[0-9a-f]{2})*)"(?!\.\.\.)', arguments))
                assert '"...' not in arguments and int(taken) <= len(data), line[:300]
                mine.setdefault((ours, theirs), bytearray()).extend(data[:max(int(taken), 0)])
            assert not mine.keys() & found.keys(), "one loop alone writes to a connection"
            found |= mine
        return {k: bytes(v) for k, v in found.items()}


def split(octets):
    """What was written before the first TLS record, and the types of the records behind it; None: something else is there."""
    clear, records = octets, []
    begin = re.search(rb"(?:\A|\n)(\x16\x03[\x00-\x04])", octets)
    if begin:
        clear, rest = octets[:begin.start(1)], octets[begin.start(1):]
        while rest:
            n = int.from_bytes(rest[3:5], "big")
            if len(rest) < 5 + n or rest[0] not in TLS_TYPES or rest[1] != 3:
                return clear, None
            records.append(rest[0])
            rest = rest[5 + n:]
    return clear, records


def end_of(p, r):
    return next((e for what in ("delivered", "deferred", "failed") for e in p.events(what, to=r.to)), None)


@pytest.fixture(scope="module")
def played(folder, certificate):
    """The world, after its mail: {row: what the log says of it}, and what was written where."""
    place = folder / "owed"
    place.mkdir()
    with world(place, ALL) as w, contextlib.ExitStack() as stack:
        w.ends, w.wrote, w.counted = {}, {}, {}
        for dane in ("true", "false"):
            mine = [r for r in w.rows if r.mx.endswith("!") == (dane == "false")]
            # the other half of the rows is the same without DANE: one daemon cannot be both
            p = Postrider(folder, certificate, extra=w.config(mine), dane=f"dane = {dane}")
            stack.callback(p.stop)
            p.start()
            if dane == "true":
                p.wait_event("dnssec_on", 20)
            capture = Capture(p)
            stack.callback(capture.end)
            w.mail_all(p.port, mine)
            for r in mine:
                w.ends[r.n] = wait_for(lambda: end_of(p, r), 60, f"the end of {r.what}\n{p.log()[-2000:]}")
            assert p.ctl("status").returncode == 0
            wait_for(lambda: len(results(p)) >= len({r.domain for r in mine if r.result not in ("-", None) and not r.hop and not r.literal}), 15, "the results")
            capture.end()
            w.wrote |= capture.connections()
            w.counted |= results(p)
            w.log = getattr(w, "log", "") + p.log()
        yield w


def results(p):
    """{domain: {(policy, result), ...}} as the role `policy` keeps them for a report."""
    found = {}
    with contextlib.closing(sqlite3.connect(p.dir / "spool-policy/policy.db")) as db:
        for domain, kind, result in db.execute("SELECT domain, policy_type, result FROM result"):
            found.setdefault(domain, set()).add(({1: "no-policy-found", 2: "tlsa", 3: "sts"}[kind], RESULT_NAMES[result]))
    return found


@pytest.mark.parametrize("n", range(len(PLAYED)), ids=[re.sub("[^a-zA-Z0-9]+", "-", r["what"]) for r in PLAYED])
def test_situation(played, n):
    r, e = played.rows[n], played.ends[n]
    assert e["event"] == r.wanted, e
    assert len(played.hops[n].messages) == (r.wanted == "delivered")
    if r.verdict.startswith("skip "):
        assert e["code"] == "550" and r.reason in e["reason"], e  # its enhanced code is in the bounce: test_requiretls.py
    if r.mx in ("failed", "bogus") or r.address in ("failed", "bogus", "none"):
        assert e["owed"] == "", e   # there is no host that could be owed anything
    else:
        assert e["owed"] == r.level and (r.policy == e["policy"] or r.hop), e
    if r.reason and r.session == "up":
        assert r.reason.replace("real.test", r.behind).replace("mx.test", r.host) in e["why"], e
    if r.wanted == "delivered":
        assert (e["reached"] in LEVELS[1:] if r.level == "may" else LEVELS.index(e["reached"]) >= LEVELS.index(r.level)) or e["reached"] == "none", e
        assert (e["reached"] == "none") == (r.session in ("clear", "-")), e
    told = played.counted.get(r.domain, set())
    if r.hop or r.literal or r.result == "-":
        assert not told
    else:
        assert (r.policy, r.result) in told, told


def octets_to(w, r):
    return [octets for (_, theirs), octets in w.wrote.items() if theirs == f"{r.at}:25"]


@pytest.mark.parametrize("level", ["encrypt", "verify", "dane"])
def test_no_octet_of_mail_in_clear_where_tls_is_owed(played, level):
    judged = tls = 0
    for r in [r for r in played.rows if r.level == level]:
        sessions = octets_to(played, r)
        if r.verdict != "send":
            assert not sessions, f"{r.what}: nobody was to be dialled"
            judged += 1
            continue
        assert sessions, f"{r.what}: it was dialled"
        for octets in sessions:
            clear, records = split(octets)
            assert CLEAR.match(clear), f"{r.what}: in clear: {clear!r}"
            assert records is not None, f"{r.what}: not only TLS records behind the handshake's first"
            assert b"SECRET" not in octets and b"RCPT" not in octets and b"x@d.r" not in octets, r.what
            judged += 1
            tls += 23 in records
        if r.session in WELL:
            assert any(23 in split(o)[1] for o in sessions), f"{r.what}: mail went inside TLS"
    assert judged >= 10 and tls, (judged, tls)


def test_the_capture_sees_all(played):
    """It would have seen a MAIL: where nothing is owed and no TLS offered it does, and it missed no connection of any server."""
    for r in played.rows:
        assert len(octets_to(played, r)) == len(played.hops[r.n].dialogs), r.what
    clear = [r for r in played.rows if r.level in ("none", "may") and r.verdict == "send" and r.session in ("clear", "-")]
    assert len(clear) >= 4
    for r in clear:
        octets = b"".join(octets_to(played, r))
        assert b"MAIL FROM:<sender@client.test>" in octets and f"RCPT TO:<{r.to}>".encode() in octets and f"SECRET-BODY-{r.n}\r\n.\r\n".encode() in octets, r.what
        said = "".join(line[1] + "\r\n" for line in played.hops[r.n].dialogs[0] if line[0] == "C").encode()
        assert octets.startswith(said[:said.index(b"DATA\r\n")])


def test_attacks_on_starttls_deliver_nothing(played):
    for r in played.rows[len(PLAYED):]:
        e = played.ends[r.n]
        assert e["event"] in ("deferred", "failed") and e["owed"] == r.level and not played.hops[r.n].messages, (r.what, e)
