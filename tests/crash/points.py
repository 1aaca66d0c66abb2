"""Where the power is cut, and what is done then.

spool_point cuts, mounts, lets `judge` open the spool and read all, and judges; daemon_point starts a whole Postrider on it.
Each returns a list of faults.  A point is (entries, keep, seed, twist): twist says what else happens to the disk before or
during the recovery.
"""
import random
import re
import subprocess
import time

import conftest
from disk import MountFailed, reboot
from life import SEGMENT
from verdict import After, Found, mailboxes

BODY_FILE = 1 << 20
JUDGE_SECONDS = 60
DRAIN_SECONDS = 40
PAGE = 4096

# what else happens: nothing; the power goes again during recovery; the index is away; some of it is noise; both at once
TWISTS = ["", "", "again", "no-index", "noise", "head-noise", "again+no-index"]


def choose(life, count, rng, least=0.0):
    """Ascending: at flushes, one entry before and behind them, and anywhere; the tail of unflushed writes in every manner.
    least: that part of the record is passed over."""
    flushes = [i for i, e in enumerate(life.entries) if e[0] == "F" and i > life.first]
    flushes = flushes[int(least * len(flushes)):]
    points = []
    for k in range(count):
        lo, hi = len(flushes) * k // count, max(len(flushes) * k // count + 1, len(flushes) * (k + 1) // count)
        i = flushes[min(rng.randrange(lo, hi), len(flushes) - 1)]
        n = {0: i, 1: i + 1, 2: i + 2, 3: max(life.first, i - rng.randrange(8))}[k % 4]
        keep = rng.choice(["none", "all", "some", "some", "torn", "torn"])
        points.append((n, keep, rng.randrange(1, 1 << 30), TWISTS[k % len(TWISTS)]))
    return sorted(points)


def damage(spool, twist, rng):
    """To the index of a mounted disk; True when it was there to be damaged."""
    if "no-index" in twist:
        for f in spool.glob("index.db*"):
            f.unlink()
    elif twist in ("noise", "head-noise"):
        path = spool / "index.db"
        if not path.exists() or not path.stat().st_size:
            return
        with open(path, "r+b") as f:
            if twist == "head-noise":
                f.write(rng.randbytes(rng.choice((16, 100, PAGE))))
            else:
                pages = path.stat().st_size // PAGE
                for _ in range(rng.randrange(1, 8)):
                    f.seek(rng.randrange(pages) * PAGE)
                    f.write(rng.randbytes(PAGE))


class Judge:
    def __init__(self, program, mode):
        self.program, self.mode = program, mode

    def look(self, spool):
        r = subprocess.run([str(self.program), str(spool), str(SEGMENT), str(BODY_FILE), self.mode], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           errors="replace", timeout=JUDGE_SECONDS)
        found = Found(r.stdout)
        if r.returncode not in (0, 1, 2):
            found.faults.append(f"judge ended with {r.returncode}: {r.stderr[-300:]}")
        return found


def mounted(disk, work):
    try:
        disk.mount()
    except MountFailed as e:
        return [f"the file system does not mount: {e}"]
    try:
        return work()
    finally:
        disk.unmount()


def spool_point(life, judge, promises, point, tally, lie=0):
    n, keep, seed, twist = point
    disk, rng, now = life.disk, random.Random(seed), promises.instant(life, n)
    spool = disk.point / "spool"

    def first():
        damage(spool, twist, rng)
        found = judge.look(spool)
        tally["starts"] += len(found.opened)
        tally["rebuilt"] += sum(o["rebuilt"] == "1" for o in found.opened)
        tally["torn"] += any(o["torn"] != "0" for o in found.opened)
        tally["replayed"] += any(o["replayed"] != "0" for o in found.opened)
        tally["quarantined"] += any(o["quarantined"] != "0" for o in found.opened)
        return promises.spool(found, mailboxes(disk.point / "mail"), now, tally)

    disk.cut(n, keep, seed, lie)
    faults = mounted(disk, first)
    if "again" in twist and not faults:
        disk.again(rng.randrange(disk.second() + 1), rng.choice(["none", "all", "some", "torn"]), seed)
        twist = ""
        faults = mounted(disk, first)
        tally["again"] += 1
    return faults


# ---- a whole daemon ----

def maybe_of(daemon):
    return set(re.findall(r" event=maybe_duplicate id=(\w+)", daemon.log()))


def some_time(life, rng):
    """A life that is cut in its turn: the daemon, where its arrivals begin in the book, how much it wrote."""
    daemon, since = life.make_daemon(), life.books.came_path.stat().st_size
    daemon.start()
    time.sleep(rng.uniform(0, 0.3))
    daemon.kill_all()
    daemon.log_file.close()
    written = life.disk.second()
    return daemon, since, written


def daemon_point(life, promises, point, tally):
    n, keep, seed, twist = point
    disk, rng, now = life.disk, random.Random(seed), promises.instant(life, n)
    spool, after = disk.point / "spool", After()
    short = {}

    def begin():
        after.before, after.rebooted = mailboxes(disk.point / "mail"), reboot()
        damage(spool, twist, rng)
        if "again" in twist:
            short["daemon"], short["since"], short["written"] = some_time(life, rng)
        else:
            return finish()
        return []

    def finish():
        daemon, since = life.make_daemon(), life.books.came_path.stat().st_size
        began = time.monotonic()
        life.books.command("open")
        try:
            daemon.start()
            tally["start_ms"] = max(tally["start_ms"], int((time.monotonic() - began) * 1000))
            conftest.wait_for(lambda: life.queued(daemon) == 0, DRAIN_SECONDS, "an empty queue", step=0.1)
            if daemon.stop() != 0:
                return ["it did not end well"]
        except BaseException as e:
            if daemon.process:
                daemon.kill_all()
            if not isinstance(e, conftest.pytest.fail.Exception):
                raise
            return [str(e), daemon.log()[-1500:]]
        finally:
            life.books.command("close")
        after.life(life.books.came(since), life.outcomes(daemon), maybe_of(daemon), life.report_ids_of(daemon))
        after.boxes = mailboxes(disk.point / "mail")
        return promises.drained(after, now, tally)

    disk.cut(n, keep, seed)
    faults = mounted(disk, begin)
    if short and not faults:
        entries = disk.entries(second=True)
        q = rng.randrange(1, short["written"] + 1) if short["written"] else 0
        until = entries[q][1] if q < len(entries) else time.time_ns()
        disk.again(q, rng.choice(["none", "all", "some", "torn"]), seed)
        after.life(life.books.came(short["since"]), life.outcomes(short["daemon"]), maybe_of(short["daemon"]),
                   life.report_ids_of(short["daemon"]), until)
        tally["again"] += 1
        reboot()
        faults = mounted(disk, finish)
    return faults
