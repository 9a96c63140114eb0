"""The built-in street scenes."""

import numpy as np
import pytest
import torch

from shared.constants import IGNORE_INDEX
from shared.data.scenes import SceneDataset
from shared.data.spec import Sample
from shared.errors import InputError

CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip


def same(a: Sample, b: Sample) -> bool:
    assert a.instance_map is not None and b.instance_map is not None
    return a.name == b.name and all(
        torch.equal(x, y) for x, y in ((a.image, b.image), (a.label_map, b.label_map), (a.instance_map, b.instance_map))
    )


def pixel_counts(dataset: SceneDataset) -> np.ndarray:
    """(C + 1,) pixels per class; the last are the ignored ones."""
    labels = torch.stack([dataset[index].label_map for index in range(len(dataset))])
    return np.bincount(labels.numpy().ravel() % (dataset.spec.num_classes + 1), minlength=dataset.spec.num_classes + 1)


@pytest.mark.parametrize("num_classes", [4, 7, 19, 20, 150, 10_000])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 128), (75, 50)])
def test_sample_has_the_agreed_form(num_classes: int, height: int, width: int) -> None:
    dataset = SceneDataset("val", num_classes=num_classes, height=height, width=width, length=13)
    sample = dataset[12]
    assert sample.name == "val_000012"
    assert sample.image.shape == (3, height, width) and sample.image.dtype == torch.uint8
    assert sample.label_map.shape == (height, width) and sample.label_map.dtype == torch.int64
    assert sample.instance_map is not None
    assert sample.instance_map.shape == (height, width) and sample.instance_map.dtype == torch.int64
    assert sample.label_map.min() >= IGNORE_INDEX and sample.label_map.max() < num_classes
    assert sample.image.float().std() > 10


def test_sample_depends_on_nothing_but_its_index() -> None:
    first, second = (SceneDataset("train", length=6) for _ in range(2))
    forwards = [first[index] for index in range(6)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    backwards = [second[index] for index in reversed(range(6))]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards)))
    assert torch.equal(before, torch.get_rng_state())
    assert not same(forwards[0], forwards[1])


def test_splits_and_seeds_are_different_scenes() -> None:
    kinds = [SceneDataset("train", length=8), SceneDataset("val", length=8), SceneDataset("train", length=8, seed=1)]
    images = [dataset[index].image.numpy().tobytes() for dataset in kinds for index in range(8)]
    assert len(set(images)) == len(images)


def test_index_outside_of_the_data_set() -> None:
    dataset = SceneDataset("train", length=3)
    assert len(dataset) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            dataset[index]


@pytest.mark.parametrize("num_classes", [4, 19, 20, 150, 1284, 100_000])
def test_classes_are_distinct_and_grouped(num_classes: int) -> None:
    dataset = SceneDataset("train", num_classes=num_classes)
    names, palette = dataset.spec.class_names, dataset.spec.palette
    assert len(names) == len(set(names)) == len(dataset.class_groups) == num_classes
    assert palette.shape == (num_classes, 3) and palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == num_classes
    assert set(dataset.class_groups) == set(CITYSCAPES if num_classes >= 19 else ("road", "building", "vegetation", "sky"))
    assert all(name.startswith(group) for name, group in zip(names, dataset.class_groups))


def test_nineteen_classes_are_those_of_cityscapes() -> None:
    spec = SceneDataset("train").spec
    assert spec.class_names == CITYSCAPES
    assert spec.palette[0].tolist() == [128, 64, 128] and spec.palette[18].tolist() == [119, 11, 32]


def test_subclass_names_carry_their_number() -> None:
    assert "car 012" in SceneDataset("train", num_classes=400).spec.class_names


def test_every_class_occurs_and_frequencies_have_a_long_tail() -> None:
    counts = pixel_counts(SceneDataset("train", length=60))[:19]
    assert (counts > 0).all()
    assert counts.max() > 50 * counts.min()


def test_subclasses_follow_zipf() -> None:
    dataset = SceneDataset("train", num_classes=150, length=60)
    counts = pixel_counts(dataset)
    members = np.array([group == "car" for group in dataset.class_groups])
    cars = counts[:-1][members]
    assert (cars > 0).mean() > 0.8
    assert cars[: len(cars) // 4].sum() > cars[len(cars) // 2 :].sum()


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.1])
def test_ignored_share(fraction: float) -> None:
    counts = pixel_counts(SceneDataset("train", length=60, ignored_fraction=fraction))
    assert 0.6 * fraction <= counts[-1] / counts.sum() <= 1.4 * fraction


@pytest.mark.parametrize("num_classes", [19, 150])
def test_an_instance_has_one_class(num_classes: int) -> None:
    dataset = SceneDataset("train", num_classes=num_classes, length=5)
    for index in range(5):
        sample = dataset[index]
        assert sample.instance_map is not None
        assert torch.equal(sample.instance_map == 0, sample.label_map == IGNORE_INDEX)
        assert len(sample.instance_map.unique()) > 10
        for instance in sample.instance_map.unique().tolist():
            assert len(sample.label_map[sample.instance_map == instance].unique()) == 1


def test_members_of_a_group_look_alike() -> None:
    dataset = SceneDataset("train", num_classes=150, length=80)
    sums, counts = np.zeros((151, 3)), np.zeros(151)
    for index in range(len(dataset)):
        sample = dataset[index]
        labels = sample.label_map.numpy().ravel() % 151
        counts += np.bincount(labels, minlength=151)
        for channel, values in enumerate(sample.image.numpy().reshape(3, -1)):
            sums[:, channel] += np.bincount(labels, weights=values, minlength=151)
    seen = np.flatnonzero(counts[:150] > 200)
    colours, groups = sums[seen] / counts[seen, None], np.array(dataset.class_groups)[seen]
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    alike = groups[:, None] == groups[None]
    within, between = distance[alike & ~np.eye(len(seen), dtype=bool)].mean(), distance[~alike].mean()
    assert within < 0.8 * between
    assert within > 5  # but not the same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 3}, "scenes cannot have 3 classes; num_classes must be 4 or more"),
        ({"height": 8}, "scenes of 8×128 pixels are too small; height and width must be 16 or more"),
        ({"split": "test"}, "scenes: unknown split 'test'; choose one of train, val"),
        ({"length": 0}, "scenes cannot have length 0; it must be 1 or more"),
        ({"seed": -1}, "scenes cannot have seed -1; it must be 0 or more"),
        ({"ignored_fraction": 0.5}, "scenes cannot have ignored_fraction 0.5; it must be between 0 and 0.2"),
    ],
)
def test_refusals(arguments: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        SceneDataset(**{"split": "train", **arguments})
    assert str(error.value) == message
