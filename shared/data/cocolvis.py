"""COCO+LVIS, 1284 classes: the 1203 of LVIS v1 and the stuff classes of COCO, merged by name.

Label values are class + 1 in 16 bits, 0 is no class. `shared.data.cocolvis_build` makes the files. W, H: width and height of an image.
"""

from pathlib import Path

import numpy as np

from shared.data.classes import class_names
from shared.data.config import CocoLvisConfig
from shared.data.labels import LabelCodes
from shared.data.pairs import Pair, PairDataset, read_list, require_folders, require_listed
from shared.data.picture_files import find_pictures
from shared.data.pictures import IMAGE_SUFFIXES, LABEL_SUFFIXES
from shared.data.spec import DatasetSpec
from shared.errors import InputError, choose
from shared.visualise import voc_palette

_LVIS, _STUFF = class_names("lvis"), class_names("coco_stuff")
STUFF_IDS = range(92, 183)
"""COCO's ids of its stuff classes; 183 ("other") and everything else is no class."""


def _merge_names() -> tuple[tuple[str, ...], np.ndarray]:
    """All class names, and the label value of every 8-bit stuff id: that of the LVIS class of the same name, or else one of its own."""
    names, values = list(_LVIS), np.zeros(256, np.uint16)
    for stuff_id in STUFF_IDS:
        name = _STUFF[stuff_id - 1]
        if name not in names:
            names.append(name)
        values[stuff_id] = names.index(name) + 1
    return tuple(names), values


_NAMES, STUFF_VALUES = _merge_names()
# without its first colour, black, which is that of no class
COCO_LVIS = DatasetSpec("coco_lvis", _NAMES, voc_palette(len(_NAMES) + 1)[1:])
_LAYOUT = "COCO's train2017/*.jpg and val2017/*.jpg"


def merge_labels(
    lvis_masks: list[np.ndarray], lvis_category_ids: list[int], stuff_ids: np.ndarray, stuff_values: np.ndarray = STUFF_VALUES
) -> np.ndarray:
    """The label values of an image: the first LVIS annotation that covers a pixel, otherwise its stuff class.

    Args:
        lvis_masks: (H, W) bool, one per annotation, in the order of the file.
        lvis_category_ids: LVIS category of each, 1 … 1203.
        stuff_ids: (H, W) COCO stuff ids; all but 92 … 182 are no class.
        stuff_values: (256,) uint16, label value of every stuff id.

    Returns:
        (H, W) uint16: 0 for no class, or class + 1.

    Raises:
        InputError: a category that LVIS v1 does not have.
    """
    wrong = [category for category in lvis_category_ids if not 1 <= category <= len(_LVIS)]
    if wrong:
        raise InputError(f"LVIS category {wrong[0]} came; LVIS v1 has 1..{len(_LVIS)}: give the files of version 1")
    # by a table: replacing id after id, as the published generator does, replaces some of them twice
    labels = stuff_values[np.where((stuff_ids >= 0) & (stuff_ids < len(stuff_values)), stuff_ids, 0)]
    for mask, category in zip(reversed(lvis_masks), reversed(lvis_category_ids)):  # backwards, so that the first has the last word
        labels[mask] = category
    return labels


class CocoLvis(PairDataset):
    """100170 train and 19809 val images (15000 of these are from COCO's train2017, as LVIS has it).

    Raises:
        InputError: unknown split, or images or label files are missing.
    """

    def __init__(self, root: str | Path, split: str, config: CocoLvisConfig) -> None:
        choose("split", split, ("train", "val"), where="COCO+LVIS")
        folders = ["train2017"] if split == "train" else ["train2017", "val2017"]
        require_folders(Path(root), folders, _LAYOUT)
        labels = Path(root, config.labels)
        if not (labels / f"{split}.txt").is_file():
            build = f"python -m shared.data build-coco-lvis -o {labels}"
            raise InputError(f"there is no {labels / split}.txt; make it, or finish it: {build}, or set data.coco_lvis.labels")
        names = read_list(labels / f"{split}.txt")
        images = {name: path for folder in folders for name, path in find_pictures(Path(root, folder), IMAGE_SUFFIXES).items()}
        files = find_pictures(labels / split, LABEL_SUFFIXES)
        require_listed(names, images, f"image in {root}/{{{','.join(folders)}}}")
        require_listed(names, files, f"label in {labels / split}")
        pairs = [Pair(name, images[name], files[name], None) for name in names]
        super().__init__(COCO_LVIS, split, pairs, LabelCodes(COCO_LVIS.num_classes, offset=1, ignore_value=0))
