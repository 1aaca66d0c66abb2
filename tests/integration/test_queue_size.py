"""A hundred thousand messages for a destination that never answers: live mail to others is not slower for it.

QUEUE_SIZE in the environment makes it another number.
"""
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

import loader
from conftest import wait_for

pytestmark = pytest.mark.alone

COUNT = int(os.environ.get("QUEUE_SIZE", 100_000))
LIVE_SECONDS = 2                # promised
# What the role `queue` may need for it: far above what is measured (the index is on disk), far below one KiB a message on top.
MEMORY_MIB = 160
FILL_SECONDS = 75


@pytest.fixture
def silence():
    """Takes the first connections into its backlog and says nothing; connects beyond that hang."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(1)
        yield s.getsockname()[1]


def resident_mib(pid):
    return int(re.search(r"^VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1)) / 1024


def fill(p, count, domain, senders=10):
    r = subprocess.Popen([sys.executable, loader.__file__, "fill", "--port", str(p.port), "--count", str(count), "--domain", domain,
                          "--senders", str(senders)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    return r


def queued(p):
    return json.loads(p.ctl("status", "--json").stdout)["spool"]["envelopes"]


def live(talk, p, box, sink, n):
    """Seconds until a message to a mailbox and one to a next hop have arrived."""
    before, there = len(box.messages()), len(sink.messages)
    t = talk(p.port)
    t.say("EHLO live.test")
    began = time.monotonic()
    for to in ("alice@local.test", "x@relay.test"):
        for line in ("MAIL FROM:<a@src.test>", f"RCPT TO:<{to}>"):
            assert t.say(line).startswith("250")
        assert t.say("DATA").startswith("354")
        t.send(f"Subject: live {n}\r\n\r\nhello\r\n")
        assert t.say(".").startswith("250")
    t.say("QUIT")
    wait_for(lambda: len(box.messages()) > before and len(sink.messages) > there, 20, "live mail", step=0.005)
    return time.monotonic() - began


def test_live_mail_is_not_slower_for_a_queue_that_nobody_takes(postrider, talk, sink, silence):
    hop = sink()
    p = postrider(extra=f'domain "silent.test" {{ deliver = "smtp://127.0.0.1:{silence}" tls = none }}\n'
                        f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{hop.port}" tls = none }}\nretry_min = "1s"\nretry_max = "5s"\nconnect_timeout = "2s"')
    box = p.mailbox("alice")
    pid = p.pids()["queue"]
    empty, times = resident_mib(pid), []
    began = time.monotonic()
    filling = fill(p, COUNT, "silent.test")
    try:
        while filling.poll() is None:
            if time.monotonic() - began > FILL_SECONDS:
                pytest.fail(f"{queued(p)} of {COUNT} in {FILL_SECONDS} s\n{p.log()[-1500:]}")
            times.append(live(talk, p, box, hop, len(times)))
            time.sleep(0.5)
        out = filling.communicate()[0]
        assert filling.returncode == 0 and f"acknowledged={COUNT}" in out, out
    finally:
        if filling.poll() is None:
            filling.kill()
        filling.wait(10)
        filling.stdout.close()
    while_filling = max(times)
    wait_for(lambda: queued(p) == COUNT, 10, "a settled queue", step=0.2)

    def steady():
        return max(live(talk, p, box, hop, n) for n in range(10))

    full = steady()
    time.sleep(3)  # retries of what waits, and its being put off, have begun
    later = steady()
    memory = resident_mib(pid)
    print(f"{COUNT} messages in {out.split('=')[-1].strip()} s; live mail: {while_filling:.2f} s while filling, {full:.2f} s and {later:.2f} s after; "
          f"memory of queue: {memory:.0f} MiB ({empty:.0f} MiB empty)")
    assert full < LIVE_SECONDS and later < LIVE_SECONDS and while_filling < LIVE_SECONDS
    assert memory < MEMORY_MIB
    assert queued(p) == COUNT
    # it is known at once after a crash, too, and still in nobody's way
    p.kill_all()
    began = time.monotonic()
    p.start()
    again = time.monotonic() - began
    assert queued(p) == COUNT
    after = steady()
    memory = resident_mib(p.pids()["queue"])
    print(f"after a crash: ready in {again:.2f} s, live mail {after:.2f} s, memory of queue {memory:.0f} MiB")
    assert after < LIVE_SECONDS and memory < MEMORY_MIB
    listed = p.ctl("queue", "list").stdout
    assert listed.count("silent.test") > 0
