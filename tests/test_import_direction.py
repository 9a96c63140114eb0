"""seg → shared ← synth: the halves meet only in the embedding file. Entry programs are imported by nobody."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {"seg": {"seg", "shared"}, "synth": {"synth", "shared"}, "shared": {"shared"}}
PROGRAMS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ALLOWED
    for path in (ROOT / package).rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
}


def imported_modules(path: Path) -> set[str]:
    """Absolute names of what a file imports, at any depth; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_they_may(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        own = {name.split(".")[0] for name in imported_modules(path)} & ALLOWED.keys()
        assert own <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {own - ALLOWED[package]}"


def test_programs_are_imported_by_nobody() -> None:
    assert {"seg.train", "synth.train", "synth.compare"} <= PROGRAMS
    for package in ALLOWED:
        for path in (ROOT / package).rglob("*.py"):
            assert not imported_modules(path) & PROGRAMS, path
