"""`python -m tests.shared.data.made_coco_lvis_size FOLDER IMAGES`: sources of build-coco-lvis as large as the real ones, to time it with.

480x640 pixels, twelve instances an image with polygons of 20 to 60 corners (LVIS v1: 1.27 million in 100 170 images),
and nine stuff regions.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 480, 640
INSTANCES, REGIONS = 12, 9


def outline(rng: np.random.Generator) -> list[float]:
    """A ragged polygon x, y, x, y, … around a random point, mostly small as in LVIS."""
    angles = np.linspace(0, 2 * np.pi, rng.integers(20, 60), endpoint=False)
    radius = np.exp(rng.normal(3, 0.9)) * rng.uniform(0.6, 1.2, angles.size)
    corners = rng.uniform([0, 0], [WIDTH, HEIGHT]) + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.clip(corners, 0, [WIDTH, HEIGHT]).round(2).flatten().tolist()


def stuff_map(rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint8: pixels belong to the nearest of random points, with ragged borders."""
    points, values = rng.uniform([0, 0], [HEIGHT, WIDTH], (REGIONS, 2)), rng.integers(91, 182, REGIONS)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + rng.normal(0, 3, (2, HEIGHT, WIDTH))
    return values[((rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2).argmin(-1)].astype(np.uint8)


def write_split(root: Path, split: str, count: int, rng: np.random.Generator) -> None:
    folder = root / f"stuffthingmaps/{split}2017"
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        images.append(
            {"id": number, "height": HEIGHT, "width": WIDTH, "coco_url": f"http://images.cocodataset.org/{split}2017/{number:012d}.jpg"}
        )
        for _ in range(INSTANCES):
            category = int(rng.integers(1, 1204))
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category, "segmentation": [outline(rng)]})
        Image.fromarray(stuff_map(rng)).save(folder / f"{number:012d}.png")
    (root / f"lvis_v1_{split}.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))


if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    rng = np.random.default_rng(0)
    for split, count in (("train", int(sys.argv[2])), ("val", 2)):
        write_split(Path(sys.argv[1]), split, count, rng)
