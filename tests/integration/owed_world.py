"""A world in which every row of tests/unit/route/tls.def happens: a signed DNS tree, a server of MTA-STS policies, and for each row a
domain and a next hop of its own on port 25 of a loopback address, which does to TLS what the row says.

    world = World(folder, rows());  world.extra(row)s go into the configuration;  world.mail(port) sends one message to each

A row is a dictionary of the columns that tls.def explains.  Its domain is d.rN.ZONE and its host mx.rN.ZONE; ZONE is `safe` (signed),
`open` (delegated without DS) or `forged` (signed, and some answers changed on their way).
Names that are to fail are in their zones (a proof that they are not there would be an answer), but the server that stands before nsd
says SERVFAIL.  Port 25 needs root.
"""
import concurrent.futures
import contextlib
import os
import pathlib
import re
import smtplib
import ssl

from conftest import ROOT, Sink, free_port, make_certificate
from signed_tree import SignedTree
from test_explain import spki_digest
from test_policy import PolicyServer, make_expired, policy, text

COLUMNS = ("what", "rfc", "mx", "address", "tlsa_behind", "tlsa", "sts", "local", "message", "verdict", "level", "check", "sni", "names", "policy",
           "session", "result", "reason")
LEVELS = ("none", "may", "encrypt", "verify", "dane")
WORDS = ("PIPELINING", "8BITMIME", "SIZE 10000000", "DSN", "SMTPUTF8", "REQUIRETLS")
WELL = ("up", "-", "odd", "domain")   # sessions in which nothing is wrong
NET = f"127.{25 + os.getpid() % 200}.{os.getpid() // 200 % 250}."   # port 25 of addresses of our own: runs may share a machine


def rows():
    found = []
    for line in (pathlib.Path(ROOT) / "tests/unit/route/tls.def").read_text().splitlines():
        if line.startswith("TLS_CASE("):
            found.append(dict(zip(COLUMNS, re.findall(r'"([^"]*)"', line), strict=True)))
    return found


def attacked(base, session):
    """A row whose session goes otherwise; nothing may leave."""
    return dict(base, what=f"{base['what']}, {session}", session=session, verdict="send", result=None)


class Row:
    """One situation with its names and its server."""

    def __init__(self, n, columns):
        self.__dict__.update(columns)
        self.columns = columns
        self.n = n
        self.hop = self.mx == "hop"
        self.literal = self.address == "literal"
        self.at = NET + str(n + 1)
        if self.verdict != "send":
            self.wanted = "failed" if self.verdict.startswith("skip ") or self.address == "none" else "deferred"   # skip: of the only host
        elif self.session in WELL or self.level in ("may", "none"):
            self.wanted = "delivered"
        else:  # RFC 8689 4.2.1: REQUIRETLS that cannot be met fails the mail
            self.wanted = "failed" if self.message in ("require", "both") else "deferred"
        zone = {"insecure": "open", "none?": "open", "bogus": "forged"}.get(self.mx, "safe")
        self.domain = f"d.r{n}.{zone}"
        self.host = self.domain
        if not self.mx.startswith("none"):
            self.host = f"mx.r{n}." + {"insecure": "open", "alias?": "open", "bogus": "forged"}.get(self.address, "forged" if self.tlsa == "bogus" else "safe")
        self.behind = f"real.r{n}." + ("safe" if self.address == "alias" else "open")
        self.to = f"x@[{self.at}]" if self.literal else f"x@{self.domain}"

    def records(self, digests):
        """(name, type and data) of the DNS, and which names fail."""
        found, failing = [], []
        domain = self.domain
        if self.mx == "secure+alias":
            domain = domain.replace("d.", "e.", 1)
            found.append((self.domain, f"CNAME {domain}."))
        if self.mx == "failed":
            failing.append(domain)
            found.append((domain, f"MX 10 {self.host}."))
        elif not self.hop and not self.mx.startswith("none"):
            found.append((domain, f"MX {66 if self.mx == 'bogus' else 10} {self.host}."))
        if self.address in ("alias", "half", "alias?"):
            found += [(self.host, f"CNAME {self.behind}."), (self.behind, f"A {self.at}")]
        elif self.address == "failed":
            failing.append(self.host)
            found.append((self.host, f"A {self.at}"))
        elif self.address == "bogus":
            found.append((self.host, "A 127.0.0.66"))
        elif self.address not in ("none", "literal"):
            found.append((self.host, f"A {self.at}"))
        for name, kind in ((self.behind, self.tlsa_behind), (self.host, self.tlsa)):
            name = f"_25._tcp.{name}"
            away = f"_25._tcp.away.r{self.n}.open"
            if kind == "failed":
                failing.append(name)
                found.append((name, f"TLSA {digests['ee']}"))
            elif kind in ("insecure", "none?"):
                found += [(name, f"CNAME {away}.")] + ([(away, f"TLSA {digests['ee']}")] if kind == "insecure" else [])
            elif kind == "moved":  # RFC 7672 2.2.3: the base domain stays that of the host
                found += [(name, f"CNAME tlsa.r{self.n}.safe."), (f"tlsa.r{self.n}.safe", f"TLSA {digests['ta']}")]
            elif kind == "mixed":
                found += [(name, f"TLSA {digests[k]}") for k in ("pkix", "other", "ee")]
            elif kind in ("short", "empty"):
                found.append((name, "TYPE52 \\# " + ("0" if kind == "empty" else "3 030101")))
            elif kind not in ("-", "none"):
                found.append((name, f"TLSA {digests['other' if self.session == 'tlsa' else 'odd' if self.session == 'odd' else kind]}"))
        if self.sts != "-" and not self.literal:
            found += [(f"_mta-sts.{domain}", 'TXT "v=STSv1; id=1;"'), (f"mta-sts.{domain}", "A 127.0.0.1")]
        return found, failing

    def config(self):
        if self.hop:
            return f'domain "{self.domain}" {{ deliver = "smtp://{self.host}:25" tls = {self.local} }}\n'
        return f'domain "{self.domain}" {{ deliver = "mx" tls = {self.local} }}\n' if self.local != "may" else ""

    def server(self, certificates):
        script = {"454": {"STARTTLS": "454 4.7.0 not now"}, "502": {"STARTTLS": "502 5.5.1 what"}, "injected": {"STARTTLS": "220 go\r\n250 2.0.0 and more"},
                  "closes": {"STARTTLS": hang_up}, "EHLO 500": {"EHLO": "500 what"}}.get(self.session, {})
        return Sink(address=self.at, port=25, certificate=certificates.get(self.session, certificates["up"]), words=WORDS, script=script)


def hang_up(*_):
    raise OSError("the wire is cut")


class Broken:
    """No certificate at all: the handshake ends before it began."""
    chain = key = "/nonexistent"


def many_names(d, name, hosts, ca, **kw):
    """A leaf and the authority behind it: DANE-TA needs both."""
    made = make_certificate(d, name, names=hosts, ca=ca, **kw)
    both = d / f"{name}-both.pem"
    both.write_text(pathlib.Path(made.chain).read_text() + pathlib.Path(ca.chain).read_text())
    return type(made)(both, made.key, ca.chain)


class World:
    def __init__(self, folder, columns):
        self.dir = pathlib.Path(folder)
        self.rows = [Row(n, c) for n, c in enumerate(columns)]
        self.ca = ca = make_certificate(self.dir / "pki", "ca")
        hosts = [h for r in self.rows for h in ([r.at] if r.literal else [r.host, r.behind])]
        (self.dir / "pki/odd").mkdir()
        old = make_expired(self.dir / "pki", ca, hosts)
        both = self.dir / "pki/old-both.pem"
        both.write_text(pathlib.Path(old.chain).read_text() + pathlib.Path(ca.chain).read_text())
        good = many_names(self.dir / "pki", "good", hosts, ca)
        self.certificates = {"up": good, "name": many_names(self.dir / "pki", "other", ["other.example"], ca), "expired": type(old)(both, old.key, ca.chain),
                             "untrusted": make_certificate(self.dir / "pki", "self", names=hosts), "broke": Broken, "clear": None}
        # under DANE-EE neither name nor date counts, and of DANE-TA the name may be the domain's
        self.certificates["odd"] = make_expired(self.dir / "pki/odd", ca, ["nobody.example"])
        self.certificates["domain"] = many_names(self.dir / "pki", "domain", [r.domain for r in self.rows if not r.literal], ca)
        ee, other = spki_digest(good), spki_digest(self.certificates["untrusted"])
        digests = {"ee": f"3 1 1 {ee}", "ta": f"2 1 1 {spki_digest(ca)}", "pkix": f"1 1 1 {ee}", "digest": f"3 1 1 {ee[:40]}", "strange": f"3 7 1 {ee}",
                   "other": f"3 1 1 {other}", "odd": f"3 1 1 {spki_digest(self.certificates['odd'])}", "bogus": f"3 1 1 00{ee[2:]}"}
        zones, failing = {"safe": "", "open": "", "forged": "pad IN A 127.0.0.66\n"}, set()
        for r in self.rows:
            found, fails = r.records(digests)
            failing.update(fails)
            for name, data in found:
                short, _, zone = name.rpartition(".")
                zones[zone] += f"{short} IN {data}\n"
        (self.dir / "tree").mkdir()
        self.dir.chmod(0o755)
        (self.dir / "tree").chmod(0o755)
        kinds = {"safe": "signed", "open": "plain", "forged": "bogus"}
        self.tree = SignedTree(self.dir / "tree", free_port(), {z: (kinds[z], t) for z, t in zones.items()}, failing)
        asked = [f"mta-sts.{r.domain}" for r in self.rows] + [f"mta-sts.e.r{r.n}.safe" for r in self.rows]
        self.web = PolicyServer(make_certificate(self.dir / "pki", "web", names=asked, ca=ca), self.serve)
        self.hops = {r.n: r.server(self.certificates) for r in self.rows}

    def serve(self, h):
        """The policy of the row whose domain is asked for."""
        r = self.rows[int(re.search(r"\.r(\d+)\.", h.headers["Host"]).group(1))]
        if r.sts == "failed":
            text("not here", 404)(h)
        else:
            text(policy(r.sts.rstrip("!"), "mail.elsewhere.example" if r.sts.endswith("!") else r.host))(h)

    def config(self, rows):
        return (f'resolver = {{"127.0.0.1:{self.tree.port}"}}\ntrust_anchor = "{self.tree.anchor}"\ntrust = "{self.ca.chain}"\n'
                f'mta_sts_port = {self.web.port}\ntls_report {{ send = true }}\n' + "".join(r.config() for r in rows))

    @staticmethod
    def mail(port, r):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        head = "TLS-Required: No\r\n" if r.message in ("relaxed", "both") else ""
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as s:
            s.starttls(context=context)
            s.sendmail("sender@client.test", [r.to], f"{head}Subject: owed\r\n\r\nSECRET-BODY-{r.n}\r\n", ["REQUIRETLS"] if r.message in ("require", "both") else [])

    def mail_all(self, port, rows):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda r: self.mail(port, r), rows))

    def close(self):
        for h in self.hops.values():
            h.close()
        self.web.close()
        self.tree.stop()


@contextlib.contextmanager
def world(folder, columns):
    w = World(folder, columns)
    try:
        yield w
    finally:
        w.close()
