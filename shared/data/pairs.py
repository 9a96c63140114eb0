"""Which image belongs to which label map, decided by file name and checked before anything is read."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from shared.data.label_rules import LabelRule, LabelRules
from shared.data.labels import LabelCodes, LabelReader
from shared.data.picture_files import find_pictures
from shared.data.pictures import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    MAX_PIXELS,
    TURN_WORDS,
    Orientation,
    StoredImage,
    read_header,
    read_numbers,
    read_stored_image,
)
from shared.data.spec import DatasetSpec, Findings, Sample, SegmentationDataset
from shared.errors import InputError
from shared.files.text_file import composed
from shared.visualise import label_storage

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pair:
    """The files of one sample. `name` is the image's path below its folder, without suffix and with "/" between folders."""

    name: str
    image: Path
    label: Path
    instance: Path | None


def pair_files(
    images: Path,
    labels: Path,
    instances: Path | None = None,
    *,
    names: list[str] | None = None,
    endings: tuple[str, str, str] = ("", "", ""),
    others: tuple[str, ...] = (),
    label_suffixes: tuple[str, ...] = LABEL_SUFFIXES,
) -> list[Pair]:
    """Pair the files of these folders and their sub-folders by relative path without suffix; sorted by name.

    Args:
        names: the samples there are, in this order; None: all files, which must then all have partners.
        endings: how the names of images, labels and instance maps end, before the suffix; only such files count, by what is before.
        others: endings of files that lie beside the labels and are none.

    Raises:
        InputError: no such folder, an empty folder, two files with one name, or a file without its partner.
    """
    image_files = find_pictures(images, IMAGE_SUFFIXES, endings[0])
    label_files = find_pictures(labels, label_suffixes, endings[1], others)
    instance_files = None if instances is None else find_pictures(instances, LABEL_SUFFIXES, endings[2])
    if names is None:
        _require_partners(image_files, label_files, f"of the images in {images} have no label in {labels}")
        _require_partners(label_files, image_files, f"of the labels in {labels} have no image in {images}")
        if instance_files is not None:
            _require_partners(image_files, instance_files, f"of the images in {images} have no instance map in {instances}")
        names = sorted(image_files)
    require_listed(names, image_files, f"image in {images}")
    require_listed(names, label_files, f"label in {labels}")
    if instance_files is not None:
        require_listed(names, instance_files, f"instance map in {instances}")
    return [Pair(name, image_files[name], label_files[name], None if instance_files is None else instance_files[name]) for name in names]


def read_list(path: Path) -> list[str]:
    """Names of samples from a text file with a sample per line: its name, or the path of its image, with or without more behind it.

    Raises:
        InputError: no such file, an empty one, or a name that stands there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"cannot read the list of samples {path}: {reason}; check the path and --data.root") from error
    names = [composed(Path(line.split()[0]).stem) for line in lines if line.strip()]
    if not names:
        raise InputError(f"the list of samples {path} is empty; expected a name per line")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"the list of samples {path} names {twice[0]} more than once; list every sample once")
    return names


def require_listed(names: list[str], files: Mapping[str, Path], what: str) -> None:
    """Raise InputError for names without a file."""
    missing = [name for name in names if name not in files]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InputError(f"{len(missing)} of {len(names)} samples have no {what}: {shown}; add the files, or take the samples away")


def require_folders(root: Path, folders: list[str], layout: str) -> None:
    """Refuse a root without the folders of a data set.

    Args:
        layout: what the data set looks like, for the message.
    """
    missing = next((root / folder for folder in folders if not (root / folder).is_dir()), None)
    if missing is not None:
        raise InputError(f"there is no folder {missing}; expected {layout}: check --data.root")


def _require_partners(files: dict[str, Path], partners: dict[str, Path], complaint: str) -> None:
    alone = sorted(files.keys() - partners.keys())
    if alone:
        shown = ", ".join(files[name].name for name in alone[:3]) + (", …" if len(alone) > 3 else "")
        raise InputError(
            f"{len(alone)} of {len(files)} {complaint}: {shown}; partners have the same name without suffix: add or remove files"
        )


@dataclass(frozen=True)
class Reading:
    """How the pictures of a data set are read; see `StoredImage`."""

    orientation: Orientation | None = None
    max_pixels: int = MAX_PIXELS


class PairDataset(SegmentationDataset):
    """A split whose samples lie in files.

    Attributes:
        codes: what the numbers in its label files mean.
        rules: what those of any label file of this data set mean. Given none: of every file the same.
        reading: how pictures are read.
    """

    def __init__(self, spec: DatasetSpec, split: str, pairs: list[Pair], codes: LabelReader, rules: LabelRules | None = None) -> None:
        self.spec = spec
        self.split = split
        self.pairs = pairs
        self.codes = codes
        self.rules = rules or LabelRules((LabelRule(codes),))
        self.reading = Reading()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read a sample.

        Raises:
            InputError: names the file that is damaged, of the wrong kind or size, or holds a value that names no class.
        """
        pair = self.pairs[index]
        stored = self._read_image(pair.image)
        label_map = self.read_labels(index)
        image = self._shown(stored, label_map)
        _require_size(pair.label, label_map, pair.image, image)
        if pair.instance is None:
            return Sample(image, label_map, None, pair.name)
        instance_map = self._read_instances(pair.instance)
        _require_size(pair.instance, instance_map, pair.image, image)
        return Sample(image, label_map, instance_map, pair.name)

    def read_labels(self, index: int) -> torch.Tensor:
        """The label map of a sample alone, (H, W) int64."""
        return self.leave_out(self.codes.read(self.pairs[index].label, max_pixels=self.reading.max_pixels))

    def _read_instances(self, path: Path) -> torch.Tensor:
        return torch.from_numpy(read_numbers(path, max_pixels=self.reading.max_pixels).astype("int64"))

    def _read_image(self, path: Path) -> StoredImage:
        return read_stored_image(path, max_pixels=self.reading.max_pixels)

    def _shown(self, stored: StoredImage, label_map: torch.Tensor | None) -> torch.Tensor:
        """The image, turned as EXIF says unless only the stored pixels fit the label map."""
        return stored.shown(None if label_map is None else tuple(label_map.shape), self.reading.orientation)

    def sample_name(self, index: int) -> str:
        return self.pairs[index].name

    def check(self, index: int) -> torch.Tensor:
        """The label map (H, W) of a sample whose image is opened only, unless its EXIF data turn it.

        Raises:
            InputError: as reading it does, as far as this tells.
        """
        pair, label_map = self.pairs[index], self.read_labels(index)
        header = read_header(pair.image)
        if header.orientation != 1 or header.size != tuple(label_map.shape):
            self[index]  # says what is wrong, if that is wrong
        return label_map

    def inspect(self, index: int) -> Findings:
        """What is wrong with each file of a sample, where reading the sample ends at the first, and what a viewer would turn."""
        pair = self.pairs[index]
        found: list[str] = []

        def attempt(read: Callable[..., Result], *arguments: object) -> Result | None:
            try:
                return read(*arguments)
            except InputError as error:
                found.append(str(error))
                return None

        stored = attempt(self._read_image, pair.image)
        label_map = attempt(self.read_labels, index)
        image = None if stored is None else self._shown(stored, label_map)
        maps = {pair.label: label_map}
        if pair.instance is not None:
            maps[pair.instance] = attempt(self._read_instances, pair.instance)
        for path, ids in maps.items():
            if image is not None and ids is not None:
                attempt(_require_size, path, ids, pair.image, image)
        notes = [] if stored is None or label_map is None else self._notes(pair, stored, label_map)
        return Findings(found, notes, label_map)

    def _notes(self, pair: Pair, stored: StoredImage, label_map: torch.Tensor) -> list[str]:
        """A line where EXIF turns the image: whether that is done, and what if it is wrong."""
        if stored.turn == 1:
            return []
        what = f"{pair.image}: EXIF orientation {stored.turn} ({TURN_WORDS[stored.turn]})"
        if not stored.is_turned(tuple(label_map.shape), self.reading.orientation):
            return [f"{what} is not applied: {pair.label} belongs to the pixels as they are stored"]
        doubt = "; if its label map was drawn on the stored pixels, set data.orientation stored" if stored.keeps_its_size else ""
        return [f"{what} is applied, as viewers do{doubt}"]


def plain_codes(spec: DatasetSpec) -> LabelCodes:
    """The numbers in label files that are written here: class ids, and the ignored value that their number of bits leaves."""
    return LabelCodes(spec.num_classes, ignore_value=label_storage(spec.num_classes)[1])


def label_rules_of(dataset: SegmentationDataset) -> LabelRules:
    """How the label files of a data set name classes. Where there are no files: as predictions are written."""
    return dataset.rules if isinstance(dataset, PairDataset) else LabelRules((LabelRule(plain_codes(dataset.spec)),))


def _require_size(path: Path, ids: torch.Tensor, image_path: Path, image: torch.Tensor) -> None:
    (height, width), (image_height, image_width) = ids.shape, image.shape[1:]
    if (height, width) == (image_height, image_width):
        return
    turned = " (they are turned against each other)" if (height, width) == (image_width, image_height) else ""
    raise InputError(
        f"{path} is {height}x{width} (height x width) but its image {image_path} is {image_height}x{image_width}{turned}; "
        "make the two the same size, resizing labels with nearest neighbour only"
    )
