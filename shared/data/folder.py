"""A data set of your own: folders of images and label PNGs, class names from a list or a file; read, and written from any data set."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from shared.data.class_lists import read_class_names, require_different
from shared.data.config import FolderConfig
from shared.data.labels import LabelCodes, LabelReader, LabelTable
from shared.data.pairs import PairDataset, pair_files
from shared.data.spec import DatasetSpec, SegmentationDataset
from shared.data.workers import parallel_map
from shared.errors import InputError, choose
from shared.files.atomic import atomic_write, write_text
from shared.files.text_file import composed, read_text
from shared.visualise import label_storage, save_label_png, save_png, voc_palette

ImageFormat = Literal["png", "jpeg"]


class FolderDataset(PairDataset):
    """Images and labels paired by file name; see `FolderConfig` for the layout. Any number of classes up to 65,535.

    Args:
        root: folder that the paths in `config` are relative to.
        split: train or val.

    Raises:
        InputError: folders that are missing or do not match, class names or colours that cannot be read.
    """

    def __init__(self, root: str | Path, split: str, config: FolderConfig) -> None:
        folders = {
            "train": (config.train_images, config.train_labels, config.train_instances),
            "val": (config.val_images, config.val_labels, config.val_instances),
        }
        images, labels, instances = folders[choose("split", split, folders, where="data set folder")]
        root = Path(root)
        spec = _read_spec(root, config)
        pairs = pair_files(root / images, root / labels, None if instances is None else root / instances)
        super().__init__(spec, split, pairs, _codes(config, spec.num_classes))


def _read_spec(root: Path, config: FolderConfig) -> DatasetSpec:
    given = config.class_names
    names, source = list(map(composed, given)) if isinstance(given, list) else [], "data.folder.class_names"
    if isinstance(given, str):
        names, source = read_class_names(root / given, _advice("class_names")), str(root / given)
    require_different(names, source)
    return DatasetSpec(config.name, tuple(names), _palette(root, config.palette, len(names)))


def _codes(config: FolderConfig, num_classes: int) -> LabelReader:
    if config.label_values is None:
        return LabelCodes(num_classes, config.label_offset, config.ignore_value)
    if len(config.label_values) != num_classes:
        raise InputError(f"data.folder.label_values has {len(config.label_values)} values for {num_classes} classes; give one per class")
    return LabelTable.of_values(config.label_values, config.ignore_value)


def _advice(setting: str) -> str:
    return f"check --data.folder.{setting} and --data.root"


def _palette(root: Path, given: str | None, num_classes: int) -> np.ndarray:
    if given is None:
        return voc_palette(num_classes + 1)[1:]  # colour 0 is black, the colour of ignored pixels
    rows = read_text(root / given, "colours", _advice("palette")).split("\n")
    try:
        colours = np.array([[int(part) for part in row.split()] for row in rows if row.strip()])
    except ValueError as error:
        raise InputError(f"{root / given}: {error}; expected three whole numbers 0..255 per line") from error
    if colours.shape != (num_classes, 3) or colours.min() < 0 or colours.max() > 255:
        raise InputError(f"{root / given} holds {len(colours)} lines; expected {num_classes} lines of three numbers 0..255, one per class")
    return colours.astype(np.uint8)


def write_folder(
    splits: list[SegmentationDataset], root: str | Path, *, image_format: ImageFormat = "png", num_workers: int = 0
) -> list[str]:
    """Write images/SPLIT, labels/SPLIT, instances/SPLIT where there are instance maps, classes.txt and palette.txt below `root`.

    Labels are 8-bit PNGs up to 255 classes and 16-bit ones beyond, with the ignored value of `label_storage`. Files that are there
    already are not written again, so that a stopped command goes on.

    Args:
        splits: train and val of one data set.
        image_format: png, or jpeg, which is smaller and faster to read, and not exact.
        num_workers: processes that write; 0: this one.

    Returns:
        The settings with which the folder is read.

    Raises:
        InputError: more classes than 16 bits hold, a sample that cannot be read, a folder of other classes, or one that cannot be written.
    """
    root, spec = Path(root), splits[0].spec
    ignored = label_storage(spec.num_classes)[1]
    names = "".join(f"{name}\n" for name in spec.class_names)
    _require_same(root / "classes.txt", names)
    write_text(root / "classes.txt", names)
    write_text(root / "palette.txt", "".join(f"{red} {green} {blue}\n" for red, green, blue in spec.palette.tolist()))
    settings = [f"--data.name folder --data.root {root} --data.folder.name {spec.name} --data.folder.palette palette.txt"]
    if ignored != 255:
        settings.append(f"--data.folder.ignore_value {ignored}")
    for dataset in splits:
        title = f"write {dataset.split}"
        found = parallel_map(
            _write, (dataset, root, image_format), range(len(dataset)), num_workers=num_workers, title=title, unit="sample"
        )
        if all(list(found)):
            settings.append(f"--data.folder.{dataset.split}_instances instances/{dataset.split}")
    return settings


def _write(task: tuple[SegmentationDataset, Path, ImageFormat], index: int) -> bool:
    """Write one sample, its label last; whether it has an instance map."""
    dataset, root, image_format = task
    sample = dataset[index]
    label, instances = (root / kind / dataset.split / f"{sample.name}.png" for kind in ("labels", "instances"))
    if not label.exists():
        suffix = "png" if image_format == "png" else "jpg"
        _save_image(sample.image.permute(1, 2, 0).numpy(), root / "images" / dataset.split / f"{sample.name}.{suffix}", image_format)
        if sample.instance_map is not None:
            save_label_png(sample.instance_map, instances, num_classes=65535)
        save_label_png(sample.label_map, label, num_classes=dataset.spec.num_classes)
    return sample.instance_map is not None


def _save_image(picture: np.ndarray, path: Path, image_format: ImageFormat) -> None:
    """Write an (H, W, 3) uint8 array."""
    if image_format == "png":
        save_png(picture, path)
        return
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary, format="JPEG", quality=95)


def _require_same(path: Path, names: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") != names:
        raise InputError(f"{path} lists other classes; give -o a folder that is new, or one that a stopped write of this data set left")
