"""`postrider probe domain`: each check fails (or notes) on a domain with its fault and passes on a sound one; its decision is that of `route explain`.

One signed tree of our own, next hops with TLS on addresses of the loopback network (one port for all), and a web server for policies.
"""
import json
import re
import shutil

import jsonschema
import pytest
from conftest import BINARY, ROOT, Sink, free_port, make_certificate, run
from signed_tree import SignedTree
from test_explain import explain, spki_digest
from test_policy import PolicyServer, policy, text

SCHEMA = json.loads((ROOT / "docs/probe.schema.json").read_text())
WEEKS = 14 * 86400

# check -> the domain that has its fault, and the verdict that this deserves
FAULTS = {
    101: ("absent.sound", "fail"), 102: ("example.noaddr", "fail"), 103: ("example.alias", "fail"), 104: ("example.silent", "fail"),
    105: ("example.stripped", "fail"), 201: ("example.stale", "fail"), 202: ("example.forged", "fail"), 301: ("example.badtlsa", "fail"),
    302: ("example.useless", "fail"), 303: ("example.wrong", "fail"), 304: ("example.rolling", "note"), 401: ("example.twice", "fail"),
    402: ("example.gone", "fail"), 403: ("example.testing", "note"), 404: ("example.elsewhere", "fail"), 405: ("example.brief", "note"),
    406: ("example.impostor", "fail"), 501: ("example.ftp", "fail"), 601: ("example.old", "fail"), 602: ("example.self", "note"),
    701: ("example.forged", "fail"), 702: ("example.wrong", "fail"),
}
# how each zone is made: kind, certificate (see World.certificate), TLSA record, policy of MTA-STS, more records
ZONES = {
    "sound": ("signed", "ca", "right", policy("enforce", "mx.sound", WEEKS), '_smtp._tls.example IN TXT "v=TLSRPTv1; rua=mailto:tls@example.sound"'),
    "noaddr": ("plain", "ca", None, None, "example IN MX 20 none.noaddr."),
    "alias": ("signed", "ca", "right", None, "other IN CNAME mx.alias.\nexample IN MX 20 other.alias."),
    "silent": ("plain", "silent", None, None, ""),
    "stripped": ("signed", None, "right", None, ""),
    "stale": ("stale", "ca", None, None, ""),
    "forged": ("bogus", "ca", "right", None, ""),
    "badtlsa": ("bogus", "ca", "zeros", None, "spare IN A 127.0.0.66"),
    "useless": ("signed", "ca", "useless", None, ""),
    "wrong": ("signed", "ca", "wrong", None, ""),
    "rolling": ("signed", "ca", "both", None, ""),
    "twice": ("plain", "ca", None, policy("enforce", "mx.twice", WEEKS), '_mta-sts.example IN TXT "v=STSv1; id=2;"'),
    "gone": ("plain", "ca", None, None, '_mta-sts.example IN TXT "v=STSv1; id=1;"\nmta-sts.example IN A 127.0.0.1'),
    "testing": ("plain", "ca", None, policy("testing", "mx.testing", WEEKS), ""),
    "elsewhere": ("plain", "ca", None, policy("enforce", "mx.nobody", WEEKS), ""),
    "brief": ("plain", "ca", None, policy("enforce", "mx.brief", 3600), ""),
    "impostor": ("plain", "other", None, policy("enforce", "mx.impostor", WEEKS), ""),
    "ftp": ("plain", "ca", None, None, '_smtp._tls.example IN TXT "v=TLSRPTv1; rua=ftp:x"'),
    "old": ("plain", "old", None, None, ""),
    "self": ("plain", "self", None, None, ""),
    "conflict": ("signed", "self", "right", policy("enforce", "mx.nobody", WEEKS), ""),
    "dead": ("dead", "silent", None, None, ""),
    "null": ("signed", "silent", None, None, ""),
}


class World:
    def __init__(self, folder):
        self.folder = folder / "probe-domain"
        self.folder.mkdir()
        self.ca = make_certificate(self.folder / "pki", "ca")
        self.port = free_port()
        self.hops, zones, names = {}, {}, [f"mta-sts.example.{n}" for n, z in ZONES.items() if z[3] or n == "gone"]
        for i, (name, how) in enumerate(ZONES.items()):
            zones[name] = self.zone(name, f"127.0.0.{66 if name == 'forged' else 101 + i}", *how)
        self.web = PolicyServer(make_certificate(self.folder / "pki", "web", names=names, ca=self.ca), self.answer)
        place = self.folder / "tree"
        place.mkdir()
        for d in (self.folder, place):
            d.chmod(0o755)  # super reads anchor and bundle as an ordinary user
        self.tree = SignedTree(place, free_port(), zones)
        self.options = ("--resolver", f"127.0.0.1@{self.tree.port}", "--trust-anchor", self.tree.anchor, "--tls-ca", self.ca.chain, "--mta-sts-port",
                        self.web.port, "--port", self.port, "--pause", "0", "--timeout", "5", "--helo", "probe.example.org")

    def answer(self, h):
        name = h.headers["Host"].split(":")[0].rsplit(".", 1)[-1]
        found = ZONES[name][3]
        text(found or "gone", status=200 if found else 404)(h)

    def certificate(self, name, how):
        place = self.folder / "pki" / name
        if how == "other":
            return make_certificate(place, "mx.another", ca=self.ca, days=90)
        return make_certificate(place, f"mx.{name}", ca=None if how == "self" else self.ca, days=-1 if how == "old" else 90)

    def zone(self, name, address, kind, certificate, tlsa, sts, more):
        made = self.certificate(name, certificate or "ca")
        if certificate != "silent":
            self.hops[name] = Sink(port=self.port, address=address, certificate=made if certificate else None)
        records = f"example IN MX {'0 .' if name == 'null' else f'10 mx.{name}.'}\nmx IN A {address}\n{more}\n"
        right = f"3 1 1 {spki_digest(made)}"
        sets = {None: [], "right": [right], "zeros": [f"3 1 1 {'00' * 32}"], "wrong": [f"3 1 1 {'11' * 32}"], "useless": [f"0 0 1 {'22' * 32}"],
                "both": [right, f"3 1 1 {'33' * 32}"]}
        for port in (25, self.port):
            records += "".join(f"_{port}._tcp.mx IN TLSA {r}\n" for r in sets[tlsa])
        if sts:
            records += '_mta-sts.example IN TXT "v=STSv1; id=1;"\nmta-sts.example IN A 127.0.0.1\n'
        return kind, records

    def close(self):
        for h in self.hops.values():
            h.close()
        self.web.close()
        self.tree.stop()


@pytest.fixture(scope="module")
def world(folder):
    w = World(folder)
    yield w
    w.close()
    shutil.rmtree(w.folder, ignore_errors=True)


def probe(*args, status=(0, 1)):
    r = run(BINARY, "probe", "domain", *args, check=False, timeout=120)
    assert r.returncode in status, r.stderr + r.stdout
    return r


def report(*args, **kw):
    r = json.loads(probe("--json", *args, **kw).stdout)
    jsonschema.validate(r, SCHEMA)
    return r


def told(r):
    return {f["number"]: (f["verdict"], f["text"]) for f in r["findings"]}


def test_every_check_has_its_fault():
    assert sorted(FAULTS) == [int(n) for n in re.findall(r"^CHECK\((\d+),", (ROOT / "spec/probe_domain.def").read_text(), re.M)]


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_a_check_tells_its_fault(world, number):
    domain, verdict = FAULTS[number]
    got = told(report(domain, *world.options))
    assert got[number][0] == verdict, got


def test_a_sound_domain_passes_all(world):
    r = report("example.sound", *world.options, status=(0,))
    assert {n: t for n, t in told(r).items() if t[0] != "pass"} == {}
    assert r["facts"]["host_1"].startswith("mx.sound, preference 10: send, level owed dane")
    assert r["connections"] == 2 and "DANE" in told(r)[702][1]
    heard = [line[1] for dialog in world.hops["sound"].dialogs for line in dialog if line[0] == "C"]
    assert "EHLO probe.example.org" in heard and not [line for line in heard if line.upper().startswith(("MAIL", "RCPT", "DATA"))]


def test_what_would_be_done_is_told(world):
    got = told(report("example.conflict", *world.options))
    assert got[404][0] == "fail" and got[701][0] == "pass" and "would deliver with DANE" in got[702][1], got  # DANE wins
    got = told(report("example.wrong", *world.options))
    assert got[701][0] == "pass" and "would defer because" in got[702][1] and "dane is owed" in got[702][1], got
    got = told(report("example.impostor", *world.options))
    assert "would defer because" in got[702][1] and "verify is owed" in got[702][1], got
    got = told(report("example.self", *world.options))
    assert got[701][0] == got[702][0] == "note" and "to whoever answers" in got[702][1], got
    got = told(report("example.null", *world.options))
    assert got[101] == ("note", "the domain takes no mail (null MX)") and got[702][0] == "not-tested", got


@pytest.mark.parametrize("options", [(), ("--require",)])
def test_the_decision_is_that_of_route_explain(world, postrider, options):
    p = postrider(extra=f'resolver = {{"127.0.0.1:{world.tree.port}"}}\ntrust_anchor = "{world.tree.anchor}"\ntrust = "{world.ca.chain}"\n'
                        f'mta_sts_port = {world.web.port}\ndomain "example.self" {{ deliver = "mx"  tls = verify }}\n')
    p.wait_event("dnssec_on", 20)
    compared = 0
    for name in ZONES:
        domain = f"example.{name}"
        _, said, error = explain(p, f"probe@{domain}", *options)
        theirs = [f"{h['host']}, preference {h['preference']}: {h['verdict']}, level owed {h['level']}, certificate checked by {h['check']}, "
                  f"reported as {h['policy']}; {h['why']}" for h in said.get("hosts", [])]
        r = report("-c", p.config_path, "--no-connect", *options, domain)
        ours = [r["facts"][k] for k in sorted(r["facts"]) if k.startswith("host_")]
        assert sorted(ours) == sorted(theirs), (domain, said, error)
        compared += len(ours)
        assert r["connections"] == 0 and all(v[0] == "not-tested" for n, v in told(r).items() if n in (104, 303, 702))
    assert compared >= len(ZONES) - 3


def test_a_resolver_that_cannot_validate(world):
    other = world.folder / "other-anchor"
    other.write_text(". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n")
    r = report("example.sound", *world.options, "--trust-anchor", other)
    assert r["facts"]["dnssec"].startswith("cannot be validated") and told(r)[201][0] == "not-tested"
    assert "level owed verify" in r["facts"]["host_1"]  # MTA-STS is what is left


def test_a_destination_that_no_mx_leads_to(world, postrider):
    p = postrider(start=False)
    r = probe("-c", p.config_path, "--resolver", f"127.0.0.1:{world.tree.port}", "sink.test", status=(65,))
    assert "which no MX leads to" in r.stderr


def test_a_dns_that_does_not_answer(world):
    r = report("example.dead", *world.options, "--check", "101,201,501,701")
    assert told(r)[101][0] == "fail" and "no answer" in told(r)[101][1], r
    assert told(r)[501][0] == "fail" and told(r)[701] == ("not-tested", "there is no mail host"), r


def test_arguments_that_are_wrong(tmp_path):
    for args, words in (((), "which domain"), (("a.test", "b.test"), "more than one domain"), (("a b",), "no domain name"), (("[1.2.3.4]",), "no domain name"),
                        (("a.test", "--resolver", "x"), "--resolver: x is no"), (("a.test", "--resolver", "1.2.3.4@0"), "is no"), (("a.test", "--check", "999"), "there is no check"),
                        (("a.test", "--port", "0"), "--port is"), (("a.test", "--frob", "1"), "what is --frob"), (("a.test", "-c"), "where is its value")):
        r = probe(*args, status=(64,))
        assert words in r.stderr, (args, r.stderr)
    assert "No such file" in probe("a.test", "--trust-anchor", "/nowhere", status=(66,)).stderr
    assert probe("a.test", "-c", "/nowhere", status=(78,)).stderr
    bad = tmp_path / "anchor"
    bad.write_text("nonsense\n")
    assert "no DS or DNSKEY" in probe("a.test", "--trust-anchor", bad, "--resolver", "127.0.0.1", status=(69, 65)).stderr


def test_forms_and_diff(world, tmp_path):
    old = tmp_path / "old.json"
    old.write_text(probe("--json", "example.rolling", *world.options).stdout)
    for form, words in (("--markdown", "# Probe of domain"), ("--html", "<!doctype html>"), ("--prometheus", 'kind="domain"'), ("-v", "What our own sender would do")):
        assert words in probe(form, "example.rolling", *world.options).stdout
    probe("--diff", old, "example.rolling", *world.options, status=(0,))
    world.hops["rolling"].close()
    r = probe("--diff", old, "example.rolling", *world.options, status=(1,))
    assert "WORSE" in r.stdout
