"""Settings that say which data set to use and where it lies."""

from dataclasses import dataclass, field
from typing import Literal

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
    """Names in the order of the class ids: a list, or a text file with a name per line, or a JSON file with a list of names."""
    palette: str | None = None
    """Text file with a line "red green blue" (0..255) per class; null: colours are made up."""
    ignore_value: int | None = 255
    """Value of ignored pixels in the label files; null: there are none. From 256 classes on, 255 is a class: give another value or null."""
    label_offset: int = 0
    """Class id = value in the file − this; 1 where classes are counted from 1."""

    def __post_init__(self) -> None:
        if self.label_offset < 0:
            raise InputError(f"data.folder.label_offset is {self.label_offset}; it must be 0 or more")


@dataclass
class DataConfig:
    """Which data set, and how it is read."""

    name: Literal["scenes", "camvid", "folder"] = "scenes"
    """Data set: scenes (built in, needs no files), camvid (SegNet's layout) or folder (your own, see data.folder)."""
    root: str | None = None
    """Folder of the data set; needed by camvid and folder."""
    num_workers: int = 2
    """Processes that prepare batches; 0: the training process itself. Results are the same for any number."""
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    """Settings of the built-in scenes."""
    folder: FolderConfig = field(default_factory=FolderConfig)
    """Settings of a data set of your own."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise InputError(f"data.num_workers is {self.num_workers}; it must be 0 or more")
