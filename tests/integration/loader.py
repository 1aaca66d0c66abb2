#!/usr/bin/python3
"""Many senders and a next hop that keep books: what was acknowledged, and what arrived, by id, recipient and hash.

  loader.py sink --port N --record FILE [--chain PEM --key PEM]      takes mail, one line for each recipient of a message
  loader.py send --port N --record FILE --count N|--forever ...      50 pipelined sessions, one line for each 250
  loader.py fill --port N --count N ...                              many small messages a flight by BDAT, counted only

Records are lines "ID RECIPIENT SHA256 QUEUE-ID": the sender writes one when it has read the 250, the sink before it says
250.  A message that got no 250 is never sent again: its id is given up, so that one id at the sink twice is our server's
double.  Sessions that break are opened anew at once.  `send` stops at SIGTERM after the replies that it waits for.
The class Pair below runs a sink and senders as processes of their own and compares their books.
"""
import argparse
import asyncio
import collections
import contextlib
import hashlib
import os
import pathlib
import random
import signal
import ssl
import subprocess
import sys
import time

MARK = b"X-Load-Id: "
REPLY_SECONDS = 60      # of one reply; longer is a failure of its own
RECONNECT_SECONDS = 0.02


def body_of(rng, ident, size):
    """A message from its id: header, then lines with what tends to go wrong (dots, 8-bit, blank and long lines)."""
    lines, length = [MARK + ident.encode(), b"Subject: load", b"MIME-Version: 1.0", b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: 8bit", b""], 0
    while length < size:
        line = rng.choice((b".", b"..", b".x", b"", b"\xc3\xbc\xc3\xa4", b"a" * 300, b"b" * 76, b"c" * 76, b"d %d" % rng.getrandbits(60)))
        lines.append(line)
        length += len(line) + 2
    return b"\r\n".join(lines) + b"\r\n"


def digest(body):
    return hashlib.sha256(body).hexdigest()[:32]


def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Broken(Exception):
    """The session is over; what had no reply has none."""


class Sender:
    def __init__(self, load, number):
        self.load, self.rng = load, random.Random(f"{load.prefix}-{number}")
        self.number, self.serial = number, 0
        self.tls = number < load.tls_senders

    async def reply(self):
        while True:
            line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), REPLY_SECONDS)
            if line[3:4] != b"-":
                return line

    async def expect(self, code):
        line = await self.reply()
        if not line.startswith(code):
            raise Broken(line)
        return line

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.load.port)
        await self.expect(b"220")
        self.writer.write(b"EHLO load.test\r\n")
        await self.expect(b"250")
        if self.tls:
            self.writer.write(b"STARTTLS\r\n")
            await self.expect(b"220")
            await self.writer.start_tls(self.load.context)
            self.writer.write(b"EHLO load.test\r\n")
            await self.expect(b"250")

    def head(self):
        """MAIL, RCPT, DATA of the next message, as one flight; behind the last dot of the message before."""
        ident = f"{self.load.prefix}-{self.number}-{self.serial}"
        self.serial += 1
        to = [f"r{k}-{ident}@{self.load.domain}" for k in range(1 + (self.rng.random() < 0.1))]
        return ident, to, b"".join([b"MAIL FROM:<s@src.test> BODY=8BITMIME\r\n", *(b"RCPT TO:<%s>\r\n" % t.encode() for t in to), b"DATA\r\n"])

    async def session(self):
        """Messages until the work is done; the next one's commands ride behind the final dot (RFC 2920 3.1 allows it)."""
        await self.open()
        ident, to, head = self.head()
        self.writer.write(head)
        while True:
            for _ in range(1 + len(to)):
                await self.expect(b"250")
            await self.expect(b"354")
            size = 200_000 if self.rng.random() < self.load.large else self.rng.randrange(100, 6000)
            body = body_of(self.rng, ident, size)
            wire = body.replace(b"\r\n.", b"\r\n..") + b".\r\n"
            going = self.load.more()
            self.pending += going
            if going:
                following = self.head()
                wire += following[2]
            if self.load.gate:
                await self.load.gate.wait()
            self.writer.write(wire)
            await self.writer.drain()
            line = await self.expect(b"250")
            self.load.acknowledged(ident, to, digest(body), line)
            self.pending -= 1
            if not going:
                self.writer.write(b"QUIT\r\n")
                await self.reply()
                self.writer.close()
                return
            ident, to, _ = following

    async def run(self):
        while self.load.more():
            self.pending = 1
            try:
                await self.session()
            except (Broken, OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ssl.SSLError) as e:
                self.load.broke(e, self.pending)
                with contextlib.suppress(Exception):
                    self.writer.transport.abort()
                await asyncio.sleep(RECONNECT_SECONDS)
        if self.load.gate:
            self.load.gate.leave()


class Gate:
    """Opens when all who may come are here: they go on as one."""

    def __init__(self, n):
        self.all, self.here, self.event = n, 0, asyncio.Event()

    def look(self):
        if self.here >= self.all:
            self.here = 0
            self.event.set()
            self.event = asyncio.Event()

    async def wait(self):
        self.here += 1
        event = self.event
        self.look()
        if not event.is_set():
            await event.wait()

    def leave(self):
        self.all -= 1
        self.look()


class Load:
    def __init__(self, a):
        self.port, self.prefix, self.domain, self.large = a.port, a.prefix, a.domain, a.large
        self.count = None if a.forever else a.count
        self.tls_senders = a.senders if a.tls else a.tls_senders
        self.senders, self.context = a.senders, client_context()
        self.gate = Gate(a.senders) if a.lockstep else None
        self.record = open(a.record, "a", buffering=1)
        self.begun = self.done = self.broken = 0
        self.stopping, self.reasons = False, collections.Counter()

    def more(self):
        if self.stopping or (self.count is not None and self.begun >= self.count):
            return False
        self.begun += 1
        return True

    def broke(self, e, pending):
        """What was begun got no 250; other ids take their places."""
        self.begun -= pending
        self.broken += 1
        self.reasons[(e.args[0].decode(errors="replace").strip() if isinstance(e, Broken) else type(e).__name__)[:60]] += 1

    def acknowledged(self, ident, to, sha, line):
        words = line.decode(errors="replace").split()
        for t in to:
            self.record.write(f"{ident} {t} {sha} {words[-1]}\n")
        self.done += 1

    async def run(self):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: setattr(self, "stopping", True))
        began = time.monotonic()
        await asyncio.gather(*(Sender(self, n).run() for n in range(self.senders)))
        print(f"acknowledged={self.done} broken={self.broken} seconds={time.monotonic() - began:.2f} reasons={dict(self.reasons)}", flush=True)


async def fill(a):
    """`count` messages of one recipient each over `senders` sessions: MAIL, RCPT, BDAT of a hundred messages in one flight."""
    left = a.count

    async def one(number):
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", a.port)

        async def replies(n):
            while n:
                line = await asyncio.wait_for(reader.readuntil(b"\r\n"), REPLY_SECONDS)
                if line[:1] != b"2":
                    raise SystemExit(f"fill: {line}")
                n -= line[3:4] != b"-"

        writer.write(b"EHLO fill.test\r\n")
        await replies(2)
        body = b"Subject: fill\r\n\r\n" + b"one line of a small message\r\n" * 8
        serial = 0
        while left > 0:
            n = min(100, left)
            left -= n
            flight = []
            for _ in range(n):
                serial += 1
                flight.append(b"MAIL FROM:<>\r\nRCPT TO:<f%d-%d@%s>\r\nBDAT %d LAST\r\n%s" % (number, serial, a.domain.encode(), len(body), body))
            writer.write(b"".join(flight))
            await replies(3 * n)
        writer.write(b"QUIT\r\n")
        await replies(1)
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(one(n) for n in range(a.senders)))
    print(f"acknowledged={a.count} seconds={time.monotonic() - began:.2f}", flush=True)


# ---- the next hop ----

class SinkSession(asyncio.Protocol):
    def __init__(self, sink):
        self.sink, self.buffer, self.in_data, self.rcpts = sink, bytearray(), False, []
        self.tls = self.upgrading = False

    def connection_made(self, transport):
        self.transport = transport
        if not self.tls:
            transport.write(b"220 load.sink.test ESMTP\r\n")

    def data_received(self, data):
        self.buffer += data
        if not self.upgrading:
            self.serve()

    def serve(self):
        out = bytearray()
        while self.step(out):
            pass
        if out:
            self.transport.write(bytes(out))

    def step(self, out):
        if self.in_data:
            return self.message(out)
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self.buffer[:end])
        del self.buffer[:end + 2]
        word = line[:4].upper()
        if word in (b"EHLO", b"HELO"):
            words = [b"load.sink.test", b"PIPELINING", b"8BITMIME", b"SIZE 100000000"] + ([b"STARTTLS"] if self.sink.context and not self.tls else [])
            out += b"".join(b"250-%s\r\n" % w for w in words[:-1]) + b"250 %s\r\n" % words[-1]
        elif word == b"STAR":
            out += b"220 go\r\n"
            self.transport.write(bytes(out))
            out.clear()
            self.tls = self.upgrading = True
            asyncio.ensure_future(self.start_tls())
            return False
        elif word == b"MAIL":
            self.rcpts = []
            out += b"250 ok\r\n"
        elif word == b"RCPT":
            self.rcpts.append(line[9:line.rindex(b">")].decode())
            out += b"250 ok\r\n"
        elif word == b"DATA":
            self.in_data, self.seen = True, 0
            out += b"354 go\r\n"
        elif word == b"QUIT":
            self.transport.write(bytes(out) + b"221 bye\r\n")
            out.clear()
            self.transport.close()
            return False
        else:
            out += b"250 ok\r\n"
        return True

    async def start_tls(self):
        transport = self.transport
        with contextlib.suppress(Exception):
            new = await asyncio.get_running_loop().start_tls(transport, self, self.sink.context, server_side=True)
            self.transport, self.upgrading = new, False
            self.serve()  # what came together with the end of the handshake

    def message(self, out):
        end = self.buffer.find(b"\r\n.\r\n", max(0, self.seen - 4))
        if end < 0:
            self.seen = len(self.buffer)
            return False
        body = bytes(self.buffer[:end + 2])
        del self.buffer[:end + 5]
        self.in_data = False
        self.sink.take(body.replace(b"\r\n..", b"\r\n."), self.rcpts)
        out += b"250 taken\r\n"
        return True


class Sink:
    def __init__(self, a):
        self.record = open(a.record, "a", buffering=1)
        self.context = None
        if a.chain:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(a.chain, a.key)

    def take(self, data, rcpts):
        at = data.find(MARK)
        ident = data[at + len(MARK):data.index(b"\r\n", at)].decode() if at >= 0 else "-"
        sha = digest(data[at:]) if at >= 0 else "-"
        received = data[:max(at, 0)].replace(b"\r\n", b" ").split()
        queue_id = received[received.index(b"id") + 1].rstrip(b";").decode() if b"id" in received[:-1] else "-"
        self.record.write("".join(f"{ident} {t} {sha} {queue_id}\n" for t in rcpts))

    async def run(self, port):
        server = await asyncio.get_running_loop().create_server(lambda: SinkSession(self), "127.0.0.1", port, backlog=512)
        print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
        async with server:
            await server.serve_forever()


# ---- for the tests ----

def lines_of(path):
    """(id, recipient, hash, queue id) of each whole line."""
    with contextlib.suppress(FileNotFoundError):
        text = pathlib.Path(path).read_text()
        return [tuple(line.split()) for line in text[:text.rfind("\n") + 1].splitlines()]
    return []


def count_lines(path):
    with contextlib.suppress(FileNotFoundError):
        return pathlib.Path(path).read_bytes().count(b"\n")
    return 0


class Pair:
    """A sink and any number of senders as processes; their books; all ended by pid."""

    def __init__(self, folder, name="load", certificate=None, port=0, sink=True):
        self.sent, self.came = folder / f"{name}.sent", folder / f"{name}.came"
        self.processes, self.port, self.sink_process = [], port, None
        self.certificate = certificate
        if sink:
            self.start_sink()

    def start_sink(self):
        more = ["--chain", self.certificate.chain, "--key", self.certificate.key] if self.certificate else []
        self.sink_process = self.spawn("sink", "--port", self.port, "--record", self.came, *more)
        word, port = self.sink_process.stdout.readline().split()
        assert word == "ready"
        self.port = int(port)

    def spawn(self, *args):
        p = subprocess.Popen([sys.executable, __file__, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.processes.append(p)
        return p

    def send(self, port, *args, prefix="m", domain="relay.test", senders=50):
        return self.spawn("send", "--port", port, "--record", self.sent, "--prefix", prefix, "--domain", domain, "--senders", senders, *args)

    def finish(self, process, seconds, stop=False):
        """The sender's last line as a dictionary of numbers."""
        if stop:
            process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=seconds)
        assert process.returncode == 0, out
        words = dict(w.split("=", 1) for w in out.split(" reasons=")[0].split())
        words["reasons"] = out.split(" reasons=")[1].strip() if " reasons=" in out else ""
        return words

    def compare(self):
        """(missing, doubles, strangers): acknowledged that did not arrive whole; (key, times, queue id) that came more than once;
        arrivals with another hash than was acknowledged."""
        sent = {(i, to): sha for i, to, sha, _ in lines_of(self.sent)}
        came, ids = collections.Counter(), {}
        strangers = []
        for i, to, sha, queue_id in lines_of(self.came):
            came[(i, to, sha)] += 1
            ids[(i, to, sha)] = queue_id
            if (i, to) in sent and sent[(i, to)] != sha:
                strangers.append((i, to))
        missing = [(i, to) for (i, to), sha in sent.items() if (i, to, sha) not in came]
        doubles = [(key, n, ids[key]) for key, n in came.items() if n > 1]
        return missing, doubles, strangers

    def close(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait(10)
            p.stdout.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["sink", "send", "fill"])
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--record", default=os.devnull)
    p.add_argument("--chain")
    p.add_argument("--key")
    p.add_argument("--count", type=int, default=1000)
    p.add_argument("--forever", action="store_true")
    p.add_argument("--senders", type=int, default=50)
    p.add_argument("--tls", action="store_true", help="all senders use STARTTLS")
    p.add_argument("--tls-senders", type=int, default=0, help="so many of the senders do")
    p.add_argument("--lockstep", action="store_true", help="the senders send their bodies at the same instant, again and again")
    p.add_argument("--large", type=float, default=0.001, help="share of messages of 200 kB")
    p.add_argument("--prefix", default="m")
    p.add_argument("--domain", default="relay.test")
    a = p.parse_args()
    if a.what == "sink":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        asyncio.run(Sink(a).run(a.port))
    else:
        asyncio.run(Load(a).run() if a.what == "send" else fill(a))


if __name__ == "__main__":
    main()
