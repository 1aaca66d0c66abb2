"""How a build folder was built: compiler and options, as ninja and meson know them."""
import json
import pathlib
import shlex
import subprocess


def compiler(build):
    """"cc (Debian 12.2.0-14) 12.2.0" and the like: the first line of --version."""
    try:
        words = shlex.split(json.loads((pathlib.Path(build) / "compile_commands.json").read_text())[0]["command"])
        words = words[1:] if words[0].endswith("ccache") else words
        return subprocess.run([words[0], "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    except (OSError, IndexError, ValueError):
        return "?"


def option(build, name):
    r = subprocess.run(["meson", "introspect", "--buildoptions", str(build)], capture_output=True, text=True)
    return {o["name"]: o["value"] for o in json.loads(r.stdout)}.get(name) if r.returncode == 0 else None
