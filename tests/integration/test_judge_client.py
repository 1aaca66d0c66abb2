"""An independent judge of the client: Postrider relays to servers that err, lie, stall and vanish.

One line is one server: what is owed of TLS, what it offers, where it strays from good manners, and what must become of
the mail: D delivered, 4 deferred, 5 failed for good.  All servers are relayed to at once by one daemon; each test then
reads the log and the server's own transcript.
"""
import contextlib
import random
import re
import select
import socket
import ssl
import subprocess
import threading
import time

import pytest
from conftest import BINARY, Postrider, Talk, make_certificate, wait_for

ALL = "PIPELINING SIZE=1000000 8BITMIME DSN SMTPUTF8"
PLAIN = "8BITMIME SIZE=1000000"
BODY = b"Subject: judge\r\n\r\nbody\r\n"
CLOSE, HANG = "^", "~"


class Evil:
    """A server that is polite but for `script`: word -> reply, or a list of one per use (the last one stays).  TLS.WORD
    counts inside TLS, END is behind the final dot.  A reply that ends with ^ closes behind it, ~ is none for ever."""

    def __init__(self, words, script, cert, lmtp=False):
        self.words, self.cert, self.lmtp = words, cert, lmtp
        self.script = {k: list(v) if isinstance(v, list) else [v] for k, v in script.items()}
        self.lines, self.messages, self.ahead, self.raw = [], [], [], b""
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock = self.listener.accept()[0]
                threading.Thread(target=self.guard, args=(sock,), daemon=True).start()

    def guard(self, sock):
        with contextlib.suppress(OSError, ssl.SSLError, ValueError, EOFError), sock:
            self.serve(sock)

    def said(self, word):
        return [text for _, text in self.lines if text.upper().startswith(word)]

    def reply(self, word, default, tls):
        with self.lock:
            for key in ("TLS." + word, word) if tls else (word,):
                if key in self.script and not (tls and key == "EHLO"):
                    replies = self.script[key]
                    return replies.pop(0) if len(replies) > 1 else replies[0]
        return default

    def put(self, sock, text):
        data = text if isinstance(text, bytes) else text.encode("latin-1")
        if data.endswith(b"~"):
            time.sleep(25)
            raise EOFError
        closes = data.endswith(b"^")
        data = data.removesuffix(b"^")
        if data:
            sock.sendall(data + b"\r\n")
        if closes:
            raise EOFError

    def line(self, sock, buffer):
        while b"\n" not in buffer[0]:
            data = sock.recv(65536)
            if not data:
                raise EOFError
            buffer[0] += data
        line, buffer[0] = buffer[0].split(b"\n", 1)
        return line + b"\n"

    def exactly(self, sock, buffer, n):
        while len(buffer[0]) < n:
            data = sock.recv(65536)
            if not data:
                raise EOFError
            buffer[0] += data
        data, buffer[0] = buffer[0][:n], buffer[0][n:]
        return data

    def serve(self, sock):
        sock.settimeout(30)
        tls, buffer, mail, rcpts, chunks = False, [b""], None, [], b""
        self.put(sock, self.reply("CONNECT", "220 evil.test ESMTP", tls))
        while True:
            line = self.line(sock, buffer)
            text = line.decode("latin-1").rstrip("\r\n")
            self.lines.append((tls, text))
            word = re.split("[ :]", text)[0].upper()
            if word in ("MAIL", "RCPT"):
                time.sleep(0.02)
                self.ahead.append(bool(buffer[0]) or bool(select.select([sock], [], [], 0)[0]))
            if word in ("EHLO", "LHLO"):
                words = [w.replace("=", " ") for w in self.words.split()] + (["STARTTLS"] if self.cert and not tls else [])
                self.put(sock, self.reply(word, "\r\n".join("250-" + w for w in ["evil.test", *words][:-1]) + f"\r\n250 {words[-1]}" if words else "250 evil.test", tls).removeprefix("\r\n"))
            elif word == "STARTTLS":
                answer = self.reply(word, "220 go" if self.cert else "502 no", tls)
                self.put(sock, answer)
                if answer.startswith("220"):
                    if not self.cert:
                        self.raw += sock.recv(5)
                        sock.sendall(b"this is no handshake, whatever you say\r\n")
                        raise EOFError
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(self.cert.chain, self.cert.key)
                    sock = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
                    tls, mail, rcpts = True, None, []
            elif word == "MAIL":
                mail, rcpts, chunks = text, [], b""
                self.put(sock, self.reply(word, "250 2.1.0 ok", tls))
            elif word == "RCPT":
                answer = self.reply(word, "250 2.1.5 ok", tls)
                rcpts += [text] if answer.startswith("25") else []
                self.put(sock, answer)
            elif word == "DATA":
                answer = self.reply(word, "354 go" if rcpts else "554 5.5.1 nobody", tls)
                self.put(sock, answer)
                if not answer.startswith("354"):
                    continue
                body = b""
                while (line := self.line(sock, buffer)) != b".\r\n":
                    body += line
                self.finish(sock, mail, rcpts, re.sub(rb"(?m)^\.", b"", body), body, tls)
            elif word == "BDAT":
                data = self.exactly(sock, buffer, int(text.split()[1]))
                answer = self.reply(word, "250 2.0.0 chunk", tls)
                chunks += data if answer.startswith("2") else b""
                if text.upper().endswith(" LAST") and answer.startswith("2"):
                    self.finish(sock, mail, rcpts, chunks, chunks, tls)
                else:
                    self.put(sock, answer)
            elif word == "QUIT":
                self.put(sock, self.reply(word, "221 bye", tls))
                return
            else:
                self.put(sock, self.reply(word, "250 2.0.0 ok", tls))

    def finish(self, sock, mail, rcpts, body, raw, tls):
        for n in range(len(rcpts) if self.lmtp else 1):
            answer = self.reply("END", "250 2.0.0 taken", tls)
            if answer.startswith("2") and n == 0:
                self.messages.append({"from": mail, "to": list(rcpts), "body": body, "raw": raw, "tls": tls})
            self.put(sock, answer)


def clear_mail(e):
    return [text for tls, text in e.lines if not tls and re.match("(?i)MAIL|RCPT|DATA|BDAT|AUTH", text)]


def no_clear_mail(e, p):
    assert not clear_mail(e), e.lines


def no_mail(e, p):
    assert not e.said("MAIL"), e.lines


def in_tls(e, p):
    assert e.messages[0]["tls"] and len(e.said("STARTTLS")) == 1 and e.lines[2][0] and e.lines[2][1].startswith("EHLO")


def in_clear(e, p):
    assert not e.messages[0]["tls"]


def no_helo(e, p):
    assert not e.said("HELO") and not e.said("MAIL")


def no_handshake(e, p):
    assert not any("\x16\x03" in text for _, text in e.lines) and not e.raw and not clear_mail(e)


def not_ahead(e, p):
    assert not any(e.ahead)


def no_size(e, p):
    assert "SIZE=" not in e.messages[0]["from"]


def has(word):
    def check(e, p):
        assert word in e.messages[0]["from"] + " ".join(e.messages[0]["to"]), e.messages[0]
    return check


def has_not(word):
    def check(e, p):
        assert word not in e.messages[0]["from"] + " ".join(e.messages[0]["to"]), e.messages[0]
    return check


def doubled(e, p):
    """Tried again, and said to be perhaps a double (RFC 1047)."""
    wait_for(lambda: any(str(e.port) in x["dest"] for x in p.events("maybe_duplicate")), 15, "maybe_duplicate")


def quits(e, p):
    wait_for(lambda: e.said("QUIT"), 12, "QUIT")


def used_bdat(e, p):
    assert e.said("BDAT") and not e.said("DATA") and e.said("BDAT")[-1].endswith("LAST") and e.messages[0]["body"].endswith(BODY)


def no_body(e, p):
    assert not e.messages and not any("Subject" in text for _, text in e.lines)


def only_a_dot(e, p):
    assert not any(m["body"] for m in e.messages)


STLS = "tls"   # offers STARTTLS with the certificate that `verify` believes
BIG = "250-x\r\n" + ("250-" + "A" * 1000 + "\r\n") * 13000 + "250 SIZE"
EIGHT = "Subject: x\r\n\r\n\xe4\r\n".encode("latin-1")

# (what, TLS owed, words offered, certificate, script, expected outcome, check, message options)
CASES = [
    ("greeting of many lines", "may", ALL, None, {"CONNECT": "220-hello\r\n220-my\r\n220 friend"}, "D", None),
    ("greeting without text", "may", ALL, None, {"CONNECT": "220"}, "D", None),
    ("greeting 421", "may", ALL, None, {"CONNECT": "421 4.3.2 busy^"}, "4", no_mail), ("greeting 450", "may", ALL, None, {"CONNECT": "450 busy"}, "4", no_mail),
    ("greeting 554", "may", ALL, None, {"CONNECT": "554 go away"}, "45", no_mail), ("no greeting", "may", ALL, None, {"CONNECT": CLOSE}, "4", no_mail),
    ("greeting that is none", "may", ALL, None, {"CONNECT": "hello there"}, "4", no_mail), ("greeting 250", "may", ALL, None, {"CONNECT": "250 hello"}, "4", no_mail),
    ("greeting and more", "may", ALL, None, {"CONNECT": "220 x\r\n250-x\r\n250 PIPELINING"}, "4", no_mail), ("greeting too long", "may", ALL, None, {"CONNECT": "220 " + "x" * 9000}, "4", no_mail),
    ("greeting of differing codes", "may", ALL, None, {"CONNECT": "220-x\r\n221 y"}, "4", no_mail), ("greeting closes in the middle", "may", ALL, None, {"CONNECT": "220-x^"}, "4", no_mail),
    ("all replies at once", "may", ALL, None, {"CONNECT": "220 x\r\n250 x\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n221 bye"}, "4", no_mail),
    ("EHLO 500", "may", ALL, None, {"EHLO": "500 what"}, "D", no_size), ("EHLO 502, TLS owed", "encrypt", ALL, STLS, {"EHLO": "502 what"}, "4", no_helo),
    ("EHLO and HELO 550", "may", ALL, None, {"EHLO": "550 no", "HELO": "550 no"}, "45", no_mail), ("EHLO 421", "may", ALL, None, {"EHLO": "421 busy^"}, "4", no_mail), ("EHLO 451", "may", ALL, None, {"EHLO": "451 busy"}, "4", no_mail),
    ("EHLO closes", "may", ALL, None, {"EHLO": CLOSE}, "4", no_mail), ("EHLO of differing codes", "may", ALL, None, {"EHLO": "250-x\r\n251 SIZE"}, "4", no_mail),
    ("EHLO half refused", "may", ALL, None, {"EHLO": "250-x\r\n550 no"}, "4", no_mail), ("EHLO of 13 MB", "may", ALL, None, {"EHLO": BIG}, "4", no_mail), ("EHLO line too long", "may", ALL, None, {"EHLO": "250 " + "x" * 8000}, "4", no_mail),
    ("EHLO bare", "may", "", None, {}, "D", no_size), ("EHLO 250 alone", "may", "", None, {"EHLO": "250"}, "D", no_size), ("EHLO with empty lines", "may", "", None, {"EHLO": "250-\r\n250-\r\n250 SIZE"}, "D", has("SIZE=")),
    ("EHLO in small letters", "may", "", None, {"EHLO": "250-x\r\n250 size 10"}, "5", no_mail), ("SIZE too small", "may", "SIZE=10", None, {}, "5", no_mail), ("SIZE 0", "may", "SIZE=0", None, {}, "D", has("SIZE=")),
    ("SIZE of letters", "may", "SIZE=abc", None, {}, "D", None), ("SIZE beyond 64 bits", "may", "SIZE=99999999999999999999", None, {}, "D", None), ("EHLO 354", "may", ALL, None, {"EHLO": "354 go"}, "4", no_mail),
    ("no PIPELINING", "may", PLAIN, None, {}, "D", not_ahead), ("PIPELINING", "may", ALL, None, {}, "D", quits),
    ("STARTTLS", "may", ALL, STLS, {}, "D", in_tls), ("STARTTLS, owed", "encrypt", ALL, STLS, {}, "D", in_tls), ("STARTTLS 250, may", "may", ALL, STLS, {"STARTTLS": "250 go"}, "4", no_handshake),
    ("STARTTLS 250, owed", "encrypt", ALL, STLS, {"STARTTLS": "250 go"}, "4", no_handshake), ("STARTTLS 221", "encrypt", ALL, STLS, {"STARTTLS": "221 go"}, "4", no_handshake), ("STARTTLS 354", "encrypt", ALL, STLS, {"STARTTLS": "354 go"}, "4", no_handshake),
    ("STARTTLS 454, may", "may", ALL, STLS, {"STARTTLS": "454 4.7.0 later"}, "D", in_clear), ("STARTTLS 502, may", "may", ALL, STLS, {"STARTTLS": "502 no"}, "D", in_clear), ("STARTTLS 454, owed", "encrypt", ALL, STLS, {"STARTTLS": "454 later"}, "4", no_clear_mail),
    ("STARTTLS 502, owed", "encrypt", ALL, STLS, {"STARTTLS": "502 no"}, "4", no_clear_mail), ("STARTTLS 554, verify", "verify", ALL, STLS, {"STARTTLS": "554 no"}, "4", no_clear_mail), ("STARTTLS not offered", "encrypt", ALL, None, {}, "4", no_clear_mail),
    ("STARTTLS 421", "may", ALL, STLS, {"STARTTLS": "421 busy^"}, "4", no_clear_mail), ("STARTTLS closes", "may", ALL, STLS, {"STARTTLS": CLOSE}, "4", no_clear_mail), ("STARTTLS closes, owed", "encrypt", ALL, STLS, {"STARTTLS": CLOSE}, "4", no_clear_mail),
    ("220 and injected", "may", ALL, STLS, {"STARTTLS": "220 go\r\n250-x\r\n250 AUTH PLAIN"}, "4", no_clear_mail), ("220 and injected, owed", "encrypt", ALL, STLS, {"STARTTLS": "220 go\r\n250 x"}, "4", no_clear_mail), ("220 and half a line", "encrypt", ALL, STLS, {"STARTTLS": "220 go\r\nx"}, "4", no_clear_mail),
    ("220 of differing codes", "encrypt", ALL, STLS, {"STARTTLS": "220-go\r\n250 x"}, "4", no_clear_mail), ("220 and no handshake, may", "may", ALL + " STARTTLS", None, {"STARTTLS": "220 go"}, "D", in_clear), ("220 and no handshake, owed", "encrypt", ALL + " STARTTLS", None, {"STARTTLS": "220 go"}, "4", no_clear_mail),
    ("220 closes, owed", "encrypt", ALL, STLS, {"STARTTLS": "220 go^"}, "4", no_clear_mail), ("STARTTLS inside TLS", "encrypt", ALL + " STARTTLS", STLS, {}, "D", in_tls), ("EHLO 500 in TLS", "may", ALL, STLS, {"TLS.EHLO": "500 no"}, "45", no_helo), ("EHLO 500 in TLS, owed", "encrypt", ALL, STLS, {"TLS.EHLO": "500 no"}, "45", no_helo),
    ("EHLO closes in TLS", "encrypt", ALL, STLS, {"TLS.EHLO": CLOSE}, "4", no_mail), ("SIZE grows in TLS", "may", "SIZE=1000000", STLS, {"EHLO": "250-x\r\n250-SIZE 10\r\n250 STARTTLS"}, "D", in_tls), ("SIZE shrinks in TLS", "may", ALL, STLS, {"TLS.EHLO": "250-x\r\n250 SIZE 10"}, "5", no_mail),
    ("SIZE ends in TLS", "may", ALL, STLS, {"TLS.EHLO": "250 x"}, "D", no_size), ("PIPELINING ends in TLS", "may", ALL, STLS, {"TLS.EHLO": "250-x\r\n250 SIZE"}, "D", not_ahead), ("8BITMIME ends in TLS", "may", ALL, STLS, {"TLS.EHLO": "250-x\r\n250 SIZE"}, "5", no_mail, {"data": EIGHT}),
    ("MAIL closes in TLS", "encrypt", ALL, STLS, {"MAIL": CLOSE}, "4", no_body), ("the dot closes in TLS", "encrypt", ALL, STLS, {"END": [CLOSE, "250 ok"]}, "4", doubled), ("ragged end behind 250", "encrypt", ALL, STLS, {"END": "250 ok^"}, "D", in_tls),
    ("verify", "verify", ALL, STLS, {}, "D", in_tls), ("verify, wrong name", "verify", ALL, "wrong", {}, "4", no_mail), ("verify, stranger", "verify", ALL, "stranger", {}, "4", no_mail), ("verify, name in CN only", "verify", ALL, "cn", {}, "4", no_mail),
    ("encrypt, stranger", "encrypt", ALL, "stranger", {}, "D", in_tls), ("TLS none", "none", ALL, STLS, {}, "D", in_clear),
    ("MAIL 451", "may", ALL, None, {"MAIL": "451 4.3.0 later"}, "4", only_a_dot), ("MAIL 550", "may", ALL, None, {"MAIL": "550 5.7.1 no"}, "5", only_a_dot), ("MAIL 552", "may", PLAIN, None, {"MAIL": "552 5.3.4 big"}, "5", no_body), ("MAIL 421", "may", ALL, None, {"MAIL": "421 bye^"}, "4", no_body),
    ("MAIL closes", "may", ALL, None, {"MAIL": CLOSE}, "4", no_body), ("MAIL 354", "may", PLAIN, None, {"MAIL": "354 go"}, "4", no_body), ("MAIL of many lines", "may", ALL, None, {"MAIL": "250-a\r\n250-b\r\n250 c"}, "D", None), ("MAIL of differing codes", "may", PLAIN, None, {"MAIL": "250-a\r\n550 b"}, "4", no_body),
    ("MAIL 999", "may", PLAIN, None, {"MAIL": "999 x"}, "4", no_body), ("MAIL two digits", "may", PLAIN, None, {"MAIL": "25 x"}, "4", no_body), ("MAIL four digits", "may", PLAIN, None, {"MAIL": "2500 x"}, "4", no_body), ("MAIL no reply at all", "may", PLAIN, None, {"MAIL": "what?"}, "4", no_body), ("MAIL 150", "may", PLAIN, None, {"MAIL": "150 x"}, "4", no_body),
    ("MAIL answered twice", "may", PLAIN, None, {"MAIL": "250 a\r\n250 b"}, "4", no_body), ("RCPT 451", "may", ALL, None, {"RCPT": "451 4.2.0 later"}, "4", only_a_dot), ("RCPT 550", "may", ALL, None, {"RCPT": "550 5.1.1 who"}, "5", only_a_dot), ("RCPT 550, DATA 354", "may", ALL, None, {"RCPT": "550 5.1.1 who", "DATA": "354 go"}, "5", only_a_dot),
    ("RCPT 251", "may", ALL, None, {"RCPT": "251 forwarded"}, "D", None), ("RCPT 252", "may", ALL, None, {"RCPT": "252 perhaps"}, "D", None), ("RCPT 421", "may", ALL, None, {"RCPT": "421 bye^"}, "4", no_body), ("RCPT closes", "may", ALL, None, {"RCPT": CLOSE}, "4", no_body),
    ("RCPT 552, a full mailbox", "may", ALL, None, {"RCPT": "552 5.2.2 full"}, "5", only_a_dot), ("DATA 451", "may", PLAIN, None, {"DATA": "451 later"}, "4", no_body), ("DATA 554", "may", ALL, None, {"DATA": "554 5.7.1 no"}, "5", no_body), ("DATA 250", "may", ALL, None, {"DATA": "250 go"}, "4", no_body), ("DATA 421", "may", ALL, None, {"DATA": "421 bye^"}, "4", no_body),
    ("DATA closes", "may", ALL, None, {"DATA": CLOSE}, "4", no_body), ("DATA and the end at once", "may", ALL, None, {"DATA": "354 go\r\n250 taken"}, "4", None), ("END 451", "may", ALL, None, {"END": "451 4.3.0 later"}, "4", None), ("END 452", "may", ALL, None, {"END": "452 4.3.1 full"}, "4", None), ("END 554", "may", ALL, None, {"END": "554 5.6.0 no"}, "5", None),
    ("END 421", "may", ALL, None, {"END": "421 bye^"}, "4", None), ("END closes", "may", ALL, None, {"END": [CLOSE, "250 ok"]}, "4", doubled), ("END 354", "may", ALL, None, {"END": "354 more"}, "4", None), ("END 250 and 451", "may", ALL, None, {"END": "250-a\r\n451 b"}, "4", None), ("END of many lines", "may", ALL, None, {"END": "250-2.0.0 a\r\n250 2.0.0 b"}, "D", None),
    ("END 250 cut short", "may", ALL, None, {"END": ["250-taken^", "250 ok"]}, "4", doubled), ("END with controls", "may", ALL, None, {"END": "550 \x1b[31m\x07\xe9 no"}, "45", None), ("QUIT closes", "may", ALL, None, {"QUIT": CLOSE}, "D", quits), ("QUIT 500", "may", ALL, None, {"QUIT": "500 what"}, "D", quits), ("QUIT stalls", "may", ALL, None, {"QUIT": HANG}, "D", quits),
    ("CHUNKING", "may", ALL + " CHUNKING", None, {}, "D", used_bdat), ("CHUNKING alone", "may", "CHUNKING 8BITMIME", None, {}, "D", not_ahead), ("CHUNKING in TLS", "may", ALL + " CHUNKING", STLS, {}, "D", used_bdat), ("BDAT 554", "may", ALL + " CHUNKING", None, {"BDAT": "554 5.7.1 no"}, "5", None), ("BDAT 451", "may", ALL + " CHUNKING", None, {"BDAT": "451 no"}, "4", None),
    ("BDAT closes", "may", ALL + " CHUNKING", None, {"BDAT": [CLOSE, "250 ok"]}, "4", doubled), ("BDAT 354", "may", ALL + " CHUNKING", None, {"BDAT": "354 go"}, "4", None), ("CHUNKING in clear only", "may", ALL + " CHUNKING", STLS, {"TLS.EHLO": "250-x\r\n250 8BITMIME"}, "D", lambda e, p: e.said("DATA") and not e.said("BDAT") or pytest.fail(str(e.lines))),
    ("8 bit, offered", "may", ALL, None, {}, "D", has("BODY=8BITMIME"), {"data": EIGHT}), ("8 bit, not offered", "may", "SIZE PIPELINING", None, {}, "5", no_mail, {"data": EIGHT}), ("8BITMIME declared, 7 bit sent", "may", "SIZE", None, {}, "D", has_not("BODY="), {"mail": " BODY=8BITMIME"}),
    ("SMTPUTF8 offered", "may", ALL, None, {}, "D", has("SMTPUTF8"), {"local": "\xc3\xa9", "mail": " SMTPUTF8"}), ("SMTPUTF8 not offered", "may", PLAIN, None, {}, "5", no_mail, {"local": "\xc3\xa9", "mail": " SMTPUTF8"}), ("SMTPUTF8 not needed", "may", PLAIN, None, {}, "D", has_not("SMTPUTF8"), {"mail": " SMTPUTF8"}),
    ("DSN offered", "may", ALL, None, {}, "D", has("NOTIFY=SUCCESS"), {"rcpt": " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@x.test"}), ("DSN kept whole", "may", ALL, None, {}, "D", has("ENVID=e+3D1"), {"mail": " RET=HDRS ENVID=e+3D1"}), ("DSN not offered", "may", PLAIN, None, {}, "D", has_not("NOTIFY"), {"rcpt": " NOTIFY=SUCCESS ORCPT=rfc822;o@x.test", "mail": " RET=FULL ENVID=e"}),
    ("null sender", "may", ALL, None, {}, "D", has("MAIL FROM:<>"), {"sender": ""}), ("null sender refused", "may", ALL, None, {"MAIL": "550 no"}, "5", None, {"sender": ""}), ("quoted local part", "may", ALL, None, {}, "D", has('<"a b>"@'), {"local": '"a b>"'}),
    ("LMTP", "lmtp", ALL, None, {}, "D", lambda e, p: e.said("LHLO") and not e.said("EHLO") or pytest.fail(str(e.lines))), ("LMTP 550 behind the dot", "lmtp", ALL, None, {"END": "550 5.2.2 full"}, "5", None), ("LMTP 451 behind the dot", "lmtp", ALL, None, {"END": "451 4.2.2 full"}, "4", None),
    ("LMTP LHLO 500", "lmtp", ALL, None, {"LHLO": "500 what"}, "45", no_helo), ("LMTP by BDAT", "lmtp", ALL + " CHUNKING", None, {}, "D", used_bdat), ("LMTP closes", "lmtp", ALL, None, {"END": [CLOSE, "250 ok"]}, "4", doubled),
]

# (what, words, lmtp, script, what becomes of a@, b@, c@ first)
GROUPS = [
    ("partly refused", ALL, False, {"RCPT": ["250 ok", "550 5.1.1 no", "451 4.2.0 later", "250 ok"]}, "D54"), ("first refused", PLAIN, False, {"RCPT": ["550 no", "250 ok", "250 ok"]}, "5DD"), ("452 too many", ALL, False, {"RCPT": ["250 ok", "452 4.5.3 too many", "452 4.5.3 too many", "250 ok"]}, "D44"),
    ("552 too many, as RFC 821 had it", PLAIN, False, {"RCPT": ["250 ok", "552 too many", "552 5.5.3 too many", "250 ok"]}, "D44"),
    ("all temporary", ALL, False, {"RCPT": ["451 x", "452 y", "450 z", "250 ok"]}, "444"), ("all refused", PLAIN, False, {"RCPT": "550 5.1.1 no"}, "555"), ("one left, then END 554", ALL, False, {"RCPT": ["250 ok", "550 no", "451 x"], "END": "554 no"}, "554"), ("RCPT closes at the second", PLAIN, False, {"RCPT": ["250 ok", CLOSE, "250 ok"]}, "444"),
    ("421 at the third", PLAIN, False, {"RCPT": ["250 ok", "250 ok", "421 bye^", "250 ok"]}, "444"), ("LMTP, each its own", ALL, True, {"END": ["250 ok", "550 5.2.1 no", "451 4.2.2 full", "250 ok"]}, "D54"), ("LMTP, too few", ALL, True, {"END": ["250 ok", "250 ok^", "250 ok"]}, "DD4"), ("LMTP, only one", ALL, True, {"END": ["250 ok^", "250 ok"]}, "D44"),
    ("LMTP by BDAT, each its own", ALL + " CHUNKING", True, {"END": ["451 x", "250 ok", "550 no", "250 ok"]}, "4D5"), ("LMTP, two taken at RCPT", ALL, True, {"RCPT": ["250 ok", "550 no", "250 ok"], "END": ["550 no", "250 ok"]}, "55D"), ("SMTP by BDAT, partly refused", ALL + " CHUNKING", False, {"RCPT": ["550 no", "250 ok", "451 x", "250 ok"]}, "5D4"),
]
EVENTS = {"D": "delivered", "4": "deferred", "5": "failed"}
CONFIG = '''
hostname = "mx.judge.test"
spool    = "{dir}/spool"
control  = "{dir}/control.sock"
trust    = "{ca}"
retry_min = "2s"
retry_max = "3s"
certificate "default" {{ chain = "{chain}"  key = "{key}" }}
listener "mx"         {{ address = {{"127.0.0.1:{port}"}} }}
domain "sink.test"    {{ deliver = "discard" }}
relay                 {{ from = {{"127.0.0.0/8"}} }}
{domains}
'''


def random_message(seed):
    """Leading dots, long lines, blank ends, 8-bit octets, and perhaps no line end at all."""
    r = random.Random(seed)
    lines = []
    for _ in range(r.randrange(0, 40)):
        text = bytes(r.choice(b".\t .aZ\xe9\xff\x01\x7f~") for _ in range(r.choice([0, 1, 2, 3, 30, 70, 998, 1200, 20000 if r.random() < .3 else 5])))
        lines.append(r.choice([b"", b".", b"..", b"...", b"From "]) + text)
    return b"Subject: r\r\n\r\n" + b"\r\n".join(lines) + (b"\r\n" if r.random() < .7 and lines else b"")


@pytest.fixture(scope="module")
def certs(folder):
    ca = make_certificate(folder / "judge", "judge-ca")
    made = {STLS: make_certificate(folder / "judge", "good", names=["127.0.0.1", "localhost"], ca=ca), "wrong": make_certificate(folder / "judge", "other.test", ca=ca),
            "stranger": make_certificate(folder / "judge", "stranger", names=["127.0.0.1"]), "cn": make_certificate(folder / "judge", "127.0.0.1", names=["other.test"], ca=ca), None: None}
    return ca, made


@pytest.fixture(scope="module")
def judge(folder, certificate, certs):
    """The daemon, and every message on its way."""
    ca, made = certs
    domains, sends, evils = [], [], {}

    def add(key, dom, level, words, cert, script, lmtp=False):
        e = evils[key] = Evil(words, script, made[cert], lmtp)
        scheme, tls = ("lmtp", "may") if lmtp else ("smtp", level)
        domains.append(f'domain "{dom}" {{ deliver = "{scheme}://127.0.0.1:{e.port}"  tls = {tls} }}')
        e.domain = dom

    for i, case in enumerate(CASES):
        what, level, words, cert, script = case[:5]
        more = case[7] if len(case) > 7 else {}
        add(what, f"c{i}.test", level, words, cert, script, level == "lmtp")
        sends.append((more.get("sender", "s@sink.test"), more.get("mail", ""), [more.get("local", "x") + f"@c{i}.test" + ">" + more.get("rcpt", "")], more.get("data", BODY)))
    for i, (what, words, lmtp, script, _) in enumerate(GROUPS):
        add(what, f"g{i}.test", "may", words, None, script, lmtp)
        sends.append(("s@sink.test", "", [f"{u}@g{i}.test>" for u in "abc"], BODY))
    for how, words in (("data", ALL), ("bdat", ALL + " CHUNKING"), ("slow", PLAIN)):
        add(how, f"{how}.test", "may", words, STLS if how == "bdat" else None, {})
        for seed in range(20):
            sends.append(("s@sink.test", " BODY=8BITMIME", [f"r{seed}@{how}.test>"], random_message(seed)))
    p = Postrider(folder, certificate, config=CONFIG, ca=ca.chain, domains="\n".join(domains))
    p.start()
    p.evils, p.roles = evils, p.pids()
    t = Talk(p.port)
    t.say("EHLO c.test")
    for sender, mail, rcpts, data in sends:
        lines = [f"MAIL FROM:<{sender}>{mail}".encode("latin-1"), *(f"RCPT TO:<{r}".encode("latin-1") for r in rcpts)]
        for line in lines:
            assert (got := t.say(line)).startswith("250"), (line, got)
        n = len(data)
        t.send(b"BDAT %d LAST\r\n" % n + data)
        assert (got := t.reply()).startswith("250"), (data[:60], got)
    t.close()
    yield p
    assert p.pids() == p.roles, "a role was restarted"
    p.stop()


def first(p, dest, to=None):
    """D, 4 or 5: what became of a recipient first."""
    def look():
        for line in p.log().splitlines():
            found = re.search(r"event=(delivered|deferred|failed) ", line)
            if found and re.search(rf"\bto=.*@{re.escape(dest)}\b" if to is None else rf"\bto={re.escape(to)}\b", line):
                return {v: k for k, v in EVENTS.items()}[found[1]], line
        return None
    return wait_for(look, 20, f"an outcome for {to or dest}")


@pytest.mark.parametrize("case", CASES, ids=lambda c: re.sub("[^a-zA-Z0-9]+", "-", c[0]))
def test_server(judge, case):
    e, expected, check = judge.evils[case[0]], case[5], case[6]
    got, line = first(judge, e.domain)
    assert got in expected, (line, e.lines[:20])
    if check:
        check(e, judge)
    if got == "D":
        assert len(e.messages) == 1 and e.messages[0]["body"].startswith(b"Received: ")


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: re.sub("[^a-zA-Z0-9]+", "-", g[0]))
def test_recipients(judge, group):
    e, expected = judge.evils[group[0]], group[4]
    got = "".join(first(judge, e.domain, f"{u}@{e.domain}")[0] for u in "abc")
    assert got == expected, e.lines
    for u, outcome in zip("abc", expected):
        if outcome == "4" and not isinstance(group[3].get("RCPT"), str) and "554" not in str(group[3]):  # and is tried again, alone, until it is through
            judge.wait_event("delivered", 15, to=f"{u}@{e.domain}")
        if outcome == "5":
            assert not judge.events("delivered", to=f"{u}@{e.domain}")


@pytest.mark.parametrize("how", ["data", "bdat", "slow"])
@pytest.mark.parametrize("seed", range(20))
def test_bytes(judge, how, seed):
    e, sent = judge.evils[how], random_message(seed)
    message = wait_for(lambda: [m for m in e.messages if f"<r{seed}@" in m["to"][0]], 20, "the message")[0]
    body = message["body"][message["body"].index(b"Subject: r"):]
    if how != "bdat" and not sent.endswith(b"\r\n"):
        sent += b"\r\n"  # RFC 5321 4.1.1.4: the end of data needs a line end
    assert body == sent
    if how != "bdat":
        assert all(not x.startswith(b".") or x.startswith(b"..") for x in message["raw"].split(b"\r\n"))
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", message["raw"])


STALLS = [("CONNECT", {"CONNECT": HANG}), ("EHLO", {"EHLO": HANG}), ("STARTTLS", {"STARTTLS": HANG}), ("MAIL", {"MAIL": HANG}), ("RCPT", {"RCPT": HANG}), ("DATA", {"DATA": HANG}), ("END", {"END": HANG}), ("TLS", {"STARTTLS": "220 go\r\n~"}), ("half", {"CONNECT": "220-x\r\n220~"})]


@pytest.mark.parametrize("point", range(len(STALLS)), ids=[s[0] for s in STALLS])
def test_stalls_end_by_timeout(judge, certs, point):
    e = Evil(ALL, STALLS[point][1], certs[1][STLS])
    started = time.monotonic()
    r = subprocess.run([BINARY, "client", "--from", "a@src.test", "--to", "b@x.test", "--server", f"127.0.0.1:{e.port}", "--tls", "may", "--timeout", "1"], input=BODY, capture_output=True, timeout=20)
    assert r.returncode == 75 and 0.8 < time.monotonic() - started < 4, r


COMMANDS = [  # what `postrider client` says by its exit status: (TLS, certificate, script, status)
    ("may", None, {}, 0), ("may", STLS, {}, 0), ("encrypt", None, {}, None), ("encrypt", STLS, {"STARTTLS": "220 x\r\n250 y"}, None), ("encrypt", STLS, {"STARTTLS": "454 x"}, None), ("verify", "wrong", {}, None), ("verify", "stranger", {}, None), ("verify", STLS, {}, 0),
    ("none", STLS, {}, 0), ("may", None, {"RCPT": "550 no"}, 69), ("may", None, {"RCPT": "451 no"}, 75), ("may", None, {"END": "554 no"}, 69), ("may", None, {"END": CLOSE}, 75), ("may", None, {"QUIT": CLOSE}, 0), ("may", None, {"MAIL": "250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e"}, 76),
]


@pytest.mark.parametrize("row", range(len(COMMANDS)))
def test_the_command_tells(judge, certs, row):
    tls, cert, script, status = COMMANDS[row]
    e = Evil(PLAIN, script, certs[1][cert])
    r = subprocess.run([BINARY, "client", "--from", "a@src.test", "--to", "b@x.test", "--server", f"127.0.0.1:{e.port}", "--tls", tls, "--tls-ca", certs[0].chain, "--timeout", "8", "-v"], input=BODY, capture_output=True, timeout=20)
    assert r.returncode == status if status is not None else r.returncode > 0, r
    if status is None:
        no_clear_mail(e, judge)
    assert not re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", r.stdout + r.stderr)


def test_zz_the_roles_stand(judge):
    assert judge.pids() == judge.roles and not judge.events("fault") and not judge.events("frame_refused") and not judge.events("role_exited")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", judge.log())
