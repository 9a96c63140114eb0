from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.data import build_dataset
from shared.data.config import DataConfig, ScenesConfig
from shared.data.spec import DatasetSpec
from shared.data.statistics import ClassStatistics, check_split, class_statistics, count_classes
from shared.data.workers import parallel_map
from shared.errors import InputError

SPEC = DatasetSpec("numbers", ("a", "b", "c"), np.zeros((3, 3), np.uint8))
MAPS = {"x": [[0, 0, 2], [-1, 2, 2]], "y": [[-1], [-1]], "z": [[2, 0]]}


@pytest.fixture
def statistics():
    return ClassStatistics.collect(SPEC, "train", [count_classes(name, np.array(ids)) for name, ids in MAPS.items()])


def test_counts(statistics):
    assert statistics.pixels.tolist() == [3, 0, 4] and statistics.images.tolist() == [2, 0, 2]
    assert statistics.ignored_pixels == 3 and statistics.names == ("x", "y", "z")
    assert statistics.sizes == {(2, 3): 1, (2, 1): 1, (1, 2): 1}
    assert statistics.starts.tolist() == [0, 2, 2, 4] and statistics.class_ids.tolist() == [0, 2, 0, 2]
    assert statistics.counts.tolist() == [2, 3, 1, 1]


def test_file(statistics, tmp_path):
    statistics.save(tmp_path / "counts.safetensors")
    again = ClassStatistics.load(tmp_path / "counts.safetensors")
    assert all(np.array_equal(getattr(statistics, key), getattr(again, key)) for key in vars(again))
    with pytest.raises(InputError, match=r"no file .*none.safetensors; class statistics were expected there"):
        ClassStatistics.load(tmp_path / "none.safetensors")


def scenes(**settings: int):
    return build_dataset(DataConfig("scenes", scenes=ScenesConfig(height=32, width=32, train_length=6, val_length=2, **settings)), "train")


def test_processes_give_what_one_gives():
    one, two = (class_statistics(scenes(), workers) for workers in (0, 2))
    assert all(np.array_equal(getattr(one, key), getattr(two, key)) for key in ("names", "starts", "class_ids", "counts", "ignored"))
    labels = torch.stack([sample.label_map for sample in scenes()])
    assert one.pixels.tolist() == [int((labels == index).sum()) for index in range(19)]
    checked = check_split(scenes(), 2)
    assert checked.problems == [] and checked.notes == [] and np.array_equal(checked.statistics.counts, one.counts)


def test_counts_of_something_else_are_refused():
    dataset = scenes()
    statistics = class_statistics(dataset)
    statistics.require_match(dataset, "s")
    for change, message in (
        ({"dataset": "voc"}, "s counts data set voc, but it is scenes-19 here; count again: python -m shared.data stats"),
        ({"split": "val"}, "s counts split val, but it is train here"),
        ({"class_names": ("a",)}, "s counts number of classes 1, but it is 19 here"),
        ({"names": ("a",)}, "s counts number of samples 1, but it is 6 here"),
        ({"names": tuple("abcdef")}, "s counts other classes or samples than there are here"),
    ):
        with pytest.raises(InputError, match=message):
            replace(statistics, **change).require_match(dataset, "s")


def test_a_killed_process_is_told_in_one_line():
    with pytest.raises(InputError, match="a process that reads data was killed, most likely because memory ran out"):
        list(parallel_map(kill, None, range(4), num_workers=2, title="doomed", unit="item"))


def kill(context: None, item: int) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
