"""A real MTA in each direction: Postfix hands us mail over STARTTLS, and takes it from us over STARTTLS into mailboxes.

Postfix lives in a root of its own (mta.py); where none can be made (no root, no package manager) these tests are skipped
with the reason, because there is then no Postfix to speak with.
"""
import re
import smtplib
import time

import pytest

from conftest import free_port, make_certificate, run, wait_for
from mta import USERS, CannotPrepare, PostfixRoot


@pytest.fixture(scope="module")
def root(folder):
    r = PostfixRoot(folder / "postfix")
    try:
        began = time.monotonic()
        r.prepare()
        print(f"Postfix installed in {time.monotonic() - began:.0f} s")
    except CannotPrepare as e:
        r.close()
        pytest.skip(str(e))
    yield r
    r.close()


@pytest.fixture(scope="module")
def authority(folder):
    return make_certificate(folder / "certs", "ca.test")


@pytest.fixture(scope="module")
def mta_certificate(folder, authority):
    return make_certificate(folder / "certs", "mta.test", names=["mta.test", "127.0.0.1"], ca=authority)


@pytest.fixture
def postfix(root, mta_certificate):
    """The one that runs, when it has these settings; else another in its place (a start takes it seconds)."""
    def get(**settings):
        if not root.running or root.running.settings != settings:
            root.start(free_port(), mta_certificate, settings)
        return root.running.fresh()

    return get


@pytest.fixture(scope="module")
def our_port():
    """Where Postfix relays to: the same in all tests, so that it need not be started anew."""
    return free_port()


@pytest.fixture
def next_hop(postrider, our_port):
    def make(**kw):
        p = postrider(start=False, **kw)
        p.port = our_port
        p.write_config(p.CONFIG, port=our_port)
        return p.start()

    return make


def submit(port, to, text="Subject: via\r\n\r\nhello\r\n", sender="writer@src.test", options=()):
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as s:
        s.ehlo("client.test")
        return s.sendmail(sender, to, text.encode() if isinstance(text, str) else text, mail_options=list(options))


def mails(postfix, user):
    new = postfix.mailbox(user) / "new"
    return [f.read_bytes() for f in sorted(new.iterdir())] if new.exists() else []


# ---- Postfix to us ----

def towards(p, level, **more):
    return dict(relayhost=f"[127.0.0.1]:{p.port}", smtp_tls_security_level=level, **more)


def test_postfix_relays_to_us_over_starttls(next_hop, postfix):
    p = next_hop()
    box = p.mailbox("alice")
    m = postfix(**towards(p, "encrypt"))
    submit(m.port, ["alice@local.test"], "Subject: one\r\n\r\n.a dot\r\n..two\r\n" + "long " * 190 + "\r\nend\r\n")
    text = box.wait(seconds=15)[0].decode()
    top = text[:text.index("\nReceived:", text.index("Received:") + 1)].replace("\n\t", " ")
    assert "Received: from mta.test" in top and " with ESMTPS " in top and " tls TLS_" in top and "TLSv1.3" in top
    assert text.endswith("\n.a dot\n..two\n" + "long " * 190 + "\nend\n")
    said = wait_for(lambda: re.search(r"to=<alice@local.test>.*dsn=2\.\d\.\d, status=sent \((.*)\)", m.text()), 10, "its log")
    assert said.group(1).startswith("250 2.")
    assert re.search(r"TLS connection established to 127\.0\.0\.1\[127\.0\.0\.1\]:%d: TLSv1\.3" % p.port, m.text()), m.text()
    assert p.wait_event("session_end", tls="TLSv1.3")[0]["messages"] == "1"


def test_what_we_refuse_comes_back_from_postfix_as_a_bounce(next_hop, postfix):
    p = next_hop()
    m = postfix(**towards(p, "encrypt"))
    submit(m.port, ["nobody-here@local.test"], sender="bob@mta.test")
    report = wait_for(lambda: mails(m, "bob"), 15, "the bounce")[0].decode()
    assert "550 5.1.1" in report and "nobody-here@local.test" in report


def test_postfix_sends_many_over_connections_it_keeps(next_hop, postfix):
    p = next_hop()
    m = postfix(**towards(p, "encrypt", smtp_connection_cache_on_demand="yes", smtp_tls_connection_reuse="no", default_destination_concurrency_limit="5"))
    for k in range(5):
        submit(m.port, [f"r{k}-{n}@sink.test" for n in range(60)])
    wait_for(lambda: sum(int(e["nrcpt"]) for e in p.events("accepted")) == 300, 20, "300 recipients")
    assert wait_for(lambda: m.text().count("status=sent (250 2.") == 300, 10, "its log") and not p.events("rejected")


def test_postfix_hands_us_utf8_mail(next_hop, postfix):
    p = next_hop()
    box = p.mailbox("jürgen")
    m = postfix(**towards(p, "encrypt"))
    with smtplib.SMTP("127.0.0.1", m.port, timeout=20) as s:
        s.ehlo("client.test")
        s.sendmail("ü@src.test", ["jürgen@local.test"], "Subject: grüße\r\n\r\nhallo\r\n".encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    box.wait(seconds=15)
    text = box.messages()[0].decode()
    assert "UTF8SMTPS" in text.replace("\n\t", " ") and "Subject: grüße" in text


def test_postfix_verifies_our_certificate(next_hop, postfix, folder, authority):
    ours = make_certificate(folder / "certs", "mx.sink.test.by-ca", names=["mx.sink.test"], ca=authority)
    p = next_hop(certificate=ours)
    box = p.mailbox("alice")
    m = postfix(**towards(p, "verify", smtp_tls_CAfile="/etc/postfix/ca.pem", smtp_tls_verify_cert_match="mx.sink.test"))
    submit(m.port, ["alice@local.test"])
    box.wait(seconds=15)
    assert f"Verified TLS connection established to 127.0.0.1[127.0.0.1]:{p.port}" in m.text()


# ---- us to Postfix ----

def to_postfix(m, level="encrypt", more=""):
    return f'domain "mta.test" {{ deliver = "smtp://127.0.0.1:{m.port}" tls = {level} }}\n{more}'


@pytest.mark.parametrize("level", ["may", "encrypt", "verify"])
def test_we_deliver_to_postfix_over_starttls(postrider, postfix, authority, level):
    m = postfix()
    p = postrider(extra=to_postfix(m, level), start=False)
    (p.dir / "ca.pem").write_bytes(open(authority.chain, "rb").read())
    (p.dir / "ca.pem").chmod(0o644)
    p.write_config(p.CONFIG, extra=p.values["extra"] + f'trust = "{p.dir}/ca.pem"\n')
    p.start()
    body = "Subject: out\r\n\r\n.dot\r\n..\r\n" + "x" * 900 + "\r\n\r\nlast\r\n"
    submit(p.port, ["alice@mta.test", "carol@mta.test"], body)
    for user in ("alice", "carol"):
        text = wait_for(lambda: mails(m, user), 15, f"mail for {user}\n{p.log()[-1500:]}\n{m.text()[-1500:]}")[0].decode()
        top = text[text.index("Received: from"):].replace("\n\t", " ").replace("\n ", " ")
        assert top.startswith("Received: from mx.sink.test") and "using TLSv1.3 with cipher" in top.split("\n")[0] and "ESMTPS" in top.split("\n")[0]
        assert text.endswith("\n.dot\n..\n" + "x" * 900 + "\n\nlast\n")
    done = p.wait_event("delivered", to="alice@mta.test")[0]
    assert "TLSv1.3" in done["tls"] and done["code"] == "250"
    if level == "verify":
        assert "verified" in done["tls"] and "unverified" not in done["tls"]
    assert m.text().count("TLS connection established from") == 1


def test_verify_refuses_a_certificate_that_nobody_vouches_for(postrider, postfix):
    m = postfix()
    p = postrider(extra=to_postfix(m, "verify"))
    submit(p.port, ["alice@mta.test"])
    deferred = p.wait_event("deferred", to="alice@mta.test")[0]
    assert deferred["code"] == "451" and any("certificate" in e["tls"] for e in p.events("send_failed")), p.log()[-1500:]
    assert not mails(m, "alice") and "from=<writer@src.test>" not in m.text()


def test_some_recipients_are_refused_by_postfix(postrider, postfix):
    m = postfix()
    p = postrider(extra=to_postfix(m))
    writer = p.mailbox("writer")
    submit(p.port, ["alice@mta.test", "no-such-user@mta.test", "dave@mta.test"], sender="writer@local.test")
    p.wait_event("delivered", to="alice@mta.test", seconds=15)
    p.wait_event("delivered", to="dave@mta.test")
    failed = p.wait_event("failed", to="no-such-user@mta.test")[0]
    assert failed["code"] == "550" and "User unknown" in failed["reason"]
    report = writer.wait(seconds=15)[0].decode()
    assert "Final-Recipient: rfc822; no-such-user@mta.test" in report.replace("rfc822;no", "rfc822; no") and "Status: 5.1.1" in report
    assert "alice@mta.test" not in report.split("Final-Recipient")[1].split("\n\n")[0]


def test_many_messages_over_few_connections_and_none_is_lost(postrider, postfix):
    m = postfix()
    p = postrider(extra=to_postfix(m))
    with smtplib.SMTP("127.0.0.1", p.port, timeout=20) as s:
        s.ehlo("client.test")
        for n in range(200):
            s.sendmail("writer@src.test", ["bob@mta.test"], f"Subject: number {n}\r\n\r\n{n}\r\n")
    wait_for(lambda: len(mails(m, "bob")) >= 200, 30, "200 messages", step=0.2)
    subjects = sorted(int(re.search(rb"^Subject: number (\d+)", t, re.M).group(1)) for t in mails(m, "bob"))
    assert subjects == list(range(200))
    assert len(re.findall(r"]: connect from", m.text())) <= 20, "the window of one destination"


def test_postfix_that_is_down_gets_its_mail_when_it_is_back(postrider, root, mta_certificate):
    port = free_port()
    p = postrider(extra=f'domain "mta.test" {{ deliver = "smtp://127.0.0.1:{port}" tls = encrypt }}\nretry_min = "1s"\nretry_max = "2s"')
    submit(p.port, ["dave@mta.test"], "Subject: patience\r\n\r\nlater\r\n")
    p.wait_event("deferred", to="dave@mta.test")
    m = root.start(port, mta_certificate).fresh()
    p.wait_event("delivered", to="dave@mta.test", seconds=20)
    text = wait_for(lambda: mails(m, "dave"), 10, "its mail")[0].decode()
    assert "Subject: patience" in text


def test_round_trip_through_postfix_and_back(postrider, next_hop, postfix):
    """Us to Postfix to us: two hops over TLS, the same octets, and the trace of both."""
    p = next_hop()
    box = p.mailbox("alice")
    m = postfix(**towards(p, "encrypt"))
    first = postrider(hostname="first.test", config=p.CONFIG.replace('domain "local.test"   {{ deliver = "maildir:{dir}/mail/%{{user}}" }}',
                      'domain "local.test" {{{{ deliver = "smtp://127.0.0.1:%d" tls = encrypt }}}}'.replace("{{{{", "{{").replace("}}}}", "}}") % m.port))
    body = "".join(f".{n} \u00fc\r\n" for n in range(50))
    submit(first.port, ["alice@local.test"], ("Subject: trip\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
           "Content-Transfer-Encoding: 8bit\r\n\r\n" + body).encode(), options=["BODY=8BITMIME"])
    text = box.wait(seconds=20)[0].decode()
    received = [r.replace("\n\t", " ").replace("\n ", " ") for r in re.findall(r"^Received: (?:.*\n[ \t])*.*", text, re.M)]
    assert len(received) == 3 and "ESMTPS" in received[0] and "ESMTPS" in received[1] and "TLSv1.3" in received[0] and "TLSv1.3" in received[1]
    assert text.endswith(body.replace("\r\n", "\n"))
