"""Damage to images: what each kind does, and that it grows with its strength."""

from itertools import pairwise

import numpy as np
import pytest

from shared.constants import IGNORE_INDEX
from shared.fid.distortions import DISTORTIONS, jpeg, noise, swapped_classes, wrong_layout


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A picture of coarse texture, and a label map of a sky, a ground, a small thing and ignored pixels."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (8, 12, 3)).repeat(6, 0).repeat(6, 1).astype(np.uint8)
    label_map = np.zeros((48, 72), np.int64)
    label_map[20:] = 1
    label_map[30:40, 10:20] = 2
    label_map[:4, :4] = IGNORE_INDEX
    picture[label_map == 1] //= 4
    return picture, label_map


@pytest.mark.parametrize("damage", DISTORTIONS)
def test_stronger_damage_moves_more(damage: str) -> None:
    picture, label_map = scene()
    before = picture.copy()
    spoil, _, strengths = DISTORTIONS[damage]
    moved = []
    for strength in strengths:
        # several draws, since a share of the images is left alone by some
        spoilt = [spoil(picture, label_map, strength, np.random.default_rng(seed)) for seed in range(24)]
        assert all(one.shape == picture.shape and one.dtype == np.uint8 for one in spoilt)
        moved.append(np.mean([np.abs(one.astype(int) - picture).mean() for one in spoilt]))
    assert moved[0] > 0
    assert all(later > earlier for earlier, later in pairwise(moved)), moved
    assert np.array_equal(picture, before)


def test_noise_has_the_deviation_that_is_asked_for() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    spoilt = noise(grey, grey[..., 0], 10, np.random.default_rng(0))
    assert spoilt.std() == pytest.approx(10, rel=0.02)
    assert spoilt.mean() == pytest.approx(128, abs=0.1)


def test_jpeg_counts_down_from_the_best_quality() -> None:
    picture, label_map = scene()
    nearly, coarse = (jpeg(picture, label_map, strength, np.random.default_rng(0)).astype(int) - picture for strength in (0, 90))
    assert np.abs(nearly).mean() < np.abs(coarse).mean() / 2


def test_a_wrong_layout_has_the_same_tiles_elsewhere() -> None:
    picture, label_map = scene()
    spoilt = wrong_layout(picture, label_map, 1, np.random.default_rng(0))

    def tiles(image: np.ndarray) -> list[np.ndarray]:
        return [image[row : row + 12, column : column + 18] for row in range(0, 48, 12) for column in range(0, 72, 18)]

    assert sorted(tile.tobytes() for tile in tiles(spoilt)) == sorted(tile.tobytes() for tile in tiles(picture))
    assert not any(np.array_equal(one, other) for one, other in zip(tiles(spoilt), tiles(picture)))
    quarter = wrong_layout(picture, label_map, 0.25, np.random.default_rng(0))
    assert sum(not np.array_equal(one, other) for one, other in zip(tiles(quarter), tiles(picture))) == 4


def test_swapped_classes_take_each_others_pixels() -> None:
    picture, label_map = scene()
    spoilt = swapped_classes(picture, label_map, 1, np.random.default_rng(0))
    ground, sky, thing, ignored = (label_map == 1, label_map == 0, label_map == 2, label_map == IGNORE_INDEX)
    colours = {name: {tuple(colour) for colour in picture[region]} for name, region in (("ground", ground), ("sky", sky))}
    assert {tuple(colour) for colour in spoilt[ground]} <= colours["sky"]
    assert {tuple(colour) for colour in spoilt[sky]} <= colours["ground"]
    assert np.array_equal(spoilt[thing], picture[thing])  # the third class has no fourth to swap with
    assert np.array_equal(spoilt[ignored], picture[ignored])


def test_an_image_of_one_class_has_nothing_to_swap() -> None:
    picture, _ = scene()
    for label in (0, IGNORE_INDEX):
        label_map = np.full(picture.shape[:2], label)
        assert np.array_equal(swapped_classes(picture, label_map, 1, np.random.default_rng(0)), picture)
