"""A receiving server with one fault at a time, or none: the controls of `postrider probe server`.

Use: s = BrokenServer(certificate, "name of a fault"); s.port; s.close()
Real sockets and real TLS (by memory, so that octets can be kept, dropped or skipped at the border as bad servers do it).  Without a
fault it is sound: it refuses STARTTLS out of place and forgets everything at the handshake.  FAULTS says which check each fault is for;
"silent", "turns_away" and "endless" are for the probe's patience, "refuses_at_once",
"ends_and_refuses", "wants_auth", "alert", "no_name", "no_tls_works" and "cr_refused" for its judgement.
"""
import base64
import contextlib
import re
import socket
import ssl
import threading
import time

FAULTS = {
    101: "offers_nonsense", 102: "no_starttls", 103: "reply_behind_220", 104: "argument_taken", 105: "dies_before_ehlo",
    106: "dies_after_helo", 107: "dies_in_transaction", 201: "starttls_in_tls", 202: "second_220", 203: "ehlo_survives",
    204: "no_helo_in_tls", 205: "name_survives", 206: "envelope_survives", 207: "requiretls_in_clear", 208: "auth_in_clear",
    209: "auth_220", 210: "auth_survives", 301: "executes_rest", 302: "executes_next", 303: "executes_silently", 304: "completes_line",
    305: "skips_clear", 401: "serves_clear", 402: "serves_after_failure", 403: "serves_after_close", 501: "drops_pipeline",
    502: "cr_ends", 601: "tls10", 602: "null_cipher", 603: "odd_group", 604: "short_key", 605: "other_name", 606: "expired",
    607: "ticket_kills", 608: "ticket_kills", 609: "renegotiates", 610: "small_hello", 611: "whole_hello", 612: "wants_sni",
    701: "end_lf_lf", 702: "end_lf_crlf", 703: "end_crlf_lf", 704: "end_cr_cr", 705: "end_crlf_cr", 706: "bare_unanswered",
}
ENDS = {"end_lf_lf": b"\n.\n", "end_lf_crlf": b"\n.\r\n", "end_crlf_lf": b"\r\n.\n", "end_cr_cr": b"\r.\r", "end_crlf_cr": b"\r\n.\r", "ends_and_refuses": b"\n.\n"}
ALLOW_CLIENT_RENEGOTIATION = 1 << 8   # OpenSSL's SSL_OP_..., which the ssl module does not name
LOGIN = base64.b64encode(b"\0user\0secret").decode()


class Closed(Exception):
    pass


class BrokenServer:
    def __init__(self, certificate, fault=None, address="127.0.0.1", port=0, words=(), auth=False, like=None):
        self.fault, self.words, self.auth = fault, words, auth or fault in ("auth_in_clear", "auth_220", "auth_survives")
        self.context = like.context if like else self.make_context(certificate)   # like: a server whose tickets are known here
        self.commands = []          # (inside TLS, line) of all sessions
        self.connections = self.most_together = 0
        self.sessions = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server((address, port), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def make_context(self, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.fault in ("tls10", "null_cipher", "short_key"):
            context.set_ciphers("ALL:eNULL:@SECLEVEL=0" if self.fault == "null_cipher" else "ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1 if self.fault == "tls10" else ssl.TLSVersion.TLSv1_2
        context.options |= 0 if self.fault == "renegotiates" else ssl.OP_NO_RENEGOTIATION
        if self.fault == "renegotiates":
            context.options = (context.options & ~ssl.OP_NO_RENEGOTIATION) | ALLOW_CLIENT_RENEGOTIATION
        if self.fault == "odd_group":
            context.set_ecdh_curve("secp521r1")
        if self.fault == "wants_sni":
            context.sni_callback = lambda obj, name, ctx: None if name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        context.load_cert_chain(certificate.chain, certificate.key)
        return context

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(self, sock)
        with self.lock:
            self.connections += 1
            self.sessions.add(session)
            # those whose peer is still there: this server may learn late that one has gone
            self.most_together = max(self.most_together, sum(s.established() for s in self.sessions))
        with contextlib.suppress(Closed, OSError, ssl.SSLError), sock:
            session.run()
        with self.lock:
            self.sessions.discard(session)

    def close(self):
        self.listener.close()


class Session:
    def __init__(self, server, sock):
        self.server, self.fault, self.sock = server, server.fault, sock
        self.tls = None
        self.buffer = b""
        self.name = self.hello = None
        self.transaction = self.recipients = 0
        self.user = None
        self.early = b""   # a ClientHello that was read too soon

    def established(self):
        """The peer has not closed."""
        try:
            return self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1
        except OSError:
            return False

    # ---- octets ----

    def receive(self):
        """More octets into the buffer, decrypted."""
        while True:
            if self.tls:
                try:
                    data = self.tls.read(65536)
                    if not data:
                        self.closed_inside()
                    break
                except ssl.SSLWantReadError:
                    self.flush()
                except ssl.SSLError:
                    self.closed_inside()
                    data = b""
                    break
            data = self.sock.recv(65536)
            if not data:
                raise Closed
            if not self.tls:
                break
            self.incoming.write(data)
        self.buffer += data

    def closed_inside(self):
        """close_notify, or an alert."""
        if self.fault != "serves_after_close":
            with contextlib.suppress(ssl.SSLError):
                self.tls.unwrap()
            self.flush()
            raise Closed
        self.buffer += self.incoming.read()
        self.tls = None

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.sock.sendall(data)

    def send(self, data):
        if self.tls:
            self.tls.write(data)
            self.flush()
        else:
            self.sock.sendall(data)

    def reply(self, text):
        self.send(text.encode() + b"\r\n")
        if self.fault == "drops_pipeline":
            self.buffer = b""

    def line(self):
        ends = b"\r\n|\r" if self.fault == "cr_ends" else b"\r\n"
        while True:
            m = re.search(ends, self.buffer)
            if m and not (m.group() == b"\r" and m.end() == len(self.buffer)):
                line, self.buffer = self.buffer[:m.start()], self.buffer[m.end():]
                return line.decode("latin-1")
            self.receive()

    # ---- commands ----

    def run(self):
        if self.fault == "silent":
            time.sleep(5)
            raise Closed
        if self.fault == "turns_away" and self.server.connections > 1:
            self.reply("554 5.7.1 Not you")
            raise Closed
        self.reply("220 broken.test ESMTP")
        while True:
            line = self.line()
            self.server.commands.append((bool(self.tls), line))
            word, _, rest = line.partition(" ")
            if self.fault == "cr_refused" and "\r" in line:
                self.reply("250 2.0.0 Ok\r\n421 4.7.0 Too many errors")
                raise Closed
            handler = getattr(self, "do_" + word.lower(), None)
            if handler is None:
                self.reply("500 5.5.2 What is that?")
            else:
                handler(rest)

    def do_ehlo(self, name):
        if self.tls and self.fault == "no_name":
            self.reply("550 5.7.1 Not this name")
            return
        self.name, self.hello, self.transaction, self.recipients = name, "EHLO", 0, 0
        while self.fault == "endless" and self.server.connections > 1:
            self.reply("\r\n".join(["250-" + "x" * 400] * 100))
        words = ["PIPELINING", "8BITMIME", *self.server.words]
        if self.fault == "offers_nonsense":
            words.append("*STAR*")
        if (not self.tls and self.fault != "no_starttls") or self.fault == "starttls_in_tls":
            words.append("STARTTLS")
        if self.tls or self.fault == "requiretls_in_clear":
            words.append("REQUIRETLS")
        if self.server.auth and (self.tls or self.fault in ("auth_in_clear", "auth_survives")):
            words.append("AUTH PLAIN LOGIN")
        self.reply("250-broken.test\r\n" + "\r\n".join("250-" + w for w in words) + "\r\n250 HELP")

    def do_helo(self, name):
        if self.fault == "no_name":
            self.reply("550 5.7.1 Not this name")
            return
        if self.tls and self.fault == "no_helo_in_tls":
            self.reply("502 5.5.1 Only EHLO here")
            return
        self.name, self.hello, self.transaction, self.recipients = name, "HELO", 0, 0
        self.reply("250 broken.test")

    def do_noop(self, _):
        self.reply(f"250 2.0.0 Ok, {self.name}" if self.tls and self.fault == "name_survives" else "250 2.0.0 Ok")

    def do_rset(self, _):
        self.transaction = self.recipients = 0
        self.reply("250 2.0.0 Ok")

    def do_help(self, _):
        self.reply("214 2.0.0 RFC 5321")

    def do_vrfy(self, _):
        self.reply("252 2.1.5 Perhaps")

    def do_quit(self, _):
        self.reply("221 2.0.0 Bye")
        raise Closed

    def do_mail(self, _):
        if not self.hello:
            self.reply("503 5.5.1 EHLO first")
        elif self.fault == "wants_auth" and not self.user:
            self.reply("530 5.7.0 Authentication required")
        elif self.transaction:
            self.reply("503 5.5.1 Nested")
        else:
            self.transaction = 1
            self.reply("250 2.1.0 Ok")

    def do_rcpt(self, _):
        self.recipients += bool(self.transaction)
        self.reply("250 2.1.5 Ok" if self.transaction else "503 5.5.1 MAIL first")

    def do_data(self, _):
        if not self.recipients:
            self.reply("554 5.5.1 RCPT first" if self.transaction else "503 5.5.1 MAIL first")
            return
        self.reply("354 Go on")
        end = ENDS.get(self.fault, b"\r\n.\r\n")
        while True:
            found = [self.buffer.find(e) + len(e) for e in {end, b"\r\n.\r\n"} if e in self.buffer]
            if found:
                break
            if self.fault == "refuses_at_once" and b"\n.\n" in self.buffer:
                self.reply("550 5.5.2 Bare LF")
                raise Closed
            self.receive()
        body, self.buffer = self.buffer[:min(found)], self.buffer[min(found):]
        self.transaction = self.recipients = 0
        bare = re.search(rb"(?<!\r)\n|\r(?!\n)", body)
        if self.fault == "bare_unanswered" and bare:
            time.sleep(3)
            raise Closed
        if self.fault == "ends_and_refuses":
            self.reply("550 5.7.1 Spam")
            return
        self.reply("554 5.6.0 Bare line end" if bare and self.fault not in ENDS else "250 2.0.0 Taken")

    def do_auth(self, rest):
        if not self.server.auth:
            self.reply("502 5.5.1 No")
        elif self.user:
            self.reply("503 5.5.1 Already authenticated")
        elif rest == "PLAIN " + LOGIN:
            self.user = "user"
            self.reply("235 2.7.0 Ok")
        else:
            self.reply("535 5.7.8 No")

    # ---- TLS ----

    def do_starttls(self, argument):
        faults = {"second_220": self.tls, "auth_220": self.tls and self.user, "dies_before_ehlo": not self.hello and not self.tls,
                  "dies_after_helo": self.hello == "HELO", "dies_in_transaction": self.transaction}
        if faults.get(self.fault):
            self.reply("220 2.0.0 Go")
            raise Closed
        if self.tls:
            self.reply("503 5.5.1 TLS is up")
        elif self.fault == "no_starttls":
            self.reply("502 5.5.1 No")
        elif argument and self.fault != "argument_taken":
            self.reply("501 5.5.4 No argument")
        elif self.hello != "EHLO":
            self.reply("503 5.5.1 EHLO first")
        elif self.transaction and self.fault != "envelope_survives":
            self.reply("503 5.5.1 Not now")
        else:
            self.start_tls()

    def start_tls(self):
        rest, self.buffer = self.buffer, b""
        self.reply("220 2.0.0 Go" + ("\r\n250 2.0.0 Ok" if self.fault == "reply_behind_220" else ""))
        if self.fault == "executes_next":
            time.sleep(0.1)
            self.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                rest = self.sock.recv(65536)
            self.sock.settimeout(20)
            if rest[:1] == b"\x16":
                rest, self.early = b"", rest
        kept = self.user, self.name, self.hello, self.transaction
        self.user = self.name = self.hello = None
        self.transaction = self.recipients = 0
        if not self.shake():
            return
        if self.fault == "auth_survives":
            self.user = kept[0]
        if self.fault == "name_survives":
            self.name = kept[1]
        if self.fault == "ehlo_survives":
            self.hello = kept[2]
        if self.fault == "envelope_survives":
            self.transaction = kept[3]
        if self.fault in ("executes_rest", "executes_next"):
            self.buffer = rest
        elif self.fault == "completes_line":
            self.buffer = rest.rpartition(b"\n")[2]
        elif self.fault == "executes_silently" and rest.startswith(b"EHLO"):
            self.hello = "EHLO"

    def shake(self):
        """True: TLS is up.  False: it goes on in clear."""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.server.context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        first = self.early or self.sock.recv(65536)
        if self.fault == "skips_clear":
            first = first[first.find(b"\x16\x03"):] if b"\x16\x03" in first else first
        if self.fault == "no_tls_works":
            self.close()
        if not first or (self.fault == "serves_clear" and first[0] != 0x16):
            self.buffer, self.hello = first, "EHLO"
            return not first and self.close()
        if self.fault == "small_hello" and len(first) > 2000 or self.fault == "whole_hello" and len(first) < 5 + int.from_bytes(first[3:5], "big"):
            self.close()
        if self.fault == "alert" and first[0] != 0x16:
            self.sock.sendall(b"\x15\x03\x03\x00\x02\x02\x0a")   # unexpected_message, as one whose handshake has begun
            time.sleep(0.5)
            self.close()
        while True:
            self.incoming.write(first)
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                first = self.sock.recv(65536)
                if not first:
                    self.close()
            except ssl.SSLError:
                self.flush()
                if self.fault != "serves_after_failure":
                    self.close()
                return False
        self.tls = tls
        self.flush()
        if self.fault == "ticket_kills" and tls.session_reused:
            self.close()
        return True

    def close(self):
        raise Closed
