"""What the soak runs: Postfix in a root of its own, Postrider A on a small file system, Postrider B, Dovecot, a flaky next hop.

All on loopback, in one folder, ended by pid; the file system is a tmpfs mounted there and unmounted at the end.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
sys.path.insert(0, str(HERE))

import conftest                                             # noqa: E402
import mta                                                  # noqa: E402
from conftest import Postrider, free_port, make_certificate  # noqa: E402

SPOOL_MIB = 420          # of A: six segments, and room that a ballast file can take
LEFT_KIB = 2048          # what a ballast file leaves
ROLES = ("receive", "queue", "send", "resolve", "local", "keys", "policy")

COMMON = '''
hostname = "{hostname}"
spool    = "{spool}"
control  = "{dir}/control.sock"
trust    = "{ca}"
certificate "default" {{ chain = "{chain}"  key = "{key}" }}
listener "mx" {{ address = {{"127.0.0.1:{port}"}}  command_timeout = {timeout}s }}
relay {{ from = {{"127.0.0.0/8"}} }}
retry_min = "1s"
retry_max = "2s"
delay_warning = "0s"
'''
DOMAINS_A = "".join(f'domain "{d}" {{{{ deliver = "smtp://127.0.0.1:{{next}}"  tls = verify }}}}\n' for d in ("dovecot.test", "flaky.test", "box.test", "src.test"))
DOMAINS_B = '''
domain "dovecot.test" {{ deliver = "lmtp:{dir}/lmtp" }}
domain "flaky.test"   {{ deliver = "smtp://127.0.0.1:{flaky}"  tls = may }}
domain "box.test"     {{ deliver = "maildir:{dir}/mail/%{{user}}" }}
domain "src.test"     {{ deliver = "smtp://127.0.0.1:{calm}"  tls = none }}
'''

DOVECOT = '''
base_dir = {dir}/run
log_path = {dir}/dovecot.log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = maildir:{dir}/Maildir
mail_uid = nobody
mail_gid = nogroup
postmaster_address = postmaster@dovecot.test
auth_mechanisms = plain
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={dir} allow_all_users=yes
}}
service lmtp {{
  process_min_avail = 2
  unix_listener {socket} {{
    mode = 0666
  }}
}}
service stats {{
  process_limit = 1
}}
'''


def relaxed(condition, seconds, step=0.1):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True


class Daemon(Postrider):
    """A Postrider that the soak kills, reloads and gives new certificates."""

    def __init__(self, world, name, domains, spool=None, **more):
        self.name, self.generation, self.issued, self.world = name, 0, 0, world
        first = make_certificate(world.folder / "certs", f"{name}-0", names=["127.0.0.1", f"{name}.test"], ca=world.ca)
        super().__init__(world.folder, first, config=COMMON + domains, hostname=f"{name}.test", spool="{dir}/spool", ca=world.ca.chain, timeout=300, **more)
        self.spool = spool or self.dir / "spool"
        self.text = COMMON + domains
        self.write_config(self.text, spool=self.spool)

    def renew(self):
        """Another certificate of the same issuer, then SIGHUP."""
        self.issued += 1
        new = make_certificate(self.world.folder / "certs", f"{self.name}-{self.issued}", names=["127.0.0.1", f"{self.name}.test"], ca=self.world.ca)
        for part, path in (("chain", new.chain), ("key", new.key)):
            fresh = self.dir / f"{part}.new"
            shutil.copy(path, fresh)
            if self.user:
                conftest.own(fresh, self.user)
            os.rename(fresh, self.dir / f"{part}.pem")
        self.reload()

    def reload(self):
        self.generation += 1
        self.write_config(self.text + f'domain "added{self.generation}.test" {{{{ deliver = "discard" }}}}\n', timeout=290 + self.generation % 10)
        self.process.send_signal(signal.SIGHUP)

    def current(self):
        """Role to pid, newest generation; by the log's role_started lines, of which there are few."""
        out = {}
        with open(self.log_path, errors="replace") as log:
            for line in log:
                if "event=role_started" in line:
                    m = re.search(r"role_name=(\w+) pid=(\d+)", line)
                    out[m.group(1)] = int(m.group(2))
        return {role: pid for role, pid in out.items() if conftest.alive(pid)}

    def restart(self):
        """As a crash of the machine would be to it, then a start."""
        pids = [self.process.pid, *(int(p) for p in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        assert relaxed(lambda: not any(conftest.alive(p) for p in pids), 10), "killed processes live on"
        self.log_file.close()
        self.start()

    def queued(self):
        r = self.ctl("status", "--json", check=False)
        return conftest.json.loads(r.stdout)["spool"]["envelopes"] if r.returncode == 0 else None


class Dovecot:
    """LMTP into one Maildir, whoever the recipient is: Delivered-To says it."""

    def __init__(self, folder, socket):
        self.dir, self.socket = folder / "dovecot", socket
        self.dir.mkdir()
        self.dir.chmod(0o755)
        (self.dir / "Maildir").mkdir()
        conftest.own(self.dir / "Maildir", "nobody")
        conf = self.dir / "dovecot.conf"
        conf.write_text(DOVECOT.format(dir=self.dir, socket=socket))
        self.process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(conf)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        assert relaxed(lambda: socket.exists() or self.process.poll() is not None, 20) and socket.exists(), (self.dir / "dovecot.log").read_text(errors="replace")[-1500:]

    def messages(self):
        for box in ("new", "cur"):
            for path in (self.dir / "Maildir" / box).glob("*"):
                yield path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


class World:
    def __init__(self, folder, postfix):
        self.folder, self.processes, self.mounted, self.postfix, self.root = folder, [], None, None, None
        self.ca = make_certificate(folder / "certs", "ca")
        self.flaky_port, self.calm_port = free_port(), free_port()
        self.records = {name: folder / f"{name}.came" for name in ("flaky", "calm")}
        self.spawn("flaky.py", "--port", self.flaky_port, "--record", self.records["flaky"], "--chain", self.ca.chain, "--key", self.ca.key)
        self.spawn("flaky.py", "--port", self.calm_port, "--record", self.records["calm"], "--calm")
        self.b = Daemon(self, "b", DOMAINS_B, flaky=self.flaky_port, calm=self.calm_port)
        self.box = self.b.mailbox("alice")
        self.dovecot = Dovecot(folder, self.b.dir / "lmtp")
        self.disk = folder / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SPOOL_MIB}m,mode=755", "soak", str(self.disk)], check=True)
        self.mounted = self.disk
        (self.disk / "spool").mkdir()
        conftest.own(self.disk, "nobody")
        self.a = Daemon(self, "a", DOMAINS_A, spool=self.disk / "spool", next=self.b.port)
        self.b.start()
        self.a.start()
        if postfix:
            self.root = mta.PostfixRoot(folder / "postfix")
            self.root.prepare()
            self.postfix = self.root.start(free_port(), self.ca, {
                "relayhost": f"[127.0.0.1]:{self.a.port}", "smtp_tls_security_level": "encrypt", "local_header_rewrite_clients": "", "maximal_backoff_time": "4s",
                "smtpd_client_connection_count_limit": "0", "virtual_mailbox_domains": "", "smtp_destination_concurrency_limit": "10"})

    def spawn(self, program, *args):
        p = subprocess.Popen([sys.executable, str(HERE / program), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.processes.append(p)
        if program == "flaky.py":
            assert p.stdout.readline().startswith("ready"), program
        return p

    def fill_disk(self):
        s = os.statvfs(self.disk)
        ballast = self.disk / "ballast"
        n = s.f_bavail * s.f_frsize - LEFT_KIB * 1024
        with open(ballast, "wb") as f:
            while n > 0:
                try:
                    os.posix_fallocate(f.fileno(), 0, n)
                    break
                except OSError:   # mail took some of it meanwhile
                    n -= 1 << 20
        return ballast

    def postfix_queued(self):
        if not self.postfix:
            return 0
        r = subprocess.run(self.root.inside("postqueue", "-p"), capture_output=True, text=True, timeout=60)
        return 0 if "empty" in r.stdout else max(1, len(re.findall(r"^[0-9A-F]{6,}", r.stdout, re.M)))

    def close(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait(10)
            p.stdout.close()
        for d in (getattr(self, "a", None), getattr(self, "b", None)):
            if d and d.process and d.process.poll() is None:
                with contextlib.suppress(BaseException):
                    d.stop(20)
        if getattr(self, "dovecot", None):
            self.dovecot.close()
        if self.root:
            self.root.close()
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.mounted)], check=False)
