#!/usr/bin/python3
"""Writes the first inputs of every fuzz target to FOLDER/TARGET/: readable here, in the targets' own formats there.

Each is a good conversation, message, packet or image, so that the fuzzer begins inside the work and not at its door.
What a target has found is not here but in tests/fuzz/seeds/TARGET (a file for each past bug, never merged away).
"""
import pathlib
import re
import struct
import sys

out = pathlib.Path(sys.argv[1])


def put(target, name, data):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def parse():
    texts = [b"<@a.b,@c.d:\"x y\"@[IPv6:::1]>", b"FROM:<a@b.c> SIZE=5 BODY=8BITMIME RET=FULL ENVID=a+2Bb AUTH=<> SMTPUTF8",
             b"BDAT 10 LAST", b"a\r\nb\r\n\rc\n", b"a\r\n..b\r\n.\r\n", b"Zm9v", b"250-2.1.5 a\r\n250 2.1.5 b\r\n", b"caf\xc3\xa9\nline",
             b"250-a\r\n250-b\r\n250 c\r\n354 d\r\n550\r\n", b"<\"a\\\"b\"@b.c>", b"TO:<a@b.c> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb"]
    for target, count in (("address", 1), ("params", 2), ("command", 3), ("reply", 2)):
        for i, text in enumerate(texts):
            for which in range(count):
                for options in (0, 7, 143):
                    put(target, f"{i}-{which}-{options}", bytes([which, options]) + text)
    put("params", "rcpt", bytes([0, 255]) + b"TO:<a@b.c> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\\x{E9}@b")


def ehlo():
    lines = [b"mx.test at your service", b"PIPELINING", b"SIZE 35882577", b"8BITMIME", b"STARTTLS", b"AUTH PLAIN LOGIN", b"AUTH=LOGIN",
             b"LIMITS MAILMAX=5 RCPTMAX=999999 X=1", b"CHUNKING", b"BINARYMIME", b"DSN", b"SMTPUTF8", b"REQUIRETLS", b"size 0", b"X-WORD a\tb"]

    def reply(ls, code=b"250"):
        return b"".join(code + b"-" + x + b"\r\n" for x in ls[:-1]) + code + b" " + ls[-1] + b"\r\n"
    for options in range(8):
        put("ehlo", f"all-{options}", bytes([options, 3]) + reply(lines))
        put("ehlo", f"few-{options}", bytes([options, 3]) + reply(lines[:2]))
        put("ehlo", f"enhanced-{options}", bytes([options, 3]) + reply([b"2.0.0 a", b"2.0.0 PIPELINING", b"2.1.0 SIZE"]))
    put("ehlo", "helo", bytes([0, 0]) + reply([b"what"], b"502") + b"250 mx\r\n")
    put("ehlo", "alone", bytes([0, 0]) + b"250\r\n")
    put("ehlo", "behind", bytes([0, 0]) + reply(lines) + b"250 more\r\n")
    put("ehlo", "differ", bytes([0, 0]) + b"250-a\r\n251 b\r\n")


def server():
    dialog = (b"EHLO a.test\r\nMAIL FROM:<a@b.test> SIZE=5 BODY=8BITMIME\r\nRCPT TO:<c@d.test> NOTIFY=NEVER\r\n"
              b"RCPT TO:<d@d.test>\r\nDATA\r\nhello\r\n..x\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nBDAT 5\r\nab\r\n."
              b"BDAT 0 LAST\r\nAUTH PLAIN AGEAYg==\r\nNOOP\r\nVRFY a\r\nEXPN a\r\nHELP\r\nRSET\r\nQUIT\r\n")
    for offer in range(5):
        for second in (0x20, 0x61, 0x02, 0x9c):
            head = bytes([offer, second, 0])
            put("server", f"{offer}-{second}", head + bytes(8) + dialog)
            put("server", f"{offer}-{second}-tls", head + bytes(8) + b"EHLO a.test\r\nSTARTTLS\r\n\xff" + dialog)
    put("server", "lmtp", bytes([9, 0x20, 0, 0, 0, 0, 0, 5, 6, 0, 0]) + dialog.replace(b"EHLO", b"LHLO"))
    put("server", "no", bytes([1, 0x20, 0, 0, 5, 6, 7, 69, 102, 0, 0]) + dialog)
    put("server", "memory", bytes([1, 0x20, 9]) + bytes(8) + dialog)
    put("server", "behind", bytes([1, 0, 0]) + bytes(8) + b"EHLO a\r\nSTARTTLS\r\nEHLO b\r\nMAIL FROM:<j@j>\r\n")
    put("server", "orders", bytes([1, 0, 0]) + bytes(8) + b"EHLO a\r\n\xfe\x10MAIL FROM:<a@b>\r\n\xfaRCPT TO:<c@d>\r\n\xfc\x01DATA\r\nx\xfd")
    put("server", "clear", bytes([1, 0, 0]) + bytes(8) + b"EHLO a\r\nSTARTTLS\r\n\xffEHLO a\r\n\xfbNOOP\r\n")
    put("server", "fails", bytes([1, 0, 0]) + bytes(8) + b"EHLO a\r\n\xf9STARTTLS\r\n\xffEHLO a\r\n\xf8NOOP\r\n\xfe\xff")
    put("server", "auth", bytes([1, 0x60, 0, 0, 0, 7, 7, 0, 0, 0, 0]) + b"EHLO a\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\nAUTH PLAIN\r\n*\r\n")


def client():
    names = [b"PIPELINING", b"SIZE 1000", b"8BITMIME", b"CHUNKING", b"BINARYMIME", b"DSN", b"AUTH PLAIN LOGIN",
             b"LIMITS MAILMAX=5 RCPTMAX=9", b"STARTTLS", b"SMTPUTF8"]
    caps = b"250-mx.test hi\r\n" + b"".join(b"250-" + n + b"\r\n" for n in names[:-1]) + b"250 " + names[-1] + b"\r\n"
    few = b"250-mx.test\r\n250 8BITMIME\r\n"
    ok, hi, bye = b"250 2.1.0 ok\r\n", b"220 hi\r\n", b"221 bye\r\n"
    for tls in range(4):
        go = b"220 go\r\n\xff" if tls in (1, 2) else b""
        for more in (0, 8, 16, 24):
            for message in (0, 1, 4, 66):
                body = ok * (2 + message % 3) + (b"354 go\r\n" if more & 16 else b"") + ok
                put("client", f"{tls}-{more}-{message}", bytes([tls | more, 0, message, 0]) + hi + caps
                    + ((go + caps) if go else b"") + (body * 2) + bye)
    put("client", "lmtp", bytes([4 | 16, 0, 1, 0]) + hi + caps + ok * 3 + b"354 go\r\n" + ok + b"450 4.2.1 no\r\n" + bye)
    put("client", "auth", bytes([32, 4 | 2, 0, 0]) + hi + caps + b"235 ok\r\n" + ok * 3 + bye)
    put("client", "login", bytes([32, 4, 0, 0]) + hi + caps + b"334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n235 ok\r\n" + ok * 3 + bye)
    put("client", "few", bytes([0, 0, 16, 0]) + hi + few + ok + ok + b"354 go\r\n" + ok + b"554 5.6.0 no\r\n" * 4 + bye)
    put("client", "memory", bytes([0, 0, 0, 12]) + hi + caps + ok * 3 + bye)
    put("client", "refused", bytes([1, 0, 0, 0]) + hi + caps + b"454 4.7.0 not now\r\n" + ok * 3 + bye)
    put("client", "helo", bytes([1, 0, 0, 0]) + hi + b"502 what\r\n" + b"250 mx\r\n" + ok + ok + b"354 go\r\n" + ok + bye)
    put("client", "behind", bytes([1, 0, 0, 0]) + hi + caps + b"220 go\r\n250 j\r\n" + caps)
    put("client", "orders", bytes([0, 0, 0, 0]) + hi + caps + b"\xfe\x20\xfa" + ok + b"\xfc550 no\r\n\xfd")
    put("client", "clear", bytes([1, 0, 0, 0]) + hi + caps + b"220 go\r\n\xff\xfb" + caps)
    put("client", "odd", bytes([0, 1, 0, 0]) + hi + b"250-a\r\n251 b\r\n")


def wired():
    letters = b"\x00\x1e\x00Subject: x\r\n\r\n.\r\n..\r\n\xe4body\r\n\x00\x05\x22abc\n\n\x00\x03\x00abc\x00\x02\x40ab\x00\x02\x80ab"
    for tls in range(8):
        for options in range(32):
            put("wired", f"{tls}-{options}", bytes([tls, options, 9, options]) + letters)


def body():
    wires = [b"hello\r\n..x\r\n.\r\nQUIT\r\n", b".\r\n", b"a\r\n.\r.\r\nb\n.\nc\r\n.\n\0.\r\n\r\n.\r\n", b"a\r\r\n.\r\n", b"abc\r"]
    for options in range(8):
        for i, wire in enumerate(wires):
            put("body", f"{options}-{i}", bytes([options, i]) + wire)


def mail():
    texts = b"\x06client\x091.2.3.4\r\n\x05a@b.c\x07TLSv1.3\x03AES\x03no \x06s@a.te\x02id\x0c\x05x@b.c\x06remote\x0b5.1.1 words\x05y+2Bz"
    message = b"Received: a\r\n b\r\nSubject : x\r\nDelivered-To: y\r\nFrom: \xc3\xa9\r\n\r\nbody\r\n.\n"
    for options in range(0, 64, 5):
        for seed in (0, 1, 2, 3, 12, 255):
            put("mail", f"{options}-{seed}", bytes([options, seed, len(texts) // 4]) + texts[:len(texts) // 4 * 4] + message)


def dsn():
    who = b"\x0fa@b.test" + b"xxxxxxx"
    texts = (b"\x08s@a.test" + b"\x05id=+x" + b"\x0e" + b"\x08a@b.test" + b"\x12mx.b.test[1.2.3.4]" + b"\x10no such user \r\n." + b"\x05y@b.c"
             + b"\x0b" + b"\x07c@d.tes" + b"\x00" + b"\x00" + b"\x05utf-8" + b"\x06\xc3\xa9@b.c")
    texts += bytes(-len(texts) % 4)
    message = b"Received: a\r\n b\r\nSubject : x\r\nFrom: \xc3\xa9\r\n\r\nbody\r\n.\n" + who
    for options in range(48):
        put("dsn", str(options), bytes([options, len(texts) // 4]) + texts + message)


def boundary():
    """0xff cut, 0xfe n time, 0xfd end, 0xfc side, 0xfb TLS on or off, 0xfa shake hands, 0xf9 close, 0xf8 no turn."""
    mail = b"MAIL FROM:<j@a.test>\r\nRCPT TO:<u@sink.test>\r\nDATA\r\n\xffSubject: j\r\n\r\nj\r\n.\r\n\xffQUIT\r\n\xff"
    up = b"\xfa\xff\xfa\xff\xfb"
    for options in range(128):
        hello = b"LHLO j.test\r\n" if options & 4 else b"EHLO j.test\r\n"
        start = b"" if options & 3 == 2 else hello + b"STARTTLS\r\n\xff"
        put("boundary", f"receive-{options}", bytes([options, 3]) + start + up + hello + mail)
    hello = b"EHLO j.test\r\n"
    put("boundary", "receive-clear", bytes([0, 3]) + hello + mail)
    put("boundary", "receive-with", bytes([0, 3]) + hello + b"STARTTLS\r\n" + mail + up + hello + mail)
    put("boundary", "receive-behind", bytes([0, 3]) + hello + b"STARTTLS\r\n\xff" + mail + up + hello + mail)
    put("boundary", "receive-next", bytes([0, 3]) + hello + b"STARTTLS\r\n\xf8" + hello + b"\xf8" + up + hello + mail)
    put("boundary", "receive-forged", bytes([0, 3]) + hello + b"STARTTLS\r\n\xf1\0\0\xff\xf2\0\0\xff\xfb" + hello + mail)
    put("boundary", "receive-early", bytes([0, 3]) + b"\xfa\xff\xfa" + hello + mail)
    put("boundary", "receive-inside", bytes([0, 3]) + hello + b"STARTTLS\r\n\xff" + up + hello + b"\xff\xfb" + mail)
    put("boundary", "receive-late", bytes([0, 3]) + hello + b"STARTTLS\r\n\xff\xfa\xff\xfe\xff\xfa")
    put("boundary", "receive-close", bytes([0, 3]) + hello + b"STARTTLS\r\n\xff" + up + hello + b"\xff\xf9\xff\xfd")
    caps = b"250-mx.test j\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 CHUNKING\r\n"
    few = b"250-mx.test j\r\n250 SIZE 1000\r\n"
    ok = b"250 2.0.0 j\r\n"
    for options in range(16):
        for c, n, go in ((caps, 4, b""), (few, 3, b"354 go\r\n\xff"), (few, 2, b"354 go\r\n\xff")):
            served = (ok + b"\xff") * n + go + ok + b"\xff" + ok + b"\xff221 bye\r\n\xff"
            put("boundary", f"send-{options}-{n}-{len(c)}", bytes([0, options]) + b"\xfc220 hi\r\n\xff" + caps + b"\xff220 go\r\n\xff\xfa\xff\xfb" + c + b"\xff" + served)
            put("boundary", f"send-clear-{options}-{n}-{len(c)}", bytes([0, options]) + b"\xfc220 hi\r\n\xff" + c.replace(b"250-STARTTLS\r\n", b"") + b"\xff" + served)
    put("boundary", "send-behind", bytes([0, 1]) + b"\xfc220 hi\r\n\xff" + caps + b"\xff220 go\r\n" + caps + b"\xff\xfa\xff\xfb" + few)
    put("boundary", "send-next", bytes([0, 0]) + b"\xfc220 hi\r\n\xff" + caps + b"\xff220 go\r\n\xf8" + caps + b"\xff\xfa\xff\xfb" + few)
    put("boundary", "send-refused", bytes([0, 1]) + b"\xfc220 hi\r\n\xff" + caps + b"\xff454 not now\r\n\xff" + ok * 5)
    put("boundary", "send-owed", bytes([0, 0]) + b"\xfc220 hi\r\n\xff" + few + b"\xff" + ok * 5)
    put("boundary", "both", bytes([0, 0]) + hello + b"\xfc220 hi\r\n\xff" + caps + b"\xfcSTARTTLS\r\n\xff\xfc220 go\r\n\xff\xfa\xfc\xfa\xff\xfa\xfb" + hello)


def dns():
    name = b"\x01b\x04test\x00"

    def packet(qtype, *answers):
        return struct.pack(">HHHHHH", 7, 0x8180, 1, len(answers), 0, 0) + name + struct.pack(">HH", qtype, 1) + b"".join(answers)

    def answer(rtype, data, owner=b"\xc0\x0c"):
        return owner + struct.pack(">HHIH", rtype, 1, 300, len(data)) + data
    put("dns", "mx", b"\x01" + packet(15, answer(15, b"\0\x0a\x02mx\xc0\x0c"), answer(15, b"\0\x14\0"), answer(15, b"\0\1\x03a b\xc0\x0c")))
    put("dns", "a", b"\x00" + packet(1, answer(5, b"\x01c\xc0\x0c"), answer(1, b"\x7f\0\0\1", b"\x01c\xc0\x0c")))
    put("dns", "aaaa", b"\x02" + packet(28, answer(28, bytes(15) + b"\1")))
    put("dns", "none", b"\x01" + packet(15))
    put("dns", "tlsa", b"\x03" + packet(52, answer(5, b"\x01c\xc0\x0c"), answer(52, b"\3\1\1" + bytes(32), b"\x01c\xc0\x0c"), answer(52, b""), answer(52, b"\3\1\1")))
    put("dns", "txt", b"\x04" + packet(16, answer(16, b"\x0av=STSv1; i\x05d=1; "), answer(16, b"\0"), answer(16, b"\x09short")))
    put("dns", "chain", b"\x05" + packet(5, answer(5, b"\x01c\xc0\x0c"), answer(5, b"\x01d\xc0\x0c", b"\x01c\xc0\x0c"), answer(5, b"\xc0\x0c", b"\x01d\xc0\x0c")))


def sts():
    put("sts", "record", b"\x00v=STSv1; id=20160831085700Z; x=y;")
    put("sts", "policy", b"\x01version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\nx: y\r\n")
    put("sts", "none", b"\x01version: STSv1\nmode: none\nmax_age: 1\n")
    put("sts", "rua", b"\x02v=TLSRPTv1; rua=mailto:a%2Bb@c.test?x=y, https://d.test:443/e?f; g=h")
    put("sts", "match", b"\x03mx.example.net|a.test\n*.example.net\n")


def conf():
    put("conf", "issue", b'''hostname = "mx.sink.test"
spool    = "/var/tmp/postrider/spool"
control  = "/var/tmp/postrider/control.sock"
certificate "default" { chain = "cert.pem"  key = "key.pem" }
listener "mx"         { address = {"127.0.0.1:2620", "[::1]:25"}  tls = starttls }
domain "sink.test"    { deliver = "discard" }
domain "local.test"   { deliver = "maildir:/var/tmp/postrider/mail/%{user}" }
domain "relay.test"   { deliver = "smtp://127.0.0.1:2650"  tls = may }
relay                 { from = {"127.0.0.0/8"} }
''')
    base = b'hostname="a.b"\nspool="/s"\ncontrol="/c"\nlistener "m" {address={"127.0.0.1:25"} tls=none}\n'
    put("conf", "small", base)
    put("conf", "lmtp", base + b'domain "a.b" { deliver = "lmtp:/run/x" } # words\nroute { deliver = "smtp://mx.test:587" tls = verify }\n')
    put("conf", "twice", base + b'hostname = "x.y"\n')
    put("conf", "unknown", base + b'hostnme = "x.y"\nlistener "n" { addres = 5 }\n')
    put("conf", "quotes", b"hostname='a\\'b' /* c */ spool=\"\\x41${HOME}\"\n")


def spool():
    def message(i, body=b"hello", options=0):
        return bytes([1, 0, options, i]) + b"\x00\x32" * (1 + options % 4) + bytes([len(body)]) + body

    def segment(*records, how=0):
        return bytes([how, len(records)]) + b"".join(records)

    def outcome(i):
        return bytes([3, 0, 0, i])

    def some(kind, i):
        return bytes([kind, 0, 1, 0, 9, i])
    mark, abort = bytes([9, 32, 0, 2, 0]), bytes([8, 0, 0, 2, 3])
    moved = b"\x02" + message(2)[1:]
    put("spool", "plain", bytes([0]) + segment(message(1), message(2), outcome(1)))
    put("spool", "index", bytes([4]) + segment(message(1), message(2)) + segment(message(3), outcome(2), some(4, 3), mark))
    put("spool", "rebuild", bytes([32]) + segment(message(1), message(2), b"\x81" + message(3)[1:], message(4), abort, mark)
        + segment(moved, b"\x01\x01" + message(5)[2:], message(6)))
    put("spool", "damaged", bytes([2 | 8]) + segment(message(9), how=1) + segment(message(8), how=3) + segment(message(7), how=8))
    put("spool", "lists", bytes([36]) + segment(*[message(i) for i in range(5)]) + segment(*[some(k, k - 4) for k in (4, 5, 6, 7)]))
    put("spool", "files", bytes([16, 0]) + segment(b"\x01\x00\x20\x07\x00\x32\x05abcde\x00", some(7, 7)))
    for broken in (1, 2, 3, 4):
        put("spool", f"broken-{broken}", bytes([32]) + segment(message(1), bytes([1, broken]) + message(2)[2:], message(3)))




def wire():
    root = pathlib.Path(__file__).resolve().parents[2]

    rows = re.findall(r"^MESSAGE\((\w+),[^,]*,[^,]*,[^,]*,(.*?)\)\s*(?:/\*.*)?$", (root / "src/wire/messages.def").read_text(), re.M)
    for i, (name, fields) in enumerate(rows):
        data = b""
        for kind in re.findall(r"(U8|U16|U32|U64|TEXT)\(", fields + "("):
            data += b"\x03\0\0\0abc" if kind == "TEXT" else bytes([1]) + bytes(int(kind[1:]) // 8 - 1)
        put("wire", name, bytes([i + 1]) + data)

    def text(t):
        return struct.pack("<I", len(t)) + t
    put("wire", "rcpts", b"\xfd" + (text(b"a@b.c") + text(b"rfc822") + text(b"x@y") + b"\1") * 2)
    put("wire", "results", b"\xfe" + b"\1" + struct.pack("<HHHH", 250, 2, 1, 5) + text(b"ok") + text(b"mx") + b"\0")
    put("wire", "records", b"\xff" + struct.pack("<H", 10) + text(b"mx.test") + b"\2" + text(b"\x7f\0\0\1"))


def intake():
    def begin(s):
        return bytes([0, s, 0, 9])

    def octets(s, b):
        return bytes([1, s, len(b)]) + b

    def submit(options, s, *who):
        return bytes([2, options, s, *who])
    run, hello = bytes([5]), b"Subject: x\r\n\r\nhi\r\n"
    one = begin(1) + octets(1, hello)
    put("intake", "one", one + submit(1, 1, 0x10) + run + bytes([8, 0, 1]) + run)
    put("intake", "three", one + submit(128, 1, 0x10, 0x34, 0x28, 0) + run + bytes([8, 0, 2, 2, 3, 3]) + run
        + bytes([6, 250, 6, 250, 10, 1]) + run + bytes([6, 250]))
    for s in range(5):
        put("intake", f"script-{s}", bytes([10, s]) + begin(1) + begin(2) + octets(1, hello) + submit(128, 1, 0x20, 0x24, 0x14)
            + submit(0, 2, 4) + run + bytes([6, 255]) * 4 + bytes([6, 255]) * 20)
    put("intake", "abort", begin(0) + octets(0, hello) + bytes([3, 0]) + begin(0) + begin(0) + run)
    put("intake", "raw", one + bytes([4, 16, 3, 1, 2, 3]) + run)
    put("intake", "raw-out", one + submit(0, 1, 4) + run + bytes([9, 29, 8]) + bytes(8) + run)
    put("intake", "gone", one + bytes([7]) + one + submit(0, 1, 4) + run + bytes([12]) + run)
    put("intake", "credit", bytes([10, 0]) + one + submit(0, 1, 4) + run + bytes([11, 1, 255, 255]) + run)
    for s in range(5):  # local as well; whose are 2 (mod 4) go there
        put("intake", f"local-{s}", bytes([13, s]) + one + submit(128, 1, 0x12, 0x22, 0x06) + run + bytes([8, 0, 1, 1, 1]) + run + bytes([6, 255]) + run)
        put("intake", f"local-gone-{s}", bytes([13, 0]) + one + submit(0, 1, 0x12) + run + bytes([13, s]) + run + bytes([6, 255]) + run)
        put("intake", f"local-raw-{s}", bytes([13, 0]) + one + submit(0, 1, 0x12) + run + bytes([9, 128 + 29, 8, s]) + bytes(7) + run + bytes([9, 29, 8, s]) + bytes(7) + run)
    put("intake", "loop", begin(1) + octets(1, b"Received: x\r\n" * 19) * 4 + submit(0, 1, 4) + run)


def control():
    lines = [b'{"cmd":"list"}\n', b'{"cmd":"list","max":1}\n', b'{"cmd":"list","dest":"smtp:[127.0.0.1]:2650"}\n',
             b'{"cmd":"show","id":"0000000000000001"}\n', b'{"cmd":"hold","all":true}\n{"cmd":"release","all":true}\n',
             b'{"cmd":"flush"}\n', b'{"cmd":"status"}\n', b'{"cmd":"prometheus"}\n\xff{"cmd":"why","id":"00065"}\n',
             b'{"cmd":"delete","dest":"x"}\n', b'{"cmd":"reload"}\n', b'{"cmd":"stop"}\n\xfe', b'{}\n[]\n\n"\n{"cmd":"li\xffst"}\n']
    for i, line in enumerate(lines):
        put("control", str(i), line)


for seeds in (parse, ehlo, server, client, wired, boundary, body, mail, dsn, dns, sts, conf, spool, wire, intake, control):
    seeds()
