"""Attacks by clients: slow ones on every phase, endless ones, and too many of them.

Each case is a function of (scene, size) that raises AssertionError when the bound did not hold, and returns what it measured;
BOUND names the limit that stopped it.  `size` is "short" or "long".
"""
import re
import socket
import ssl
import subprocess
import threading
import time

TLS_HELLO = bytes.fromhex("1603010200010001fc0303")   # the head of a ClientHello of 512 octets
FLOOD = None                                          # path of the program; set by run
ATTACKER = "127.66.0.1"
# a session that ends at a deadline ends at it: the rest is the machine's load
LATE = 2.5


def case(bound, **more):
    def mark(f):
        f.bound, f.options = bound, more
        return f
    return mark


class Attacker:
    """A connection that counts what it sends, and knows when and how it was ended."""

    def __init__(self, port, source=ATTACKER, greet=True, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.bind((source, 0))
        self.sock.settimeout(10)
        self.sock.connect(("127.0.0.1", port))
        self.began, self.got, self.sent, self.end = time.monotonic(), b"", 0, None
        if greet:
            self.line()

    def line(self):
        """One reply (its last line)."""
        while True:
            while b"\n" not in self.got:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError(self.got)
                self.got += data
            text, self.got = self.got.split(b"\n", 1)
            if text[3:4] != b"-":
                return text.decode(errors="replace").strip()

    def say(self, text):
        self.sock.sendall(text.encode() + b"\r\n")
        return self.line()

    def tls(self):
        assert self.say("STARTTLS").startswith("220")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)

    def to_data(self, domain="sink.test", command="DATA", code="354"):
        for text in ("EHLO attacker.test", "MAIL FROM:<a@attacker.test>", f"RCPT TO:<x@{domain}>"):
            assert self.say(text).startswith("250")
        if command:
            assert self.say(command).startswith(code)

    def over(self):
        """Reads what has come; True when the other side has ended it."""
        self.sock.settimeout(0.001)
        try:
            while data := self.sock.recv(65536):
                self.got += data
            return True
        except (socket.timeout, ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self.sock.settimeout(10)

    def drip(self, data, pause, seconds):
        """An octet every `pause` until the server ends it; the seconds that took."""
        began, n = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            if self.over():
                break
            try:
                if data:
                    self.sock.sendall(data[n % len(data):n % len(data) + 1])
                n += bool(data)
            except OSError:
                break
            time.sleep(pause)
        self.sent += n
        return time.monotonic() - began

    def flood(self, data, seconds, read=True, octets=1 << 40):
        """As much as it takes until the server ends it; the seconds that took."""
        began = time.monotonic()
        self.sock.settimeout(0.2)
        while time.monotonic() - began < seconds and self.sent < octets:
            try:
                self.sent += self.sock.send(data)
            except (socket.timeout, ssl.SSLWantWriteError):
                pass
            except OSError:
                break
            if read and self.over():
                break
            self.sock.settimeout(0.2)
        return time.monotonic() - began

    def last(self):
        """The last reply, after the end."""
        self.over()
        return self.got.decode(errors="replace").strip().splitlines()[-1] if self.got.strip() else ""

    def close(self):
        self.sock.close()


def ended(a, took, limit, code, what):
    last = a.last()
    a.close()
    assert took < limit + LATE, f"{what}: not ended within {limit} s (+{LATE}), but {took:.1f}; said last: {last!r}"
    assert took > limit - 0.6, f"{what}: ended after {took:.1f} s already, said last: {last!r}"
    assert last.startswith(code), f"{what}: last words {last!r}"
    return f"{took:.1f} s"


# ---- slow: the listener "slow" has command_timeout 1s, handshake_timeout 1s, data_timeout 2s, data_min_rate 1000 ----

@case("command_timeout", slow=True)
def silent_after_connect(scene, size):
    a = Attacker(scene.ports["slow"])
    return ended(a, a.drip(b"", 0.05, 8), 1, "421", "silence")


@case("greeting_delay", slow=True)
def octets_before_the_greeting(scene, size):
    a = Attacker(scene.ports["late"], greet=False)
    return ended(a, a.drip(b"E", 0.2, 6), 0, "554", "an early talker")   # at once: it need not be waited for


@case("command_timeout", slow=True)
def an_octet_at_a_time_in_ehlo(scene, size):
    a = Attacker(scene.ports["slow"])
    return ended(a, a.drip(b"EHLO " + b"a" * 400, 0.1, 8), 1, "421", "a slow EHLO")


@case("command_timeout", slow=True)
def an_octet_at_a_time_in_mail(scene, size):
    a = Attacker(scene.ports["slow"])
    assert a.say("EHLO attacker.test").startswith("250")
    return ended(a, a.drip(b"MAIL FROM:<" + b"a" * 400, 0.1, 8), 1, "421", "a slow MAIL")


@case("data_timeout, data_min_rate", slow=True)
def an_octet_at_a_time_in_data(scene, size):
    a = Attacker(scene.ports["slow"])
    a.to_data()
    return ended(a, a.drip(b"Subject: slow\r\n\r\n" + b"line\r\n" * 100, 0.05, 9), 2, "421", "a slow DATA")


@case("data_timeout, data_min_rate", slow=True)
def an_octet_at_a_time_in_bdat(scene, size):
    a = Attacker(scene.ports["slow"])
    a.to_data(command=None)
    a.sock.sendall(b"BDAT 100000 LAST\r\n")
    return ended(a, a.drip(b"x", 0.05, 9), 2, "421", "a slow BDAT")


@case("data_timeout, data_min_rate", slow=True)
def empty_chunks_without_end(scene, size):
    a = Attacker(scene.ports["slow"])
    a.to_data(command=None)
    return ended(a, a.drip(b"BDAT 0\r\n", 0.01, 9), 2, "421", "empty chunks")


@case("handshake_timeout", slow=True)
def an_octet_at_a_time_in_the_handshake(scene, size):
    a = Attacker(scene.ports["slow"])
    assert a.say("EHLO attacker.test").startswith("250") and a.say("STARTTLS").startswith("220")
    took = a.drip(TLS_HELLO + b"\0" * 500, 0.1, 8)
    a.close()
    assert 0.6 < took < 1 + LATE, f"a slow handshake took {took:.1f} s"
    return f"{took:.1f} s"


@case("handshake_timeout", slow=True)
def silent_in_the_handshake(scene, size):
    a = Attacker(scene.ports["slow"])
    assert a.say("EHLO attacker.test").startswith("250") and a.say("STARTTLS").startswith("220")
    took = a.drip(b"", 0.1, 8)
    a.close()
    assert 0.6 < took < 1 + LATE, f"a silent handshake took {took:.1f} s"
    return f"{took:.1f} s"


def held_by_server(a, seconds):
    """Whether the server ends it, seen without reading: by what a write says.  Seconds since it took the last octet; None: not within `seconds`."""
    taken = time.monotonic()
    a.sock.settimeout(0.1)
    while time.monotonic() - taken < seconds:
        try:
            a.sock.send(b"NOOP\r\n" * 500)
            taken = time.monotonic()
        except (socket.timeout, ssl.SSLWantWriteError):
            if a.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1:   # no longer ESTABLISHED: its FIN or reset has come
                return time.monotonic() - taken
        except OSError:
            return time.monotonic() - taken
    return None


def never_reading(scene, tls):
    a = Attacker(scene.ports["slow"], receive_buffer=4096)
    assert a.say("EHLO attacker.test").startswith("250")
    if tls:
        a.tls()
        assert a.say("EHLO attacker.test").startswith("250")
    took = held_by_server(a, 20)
    a.close()
    # the deadline of the command that cannot be served, then CONN_CLOSE_MS for the last words, then CONN_LINGER_MS
    assert took is not None and took < 1 + 10 + 2 + LATE, f"still there after {took} s"
    return f"{took:.1f} s"


@case("SERVER_OUTPUT_HIGH, command_timeout, CONN_CLOSE_MS", slow=True, long=True)
def replies_are_never_read(scene, size):
    return never_reading(scene, False)


@case("SERVER_OUTPUT_HIGH, command_timeout, CONN_CLOSE_MS", slow=True, long=True)
def replies_are_never_read_inside_tls(scene, size):
    return never_reading(scene, True)


@case("CONN_LINGER_MS, CONN_LINGER_BYTES", slow=True)
def close_notify_is_never_answered(scene, size):
    a = Attacker(scene.ports["slow"])
    assert a.say("EHLO attacker.test").startswith("250")
    a.tls()
    assert a.say("QUIT").startswith("221")
    took = held_by_server(a, 10)
    a.close()
    assert took is not None and took < 2 + LATE, f"still there after {took} s"
    return f"{took:.1f} s"


# ---- endless ----

@case("SMTP_LINE_MAX, command_timeout", memory_mib=8, brief=True)
def a_line_without_end(scene, size):
    a = Attacker(scene.ports["slow"])
    took = a.flood(b"A" * 65536, 8)
    return ended(a, took, 1, "421", "an endless line") + f", {a.sent / 1e6:.0f} MB"


@case("message_size_limit, SERVER_OVERRUN", memory_mib=16, brief=True)
def headers_without_end(scene, size):
    a = Attacker(scene.ports["mx"])
    a.to_data()
    took = a.flood(b"".join(b"X-Header-%d: %s\r\n" % (n, b"v" * 60) for n in range(800)), 60)
    last = a.last()
    a.close()
    assert last.startswith("552") or last.startswith("421"), last
    # dots may have doubled it, and the kernel holds some
    assert a.sent < (2 * 50 + 16 + 12) << 20, f"{a.sent} octets were taken"
    return f"{a.sent / 1e6:.0f} MB in {took:.1f} s, then {last[:3]}"


@case("max_hops", brief=True)
def received_lines_without_end(scene, size):
    a = Attacker(scene.ports["mx"])
    a.to_data()
    a.sock.sendall(b"Received: from a by b; Fri, 27 Nov 2026 00:00:00 +0000\r\n" * 20000 + b"\r\nx\r\n.\r\n")
    last = a.line()
    a.close()
    assert last.startswith("554"), last
    return last[:9]


@case("recipients, SERVER_RCPT_TRIES", brief=True)
def recipients_without_end(scene, size):
    a = Attacker(scene.ports["mx"])
    a.to_data(command=None)
    took = a.flood(b"".join(b"RCPT TO:<r%d@sink.test>\r\n" % n for n in range(500)), 60)
    text = a.got.decode()
    last = a.last()
    a.close()
    taken, not_taken = len(re.findall("^250", text, re.M)), len(re.findall("^452", text, re.M))
    assert taken <= 999 and 9000 <= not_taken <= 10000 and last.startswith("421"), (taken, not_taken, last)
    return f"{taken + 1} taken, {not_taken} x 452, then 421; {took:.1f} s"


def endless(scene, command, code, first=(), most=100):
    a = Attacker(scene.ports["mx"])
    for text in first:
        a.say(text)
    took = a.flood((command + "\r\n").encode() * 50, 20)
    last, text = a.last(), a.got.decode(errors="replace")
    a.close()
    n = len(re.findall(rf"^{code} ", text, re.M))
    assert last.startswith("421") and n <= most, f"{n} x {code}, last {last!r}"
    return f"{n} x {code}, then 421; {took:.2f} s"


@case("idle_commands", brief=True)
def ehlo_without_end(scene, size):
    return endless(scene, "EHLO attacker.test", "250")


@case("idle_commands", brief=True)
def noop_without_end(scene, size):
    return endless(scene, "NOOP", "250")


@case("idle_commands", brief=True)
def rset_without_end(scene, size):
    return endless(scene, "RSET", "250")


@case("idle_commands", brief=True)
def vrfy_without_end(scene, size):
    return endless(scene, "VRFY x", "252")


@case("idle_commands", brief=True)
def mail_and_rset_without_end(scene, size):
    return endless(scene, "MAIL FROM:<a@attacker.test>\r\nRSET", "250", ["EHLO attacker.test"])


@case("errors", brief=True)
def auth_without_end(scene, size):
    return endless(scene, "AUTH PLAIN AGEAYg==", "502", ["EHLO attacker.test"], most=20)


@case("errors", brief=True)
def starttls_inside_tls_without_end(scene, size):
    a = Attacker(scene.ports["mx"])
    assert a.say("EHLO attacker.test").startswith("250")
    a.tls()
    n, last = 0, ""
    while n < 100:
        last = a.say("STARTTLS")
        if not last.startswith("503"):
            break
        n += 1
    a.close()
    assert n <= 20 and last.startswith("421"), (n, last)
    return f"{n} x 503, then 421"


@case("one STARTTLS a session (spec/server.def)", memory_mib=24)
def handshakes_without_end(scene, size):
    """Eight connections that do nothing but shake hands, as fast as they can."""
    end, counts = time.monotonic() + (1 if size == "short" else 15), []

    def run():
        n = 0
        while time.monotonic() < end:
            try:
                a = Attacker(scene.ports["mx"])
                a.say("EHLO attacker.test")
                a.tls()
                a.close()
                n += 1
            except (OSError, EOFError, AssertionError):
                pass
        counts.append(n)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(counts) > 20
    return f"{sum(counts)} handshakes"


def s_client(scene, keys, seconds, *args):
    p = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{scene.ports['mx']}", "-bind", f"{ATTACKER}:0", "-starttls", "smtp", *args],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = []
    reader = threading.Thread(target=lambda: said.append(p.stdout.read()), daemon=True)
    reader.start()
    began = time.monotonic()
    try:
        while time.monotonic() - began < seconds and p.poll() is None:
            p.stdin.write(keys)
            p.stdin.flush()
            time.sleep(0.002)
    except BrokenPipeError:
        pass
    took = time.monotonic() - began
    p.kill()
    p.wait(10)
    reader.join(10)
    p.stdin.close()
    p.stdout.close()
    return took, (said or [b""])[0].decode(errors="replace")


@case("command_timeout, OUT_MAX", memory_mib=8, brief=True)
def key_updates_without_end(scene, size):
    took, said = s_client(scene, b"K\n", 2 if size == "short" else 10, "-tls1_3")
    n = said.count("KEYUPDATE")
    assert n > 20, said[-500:]
    return f"{n} key updates in {took:.1f} s"


@case("SSL_OP_NO_RENEGOTIATION", brief=True)
def renegotiation(scene, size):
    took, said = s_client(scene, b"R\n", 2, "-tls1_2")
    assert "RENEGOTIATING" in said, said[-500:]
    assert "no renegotiation" in said or took < 2, said[-800:]
    return "refused"


# ---- many ----

def flood(scene, port, count, *args, hold=False, settle=0.0, processes=1):
    command = [str(FLOOD), "--port", str(scene.ports[port]), "--count", str(count), *map(str, args)] + (["--hold"] if hold else [])
    ps = [subprocess.Popen([*command, *(["--first", f"127.{10 + k}.0.1"])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for k in range(processes)]
    out = []
    try:
        if hold:
            for p in ps:
                p.stdout.readline()
            time.sleep(settle)
        for p in ps:
            out.append(p.communicate("\n", timeout=120)[0])
            assert p.returncode == 0, "the flood could not do its work"
    finally:
        for p in ps:
            if p.poll() is None:
                p.kill()
            p.wait(10)
    total = {}
    for text in out:
        for word, value in re.findall(r"(\w+)=([\d.]+)", text.strip().splitlines()[-1]):
            total[word] = max(total.get(word, 0), float(value)) if word in ("seconds", "slowest_ms") else total.get(word, 0) + int(float(value))
    return total


def told(f):
    return f"{f['opened']} in {f['seconds']:.1f} s: {f['greeted']} greeted, {f['held_off']} x 421, slowest {f['slowest_ms'] / 1000:.2f} s"


@case("sessions_per_address")
def quick_connections_of_one_address(scene, size):
    f = flood(scene, "mx", 4_000 if size == "short" else 100_000, "--at-once", 400, "--reset")
    assert f["unanswered"] == 0 and f["failed"] == 0 and f["held_off"] > 0, f
    return told(f)


@case("LISTEN_BATCH, LISTEN_BACKLOG")
def quick_connections_of_many_addresses(scene, size):
    n = 4_000 if size == "short" else 100_000
    f = flood(scene, "mx", n, "--at-once", 400, "--sources", 50_000)
    assert f["unanswered"] == 0 and f["failed"] == 0 and f["greeted"] == n, f
    return told(f)


@case("sessions_per_address", memory_mib=16)
def many_at_once_of_one_address(scene, size):
    f = flood(scene, "mx", 3_000 if size == "short" else 15_000, hold=True)
    # that one address has its hundred, and they are served
    assert f["greeted"] == f["served"] == 100 and f["held_off"] == f["opened"] - 100, f
    return told(f)


@case("sessions", memory_mib=120)
def fifteen_thousand_at_once_of_many_addresses(scene, size):
    f = flood(scene, "mx", 15_000, "--sources", 15_000, hold=True, settle=0 if size == "short" else 5)
    assert f["greeted"] == f["served"] == 15_000, f
    return told(f)


@case("sessions", memory_mib=120, long=True)
def fifteen_thousand_at_once_of_one_address_where_that_is_allowed(scene, size):
    f = flood(scene, "wide", 15_000, hold=True, settle=1)
    assert f["greeted"] == f["served"] == 15_000, f
    return told(f)


@case("sessions_per_address, conn_close_now", memory_mib=48)
def turned_away_and_kept_open(scene, size):
    """Those that got 421 never close: descriptors are not theirs to hold."""
    f = flood(scene, "mx", 4_000 if size == "short" else 19_000, "--keep", "--sources", 2, "--seconds", 40, hold=True, processes=2)
    assert f["unanswered"] == 0 and f["greeted"] <= 400 and not scene.events("fault"), f
    return told(f)


CASES = [f for f in list(globals().values()) if callable(f) and hasattr(f, "bound") and f.__module__ == __name__]
__all__ = ["CASES", "Attacker", "case", "flood"]
