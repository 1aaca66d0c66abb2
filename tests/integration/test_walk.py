"""The walk: a message from real clients to a mailbox, to a next hop, and through two Postriders."""
import re
import smtplib
import ssl

from conftest import run, wait_for


def swaks(port, to, *more, sender="bob@src.test"):
    return run("swaks", "--server", f"127.0.0.1:{port}", "--from", sender, "--to", to, *more, check=False)


def test_swaks_over_starttls_to_a_maildir(postrider):
    p = postrider()
    box = p.mailbox("alice")
    r = swaks(p.port, "alice@local.test", "-tls", "--body", "hello from swaks")
    assert r.returncode == 0, r.stdout + r.stderr
    text = box.wait()[0].decode()
    assert text.startswith("Return-Path: <bob@src.test>\nDelivered-To: alice@local.test\nReceived: from ")
    received = re.search(r"Received:(?:.*\n[ \t])*.*", text).group(0).replace("\n\t", " ")
    assert " with ESMTPS " in received and " tls TLS_" in received and "TLSv1.3" in received
    assert "hello from swaks\n" in text
    accepted = p.wait_event("accepted")[0]
    delivered = p.wait_event("delivered", to="alice@local.test")[0]
    assert accepted["id"] == delivered["id"] and accepted["session"] == delivered["session"]
    ended = p.wait_event("session_end")[-1]
    assert ended["tls"] == "TLSv1.3" and ended["messages"] == "1"


def test_unknown_user_is_550_and_postmaster_is_always_there(postrider):
    p = postrider()
    assert "550 5.1.1" in swaks(p.port, "nobody-here@local.test").stdout
    r = swaks(p.port, "PostMaster@local.test")
    assert r.returncode == 0, r.stdout
    p.wait_event("delivered", to="PostMaster@local.test")


def test_smtplib_and_curl(postrider, certificate, tmp_path):
    p = postrider()
    box = p.mailbox("carol")
    context = ssl.create_default_context(cafile=certificate.chain)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", p.port, timeout=10) as s:
        s.starttls(context=context)
        s.sendmail("a@src.test", ["carol@local.test"], "Subject: one\r\n\r\n.leading dot\r\nlast\r\n", mail_options=["BODY=8BITMIME"])
    message = tmp_path / "message"
    message.write_bytes(b"Subject: two\r\n\r\nby curl\r\n")
    run("curl", "-sS", "--ssl-reqd", "-k", f"smtp://127.0.0.1:{p.port}/client.test", "--mail-from", "a@src.test", "--mail-rcpt", "carol@local.test",
        "-T", message)
    texts = [m.decode() for m in box.wait(2)]
    assert any("Subject: one\n\n.leading dot\nlast\n" in t for t in texts)
    assert any("Subject: two\n\nby curl\n" in t for t in texts)


def test_relay_over_starttls_through_a_second_postrider(postrider):
    last = postrider(hostname="last.test")
    box = last.mailbox("dave")
    first = postrider(hostname="first.test", extra=f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{last.port}" tls = may }}')
    # the same address is local at the second: its domain is local.test there, so send to local.test through a route
    first_route = postrider(hostname="route.test", config=first.CONFIG.replace('domain "local.test"   {{ deliver = "maildir:{dir}/mail/%{{user}}" }}',
                            f'domain "local.test" {{{{ deliver = "smtp://127.0.0.1:{last.port}" tls = may }}}}'))
    assert swaks(first_route.port, "dave@local.test", "-tls").returncode == 0
    text = box.wait()[0].decode()
    received = re.findall(r"^Received: (?:.*\n[ \t])*.*", text, re.M)
    assert len(received) == 2 and all("ESMTPS" in r and "TLSv1.3" in r for r in received)
    done = first_route.wait_event("delivered", to="dave@local.test")[0]
    assert "TLSv1.3" in done["tls"]


def test_relay_to_a_sink_byte_for_byte(postrider, sink):
    s = sink()
    p = postrider(extra=f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{s.port}" tls = none }}')
    body = b"Subject: exact\r\n\r\n" + b"".join(b".%d\r\n" % i for i in range(50)) + b"x" * 5000 + b"\r\n\r\n.\r\n..\r\nend\r\n"
    with smtplib.SMTP("127.0.0.1", p.port, timeout=10) as c:
        c.ehlo("client.test")
        c.mail("a@src.test")
        c.rcpt("b@relay.test")
        c.docmd("DATA")
        c.send(b"".join((b"." + line if line.startswith(b".") else line) for line in body.splitlines(True)) + b".\r\n")
        assert c.getreply()[0] == 250
    got = s.wait()[0]["body"]
    assert got.endswith(b"\r\n" + body) or got.split(b"\r\n", 4)[-1].endswith(body)
    assert got.index(b"Subject: exact") > 0 and got[got.index(b"Subject: exact"):] == body


def test_discard_is_logged(postrider):
    p = postrider()
    assert swaks(p.port, "x@sink.test").returncode == 0
    wait_for(lambda: p.events("discarded"), 5, "discarded\n" + p.log())
