"""Pictures of label maps and images, and label files of 8 and 16 bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import InputError
from shared.visualise import (
    SIGNED,
    UNIT,
    colour_label_map,
    label_storage,
    overlay,
    picture_grid,
    save_label_png,
    save_png,
    to_uint8,
    voc_palette,
)


def test_the_first_colours_are_those_of_voc() -> None:
    published = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128), (64, 0, 0)]
    assert [tuple(colour) for colour in voc_palette(9).tolist()] == published
    assert voc_palette(256)[255].tolist() == [224, 224, 192]


def test_long_palettes_repeat_no_colour() -> None:
    palette = voc_palette(5000)
    assert palette.shape == (5000, 3)
    assert palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == 5000
    assert np.array_equal(palette[:20], voc_palette(20))


def test_colouring() -> None:
    palette = voc_palette(300)
    label_map = torch.tensor([[0, 299], [-1, 7]])
    picture = colour_label_map(label_map, palette)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[palette[0].tolist(), palette[299].tolist()], [[0, 0, 0], palette[7].tolist()]]
    assert np.array_equal(colour_label_map(label_map[None], palette)[0], picture)
    assert np.array_equal(colour_label_map(label_map.numpy(), palette), picture)


@pytest.mark.parametrize("wrong", [3, -2])
def test_ids_without_a_colour_are_refused(wrong: int) -> None:
    with pytest.raises(InputError, match=f"class id {wrong}; ids from 0 to 2"):
        colour_label_map(torch.tensor([[0, wrong]]), voc_palette(3))


def test_float_labels_are_refused() -> None:
    with pytest.raises(InputError, match="label map has type float32"):
        colour_label_map(torch.zeros(2, 2), voc_palette(3))


def test_overlay_keeps_the_picture_where_labels_are_ignored() -> None:
    picture = np.full((1, 2, 3), 100, np.uint8)
    mixed = overlay(picture, torch.tensor([[1, -1]]), voc_palette(2), opacity=0.25)
    assert mixed[0, 0].tolist() == [round(0.25 * 128 + 75), 75, 75]
    assert mixed[0, 1].tolist() == [100, 100, 100]
    with pytest.raises(InputError, match="they must be equal"):
        overlay(picture, torch.zeros(2, 2, dtype=torch.int64), voc_palette(2))


def test_to_uint8() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5).expand(2, 3, 1, 5)
    assert to_uint8(values, value_range=SIGNED)[1, 0, :, 2].tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(values, value_range=UNIT)[1, 0, :, 2].tolist() == [0, 0, 0, 255, 255]
    assert to_uint8(values[0], value_range=UNIT).shape == (1, 5, 3)
    assert to_uint8(values.bfloat16(), value_range=SIGNED).shape == (2, 1, 5, 3)
    with pytest.raises(InputError, match="not finite"):
        to_uint8(values / 0, value_range=UNIT)


def test_eight_bit_images_survive_the_float_round_trip() -> None:
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    assert np.array_equal(to_uint8(image / 255, value_range=UNIT), image.movedim(0, -1).numpy())
    assert np.array_equal(to_uint8(image / 255 * 2 - 1, value_range=SIGNED), image.movedim(0, -1).numpy())


def test_picture_grid() -> None:
    pictures = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    grid = picture_grid(pictures, columns=2, gap=1, background=0)
    assert grid[..., 0].tolist() == [[10] * 3 + [0] + [20] * 3] * 2 + [[0] * 7] + [[30] * 3 + [0] * 4] * 2
    mixed = picture_grid([pictures[0], pictures[1][:1], pictures[2][:, :1]], columns=2, gap=1, background=0)
    assert mixed[..., 0].tolist() == [[10] * 3 + [0] + [20] * 3, [10] * 3 + [0] * 4, [0] * 7] + [[30] + [0] * 6] * 2
    with pytest.raises(InputError, match="there are none"):
        picture_grid([], columns=2)


def test_saved_pictures_read_back(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    save_png(picture, tmp_path / "new" / "a.png")
    assert np.array_equal(np.array(Image.open(tmp_path / "new" / "a.png")), picture)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 254, 255, 256, 1284, 65535]), st.randoms(use_true_random=False))
def test_label_files_read_back(tmp_path_factory: pytest.TempPathFactory, num_classes: int, random: object) -> None:
    label_map = torch.tensor([[random.randint(-1, num_classes - 1) for _ in range(6)], [-1, 0, num_classes - 1, 0, 0, 0]])  # type: ignore[attr-defined]
    path = tmp_path_factory.mktemp("labels") / "a.png"
    save_label_png(label_map, path, num_classes=num_classes)
    storage, ignored = label_storage(num_classes)
    with Image.open(path) as image:
        assert image.mode == ("L" if num_classes <= 255 else "I;16")
        read = np.array(image)
    assert read.dtype == storage
    assert np.array_equal(np.where(read == ignored, -1, read.astype(np.int64)), label_map.numpy())


def test_label_files_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class id 3; ids from 0 to 2"):
        save_label_png(torch.tensor([[3]]), tmp_path / "a.png", num_classes=3)
    with pytest.raises(InputError, match="70000 classes do not fit"):
        save_label_png(torch.tensor([[3]]), tmp_path / "a.png", num_classes=70000)
    assert not list(tmp_path.iterdir())
