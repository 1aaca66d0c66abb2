"""Fixtures: a real Postrider in a folder of its own, certificates, sinks; everything on loopback, ended by pid.

Started as root, the tests run the daemon as an ordinary user (nobody), so that no system user is needed; what is about
root is in test_root.py.
"""
import contextlib
import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("POSTRIDER", str(ROOT / "build" / "postrider"))
USER = "nobody"
# an ordinary user's PATH lacks what lies in sbin: unbound, and useradd, chroot, debootstrap
os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


# Tests run in several processes at once (pytest -n): each draws its ports from a range of its own, below those that the
# kernel gives to outgoing connections, so that no port is taken between being found free and being bound.
WORKER = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
PORTS = range(10000 + WORKER % 7 * 3000, 10000 + WORKER % 7 * 3000 + 3000)
next_port = random.randrange(len(PORTS))


def free_port(address="127.0.0.1"):
    global next_port
    for _ in PORTS:
        next_port += 1
        port = PORTS[next_port % len(PORTS)]
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind((address, port))
            return port
    pytest.fail("no free port")


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures the machine, so nothing else may run beside it (tests/run obeys)")


# What takes longest begins first, so that no process still works when the others have nothing left: modules that stay
# together (below), then single tests.
LONGEST = ["test_policy", "test_keys", "test_mta", "test_probe_client", "test_probe", "test_tlsrpt", "test_owed",
           "test_kill_9_of_every_process_at_random_instants", "test_a_long_operation_says_that_it_goes_on",
           "test_every_message_is_acknowledged_and_arrives_once", "test_postriders_own_send_passes_all", "test_curl",
           "test_renewals_under_load_lose_no_session_and_no_message", "test_a_broken_new_pair_is_refused_and_the_old_one_kept",
           "test_dns_failure_defers"]


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks
def pytest_collection_modifyitems(items):
    """What shares a costly fixture of a module stays in one process; all other tests go wherever there is room."""
    def rank(item):
        together = any(d[0].scope == "module" for d in item._fixtureinfo.name2fixturedefs.values() if d)
        if together:
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))
        name = item.module.__name__ if together else item.originalname
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)


def wait_for(condition, seconds=10, what="condition", step=0.02):
    """Polls until condition() is true; returns its value; fails the test after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(step)


def alive(pid):
    """A zombie is not; a process may vanish while it is looked at."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def pytest_assertrepr_compare(op, left, right):
    """Messages are long: pytest would search for their difference for hours."""
    texts = [repr(side) for side in (left, right)]
    if max(map(len, texts)) > 20000:
        at = next((i for i, (a, b) in enumerate(zip(*texts)) if a != b), min(map(len, texts)))
        return [f"long texts, {op}: {len(texts[0])} and {len(texts[1])} characters, the first difference at {at}",
                *(text[max(0, at - 200):at + 200] for text in texts)]
    return None


@pytest.fixture(scope="session")
def folder():
    """A folder that an ordinary user can reach, removed at the end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="postrider-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Certificate:
    def __init__(self, chain, key, ca=None):
        self.chain, self.key, self.ca = str(chain), str(key), str(ca or chain)


def make_certificate(folder, name, kind="ec", names=None, ca=None, days=30):
    """A certificate for the DNS names (self-signed, or signed by ca)."""
    folder.mkdir(parents=True, exist_ok=True)
    key, cert, csr = folder / f"{name}.key", folder / f"{name}.pem", folder / f"{name}.csr"
    alt = "subjectAltName=" + ",".join(("IP:" if re.match(r"[\d.]+$", n) else "DNS:") + n for n in (names or [name]))
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["-newkey", "rsa:" + (kind[3:] or "2048")]
    if ca is None:
        run("openssl", "req", "-x509", *new, "-nodes", "-keyout", key, "-out", cert, "-days", days, "-subj", f"/CN={name}", "-addext", alt)
    else:
        run("openssl", "req", *new, "-nodes", "-keyout", key, "-out", csr, "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text(alt + "\n")
        run("openssl", "x509", "-req", "-in", csr, "-CA", ca.chain, "-CAkey", ca.key, "-CAcreateserial", "-days", days, "-out", cert,
            "-extfile", folder / f"{name}.ext")
    return Certificate(cert, key, ca.chain if ca else cert)


def run(*args, input=None, timeout=60, check=True, env=None):
    r = subprocess.run([str(a) for a in args], input=input, capture_output=True, text=True, timeout=timeout, errors="replace", env=env,
                       **({} if input is not None else {"stdin": subprocess.DEVNULL}))
    if check and r.returncode != 0:
        pytest.fail(f"{' '.join(str(a) for a in args)}: exit {r.returncode}\n{r.stdout}\n{r.stderr}")
    return r


@pytest.fixture(scope="session")
def certificate(folder):
    return make_certificate(folder / "certs", "mx.sink.test")


class Postrider:
    """One running daemon.  config: the text of its configuration, with {dir}, {port}, {chain}, {key} filled in."""

    CONFIG = '''
hostname = "{hostname}"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
{dane}
certificate "default" {{ chain = "{chain}"  key = "{key}" }}
listener "mx"         {{ address = {{"127.0.0.1:{port}"}}  tls = starttls {listener} }}
domain "sink.test"    {{ deliver = "discard" }}
domain "local.test"   {{ deliver = "maildir:{dir}/mail/%{{user}}" }}
relay                 {{ from = {{{relay_from}}} }}
{extra}
'''

    def __init__(self, folder, certificate, config=None, hostname="mx.sink.test", listener="", extra="", relay_from='"127.0.0.0/8"', user=USER,
                 arguments=(), env=None, wrapper=(), web=False, **more):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        self.dir.chmod(0o755)
        self.port = free_port()
        self.web = free_port() if web else None  # of a role `web`, which is there only when asked for
        if web:
            extra += (f'web "pages" {{ address = {{"127.0.0.1:{self.web}"}} }}\n'
                      'sts_policy "sink.test" { mode = enforce mx = {"mx.sink.test"} }\n')
        self.user = user if os.geteuid() == 0 else None
        self.arguments, self.env = list(arguments), dict(os.environ, **(env or {}))
        self.wrapper = list(wrapper)  # a command that starts it in its own place, such as strace -D
        self.process = None
        self.log_path = self.dir / "log"
        for part in ("chain", "key"):
            shutil.copy(getattr(certificate, part), self.dir / f"{part}.pem")
        (self.dir / "mail").mkdir()
        self.values = dict(dir=self.dir, port=self.port, chain=self.dir / "chain.pem", key=self.dir / "key.pem", hostname=hostname,
                           listener=listener, extra=extra, relay_from=relay_from, **more)
        # the DNS servers of most tests sign nothing, and the anchor of the real root would make each start wait for them
        self.values.setdefault("dane", "" if "trust_anchor" in extra else "dane = false")
        self.config_path = self.dir / "postrider.conf"
        self.write_config(config or self.CONFIG)
        if self.user:
            own(self.dir, self.user)

    def write_config(self, text, **more):
        self.values.update(more)
        self.config_path.write_text(text.format(**self.values))

    def mailbox(self, user):
        path = self.dir / "mail" / user
        path.mkdir(exist_ok=True)
        if self.user:
            own(path, self.user)
        return Mailbox(path)

    def command(self, *args, wrapper=()):
        prefix = ["setpriv", f"--reuid={self.user}", "--regid=nogroup", "--clear-groups"] if self.user else []
        return [*prefix, *wrapper, BINARY, *args]

    def start(self, ready=True):
        self.log_file = open(self.log_path, "ab")
        self.mark = self.log_file.tell()
        self.process = subprocess.Popen(self.command("run", "-c", str(self.config_path), *self.arguments, wrapper=self.wrapper), stdin=subprocess.DEVNULL,
                                        stdout=self.log_file, stderr=self.log_file, env=self.env, start_new_session=True)
        if ready:
            wait_for(lambda: "event=ready" in self.log(self.mark) or self.process.poll() is not None, 60, "event=ready")
            if self.process.poll() is not None:
                pytest.fail(f"it ended with {self.process.returncode}:\n{self.log()}")
        return self

    def log(self, since=0):
        data = self.log_path.read_bytes()[since:]
        return data.decode(errors="replace")

    def events(self, name, **fields):
        """Log lines of one event, as dictionaries, with these values."""
        found = []
        for line in self.log().splitlines():
            pairs = dict(m.groups() for m in re.finditer(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line))
            pairs = {k: v[1:-1] if v.startswith('"') else v for k, v in pairs.items()}
            if pairs.get("event") == name and all(pairs.get(k) == str(v) for k, v in fields.items()):
                found.append(pairs)
        return found

    def wait_event(self, name, seconds=10, count=1, **fields):
        return wait_for(lambda: len(self.events(name, **fields)) >= count and self.events(name, **fields), seconds, f"event={name} {fields}\n{self.log()[-3000:]}")

    def pids(self):
        """Role name to pid, of those that run now."""
        out = {}
        for e in self.events("role_started"):
            pid = int(e["pid"])
            with contextlib.suppress(OSError):
                cmdline = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if cmdline[1:2] == [b"role"]:
                    out[e["role_name"]] = pid
        return out

    def kill_all(self):
        """SIGKILL to super and every role at once, as a crash of the machine would be to them."""
        pids = [self.process.pid, *self.pids().values()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        wait_for(lambda: not any(alive(p) for p in pids), 5, "the end of killed processes")

    def stop(self, seconds=12):
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)
            pytest.fail(f"it did not stop:\n{self.log()[-3000:]}")
        self.log_file.close()
        self.process = None
        return status

    def ctl(self, *args, check=True):
        """`postrider queue|status ...` against this daemon."""
        return run(*self.command(*args, "-c", str(self.config_path)), check=check)


class Mailbox:
    def __init__(self, path):
        self.path = path

    def messages(self):
        """What lies in new/ now; a file that is taken back between the list and the read (the folder's sync failed) is not in it."""
        found, new = [], self.path / "new"
        for p in sorted(new.iterdir()) if new.exists() else []:
            with contextlib.suppress(FileNotFoundError):
                found.append(p.read_bytes())
        return found

    def wait(self, count=1, seconds=10):
        wait_for(lambda: len(self.messages()) >= count, seconds, f"{count} messages in {self.path}")
        return self.messages()


def own(path, user):
    entry = pwd.getpwnam(user)
    for p in [path, *path.rglob("*")]:
        os.chown(p, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


@pytest.fixture
def postrider(folder, certificate):
    """Makes daemons: postrider(extra=..., listener=...) returns a started one; all are stopped at the end."""
    made = []

    def make(start=True, **kw):
        p = Postrider(folder, kw.pop("certificate", certificate), **kw)
        made.append(p)
        return p.start() if start else p

    yield make
    for p in made:
        p.stop()
        shutil.rmtree(p.dir, ignore_errors=True)


class Talk:
    """A plain SMTP conversation: t.say('EHLO x') returns the whole reply as text."""

    def __init__(self, port, host="127.0.0.1", greet=True, source=None):
        self.sock = socket.create_connection((host, port), 10, source_address=source)
        self.buffer = b""
        self.banner = self.reply() if greet else None

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def reply(self):
        lines = []
        while True:
            while b"\r\n" not in self.buffer:
                data = self.sock.recv(65536)
                if not data:
                    return "\n".join(lines) + ("" if not lines else "\n") + "<closed>"
                self.buffer += data
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            lines.append(line.decode("latin-1"))
            if len(line) < 4 or line[3:4] != b"-":
                return "\n".join(lines)

    def say(self, line):
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.reply()

    def starttls(self, **context_options):
        assert self.say("STARTTLS").startswith("220")
        self.wrap()

    def wrap(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)
        self.buffer = b""

    def closed(self):
        try:
            return self.sock.recv(1) == b""
        except OSError:
            return True

    def close(self):
        self.sock.close()


@pytest.fixture
def talk():
    made = []

    def make(port, **kw):
        t = Talk(port, **kw)
        made.append(t)
        return t

    yield make
    for t in made:
        t.close()


class Sink:
    """A next hop that says what it is told: takes mail, counts it, and can refuse; STARTTLS when given a certificate."""

    def __init__(self, port=None, address="127.0.0.1", certificate=None, script=None, words=("PIPELINING", "8BITMIME", "SIZE 10000000", "DSN", "SMTPUTF8"),
                 clients=None, demand=True, version=None):
        """clients: the CA that judges certificates of clients, which are demanded, or only asked for."""
        self.clients, self.demand, self.version = clients, demand, version
        self.messages, self.dialogs, self.lock = [], [], threading.Lock()
        self.script = script or {}     # command word -> reply text or function(sink, argument) -> reply
        self.certificate, self.words = certificate, words
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError, ssl.SSLError, ValueError):
                    sink.serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 256

        self.server = Server((address, port or 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, word, argument, default):
        reply = self.script.get(word, default)
        return reply(self, argument) if callable(reply) else reply

    def serve(self, handler):
        conn, stream, tls = handler.request, handler.rfile, False
        conn.settimeout(60)
        dialog = []
        self.dialogs.append(dialog)

        def put(text):
            dialog.append(("S", text))
            conn.sendall(text.encode() + b"\r\n")

        put(self.answer("CONNECT", "", "220 sink.test ESMTP"))
        envelope = {"to": []}
        while True:
            line = stream.readline(20000)
            if not line:
                return
            text = line.decode("latin-1").rstrip("\r\n")
            dialog.append(("C", text, tls))
            word = text.split(" ")[0].upper()
            if word in ("EHLO", "LHLO"):
                words = list(self.words) + (["STARTTLS"] if self.certificate and not tls else [])
                put(self.answer(word, text, "\r\n".join(f"250-{w}" for w in ["sink.test", *words[:-1]]) + f"\r\n250 {words[-1]}" if words else "250 sink.test"))
            elif word == "STARTTLS":
                reply = self.answer(word, text, "220 go" if self.certificate else "502 no")
                put(reply)
                if reply.startswith("220"):
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(self.certificate.chain, self.certificate.key)
                    if self.clients:
                        context.load_verify_locations(self.clients)
                        context.verify_mode = ssl.CERT_REQUIRED if self.demand else ssl.CERT_OPTIONAL
                    if self.version:
                        context.minimum_version = context.maximum_version = self.version
                    conn = context.wrap_socket(conn, server_side=True)
                    envelope["client"] = conn.getpeercert()
                    stream, tls = conn.makefile("rb"), True
            elif word == "MAIL":
                envelope = {"from": text, "to": [], "tls": tls, "client": envelope.get("client")}
                put(self.answer(word, text, "250 2.1.0 ok"))
            elif word == "RCPT":
                reply = self.answer(word, text, "250 2.1.5 ok")
                if reply.startswith("2"):
                    envelope["to"].append(text)
                put(reply)
            elif word == "DATA":
                reply = self.answer(word, text, "354 go" if envelope["to"] else "554 no recipients")
                put(reply)
                if reply.startswith("354"):
                    body = bytearray()
                    while (line := stream.readline(1 << 20)) != b".\r\n":
                        if not line:
                            return
                        body += line[1:] if line.startswith(b".") else line
                    body = bytes(body)
                    reply = self.answer("END", body, "250 2.0.0 taken")
                    if reply.startswith("2"):
                        with self.lock:
                            self.messages.append(dict(envelope, body=body))
                    put(reply)
            elif word == "QUIT":
                put(self.answer(word, text, "221 bye"))
                return
            else:
                put(self.answer(word, text, "250 ok"))

    def wait(self, count=1, seconds=10):
        wait_for(lambda: len(self.messages) >= count, seconds, f"{count} messages at the sink (has {len(self.messages)})")
        return self.messages

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def sink():
    made = []

    def make(**kw):
        s = Sink(**kw)
        made.append(s)
        return s

    yield make
    for s in made:
        s.close()


def dump_json(text):
    return json.loads(text)
