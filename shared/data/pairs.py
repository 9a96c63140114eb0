"""Which image belongs to which label map, decided by file name and checked before anything is read."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from shared.data.pictures import IMAGE_SUFFIXES, LABEL_SUFFIXES, LabelCodes, LabelReader, picture_size, read_image, read_numbers
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.errors import InputError
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
    label_suffixes: tuple[str, ...] = LABEL_SUFFIXES,
) -> list[Pair]:
    """Pair the files of these folders and their sub-folders by relative path without suffix; sorted by name.

    Args:
        names: the samples there are, in this order; None: all files, which must then all have partners.
        endings: how the names of images, labels and instance maps end, before the suffix; only such files count, by what is before.

    Raises:
        InputError: no such folder, an empty folder, two files with one name, or a file without its partner.
    """
    image_files = find_pictures(images, IMAGE_SUFFIXES, endings[0])
    label_files = find_pictures(labels, label_suffixes, endings[1])
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
    names = [Path(line.split()[0]).stem for line in lines if line.strip()]
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


def find_pictures(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> dict[str, Path]:
    """Files below `folder` whose names end in `ending` and one of these suffixes, by relative path without the two. Hidden files and
    folders are left out.

    Raises:
        InputError: no such folder, no such file in it, or two files that differ in suffix only.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected {'/'.join(suffixes)} files there: check the path and --data.root")
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
                continue
            name = path.relative_to(folder).with_suffix("").as_posix().removesuffix(ending)
            if name in found:
                raise InputError(f"{found[name]} and {path} have the same name; only one file may be called {name}: remove the other")
            found[name] = path
    if not found:
        raise InputError(f"the folder {folder} holds no {ending}{'/'.join(suffixes)} file; check the path and --data.root")
    return found


def _require_partners(files: dict[str, Path], partners: dict[str, Path], complaint: str) -> None:
    alone = sorted(files.keys() - partners.keys())
    if alone:
        shown = ", ".join(files[name].name for name in alone[:3]) + (", …" if len(alone) > 3 else "")
        raise InputError(
            f"{len(alone)} of {len(files)} {complaint}: {shown}; partners have the same name without suffix: add or remove files"
        )


class PairDataset(SegmentationDataset):
    """A split whose samples lie in files."""

    def __init__(self, spec: DatasetSpec, split: str, pairs: list[Pair], codes: LabelReader) -> None:
        self.spec = spec
        self.split = split
        self.pairs = pairs
        self.codes = codes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read a sample.

        Raises:
            InputError: names the file that is damaged, of the wrong kind or size, or holds a value that names no class.
        """
        pair = self.pairs[index]
        image = read_image(pair.image)
        label_map = self.codes.read(pair.label)
        _require_size(pair.label, label_map, pair.image, image)
        if pair.instance is None:
            return Sample(image, label_map, None, pair.name)
        instance_map = _read_instances(pair.instance)
        _require_size(pair.instance, instance_map, pair.image, image)
        return Sample(image, label_map, instance_map, pair.name)

    def sample_name(self, index: int) -> str:
        return self.pairs[index].name

    def check(self, index: int) -> tuple[int, int]:
        """(height, width) of a sample whose label map is read and whose image is opened only.

        Raises:
            InputError: as reading it does, as far as this tells.
        """
        pair = self.pairs[index]
        height, width = self.codes.read(pair.label).shape
        if picture_size(pair.image) != (height, width):
            self[index]  # says what is wrong, if that is wrong
        return height, width

    def problems(self, index: int) -> list[str]:
        """What is wrong with each file of a sample, where reading the sample ends at the first."""
        pair = self.pairs[index]
        found: list[str] = []

        def attempt(read: Callable[..., Result], *arguments: object) -> Result | None:
            try:
                return read(*arguments)
            except InputError as error:
                found.append(str(error))
                return None

        image = attempt(read_image, pair.image)
        maps = {pair.label: attempt(self.codes.read, pair.label)}
        if pair.instance is not None:
            maps[pair.instance] = attempt(_read_instances, pair.instance)
        for path, ids in maps.items():
            if image is not None and ids is not None:
                attempt(_require_size, path, ids, pair.image, image)
        return found


def label_codes_of(dataset: SegmentationDataset) -> LabelCodes:
    """How the label files of a data set name classes. Where there are no files, or no offset says it: as predictions are written."""
    if isinstance(dataset, PairDataset) and isinstance(dataset.codes, LabelCodes):
        return dataset.codes
    return LabelCodes(dataset.spec.num_classes, ignore_value=label_storage(dataset.spec.num_classes)[1])


def _read_instances(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_numbers(path).astype("int64"))


def _require_size(path: Path, ids: torch.Tensor, image_path: Path, image: torch.Tensor) -> None:
    (height, width), (image_height, image_width) = ids.shape, image.shape[1:]
    if (height, width) == (image_height, image_width):
        return
    turned = " (a rotation in the image's EXIF data is not applied)" if (height, width) == (image_width, image_height) else ""
    raise InputError(
        f"{path} is {height}x{width} (height x width) but its image {image_path} is {image_height}x{image_width}{turned}; "
        "make the two the same size, resizing labels with nearest neighbour only"
    )


def expand_paths(paths: list[str], suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files given one by one or by folder: name -> file. A file's name is its stem, one in a folder keeps its place below the folder.

    Raises:
        InputError: no such file, a file of another kind, an empty folder, or two files with one name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir() and path.suffix.lower() not in suffixes:
            raise InputError(f"{path} is neither a folder nor a {'/'.join(suffixes)} file; give one of these")
        if not path.exists():
            raise InputError(f"there is no file {path}; check the path")
        for name, file in (find_pictures(path, suffixes) if path.is_dir() else {path.stem: path}).items():
            if name in found:
                raise InputError(f"{found[name]} and {file} would both write {name}; give them in separate runs")
            found[name] = file
    return found
