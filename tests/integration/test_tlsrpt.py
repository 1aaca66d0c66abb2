"""TLS-RPT (RFC 8460): sessions counted by day, reports made, mailed and posted, tried again and given up.

The role is asked as in test_policy.py; what it brings to the queue is taken apart by Python's own mail and JSON readers, and judged by the
RFC's section 4.4.
"""
import base64
import contextlib
import datetime
import email
import email.policy
import gzip
import json
import re
import sqlite3
import threading
import time
from unittest import mock

import dkim
import pytest

from conftest import BINARY, run, wait_for
from test_policy import dns, driver, https, pki, policy, record, text  # noqa: F401 (fixtures)

NO_POLICY, TLSA, STS = 1, 2, 3
SUCCESS, NO_STARTTLS, MISMATCH, EXPIRED, UNTRUSTED, FETCH_ERROR = 1, 2, 3, 4, 5, 10
TYPES = {"tlsa", "sts", "no-policy-found"}
# by the numbers of enum wire_rpt_result, which the database keeps
RESULT_NAMES = ("", "successful", "starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", "validation-failure",
                "tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid")
RESULTS = set(RESULT_NAMES[2:])
ON = 'tls_report { send = true organization = "Ours" contact = "postmaster@ours.test" }\n'


def rua(domain, *uris):
    return [f'_smtp._tls.{domain}. 0 TXT "v=TLSRPTv1; rua={",".join(uris)}"', f"{domain}. 0 A 127.0.0.1"]


def tell(d, result, n=1, type=NO_POLICY, domain="good.test", **more):
    d.tell("result " + json.dumps(dict(domain=domain, policy_type=type, result=result, count=n, **more)))


def next_day(d):
    d.tell("time 86400")


def yesterday(folder, domain, n=1):
    """Results of a day that is over, without a leap of the clock, at which the role would make reports by itself."""
    with contextlib.closing(sqlite3.connect(folder / "policy.db", timeout=10)) as db, db:
        db.execute("INSERT INTO result (day, domain, policy_type, policy_text, result, mx, address, local, reason, n) VALUES (?, ?, 1, '', 1, '', '', '', '', ?)",
                   (int(time.time()) // 86400 - 1, domain, n))


def now(d):
    d.tell("now")
    return d.wait("on")


def judged(data):
    """The JSON of a report, by the rules of RFC 8460 4.4."""
    report = json.loads(gzip.decompress(data))
    assert set(report) == {"organization-name", "date-range", "contact-info", "report-id", "policies"}
    assert set(report["date-range"]) == {"start-datetime", "end-datetime"}
    begin, end = (datetime.datetime.strptime(report["date-range"][k], "%Y-%m-%dT%H:%M:%SZ") for k in ("start-datetime", "end-datetime"))
    assert begin.time() == datetime.time() and end - begin == datetime.timedelta(seconds=86399)
    assert all(isinstance(report[k], str) and report[k] for k in ("organization-name", "contact-info", "report-id"))
    assert report["policies"]
    for p in report["policies"]:
        assert set(p) - {"failure-details"} == {"policy", "summary"}
        assert {"policy-type", "policy-domain"} <= set(p["policy"]) <= {"policy-type", "policy-domain", "policy-string", "mx-host"}
        assert p["policy"]["policy-type"] in TYPES
        assert all(isinstance(s, str) for k in ("policy-string", "mx-host") for s in p["policy"].get(k, []))
        assert set(p["summary"]) == {"total-successful-session-count", "total-failure-session-count"}
        details = p.get("failure-details", [])
        for f in details:
            assert set(f) <= {"result-type", "sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo", "receiving-ip", "failed-session-count",
                              "additional-information", "failure-reason-code"}
            assert f["result-type"] in RESULTS and isinstance(f["failed-session-count"], int)
        assert sum(f["failed-session-count"] for f in details) == p["summary"]["total-failure-session-count"]
    return report


def attachment(said):
    """The report in a mail, and the mail: as section 5.3 wants it."""
    mail = email.message_from_string(said["mail"], policy=email.policy.default)
    assert "\n" not in said["mail"].replace("\r\n", "") and all(len(line) <= 998 for line in said["mail"].split("\r\n"))
    assert not mail.defects and mail.get_content_type() == "multipart/report" and mail.get_param("report-type") == "tlsrpt"
    assert re.fullmatch(r"Report Domain: (\S+) Submitter: (\S+) Report-ID: <(\S+@\S+)>", mail["Subject"])
    assert mail["TLS-Required"] == "No" and mail["Date"] and mail["Message-ID"] and mail["MIME-Version"] == "1.0"
    words, part = mail.iter_parts()
    assert words.get_content_type() == "text/plain" and part.get_content_type() == "application/tlsrpt+gzip"
    return mail, part.get_filename(), part.get_payload(decode=True)


def mailed(d):
    next_day(d)
    wait_for(lambda: d.events("tls_report_made"), 10, "a report")
    d.tell("time 14500")
    return d.wait("mail")


# ---- nothing to tell ----

def test_nobody_who_did_not_ask_gets_a_report(dns, https, driver):
    dns.set("good.test. A 127.0.0.1", *rua("other.test", "mailto:reports@box.test"))
    d = driver(https(), ON)
    tell(d, SUCCESS)
    tell(d, SUCCESS, domain="other.test")
    said = mailed(d)
    assert judged(attachment(said)[2])["policies"][0]["policy"]["policy-domain"] == "other.test"
    next_day(d)
    time.sleep(1)
    assert len(d.events("tls_report_made")) == 1, "each day once, and the other one never"


@pytest.mark.parametrize("extra", ["", "tls_report { send = false }\n"])
def test_switched_off_nothing_is_counted(dns, https, driver, extra):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), extra)
    tell(d, SUCCESS)
    next_day(d)
    time.sleep(1)
    assert not d.events("tls_report_made")


@pytest.mark.parametrize("broken", [["v=TLSRPTv1; rua=mailto:a@box.test", "v=TLSRPTv1; rua=mailto:b@box.test"], ["v=TLSRPTv1; rua=ftp://box.test/"], ["v=TLSRPTv1;"]])
def test_records_that_count_as_none(dns, https, driver, broken):
    dns.set(*[f'_smtp._tls.good.test. 0 TXT "{t}"' for t in broken], "good.test. A 127.0.0.1")
    d = driver(https(), ON)
    tell(d, SUCCESS)
    next_day(d)
    time.sleep(1)
    assert not d.events("tls_report_made")


def test_a_result_that_cannot_be_ends_the_channel(dns, https, driver):
    dns.set("good.test. A 127.0.0.1")
    d = driver(https(), ON)
    tell(d, 99)
    assert d.wait("closed") == {"closed": "send"}


# ---- by mail ----

def test_a_report_by_mail(dns, https, driver):
    dns.set(*rua("good.test", "mailto:reports%2Btls@box.test?subject=x"))
    d = driver(https(), ON)
    lines = "version: STSv1\nmode: testing\nmx: *.good.test\nmx: mx.good.test\nmax_age: 86400\n"
    tell(d, SUCCESS, 5)
    tell(d, SUCCESS, 2, domain="Good.TEST")
    tell(d, EXPIRED, 3, mx="mx.good.test", address="192.0.2.1", local_address="192.0.2.9", reason='over since 2020 "quoted" \x01')
    tell(d, MISMATCH, 1, STS, policy_text=lines, mx="evil.test", address="2001:db8::1")
    tell(d, SUCCESS, 4, STS, policy_text=lines)
    tell(d, UNTRUSTED, 2, TLSA, policy_text="3 1 1 AAAA\n3 1 1 BBBB\n", mx="mx.good.test")
    said = mailed(d)
    assert said["sender"] == "" and said["rcpts"] == ["reports+tls@box.test"] and said["flags"] == 0
    mail, name, data = attachment(said)
    assert (mail["From"], mail["To"], mail["TLS-Report-Domain"], mail["TLS-Report-Submitter"]) == ("tlsrpt@mx.ours.test", "reports+tls@box.test", "good.test", "mx.ours.test")
    report = judged(data)
    assert re.fullmatch(r"mx\.ours\.test!good\.test!(\d+)!(\d+)\.json\.gz", name)
    assert report["organization-name"] == "Ours" and report["contact-info"] == "postmaster@ours.test"
    by_type = {p["policy"]["policy-type"]: p for p in report["policies"]}
    assert {t: tuple(p["summary"].values()) for t, p in by_type.items()} == {"no-policy-found": (7, 3), "sts": (4, 1), "tlsa": (0, 2)}
    assert by_type["no-policy-found"]["failure-details"] == [{
        "result-type": "certificate-expired", "sending-mta-ip": "192.0.2.9", "receiving-mx-hostname": "mx.good.test", "receiving-ip": "192.0.2.1",
        "failed-session-count": 3, "failure-reason-code": 'over since 2020 "quoted" ?'}]
    assert by_type["sts"]["policy"]["policy-string"] == lines.splitlines() and by_type["sts"]["policy"]["mx-host"] == ["*.good.test", "mx.good.test"]
    assert by_type["tlsa"]["policy"]["policy-string"] == ["3 1 1 AAAA", "3 1 1 BBBB"] and "mx-host" not in by_type["tlsa"]["policy"]
    wait_for(lambda: d.events("tls_report_sent"), 5, "the queue's word")


def test_a_policy_that_could_not_be_fetched_is_named(dns, https, driver):
    dns.set(*record("good.test", "v=STSv1; id=1"), *rua("good.test", "mailto:reports@box.test"))
    d = driver(https(None, "self"), ON)
    assert d.ask("good.test")["status"] == 3
    tell(d, FETCH_ERROR, 1, STS)
    details = judged(attachment(mailed(d))[2])["policies"][0]["failure-details"]
    assert [f["result-type"] for f in details] == ["sts-webpki-invalid"]


def test_the_cached_policy_stands_in_for_the_text(dns, https, driver):
    dns.set(*record("good.test", "v=STSv1; id=1"), *rua("good.test", "mailto:reports@box.test"))
    d = driver(https(text(policy(max_age=31557600))), ON)
    assert d.ask("good.test")["status"] == 2
    tell(d, SUCCESS, 1, STS)
    assert judged(attachment(mailed(d))[2])["policies"][0]["policy"]["policy-string"] == policy(max_age=31557600).split("\r\n")[:-1]


def test_many_details_are_bounded(dns, https, driver):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), ON)
    for i in range(700):
        tell(d, EXPIRED, 1, mx=f"mx{i}.good.test", reason="x" * 400)
    p, = judged(attachment(mailed(d))[2])["policies"]
    assert p["summary"]["total-failure-session-count"] == 700 and len(p["failure-details"]) == 501
    assert all(len(f.get("failure-reason-code", "")) <= 300 for f in p["failure-details"])


def test_the_queue_says_no_and_then_yes(dns, https, driver):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), ON)
    tell(d, SUCCESS)
    d.tell("done 2")
    mailed(d)
    wait_for(lambda: d.events("tls_report_failed"), 5, "the refusal")
    d.tell("done 1")
    d.tell("time 1000")
    assert d.wait("mail") and wait_for(lambda: d.events("tls_report_sent"), 5, "the second try")


def test_counts_outlive_the_role(dns, https, driver):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    server = https()
    d = driver(server, ON)
    tell(d, SUCCESS, 3)
    time.sleep(0.3)
    d.close()
    d = driver(server, ON)
    assert judged(attachment(mailed(d))[2])["policies"][0]["summary"]["total-successful-session-count"] == 3


# ---- by POST ----

def test_a_report_by_post_is_tried_again(dns, https, driver):
    server = https(text("busy", 503))
    dns.set(*rua("good.test", f"https://mta-sts.good.test:{server.port}/tls?x=y", "mailto:reports@box.test"), "mta-sts.good.test. 0 A 127.0.0.1")
    d = driver(server, ON)
    tell(d, SUCCESS, 9)
    mailed(d)
    wait_for(lambda: d.events("tls_report_failed"), 10, "the refusal")
    server.answer = text("thank you", 201)
    d.tell("time 1000")
    wait_for(lambda: len(d.events("tls_report_sent")) == 2, 10, "the second try")
    (_, path, type, first), (_, _, _, second) = server.asked
    assert path == "/tls?x=y" and type == "application/tlsrpt+gzip" and first == second
    assert judged(second)["policies"][0]["summary"]["total-successful-session-count"] == 9


def test_a_post_to_a_wrong_certificate_is_given_up_after_a_day(dns, https, driver):
    server = https(None, "other")
    dns.set(*rua("good.test", f"https://mta-sts.good.test:{server.port}/tls"), "mta-sts.good.test. 0 A 127.0.0.1")
    d = driver(server, ON)
    tell(d, SUCCESS)
    next_day(d)
    wait_for(lambda: d.events("tls_report_made"), 10, "a report")
    for _ in range(12):
        before = len(d.events("tls_report_failed"))
        d.tell("time 14500")
        time.sleep(0.7)
        if any("again=no" in e for e in d.events("tls_report_failed")):
            break
        assert len(d.events("tls_report_failed")) > before
    else:
        pytest.fail("never given up")
    before = len(d.events("tls_report_failed"))
    assert 6 <= before <= 11 and not server.asked
    d.tell("time 20000")
    time.sleep(0.7)
    assert len(d.events("tls_report_failed")) == before


# ---- reports of others ----

# RFC 8460, appendix B
EXAMPLE = {
    "organization-name": "Company-X", "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example", "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [{
        "policy": {"policy-type": "sts", "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
                   "policy-domain": "company-y.example", "mx-host": ["*.mail.company-y.example"]},
        "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
        "failure-details": [
            {"result-type": "certificate-expired", "sending-mta-ip": "2001:db8:abcd:0012::1", "receiving-mx-hostname": "mx1.mail.company-y.example",
             "failed-session-count": 100},
            {"result-type": "validation-failure", "sending-mta-ip": "198.51.100.62", "receiving-ip": "203.0.113.58", "failed-session-count": 3,
             "receiving-mx-hostname": "mx-backup.mail.company-y.example", "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}]}]}


def show(path, *more, check=True):
    return run(BINARY, "tlsrpt", "show", *more, path, check=check)


def as_mail(data, type="application/tlsrpt+gzip"):
    b64 = base64.encodebytes(data).decode().replace("\n", "\r\n")
    return ("From: a@b.test\r\nContent-Type: multipart/report; report-type=\"tlsrpt\"; boundary=\"x\"\r\n\r\nhello\r\n--x\r\nContent-Type: text/plain\r\n"
            f"Content-Transfer-Encoding: base64\r\n\r\naGk=\r\n--x\r\nContent-Type: {type}\r\nContent-Transfer-Encoding: base64\r\n\r\n{b64}\r\n--x--\r\n").encode()


@pytest.mark.parametrize("form", ["json", "gzip", "mail", "mail+json"])
def test_a_report_is_shown(tmp_path, form):
    data = json.dumps(EXAMPLE).encode()
    octets = {"json": data, "gzip": gzip.compress(data), "mail": as_mail(gzip.compress(data)), "mail+json": as_mail(data, "application/tlsrpt+json")}[form]
    path = tmp_path / "report"
    path.write_bytes(octets)
    said = show(path).stdout
    for words in ("Company-X", "5065427c-23d3-47ca-b6e0-946ea0e8c4be", "company-y.example  sts  5326 successful, 303 failed", "mode: testing",
                  "100 certificate-expired  mx mx1.mail.company-y.example  from 2001:db8:abcd:0012::1", "[203.0.113.58]", "X509_V_ERR_PROXY_PATH"):
        assert words in said, said
    assert json.loads(show(path, "--json").stdout) == EXAMPLE


def test_what_we_send_we_can_read(dns, https, driver, tmp_path):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), ON)
    tell(d, EXPIRED, 3, mx="mx.good.test")
    (tmp_path / "mail").write_text(mailed(d)["mail"], newline="")
    assert "3 certificate-expired  mx mx.good.test" in show(tmp_path / "mail").stdout


@pytest.mark.parametrize("octets, why", [
    (b"", "neither"), (b"hello", "neither"), (b"{", "broken"), (b"{}", "no report"), (b"[1]", "neither"), (b'{"policies": 3}', "no report"),
    (gzip.compress(b"{}")[:-9], "gzip is broken"), (b"\x1f\x8b\x08nonsense", "gzip is broken"), (as_mail(b""), "base64"),
    (as_mail(b"{}").replace(b"e30=", b"####"), "base64"), (gzip.compress(b" " * (70 << 20)), "64 MiB"), (b'{"policies": [], "policies": []}', "broken"),
], ids=["empty", "words", "cut", "object", "array", "number", "cut gzip", "no gzip", "empty mail", "no base64", "bomb", "twice"])
def test_what_is_no_report(tmp_path, octets, why):
    (tmp_path / "x").write_bytes(octets)
    r = show(tmp_path / "x", check=False)
    assert r.returncode == 65 and why in r.stderr and not r.stdout, r


def test_a_report_moves_no_cursor_and_odd_types_do_no_harm(tmp_path):
    odd = {"policies": [3, None, {"policy": [], "summary": "x", "failure-details": [7, {"result-type": "\u001b[2J\u0007", "failed-session-count": "many"}]}], "report-id": "a\u009bb"}
    (tmp_path / "x").write_text(json.dumps(odd))
    for more in ([], ["--json"]):
        said = show(tmp_path / "x", *more).stdout
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said), said


def test_wrong_words(tmp_path):
    assert run(BINARY, "tlsrpt", check=False).returncode == 64 and run(BINARY, "tlsrpt", "show", check=False).returncode == 64
    assert run(BINARY, "tlsrpt", "show", "--what", "x", check=False).returncode == 64
    assert show(tmp_path / "absent", check=False).returncode == 66 and show(tmp_path, check=False).returncode == 66


# ---- signed (RFC 8460 3, RFC 6376, RFC 8463); judged by dkimpy ----

@pytest.fixture(scope="module")
def dkim_keys(folder):
    """{algorithm: path of a private key}, and the TXT records of the public ones by their names, as an operator would publish them."""
    d = folder / "dkim"
    d.mkdir()
    d.chmod(0o755)
    keys, records = {}, {}
    for algorithm, selector, how in (("rsa", "r1", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), ("ed25519", "e1", ["-algorithm", "ED25519"])):
        keys[algorithm] = d / f"{algorithm}.pem"
        run("openssl", "genpkey", *how, "-out", keys[algorithm])
        keys[algorithm].chmod(0o644)
        run("openssl", "pkey", "-in", keys[algorithm], "-pubout", "-outform", "DER", "-out", d / "public.der")
        public = (d / "public.der").read_bytes()
        public = public[-32:] if algorithm == "ed25519" else public   # RFC 8463 4.2: the bare 32 octets
        records[f"{selector}._domainkey.ours.test."] = f"v=DKIM1; k={algorithm}; s=tlsrpt; p={base64.b64encode(public).decode()}".encode()
    return keys, records


def sections(keys, domain="ours.test", **other):
    files = {**keys, **other}
    return (f'dkim "r1" {{ domain = "{domain}" key = "{files["rsa"]}" }}\n'
            f'dkim "e1" {{ domain = "{domain}" algorithm = ed25519 key = "{files["ed25519"]}" }}\n')


def verdicts(mail, records):
    """Of each signature of the mail; two days from now, since the driver's clock goes ahead."""
    judge = dkim.DKIM(mail)
    n = sum(k.lower() == b"dkim-signature" for k, _ in judge.headers)
    ask = lambda name, timeout=5: records.get((name if isinstance(name, str) else name.decode()).lower())   # noqa: E731

    def one(i):
        try:
            return dkim.DKIM(mail, tlsrpt=True).verify(idx=i, dnsfunc=ask)
        except dkim.DKIMException:
            return False
    then = time.time() + 2 * 86400
    with mock.patch("dkim.time.time", lambda: then):
        return [one(i) for i in range(n)]


FROM = ON.replace("}", 'from = "tls@mail.ours.test" }')


def test_a_report_is_signed_by_every_key_of_its_domain(dns, https, driver, dkim_keys):
    keys, records = dkim_keys
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), FROM + sections(keys))
    tell(d, SUCCESS)
    said = mailed(d)
    octets = said["mail"].encode()
    assert verdicts(octets, records) == [True, True]
    judged(attachment(said)[2])
    for a, b in ((b"TLS-Report-Domain: good", b"TLS-Report-Domain: evil"), (b"reports@box", b"reports@fox"), (b"Report Domain", b"Report  domain"), (b"H4sI", b"H4sJ"),
                 (b"From: tls@", b"From: other@x.test\r\nFrom: tls@")):
        assert a in octets and verdicts(octets.replace(a, b, 1), records) == [False, False], a
    # what RFC 6376 3.4 lets a hop do does no harm
    assert verdicts(octets.replace(b"Subject: Report", b"Subject:   Report", 1).replace(b"\r\n\r\n--=", b" \r\n\r\n--=", 1) + b"\r\n\r\n", records) == [True, True]
    assert verdicts(octets, {k: v.replace(b"p=", b"p=AAAA") for k, v in records.items()}) == [False, False]


def test_the_command_prints_what_to_publish(dkim_keys, tmp_path):
    keys, records = dkim_keys
    conf = tmp_path / "c.conf"
    head = f'hostname = "mx.ours.test"\nspool = "{tmp_path}/s"\ncontrol = "{tmp_path}/c"\n'
    conf.write_text(head + sections(keys))
    said = run(BINARY, "dkim", "records", "-c", conf).stdout
    assert {n: "".join(re.findall(r'"([^"]*)"', t)).encode() for n, t in re.findall(r"^(\S+) TXT (.*)$", said, re.M)} == records
    assert all(len(s) <= 255 for s in re.findall(r'"([^"]*)"', said))
    conf.write_text(head + sections(keys, ed25519=keys["rsa"]))
    r = run(BINARY, "dkim", "records", "-c", conf, check=False)
    assert r.returncode == 66 and "no Ed25519 private key" in r.stderr and "r1._domainkey" in r.stdout
    conf.write_text(head + sections(keys, rsa="/nonexistent"))
    assert run(BINARY, "dkim", "records", "-c", conf, check=False).returncode == 66
    conf.write_text(head)
    assert run(BINARY, "dkim", "records", "-c", conf, check=False).returncode == 78
    for wrong in ([], ["what"], ["records", "x"]):
        assert run(BINARY, "dkim", *wrong, check=False).returncode == 64


def test_no_key_signs_for_another_domain(dns, https, driver, dkim_keys):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), FROM + sections(dkim_keys[0], domain="other.test"))
    tell(d, SUCCESS)
    assert "DKIM-Signature" not in mailed(d)["mail"]


@pytest.mark.parametrize("other", [{"rsa": "ed25519"}, {"ed25519": "rsa"}, {"rsa": None}], ids=["kind", "other kind", "missing"])
def test_what_cannot_be_signed_is_not_sent(dns, https, driver, dkim_keys, other):
    keys = dkim_keys[0]
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), FROM + sections(keys, **{k: keys[v] if v else "/nonexistent" for k, v in other.items()}))
    wait_for(lambda: d.events("key_broken"), 10, "the complaint")
    tell(d, SUCCESS)
    next_day(d)
    now(d)
    wait_for(lambda: d.events("tls_report_failed"), 10, "its failure")
    assert "could not be signed" in d.events("tls_report_failed")[0] and "again=yes" in d.events("tls_report_failed")[0]
    assert not any("mail" in line for line in d.said)


# ---- now ----

def test_now_today_is_not_over(dns, https, driver):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), ON)
    assert now(d) == {"on": True, "domains": 0, "reports": 0}
    tell(d, SUCCESS)
    assert now(d) == {"on": True, "domains": 0, "reports": 0}
    time.sleep(1)
    assert not d.events("tls_report_made")


def test_now_where_nothing_is_counted(dns, https, driver):
    dns.set("good.test. A 127.0.0.1")
    assert now(driver(https(), "")) == {"on": False, "domains": 0, "reports": 0}


def test_now_makes_and_sends(dns, https, driver, tmp_path):
    dns.set(*rua("good.test", "mailto:reports@box.test"), *rua("next.test", "mailto:reports@next.test"), "none.test. A 127.0.0.1")
    d = driver(https(), ON)
    now(d)   # it has opened its database
    for domain in "good.test", "next.test", "none.test":
        yesterday(tmp_path / "policy", domain)
    assert now(d) == {"on": True, "domains": 3, "reports": 0}
    assert {d.wait("mail")["rcpts"][0] for _ in range(2)} == {"reports@box.test", "reports@next.test"}
    assert now(d) == {"on": True, "domains": 0, "reports": 0} and len(d.events("tls_report_sent")) == 2


def test_now_does_not_wait_for_the_moment(dns, https, driver):
    dns.set(*rua("good.test", "mailto:reports@box.test"))
    d = driver(https(), ON)
    tell(d, SUCCESS)
    next_day(d)
    wait_for(lambda: d.events("tls_report_made"), 10, "a report")   # by the role's own tick: due within hours
    d.tell("done 2")
    assert now(d)["reports"] == 1
    d.wait("mail")
    wait_for(lambda: d.events("tls_report_failed"), 10, "the queue's refusal")
    d.tell("done 1")
    assert now(d)["reports"] == 1, "it would wait a quarter of an hour"
    judged(attachment(d.wait("mail"))[2])
    wait_for(lambda: d.events("tls_report_sent"), 10, "its end")


def test_now_twice_is_once(dns, https, driver, tmp_path):
    """What is under way does not go again."""
    gate = threading.Event()
    ok = text(b"", 200)
    server = https(lambda h: gate.wait(20) and ok(h))
    dns.set(*rua("good.test", f"https://mta-sts.good.test:{server.port}/report"), "mta-sts.good.test. 0 A 127.0.0.1")
    d = driver(server, ON)
    now(d)
    yesterday(tmp_path / "policy", "good.test")
    assert now(d)["domains"] == 1
    wait_for(lambda: server.asked, 10, "the report")
    for _ in range(3):
        assert now(d) == {"on": True, "domains": 0, "reports": 1}
    gate.set()
    wait_for(lambda: d.events("tls_report_sent"), 10, "its end")
    assert len(server.asked) == 1 and now(d)["reports"] == 0


def test_the_command_sends_now(postrider, dns, dkim_keys):
    """The whole way, signatures and all: results of yesterday are there, the operator does not wait, and the report lies in a mailbox."""
    dns.set(*rua("local.test", "mailto:reports@local.test"), "good.test. A 127.0.0.1")
    p = postrider(extra=f'resolver = {{"127.0.0.1:{dns.port}"}}\n{ON}'
                        + sections(dkim_keys[0], domain="sink.test"))
    box = p.mailbox("reports")
    yesterday(p.dir / "spool-policy", "local.test", 7)
    said = p.ctl("tlsrpt", "send", "--now")
    assert "results of 1 domains" in said.stdout, said
    octets = box.wait()[0]
    records = {k.replace("ours.test", "sink.test"): v for k, v in dkim_keys[1].items()}
    assert verdicts(octets.replace(b"\n", b"\r\n"), records) == [True, True]
    mail = email.message_from_bytes(octets, policy=email.policy.default)
    report = judged(list(mail.iter_parts())[1].get_payload(decode=True))
    assert report["policies"][0]["summary"] == {"total-successful-session-count": 7, "total-failure-session-count": 0}
    assert p.ctl("tlsrpt", "send", "--now").stdout == "nothing to report of days that are over (UTC)\n"
    # a reload with one more certificate: the keys behind it have other numbers
    p.write_config(p.CONFIG.replace('listener "mx"', 'certificate "another" {{ chain = "{chain}" key = "{key}" }}\nlistener "mx"', 1))
    assert p.ctl("reload").returncode == 0
    wait_for(lambda: len(p.events("ready")) >= 2 or p.events("reloaded"), 20, "the reload")
    yesterday(p.dir / "spool-policy", "local.test", 3)
    p.ctl("tlsrpt", "send", "--now")
    octets = [m for m in box.wait(2) if m != octets][0]
    assert verdicts(octets.replace(b"\n", b"\r\n"), records) == [True, True]


def test_the_command_that_cannot(postrider):
    p = postrider()
    r = p.ctl("tlsrpt", "send", "--now", check=False)
    assert r.returncode != 0 and "tls_report { send = true } is not set" in r.stderr
    for wrong in (["send"], ["send", "--today"], ["what"], []):
        assert run(BINARY, "tlsrpt", *wrong, check=False).returncode == 64
