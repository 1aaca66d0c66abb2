"""What the server says to clients that err, in the running daemon (the protocol library's own tests know every row)."""
import re
import smtplib
import socket
import threading
import time

import pytest
from conftest import Talk, free_port, make_certificate, run, wait_for


def in_transaction(t, to="x@sink.test", ehlo="EHLO c.test"):
    t.say(ehlo)
    assert t.say("MAIL FROM:<a@src.test>").startswith("250")
    return t.say(f"RCPT TO:<{to}>")


# ---- STARTTLS: design.md section 2 ----

def test_starttls_answers(postrider, talk):
    p = postrider()
    t = talk(p.port)
    assert t.say("STARTTLS").startswith("503 5.5.1")
    t.say("EHLO c.test")
    assert t.say("STARTTLS now").startswith("501 5.5.4")
    assert t.say("MAIL FROM:<a@b.test>").startswith("250")
    assert t.say("STARTTLS").startswith("503 5.5.1")
    t.say("RSET")
    t.starttls()
    assert t.say("MAIL FROM:<a@b.test>").startswith("503 5.5.1")
    assert "STARTTLS" not in t.say("EHLO c.test")
    second = t.say("STARTTLS")
    assert second.startswith("503 5.5.1") and "TLSv1.3" in second and "TLS_" in second
    assert in_transaction(t).startswith("250")


def test_bytes_behind_starttls_end_the_session(postrider, talk):
    p = postrider()
    t = talk(p.port)
    t.say("EHLO c.test")
    t.send("STARTTLS\r\nMAIL FROM:<inject@evil.test>\r\n")
    assert t.reply().startswith("554 5.5.1")
    assert t.closed()
    assert p.wait_event("session_end", reason="starttls_pending")


def test_bytes_behind_starttls_in_a_packet_of_their_own(postrider, talk):
    p = postrider()
    for _ in range(10):
        t = talk(p.port)
        t.say("EHLO c.test")
        t.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        t.send("STARTTLS\r\n")
        t.send("NOOP injected\r\n")
        reply = t.reply()
        # found pending: 554; or it came after the 220, and is then no handshake: the connection ends without an answer to it
        if not reply.startswith("554 5.5.1"):
            assert reply.startswith("220")
            rest = t.reply()
            assert "250" not in rest and "<closed>" in rest
        t.close()


def test_helo_after_tls_keeps_the_tls_clause(postrider, talk):
    p = postrider()
    box = p.mailbox("alice")
    t = talk(p.port)
    t.say("EHLO old.name.test")
    t.starttls()
    assert t.say("HELO new.name.test").startswith("250")
    assert t.say("MAIL FROM:<a@src.test>").startswith("250")
    assert t.say("RCPT TO:<alice@local.test>").startswith("250")
    t.say("DATA")
    t.send("Subject: x\r\n\r\nbody\r\n.\r\n")
    assert t.reply().startswith("250")
    text = box.wait()[0].decode().replace("\n\t", " ")
    assert "from new.name.test" in text and " with SMTP " in text and " tls TLS_" in text and "old.name" not in text


def test_tls_required(postrider, talk):
    p = postrider(config=None, listener="", extra="")
    p.stop()
    p.write_config(p.CONFIG.replace("tls = starttls", "tls = required"))
    p.start()
    t = talk(p.port)
    for command in ("MAIL FROM:<a@b.test>", "HELO x.test", "RSET", "VRFY x", "HELP", "DATA"):
        assert t.say(command).startswith("530 5.7.0"), command
    for command in ("NOOP", "EHLO c.test"):
        assert t.say(command).startswith("250"), command
    t.starttls()
    assert in_transaction(t).startswith("250")


def test_implicit_tls(postrider, talk):
    p = postrider(start=False)
    p.write_config(p.CONFIG.replace("tls = starttls", "tls = implicit"))
    p.start()
    t = talk(p.port, greet=False)
    t.wrap()
    assert t.reply().startswith("220 ")
    assert "STARTTLS" not in t.say("EHLO c.test")
    assert in_transaction(t).startswith("250")


def test_unreadable_key_is_454(postrider, talk):
    p = postrider(start=False)
    (p.dir / "key.pem").write_text("this is no key\n")
    p.start()
    t = talk(p.port)
    assert "STARTTLS" not in t.say("EHLO c.test")
    assert t.say("STARTTLS").startswith("454 4.7.0")
    assert in_transaction(t).startswith("250")
    assert "certificate" in p.log()


def test_key_of_another_certificate_is_454(postrider, talk, folder):
    other = make_certificate(folder / "certs", "other.test")
    p = postrider(start=False)
    (p.dir / "key.pem").write_text(open(other.key).read())
    p.start()
    t = talk(p.port)
    assert "STARTTLS" not in t.say("EHLO c.test")
    assert t.say("STARTTLS").startswith("454 4.7.0")


def test_rsa_certificate_and_tls_versions(postrider, folder):
    p = postrider(certificate=make_certificate(folder / "certs", "rsa.test", kind="rsa"))
    for version, expect in (("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")):
        r = run("openssl", "s_client", "-connect", f"127.0.0.1:{p.port}", "-starttls", "smtp", version, "-brief", input="QUIT\r\n", check=False)
        assert expect in r.stdout + r.stderr
    r = run("openssl", "s_client", "-connect", f"127.0.0.1:{p.port}", "-starttls", "smtp", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-brief", input="QUIT\r\n",
            check=False)
    assert "TLSv1.1" not in r.stdout + r.stderr or "alert" in r.stdout + r.stderr


def test_close_notify_ends_the_connection(postrider, talk):
    p = postrider()
    t = talk(p.port)
    t.say("EHLO c.test")
    t.starttls()
    t.say("EHLO c.test")
    raw = t.sock.unwrap()
    raw.settimeout(5)
    raw.sendall(b"EHLO in.clear\r\n")
    assert raw.recv(100) == b""


# ---- no open relay ----

@pytest.mark.parametrize("to", ["x@elsewhere.test", "x%elsewhere.test@relay.test", "elsewhere.test!x@relay.test", "\"x@elsewhere.test\"@relay.test",
                                "\"x%elsewhere.test\"@relay.test", "@relay.test:x@elsewhere.test", "x@[127.0.0.1]", "x@[IPv6:::1]"])
def test_no_open_relay(postrider, talk, to):
    p = postrider(relay_from='"192.0.2.0/24"', extra='domain "relay.test" { deliver = "smtp://127.0.0.1:9" }')
    t = talk(p.port)
    assert in_transaction(t, to).startswith(("550 5.7.1", "501", "553")), to
    assert t.say("RCPT TO:<fine@relay.test>").startswith("250")


def test_maildir_names_cannot_leave_the_folder(postrider, talk):
    p = postrider()
    (p.dir / "secret").mkdir()
    t = talk(p.port)
    t.say("EHLO c.test")
    t.say("MAIL FROM:<a@src.test>")
    for local in ('"../secret"', '"a/../../secret"', '".."', '"."', '".hidden"', "..secret"):
        assert t.say(f"RCPT TO:<{local}@local.test>").startswith(("550 5.1.1", "501", "553")), local


def test_users_from_a_list(postrider, talk):
    p = postrider(start=False, extra='domain "listed.test" {{ deliver = "maildir:{dir}/mail/%{{user}}" users = "users" }}'.replace("{{", "{").replace("}}", "}").replace("{dir}", "/var/tmp"))
    p.write_config(p.CONFIG.replace("{extra}", 'domain "listed.test" {{ deliver = "maildir:{dir}/mail/%{{user}}" users = "users" }}'))
    (p.dir / "users").write_text("# who exists\nerin\n")
    p.start()
    t = talk(p.port)
    assert in_transaction(t, "erin@listed.test").startswith("250")
    assert t.say("RCPT TO:<frank@listed.test>").startswith("550 5.1.1")
    t.say("DATA")
    t.send("Subject: x\r\n\r\n.\r\n")
    assert t.reply().startswith("250")
    p.wait_event("delivered", to="erin@listed.test")


# ---- limits ----

def test_size_limit(postrider, talk):
    p = postrider(extra="message_size_limit = 20000")
    t = talk(p.port)
    assert "SIZE 20000" in t.say("EHLO c.test")
    assert t.say("MAIL FROM:<a@src.test> SIZE=20001").startswith("552 5.3.4")
    assert in_transaction(t).startswith("250")
    t.say("DATA")
    t.send(b"x" * 900 + b"\r\n")
    for _ in range(30):
        t.send(b"y" * 900 + b"\r\n")
    t.send(".\r\n")
    assert t.reply().startswith("552 5.3.4")
    assert in_transaction(t).startswith("250")


def test_error_budget(postrider, talk):
    p = postrider(listener="errors = 5")
    t = talk(p.port)
    replies = [t.say("NONSENSE") for _ in range(6)]
    assert replies[0].startswith("500") and replies[-1].startswith("421 4.7.0")
    assert t.closed()


def test_session_limits(postrider, talk):
    p = postrider(listener="sessions_per_address = 3", relay_from='"192.0.2.0/24"')
    held = [talk(p.port) for _ in range(3)]
    assert all(t.banner.startswith("220") for t in held)
    assert talk(p.port).banner.startswith("421 4.7.0")
    assert talk(p.port, source=("127.0.0.9", 0)).banner.startswith("220")
    held[0].say("QUIT")
    wait_for(lambda: Talk(p.port).banner.startswith("220"), 5, "a place")


@pytest.mark.parametrize("limit", ["sessions_per_address", "sessions"])
def test_session_limits_count_those_who_have_not_shaken_hands(postrider, talk, limit):
    p = postrider(start=False, listener=f"{limit} = 3", relay_from='"192.0.2.0/24"')
    p.write_config(p.CONFIG.replace("tls = starttls", "tls = implicit"))
    p.start()
    def begun():
        t = talk(p.port, greet=False)
        t.send(b"\x16")  # the first octet of a handshake: the kernel keeps for a while who says nothing
        return t
    held = [begun() for _ in range(3)]
    late = begun()
    late.sock.settimeout(5)
    assert late.sock.recv(1) == b""  # nothing can be said outside TLS
    p.wait_event("session_end", reason="too_many_sessions")
    held[0].close()

    def served():
        t = talk(p.port, greet=False)
        try:
            t.wrap()
        except OSError:
            return False
        return t.reply().startswith("220")
    wait_for(served, 5, "a place")


def test_greeting_delay_catches_early_talkers(postrider, talk):
    p = postrider(listener='greeting_delay = "1s"')
    t = talk(p.port, greet=False)
    t.send("EHLO too.early\r\n")
    assert t.reply().startswith("554 5.5.1")
    assert t.closed()
    assert talk(p.port).banner.startswith("220")


def test_command_deadline_is_for_the_whole_line(postrider, talk):
    p = postrider(listener='command_timeout = "1s"')
    t = talk(p.port)
    started = time.monotonic()
    def drip():
        try:
            for _ in range(40):
                t.send("x")
                time.sleep(0.1)
        except OSError:
            pass
    threading.Thread(target=drip, daemon=True).start()
    assert t.reply().startswith("421")
    assert time.monotonic() - started < 3


def test_http_is_dropped(postrider, talk):
    p = postrider()
    t = talk(p.port)
    t.send("POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.test>\r\n")
    assert "250" not in t.reply()
    assert t.closed()


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\r\n.\r\n", b"\r\n.\r\r\n"])
def test_smuggling_ends_nothing(postrider, talk, end):
    p = postrider()
    t = talk(p.port)
    assert in_transaction(t).startswith("250")
    t.say("DATA")
    t.send(b"Subject: x\r\n\r\nbody" + end + b"MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<x@sink.test>\r\nDATA\r\nsecond\r\n.\r\n")
    assert t.reply().startswith("554 5.6.0")
    assert t.say("NOOP").startswith("250")
    assert t.say("QUIT").startswith("221"), "there was no other reply"
    assert t.closed()
    assert not p.events("accepted")


def test_normalise_makes_it_canonical(postrider, talk):
    p = postrider(listener="bare_newlines = normalise")
    box = p.mailbox("alice")
    t = talk(p.port)
    assert in_transaction(t, "alice@local.test").startswith("250")
    t.say("DATA")
    t.send(b"Subject: x\r\n\r\none\ntwo\n.\nthree\r\n.\r\n")
    assert t.reply().startswith("250")
    assert box.wait()[0].endswith(b"\none\ntwo\n.\nthree\n")


def test_mail_loop_is_found(postrider, talk):
    p = postrider(extra="max_hops = 10")
    t = talk(p.port)
    assert in_transaction(t).startswith("250")
    t.say("DATA")
    t.send("".join(f"Received: from a by b; {i}\r\n" for i in range(12)) + "Subject: x\r\n\r\n.\r\n")
    assert t.reply().startswith("554 5.4.6")
    assert p.wait_event("rejected", reason="mail_loop")[0]["command"] == "DATA"


@pytest.mark.parametrize("header, loops", [("Delivered-To: alice@local.test\r\n", True), ("delivered-to:\r\n ALICE@local.test\r\n", True),
                                           ("Delivered-To: ben@local.test\r\n", False), ("Subject: x\r\n Delivered-To: alice@local.test\r\n", False),
                                           ("Subject: x\r\n\r\nDelivered-To: alice@local.test\r\n", False)], ids=range(5))
def test_a_delivery_loop_is_found(postrider, talk, header, loops):
    p = postrider()
    box = p.mailbox("alice")
    t = talk(p.port)
    assert in_transaction(t, "alice@local.test").startswith("250")
    t.say("DATA")
    t.send(header + "\r\nbody\r\n.\r\n")
    assert t.reply().startswith("250")
    if loops:
        assert "loop" in p.wait_event("failed", to="alice@local.test")[0]["reason"]
        assert not box.messages()
    else:
        assert header.replace("\r\n", "\n").encode() in box.wait()[0].replace(b"\r\n", b"\n")


def test_lmtp_replies_per_recipient(postrider, talk):
    p = postrider(listener="lmtp = true")
    a, b = p.mailbox("anna"), p.mailbox("ben")
    t = talk(p.port)
    assert t.say("EHLO c.test").startswith("500 5.5.1")
    assert t.say("LHLO c.test").startswith("250")
    t.say("MAIL FROM:<x@src.test>")
    assert t.say("RCPT TO:<anna@local.test>").startswith("250")
    assert t.say("RCPT TO:<nobody@local.test>").startswith("550")
    assert t.say("RCPT TO:<ben@local.test>").startswith("250")
    t.say("DATA")
    t.send("Subject: x\r\n\r\n.\r\n")
    assert t.reply().startswith("250") and t.reply().startswith("250")
    assert b" with LMTP " in a.wait()[0].replace(b"\n\t", b" ") and b.wait()


def test_utf8_mail(postrider):
    p = postrider()
    box = p.mailbox("jürgen")
    with smtplib.SMTP("127.0.0.1", p.port, timeout=10) as s:
        s.ehlo()
        s.sendmail("ü@src.test", ["jürgen@local.test"], "Subject: grüße\r\n\r\nhello\r\n".encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    text = box.wait()[0].decode()
    assert "Return-Path: <ü@src.test>" in text and "UTF8SMTP" in text.replace("\n\t", " ")
    with smtplib.SMTP("127.0.0.1", p.port, timeout=10) as s:
        s.ehlo()
        s.command_encoding = "utf-8"
        code, _ = s.docmd("MAIL FROM:<ü@src.test>")
        assert code in (550, 553)
