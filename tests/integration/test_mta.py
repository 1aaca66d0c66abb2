"""A real MTA in each direction: Postfix hands us mail over STARTTLS, and takes it from us over STARTTLS into mailboxes.

Postfix lives in a root of its own (mta.py); where none can be made (no root, no package manager) these tests are skipped
with the reason, because there is then no Postfix to speak with.
"""
import json
import os
import re
import smtplib
import subprocess
import time

import pytest

from conftest import BINARY, Postrider, free_port, make_certificate, own, run, wait_for
from mta import CannotPrepare, PostfixRoot
from signed_tree import SignedTree
from test_explain import spki_digest


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
        p.write_config(kw.get("config", p.CONFIG), port=our_port)
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


def test_postfix_demands_a_certificate_of_ours(postrider, postfix, folder, authority):
    ours = make_certificate(folder / "certs", "sender.test", kind="rsa", ca=authority)
    m = postfix(smtpd_tls_security_level="encrypt", smtpd_tls_req_ccert="yes", smtpd_tls_CAfile="/etc/postfix/ca.pem")
    p = postrider(extra=to_postfix(m))
    submit(p.port, ["alice@mta.test"])
    p.wait_event("deferred", to="alice@mta.test")
    assert not mails(m, "alice")
    p.stop()
    more = f'client_certificate = "client"\ncertificate "client" {{ chain = "{ours.chain}" key = "{p.dir}/ours.key" }}\n'
    (p.dir / "ours.key").write_bytes(open(ours.key, "rb").read())
    if p.user:
        own(p.dir, p.user)
    p = postrider(extra=to_postfix(m, more=more))
    submit(p.port, ["alice@mta.test"])
    text = wait_for(lambda: mails(m, "alice"), 15, f"the mail\n{p.log()[-1500:]}\n{m.text()[-1500:]}")[0].decode()
    assert re.search(r"\(Client CN \"sender.test\", Issuer \"ca.test\" \(verified OK\)\)", text.replace("\n\t", " ")), text
    assert "Trusted TLS connection established from" in m.text()


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


# ---- DANE (RFC 7672), both ways, over one signed tree ----

RESOLVER = f"127.53.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"   # libresolv knows port 53 alone; an address of our own


@pytest.fixture(scope="module")
def dane_world(folder, our_port, certificate):
    """A signed tree in which hosts of ours have right, wrong, forged and no TLSA records, and a validating resolver for Postfix."""
    place = folder / "mta-dane"
    (place / "tree").mkdir(parents=True)
    for d in (place, place / "tree"):
        d.chmod(0o755)
    right, wrong = f"3 1 1 {spki_digest(certificate)}", "3 1 1 " + "11" * 32
    hosts = {"good": right, "other": wrong}
    safe = "".join(f"{h} IN MX 10 mx.{h}.safe.\nmx.{h} IN A 127.0.0.1\n_{our_port}._tcp.mx.{h} IN TLSA {r}\n" for h, r in hosts.items())
    forged = f"bad IN MX 10 mx.bad.forged.\nmx.bad IN A 127.0.0.1\n_{our_port}._tcp.mx.bad IN TLSA 3 1 1 {'00' * 32}\npad IN A 127.0.0.66\n"
    tree = SignedTree(place / "tree", free_port(), {"safe": ("signed", safe), "forged": ("bogus", forged),
                                                    "open": ("plain", "none IN MX 10 mx.none.open.\nmx.none IN A 127.0.0.1\n")})
    (place / "unbound.conf").write_text(
        f'server:\n  interface: {RESOLVER}\n  port: 53\n  do-daemonize: no\n  username: ""\n  chroot: ""\n  directory: "{place}"\n  pidfile: ""\n'
        f'  use-syslog: no\n  logfile: "{place}/log"\n  do-not-query-localhost: no\n  trust-anchor-file: "{tree.anchor}"\n  access-control: 127.0.0.0/8 allow\n'
        f'stub-zone:\n  name: "."\n  stub-addr: 127.0.0.1@{tree.port}\nremote-control:\n  control-enable: no\n')
    resolver = subprocess.Popen(["unbound", "-d", "-c", str(place / "unbound.conf")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: subprocess.run(["drill", "-p", "53", "A", "mx.good.safe", f"@{RESOLVER}"], capture_output=True, text=True).stdout.count("127.0.0.1\n"),
                 10, "the resolver")
        yield tree
    finally:
        resolver.terminate()
        resolver.wait(10)
        tree.stop()


@pytest.fixture
def dane_postfix(root, postfix, dane_world, our_port):
    """Postfix that obeys DANE, and asks that resolver alone; who is written to says by which domain."""
    conf = root.path("/etc/resolv.conf")
    before = conf.read_text()
    conf.write_text(f"nameserver {RESOLVER}\noptions trust-ad edns0\n")
    ways = {"alice": "good.safe", "bob": "other.safe", "carol": "bad.forged", "dave": "none.open"}
    yield postfix(smtp_tls_security_level="dane", smtp_dns_support_level="dnssec", smtp_host_lookup="dns",
                  transport_maps="inline:{ " + ", ".join(f"{{ {u}@local.test = smtp:{d}:{our_port} }}" for u, d in ways.items()) + " }")
    conf.write_text(before)


def log_of(m, user):
    return wait_for(lambda: re.search(rf"to=<{user}@local\.test>.*status=(\w+) \((.*)\)", m.text()), 20, f"what became of {user}'s mail:\n{m.text()[-3000:]}")


def test_postfix_verifies_us_by_dane(next_hop, dane_postfix):
    p = next_hop()
    box = p.mailbox("alice")
    submit(dane_postfix.port, ["alice@local.test"])
    assert "ESMTPS" in box.wait(seconds=20)[0].decode()
    assert log_of(dane_postfix, "alice").group(1) == "sent"
    assert f"Verified TLS connection established to mx.good.safe[127.0.0.1]:{p.port}: TLSv1.3" in dane_postfix.text()


def test_postfix_that_obeys_dane_gives_nothing_to_another_key(next_hop, dane_postfix):
    p = next_hop()
    box = p.mailbox("bob")
    submit(dane_postfix.port, ["bob@local.test"])
    assert log_of(dane_postfix, "bob").groups() == ("deferred", "Server certificate not verified")
    assert not box.messages() and not p.events("accepted")


def test_postfix_that_cannot_believe_the_dns_does_not_come(next_hop, dane_postfix):
    p = next_hop()
    submit(dane_postfix.port, ["carol@local.test"])
    said = log_of(dane_postfix, "carol")
    assert said.group(1) == "deferred" and "TLSA lookup error" in said.group(2)
    assert "mx.bad.forged[" not in dane_postfix.text() and not p.events("accepted")   # it never had a connection there


def test_postfix_that_finds_no_dane_takes_what_tls_there_is(next_hop, dane_postfix):
    p = next_hop()
    box = p.mailbox("dave")
    submit(dane_postfix.port, ["dave@local.test"])
    assert "ESMTPS" in box.wait(seconds=20)[0].decode()
    assert "Untrusted TLS connection established to mx.none.open" in dane_postfix.text() and "Verified" not in dane_postfix.text()


def test_postfix_that_obeys_dane_never_falls_to_clear(next_hop, dane_postfix):
    """We publish TLSA and offer no STARTTLS: as if somebody had stripped it."""
    p = next_hop(config=Postrider.CONFIG.replace("tls = starttls", "tls = none"))
    submit(dane_postfix.port, ["alice@local.test"])
    said = log_of(dane_postfix, "alice")
    assert said.group(1) == "deferred" and "TLS is required, but was not offered" in said.group(2)
    assert not p.events("accepted")


@pytest.fixture
def requiring(postfix):
    return postfix(smtpd_tls_security_level="encrypt")


def test_postfix_that_requires_tls_gets_our_mail(postrider, requiring):
    p = postrider(extra=to_postfix(requiring, "may"))
    submit(p.port, ["alice@mta.test"])
    e = p.wait_event("delivered", 20, to="alice@mta.test")[0]
    assert (e["owed"], e["reached"]) == ("may", "encrypt") and "TLSv1.3" in e["tls"]
    assert re.search(r"TLS connection established from \S+: TLSv1\.3", requiring.text())
    wait_for(lambda: mails(requiring, "alice"), 15, "its mail")


def test_postfix_that_requires_tls_refuses_clear_text(postrider, requiring):
    p = postrider(extra=to_postfix(requiring, "none"))
    writer = p.mailbox("writer")
    submit(p.port, ["alice@mta.test"], sender="writer@local.test")
    e = p.wait_event("failed", 20, to="alice@mta.test")[0]
    assert e["code"] == "530" and "Must issue a STARTTLS command first" in e["reason"]
    assert "530 5.7.0" in writer.wait(seconds=15)[0].decode() and not mails(requiring, "alice")


@pytest.mark.parametrize("key", ["right", "wrong"])
def test_we_verify_postfix_by_dane(postrider, requiring, mta_certificate, folder, key):
    place = folder / f"mta-tlsa-{key}"
    place.mkdir()
    place.chmod(0o755)
    digest = spki_digest(mta_certificate) if key == "right" else "22" * 32
    tree = SignedTree(place, free_port(), {"safe": ("signed", f"mx IN A 127.0.0.1\n_{requiring.port}._tcp.mx IN TLSA 3 1 1 {digest}\n")})
    try:
        p = postrider(extra=f'domain "mta.test" {{ deliver = "smtp://mx.safe:{requiring.port}" }}\nresolver = {{"127.0.0.1:{tree.port}"}}\n'
                            f'trust_anchor = "{tree.anchor}"\n')
        submit(p.port, ["alice@mta.test"])
        e = p.wait_event("delivered" if key == "right" else "deferred", 30, to="alice@mta.test")[0]
    finally:
        tree.stop()
    assert e["owed"] == "dane" and "secure TLSA records at mx.safe" in e["why"]
    assert (e["reached"] == "dane") == (key == "right")
    if key == "right":
        wait_for(lambda: mails(requiring, "alice"), 15, "its mail")
    else:  # it is Postfix that sees us turn away
        assert not mails(requiring, "alice")
        assert "SSL_accept error" in requiring.text() or "lost connection after STARTTLS" in requiring.text(), requiring.text()


def test_probe_of_postfix(postfix, authority):
    """What `postrider probe server` says of a real server whose answers are known: it must find these, and nothing else."""
    p = postfix()
    r = run(BINARY, "probe", "server", f"127.0.0.1:{p.port}", "--json", "--pause", "0", "--window", "500", "--name", "mta.test", "--tls-ca", authority.chain,
            "--recipient", "alice@mta.test", "--intrusive", "--helo", "probe.example.org", check=False, timeout=120)
    assert r.returncode == 1, r.stderr
    given = {f["number"]: f["verdict"] for f in json.loads(r.stdout)["findings"] if f["verdict"] != "pass"}
    # STARTTLS before EHLO, after HELO, in a transaction is taken; MAIL needs no EHLO by default; a bare LF ends a line, and a message unless
    # smtpd_forbid_bare_newline says otherwise (CVE-2023-51764); anonymous ciphers; TLS 1.0 and 1.1 where OpenSSL lets it
    old = given.pop(601, None)
    assert given == {105: "note", 106: "note", 107: "note", 203: "note", 209: "not-tested", 210: "not-tested", 303: "not-tested", 502: "note",
                     602: "note", 608: "not-tested", 701: "fail", 702: "fail", 703: "fail", 706: "note"}, given
    assert old in ("fail", None)
