"""A daemon under trace_nth, in which one process is struck at its n-th system call, and the books of what it was sent.

Daemon: start(), aim/arm/disarm, restart on the same spool.  Place: what a daemon talks to, one per worker: next hops that take or
refuse, a name server, mailboxes.  Books: what was acknowledged against what arrived.
"""
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
import conftest  # noqa: E402  (the daemon and the sinks of the integration tests)

ROLES = ("super", "receive", "queue", "send", "resolve", "local", "keys", "web")
SECONDS = 30          # for anything to happen on a busy machine; nothing needs more than some seconds
SMALL, LARGE = 3000, 1200 * 1024


class Wrong(Exception):
    """The daemon did not do what it promises."""


def until(condition, what, seconds=SECONDS, step=0.01):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Wrong(f"{what}: not within {seconds} s")
        time.sleep(step)


class Names(threading.Thread):
    """A name server that knows one thing: void.test takes no mail (RFC 7505)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.start()

    def run(self):
        while True:
            with contextlib.suppress(ConnectionError):
                data, peer = self.sock.recvfrom(4096)
                if not data:
                    return
                end = data.index(b"\0", 12) + 5
                question, kind = data[12:end], data[end - 4:end - 2]
                null_mx = kind == b"\0\x0f" and b"\x04void\x04test" in question.lower()
                answer = b"\xc0\x0c\0\x0f\0\x01\0\0\0\x3c\0\x03\0\0\0" if null_mx else b""
                self.sock.sendto(data[:2] + struct.pack("!HHHHH", 0x8580, 1, 1 if null_mx else 0, 0, 0) + question + answer, peer)


class Place:
    CONFIG = conftest.Postrider.CONFIG + '''
trust     = "{chain}"
workers   = 1
queue_index = {index}
resolver  = {{"127.0.0.1:{dns}"}}
retry_min = "1s"
retry_max = "1s"
domain "relay.test" {{ deliver = "smtp://127.0.0.1:{taking}" tls = encrypt }}
domain "bad.test"   {{ deliver = "smtp://127.0.0.1:{refusing}" tls = none }}
domain "void.test"  {{ deliver = "mx" }}
'''

    def __init__(self, folder, certificate, index="lagging"):
        self.folder, self.certificate, self.index = folder, certificate, index
        self.taking = conftest.Sink(certificate=certificate)
        self.refusing = conftest.Sink(script={"RCPT": "550 5.1.1 nobody of this name"})
        self.names = Names()

    def daemon(self, build, **more):
        d = Daemon(build, self.folder, self.certificate, **{"config": self.CONFIG, "index": self.index, **more}, dns=self.names.port, taking=self.taking.port,
                   refusing=self.refusing.port)
        self.taking.messages.clear()
        return d


class Daemon(conftest.Postrider):
    """Started under trace_nth; killed, never stopped, at the end of a case."""

    def __init__(self, build, *arguments, **more):
        super().__init__(*arguments, **more)
        self.tool = str(pathlib.Path(build) / "tests/crash/trace_nth")
        self.binary = str(pathlib.Path(build) / "postrider")
        self.lives, self.tracer = 0, None
        self.boxes = {name: self.mailbox(name) for name in ("alice", "back")}

    def launch(self):
        self.lives += 1
        self.lines, self.running, self.hit, self.gone, self.listed = [], {}, None, [], []
        self.changed = threading.Condition()
        entry = pwd.getpwnam(self.user) if self.user else None
        who = [str(entry.pw_uid), str(entry.pw_gid)] if entry else ["-", "-"]
        self.log_file = open(self.log_path, "ab")
        self.mark = self.log_file.tell()
        self.tracer = subprocess.Popen([self.tool, *who, "--", self.binary, "run", "-c", str(self.config_path)], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=self.log_file, text=True, bufsize=1, start_new_session=True)
        self.log_file.close()
        threading.Thread(target=self.listen, args=(self.tracer.stdout, self.lives), daemon=True).start()
        return self

    def listen(self, stream, life):
        for line in stream:
            words = line.split()
            with self.changed:
                if life != self.lives:
                    continue  # the last words of the one before
                if words[0] == "started":
                    self.running[words[2]] = (int(words[1]), int(words[3]))
                elif words[0] == "gone":
                    self.gone.append((words[2], int(words[3])))
                    if self.running.get(words[2], (0,))[0] == int(words[1]):
                        del self.running[words[2]]
                elif words[0] == "hit":
                    self.hit = (int(words[1]), words[2], int(words[3]))
                elif words[0] == "at":
                    self.listed.append((words[2], int(words[3])))
                else:
                    self.lines.append(line.strip())
                self.changed.notify_all()

    def tell(self, line):
        try:
            self.tracer.stdin.write(line + "\n")
        except (OSError, ValueError):
            raise Wrong("the tracer has ended\n" + self.log()[-2000:])

    def ask(self, line, answer):
        with self.changed:
            have = len(self.lines)
            self.tell(line)
            if not self.changed.wait_for(lambda: any(x.startswith(answer) for x in self.lines[have:]), SECONDS):
                raise Wrong(f"trace_nth did not answer {line!r}")
            return next(x for x in self.lines[have:] if x.startswith(answer))

    def arm(self, role, act, n, only=(), instance=0):
        self.hit, self.gone = None, []
        self.tell(f"aim {role} {instance}")
        self.tell("only " + " ".join(only))
        self.ask(f"arm {act} {n}", "armed")

    def disarm(self):
        return int(self.ask("disarm", "calls").split()[1])

    def start(self, ready=True):
        self.launch()
        self.tell("go")
        if ready:
            self.ready()
        return self

    def ready(self):
        until(lambda: "event=ready" in self.log(self.mark) or not self.alive(), "event=ready")
        if not self.alive():
            raise Wrong("it ended:\n" + self.log(self.mark)[-2000:])

    def alive(self):
        return "super" in self.running or not self.gone

    def kill(self):
        """Everything at once; the spool stays."""
        if not self.tracer:
            return
        with contextlib.suppress(OSError, Wrong):
            self.tell("end")
        try:
            self.tracer.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.tracer.kill()
            self.tracer.wait(5)
        with contextlib.suppress(OSError):
            self.tracer.stdin.close()
        self.tracer = None

    def end(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def control(self, command):
        """The answer; None while nobody answers."""
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as s:
            s.settimeout(SECONDS)
            s.connect(str(self.dir / "control.sock"))
            s.sendall(json.dumps(command).encode() + b"\n")
            with s.makefile("rb") as f:
                return json.loads(f.readline())
        return None

    def status(self):
        return self.control({"cmd": "status"})

    def queued(self):
        s = self.status()
        return s["spool"]["envelopes"] if s and "spool" in s else None


class Letter:
    """One message: who gets it, its octets, and what became of it."""

    serial, lock = 0, threading.Lock()

    def __init__(self, size=SMALL):
        with Letter.lock:
            Letter.serial += 1
            self.token = f"letter-{os.getpid()}-{Letter.serial}-"
        line = f"..{self.token} a line that begins with a dot on the wire\r\n{self.token} and one that does not, \xe4\r\n".encode("latin-1")
        self.body = f"Subject: {self.token}\r\n\r\n".encode() + line * (size // len(line) + 1)
        self.reply = None      # to the final dot; None: none came
        self.dotted = False    # the final dot was sent
        self.id = None

    def acknowledged(self):
        return self.reply is not None and self.reply.startswith("250")

    def send(self, port, recipients=("alice@local.test", "b@relay.test", "c@bad.test", "d@void.test"), talk=None):
        self.reply, self.dotted = None, False
        t = None
        try:
            t = talk or conftest.Talk(port)
            t.sock.settimeout(SECONDS)
            self.dialog(t, recipients)
        except (OSError, ssl.SSLError, Wrong, AssertionError):
            pass
        finally:
            if t and not talk:
                t.close()
        return self

    def say(self, t, line, code):
        reply = t.say(line)
        if not reply.startswith(code):
            self.reply = reply if "<closed>" not in reply else None
            raise Wrong(reply)
        return reply

    def dialog(self, t, recipients):
        if t.banner is not None and not t.banner.startswith("220"):
            self.reply = t.banner
            return
        self.say(t, "EHLO client.test", "250")
        self.say(t, "STARTTLS", "220")
        t.wrap()
        self.say(t, "EHLO client.test", "250")
        # the ENVID names the letter in a report whose original could not be read: such a report is poorer, and comes all the same
        self.say(t, f"MAIL FROM:<back@local.test> ENVID={self.token}", "250")
        for to in recipients:
            self.say(t, f"RCPT TO:<{to}>", "250")
        self.say(t, "DATA", "354")
        t.send(re.sub(rb"(?m)^\.", b"..", self.body))
        self.dotted = True
        t.send(b".\r\n")
        reply = t.reply()
        if "<closed>" not in reply:
            self.reply = reply
        m = re.search(r"\b([0-9a-f]{16})\b", reply)
        self.id = m.group(1) if m else None
        with contextlib.suppress(OSError):
            t.say("QUIT")


class Books:
    """What arrived of some letters, against what was acknowledged.  wrong() is a list of sentences, empty when all is well."""

    PLACES = ("alice", "relay", "report c@bad.test", "report d@void.test")

    def __init__(self, daemon, place):
        self.daemon, self.place = daemon, place

    def arrived(self, letter):
        """Place to number, and sentences about what is not whole."""
        crlf, lf = letter.body, letter.body.replace(b"\r\n", b"\n")
        counts, wrong = dict.fromkeys(self.PLACES, 0), []
        for data in self.daemon.boxes["alice"].messages():
            if letter.token.encode() in data:
                counts["alice"] += 1
                if not data.endswith(b"\n" + lf) or data.count(b"Subject: " + letter.token.encode()) != 1 or len(data) > len(lf) + 2000:
                    wrong.append(f"a file in alice's new/ is not the message: {len(data)} octets of {len(lf)}")
        for m in list(self.place.taking.messages):
            if letter.token.encode() in m["body"]:
                counts["relay"] += 1
                if not m["body"].endswith(b"\r\n" + crlf) or not m["tls"] or len(m["body"]) > len(crlf) + 2000:
                    wrong.append("what the next hop took is not the message, or came in clear")
        for data in self.daemon.boxes["back"].messages():
            if letter.token.encode() in data:
                about = re.findall(rb"(?im)^Final-Recipient: rfc822; *(\S+)", data)
                if not data.rstrip().endswith(b"--") or not about:
                    wrong.append("a report in back's new/ is not whole")
                for who in about:
                    counts[f"report {who.decode()}"] = counts.get(f"report {who.decode()}", 0) + 1
        return counts, wrong

    def complete(self, letter):
        counts, _ = self.arrived(letter)
        return all(counts[p] for p in self.PLACES)

    def judge(self, letters):
        wrong, doubles, suspects = [], 0, self.daemon.events("maybe_duplicate")
        for letter in letters:
            counts, bad = self.arrived(letter)
            wrong += bad
            missing = [p for p in self.PLACES if counts[p] == 0]
            if letter.acknowledged() and missing:
                wrong.append(f"{letter.token} was acknowledged ({letter.reply!r}) and did not come to {missing}")
            for place, n in counts.items():
                doubles += max(0, n - 1)
                named = sum(e["id"] == letter.id or letter.id is None for e in suspects)
                if n > 1 and not place.startswith("report") and named < n - 1:
                    wrong.append(f"{letter.token} (id {letter.id}) came {n} times to {place}, and maybe_duplicate names it {named} times")
        if doubles > len(suspects):
            wrong.append(f"{doubles} doubles and {len(suspects)} maybe_duplicate lines")
        for name in ("alice", "back"):
            for data in self.daemon.boxes[name].messages():
                if not any(letter.token.encode() in data for letter in letters):
                    wrong.append(f"a stranger in {name}'s new/: {data[:200]!r}")
        for e in self.daemon.events("spool_opened"):
            if e["quarantined"] != "0":
                wrong.append("recovery set something aside")
        return wrong, doubles
