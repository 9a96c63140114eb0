"""CamVid in SegNet's layout: root/{train,val,test} and root/{train,val,test}annot."""

from pathlib import Path

import numpy as np

from shared.data.labels import LabelCodes
from shared.data.pairs import PairDataset, pair_files
from shared.data.spec import DatasetSpec
from shared.errors import choose

_CLASSES = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
CAMVID = DatasetSpec("camvid", tuple(_CLASSES), np.array(list(_CLASSES.values()), np.uint8))
_VOID = 11


class CamVid(PairDataset):
    """367 train, 101 val and 233 test frames of 360x480 pixels, 11 classes; label value 11 is void and ignored.

    Raises:
        InputError: unknown split, or a folder of the split is missing or incomplete.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        choose("split", split, ("train", "val", "test"), where="CamVid")
        pairs = pair_files(Path(root, split), Path(root, f"{split}annot"))
        super().__init__(CAMVID, split, pairs, LabelCodes(CAMVID.num_classes, ignore_value=_VOID))
