"""A daemon under strace, for tests that count system calls or judge their order."""
import os
import pathlib
import re

import pytest

from conftest import own, wait_for


@pytest.fixture
def traced(postrider, folder):
    """A daemon whose every process is traced from its first instant (-D: strace steps aside, the daemon is our child)."""
    def make(calls, options=(), **kw):
        p = postrider(start=False, **kw)
        p.trace = p.dir / "trace"
        p.wrapper = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-ttt", "-e", "signal=none", "-e", "trace=" + ",".join("?" + c for c in calls), *options,
                     "-o", str(p.trace)]
        if p.user:
            own(p.dir, p.user)
        return p.start()

    return make


def ended(p):
    """Stops it and waits until strace has written all that it saw (it keeps lines back until then)."""
    tracer = re.search(r"^TracerPid:\t(\d+)", pathlib.Path(f"/proc/{p.process.pid}/status").read_text(), re.M).group(1)
    assert tracer != "0", "it is traced"
    assert p.stop() == 0
    wait_for(lambda: not os.path.exists(f"/proc/{tracer}"), 10, "the end of strace")


def steps(path):
    """(call, rest, thread) in order, a sync where it came back (what counts is that it did before the 250), all others where they began."""
    found, unfinished = [], {}
    for line in path.read_bytes().decode(errors="replace").splitlines():
        m = re.match(r"(\d+) +[\d.]+ (?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))", line)
        if not m:
            continue
        pid, name, rest, resumed, tail = m.groups()
        if name and "<unfinished" in line:
            unfinished[pid] = (name, rest.split("<unfinished")[0])
            if name not in ("fdatasync", "fsync"):
                found.append((name, rest, int(pid)))
        elif resumed:
            name, rest = unfinished.pop(pid, (resumed, ""))
            if name in ("fdatasync", "fsync"):
                found.append((name, rest + tail, int(pid)))
        else:
            found.append((name, rest, int(pid)))
    return found


def first(found, test, after=-1):
    return next((i for i, (name, rest, _) in enumerate(found) if i > after and test(name, rest)), None)
