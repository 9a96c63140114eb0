"""Names that a package hands on at the moment at which they are asked for, so that importing the package loads nothing."""

from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any


def late_names(package: str, module: str, names: Collection[str]) -> Callable[[str], Any]:
    """A `__getattr__` for the package: its `names` are those of the module."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module), name)

    return get
