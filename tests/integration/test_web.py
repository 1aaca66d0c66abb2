"""The role `web` against curl, raw clients and another Postrider: what is refused, what is served, limits, reloads, and the whole
loop: one host serves its policy, another obeys it.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import time

import pytest

from conftest import Postrider, alive, free_port, make_certificate, own, run, wait_for
from test_policy import Dns, record
from test_super import hangup

PATH = "/.well-known/mta-sts.txt"
GOOD, NEXT = "mta-sts.good.test", "mta-sts.next.test"
CONFIG = '''
hostname = "mx.good.test"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
dane     = false
certificate "mx"   {{ chain = "{dir}/mx.pem"    key = "{dir}/mx.key" }}
certificate "good" {{ chain = "{dir}/good.pem"  key = "{dir}/good.key" }}
certificate "next" {{ chain = "{dir}/next.pem"  key = "{dir}/next.key" }}
listener "mx"      {{ address = {{"127.0.0.1:{port}"}}  certificate = {{"mx"}} }}
domain "good.test" {{ deliver = "discard" }}
{web_section}
{policies}
'''
WEB = 'web "pages" {{ address = {{"127.0.0.1:{port}"}}  certificate = {{"good", "next"}} {more} }}'
POLICIES = '''sts_policy "Good.test" { mode = enforce mx = {"mx.good.test", "*.back.test"} max_age = "7d" }
sts_policy "next.test" { mode = testing mx = {"mx.next.test"} }
'''


@pytest.fixture(scope="session")
def pki(folder):
    at = folder / "web"
    ca = make_certificate(at, "Web CA")
    return {"ca": ca, "mx": make_certificate(at, "mx", names=["mx.good.test"], ca=ca), "good": make_certificate(at, "good", names=[GOOD], ca=ca),
            "next": make_certificate(at, "next", kind="rsa", names=[NEXT], ca=ca)}


def place(p, pki, name, to=None):
    for part, ending in (("chain", "pem"), ("key", "key")):
        shutil.copy(getattr(pki[name], part), p.dir / f"{to or name}.{ending}")
    if p.user:
        own(p.dir, p.user)


class Site:
    """A daemon with a section web, and clients for it."""

    def __init__(self, p, pki, port):
        self.p, self.port, self.ca = p, port, pki["ca"].chain

    def curl(self, *args, host=GOOD, path=PATH, exit=0):
        r = run("curl", "-s", "-S", "--max-time", "20", "--cacert", self.ca, "--resolve", f"{host}:{self.port}:127.0.0.1", *args,
                f"https://{host}:{self.port}{path}", check=False)
        assert r.returncode == exit, (r.returncode, r.stderr, r.stdout)
        return r.stdout

    def code(self, *args, **kw):
        return self.curl("-o", "/dev/null", "-w", "%{http_code}", *args, **kw)

    def connect(self, name=GOOD, source="127.0.0.1", version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", self.port), 10, source_address=(source, 0))
        return context.wrap_socket(plain, server_hostname=name)

    def ask(self, octets, name=GOOD):
        """All that is answered until the end; what is asked must be of a kind after which the server closes."""
        with self.connect(name) as s:
            s.sendall(octets)
            said = b""
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                while data := s.recv(65536):
                    said += data
            return said


def mta_sts(p, *args):
    return run(*p.command("mta-sts", *args, "-c", str(p.config_path))).stdout


def ids(p):
    return dict(re.findall(r'^_mta-sts\.(\S+)\. TXT "v=STSv1; id=(\w+);"$', mta_sts(p, "records"), re.M))


@pytest.fixture
def site(postrider, pki):
    def make(more="", policies=POLICIES, web=True, **kw):
        port = free_port()
        p = postrider(start=False, config=CONFIG, policies=policies, web_section=WEB.format(port=port, more=more) if web else "", **kw)
        for name in ("mx", "good", "next"):
            place(p, pki, name)
        p.start()
        return Site(p, pki, port)

    return make


@pytest.fixture(scope="module")
def usual(folder, pki):
    """One for the tests that change nothing."""
    port = free_port()
    p = Postrider(folder, pki["mx"], config=CONFIG, policies=POLICIES, web_section=WEB.format(port=port, more=""))
    for name in ("mx", "good", "next"):
        place(p, pki, name)
    p.start()
    yield Site(p, pki, port)
    p.stop()
    shutil.rmtree(p.dir, ignore_errors=True)


def get(path=PATH, host=GOOD, method="GET", version="HTTP/1.1", more="Connection: close\r\n"):
    return f"{method} {path} {version}\r\nHost: {host}\r\n{more}\r\n".encode()


# ---- what is refused ----

def test_what_is_not_there(usual):
    assert usual.code(path="/") == "404"
    assert usual.code(path=PATH + "/") == "404"
    assert usual.code(path=PATH + "?x=1") == "404"
    assert usual.code("--path-as-is", path="/x/.." + PATH) == "404"
    assert usual.code("--request-target", "/.well-known/mta%2Dsts.txt") == "404"
    assert usual.code("--request-target", "/" + 3000 * "x") == "404"
    assert usual.code("-k", host="mta-sts.other.test") == "404"
    assert usual.code("-k", host="good.test") == "404"
    assert usual.p.events("web_refused", code=404, host="mta-sts.other.test", reason="not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_other_methods_are_refused(usual, method):
    said = usual.curl("-i", "-X", method)
    assert said.startswith("HTTP/1.1 405 ") and "\nAllow: GET, HEAD" in said and "version:" not in said


def test_a_body_is_not_waited_for(usual):
    began = time.monotonic()
    for method, code in (("POST", "405"), ("GET", "200")):
        for body in ("Content-Length: 1000000000\r\nExpect: 100-continue\r\n", "Transfer-Encoding: chunked\r\n"):
            assert usual.ask(get(method=method, more=body)).startswith(f"HTTP/1.1 {code} ".encode())
    assert time.monotonic() - began < 10
    assert usual.code("-d", "x" * 100000) == "405"


def test_the_name_of_tls_and_that_of_http_are_one(usual):
    assert usual.code("-H", f"Host: {NEXT}") == "421"
    assert usual.ask(get(host=GOOD), name=NEXT).startswith(b"HTTP/1.1 421 ")
    assert usual.ask(get(), name=None).startswith(b"HTTP/1.1 200 "), "who asks for no name gets what Host says"


NO_REQUEST = {
    "nothing but octets": b"\x16\x03\x01\x02\x00" + bytes(range(256)) + b"\r\n\r\n", "words": b"nonsense\r\n\r\n", "no version": f"GET {PATH}\r\n\r\n".encode(),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/9.9": get(version="HTTP/9.9"), "no colon": get(more="nonsense\r\n"),
    "a long header": get(more=f"X: {'y' * 20000}\r\n"), "many fields": get(more="X: y\r\n" * 5000), "a long target": get("/" + "x" * 20000),
    "a length below zero": get(more="Content-Length: -5\r\n"), "SMTP": b"EHLO client.test\r\nMAIL FROM:<a@src.test>\r\n\r\n",
}


@pytest.mark.parametrize("octets", NO_REQUEST.values(), ids=NO_REQUEST)
def test_what_is_no_request(usual, octets):
    said = usual.ask(octets)
    assert not said or re.match(rb"HTTP/1\.1 (400|414|431|505) ", said), said[:200]
    assert b"version: STSv1" not in said
    assert usual.code() == "200", "others are served on"
    assert usual.p.events("web_failed", reason="no request that HTTP knows")


@pytest.mark.parametrize("more", ["", f"Host: {GOOD}\r\nHost: {GOOD}\r\n"], ids=["none", "two"])
def test_one_host_is_asked_for(usual, more):
    said = usual.ask(f"GET {PATH} HTTP/1.1\r\n{more}\r\n".encode())
    assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1") == 1


def test_http_in_clear_and_old_tls_are_refused(usual):
    with socket.create_connection(("127.0.0.1", usual.port), 10) as s:
        s.sendall(get())
        said = b""
        with contextlib.suppress(ConnectionError):
            while data := s.recv(65536):
                said += data
        assert b"HTTP" not in said and b"STSv1" not in said and said[:1] in (b"", b"\x15"), said
    usual.p.wait_event("web_failed", reason="handshake: http request")
    assert usual.curl("--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", exit=35) == ""
    usual.p.wait_event("web_failed", reason="handshake: unsupported protocol")


def test_a_client_that_breaks_off_harms_nobody(usual):
    for n in range(5):
        with socket.create_connection(("127.0.0.1", usual.port), 10) as s:
            s.sendall(b"\x16\x03\x01\x02\x00"[:n])
    for octets in (b"", b"GET", get()):
        with usual.connect() as s:
            s.sendall(octets)
    assert usual.code() == "200" and not usual.p.events("role_exited")


# ---- what is served ----

def test_the_policy_is_what_the_command_prints(usual):
    for host, domain in ((GOOD, "good.test"), (NEXT, "next.test")):
        file = mta_sts(usual.p, "policy", domain)
        said = usual.curl("-i", host=host, path=PATH)
        head, body = said.split("\n\n", 1)
        assert body == file and head.startswith("HTTP/1.1 200 ")
        assert re.search(r"^Content-Type: text/plain$", head, re.M) and "Date: " in head
    octets = usual.ask(get()).split(b"\r\n\r\n", 1)[1]
    assert octets == b"version: STSv1\r\nmode: enforce\r\nmx: mx.good.test\r\nmx: *.back.test\r\nmax_age: 604800\r\n"
    assert usual.p.events("web_served", host=GOOD, path=PATH, method="GET", client="127.0.0.1")


def test_head_says_what_get_would(usual):
    said, whole = usual.curl("-I"), usual.curl("-i")
    fields = [{line for line in text.split("\n\n", 1)[0].splitlines() if not line.startswith("Date:")} for text in (said, whole)]
    assert fields[0] == fields[1] and "STSv1" not in said


def test_spellings_of_the_host(usual):
    for host in (GOOD.upper(), GOOD + ".", f"{GOOD}:443", f"{GOOD}.:{usual.port}"):
        assert usual.ask(get(host=host)).startswith(b"HTTP/1.1 200 "), host
    assert usual.ask(get(path=f"https://{GOOD}{PATH}", host="x.test")).startswith(b"HTTP/1.1 200 "), "RFC 9112 3.2.2"
    assert usual.ask(get(version="HTTP/1.0", more="")).startswith(b"HTTP/1.1 200 ")


def test_the_name_asked_for_chooses_the_certificate(usual):
    assert usual.code(host=GOOD) == usual.code(host=NEXT) == "200"
    assert usual.curl(host="mta-sts.other.test", exit=60) == "", "no certificate of ours has that name"
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with usual.connect(version=version) as s:
            assert s.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version] and not s.session_reused
            s.sendall(get())
            assert s.recv(15) == b"HTTP/1.1 200 OK"


def test_a_connection_serves_several_requests_and_a_hundred_at_most(usual):
    said = run("curl", "-s", "--cacert", usual.ca, "--resolve", f"{GOOD}:{usual.port}:127.0.0.1", "-w", "%{num_connects} ", "-o", "/dev/null",
               "-o", "/dev/null", *[f"https://{GOOD}:{usual.port}{PATH}"] * 2).stdout
    assert said == "1 0 "
    said = usual.ask(get(more="") * 150)
    assert said.count(b"HTTP/1.1 200 OK") == 100 and said.count(b"Connection: close") == 1 and said.count(b"version: STSv1") == 100


def test_requests_in_pieces(usual):
    with usual.connect() as s:
        for octet in get():
            s.sendall(bytes([octet]))
        assert s.recv(15) == b"HTTP/1.1 200 OK"


def test_the_counts_are_metrics(usual):
    usual.code()
    usual.code(path="/x")
    usual.ask(b"nonsense\r\n\r\n")
    names = ("web_served", "web_refused", "web_failed")
    wait_for(lambda: all(usual.p.events(n) for n in names), 5, "one of each")
    text = usual.p.ctl("status", "--prometheus").stdout
    counts = dict(re.findall(r'^postrider_events_total\{[^}]*event="(web_\w+)"[^}]*\} (\d+)', text, re.M))
    assert {n: int(counts[n]) for n in names} == {n: len(usual.p.events(n)) for n in names}
    assert "\nweb " in usual.p.ctl("status").stdout


# ---- limits ----

def test_connections_of_one_address_are_limited(site):
    s = site("connections_per_address = 3")
    held = [s.connect() for _ in range(3)]
    for _ in range(20):  # a flood of one address
        with pytest.raises((ConnectionError, ssl.SSLError, TimeoutError)):
            s.connect()
    s.p.wait_event("web_turned_away", reason="connections_per_address", client="127.0.0.1", count=20)
    assert s.code("--interface", "127.0.0.2") == "200", "another address is served"
    held.pop().close()

    def again():
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            return s.ask(get()).startswith(b"HTTP/1.1 200 ")
    wait_for(again, 5, "room again")
    for h in held:
        h.sendall(get())
        assert h.recv(15) == b"HTTP/1.1 200 OK", "those before are served"


def test_connections_are_limited(site):
    s = site("connections = 5")
    held = [s.connect(source=f"127.0.1.{n + 1}") for n in range(5)]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        s.connect(source="127.0.1.99")
    s.p.wait_event("web_turned_away", reason="connections")
    for h in held:
        h.close()
    wait_for(lambda: len(os.listdir(f"/proc/{s.p.pids()['web']}/fd")) < 30, 5, "their descriptors")
    assert s.code() == "200"


def test_slow_clients_are_cut(site):
    """Silence, an octet a moment in the handshake, in the request, and an answer that is not taken: a deadline, not a pause."""
    s = site("request_timeout = 2s")
    began = time.monotonic()
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context = ssl._create_unverified_context()
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname=GOOD).do_handshake()
    shaking = socket.create_connection(("127.0.0.1", s.port), 10)
    silent, asking = s.connect(), s.connect()
    trickle = (o for o in hello.read())
    ended = {}
    shaking.setblocking(False)
    silent.settimeout(0.01)
    asking.settimeout(0.01)
    request = iter(get(more=f"X: {'y' * 5000}\r\n"))
    while len(ended) < 3 and time.monotonic() - began < 10:
        for name, sock, octets in (("shaking", shaking, trickle), ("asking", asking, request), ("silent", silent, None)):
            if name in ended:
                continue
            try:
                if octets:
                    sock.send(bytes([next(octets)]))
                if sock.recv(100) == b"":
                    ended[name] = time.monotonic() - began
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                pass
            except OSError:
                ended[name] = time.monotonic() - began
        time.sleep(0.1)
    assert set(ended) == {"shaking", "asking", "silent"} and all(1.5 < t < 6 for t in ended.values()), ended
    s.p.wait_event("web_failed", reason="no handshake in time")
    s.p.wait_event("web_failed", reason="no request in time", count=2)
    with s.connect() as idle:  # between requests: an end without a word
        idle.sendall(get(more=""))
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert idle.recv(100) == b""
    assert len(s.p.events("web_failed")) == 3
    assert s.code() == "200"


def test_answers_that_nobody_reads_end_too(site):
    s = site("request_timeout = 2s")
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(10)
        plain.connect(("127.0.0.1", s.port))
        context = ssl._create_unverified_context()
        deaf = context.wrap_socket(plain, server_hostname=GOOD)
        with contextlib.suppress(OSError):
            deaf.sendall(get(more="") * 100)
        # its octets go, all that the kernel takes, and then its time is over
        wait_for(lambda: len(os.listdir(f"/proc/{s.p.pids()['web']}/fd")) < 20, 15, "the end of one that does not read")
    assert s.code() == "200"


def test_a_flood_is_served_and_leaves_nothing(site):
    s = site("connections_per_address = 1000")
    pid = s.p.pids()["web"]

    def flood(n):
        for _ in range(n):
            socks = [s.connect() for _ in range(20)]
            for c in socks:
                c.sendall(get(more=""))
            for c in socks:
                assert c.recv(15) == b"HTTP/1.1 200 OK"
                c.close()

    def resident():
        return int(re.search(r"^VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1))
    flood(10)
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 20, 10, "descriptors of the first flood")
    first = resident()
    flood(40)
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 20, 10, "descriptors of the second flood")
    assert resident() < first + 2048, (first, resident())
    assert len(s.p.events("web_served")) == 1000


# ---- certificates, reload, crash, end ----

def shown(s, name=GOOD):
    with s.connect(name) as c:
        return ssl.DER_cert_to_PEM_cert(c.getpeercert(True)).strip()


def test_a_reload_serves_the_new_policy_with_a_new_id(site):
    s = site()
    first, before = s.curl(), ids(s.p)
    idle, asking = s.connect(), s.connect()
    idle.sendall(get(more=""))
    assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
    asking.sendall(get()[:30])
    old = s.p.pids()["web"]
    s.p.write_config(CONFIG, policies=POLICIES.replace("7d", "8d"))
    hangup(s.p)
    wait_for(lambda: s.curl() == mta_sts(s.p, "policy", "good.test") != first, 5, "the new policy")
    assert "max_age: 691200\n" in s.curl()
    assert ids(s.p)["Good.test"] != before["Good.test"] and ids(s.p)["next.test"] == before["next.test"]
    assert idle.recv(100) == b"", "the old one lets go of who asks for nothing"
    assert alive(old), "and waits for who was asking"
    asking.sendall(get()[30:])
    assert asking.recv(65536).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: not alive(old), 5, "the end of the old one")
    assert not s.p.events("role_exited")


def test_a_renewed_certificate_is_shown_without_a_signal(site, pki):
    s = site()
    assert shown(s) == pathlib.Path(pki["good"].chain).read_text().strip()
    place(s.p, {"x": make_certificate(pathlib.Path(pki["ca"].chain).parent, "renewed", names=[GOOD], ca=pki["ca"])}, "x", to="good")
    new = (s.p.dir / "good.pem").read_text().strip()
    s.p.wait_event("reloaded", 20)
    wait_for(lambda: shown(s) == new, 5, "the renewed certificate")
    assert s.code() == "200" and s.code(host=NEXT) == "200"


def test_a_broken_certificate_leaves_the_other(site, pki):
    s = site(web=False)
    (s.p.dir / "good.key").write_text((s.p.dir / "next.key").read_text())
    port = free_port()
    s.port = port
    s.p.write_config(CONFIG, web_section=WEB.format(port=port, more=""))
    s.p.process.send_signal(signal.SIGHUP)
    s.p.wait_event("reload_failed")
    s.p.stop()
    s.p.start()
    s.p.wait_event("certificate_broken", title="good", listener="pages")
    assert s.code(host=NEXT) == "200"
    assert shown(s, GOOD) == pathlib.Path(pki["next"].chain).read_text().strip()


def test_without_a_working_certificate_nobody_is_spoken_to(site):
    s = site(web=False)
    for name in ("good", "next"):
        (s.p.dir / f"{name}.key").write_text("nothing")
    s.p.stop()
    s.port = free_port()
    s.p.write_config(CONFIG, web_section=WEB.format(port=s.port, more=""))
    s.p.start()
    s.curl("-k", exit=35)
    s.p.wait_event("web_turned_away", reason="no certificate works")


def test_the_role_comes_and_goes_with_its_section(site):
    s = site(web=False)
    assert "web" not in s.p.pids()
    port = s.port
    s.p.write_config(CONFIG, web_section=WEB.format(port=port, more=""))
    hangup(s.p)
    wait_for(lambda: s.code() == "200", 5)
    moved = free_port()
    s.p.write_config(CONFIG, web_section=WEB.format(port=moved, more=""))
    hangup(s.p, 2)
    s.port = moved
    wait_for(lambda: s.code() == "200", 5)
    s.port = port
    assert s.curl(exit=7) == "", "the old address is not listened on"
    s.p.write_config(CONFIG, web_section="")
    hangup(s.p, 3)
    wait_for(lambda: "web" not in s.p.pids(), 5, "the end of web")
    s.port = moved
    assert s.curl(exit=7) == ""
    assert not s.p.events("role_exited") and s.p.stop() == 0


def test_a_reload_whose_address_is_taken_changes_nothing(site):
    s = site()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        s.p.write_config(CONFIG, web_section=WEB.format(port=taken.getsockname()[1], more=""))
        s.p.process.send_signal(signal.SIGHUP)
        assert str(taken.getsockname()[1]) in s.p.wait_event("reload_failed")[0]["reason"]
    assert s.code() == "200"


def test_a_crashed_web_comes_back_and_mail_is_not_touched(site, talk):
    s = site()
    t = talk(s.p.port)
    assert t.say("EHLO client.test").startswith("250")
    first = s.p.pids()
    for n in range(2):
        os.kill(s.p.pids()["web"], signal.SIGKILL)
        s.p.wait_event("role_started", count=n + 2, role_name="web")
        wait_for(lambda: s.code() == "200", 5)
    assert {r for r, pid in s.p.pids().items() if first[r] != pid} == {"web"}
    assert t.say("MAIL FROM:<a@src.test>").startswith("250")
    os.kill(s.p.pids()["keys"], signal.SIGKILL)
    s.p.wait_event("role_started", count=2, role_name="keys")

    def served():
        with contextlib.suppress(AssertionError):
            return s.code() == "200"
    wait_for(served, 10, "pages with the new keys")


def test_the_end_waits_for_nobody_idle(site):
    s = site()
    idle, silent = s.connect(), s.connect()
    idle.sendall(get(more=""))
    assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
    began = time.monotonic()
    assert s.p.stop() == 0
    assert time.monotonic() - began < 6 and s.p.events("stopped", killed=0)
    assert idle.recv(100) == b""
    silent.close()


def test_single(site):
    s = site(arguments=["--single"])
    assert s.curl() == mta_sts(s.p, "policy", "good.test") and s.code(path="/x") == "404"
    assert s.p.stop() == 0


def test_records_name_us(site):
    s = site()
    text = mta_sts(s.p, "records")
    assert re.search(r"^mta-sts\.Good\.test\. CNAME mx\.good\.test\.$", text, re.M), text
    s.p.write_config(CONFIG, web_section="")
    assert "CNAME" not in mta_sts(s.p, "records") and f"https://mta-sts.Good.test{PATH}" in mta_sts(s.p, "records")


def test_config_check_knows_which_names_the_certificates_have(site, pki):
    s = site()

    def said():
        r = run(*s.p.command("config", "check", "-c", str(s.p.config_path)))
        return r.stdout + r.stderr
    assert "no certificate of a web section" not in said()
    s.p.write_config(CONFIG, policies=POLICIES + 'sts_policy "bare.test" { mode = none }\n')
    line = s.p.config_path.read_text().splitlines().index('sts_policy "bare.test" { mode = none }') + 1
    text = said()
    assert re.search(rf":{line}: warning: no certificate of a web section has the name mta-sts\.bare\.test: nobody can fetch the policy of bare\.test", text), text
    assert text.count("no certificate of a web section") == 1
    place(s.p, {"x": make_certificate(pathlib.Path(pki["ca"].chain).parent, "star", names=["*.bare.test", "*.good.test"], ca=pki["ca"])}, "x", to="good")
    assert "no certificate of a web section" not in said(), "a star is a label"


# ---- one serves, another obeys ----

@pytest.fixture
def dns(tmp_path):
    d = Dns(tmp_path)
    yield d
    if d.process:
        d.stop()


def test_what_one_serves_another_obeys(site, postrider, sink, dns, pki):
    """enforce: a next hop without TLS gets nothing, one with the certificate does; then the policy becomes testing."""
    address = "127.0.7.21"
    try:
        hop = sink(address=address, port=25)
    except PermissionError:
        pytest.skip("port 25 needs root")
    a = site()

    def publish():
        records = dict(re.findall(r'^(\S+)\. TXT "(.*)"$', mta_sts(a.p, "records"), re.M))
        dns.set(*record("good.test", records["_mta-sts.Good.test"]), "good.test. 0 MX 10 mx.good.test.", f"mx.good.test. 0 A {address}")

    def send(b, to):
        with smtplib.SMTP("127.0.0.1", b.port, timeout=20) as s:
            s.sendmail("a@src.test", [to], "Subject: x\r\n\r\nbody\r\n")

    publish()
    b = postrider(extra=f'resolver = {{"127.0.0.1:{dns.port}"}}\ntrust = "{pki["ca"].chain}"\nmta_sts_port = {a.port}\nretry_min = "1s"\n')
    send(b, "one@good.test")
    said = b.wait_event("deferred", 20, to="one@good.test")[0]
    assert said["policy"] == "sts" and said["owed"] == "verify", said
    assert b.events("policy_fetched", domain="good.test", mode="enforce", max_age=604800) and not hop.messages
    assert a.p.events("web_served", host=GOOD)
    hop.certificate = pki["mx"]
    hop.wait(1, 30)
    assert hop.messages[0]["tls"]
    # the operator takes it back to testing: another id, and clear text is let through
    hop.certificate = None
    a.p.write_config(CONFIG, policies=POLICIES.replace("mode = enforce", "mode = testing"))
    hangup(a.p)
    publish()
    b.stop()
    b.start()
    send(b, "two@good.test")
    hop.wait(2, 30)
    assert not hop.messages[1]["tls"] and b.events("policy_fetched", domain="good.test", mode="testing")
