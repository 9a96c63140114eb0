"""Made annotations in the formats of LVIS v1 and of COCO's stuff."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Boxes = list[tuple[int, tuple[int, int, int, int]]]
"""Category and box (left, top, right, bottom) of each annotation."""


def polygon(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run-length code of an (H, W) bool mask: columns, beginning with a run of zeros."""
    column = mask.T.flatten()
    ends = np.flatnonzero(np.diff(column)) + 1
    runs = np.diff(np.concatenate([[0], ends, [column.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if column[0] else runs}


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def write_lvis(path: Path, images: dict[int, tuple[str, tuple[int, int], Boxes]]) -> None:
    """image number -> (folder, (height, width), annotations)."""
    entries, annotations = [], []
    for number, (folder, (height, width), boxes) in images.items():
        url = f"http://images.cocodataset.org/{folder}/{number:012d}.jpg"
        entries.append({"id": number, "height": height, "width": width, "coco_url": url})
        for category, box in boxes:
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category, "segmentation": [polygon(*box)]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": []}))


def write_stuff(root: Path, stuff: dict[str, dict[int, tuple[tuple[int, int], Boxes]]]) -> None:
    """folder -> image number -> (size, stuff regions), as JSON and as the maps of stuffthingmaps, where things are all person (0)."""
    for folder, images in stuff.items():
        annotations = []
        for number, (size, boxes) in images.items():
            values = np.full(size, 0, np.uint8)
            for category, box in boxes:
                code = run_lengths(box_mask(size, box))
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category, "segmentation": code})
                values[box_mask(size, box)] = {183: 0}.get(category, category - 1)
            path = root / f"stuffthingmaps/{folder}/{number:012d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
        path = root / f"annotations/stuff_{folder}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": [], "annotations": annotations}))
