#!/usr/bin/python3
"""`make demo`: the main job, end to end, with a client that is not ours.

Two Postriders on loopback with a throw-away certificate.  swaks sends one message over STARTTLS to a Maildir of the first,
and one that the first relays over STARTTLS to the second, into its Maildir.  Shown: the Received lines with the TLS facts,
the two log lines (accepted, delivered) of each message, and the empty queues.  The exit status is 0 only when all of it is true.
"""
import argparse
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SECONDS = 50  # the whole demonstration; it usually takes five


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(condition, what, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"demo: failed: {what}")
        time.sleep(0.05)


class Server:
    def __init__(self, binary, base, name, domains):
        self.binary, self.name, self.port = binary, name, port()
        self.dir = base / name
        (self.dir / "mail").mkdir(parents=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.dir / "key.pem",
                        "-out", self.dir / "cert.pem", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"],
                       check=True, stderr=subprocess.DEVNULL)
        self.config = self.dir / "postrider.conf"
        self.config.write_text(f'''hostname = "{name}"
spool    = "{self.dir}/spool"
control  = "{self.dir}/control.sock"
certificate "default" {{ chain = "cert.pem"  key = "key.pem" }}
listener "mx"         {{ address = {{"127.0.0.1:{self.port}"}}  tls = starttls }}
{domains(self)}
relay                 {{ from = {{"127.0.0.0/8"}} }}
''')

    def mailbox(self, user):
        box = self.dir / "mail" / user
        box.mkdir()
        return box

    def start(self, user):
        if user:
            for p in [self.dir, *self.dir.rglob("*")]:
                os.chown(p, user.pw_uid, user.pw_gid)
        become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
        self.become = become
        self.log = open(self.dir / "log", "wb")
        self.process = subprocess.Popen([*become, self.binary, "run", "-c", self.config], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait(lambda: "event=ready" in self.lines() or self.process.poll() is not None, f"{self.name} does not start")
        if self.process.poll() is not None:
            raise SystemExit(f"demo: {self.name} ended:\n{self.lines()}")

    def lines(self):
        return (self.dir / "log").read_text(errors="replace")

    def stop(self):
        if getattr(self, "process", None) and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(12)
            except subprocess.TimeoutExpired:
                self.process.kill()


def send(server, to, subject):
    print(f"\n== swaks sends to {to} at {server.name}, over STARTTLS")
    r = subprocess.run(["swaks", "--server", f"127.0.0.1:{server.port}", "-tls", "--from", "sender@client.test", "--to", to, "--helo", "client.test",
                        "--header", f"Subject: {subject}", "--body", "A real message."], capture_output=True, text=True, timeout=30)
    for line in r.stdout.splitlines():
        if re.search(r"(<[-~*]+ *(220|221|235|354|4\d\d|5\d\d|250 2)|STARTTLS|TLS started|MAIL FROM|RCPT TO)", line):
            print("   ", line.strip())
    if r.returncode != 0:
        raise SystemExit(f"demo: failed: swaks ended with {r.returncode}\n{r.stdout}{r.stderr}")


def show_message(box, hops):
    wait(lambda: (box / "new").exists() and any((box / "new").iterdir()), f"nothing arrived in {box}")
    text = next((box / "new").iterdir()).read_text(errors="replace")
    received = re.findall(r"^Received: (?:.*\n[ \t])*.*", text, re.M)
    print(f"-- in {box}:")
    for r in received:
        print("   ", r.replace("\n", "\n    "))
    if len(received) != hops or not all("ESMTPS" in r and re.search(r"\btls TLS_|\bTLSv1\.[23]\b", r) for r in received):
        raise SystemExit("demo: failed: the Received lines do not say TLS")


def show_log(server, to):
    print(f"-- log of {server.name}:")
    wait(lambda: re.search(rf"event=delivered .*to={re.escape(to)}", server.lines()), "no delivery in the log")
    id_ = re.search(rf"event=delivered id=(\w+) .*to={re.escape(to)}", server.lines()).group(1)
    for line in server.lines().splitlines():
        if f"id={id_}" in line and re.search(r"event=(accepted|delivered)", line):
            print("   ", line)


def queue_list(server, *options):
    return subprocess.run([*server.become, server.binary, "queue", "list", *options, "-c", server.config], capture_output=True, text=True, timeout=20)


def queue_empty(server):
    j = queue_list(server, "--json")
    return j.returncode == 0 and '"id"' not in j.stdout


def show_queue(server):
    # a delivery is in the log a moment before the queue has committed it
    wait(lambda: queue_empty(server), f"the queue of {server.name} is not empty, or does not answer", 5)
    r = queue_list(server)
    print(f"-- queue of {server.name}:\n    {r.stdout.strip() or r.stderr.strip()}")
    if r.returncode != 0:
        raise SystemExit(f"demo: failed: queue list ended with {r.returncode}")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--binary", default="build/postrider")
    a = p.parse_args()
    signal.alarm(SECONDS)
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    base = pathlib.Path(tempfile.mkdtemp(prefix="postrider-demo-", dir="/var/tmp"))
    base.chmod(0o755)
    # what an ordinary user is to run must be where they can read it
    binary = base / "postrider"
    shutil.copy(os.path.abspath(a.binary), binary)
    second = Server(binary, base, "second.test", lambda s: f'domain "second.test"  {{ deliver = "maildir:{s.dir}/mail/%{{user}}" }}')
    first = Server(binary, base, "first.test", lambda s: f'domain "first.test"   {{ deliver = "maildir:{s.dir}/mail/%{{user}}" }}\n'
                   f'domain "second.test"  {{ deliver = "smtp://127.0.0.1:{second.port}"  tls = encrypt }}')
    try:
        alice, bob = first.mailbox("alice"), second.mailbox("bob")
        for s in (first, second):
            s.start(user)
            print(f"{s.name} accepts mail on 127.0.0.1:{s.port}")
        send(first, "alice@first.test", "to a mailbox here")
        show_message(alice, 1)
        show_log(first, "alice@first.test")
        send(first, "bob@second.test", "through a second Postrider")
        show_message(bob, 2)
        show_log(first, "bob@second.test")
        show_log(second, "bob@second.test")
        print()
        for s in (first, second):
            show_queue(s)
        print("\ndemo: all of it is true")
    finally:
        for s in (first, second):
            s.stop()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
