"""Where the attacks take place: a running daemon, an honest client beside the attacker, and what both cost.

  Scene(...)        the daemon; scene.honest judges how honest mail fared; scene.memory how much each role holds
  honest.py         is that client, a process of its own: a Python busy with an attack would measure itself
Everything is on loopback, in a folder of its own, and ended by pid.
"""
import contextlib
import pathlib
import re
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import conftest                                     # noqa: E402
from conftest import Postrider, free_port, wait_for  # noqa: E402

HONEST = "127.99.0.1"          # the honest client's own address
ROLES = ("receive", "queue", "send", "resolve", "local", "keys", "policy")
SAMPLE_SECONDS = 0.1

CONFIG = '''
hostname = "mx.sink.test"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
certificate "default" {{ chain = "{chain}"  key = "{key}" }}
# as in the field, but for the names
listener "mx"   {{ address = {{"127.0.0.1:{port}"}} }}
# one address may have them all
listener "wide" {{ address = {{"127.0.0.1:{wide}"}}  sessions_per_address = 20000 }}
# every deadline within a test's patience
listener "slow" {{ address = {{"127.0.0.1:{slow}"}}  command_timeout = 1s  handshake_timeout = 1s  data_timeout = 2s  data_min_rate = 1000  idle_commands = 1000000 }}
listener "late" {{ address = {{"127.0.0.1:{late}"}}  greeting_delay = 1s }}
domain "sink.test"   {{ deliver = "discard" }}
domain "honest.test" {{ deliver = "smtp://127.0.0.1:{honest}"  tls = none }}
retry_min = "1s"
retry_max = "2s"
connect_timeout = "2s"
{extra}
'''


def pss_kib(pid):
    """What the process adds to the memory in use: its own pages, and its share of those it shares."""
    return int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))


def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


class Memory:
    """Samples the PSS of each role; peak() since mark()."""

    def __init__(self, pids):
        self.pids, self.over, self.peak = pids, threading.Event(), {}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def sample(self):
        out = {}
        for role, pid in self.pids().items():
            with contextlib.suppress(OSError, AttributeError):
                out[role] = pss_kib(pid)
        return out

    def run(self):
        while not self.over.wait(SAMPLE_SECONDS):
            for role, kib in self.sample().items():
                self.peak[role] = max(kib, self.peak.get(role, 0))

    def mark(self):
        self.peak = {}
        return self.sample()

    def close(self):
        self.over.set()
        self.thread.join(10)


class Honest:
    """The books of honest.py: (when it began, seconds until the next hop had it, or None and why not)."""

    def __init__(self, folder, port, hop):
        self.path = folder / "honest"
        self.process = subprocess.Popen([sys.executable, str(HERE / "honest.py"), HONEST, str(port), str(hop), str(self.path)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def since(self, when):
        text = self.path.read_text() if self.path.exists() else ""
        out = []
        for line in text[:text.rfind("\n") + 1].splitlines():
            began, seconds, why = line.split(" ", 2)
            if float(began) >= when:
                out.append((float(began), float(seconds), why))
        return out

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


class Scene:
    def __init__(self, folder, certificate, extra="", honest=True, **more):
        self.folder = folder
        self.honest_port = free_port()
        self.ports = {name: free_port() for name in ("wide", "slow", "late")}
        self.p = Postrider(folder, certificate, config=CONFIG, extra=extra, honest=self.honest_port, **self.ports, **more)
        self.ports["mx"] = self.p.port
        self.honest = Honest(self.p.dir, self.p.port, self.honest_port) if honest else None
        self.p.start()
        self.pids = self.pids_now()
        self.memory = Memory(lambda: self.pids)
        if self.honest:
            now = time.time()
            wait_for(lambda: any(why == "ok" for _, _, why in self.honest.since(now)), 10, "the first honest message")

    def metrics(self, word):
        """The sum of the metrics whose name and labels hold `word`."""
        text = self.p.ctl("status", "--prometheus").stdout
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if word in line and not line.startswith("#"))

    def events(self, name, **fields):
        """As Postrider.events, but for logs of a flood: only lines that may be meant are taken apart."""
        found = []
        needles = [f"event={name} ", *(f"{k}={v}" for k, v in fields.items())]
        with open(self.p.log_path, errors="replace") as log:
            for line in log:
                if all(n in line for n in needles):
                    found.append({k: v.strip('"') for k, v in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)})
        return found

    def pids_now(self):
        out = {}
        for e in self.events("role_started"):
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{e['pid']}/cmdline").read_bytes().split(b"\0")[1:2] == [b"role"]:
                    out[e["role_name"]] = int(e["pid"])
        return out

    def disk(self):
        """Octets that the spool occupies."""
        return sum(f.stat().st_blocks * 512 for f in (self.p.dir / "spool").rglob("*") if f.is_file())

    def alive(self):
        """Is each role still the process that it was?"""
        return self.pids_now() == self.pids

    def close(self):
        self.memory.close()
        if self.honest:
            self.honest.close()
        self.p.stop(20)


__all__ = ["Scene", "HONEST", "ROLES", "conftest", "descriptors", "free_port", "pss_kib", "wait_for"]
