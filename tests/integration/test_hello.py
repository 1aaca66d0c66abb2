"""A ClientHello that comes in pieces, small and large: as a hybrid post-quantum key exchange makes it, longer than one segment, and longer
than one record.  Towards `receive` from a client that writes as it likes; from `send` through a relay that cuts both ways.

What makes it large here is a list of protocols (ALPN) that nobody knows: OpenSSL 3.0 has no hybrid group, and to who reads it a length is a length.
"""
import contextlib
import socket
import ssl
import threading
import time

import pytest

from conftest import Postrider, Talk, free_port, make_certificate
from test_delivery import send

SIZES = {"usual": 0, "hybrid": 1400, "two records": 20000, "four records": 52000}
RECORD = 16384


def cuts(how, n):
    """Where the octets of a flight of n are cut."""
    if how == "each octet":
        return list(range(1, n))
    if how == "segments of 536":
        return list(range(536, n, 536))
    if how == "in the record's head":
        return [1, 3, 5, 6, n - 1]
    if how == "the last octet late":
        return [n - 1]
    return []


class Hello:
    """A TLS client over memory, so that each flight can be cut."""

    def __init__(self, sock, extra, how):
        self.sock, self.how = sock, how
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if extra:
            context.set_alpn_protocols([f"{i:0249d}" for i in range(extra // 250)])
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="mx.sink.test")
        self.first = None

    def flush(self, whole=False):
        data = self.outgoing.read()
        if self.first is None and data:
            self.first = data
        at = 0
        for end in [*([] if whole else sorted(c for c in set(cuts(self.how, len(data))) if 0 < c < len(data))), len(data)]:
            self.sock.sendall(data[at:end])
            at = end
            if len(data) < 3000 or self.how != "each octet" or end % 97 == 0:
                time.sleep(0.0005)

    def turn(self, call, *args):
        while True:
            try:
                result = call(*args)
                self.flush(whole=True)
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError from None
                self.incoming.write(data)

    def say(self, line):
        self.turn(self.tls.write, line.encode() + b"\r\n")
        reply = b""
        while not reply.endswith(b"\r\n") or reply.rstrip(b"\r\n").split(b"\r\n")[-1][3:4] == b"-":
            reply += self.turn(self.tls.read, 65536)
        return reply.decode()


@pytest.fixture(scope="module")
def server(folder, certificate):
    port = free_port()
    p = Postrider(folder, certificate, extra=f'listener "smtps" {{ address = {{"127.0.0.1:{port}"}} tls = implicit }}')
    p.implicit = port
    p.start()
    p.roles = p.pids()
    yield p
    assert p.pids() == p.roles
    p.stop()


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("how", ["whole", "each octet", "segments of 536", "in the record's head", "the last octet late"])
@pytest.mark.parametrize("size", SIZES)
def test_receive_takes_it(server, size, how, implicit):
    if implicit:
        sock = socket.create_connection(("127.0.0.1", server.implicit), 20)
    else:
        t = Talk(server.port)
        assert t.say("EHLO c.test").startswith("250") and t.say("STARTTLS").startswith("220")
        sock = t.sock
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(20)
    with sock:
        h = Hello(sock, SIZES[size], how)
        h.turn(h.tls.do_handshake)
        assert h.tls.version() == "TLSv1.3"
        assert SIZES[size] <= len(h.first) and len(h.first) > RECORD * (size == "two records") + 3 * RECORD * (size == "four records")
        if implicit:
            assert h.turn(h.tls.read, 1000).startswith(b"220")
        assert "250" in h.say("EHLO c.test") and h.say("MAIL FROM:<a@src.test>").startswith("250") and h.say("QUIT").startswith("221")


def test_one_that_has_no_end_is_refused(server):
    """Handshake messages are bounded: a ClientHello that says it has 16 MiB gets no memory and no patience."""
    t = Talk(server.port)
    assert t.say("EHLO c.test").startswith("250") and t.say("STARTTLS").startswith("220")
    t.sock.settimeout(20)
    sent, record = 0, b"\x16\x03\x01" + RECORD.to_bytes(2, "big")
    with contextlib.suppress(OSError):
        t.send(record + b"\x01\xff\xff\xff" + b"\x03\x03" + bytes(RECORD - 6))
        while sent < 16 << 20:
            t.send(record + bytes(RECORD))
            sent += RECORD
            time.sleep(0.001)
    with contextlib.suppress(ConnectionError):   # an alert, then the end; a time-out is neither
        while t.sock.recv(4096):
            pass
    assert sent < 4 << 20
    assert Talk(server.port).say("EHLO c.test").startswith("250")


class Cutter:
    """A relay before a next hop: what comes from either side goes on in pieces."""

    def __init__(self, to, how):
        self.to, self.how, self.hellos = to, how, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                a = self.listener.accept()[0]
                b = socket.create_connection(("127.0.0.1", self.to))
                for x, y in ((a, b), (b, a)):
                    y.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self.pump, args=(x, y, x is a), daemon=True).start()

    def pump(self, x, y, ours):
        with contextlib.suppress(OSError):
            while data := x.recv(65536):
                if ours and data[:1] == b"\x16":
                    self.hellos.append(len(data))
                at = 0
                for end in [*sorted(c for c in set(cuts(self.how, len(data))) if 0 < c < len(data)), len(data)]:
                    y.sendall(data[at:end])
                    at = end
                    time.sleep(0.0003)
            y.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("how", ["each octet", "segments of 536", "in the record's head", "the last octet late"])
def test_send_gets_through_cuts(postrider, sink, folder, how):
    """Both flights in pieces; verified, and resumed on a second connection (a ticket makes the hello longer)."""
    certificate = make_certificate(folder / "hello-certs", "cut", names=["127.0.0.1"])
    hop = sink(certificate=certificate)
    cutter = Cutter(hop.port, how)
    p = postrider(extra=f'trust = "{certificate.chain}"\nconnection_idle = "0s"\ndomain "cut.test" {{ deliver = "smtp://127.0.0.1:{cutter.port}" tls = verify }}\n')
    for n in range(2):
        send(p.port, f"x{n}@cut.test")
        e = p.wait_event("delivered", 30, to=f"x{n}@cut.test")[0]
        assert e["reached"] == "verify" and "TLSv1.3" in e["tls"]
    assert len(hop.messages) == 2 and all(m["tls"] for m in hop.messages) and min(cutter.hellos) > 200
    cutter.listener.close()
