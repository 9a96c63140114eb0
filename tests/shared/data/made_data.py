"""Small data sets in the published layouts, with every label value that may occur.

The makers take the sizes (height, width) of the samples: of several, every split has each at least once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

HEIGHT, WIDTH = 24, 40
Size = tuple[int, int]
Sizes = Sequence[Size]
ONE_SIZE = ((HEIGHT, WIDTH),)


def save_image(path: Path, size: Size = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def save_values(path: Path, values: np.ndarray) -> None:
    """A label PNG, or the .mat of COCO-Stuff10k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, {"S": values})
    else:
        Image.fromarray(values).save(path)


def every_value(*values: int, kind: type[np.unsignedinteger] = np.uint8, size: Size = (HEIGHT, WIDTH)) -> np.ndarray:
    """(H, W): the values one after the other, repeated."""
    return np.resize(np.array(values, kind), size)


def write_list(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def cityscapes(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    for split in ("train", "val"):
        for town in ("aachen", "ulm"):
            for number, size in enumerate(sizes):
                stem = f"{split}/{town}/{town}_{number:06d}_000019"
                save_image(root / f"leftImg8bit/{stem}_leftImg8bit.png", size)
                save_values(root / f"gtFine/{stem}_gtFine_labelIds.png", every_value(*range(34), size=size))
                save_values(root / f"gtFine/{stem}_gtFine_labelTrainIds.png", every_value(*range(19), 255, size=size))
                save_values(root / f"gtFine/{stem}_gtFine_instanceIds.png", every_value(7, 26000, 26001, kind=np.uint16, size=size))
                save_values(root / f"gtFine/{stem}_gtFine_color.png", every_value(1, size=size))


def voc(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    lists: dict[str, list[str]] = {"train": [], "val": [], "train_aug": []}
    for number, size in enumerate(sizes):
        train, val, other = (f"{year}_{first + 100 * number:06d}" for year, first in ((2007, 32), (2007, 33), (2011, 3255)))
        for name, folders in {train: ("", "Aug"), val: ("",), other: ("Aug",), f"2012_{1 + number:06d}": ()}.items():
            save_image(root / f"JPEGImages/{name}.jpg", size)
            for folder in folders:
                path = root / f"SegmentationClass{folder}/{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                palette = Image.fromarray(every_value(*range(21), 255, size=size), mode="P")
                palette.putpalette([*range(256)] * 3)
                palette.save(path)
        lists["train"].append(train)
        lists["val"].append(val)
        lists["train_aug"] += [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in (other, train)]
    for name, lines in lists.items():
        write_list(root / f"ImageSets/Segmentation/{name}.txt", *lines)


def ade20k(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    for split, short in (("training", "train"), ("validation", "val")):
        for number, size in enumerate([*sizes, *sizes], 1):
            save_image(root / f"images/{split}/ADE_{short}_{number:08d}.jpg", size)
            save_values(root / f"annotations/{split}/ADE_{short}_{number:08d}.png", every_value(*range(151), size=size))


def ade20k_full(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    for split, short in (("training", "train"), ("validation", "val")):
        for number, size in enumerate(sizes, 1):
            stem = root / f"images/ADE/{split}/urban/street/ADE_{short}_{number:08d}"
            save_image(stem.with_suffix(".jpg"), size)
            values = every_value(0, 2978, 312, 3148, 1, 3156, kind=np.uint16, size=size)
            colours = np.stack([values // 256 * 10 + 3, values % 256, values % 7], axis=-1).astype(np.uint8)
            Image.fromarray(colours).save(f"{stem}_seg.png")
            Image.fromarray(colours).save(f"{stem}_parts_1.png")
            save_image(stem / "instance_000.png", size)


def coco_stuff10k(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    """Both the published and the converted files."""
    published = [label for label in range(183) if label not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)]
    for split, first in (("train", 9), ("test", 25)):
        names = [f"COCO_train2014_{first + 100 * number:012d}" for number in range(len(sizes))]
        for name, size in zip(names, sizes):
            save_image(root / f"images/{name}.jpg", size)
            save_values(root / f"annotations/{name}.mat", every_value(*published, size=size))
            save_image(root / f"images/{split}2014/{name}.jpg", size)
            save_values(root / f"annotations/{split}2014/{name}_labelTrainIds.png", every_value(*range(172), size=size))
        write_list(root / f"imageLists/{split}.txt", *names)


def coco_stuff(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    for split, first in (("train2017", 9), ("val2017", 139)):
        for number, size in enumerate(sizes):
            name = f"{first + 1000 * number:012d}"
            save_image(root / f"{split}/{name}.jpg", size)
            save_values(root / f"stuffthingmaps/{split}/{name}.png", every_value(*range(182), 255, size=size))
            save_values(root / f"instances/{split}/{name}.png", every_value(1, 300, kind=np.uint16, size=size))


def coco_lvis(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    """As the builder leaves it; every second val image is from train2017."""
    names: dict[str, list[str]] = {"train": [], "val": []}
    for number, size in enumerate(sizes):
        for split, folder, first, start in (("train", "train2017", 9, 0), ("val", "train2017", 30, 0), ("val", "val2017", 139, 325)):
            name = f"{first + 1000 * number:012d}"
            save_image(root / f"{folder}/{name}.jpg", size)
            save_values(root / f"coco_lvis/{split}/{name}.png", every_value(*range(start, 1285), kind=np.uint16, size=size))
            names[split].append(name)
    for split, listed in names.items():
        write_list(root / f"coco_lvis/{split}.txt", *listed)


def camvid(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    for split in ("train", "val"):
        for number, size in enumerate(sizes):
            name = f"0001TP_{6690 + 30 * number:06d}"
            save_image(root / f"{split}/{name}.png", size)
            save_values(root / f"{split}annot/{name}.png", every_value(*range(12), size=size))


def own_folder(root: Path, sizes: Sizes = ONE_SIZE) -> None:
    """The default layout of data.name folder, with 16-bit labels of 300 classes."""
    for split in ("train", "val"):
        for number, size in enumerate(sizes):
            save_image(root / f"images/{split}/{number}.jpg", size)
            save_values(root / f"labels/{split}/{number}.png", every_value(*range(300), 65535, kind=np.uint16, size=size))
    write_list(root / "classes.txt", *(f"class {number}" for number in range(300)))


MAKERS: dict[str, Callable[..., None]] = {
    "cityscapes": cityscapes,
    "voc": voc,
    "ade20k": ade20k,
    "ade20k_full": ade20k_full,
    "coco_stuff10k": coco_stuff10k,
    "coco_stuff": coco_stuff,
    "coco_lvis": coco_lvis,
    "camvid": camvid,
    "folder": own_folder,
}
