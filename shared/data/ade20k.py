"""ADE20K, the 150 classes of the scene parsing challenge 2016."""

from pathlib import Path

from shared.data.classes import class_colours, class_names
from shared.data.pairs import PairDataset, pair_files, require_folders
from shared.data.pictures import LabelCodes
from shared.data.spec import DatasetSpec
from shared.errors import InputError

ADE20K = DatasetSpec("ade20k", class_names("ade20k"), class_colours("ade20k"))
_FOLDERS = {"train": "training", "val": "validation"}
_LAYOUT = "the folder ADEChallengeData2016 with {images,annotations}/{training,validation}/ADE_*.{jpg,png}"


class Ade20k(PairDataset):
    """20210 train and 2000 val images; label value 0 (no class) is ignored, 1 … 150 are the classes.

    Raises:
        InputError: unknown split, or a folder of the split is missing or incomplete.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        if split not in _FOLDERS:
            raise InputError(f"ADE20K has no split {split!r}; it has train and val")
        images, labels = (f"{kind}/{_FOLDERS[split]}" for kind in ("images", "annotations"))
        require_folders(Path(root), [images, labels], _LAYOUT)
        codes = LabelCodes(ADE20K.num_classes, offset=1, ignore_value=0)
        super().__init__(ADE20K, split, pair_files(Path(root, images), Path(root, labels)), codes)
