"""`postrider probe client`: each case fails on a client with its fault and passes on sound ones; real programs; arguments and manners.

The sound ones: Postrider's own `send`, and the control client without a fault, so that a case cannot pass by being blind to it.
"""
import json
import pathlib
import re
import socket
import subprocess
import time

import jsonschema
import pytest
from broken_client import FAULTS
from conftest import BINARY, ROOT, free_port, make_certificate, run, wait_for
from mta import CannotPrepare, PostfixRoot
from test_mta import authority, mta_certificate, root  # noqa: F401 (fixtures)

HERE = pathlib.Path(__file__).parent
CLIENT = ("/usr/bin/python3", str(HERE / "broken_client.py"))
QUICK = ("--timeout", "20", "--settle", "200", "--window", "300")
SCHEMA = json.loads((ROOT / "docs/probe.schema.json").read_text())
# what a fault needs to be seen at all: the word of --expect, and how the client was set up
NOTES = {304, 404, 405, 703, 705}   # where no clause is broken
NEEDS = {101: ("may", "may"), 404: ("may", "may"), 602: ("verify", "require"), 603: ("verify", "require")}


def probe(*args, command=(), status=(0, 1), timeout=200, **kw):
    r = run(BINARY, "probe", "client", *QUICK, *args, *(("--run", *command) if command else ()), check=False, timeout=timeout, **kw)
    assert r.returncode in status, r.stderr + r.stdout
    return r


def report(*args, command, **kw):
    r = json.loads(probe("--json", *args, command=command, **kw).stdout)
    jsonschema.validate(r, SCHEMA)
    return r


def told(r):
    return {f["number"]: (f["verdict"], f["text"]) for f in r["findings"]}


def control(fault, ca, *, mode="verify"):
    return (*CLIENT, fault, "{address}", "{port}", str(ca), mode)


def rows():
    return [int(n) for n in re.findall(r"^CASE\((\d+),", (ROOT / "spec/probe_client.def").read_text(), re.M)]


def test_every_case_has_its_fault():
    assert sorted(FAULTS) == rows() == sorted(set(rows()))


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_a_case_fails_on_its_fault(number, tmp_path):
    ca = tmp_path / "ca.pem"
    expect, mode = NEEDS.get(number, ("verify", "verify"))
    more = ("--requiretls",) if mode == "require" else ()
    got = report("--cases", str(number), "--expect", expect, "--ca-out", ca, *more, command=control(FAULTS[number], ca, mode=mode))
    finding = got["findings"][0]
    assert finding["verdict"] == ("note" if number in NOTES else "fail"), (finding["text"], [line["text"] for line in finding["dialog"]])
    assert got["connections"] >= 1 and finding["dialog"]


def test_a_sound_client_passes_all(tmp_path):
    ca = tmp_path / "ca.pem"
    got = told(report("--expect", "verify", "--ca-out", ca, command=control("sound", ca)))
    assert {n: t for n, t in got.items() if t[0] != "pass"}.keys() == {404, 602, 603}, got
    assert all(got[n][0] == "not-tested" for n in (404, 602, 603))
    got = told(report("--expect", "verify", "--requiretls", "--cases", "602,603", "--ca-out", ca, command=control("sound", ca, mode="require")))
    assert [t[0] for t in got.values()] == ["pass", "pass"], got
    assert told(report("--cases", "404", command=control("sound", ca, mode="may")))[404][0] == "pass"


def test_what_is_a_note_for_an_opportunistic_client(tmp_path):
    got = told(report("--cases", "101,301,305,501,502,503", command=control("sound", tmp_path / "no", mode="may"), status=(0,)))
    assert got[101][0] == "pass" and got[305][0] == "pass"
    assert [got[n][0] for n in (301, 501, 502, 503)] == ["note"] * 4, got


BY_LEVEL = [101, 301, 302, 303, 304, 305, 306, 307, 308, 401, 402, 403, 404, 501, 502, 503, 708]  # those that the level owed decides


def domains(numbers, port, level):
    """One section a case, each with a source address of its own: what one case teaches `send` of an address does not reach the next."""
    return "".join(f'domain "c{n}.test" {{ deliver = "smtp://127.0.0.1:{port}"  tls = {level}  source = "127.0.1.{i + 1}" }}\n' for i, n in enumerate(numbers))


@pytest.mark.parametrize("level,expect", [("verify", "verify"), ("encrypt", "encrypt"), ("may", "may")])
def test_postriders_own_send_passes_all(postrider, free_port_for_probe, tmp_path, level, expect, folder):
    port = free_port_for_probe
    name = make_certificate(folder / f"probe-{level}", "127.0.0.1")
    (tmp_path / "chain").write_text(pathlib.Path(name.chain).read_text())
    wanted = rows() if level == "verify" else BY_LEVEL
    p = postrider(extra=f'trust = "{name.chain}"\n' + domains(wanted, port, level))
    send = ("/usr/bin/python3", "-c", "import smtplib, sys\n"
            "s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]))\n"
            "s.sendmail('a@example.org', ['b@c' + sys.argv[2] + '.test'], 'Subject: probe\\r\\n\\r\\nHello.\\r\\n')\n", str(p.port), "{case}")
    got = told(report("--listen", f"127.0.0.1:{port}", "--expect", expect, "--tls-cert", name.chain, "--tls-key", name.key, "--settle", "400",
                      "--cases", ",".join(map(str, wanted)), command=send, timeout=400))
    assert not {n: t for n, t in got.items() if t[0] == "fail"}, got
    assert got[101][0] == "pass"
    skipped = {n for n, t in got.items() if t[0] == "not-tested"}
    assert skipped == {"verify": {404, 602, 603}, "encrypt": {404}, "may": set()}[level], got
    notes = {n for n, t in got.items() if t[0] == "note"}
    if level == "verify":
        assert not notes, got
    elif level == "encrypt":
        assert notes == {501, 502, 503}, got
    else:
        assert 101 not in notes and notes >= {301, 302, 501, 502, 503}, got


@pytest.fixture
def free_port_for_probe():
    return free_port()


# ---- programs of others: nothing is demanded of them but that the verdict is that of their dialog ----

MESSAGE = "From: a@example.org\r\nTo: b@example.org\r\nSubject: probe\r\n\r\nHello.\r\n"
SMTPLIB = """
import smtplib, ssl, sys
s = smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=10)
s.starttls(context=ssl.create_default_context(cafile=sys.argv[3]))
s.sendmail("a@example.org", ["b@example.org"], "Subject: probe\\r\\n\\r\\nHello.\\r\\n")
s.quit()
"""


# what a client that was told to demand TLS does right, of what may be told of others' programs here
DEMANDED = (101, 102, 103, 201, 202, 203, 204, 205, 206, 301, 302, 303, 305, 306, 307, 702, 706, 707, 708)
CERTIFICATES = (501, 502, 503)


def demands_tls(*args, more=(), **kw):
    wanted = (*DEMANDED, *more)
    got = told(report("--cases", ",".join(map(str, wanted)), *args, **kw))
    assert not {n: t for n, t in got.items() if t[0] != "pass"} and len(got) == len(wanted), got


def test_python_smtplib(tmp_path):
    ca = tmp_path / "ca.pem"
    demands_tls("--expect", "verify", "--ca-out", ca, "--name", "localhost", command=("/usr/bin/python3", "-c", SMTPLIB, "localhost", "{port}", str(ca)), more=CERTIFICATES)


def test_curl(tmp_path):
    ca, message = tmp_path / "ca.pem", tmp_path / "message"
    message.write_text(MESSAGE)
    demands_tls("--expect", "verify", "--ca-out", ca, command=("curl", "-s", "--ssl-reqd", "--cacert", str(ca), "--mail-from", "a@example.org", "--mail-rcpt", "b@example.org",
                "--upload-file", str(message), "smtp://{address}:{port}"), more=CERTIFICATES)


def test_swaks(tmp_path):
    demands_tls("--expect", "encrypt", command=("swaks", "--server", "{address}", "--port", "{port}", "--tls", "--helo", "client.example", "--from", "a@example.org",
                "--to", "b@example.org", "--timeout", "10", "--body", "Hello"))


def test_postfix(root, mta_certificate, free_port_for_probe):
    """A real MTA with a queue: each case gets a message of its own in an empty queue; no case teaches it that the address is dead."""
    p = root.start(free_port(), mta_certificate, dict(
        relayhost=f"[127.0.0.1]:{free_port_for_probe}", smtp_tls_security_level="encrypt", default_destination_concurrency_failed_cohort_limit="0",
        minimal_backoff_time="300s", queue_run_delay="300s", smtp_helo_timeout="15s", smtp_starttls_timeout="15s", smtp_mail_timeout="15s", smtp_quit_timeout="5s"))
    send = ("import smtplib, subprocess, sys\n"
            "subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
            "s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=20)\n"
            "s.sendmail('a@example.org', ['b@example.org'], 'Subject: probe\\r\\n\\r\\nHello.\\r\\n')\n")
    demands_tls("--listen", f"127.0.0.1:{free_port_for_probe}", "--expect", "encrypt", "--settle", "400",
                command=("/usr/bin/python3", "-c", send, str(p.port), *root.inside("postsuper", "-d", "ALL")), timeout=500)


class Others(PostfixRoot):
    packages = ("exim4-daemon-light", "msmtp")


@pytest.fixture(scope="module")
def others(folder):
    r = Others(folder / "others")
    try:
        r.prepare()
    except CannotPrepare as e:
        r.close()
        pytest.skip(str(e))
    yield r
    r.close()


EXIM = """
primary_hostname = client.test
keep_environment =
host_lookup =
log_file_path = /var/log/exim4/%slog
begin routers
r:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = t
begin transports
t:
  driver = smtp
  port = {port}
  hosts_require_tls = *
  command_timeout = 15s
begin retry
* * F,1h,10m
"""


def test_exim(others, free_port_for_probe):
    """Delivered at once by the process that takes the message, each time with an empty queue and without what it knew of the address."""
    others.path("/etc/exim4/exim4.conf").write_text(EXIM.format(port=free_port_for_probe))
    send = "rm -rf /var/spool/exim4/db/* /var/spool/exim4/input/*; printf 'Subject: probe\\n\\nHello.\\n' | exim4 -odi -f a@example.org b@example.org"
    demands_tls("--listen", f"127.0.0.1:{free_port_for_probe}", "--expect", "encrypt", command=others.inside("sh", "-c", send), timeout=500)


def test_msmtp(others):
    ca = others.path("/tmp/probe-ca.pem")
    send = ("printf 'Subject: probe\\n\\nHello.\\n' | msmtp --host=localhost --port={port} --tls=on --tls-starttls=on --tls-trust-file=/tmp/probe-ca.pem --auth=off "
            "--timeout=15 --from=a@example.org b@example.org")
    demands_tls("--expect", "verify", "--ca-out", ca, command=others.inside("sh", "-c", send), timeout=500, more=CERTIFICATES)


# ---- the command itself ----

def test_arguments_that_are_wrong(tmp_path):
    for args, words in ((("--expect", "much"), "--expect is may, encrypt or verify"), (("--listen", "nowhere"), "no ADDRESS:PORT"), (("--cases", "100"), "there is no check"),
                        (("--tls-cert", "x"), "go together"), (("--frob", "x"), "what is --frob"), (("--run",), "which command"), (("--timeout", "0"), "--timeout is"),
                        (("--name", "a b"), "no domain name"), (("extra",), "where is its value")):
        r = probe(*args, status=(64,))
        assert words in r.stderr, r.stderr
    assert "No such file" in probe("--tls-cert", "/nowhere", "--tls-key", "/nowhere", status=(66,)).stderr
    other = make_certificate(tmp_path / "a", "a.test"), make_certificate(tmp_path / "b", "b.test")
    assert "does not belong" in probe("--tls-cert", other[0].chain, "--tls-key", other[1].key, status=(65,)).stderr
    assert "no certificate" in probe("--tls-cert", other[0].key, "--tls-key", other[0].key, status=(65,)).stderr
    assert "cannot be written" in probe("--ca-out", tmp_path / "no/where", status=(65,)).stderr
    assert "was not found" in probe("--timeout", "1", "--cases", "101", command=("/nowhere/at/all",), status=(69,)).stderr


def test_an_address_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as s:
        assert "in use" in probe("--listen", f"127.0.0.1:{s.getsockname()[1]}", status=(69,)).stderr


def test_nobody_comes():
    r = probe("--timeout", "1", status=(69,))
    assert "no connection came within 1 s" in r.stderr and "case 101, 1 of" in r.stderr and r.stdout == ""


def test_by_hand_and_one_connection_that_goes_away(tmp_path):
    """The operator is told the port and the case; a connection that says nothing is no message; a later case without anybody is not tested."""
    p = subprocess.Popen([BINARY, "probe", "client", "--cases", "101,102", "--timeout", "2", "--settle", "200", "--json"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    port = int(re.search(r"listening on 127\.0\.0\.1:(\d+)", p.stderr.readline()).group(1))
    assert "case 101, 1 of 2" in p.stderr.readline()
    socket.create_connection(("127.0.0.1", port)).close()
    out, _ = p.communicate(timeout=20)
    got = told(json.loads(out))
    assert got[101] == ("fail", "no message is delivered (x)") and got[102] == ("not-tested", "no connection came within 2 s"), got


def test_a_command_that_hangs_is_ended(tmp_path):
    marker = tmp_path / "pid"
    began = time.monotonic()
    r = json.loads(probe("--json", "--cases", "101", "--timeout", "8", command=("sh", "-c", f"echo $$ > {marker}; python3 -c 'import socket,sys,time; s=socket.create_connection"
                         "((sys.argv[1], int(sys.argv[2]))); time.sleep(60)' {address} {port}")).stdout)
    assert time.monotonic() - began < 40
    assert r["findings"][0]["verdict"] == "fail"
    pid = marker.read_text().strip()
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists(), 5, "the command's end")
    assert not [line for line in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines() if str(r["target"]) in line and "sleep(60)" in line]


def test_passwords_are_not_shown(tmp_path):
    ca = tmp_path / "ca.pem"
    r = probe("--cases", "205", "--expect", "verify", "--ca-out", ca, "-v", command=control("keeps_auth", ca))
    assert "AUTH" in r.stdout and "AHVzZXIAc2VjcmV0" not in r.stdout


def test_forms_and_diff(tmp_path):
    ca, old = tmp_path / "ca.pem", tmp_path / "old.json"
    args = ("--cases", "101,206", "--expect", "verify", "--ca-out", ca)
    old.write_text(probe("--json", *args, command=control("sound", ca)).stdout)
    assert "# Probe of client" in probe("--markdown", *args, command=control("sound", ca)).stdout
    assert "<!doctype html>" in probe("--html", *args, command=control("sound", ca)).stdout
    assert 'kind="client"' in probe("--prometheus", *args, command=control("sound", ca)).stdout
    r = probe("--diff", old, *args, command=control("second_starttls", ca), status=(1,))
    assert "WORSE" in r.stdout and "No second STARTTLS" in r.stdout
    probe("--diff", old, *args, command=control("sound", ca), status=(0,))
