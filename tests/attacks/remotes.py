"""Attacks by next hops: servers that never stop talking, or never begin, or hang up.

Each is a listening socket with a thread for each connection; the daemon has a domain for each (config).  A case sends mail there and waits until
it is deferred, with the reason in the log; meanwhile honest mail goes its way.
"""
import re
import socket
import threading
import time

from clients import Attacker, case

Unable = None
MESSAGES = 5
PATIENCE = 12
HOPS = {}
# what the kernel takes before the other side has closed: socket buffers of loopback
KERNEL = 12 << 20


class Hop:
    def __init__(self, name, behave):
        self.name, self.behave, self.connections, self.sent, self.most = name, behave, 0, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        n = [0]

        def put(data):
            conn.sendall(data)
            n[0] += len(data)

        conn.settimeout(60)
        try:
            self.behave(conn, conn.makefile("rb"), put)
        except OSError:
            pass
        self.sent += n[0]
        self.most = max(self.most, n[0])
        conn.close()

    def close(self):
        self.listener.close()


def hello(stream, put, reply=b"250 hop.test\r\n"):
    put(b"220 hop.test\r\n")
    stream.readline()
    put(reply)


def to_data(stream, put):
    hello(stream, put, b"250-hop.test\r\n250 PIPELINING\r\n")
    while line := stream.readline():
        put(b"354 go\r\n" if line[:4] == b"DATA" else b"250 ok\r\n")
        if line[:4] == b"DATA":
            return


def banner(conn, stream, put):
    put(b"220 ")
    while True:
        put(b"A" * 65536)


def lines(conn, stream, put):
    while True:
        put(b"220-and another thing\r\n" * 2000)


def ehlo(conn, stream, put):
    hello(stream, put, b"")
    for _ in range(200):   # 13 MB
        put(b"250-" + b"X" * 60 + b"\r\n" + (b"250-SIZE 1\r\n" * 5000)[:65000 // 12 * 12])
    put(b"250 END\r\n")


def replies(conn, stream, put):
    hello(stream, put)
    while True:
        put(b"250 ok\r\n" * 5000)


def amid(conn, stream, put):
    to_data(stream, put)
    while True:
        put(b"250 taken\r\n" * 5000)


def hangup(conn, stream, put):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def silent(conn, stream, put):
    while conn.recv(65536):
        pass


def drip(conn, stream, put):
    while True:
        put(b"220-wait\r\n")
        time.sleep(2)


BEHAVIOURS = {f.__name__: f for f in (banner, lines, ehlo, replies, amid, hangup, silent, drip)}


def start():
    """Opens the hops; the configuration that leads to them."""
    HOPS.update({name: Hop(name, f) for name, f in BEHAVIOURS.items()})
    return "".join(f'domain "{h.name}.test" {{ deliver = "smtp://127.0.0.1:{h.port}"  tls = none }}\n' for h in HOPS.values())


def stop():
    for h in HOPS.values():
        h.close()


def send(scene, name):
    a = Attacker(scene.ports["mx"])
    assert a.say("EHLO attacker.test").startswith("250")
    for n in range(MESSAGES):
        for text, code in (("MAIL FROM:<>", "250"), (f"RCPT TO:<x{n}@{name}.test>", "250"), ("DATA", "354"), ("Subject: x\r\n\r\n" + "y" * 20000 + "\r\n.", "250")):
            assert a.say(text).startswith(code), text
    a.say("QUIT")
    a.close()


def deferred(scene, name, seconds=PATIENCE, reason=""):
    """Sends, and waits for the deferral; what the log said, and the connections that took."""
    hop = HOPS[name]
    send(scene, name)
    end = time.monotonic() + seconds
    while not (found := [e for e in scene.events("deferred") if e.get("to", "").endswith(f"@{name}.test")]):
        assert time.monotonic() < end, f"not deferred within {seconds} s; {hop.connections} connections"
        time.sleep(0.1)
    said = found[0]["reason"]
    assert re.search(reason, said), said
    return hop, said


def noisy(scene, name, reason):
    hop, said = deferred(scene, name, reason=reason)
    time.sleep(1)
    assert hop.most < KERNEL, f"{hop.most} octets were taken on one connection"
    assert hop.connections <= 60, f"{hop.connections} connections"
    return f"deferred: {said[-60:]!r}; {hop.connections} connections, {hop.most >> 10} KiB on one"


@case("SMTP_REPLY_IN_LINE_MAX", brief=True)
def a_banner_without_end(scene, size):
    return noisy(scene, "banner", "line")


@case("reply_lines, reply_limit", brief=True)
def banner_lines_without_end(scene, size):
    return noisy(scene, "lines", "too_many_lines|too_long")


@case("reply_lines, reply_limit", brief=True)
def an_ehlo_reply_of_13_megabytes(scene, size):
    return noisy(scene, "ehlo", "too_many_lines|too_long")


@case("replies that nobody asked for (spec/client.def)", brief=True)
def replies_without_end(scene, size):
    return noisy(scene, "replies", ".")


@case("replies that nobody asked for (spec/client.def)", brief=True)
def replies_without_end_amid_the_message(scene, size):
    """The first of them ends the message: it may count as the answer, what comes behind it ends the connection."""
    hop = HOPS["amid"]
    send(scene, "amid")
    time.sleep(2)
    assert hop.connections > 0 and hop.most < KERNEL, hop.most
    return f"{hop.connections} connections, {hop.most >> 10} KiB on one"


@case("destination window, retry_min, SEND_BAD_MS", brief=True)
def hangs_up_at_once(scene, size):
    hop, said = deferred(scene, "hangup", reason=".")
    before = hop.connections
    time.sleep(3)
    rate = (hop.connections - before) / 3
    assert rate < 10, f"{rate} connections a second"
    return f"{hop.connections} connections, then {rate:.1f} a second"


@case("SCHEDULE_WINDOW_FIRST, PSMTP greeting_ms", brief=True)
def never_says_a_word(scene, size):
    hop = HOPS["silent"]
    send(scene, "silent")
    time.sleep(2)
    assert 0 < hop.connections <= 10, hop.connections
    return f"{hop.connections} connections held, for five minutes each at most"


@case("greeting_ms", long=True, slow=True)
def a_banner_line_every_two_seconds(scene, size):
    began = time.monotonic()
    hop, said = deferred(scene, "drip", 330, "timeout|too_many")
    return f"deferred after {time.monotonic() - began:.0f} s: {said[-40:]!r}; {hop.connections} connections"


CASES = [f for f in list(globals().values()) if callable(f) and hasattr(f, "bound") and f.__module__ == __name__]
