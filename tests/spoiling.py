"""Correct files, and ways to spoil them at random."""

import contextlib
import json
import os
import random
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared.embedding_file import ClassEmbeddings

NAMES = ("road", "sky", "car")
Chance = random.Random


def write_folder(root: Path) -> None:
    """A correct folder data set: two samples per split, three classes."""
    numbers = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(numbers.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(root / f"images/{split}/{name}.png")
            Image.fromarray(numbers.integers(0, 3, (16, 24), dtype=np.uint8)).save(root / f"labels/{split}/{name}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))


def write_tables(folder: Path) -> None:
    """Class vectors of every kind of file."""
    vectors = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    np.savez(folder / "t.npz", names=np.array(NAMES), vectors=vectors)
    np.save(folder / "t.npy", vectors)
    (folder / "t.csv").write_text("".join(f"{name},{','.join(map(str, row))}\n" for name, row in zip(NAMES, vectors)))
    unit = torch.nn.functional.normalize(torch.from_numpy(vectors))
    ClassEmbeddings(unit, unit, NAMES, "folder", {}).save(folder / "t.safetensors")


# --- How to spoil them ----------------------------------------------------------------------------------------------------


def spoil_bytes(content: bytes, chance: Chance) -> bytes:
    """Change a few bytes, cut, repeat, put something in, or replace all."""
    data = bytearray(content)
    kind = chance.choice(("flip", "flip", "cut", "insert", "repeat", "zero", "noise", "empty"))
    at = chance.randrange(len(data) + 1)
    if kind == "flip":
        for _ in range(chance.choice((1, 1, 4, 30))):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = chance.randbytes(chance.choice((1, 8, 300)))
    elif kind == "repeat":
        data[at:at] = data[: chance.randrange(len(data) + 1)]
    elif kind == "zero":
        data[at : at + 40] = bytes(len(data[at : at + 40]))
    else:
        data = bytearray(chance.randbytes(200) if kind == "noise" else b"")
    return bytes(data)


def spoil_picture(path: Path, chance: Chance) -> None:
    """A picture of another kind, size, depth or value in place of this one, or this one's bytes changed."""
    kind = chance.choice(("bytes", "bytes", "bytes", "mode", "size", "values", "folder", "gone", "link"))
    if kind == "bytes":
        path.write_bytes(spoil_bytes(path.read_bytes(), chance))
    elif kind == "mode":
        mode = chance.choice(("1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "I", "F"))
        written = chance.choice(("png", "tiff", "bmp", "gif", "webp", "jpeg"))
        with contextlib.suppress(OSError, KeyError, ValueError):  # not every kind of file has every mode
            Image.new(mode, (24, 16), 1).save(path, format=written)
    elif kind == "size":
        Image.new("L" if "labels" in path.parts else "RGB", (chance.choice((1, 7, 24, 300)), chance.choice((1, 5, 16)))).save(path)
    elif kind == "values":
        Image.fromarray(np.full((16, 24), chance.randrange(65536), np.uint16)).save(path)
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(chance.choice(("nowhere", path.name, "/dev/null")))


ODD = (
    "null",
    "-1",
    "0",
    "1",
    "7",
    "0.5",
    "1e308",
    ".nan",
    ".inf",
    "''",
    "word",
    "[]",
    "[1, 2]",
    "[-3, 0]",
    "{}",
    "{a: 1}",
    "true",
    "2024-01-01",
)
ODD += ("'\\0'", "~", "!!python/object:os.system x", "&a [*a]", "“", "1_0", "0x10", "99999999999999999999")


def spoil_yaml(text: str, chance: Chance) -> bytes:
    """Other values, other keys, other indents, or other bytes."""
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2, 5))):
        number = chance.randrange(len(lines))
        key, colon, _ = lines[number].partition(":")
        kind = chance.choice(("value", "value", "value", "key", "indent", "twice", "drop"))
        if kind == "value" and colon:
            lines[number] = f"{key}: {chance.choice(ODD)}"
        elif kind == "key":
            lines[number] = f"{key}{chance.choice('xé: -')}:{lines[number].partition(':')[2]}"
        elif kind == "indent":
            lines[number] = " " * chance.randrange(5) + lines[number].strip()
        elif kind == "twice":
            lines.insert(number, lines[chance.randrange(len(lines))])
        elif kind == "drop" and len(lines) > 1:
            del lines[number]
    content = "\n".join(lines).encode()
    return spoil_bytes(content, chance) if chance.random() < 0.2 else content


# --- What people bring: right files of another kind ----------------------------------------------------------------------


def draw_masks(root: Path, chance: Chance) -> None:
    """Label maps of a folder data set drawn with values of which a class may be the ignored one; nothing labelled is among them."""
    values = chance.choice(([0, 255], [0, 1, 255], [255], [0, 1, 2], [0, 128, 255], [1, 2, 3], [2, 2, 255], [0]))
    for path in sorted((root / "labels").rglob("*.png")):
        Image.fromarray(np.random.default_rng(chance.randrange(2**32)).choice(values, (16, 24)).astype(np.uint8)).save(path)


LIST_FORMS: dict[str, Callable[[Sequence[str]], str]] = {
    "classes.txt": lambda names: "".join(f"{name}\n" for name in names),
    "blank.txt": lambda names: "\n\n".join(f"  {name}\t" for name in names),
    "comment.txt": lambda names: "# classes\n" + "\n# next\n".join(names),
    "labels.txt": lambda names: "\n".join(["__ignore__", *names]),
    "title.txt": lambda names: "\n".join(["Class names:", *names]),
    "numbered.txt": lambda names: "\n".join(f"{index}: {name}" for index, name in enumerate(names)),
    "from_one.txt": lambda names: "\n".join(f"{index} {name}" for index, name in enumerate(names, 1)),
    "backwards.txt": lambda names: "\n".join(f"{index} {name}" for index, name in reversed([*enumerate(names)])),
    "dict.csv": lambda names: "\n".join(["name,r,g,b", *(f"{name},{index},2,3" for index, name in enumerate(names))]),
    "ids.csv": lambda names: "\n".join(["id;class", *(f"{index};{name}" for index, name in enumerate(names))]),
    "shuffled.csv": lambda names: "\n".join(["id;class", *(f"{7 * index};{name}" for index, name in enumerate(names))]),
    "plain.csv": lambda names: "\n".join(names),
    "names.json": lambda names: json.dumps(list(names)),
    "dict.json": lambda names: json.dumps(dict(enumerate(names))),
}
"""Class lists of all tools, some of which can only be refused."""


def write_list(folder: Path, names: Sequence[str], chance: Chance) -> str:
    """A class list in one of these forms, in any encoding; gives its name."""
    name = chance.choice(sorted(LIST_FORMS))
    text = LIST_FORMS[name](names)
    if chance.random() < 0.3:
        text = text.replace("\n", "\r\n")
    if chance.random() < 0.3:
        text = unicodedata.normalize("NFD", text)
    encoding = chance.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    (folder / name).write_bytes(text.encode(encoding, errors="replace"))
    return name


def turn_photos(root: Path, chance: Chance) -> list[Path]:
    """EXIF orientations on some images and label maps, pixels turned along or not; gives the images that have one."""
    turned = []
    for path in sorted(root.rglob("*.png")):
        orientation = chance.choice((0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 300))
        exif = Image.Exif()
        exif[0x0112] = orientation
        with Image.open(path) as opened:
            picture = opened.rotate(90, expand=True) if orientation in (5, 6, 7, 8) and chance.random() < 0.7 else opened.copy()
        picture.save(path, exif=spoil_bytes(exif.tobytes(), chance) if chance.random() < 0.15 else exif)
        if "images" in path.parts:
            turned.append(path)
    return turned


def write_annotations(root: Path, chance: Chance) -> int:
    """LVIS and stuff files of two images of 6 × 8 pixels, of whose annotations some hold something odd; gives how many were changed."""
    size, changed = (6, 8), 0
    for split, number in (("train", 1), ("val", 2)):
        image = {"id": number, "height": 6, "width": 8, "coco_url": f"http://images.example/{split}2017/{number:012d}.jpg"}
        good = [[1, 1, 6, 1, 6, 5], [0, 0, 3, 0, 3, 3]]
        annotations: list[Any] = [
            {"id": index, "image_id": number, "category_id": index, "segmentation": [good[index % 2]]} for index in range(1, 6)
        ]
        stuff: list[Any] = [{"id": 9, "image_id": number, "category_id": 100, "segmentation": {"size": [6, 8], "counts": [20, 28]}}]
        for entries in (annotations, stuff):
            for place in range(len(entries)):
                if chance.random() < 0.3:
                    changed += 1
                    entries[place] = _odd_annotation(entries[place], chance)
        for folder, name, content in (
            (root, f"lvis_v1_{split}.json", {"images": [image], "annotations": annotations}),
            (root / "annotations", f"stuff_{split}2017.json", {"images": [], "annotations": stuff}),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps(content))
        maps = root / f"stuffthingmaps/{split}2017"
        maps.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 120, np.uint8)).save(maps / f"{number:012d}.png")
    return changed


ODD_JSON: tuple[Any, ...] = (None, "1", "", -1, 0, 1.5, 1e300, float("nan"), float("inf"), True, [], {}, [[]], [1, 2], 10**30, "x" * 50)
ODD_SHAPES: tuple[Any, ...] = (
    [[1, 1, 2e8, 5, 5, 9]],
    [[1, 1, float("nan"), 5, 5, 9]],
    [[1, 1, -1e300, 5, 5, 9]],
    [[1, 1, 5, 5]],
    [[1, 1, 5, 5, 2]],
    [[1, 1, "4", 5, 5, 9]],
    [[1, 1, [4], 5, 5, 9]],
    [[1, 1, 5, 1, 5, 5], []],
    {"size": [6, 8], "counts": [4000]},
    {"size": [6, 8], "counts": [-5, 53]},
    {"size": [6, 8], "counts": "1" * 3000},
    {"size": [6, 8], "counts": "oooo"},
    {"size": [6, 8], "counts": "P1\u00e9"},
    {"size": [10**6, 10**6], "counts": [10**12]},
    {"size": "6x8", "counts": []},
    {"counts": [48]},
)


def _odd_annotation(entry: dict[str, Any], chance: Chance) -> Any:
    key = chance.choice(("segmentation", "segmentation", "segmentation", "id", "image_id", "category_id", "all"))
    if key == "all":
        return chance.choice((None, 7, "annotation", [], {}))
    if key == "segmentation":
        return entry | {key: chance.choice(ODD_SHAPES + ODD_JSON)}
    odd = chance.choice([value for value in ODD_JSON if value != 0 or key != "id"])
    return entry | {key: odd}


NAMES_OF_FILES = (
    *("a b", "-o", "--help", "#1", "%d", "a.b.c", "a,b", "a;b", "a\nb", "a\tb", "'\"", "\\", "*", "~", "$HOME", "con"),
    *("\u9053\u8def", "caf\u00e9", "cafe\u0301", "\u202e", "\U0001f697", "x" * 251, "\u6f22" * 83 + "ab", os.fsdecode(b"\xff\xfe")),
)


def rename_files(root: Path, chance: Chance) -> list[str]:
    """Names that a shell, a list or a terminal might stumble over, the same for image and label or in another form of Unicode."""
    used = []
    for split in ("train", "val"):
        for old in ("a", "b"):
            name = chance.choice([name for name in NAMES_OF_FILES if name not in used])
            used += [name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]
            other = unicodedata.normalize(chance.choice(("NFC", "NFD")), name)
            for kind, new in (("images", name), ("labels", other)):
                os.rename(root / kind / split / f"{old}.png", root / kind / split / f"{new if len(os.fsencode(new)) < 252 else name}.png")
    return used


def scatter_images(folder: Path, chance: Chance) -> int:
    """Images of all formats in sub-folders, through links, beside hidden copies and other files; gives how many a data set would read."""
    count = 0
    for number in range(chance.randrange(2, 9)):
        place = folder / chance.choice(("", "a", "b/c", "\u9053"))
        place.mkdir(parents=True, exist_ok=True)
        suffix = chance.choice(("png", "PNG", "jpg", "JPEG", "bmp", "webp", "tif", "tiff"))
        size = chance.choice(((16, 24), (16, 24), (24, 16), (9, 9)))
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(place / f"{number}.{suffix}")
        count += 1
    source = next(path for path in sorted(folder.rglob("*.*")) if path.is_file())
    for name in chance.sample((".hidden.png", "._0.png", ".ipynb_checkpoints/x.png", "link.png", "back", "notes.txt", "Thumbs.db"), 4):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if name == "back":
            path.symlink_to(folder.resolve(), target_is_directory=True)
        elif name == "link.png":
            path.symlink_to(source.resolve())
            count += 1
        else:
            path.write_bytes(source.read_bytes() if chance.random() < 0.5 else b"no picture")
    return count


WRAPPINGS = ("module.", "_orig_mod.", "backbone.", "encoder.", "net.", "state_dict", "model", "ema", "more", "less", "list")


def wrap_weights(state: dict[str, torch.Tensor], chance: Chance) -> object:
    """Weights as a training program saves them, or something else."""
    content: Any = dict(state)
    for _ in range(chance.randrange(4)):
        kind = chance.choice(
            ("module.", "_orig_mod.", "backbone.", "encoder.", "net.", "state_dict", "model", "ema", "more", "less", "list")
        )
        if not isinstance(content, dict):
            break
        if kind.endswith("."):
            content = {f"{kind}{key}": value for key, value in content.items()}
        elif kind == "more":
            content = content | {"head.weight": torch.zeros(2)}
        elif kind == "less":
            content = dict(list(content.items())[1:])
        else:
            content = [content] if kind == "list" else {kind: content, "epoch": 3}
    return content
