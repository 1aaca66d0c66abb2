"""Crashes under load: what was acknowledged arrives, whole and (but for deliveries in flight at a crash) once.

The books are loader.py's: each 250 by id, recipient and hash on one side, each arrival on the other.
Sizes: CRASH_MESSAGES, CRASH_TLS_MESSAGES, CRASH_KILLS in the environment make it longer.
"""
import collections
import json
import os
import random
import re
import signal
import time

import pytest

from conftest import free_port, run, wait_for
from loader import Pair, count_lines, lines_of

MESSAGES = int(os.environ.get("CRASH_MESSAGES", 10000))
TLS_MESSAGES = int(os.environ.get("CRASH_TLS_MESSAGES", 2000))
KILLS = int(os.environ.get("CRASH_KILLS", 20))
SEED = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))   # printed by a test that fails
WINDOW = 20   # destination_window, by default: what can be in flight to one next hop
ROLES = ["receive", "queue", "send", "resolve", "local", "keys", "policy", "web"]


@pytest.fixture
def pair(folder, tmp_path):
    made = []

    def make(**kw):
        p = Pair(tmp_path, name=f"load{len(made)}", **kw)
        made.append(p)
        return p

    yield make
    for p in made:
        p.close()


def relay_to(port, more="", tls="may"):
    return f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{port}" tls = {tls} }}\nretry_min = "1s"\nretry_max = "2s"\n{more}'


def drained(p, pair, seconds=30):
    """Waits until all that was acknowledged has come and nothing is queued."""
    try:
        wait_for(lambda: not pair.compare()[0], seconds, "all that was acknowledged", step=0.3)
    except BaseException:
        missing = pair.compare()[0]
        print(f"seed {SEED}: {len(missing)} missing, first {missing[:3]}\n{p.ctl('status', check=False).stdout}\n{p.log()[-2500:]}")
        raise
    wait_for(lambda: queued(p) == 0, seconds, "an empty queue", step=0.2)


def queued(p):
    r = p.ctl("status", "--json", check=False)
    return json.loads(r.stdout)["spool"]["envelopes"] if r.returncode == 0 else None


class Named:
    """What the log says of repeated attempts."""

    def __init__(self, log):
        self.ids, self.sessions, self.lines = set(), set(), 0
        for line in re.findall(r"^.* event=maybe_duplicate .*$", log, re.M):
            self.lines += 1
            self.ids.update(re.findall(r" id=(\w+)", line))
            self.sessions.update(re.findall(r" session=(\w+)", line))


def judge(p, pair, crashes, window=WINDOW):
    """Nothing lost, nothing altered; doubles within what was in flight, and each told of beforehand in the log."""
    missing, doubles, strangers = pair.compare()
    assert not missing and not strangers, (SEED, missing[:5], strangers[:5])
    extra = sum(n - 1 for _, n, _ in doubles)
    assert extra <= crashes * 2 * window, (SEED, extra)  # two recipients at most each
    named = Named(p.log())
    queue_ids = {i: queue_id for i, _, _, queue_id in lines_of(pair.sent)}
    for (ident, to, _), n, trace in doubles:
        told = queue_ids[ident] in named.ids if ident in queue_ids else trace.split(".")[0] in named.sessions
        assert told, f"seed {SEED}: {ident} came {n} times (queue id {queue_ids.get(ident)}, {trace}) and no maybe_duplicate line names it"
    return extra, named.lines


# ---- without crashes: exactly once ----

@pytest.mark.parametrize("tls,count", [(False, MESSAGES), (True, TLS_MESSAGES)], ids=["plaintext", "starttls"])
def test_every_message_is_acknowledged_and_arrives_once(postrider, pair, certificate, tls, count):
    books = pair(certificate=certificate if tls else None)
    p = postrider(extra=relay_to(books.port, tls="encrypt" if tls else "none"))
    said = books.finish(books.send(p.port, "--count", count, *(["--tls"] if tls else [])), 60)
    assert int(said["acknowledged"]) == count and said["broken"] == "0", said
    drained(p, books)
    sent, came = lines_of(books.sent), lines_of(books.came)
    assert len({s[0] for s in sent}) == count
    assert collections.Counter(s[:3] for s in sent) == collections.Counter(c[:3] for c in came)
    assert not p.events("maybe_duplicate") and not p.events("fault")


# ---- every process at once ----

def test_kill_9_of_every_process_at_random_instants(postrider, pair, certificate):
    rng = random.Random(SEED)
    books = pair(certificate=certificate)
    p = postrider(extra=relay_to(books.port))
    load = books.send(p.port, "--forever", "--tls-senders", 10, "--large", "0.003")
    for _ in range(KILLS):
        before = count_lines(books.sent)
        wait_for(lambda: count_lines(books.sent) > before, 20, f"service after a restart (seed {SEED})\n{p.log()[-2000:]}")
        time.sleep(rng.uniform(0, 0.4))
        p.kill_all()
        p.start()
    said = books.finish(load, 30, stop=True)
    drained(p, books)
    assert int(said["acknowledged"]) > KILLS * 20, said
    extra, lines = judge(p, books, KILLS)
    print(f"seed {SEED}: {said}; {extra} doubles in {KILLS} crashes, {lines} maybe_duplicate lines")


# ---- one role at a time ----

@pytest.mark.parametrize("role", ROLES)
def test_a_role_killed_under_load_is_started_anew_and_nothing_is_lost(postrider, pair, certificate, role):
    books = pair(certificate=certificate)
    p = postrider(extra=relay_to(books.port), web=role == "web")
    first = p.pids()
    load = books.send(p.port, "--forever", "--tls-senders", 10, senders=25)
    wait_for(lambda: count_lines(books.sent) > 200, 10, "load")
    os.kill(first[role], signal.SIGKILL)
    p.wait_event("role_exited", role_name=role, pid=first[role])
    p.wait_event("role_started", role_name=role, count=2)
    sent, came = count_lines(books.sent), count_lines(books.came)
    wait_for(lambda: count_lines(books.sent) > sent + 300 and count_lines(books.came) > came + 300, 15, f"service after {role} was killed")
    books.finish(load, 20, stop=True)
    drained(p, books)
    judge(p, books, 1)
    second = p.pids()
    assert {r for r in first if second[r] != first[r]} == {role}


# ---- the index, made anew ----

def test_a_rebuild_brings_back_what_is_queued_and_nothing_else(postrider, pair):
    later = free_port()
    books, waiting = pair(), pair(port=later, sink=False)
    p = postrider(extra=relay_to(books.port, f'domain "later.test" {{ deliver = "smtp://127.0.0.1:{later}" tls = none }}'))
    assert books.finish(books.send(p.port, "--count", 1000), 30)["acknowledged"] == "1000"
    assert waiting.finish(waiting.send(p.port, "--count", 50, prefix="w", domain="later.test"), 30)["acknowledged"] == "50"
    wait_for(lambda: not books.compare()[0] and queued(p) == 50, 20, "1,000 deliveries")
    refused = p.ctl("queue", "rebuild", check=False)
    assert refused.returncode == 75 and "stop" in refused.stderr, "it must not touch the spool of a running daemon"
    assert p.stop() == 0
    said = p.ctl("queue", "rebuild").stdout
    assert "50 messages" in said, said
    came = count_lines(books.came)
    p.start()
    assert queued(p) == 50
    waiting.start_sink()
    p.ctl("queue", "flush")
    drained(p, waiting)
    missing, doubles, strangers = waiting.compare()
    assert not missing and not doubles and not strangers
    assert count_lines(books.came) == came, "what was delivered stays delivered"


def test_a_rebuild_after_a_crash_loses_nothing(postrider, pair):
    books = pair()
    p = postrider(extra=relay_to(books.port))
    load = books.send(p.port, "--forever")
    wait_for(lambda: count_lines(books.sent) > 500, 10, "load")
    p.kill_all()
    assert p.ctl("queue", "rebuild").returncode == 0
    p.start()
    books.finish(load, 20, stop=True)
    drained(p, books)
    judge(p, books, 1)


def test_a_damaged_index_is_met_while_running_and_heals_by_itself(postrider, pair):
    """Noise in every page that a start does not look at: the queue meets it, ends, and is started anew on a new index."""
    later = free_port()
    waiting = pair(port=later, sink=False)
    p = postrider(extra=f'domain "later.test" {{ deliver = "smtp://127.0.0.1:{later}" tls = none }}\nretry_min = "1s"\nretry_max = "1s"\n')
    assert waiting.finish(waiting.send(p.port, "--count", 400, prefix="w", domain="later.test"), 30)["acknowledged"] == "400"
    assert p.stop() == 0
    index = p.dir / "spool" / "index.db"
    data = bytearray(index.read_bytes())
    for page in range(1, len(data) // 4096):
        if data[page * 4096:].startswith((b"\x0a", b"\x0d")) and len(data) > 20 * 4096 and page > len(data) // 4096 // 2:   # a leaf
            data[page * 4096:(page + 1) * 4096] = random.Random(page).randbytes(4096)
    index.write_bytes(data)
    waiting.start_sink()
    p.start()
    drained(p, waiting, 40)
    missing, doubles, strangers = waiting.compare()
    assert not missing and not strangers
    assert [e["rebuilt"] for e in p.events("spool_opened")] == ["1", "0", "1"], "the very first start, the one that saw nothing, the one that heals"
    assert p.events("spool_fault", what="index") and len(p.events("role_exited", role_name="queue")) == 1


# ---- an orderly end ----

def test_sigterm_under_load_ends_within_10_s_and_loses_nothing(postrider, pair, certificate):
    books = pair(certificate=certificate)
    p = postrider(extra=relay_to(books.port))
    load = books.send(p.port, "--forever", "--tls-senders", 10)
    for n in range(3):
        before = count_lines(books.sent)
        wait_for(lambda: count_lines(books.sent) > before + 200, 15, "load")
        began = time.monotonic()
        assert p.stop(11) == 0
        assert time.monotonic() - began < 10
        assert p.events("stopped")[-1]["killed"] == "0", p.log()[-1500:]
        if n < 2:
            p.start()
    p.start()
    books.finish(load, 20, stop=True)
    drained(p, books)
    missing, doubles, strangers = books.compare()
    assert not missing and not strangers and not doubles, "an orderly end doubles nothing"
