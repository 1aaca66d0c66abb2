"""Outbound: TLS levels, refusals, bounces, retries, and what a dead destination must not do to the others."""
import email
import smtplib
import socket
import time

import pytest
from conftest import free_port, make_certificate, run, wait_for


def relay_to(sink_port, more=""):
    return f'domain "relay.test" {{ deliver = "smtp://127.0.0.1:{sink_port}" {more} }}'


def send(port, to, sender="a@src.test", text="Subject: x\r\n\r\nbody\r\n", **kw):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as s:
        s.ehlo("client.test")
        return s.sendmail(sender, [to] if isinstance(to, str) else to, text, **kw)


def bounce_of(sink_or_box):
    text = sink_or_box if isinstance(sink_or_box, bytes) else sink_or_box["body"]
    message = email.message_from_bytes(text)
    assert message.get_content_type() == "multipart/report"
    return message, message.get_payload()[1].get_payload()


# ---- TLS towards the next hop ----

def test_may_uses_starttls_when_offered(postrider, sink, certificate):
    s = sink(certificate=certificate)
    p = postrider(extra=relay_to(s.port))
    send(p.port, "b@relay.test")
    assert s.wait()[0]["tls"]
    commands = [d[1].split(" ")[0] for d in s.dialogs[0] if d[0] == "C"]
    assert commands[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


def test_may_goes_on_in_clear_when_refused(postrider, sink, certificate):
    for answer in ("454 4.7.0 not now", "502 5.5.1 no"):
        s = sink(certificate=certificate, script={"STARTTLS": answer})
        p = postrider(extra=relay_to(s.port))
        send(p.port, "b@relay.test")
        assert not s.wait()[0]["tls"]
        assert "clear" in p.wait_event("delivered")[0]["tls"]


def test_may_goes_on_in_clear_when_tls_itself_fails(postrider, sink, certificate):
    s = sink(certificate=certificate)
    real = s.serve
    def broken(handler):
        handler.request.sendall(b"220 x ESMTP\r\n")
        handler.rfile.readline()
        handler.request.sendall(b"250-x\r\n250 STARTTLS\r\n")
        line = handler.rfile.readline()
        if line.upper().startswith(b"STARTTLS"):
            handler.request.sendall(b"220 go\r\nnot a handshake at all, really not\r\n"[:8])
            handler.rfile.read(5)
            handler.request.sendall(b"\x15\x03\x01\x00\x02\x02\x28")
            return
        s.fallback = getattr(s, "fallback", 0) + 1
        envelope = [line]
        while not envelope[-1].startswith(b"DATA"):
            handler.request.sendall(b"250 ok\r\n")
            envelope.append(handler.rfile.readline())
        handler.request.sendall(b"354 go\r\n")
        while handler.rfile.readline() != b".\r\n":
            pass
        handler.request.sendall(b"250 ok\r\n")
        handler.rfile.readline()
        handler.request.sendall(b"221 bye\r\n")
    s.serve = broken
    p = postrider(extra=relay_to(s.port))
    send(p.port, "b@relay.test")
    p.wait_event("delivered")
    assert s.fallback == 1


@pytest.mark.parametrize("script", [{"STARTTLS": "454 4.7.0 not now"}, {"STARTTLS": "502 no"}, None])
def test_encrypt_never_falls_to_clear(postrider, sink, certificate, script):
    s = sink(certificate=certificate if script else None, script=script)
    p = postrider(extra=relay_to(s.port, "tls = encrypt"))
    send(p.port, "b@relay.test")
    p.wait_event("deferred", to="b@relay.test")
    time.sleep(0.3)
    assert not any(d[0] == "C" and d[1].startswith(("MAIL", "RCPT", "DATA")) for dialog in s.dialogs for d in dialog)
    assert not s.messages


def test_injection_behind_the_220_is_aborted(postrider, sink, certificate):
    s = sink(certificate=certificate, script={"STARTTLS": "220 go\r\n250 injected"})
    p = postrider(extra=relay_to(s.port))
    send(p.port, "b@relay.test")
    p.wait_event("deferred", to="b@relay.test")
    assert not s.messages


def test_verify_checks_chain_and_name(postrider, sink, folder):
    ca = make_certificate(folder / "certs", "test-ca")
    good = make_certificate(folder / "certs", "localhost", names=["localhost", "127.0.0.1"], ca=ca)
    wrong = make_certificate(folder / "certs", "elsewhere.test", ca=ca)
    stranger = make_certificate(folder / "certs", "stranger", names=["127.0.0.1"])
    for cert, expect in ((good, "delivered"), (wrong, "deferred"), (stranger, "deferred")):
        s = sink(certificate=cert)
        p = postrider(extra=f'trust = "{ca.chain}"\n' + relay_to(s.port, "tls = verify"))
        send(p.port, "b@relay.test")
        p.wait_event(expect, to="b@relay.test")
        assert bool(s.messages) == (expect == "delivered")


# ---- outcomes ----

def test_refused_recipient_is_bounced_to_the_sender(postrider, sink):
    s = sink(script={"RCPT": lambda sink, text: "550 5.1.1 no such user" if "bad" in text else "250 ok"})
    p = postrider(extra=relay_to(s.port))
    box = p.mailbox("sender")
    send(p.port, ["good@relay.test", "bad@relay.test"], sender="sender@local.test")
    assert len(s.wait()[0]["to"]) == 1
    message, status = bounce_of(box.wait()[0])
    text = str(message)
    assert "bad@relay.test" in text and "5.1.1" in text and "no such user" in text
    assert "smtp; 550 5.1.1 no such user" in text and "dns; [127.0.0.1]" in text
    assert p.wait_event("failed", to="bad@relay.test")[0]["reason"] == "5.1.1 no such user"
    p.wait_event("delivered", to="good@relay.test")


def test_null_sender_is_never_bounced(postrider, sink):
    s = sink(script={"RCPT": "550 5.1.1 no"})
    p = postrider(extra=relay_to(s.port))
    with smtplib.SMTP("127.0.0.1", p.port, timeout=10) as c:
        c.ehlo("c.test")
        c.mail("")
        c.rcpt("x@relay.test")
        c.data("Subject: x\r\n\r\n")
    p.wait_event("failed", to="x@relay.test")
    time.sleep(0.5)
    assert len(p.events("accepted")) == 1 and not p.events("bounced")


def test_deferral_is_retried_and_delivered(postrider, sink):
    state = {"n": 0}
    def end(sink, body):
        state["n"] += 1
        return "451 4.3.0 later" if state["n"] < 3 else "250 ok"
    s = sink(script={"END": end})
    p = postrider(extra='retry_min = "1s"\nretry_max = "2s"\n' + relay_to(s.port))
    send(p.port, "x@relay.test")
    s.wait(1, 20)
    assert len(p.events("deferred")) == 2 and state["n"] == 3
    p.wait_event("delivered")


def test_connection_refused_then_up(postrider, sink):
    port = free_port()
    p = postrider(extra='retry_min = "1s"\nretry_max = "1s"\n' + relay_to(port))
    send(p.port, "x@relay.test")
    p.wait_event("deferred", to="x@relay.test")
    s = sink(port=port)
    s.wait(1, 20)


def test_lifetime_ends_in_a_bounce(postrider):
    p = postrider(extra='retry_min = "1s"\nretry_max = "1s"\nlifetime = "3s"\n' + relay_to(free_port()))
    box = p.mailbox("sender")
    send(p.port, "x@relay.test", sender="sender@local.test")
    message, status = bounce_of(box.wait(1, 20)[0])
    assert "x@relay.test" in str(message)


def test_delay_warning_once(postrider):
    p = postrider(extra='retry_min = "1s"\nretry_max = "1s"\ndelay_warning = "2s"\n' + relay_to(free_port()))
    box = p.mailbox("sender")
    send(p.port, "x@relay.test", sender="sender@local.test")
    message, status = bounce_of(box.wait(1, 20)[0])
    assert "delayed" in str(message)
    time.sleep(3)
    assert len(box.messages()) == 1


def test_8bit_without_8bitmime_is_returned(postrider, sink):
    s = sink(words=("PIPELINING",))
    p = postrider(extra=relay_to(s.port))
    box = p.mailbox("sender")
    send(p.port, "x@relay.test", sender="sender@local.test", text="Subject: x\r\n\r\ngrüße\r\n".encode(), mail_options=["BODY=8BITMIME"])
    assert "5.6.3" in box.wait()[0].decode()
    assert not s.messages


def test_dsn_parameters_travel(postrider, sink):
    s = sink()
    p = postrider(extra=relay_to(s.port))
    with smtplib.SMTP("127.0.0.1", p.port, timeout=10) as c:
        c.ehlo("c.test")
        c.mail("a@src.test", ["RET=HDRS", "ENVID=ab+2Bc"])
        c.rcpt("x@relay.test", ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;orig+2Bx@src.test"])
        c.data("Subject: x\r\n\r\n")
    m = s.wait()[0]
    assert "RET=HDRS" in m["from"] and "ENVID=ab+2Bc" in m["from"]
    assert "NOTIFY=SUCCESS,FAILURE" in m["to"][0] and "ORCPT=rfc822;orig+2Bx@src.test" in m["to"][0]


def test_lmtp_next_hop(postrider, sink):
    def end(sink, body):
        return "250 2.0.0 first\r\n452 4.2.2 second is full"
    s = sink(script={"END": end})
    p = postrider(extra=f'domain "relay.test" {{ deliver = "lmtp://127.0.0.1:{s.port}" tls = none }}')
    send(p.port, ["one@relay.test", "two@relay.test"])
    p.wait_event("delivered", to="one@relay.test")
    p.wait_event("deferred", to="two@relay.test")


def test_connections_are_used_again(postrider, sink):
    s = sink()
    p = postrider(extra=relay_to(s.port, "tls = none"))
    for i in range(10):
        send(p.port, "x@relay.test")
    s.wait(10)
    assert len(s.dialogs) < 10


def test_big_message_to_several_recipients(postrider, sink):
    s = sink()
    p = postrider(extra=relay_to(s.port))
    body = "Subject: big\r\n\r\n" + ("0123456789" * 7 + "\r\n") * 30000
    send(p.port, [f"u{i}@relay.test" for i in range(20)], text=body)
    got = s.wait(1, 30)[0]
    assert len(got["to"]) == 20 and got["body"].endswith(body.encode()[-100000:]) and body.encode() in got["body"]


def test_big_message_to_a_maildir(postrider):
    p = postrider()
    a, b = p.mailbox("a"), p.mailbox("b")
    body = "Subject: big\r\n\r\n" + ("0123456789" * 7 + "\r\n") * 50000
    send(p.port, ["a@local.test", "b@local.test"], text=body)
    for box in (a, b):
        assert box.wait(1, 20)[0].endswith(body.replace("\r\n", "\n").encode())
    assert not list((a.path / "tmp").iterdir())


def test_dead_destination_does_not_stop_others(postrider, sink):
    s = sink()
    hole = socket.socket()
    hole.bind(("127.0.0.1", 0))
    hole.listen(0)     # accepts nothing: connections hang
    p = postrider(extra=relay_to(s.port, "tls = none") + f'\ndomain "dead.test" {{ deliver = "smtp://127.0.0.1:{hole.getsockname()[1]}" }}')
    with smtplib.SMTP("127.0.0.1", p.port, timeout=20) as c:
        c.ehlo("c.test")
        for i in range(2000):
            c.sendmail("a@src.test", ["x@dead.test"], "Subject: x\r\n\r\n")
    started = time.monotonic()
    send(p.port, "y@relay.test")
    s.wait(1, 5)
    assert time.monotonic() - started < 2
    hole.close()


# ---- DNS ----

@pytest.fixture
def dns(folder):
    """A real unbound with local data for the tests' domains."""
    import pathlib, subprocess, tempfile, os
    made = []

    def make(*records):
        d = pathlib.Path(tempfile.mkdtemp(prefix="dns-", dir=folder))
        port = free_port()
        data = "".join(f"  local-data: '{r}'\n" for r in records)
        (d / "unbound.conf").write_text(f"""server:
  interface: 127.0.0.1@{port}
  port: {port}
  do-ip6: no
  access-control: 127.0.0.0/8 allow
  username: ""
  chroot: ""
  directory: "{d}"
  pidfile: "{d}/pid"
  use-syslog: no
  logfile: ""
  module-config: "iterator"
  local-zone: "test." static
{data}remote-control:
  control-enable: no
""")
        proc = subprocess.Popen(["unbound", "-d", "-c", str(d / "unbound.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        made.append(proc)
        def up():
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as t:
                return t.connect_ex(("127.0.0.1", port)) == 0
        wait_for(up, 10, "unbound")
        return port

    yield make
    for proc in made:
        proc.terminate()
        proc.wait(10)


def test_mx_order_null_mx_and_unknown_domains(postrider, sink, dns):
    try:
        best, second = sink(address="127.0.7.1", port=25), sink(address="127.0.7.2", port=25)
    except PermissionError:
        pytest.skip("port 25 needs root")
    second.close()
    port = dns("two.test. MX 10 mx1.two.test.", "two.test. MX 20 mx2.two.test.", "mx1.two.test. A 127.0.7.2", "mx2.two.test. A 127.0.7.1",
               "null.test. MX 0 .", "plain.test. A 127.0.7.1", "loop.test. MX 10 mx.sink.test.", "loop.test. MX 20 mx2.two.test.",
               "alias.test. CNAME plain.test.", "nothost.test. MX 10 absent.test.")
    p = postrider(extra=f'resolver = {{"127.0.0.1:{port}"}}')
    box = p.mailbox("sender")
    send(p.port, "a@two.test", sender="sender@local.test")        # mx1 refuses connections: mx2 takes it
    best.wait(1)
    send(p.port, "b@plain.test", sender="sender@local.test")      # no MX: the address itself
    best.wait(2)
    for to, code in (("c@null.test", "5.1.10"), ("d@unknown.test", "5.1.2"), ("e@loop.test", "5.4.6"), ("f@nothost.test", "5.4.4")):
        before = len(box.messages())
        send(p.port, to, sender="sender@local.test")
        assert any(code in m.decode() for m in box.wait(before + 1)), str([(e["to"], e["reason"]) for e in p.events("failed")])


def test_dns_failure_defers(postrider):
    p = postrider(extra=f'resolver = {{"127.0.0.1:{free_port()}"}}')
    send(p.port, "x@anything.test")
    p.wait_event("deferred", 30, to="x@anything.test")
