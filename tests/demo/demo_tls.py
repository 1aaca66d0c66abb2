#!/usr/bin/python3
"""`make demo-tls`: how mail must travel, what Postrider did with it, and why.

A DNS tree of our own, signed with throw-away keys (nsd serves it, our resolver validates from its root); next hops on port 25 of
addresses of the loopback network, with and without TLS; a web server for MTA-STS policies with a certificate by a throw-away
authority.  One message goes to each domain: one with DANE, one with MTA-STS, one with both in conflict, one with neither, and four under
attack.  Shown for each: what `route explain` says before, what was done, and `queue why` of what waits.  As root (port 25);
the exit status is 0 only when each message went, or stayed, as RFC 7672 and RFC 8461 want it.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 110  # the whole demonstration; it usually takes fifteen


def spki_digest(certificate):
    key = subprocess.run(["openssl", "x509", "-in", certificate.chain, "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True, capture_output=True).stdout
    return hashlib.sha256(der).hexdigest()


# domain, its zone's kind, what it is, is it delivered, and the level owed
CASES = [
    ("dane", "signed", "DANE: a TLSA record with the key of a certificate that nobody signed", True, "dane"),
    ("sts", "plain", "MTA-STS, enforce: a certificate by an authority, for a host of the policy", True, "verify"),
    ("both", "signed", "both, in conflict: the TLSA record is right, the policy names another host; DANE wins", True, "dane"),
    ("neither", "plain", "neither: TLS because it is offered, whoever answers", True, "may"),
    ("stripped", "signed", "attack: DANE, and somebody strips STARTTLS", False, "dane"),
    ("wrong", "signed", "attack: DANE, and another certificate answers", False, "dane"),
    ("forged", "bogus", "attack: the DNS answers were changed on their way", False, ""),  # no host can be asked, so nothing is owed yet
    ("impostor", "plain", "attack: MTA-STS, enforce, and a certificate of another name answers", False, "verify"),
]


class Stage:
    """Everything but Postrider itself."""

    def __init__(self, base):
        import conftest
        from signed_tree import SignedTree
        from test_policy import PolicyServer, policy, text

        self.ca = conftest.make_certificate(base / "pki", "ca")
        with_sts = ("sts", "both", "impostor")
        web = conftest.make_certificate(base / "pki", "web", names=[f"mta-sts.example.{d}" for d in with_sts], ca=self.ca)
        mx = {"dane": "mx.dane", "sts": "mx.sts", "impostor": "mx.impostor", "both": "mx.both"}

        def serve(h):
            domain = h.headers["Host"].split(":")[0].rsplit(".", 1)[-1]
            text(policy("enforce", "mail.elsewhere.example" if domain == "both" else mx[domain]))(h)

        self.web = PolicyServer(web, serve)
        self.hops, zones = {}, {}
        for i, (domain, kind, *_) in enumerate(CASES):
            signer = self.ca if domain in ("sts", "impostor") else None
            name = "mx.elsewhere" if domain == "impostor" else f"mx.{domain}"
            certificate = conftest.make_certificate(base / "pki" / domain, name, ca=signer)
            address = f"127.0.0.{66 if kind == 'bogus' else 101 + i}"
            self.hops[domain] = conftest.Sink(port=25, address=address, certificate=None if domain == "stripped" else certificate)
            records = f"example IN MX 10 mx.{domain}.\nmx IN A {address}\n"
            if kind != "plain":
                records += f"_25._tcp.mx IN TLSA 3 1 1 {'00' * 32 if domain == 'wrong' else spki_digest(certificate)}\n"
            if domain in with_sts:
                records += '_mta-sts.example IN TXT "v=STSv1; id=1;"\nmta-sts.example IN A 127.0.0.1\n'
            zones[domain] = (kind, records)
        place = base / "tree"
        place.mkdir()
        self.tree = SignedTree(place, conftest.free_port(), zones)

    def close(self):
        for h in self.hops.values():
            h.close()
        self.web.close()
        self.tree.stop()


def tell(p, domain, what, delivered, owed, hop):
    address = f"alice@example.{domain}"
    print(f"\n== example.{domain}: {what}", flush=True)
    r = subprocess.run(p.command("route", "explain", address, "--control", f"{p.dir}/control.sock"), capture_output=True, text=True, timeout=60)
    print("\n".join(f"    {line}" for line in (r.stdout or r.stderr).rstrip().splitlines()))
    with smtplib.SMTP("127.0.0.1", p.port, timeout=20) as s:
        s.sendmail("sender@client.test", [address], "Subject: demonstration\r\n\r\nA real message.\r\n")
    e = p.wait_event("delivered" if delivered else "deferred", 30, to=address)[0]
    said = [line[1] for dialog in hop.dialogs for line in dialog if line[0] == "C" and line[1].upper().startswith("MAIL") and not line[2]]
    print(f"  -> {e['event']}: owed {e['owed'] or 'not known'}, reached {e['reached'] or 'nothing'}; {e.get('tls') or 'no session'}\n     why: {e['why'] or e['reason']}")
    if not delivered:
        why = subprocess.run(p.command("queue", "why", e["id"], "--control", f"{p.dir}/control.sock"), capture_output=True, text=True, timeout=30).stdout
        print("\n".join(f"     {line}" for line in why.rstrip().splitlines()))
    wrong = []
    if e["owed"] != owed:
        wrong.append(f"owed {e['owed']}, not {owed}")
    if bool(hop.messages) != delivered:
        wrong.append(f"{len(hop.messages)} messages came")
    if owed != "may" and said:
        wrong.append(f"said in clear: {said}")
    for w in wrong:
        print(f"  FAILED: {w}")
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "build/postrider"))
    a = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("demo-tls: next hops listen on port 25 of loopback addresses, which needs root")
    signal.alarm(SECONDS)
    base = pathlib.Path(tempfile.mkdtemp(prefix="postrider-demo-", dir="/var/tmp"))
    base.chmod(0o755)
    binary = base / "postrider"
    shutil.copy(os.path.abspath(a.binary), binary)
    os.environ["POSTRIDER"] = str(binary)
    sys.path.insert(0, str(ROOT / "tests/integration"))
    import conftest

    stage, p, good = None, None, 0
    try:
        stage = Stage(base)
        p = conftest.Postrider(base, conftest.make_certificate(base / "pki", "mx.sink.test"), extra=f'''
resolver = {{"127.0.0.1:{stage.tree.port}"}}
trust_anchor = "{stage.tree.anchor}"
trust = "{stage.ca.chain}"
mta_sts_port = {stage.web.port}
''')
        p.start()
        p.wait_event("dnssec_on", 20)
        print("The DNS is validated from the root of this demonstration.")
        for domain, _, what, delivered, owed in CASES:
            good += tell(p, domain, what, delivered, owed, stage.hops[domain])
    finally:
        if p:
            p.stop()
        if stage:
            stage.close()
        shutil.rmtree(base, ignore_errors=True)
    print(f"\n{good} of {len(CASES)} as the RFCs want it")
    return 0 if good == len(CASES) else 1


if __name__ == "__main__":
    sys.exit(main())
