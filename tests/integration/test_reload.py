"""SIGHUP under load: no session is dropped, no message lost or doubled, whatever the new configuration says; `status` tells."""
import json
import pathlib
import shutil
import signal

import pytest

from conftest import Talk, free_port, make_certificate, own, wait_for
from loader import Pair, count_lines
from test_super import alive, deliver, served_certificate


@pytest.fixture
def books(tmp_path, certificate):
    pair = Pair(tmp_path, certificate=certificate)
    yield pair
    pair.close()


def relay_to(port):
    return f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{port}" tls = may }}\nretry_min = "1s"\nretry_max = "2s"\n'


def status(p):
    return json.loads(p.ctl("status", "--json").stdout)


def hangup(p):
    before = len(p.events("reloaded"))
    p.process.send_signal(signal.SIGHUP)
    p.wait_event("reloaded", count=before + 1)


def loaded(books, p):
    load = books.send(p.port, "--forever", "--tls-senders", 10, senders=25)
    wait_for(lambda: count_lines(books.sent) > 200, 10, "load")
    return load


def goes_on(books, messages=200):
    before = count_lines(books.sent)
    wait_for(lambda: count_lines(books.sent) > before + messages, 10, "load that goes on")


def judge(books, load):
    said = books.finish(load, 20, stop=True)
    assert said["broken"] == "0", said
    wait_for(lambda: not books.compare()[0], 20, "all messages", step=0.2)
    missing, doubles, strangers = books.compare()
    assert not missing and not doubles and not strangers


def test_reloads_under_load_drop_no_session(postrider, talk, books, folder):
    p = postrider(extra=relay_to(books.port), relay_from='"192.0.2.0/24"')
    load = loaded(books, p)
    queue = p.pids()["queue"]
    # a new domain
    extra = relay_to(books.port) + 'domain "new.test" { deliver = "discard" }\n'
    t = talk(p.port)
    for line, reply in (("EHLO c.test", "250"), ("MAIL FROM:<a@src.test>", "250"), ("RCPT TO:<x@new.test>", "550 5.7.1")):
        assert t.say(line).startswith(reply)
    p.write_config(p.CONFIG, extra=extra)
    hangup(p)
    assert deliver(talk, p, to="x@new.test").startswith("250")
    goes_on(books)
    # a new address beside the old one
    port = free_port()
    p.write_config(p.CONFIG.replace('"127.0.0.1:{port}"', '"127.0.0.1:{port}", "127.0.0.1:%d"' % port), extra=extra)
    hangup(p)
    assert wait_for(lambda: Talk(port).banner.startswith("220"), 5)
    goes_on(books)
    # a new certificate
    fresh = make_certificate(folder / "certs", "reloaded.test")
    shutil.copy(fresh.chain, p.dir / "chain.pem")
    shutil.copy(fresh.key, p.dir / "key.pem")
    if p.user:
        own(p.dir / "key.pem", p.user)
    hangup(p)
    wait_for(lambda: served_certificate(p.port) == pathlib.Path(fresh.chain).read_text().strip(), 5, "the new certificate", step=0.1)
    goes_on(books)
    said = status(p)
    assert said["super"]["generation"] == 4 and {r["role"]: r["generation"] for r in said["super"]["roles"] if r["state"] == "running"}["receive"] == 4
    assert p.pids()["queue"] == queue and not p.events("role_exited") and not p.events("reload_failed")
    judge(books, load)


def test_bad_configurations_under_load_are_refused_one_after_the_other(postrider, talk, books):
    p = postrider(extra=relay_to(books.port))
    load = loaded(books, p)
    first, good = p.pids(), p.config_path.read_text()
    bad = [("nonsense = 3\n", "nonsense"), ('listener "x" { address = {"127.0.0.1:99999"} }\n', "99999"), ('domain "d.test" { deliver = "pigeon" }\n', "pigeon"),
           ('listener "two" { address = {"127.0.0.1:%d"} certificate = "absent" }\n' % free_port(), "absent"), ("hostname = \n", "postrider.conf")]
    for n, (text, word) in enumerate(bad, 1):
        p.config_path.write_text(good + text)
        p.process.send_signal(signal.SIGHUP)
        said = p.wait_event("reload_failed", count=n)[-1]
        assert word in said["reason"], said
    p.config_path.unlink()
    p.process.send_signal(signal.SIGHUP)
    p.wait_event("reload_failed", count=len(bad) + 1)
    assert p.pids() == first and p.process.poll() is None
    assert deliver(talk, p, tls=True).startswith("250")
    goes_on(books)
    p.config_path.write_text(good)
    assert status(p)["super"]["generation"] == 1
    hangup(p)
    assert status(p)["super"]["generation"] == 2
    judge(books, load)


def test_a_session_amid_a_message_outlives_three_reloads(postrider, talk):
    p = postrider()
    box = p.mailbox("alice")
    t = talk(p.port)
    t.say("EHLO c.test")
    t.starttls()
    for line in ("EHLO c.test", "MAIL FROM:<a@src.test>", "RCPT TO:<alice@local.test>"):
        assert t.say(line).startswith("250")
    assert t.say("DATA").startswith("354")
    first = p.pids()["receive"]
    for n in range(3):
        t.send(f"Line-{n}: x\r\n")
        p.write_config(p.CONFIG, hostname=f"n{n}.sink.test")
        hangup(p)
    t.send("\r\nbody\r\n")
    assert t.say(".").startswith("250")
    text = box.wait()[0].decode()
    assert all(f"Line-{n}: x\n" in text for n in range(3)) and "by mx.sink.test" in text.replace("\n\t", " ")
    assert alive(first)
    t.say("QUIT")
    wait_for(lambda: not alive(first), 5, "the end of the first receive")


def test_a_smaller_limit_holds_for_new_sessions_only(postrider, talk):
    p = postrider()
    old = talk(p.port)
    assert "SIZE 52428800" in old.say("EHLO c.test")
    p.write_config(p.CONFIG, extra="message_size_limit = 1000\n")
    hangup(p)
    new = wait_for(lambda: (lambda t: t if "SIZE 1000\n" in t.say("EHLO c.test") + "\n" else None)(talk(p.port)), 5, "the new limit", step=0.1)
    assert new.say("MAIL FROM:<a@src.test> SIZE=1001").startswith("552")
    assert old.say("MAIL FROM:<a@src.test> SIZE=1001").startswith("250")


def test_queued_mail_takes_the_new_way(postrider, talk, sink):
    """The next hop of mail that waits is that of today's configuration."""
    hop = sink()
    p = postrider(extra=f'domain "later.test" {{ deliver = "smtp://127.0.0.1:{free_port()}" tls = none }}\nretry_min = "1s"\nretry_max = "2s"')
    assert deliver(talk, p, to="x@later.test").startswith("250")
    p.wait_event("deferred", to="x@later.test")
    p.write_config(p.CONFIG, extra=f'domain "later.test" {{ deliver = "smtp://127.0.0.1:{hop.port}" tls = none }}\nretry_min = "1s"\nretry_max = "2s"')
    hangup(p)
    assert deliver(talk, p, to="y@later.test").startswith("250")
    p.wait_event("delivered", to="y@later.test")
    p.ctl("queue", "flush", "--all")
    p.wait_event("delivered", to="x@later.test")
