"""Judges what a disk holds after a cut against what had been promised by then.

Promises(life, instants) says for an instant what must hold; `spool` compares it with what judge found in the spool and what
the Maildirs hold, `drained` with what a whole daemon delivered afterwards.  A verdict is a list of faults (empty: all well) and
adds to a tally: recipients judged, doubles that were allowed and how old the oldest was.

The instant of a cut behind N entries is when entry N came: all that was said before it was said by a disk that had
the first N entries at most.
"""
import collections
import hashlib
import pathlib

from loader import MARK

# An outcome rides in the next commit, within 50 ms; a machine with two busy cores takes longer.  A delivery that is
# older and yet comes again was not settled as promised.
IN_FLIGHT_NS = 2 * 10**9
LOG_NS = 10**6   # the log's time is cut to this


class Tally(collections.Counter):
    oldest_double_ns = 0

    def double(self, age):
        self["doubles"] += 1
        self.oldest_double_ns = max(self.oldest_double_ns, age)


def mailboxes(folder):
    """{(id, user): [sha]} of all in new/; what has no id is under "-"."""
    out = collections.defaultdict(list)
    for path in pathlib.Path(folder).glob("*/new/*"):
        data = path.read_bytes()
        at = data.find(MARK)
        if at < 0:
            out[("-", path.parent.parent.name)].append(f"{path.name}: {len(data)} octets")
            continue
        end = data.find(b"\n", at)
        ident = data[at + len(MARK):end].rstrip(b"\r").decode(errors="replace")
        out[(ident, path.parent.parent.name)].append(sha_of(data[at:]))
    return out


def sha_of(data):
    """As the sender's: a Maildir has lines that end in LF."""
    if b"\r\n" not in data:
        data = data.replace(b"\n", b"\r\n")
    return hashlib.sha256(data).hexdigest()[:32]


class Found:
    """What judge printed."""

    def __init__(self, output):
        self.queued = collections.defaultdict(list)   # (id, recipient): [(sha, queue id)]
        self.reports, self.faults, self.opened = collections.Counter(), [], []
        for line in output.splitlines():
            words = line.split()
            if words[0] == "opened":
                self.opened.append(dict(w.split("=") for w in words[1:]))
                self.queued.clear()
                self.reports.clear()
                self.faults = [f for f in self.faults if not f.startswith("bad")]
            elif words[0] == "envelope" and words[3] == "mail":
                for to in words[7].split(","):
                    self.queued[(words[4], to)].append((words[5], words[1]))
            elif words[0] == "envelope" and words[3] == "report":
                self.reports[words[4]] += 1
            elif words[0] in ("bad", "refused") or words[0] == "envelope":
                self.faults.append(line)
        if not output.splitlines() or not output.splitlines()[-1].startswith("end"):
            self.faults.append("the spool could not be listed")


class Promises:
    def __init__(self, life):
        self.sent = life.sent
        self.came = collections.defaultdict(list)      # (id, recipient): [(ns, sha)]
        for at, ident, sha, to in life.came:
            self.came[(ident, to)].append((at, sha))
        self.told = life.told
        self.report_ids = life.report_ids
        self.reports = {ident: at for at, ident, _, to in life.came if ident.startswith("no-")}

    def instant(self, life, n):
        return life.entries[n][1] if n < len(life.entries) else life.entries[-1][1] + 1

    def delivered_at(self, s, to, now):
        """When its next hop took it, or the log said so; None: not before `now`."""
        if to.endswith("@relay.test"):
            at = min((t for t, _ in self.came.get((s.ident, to), ())), default=None)
        else:
            at = self.told.get((s.queue_id, to))
        return at if at is not None and at <= now else None

    def spool(self, found, boxes, now, tally):
        """Faults of a spool that was cut at `now`."""
        faults = list(found.faults)
        for (ident, to), copies in found.queued.items():
            s = self.sent.get(ident)
            if s is None or to not in s.to:
                faults.append(f"{ident} for {to}: nobody sent it")
            elif len(copies) > 1:
                faults.append(f"{ident} for {to}: {len(copies)} times in the queue")
            elif copies[0][0] != s.sha:
                faults.append(f"{ident} for {to}: not what was sent")
        for (ident, user), shas in boxes.items():
            s = self.sent.get(ident)
            if s is None or f"{user}@local.test" not in s.to:
                faults.append(f"{ident} in the mailbox {user}: nobody sent it {shas}")
            elif len(shas) > 1 or shas[0] != s.sha:
                faults.append(f"{ident} in the mailbox {user}: {len(shas)} copies, the first is{'' if shas[0] == s.sha else ' not'} what was sent")
        for s in self.sent.values():
            if s.at > now:
                continue
            for to in s.to:
                tally["judged"] += 1
                fault = self.one(s, to, found, boxes, now, tally)
                if fault:
                    faults.append(f"{s.ident} ({s.queue_id}) for {to}: {fault}")
        return faults

    def one(self, s, to, found, boxes, now, tally):
        queued = (s.ident, to) in found.queued
        if s.way == "no":
            reported = found.reports[s.ident] + (self.reports.get(s.ident, now + 1) <= now)
            if not queued and not reported:
                return "acknowledged, and neither queued nor bounced"
            return "queued although its report is made" if queued and reported else None
        if s.way == "later":
            return None if queued else "acknowledged, and lost"
        at = self.delivered_at(s, to, now)
        if to.endswith("@local.test"):
            there = (s.ident, to.split("@")[0]) in boxes
            if at is not None and at + LOG_NS <= now and not there:
                return "delivered, and not in its mailbox"
        else:
            there = at is not None
        if not queued and not there:
            return "acknowledged, and lost" if s.way != "discard" else "acknowledged, and gone with no word in the log"
        if queued and at is not None:
            tally.double(now - at)
            if now - at > IN_FLIGHT_NS:
                return f"still queued {(now - at) // 10**6} ms after its delivery"
        return None

    # ---- after a whole daemon has delivered what was there ----

    def drained(self, after, now, tally):
        """Faults of what was delivered all in all: before the cut, in the lives since, and what the mailboxes hold now."""
        faults = []
        for (ident, user), shas in after.boxes.items():
            s = self.sent.get(ident)
            if s is None or any(sha != s.sha for sha in shas):
                faults.append(f"{ident} in the mailbox {user}: not what was sent {shas}")
        for (ident, to), copies in after.came.items():
            s = self.sent.get(ident)
            if s is None or (s.way != "no" and any(sha != s.sha for _, sha in copies)):
                faults.append(f"{ident} for {to}: the next hop got what nobody sent")
        for s in self.sent.values():
            if s.at > now:
                continue
            for to in s.to:
                tally["judged"] += 1
                fault = self.ended(s, to, after, now, tally)
                if fault:
                    faults.append(f"{s.ident} ({s.queue_id}) for {to}: {fault}")
        return faults

    def ended(self, s, to, after, now, tally):
        before = self.delivered_at(s, to, now)
        names = {s.queue_id}   # by which a second copy may be named
        if s.way == "no":
            before = self.reports.get(s.ident, now + 1)
            before = before if before <= now else None
            count = (before is not None) + sum(len(c) for (ident, _), c in after.came.items() if ident == s.ident)
            # the report's, of each life: one that was cut before its bounce was durable bounces again, by another id
            names |= {self.report_ids.get(s.queue_id)} | after.report_ids[s.queue_id]
        elif s.way == "discard":
            return None if before is not None or (s.queue_id, to) in after.told else "acknowledged, and gone with no word in the log"
        elif to.endswith("@local.test"):
            key = (s.ident, to.split("@")[0])
            count = len(after.boxes.get(key, ()))
            if before is None and key in after.before:
                before = now   # there already, and the log had not got to it
        else:
            count = (before is not None) + len(after.came.get((s.ident, to), ()))
        if count == 0:
            return "acknowledged, and lost"
        if count > 1:
            tally.double(now - before if before is not None else 0)
            tally["named" if names & after.maybe else "unnamed"] += 1
            if after.rebooted and not names & after.maybe:
                return "delivered again, and no maybe_duplicate names it"
            if before is not None and now - before > IN_FLIGHT_NS:
                return f"delivered again {(now - before) // 10**6} ms after its delivery"
            if before is None and not after.crashed:
                return f"{count} times, though no delivery was in flight"
        return None


class After:
    """The lives after the cut: what came, what the logs said."""

    def __init__(self):
        self.came, self.told, self.maybe, self.boxes, self.crashed = collections.defaultdict(list), {}, set(), {}, False
        self.report_ids, self.rebooted = collections.defaultdict(set), False   # rebooted: the daemons could see that the machine was down
        self.before = {}   # the mailboxes as the cut left them

    def life(self, came, told, maybe, report_ids, until=None):
        """until: the instant at which this life was cut too."""
        for at, ident, sha, to in came:
            if until is None or at <= until:
                self.came[(ident, to)].append((at, sha))
        self.told.update({k: at for k, at in told.items() if until is None or at <= until})
        self.maybe.update(maybe)
        for of, report in report_ids.items():
            self.report_ids[of].add(report)
        self.crashed = self.crashed or until is not None
