"""COCO-Stuff, 182 classes: the 10k subset and the pixel maps of the 164k images.

91 things and 91 stuff classes. Eleven of the things occur in no image; figures that leave absent classes out are not changed by them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.data.classes import class_names
from shared.data.config import CocoStuffConfig
from shared.data.label_rules import LabelRule, LabelRules
from shared.data.labels import LabelCodes, LabelTable
from shared.data.matlab import read_matrix
from shared.data.pairs import PairDataset, pair_files, plain_codes, read_list, require_folders
from shared.data.pictures import MAX_PIXELS
from shared.data.spec import DatasetSpec
from shared.errors import InputError, choose
from shared.visualise import voc_palette

_NAMES = class_names("coco_stuff")
COCO_STUFF10K = DatasetSpec("coco_stuff10k", _NAMES, voc_palette(len(_NAMES) + 1)[1:])
COCO_STUFF = DatasetSpec("coco_stuff", _NAMES, voc_palette(len(_NAMES) + 1)[1:])
ABSENT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Published ids (class + 1) that no image holds; the converted PNG files leave them out of their count."""

CONVERTED_ENDING = "_labelTrainIds"
"""How the PNG files end that mmsegmentation converts label files to, and puts beside them."""
_LAYOUT_MAT = "images/*.jpg, annotations/*.mat and imageLists/{train,test}.txt"
_LAYOUT_PNG = "images/{train,test}2014/*.jpg and annotations/{train,test}2014/*_labelTrainIds.png"
_LAYOUT_164K = "{train,val}2017/*.jpg and stuffthingmaps/{train,val}2017/*.png"


class CocoStuff10k(PairDataset):
    """9000 train and 1000 val (called test) images; the published value 0 is ignored, 1 … 182 are the classes.

    Raises:
        InputError: unknown split, a folder or list that is missing, or a sample without its files.
    """

    def __init__(self, root: str | Path, split: str, config: CocoStuffConfig) -> None:
        lists = {"train": "train", "val": "test"}
        published = lists[choose("split", split, lists, where="COCO-Stuff10k")]
        root = Path(root)
        if config.files_10k == "mat":
            require_folders(root, ["images", "annotations", "imageLists"], _LAYOUT_MAT)
            names = read_list(root / f"imageLists/{published}.txt")
            pairs = pair_files(root / "images", root / "annotations", names=names, label_suffixes=(".mat",))
            super().__init__(COCO_STUFF10K, split, pairs, MatLabels(), _RULES_MAT)
            return
        images, labels = f"images/{published}2014", f"annotations/{published}2014"
        require_folders(root, [images, labels], _LAYOUT_PNG)
        pairs = pair_files(root / images, root / labels, endings=("", CONVERTED_ENDING, ""))
        super().__init__(COCO_STUFF10K, split, pairs, _CONVERTED, _RULES_PNG)


class CocoStuff(PairDataset):
    """118287 train and 5000 val images; the pixel maps count classes from 0, value 255 is ignored.

    Raises:
        InputError: unknown split, or a folder of the split is missing or incomplete.
    """

    def __init__(self, root: str | Path, split: str, config: CocoStuffConfig) -> None:
        choose("split", split, ("train", "val"), where="COCO-Stuff")
        root, images, labels = Path(root), f"{split}2017", f"stuffthingmaps/{split}2017"
        require_folders(root, [images, labels], _LAYOUT_164K)
        instances = None if config.instances is None else root / config.instances / images
        pairs = pair_files(root / images, root / labels, instances, others=LABEL_RULES.others)
        super().__init__(COCO_STUFF, split, pairs, _MAPS, LABEL_RULES)


@dataclass(frozen=True)
class MatLabels:
    """Label files *.mat of COCO-Stuff10k: the published ids in the variable S."""

    name = "mat"

    def to_plain(self) -> dict[str, Any]:
        return {"format": self.name}

    def read(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
        """Read a file as (H, W) int64 class ids in [0, 182) or `IGNORE_INDEX`.

        Raises:
            InputError: not a MATLAB file, no such variable in it, or a value out of range.
        """
        try:
            values = read_matrix(path, "S", max_values=max_pixels)
        except KeyError as error:
            raise InputError(f"{path} holds no variable S; expected an annotation file of COCO-Stuff10k") from error
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"variable S of {path} is {values.dtype} of shape {values.shape}; a matrix of integers was expected")
        return LabelCodes(COCO_STUFF10K.num_classes, offset=1, ignore_value=0).decode(values, path)


_CONVERTED = LabelTable((IGNORE_INDEX, *(label - 1 for label in range(1, len(_NAMES) + 1) if label not in ABSENT)))
"""The converted PNG files count the 171 classes that occur from 1, and 0 is no class."""
_MAPS = LabelCodes(COCO_STUFF.num_classes, ignore_value=255)
_PLAIN = LabelRule(plain_codes(COCO_STUFF10K))
_RULES_MAT = LabelRules((LabelRule(MatLabels(), suffixes=(".mat",)), _PLAIN))
_RULES_PNG = LabelRules((LabelRule(_CONVERTED, CONVERTED_ENDING), _PLAIN))
LABEL_RULES = LabelRules((LabelRule(_MAPS),), others=(CONVERTED_ENDING,))
"""Of the pixel maps of the 164k images."""
