"""The architecture, read from the imports: `docs/architecture.md` draws the floors, and these tests hold the code to them."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from tests.architecture import PACKAGES, circles_of, files_of, graph_of, imports_of

ROOT = Path(__file__).parent.parent
ALLOWED = {"seg": {"seg", "shared"}, "synth": {"synth", "shared"}, "shared": {"shared"}}
FILES = files_of(ROOT)
PROGRAMS = {name for name, path in FILES.items() if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")}
COMPILED = re.compile(r"seg\.kernels\.(numba|triton)(\.|$)|synth\.kernels\.(numba|triton)_\w+$|shared\.benchmark\.exponentials_triton$")
"""What may be imported inside a function: compiled code, by whoever picks an implementation."""


@cache
def imports() -> dict[str, list[tuple[str, bool]]]:
    """What every module imports. Not read where this file is only imported."""
    return {name: list(imports_of(path, FILES)) for name, path in FILES.items()}


@cache
def floors() -> dict[str, dict[str, int]]:
    """Of every package the floor of each box (a file or folder right below it), the top one 0."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    found = {}
    for package in PACKAGES:
        match = re.search(rf"^{package} +(.+(?:\n {{4,}}\S.+)*)", page, re.MULTILINE)
        assert match, f"docs/architecture.md has no floors of {package}"
        found[package] = {box: floor for floor, boxes in enumerate(match[1].split("│")) for box in boxes.split()}
    return found


def test_imports_run_downwards() -> None:
    wrong, seen = [], 0
    for name, modules in imports().items():
        package, _, rest = name.partition(".")
        if not rest:
            continue
        floor, box = floors()[package], rest.split(".")[0]
        assert box in floor, f"docs/architecture.md has no floor for {package}/{box}"
        for module, _ in modules:
            other = module.split(".")[1] if module.count(".") and module.split(".")[0] == package else box
            seen += other != box
            if other != box and floor[other] <= floor[box]:
                wrong.append(f"{name} imports {module}, which is on the same floor or above")
    assert seen > 100, "hardly an import was read"
    assert not wrong, "\n".join(wrong)


def test_every_box_of_the_floors_exists() -> None:
    for package, boxes in floors().items():
        assert boxes.keys() == {name.split(".")[1] for name in FILES if name.startswith(f"{package}.")}


def test_no_import_circle() -> None:
    """A circle would leave files that all wait for each other."""
    assert not circles_of(graph_of(imports()))


def test_a_circle_is_found() -> None:
    """Directly, through a package's __init__, and not from a file within the package."""
    assert circles_of(graph_of({"seg.a": [("seg.b", False)], "seg.b": [("seg.a", False)], "seg.c": [("seg.a", False)]})) == {
        "seg.a",
        "seg.b",
    }
    through = {"seg.p": [("seg.p.x", False)], "seg.p.x": [("seg.q", False)], "seg.q": [("seg.p.y", False)], "seg.p.y": []}
    assert circles_of(graph_of(through)) == {"seg.p", "seg.p.x", "seg.q"}
    assert not circles_of(graph_of(through | {"seg.q": []}))


def test_only_compiled_code_is_imported_inside_a_function() -> None:
    late = {(name, module) for name, modules in imports().items() for module, inside in modules if inside}
    assert late, "nothing is imported late: this test reads no imports"
    assert not {(name, module) for name, module in late if not COMPILED.match(module)}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for name, modules in imports().items():
        if name.split(".")[0] == package:
            assert {module.split(".")[0] for module, _ in modules} <= ALLOWED[package], name


def test_programs_are_imported_by_nobody() -> None:
    assert {"seg.train", "synth.train", "synth.compare"} <= PROGRAMS
    for name, modules in imports().items():
        assert not {module for module, _ in modules} & PROGRAMS, name


def test_packages_are_empty_or_hand_on_names() -> None:
    for name, path in FILES.items():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            allowed = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign)
            others = [node for node in body if not isinstance(node, allowed) and not _is_for_type_checkers(node)]
            assert not others or name in ("shared.data", "shared.data.classes"), name


def _is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize("package", ["seg", "synth"])
def test_what_type_checkers_see_is_what_is_handed_on(package: str) -> None:
    module = importlib.import_module(package)
    body = ast.parse(FILES[package].read_text(encoding="utf-8")).body
    (seen,) = [node.body for node in body if isinstance(node, ast.If)]
    assert isinstance(seen[0], ast.ImportFrom) and [alias.name for alias in seen[0].names] == module.__all__
    assert all(getattr(module, name) is getattr(importlib.import_module(f"{package}.api"), name) for name in module.__all__)
