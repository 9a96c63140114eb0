"""Reading what COCO+LVIS is made from: LVIS v1 annotations and COCO's stuff, as pixel maps or JSON.

H, W: height and width of an image.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from shared.data.cocolvis import STUFF_IDS
from shared.data.pictures import read_numbers
from shared.errors import InputError

StuffSource = Literal["maps", "json"]


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


def read_lvis(path: Path) -> list[LvisImage]:
    """The images of an LVIS v1 file, by ascending number.

    Raises:
        InputError: no such file, or not the annotations of LVIS v1.
    """
    content = _read_json(path, "LVIS v1 annotations")
    try:
        # not by split: most of LVIS's val images are from COCO's train2017
        folders = {image["id"]: image["coco_url"].split("/")[-2] for image in content["images"]}
        images = {
            image["id"]: LvisImage(int(image["id"]), int(image["height"]), int(image["width"]), folders[image["id"]], [])
            for image in content["images"]
        }
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{path} is not like LVIS v1: images need id, height, width and coco_url ({error!r})") from error
    for image_id, annotation in _annotations(content, path):
        if image_id not in images:
            raise InputError(f"{path}: annotation {annotation.number} is of image {image_id}, which is not among the images")
        images[image_id].annotations.append(annotation)
    return [images[number] for number in sorted(images)]


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

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._of_image: dict[int, list[Annotation]] = {}
        for name in ("stuff_train2017.json", "stuff_val2017.json"):
            content = _read_json(folder / name, "COCO's stuff annotations")
            for image_id, annotation in _annotations(content, folder / name):
                self._of_image.setdefault(image_id, []).append(annotation)

    def require(self, images: list[LvisImage]) -> None:
        """Refuse files of other images: an image may be without stuff, but not all of them."""
        if not any(image.number in self._of_image for image in images):
            raise InputError("none of the images of LVIS has a stuff annotation; check that --coco and --lvis belong together")

    def read(self, image: LvisImage) -> list[Annotation]:
        """The stuff annotations of an image in the order of the file."""
        return self._of_image.get(image.number, [])


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
    """(H, W) bool: where the annotation is; the union of its polygons.

    Raises:
        InputError: pycocotools is not installed, or cannot read the annotation.
    """
    coco, codes = drawing_library(), annotation.segmentation
    try:
        if isinstance(codes, list):
            codes = coco.merge(coco.frPyObjects(codes, image.height, image.width))
        # a run-length code as numbers; pycocotools decodes only its own compressed strings
        elif isinstance(codes["counts"], (list, np.ndarray)):
            codes = coco.frPyObjects({**codes, "counts": list(codes["counts"])}, image.height, image.width)
        mask = coco.decode(codes)
    except Exception as error:  # pycocotools names no class of what bad annotations raise
        raise InputError(
            f"annotation {annotation.number} of image {image.number} cannot be drawn: {error}; repair the JSON file"
        ) from error
    if mask.shape != (image.height, image.width):
        raise InputError(f"annotation {annotation.number} is {mask.shape}, its image {image.number} {(image.height, image.width)} (H, W)")
    return mask.astype(bool)


def _annotations(content: dict[str, Any], path: Path) -> list[tuple[int, Annotation]]:
    try:
        return [
            (entry["image_id"], Annotation(entry["id"], entry["category_id"], entry["segmentation"])) for entry in content["annotations"]
        ]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not like COCO: annotations need id, image_id, category_id and segmentation ({error!r})") from error


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_hook=_compact)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"it is no JSON ({error})"
        raise InputError(f"cannot read {what} from {path}: {reason}; check --coco and --lvis") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected {what}")
    return content


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Numbers of polygons as arrays while the file is parsed: a quarter of the memory of Python's own."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list) and all(isinstance(polygon, list) for polygon in polygons):
        entry["segmentation"] = [np.array(polygon, np.float64) for polygon in polygons]
    return entry
