"""Which image belongs to which label map, decided by file name and checked before anything is read."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.data.pictures import IMAGE_SUFFIXES, LABEL_SUFFIXES, LabelCodes, read_image, read_numbers
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.errors import InputError
from shared.visualise import label_storage


@dataclass(frozen=True)
class Pair:
    """The files of one sample. `name` is the image's path below its folder, without suffix and with "/" between folders."""

    name: str
    image: Path
    label: Path
    instance: Path | None


def pair_files(images: Path, labels: Path, instances: Path | None = None) -> list[Pair]:
    """Pair the files of these folders and their sub-folders by relative path without suffix; sorted by name.

    Raises:
        InputError: no such folder, an empty folder, two files with one name, or a file without its partner.
    """
    image_files = find_pictures(images, IMAGE_SUFFIXES)
    label_files = find_pictures(labels, LABEL_SUFFIXES)
    instance_files = None if instances is None else find_pictures(instances, LABEL_SUFFIXES)
    _require_partners(image_files, label_files, f"of the images in {images} have no label in {labels}")
    _require_partners(label_files, image_files, f"of the labels in {labels} have no image in {images}")
    if instance_files is not None:
        _require_partners(image_files, instance_files, f"of the images in {images} have no instance map in {instances}")
    return [
        Pair(name, image_files[name], label_files[name], None if instance_files is None else instance_files[name])
        for name in sorted(image_files)
    ]


def find_pictures(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files below `folder` with one of these suffixes, by relative path without suffix. Hidden files and folders are left out.

    Raises:
        InputError: no such folder, no such file in it, or two files that differ in suffix only.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected {'/'.join(suffixes)} files there: check the path and --data.root")
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() not in suffixes:
                continue
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise InputError(f"{found[name]} and {path} have the same name; only one file may be called {name}: remove the other")
            found[name] = path
    if not found:
        raise InputError(f"the folder {folder} holds no {'/'.join(suffixes)} file; check the path and --data.root")
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

    def __init__(self, spec: DatasetSpec, split: str, pairs: list[Pair], codes: LabelCodes) -> None:
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
        instance_map = torch.from_numpy(read_numbers(pair.instance).astype("int64"))
        _require_size(pair.instance, instance_map, pair.image, image)
        return Sample(image, label_map, instance_map, pair.name)


def label_codes_of(dataset: SegmentationDataset) -> LabelCodes:
    """How the label files of a data set name classes; for data sets without files, as predictions are written."""
    if isinstance(dataset, PairDataset):
        return dataset.codes
    return LabelCodes(dataset.spec.num_classes, ignore_value=label_storage(dataset.spec.num_classes)[1])


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
