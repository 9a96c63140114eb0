"""Data sets: samples with final class ids, whatever the files look like."""

from collections.abc import Callable, Iterable
from typing import Literal

from shared.data.ade20k import Ade20k, Ade20kFull
from shared.data.camvid import CamVid
from shared.data.cityscapes import Cityscapes
from shared.data.cocolvis import CocoLvis
from shared.data.cocostuff import CocoStuff, CocoStuff10k
from shared.data.config import DataConfig
from shared.data.folder import FolderDataset
from shared.data.pairs import PairDataset, Reading
from shared.data.scenes import SceneDataset
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.data.voc import Voc
from shared.errors import InputError, choose
from shared.files.text_file import composed

__all__ = ["DataConfig", "DatasetSpec", "Sample", "SegmentationDataset", "Split", "build_dataset"]

Split = Literal["train", "val"]


def build_dataset(config: DataConfig, split: Split) -> SegmentationDataset:
    """Build one split of the data set that `config.name` names.

    Raises:
        InputError: the data set needs `data.root` and it is not given, or its files are missing or do not match.
    """
    builders: dict[str, Callable[[DataConfig, Split], SegmentationDataset]] = {
        "scenes": _build_scenes,
        "camvid": lambda config, split: CamVid(_root(config), split),
        "folder": lambda config, split: FolderDataset(_root(config), split, config.folder),
        "cityscapes": lambda config, split: Cityscapes(_root(config), split, config.cityscapes),
        "voc": lambda config, split: Voc(_root(config), split, config.voc),
        "ade20k": lambda config, split: Ade20k(_root(config), split),
        "ade20k_full": lambda config, split: Ade20kFull(_root(config), split),
        "coco_stuff10k": lambda config, split: CocoStuff10k(_root(config), split, config.coco_stuff),
        "coco_stuff": lambda config, split: CocoStuff(_root(config), split, config.coco_stuff),
        "coco_lvis": lambda config, split: CocoLvis(_root(config), split, config.coco_lvis),
    }
    dataset = builders[config.name](config, split)
    if isinstance(dataset, PairDataset):
        dataset.reading = Reading(config.orientation, config.max_pixels)
    dataset.ignored = ids_of_classes(config.ignore_classes or [], dataset.spec)
    return dataset


def ids_of_classes(names: Iterable[str], spec: DatasetSpec) -> tuple[int, ...]:
    """The ids of some classes of a data set, in ascending order, each once.

    Raises:
        InputError: names one that is no class.
    """
    known = {name: class_id for class_id, name in enumerate(spec.class_names)}
    return tuple(sorted({known[choose("class", composed(name), known, where=f"data set {spec.name}")] for name in names}))


def _build_scenes(config: DataConfig, split: Split) -> SegmentationDataset:
    scenes = config.scenes
    length = scenes.train_length if split == "train" else scenes.val_length
    return SceneDataset(split, num_classes=scenes.num_classes, height=scenes.height, width=scenes.width, length=length, seed=scenes.seed)


def _root(config: DataConfig) -> str:
    if config.root is None:
        raise InputError(f"data set {config.name} lies in files; say where with --data.root FOLDER")
    return config.root
