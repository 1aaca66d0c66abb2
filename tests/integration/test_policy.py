"""MTA-STS (RFC 8461) against a real DNS server and a real HTTPS server: what is fetched, refused, kept and forgotten.

`send` asks the role `policy` before a delivery; here the question is put over the same kind of channel by a delivery to a domain, and
what came of it is read from the log and the database.
"""
import contextlib
import http.server
import json
import pathlib
import re
import smtplib
import sqlite3
import ssl
import subprocess
import threading
import time

import pytest

from conftest import BINARY, free_port, make_certificate, run, wait_for


@pytest.fixture(scope="module")
def pki(folder):
    """A CA, and certificates by it: right, of another name, by nobody, over."""
    d = folder / "sts-pki"
    ca = make_certificate(d, "ca")
    names = ["mta-sts.good.test", "mta-sts.next.test", "mta-sts.slow.test"]
    made = {"ca": ca, "good": make_certificate(d, "good", names=names, ca=ca), "other": make_certificate(d, "other", names=["www.good.test"], ca=ca),
            "self": make_certificate(d, "self", names=names)}
    made["common"] = make_common_name(d, ca)
    made["expired"] = make_expired(d, ca)
    return made


def make_common_name(d, ca):
    """The right name, but where names do not count any more (RFC 8461 3.3)."""
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", d / "cn.key", "-out", d / "cn.csr", "-subj", "/CN=mta-sts.good.test")
    run("openssl", "x509", "-req", "-in", d / "cn.csr", "-CA", ca.chain, "-CAkey", ca.key, "-CAcreateserial", "-days", "5", "-out", d / "cn.pem")
    return type(ca)(d / "cn.pem", d / "cn.key", ca.chain)


def make_expired(d, ca, names=("mta-sts.good.test",)):
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", d / "old.key", "-out", d / "old.csr", "-subj", "/CN=x")
    (d / "old.ext").write_text("subjectAltName=" + ",".join(f"DNS:{n}" for n in names) + "\n")
    (d / "old.cnf").write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={d}/index\nserial={d}/serial\nnew_certs_dir={d}\ndefault_md=sha256\npolicy=p\n"
                               f"certificate={ca.chain}\nprivate_key={ca.key}\n[p]\ncommonName=supplied\n")
    (d / "index").write_text("")
    (d / "serial").write_text("1000\n")
    run("openssl", "ca", "-batch", "-config", d / "old.cnf", "-in", d / "old.csr", "-out", d / "old.pem", "-notext", "-startdate", "20200101000000Z",
        "-enddate", "20200201000000Z", "-extfile", d / "old.ext")
    return type(ca)(d / "old.pem", d / "old.key", ca.chain)


class PolicyServer:
    """An HTTPS server on 127.0.0.1; what it answers is a function of the request."""

    def __init__(self, certificate, answer):
        self.asked, self.answer = [], answer
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.asked.append((self.headers["Host"], self.path))
                outer.answer(self)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.headers["Host"], self.path, self.headers["Content-Type"], body))
                outer.answer(self)

            def log_message(self, *a):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *a):
                pass

        self.server = Server(("127.0.0.1", free_port()), Handler)
        self.port = self.server.server_port
        self.use(certificate)
        self.plain = self.server.socket
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def use(self, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        if hasattr(self, "plain"):
            self.server.socket.context = context
        else:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def text(body, status=200, type="text/plain", **headers):
    def answer(h):
        data = body() if callable(body) else body
        data = data if isinstance(data, bytes) else data.encode()
        h.send_response(status)
        h.send_header("Content-Type", type)
        h.send_header("Content-Length", str(len(data)))
        for k, v in headers.items():
            h.send_header(k, v)
        h.end_headers()
        with contextlib.suppress(OSError):
            h.wfile.write(data)
    return answer


def policy(mode="enforce", mx="mx.good.test", max_age=86400):
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age}\r\n"


@pytest.fixture
def https(pki):
    made = []

    def make(answer=None, certificate="good"):
        made.append(PolicyServer(pki[certificate], answer or text(policy())))
        return made[-1]

    yield make
    for s in made:
        s.close()


class Dns:
    """unbound with records of ours; set() replaces them while it runs."""

    def __init__(self, folder):
        self.port, self.dir = free_port(), folder / f"dns-{free_port()}"
        self.dir.mkdir()
        self.process = None

    def set(self, *records):
        if self.process:
            self.stop()
        data = "\n".join(f"  local-data: '{r}'" for r in records)
        conf = self.dir / "unbound.conf"
        conf.write_text(f'server:\n  interface: 127.0.0.1@{self.port}\n  do-daemonize: no\n  username: ""\n  chroot: ""\n  directory: "{self.dir}"\n'
                        f'  pidfile: ""\n  use-syslog: no\n  logfile: "{self.dir}/log"\n  module-config: "iterator"\n  do-not-query-localhost: no\n'
                        f'  local-zone: "test." static\n{data}\nremote-control:\n  control-enable: no\n')
        self.process = subprocess.Popen(["unbound", "-d", "-c", str(conf)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def up():
            import socket
            q = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x04good\x04test\0\0\x01\0\x01"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, contextlib.suppress(OSError):
                s.settimeout(0.3)
                s.sendto(q, ("127.0.0.1", self.port))
                return s.recv(512)
        wait_for(up, 10, "unbound")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def dns(tmp_path):
    d = Dns(tmp_path)
    yield d
    if d.process:
        d.stop()


def record(domain, *texts, host=True):
    return [f'_mta-sts.{domain}. 0 TXT "{t}"' for t in texts] + ([f"mta-sts.{domain}. 0 A 127.0.0.1"] if host else [])


DRIVER = str(pathlib.Path(BINARY).parent / "tests/integration/policy_driver")
NONE, FOUND, FAILED = 1, 2, 3
MODE = {"none": 1, "testing": 2, "enforce": 3}


class Driver:
    """The role itself (policy_driver.c): asked as `send` asks, with a clock that goes ahead when told."""

    def __init__(self, conf, log):
        self.log = open(log, "ab")
        self.process = subprocess.Popen([DRIVER, str(conf)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.path, self.said, self.lock = log, [], threading.Condition()
        self.told = 0
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            with self.lock:
                self.said.append(json.loads(line))
                self.lock.notify_all()

    def tell(self, line):
        if line.startswith("time "):
            time.sleep(0.2)  # what was told before happened before
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait(self, key, seconds=20):
        """The next line that has this key."""
        with self.lock:
            end = time.monotonic() + seconds
            while True:
                for i in range(self.told, len(self.said)):
                    if key in self.said[i]:
                        self.told = i + 1
                        return self.said[i]
                if not self.lock.wait(end - time.monotonic()):
                    pytest.fail(f"no {key}:\n{self.said}\n{pathlib.Path(self.path).read_text()[-3000:]}")

    def ask(self, domain, seconds=20):
        self.tell(f"ask {domain}")
        return self.wait("status", seconds)

    def events(self, name):
        return [line for line in pathlib.Path(self.path).read_text().splitlines() if f"event={name} " in line + " "]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0, pathlib.Path(self.path).read_text()[-3000:]
        self.log.close()


@pytest.fixture
def driver(dns, pki, tmp_path):
    made = []

    def make(server, extra="", folder="policy"):
        conf = tmp_path / "driver.conf"
        port = server.port if hasattr(server, "port") else server
        conf.write_text(f'dane = false\nhostname = "mx.ours.test"\nspool = "{tmp_path}/spool"\ncontrol = "{tmp_path}/c"\npolicy_folder = "{tmp_path}/{folder}"\n'
                        f'resolver = {{"127.0.0.1:{dns.port}"}}\ntrust = "{pki["ca"].chain}"\nmta_sts_port = {port}\n{extra}')
        made.append(Driver(conf, tmp_path / "driver.log"))
        return made[-1]

    yield make
    for d in made:
        d.close()


# ---- what is not there, and what cannot be had ----

def test_a_domain_without_a_record_has_no_policy(dns, https, driver):
    server = https()
    dns.set("good.test. A 127.0.0.1")
    d = driver(server)
    assert d.ask("good.test") | {"stream": 0} == {"stream": 0, "status": NONE, "mode": 1, "ttl": 0, "id": "", "mx": "", "reason": "no MTA-STS record"}
    assert d.ask("no..domain")["status"] == NONE and d.ask("a b")["status"] == NONE and d.ask("")["status"] == NONE
    assert not server.asked


@pytest.mark.parametrize("texts, reason", [
    (["v=STSv1; id=1", "v=STSv1; id=2"], "several"), (["v=STSv1; id=a-b"], "malformed"), (["v=STSv2; id=1"], "no MTA-STS record"), (["hello"], "no MTA-STS record"),
])
def test_records_that_count_as_none(dns, https, driver, texts, reason):
    server = https()
    dns.set(*record("good.test", *texts))
    a = driver(server).ask("good.test")
    assert a["status"] == NONE and reason in a["reason"] and not server.asked


def test_other_records_beside_it_do_not_count(dns, https, driver):
    dns.set(*record("good.test", "v=spf1 -all", "v=STSv1; id=7;", "v=STSv2; id=9"))
    assert driver(https()).ask("good.test")["id"] == "7"


def test_without_dns_there_is_no_policy(dns, https, driver):
    dns.set("good.test. A 127.0.0.1")
    dns.stop()
    dns.process = None
    a = driver(https()).ask("good.test", 60)
    assert a["status"] == NONE and "looked up" in a["reason"]


BAD = [
    ("redirect", text("", 302, Location="/elsewhere"), "good", "redirects are not followed"),
    ("permanent", text("", 301, Location="https://mta-sts.good.test/x"), "good", "redirects are not followed"),
    ("missing", text("not here", 404), "good", "404"),
    ("broken", text("x", 500), "good", "500"),
    ("empty", text(b"", 204), "good", "204"),
    ("html", text(policy(), type="text/html"), "good", "text/html"),
    ("octets", text(policy(), type="application/octet-stream"), "good", "octet-stream"),
    ("oversize", text(policy() + "x: " + "y" * 70000), "good", "larger"),
    ("malformed", text("version: STSv1\nmode: enforce\n"), "good", "max_age"),
    ("page", text("<html></html>"), "good", "cannot be used"),
    ("other name", None, "other", "certificate"),
    ("self-signed", None, "self", "certificate"),
    ("expired", None, "expired", "expired"),
    ("common name", None, "common", "certificate"),
]


@pytest.mark.parametrize("answer, certificate, reason", [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_no_policy(dns, https, driver, answer, certificate, reason):
    server = https(answer, certificate)
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(server)
    a = d.ask("good.test")
    assert a["status"] == FAILED and reason in a["reason"] and not a["mx"], a
    asked = len(server.asked)
    assert d.ask("good.test")["status"] == FAILED and len(server.asked) == asked, "not asked again within five minutes"
    assert len(d.events("policy_failed")) == 1
    server.answer = text(policy())
    if certificate == "good":
        d.tell("time 301")
        assert d.ask("good.test")["status"] == FOUND and len(server.asked) == asked + 1
    assert all(path == "/.well-known/mta-sts.txt" for _, path in server.asked)


def test_an_endless_answer_is_cut(dns, https, driver):
    def endless(h):
        h.send_response(200)
        h.send_header("Content-Type", "text/plain")
        h.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                h.wfile.write(b"x: " + b"y" * 4096 + b"\n")
    dns.set(*record("good.test", "v=STSv1; id=1"))
    a = driver(https(endless)).ask("good.test")
    assert a["status"] == FAILED and "larger" in a["reason"]


def test_nobody_listens_and_no_address(dns, driver):
    dns.set(*record("good.test", "v=STSv1; id=1"), *record("bare.test", "v=STSv1; id=1", host=False))
    d = driver(free_port())
    assert d.ask("good.test")["status"] == FAILED
    a = d.ask("bare.test")
    assert a["status"] == FAILED and "no address" in a["reason"]


def test_a_silent_server_costs_a_minute_at_most(dns, https, driver):
    over = threading.Event()
    dns.set(*record("slow.test", "v=STSv1; id=1"), *record("good.test", "v=STSv1; id=1"))
    good = text(policy())
    server = https(lambda h: over.wait(90) if "slow" in h.headers["Host"] else good(h))
    d = driver(server)
    begun = time.monotonic()
    d.tell("ask slow.test")
    assert d.ask("good.test")["id"] == "1", "others are served meanwhile"
    a = d.wait("status", 75)
    over.set()
    assert a["status"] == FAILED and 50 < time.monotonic() - begun < 70, a


# ---- what is had ----

def test_a_policy_is_fetched_once_and_kept(dns, https, driver, tmp_path):
    server = https(text(policy(mx="MX.good.test\r\nmx: *.good.test"), type="Text/Plain; charset=utf-8"))
    dns.set(*record("good.test", "v=STSv1; id=20260101T000000;"))
    d = driver(server)
    a = d.ask("good.test")
    assert (a["status"], a["mode"], a["id"], a["mx"]) == (FOUND, MODE["enforce"], "20260101T000000", "mx.good.test\n*.good.test\n")
    assert 86390 <= a["ttl"] <= 86400
    assert d.ask("GOOD.test")["mx"] == a["mx"] and len(server.asked) == 1
    assert server.asked[0] == (f"mta-sts.good.test:{server.port}", "/.well-known/mta-sts.txt")
    rows = sqlite3.connect(tmp_path / "policy/policy.db").execute("SELECT domain, id, mode, max_age FROM policy").fetchall()
    assert rows == [("good.test", a["id"], 3, 86400)]


def test_many_questions_are_one_fetch(dns, https, driver):
    server = https()
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(server)
    for _ in range(50):
        d.tell("ask good.test")
    assert all(d.wait("status")["status"] == FOUND for _ in range(50)) and len(server.asked) == 1


@pytest.mark.parametrize("mode", ["none", "testing", "enforce"])
def test_modes(dns, https, driver, mode):
    dns.set(*record("good.test", "v=STSv1; id=1"))
    a = driver(https(text(policy(mode)))).ask("good.test")
    assert a["status"] == FOUND and a["mode"] == MODE[mode]


def test_a_new_id_brings_the_new_policy(dns, https, driver):
    server = https(text(policy(mx="old.good.test")))
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(server)
    assert d.ask("good.test")["mx"] == "old.good.test\n"
    server.answer = text(policy(mx="new.good.test"))
    assert d.ask("good.test")["mx"] == "old.good.test\n", "the record says that nothing is new"


# ---- what holds on ----

def again(dns, driver, server, *records):
    """The role started anew on the same folder, and a DNS that says something else (and has nothing in its cache)."""
    dns.set(*records)
    return driver(server)


def test_the_cache_outlives_the_role_and_a_new_id_replaces_it(dns, https, driver):
    server = https(text(policy(mx="old.good.test")))
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(server)
    assert d.ask("good.test")["mx"] == "old.good.test\n"
    server.answer = text(policy(mx="new.good.test"))
    d = again(dns, driver, server, *record("good.test", "v=STSv1; id=2"))
    a = d.ask("good.test")
    assert (a["mx"], a["id"]) == ("new.good.test\n", "2") and len(server.asked) == 2


def test_what_is_cached_holds_when_the_record_goes(dns, https, driver):
    server = https()
    dns.set(*record("good.test", "v=STSv1; id=1"))
    assert driver(server).ask("good.test")["status"] == FOUND
    d = again(dns, driver, server, "good.test. A 127.0.0.1")
    assert d.ask("good.test")["status"] == FOUND, "an attacker on the DNS cannot take it away"
    d.tell("time 86500")
    assert d.ask("good.test")["status"] == NONE, "until max_age is over"


@pytest.mark.parametrize("broken", [text("gone", 404), text("nonsense"), text("", 302, Location="/x")], ids=["404", "nonsense", "redirect"])
def test_what_is_cached_holds_when_a_new_one_cannot_be_had(dns, https, driver, broken):
    server = https()
    dns.set(*record("good.test", "v=STSv1; id=1"))
    assert driver(server).ask("good.test")["status"] == FOUND
    server.answer = broken
    d = again(dns, driver, server, *record("good.test", "v=STSv1; id=2"))
    a = d.ask("good.test")
    assert (a["status"], a["id"], a["mode"]) == (FOUND, "1", MODE["enforce"]) and "kept=1" in d.events("policy_failed")[0], a
    d.tell("time 86500")
    assert d.ask("good.test")["status"] == FAILED, "a stale policy does not count"


def test_it_is_refreshed_when_half_of_its_life_is_over(dns, https, driver):
    server = https(text(policy(max_age=1000)))
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(server)
    assert d.ask("good.test")["ttl"] == 1000
    d.tell("time 550")  # before the ten minutes after which the role looks by itself
    assert 440 <= d.ask("good.test")["ttl"] <= 450  # seconds of the wall go on beside those that were told, "the question does not wait for it"
    wait_for(lambda: len(d.events("policy_fetched")) == 2, 10, "the refresh")
    assert len(server.asked) == 2 and d.ask("good.test")["ttl"] == 1000


def test_a_refresh_that_fails_changes_nothing(dns, https, driver):
    server = https(text(policy(max_age=1000)))
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(server)
    assert d.ask("good.test")["ttl"] == 1000
    server.answer = text("x", 503)
    d.tell("time 550")  # before the ten minutes after which the role looks by itself
    assert 440 <= d.ask("good.test")["ttl"] <= 450  # seconds of the wall go on beside those that were told
    wait_for(lambda: d.events("policy_failed"), 10, "the failure")
    assert 440 <= d.ask("good.test")["ttl"] <= 450  # seconds of the wall go on beside those that were told
    d.tell("time 451")
    assert d.ask("good.test")["status"] == FAILED


def test_a_mode_of_none_ends_it(dns, https, driver):
    server = https()
    dns.set(*record("good.test", "v=STSv1; id=1"))
    assert driver(server).ask("good.test")["mode"] == MODE["enforce"]
    server.answer = text("version: STSv1\nmode: none\nmax_age: 60\n")
    a = again(dns, driver, server, *record("good.test", "v=STSv1; id=2")).ask("good.test")
    assert (a["status"], a["mode"], a["mx"]) == (FOUND, MODE["none"], "")


# ---- the switch, the folder ----

def test_switched_off_nobody_is_asked(dns, https, driver):
    server = https()
    dns.set(*record("good.test", "v=STSv1; id=1"))
    assert driver(server, "mta_sts = false\n").ask("good.test")["status"] == NONE and not server.asked


def test_a_damaged_database_is_begun_anew(dns, https, driver, tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/policy.db").write_bytes(b"no database at all" * 100)
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(https())
    assert d.ask("good.test")["status"] == FOUND and len(d.events("policy_forgets")) == 1


def test_without_a_folder_memory_does(dns, https, driver, tmp_path):
    (tmp_path / "policy").write_text("a file in its place")
    server = https()
    dns.set(*record("good.test", "v=STSv1; id=1"))
    d = driver(server)
    assert d.ask("good.test")["status"] == FOUND and d.ask("good.test")["status"] == FOUND and len(server.asked) == 1
    assert len(d.events("policy_forgets")) == 1


def test_the_daemon_makes_the_folder(postrider):
    p = postrider()
    assert (p.dir / "spool-policy/policy.db").exists()
    assert (p.dir / "spool-policy").stat().st_mode & 0o777 == 0o700


# ---- our own ----

def test_what_we_publish_is_what_others_take(dns, https, driver, tmp_path):
    """The record and the file that the command prints, served, and fetched by the role itself."""
    conf = tmp_path / "ours.conf"
    sections = 'sts_policy "Good.test" { mode = enforce mx = {"mx.good.test", "*.back.test"} max_age = "7d" }\nsts_policy "old.test" { mode = none max_age = "1h" }\n'
    conf.write_text(f'dane = false\nhostname = "mx.ours.test"\nspool = "{tmp_path}/s"\ncontrol = "{tmp_path}/c"\n{sections}')
    file = run(BINARY, "mta-sts", "policy", "-c", conf, "good.test").stdout
    records = dict(re.findall(r'^(\S+)\. TXT "(.*)"$', run(BINARY, "mta-sts", "records", "-c", conf).stdout, re.M))
    assert set(records) == {"_mta-sts.Good.test", "_mta-sts.old.test"} and len(set(records.values())) == 2
    dns.set(*record("good.test", records["_mta-sts.Good.test"]))
    d = driver(https(text(file)))
    a = d.ask("good.test")
    assert (a["status"], a["mode"], a["mx"]) == (FOUND, MODE["enforce"], "mx.good.test\n*.back.test\n") and 604790 <= a["ttl"] <= 604800
    assert f"id={a['id']};" in records["_mta-sts.Good.test"]
    conf.write_text(conf.read_text().replace("7d", "8d"))
    assert records["_mta-sts.Good.test"] not in run(BINARY, "mta-sts", "records", "-c", conf).stdout, "another policy, another id"
    assert run(BINARY, "mta-sts", "policy", "-c", conf, "other.test", check=False).returncode == 78
    for wrong in ([], ["policy"], ["records", "x"], ["what"]):
        assert run(BINARY, "mta-sts", *wrong, check=False).returncode == 64


@pytest.mark.parametrize("section, why", [
    ('sts_policy "good.test" { mode = enforce }', "names no mx"), ('sts_policy "a b" { mode = none }', "no domain name"),
    ('sts_policy "a.test" { mx = {"*.*.test"} }', "no host name"), ('sts_policy "a.test" { mx = {"mx.a.test."} }', "no host name"),
    ('sts_policy "a.test" { mx = {"mx a"} }', "no host name"), ('sts_policy "a.test" { mx = {"a.test"} max_age = "400d" }', "365d"),
    ('sts_policy "a.test" { mx = {"a.test"} }\nsts_policy "A.test" { mx = {"a.test"} }', "again"),
    ('tls_report { from = "nobody" }', "no address"), ("mta_sts_port = 0", "65535"),
])
def test_what_the_configuration_refuses(tmp_path, section, why):
    conf = tmp_path / "x.conf"
    conf.write_text(f'dane = false\nhostname = "mx.ours.test"\nspool = "{tmp_path}/s"\ncontrol = "{tmp_path}/c"\n{section}\n')
    r = run(BINARY, "config", "check", "-c", conf, check=False)
    assert r.returncode == 78 and why in r.stdout + r.stderr, r


# ---- the whole daemon ----

@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_mail_obeys_the_policy_and_the_result_is_counted(postrider, dns, https, pki, sink, mode):
    """A next hop that offers no TLS: under enforce nothing leaves, under testing it does, and both are told to TLS-RPT."""
    address = "127.0.7.9" if mode == "testing" else "127.0.7.10"   # the two may run at once
    try:
        hop = sink(address=address, port=25)
    except PermissionError:
        pytest.skip("port 25 needs root")
    server = https(text(policy(mode)))
    dns.set(*record("good.test", "v=STSv1; id=1"), "good.test. 0 MX 10 mx.good.test.", f"mx.good.test. 0 A {address}")
    p = postrider(extra=f'resolver = {{"127.0.0.1:{dns.port}"}}\ntrust = "{pki["ca"].chain}"\nmta_sts_port = {server.port}\ntls_report {{ send = true }}\n')
    with smtplib.SMTP("127.0.0.1", p.port, timeout=20) as s:
        s.sendmail("a@src.test", ["x@good.test"], "Subject: x\r\n\r\nbody\r\n")
    if mode == "testing":
        hop.wait(1)
    else:
        p.wait_event("deferred", 20, to="x@good.test")
        assert not hop.messages
    assert p.events("policy_fetched", domain="good.test", mode=mode)

    def counted():
        with contextlib.closing(sqlite3.connect(p.dir / "spool-policy/policy.db")) as db:
            return db.execute("SELECT policy_type, result, mx FROM result WHERE domain = 'good.test'").fetchall()
    assert wait_for(counted, 10, "the result") == [(3, 2, "mx.good.test")]
