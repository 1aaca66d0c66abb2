"""Frames between roles, made by hand, and a way to put them on a live channel.

A compromised role is played from outside: pidfd_getfd(2) takes a duplicate of the socket by which it talks to its peer, and
what is written there comes to the peer as the role's own words.  Needs to be root, or the roles' user and no walls.
"""
import ctypes
import os
import pathlib
import re
import socket
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SYS_PIDFD_GETFD = 438
MESSAGES = {name: n for n, name in enumerate(re.findall(r"^MESSAGE\((\w+),", (ROOT / "src/wire/messages.def").read_text(), re.M), 1)}


def frame(name, payload=b""):
    return struct.pack("<II", len(payload), MESSAGES[name] if isinstance(name, str) else name) + payload


def text(data):
    return struct.pack("<I", len(data)) + data


def u64(n):
    return struct.pack("<Q", n)


def pairs():
    """Inode of each connected unix socket to that of its peer."""
    out = subprocess.run(["ss", "-xnH"], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in out.splitlines():
        numbers = re.findall(r"\* (\d+)", line)
        if len(numbers) == 2:
            found[int(numbers[0])] = int(numbers[1])
    return found


def sockets_of(pid):
    """Inode to descriptor."""
    out = {}
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            m = re.match(r"socket:\[(\d+)\]", os.readlink(fd))
        except OSError:
            continue
        if m:
            out[int(m.group(1))] = int(fd.name)
    return out


def steal(pid, peer):
    """Sockets by which `pid` talks to `peer`: duplicates, as Python sockets."""
    ends, mine, theirs = pairs(), sockets_of(pid), sockets_of(peer)
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        got = []
        for inode, fd in sorted(mine.items(), key=lambda item: item[1]):
            if ends.get(inode) in theirs:
                new = libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
                if new == -1:
                    raise PermissionError(ctypes.get_errno(), "pidfd_getfd: " + os.strerror(ctypes.get_errno()))
                got.append(socket.socket(fileno=new))
        return got
    finally:
        os.close(pidfd)
