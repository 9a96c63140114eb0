"""Cityscapes: leftImg8bit and gtFine, with the 19 classes of the evaluation or all 35."""

from pathlib import Path

import numpy as np

from shared.constants import IGNORE_INDEX
from shared.data.config import CityscapesConfig
from shared.data.label_rules import LabelRule, LabelRules
from shared.data.labels import LabelCodes, LabelReader, LabelTable
from shared.data.pairs import PairDataset, pair_files, plain_codes, require_folders
from shared.data.spec import DatasetSpec
from shared.errors import choose

_CLASSES = {
    "unlabeled": (0, 0, 0),
    "ego vehicle": (0, 0, 0),
    "rectification border": (0, 0, 0),
    "out of roi": (0, 0, 0),
    "static": (0, 0, 0),
    "dynamic": (111, 74, 0),
    "ground": (81, 0, 81),
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "parking": (250, 170, 160),
    "rail track": (230, 150, 140),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "guard rail": (180, 165, 180),
    "bridge": (150, 100, 100),
    "tunnel": (150, 120, 90),
    "pole": (153, 153, 153),
    "polegroup": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "caravan": (0, 0, 90),
    "trailer": (0, 0, 110),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
    "license plate": (0, 0, 142),  # drawn in no label file; it makes the 35 channels of SPADE
}
"""Names and colours by label id."""
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label id of each of the 19 classes."""

_NAMES, _PALETTE = tuple(_CLASSES), np.array(list(_CLASSES.values()), np.uint8)
CITYSCAPES = DatasetSpec("cityscapes", tuple(_NAMES[label] for label in TRAIN_IDS), _PALETTE[list(TRAIN_IDS)])
CITYSCAPES_ALL = DatasetSpec("cityscapes", _NAMES, _PALETTE)
_KINDS = ("labelIds", "labelTrainIds", "instanceIds", "instanceTrainIds", "color")
"""How PNG files that lie beside each other end, those made by cityscapesScripts included."""
_LAYOUT = "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/*_gtFine_labelIds.png"


class Cityscapes(PairDataset):
    """2975 train and 500 val images of 1024x2048 pixels with fine annotations.

    Raises:
        InputError: unknown split, or a folder of the split is missing or incomplete.
    """

    def __init__(self, root: str | Path, split: str, config: CityscapesConfig) -> None:
        choose("split", split, ("train", "val"), where="Cityscapes")
        images, labels = f"leftImg8bit/{split}", f"gtFine/{split}"
        require_folders(Path(root), [images, labels], _LAYOUT)
        pairs = pair_files(
            Path(root, images),
            Path(root, labels),
            Path(root, labels) if config.instances else None,
            endings=("_leftImg8bit", f"_gtFine_{config.labels}", "_gtFine_instanceIds"),
        )
        spec = CITYSCAPES_ALL if config.classes == "all" else CITYSCAPES
        readers = _readers(config)
        plain = LabelCodes(spec.num_classes, ignore_value=None) if config.classes == "all" else plain_codes(spec)
        super().__init__(spec, split, pairs, readers[config.labels], label_rules(readers, plain))


def _readers(config: CityscapesConfig) -> dict[str, LabelReader]:
    """What the numbers mean in each kind of label file that holds these classes, the one that is read first."""
    if config.classes == "all":
        return {"labelIds": LabelCodes(CITYSCAPES_ALL.num_classes, ignore_value=None)}
    table = tuple(TRAIN_IDS.index(label) if label in TRAIN_IDS else IGNORE_INDEX for label in range(len(_NAMES)))
    readers: dict[str, LabelReader] = {"labelIds": LabelTable(table), "labelTrainIds": LabelCodes(CITYSCAPES.num_classes, ignore_value=255)}
    return {kind: readers[kind] for kind in sorted(readers, key=lambda kind: kind != config.labels)}


def label_rules(readers: dict[str, LabelReader], plain: LabelReader) -> LabelRules:
    """Of the files in gtFine and gtCoarse, and, where a name tells nothing, of class ids such as predictions are."""
    rules = [LabelRule(reader, f"_{kind}") for kind, reader in readers.items()]
    others = [f"_{kind}" for kind in _KINDS if kind not in readers]
    return LabelRules((*rules, LabelRule(plain)), "_instanceIds", tuple(others))
