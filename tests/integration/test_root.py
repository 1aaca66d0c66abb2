"""Started as root: users, owners of mailboxes, files and what each of them may.  Users are made under a prefix of this run and removed.

test_super.py has the walls of each role as root; here are two owners side by side, traps in their folders, the spool's owner
over a rebuild, and beginnings that must fail.
"""
import os
import pathlib
import pwd
import re
import shutil
import stat
import subprocess
import time

import pytest

from conftest import BINARY, Postrider, own, run, wait_for
from test_super import EVERY_ROLE, ROLES, deliver, root_only, start_failing

pytestmark = root_only
PREFIX = f"pr{os.getpid()}"


@pytest.fixture(scope="module")
def users():
    names = [f"{PREFIX}-{r}" for r in EVERY_ROLE] + [f"{PREFIX}-anna", f"{PREFIX}-ben"]
    for name in names:
        run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name)
    yield names
    for name in names:
        subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.fixture
def as_root(folder, certificate, users):
    made = []

    def make(extra="", homes=(), **kw):
        p = Postrider(folder, certificate, extra=f'user_prefix = "{PREFIX}"\n' + extra, user=None, **kw)
        p.user = None
        made.append(p)
        for name in homes:
            box = p.dir / "homes" / name / "Maildir"
            box.mkdir(parents=True)
            own(p.dir / "homes" / name, name)
            (p.dir / "homes" / name).chmod(0o700)
        if homes:
            p.write_config(p.CONFIG, extra=p.values["extra"] + f'domain "home.test" {{ deliver = "maildir:{p.dir}/homes/%{{user}}/Maildir" }}\n')
        return p

    yield make
    for p in made:
        p.stop()
        shutil.rmtree(p.dir, ignore_errors=True)


def box_of(p, name):
    new = p.dir / "homes" / name / "Maildir" / "new"
    return list(new.iterdir()) if new.exists() else []


def test_two_owners_get_their_mail_each_by_their_own_hand(as_root, users, talk):
    owners = users[-2:]
    p = as_root(homes=owners).start()
    for n in range(10):
        t = talk(p.port)
        for line in ("EHLO c.test", "MAIL FROM:<a@src.test>", *(f"RCPT TO:<{o}@home.test>" for o in owners)):
            assert t.say(line).startswith("250")
        assert t.say("DATA").startswith("354")
        assert t.say(f"Subject: {n}\r\n\r\nhello\r\n.").startswith("250")
    wait_for(lambda: all(len(box_of(p, o)) == 10 for o in owners), 15, "ten messages each\n" + p.log()[-2000:])
    workers = {}
    for e in p.events("role_started", role_name="worker"):
        uid = re.search(r"^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)", pathlib.Path(f"/proc/{e['pid']}/status").read_text(), re.M).groups()
        assert len(set(uid)) == 1
        workers[int(uid[0])] = e["pid"]
    assert len(p.events("role_started", role_name="worker")) == 2 and set(workers) == {pwd.getpwnam(o).pw_uid for o in owners}
    for o in owners:
        entry = pwd.getpwnam(o)
        for f in [*box_of(p, o), p.dir / "homes" / o / "Maildir" / "new", p.dir / "homes" / o / "Maildir" / "tmp"]:
            s = f.stat()
            assert (s.st_uid, s.st_gid) == (entry.pw_uid, entry.pw_gid), f
            assert not s.st_mode & 0o077, "nobody else reads it"
        assert all(f"Delivered-To: {o}@home.test".encode() in f.read_bytes() for f in box_of(p, o))
    assert p.stop() == 0
    assert not [pid for pid in workers.values() if os.path.exists(f"/proc/{pid}")]


def test_a_link_into_the_mailbox_of_another_brings_nothing_there(as_root, users, talk):
    """What an owner may do in a folder of theirs must not move the mail of another."""
    anna, ben = users[-2:]
    p = as_root(homes=(anna, ben))
    box = p.dir / "homes" / anna / "Maildir"
    (p.dir / "homes" / ben / "Maildir" / "new").mkdir()
    own(p.dir / "homes" / ben, ben)
    (box / "tmp").mkdir()
    (box / "cur").mkdir()
    (box / "new").symlink_to(p.dir / "homes" / ben / "Maildir" / "new")
    for f in ("tmp", "cur"):
        own(box / f, anna)
    p.start()
    assert deliver(talk, p, to=f"{anna}@home.test").startswith("250")
    p.wait_event("deferred", to=f"{anna}@home.test")
    assert not box_of(p, ben)


def test_roots_mailbox_is_deferred_and_named(as_root, users, talk):
    p = as_root()
    (p.dir / "mail" / "rooted").mkdir()
    p.start()
    assert deliver(talk, p, to="rooted@local.test").startswith("250")
    said = p.wait_event("deferred", to="rooted@local.test")[0]
    assert "root" in said["reason"] and said["code"].startswith("4"), said
    assert not (p.dir / "mail" / "rooted" / "new").exists() and not p.events("role_started", role_name="worker")
    # its owner is put right: it is delivered at the next try
    own(p.dir / "mail" / "rooted", users[-1])
    p.ctl("queue", "flush", "--all")
    p.wait_event("delivered", to="rooted@local.test")
    assert p.dir.joinpath("mail/rooted/new").stat().st_uid == pwd.getpwnam(users[-1]).pw_uid


def test_files_belong_to_whom_they_must(as_root, users, talk):
    p = as_root()
    (p.dir / "key.pem").chmod(0o600)
    p.start()
    assert deliver(talk, p, tls=True).startswith("250"), "super reads the key that only root may read, for keys"
    queue = pwd.getpwnam(f"{PREFIX}-queue").pw_uid
    spool = p.dir / "spool"
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700
    for f in [spool, *spool.rglob("*")]:
        assert f.stat().st_uid == queue and not f.stat().st_mode & 0o077, f
    assert stat.S_IMODE((p.dir / "control.sock").stat().st_mode) == 0o600
    for user in ("nobody", users[0]):
        r = run("setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups", BINARY, "status", "-c", p.config_path, check=False)
        assert r.returncode not in (0, None) and "role" not in r.stdout, user
    assert p.ctl("status").returncode == 0


def test_a_rebuild_by_root_leaves_a_spool_that_the_daemon_can_use(as_root, talk):
    p = as_root(extra='domain "later.test" { deliver = "smtp://127.0.0.1:9" tls = none }\n').start()
    for _ in range(5):
        assert deliver(talk, p, to="x@later.test").startswith("250")
    assert p.stop() == 0
    assert "5 messages" in p.ctl("queue", "rebuild").stdout
    queue = pwd.getpwnam(f"{PREFIX}-queue").pw_uid
    assert all(f.stat().st_uid == queue for f in (p.dir / "spool").rglob("*"))
    p.start()
    opened = p.wait_event("spool_opened", count=2)[-1]
    assert opened["messages"] == "5", opened
    assert deliver(talk, p).startswith("250")


def test_one_missing_user_is_named_and_the_others_are_not(as_root, users):
    gone = f"{PREFIX}-resolve"
    run("userdel", gone)
    try:
        p = as_root()
        status, said = start_failing(p)
        assert status == 67, said
        assert "useradd" in said and gone in said and f"{PREFIX}-queue" not in said
        assert "ready" not in said
    finally:
        run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", gone)
    # the command that it names makes it whole
    for role in ROLES:
        assert pwd.getpwnam(f"{PREFIX}-{role}")
    p.start()


def test_the_named_command_makes_the_users(folder, certificate):
    prefix = f"{PREFIX}x"
    p = Postrider(folder, certificate, extra=f'user_prefix = "{prefix}"', user=None)
    p.user = None
    status, said = start_failing(p)
    assert status == 67, said
    command = re.search(r"make them with: (for u in .*; done)", said).group(1)
    try:
        run("sh", "-c", command)
        p.start()
        assert set(p.pids()) == set(ROLES)
        assert p.stop() == 0
    finally:
        for role in ROLES:
            subprocess.run(["userdel", f"{prefix}-{role}"], check=False, capture_output=True)
        p.stop()
        shutil.rmtree(p.dir, ignore_errors=True)


def test_signals_of_a_role_cannot_reach_another(as_root, users):
    """Each role is a user of its own: kill(2) is refused by the kernel, filter or not."""
    p = as_root(web=True).start()
    pids = p.pids()
    for role in EVERY_ROLE:
        for other in EVERY_ROLE:
            if other != role:
                r = run("setpriv", f"--reuid={PREFIX}-{role}", "--regid=nogroup", "--clear-groups", "kill", "-0", pids[other], check=False)
                assert r.returncode != 0, (role, other)
