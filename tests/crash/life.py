"""One recorded life: Postrider under load on a recorded disk, and the books of what it promised when.

Life(tools, folder, system, extra).record(count) makes the disk, runs the daemon twice with half of the load each (so that an
orderly end and a start are in the record), and keeps: `entries` of the disk, `sent` and `came` of the books, `told`, what the
log said of outcomes.  A point of that life is judged by verdict.py.
"""
import calendar
import os
import pathlib
import pwd
import re
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import conftest  # noqa: E402  the running daemon and its certificate

BOOKS = pathlib.Path(__file__).resolve().parent / "books.py"
USER = "nobody"
USERS = [f"u{n}" for n in range(4)]
SEGMENT = 256 * 1024     # small, so that compaction and recycling happen within a minute's load
SETTLE_SECONDS = 30      # for all deliveries behind the last message
LOAD_SECONDS = 240
GENERATION_AT = 8        # in a segment's header (src/spool/segment.c)

CONFIG = '''
hostname = "mx.crash.test"
spool    = "{mnt}/spool"
control  = "{dir}/control.sock"
queue_segment_size = "256K"
retry_min = "1s"
retry_max = "2s"
workers = 1
certificate "default" {{ chain = "{chain}"  key = "{key}" }}
listener "mx"         {{ address = {{"127.0.0.1:{port}"}} }}
domain "sink.test"    {{ deliver = "discard" }}
domain "local.test"   {{ deliver = "maildir:{mnt}/mail/%{{user}}" }}
domain "relay.test"   {{ deliver = "smtp://127.0.0.1:{sink}" tls = none }}
domain "later.test"   {{ deliver = "smtp://127.0.0.1:{later}" tls = none }}
relay                 {{ from = {{"127.0.0.0/8"}} }}
{extra}
'''


class Books:
    """The sink as a process, and senders; their records as lists."""

    def __init__(self, folder):
        self.folder, self.process = pathlib.Path(folder), None
        self.came_path = self.folder / "came"
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, str(BOOKS), "sink", "0", str(self.came_path), "0"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        word, self.port, self.later = self.process.stdout.readline().split()
        assert word == "ready"

    def command(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def send(self, port, record, count, sessions, prefix, seed, ways=None):
        """Blocks until all is acknowledged; returns what the sender said."""
        r = subprocess.run([sys.executable, str(BOOKS), "send", str(port), str(record), str(count), str(sessions), prefix, str(seed), *([ways] if ways else [])],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOAD_SECONDS)
        assert r.returncode == 0 and f"acknowledged={count} broken=0" in r.stdout, r.stdout + r.stderr
        return r.stdout

    def came(self, since=0):
        """[(ns, id, sha, recipient)] behind octet `since` of the record."""
        with open(self.came_path, "rb") as f:
            f.seek(since)
            return [(int(w[0]), w[1], w[2], w[3]) for w in (line.decode().split() for line in f)]

    def close(self):
        if self.process:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            self.process = None


class Sent:
    """One acknowledged message."""

    def __init__(self, line):
        at, self.ident, self.sha, self.queue_id, *self.to = line.split()
        self.at = int(at)
        self.way = self.ident.split("-")[0]


def read_sent(path):
    """{id: Sent}"""
    return {s.ident: s for s in map(Sent, pathlib.Path(path).read_text().splitlines())}


def stamp_ns(text):
    """Of a log line's time, which is cut to ms: 2026-11-27T16:26:50.123Z"""
    whole, part = text.rstrip("Z").split(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(part) * 10**6


class Life:
    def __init__(self, disk, folder, extra=""):
        self.disk, self.folder, self.extra = disk, pathlib.Path(folder), extra
        self.books = Books(folder)
        self.certificate = conftest.make_certificate(self.folder / "certs", "mx.crash.test")
        self.daemon = None

    def prepare_folders(self):
        for d in ("spool", "mail", *(f"mail/{u}" for u in USERS)):
            path = self.disk.point / d
            path.mkdir()
            entry = pwd.getpwnam(USER)
            os.chown(path, entry.pw_uid, entry.pw_gid)
            path.chmod(0o700)
        self.disk.point.chmod(0o755)
        subprocess.run(["sync", "-f", self.disk.point], check=True)  # not the disks of the other file systems

    def make_daemon(self):
        return conftest.Postrider(self.folder, self.certificate, config=CONFIG, extra=self.extra, mnt=self.disk.point, sink=self.books.port,
                                  later=self.books.later)

    def record(self, count, sessions, seed, probe):
        """probe is called with the disk mounted, before the life begins."""
        disk = self.disk
        disk.make()
        disk.mount()
        self.prepare_folders()
        probe()
        self.first = disk.position()   # before it there is no spool
        self.daemon = self.make_daemon()
        sent = self.folder / "sent"
        for half in range(2):
            self.daemon.start()
            self.books.send(self.daemon.port, sent, count // 2, sessions, f"h{half}", seed)
            self.settle()
            assert self.daemon.stop() == 0
        self.recycled = self.generations()
        disk.unmount()
        self.entries = disk.entries()
        self.sent, self.came = read_sent(sent), self.books.came()
        self.told, self.report_ids = self.outcomes(self.daemon), self.report_ids_of(self.daemon)

    def queued(self, daemon):
        r = daemon.ctl("status", "--json", check=False)
        return conftest.dump_json(r.stdout)["spool"]["envelopes"] if r.returncode == 0 else None

    def settle(self):
        """Until nothing but the mail for the hop that is down is queued."""
        def stays():
            r = self.daemon.ctl("queue", "list", check=False)
            return r.returncode == 0 and all("later.test" in line for line in r.stdout.splitlines() if "@" in line)
        conftest.wait_for(stays, SETTLE_SECONDS, "the deliveries", step=0.1)

    def generations(self):
        """(files ever made, the highest generation): more generations than files mean that some were used again."""
        files = sorted((self.disk.point / "spool" / "segments").iterdir())
        return int(files[-1].name, 16), max(struct.unpack_from("<Q", f.read_bytes()[:64], GENERATION_AT)[0] for f in files)

    @staticmethod
    def outcomes(daemon, since=0):
        """{(queue id, recipient): ns} of what the log says to be delivered or discarded."""
        found = re.findall(r"^time=(\S+) .* event=(?:delivered|discarded) id=(\w+) .*?\bto=(\S+)", daemon.log(since), re.M)
        return {(queue_id, to): stamp_ns(at) for at, queue_id, to in found}

    @staticmethod
    def report_ids_of(daemon):
        """{queue id: that of its report}"""
        return {of: report for report, of in re.findall(r" event=report_queued id=(\w+) of=(\w+)", daemon.log())}

    def close(self):
        if self.daemon and self.daemon.process:
            self.daemon.kill_all()
        self.books.close()
