"""What is said of two sets of images before they are compared: nothing of it is a mistake for certain, and all of it moves the distance."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from shared.data.pictures import Header, read_header
from shared.distributed import is_first
from shared.errors import InputError

LOSSY = ("JPEG", "lossy WEBP", "MPO")
log = logging.getLogger(__name__)


def remark(sides: Mapping[str, Sequence[Path]], made: tuple[int, int] | None = None) -> None:
    """Warn where images differ in size or format, or are on both sides, or where a folder holds several versions of an image.

    Args:
        sides: folder -> the image files in it.
        made: (height, width) of images that are in no files, where they are one of the sides.
    """
    if not is_first():
        return
    headers = {folder: _headers(files) for folder, files in sides.items()}
    _remark_sizes({folder: Counter(header.size for header in found) for folder, found in headers.items()}, made)
    _remark_formats({folder: Counter(header.format for header in found) for folder, found in headers.items()})
    for folder, files in sides.items():
        _remark_versions(Path(folder), files)
    for one, other in combinations(sides, 2):
        _remark_overlap(one, sides[one], other, sides[other])


def _headers(files: Sequence[Path]) -> list[Header]:
    found = []
    for file in files:
        with contextlib.suppress(InputError):  # it is named when it is read
            found.append(read_header(file))
    return found


def _remark_sizes(sizes: dict[str, Counter[tuple[int, int]]], made: tuple[int, int] | None) -> None:
    if made is not None:
        sizes = sizes | {"generated": Counter([made])}
    if len(set().union(*sizes.values())) > 1:
        shown = "; ".join(f"{folder}: {_listed(found, lambda size: f'{size[0]} × {size[1]}')}" for folder, found in sizes.items())
        log.warning("the images differ in size (%s): the distance also measures the resizing; use one size", shown)


def _remark_formats(formats: dict[str, Counter[str]]) -> None:
    for folder, found in formats.items():
        lossy = sum(count for name, count in found.items() if name in LOSSY)
        if lossy:
            names = " and ".join(name for name in found if name in LOSSY)
            what = f"{lossy} of {found.total()} images are {names}"
            log.warning("%s: %s, whose artefacts count as a difference; use PNG on both sides", folder, what)
    if len({frozenset(found) for found in formats.values()}) > 1:
        shown = "; ".join(f"{folder}: {_listed(found, str)}" for folder, found in formats.items())
        log.warning("the two sides differ in their formats (%s)", shown)


def _listed(found, write, most: int = 3) -> str:  # type: ignore[no-untyped-def]
    """Such as "32 × 48 (6), 16 × 24 (2) and 4 more"; a single entry needs no count."""
    if len(found) == 1:
        return str(write(next(iter(found))))
    shown = ", ".join(f"{write(entry)} ({count})" for entry, count in found.most_common(most))
    return shown + (f" and {len(found) - most} more" if len(found) > most else "")


def _remark_versions(folder: Path, files: Sequence[Path]) -> None:
    """Such as SPADE's results, which lie in input_label and synthesized_image under the same names."""
    versions: dict[tuple[str, ...], set[str]] = {}
    for file in files:
        *places, name = file.relative_to(folder).parts
        versions.setdefault((*places[1:], name), set()).add(places[0] if places else "itself")
    several = [places for places in versions.values() if len(places) > 1]
    if 2 * len(several) > len(versions):
        shown = ", ".join(sorted(set().union(*several))[:4])
        log.warning(
            "%s: %d names occur in several of its folders (%s), and all %d images count; give one of the folders if they are versions of "
            "each other",
            folder,
            len(several),
            shown,
            len(files),
        )


def _remark_overlap(one: str, files: Sequence[Path], other: str, other_files: Sequence[Path]) -> None:
    first, second = (set(map(os.path.realpath, some)) for some in (files, other_files))
    if os.path.realpath(one) != os.path.realpath(other) and first & second:
        common, inside = len(first & second), ""
        for outer, inner in ((one, other), (other, one)):
            within = Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(outer))
            inside = f"{inner} lies in {outer}: " if within else inside
        log.warning("%s%d images are on both sides, of %d and %d; the distance is smaller for it", inside, common, len(first), len(second))
