#!/usr/bin/python3
"""Rules of the house that no compiler checks; prints "ok NAME" or "not ok NAME" for each, and why.

  arrows      a room includes only rooms on lower floors (docs/design: the house); libpsmtp nothing but base/
  headers     outside its room a header is known only by its folder ("room/name.h"), every one has an include guard
  banned      functions that cannot be used safely (strcpy ...), assertions of input, #ifdef inside functions
  opening     every file opens with its short man page
  lines       a file has at most 1,000 lines (--warnings: from 600 on), a line of the product at most 160 columns (120 on)
  enums       an enum that starts by itself starts at 1; 0 is for a name that means "none", for sets of bits, and where a
              comment on the line says why zero
  generated   committed pages are those that the tables give now (asked of the programs in BUILD/gen; nothing without)
  limits      docs/limits.md names every setting with a range and every constant that is a limit by its name, each with its value
  python      tests and tools compile

Usage: check.py [--build DIR] [--selftest].  --selftest feeds each rule a file that breaks it: a rule that finds nothing
is itself broken.
"""
import argparse
import ast
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

FLOORS = {
    "base": 0,
    "events": 1, "smtp": 1,
    "mail": 2, "conf": 2, "tls": 2,
    "net": 3,
    "wire": 4, "route": 4, "spool": 4,
    "receive": 5, "queue": 5, "send": 5, "resolve": 5, "local": 5, "keys": 5, "policy": 5, "web": 5,
    "super": 6, "probe": 6,
    "cmd": 7,
}
# Arrows that break the rule on purpose, with the reason; each must still be needed.
EXCEPTIONS = {}

# Tables of spec/ and the rooms that compile them.
SPEC_ROOMS = {
    "server.def": {"smtp"}, "client.def": {"smtp"}, "lifetimes.def": {"smtp"}, "replies.def": {"smtp"},
    "config.def": {"conf"}, "events.def": {"events"}, "probe.def": {"probe"}, "probe_client.def": {"probe"}, "probe_domain.def": {"probe"},
}

BANNED = "strcpy strcat sprintf vsprintf gets strtok alloca atoi atol atoll system popen tmpnam mktemp".split()
LINES_MAX, LINES_WARN = 1000, 600
COLUMNS_MAX, COLUMNS_WARN = 160, 120
ZERO_NAMES = re.compile(r"(^|_)(NONE|NOTHING|OFF|ANY)_?$")


def strip(text, strings=True):
    """C text without comments (and string contents): line numbers stay."""
    def blank(m):
        s = m.group(0)
        if s.startswith("/"):
            return re.sub(r"[^\n]", " ", s)
        return s[0] + " " * (len(s) - 2) + s[-1] if strings else s
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


class House:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.failures, self.warnings = [], []

    def c_files(self, *tops):
        for top in tops:
            for path in sorted((self.root / top).rglob("*")):
                if path.suffix in (".c", ".h") and path.is_file():
                    yield path

    def bad(self, path, line, text):
        self.failures.append(f"{path.relative_to(self.root)}:{line}: {text}")

    def warn(self, path, line, text):
        self.warnings.append(f"{path.relative_to(self.root)}:{line}: warning: {text}")

    # ---- rules ----

    def arrows(self):
        used = set()
        for path in self.c_files("src"):
            room = path.relative_to(self.root / "src").parts[0]
            if room not in FLOORS:
                self.bad(path, 1, f"room {room} is on no floor: name it in tests/static/check.py and in the design")
                continue
            for n, line in enumerate(strip(path.read_text(), strings=False).splitlines(), 1):
                m = re.match(r'\s*#\s*include\s+(?:"([^"]+)"|<(psmtp\.h)>)', line)
                if not m:
                    continue
                target = m.group(1) or "smtp/psmtp.h"
                self.arrow(path, n, room, target, used)
        for exception in EXCEPTIONS.keys() - used:
            self.failures.append(f"tests/static/check.py: the exception {exception} is not needed any more")

    def arrow(self, path, n, room, target, used):
        top, _, rest = target.partition("/")
        if top == "spec":
            if room not in SPEC_ROOMS.get(rest, set()):
                self.bad(path, n, f"{target} is not compiled by {room}")
        elif top not in FLOORS:
            self.bad(path, n, f'"{target}": write the room: "{room}/{target}"')
        elif top == room:
            pass
        elif (room, top) in EXCEPTIONS:
            used.add((room, top))
        elif room == "smtp" and top != "base":
            self.bad(path, n, f"libpsmtp includes nothing but base/, not {target}")
        elif FLOORS[top] >= FLOORS[room]:
            self.bad(path, n, f"{room} (floor {FLOORS[room]}) must not know {target} (floor {FLOORS[top]})")

    def headers(self):
        for path in self.c_files("src", "include"):
            if path.suffix != ".h":
                continue
            text = strip(path.read_text())
            m = re.search(r"^\s*#ifndef (\w+)\n\s*#define (\w+)\n", text, re.M)
            if not m or m.group(1) != m.group(2):
                self.bad(path, 1, "no include guard")

    def banned(self):
        call = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
        for path in self.c_files("src", "examples", "gen", "tests", "sim", "bench"):
            text = strip(path.read_text())
            depth = 0
            for n, line in enumerate(text.splitlines(), 1):
                m = call.search(line)
                if m:
                    self.bad(path, n, f"{m.group(1)} is banned")
                if line.startswith("{"):
                    depth = 1
                elif line.startswith("}"):
                    depth = 0
                if depth and path.is_relative_to(self.root / "src") and re.match(r"\s*#\s*if(n?def|\b)", line):
                    self.bad(path, n, "#if inside a function: one file per platform")

    def opening(self):
        for path in self.c_files("src", "include"):
            first = path.read_text().split("\n", 1)[0]
            if not re.match(r"/\* " + re.escape(path.name) + r" ?(-|:)", first):
                self.bad(path, 1, f"open with `/* {path.name} - what it is for`")

    def lines(self):
        for path in self.c_files("src", "include", "examples", "gen", "tests", "bench", "sim"):
            lines = path.read_text().splitlines()
            if len(lines) > LINES_MAX:
                self.bad(path, len(lines), f"{len(lines)} lines; {LINES_MAX} is too many")
            elif len(lines) > LINES_WARN:
                self.warn(path, len(lines), f"{len(lines)} lines; about {LINES_WARN} is right")
            for n, line in enumerate(lines, 1):
                width = len(line.expandtabs(8))
                # tables of test cases are read along their rows
                if width > COLUMNS_MAX and not path.is_relative_to(self.root / "tests"):
                    self.bad(path, n, f"{width} columns; {COLUMNS_MAX} is too many")
                elif width > COLUMNS_WARN and not path.is_relative_to(self.root / "tests"):
                    self.warn(path, n, f"{width} columns")

    def enums(self):
        for path in self.c_files("src", "include"):
            whole = path.read_text()
            text = strip(whole)
            for m in re.finditer(r"\benum\s*(\w*)\s*\{([^}]*)\}", text):
                line = text[:m.start()].count("\n") + 1
                first = m.group(2).strip().split(",")[0].strip()
                # constants of a file (no tag) are numbers, not states; rows of a table come by #include
                if not m.group(1) or not first or "#" in first:
                    continue
                name, eq, value = (part.strip() for part in first.partition("="))
                if not eq:
                    self.bad(path, line, f"enum {m.group(1)}: {name} would be 0: start at 1")
                elif value == "0" and not ZERO_NAMES.search(name) and not self.zero_is_argued(m, whole):
                    self.bad(path, line, f"enum {m.group(1)}: {name} = 0: zero is never legal")

    @staticmethod
    def zero_is_argued(m, whole):
        bits = re.findall(r"=\s*(2|4|1u?\s*<<)", m.group(2))
        end = whole.find("\n", whole.find("= 0", m.start()))
        return len(bits) >= 2 or "zero" in whole[m.start():end]

    # ---- docs/limits.md ----

    @staticmethod
    def number(text):
        """The value of a page's cell or of a #define; None when it is no plain number."""
        text = re.sub(r"\bUINT64_C\((\d+)\)", r"\1", text.replace(",", ""))
        for unit, factor in ((" KiB", "*1024"), (" MiB", "*1048576"), (" GiB", "*1073741824"), (" ms", "")):
            text = text.replace(unit, factor)
        text = re.sub(r"(?<=\d)[uUlL]+\b", "", text)
        if not re.fullmatch(r"[-+*/() \d<>xXa-fA-F]+", text):
            return None
        try:
            return int(eval(text, {}))
        except (SyntaxError, TypeError, NameError):
            return None

    def limits(self):
        page, table = self.root / "docs/limits.md", self.root / "spec/config.def"
        if not page.exists():
            if table.exists():
                self.failures.append("docs/limits.md: missing")
            return
        rows = {}
        for n, line in enumerate(page.read_text().splitlines(), 1):
            cells = [c.strip() for c in line.strip("|").split("|")]
            m = re.fullmatch(r"`(\w+)`", cells[0]) if line.startswith("| `") else None
            if m and len(cells) >= 4:
                rows[m.group(1), cells[2].strip("`")] = (n, cells)
        self.limit_settings(page, table.read_text() if table.exists() else "", rows)
        self.limit_constants(page, rows)

    def limit_settings(self, page, text, rows):
        by_name = {cells[0].strip("`"): (n, cells) for (n, cells) in rows.values() if len(cells) == 6}
        for name, least, most in re.findall(r'^RANGE\(\w+, (\w+), "([^"]*)", "([^"]*)"\)', text, re.M):
            default = re.search(rf"^SETTING\(\w+,\s*{name},\s*\w+,\s*\"?([^\",]*)\"?,", text, re.M).group(1)
            n, cells = by_name.get(name, (0, None))
            if not cells:
                self.bad(page, 1, f"the setting {name} is not there")
            elif cells[2] != default or cells[3] != f"{least} to {most}":
                self.bad(page, n, f"{name} is {default}, {least} to {most}")

    def limit_constants(self, page, rows):
        known = {key: row for key, row in rows.items() if len(row[1]) == 4}
        for path in self.c_files("src"):
            where = str(path.relative_to(self.root / "src"))
            for name, value in re.findall(r"^#define ([A-Z][A-Z0-9_]+)[ \t]+([^/\n]+?)[ \t]*(?:/\*.*)?$", path.read_text(), re.M):
                value, (n, cells) = self.number(value), known.pop((name, where), (0, None))
                if cells and self.number(cells[1]) != value:
                    self.bad(page, n, f"{name} in src/{where} is {value}")
                elif not cells and value is not None and re.search(r"_(MAX|MOST|MS|LIMIT|TRIES|HIGH|WINDOW)$", name):
                    self.bad(page, 1, f"{name} of src/{where} ({value}) is not there")
        for (name, where), (n, _) in known.items():
            self.bad(page, n, f"src/{where} has no {name}")

    def python(self):
        for path in sorted(self.root.rglob("*.py")):
            if any(part.startswith((".", "build")) for part in path.relative_to(self.root).parts):
                continue
            try:
                ast.parse(path.read_text(), str(path))
            except SyntaxError as e:
                self.bad(path, e.lineno or 1, str(e))

    def generated(self, build):
        asked = (("machine", ["check", self.root / "docs/machine.md"]), ("config", ["check", self.root]), ("probe", ["check", self.root]))
        for name, arguments in asked:
            program = pathlib.Path(build) / "gen" / name
            if not program.is_file():
                continue
            r = subprocess.run([program, *arguments], capture_output=True, text=True)
            if r.returncode != 0:
                self.failures.append(f"gen/{name}: stale pages: {(r.stdout + r.stderr).strip()[:500]}")


RULES = ["arrows", "headers", "banned", "opening", "lines", "enums", "limits", "python"]

# What each rule must find: {file: text} and a word of the complaint.
SEEDED = [
    ("arrows", {"src/smtp/x.c": '/* x.c - x */\n#include "net/loop.h"\n'}, "nothing but base/"),
    ("arrows", {"src/conf/x.c": '/* x.c - x */\n#include "wire/wire.h"\n'}, "must not know"),
    ("arrows", {"src/send/x.c": '/* x.c - x */\n#include "queue/queue.h"\n'}, "must not know"),
    ("arrows", {"src/base/x.h": "/* x.h - x */\n#include <psmtp.h>\n"}, "must not know"),
    ("arrows", {"src/queue/x.c": '/* x.c - x */\n#include "x.h"\n'}, "write the room"),
    ("arrows", {"src/queue/x.c": '/* x.c - x */\n#include "spec/server.def"\n'}, "not compiled by"),
    ("headers", {"src/base/x.h": "/* x.h - x */\nint x;\n"}, "guard"),
    ("banned", {"src/base/x.c": "/* x.c - strcpy(a, b) is fine here */\nvoid f(void)\n{\n\tsprintf(a, \"x\");\n}\n"}, "sprintf is banned"),
    ("banned", {"src/base/x.c": "/* x.c - x */\nvoid f(void)\n{\n#ifdef A\n#endif\n}\n"}, "inside a function"),
    ("opening", {"src/base/x.c": "int x;\n"}, "open with"),
    ("lines", {"src/base/x.c": "/* x.c - x */\n" + "\n" * 1001}, "too many"),
    ("enums", {"src/base/x.h": "/* x.h - x */\nenum x { A, B };\n"}, "start at 1"),
    ("enums", {"src/base/x.h": "/* x.h - x */\nenum x { A_FIRST = 0, B };\n"}, "never legal"),
    ("limits", {"docs/limits.md": "# Limits\n| `X_MAX` | 4 KiB | `base/x.c` | why |\n", "src/base/x.c": "/* x.c - x */\n#define X_MAX (8u * 1024)\n"}, "is 8192"),
    ("limits", {"docs/limits.md": "# Limits\n", "src/base/x.c": "/* x.c - x */\n#define X_MAX 8 /* why */\n"}, "is not there"),
    ("limits", {"docs/limits.md": "# Limits\n| `X_MAX` | 8 | `base/x.c` | why |\n", "src/base/x.c": "/* x.c - x */\n"}, "has no X_MAX"),
    ("limits", {"docs/limits.md": "| `n` | global | 5 | 1 to 9 | x | y |\n", "spec/config.def": 'SETTING(GLOBAL, n, COUNT, "6", "", "")\nRANGE(GLOBAL, n, "1", "9")\n'}, "n is 6"),
    ("python", {"tests/x.py": "def f(:\n"}, "syntax"),
]
# What no rule may complain of.
CLEAN = {
    "src/queue/x.c": '/* x.c - x */\n#include "queue/x.h"\n#include "wire/wire.h"\n#include <psmtp.h>\n'
                     'void f(void)\n{\n\tsnprintf(a, 1, "strcpy(");\n\tq->system(1);\n}\n#ifdef A\n#endif\n',
    "src/queue/x.h": "/* x.h - x */\n#ifndef QUEUE_X_H\n#define QUEUE_X_H\nenum x { A = 1, B };\nenum y { Y_NONE = 0, Y };\n#endif\n",
}


def plant(top, files):
    folder = pathlib.Path(tempfile.mkdtemp(dir=top))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def selftest():
    with tempfile.TemporaryDirectory(prefix="check-") as top:
        return controls(top)


def controls(top):
    good = True
    for rule, files, word in SEEDED:
        house = House(plant(top, files))
        getattr(house, rule)()
        found = any(word in f for f in house.failures)
        print(f"{'ok' if found else 'not ok'} control: {rule} finds {next(iter(files))} ({word})")
        good &= found
    house = House(plant(top, CLEAN))
    for rule in RULES:
        getattr(house, rule)()
    print(f"{'not ok' if house.failures else 'ok'} control: clean files pass {house.failures or ''}")
    return good and not house.failures


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=str(ROOT / "build"))
    p.add_argument("--selftest", action="store_true", help="only the controls")
    p.add_argument("--warnings", action="store_true", help="print warnings too")
    a = p.parse_args()
    good = selftest()
    if a.selftest:
        return 0 if good else 1
    for rule in RULES + ["generated"]:
        house = House(ROOT)
        getattr(house, rule)(*([a.build] if rule == "generated" else []))
        if a.warnings:
            print("\n".join(house.warnings))
        for f in house.failures:
            print(f)
        print(f"{'not ok' if house.failures else 'ok'} {rule}")
        good &= not house.failures
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
