"""The walls seen from outside, beside the attempts from inside (test_super.py): every thread, every descriptor, every private key.

A private key is looked for by its own octets in the memory of every process, after it has signed and after what could carry it
along: a reload, a new certificate, the end and new start of its role.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl

import pytest

from conftest import make_certificate, own, run, wait_for
from test_super import EVERY_ROLE, deliver, hangup, memory_has, prove, root_only


def everybody(p):
    return {**p.pids(), "super": p.process.pid}


def fetch(p):
    """One handshake and one answer of `web`."""
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", p.web), 10) as s, context.wrap_socket(s) as t:
        t.sendall(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.sink.test\r\nConnection: close\r\n\r\n")
        assert t.recv(15) == b"HTTP/1.1 200 OK"


# ---- from inside, on both sides of a crash and a reload ----

def test_a_role_that_is_started_anew_is_confined_as_the_first(postrider, talk):
    p = postrider(env={"POSTRIDER_SELFTEST": "1"}, web=True)
    for role in EVERY_ROLE:
        os.kill(p.pids()[role], signal.SIGKILL)
        p.wait_event("role_started", role_name=role, count=2)
    hangup(p)  # and receive, web, send, resolve once more
    proofs = prove(p, talk)
    for role in EVERY_ROLE:
        assert {proofs[role][what] for what in ("open", "exec", "fork")} <= {"EPERM", "EACCES", "ENOSYS"}, proofs[role]
        assert (proofs[role]["socket"] == "allowed") == (role in ("send", "resolve", "policy")), proofs[role]


# ---- from outside ----

@root_only
def test_every_thread_is_behind_the_filter(postrider, talk):
    p = postrider(extra="workers = 3\n", web=True)
    fetch(p)
    assert deliver(talk, p, tls=True).startswith("250")
    threads = {}
    for role, pid in p.pids().items():
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            status = (task / "status").read_text()
            assert re.search(r"^NoNewPrivs:\t1$", status, re.M) and re.search(r"^Seccomp:\t2$", status, re.M), (role, status)
            assert all(int(v, 16) == 0 for v in re.findall(r"^Cap(?:Inh|Prm|Eff|Amb):\t(\w+)$", status, re.M)), (role, status)
            threads[role] = threads.get(role, 0) + 1
    assert threads["receive"] >= 3 and threads["queue"] >= 2 and threads["keys"] == 1 + 3 and threads["web"] == 1, threads


@root_only
def test_the_filter_is_gone_when_it_is_switched_off(postrider):
    p = postrider(extra="sandbox = off\n", web=True)
    for pid in p.pids().values():
        assert re.search(r"^Seccomp:\t0$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)


@root_only
def test_descriptors_are_those_that_a_role_needs(postrider, talk):
    """receive, web, send, resolve and keys hold no file but the log; nobody holds the folder of another."""
    p = postrider(web=True)
    fetch(p)
    p.mailbox("alice")
    assert deliver(talk, p, to="alice@local.test", tls=True).startswith("250")
    p.wait_event("delivered")
    for role, pid in p.pids().items():
        held = []
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                held.append(os.readlink(fd))
        files = [h for h in held if h.startswith("/") and h not in ("/dev/null", str(p.log_path)) and not h.startswith("/memfd:")]
        allowed = str(p.dir / "spool") if role == "queue" else str(p.dir / "spool-policy") if role == "policy" else str(p.dir / "mail") if role == "local" else None
        assert all(allowed and f.startswith(allowed) for f in files if "/dev/urandom" not in f), (role, files)
        assert not [h for h in held if h.endswith((".pem", ".conf"))], (role, held)


# ---- private keys ----

def secrets_of(certificate):
    """The octets that nobody else may know: the scalar of an EC key, a prime of an RSA key, and the PEM text."""
    text = run("openssl", "pkey", "-in", certificate.key, "-text", "-noout").stdout
    found = []
    for name in ("priv", "prime1", "prime2", "privateExponent"):
        m = re.search(rf"^{name}:\n((?:\s+[0-9a-f:]+\n)+)", text, re.M)
        if m:
            raw = bytes.fromhex("".join(m.group(1).split()).replace(":", "")).lstrip(b"\0")
            found += [raw, raw[::-1]]   # big end first as in the file, and as a number in memory
    lines = pathlib.Path(certificate.key).read_text().splitlines()
    found += [lines[1].encode()[4:60], lines[2].encode()[:40]]
    return [f for f in found if len(f) >= 16]


def who_knows(p, certificate):
    secrets = secrets_of(certificate)
    assert len(secrets) >= 3
    return {role for role, pid in everybody(p).items() if any(memory_has(pid, s) for s in secrets)}


@root_only
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_private_key_is_known_to_keys_alone(postrider, talk, folder, kind):
    certificate = make_certificate(folder / "certs", f"secret-{kind}.test", kind=kind)
    p = postrider(certificate=certificate, web=True)
    for _ in range(3):
        assert deliver(talk, p, tls=True).startswith("250")
        fetch(p)
    assert who_knows(p, certificate) == {"keys"}


@root_only
def test_a_private_key_stays_with_keys_over_reload_and_crash(postrider, talk, folder, certificate):
    p = postrider(web=True)
    assert deliver(talk, p, tls=True).startswith("250")
    fetch(p)
    fresh = make_certificate(folder / "certs", "secret-fresh.test")
    shutil.copy(fresh.chain, p.dir / "chain.pem")
    shutil.copy(fresh.key, p.dir / "key.pem")
    if p.user:
        own(p.dir, p.user)
    hangup(p)
    wait_for(lambda: deliver(talk, p, tls=True).startswith("250"), 5)
    fetch(p)
    assert who_knows(p, fresh) == {"keys"} and who_knows(p, certificate) <= {"keys"}
    os.kill(p.pids()["keys"], signal.SIGKILL)
    p.wait_event("role_started", role_name="keys", count=2)

    def again():
        t = talk(p.port)
        t.say("EHLO c.test")
        return t.say("STARTTLS").startswith("220")

    wait_for(again, 5, "TLS again", step=0.1)
    assert deliver(talk, p, tls=True).startswith("250")
    assert who_knows(p, fresh) == {"keys"}, "super reads the file again, and keeps nothing of it"


@root_only
def test_the_search_finds_what_is_there(postrider):
    """The control of the search: our name, which every role is told."""
    p = postrider(hostname="control-of-the-search.sink.test", web=True)
    for role, pid in everybody(p).items():
        assert memory_has(pid, b"control-of-the-search.sink.test"), role
