"""PASCAL VOC 2012 segmentation, and its augmented training set."""

from pathlib import Path

from shared.data.config import VocConfig
from shared.data.labels import LabelCodes
from shared.data.pairs import PairDataset, pair_files, read_list, require_folders
from shared.data.spec import DatasetSpec
from shared.errors import choose
from shared.visualise import voc_palette

_NAMES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)
VOC = DatasetSpec("voc", tuple(_NAMES.split()), voc_palette(21))
_LISTS = "ImageSets/Segmentation"
_LAYOUT = "the folder VOC2012 of VOCdevkit, with JPEGImages, SegmentationClass (trainaug: SegmentationClassAug) and " + _LISTS


class Voc(PairDataset):
    """1464 train (trainaug: 10582) and 1449 val images, 21 classes with the background; label value 255 (borders) is ignored.

    Raises:
        InputError: unknown split, a folder or list that is missing, or a listed sample without its files.
    """

    def __init__(self, root: str | Path, split: str, config: VocConfig) -> None:
        choose("split", split, ("train", "val"), where="VOC")
        augmented = split == "train" and config.train_list == "trainaug"
        images, labels = "JPEGImages", "SegmentationClassAug" if augmented else "SegmentationClass"
        require_folders(Path(root), [images, labels, _LISTS], _LAYOUT)
        names = read_list(_augmented_list(Path(root, _LISTS)) if augmented else Path(root, _LISTS, f"{split}.txt"))
        pairs = pair_files(Path(root, images), Path(root, labels), names=names)
        super().__init__(VOC, split, pairs, LabelCodes(VOC.num_classes, ignore_value=255))


def _augmented_list(folder: Path) -> Path:
    """The list under whichever of its two names there is."""
    other = folder / "train_aug.txt"
    return other if other.is_file() else folder / "trainaug.txt"
