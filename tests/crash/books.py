#!/usr/bin/python3
"""The senders and the next hop of the power-cut tests: they keep books with the instant of every promise.

  books.py send PORT RECORD COUNT SESSIONS PREFIX SEED   sends COUNT messages; a line "NS ID SHA256 QUEUE-ID RECIPIENT..." for each 250
  books.py sink PORT RECORD [LATER]   takes mail; "NS ID SHA256 RECIPIENT" for each recipient, written before its 250 leaves.
                              A report's ID is that of the message it tells of and its hash "-".  LATER is a port that is
                              held but refuses connections until a line comes on stdin.

NS is the wall clock in ns: of a 250 the instant at which the kernel took it from the server (SO_TIMESTAMPNS), so that
the book is not late by what this program waits for a processor; of the sink the instant before it says 250.
The ids name what must become of a message, by its recipients:

  relay-  a next hop takes it        box-   a Maildir on the recorded disk     discard-   nowhere
  later-  a next hop that is down    no-    the next hop says 550: a report    both-      a relay and a Maildir
"""
import hashlib
import os
import pathlib
import random
import selectors
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from loader import MARK, body_of, digest  # noqa: E402

SO_TIMESTAMPNS = 35
SENDER = "sender@relay.test"    # reports go to the sink
LARGE_BYTES = 1_100_000         # more than the queue keeps in a segment: a file of its own
STALL_SECONDS = 60              # without any progress the sender gives up
WAYS = ["relay"] * 6 + ["box"] * 3 + ["both"] * 2 + ["later"] * 2 + ["no"] + ["discard"] * 2


def recipients(ident):
    """From the id alone, so that a judge needs no table."""
    way, rest = ident.split("-", 1)
    user = "u%d" % (int(hashlib.sha256(rest.encode()).hexdigest(), 16) % 4)
    return {"relay": [f"r-{ident}@relay.test"], "box": [f"{user}@local.test"], "both": [f"r-{ident}@relay.test", f"{user}@local.test"],
            "later": [f"r-{ident}@later.test"], "no": [f"no-{ident}@relay.test"], "discard": [f"r-{ident}@sink.test"]}[way]


def kernel_time(ancillary):
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, ns = struct.unpack("qq", data[:16])
            return seconds * 1_000_000_000 + ns
    return time.time_ns()


class Session:
    """One dialog as a machine: what is owed before the next step.  Nothing is sent twice; a refusal ends the session."""

    def __init__(self, load, number):
        self.load, self.number, self.serial = load, number, 0
        self.rng = random.Random(f"{load.seed}-{load.prefix}-{number}")
        self.sock = socket.create_connection(("127.0.0.1", load.port), 10)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer, self.out = b"", b""
        self.step, self.owed = "greeting", 1
        self.pipelining, self.queue = False, []   # without it (RFC 2920) commands wait here for their turn
        load.selector.register(self.sock, selectors.EVENT_READ, self)

    def put(self, data):
        self.out += data
        try:
            self.out = self.out[self.sock.send(self.out):]
        except BlockingIOError:
            pass
        self.load.selector.modify(self.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0), self)

    def readable(self):
        data, ancillary, _, _ = self.sock.recvmsg(65536, 64)
        if not data:
            raise OSError("closed")
        at = kernel_time(ancillary)
        self.buffer += data
        while b"\r\n" in self.buffer:
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            if line[:1] not in b"23":
                raise OSError(line.decode(errors="replace"))
            self.pipelining = self.pipelining or line[4:].upper() == b"PIPELINING"
            if line[3:4] != b"-":
                self.owed -= 1
                if self.owed == 0:
                    self.next(at, line)
                elif self.queue:
                    self.put(self.queue.pop(0))

    def next(self, at, line):
        if self.step == "greeting":
            self.step, self.owed = "hello", 1
            return self.put(b"EHLO load.test\r\n")
        if self.step == "body":
            self.load.acknowledged(at, self.ident, self.sha, line.split()[-1].decode(), self.to)
        if self.step in ("hello", "body"):
            if not self.load.more():
                self.step, self.owed = "quit", 1
                return self.put(b"QUIT\r\n")
            self.ident = f"{self.rng.choice(self.load.ways)}-{self.load.prefix}-{self.number}-{self.serial}"
            self.serial += 1
            self.to = recipients(self.ident)
            self.step, self.owed = "head", 2 + len(self.to)
            self.queue = [b"MAIL FROM:<%s>\r\n" % SENDER.encode(), *(b"RCPT TO:<%s>\r\n" % t.encode() for t in self.to), b"DATA\r\n"]
            if self.pipelining:
                self.queue = [b"".join(self.queue)]
            return self.put(self.queue.pop(0))
        if self.step == "head":
            body = body_of(self.rng, self.ident, LARGE_BYTES if self.rng.random() < self.load.large else self.rng.randrange(100, 6000))
            self.sha = digest(body)
            self.step, self.owed = "body", 1
            return self.put(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        self.load.leave(self)


class Load:
    def __init__(self, port, record, count, sessions, prefix, seed, ways=tuple(WAYS), large=0.004):
        self.port, self.prefix, self.seed, self.ways, self.large = port, prefix, seed, ways, large
        self.record = open(record, "a")
        self.left, self.done, self.broken = count, 0, []
        self.selector = selectors.DefaultSelector()
        self.open = {Session(self, n) for n in range(sessions)}

    def more(self):
        self.left -= 1
        return self.left >= 0

    def acknowledged(self, at, ident, sha, queue_id, to):
        self.record.write(f"{at} {ident} {sha} {queue_id} {' '.join(to)}\n")
        self.done += 1

    def leave(self, session):
        self.selector.unregister(session.sock)
        session.sock.close()
        self.open.discard(session)

    def run(self):
        while self.open:
            ready = self.selector.select(STALL_SECONDS)
            if not ready:
                self.broken.append("no reply in time")
                break
            for key, events in ready:
                try:
                    if events & selectors.EVENT_WRITE:
                        key.data.put(b"")
                    if events & selectors.EVENT_READ:
                        key.data.readable()
                except OSError as e:
                    self.broken.append(str(e))
                    self.leave(key.data)
        self.record.close()
        print(f"acknowledged={self.done} broken={len(self.broken)} {self.broken[:3]}", flush=True)


# ---- the next hop ----

class Hop:
    """One connection to the sink."""

    def __init__(self, sink, sock):
        self.sink, self.sock, self.buffer, self.data, self.to = sink, sock, bytearray(), False, []
        sock.setblocking(True)
        sock.sendall(b"220 hop.test ESMTP\r\n")

    def readable(self):
        got = self.sock.recv(262144)
        if not got:
            return False
        self.buffer += got
        out = b""
        while True:
            end = self.buffer.find(b"\r\n.\r\n" if self.data else b"\r\n")
            if end < 0:
                break
            if self.data:
                body = bytes(self.buffer[:end + 2]).replace(b"\r\n..", b"\r\n.")
                del self.buffer[:end + 5]
                self.data = False
                self.sink.take(body, self.to)
                out += b"250 taken\r\n"
                continue
            line = bytes(self.buffer[:end])
            del self.buffer[:end + 2]
            word = line[:4].upper()
            if word == b"EHLO":
                out += b"250-hop.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n"
            elif word == b"MAIL":
                self.to = []
                out += b"250 ok\r\n"
            elif word == b"RCPT" and b"<no-" in line:
                out += b"550 5.1.1 nobody\r\n"
            elif word == b"RCPT":
                self.to.append(line[9:line.rindex(b">")].decode())
                out += b"250 ok\r\n"
            elif word == b"DATA" and not self.to:
                out += b"554 nobody\r\n"
            elif word == b"DATA":
                self.data = True
                out += b"354 go\r\n"
            else:
                out += b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n"
        if out:
            self.sock.sendall(out)
        return True


class Sink:
    def __init__(self, port, record, later):
        self.record = open(record, "a", buffering=1)
        self.selector = selectors.DefaultSelector()
        self.listener = self.bind(port)
        self.later = self.bind(later) if later is not None else None
        self.listen(self.listener)
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.command)
        print("ready", *(s.getsockname()[1] for s in (self.listener, self.later) if s), flush=True)

    @staticmethod
    def bind(port):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port))
        return s

    def listen(self, s):
        s.listen(256)
        self.selector.register(s, selectors.EVENT_READ, lambda: self.accept(s))

    def accept(self, s):
        hop = Hop(self, s.accept()[0])

        def readable():
            try:
                going = hop.readable()
            except OSError:
                going = False
            if not going:
                self.selector.unregister(hop.sock)
                hop.sock.close()
        self.selector.register(hop.sock, selectors.EVENT_READ, readable)

    def command(self):
        """A line opens the second port, or closes it again; the end of input is ours."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        if line == "open\n":
            self.listen(self.later)
        else:
            port = self.later.getsockname()[1]
            self.selector.unregister(self.later)
            self.later.close()
            self.later = self.bind(port)
        print("ok", flush=True)

    def take(self, data, to):
        at = data.find(MARK)
        ident = data[at + len(MARK):data.index(b"\r\n", at)].decode() if at >= 0 else "-"
        sha = "-" if ident.startswith("no-") else digest(data[at:])
        self.record.write("".join(f"{time.time_ns()} {ident} {sha} {t}\n" for t in to))

    def run(self):
        while True:
            for key, _ in self.selector.select():
                key.data()


def main():
    if sys.argv[1] == "send":
        port, record, count, sessions, prefix, seed = sys.argv[2:8]
        ways = sys.argv[8].split(",") if len(sys.argv) > 8 else tuple(WAYS)
        Load(int(port), record, int(count), int(sessions), prefix, seed, ways).run()
    elif sys.argv[1] == "sink":
        Sink(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else None).run()
    else:
        sys.exit(os.EX_USAGE)


if __name__ == "__main__":
    main()
