"""Settings that say which data set to use and where it lies."""

from dataclasses import dataclass, field
from typing import Literal

from shared.data.pictures import MAX_PIXELS, Orientation
from shared.errors import InputError


@dataclass
class ScenesConfig:
    """The built-in data set: street-like scenes drawn on the fly, with exact labels and no files."""

    num_classes: int = 19
    """Classes, 4 or more; the cost of a scene does not depend on it."""
    height: int = 64
    """Height of a scene in pixels."""
    width: int = 128
    """Width of a scene in pixels."""
    train_length: int = 512
    """Scenes in the train split."""
    val_length: int = 64
    """Scenes in the val split."""
    seed: int = 0
    """Seed of the scenes; another seed is another data set."""


@dataclass
class FolderConfig:
    """A data set of your own: folders of images and of label PNGs, paired by file name. Paths are relative to data.root."""

    name: str = "folder"
    """Name of the data set, stored in checkpoints and embedding files."""
    train_images: str = "images/train"
    """Folder of training images; sub-folders are read too."""
    train_labels: str = "labels/train"
    """Folder of training labels: 8- or 16-bit one-channel PNG files."""
    val_images: str = "images/val"
    """Folder of validation images."""
    val_labels: str = "labels/val"
    """Folder of validation labels."""
    train_instances: str | None = None
    """Folder of training instance maps (PNG, another number per object); null: none."""
    val_instances: str | None = None
    """Folder of validation instance maps; null: none."""
    class_names: list[str] | str = "classes.txt"
    """Names in the order of the class ids: a list, or a text file with a name per line, a CSV file with a column of them, or a JSON file
    with a list."""
    palette: str | None = None
    """Text file with a line "red green blue" (0..255) per class; null: colours are made up."""
    ignore_value: int | None = 255
    """Value of ignored pixels in the label files; null: there are none. From 256 classes on, 255 is a class: give another value or null."""
    label_offset: int = 0
    """Class id = value in the file − this; 1 where classes are counted from 1."""
    label_values: list[int] | None = None
    """Value in the label files of each class, such as [0, 255] for masks of black and white, with ignore_value null. Null: those of
    label_offset."""

    def __post_init__(self) -> None:
        if self.label_offset < 0:
            raise InputError(f"data.folder.label_offset is {self.label_offset}; it must be 0 or more")
        if self.label_offset and self.label_values is not None:
            raise InputError("data.folder.label_offset and label_values are both given; the values say all: leave the offset out")


@dataclass
class CityscapesConfig:
    """Which of the Cityscapes label files are read, and as which classes."""

    classes: Literal["train", "all"] = "train"
    """train: the 19 classes of the evaluation, everything else ignored; all: the 35 of the label files, as SPADE takes them."""
    labels: Literal["labelIds", "labelTrainIds"] = "labelIds"
    """Label files *_gtFine_labelIds.png, as published, or *_gtFine_labelTrainIds.png, which cityscapesScripts makes (classes train)."""
    instances: bool = False
    """Read *_gtFine_instanceIds.png too."""

    def __post_init__(self) -> None:
        if self.classes == "all" and self.labels == "labelTrainIds":
            raise InputError("data.cityscapes.labels labelTrainIds hold 19 classes; for data.cityscapes.classes all give labels labelIds")


@dataclass
class VocConfig:
    """Which training images of PASCAL VOC 2012 are read."""

    train_list: Literal["train", "trainaug"] = "train"
    """train: the 1464 images of the challenge; trainaug: 10582, with SegmentationClassAug and ImageSets/Segmentation/trainaug.txt or
    train_aug.txt."""


@dataclass
class CocoStuffConfig:
    """How the files of COCO-Stuff are stored."""

    files_10k: Literal["mat", "png"] = "mat"
    """coco_stuff10k: annotations/*.mat, as published, or the PNG files *_labelTrainIds.png that mmsegmentation converts them to."""
    instances: str | None = None
    """coco_stuff: folder below data.root with instance maps train2017/*.png and val2017/*.png; null: none."""


@dataclass
class CocoLvisConfig:
    """Where the label files of COCO+LVIS lie."""

    labels: str = "coco_lvis"
    """Folder that `python -m shared.data build-coco-lvis` wrote; relative to data.root, or absolute."""


@dataclass
class DataConfig:
    """Which data set, and how it is read."""

    name: Literal[
        "scenes", "camvid", "folder", "cityscapes", "voc", "ade20k", "ade20k_full", "coco_stuff10k", "coco_stuff", "coco_lvis"
    ] = "scenes"
    """Data set: scenes (built in, needs no files), folder (your own, see data.folder), or a published one in its own layout: camvid
    (SegNet's), cityscapes, voc (2012), ade20k (150 classes), ade20k_full (847), coco_stuff10k, coco_stuff (164k pixel maps), coco_lvis
    (1284 classes)."""
    root: str | None = None
    """Folder of the data set; needed by all but scenes."""
    ignore_classes: list[str] | None = None
    """Classes whose pixels are read as ignored, in both splits, by their names; ids and names of all classes stay as they are. What is
    trained on such data neither learns nor predicts them. Null: none."""
    num_workers: int = 2
    """Processes that prepare batches; 0: the training process itself. Results are the same for any number."""
    orientation: Orientation | None = None
    """Images that their EXIF data turn: shown, as viewers do it, or stored, as their pixels lie in the file. Null: shown, unless only the
    stored pixels have the size of the label map."""
    max_pixels: int = MAX_PIXELS
    """Pixels of the largest picture that is read; a larger one is refused, as a small file may unfold to any size."""
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    """Settings of the built-in scenes."""
    folder: FolderConfig = field(default_factory=FolderConfig)
    """Settings of a data set of your own."""
    cityscapes: CityscapesConfig = field(default_factory=CityscapesConfig)
    """Settings of cityscapes."""
    voc: VocConfig = field(default_factory=VocConfig)
    """Settings of voc."""
    coco_stuff: CocoStuffConfig = field(default_factory=CocoStuffConfig)
    """Settings of coco_stuff10k and coco_stuff."""
    coco_lvis: CocoLvisConfig = field(default_factory=CocoLvisConfig)
    """Settings of coco_lvis."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise InputError(f"data.num_workers is {self.num_workers}; it must be 0 or more")
        if self.max_pixels < 1:
            raise InputError(f"data.max_pixels is {self.max_pixels}; it must be at least 1")
