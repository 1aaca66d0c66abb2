"""libpsmtp as others get it: installed into an empty tree, used through pkg-config alone, shared and static.

The two examples are built from that tree and send mail to each other over STARTTLS on loopback.  Everything ends by
itself: each child has a time limit, each port is one that the kernel gave.
"""
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "/opt/psmtp"  # not /usr: pkg-config leaves out what the compiler finds by itself
MESSAGE = (
    "From: a@send.test\r\nSubject: dots and \u00e4\r\n\r\n.\r\n..\r\nlast line without its end".encode("latin-1")
)


def run(*command, **more):
    """The standard output of a command that must succeed."""
    more.setdefault("timeout", 120)
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An installed tree with the library and nothing else."""
    top = tmp_path_factory.mktemp("psmtp")
    build, tree = top / "build", top / "tree"
    run("meson", "setup", build, ROOT, "-Dtests=false", "--prefix", PREFIX, "--libdir", "lib")
    run("ninja", "-C", build, "-j2", "src/smtp/libpsmtp.so.0.1.0", "src/smtp/libpsmtp.a")
    run("meson", "install", "-C", build, "--no-rebuild", "--destdir", tree, "--tags", "devel,psmtp")
    return tree


@pytest.fixture(scope="module")
def flags(tree):
    env = {
        "PATH": os.environ["PATH"],
        "PKG_CONFIG_LIBDIR": str(tree) + PREFIX + "/lib/pkgconfig",
        "PKG_CONFIG_SYSROOT_DIR": str(tree),
    }
    assert run("pkg-config", "--modversion", "psmtp", env=env).strip() == "0.1.0"
    return run("pkg-config", "--cflags", "--libs", "psmtp", env=env).split()


def compiled(tree, flags, how, out):
    """Both examples, linked as `how` says."""
    out.mkdir()
    for name in ("receive-mail", "send-mail"):
        libs = ["-l:libpsmtp.a" if how == "static" and f == "-lpsmtp" else f for f in flags]
        libs += [f"-Wl,-rpath,{tree}{PREFIX}/lib"] if how == "shared" else []
        run("cc", "-Wall", "-Wextra", "-Werror", "-O1", "-D_GNU_SOURCE", "-o", out / name, ROOT / "examples" / f"{name}.c",
            *libs, "-lssl", "-lcrypto")
        uses = run("ldd", out / name)
        assert ("libpsmtp.so.0" in uses) == (how == "shared")
    return out


@pytest.fixture(scope="module", params=["shared", "static"])
def programs(request, tree, flags, tmp_path_factory):
    return compiled(tree, flags, request.param, tmp_path_factory.mktemp("examples") / request.param)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    top = tmp_path_factory.mktemp("tls")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=throw-away", "-addext", "subjectAltName=DNS:localhost", "-keyout", top / "key.pem",
        "-out", top / "cert.pem")
    return top


class Server:
    """receive-mail on a port of its own, writing into a directory."""

    def __init__(self, programs, directory, *tls):
        self.directory = directory
        self.process = subprocess.Popen(
            [programs / "receive-mail", "127.0.0.1", "0", directory, *tls], stdout=subprocess.PIPE, text=True)
        self.port = self.process.stdout.readline().split()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def messages(self):
        return [p.read_bytes() for p in sorted(self.directory.iterdir())]


def send(programs, server, *options, message=MESSAGE):
    return subprocess.run(
        [programs / "send-mail", *options, "localhost", server.port, "a@send.test", "b@receive.test", "c@receive.test"],
        input=message, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)


def test_over_starttls(programs, certificate, tmp_path):
    with Server(programs, tmp_path, certificate / "cert.pem", certificate / "key.pem") as server:
        done = send(programs, server, "--ca", certificate / "cert.pem")
        assert done.returncode == 0, done.stdout
        assert done.stdout.count(b": 250 ") == 2
        assert server.messages() == [MESSAGE]


def test_large_and_again(programs, certificate, tmp_path):
    body = b"Subject: large\r\n\r\n" + b"".join(b".%d %s\r\n" % (i, b"x" * (i % 1500)) for i in range(2000))
    with Server(programs, tmp_path, certificate / "cert.pem", certificate / "key.pem") as server:
        for _ in range(2):
            assert send(programs, server, message=body).returncode == 0
        assert server.messages() == [body, body]


def test_wrong_certificate_sends_nothing(programs, certificate, tmp_path):
    other = tmp_path / "other"
    inbox = tmp_path / "inbox"
    other.mkdir(), inbox.mkdir()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
        "/CN=other", "-addext", "subjectAltName=DNS:localhost", "-keyout", other / "key.pem", "-out", other / "cert.pem")
    with Server(programs, inbox, certificate / "cert.pem", certificate / "key.pem") as server:
        done = send(programs, server, "--ca", other / "cert.pem")
        assert done.returncode == 1 and b"handshake" in done.stdout
        assert server.messages() == []


def test_owed_tls_is_never_clear(programs, certificate, tmp_path):
    with Server(programs, tmp_path) as server:
        done = send(programs, server, "--ca", certificate / "cert.pem")
        assert done.returncode == 1 and b"tls_not_offered" in done.stdout
        assert server.messages() == []
        assert send(programs, server).returncode == 0  # without --ca clear text will do
        assert server.messages() == [MESSAGE]


def test_header_stands_alone(tree, tmp_path):
    source = tmp_path / "alone.c"
    source.write_text("#include <psmtp.h>\nint main(void) { return sizeof(struct psmtp_reply) == 0; }\n")
    include = str(tree) + PREFIX + "/include"
    run("cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-I", include, "-o", tmp_path / "alone", source)
    if shutil.which("c++"):
        run("c++", "-x", "c++", "-std=c++11", "-Wall", "-Werror", "-I", include, "-fsyntax-only", source)


def test_nothing_else_is_installed(tree):
    files = {str(p.relative_to(str(tree) + PREFIX)) for p in tree.rglob("*") if not p.is_dir()}
    assert files == {
        "include/psmtp.h", "lib/libpsmtp.a", "lib/libpsmtp.so", "lib/libpsmtp.so.0", "lib/libpsmtp.so.0.1.0",
        "lib/pkgconfig/psmtp.pc",
    }
