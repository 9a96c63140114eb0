"""Small data sets in the published layouts, with every label value that may occur."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

HEIGHT, WIDTH = 24, 40


def save_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def save_values(path: Path, values: np.ndarray) -> None:
    """A label PNG, or the .mat of COCO-Stuff10k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, {"S": values})
    else:
        Image.fromarray(values).save(path)


def every_value(*values: int, kind: type[np.unsignedinteger] = np.uint8) -> np.ndarray:
    """(H, W): the values one after the other, repeated."""
    return np.resize(np.array(values, kind), (HEIGHT, WIDTH))


def write_list(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def cityscapes(root: Path) -> None:
    for split in ("train", "val"):
        for town in ("aachen", "ulm"):
            stem = f"{split}/{town}/{town}_000000_000019"
            save_image(root / f"leftImg8bit/{stem}_leftImg8bit.png")
            save_values(root / f"gtFine/{stem}_gtFine_labelIds.png", every_value(*range(34)))
            save_values(root / f"gtFine/{stem}_gtFine_labelTrainIds.png", every_value(*range(19), 255))
            save_values(root / f"gtFine/{stem}_gtFine_instanceIds.png", every_value(7, 26000, 26001, kind=np.uint16))
            save_values(root / f"gtFine/{stem}_gtFine_color.png", every_value(1))


def voc(root: Path) -> None:
    for name in ("2007_000032", "2007_000033", "2011_003255", "2012_000001"):
        save_image(root / f"JPEGImages/{name}.jpg")
    palette = Image.fromarray(every_value(*range(21), 255), mode="P")
    palette.putpalette([*range(256)] * 3)
    for name, folders in {"2007_000032": ("", "Aug"), "2007_000033": ("",), "2011_003255": ("Aug",)}.items():
        for folder in folders:
            path = root / f"SegmentationClass{folder}/{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            palette.save(path)
    lists = root / "ImageSets/Segmentation"
    write_list(lists / "train.txt", "2007_000032")
    write_list(lists / "val.txt", "2007_000033")
    write_list(
        lists / "train_aug.txt", *(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in ("2011_003255", "2007_000032"))
    )


def ade20k(root: Path) -> None:
    for split, short in (("training", "train"), ("validation", "val")):
        for number in (1, 2):
            save_image(root / f"images/{split}/ADE_{short}_{number:08d}.jpg")
            save_values(root / f"annotations/{split}/ADE_{short}_{number:08d}.png", every_value(*range(151)))


def ade20k_full(root: Path) -> None:
    for split, short in (("training", "train"), ("validation", "val")):
        stem = root / f"images/ADE/{split}/urban/street/ADE_{short}_00000001"
        save_image(stem.with_suffix(".jpg"))
        values = every_value(0, 2978, 312, 3148, 1, 3156, kind=np.uint16)
        colours = np.stack([values // 256 * 10 + 3, values % 256, values % 7], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(f"{stem}_seg.png")
        Image.fromarray(colours).save(f"{stem}_parts_1.png")
        save_image(stem / "instance_000.png")


def coco_stuff10k(root: Path) -> None:
    """Both the published and the converted files."""
    published = every_value(*(label for label in range(183) if label not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)))
    for split, number in (("train", 9), ("test", 25)):
        name = f"COCO_train2014_{number:012d}"
        save_image(root / f"images/{name}.jpg")
        save_values(root / f"annotations/{name}.mat", published)
        write_list(root / f"imageLists/{split}.txt", name)
        save_image(root / f"images/{split}2014/{name}.jpg")
        save_values(root / f"annotations/{split}2014/{name}_labelTrainIds.png", every_value(*range(172)))


def coco_stuff(root: Path) -> None:
    for split, number in (("train2017", 9), ("train2017", 25), ("val2017", 139), ("val2017", 285)):
        save_image(root / f"{split}/{number:012d}.jpg")
        save_values(root / f"stuffthingmaps/{split}/{number:012d}.png", every_value(*range(182), 255))
        save_values(root / f"instances/{split}/{number:012d}.png", every_value(1, 300, kind=np.uint16))


def coco_lvis(root: Path) -> None:
    """As the builder leaves it; the second val image is from train2017."""
    for folder, number in (("train2017", 9), ("train2017", 25), ("train2017", 30), ("val2017", 139)):
        save_image(root / f"{folder}/{number:012d}.jpg")
    for split, numbers in (("train", [9, 25]), ("val", [30, 139])):
        for start, number in enumerate(numbers):
            save_values(root / f"coco_lvis/{split}/{number:012d}.png", every_value(*range(325 * start, 1285), kind=np.uint16))
        write_list(root / f"coco_lvis/{split}.txt", *(f"{number:012d}" for number in numbers))


def camvid(root: Path) -> None:
    for split in ("train", "val"):
        for name in ("0001TP_006690", "0001TP_006720"):
            save_image(root / f"{split}/{name}.png")
            save_values(root / f"{split}annot/{name}.png", every_value(*range(12)))


MAKERS: dict[str, Callable[[Path], None]] = {
    "cityscapes": cityscapes,
    "voc": voc,
    "ade20k": ade20k,
    "ade20k_full": ade20k_full,
    "coco_stuff10k": coco_stuff10k,
    "coco_stuff": coco_stuff,
    "coco_lvis": coco_lvis,
    "camvid": camvid,
}
