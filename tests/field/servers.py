"""Other receiving servers, each in a root of its own (tests/integration/mta.py), as Debian packages them, configured to take mail for field.test.

Use: with SERVERS[name](folder, certificate) as (port, version): ...
Configurations are the packages' defaults but for what a server on loopback needs: port, certificate, a domain that it takes mail
for, no DNS, no limits by address; where it is one line more, also a login inside TLS (LOGIN) and a second address, as of a farm (FARM).
What cannot be had here is said by CannotPrepare.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from conftest import Postrider, free_port, make_certificate  # noqa: E402, F401
import mta  # noqa: E402
from mta import CannotPrepare, PostfixRoot  # noqa: E402

mta.DEBOOTSTRAP_SECONDS = 900   # nobody waits for this
mta.INSTALL_SECONDS = 600

START_SECONDS = 90
NPM_SECONDS = 240
HARAKA = "Haraka@3.3.4"


class Root(PostfixRoot):
    def __init__(self, folder, *packages, suite=None):
        super().__init__(folder)
        self.packages, self.suite = packages, suite

    def said_inside(self, *args):
        """What a command in the root prints."""
        r = subprocess.run(self.inside(*args), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        return r.stdout + r.stderr

    def version(self):
        return self.said_inside("dpkg-query", "-W", "-f", "${Version}", self.packages[0]).strip()

    def write(self, inside, text, mode=0o644):
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def must(self, *args):
        r = subprocess.run(self.inside(*args), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        if r.returncode:
            raise CannotPrepare(f"{args}: {r.stdout[-500:]}{r.stderr[-500:]}")


class Daemon:
    """A process with a pid namespace of its own: the end of its first process is the end of them all."""

    def __init__(self, command, port, log, root=None, address="127.0.0.1"):
        self.log = pathlib.Path(log)
        if root:
            begin = 'umount -l "$1/proc"; mount -t proc proc "$1/proc" && r="$1" && shift && exec chroot "$r" "$@"'
            command = ["nsenter", "-t", str(root.inner), "--mount", "sh", "-c", begin, "begin", str(root.root), *command]
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child=KILL", *command], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while not answers(port, address):
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise CannotPrepare(f"{command[-3:]}: does not answer on port {port}: {self.log.read_text(errors='replace')[-800:]}")
            time.sleep(0.1)

    def close(self):
        with contextlib.suppress(OSError, ProcessLookupError):
            for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


def answers(port, address):
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1) as s:
        s.settimeout(8)
        return s.recv(3) == b"220"
    return False


@contextlib.contextmanager
def root_of(folder, *packages, suite=None):
    root = Root(folder, *packages, suite=suite)
    try:
        root.prepare()
        yield root
    finally:
        root.close()


# ---- each server ----

@contextlib.contextmanager
def postrider(folder, certificate):
    p = Postrider(folder, certificate, hostname="field.test", extra='domain "field.test" { deliver = "discard" }')
    here = f'"127.0.0.1:{p.port}"'
    p.config_path.write_text(p.config_path.read_text().replace(here, f'{here}, "{SECOND}:{p.port}"'))
    p.start()
    try:
        from conftest import BINARY
        yield p.port, subprocess.run([BINARY, "--version"], capture_output=True, text=True).stdout.split()[1]
    finally:
        p.stop()


@contextlib.contextmanager
def postfix(folder, certificate):
    with root_of(folder, "postfix") as root:
        port = free_port()
        root.start(port, certificate, {"virtual_mailbox_domains": "", "relay_domains": "field.test", "relay_transport": "discard:",
                                       "smtpd_relay_restrictions": "permit_auth_destination, reject", "mynetworks": "",
                                       "smtpd_client_connection_count_limit": "0", "smtpd_peername_lookup": "no"})
        yield port, root.version()


EXIM = """
primary_hostname = field.test
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1 : {second}
tls_advertise_hosts = *
tls_certificate = /etc/field/cert.pem
tls_privatekey = /etc/field/key.pem
acl_smtp_rcpt = rcpt
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
never_users = root
log_file_path = /var/log/exim4/%slog
begin acl
rcpt:
  accept domains = field.test
  deny
begin routers
r:
  driver = redirect
  data = :blackhole:
begin transports
begin retry
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{user}}}}{{eq{{$auth3}}{{secret}}}}}}}}
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


@contextlib.contextmanager
def exim(folder, certificate):
    with root_of(folder, "exim4-daemon-light") as root:
        port = free_port()
        pair(root, certificate)
        root.must("chown", "-R", "root:Debian-exim", "/etc/field")
        root.write("/etc/exim4/exim4.conf", EXIM.format(port=port, second=SECOND))
        d = Daemon(["/usr/sbin/exim4", "-bdf"], port, folder / "exim.log", root)
        try:
            yield port, root.version()
        finally:
            d.close()


OPENSMTPD = """
pki field cert "/etc/field/cert.pem"
pki field key "/etc/field/key.pem"
table v {{ "@" = "nobody" }}
table creds {{ "user" = "{hash}" }}
listen on 127.0.0.1 port {port} tls pki field hostname field.test auth-optional <creds>
listen on {second} port {port} tls pki field hostname field.test auth-optional <creds>
action "act" mda "/bin/true" virtual <v>
match from any for domain "field.test" action "act"
"""


@contextlib.contextmanager
def opensmtpd(folder, certificate):
    """Of Debian 13: the one of 12 shakes no hands with that release's OpenSSL."""
    with root_of(folder, "opensmtpd", suite="trixie") as root:
        port = free_port()
        pair(root, certificate)
        secret = subprocess.run(["openssl", "passwd", "-6", "secret"], capture_output=True, text=True, check=True).stdout.strip()
        root.write("/etc/ssl/certs/ca-certificates.crt", pathlib.Path(certificate.chain).read_text())   # it does not start without a file there
        root.write("/etc/smtpd.conf", OPENSMTPD.format(port=port, second=SECOND, hash=secret))
        d = Daemon(["/usr/sbin/smtpd", "-d"], port, folder / "opensmtpd.log", root)
        try:
            yield port, root.version()
        finally:
            d.close()


SENDMAIL = """divert(-1)
include(`/usr/share/sendmail/cf/m4/cf.m4')
divert(0)dnl
OSTYPE(`debian')dnl
define(`confCW_FILE', `/dev/null')dnl
define(`ALIAS_FILE', `')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/field/service.switch')dnl
define(`confTO_IDENT', `0s')dnl
define(`confDOMAIN_NAME', `field.test')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confDELAY_LA', `1000')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
define(`confSERVER_CERT', `/etc/field/cert.pem')dnl
define(`confSERVER_KEY', `/etc/field/key.pem')dnl
define(`confCACERT_PATH', `/etc/field')dnl
define(`confCACERT', `/etc/field/cert.pem')dnl
define(`confTLS_SRV_OPTIONS', `V')dnl
define(`confBIND_OPTS', `-DNSRCH')dnl
undefine(`confDAEMON_OPTIONS')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`mailertable', `hash -o /etc/field/mailertable')dnl
FEATURE(`access_db', `hash -T<TMPF> -o /etc/field/access')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port=%d, Addr=127.0.0.1')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA2, Port=%d, Addr=%s')dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
MAILER_DEFINITIONS
Mnull, P=[FILE], F=lsDFMu, S=EnvFromSMTP/HdrFromSMTP, R=EnvToSMTP, A=FILE /dev/null
"""
SENDMAIL_MAKE = """cd /etc/field && m4 sendmail.mc > sendmail.cf && makemap hash mailertable < mailertable && makemap hash access < access &&
mkdir -p /var/spool/mqueue && chown root:root /etc/field && chmod 755 /etc/field && chmod 600 key.pem"""


@contextlib.contextmanager
def sendmail(folder, certificate):
    with root_of(folder, "sendmail-bin", "sendmail-base", "sendmail-cf", "m4") as root:
        port = free_port()
        pair(root, certificate)
        root.write("/etc/field/sendmail.mc", SENDMAIL % (port, port, SECOND))
        root.write("/etc/field/service.switch", "hosts files\naliases files\n")
        root.write("/etc/field/mailertable", "field.test\tnull:any\n")
        root.write("/etc/field/access", "To:field.test\tRELAY\n")
        root.must("sh", "-c", SENDMAIL_MAKE)
        d = Daemon(["/usr/sbin/sendmail", "-C/etc/field/sendmail.cf", "-bD"], port, folder / "sendmail.log", root)
        try:
            yield port, root.version()
        finally:
            d.close()


AIOSMTPD = """
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
class Taker:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if not address.endswith("@field.test"):
            return "550 5.7.1 Not ours"
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"
def known(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"user", b"secret"))
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[2], sys.argv[3])
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Taker(), hostname="field.test", tls_context=context, authenticator=known, loop=loop), sys.argv[4:], int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def aiosmtpd(folder, certificate):
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "server.py"
    program.write_text(AIOSMTPD)
    port = free_port()
    d = Daemon(["/usr/bin/python3", str(program), str(port), certificate.chain, certificate.key, "127.0.0.1", SECOND], port, folder / "aiosmtpd.log")
    try:
        r = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "python3-aiosmtpd"], capture_output=True, text=True)
        yield port, r.stdout.strip()
    finally:
        d.close()


DOVECOT = """
protocols = submission
base_dir = /run/field-dovecot
mail_location = maildir:/tmp/field-mail
log_path = /dev/stderr
ssl = yes
ssl_cert = </etc/field/cert.pem
ssl_key = </etc/field/key.pem
hostname = field.test
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
submission_relay_trusted = no
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/tmp
}}
service submission-login {{
  inet_listener submission {{
    address = 127.0.0.2
    port = {port}
  }}
}}
"""


@contextlib.contextmanager
def dovecot(folder, certificate):
    """A submission proxy: behind it stands aiosmtpd, which takes what it is given.  At an address that is not ours, for it trusts its own."""
    with aiosmtpd(folder / "behind", certificate) as (relay, _), root_of(folder, "dovecot-submissiond") as root:
        port = free_port()
        pair(root, certificate)
        root.write("/etc/dovecot/dovecot.conf", DOVECOT.format(port=port, relay=relay))
        d = Daemon(["/usr/sbin/dovecot", "-F"], port, folder / "dovecot.log", root, ADDRESS["Dovecot submission"])
        try:
            yield port, root.version()
        finally:
            d.close()


HARAKA_PLUGIN = """
exports.hook_mail = (next) => next(OK)
exports.hook_rcpt = (next, c, p) => next(p[0].host === 'field.test' ? OK : DENY)
exports.hook_queue = (next) => next(OK, 'discarded')
"""


@contextlib.contextmanager
def haraka(folder, certificate):
    """Not a Debian package: by npm, on this machine's node."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise CannotPrepare("no node and npm here")
    folder.mkdir(parents=True, exist_ok=True)
    r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--omit=optional", HARAKA], cwd=folder, capture_output=True, text=True,
                       timeout=NPM_SECONDS, stdin=subprocess.DEVNULL)
    if r.returncode:
        raise CannotPrepare("npm install: " + r.stderr[-500:])
    port = free_port()
    site = folder / "site"
    for name, text in {"config/smtp.ini": f"listen=127.0.0.1:{port},{SECOND}:{port}\nnodes=0\ndaemonize=false\n", "config/host_list": "field.test\n",
                       "config/me": "field.test\n", "config/loglevel": "LOGWARN\n", "config/tls.ini": "[main]\nkey=tls_key.pem\ncert=tls_cert.pem\n",
                       "config/plugins": "tls\nauth/flat_file\nfield\n", "config/auth_flat_file.ini": "[core]\nmethods=PLAIN\n[users]\nuser=secret\n", "plugins/field.js": HARAKA_PLUGIN}.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    (site / "queue").mkdir(exist_ok=True)
    shutil.copy(certificate.chain, site / "config/tls_cert.pem")
    shutil.copy(certificate.key, site / "config/tls_key.pem")
    shutil.copy(folder / "node_modules/Haraka/config/connection.ini", site / "config")   # it dies of a greeting without its own defaults
    subprocess.run(["openssl", "dhparam", "-dsaparam", "-out", site / "config/dhparams.pem", "2048"], capture_output=True, timeout=120, check=True)
    d = Daemon(["node", str(folder / "node_modules/Haraka/bin/haraka"), "-c", str(site)], port, folder / "haraka.log")
    try:
        yield port, re.search(r'"version": "([^"]+)"', (folder / "node_modules/Haraka/package.json").read_text()).group(1)
    finally:
        d.close()


def pair(root, certificate):
    """The certificate; and names without a DNS, which some ask for their own before they serve."""
    root.write("/etc/hosts", f"127.0.0.1 localhost field.test {socket.gethostname()}\n")
    root.write("/etc/resolv.conf", "")
    root.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\n")
    root.write("/etc/field/cert.pem", pathlib.Path(certificate.chain).read_text())
    root.write("/etc/field/key.pem", pathlib.Path(certificate.key).read_text(), 0o640)


SERVERS = {"Postrider": postrider, "Postfix": postfix, "Exim": exim, "OpenSMTPD": opensmtpd, "Sendmail": sendmail, "Haraka": haraka,
           "aiosmtpd": aiosmtpd, "Dovecot submission": dovecot}
ADDRESS = {"Dovecot submission": "127.0.0.2"}
SECOND = "127.0.0.3"
LOGIN = dict.fromkeys(["Exim", "OpenSMTPD", "Haraka", "aiosmtpd", "Dovecot submission"], "user:secret")
FARM = {"Postrider", "Exim", "OpenSMTPD", "Sendmail", "Haraka", "aiosmtpd"}   # they listen at SECOND too
