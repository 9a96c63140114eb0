from collections import Counter

import numpy as np
import pytest
import torch

from shared.constants import IGNORE_INDEX
from shared.data.sampling import count_once, crop_weights, read_statistics, repeat_factors
from shared.data.scenes import SceneDataset
from shared.data.spec import DatasetSpec, Sample
from shared.data.statistics import ClassStatistics, count_classes
from shared.data.transforms import TrainCrop
from shared.errors import InputError

SPEC = DatasetSpec("letters", ("a", "b", "c", "d"), np.zeros((4, 3), np.uint8))
MAPS = {"w": [[0, 0, 0, 1]], "x": [[0, 0, 0, -1]], "y": [[-1, -1]], "z": [[0, 0, 1, 2]]}  # d occurs nowhere


@pytest.fixture
def statistics():
    return ClassStatistics.collect(SPEC, "train", [count_classes(name, np.array(ids)) for name, ids in MAPS.items()])


def test_repeat_factors_follow_the_rarest_class_of_a_sample(statistics):
    # a, b, c are in 3/4, 2/4 and 1/4 of the samples
    assert repeat_factors(statistics, 0.25).tolist() == [1, 1, 1, 1]
    assert repeat_factors(statistics, 0.5) == pytest.approx([1, 1, 1, 2**0.5])
    assert repeat_factors(statistics, 1.0) == pytest.approx([2**0.5, (4 / 3) ** 0.5, 1, 2])


def test_crop_weights_are_inverse_roots_of_pixel_shares(statistics):
    assert crop_weights(statistics) == pytest.approx(1 / np.sqrt([8 / 11, 2 / 11, 1 / 11, 1 / 11]))


def crops_of(label_map, probability, weights, count=400, size=(3, 3)):
    """Label maps of crops of `size`, in which classes are positions."""
    torch.manual_seed(0)
    transform = TrainCrop(size, scale=(1, 1), flip=False, class_crop=probability, class_weights=np.array(weights))
    return [transform(Sample(torch.zeros(3, *label_map.shape, dtype=torch.uint8), label_map, None, "x")).label_map for _ in range(count)]


def test_a_class_crop_has_the_class_in_its_middle_as_often_as_its_weight_says():
    label_map = torch.zeros(40, 60, dtype=torch.int64)
    label_map[10, 20], label_map[30, 50], label_map[0, 0] = 2, 3, IGNORE_INDEX
    middles = Counter(int(crop[1, 1]) for crop in crops_of(label_map, 1.0, [1, 100, 1, 2]))  # class 1 is not there
    assert set(middles) == {0, 2, 3}
    assert np.array([middles[i] for i in (0, 2, 3)]) / 400 == pytest.approx([0.25, 0.25, 0.5], abs=0.07)
    middles = Counter(int(crop[1, 1]) for crop in crops_of(label_map, 0.5, [1e-9, 1, 1, 1]))
    assert middles[2] + middles[3] == pytest.approx(200, abs=40)


def test_a_class_crop_stays_in_the_picture():
    label_map = torch.zeros(5, 7, dtype=torch.int64)
    label_map[0, 6] = 1
    for crop in crops_of(label_map, 1.0, [1e-9, 1], count=20, size=(4, 4)):
        assert crop[0, 3] == 1 and (crop != IGNORE_INDEX).all()
    nothing = torch.full((5, 7), IGNORE_INDEX)
    assert all((crop == IGNORE_INDEX).all() for crop in crops_of(nothing, 1.0, [1, 1], count=3))


def test_counts_are_made_once_and_must_fit(tmp_path):
    dataset = SceneDataset("train", num_classes=4, height=32, width=32, length=3, seed=0)
    path = tmp_path / "counts.safetensors"
    counted = count_once(dataset, path, num_workers=0)
    written = path.stat().st_mtime_ns
    assert count_once(dataset, path, num_workers=0).pixels.tolist() == counted.pixels.tolist() and path.stat().st_mtime_ns == written
    longer = SceneDataset("train", num_classes=4, height=32, width=32, length=4, seed=0)
    with pytest.raises(InputError, match=r"counts.safetensors counts number of samples 3, but it is 4 here; count again"):
        read_statistics(longer, path)
