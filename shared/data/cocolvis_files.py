"""Reading what COCO+LVIS is made from: LVIS v1 annotations and COCO's stuff, as pixel maps or JSON.

H, W: height and width of an image.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from shared.data.classes import class_names
from shared.data.cocolvis import STUFF_IDS
from shared.data.pictures import MAX_PIXELS, read_numbers
from shared.errors import InputError

StuffSource = Literal["maps", "json"]
FOLDERS = ("train2017", "val2017")
"""Of COCO's images."""


@dataclass(frozen=True)
class Annotation:
    """An object or a stuff region: its category, and polygons or a run-length code as pycocotools reads them."""

    number: int
    category: int
    segmentation: Any


@dataclass(frozen=True)
class LvisImage:
    """An image of LVIS with its annotations in the order of the file; `folder` is COCO's, train2017 or val2017."""

    number: int
    height: int
    width: int
    folder: str
    annotations: list[Annotation]

    @property
    def name(self) -> str:
        """Stem of COCO's file."""
        return f"{self.number:012d}"


class LeftOut:
    """Annotations that cannot be used: the first is an error, or all are left out and listed in `messages`.

    Args:
        allowed: whether they may be left out.
    """

    def __init__(self, allowed: bool = False) -> None:
        self.allowed = allowed
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Leave one out.

        Raises:
            InputError: they may not be left out.
        """
        if not self.allowed:
            raise InputError(f"{message}; repair the JSON file, or leave such annotations out with --skip_bad")
        self.messages.append(message)


def read_lvis(path: Path, left_out: LeftOut | None = None) -> list[LvisImage]:
    """The images of an LVIS v1 file, by ascending number.

    Args:
        left_out: what happens to annotations that cannot be used. None: the first is an error.

    Raises:
        InputError: no such file, or not the annotations of LVIS v1, or not one annotation that can be used.
    """
    content = _read_json(path, "LVIS v1 annotations")
    images: dict[int, LvisImage] = {}
    for place, entry in enumerate(_list_of(content, "images", path), 1):
        image = _image(entry, f"{path} is not like LVIS v1: image {place} in it")
        if image.number in images:
            raise InputError(f"{path} is not like LVIS v1: two images have the id {image.number}")
        images[image.number] = image
    left_out, categories, used = left_out or LeftOut(), range(1, len(class_names("lvis")) + 1), 0
    annotations = _list_of(content, "annotations", path)
    for image_id, annotation in _annotations(annotations, path, left_out):
        found = images.get(image_id)
        flaw = "whose number no image has" if found is None else flaw_of(annotation, found, categories, "LVIS v1")
        if flaw or found is None:
            left_out.add(f"{path}: annotation {annotation.number} of image {image_id}, {flaw}")
            continue
        found.annotations.append(annotation)
        used += 1
    if annotations and not used:
        raise InputError(f"none of the {len(annotations)} annotations of {path} can be used; the first: {left_out.messages[0]}")
    return [images[number] for number in sorted(images)]


def _image(entry: Any, what: str) -> LvisImage:
    if not isinstance(entry, dict) or not {"id", "height", "width", "coco_url"} <= entry.keys():
        raise InputError(f"{what} needs id, height, width and coco_url")
    for name in ("id", "height", "width"):
        if not _is_whole(entry[name]) or entry[name] < (0 if name == "id" else 1):
            raise InputError(f"{what} has {name} {_shown(entry[name])}; a whole number was expected")
    if entry["height"] * entry["width"] > MAX_PIXELS:
        raise InputError(f"{what} has {entry['height']}x{entry['width']} pixels; at most {MAX_PIXELS} were expected")
    # not by split: most of LVIS's val images are from COCO's train2017
    folder = next((folder for folder in FOLDERS if f"/{folder}/" in str(entry["coco_url"])), None)
    if folder is None:
        raise InputError(f"{what} has coco_url {_shown(entry['coco_url'])}; one with /{'/ or /'.join(FOLDERS)}/ in it was expected")
    return LvisImage(entry["id"], entry["height"], entry["width"], folder, [])


def flaw_of(annotation: Annotation, image: LvisImage, categories: range, what: str) -> str:
    """Why an annotation cannot be used, behind "annotation 3 of image 1, …"; empty if it can.

    What is left is safe to be drawn: the library that draws trusts what it is given with its memory.

    Args:
        categories, what: which categories there are, and where.
    """
    if annotation.category not in categories:
        return f"which has category {annotation.category}; {what} has {categories.start}..{categories.stop - 1}"
    codes, size = annotation.segmentation, (image.height, image.width)
    if isinstance(codes, dict):
        return _flaw_of_runs(codes, size)
    if not isinstance(codes, list) or not codes:
        found = "no polygon" if codes == [] else f"segmentation {_shown(codes)}"
        return f"which has {found}; polygons or a run-length code were expected"
    return next((flaw for polygon in codes if (flaw := _flaw_of_polygon(polygon, size))), "")


def _flaw_of_polygon(polygon: Any, size: tuple[int, int]) -> str:
    if not isinstance(polygon, np.ndarray):
        return f"whose polygon {_shown(polygon)} is no list of numbers"
    if len(polygon) < 6 or len(polygon) % 2:
        return f"which has a polygon of {len(polygon)} numbers; x and y of 3 corners or more were expected"
    if not np.isfinite(polygon).all():
        return "whose polygon holds numbers that are not finite"
    (height, width), x, y = size, polygon[::2], polygon[1::2]
    if x.min() < -width or x.max() > 2 * width or y.min() < -height or y.max() > 2 * height:
        shown = f"x {x.min():.6g}..{x.max():.6g}, y {y.min():.6g}..{y.max():.6g}"
        return f"whose polygon ({shown}) reaches far outside the image of {height}x{width} (height x width)"
    return ""


def _flaw_of_runs(code: dict[str, Any], size: tuple[int, int]) -> str:
    if code.get("size") != list(size):
        return f"which has size {_shown(code.get('size'))}, and its image {list(size)} (height, width)"
    runs = run_lengths(code.get("counts"))
    if runs is None:
        return f"whose run-length code {_shown(code.get('counts'))} cannot be read"
    if (len(runs) and (runs.min() < 0 or runs.max() > size[0] * size[1])) or runs.sum() != size[0] * size[1]:
        return f"whose run lengths do not add up to the {size[0] * size[1]} pixels of its image"
    return ""


def run_lengths(counts: Any) -> np.ndarray | None:
    """The lengths of runs of zeros and ones in turn, int64, from a list of them or from COCO's text for it; None if it is neither.

    The text has 5 bits of a number in each character from "0" on, the lowest first, and a sixth that says that more follow; from the
    fourth number on it is the difference from the number before the last.
    """
    if isinstance(counts, list):
        return np.array(counts, np.int64) if all(_is_whole(count) and abs(count) < 2**40 for count in counts) else None
    if not isinstance(counts, str) or not counts.isascii():
        return None
    digits = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        return None
    lasts = np.flatnonzero((digits & 32) == 0)
    firsts = np.concatenate([[0], lasts[:-1] + 1])
    if (lasts - firsts).max() > 7:  # beyond 40 bits
        return None
    places = np.arange(len(digits)) - np.repeat(firsts, lasts - firsts + 1)
    runs = np.add.reduceat((digits & 31) << (5 * places), firsts)
    runs -= np.where(digits[lasts] & 16, 1 << (5 * (lasts - firsts + 1)), 0)
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs


@dataclass(frozen=True)
class StuffMaps:
    """COCO's stuffthingmaps: PNG files whose values are the published ids less 1; 255 is no class."""

    folder: Path

    def require(self, images: list[LvisImage]) -> None:
        """Refuse maps that are not there, before anything is written."""
        missing = [path for path in map(self.path, images) if not path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(images)} images have no stuff map; the first is {missing[0]}: "
                "unpack stuffthingmaps_trainval2017.zip there, or give --stuff json"
            )

    def path(self, image: LvisImage) -> Path:
        return self.folder / image.folder / f"{image.name}.png"

    def read(self, image: LvisImage) -> np.ndarray:
        """Stuff ids (H, W), 0 where there is none.

        Raises:
            InputError: an unreadable map, or one of another size than the image.
        """
        path = self.path(image)
        ids = read_numbers(path).astype(np.int64) + 1
        if ids.shape != (image.height, image.width):
            raise InputError(f"{path} is {ids.shape[0]}x{ids.shape[1]} (height x width), its image {image.height}x{image.width} in LVIS")
        return np.where((ids >= STUFF_IDS.start) & (ids < STUFF_IDS.stop), ids, 0)


class StuffAnnotations:
    """COCO's stuff_train2017.json and stuff_val2017.json.

    Args:
        left_out: what happens to annotations that cannot be used.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, left_out: LeftOut) -> None:
        self.left_out = left_out
        self._of_image: dict[int, list[tuple[Annotation, Path]]] = {}
        for path in (folder / f"stuff_{name}.json" for name in FOLDERS):
            entries = _list_of(_read_json(path, "COCO's stuff annotations"), "annotations", path)
            for image_id, annotation in _annotations(entries, path, left_out):
                self._of_image.setdefault(image_id, []).append((annotation, path))

    def require(self, images: list[LvisImage]) -> None:
        """Refuse files of other images: an image may be without stuff, but not all of them."""
        if not any(image.number in self._of_image for image in images):
            raise InputError("none of the images of LVIS has a stuff annotation; check that --coco and --lvis belong together")

    def read(self, image: LvisImage) -> list[Annotation]:
        """The stuff annotations of an image in the order of the file."""
        found = []
        for annotation, path in self._of_image.get(image.number, []):
            flaw = flaw_of(annotation, image, range(256), "COCO's stuff")
            if flaw:
                self.left_out.add(f"{path}: annotation {annotation.number} of image {image.number}, {flaw}")
            else:
                found.append(annotation)
        return found


def drawing_library() -> ModuleType:
    """pycocotools' mask functions.

    Raises:
        InputError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError("drawing annotations needs pycocotools, which is not installed: pip install -e '.[coco]'") from error
    return mask


def draw(annotation: Annotation, image: LvisImage) -> np.ndarray:
    """(H, W) bool: where an annotation without flaw is; the union of its polygons.

    Raises:
        InputError: pycocotools is not installed.
    """
    codes, (height, width) = annotation.segmentation, (image.height, image.width)
    if isinstance(codes, dict):
        runs = run_lengths(codes["counts"])
        assert runs is not None, "a run-length code with a flaw"
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    coco = drawing_library()
    return coco.decode(coco.merge(coco.frPyObjects(codes, height, width))).astype(bool)


def _annotations(entries: list[Any], path: Path, left_out: LeftOut) -> Iterator[tuple[int, Annotation]]:
    """(number of the image, annotation) of all entries that have what an annotation needs."""
    for place, entry in enumerate(entries, 1):
        keys = ("id", "image_id", "category_id", "segmentation")
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        wrong = [] if missing else [key for key in keys[:3] if not _is_whole(entry[key])]
        if not missing and not wrong:
            yield entry["image_id"], Annotation(entry["id"], entry["category_id"], entry["segmentation"])
            continue
        flaw = f"has no {missing[0]}" if missing else f"has {wrong[0]} {_shown(entry[wrong[0]])}; a whole number was expected"
        number = f"{entry['id']}" if isinstance(entry, dict) and _is_whole(entry.get("id")) else f"in place {place} of the list"
        left_out.add(f"{path}: annotation {number} {flaw}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _shown(value: Any, most: int = 40) -> str:
    """A value of a JSON file, cut short."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def _list_of(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise InputError(f"{path} is not like COCO: a list of {key} was expected in it")
    return entries


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=_compact)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"it is no JSON ({error})"
        raise InputError(f"cannot read {what} from {path}: {reason}; check --coco and --lvis") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected {what}")
    return content


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Numbers of polygons as arrays while the file is parsed: a quarter of the memory of Python's own."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list) and all(isinstance(polygon, list) for polygon in polygons):
        entry["segmentation"] = [_numbers(polygon) for polygon in polygons]
    return entry


def _numbers(polygon: list[Any]) -> np.ndarray | list[Any]:
    """As an array, if it is a list of numbers."""
    try:
        array = np.array(polygon)
    except (ValueError, OverflowError):
        return polygon
    return array.astype(np.float64) if array.ndim == 1 and array.dtype.kind in "iuf" else polygon
