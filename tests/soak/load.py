#!/usr/bin/python3
"""The senders of the soak: as loader.py's, at a steady rate, for recipients behind every kind of delivery.

load.py --port N --record FILE --prefix P --senders N --rate MESSAGES-A-SECOND [--tls]; ends at SIGTERM, after the replies that it waits for.
"""
import argparse
import asyncio
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import loader   # noqa: E402

DOMAINS = ("dovecot.test", "flaky.test", "flaky.test", "box.test")


class Sender(loader.Sender):
    """One to four recipients; those of box.test are mailboxes, the others are whoever the message says."""

    def head(self):
        ident = f"{self.load.prefix}-{self.number}-{self.serial}"
        self.serial += 1
        domains = self.rng.sample(DOMAINS, 1 + (self.rng.random() < 0.2))
        to = sorted({"alice@box.test" if d == "box.test" else f"r{k}-{ident}@{d}" for k, d in enumerate(domains)})
        return ident, to, b"".join([b"MAIL FROM:<s@src.test> BODY=8BITMIME\r\n", *(b"RCPT TO:<%s>\r\n" % t.encode() for t in to), b"DATA\r\n"])


class Gate:
    """Lets one message through at a time, at the rate; loader.py waits here before each body."""

    def __init__(self, rate):
        self.pause, self.next = 1 / rate, 0.0

    async def wait(self):
        now = asyncio.get_running_loop().time()
        self.next = max(self.next + self.pause, now)
        await asyncio.sleep(self.next - now)

    def leave(self):
        pass


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--record", default=os.devnull)
    p.add_argument("--prefix", default="m")
    p.add_argument("--senders", type=int, default=8)
    p.add_argument("--rate", type=float, default=20)
    p.add_argument("--tls", action="store_true")
    a = p.parse_args()
    a.forever, a.count, a.domain, a.large, a.tls_senders, a.lockstep = True, 0, "", 0.003, 0, False
    loader.Sender = Sender
    load = loader.Load(a)
    load.gate = Gate(a.rate)
    asyncio.run(load.run())


if __name__ == "__main__":
    main()
