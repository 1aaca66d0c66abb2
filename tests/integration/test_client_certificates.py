"""Certificates that `send` shows to servers that ask for one; their keys stay in `keys`."""
import os
import pathlib
import signal
import ssl

import pytest

from conftest import make_certificate, own
from test_sandbox import who_knows
from test_super import deliver, root_only

CONFIG = '''
hostname = "mx.sink.test"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
retry_min = 1s
{settings}
certificate "default" {{ chain = "{chain}"  key = "{key}" }}
certificate "client"  {{ chain = "{dir}/client.pem"  key = "{dir}/client.key" }}
listener "mx"         {{ address = {{"127.0.0.1:{port}"}}  tls = starttls }}
{domains}
'''


@pytest.fixture(scope="session")
def ca(folder):
    return make_certificate(folder / "clients", "Client CA")


@pytest.fixture(scope="session")
def shown(folder, ca):
    return {kind: make_certificate(folder / "clients", f"client-{kind}.test", kind=kind, ca=ca) for kind in ("ec", "rsa")}


def put(p, certificate):
    """In place of the one there, as a renewal does it: the file is whole when it has its name."""
    for part, ending in (("key", "key"), ("chain", "pem")):
        fresh = p.dir / f"fresh.{ending}"
        fresh.write_bytes(pathlib.Path(getattr(certificate, part)).read_bytes())
        if p.user:
            own(fresh, p.user)
        os.replace(fresh, p.dir / f"client.{ending}")


@pytest.fixture
def sender(postrider):
    def make(certificate, domains, settings=""):
        p = postrider(start=False, config=CONFIG, settings=settings, domains=domains)
        put(p, certificate)
        return p.start()

    return make


def hop(name, port, more="", tls="encrypt"):
    return f'domain "{name}" {{ deliver = "smtp://127.0.0.1:{port}" tls = {tls} {more} }}\n'


def names(sink, seconds=15, count=1):
    return [dict(pair[0] for pair in m["client"]["subject"])["commonName"] if m["client"] else None for m in sink.wait(count, seconds)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_server_that_demands_one_gets_it(sender, sink, talk, certificate, ca, shown, kind, version):
    s = sink(certificate=certificate, clients=ca.chain, version=version)
    p = sender(shown[kind], hop("a.test", s.port, 'client_certificate = "client"') + hop("b.test", s.port))
    assert deliver(talk, p, to="x@a.test").startswith("250")
    assert names(s) == [f"client-{kind}.test"]
    assert deliver(talk, p, to="x@b.test").startswith("250")
    p.wait_event("deferred")
    assert len(s.messages) == 1, "without a certificate nothing is taken there"


def test_the_global_one_is_for_all_but_those_that_say_otherwise(sender, sink, talk, certificate, ca, shown):
    s = {name: sink(certificate=certificate, clients=ca.chain, demand=False) for name in ("all", "none", "own")}
    p = sender(shown["ec"], hop("all.test", s["all"].port) + hop("none.test", s["none"].port, 'client_certificate = "none"') +
               hop("own.test", s["own"].port, 'client_certificate = "default"', tls="may"), 'client_certificate = "client"')
    for name, want in (("all", "client-ec.test"), ("none", None)):
        assert deliver(talk, p, to=f"x@{name}.test").startswith("250")
        assert names(s[name]) == [want]
    # a chain that the server does not trust ends the handshake there: under `may` the mail then goes in clear (RFC 7435), as ever
    assert deliver(talk, p, to="x@own.test").startswith("250")
    p.wait_event("send_failed", seconds=15)


def test_a_renewed_one_is_shown_without_a_restart(sender, sink, talk, certificate, ca, shown, folder):
    s = sink(certificate=certificate, clients=ca.chain)
    p = sender(shown["ec"], hop("a.test", s.port), 'client_certificate = "client"')
    assert deliver(talk, p, to="x@a.test").startswith("250")
    assert names(s) == ["client-ec.test"]
    put(p, make_certificate(folder / "clients", "renewed.test", kind="rsa", ca=ca))
    p.wait_event("certificate_changed", seconds=20, title="client")
    p.wait_event("reloaded", seconds=20)
    assert deliver(talk, p, to="x@a.test").startswith("250")
    assert names(s, count=2) == ["client-ec.test", "renewed.test"]
    assert len(p.events("role_started", role_name="keys")) == 1


def test_keys_comes_back(sender, sink, talk, certificate, ca, shown):
    s = sink(certificate=certificate, clients=ca.chain)
    p = sender(shown["rsa"], hop("a.test", s.port), 'client_certificate = "client"')
    os.kill(p.pids()["keys"], signal.SIGKILL)
    p.wait_event("role_started", role_name="keys", count=2)
    assert deliver(talk, p, to="x@a.test").startswith("250")
    assert names(s, 30) == ["client-rsa.test"]


def test_one_that_is_broken_is_not_shown(sender, sink, talk, certificate, ca, shown):
    s = sink(certificate=certificate, clients=ca.chain, demand=False)
    p = sender(shown["ec"], hop("a.test", s.port), 'client_certificate = "client"')
    p.stop()
    (p.dir / "client.key").write_bytes(pathlib.Path(shown["rsa"].key).read_bytes())
    p.start()
    p.wait_event("certificate_broken", title="client")
    assert deliver(talk, p, to="x@a.test").startswith("250")
    assert names(s) == [None]


@root_only
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_its_key_is_known_to_keys_alone(sender, sink, talk, certificate, ca, shown, kind):
    s = sink(certificate=certificate, clients=ca.chain)
    p = sender(shown[kind], hop("a.test", s.port), 'client_certificate = "client"')
    for n in range(3):
        assert deliver(talk, p, to="x@a.test").startswith("250")
        assert names(s, count=n + 1)[-1] == f"client-{kind}.test"
    assert who_knows(p, shown[kind]) == {"keys"}
    held = [os.readlink(f) for f in pathlib.Path(f"/proc/{p.pids()['send']}/fd").iterdir()]
    assert not [h for h in held if "client." in h]
