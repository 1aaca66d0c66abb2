#!/usr/bin/python3
"""Reads every variant of a report with Python's email package, which knows nothing of our code."""
import email
import email.policy
import email.utils
import subprocess
import sys

PROGRAM = sys.argv[1]


def report(variant):
    raw = subprocess.run([PROGRAM, variant], stdout=subprocess.PIPE, check=True).stdout
    message = email.message_from_bytes(raw)
    assert not message.defects, message.defects
    assert message.is_multipart() and message.get_content_type() == "multipart/report"
    assert message["Auto-Submitted"] == "auto-replied"
    assert "MAILER-DAEMON@mx.sink.test" in message["From"]
    assert email.utils.parsedate_to_datetime(message["Date"]).year == 2026
    parts = message.get_payload()
    assert len(parts) == 3, [p.get_content_type() for p in parts]
    for part in parts:
        assert not part.defects, (variant, part.defects)
    assert parts[0].get_content_type() == "text/plain"
    return raw, message, parts


def fields(part):
    """The blocks of a message/delivery-status: Python makes a message of each."""
    return part.get_payload()


raw, message, parts = report("failed")
assert message.get_param("report-type") == "delivery-status"
assert message["To"] == "<a@b.test>"
assert parts[1].get_content_type() == "message/delivery-status"
whole, x, y = fields(parts[1])
assert whole["Reporting-MTA"] == "dns; mx.sink.test"
assert whole["Original-Envelope-Id"] == "QQ314159"
assert email.utils.parsedate_to_datetime(whole["Arrival-Date"])
assert x["Original-Recipient"] == "rfc822; orig+x@dest.test"
assert x["Final-Recipient"] == "rfc822; x@dest.test"
assert x["Action"] == "failed" and x["Status"] == "5.1.1"
assert x["Remote-MTA"] == "dns; mx.dest.test"
assert x["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user Evil: header", x["Diagnostic-Code"]
assert "Evil" not in x
assert x["Last-Attempt-Date"] and "Will-Retry-Until" not in x
assert "Original-Recipient" not in y and "Remote-MTA" not in y
assert y["Status"] == "4.4.7" and y["Diagnostic-Code"].startswith("X-Postrider;")
assert parts[2].get_content_type() == "message/rfc822"
assert parts[2].get_payload(0).get_payload() == "body line\r\n.dot\r\n"

_, _, parts = report("headers")
assert parts[2].get_content_type() == "text/rfc822-headers"
assert "Subject: hello" in parts[2].get_payload() and "body line" not in parts[2].get_payload()

_, _, parts = report("delayed")
_, x = fields(parts[1])
assert x["Action"] == "delayed" and x["Status"] == "4.1.1" and x["Will-Retry-Until"]

_, _, parts = report("relayed")
_, x = fields(parts[1])
assert x["Action"] == "relayed" and x["Status"].startswith("2.")

for name, remote in (("literal", "dns; [192.0.2.9]"), ("literal6", "dns; [IPv6:2001:db8::9]"), ("socket", None)):
    _, _, parts = report(name)
    _, x = fields(parts[1])
    assert x["Remote-MTA"] == remote, x["Remote-MTA"]

raw, message, parts = report("8bit")
assert message["Content-Transfer-Encoding"] == "8bit"
assert parts[2]["Content-Transfer-Encoding"] == "8bit" and b"caf\xc3\xa9\r\n" in raw
assert parts[1]["Content-Transfer-Encoding"] == "7bit"

raw, message, parts = report("utf8")
assert message.get_param("report-type") == "global-delivery-status"
assert parts[1].get_content_type() == "message/global-delivery-status"
assert parts[2].get_content_type() == "message/global"
assert "Final-Recipient: utf-8; \u00fc@dest.test".encode() in raw
assert "Original-Recipient: utf-8; \u00fc@dest.test".encode() in raw

raw, _, parts = report("xtext")
_, x = fields(parts[1])
assert x["Original-Recipient"] == "utf-8; \\x{FC}\\x{20AC}\\x{1F642}@dest.test", x["Original-Recipient"]
assert all(octet < 128 for octet in raw)

raw, _, parts = report("big")
assert parts[2].get_content_type() == "text/rfc822-headers" and len(raw) < 10000

_, message, parts = report("boundary")
assert parts[2].get_payload(0).get_payload().startswith("--=_postrider_")
print("12 reports read")
