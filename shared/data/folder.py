"""A data set of your own: folders of images and label PNGs, class names from a list or a file."""

import json
from pathlib import Path

import numpy as np

from shared.data.config import FolderConfig
from shared.data.pairs import PairDataset, pair_files
from shared.data.pictures import LabelCodes
from shared.data.spec import DatasetSpec
from shared.errors import InputError
from shared.visualise import voc_palette


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
        if split not in folders:
            raise InputError(f"a folder data set has no split {split!r}; it has train and val")
        images, labels, instances = folders[split]
        root = Path(root)
        spec = _read_spec(root, config)
        codes = LabelCodes(spec.num_classes, config.label_offset, config.ignore_value)
        pairs = pair_files(root / images, root / labels, None if instances is None else root / instances)
        super().__init__(spec, split, pairs, codes)


def _read_spec(root: Path, config: FolderConfig) -> DatasetSpec:
    given = config.class_names
    names, source = (_read_names(root / given), str(root / given)) if isinstance(given, str) else (given, "data.folder.class_names")
    if not names:
        raise InputError(f"{source} holds no class name; expected one name per class")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"{source} names {', '.join(twice[:3])} more than once; give every class a name of its own")
    return DatasetSpec(config.name, tuple(names), _palette(root, config.palette, len(names)))


def _read_names(path: Path) -> list[str]:
    text = _read_text(path, "class names", "data.folder.class_names")
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}; expected a list of class names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'{path} holds no list of names; expected ["first class", "second class", …]')
    return names


def _palette(root: Path, given: str | None, num_classes: int) -> np.ndarray:
    if given is None:
        return voc_palette(num_classes + 1)[1:]  # colour 0 is black, the colour of ignored pixels
    rows = _read_text(root / given, "colours", "data.folder.palette").split("\n")
    try:
        colours = np.array([[int(part) for part in row.split()] for row in rows if row.strip()])
    except ValueError as error:
        raise InputError(f"{root / given}: {error}; expected three whole numbers 0..255 per line") from error
    if colours.shape != (num_classes, 3) or colours.min() < 0 or colours.max() > 255:
        raise InputError(f"{root / given} holds {len(colours)} lines; expected {num_classes} lines of three numbers 0..255, one per class")
    return colours.astype(np.uint8)


def _read_text(path: Path, what: str, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"cannot read the {what} file {path}: {reason}; check --{option} and --data.root") from error
