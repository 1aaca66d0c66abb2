"""`postrider probe server`: each check fails on a server with its fault, and passes on sound ones; the forms of the report; manners.

The sound ones: Postrider itself, and the control server without a fault, so that a check cannot pass by being blind to it.
"""
import html
import json
import os
import pty
import re
import select
import socket
import subprocess
import time

import jsonschema
import pytest
from broken_server import FAULTS, LOGIN, BrokenServer
from conftest import BINARY, ROOT, Certificate, free_port, make_certificate, run, wait_for

QUICK = ("--pause", "0", "--window", "150", "--timeout", "3", "--helo", "probe.example.org")
SCHEMA = json.loads((ROOT / "docs/probe.schema.json").read_text())


def probe(*args, check=None, status=(0, 1), env=None):
    r = run(BINARY, "probe", "server", *QUICK, *args, *(("--check", check) if check else ()), check=False, timeout=200, env=env)
    assert r.returncode in status, r.stderr + r.stdout
    return r


def report(*args, status=(0, 1), **kw):
    p = probe("--json", *args, **kw)
    r = json.loads(p.stdout)
    assert p.returncode in status, [(f["number"], f["verdict"], f["text"]) for f in r["findings"]]
    jsonschema.validate(r, SCHEMA)
    return r


def verdicts(r):
    return {f["number"]: f["verdict"] for f in r["findings"]}


@pytest.fixture(scope="module")
def certificates(folder):
    top = folder / "probe-certificates"
    good = make_certificate(top, "broken.test", days=90)
    weak, late, odd = (top / n for n in ("weak", "late", "odd"))
    for d in (weak, late, odd):
        d.mkdir()
    run("openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", weak / "k", "-out", weak / "c", "-days", "90",
        "-subj", "/CN=broken.test", "-addext", "subjectAltName=DNS:broken.test")
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", late / "k", "-out", late / "r",
        "-subj", "/CN=broken.test", "-addext", "subjectAltName=DNS:broken.test")
    run("openssl", "x509", "-req", "-in", late / "r", "-signkey", late / "k", "-days", "-1", "-out", late / "c", "-copy_extensions", "copy")
    return {"short_key": Certificate(weak / "c", weak / "k"), "expired": Certificate(late / "c", late / "k"),
            "other_name": make_certificate(odd, "elsewhere.test", days=90), None: good}


@pytest.fixture
def broken(certificates):
    made = []

    def make(fault=None, **kw):
        made.append(BrokenServer(certificates.get(fault, certificates[None]), fault, **kw))
        return made[-1]

    yield make
    for s in made:
        s.close()


@pytest.fixture
def login(tmp_path):
    path = tmp_path / "login"
    path.write_text("user:secret\n")
    return path


def numbers():
    return [int(n) for n in re.findall(r"^CHECK\((\d+),", (ROOT / "spec/probe.def").read_text(), re.M)]


# ---- every check fails on its broken control ----

def test_every_check_has_a_broken_control():
    assert sorted(FAULTS) == sorted(numbers())


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_broken_control(number, broken, certificates, login):
    fault = FAULTS[number]
    # 208: an address that is not ours, for a server may trust its own
    address = "127.0.0.2" if number == 208 else "127.0.0.1"
    servers = [broken(None if number == 608 else fault, address=address)]
    args = [f"{address}:{servers[0].port}", "--name", "broken.test", "--tls-ca", certificates[None].ca]
    if number == 608:
        broken(fault, address="127.0.0.2", port=servers[0].port, like=servers[0])
        args += ["--address", "127.0.0.1", "--address", "127.0.0.2"]
    if number in (209, 210):
        args += ["--auth-file", login, "--intrusive"]
    if number >= 700:
        args += ["--recipient", "me@broken.test", "--intrusive", "--timeout", "1"]
    r = report(*args, check=str(number), status=(1,))
    (finding,) = r["findings"]
    assert finding["verdict"] == "fail" and finding["number"] == number, finding
    assert finding["text"] and (finding["dialog"] or number in (605, 606)), finding


# ---- and passes on sound ones ----

def test_sound_control(broken, certificates, login):
    """The control server without a fault: pass, or a note on nothing; so it is the fault that each check found."""
    first = broken(auth=True)
    port = first.port
    broken(auth=True, address="127.0.0.2", port=port)
    r = report(f"127.0.0.1:{port}", "--name", "broken.test", "--tls-ca", certificates[None].ca, "--address", "127.0.0.1", "--address", "127.0.0.2",
               "--auth-file", login, "--recipient", "me@broken.test", "--intrusive", status=(0,))
    odd = {n: v for n, v in verdicts(r).items() if v != "pass"}
    assert odd == {}, [(f["number"], f["text"]) for f in r["findings"] if f["verdict"] != "pass"]
    assert r["verdicts"]["fail"] == 0


def test_an_alert_is_no_reply(broken):
    """The segment behind STARTTLS may arrive when the handshake has begun: what it makes of it is not an answer in clear."""
    s = broken("alert")
    given = report(f"127.0.0.1:{s.port}", check="302,401,305", status=(0,))
    assert set(verdicts(given).values()) == {"pass"}, [f["text"] for f in given["findings"]]


def test_what_cannot_be_judged_is_not(broken):
    """A refusal for another reason than the one that is asked for is no fail."""
    assert verdicts(report(f"127.0.0.1:{broken('no_name').port}", check="204", status=(0,))) == {204: "not-tested"}
    # no handshake succeeds: so it is not the large, the cut or the nameless ClientHello that is not taken
    given = verdicts(report(f"127.0.0.1:{broken('no_tls_works').port}", check="607,610,611,612", status=(0,)))
    assert set(given.values()) == {"not-tested"}, given
    assert verdicts(report(f"127.0.0.1:{broken('cr_refused').port}", check="502", status=(0,))) == {502: "pass"}


def test_a_server_may_trust_its_own_address(broken):
    s = broken("auth_in_clear")
    assert verdicts(report(f"127.0.0.1:{s.port}", check="208", status=(0,))) == {208: "note"}


@pytest.mark.parametrize("fault, verdict", [("refuses_at_once", "pass"), ("ends_and_refuses", "fail")])
def test_a_refusal_before_the_end(broken, fault, verdict):
    """A server that watches for smuggling may speak in mid-message; one that ended the message there may refuse it for what it holds."""
    s = broken(fault)
    r = report(f"127.0.0.1:{s.port}", "--recipient", "me@broken.test", "--intrusive", check="701")
    assert verdicts(r) == {701: verdict}, r["findings"][0]["text"]


def test_submission_with_credentials(broken, login):
    """A server that takes mail from those alone who say who they are."""
    s = broken("wants_auth", auth=True)
    args = (f"127.0.0.1:{s.port}", "--recipient", "me@broken.test", "--intrusive")
    assert verdicts(report(*args, check="701")) == {701: "not-tested"}
    assert verdicts(report(*args, "--auth-file", login, check="701")) == {701: "pass"}
    assert not any(line.startswith("AUTH") and not tls for tls, line in s.commands)


def test_postrider_itself_is_all_pass(postrider, certificates):
    p = postrider(certificate=certificates[None], hostname="broken.test")
    r = report(f"127.0.0.1:{p.port}", "--name", "broken.test", "--tls-ca", certificates[None].ca, "--recipient", "me@sink.test", "--intrusive",
               status=(0,))
    assert set(verdicts(r)) == set(numbers())
    odd = {n: v for n, v in verdicts(r).items() if v != "pass"}
    # no AUTH here, one address: what cannot be asked is not claimed
    assert odd == {209: "not-tested", 210: "not-tested", 608: "not-tested"}, odd


# ---- and says of a real one what is known of it (Postfix: test_mta.py; others: make field) ----

AIOSMTPD = """
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP
class Taker:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[2], sys.argv[3])
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Taker(), hostname="broken.test", tls_context=context, loop=loop), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


def test_probe_of_aiosmtpd(certificates, tmp_path):
    port, c = free_port(), certificates[None]
    p = subprocess.Popen(["/usr/bin/python3", "-c", AIOSMTPD, str(port), c.chain, c.key], stdin=subprocess.DEVNULL, stderr=open(tmp_path / "log", "w"))
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 20, "aiosmtpd")
        r = report(f"127.0.0.1:{port}", "--name", "broken.test", "--tls-ca", c.ca, "--recipient", "me@broken.test", "--intrusive", status=(1,))
    finally:
        p.kill()
        p.wait(10)
    odd = {n: v for n, v in verdicts(r).items() if v != "pass"}
    # it takes STARTTLS anywhere, also inside TLS, where the session dies of it; no PIPELINING; a bare LF ends a line of a command
    assert odd == {105: "note", 106: "note", 107: "note", 202: "fail", 209: "not-tested", 210: "not-tested", 501: "not-tested", 502: "note",
                   608: "not-tested", 706: "note"}, odd


# ---- manners ----

def test_harmless_unless_told(broken):
    """Without the switches no recipient is named, no password sent, no message begun."""
    s = broken(auth=True)
    r = report(f"127.0.0.1:{s.port}", "--name", "broken.test")
    # one connection at a time: what is said on one is over before anything is said on the next
    order = [line["connection"] for f in r["findings"] for line in f["dialog"]]
    assert order == sorted(order) and s.most_together == 1
    said = [line for _, line in s.commands]
    assert said and not [line for line in said if re.match(r"(RCPT|DATA$|BDAT)", line) and line != "DATA"]
    assert not any(line.startswith("AUTH") for line in said)
    assert {line for line in said if line.startswith("MAIL")} == {"MAIL FROM:<>"}
    # a random label is said before the name by one check; everything else is the name
    assert {re.sub(r"^[a-z]{12}\.", "", line.split()[1]) for line in said if line.startswith(("EHLO", "HELO"))} == {"probe.example.org"}


def test_recipient_alone_is_not_enough(broken):
    s = broken()
    r = report(f"127.0.0.1:{s.port}", "--name", "broken.test", "--recipient", "me@broken.test", check="701,706")
    assert set(verdicts(r).values()) == {"not-tested"}
    assert not any(line.startswith("RCPT") for _, line in s.commands)


def test_the_password_is_not_shown(broken, login):
    s = broken(auth=True)
    r = probe("--json", f"127.0.0.1:{s.port}", "--auth-file", login, check="209")
    assert ("AUTH PLAIN " + LOGIN) in [line for _, line in s.commands]
    assert "secret" not in r.stdout and LOGIN not in r.stdout and "AUTH PLAIN (the given credentials)" in r.stdout


def test_pause_between_connections(broken):
    s = broken()
    begin = time.monotonic()
    r = report(f"127.0.0.1:{s.port}", "--pause", "1", check="101")
    assert r["connections"] == 2 and time.monotonic() - begin > 0.9


def test_bound_on_connections(broken):
    s = broken()
    r = report(f"127.0.0.1:{s.port}", "--connections", "3", status=(0, 1))
    assert s.connections == 3 == r["connections"]
    late = [f for f in r["findings"] if "bound on connections" in f["text"]]
    assert len(late) > 20 and all(f["verdict"] == "not-tested" for f in late), late


def test_a_server_that_turns_us_away_is_left_alone(broken):
    s = broken("turns_away")
    r = report(f"127.0.0.1:{s.port}")
    assert s.connections <= 6 and r["verdicts"]["fail"] <= 2
    assert any("left alone" in f["text"] for f in r["findings"])


def test_nobody_there():
    r = probe(f"127.0.0.1:{free_port()}", status=(69,))
    assert "Connection refused" in r.stderr and not r.stdout


def test_a_silent_server_costs_no_more_than_its_time(broken):
    s = broken("silent")
    begin = time.monotonic()
    r = probe(f"127.0.0.1:{s.port}", "--timeout", "1", status=(69,))
    assert "no reply within 1000 ms" in r.stderr or "no reply" in r.stderr
    assert time.monotonic() - begin < 30


def test_a_server_that_talks_without_end_is_cut(broken):
    s = broken("endless")
    r = report(f"127.0.0.1:{s.port}", "--timeout", "2", check="101,102,201", status=(0, 1))
    assert "without end" in json.dumps(r) and len(json.dumps(r)) < 2_000_000


# ---- arguments ----

@pytest.mark.parametrize("arguments, words", [
    ((), "what is to be probed"),
    (("wrong",), "what is wrong"),
    (("server",), "which server"),
    (("server", "a.example", "b.example"), "more than one server"),
    (("server", "a b"), "neither a domain name nor an address"),
    (("server", "a.example:70000"), "is no HOST or HOST:PORT"),
    (("server", "a.example", "--what", "x"), "what is --what"),
    (("server", "a.example", "--helo"), "where is its value"),
    (("server", "a.example", "--helo", "-"), "is no domain name"),
    (("server", "a.example", "--recipient", "nobody"), "is no address"),
    (("server", "a.example", "--check", "999"), "there is no check \"999\""),
    (("server", "a.example", "--check", "101,"), "there is no check"),
    (("server", "a.example", "--pause", "-1"), "--pause is 0 to 3600"),
    (("server", "a.example", "--window", "1"), "--window is 50 to 60000"),
    (("server", "a.example", "--json", "--html"), "more than one form"),
    (("server", "a.example", "--diff"), "where is the older report"),
])
def test_wrong_arguments(arguments, words):
    r = run(BINARY, "probe", *arguments, check=False)
    assert r.returncode == 64 and words in r.stderr and "usage: postrider probe" in r.stderr, r.stderr


def test_missing_files(broken, tmp_path):
    s = broken()
    for option in ("--tls-ca", "--auth-file", "--diff"):
        r = probe(f"127.0.0.1:{s.port}", option, tmp_path / "nothing", check="101", status=(66,))
        assert "nothing: No such file" in r.stderr


# ---- forms ----

def test_diff(broken, certificates, tmp_path):
    """What got worse gives 1, whatever else failed before; what is as bad as before gives 0."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    s = broken("no_helo_in_tls")
    bad.write_text(probe("--json", f"127.0.0.1:{s.port}", check="101,204", status=(1,)).stdout)
    r = probe(f"127.0.0.1:{s.port}", "--diff", bad, check="101,204", status=(0,))
    assert "nothing changed" in r.stdout
    old = json.loads(bad.read_text())
    old["findings"][1]["verdict"] = "pass"
    good.write_text(json.dumps(old))
    r = probe(f"127.0.0.1:{s.port}", "--diff", good, check="101,204", status=(1,))
    assert re.search(r"204  WORSE fail, was pass", r.stdout)
    r = json.loads(probe("--json", f"127.0.0.1:{s.port}", "--diff", good, check="101,204", status=(1,)).stdout)
    jsonschema.validate(r, SCHEMA)
    assert [(c["number"], c["before"], c["after"], c["worse"]) for c in r["changes"]] == [(204, "pass", "fail", True)]
    for form in ("--html", "--markdown"):
        assert "Changes" in probe(form, f"127.0.0.1:{s.port}", "--diff", good, check="101,204", status=(1,)).stdout
    for text in ("", "{}", "[]", "{", json.dumps({**old, "target": "elsewhere:25"})):
        good.write_text(text)
        assert probe(f"127.0.0.1:{s.port}", "--diff", good, check="101", status=(65,)).stderr


def test_screen_without_a_terminal(broken):
    s = broken("no_helo_in_tls")
    r = probe(f"127.0.0.1:{s.port}", check="204,201", status=(1,))
    assert "\x1b" not in r.stdout and r.stderr == ""
    assert re.search(r"^204  FAIL HELO works inside TLS", r.stdout, re.M) and "RFC 5321 2.2.1; severity low" in r.stdout
    assert "> HELO probe.example.org" in r.stdout            # evidence of the fail
    assert "it is not offered" not in r.stdout                       # a pass is one line
    assert "it is not offered" in probe("-v", f"127.0.0.1:{s.port}", check="201", status=(0,)).stdout


def on_terminal(columns, *args, env=None):
    """Standard output and error on a terminal of so many columns."""
    import fcntl
    import struct
    import termios
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")} | {"TERM": "xterm", **(env or {})}
    p = subprocess.Popen([BINARY, "probe", "server", *QUICK, *map(str, args)], stdin=subprocess.DEVNULL, stdout=other, stderr=other, env=environment)
    os.close(other)
    out = b""
    while True:
        if not select.select([main], [], [], 30)[0]:
            p.kill()
            break
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    os.close(main)
    p.wait(10)
    return out.decode()


@pytest.mark.parametrize("columns", [60, 100])
def test_screen_on_a_terminal(broken, columns):
    s = broken("no_helo_in_tls")
    out = on_terminal(columns, f"127.0.0.1:{s.port}", "-v", "--check", "101,204,205")
    assert "\x1b[1;31mFAIL" in out and "\r\x1b[K1 of 3: The server greets" in out
    lines = [re.sub(r"\x1b\[[0-9;]*[mK]|.*\r(?=.)", "", line) for line in out.split("\r\n")]
    assert max(len(line) for line in lines) <= columns, max(lines, key=len)
    plain = on_terminal(columns, f"127.0.0.1:{s.port}", "--check", "204", env={"NO_COLOR": "1"})
    assert "FAIL" in plain and "\x1b[1;31m" not in plain


def test_prometheus(broken):
    s = broken("no_helo_in_tls")
    out = probe("--prometheus", f"127.0.0.1:{s.port}", "--name", "broken.test", check="101,204,606,612", status=(1,)).stdout
    lines = [line for line in out.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'postrider_probe_\w+\{(\w+="[^"]*",?)+\} -?[\d.]+', line) for line in lines), lines
    assert re.search(r'postrider_probe_check\{.*number="204".*\} 2\n', out) and re.search(r'number="101".*\} 0\n', out)
    end = int(re.search(r"certificate_expires_seconds\{.*\} (\d+)", out).group(1))
    assert 80 * 86400 < end - time.time() < 100 * 86400


def test_implicit_tls(postrider, certificates):
    port = free_port()
    postrider(certificate=certificates[None], hostname="broken.test", extra=f'listener "tls" {{ address = {{"127.0.0.1:{port}"}} tls = implicit }}')
    r = report("--tls-implicit", f"127.0.0.1:{port}", "--name", "broken.test", "--tls-ca", certificates[None].ca, status=(0,))
    given = verdicts(r)
    assert given[102] == given[301] == given[401] == "not-tested" and given[101] == given[201] == given[202] == given[501] == given[601] == "pass", given
    assert "fail" not in given.values() and "note" not in given.values()


# ---- the page, in a real browser ----

MEASURE = """<!doctype html><body style="margin:0"><iframe id=f style="border:0;width:%dpx;height:900px" srcdoc="%s"></iframe><pre id=said></pre><script>
f.onload = () => { const d = f.contentDocument, all = [...d.querySelectorAll('details')];
 const folded = all.filter(x => !x.open).length; all.forEach(x => x.open = true);
 const wide = [...d.querySelectorAll('body *')].filter(x => x.getBoundingClientRect().right > %d + 1).map(x => x.className || x.tagName);
 const name = d.querySelector('.name').getBoundingClientRect(), num = d.querySelector('.num').getBoundingClientRect();
 said.textContent = JSON.stringify({width: d.documentElement.scrollWidth, wide, checks: all.length, folded, scripts: d.scripts.length,
  below: name.top > num.bottom - 4, background: getComputedStyle(d.body).backgroundColor, loads: performance.getEntriesByType('resource').length}); };
</script>"""


def chromium(*args):
    return run("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--virtual-time-budget=5000",
               *args, timeout=120)


def measured(page, width, folder, *args):
    wrapper = folder / f"measure-{width}.html"
    wrapper.write_text(MEASURE % (width, page.read_text().replace("&", "&amp;").replace('"', "&quot;"), width))
    out = chromium("--dump-dom", f"--user-data-dir={folder / 'profile'}", f"--window-size={width + 20},1000", *args, f"file://{wrapper}").stdout
    return json.loads(html.unescape(re.search(r'<pre id="said">(.*?)</pre>', out, re.S).group(1)))


@pytest.mark.parametrize("width", [1280, 390])
def test_html_in_a_browser(broken, tmp_path, width):
    """No script, nothing loaded, nothing wider than the window with all dialogs open; a phone gets cells below each other."""
    s = broken("no_helo_in_tls")
    page = tmp_path / "report.html"
    page.write_text(probe("--html", f"127.0.0.1:{s.port}", "--name", "broken.test").stdout)
    m = measured(page, width, tmp_path)
    assert m["width"] == width and m["wide"] == [], m
    assert m["checks"] == len(numbers()) and m["folded"] == m["checks"] - page.read_text().count(" open>"), m
    assert m["scripts"] == 0 and m["loads"] == 0 and m["below"] == (width == 390), m
    dark = measured(page, width, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert m["background"] != dark["background"], (m, dark)
