"""`essnet PROGRAM …`: the programs by one command, each the same as `python -m PROGRAM …`.

Nothing is imported before the program is known, so that listing them takes no time.
"""

import ast
import re
import runpy
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from shared.errors import InputError, choose

PACKAGES = ("seg", "synth", "shared")
_GUARD = "if __name__ =="
_COMMAND = re.compile(r":? *`python -m ([\w.]+)[^`]*`:? *")


def programs() -> dict[str, str]:
    """What each program does, by its name: of every file that is run as a program and says in its first line how."""
    found = {}
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is not installed"
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if _GUARD not in text:
                continue
            name = ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__main__")
            first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
            command = _COMMAND.search(first)
            if command is not None and command[1] == name:
                sentence = _COMMAND.sub("", first).strip(" .")
                found[name] = sentence[:1].upper() + sentence[1:]
    return found


def overview() -> str:
    """The help of `essnet`."""
    known = programs()
    width = max(map(len, known))
    lines = [f"  {name:<{width}}  {sentence}" for name, sentence in known.items()]
    usage = "usage: essnet PROGRAM [options]     the same as python -m PROGRAM [options]"
    others = "essnet PROGRAM --help lists the options of a program; essnet --list prints the names alone, essnet --version the version."
    return "\n".join([usage, "", *lines, "", others])


def main() -> None:
    """The command: run the program that is named, with the rest of the command line."""
    name, *rest = sys.argv[1:] or [""]
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--list":
        print("\n".join(programs()))
    elif name == "--version":
        print(_version())
    else:
        try:
            if not name:
                raise InputError("no program was given; essnet --help lists them")
            choose("program", name, programs())
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        # the first argument is put in place by runpy, as python -m does
        sys.argv = [name, *rest]
        runpy.run_module(name, run_name="__main__", alter_sys=True)


def _version() -> str:
    try:
        return version("essnet-spade")
    except PackageNotFoundError:
        return "not installed"
