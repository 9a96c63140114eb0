"""Which images a distance reads, and what it says of them: the same as data sets, and nothing else without a word."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.backbone import build_backbone
from shared.data.picture_files import find_pictures
from shared.data.pictures import IMAGE_SUFFIXES
from shared.encoder_file import save_encoder
from shared.fid.folder import find_images, read_ahead
from shared.fid.remarks import remark

Invoke = Callable[..., Any]


def save(path: Path, size: tuple[int, int] = (8, 12), shade: int = 90, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(path, **options)
    return path


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """What is said of folders."""

    def of(*folders: Path, **about: Any) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            remark({str(folder): find_images(folder) for folder in folders}, **about)
        return list(caplog.messages)

    return of


def test_a_distance_reads_what_a_data_set_reads(tmp_path: Path) -> None:
    """All endings in any case, sub-folders, links to files and folders; no hidden file, no copy of an editor, no link that leads back."""
    folder, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    for number, suffix in enumerate((*IMAGE_SUFFIXES, ".PNG", ".Tif")):
        save(folder / f"a/{number}{suffix}")
    save(elsewhere / "linked.png")
    save(elsewhere / "deeper/linked.png")
    save(folder / ".ipynb_checkpoints/0-checkpoint.png")
    save(folder / "._0.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "link.png").symlink_to(elsewhere / "linked.png")
    (folder / "folder").symlink_to(elsewhere, target_is_directory=True)
    (folder / "a/back").symlink_to(folder, target_is_directory=True)
    found = find_images(folder)
    assert found == sorted(find_pictures(folder, IMAGE_SUFFIXES).values())
    names = {path.relative_to(folder).as_posix() for path in found}
    assert names == {f"a/{number}{suffix}" for number, suffix in enumerate((*IMAGE_SUFFIXES, ".PNG", ".Tif"))} | {
        "link.png",
        "folder/linked.png",
        "folder/deeper/linked.png",
    }
    assert all(image.shape == (3, 8, 12) for image in read_ahead(found, 2))


@pytest.mark.parametrize(("target", "reason"), [("nowhere.png", "No such file"), ("c.png", "Too many levels of symbolic links")])
def test_a_link_to_nothing_is_named(target: str, reason: str, tmp_path: Path, invoke: Invoke) -> None:
    for side in ("real", "generated"):
        for name in "ab":
            save(tmp_path / side / f"{name}.png")
    os.symlink(target, tmp_path / "generated/c.png")
    torch.manual_seed(0)
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "park"})
    outcome = invoke("shared.fid", "real", "generated", "--encoder", "e.safetensors", "--cache", "null", "--json", "out.json")
    assert outcome.status == 1 and f"cannot read the picture generated/c.png: {reason}" in outcome.errors
    assert not (tmp_path / "out.json").exists()


def test_nothing_is_said_of_sets_that_are_alike(tmp_path: Path, warned: Callable[..., list[str]]) -> None:
    for side in ("real", "generated"):
        for name in ("a/0", "b/1"):
            save(tmp_path / side / f"{name}.png")
    assert warned(tmp_path / "real", tmp_path / "generated") == []
    assert warned(tmp_path / "real") == []
    assert warned(tmp_path / "real", made=(8, 12)) == []


def test_sizes_are_those_that_are_shown(tmp_path: Path, warned: Callable[..., list[str]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        save(tmp_path / f"real/{name}.png")
        save(tmp_path / f"turned/{name}.png", (12, 8), exif=exif)
        save(tmp_path / f"other/{name}.png", (12, 8))
    save(tmp_path / "other/c.png", (4, 4))
    assert warned(tmp_path / "real", tmp_path / "turned") == []
    (line,) = warned(tmp_path / "real", tmp_path / "other")
    assert f"{tmp_path}/real: 8 × 12; {tmp_path}/other: 12 × 8 (2), 4 × 4 (1)" in line and "measures the resizing" in line
    (line,) = warned(tmp_path / "real", made=(64, 128))
    assert "generated: 64 × 128" in line


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("b.jpg", {}, ["1 of 2 images are JPEG, whose artefacts", "differ in their formats"]),
        ("b.webp", {}, ["1 of 2 images are lossy WEBP", "differ in their formats"]),
        ("b.webp", {"lossless": True}, ["other: PNG (1), WEBP (1)"]),
        ("b.tif", {}, ["other: PNG (1), TIFF (1)"]),
        ("b.png", {"format": "JPEG"}, ["1 of 2 images are JPEG", "differ in their formats"]),
    ],
)
def test_formats_are_those_of_the_content(
    name: str, options: dict[str, Any], told: list[str], tmp_path: Path, warned: Callable[..., list[str]]
) -> None:
    for side in ("real", "other"):
        save(tmp_path / side / "a.png")
    save(tmp_path / "real/b.png")
    save(tmp_path / "other" / name, **options)
    lines = warned(tmp_path / "real", tmp_path / "other")
    assert len(lines) == len(told) and all(part in line for part, line in zip(told, lines)), lines


def test_versions_of_images_side_by_side_are_said(tmp_path: Path, warned: Callable[..., list[str]]) -> None:
    """SPADE's results, and a folder with the images of another run below; but not the towns of Cityscapes."""
    for name in "ab":
        for folder in ("spade/input_label", "spade/synthesized_image", "plain", "both", "both/generated"):
            save(tmp_path / folder / f"{name}.png", shade=len(folder))
        save(tmp_path / f"towns/aachen/aachen_{name}.png")
        save(tmp_path / f"towns/ulm/ulm_{name}.png")
    (line,) = warned(tmp_path / "plain", tmp_path / "spade")
    assert "spade: 2 names occur in several of its folders (input_label, synthesized_image), and all 4 images count" in line
    (line,) = warned(tmp_path / "both")
    assert "both: 2 names occur in several of its folders (generated, itself)" in line
    assert warned(tmp_path / "plain", tmp_path / "towns") == []


def test_images_on_both_sides_are_said(tmp_path: Path, warned: Callable[..., list[str]]) -> None:
    for name in "ab":
        save(tmp_path / f"real/{name}.png")
        save(tmp_path / f"real/made/generated_{name}.png")
    outer, inner = tmp_path / "real", tmp_path / "real/made"
    for sides in ((outer, inner), (inner, outer)):
        (line,) = warned(*sides)
        assert f"{inner} lies in {outer}: 2 images are on both sides" in line
    (tmp_path / "links").mkdir()
    (tmp_path / "links/a.png").symlink_to(tmp_path / "real/a.png")
    save(tmp_path / "links/other.png")
    (line,) = warned(inner.parent, tmp_path / "links")
    assert line.startswith("1 images are on both sides, of 4 and 2")
    assert warned(outer, outer) == []


def test_a_turned_photo_counts_as_it_is_shown(tmp_path: Path, invoke: Invoke) -> None:
    random, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 3
    for index in range(4):
        pixels = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        for side in ("real", "turned"):
            (tmp_path / side).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"real/{index}.png")
        Image.fromarray(np.rot90(pixels, 2)).save(tmp_path / f"turned/{index}.png", exif=exif)
    torch.manual_seed(0)
    save_encoder(tmp_path / "e.safetensors", build_backbone("tiny"), {"backbone": "tiny", "output_stride": 16, "dataset": "park"})
    options = ["--encoder", "e.safetensors", "--cache", "null", "--subsets", 3, "--json", "out.json"]
    assert invoke("shared.fid", "real", "turned", *options).status == 0
    assert json.loads((tmp_path / "out.json").read_text())["distance"] == pytest.approx(0, abs=1e-9)
