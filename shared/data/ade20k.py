"""ADE20K: the 150 classes of the scene parsing challenge 2016, and 847 classes of the full data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.data.classes import class_colours, class_names, class_values
from shared.data.label_rules import LabelRule, LabelRules
from shared.data.labels import LabelCodes
from shared.data.pairs import Pair, PairDataset, pair_files, plain_codes, require_folders
from shared.data.pictures import MAX_PIXELS, read_image
from shared.data.spec import DatasetSpec
from shared.errors import InputError, choose
from shared.visualise import voc_palette

ADE20K = DatasetSpec("ade20k", class_names("ade20k"), class_colours("ade20k"))
ADE20K_FULL = DatasetSpec("ade20k_full", class_names("ade20k_full"), voc_palette(848)[1:])
_FOLDERS = {"train": "training", "val": "validation"}
_LAYOUT = "the folder ADEChallengeData2016 with {images,annotations}/{training,validation}/ADE_*.{jpg,png}"


class Ade20k(PairDataset):
    """20210 train and 2000 val images; label value 0 (no class) is ignored, 1 … 150 are the classes.

    Raises:
        InputError: unknown split, or a folder of the split is missing or incomplete.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        choose("split", split, _FOLDERS, where="ADE20K")
        images, labels = (f"{kind}/{_FOLDERS[split]}" for kind in ("images", "annotations"))
        require_folders(Path(root), [images, labels], _LAYOUT)
        codes = LabelCodes(ADE20K.num_classes, offset=1, ignore_value=0)
        super().__init__(ADE20K, split, pair_files(Path(root, images), Path(root, labels)), codes)


_LAYOUT_FULL = "the folder ADE20K_2021_17_01 with images/ADE/{training,validation}/**/ADE_*.jpg and ADE_*_seg.png beside them"


class Ade20kFull(PairDataset):
    """25574 train and 2000 val images of the release of 2021 as it is unpacked.

    The 847 classes are those that occur both in train and in val at least once (MaskFormer, arXiv 2107.06278, names them
    ADE20K-Full and has the list); pixels of the others are ignored. Images keep their size: no side is cut to 512 pixels.

    Raises:
        InputError: unknown split, a folder of the split is missing or has no images, or an image without its label file.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        choose("split", split, _FOLDERS, where="ADE20K")
        folder = Path(root, "images/ADE", _FOLDERS[split])
        require_folders(Path(root), [f"images/ADE/{_FOLDERS[split]}"], _LAYOUT_FULL)
        images = sorted(folder.rglob("ADE_*.jpg"))
        if not images:
            raise InputError(f"there are no images ADE_*.jpg below {folder}; expected {_LAYOUT_FULL}")
        pairs = [Pair(image.stem, image, image.with_name(f"{image.stem}_seg.png"), None) for image in images]
        missing = [pair.label for pair in pairs if not pair.label.is_file()]
        if missing:
            raise InputError(f"{len(missing)} of {len(pairs)} images have no label file, first {missing[0]}; unpack the data set again")
        parts = tuple(f"_parts_{level}" for level in range(1, 10))
        rules = LabelRules((LabelRule(ColourLabels(), "_seg"), LabelRule(plain_codes(ADE20K_FULL))), others=parts)
        super().__init__(ADE20K_FULL, split, pairs, ColourLabels(), rules)


@dataclass(frozen=True)
class ColourLabels:
    """Label files *_seg.png of ADE20K's full release: a class is 256 times the tenth of red (rounded down), plus green."""

    name = "ade20k_full"

    def to_plain(self) -> dict[str, Any]:
        return {"format": self.name}

    def read(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
        """Read a file as (H, W) int64 class ids in [0, 847) or `IGNORE_INDEX`.

        Raises:
            InputError: an unreadable file, or values beyond the 3688 of the release, as in a greyscale picture.
        """
        red, green, _ = read_image(path, max_pixels=max_pixels).to(torch.int64)
        values = red // 10 * 256 + green
        if int(values.max()) >= len(_CLASS_OF_VALUE):
            raise InputError(
                f"{path} holds value {int(values.max())}; allowed are 0..{len(_CLASS_OF_VALUE) - 1}; "
                "these are not the label files *_seg.png of ADE20K's full release"
            )
        return _CLASS_OF_VALUE[values]


def _class_of_value() -> torch.Tensor:
    """(3689,) int64: the class id of each value; value 0 is no class, and the others number the release's 3688 objects from 1."""
    table = np.full(3689, IGNORE_INDEX, np.int64)
    table[class_values("ade20k_full")] = np.arange(ADE20K_FULL.num_classes)
    return torch.from_numpy(table)


_CLASS_OF_VALUE = _class_of_value()
