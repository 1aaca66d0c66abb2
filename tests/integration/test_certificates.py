"""Certificates of a running daemon: which is shown to whom, session tickets, clients' certificates, what a handshake may look like."""
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import time

import pytest

from conftest import make_certificate, own, wait_for
from loader import Pair, count_lines
from test_super import served_certificate

CONFIG = '''
hostname = "mx.sink.test"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
trust    = "{dir}/ca.pem"
{settings}
certificate "rsa"   {{ chain = "{dir}/rsa.pem"    key = "{dir}/rsa.key" }}
certificate "ec"    {{ chain = "{dir}/ec.pem"     key = "{dir}/ec.key" }}
certificate "other" {{ chain = "{dir}/other.pem"  key = "{dir}/other.key" }}
listener "mx"       {{ address = {{"127.0.0.1:{port}"}}  tls = starttls  certificate = {{"rsa", "ec", "other"}} {listener} }}
domain "sink.test"  {{ deliver = "discard" }}
domain "local.test" {{ deliver = "maildir:{dir}/mail/%{{user}}" }}
'''


@pytest.fixture(scope="session")
def pki(folder):
    at = folder / "several"
    ca = make_certificate(at, "Test CA")
    return {"ca": ca, "rsa": make_certificate(at, "rsa", kind="rsa", names=["mx.sink.test"], ca=ca), "ec": make_certificate(at, "ec", names=["mx.sink.test"], ca=ca),
            "other": make_certificate(at, "other", names=["other.test", "third.test"], ca=ca), "client": make_certificate(at, "client.test", ca=ca),
            "stranger": make_certificate(at, "stranger")}


def place(p, pki, *names):
    for name in names or ("rsa", "ec", "other"):
        for part, ending in (("chain", "pem"), ("key", "key")):
            (p.dir / f"{name}.{ending}").write_bytes(pathlib.Path(getattr(pki[name], part)).read_bytes())
    (p.dir / "ca.pem").write_bytes(pathlib.Path(pki["ca"].chain).read_bytes())
    if p.user:
        own(p.dir, p.user)


@pytest.fixture
def serve(postrider, pki):
    def make(settings="", listener="", **kw):
        p = postrider(start=False, config=CONFIG, settings=settings, listener=listener, **kw)
        place(p, pki)
        return p.start()

    return make


def to_starttls(port):
    s = socket.create_connection(("127.0.0.1", port), 10)
    f = s.makefile("rb", buffering=0)

    def reply():
        while (line := f.readline())[3:4] == b"-":
            pass
        return line

    reply()
    for line in (b"EHLO c.test\r\n", b"STARTTLS\r\n"):
        s.sendall(line)
        assert reply()[:3] in (b"250", b"220")
    return s


def client(ca=None, version=None, ciphers=None, show=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    if show:
        context.load_cert_chain(show.chain, show.key)
    return context


class Shaken:
    """A session whose ClientHello and the rest go out in pieces."""

    def __init__(self, port, context, name, session=None, piece=None):
        self.sock = to_starttls(port)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inside, self.outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inside, self.outside, server_hostname=name, session=session)
        self.piece = piece
        self.call(self.tls.do_handshake)

    def flush(self):
        data = self.outside.read()
        for at in range(0, len(data), self.piece or len(data) or 1):
            self.sock.sendall(data[at:at + (self.piece or len(data))])
        return len(data)

    def call(self, what, *args):
        while True:
            try:
                return what(*args)
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError from None
                self.inside.write(data)
            finally:
                self.flush()

    def say(self, line):
        self.call(self.tls.write, line.encode() + b"\r\n")
        text = b""
        while not re.search(rb"(?m)^\d{3} .*\r\n\Z", text):
            text += self.call(self.tls.read, 65536)
        return text.decode()

    def certificate(self):
        return ssl.DER_cert_to_PEM_cert(self.tls.getpeercert(True)).strip()

    def close(self):
        self.sock.close()


def shown(pki, port, name, **kw):
    s = Shaken(port, client(**kw), name)
    assert "250" in s.say("EHLO c.test")
    found = [k for k in ("rsa", "ec", "other") if pathlib.Path(pki[k].chain).read_text().strip() == s.certificate()]
    s.close()
    return found[0]


def test_the_name_asked_for_chooses_and_ecdsa_goes_first(serve, pki):
    p = serve()
    rsa_only = dict(version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-RSA-AES128-GCM-SHA256")
    for name, kw, want in ((None, {}, "ec"), ("mx.sink.test", {}, "ec"), ("mx.sink.test", rsa_only, "rsa"), ("other.test", {}, "other"), ("THIRD.test", {}, "other"),
                           ("nobody.test", {}, "ec"), ("nobody.test", rsa_only, "rsa"), ("mx.sink.test", dict(version=ssl.TLSVersion.TLSv1_2), "ec")):
        assert shown(pki, p.port, name, **kw) == want, (name, kw)


def test_a_broken_certificate_leaves_the_others(postrider, pki):
    p = postrider(start=False, config=CONFIG, settings="")
    place(p, pki)
    (p.dir / "ec.key").write_bytes(pathlib.Path(pki["stranger"].key).read_bytes())
    p.start()
    p.wait_event("certificate_broken", title="ec", listener="mx")
    assert not p.events("certificate_broken", title="rsa")
    wait_for(lambda: shown(pki, p.port, "mx.sink.test") == "rsa", 5, "the other certificate", step=0.1)
    assert shown(pki, p.port, "other.test") == "other"


def resumed(port, context, name, other):
    first = Shaken(port, context, name)
    first.say("EHLO c.test")  # the ticket of TLS 1.3 comes with it
    kept = first.tls.session
    first.say("QUIT")
    first.close()
    try:
        second = Shaken(port, context, other, session=kept)
    except ValueError:  # Python's own check: a session of another context
        return False
    assert "250" in second.say("EHLO c.test")
    yes = second.tls.session_reused
    second.close()
    return yes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets_are_bound_to_the_name(serve, version):
    p = serve()
    context = client(version=version)
    assert resumed(p.port, context, "mx.sink.test", "mx.sink.test")
    assert not resumed(p.port, context, "mx.sink.test", "other.test")
    assert not resumed(p.port, context, "other.test", "third.test")
    p.wait_event("session_end", resumed="yes")


def test_tickets_can_be_switched_off(serve):
    p = serve(settings="session_tickets = no")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert not resumed(p.port, client(version=version), "mx.sink.test", "mx.sink.test")


def test_a_client_hello_in_many_segments_and_a_very_large_one(serve):
    p = serve()
    for piece, protocols in ((1, 0), (3, 8), (1400, 8), (1400, 250), (None, 250), (16384, 250)):
        context = client()
        if protocols:  # of 255 octets: 250 make a ClientHello of 64 KB in four records
            context.set_alpn_protocols(["p" * 255] * protocols)
        s = Shaken(p.port, context, "mx.sink.test", piece=piece)
        assert "250" in s.say("EHLO c.test"), (piece, protocols)
        s.close()
    s = to_starttls(p.port)  # one that never ends: refused, and nobody is harmed
    hello = b"\x01\xff\xff\xff\x03\x03" + bytes(16378)
    s.sendall(b"\x16\x03\x01\x40\x00" + hello[:16384])
    s.settimeout(5)
    assert s.recv(100)[:1] in (b"\x15", b"")
    assert "250" in Shaken(p.port, client(), "mx.sink.test").say("EHLO c.test")


def test_renegotiation_is_refused(serve):
    p = serve()
    with subprocess.Popen(["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{p.port}", "-tls1_2", "-noservername"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as c:
        c.stdin.write(b"R\n")
        out, _ = c.communicate(timeout=20)
    assert b"RENEGOTIATING" in out and (b"no renegotiation" in out or b"alert" in out), out[-500:]
    assert b"Compression: NONE" in out


def test_modern_is_tls_1_3_alone(serve):
    p = serve(listener="tls_policy = modern")
    with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
        Shaken(p.port, client(version=ssl.TLSVersion.TLSv1_2), "mx.sink.test")
    assert "250" in Shaken(p.port, client(version=ssl.TLSVersion.TLSv1_3), "mx.sink.test").say("EHLO c.test")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_certificates_are_told_and_refuse_nobody(serve, pki, version):
    p = serve(listener="client_certificates = ask")
    box = p.mailbox("alice")
    for n, (show, words, log) in enumerate(((None, "no certificate", "no certificate"), (pki["client"], "client certificate CN=client.test verified", None),
                                            (pki["stranger"], "client certificate CN=stranger not verified: self-signed certificate", None)), 1):
        s = Shaken(p.port, client(version=version, show=show), "mx.sink.test")
        for line, code in (("EHLO c.test", "250"), ("MAIL FROM:<a@b.test>", "250"), ("RCPT TO:<alice@local.test>", "250"), ("DATA", "354"), (f"Subject: {n}\r\n\r\nx\r\n.", "250")):
            assert s.say(line).startswith(code)
        s.say("QUIT")
        s.close()
        texts = [re.sub(rb"\s+", b" ", m).decode() for m in box.wait(n)]
        text = next(t for t in texts if f"Subject: {n}" in t)
        assert re.search(rf"tls TLS\S+ \(TLSv1\.\d \d+ bits {words}\)|tls ECDHE\S+ \(TLSv1\.\d \d+ bits {words}\)", text), text
        assert any(e["client_certificate"].startswith(log or words) for e in p.wait_event("session_end", count=n))


def test_unasked_clients_show_nothing(serve, pki):
    p = serve()
    s = Shaken(p.port, client(show=pki["client"]), "mx.sink.test")
    s.say("EHLO c.test")
    s.say("QUIT")
    assert p.wait_event("session_end")[0]["client_certificate"] == "no certificate"


# ---- renewal ----


def put(p, certificate, parts=("chain", "key")):
    """As certbot does: a new file renamed over the old one."""
    for part in parts:
        fresh = p.dir / "fresh.tmp"
        fresh.write_bytes(pathlib.Path(getattr(certificate, part)).read_bytes())
        if p.user:
            own(fresh, p.user)
        fresh.rename(p.dir / f"{part}.pem")


def is_shown(p, certificate):
    return served_certificate(p.port) == pathlib.Path(certificate.chain).read_text().strip()


@pytest.mark.parametrize("first", ["chain", "key"])
def test_renewed_files_are_taken_into_service_without_a_signal(postrider, talk, folder, certificate, first):
    """Chain and key come a while apart; a session that was there goes on, and what the configuration file says meanwhile counts for nothing."""
    p = postrider()
    old = talk(p.port)
    assert old.say("EHLO c.test").startswith("250")
    fresh = make_certificate(folder / "certs", f"renewed-{first}.test")
    p.config_path.write_text("half an ed")
    put(p, fresh, [first])
    time.sleep(1)
    put(p, fresh, ["key" if first == "chain" else "chain"])
    p.wait_event("certificate_changed", 20, title="default")
    p.wait_event("reloaded", 20)
    wait_for(lambda: is_shown(p, fresh), 5, "the new certificate", step=0.1)
    assert not p.events("certificate_refused")
    old.starttls()
    assert old.say("EHLO c.test").startswith("250")
    p.write_config(p.CONFIG)


def test_a_broken_new_pair_is_refused_and_the_old_one_kept(postrider, folder, certificate):
    p = postrider()
    fresh, wrong = make_certificate(folder / "certs", "fresh.test"), make_certificate(folder / "certs", "wrong.test")
    put(p, fresh, ["chain"])
    put(p, wrong, ["key"])
    assert "does not belong" in p.wait_event("certificate_refused", 20, title="default")[0]["reason"]
    assert is_shown(p, certificate)
    p.process.send_signal(signal.SIGHUP)
    assert "does not belong" in p.wait_event("reload_failed")[0]["reason"]
    assert is_shown(p, certificate) and not p.events("reloaded")
    (p.dir / "chain.pem").unlink()
    assert "chain" in p.wait_event("certificate_refused", 20, count=2)[1]["reason"]
    assert is_shown(p, certificate)
    put(p, fresh)
    wait_for(lambda: is_shown(p, fresh), 20, "the right pair", step=0.2)


def test_renewals_under_load_lose_no_session_and_no_message(postrider, folder, certificate, tmp_path):
    books = Pair(tmp_path, certificate=certificate)
    try:
        p = postrider(extra=f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{books.port}" tls = may }}', relay_from='"192.0.2.0/24"')
        load = books.send(p.port, "--forever", "--tls-senders", 25, senders=50)
        wait_for(lambda: count_lines(books.sent) > 200, 20, "load")
        for n in range(3):
            fresh = make_certificate(folder / "certs", f"load-{n}.test")
            put(p, fresh)
            wait_for(lambda: len(p.events("reloaded")) > n, 30, "a reload")
            wait_for(lambda: is_shown(p, fresh), 10, "the new certificate", step=0.2)
            before = count_lines(books.sent)
            wait_for(lambda: count_lines(books.sent) > before + 100, 20, "load that goes on")
        said = books.finish(load, 30, stop=True)
        assert said["broken"] == "0", said
        wait_for(lambda: not books.compare()[0], 30, "all messages", step=0.2)
        assert not any(books.compare())
        assert not p.events("role_exited") and not p.events("certificate_refused")
    finally:
        books.close()


def test_the_end_of_a_certificate_is_told(postrider, folder):
    near = make_certificate(folder / "certs", "near.test", days=5)
    p = postrider(certificate=near)
    assert p.wait_event("certificate_expires")[0]["days"] in ("4", "5")
    text = p.ctl("status", "--prometheus").stdout
    at = int(re.search(r'^postrider_certificate_expires_seconds\{title="default"\} (\d+)$', text, re.M).group(1))
    assert 4 * 86400 < at - time.time() <= 5 * 86400
    assert "certificate default: ends in" in p.ctl("status").stdout


def test_the_end_of_a_far_certificate_is_not_told(postrider):
    p = postrider()
    assert "postrider_certificate_expires_seconds" in p.ctl("status", "--prometheus").stdout
    assert not p.events("certificate_expires")
