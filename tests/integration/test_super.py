"""super: beginnings that must fail in words, the end within 10 s, crashes, reloads, the sandbox from inside, root's users."""
import contextlib
import ctypes
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time

import pytest

from conftest import BINARY, Postrider, free_port, make_certificate, own, run, wait_for

ROLES = ["receive", "queue", "send", "resolve", "local", "keys", "policy"]
EVERY_ROLE = [*ROLES, "web"]  # web is there only where the configuration has a section of it: postrider(web=True)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def start_failing(p, seconds=15):
    """Runs it to its own end; returns status and what it said."""
    r = subprocess.run(p.command("run", "-c", str(p.config_path), *p.arguments), capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
                       env=p.env)
    return r.returncode, r.stdout + r.stderr


def deliver(talk, p, to="x@sink.test", text="Subject: t\r\n\r\nhello\r\n", tls=False):
    """One message by hand; the reply to its end."""
    t = talk(p.port)
    assert t.say("EHLO client.test").startswith("250")
    if tls:
        t.starttls()
        assert t.say("EHLO client.test").startswith("250")
    assert t.say("MAIL FROM:<a@src.test>").startswith("250")
    assert t.say(f"RCPT TO:<{to}>").startswith("250")
    assert t.say("DATA").startswith("354")
    t.send(text)
    reply = t.say(".")
    t.say("QUIT")
    return reply


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# ---- beginnings that fail ----

def test_a_missing_configuration_is_named(folder):
    r = run(BINARY, "run", "-c", folder / "nowhere.conf", check=False)
    assert r.returncode == 78 and "nowhere.conf" in r.stderr


def test_a_bad_configuration_is_named_with_its_line(postrider):
    p = postrider(start=False)
    p.config_path.write_text(p.config_path.read_text() + "\nnonsense = 3\n")
    line = p.config_path.read_text().splitlines().index("nonsense = 3") + 1
    status, said = start_failing(p)
    assert status == 78 and f"postrider.conf:{line}:" in said and "nonsense" in said


@root_only
def test_missing_users_are_named_with_the_command_that_makes_them(folder, certificate):
    for web in (True, False):
        p = Postrider(folder, certificate, extra='user_prefix = "nosuch"\n', user=None, web=web)
        p.user = None
        status, said = start_failing(p)
        assert status in (67, 78), said
        assert "useradd" in said
        for role in ROLES:
            assert f"nosuch-{role}" in said
        assert ("nosuch-web" in said) == web


def test_an_address_in_use_is_named(postrider):
    first = postrider()
    second = postrider(start=False)
    second.write_config(second.CONFIG, port=first.port)
    status, said = start_failing(second)
    assert status not in (0, None) and f"127.0.0.1:{first.port}" in said


def test_a_second_instance_on_the_same_control_socket_is_refused(postrider):
    first = postrider()
    text = first.config_path.read_text().replace(str(first.port), str(free_port()))
    other = first.dir / "other.conf"
    other.write_text(text)
    r = subprocess.run(first.command("run", "-c", str(other)), capture_output=True, text=True, timeout=15)
    assert r.returncode != 0 and "control" in r.stderr
    assert first.process.poll() is None and first.ctl("status").returncode == 0


def test_the_control_socket_is_private_and_a_stale_one_is_replaced(postrider):
    p = postrider()
    path = p.dir / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    p.kill_all()
    assert path.exists()
    p.start()
    assert p.ctl("status").returncode == 0
    assert p.stop() == 0
    assert not path.exists()


def test_what_is_no_socket_is_never_removed(postrider):
    p = postrider(start=False)
    path = p.dir / "control.sock"
    path.write_text("precious")
    status, said = start_failing(p)
    assert status != 0 and "control" in said and path.read_text() == "precious"
    path.unlink()


# ---- the end ----

def test_sigterm_with_nothing_to_do(postrider):
    p = postrider()
    pids = p.pids()
    began = time.monotonic()
    assert p.stop() == 0
    assert time.monotonic() - began < 3
    assert not [pid for pid in pids.values() if alive(pid)]
    assert p.events("stopped")


def test_sigterm_ends_sessions_with_421_within_10_s(postrider, talk):
    p = postrider()
    idle, busy = talk(p.port), talk(p.port)
    for t in (idle, busy):
        assert t.say("EHLO client.test").startswith("250")
    busy.say("MAIL FROM:<a@src.test>")
    busy.say("RCPT TO:<x@sink.test>")
    assert busy.say("DATA").startswith("354")
    busy.send("Subject: half\r\n")
    began = time.monotonic()
    p.process.send_signal(signal.SIGTERM)
    idle.sock.settimeout(10)
    assert idle.reply().startswith("421")
    assert p.stop(10) == 0
    assert time.monotonic() - began < 10
    assert not p.events("accepted")


def test_sigterm_lets_a_message_in_flight_finish(postrider, talk):
    p = postrider()
    t = talk(p.port)
    for line in ("EHLO client.test", "MAIL FROM:<a@src.test>", "RCPT TO:<x@sink.test>"):
        assert t.say(line).startswith("250")
    assert t.say("DATA").startswith("354")
    p.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    t.send("Subject: late\r\n\r\nhello\r\n")
    assert t.say(".").startswith("250")
    assert p.stop(10) == 0
    assert p.events("accepted")


# ---- crashes ----

@pytest.mark.parametrize("role", EVERY_ROLE)
def test_a_crashed_role_comes_back_and_mail_flows(postrider, talk, role):
    p = postrider(web=role == "web")
    p.mailbox("alice")
    first = p.pids()
    assert set(first) == {*ROLES, role}
    assert deliver(talk, p, tls=True).startswith("250")
    os.kill(first[role], signal.SIGKILL)
    gone = p.wait_event("role_exited", role_name=role, pid=first[role])[0]
    assert gone["signal"] in ("9", "KILL")
    p.wait_event("role_started", count=2, role_name=role)
    second = p.pids()
    assert {r for r in first if second.get(r) != first[r]} == {role}, "only the one that crashed is started anew"

    def flows():
        with contextlib.suppress(AssertionError, OSError):
            return deliver(talk, p, to="alice@local.test", tls=True).startswith("250")

    wait_for(flows, 10, f"mail after {role} came back\n{p.log()[-2000:]}", step=0.2)
    p.wait_event("delivered", to="alice@local.test")
    assert p.stop() == 0


def test_sessions_outlive_a_crash_of_queue(postrider, talk):
    p = postrider()
    t = talk(p.port)
    assert t.say("EHLO client.test").startswith("250")
    os.kill(p.pids()["queue"], signal.SIGKILL)
    p.wait_event("role_started", count=2, role_name="queue")
    time.sleep(0.3)
    assert t.say("NOOP").startswith("250")
    for line in ("MAIL FROM:<a@src.test>", "RCPT TO:<x@sink.test>"):
        assert t.say(line).startswith("250")
    assert t.say("DATA").startswith("354")
    t.send("Subject: after\r\n\r\nhello\r\n")
    assert t.say(".").startswith("250")


def test_back_off_grows(postrider):
    p = postrider()
    for n in range(1, 4):
        os.kill(p.pids()["resolve"], signal.SIGKILL)
        p.wait_event("role_started", count=n + 1, role_name="resolve")
    pauses = [int(e["restart_ms"]) for e in p.events("role_exited", role_name="resolve") if "restart_ms" in e]
    assert pauses == sorted(pauses) and pauses[0] < pauses[-1]


def test_roles_end_when_super_is_killed_and_a_restart_works_at_once(postrider, talk):
    p = postrider()
    pids = p.pids()
    os.kill(p.process.pid, signal.SIGKILL)
    p.process.wait(5)
    p.start()  # without waiting: what is left of the first one is no obstacle
    wait_for(lambda: not [pid for pid in pids.values() if alive(pid)], 3, "the end of the roles")
    assert deliver(talk, p, tls=True).startswith("250")


def test_counters_are_counted_once_whatever_crashed(postrider, talk):
    p = postrider()
    for role in ("send", "receive"):
        started = len(p.events("role_started", role_name=role))
        os.kill(p.pids()[role], signal.SIGKILL)
        p.wait_event("role_started", count=started + 1, role_name=role)
    time.sleep(0.3)
    assert deliver(talk, p).startswith("250")
    p.wait_event("session_end")
    text = p.ctl("status", "--prometheus").stdout
    counts = {(m.group(1)): int(float(m.group(2))) for m in re.finditer(r'^postrider_events_total\{[^}]*event="(\w+)"[^}]*\} (\S+)', text, re.M)}
    assert counts["session_end"] == 1, text
    assert counts["accepted"] == 1


def test_many_loops_get_all_their_channels(postrider, talk):
    p = postrider(extra="workers = 48")
    assert not p.events("fault")
    for _ in range(60):
        assert deliver(talk, p).startswith("250")
    assert not p.events("fault")


# ---- reload ----

def hangup(p, count=1):
    p.process.send_signal(signal.SIGHUP)
    p.wait_event("reloaded", count=count)


def test_a_reload_keeps_sessions_and_serves_new_ones_anew(postrider, talk):
    p = postrider()
    old = talk(p.port)
    assert old.say("EHLO client.test").startswith("250")
    first = p.pids()
    p.write_config(p.CONFIG, hostname="second.sink.test")
    hangup(p)
    new = wait_for(lambda: (lambda t: t if "second.sink.test" in t.banner else None)(talk(p.port)), 5, "the new greeting")
    assert new.say("EHLO client.test").startswith("250")
    assert old.say("MAIL FROM:<a@src.test>").startswith("250")
    assert old.say("RCPT TO:<x@sink.test>").startswith("250")
    assert old.say("DATA").startswith("354")
    old.send("Subject: old\r\n\r\nhello\r\n")
    assert old.say(".").startswith("250")
    assert alive(first["receive"]) and p.pids()["receive"] != first["receive"]
    assert p.pids()["queue"] == first["queue"]
    old.say("QUIT")
    wait_for(lambda: not alive(first["receive"]), 5, "the end of the old receive")
    wait_for(lambda: not alive(first["resolve"]) and not alive(first["send"]), 5, "the end of the old send and resolve")
    assert not p.events("role_exited")


def served_certificate(port):
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        f = s.makefile("rb")
        f.readline()
        s.sendall(b"EHLO c.test\r\n")
        while f.readline()[3:4] == b"-":
            pass
        s.sendall(b"STARTTLS\r\n")
        assert f.readline().startswith(b"220")
        with context.wrap_socket(s) as t:
            return ssl.DER_cert_to_PEM_cert(t.getpeercert(True)).strip()


def test_a_reload_reads_certificates_anew_and_old_sessions_keep_theirs(postrider, talk, folder):
    p = postrider()
    old = talk(p.port)
    assert old.say("EHLO client.test").startswith("250")
    fresh = make_certificate(folder / "certs", "fresh.sink.test")
    shutil.copy(fresh.chain, p.dir / "chain.pem")
    shutil.copy(fresh.key, p.dir / "key.pem")
    if p.user:
        own(p.dir / "key.pem", p.user)
    hangup(p)
    wanted = pathlib.Path(fresh.chain).read_text().strip()
    wait_for(lambda: served_certificate(p.port) == wanted, 5, "the new certificate", step=0.1)
    old.starttls()  # its certificate and its key are still a pair
    assert old.say("EHLO client.test").startswith("250")


def test_a_bad_reload_changes_nothing(postrider, talk):
    p = postrider()
    first = p.pids()
    good = p.config_path.read_text()
    p.config_path.write_text(good + "\nnonsense = 3\n")
    p.process.send_signal(signal.SIGHUP)
    refused = wait_for(lambda: p.events("reload_failed") or p.events("reload_refused"), 5, "the refusal")
    assert "nonsense" in refused[0]["reason"]
    assert p.pids() == first and deliver(talk, p, tls=True).startswith("250")
    p.config_path.write_text(good)
    hangup(p)


@pytest.mark.parametrize("setting", ["spool", "control", "sandbox", "user_prefix"])
def test_what_cannot_change_under_living_roles_is_refused(postrider, talk, setting):
    p = postrider()
    first = p.pids()
    text = p.config_path.read_text()
    if setting in ("spool", "control"):
        text = re.sub(rf'^{setting}( *= *".*)"$', rf'{setting}\1-other"', text, flags=re.M)
    else:
        text += {"sandbox": "sandbox = off\n", "user_prefix": 'user_prefix = "other"\n'}[setting]
    p.config_path.write_text(text)
    p.process.send_signal(signal.SIGHUP)
    refused = p.wait_event("reload_failed")[0]
    assert setting in refused["reason"] and "restart" in refused["reason"]
    assert p.pids() == first and deliver(talk, p).startswith("250")


def test_reloads_in_a_row_and_while_an_old_session_stays(postrider, talk):
    p = postrider()
    old = talk(p.port)
    old.say("EHLO client.test")
    for n in range(1, 4):
        p.write_config(p.CONFIG, hostname=f"n{n}.sink.test")
        hangup(p, n)
        wait_for(lambda: f"n{n}.sink.test" in talk(p.port).banner, 5, f"greeting {n}", step=0.1)
    assert old.say("NOOP").startswith("250")
    assert deliver(talk, p, tls=True).startswith("250")


def test_a_reload_moves_listeners(postrider, talk):
    p = postrider()
    was, port = p.port, free_port()
    p.write_config(p.CONFIG, port=port)
    hangup(p)
    p.port = port
    assert wait_for(lambda: deliver(talk, p), 5).startswith("250")

    def closed():
        try:
            socket.create_connection(("127.0.0.1", was), 1).close()
        except ConnectionRefusedError:
            return True

    wait_for(closed, 5, "the end of the old address")


def test_a_reload_to_an_address_in_use_changes_nothing(postrider, talk):
    p = postrider()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = p.port
        p.write_config(p.CONFIG, port=taken.getsockname()[1])
        p.process.send_signal(signal.SIGHUP)
        wait_for(lambda: p.events("reload_failed") or p.events("reload_refused"), 5, "the refusal")
    p.port = port
    assert deliver(talk, p).startswith("250")


def test_a_reload_with_a_new_folder_of_mailboxes(postrider, talk):
    p = postrider()
    other = p.dir / "other"
    (other / "bob").mkdir(parents=True)
    if p.user:
        own(other, p.user)
    p.write_config(p.CONFIG, extra='domain "other.test" {{ deliver = "maildir:{dir}/other/%{{user}}" }}'.format(dir=p.dir))
    hangup(p)
    assert wait_for(lambda: deliver(talk, p, to="bob@other.test"), 5).startswith("250")
    p.wait_event("delivered", to="bob@other.test")
    assert len(list((other / "bob" / "new").iterdir())) == 1


def test_a_role_that_waits_for_its_restart_is_renewed_once(postrider, talk):
    p = postrider()
    for n in range(1, 5):  # a pause long enough to reload into
        os.kill(p.pids()["receive"], signal.SIGKILL)
        if n < 4:
            p.wait_event("role_started", count=n + 1, role_name="receive")
    p.process.send_signal(signal.SIGHUP)
    p.wait_event("reloaded")
    time.sleep(2)
    running = [e for e in p.events("role_started", role_name="receive") if alive(int(e["pid"]))]
    assert len(running) == 1, running
    assert deliver(talk, p, tls=True).startswith("250")


# ---- the service manager ----

def test_systemd_is_told(postrider, folder):
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(path))
        path.chmod(0o777)
        s.settimeout(5)
        p = postrider(env={"NOTIFY_SOCKET": str(path)})
        assert "READY=1" in s.recv(1000).decode()
        hangup(p)
        assert "RELOADING=1" in (reloading := s.recv(1000).decode()) and "MONOTONIC_USEC=" in reloading
        assert "READY=1" in s.recv(1000).decode()
        p.stop()
        assert "STOPPING=1" in s.recv(1000).decode()
    path.unlink()


# ---- the log ----

def test_a_reader_of_the_log_who_sleeps_stops_nobody(postrider, talk):
    p = postrider(start=False)
    p.log_file = open(p.log_path, "ab")
    p.process = subprocess.Popen(p.command("run", "-c", str(p.config_path)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 start_new_session=True)

    def answers():
        with contextlib.suppress(OSError):
            return deliver(talk, p).startswith("250")

    wait_for(answers, 10, "the first message")
    for _ in range(150):  # some 100 KiB of lines; a pipe holds 64
        assert deliver(talk, p).startswith("250")
    p.process.stderr.close()  # and one who goes away does not either
    assert deliver(talk, p).startswith("250")
    assert p.stop() == 0


# ---- one process ----

def test_single(postrider, talk):
    p = postrider(arguments=["--single"])
    box = p.mailbox("alice")
    assert deliver(talk, p, to="alice@local.test", tls=True).startswith("250")
    box.wait()
    assert p.stop() == 0


# ---- the sandbox, from inside ----

def prove(p, talk):
    p.mailbox("alice")
    assert deliver(talk, p, to="alice@local.test", tls=True).startswith("250")
    p.wait_event("delivered")
    p.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: {e["role"] for e in p.events("sandbox_proof")} >= set(p.pids()), 5, "every role's proof\n" + p.log()[-2000:])
    return {e["role"]: e for e in p.events("sandbox_proof")}


REFUSED = ("EPERM", "EACCES", "ENOSYS")
# landlock_create_ruleset(NULL, 0, VERSION): some kernels and containers have none, which the daemon then says
LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) >= 1


def test_inside_the_sandbox_nothing_opens_executes_or_forks(postrider, talk):
    p = postrider(env={"POSTRIDER_SELFTEST": "1"}, web=True)
    proofs = prove(p, talk)
    for role in EVERY_ROLE:
        said = proofs[role]
        assert said["exec"] in REFUSED and said["fork"] in REFUSED, said
        assert said["open"] in REFUSED or not LANDLOCK, said
        if role in ("send", "resolve", "policy"):
            assert said["socket"] == "allowed"
        else:
            assert said["socket"] in REFUSED, said
    assert p.pids().keys() == set(EVERY_ROLE) and not p.events("role_exited")
    assert deliver(talk, p, tls=True).startswith("250"), "it serves on"
    assert {e["sandbox"] for e in p.events("role_started")} == {"on" if LANDLOCK else "partial"}


def test_with_the_sandbox_off_the_same_attempts_succeed(postrider, talk):
    p = postrider(extra="sandbox = off\n", env={"POSTRIDER_SELFTEST": "1"}, web=True)
    for role, said in prove(p, talk).items():
        assert said["open"] == "allowed" and said["socket"] == "allowed" and said["fork"] == "allowed", said
        assert said["exec"] == "ENOENT", said  # it was looked for


def test_nobody_is_asked_for_the_proof_in_service(postrider, talk):
    p = postrider()
    p.process.send_signal(signal.SIGUSR1)
    assert deliver(talk, p).startswith("250")
    assert not p.events("sandbox_proof")


def memory_has(pid, needle):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, rights = line.split()[:2]
            if "r" not in rights or "[v" in line:
                continue
            low, high = (int(x, 16) for x in span.split("-"))
            with contextlib.suppress(OSError, ValueError, OverflowError):
                mem.seek(low)
                if needle in mem.read(high - low):
                    return True
    return False


@root_only
def test_the_private_key_is_in_the_memory_of_keys_alone(postrider, talk, certificate):
    p = postrider()
    for _ in range(3):
        assert deliver(talk, p, tls=True).startswith("250")
    text = run("openssl", "ec", "-in", certificate.key, "-text", "-noout").stdout
    secret = bytes.fromhex("".join(re.search(r"priv:\n((?:\s+[0-9a-f:]+\n)+)", text).group(1).split()).replace(":", ""))
    secret = secret.lstrip(b"\0")
    pem = "".join(pathlib.Path(certificate.key).read_text().splitlines()[1:2]).encode()
    needles = [secret, secret[::-1], pem[10:50]]
    pids = {**p.pids(), "super": p.process.pid}
    found = {role for role, pid in pids.items() if any(memory_has(pid, n) for n in needles)}
    assert found == {"keys"}


def test_the_dkim_keys_are_in_the_memory_of_keys_alone(postrider, tmp_path):
    """After `policy` has had a report signed by them (test_tlsrpt.py shows that it verifies)."""
    for name, how in (("rsa", ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), ("ed", ["ED25519"])):
        run("openssl", "genpkey", "-algorithm", *how, "-out", tmp_path / name)
        (tmp_path / name).chmod(0o644)
    tmp_path.chmod(0o755)
    p = postrider(start=False, extra="tls_report { send = true }\n")
    for name in ("rsa", "ed"):
        shutil.copy(tmp_path / name, p.dir / name)
    if p.user:
        own(p.dir, p.user)
    p.write_config(p.CONFIG + f'dkim "r" {{{{ domain = "sink.test" key = "{p.dir}/rsa" }}}}\ndkim "e" {{{{ domain = "sink.test" algorithm = ed25519 key = "{p.dir}/ed" }}}}\n')
    p.start()
    assert len(p.wait_event("key_ready", count=3)) == 3
    primes = run("openssl", "pkey", "-in", tmp_path / "rsa", "-text", "-noout").stdout
    prime = bytes.fromhex("".join(re.search(r"prime1:\n((?:\s+[0-9a-f:]+\n)+)", primes).group(1).split()).replace(":", "")).lstrip(b"\0")
    seed = run("openssl", "pkey", "-in", tmp_path / "ed", "-text", "-noout").stdout
    seed = bytes.fromhex("".join(re.search(r"priv:\n((?:\s+[0-9a-f:]+\n)+)", seed).group(1).split()).replace(":", ""))
    pem = ["".join((tmp_path / n).read_text().splitlines()[1:2]).encode() for n in ("rsa", "ed")]
    pids = {**p.pids(), "super": p.process.pid}
    for needles in ([prime, prime[::-1], pem[0][10:50]], [seed, pem[1][10:50]]):
        assert {role for role, pid in pids.items() if any(memory_has(pid, n) for n in needles)} == {"keys"}


# ---- as root ----

@pytest.fixture(scope="module")
def users():
    """Users of Postrider under a prefix of the test's own, and one who gets mail."""
    prefix, owner = "prtest", "prtest-owner"
    names = [f"{prefix}-{r}" for r in EVERY_ROLE] + [owner]
    for name in names:
        subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=False, capture_output=True)
    yield prefix, owner
    for name in names:
        subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.fixture
def as_root(folder, certificate, users):
    made = []

    def make(**kw):
        prefix, owner = users
        p = Postrider(folder, certificate, extra=f'user_prefix = "{prefix}"\n' + kw.pop("extra", ""), user=None, **kw)
        p.user = None
        made.append(p)
        return p

    yield make
    for p in made:
        p.stop()
        shutil.rmtree(p.dir, ignore_errors=True)


@root_only
def test_as_root_each_role_is_a_user_of_its_own(as_root, users, talk):
    p = as_root(env={"POSTRIDER_SELFTEST": "1"}, web=True).start()
    prefix, _ = users
    assert set(p.pids()) == set(EVERY_ROLE)
    for role, pid in p.pids().items():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        uid = pwd.getpwnam(f"{prefix}-{role}").pw_uid
        assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.M), (role, status)
        assert re.search(r"^Groups:\s*$", status, re.M)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M) and re.search(r"^Seccomp:\t2$", status, re.M)
        caps = {m.group(1): int(m.group(2), 16) for m in re.finditer(r"^Cap(\w+):\t(\w+)$", status, re.M)}
        # local may look at every mailbox (search folders), and nothing else; Landlock lets it read none
        may_look = (1 << 2) if role == "local" else 0
        assert caps["Eff"] & ~may_look == 0 and caps["Prm"] & ~may_look == 0 and caps["Inh"] == 0 and caps["Amb"] == 0, (role, status)
    mine = pathlib.Path(f"/proc/{p.process.pid}/status").read_text()
    assert int(re.search(r"CapBnd:\t(\w+)", mine).group(1), 16).bit_count() < 12
    assert deliver(talk, p, tls=True).startswith("250")
    assert p.stop() == 0


@root_only
def test_as_root_mail_is_delivered_by_the_owner_of_a_private_home(as_root, users, talk):
    _, owner = users
    entry = pwd.getpwnam(owner)
    p = as_root()
    homes = p.dir / "homes"
    box = homes / owner / "Maildir"
    box.mkdir(parents=True)
    own(homes / owner, owner)
    (homes / owner).chmod(0o700)
    p.write_config(p.CONFIG, extra=p.values["extra"] + '\ndomain "home.test" {{ deliver = "maildir:{d}/homes/%{{user}}/Maildir" }}'.format(d=p.dir))
    p.start()
    assert deliver(talk, p, to=f"{owner}@home.test", tls=True).startswith("250")
    p.wait_event("delivered", to=f"{owner}@home.test")
    files = list((box / "new").iterdir())
    assert len(files) == 1 and files[0].stat().st_uid == entry.pw_uid and files[0].stat().st_gid == entry.pw_gid
    worker = p.events("role_started", role_name="worker")[0]
    assert f"Uid:\t{entry.pw_uid}\t{entry.pw_uid}" in pathlib.Path(f"/proc/{worker['pid']}/status").read_text()
    assert deliver(talk, p, to=f"{owner}@home.test").startswith("250")
    p.wait_event("delivered", count=2, to=f"{owner}@home.test")
    assert len(p.events("role_started", role_name="worker")) == 1, "the worker is used again"
    os.kill(int(worker["pid"]), signal.SIGKILL)
    time.sleep(1.2)
    assert deliver(talk, p, to=f"{owner}@home.test").startswith("250")
    p.wait_event("delivered", count=3, to=f"{owner}@home.test")


@root_only
def test_as_root_nothing_is_delivered_as_root_or_as_a_role(as_root, users, talk):
    prefix, _ = users
    p = as_root()
    for name, user in (("rooted", "root"), ("queued", f"{prefix}-queue")):
        (p.dir / "mail" / name).mkdir()
        own(p.dir / "mail" / name, user)
    p.start()
    for name in ("rooted", "queued"):
        assert deliver(talk, p, to=f"{name}@local.test").startswith("250")
        p.wait_event("deferred", to=f"{name}@local.test")
        assert not (p.dir / "mail" / name / "new").exists()
    assert not p.events("role_started", role_name="worker")


@root_only
def test_as_root_crashed_roles_come_back(as_root, talk):
    p = as_root().start()
    first = p.pids()
    for role in ("queue", "receive", "keys"):
        os.kill(first[role], signal.SIGKILL)
    for role in ("queue", "receive", "keys"):
        p.wait_event("role_started", count=2, role_name=role)
    wait_for(lambda: deliver(talk, p, tls=True).startswith("250"), 10)
    hangup(p)
    assert deliver(talk, p, tls=True).startswith("250")
