"""Which files a folder of pictures holds: one answer for data sets, generation and distances."""

import os
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError
from shared.files.text_file import composed


def picture_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files below `folder` with one of these suffixes, in any case, in no order. Hidden files and folders are left out. Links to files and
    folders are followed, but for a link to a folder that it lies in.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected {'/'.join(suffixes)} files there: check the path and --data.root")
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(Path(place, name))]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(place, name)


def _leads_back(path: Path) -> bool:
    return path.is_symlink() and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(path))


def find_pictures(folder: Path, suffixes: tuple[str, ...], ending: str = "", others: tuple[str, ...] = ()) -> dict[str, Path]:
    """`picture_files` whose names end in `ending` before the suffix, by relative path without the two (and with accents composed, so that
    names pair whichever system wrote them).

    Args:
        others: endings of files that lie beside and are left out.

    Raises:
        InputError: no such folder, no such file in it, or two files that differ in suffix or in the form of their accents only.
    """
    found: dict[str, Path] = {}
    for path in picture_files(folder, suffixes):
        if not path.stem.endswith(ending) or path.stem.endswith(others):
            continue
        spelled = path.relative_to(folder).with_suffix("").as_posix().removesuffix(ending)
        _add(found, composed(spelled), path)
    if not found:
        raise InputError(f"the folder {folder} holds no {ending}{'/'.join(suffixes)} file; check the path and --data.root")
    return found


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    if name not in found:
        found[name] = path
        return
    accents = "" if found[name].stem == path.stem else ", but for composed and decomposed accents"
    raise InputError(f"{found[name]} and {path} have the same name{accents}; only one file may be called {name}: remove the other")


def expand_paths(paths: list[str], suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files given one by one or by folder: name -> file. A file's name is its stem, one in a folder keeps its place below the folder.

    Raises:
        InputError: no such file, a file of another kind, an empty folder, or two files with one name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        require_file_or_folder(path, suffixes)
        files = find_pictures(path, suffixes).values() if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem
            add_output(found, name, file)
    return found


def require_file_or_folder(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a path that is given as a file or folder of pictures and is neither.

    Raises:
        InputError: no such file, or a file of another kind.
    """
    if not path.is_dir() and path.suffix.lower() not in suffixes:
        raise InputError(f"{path} is neither a folder nor a {'/'.join(suffixes)} file; give one of these")
    if not path.exists():
        raise InputError(f"there is no file {path}; check the path")


def add_output(found: dict[str, Path], name: str, file: Path) -> None:
    """Add a file to those from which something called `name` will be made.

    Raises:
        InputError: another file has this name.
    """
    if name in found:
        raise InputError(f"{found[name]} and {file} would both write {name}; give them in separate runs")
    found[name] = file
