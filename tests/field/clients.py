"""Other sending programs, told to require TLS and to verify nothing, so that all are asked the same by `postrider probe client --expect encrypt`.

Use: with CLIENTS[name](folder, certificate, port) as (command, version): ...
The command sends one message to 127.0.0.1:port and is run anew for each case.  A program with a queue begins each case with an empty one,
and forgets what it learned of the address.
"""
import contextlib
import pathlib
import shutil
import subprocess

from servers import NPM_SECONDS, CannotPrepare, free_port, pair, root_of

NODEMAILER = "nodemailer@7.0.10"
MESSAGE = "Subject: probe\\r\\n\\r\\nHello.\\r\\n"   # for printf


def debian(package):
    return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def postrider(folder, certificate, port):
    from conftest import BINARY
    yield (["sh", "-c", f"printf '{MESSAGE}' | '{BINARY}' client --from a@example.org --to b@example.org --server 127.0.0.1:{port} --tls encrypt --timeout 20"],
           subprocess.run([BINARY, "--version"], capture_output=True, text=True).stdout.split()[1])


@contextlib.contextmanager
def swaks(folder, certificate, port):
    yield (["swaks", "--server", "127.0.0.1", "--port", str(port), "--tls", "--helo", "client.example", "--from", "a@example.org", "--to", "b@example.org",
            "--timeout", "10", "--body", "Hello"], debian("swaks"))


@contextlib.contextmanager
def curl(folder, certificate, port):
    yield (["sh", "-c", f"printf '{MESSAGE}' | curl -s -k -m 20 --ssl-reqd --mail-from a@example.org --mail-rcpt b@example.org --upload-file - smtp://127.0.0.1:{port}"],
           debian("curl"))


SMTPLIB = """
import smtplib, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
s = smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=10)
s.starttls(context=context)
s.sendmail("a@example.org", ["b@example.org"], "Subject: probe\\r\\n\\r\\nHello.\\r\\n")
s.quit()
"""


@contextlib.contextmanager
def smtplib(folder, certificate, port):
    yield ["/usr/bin/python3", "-c", SMTPLIB, str(port)], debian("python3.11") or debian("python3")


@contextlib.contextmanager
def msmtp(folder, certificate, port):
    with root_of(folder, "msmtp") as root:
        send = (f"printf '{MESSAGE}' | msmtp --host=127.0.0.1 --port={port} --tls=on --tls-starttls=on --tls-certcheck=off --auth=off --timeout=10 "
                "--from=a@example.org b@example.org")
        yield root.inside("sh", "-c", send), root.version()


NODE = """
const send = require('nodemailer').createTransport({host: '127.0.0.1', port: +process.argv[2], requireTLS: true, tls: {rejectUnauthorized: false},
  connectionTimeout: 10000, greetingTimeout: 10000, socketTimeout: 10000});
send.sendMail({from: 'a@example.org', to: 'b@example.org', subject: 'probe', text: 'Hello.'}).then(() => process.exit(0), () => process.exit(1));
"""


@contextlib.contextmanager
def nodemailer(folder, certificate, port):
    """Not a Debian package: by npm, on this machine's node."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise CannotPrepare("no node and npm here")
    folder.mkdir(parents=True, exist_ok=True)
    r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", NODEMAILER], cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS,
                       stdin=subprocess.DEVNULL)
    if r.returncode:
        raise CannotPrepare("npm install: " + r.stderr[-500:])
    (folder / "send.js").write_text(NODE)
    yield ["node", str(folder / "send.js"), str(port)], NODEMAILER.partition("@")[2]


SUBMIT = ("import smtplib, subprocess, sys\n"
          "subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
          "s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=20)\n"
          "s.sendmail('a@example.org', ['b@example.org'], 'Subject: probe\\r\\n\\r\\nHello.\\r\\n')\n")


@contextlib.contextmanager
def postfix(folder, certificate, port):
    with root_of(folder, "postfix") as root:
        p = root.start(free_port(), certificate, dict(
            relayhost=f"[127.0.0.1]:{port}", smtp_tls_security_level="encrypt", default_destination_concurrency_failed_cohort_limit="0",
            minimal_backoff_time="300s", queue_run_delay="300s", smtp_helo_timeout="15s", smtp_starttls_timeout="15s", smtp_mail_timeout="15s",
            smtp_quit_timeout="5s"))
        yield ["/usr/bin/python3", "-c", SUBMIT, str(p.port), *root.inside("postsuper", "-d", "ALL")], root.version()


EXIM = """
primary_hostname = client.example
tls_advertise_hosts =
host_lookup =
keep_environment =
never_users =
log_file_path = /var/log/exim4/%slog
begin acl
begin routers
r:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {port}
  hosts_require_tls = *
  tls_try_verify_hosts =
  tls_verify_certificates =
  hosts_try_dane =
  command_timeout = 15s
begin retry
* * F,1h,1h
"""


@contextlib.contextmanager
def exim(folder, certificate, port):
    with root_of(folder, "exim4-daemon-light") as root:
        pair(root, certificate)
        root.write("/etc/exim4/exim4.conf", EXIM.format(port=port))
        send = (f"rm -rf /var/spool/exim4/db/* /var/spool/exim4/input/* /var/spool/exim4/msglog/*; printf '{MESSAGE}' | "
                "timeout 40 exim4 -odf -f a@example.org b@example.org")
        yield root.inside("sh", "-c", send), root.version()


OPENSMTPD = """
action "out" relay host "smtp+tls://127.0.0.1:{port}" tls no-verify
match from any for any action "out"
"""
# it keeps an address that failed apart for ever longer times: so it is started anew, with an empty queue, and ends when that is empty, or after 7 s
OPENSMTPD_SEND = """rm -rf /var/spool/smtpd/queue/* /var/spool/smtpd/incoming/*
smtpd -d >/dev/null 2>&1 &
for i in $(seq 100); do smtpctl show status >/dev/null 2>&1 && break; sleep 0.1; done
printf '%s' | sendmail -f a@example.org b@example.org
for i in $(seq 70); do sleep 0.1; smtpctl show queue | grep -q . || break; done"""


@contextlib.contextmanager
def opensmtpd(folder, certificate, port):
    with root_of(folder, "opensmtpd", suite="trixie") as root:
        pair(root, certificate)
        root.write("/etc/ssl/certs/ca-certificates.crt", pathlib.Path(certificate.chain).read_text())
        root.write("/etc/smtpd.conf", OPENSMTPD.format(port=port))
        begin = 'umount -l "$1/proc"; mount -t proc proc "$1/proc" && exec chroot "$1" sh -c "$2"'
        yield (["unshare", "--pid", "--fork", "--kill-child=KILL", "nsenter", "-t", str(root.inner), "--mount", "sh", "-c", begin, "begin", str(root.root),
                OPENSMTPD_SEND % MESSAGE], root.version())


CLIENTS = {"Postrider": postrider, "Postfix": postfix, "Exim": exim, "OpenSMTPD": opensmtpd, "swaks": swaks, "msmtp": msmtp, "curl": curl, "smtplib": smtplib,
           "nodemailer": nodemailer}
