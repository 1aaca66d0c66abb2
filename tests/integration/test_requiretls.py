"""RFC 8689 end to end: REQUIRETLS taken inside TLS, passed on, refused for good where it cannot be; its bounce; TLS-Required: No."""
import smtplib
import ssl

from conftest import make_certificate

TEXT = "Subject: secret\r\n\r\nfor one pair of eyes\r\n"


def submit(port, to, *options, text=TEXT, sender="a@local.test"):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as s:
        s.ehlo("client.test")
        assert not s.has_extn("requiretls")
        assert s.mail("x@y.test", ["REQUIRETLS"])[0] == 555  # not offered in clear
        s.starttls(context=context)
        s.ehlo("client.test")
        assert s.has_extn("requiretls")
        return s.sendmail(sender, [to], text, mail_options=list(options))


def hops(postrider, sink, folder):
    certificate = make_certificate(folder / "requiretls", "hop.test", names=["127.0.0.1"])
    words = ("PIPELINING", "8BITMIME", "SIZE 10000000", "DSN", "SMTPUTF8")
    knows, not_knows, clear = sink(certificate=certificate, words=(*words, "REQUIRETLS")), sink(certificate=certificate), sink()
    p = postrider(extra=f'trust = "{certificate.chain}"\n' + "".join(
        f'domain "{name}.test" {{ deliver = "smtp://127.0.0.1:{s.port}" }}\n' for name, s in (("knows", knows), ("not", not_knows), ("clear", clear))))
    return p, knows, not_knows, clear


def test_requiretls(postrider, sink, folder):
    p, knows, not_knows, clear = hops(postrider, sink, folder)
    box = p.mailbox("a")
    submit(p.port, "x@knows.test", "REQUIRETLS", "RET=FULL")
    e = p.wait_event("delivered", 30, to="x@knows.test")[0]
    assert e["owed"] == "verify" and e["reached"] == "verify" and e["dest"].endswith(";require")
    assert any("REQUIRETLS" in line for dialog in knows.dialogs for line in map(str, dialog))
    for name, code in (("not", "5.7.30"), ("clear", "5.7.10")):
        submit(p.port, f"x@{name}.test", "REQUIRETLS", "RET=FULL")
        p.wait_event("failed", 30, to=f"x@{name}.test")
    reports = [m.decode() for m in box.wait(2)]
    assert any("5.7.30" in r for r in reports) and any("5.7.10" in r for r in reports), reports
    assert all("Subject: secret" in r and "for one pair of eyes" not in r for r in reports)  # headers alone: RFC 8689 5
    assert not not_knows.messages and not clear.messages


def test_without_it_nothing_is_required(postrider, sink, folder):
    p, _, not_knows, clear = hops(postrider, sink, folder)
    submit(p.port, "x@not.test")
    submit(p.port, "x@clear.test", text="TLS-Required: No\r\n" + TEXT)
    p.wait_event("delivered", 30, to="x@not.test")
    assert p.wait_event("delivered", 30, to="x@clear.test")[0]["dest"].endswith(";relaxed")
    assert len(not_knows.messages) == 1 and len(clear.messages) == 1
