"""A real Postfix, in a root of its own: the host's mail system is neither touched nor needed.

Use: m = PostfixRoot(); m.prepare(); p = m.start(port, certificate, {setting: value}); m.close()
The root is an overlay over the host's "/" whose changes live in a tmpfs of a private mount namespace; apt-get installs
the package into it.  Where overlayfs is missing, debootstrap makes the root instead.  Both the tmpfs and whatever runs
vanish with the namespace's first process, which is ended by its pid.  Needs root, unshare and the package manager's network;
what is missing is said by CannotPrepare.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

INSTALL_SECONDS = 90     # lists and package; a slow mirror is no failure of ours
DEBOOTSTRAP_SECONDS = 240
START_SECONDS = 15

HOLD = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=1200m tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
if [ "$2" = overlay ]; then
	mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
fi
echo mounted
exec sleep infinity
"""

# in the root: devices, names, no service starts
FURNISH = r"""
set -e
r="$1"
mkdir -p "$r/proc" "$r/dev" "$r/tmp" "$r/usr/sbin" "$r/etc"
mount -t proc proc "$r/proc"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
mkdir "$r/dev/shm" "$r/dev/pts"
for d in null zero full random urandom tty; do : > "$r/dev/$d"; mount --bind "/dev/$d" "$r/dev/$d"; done
ln -s /proc/self/fd "$r/dev/fd"; ln -s fd/1 "$r/dev/stdout"; ln -s fd/2 "$r/dev/stderr"
rm -f "$r/etc/resolv.conf" "$r/etc/hosts"
cat /etc/resolv.conf > "$r/etc/resolv.conf" || true
cat /etc/hosts > "$r/etc/hosts" || true
rm -f "$r/usr/sbin/policy-rc.d" "$r/var/lib/man-db/auto-update"  # no index of manuals is made
printf '#!/bin/sh\nexit 101\n' > "$r/usr/sbin/policy-rc.d"
chmod 755 "$r/usr/sbin/policy-rc.d"
"""

MAIN = """
compatibility_level = 3.6
maillog_file = /dev/stdout
queue_directory = /var/spool/postfix
data_directory = /var/lib/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = mta.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtp_host_lookup = native
smtp_dns_support_level = disabled
virtual_mailbox_domains = mta.test
virtual_mailbox_base = /var/mailboxes
virtual_mailbox_maps = texthash:/etc/postfix/boxes
virtual_minimum_uid = 100
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_chain_files = /etc/postfix/both.pem
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtp_tls_loglevel = 1
smtpd_relay_restrictions = permit_mynetworks, reject
minimal_backoff_time = 2s
queue_run_delay = 2s
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
local     unix  - n n - - local
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


USERS = ("alice", "bob", "carol", "dave")   # who has a mailbox there


class CannotPrepare(Exception):
    """This machine does not let us make a root; the text says why."""


class PostfixRoot:
    packages = ("postfix",)
    suite = None   # another Debian than this machine's: never an overlay over it

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.holder = self.running = None
        self.log = self.folder / "install.log"

    def prepare(self):
        if os.geteuid() != 0:
            raise CannotPrepare("a root of its own for a mail system needs root")
        for tool in ("unshare", "nsenter", "chroot", "apt-get", "mount"):
            if not shutil.which(tool):
                raise CannotPrepare(f"no {tool}")
        self.folder.mkdir(parents=True, exist_ok=True)
        why = []
        for way in ("debootstrap",) if self.suite else ("overlay", "debootstrap"):
            try:
                self._hold(way)
                getattr(self, "_make_" + way)()
                return
            except CannotPrepare as e:
                why.append(f"{way}: {e}")
                self.close()
        raise CannotPrepare("; ".join(why))

    def _hold(self, way):
        mount = self.folder / "mount"
        mount.mkdir(exist_ok=True)
        self.holder = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", HOLD, "hold", str(mount), way],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.holder.stdout.readline()
        if line != "mounted\n":
            raise CannotPrepare(self.holder.stderr.read().strip() or "no private mount namespace")
        children = pathlib.Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        self.inner = int(children[0])
        self.root = mount / "root"

    def _enter(self, *args):
        return ["nsenter", "-t", str(self.inner), "--mount", "--pid", *[str(a) for a in args]]

    def inside(self, *args):
        return self._enter("chroot", self.root, *args)

    def _run(self, args, seconds):
        with open(self.log, "ab") as log:
            p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C"))
            try:
                return p.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                raise CannotPrepare(f"{args[-1]}: not within {seconds} s")

    def _furnish(self):
        if not self._run(self._enter("sh", "-c", FURNISH, "furnish", self.root), 20):
            raise CannotPrepare("the root cannot be furnished: " + self.said())

    def said(self):
        return self.log.read_text(errors="replace")[-600:]

    def _install(self):
        install = self.inside("apt-get", "-o", "Dpkg::Options::=--force-unsafe-io", "install", "-y", "-qq", "--no-install-recommends", *self.packages)
        end = time.monotonic() + INSTALL_SECONDS
        if not self._run(install, INSTALL_SECONDS):
            if not self._run(self.inside("apt-get", "update", "-qq"), max(1, end - time.monotonic())) or not self._run(install, max(1, end - time.monotonic())):
                raise CannotPrepare(f"apt-get install {' '.join(self.packages)}: " + self.said())

    def _make_overlay(self):
        self._furnish()
        self._install()

    def _make_debootstrap(self):
        if not shutil.which("debootstrap"):
            raise CannotPrepare("no debootstrap")
        text = "".join(f.read_text(errors="replace") for f in [*pathlib.Path("/etc/apt/sources.list.d").glob("*"), pathlib.Path("/etc/apt/sources.list")] if f.is_file())
        uris = [a or b for a, b in re.findall(r"^URIs:\s*(\S+)|^deb\s+(?:\[[^]]*\]\s+)?(\S+)", text, re.M)]
        uri = next((u for u in uris if u.rstrip("/").endswith("/debian")), uris[0] if uris else None)   # others list what Debian has not
        suite = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)
        suite = self.suite or (suite and suite.group(1))
        if not uri or not suite:
            raise CannotPrepare("which Debian mirror this machine uses is not known")
        if not self._run(self._enter("debootstrap", "--variant=minbase", suite, self.root, uri), DEBOOTSTRAP_SECONDS):
            raise CannotPrepare(self.said())
        self._furnish()
        self._install()

    def path(self, inside):
        """A path within the root, as the host can read it."""
        return pathlib.Path(f"/proc/{self.inner}/root{self.root}/{inside.lstrip('/')}")

    def start(self, port, certificate, settings=None):
        """One at a time: they share the root's queue."""
        self.end()
        self.running = Postfix(self, port, certificate, settings or {})
        return self.running

    def end(self):
        if self.running:
            self.running.close()
            self.running = None

    def close(self):
        self.end()
        if self.holder:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.holder.pid, signal.SIGKILL)
            self.holder.wait(10)
            self.holder.stdout.close()
            self.holder.stderr.close()
            self.holder = None


class Postfix:
    """One running instance; its log is what `maillog_file = /dev/stdout` gives."""

    def __init__(self, root, port, certificate, settings):
        self.root, self.port, self.settings, self.begin = root, port, settings, 0
        etc = root.path("/etc/postfix")
        text = MAIN + "".join(f"{k} = {v}\n" for k, v in settings.items())
        (etc / "main.cf").write_text(text)
        (etc / "master.cf").write_text(MASTER.format(port=port))
        (etc / "boxes").write_text("".join(f"{user}@mta.test {user}/\n" for user in USERS))
        both = etc / "both.pem"
        both.write_text(pathlib.Path(certificate.key).read_text() + pathlib.Path(certificate.chain).read_text())
        both.chmod(0o600)
        (etc / "ca.pem").write_text(pathlib.Path(certificate.ca).read_text())
        boxes = root.path("/var/mailboxes")
        boxes.mkdir(exist_ok=True)
        os.chown(boxes, 65534, 65534)
        self.log_path = root.folder / f"postfix-{port}.log"
        self.log_file = open(self.log_path, "wb")
        # a pid namespace of its own: the end of its first process is the end of them all
        begin = 'umount -l "$1/proc"; mount -t proc proc "$1/proc" && exec chroot "$1" postfix start-fg'
        self.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child=KILL", "nsenter", "-t", str(root.inner), "--mount",
                                        "sh", "-c", begin, "begin", str(root.root)],
                                        stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=self.log_file, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while "daemon started" not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError("Postfix does not start:\n" + self.text())
            time.sleep(0.05)

    def text(self):
        return self.log_path.read_bytes()[self.begin:].decode(errors="replace")

    def fresh(self):
        """For the next test: what was said and delivered so far is of no interest."""
        self.begin = self.log_path.stat().st_size
        for user in USERS:
            new = self.mailbox(user) / "new"
            for f in new.iterdir() if new.exists() else ():
                f.unlink()
        return self

    def mailbox(self, user):
        return self.root.path(f"/var/mailboxes/{user}")

    def close(self):
        """Its mail is durable as ours is: no need to be polite.  The first process of the namespace takes all others along."""
        with contextlib.suppress(OSError, ProcessLookupError):
            for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        if not self.log_file.closed:
            self.log_file.close()
