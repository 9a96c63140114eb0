"""The imports of a checkout, and what they say of its architecture: `python -m tests.architecture [FOLDER]` prints it."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = ("seg", "synth", "shared")


def files_of(root: Path) -> dict[str, Path]:
    """Path of every module of the packages, by its dotted name."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }


def imports_of(path: Path, files: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    """(module of ours, whether it is imported inside a function), for every import of a file."""
    for node, inside in _nodes_of(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                # `from a.b import c`: c is a module, or a name of a.b
                yield (name if name in files else name.rsplit(".", 1)[0]), inside


def _nodes_of(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that may hold an import or is one, and whether it lies inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield child, inside
            yield from _nodes_of(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


def graph_of(imports: dict[str, list[tuple[str, bool]]]) -> dict[str, set[str]]:
    """What every module needs before its own last line: what it imports, and the __init__ of packages that it does not lie in."""
    graph = {}
    for name, modules in imports.items():
        needed = {module for module, _ in modules}
        parents = {".".join(module.split(".")[:depth]) for module in needed for depth in range(2, module.count(".") + 1)}
        graph[name] = (needed | {parent for parent in parents if not name.startswith(f"{parent}.")}) & imports.keys() - {name}
    return graph


def circles_of(graph: dict[str, set[str]]) -> set[str]:
    """The modules that are left when those are taken away, again and again, that need none of the others."""
    waiting = {name: set(modules) for name, modules in graph.items()}
    while ready := [name for name, modules in waiting.items() if not modules & waiting.keys()]:
        for name in ready:
            del waiting[name]
    while leaves := [name for name in waiting if not any(name in modules for modules in waiting.values())]:
        for name in leaves:  # these only need the circle
            del waiting[name]
    return set(waiting)


def boxes_of(graph: dict[str, set[str]], package: str) -> dict[str, set[str]]:
    """The same between the boxes of a package, the files and folders right below it."""
    boxes: dict[str, set[str]] = defaultdict(set)
    for name, modules in graph.items():
        if name.startswith(f"{package}."):
            box = name.split(".")[1]
            boxes[box] |= {module.split(".")[1] for module in modules if module.startswith(f"{package}.")} - {box}
    return boxes


def longest_chain(graph: dict[str, set[str]]) -> int:
    """Boxes on the longest way downwards; of a circle one step is left out."""

    @cache
    def depth(name: str, above: frozenset[str] = frozenset()) -> int:
        return 1 + max((depth(other, above | {name}) for other in graph[name] - above), default=0)

    return max(depth(name) for name in graph)


def main(root: Path) -> None:
    files = files_of(root)
    imports = {name: list(imports_of(path, files)) for name, path in files.items()}
    graph = graph_of(imports)
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()}
    for package in PACKAGES:
        own = [name for name in files if name.split(".")[0] == package]
        loose = [path for path in (root / package).glob("*.py") if path.name != "__init__.py"]
        boxes = boxes_of(graph, package)
        print(
            f"{package:6} {len(own)} files, {sum(lines[name] for name in own)} lines; {len(loose)} loose files, {len(boxes)} boxes; "
            f"longest chain {longest_chain(boxes)} boxes"
        )
    tests = list((root / "tests").rglob("*.py"))
    late = sum(inside for modules in imports.values() for _, inside in modules)
    print(f"tests  {len(tests)} files, {sum(len(path.read_text(encoding='utf-8').splitlines()) for path in tests)} lines")
    print(f"modules in import circles: {', '.join(sorted(circles_of(graph))) or 'none'}; imports of ours inside a function: {late}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent))
