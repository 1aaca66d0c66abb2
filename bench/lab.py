"""What `make bench` measures with: servers that start fresh, one at a time, each in a CPU account of its own; the loader; the sink.

A server is started with the same certificate, on a free port of loopback, with its queue on the same file system as the
others'.  Its CPU is that of all its processes, those that have ended included: cgroup v1 cpuacct, else cgroup v2, else the
sums of /proc (then short-lived processes are seen only when their parents have waited for them).
Everything lives in one folder that close() removes; only what was started here is ended.
"""
import contextlib
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
import built  # noqa: E402
from mta import CannotPrepare, PostfixRoot  # noqa: E402

BUILD = pathlib.Path(os.environ.get("POSTRIDER_BUILD", ROOT / "build"))
USER = "nobody"          # started as root, the daemon runs as an ordinary user
START_SECONDS = 60
LOAD_SECONDS = 300       # of one run of the loader beyond its --duration
WARM_UP = ("--sessions", "64", "--concurrency", "16")


def run(*args, check=True, timeout=120, **kw):
    r = subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, **kw)
    if check and r.returncode:
        raise RuntimeError(f"{' '.join(map(str, args))}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r


def descriptors():
    """As many as the hard limit gives, for a process about to be."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, seconds, what, step=0.02):
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(step)
    return value


# ---- CPU and memory of a server ----

class Account:
    """The processes of one server."""

    V1, V2 = pathlib.Path("/sys/fs/cgroup/cpuacct"), pathlib.Path("/sys/fs/cgroup")

    def __init__(self, name):
        self.folder, self.pid = None, None
        for top, file in ((self.V1, "cpuacct.usage"), (self.V2, "cpu.stat")):
            folder = top / f"postrider-bench-{os.getpid()}-{name}"
            with contextlib.suppress(OSError):
                folder.mkdir()
                if (folder / file).exists():
                    self.folder = folder
                    break
                folder.rmdir()

    def __str__(self):
        return "/proc" if not self.folder else "cgroup v1" if (self.folder / "cpuacct.usage").exists() else "cgroup v2"

    def enter(self):
        """Between fork and exec."""
        descriptors()
        if self.folder:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def watch(self, pid):
        self.pid = pid

    def pids(self):
        if self.folder:
            return [int(p) for p in (self.folder / "cgroup.procs").read_text().split()]
        found, grown = {self.pid}, True
        parents = {}
        for p in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(p.parent.name)] = int(p.read_text().rsplit(")", 1)[1].split()[1])
        while grown:
            more = {p for p, parent in parents.items() if parent in found} - found
            found |= more
            grown = bool(more)
        return sorted(found)

    def cpu_us(self):
        if not self.folder:
            ticks = 0
            for pid in self.pids():
                with contextlib.suppress(OSError):
                    ticks += sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
            return ticks * 1e6 / os.sysconf("SC_CLK_TCK")
        with contextlib.suppress(OSError):
            return int((self.folder / "cpuacct.usage").read_text()) / 1e3
        return float(re.search(r"usage_usec (\d+)", (self.folder / "cpu.stat").read_text()).group(1))

    def pss_kib(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError, AttributeError):
                total += int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))
        return total

    def close(self):
        if self.folder:
            with contextlib.suppress(OSError, RuntimeError):
                wait_for(lambda: not self.pids(), 10, "the end of all processes")
                self.folder.rmdir()


# ---- servers ----

class Server:
    """name, port, account; start(mode) with mode discard, relay or idle; stop()."""
    process = account = None

    def launch(self, args, log, wrapper=()):
        self.account = Account(self.name)
        with open(log, "ab") as out:
            self.process = subprocess.Popen([*wrapper, *map(str, args)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                            preexec_fn=self.account.enter)
        self.account.watch(self.process.pid)
        wait_for(self.answers, START_SECONDS, f"{self.name}'s greeting")

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.said()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as s:
            s.settimeout(5)
            greeted = s.recv(512).startswith(b"220")
            s.sendall(b"QUIT\r\n")
            s.recv(512)
            return greeted
        return False

    def said(self):
        return ""


class Postrider(Server):
    name = "postrider"
    CONFIG = '''
hostname = "mx.sink.test"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
certificate "default" {{ chain = "{dir}/chain.pem"  key = "{dir}/key.pem" }}
listener "mx"         {{ address = {{"127.0.0.1:{port}"}}  tls = starttls }}
domain "sink.test"    {{ deliver = "{deliver}"  tls = none }}
relay                 {{ from = {{"127.0.0.0/8"}} }}
{extra}
'''

    def __init__(self, lab):
        self.lab, self.extra, self.keep = lab, "", False
        self.dir = lab.folder / "postrider"

    def start(self, mode, extra="", workers=0):
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir.mkdir()
        self.port = free_port()
        for name in ("chain.pem", "key.pem"):
            shutil.copy(self.lab.folder / name, self.dir / name)
        deliver = f"smtp://127.0.0.1:{self.lab.sink_port}" if mode == "relay" else "discard"
        extra += "" if not workers else f"\nworkers = {workers}\n"
        (self.dir / "postrider.conf").write_text(self.CONFIG.format(dir=self.dir, port=self.port, deliver=deliver, extra=extra))
        self.lab.own(self.dir)
        self.launch([*self.lab.as_user(), BUILD / "postrider", "run", "-c", self.dir / "postrider.conf"], self.dir / "log")
        return self

    def said(self):
        return (self.dir / "log").read_text(errors="replace")[-3000:]

    def ctl(self, *args):
        return run(*self.lab.as_user(), BUILD / "postrider", *args, "-c", self.dir / "postrider.conf").stdout

    def roles(self):
        """Role name to pid."""
        found = {}
        for pid in self.account.pids():
            with contextlib.suppress(OSError):
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[1:2] == [b"role"]:
                    found[words[2].decode()] = pid
                elif words[1:2] == [b"run"]:
                    found["super"] = pid
        return found

    def stop(self):
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.process = None
        self.account.close()


class Postfix(Server):
    """Debian's Postfix, tuned for this measurement as its administrator would: no lookups, no limits a client or a second, no
    chroot, enough processes, logging to a receiver that costs it nothing; durability as it comes."""
    name = "postfix"
    MAIN = """
compatibility_level = 3.6
queue_directory = /var/spool/postfix
data_directory = /var/lib/postfix
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.sink.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
local_recipient_maps =
relay_domains = sink.test
relay_recipient_maps =
relay_transport = {relay}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_tls_security_level = may
smtpd_tls_chain_files = /etc/postfix/both.pem
smtpd_tls_session_cache_database =
smtp_tls_security_level = none
smtp_dns_support_level = disabled
smtp_host_lookup = native
default_process_limit = 100
default_destination_concurrency_limit = 50
initial_destination_concurrency = 20
qmgr_message_active_limit = 50000
qmgr_message_recipient_limit = 50000
in_flow_delay = 0
max_use = 1000
message_size_limit = 52428800
biff = no
"""
    SMTPD = 1100  # processes: one for each connection of the idle measurement

    def __init__(self, lab):
        self.lab, self.root = lab, PostfixRoot(lab.folder / "postfix")
        self.root.prepare()
        queue, inside = lab.folder / "postfix-queue", self.root.root / "var/spool/postfix"
        queue.mkdir()
        run(*self.root._enter("sh", "-c", 'cp -a "$1/." "$2/" && chown --reference="$1" "$2" && chmod --reference="$1" "$2" && mount --bind "$2" "$1"', "queue", inside, queue))
        self.queue = queue
        self.version = run(*self.root.inside("postconf", "-d", "-h", "mail_version"), check=False).stdout.strip()
        self.log = None

    def start(self, mode):
        self.port = free_port()
        etc = self.root.path("/etc/postfix")
        relay = f"smtp:[127.0.0.1]:{self.lab.sink_port}" if mode == "relay" else "discard:"
        (etc / "main.cf").write_text(self.MAIN.format(relay=relay))
        (etc / "both.pem").write_text((self.lab.folder / "key.pem").read_text() + (self.lab.folder / "chain.pem").read_text())
        (etc / "both.pem").chmod(0o600)
        # as upstream ships it, without chroot; only the listener differs
        services = re.sub(r"^(\S+ +(?:inet|unix|fifo|unix-dgram) +\S+ +\S+ +)[y-]( )", r"\1n\2", self.root.path("/usr/share/postfix/master.cf.dist").read_text(), flags=re.M)
        services = re.sub(r"^smtp +inet.*", f"127.0.0.1:{self.port} inet n - n - {self.SMTPD} smtpd", services, flags=re.M)
        (etc / "master.cf").write_text(services)
        for folder in ("active", "incoming", "deferred", "defer", "bounce", "maildrop", "hold", "corrupt", "trace"):
            for entry in (self.queue / folder).glob("*"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (self.queue / "pid" / "master.pid").unlink(missing_ok=True)
        self.log = subprocess.Popen(["nsenter", "-t", str(self.root.inner), "--mount", BUILD / "bench" / "logtake", self.root.root / "dev/log"],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        begin = 'umount -l "$1/proc"; mount -t proc proc "$1/proc" && exec chroot "$1" postfix start-fg'
        # a pid namespace of its own: the end of its first process is the end of them all
        self.launch(["unshare", "--pid", "--fork", "--kill-child=KILL", "nsenter", "-t", self.root.inner, "--mount", "sh", "-c", begin, "begin", self.root.root],
                    self.lab.folder / "postfix.log")
        return self

    def said(self):
        return (self.lab.folder / "postfix.log").read_text(errors="replace")[-3000:]

    def stop(self):
        if not self.process:
            return
        for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.process.wait(15)
        self.log.terminate()
        self.log.wait(10)
        self.process = None
        self.account.close()

    def close(self):
        self.stop()
        self.root.close()


class Floor(Server):
    """The sink itself: no queue, no disk; what the loader, the kernel and the protocol cost alone."""
    name = "floor"

    def __init__(self, lab):
        self.lab = lab

    def start(self, mode):
        self.port = free_port()
        self.launch([BUILD / "bench" / "sink", "--port", self.port, "--cert", self.lab.folder / "chain.pem", "--key", self.lab.folder / "key.pem"],
                    self.lab.folder / "floor.log")
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None
            self.account.close()


class SinkProcess:
    """Where relayed mail goes."""

    def __init__(self, port, *arguments):
        self.args = [str(BUILD / "bench" / "sink"), "--port", str(port), *map(str, arguments)]
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("LISTENING"):
            raise RuntimeError("the sink does not listen")

    def report(self, seconds=LOAD_SECONDS, now=False):
        if now:
            self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            out, _ = self.process.communicate(timeout=20)
        return json.loads(out)


class Held:
    """Sessions that a loader of its own holds open."""

    def __init__(self, port, n, tls="none", *more):
        self.process = subprocess.Popen([BUILD / "bench" / "load", "--port", str(port), "--concurrency", str(n), "--hold", "600", "--tls", tls, "--timeout", "120",
                                         *map(str, more)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.held = int(self.process.stdout.readline().split()[1])

    def close(self):
        self.process.terminate()
        out, _ = self.process.communicate(timeout=120)
        return json.loads(out)


def load(port, *arguments, check=False):
    """The loader's report, with the command that made it."""
    args = [str(BUILD / "bench" / "load"), "--port", str(port), *map(str, arguments)]
    r = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOAD_SECONDS)
    if r.returncode == 2 or not r.stdout or (check and r.returncode):
        raise RuntimeError(f"{' '.join(args)}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    report = json.loads(r.stdout.splitlines()[-1])
    report["command"] = "bench/load --port PORT " + " ".join(map(str, arguments))
    return report


class Lab:
    """The folder, the certificate and the servers."""

    def __init__(self, postfix=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="postrider-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")))
        self.folder.chmod(0o755)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-keyout", self.folder / "key.pem",
            "-out", self.folder / "chain.pem", "-subj", "/CN=mx.sink.test", "-addext", "subjectAltName=DNS:mx.sink.test")
        self.sink_port = free_port()
        self.postrider, self.floor, self.postfix, self.without = Postrider(self), Floor(self), None, None
        if postfix:
            try:
                self.postfix = Postfix(self)
            except CannotPrepare as e:
                self.without = str(e)

    def servers(self):
        return [s for s in (self.postrider, self.postfix, self.floor) if s]

    @staticmethod
    def as_user():
        return ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []

    @staticmethod
    def own(path):
        if os.geteuid() == 0:
            entry = pwd.getpwnam(USER)
            for p in [path, *path.rglob("*")]:
                os.chown(p, entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    def close(self):
        for server in (self.postrider, self.floor):
            server.stop()
        if self.postfix:
            self.postfix.close()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- what was measured, and where ----

def first_line(*args):
    r = run(*args, check=False)
    return (r.stdout or r.stderr).splitlines()[0].strip() if r.stdout or r.stderr else "?"


def bare_crypto():
    """What a signature (ECDSA P-256) and a key exchange (X25519) cost here, microseconds: how this machine compares with another."""
    out = run("openssl", "speed", "-seconds", "1", "ecdsap256", "ecdhx25519", check=False).stdout
    sign = re.search(r"ecdsa \(nistp256\)\s+\S+\s+\S+\s+([\d.]+)", out)
    exchange = re.search(r"ecdh \(X25519\)\s+\S+\s+([\d.]+)", out)
    return {"ecdsa_sign": round(1e6 / float(sign.group(1)), 1), "x25519": round(1e6 / float(exchange.group(1)), 1)} if sign and exchange else {}


def machine(folder):
    cpu = re.search(r"^model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)
    system = re.search(r'^PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text(), re.M)
    return {
        "cpu": cpu.group(1) if cpu else "?", "cores": os.cpu_count(), "memory_gib": round(int(memory.group(1)) / 1048576, 1),
        "system": system.group(1) if system else "?", "kernel": os.uname().release, "openssl": first_line("openssl", "version"),
        "compiler": built.compiler(BUILD), "buildtype": built.option(BUILD, "buildtype"), "file_system": run("stat", "-f", "-c", "%T", folder).stdout.strip(),
        "bare_crypto_us": bare_crypto(),
        "load_before": [round(x, 2) for x in os.getloadavg()],
    }


def commit():
    r = run("git", "-C", ROOT, "rev-parse", "--short=12", "HEAD", check=False)
    dirty = run("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no", check=False).stdout.strip()
    return (r.stdout.strip() or "?") + (" with changes" if dirty else "")
