"""Any data set written out as a folder of images and label PNGs, which `FolderDataset` reads back."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from shared.data.spec import SegmentationDataset
from shared.errors import InputError
from shared.files import atomic_write, write_text
from shared.parallel import parallel_map
from shared.visualise import label_storage, save_label_png, save_png

ImageFormat = Literal["png", "jpeg"]


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
