"""`seg.load(run).segment(image)`: whatever the image comes as, it gets the bytes that seg.predict writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import seg
from seg.inference import ViewConfig
from shared.errors import InputError
from tests.small import SEGMENTER, scenes

Invoke = Callable[..., Any]
SIZES = {"a": (32, 64), "b": (45, 38)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """More classes than a byte has, so that label files have 16 bits."""
    folder = tmp_path_factory.mktemp("runs") / "street"
    outcome = invoke("seg.train", *scenes(classes=300, train=4, val=2), *SEGMENTER, "--train.steps", 3, "--run_dir", folder)
    assert outcome.status == 0, outcome.errors
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, (name, size) in enumerate(SIZES.items()):
        blocks = np.random.default_rng(number).integers(0, 256, (size[0] // 4 + 1, size[1] // 4 + 1, 3), np.uint8)
        Image.fromarray(blocks.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]).save(folder / f"{name}.png")
    return folder


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


@pytest.fixture(scope="module")
def predicted(run: Path, pictures: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("predicted")
    assert invoke("seg.predict", run, pictures, "-o", output).status == 0
    return output


FORMS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "path": lambda path: path,
    "Pillow": Image.open,
    "Pillow with transparency": lambda path: Image.open(path).convert("RGBA"),
    "NumPy": read,
    "NumPy, not contiguous": lambda path: np.asfortranarray(read(path)),
    "tensor": lambda path: torch.from_numpy(read(path)).permute(2, 0, 1),
    "tensor in [0, 1]": lambda path: torch.from_numpy(read(path)).permute(2, 0, 1) / 255,
    "tensor in [0, 1], double": lambda path: torch.from_numpy(read(path)).permute(2, 0, 1).double() / 255,
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_in_any_form_gets_what_the_program_writes(form: str, run: Path, pictures: Path, predicted: Path) -> None:
    segmenter = seg.load(run)
    for name in SIZES:
        found = segmenter.segment(FORMS[form](pictures / f"{name}.png"))
        labels = read(predicted / "labels" / f"{name}.png")
        assert found.ids.dtype == np.uint16 == labels.dtype
        assert np.array_equal(found.ids, labels)
        assert np.array_equal(found.colours(), read(predicted / "colour" / f"{name}.png"))
    assert len(np.unique(labels)) > 1


def test_several_at_once(run: Path, pictures: Path, predicted: Path) -> None:
    segmenter = seg.load(str(run), checkpoint="best", device="cpu")
    paths = [pictures / f"{name}.png" for name in SIZES]
    wanted = [read(predicted / "labels" / f"{name}.png") for name in SIZES]
    for several in (paths, tuple(paths), (path for path in paths), [read(paths[0]), Image.open(paths[1])]):
        assert all(np.array_equal(found.ids, ids) for found, ids in zip(segmenter.segment(several), wanted, strict=True))
    twice = np.stack([read(paths[0])] * 2)
    for batch in (twice, torch.from_numpy(twice).permute(0, 3, 1, 2)):
        found = segmenter.segment(batch)
        assert len(found) == 2 and all(np.array_equal(one.ids, wanted[0]) for one in found)
    assert segmenter.segment([]) == []


def test_a_grey_picture_is_what_it_is_in_colour(run: Path) -> None:
    segmenter, grey = seg.load(run), np.random.default_rng(0).integers(0, 256, (24, 40), np.uint8)
    assert np.array_equal(segmenter.segment(grey).ids, segmenter.segment(np.stack([grey] * 3, 2)).ids)


def test_views_and_tiles_are_those_of_the_program(run: Path, pictures: Path, invoke: Invoke, tmp_path: Path) -> None:
    segmenter, picture = seg.load(run, checkpoint="last"), pictures / "b.png"
    options = {"views": (["--views.flip", "--views.scales", "[1.0, 0.5]"], {"views": ViewConfig(flip=True, scales=[1.0, 0.5])})}
    options["tile"] = (["--tile", "[64, 64]"], {"tile": (64, 64)})
    for name, (arguments, given) in options.items():
        assert invoke("seg.predict", run, picture, "--checkpoint", "last", *arguments, "-o", tmp_path / name).status == 0
        assert np.array_equal(segmenter.segment(picture, **given).ids, read(tmp_path / name / "labels/b.png"))  # type: ignore[call-overload]


def test_names_shares_and_files(run: Path, pictures: Path, tmp_path: Path) -> None:
    segmenter = seg.load(run)
    found = segmenter.segment(pictures / "a.png")
    assert segmenter.class_names == found.class_names and len(found.class_names) == 300
    assert sum(found.shares.values()) == pytest.approx(1)
    assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)
    for name, share in found.shares.items():
        assert (found.ids == found.class_names.index(name)).mean() == pytest.approx(share)
    found.save(tmp_path / "labels.png")
    assert np.array_equal(read(tmp_path / "labels.png"), found.ids)


REFUSED: dict[str, tuple[Any, str]] = {
    "a file that is not there": ("nowhere.png", "cannot read the picture nowhere.png"),
    "floating-point NumPy": (np.zeros((8, 8, 3)), r"an array \(8, 8, 3\) of float64 came; an image is \(H, W, 3\) or \(H, W\) uint8"),
    "NumPy in the order of tensors": (np.zeros((3, 8, 8), np.uint8), r"an array \(3, 8, 8\) of uint8 came"),
    "no pixels": (np.zeros((0, 8, 3), np.uint8), r"an array \(0, 8, 3\)"),
    "a tensor in the order of NumPy": (torch.zeros(8, 8, 3), r"a tensor \(8, 8, 3\) of torch.float32 came; an image is \(3, H, W\)"),
    "a tensor of other integers": (torch.zeros(3, 8, 8, dtype=torch.int64), "of torch.int64 came"),
    "values up to 255": (torch.full((3, 8, 8), 255.0), "values from 255 to 255 came; those of a floating-point image lie in"),
    "values that are not finite": (torch.full((3, 8, 8), torch.nan), "values from nan to nan came"),
    "16 bits": (Image.fromarray(np.zeros((8, 8), np.uint16)), "the image has pixels of mode I;16; images need 8 bits per channel"),
    "nothing": (None, "an image of type NoneType came"),
    "several, of which one is none": ([np.zeros((8, 8, 3), np.uint8), None], "an image of type NoneType came; expected a path"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_image_is_refused(what: str, run: Path) -> None:
    given, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        seg.load(run).segment(given)


def test_other_refusals(run: Path) -> None:
    with pytest.raises(InputError, match=r"tile is \[8, 8\]; both sides must be at least 64"):
        seg.load(run).segment(np.zeros((8, 8, 3), np.uint8), tile=(8, 8))
    with pytest.raises(InputError, match="nowhere is no run directory"):
        seg.load("nowhere")
    with pytest.raises(AttributeError, match="module 'seg' has no attribute 'lode'"):
        seg.lode  # type: ignore[attr-defined]  # noqa: B018
