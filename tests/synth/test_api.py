"""`synth.load(run).make(label_map)`: the bytes that synth.generate writes, from files and from class ids."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import synth
from shared.errors import InputError
from tests.synth.test_generate import labels, save, write_run

Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its label files count classes from 1, and 0 is ignored."""
    return write_run(tmp_path_factory.mktemp("styled"), style_dim=6, offset=1, ignore_value=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    for number, name in enumerate("ab"):
        save(folder / f"{name}.png", labels(number, classes=5))
    return folder


def generated(invoke: Invoke, output: Path, *arguments: object) -> dict[str, np.ndarray]:
    outcome = invoke("synth.generate", *arguments, "-o", output)
    assert outcome.status == 0, outcome.errors
    return {path.stem: np.array(Image.open(path)) for path in output.iterdir()}


def ids_of(path: Path) -> np.ndarray:
    """Class ids; 0 in the file, which is ignored, is −1."""
    return np.array(Image.open(path)).astype(np.int64) - 1


@pytest.mark.parametrize("options", [{}, {"seed": 3}, {"style": 5}, {"size": (64, 96)}, {"mode": "none"}], ids=str)
def test_images_are_those_of_the_program(options: dict[str, Any], styled: Path, folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    if options.get("mode") == "none":  # a generator with style has one size
        styled = write_run(tmp_path / "plain", offset=1, ignore_value=0)
    elif "size" in options:
        styled = write_run(tmp_path / "noisy", noise_channels=3, offset=1, ignore_value=0)
    arguments = [part for key, value in options.items() for part in (f"--{key}", list(value) if isinstance(value, tuple) else value)]
    wanted = generated(invoke, tmp_path / "made", styled, folder, *arguments)
    generator = synth.load(styled)
    files = [folder / "a.png", folder / "b.png"]
    for given in (files, list(map(str, files)), list(map(ids_of, files)), [torch.from_numpy(ids_of(file)) for file in files]):
        made = generator.make(given, **options)
        assert all(np.array_equal(image, wanted[name]) for image, name in zip(made, "ab", strict=True))
    assert np.array_equal(generator.make(ids_of(files[1]).astype(np.int16), **options), wanted["b"])
    assert not np.array_equal(wanted["a"], wanted["b"])


def test_a_batch_is_several(styled: Path, folder: Path) -> None:
    generator, ids = synth.load(styled, device="cpu"), ids_of(folder / "a.png")
    one = generator.make(ids)
    for batch in (np.stack([ids, ids]), torch.from_numpy(np.stack([ids, ids]))):
        made = generator.make(batch)
        assert len(made) == 2 and all(np.array_equal(image, one) for image in made)
    assert one.shape == (32, 64, 3) and one.dtype == np.uint8
    assert generator.class_names == ("road", "sky", "car", "tree")


def test_instance_maps(folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    run = write_run(tmp_path / "edges", instance_edges=True, offset=1, ignore_value=0)
    save(tmp_path / "instances/a.png", labels(7))
    wanted = generated(invoke, tmp_path / "made", run, folder / "a.png", "--instances", tmp_path / "instances")
    generator = synth.load(run)
    assert np.array_equal(generator.make(folder / "a.png", instances=tmp_path / "instances/a.png"), wanted["a"])
    for given, instances in ((folder / "a.png", None), ([folder / "a.png"], tmp_path / "instances/a.png")):
        with pytest.raises(InputError, match="trained with instance edges; give the instance map of one label map"):
            generator.make(given, instances=instances)


def test_ids_of_a_byte_and_mixtures_that_are_refused(folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    ids = labels(0)
    save(tmp_path / "a.png", ids)
    plain = synth.load(run)
    assert np.array_equal(plain.make(tmp_path / "a.png"), plain.make(ids))
    with pytest.raises(InputError, match="mix"):
        synth.load(run, mix="car=")


REFUSED: dict[str, tuple[Any, str]] = {
    "a number that is no class": (np.full((32, 64), 4), r"the label map holds 4; expected class ids from 0 to 3, or -1 \(ignored\)"),
    "a colour picture": (np.zeros((32, 64, 3, 1), np.uint8), "a label map .* came; expected"),
    "floating point": (torch.zeros(32, 64), r"a label map \(32, 64\) of float32 came; expected \(H, W\) integers"),
    "no pixels": (np.zeros((0, 64), np.int64), r"a label map \(0, 64\)"),
    "a file that is not there": ("nowhere.png", "nowhere.png"),
    "a folder": (".", ". is a folder; give label files, in a list where there are several"),
    "a number": ([3], r"a label map \(\) of int64 came"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_label_map_is_refused(what: str, styled: Path) -> None:
    given, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        synth.load(styled).make(given)


def test_other_refusals(styled: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="trained without instance edges; leave instances out"):
        synth.load(styled).make(folder / "a.png", instances=folder / "a.png")
    with pytest.raises(InputError, match="nowhere is no run directory"):
        synth.load("nowhere")
    with pytest.raises(AttributeError, match="module 'synth' has no attribute 'lode'"):
        synth.lode  # type: ignore[attr-defined]  # noqa: B018
