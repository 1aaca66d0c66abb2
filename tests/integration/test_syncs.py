"""What the disk and the process table are asked for a message, counted by strace over all processes."""
import collections
import os
import re
import shutil
import time

import pytest

from conftest import wait_for
from loader import Pair
from tracing import ended, traced  # noqa: F401 (a fixture)

MESSAGES = int(os.environ.get("SYNCS_MESSAGES", 2000))
SENDERS = 50
ROUNDS = 3
SYNCS_A_MESSAGE = 0.3           # promised
SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
BIRTHS = ("clone", "clone3", "fork", "vfork", "execve", "execveat")

pytestmark = [pytest.mark.alone, pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")]


@pytest.fixture
def pair(tmp_path):
    made = []

    def make(**kw):
        made.append(Pair(tmp_path, name=f"load{len(made)}", **kw))
        return made[-1]

    yield make
    for p in made:
        p.close()


def calls_of(path, begin, end):
    """(pid, call, the line's rest) of each call that was begun between two moments."""
    found = []
    for line in path.read_bytes().decode(errors="replace").splitlines():
        m = re.match(r"(\d+) +([\d.]+) (\w+)\((.*)", line)
        if m and begin <= float(m.group(2)) <= end:
            found.append((int(m.group(1)), m.group(3), m.group(4)))
    return found


def drained(p, books, seconds=30):
    wait_for(lambda: not books.compare()[0], seconds, "all messages\n" + p.log()[-1500:], step=0.2)


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "starttls"])
def test_syncs_and_births_of_a_message(traced, pair, tls):
    books = pair()
    p = traced(SYNCS + BIRTHS, extra=f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{books.port}" tls = none }}\n'
                                    "destination_window = 100")
    warm = books.finish(books.send(p.port, "--count", 200, *(["--tls"] if tls else []), prefix="warm"), 30)
    assert warm["acknowledged"] == "200"
    drained(p, books)
    # a sender in Python is slower than a commit: without the step, most would send alone; and on a machine that is busy with
    # other things they come one by one all the same, so the best of some rounds counts
    rounds = []
    for n in range(ROUNDS):
        begin = time.time()
        said = books.finish(books.send(p.port, "--count", MESSAGES, "--lockstep", "--large", 0, *(["--tls"] if tls else []), prefix=f"m{n}",
                                       senders=SENDERS), 60)
        assert int(said["acknowledged"]) == MESSAGES and said["broken"] == "0", said
        drained(p, books)
        wait_for(lambda: len(p.events("delivered")) >= MESSAGES * (n + 1) + 200, 10, "outcomes")
        rounds.append((begin, time.time()))
    ended(p)
    counts = [collections.Counter(name for _, name, _ in calls_of(p.trace, *r)) for r in rounds]
    syncs = [sum(c[name] for name in SYNCS) / MESSAGES for c in counts]
    print(f"{MESSAGES} messages of {SENDERS} senders under strace: {[f'{s:.3f}' for s in syncs]} syncs a message")
    assert 0 < min(syncs) < SYNCS_A_MESSAGE
    assert not any(c[name] for c in counts for name in BIRTHS), "no process or thread is made for a message or a connection"


def test_mailboxes_make_no_processes(traced, talk):
    p = traced(BIRTHS)
    box = p.mailbox("alice")
    p.wait_event("ready")
    begin = time.time()
    for _ in range(30):
        t = talk(p.port)
        for line in ("EHLO c.test", "MAIL FROM:<a@src.test>", "RCPT TO:<alice@local.test>", "RCPT TO:<x@sink.test>"):
            assert t.say(line).startswith("250")
        assert t.say("DATA").startswith("354")
        assert t.say("Subject: x\r\n\r\nhello\r\n.").startswith("250")
        t.close()
    box.wait(30)
    end = time.time()
    ended(p)
    assert calls_of(p.trace, 0, begin), "the start was seen"
    assert not calls_of(p.trace, begin, end)
