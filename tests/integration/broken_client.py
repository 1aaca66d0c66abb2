#!/usr/bin/python3
"""A sending program with one fault at a time, or none: the controls of `postrider probe client`.

    broken_client.py FAULT ADDRESS PORT CA [may|verify|require]

Sends one message over real sockets and real TLS (by memory, so that it can go on in clear where it should not).  FAULT "sound": it waits for
each reply, forgets everything at the handshake, goes by EHLO alone, ends at whatever is not as it should be, and verifies the server by CA
(may: it does not, and sends in clear where STARTTLS is not offered; require: its message asks for REQUIRETLS).  FAULTS says which case each
fault is for.  Exit status 0 when the message was acknowledged.
"""
import contextlib
import select
import socket
import ssl
import sys

FAULTS = {
    101: "no_starttls", 102: "no_ehlo", 103: "impatient", 104: "knows_250_alone", 201: "keeps_size", 202: "keeps_parameters",
    203: "keeps_pipelining", 204: "keeps_chunking", 205: "keeps_auth", 206: "second_starttls", 207: "mail_without_greeting",
    301: "clear_when_stripped", 302: "clear_when_refused", 303: "clear_by_helo", 304: "any_2xx_is_go", 305: "clear_after_failure",
    306: "clear_after_failure", 307: "clear_next_time", 308: "old_tls", 401: "keeps_buffer", 402: "keeps_buffer", 403: "keeps_buffer",
    404: "believes_all", 405: "believes_all", 501: "verifies_nothing", 502: "verifies_nothing", 503: "verifies_nothing",
    601: "requires_by_clear", 602: "requires_nothing", 603: "requires_nothing", 701: "reads_no_greeting", 702: "reads_no_mail_reply",
    703: "reads_first_line", 704: "cuts_lines", 705: "reads_on", 706: "reads_no_data_reply", 707: "data_anyway", 708: "clear_after_close",
}
BODY = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: probe\r\n\r\nHello.\r\n"
LINE_MAX, LINES_MAX = 2048, 200


class Stop(Exception):
    pass


class Client:
    def __init__(self, fault, address, port, ca, mode):
        self.fault, self.where, self.ca, self.mode = fault, (address, int(port)), ca, mode
        self.buffer, self.tls, self.delivered = b"", None, False
        self.may = mode == "may"

    # ---- octets ----

    def send(self, data):
        if self.tls:
            self.tls.write(data)
            data = self.outgoing.read()
        self.sock.sendall(data)

    def fill(self, seconds=20):
        """More octets into the buffer.  False: none came in time."""
        while True:
            if self.tls:
                with contextlib.suppress(ssl.SSLWantReadError):
                    data = self.tls.read(65536)
                    if not data:
                        raise Stop("close_notify")
                    self.buffer += data
                    return True
            if not select.select([self.sock], [], [], seconds)[0]:
                return False
            data = self.sock.recv(65536)
            if not data:
                raise Stop("closed")
            if not self.tls:
                self.buffer += data
                return True
            self.incoming.write(data)

    def line(self):
        while b"\n" not in self.buffer:
            if len(self.buffer) > LINE_MAX and self.fault != "reads_on":
                if self.fault == "cuts_lines":
                    break
                raise Stop("an endless line")
            if not self.fill():
                raise Stop("no reply")
        end = self.buffer.find(b"\n") + 1 or len(self.buffer)
        if self.fault == "cuts_lines":
            end = min(end, 512)   # as with fgets and a buffer of that size
        if end > LINE_MAX:
            raise Stop("an overlong line")
        line, self.buffer = self.buffer[:end], self.buffer[end:]
        return line.rstrip(b"\r\n")

    def reply(self):
        lines = []
        while True:
            line = self.line()
            if not line[:3].isdigit():
                if self.fault == "cuts_lines":
                    continue
                raise Stop("no reply")
            lines.append(line)
            if line[3:4] != b"-":
                break
            if len(lines) > LINES_MAX and self.fault != "reads_on":
                raise Stop("a reply without end")
        if lines[0][:3] != lines[-1][:3] and self.fault not in ("reads_first_line", "cuts_lines"):
            raise Stop("several codes in one reply")
        if self.fault == "knows_250_alone" and lines[-1][:3] == b"250" and len(lines[-1]) == 3:
            raise Stop("no text")
        return int((lines[0] if self.fault == "reads_first_line" else lines[-1])[:3]), [w[4:].decode("latin-1").upper() for w in lines[1:]]

    def quiet(self):
        """Nothing has come that was not asked for."""
        if self.fault in ("believes_all", "keeps_buffer", "cuts_lines"):
            return
        if not self.buffer:
            with contextlib.suppress(Stop):
                self.fill(0)
        if self.buffer:
            raise Stop("a reply that was not asked for")

    def ask(self, line):
        self.quiet()
        self.send(line.encode() + b"\r\n")
        return self.reply()

    # ---- TLS ----

    def context(self):
        context = ssl.create_default_context(cafile=None if self.may else self.ca)
        if self.fault == "old_tls":
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("ALL:@SECLEVEL=0")
        if self.may or self.fault == "verifies_nothing":
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def shake(self):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                data = self.sock.recv(65536)
                if not data:
                    raise Stop("closed in the handshake")
                self.incoming.write(data)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.sock.sendall(self.outgoing.read())
                raise
        self.sock.sendall(self.outgoing.read())
        self.tls = tls

    def starttls(self):
        code, _ = self.ask("STARTTLS")
        if code != 220 and not (self.fault == "any_2xx_is_go" and code // 100 == 2):
            if self.fault == "clear_when_refused":
                return
            raise Stop("STARTTLS refused")
        if self.fault == "keeps_buffer":
            select.select([self.sock], [], [], 0.1)
            with contextlib.suppress(BlockingIOError):
                self.sock.setblocking(False)
                self.buffer += self.sock.recv(65536)
            self.sock.setblocking(True)
        elif select.select([self.sock], [], [], 0.1)[0] or self.buffer:
            raise Stop("octets behind the 220")
        try:
            self.shake()
        except (ssl.SSLError, Stop):
            if self.fault != "clear_after_failure":
                raise
            self.ask_in_clear()
        if self.fault == "second_starttls" and self.tls:
            self.send(b"EHLO client.example\r\n")
            if "STARTTLS" in self.reply()[1]:
                self.ask("STARTTLS")

    def ask_in_clear(self):
        self.tls, self.buffer = None, b""
        self.sock.sendall(b"EHLO client.example\r\nMAIL FROM:<a@example.org>\r\n")
        raise Stop("went on in clear")

    # ---- the message ----

    def hello(self):
        code, words = self.ask("EHLO client.example")
        if code != 250:
            if self.fault == "cuts_lines" or (self.fault == "clear_by_helo" and not self.tls):
                code, words = self.ask("HELO client.example")[0], []
            elif self.fault == "mail_without_greeting" and self.tls:
                return []
        if code != 250:
            raise Stop("EHLO refused")
        return words

    def mail(self, words, clear):
        size = next((w.split() for w in (clear if self.fault == "keeps_size" else words) if w.startswith("SIZE ")), None)
        if size and int(size[1]) < len(BODY):
            raise Stop("too large")
        line = "MAIL FROM:<a@example.org>"
        if "8BITMIME" in (clear if self.fault == "keeps_parameters" else words):
            line += " BODY=8BITMIME"
        if self.mode == "require" and self.fault != "requires_nothing":
            if "REQUIRETLS" not in words or not self.tls:
                raise Stop("REQUIRETLS is not offered")
            line += " REQUIRETLS"
        if self.fault == "requires_by_clear" and "REQUIRETLS" in clear:
            line += " REQUIRETLS"
        return line

    def deliver(self, words, clear):
        if self.fault == "keeps_auth" and any(w.startswith("AUTH") for w in clear):
            self.ask("AUTH PLAIN AHVzZXIAc2VjcmV0")
        line = self.mail(words, clear)
        if self.fault == "keeps_pipelining" and "PIPELINING" in clear:
            self.send(line.encode() + b"\r\nRCPT TO:<b@example.org>\r\n")
            codes = [self.reply()[0], self.reply()[0]]
        else:
            codes = [self.ask(line)[0]]
            if codes[0] // 100 != 2 and self.fault != "reads_no_mail_reply":
                raise Stop("MAIL refused")
            if self.fault == "clear_after_close":
                select.select([self.sock], [], [], 0.3)
                try:
                    self.fill(0)
                except Stop:
                    self.tls = None
            codes.append(self.ask("RCPT TO:<b@example.org>")[0])
        if codes[-1] // 100 != 2 and self.fault != "data_anyway":
            raise Stop("RCPT refused")
        if self.fault == "keeps_chunking" and "CHUNKING" in clear:
            self.send(f"BDAT {len(BODY)} LAST\r\n".encode() + BODY)
            code = self.reply()[0]
        else:
            if self.ask("DATA")[0] != 354 and self.fault != "reads_no_data_reply":
                raise Stop("DATA refused")
            self.send(BODY + b".\r\n")
            code = self.reply()[0]
        self.delivered = code // 100 == 2
        self.ask("QUIT")

    def attempt(self, use_tls=True):
        self.buffer, self.tls = b"", None
        self.sock = socket.create_connection(self.where, 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.fault == "impatient":
                self.send(b"EHLO client.example\r\n")
            greeting = self.reply()[0]
            if greeting != 220 and self.fault != "reads_no_greeting":
                raise Stop("turned away")
            words = clear = self.hello() if self.fault != "impatient" else self.reply()[1]
            if use_tls and "STARTTLS" in words and self.fault != "no_starttls":
                if self.fault == "keeps_auth" and any(w.startswith("AUTH") for w in words):
                    self.ask("AUTH PLAIN AHVzZXIAc2VjcmV0")
                self.starttls()
                if self.tls and self.fault != "no_ehlo":
                    words = self.hello()
            elif not self.may and use_tls and self.fault not in ("no_starttls", "clear_when_stripped", "clear_by_helo", "requires_nothing", "reads_no_greeting"):
                raise Stop("STARTTLS is not offered")
            self.deliver(words, clear)
        finally:
            self.sock.close()

    def run(self):
        try:
            self.attempt()
        except (Stop, ssl.SSLError, OSError) as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr)
            if self.fault == "clear_next_time":
                self.attempt(use_tls=False)
        return 0 if self.delivered else 1


if __name__ == "__main__":
    sys.exit(Client(*sys.argv[1:5], sys.argv[5] if len(sys.argv) > 5 else "verify").run())
