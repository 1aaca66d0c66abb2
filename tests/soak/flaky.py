#!/usr/bin/python3
"""A next hop that tries its clients: refuses, defers, stalls, hangs up; what it takes it writes down, before the 250.

flaky.py --port N --record FILE --chain PEM --key PEM [--calm]
One line a recipient: ID RECIPIENT SHA256 SESSIONS, where SESSIONS are the ids of the Received lines, comma-separated; a bounce is a line
ID RECIPIENT bounce SESSIONS for each recipient that it names.  Who is refused for good is decided by the address alone, so that it stays so.
--calm, and the file FILE.calm once it exists: nothing is refused, dropped or slow any more.
"""
import argparse
import asyncio
import pathlib
import random
import re
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import loader   # noqa: E402

DEFER_RCPT, DEFER_END, DROP_EARLY, DROP_LATE, STALL = 0.06, 0.04, 0.02, 0.01, 0.01   # of each transaction
REFUSED_ONE_IN = 40
STALL_SECONDS = 4


def refused(address):
    return address.startswith("r") and zlib.crc32(address.encode()) % REFUSED_ONE_IN == 0


class Session(loader.SinkSession):
    def odd(self, share):
        return not self.sink.calm() and self.sink.rng.random() < share

    def step(self, out):
        if not self.in_data:
            end = self.buffer.find(b"\r\n")
            line = bytes(self.buffer[:end]) if end >= 0 else b""
            to = line[9:line.rindex(b">")].decode() if line[:4].upper() == b"RCPT" else ""
            reply = b"550 5.1.1 nobody here\r\n" if to and refused(to) else b"450 4.2.1 not now\r\n" if to and self.odd(DEFER_RCPT) else b""
            if reply:
                del self.buffer[:end + 2]
                out += reply
                return True
            if line[:4].upper() == b"DATA" and not self.rcpts:
                del self.buffer[:end + 2]
                out += b"554 5.5.1 no recipients\r\n"
                return True
            if to and self.odd(DROP_EARLY):
                self.transport.abort()
                return False
        return super().step(out)

    def message(self, out):
        if self.buffer.find(b"\r\n.\r\n") >= 0 and self.odd(DEFER_END):
            end = self.buffer.find(b"\r\n.\r\n")
            del self.buffer[:end + 5]
            self.in_data = False
            out += b"451 4.3.0 not this time\r\n"
            return True
        if self.odd(STALL) and not getattr(self, "stalled", False):
            self.stalled = True
            asyncio.get_running_loop().call_later(STALL_SECONDS, self.go_on)
            return False
        if getattr(self, "stalled", False) and not getattr(self, "went_on", False):
            return False
        if not super().message(out):
            return False
        if self.odd(DROP_LATE):   # taken, and nobody is told: the one double that cannot be avoided (RFC 1047)
            self.transport.abort()
            out.clear()
            return False
        return True

    def go_on(self):
        self.went_on = True
        if not self.transport.is_closing():
            self.serve()


class Sink(loader.Sink):
    def __init__(self, a):
        super().__init__(a)
        self.rng, self.flag, self.always = random.Random(7), pathlib.Path(a.record + ".calm"), a.calm

    def calm(self):
        return self.always or self.flag.exists()

    def take(self, data, rcpts):
        self.record.write("".join(f"{i} {to} {sha} {where}\n" for i, to, sha, where in read(data, rcpts)))


def read(data, rcpts):
    """(id, recipient, hash, session ids) of a message, or of each recipient that a bounce speaks of."""
    at = data.find(loader.MARK)
    head = data[:max(at, 0)]
    sessions = ",".join(s.decode() for s in re.findall(rb"\sid\s+(\w+)\.\d+", head)) or "-"
    if at < 0:
        return []
    ident = data[at + len(loader.MARK):data.index(b"\r\n", at)].decode()
    failed = [t.decode() for t in re.findall(rb"^Final-Recipient: rfc822; *(\S+)\r$", head, re.M)]
    if failed:
        return [(ident, to, "bounce", sessions) for to in failed]   # those of the message that came back
    return [(ident, to, loader.digest(data[at:]), sessions) for to in rcpts]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--record", required=True)
    p.add_argument("--chain")
    p.add_argument("--key")
    p.add_argument("--calm", action="store_true")
    loader.SinkSession = Session
    a = p.parse_args()
    asyncio.run(Sink(a).run(a.port))


if __name__ == "__main__":
    main()
