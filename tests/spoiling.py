"""Correct files, and ways to spoil them at random."""

import contextlib
import random
from pathlib import Path

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
