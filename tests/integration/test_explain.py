"""DANE end to end: a signed tree of our own, next hops with TLS, what Postrider does with mail to each, and what `route explain` says of it."""
import hashlib
import json
import os
import pathlib
import subprocess
import tempfile

import pytest

from conftest import BINARY, ROOT, free_port, make_certificate
from signed_tree import SignedTree
from test_delivery import send


def spki_digest(certificate):
    key = subprocess.run(["openssl", "x509", "-in", str(certificate.chain), "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True, capture_output=True).stdout
    return hashlib.sha256(der).hexdigest()


def explain(p, address, *options):
    r = subprocess.run(p.command("route", "explain", address, "--json", *options, "--control", str(p.dir / "control.sock")), capture_output=True,
                       text=True, timeout=60)
    return r.returncode, json.loads(r.stdout or "{}"), r.stderr


@pytest.fixture
def tree(folder):
    made = []

    def make(zones):
        place = pathlib.Path(tempfile.mkdtemp(prefix="tree-", dir=folder))
        place.chmod(0o755)  # super reads the anchor as an ordinary user
        made.append(SignedTree(place, free_port(), zones))
        return made[-1]

    yield make
    for t in made:
        t.stop()


def test_dane_to_a_named_hop(postrider, sink, tree, folder):
    """The hop's name is in a signed zone: its TLSA record decides, for mail and for the explanation."""
    certificate = make_certificate(folder / "dane-certs", "mx.good")
    right, wrong = spki_digest(certificate), "00" * 32
    hop = sink(certificate=certificate)
    clear = sink()
    t = tree({"good": ("signed", f"mx IN A 127.0.0.1\n_{hop.port}._tcp.mx IN TLSA 3 1 1 {right}\n_{clear.port}._tcp.mx IN TLSA 3 1 1 {right}\n"
                                 f"bad IN A 127.0.0.1\n_{hop.port}._tcp.bad IN TLSA 3 1 1 {wrong}\n"),
              "plain": ("plain", "mx IN A 127.0.0.1\n"),
              "bogus": ("bogus", f"mx IN A 127.0.0.1\nother IN A 127.0.0.66\n_{hop.port}._tcp.mx IN TLSA 3 1 1 {wrong}\n")})
    domains = (("dane", "mx.good", hop), ("stripped", "mx.good", clear), ("mismatch", "bad.good", hop), ("plain", "mx.plain", hop), ("bogus", "mx.bogus", hop))
    p = postrider(extra=f'resolver = {{"127.0.0.1:{t.port}"}}\ntrust_anchor = "{t.anchor}"\n' + "".join(
        f'domain "{name}.test" {{ deliver = "smtp://{host}:{s.port}" }}\n' for name, host, s in domains))
    send(p.port, "a@dane.test")
    e = p.wait_event("delivered", 30, to="a@dane.test")[0]
    assert e["owed"] == "dane" and e["reached"] == "dane" and "TLSA" in e["why"]
    send(p.port, "b@plain.test")
    e = p.wait_event("delivered", 30, to="b@plain.test")[0]
    assert e["owed"] == "may" and e["reached"] == "encrypt"
    for name in "stripped", "mismatch", "bogus":
        send(p.port, f"c@{name}.test")
        e = p.wait_event("deferred", 30, to=f"c@{name}.test")[0]
        assert e["code"] == "451"
        assert name == "bogus" or (e["owed"] == "dane" and e["reached"] in ("", "none", "may") and "TLSA" in e["why"] and e["policy"] == "tlsa"), e
    e = p.events("deferred", to="c@stripped.test")[0]
    why = subprocess.run(p.command("queue", "--control", str(p.dir / "control.sock"), "why", e["id"]), capture_output=True, text=True, timeout=30).stdout
    assert "tls_not_offered" in why and "TLS owed: dane" in why, why
    assert not clear.messages and len(hop.messages) == 2
    code, said, error = explain(p, "a@dane.test")
    assert code == 0 and said["hosts"][0]["level"] == "dane" and said["hosts"][0]["verdict"] == "send", (said, error)
    code, said, error = explain(p, "a@bogus.test")
    assert code == 75 and said["hosts"][0]["verdict"] == "defer" and "bogus" in said["hosts"][0]["why"], (said, error)
    code, said, error = explain(p, "a@plain.test", "--require")
    assert code == 0 and said["hosts"][0]["level"] == "verify" and said["dest"].endswith(";require"), (said, error)
    code, said, error = explain(p, "a@local.test")
    assert code == 0 and said["by"] == "local", (said, error)
    text = subprocess.run(p.command("route", "explain", "a@dane.test", "--control", str(p.dir / "control.sock")), capture_output=True, text=True, timeout=60)
    assert "level owed   dane" in text.stdout and "must match a TLSA record" in text.stdout


def test_a_resolver_that_cannot_validate_says_so(postrider, tree, folder):
    t = tree({"good": ("signed", "mx IN A 127.0.0.1\n")})
    other = t.dir / "other-anchor"
    other.write_text(". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n")
    p = postrider(extra=f'resolver = {{"127.0.0.1:{t.port}"}}\ntrust_anchor = "{other}"\n')
    assert len(p.wait_event("dnssec_off", 20)) == 1
    said = subprocess.run(p.command("status", "--control", str(p.dir / "control.sock")), capture_output=True, text=True, timeout=30).stdout
    assert "resolve: the DNS cannot be validated, DANE is off" in said
    q = postrider(extra=f'resolver = {{"127.0.0.1:{t.port}"}}\ntrust_anchor = "{t.anchor}"\n')
    q.wait_event("dnssec_on", 20)
    said = subprocess.run(q.command("status", "--control", str(q.dir / "control.sock")), capture_output=True, text=True, timeout=30).stdout
    assert "DANE is off" not in said


def test_the_demonstration():
    """`make demo-tls`: eight domains, four of them under attack."""
    if os.geteuid() != 0:
        pytest.skip("port 25 needs root")
    r = subprocess.run(["/usr/bin/python3", str(ROOT / "tests/demo/demo_tls.py"), "--binary", BINARY], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0 and "8 of 8 as the RFCs want it" in r.stdout, r.stdout[-4000:] + r.stderr[-2000:]
