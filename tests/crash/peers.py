"""Postfix, Exim and OpenSMTPD in the same power cuts: what of their 250s is there afterwards (run --peers).

Each is installed from its Debian package into a root of its own (tests/integration/mta.py), its queue on the recorded disk, and
takes mail to relay while the disk records.  At each point the cut disk is mounted as its queue again, the program started, and
what reaches the next hop is compared with what was acknowledged.  Configurations are as near to the packages' as can be: what syncs is
what they sync.  These are counts, not tests: nothing fails when a peer loses a message.
"""
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import conftest  # noqa: E402
import mta  # noqa: E402
from disk import MountFailed  # noqa: E402
from life import Books, read_sent  # noqa: E402

INSTALL_SECONDS = 300   # of lists and package
START_SECONDS = 30
QUIET_SECONDS = 6       # nothing new for so long: what has not come does not come (their retries are set to a second or two)
DRAIN_SECONDS = 40

POSTFIX = """
compatibility_level = 3.6
maillog_file = /dev/stdout
queue_directory = /var/spool/postfix
data_directory = /var/lib/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
smtp_host_lookup = native
smtp_dns_support_level = disabled
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
minimal_backoff_time = 2s
queue_run_delay = 2s
in_flow_delay = 0
local_header_rewrite_clients =
"""

EXIM = """
primary_hostname = peer.test
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
tls_advertise_hosts =
acl_smtp_rcpt = rcpt
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
never_users = root
deliver_queue_load_max = 1000
queue_only_load = 1000
smtp_accept_queue_per_connection = 0
begin acl
rcpt:
  accept
begin routers
out:
  driver = manualroute
  domains = *
  transport = out
  route_list = * 127.0.0.1
  self = send
begin transports
out:
  driver = smtp
  port = {sink}
  hosts_avoid_tls = *
  hosts_try_dane =
begin retry
* * F,2h,2s
"""

OPENSMTPD = """
mta limit max-conn-per-host 50
mta limit max-conn-per-relay 50
mta limit max-conn-per-domain 50
listen on 127.0.0.1 port {port} hostname peer.test
action "out" relay host "smtp://127.0.0.1:{sink}"
match from any for any action "out"
"""


class Peer:
    def __init__(self, name, package, spool, files, command):
        self.name, self.package, self.spool, self.files, self.command = name, package, spool, files, command


PEERS = [
    Peer("Postfix", "postfix", "/var/spool/postfix", {"/etc/postfix/main.cf": POSTFIX, "/etc/postfix/master.cf": mta.MASTER}, "postfix start-fg"),
    Peer("Exim", "exim4-daemon-light", "/var/spool/exim4", {"/etc/exim4/exim4.conf": EXIM}, "/usr/sbin/exim4 -bdf -q2s"),
    Peer("OpenSMTPD", "opensmtpd", "/var/spool/smtpd", {"/etc/smtpd.conf": OPENSMTPD}, "/usr/sbin/smtpd -F"),
]


class Root(mta.PostfixRoot):
    """The root of one peer, and one running instance at a time."""

    def __init__(self, folder, peer):
        super().__init__(folder)
        self.peer, self.process = peer, None

    def close(self):
        if self.process:
            self.stop_peer()
        super().close()

    def _install(self):
        install = self.inside("apt-get", "-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Options::=--force-confnew", "install", "-y", "-qq",
                              "--no-install-recommends", self.peer.package)
        if not self._run(install, INSTALL_SECONDS):
            if not self._run(self.inside("apt-get", "update", "-qq"), INSTALL_SECONDS) or not self._run(install, INSTALL_SECONDS):
                raise mta.CannotPrepare(f"apt-get install {self.peer.package}: " + self.said())

    def shell(self, script, *args):
        r = subprocess.run(self._enter("sh", "-ec", script, "sh", *args), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        if r.returncode != 0:
            raise OSError(r.stderr.strip())
        return r.stdout

    def configure(self, port, sink):
        self.port = port
        for path, text in self.peer.files.items():
            target = self.path(path)
            target.write_text(text.format(port=port, sink=sink))
            target.chmod(0o644)
        self.shell('umask 022; printf "127.0.0.1 localhost peer.test\\n" > "$1/etc/hosts"; cp "$1/etc/hosts" "$1/etc/hosts.keep"', self.root)

    def start_peer(self):
        self.log_file = open(self.folder / "peer.log", "ab")
        begin = 'umount -l "$1/proc"; mount -t proc proc "$1/proc" && exec chroot "$1" sh -c "mkdir -p /run; rm -f /run/smtpd.sock; exec $2"'
        self.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child=KILL", "nsenter", "-t", str(self.inner), "--mount",
                                        "sh", "-c", begin, "begin", str(self.root), self.peer.command],
                                        stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=self.log_file, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                talk = conftest.Talk(self.port)
                talk.close()
                return
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop_peer()
                raise OSError(f"{self.peer.name} does not start: " + (self.folder / "peer.log").read_text(errors="replace")[-400:])
            time.sleep(0.1)

    def stop_peer(self):
        """As a power cut is to them: the first process of their namespace takes all along."""
        with contextlib.suppress(OSError, ProcessLookupError):
            for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None
        self.log_file.close()

    # ---- the queue on the recorded disk ----

    def mount_queue(self, disk):
        self.shell('mount -t "$1" ${3:+-o "$3"} "$2" "$4"', disk.system, disk.device, disk.options, self.root / self.peer.spool.lstrip("/"))

    def unmount_queue(self, disk):
        for attempt in range(50):
            try:
                self.shell('umount "$1"', self.root / self.peer.spool.lstrip("/"))
                break
            except OSError:
                if attempt == 49:
                    raise
                time.sleep(0.1)
        disk.flush()

    def first_queue(self, disk):
        """The queue's folders as the package made them, moved to the disk."""
        there = self.root / self.peer.spool.lstrip("/")
        self.shell('mkdir -p -m 711 "$1"; cp -a "$1" "$1.keep"', there)
        self.mount_queue(disk)
        self.shell('cp -a "$1.keep/." "$1/"; chmod --reference="$1.keep" "$1"; chown --reference="$1.keep" "$1"; sync', there)


def one_peer(peer, disk, folder, count, points, sessions, seed):
    """{what: count} of one peer on one disk."""
    books, root = Books(folder), Root(folder / "root", peer)
    rng, out = random.Random(seed), {"points": 0, "judged": 0, "lost": 0, "cuts with a loss": 0, "altered": 0, "twice": 0, "unmountable": 0, "not started": 0}
    try:
        root.prepare()
        root.configure(conftest.free_port(), books.port)
        disk.make()
        root.first_queue(disk)
        begin = disk.position()
        root.start_peer()
        books.send(root.port, folder / "sent", count, sessions, "p", seed, "relay")
        quiet(books, 0)
        root.stop_peer()
        end = disk.position()
        root.unmount_queue(disk)
        entries, sent, came = disk.entries()[:end], read_sent(folder / "sent"), books.came()
        out["messages"], out["flushes"] = len(sent), sum(e[0] == "F" for e in entries[begin:])
        first = {}
        for at, ident, _, _ in came:
            first.setdefault(ident, at)
        for n, keep in choose(entries, begin, points, rng):
            now = entries[n][1] if n < len(entries) else entries[-1][1] + 1
            disk.cut(n, keep, rng.randrange(1, 1 << 30))
            out["points"] += 1
            arrived = again(root, disk, books, out, {s.ident for s in sent.values() if s.at <= now and first.get(s.ident, now + 1) > now})
            if arrived is None:
                continue
            lost = 0
            for s in sent.values():
                if s.at <= now:
                    before = first.get(s.ident, now + 1) <= now
                    out["judged"] += 1
                    lost += not before and s.ident not in arrived
                    out["twice"] += before and s.ident in arrived
                    out["altered"] += arrived.get(s.ident, s.sha) != s.sha
            out["lost"] += lost
            out["cuts with a loss"] += lost > 0
    finally:
        root.close()
        books.close()
    return out


def choose(entries, begin, count, rng):
    """As points.choose: at flushes and beside them."""
    flushes = [i for i, e in enumerate(entries) if e[0] == "F" and i > begin]
    out = []
    for k in range(count):
        i = flushes[min(len(flushes) - 1, rng.randrange(len(flushes) * k // count, max(len(flushes) * k // count + 1, len(flushes) * (k + 1) // count)))]
        out.append((i + rng.choice((0, 1, 2)), rng.choice(("none", "all", "some", "torn"))))
    return sorted(out)


def quiet(books, since, wanted=None):
    """Until all that is wanted has come, or nothing does any more."""
    end, last, size = time.monotonic() + DRAIN_SECONDS, time.monotonic(), -1
    while time.monotonic() < end and time.monotonic() - last < QUIET_SECONDS:
        now = books.came_path.stat().st_size
        if now != size:
            last, size = time.monotonic(), now
        if wanted is not None and not wanted - {c[1] for c in books.came(since)}:
            return
        time.sleep(0.1)


def again(root, disk, books, out, wanted):
    """The peer on the disk as the cut left it: {id: sha} that came; None when it could not be asked."""
    try:
        root.mount_queue(disk)
    except (OSError, MountFailed):
        out["unmountable"] += 1
        return None
    since = books.came_path.stat().st_size
    try:
        root.start_peer()
        quiet(books, since, wanted)
        root.stop_peer()
    except OSError:
        out["not started"] += 1
        return {}
    finally:
        root.unmount_queue(disk)
    return {ident: sha for _, ident, sha, _ in books.came(since)}
