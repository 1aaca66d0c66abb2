"""The instruments of `make bench`: what the loader says it sent is what the sink says it got, in every mode; trouble is counted and
never taken for success.
"""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import ROOT, free_port, wait_for

BENCH = pathlib.Path(os.environ.get("POSTRIDER_BUILD", str(ROOT / "build"))) / "bench"


class Sink:
    def __init__(self, *arguments):
        self.process = subprocess.Popen([BENCH / "sink", "--max", "60", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def report(self):
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=20)
        return json.loads(out)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def sink(certificate):
    made = []

    def make(*arguments, tls=False):
        made.append(Sink(*arguments, *(("--cert", certificate.chain, "--key", certificate.key) if tls else ())))
        return made[-1]

    yield make
    for s in made:
        s.close()


def load(port, *arguments):
    r = subprocess.run([BENCH / "load", "--port", str(port), "--timeout", "20", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=60)
    return r.returncode, json.loads(r.stdout.splitlines()[-1])


@pytest.mark.parametrize("mode", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("more", [(), ("--no-pipelining",), ("--chunking",), ("--threads", 2), ("--size", 300000)], ids=lambda m: "".join(map(str, m)) or "plain")
def test_books_agree(sink, mode, more):
    s = sink("--threads", "2", *(["--implicit"] if mode == "implicit" else []), tls=mode != "none")
    status, j = load(s.port, "--tls", mode, "--sessions", 30, "--concurrency", 8, "--messages-per-session", 3, *more)
    books = s.report()
    assert status == 0 and j["errors"] == {}, j
    assert (j["sessions_ok"], j["messages_ok"]) == (30, 90)
    assert (books["messages"], books["unique"], books["duplicates"], books["no_id"]) == (90, 90, 0, 0)
    assert (books["connections"], books["tls_connections"]) == (30, 0 if mode == "none" else 30)
    size = j["size"]
    assert size * 0.9 < books["bytes"] / 90 < size * 1.1, "--size is the message's, about"
    assert j["message_ms"]["n"] == 90 and j["session_ms"]["n"] == 30 and (mode == "none" or j["handshake_ms"]["n"] == 30)
    assert 0 < j["message_ms"]["p50"] <= j["message_ms"]["p99"] <= j["message_ms"]["max"] <= j["session_ms"]["max"]


def test_resumption(sink):
    s = sink(tls=True)
    arguments = ("--tls", "starttls", "--sessions", 20, "--concurrency", 1)
    assert load(s.port, *arguments)[1]["tls_facts"]["resumed"] == 0
    assert load(s.port, *arguments, "--resume")[1]["tls_facts"]["resumed"] == 19


def test_domains_and_recipients(sink):
    s = sink()
    status, j = load(s.port, "--sessions", 10, "--rcpts", 3, "--domains", 4, "--domains-from", 7)
    assert status == 0 and j["messages_ok"] == 10
    assert s.report()["recipients"] == 30


def test_refusals_are_no_success(sink):
    s = sink("--defer", "30", "--reject", "20")
    status, j = load(s.port, "--sessions", 40, "--messages-per-session", 10)
    books = s.report()
    assert status == 0 and j["sessions_ok"] == 40, "the sessions went on"
    assert j["messages_ok"] == books["messages"] == books["unique"]
    assert (j["messages_deferred"], j["messages_refused"]) == (books["deferred"], books["rejected"])
    assert j["messages_ok"] + j["messages_deferred"] + j["messages_refused"] == 400
    assert 60 < books["deferred"] < 140 and 40 < books["rejected"] < 120, "about the percentages asked for"


def test_sessions_refused(sink):
    s = sink("--refuse", "50")
    status, j = load(s.port, "--sessions", 100)
    books = s.report()
    assert status == 1 and j["sessions_failed"] == books["refused"] and 20 < books["refused"] < 80
    assert sum(j["errors"].values()) == j["sessions_failed"] and "421" in j["first_error"]


def test_nobody_listens():
    status, j = load(free_port(), "--sessions", 5)
    assert status == 1 and j["errors"] == {"connect": 5} and j["messages_ok"] == 0


def test_a_server_that_dies(sink):
    """Messages whose answer never came are lost, not sent."""
    s = sink("--delay", "3000")
    p = subprocess.Popen([BENCH / "load", "--port", str(s.port), "--sessions", "4", "--concurrency", "4"], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: pathlib.Path(f"/proc/{s.process.pid}/fd").exists() and len(os.listdir(f"/proc/{s.process.pid}/fd")) >= 9, 10, "four sessions")
    time.sleep(0.3)
    s.process.kill()
    out, _ = p.communicate(timeout=30)
    j = json.loads(out)
    assert p.returncode == 1 and j["sessions_failed"] == j["messages_lost"] == 4 and j["messages_ok"] == 0, j


def test_open_loop_counts_from_when_it_was_due(sink):
    """A server that answers after 200 ms, asked 50 times a second through one session: the queue in front of it is part of the time."""
    s = sink("--delay", "200")
    status, j = load(s.port, "--rate", 50, "--sessions", 10, "--concurrency", 1)
    assert status == 0 and j["session_ms"]["max"] > 1500, j["session_ms"]
    status, j = load(s.port, "--rate", 50, "--sessions", 10, "--concurrency", 10)
    assert status == 0 and 200 <= j["session_ms"]["p50"] < 1500, j["session_ms"]
    assert j["elapsed_s"] > 0.35, "the last one is not due before"


@pytest.mark.parametrize("mode", ["none", "starttls"])
def test_held_sessions(sink, mode):
    s = sink(tls=True)
    p = subprocess.Popen([BENCH / "load", "--port", str(s.port), "--hold", "30", "--concurrency", "100", "--tls", mode], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "READY 100\n"
    p.send_signal(signal.SIGTERM)
    out, _ = p.communicate(timeout=20)
    j = json.loads(out)
    assert p.returncode == 0 and j["sessions_ok"] == 100 and j["messages_ok"] == 0
    books = s.report()
    assert books["max_open"] == 100 and books["tls_connections"] == (0 if mode == "none" else 100)


def test_held_sessions_that_the_server_ends_are_failures(sink):
    s = sink()
    p = subprocess.Popen([BENCH / "load", "--port", str(s.port), "--hold", "30", "--concurrency", "10"], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "READY 10\n"
    s.process.kill()
    time.sleep(0.5)
    p.send_signal(signal.SIGTERM)
    out, _ = p.communicate(timeout=20)
    assert p.returncode == 1 and json.loads(out)["sessions_failed"] == 10


def test_the_sink_tells_doubles_and_other_runs(sink):
    s = sink("--run", "mine")
    for run, first in (("mine", 0), ("mine", 5), ("other", 0)):
        assert load(s.port, "--sessions", 10, "--run", run, "--number-from", first)[0] == 0
    books = s.report()
    assert (books["messages"], books["unique"], books["duplicates"], books["other_run"]) == (30, 15, 5, 10)


def test_the_sink_says_what_is_missing():
    p = subprocess.run([BENCH / "sink", "--expect", "3", "--max", "1"], capture_output=True, text=True, timeout=20)
    assert p.returncode == 1 and json.loads(p.stdout.splitlines()[-1])["messages"] == 0


def smoke(baseline, counted, *arguments):
    counted_path = baseline.parent / "counted.json"
    counted_path.write_text(json.dumps(counted))
    return subprocess.run(["/usr/bin/python3", ROOT / "bench" / "smoke", "--build", BENCH.parent, "--baseline", baseline, "--counted", counted_path, *arguments],
                          capture_output=True, text=True, timeout=60)


def test_the_guard_sees_growth(tmp_path):
    """Five percent are free, more fails, less asks for a new baseline; what has no baseline fails, as does what is gone; another
    compiler's baseline judges nothing and does not count as passed."""
    path = tmp_path / "baseline.json"
    assert smoke(path, {"scan": 1000, "spool": 5000}, "--set-baseline").returncode == 0
    true = json.loads(path.read_text())
    assert true["instructions_per_message"] == {"scan": 1000, "spool": 5000}

    def said(scan, **more):
        r = smoke(path, {"scan": scan, "spool": 5000, **more})
        return r.returncode, r.stdout.splitlines()[-1], r.stdout

    assert said(1049)[:2] == (0, "2 passed, 0 failed")
    status, count, out = said(1051)
    assert (status, count) == (1, "1 passed, 1 failed") and "FAIL scan" in out
    status, count, out = said(900)
    assert (status, count) == (0, "2 passed, 0 failed") and "--set-baseline" in out
    assert said(1000, new=1)[:2] == (1, "2 passed, 1 failed")
    r = smoke(path, {"scan": 1000})
    assert r.returncode == 1 and r.stdout.endswith("1 passed, 1 failed\n"), r.stdout
    assert smoke(path, {"scan": 900}, "--only", "scan", "--set-baseline").returncode == 0
    assert json.loads(path.read_text())["instructions_per_message"] == {"scan": 900, "spool": 5000}  # one alone: the others stay
    path.write_text(json.dumps(dict(true, built_by=dict(true["built_by"], compiler="other 1"))))
    assert said(5000)[:2] == (0, "0 passed, 0 failed, 2 skipped")
    r = smoke(path, {"scan": 900}, "--only", "scan", "--set-baseline")
    assert r.returncode == 1 and "the baseline other 1" in r.stdout and json.loads(path.read_text())["instructions_per_message"]["scan"] == 1000
