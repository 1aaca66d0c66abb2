"""A signed DNS tree of our own on loopback: nsd serves it, ldns signs it with keys made here; the root's key is the anchor.

    tree = SignedTree(folder, port, {"good": ("signed", records), "plain": ("plain", records), ...})
    tree.anchor   path for `trust_anchor`;   tree.port   for `resolver = {"127.0.0.1:PORT"}`;   tree.stop()

Kinds: signed (NSEC), nsec3, plain (delegated without DS: insecure), bogus (signed, then 127.0.0.66 made 127.0.0.67, MX 66 made MX 67, and
TLSA records that begin with 00 changed), dead (the server has no zone: SERVFAIL), stale (the signatures have expired).
Names of `failing` are answered SERVFAIL by the one of ours.
TLSA records of 0 or 3 octets, which no server would read from its file, are answered by a small one of ours that stands
before nsd (class Front) with the signature that ldns made.

As a program: signed_tree.py FOLDER serves ZONES below until its standard input ends; prints port and anchor first.
"""
import base64
import calendar
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time

HEAD = """$ORIGIN {origin}
$TTL 60
@ IN SOA ns.root. host.root. 1 3600 900 86400 60
@ IN NS ns.root.
"""
DIGEST = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
ZONES = {
    "good": ("signed", f"""
@ IN MX 10 mx.good.
two IN MX 10 mx.good.
two IN MX 20 mx.plain.
mx IN A 127.0.0.11
mx IN AAAA ::1
_25._tcp.mx IN TLSA 3 1 1 {DIGEST}
alias IN CNAME mx.good.
half IN CNAME mx.plain.
chain IN CNAME half.good.
renamed IN CNAME good.
_25._tcp.alias IN CNAME _25._tcp.mx.good.
empty IN A 127.0.0.12
_25._tcp.empty IN TYPE52 \\# 0
short IN A 127.0.0.12
_25._tcp.short IN TYPE52 \\# 3 030101
bare IN A 127.0.0.13
txt IN TXT "v=STSv1; " "id=1;"
"""),
    "sub.good": ("plain", "@ IN A 127.0.0.14\n"),
    "hashed": ("nsec3", "mx IN A 127.0.0.15\n"),
    "plain": ("plain", f"@ IN MX 10 mx.good.\nmx IN A 127.0.0.21\nback IN CNAME mx.good.\n_25._tcp.mx IN TLSA 3 1 1 {DIGEST}\n"),
    "bogus": ("bogus", f"@ IN MX 10 mx.bogus.\nmx IN A 127.0.0.66\n_25._tcp.mx IN TLSA 3 1 1 {DIGEST}\n"),
    "stale": ("stale", "@ IN A 127.0.0.16\n"),
    "dead": ("dead", ""),
}


def run(*args, cwd):
    return subprocess.run(args, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def name_wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".") if label) + b"\0"


class Front:
    """UDP and TCP on the port that is told to the world; answers the names in `canned`, hands all else to nsd."""

    def __init__(self, port, behind, canned, failing):
        self.behind, self.canned, self.over = behind, canned, False
        self.failing = {name_wire(n) for n in failing}
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", port))
        self.tcp = socket.socket()
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.tcp.bind(("127.0.0.1", port))
        self.tcp.listen(50)
        for loop in self.datagrams, self.streams:
            threading.Thread(target=loop, daemon=True).start()

    def answer(self, query, kind):
        name = query[12:query.find(b"\0", 12) + 1].lower()
        if name in self.failing:
            return query[:2] + b"\x84\2" + query[4:6] + b"\0\0\0\0\0\0" + query[12:12 + len(name) + 4]
        for name, records in self.canned.items():
            question = name_wire(name) + b"\0\x34\0\1"
            if query[12:12 + len(question)].lower() == question:
                return query[:2] + b"\x84\0\0\1\0\2\0\0\0\0" + question + b"".join(b"\xc0\x0c" + r for r in records)
        with socket.socket(socket.AF_INET, kind) as s:
            s.settimeout(5)
            s.connect(("127.0.0.1", self.behind))
            if kind == socket.SOCK_DGRAM:
                s.send(query)
                return s.recv(65536)
            s.sendall(struct.pack("!H", len(query)) + query)
            with s.makefile("rb") as f:
                return f.read(struct.unpack("!H", f.read(2))[0])

    def one_datagram(self, query, peer):
        try:
            self.udp.sendto(self.answer(query, socket.SOCK_DGRAM), peer)
        except OSError:
            pass

    def datagrams(self):
        while not self.over:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            threading.Thread(target=self.one_datagram, args=(query, peer), daemon=True).start()

    def one_stream(self, c):
        try:
            with c, c.makefile("rb") as f:
                while head := f.read(2):
                    reply = self.answer(f.read(struct.unpack("!H", head)[0]), socket.SOCK_STREAM)
                    c.sendall(struct.pack("!H", len(reply)) + reply)
        except OSError:
            pass

    def streams(self):
        while not self.over:
            try:
                c, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.one_stream, args=(c,), daemon=True).start()

    def stop(self):
        self.over = True
        for s in self.udp, self.tcp:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


class SignedTree:
    def __init__(self, folder, port, zones=None, failing=()):
        self.dir = pathlib.Path(folder)
        self.port = port
        zones = dict(zones or ZONES)
        self.ds, self.canned = {}, {}
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.behind = s.getsockname()[1]
        # children first: a parent holds their DS
        for name in sorted(zones, key=lambda z: -z.count(".") - 1):
            self.make(name, *zones[name], [z for z in zones if z.partition(".")[2] == name])
        self.make("", "signed", "ns.root IN A 127.0.0.1\n", [z for z in zones if "." not in z])
        self.anchor = self.dir / "anchor"
        self.anchor.write_text(f"; the root of this test\n\n{self.ds['']}\n")
        (self.dir / "nsd.conf").write_text(f"""server:
 ip-address: 127.0.0.1@{self.behind}
 port: {self.behind}
 do-ip6: no
 username: ""
 zonesdir: "{self.dir}"
 database: ""
 pidfile: ""
 zonelistfile: "{self.dir}/zone.list"
 xfrdfile: "{self.dir}/xfrd.state"
 server-count: 1
remote-control:
 control-enable: no
""" + "".join(f'zone:\n name: "{z or "."}"\n zonefile: "{self.file(z)}"\n' for z in [*zones, ""]))
        self.proc = subprocess.Popen(["nsd", "-d", "-c", str(self.dir / "nsd.conf")], cwd=self.dir, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=(self.dir / "nsd.log").open("w"))
        self.front = Front(port, self.behind, self.canned, failing)
        self.wait()

    @staticmethod
    def file(zone):
        return (zone or "root") + ".zone"

    def make(self, name, kind, records, children):
        origin = name + "." if name else "."
        if kind == "dead":
            return
        text = HEAD.format(origin=origin) + records + f"\n$ORIGIN {origin}\n"
        for child in children:
            text += f"{child}. IN NS ns.root.\n" + (self.ds[child] + "\n" if child in self.ds else "")
        (self.dir / self.file(name)).write_text(text)
        if kind != "plain":
            self.sign(name, origin, kind)

    def sign(self, name, origin, kind):
        path = self.dir / self.file(name)
        key = run("ldns-keygen", "-r", "/dev/urandom", "-a", "ECDSAP256SHA256", "-k", origin, cwd=self.dir)
        self.ds[name] = (self.dir / f"{key}.ds").read_text().strip()
        options = ["-n"] if kind == "nsec3" else ["-i", "20200101000000", "-e", "20200201000000"] if kind == "stale" else []
        run("ldns-signzone", *options, "-f", str(path), str(path), key, cwd=self.dir)
        path.write_text(re.sub(r"(?m)^(\S+)\t60\tIN\tTLSA\t(\\# 0|3 1 1) *\n(.*RRSIG\tTLSA.*)\n", self.can, path.read_text()))
        if kind == "bogus":
            text = path.read_text()
            assert "127.0.0.66" in text
            path.write_text(text.replace("127.0.0.66", "127.0.0.67").replace("TLSA\t3 1 1 00", "TLSA\t3 1 1 ff").replace("MX\t66 ", "MX\t67 "))

    def can(self, match):
        """A record too short for a server's parser and its RRSIG, as they go over the wire behind the owner's name."""
        short = b"\3\1\1" if match.group(2) == "3 1 1" else b""
        _, _, _, _, _, algorithm, labels, ttl, end, begin, tag, signer, signature = match.group(3).split()
        when = [calendar.timegm(time.strptime(t, "%Y%m%d%H%M%S")) for t in (end, begin)]
        data = struct.pack("!HBBIIIH", 52, int(algorithm), int(labels), int(ttl), *when, int(tag)) + name_wire(signer) + base64.b64decode(signature)
        self.canned[match.group(1)] = [struct.pack("!HHIH", 52, 1, 60, len(short)) + short, struct.pack("!HHIH", 46, 1, 60, len(data)) + data]
        return ""

    def wait(self):
        query = b"\0\1\0\0\0\1\0\0\0\0\0\0\0\0\6\0\1"  # . SOA
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.1)
            for _ in range(100):
                s.sendto(query, ("127.0.0.1", self.port))
                try:
                    if s.recv(512)[3] & 15 == 0:
                        return
                except OSError:
                    time.sleep(0.05)
        self.stop()
        raise RuntimeError("nsd does not answer: " + (self.dir / "nsd.log").read_text())

    def stop(self):
        self.front.stop()
        self.proc.terminate()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()


def main():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    tree = SignedTree(sys.argv[1], port)
    try:
        print(tree.port, tree.anchor, flush=True)
        sys.stdin.read()
    finally:
        tree.stop()


if __name__ == "__main__":
    main()
