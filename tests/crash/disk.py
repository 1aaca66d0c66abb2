"""A recorded disk with a file system on it: blockdisk (see blockdisk.c), a loop device over its file, mkfs, mount.

Use: d = Disk(blockdisk, folder, "ext4"); d.make(); d.mount(); ...; d.unmount(); d.cut(...); d.mount(); ...; d.close()
The loop device detaches itself when nobody holds it (LO_FLAGS_AUTOCLEAR) and blockdisk ends with our end of its pipe: in
a mount namespace of its own (private_mounts) nothing is left behind even by kill -9 of this program.
"""
import ctypes
import ctypes.util
import errno
import fcntl
import os
import pathlib
import random
import struct
import subprocess
import time

LOOP_CTL_GET_FREE, LOOP_CONFIGURE, LOOP_CLR_FD, BLKFLSBUF = 0x4C82, 0x4C0A, 0x4C01, 0x1261
LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO = 4, 16
CLONE_NEWNS, CLONE_NEWTIME = 0x00020000, 0x00000080
MIB = 1 << 20
JOURNAL_BYTES = 1200 * MIB  # of memory, for one recorded life

# sector: what the device says is its smallest unit, and so what a write is torn into.  btrfs counts on 4096 octets being
# written whole (its superblock is one such unit), and so does xfs's recovery (a metadata block whose head is newer than
# the log is taken as it is: torn at 512 it no longer mounts).
SYSTEMS = {
    "ext4": dict(size=192 * MIB, sector=512, mkfs=["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"], options=""),
    "xfs": dict(size=320 * MIB, sector=4096, mkfs=["mkfs.xfs", "-q", "-f", "-K"], options="nouuid"),
    "btrfs": dict(size=256 * MIB, sector=4096, mkfs=["mkfs.btrfs", "-q", "-f", "-K"], options="nodiscard"),
}


class CannotPrepare(Exception):
    """This machine has no such disk; the text says why."""


class MountFailed(Exception):
    pass


def private_mounts():
    """What is mounted from now on is seen by us and our children alone, and ends with the last of us."""
    libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise CannotPrepare(f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def reboot():
    """Processes that we start from now on live on a machine that came up again: their monotonic clock began at another instant
    (a time namespace).  False: this kernel cannot do so."""
    subprocess._USE_VFORK = subprocess._USE_POSIX_SPAWN = False   # a child in another time namespace must not share our memory
    libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    if libc.unshare(CLONE_NEWTIME) != 0:
        return False
    up = random.randrange(1000, 10**8)
    pathlib.Path("/proc/self/timens_offsets").write_text(f"monotonic {up} 0\nboottime {up} 0\n")
    return True


def missing(system):
    """Why there is no such disk on this machine; "" when there is."""
    if os.geteuid() != 0:
        return "needs root"
    for node in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(node):
            return f"no {node}"
    if not any(os.access(os.path.join(p, SYSTEMS[system]["mkfs"][0]), os.X_OK) for p in os.environ["PATH"].split(":")):
        return f"no {SYSTEMS[system]['mkfs'][0]}"
    known = pathlib.Path("/proc/filesystems").read_text().split()
    if system not in known and subprocess.run(["modprobe", "-q", system], stderr=subprocess.DEVNULL).returncode != 0:
        return f"this kernel has no {system}"
    return ""


class Disk:
    def __init__(self, program, folder, system):
        self.system, self.folder = system, pathlib.Path(folder)
        self.size, self.sector = SYSTEMS[system]["size"], SYSTEMS[system]["sector"]
        self.options = SYSTEMS[system]["options"]
        self.mounted, self.loop = False, None
        self.point = self.folder / "mnt"
        inner = self.folder / "fuse"
        for d in (self.point, inner):
            d.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen([str(program), str(inner), str(self.size), str(JOURNAL_BYTES)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise CannotPrepare("blockdisk does not start")
        try:
            self._attach(inner / "disk")
        except OSError as e:
            self.close()
            raise CannotPrepare(f"no loop device: {e.strerror}")

    def _attach(self, path):
        """LOOP_CONFIGURE; another program may take the free device first, so a few times."""
        backing = os.open(path, os.O_RDWR)
        control = os.open("/dev/loop-control", os.O_RDWR)
        try:
            for attempt in range(20):
                number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
                self.device = f"/dev/loop{number}"
                if not os.path.exists(self.device):
                    os.mknod(self.device, 0o600 | 0o060000, os.makedev(7, number))
                self.loop = os.open(self.device, os.O_RDWR)
                info = bytearray(232)  # struct loop_info64; lo_flags at 52
                struct.pack_into("I", info, 52, LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO)
                try:
                    fcntl.ioctl(self.loop, LOOP_CONFIGURE, struct.pack("II", backing, self.sector) + bytes(info) + bytes(64))
                    return
                except OSError as e:
                    os.close(self.loop)
                    self.loop = None
                    if e.errno != errno.EBUSY or attempt == 19:
                        raise
                    time.sleep(0.05)
        finally:
            os.close(control)
            os.close(backing)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    # ---- the file system ----

    def make(self):
        subprocess.run([*SYSTEMS[self.system]["mkfs"], self.device], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def mount(self):
        r = subprocess.run(["mount", "-t", self.system, *(["-o", self.options] if self.options else []), self.device, str(self.point)],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if r.returncode != 0:
            raise MountFailed(r.stderr.strip())
        self.mounted = True

    def unmount(self):
        """Waits a little for processes that have just ended."""
        if not self.mounted:
            return
        for attempt in range(50):
            r = subprocess.run(["umount", str(self.point)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if r.returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", str(self.point)], stdin=subprocess.DEVNULL, capture_output=True)
            self.mounted = False
            raise OSError(f"{self.point} stays busy: {r.stderr.strip()}")
        self.mounted = False
        self.flush()

    def flush(self):
        """The kernel forgets what it knows of the device's content."""
        fcntl.ioctl(self.loop, BLKFLSBUF)

    # ---- the journal ----

    def position(self):
        words = self.say("position").split()
        if "full" in words:
            raise OSError("the journal is full")
        return int(words[0])

    def entries(self, second=False):
        """[(kind, ns, offset, length)]; second: of what was written since the last cut."""
        path = self.folder / "journal.txt"
        assert self.say(f"dump{'2' if second else ''} {path}") == "ok"
        out = []
        for line in path.read_text().splitlines():
            _, kind, when, at, n = line.split()
            out.append((kind, int(when), int(at), int(n)))
        path.unlink()
        return out

    def cut(self, n, keep="all", seed=1, lie=0):
        assert not self.mounted
        assert self.say(f"cut {n} {keep} {seed} {self.sector} {lie}") == "ok"
        self.flush()

    def second(self):
        return int(self.say("second"))

    def again(self, n, keep="all", seed=1):
        assert not self.mounted
        assert self.say(f"again {n} {keep} {seed} {self.sector}") == "ok"
        self.flush()

    def save(self, path):
        return self.say(f"save {path}") == "ok"

    def close(self):
        try:
            self.unmount()
        finally:
            if self.loop is not None:
                os.close(self.loop)  # the last one: it detaches itself
                self.loop = None
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
