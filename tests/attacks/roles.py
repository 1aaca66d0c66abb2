"""Attacks by roles: an intruder in receive or send floods those who believe in him.  See wire.py for how he is played.

Each ends with the channel, and with the process that broke the rules: super starts a new one, honest mail goes on.
"""
import contextlib
import fcntl
import os
import pathlib
import signal
import struct
import termios
import time

import wire
from clients import case

Unable = None   # set by run
PATIENCE = 8


class Stolen:
    """A socket of `role` to `peer`.  The role stands still while we write, so that frames do not mix with its own."""

    def __init__(self, scene, role, peer):
        pids = scene.pids_now()
        self.pid, self.sent = pids[role], 0
        try:
            found = wire.steal(pids[role], pids[peer])
        except (OSError, AttributeError) as e:
            raise Unable(f"no duplicate of a descriptor of {role}: {e}")
        assert found, f"no socket between {role} and {peer}"
        for s in found[1:]:
            s.close()
        self.socket = found[0]
        # duplicates share their flags: it stays non-blocking

    def stands(self):
        """The signal is on its way while its threads run on: has it come to all of them?"""
        return all(t.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] == "T" for t in pathlib.Path(f"/proc/{self.pid}/task").iterdir())

    def taken(self):
        return struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0] == 0

    def write(self, data):
        """False: the other end has closed."""
        end = time.monotonic() + PATIENCE
        try:
            os.kill(self.pid, signal.SIGSTOP)
            while not self.stands() and time.monotonic() < end:
                time.sleep(0.0005)
            while data and time.monotonic() < end:
                try:
                    data = data[self.socket.send(data[:65536]):]
                except BlockingIOError:
                    time.sleep(0.001)
            while not self.taken() and time.monotonic() < end:
                time.sleep(0.001)
            self.sent += 1
            return True
        except OSError:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)


def push(s, data, times=1):
    """Writes until all is written or the other end is closed: how often that was possible."""
    while s.sent < times and s.write(data):
        pass
    s.socket.close()
    return s.sent


def ended(scene, role, others=("queue", "local", "keys", "resolve")):
    """Super has ended that process and started another; the rest live."""
    before = scene.pids
    end = time.monotonic() + PATIENCE
    while scene.pids_now().get(role) in (None, before[role]) and time.monotonic() < end:
        time.sleep(0.05)
    now = scene.pids_now()
    assert now.get(role) not in (None, before[role]), f"{role} runs on"
    assert all(now[r] == before[r] for r in others), "another role was restarted"
    accused = scene.events("role_accused", role_name=role, pid=before[role])
    assert accused, "nobody accused it"
    return f"{accused[-1]['reason']} accused it"


def wait_until(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@case("wire/edges.def, messages.def", may_restart=True)
def a_frame_that_is_not_its_own(scene, size):
    push(Stolen(scene, "receive", "queue"), wire.frame("OUTCOME", b"x" * 100))
    return ended(scene, "receive")


@case("CHANNEL_FRAME_MAX", may_restart=True, long=True)
def a_frame_of_a_gigabyte(scene, size):
    push(Stolen(scene, "receive", "queue"), b"\xff\xff\xff\x3f" + wire.frame("BODY_BYTES")[4:] + b"x" * 65536, 2)
    return ended(scene, "receive")


@case("INTAKE_STREAMS_MAX", may_restart=True, memory_mib=64)
def messages_begun_without_end(scene, size):
    s = Stolen(scene, "receive", "queue")
    n = push(s, b"".join(wire.frame("BODY_BEGIN", wire.u64((1 << 40) + k) + wire.u64(0)) for k in range(70_000)))
    said = ended(scene, "receive")
    refused = scene.events("frame_refused", frame="BODY_BEGIN")
    assert refused and refused[-1]["reason"] == "too many streams", refused
    return f"{said}; {n}"


@case("WIRE_BODY_FRAME, WIRE_BODY_WINDOW", may_restart=True, long=True)
def more_octets_than_credit(scene, size):
    stream = wire.u64(1 << 41)
    push(Stolen(scene, "receive", "queue"), wire.frame("BODY_BEGIN", stream + wire.u64(0)) + wire.frame("BODY_BYTES", stream + wire.text(b"x" * (256 << 10))))
    return ended(scene, "receive")


@case("message_size_limit", memory_mib=16)
def a_body_without_end(scene, size):
    """Within credit, since the queue grants it anew: the message size ends what is kept, not the channel."""
    s, stream = Stolen(scene, "receive", "queue"), wire.u64(1 << 42)
    disk = scene.disk()
    s.write(wire.frame("BODY_BEGIN", stream + wire.u64(0)))
    frames = (64 << 20) // 16384 if size == "short" else (512 << 20) // 16384
    one = wire.frame("BODY_BYTES", stream + wire.text(b"x" * 16384))
    for _ in range(frames // 64):
        assert s.write(one * 64)
    grown = scene.disk() - disk
    s.write(wire.frame("BODY_ABORT", stream))
    s.socket.close()
    assert grown < (50 + 24) << 20, f"{grown} octets on disk"
    assert scene.alive()
    return f"{frames * 16384 >> 20} MiB sent, {max(grown, 0) >> 20} MiB kept"


@case("CHANNEL_OUT_MAX, SESSION_LOCAL_MS", memory_mib=72)
def questions_without_reading_the_answers(scene, size):
    """RCPT_CHECK in a flood: `local` answers into the channel of `receive`, which reads; what it cannot place it drops."""
    s = Stolen(scene, "receive", "local")
    n = 50_000 if size == "short" else 1_000_000
    one = b"".join(wire.frame("RCPT_CHECK", wire.u64(1 << 43) + wire.text(b"local.test") + wire.text(b"u%d" % k)) for k in range(1000))
    sent = push(s, one, n // 1000)
    return f"{sent * 1000} questions"


@case("wire/messages.def", may_restart=True, long=True)
def a_question_to_local_that_is_none(scene, size):
    push(Stolen(scene, "receive", "local"), wire.frame("RCPT_CHECK", b"\0" * 5))
    return ended(scene, "receive")


@case("wire/messages.def", may_restart=True, long=True)
def a_request_to_sign_that_is_none(scene, size):
    push(Stolen(scene, "receive", "keys"), wire.frame("KEY_SIGN", b"\0" * 3))
    return ended(scene, "receive")


@case("TLS_HASH_MAX; one answer a request", memory_mib=72)
def signatures_of_anything(scene, size):
    """Hashes of the wrong length, in a flood: refused one by one, none signed, and the log is not filled."""
    s = Stolen(scene, "receive", "keys")
    before = len(scene.events("key_refused"))
    one = wire.frame("KEY_SIGN", wire.u64(7) + b"\0\0\0\0" + b"\xff\0\0\0" + b"\x01" + wire.text(b"h" * 7))
    sent = push(s, one * 100, 200)
    told = len(scene.events("key_refused")) - before
    assert told <= 20, f"{told} log lines"
    return f"{sent * 100} requests, {told} log lines"


@case("wire/messages.def", may_restart=True)
def an_outcome_of_nothing(scene, size):
    push(Stolen(scene, "send", "queue"), wire.frame("OUTCOME", b"\0" * 4))
    return ended(scene, "send", ("queue", "local", "keys", "receive"))


@case("WIRE_BODY_WINDOW", may_restart=True, long=True)
def unknown_frames_without_end(scene, size):
    push(Stolen(scene, "send", "queue"), wire.frame(9999, b"x" * 1000), 100_000)
    return ended(scene, "send", ("queue", "local", "keys", "receive"))


@case("RESOLVE_REQUESTS_MAX", memory_mib=64)
def questions_to_the_dns_without_end(scene, size):
    s = Stolen(scene, "send", "resolve")
    one = b"".join(wire.frame("RESOLVE", wire.u64((1 << 44) + k) + b"\x02" + wire.text(b"n%d.test" % k)) for k in range(1000))
    sent = push(s, one, 30)
    wait_until(scene.alive, "a role was restarted", 1)
    return f"{sent * 1000} questions"


CASES = [f for f in list(globals().values()) if callable(f) and hasattr(f, "bound") and f.__module__ == __name__]