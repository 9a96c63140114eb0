import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data.batch import Batch, collate, collate_by_size
from shared.data.camvid import CamVid
from shared.data.labels import LabelCodes
from shared.data.loader import build_eval_loader, build_train_loader
from shared.data.pairs import Pair, PairDataset
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.data.transforms import EvalResize, SynthTransform, TrainCrop
from shared.errors import InputError

SPEC = DatasetSpec("numbers", ("a", "b"), np.zeros((2, 3), np.uint8))


class Numbers(SegmentationDataset):
    """Sample i is named i and shows i; sample `bad` cannot be read."""

    def __init__(self, length: int, *, bad: int = -1, instances: bool = False) -> None:
        self.spec, self.split, self.length, self.bad, self.instances = SPEC, "train", length, bad, instances

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index == self.bad:
            raise InputError(f"labels/{index}.png holds value 37; allowed are 0..1")
        ids = torch.full((6, 8), index)
        return Sample(torch.full((3, 6, 8), index, dtype=torch.uint8), ids, ids if self.instances else None, str(index))


class Noise:
    """A transform that adds a draw to the image."""

    def __call__(self, sample: Sample) -> Sample:
        return Sample(sample.image + torch.rand(3, 6, 8), sample.label_map, sample.instance_map, sample.name)


def train(
    length: int = 10, batch_size: int = 4, start: int = 0, steps: int = 12, workers: int = 0, seed: int = 0, **others: Any
) -> list[Batch]:
    options = {"batch_size": batch_size, "seed": seed, "start_step": start, "num_steps": steps, "num_workers": workers}
    return list(build_train_loader(Numbers(length), Noise(), **options, **others))


def names(batches: list[Batch]) -> list[str]:
    return list(itertools.chain.from_iterable(batch.names for batch in batches))


def require_equal(ours: list[Batch], theirs: list[Batch]) -> None:
    assert [batch.names for batch in ours] == [batch.names for batch in theirs]
    assert all(torch.equal(a.images, b.images) for a, b in zip(ours, theirs))


def test_batch_contents():
    (batch,) = train(steps=1)
    assert batch.images.shape == (4, 3, 6, 8) and batch.images.dtype == torch.float32
    assert batch.label_maps.shape == (4, 6, 8) and batch.label_maps.dtype == torch.int64 and batch.instance_maps is None
    assert batch.label_maps[:, 0, 0].tolist() == [int(name) for name in batch.names]
    assert batch.to("cpu").names == batch.names
    (batch,) = build_eval_loader(Numbers(2, instances=True), Noise(), batch_size=2, num_workers=0)
    assert batch.instance_maps is not None and batch.instance_maps.shape == (2, 6, 8)


def test_each_epoch_is_another_permutation_and_batches_are_full():
    order = names(train(length=10, batch_size=4, steps=15))
    epochs = [order[first : first + 10] for first in range(0, 60, 10)]
    assert all(sorted(epoch, key=int) == [str(index) for index in range(10)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert order != names(train(steps=15, seed=1))


def test_samples_are_drawn_anew_in_each_epoch():
    batches = train(length=3, batch_size=3, steps=2)
    first, second = (dict(zip(batch.names, batch.images)) for batch in batches)
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_data_set_smaller_than_the_batch():
    batches = train(length=3, batch_size=7, steps=3)
    assert [len(batch.names) for batch in batches] == [7, 7, 7]
    assert sorted(names(batches)) == sorted("012" * 7)


@pytest.mark.parametrize("start", range(12))
def test_resumes_at_any_step(start):
    require_equal(train(start=start), train()[start:])


def test_number_of_workers_does_not_matter():
    require_equal(train(workers=2, start=3), train(start=3))


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    drawn = [
        torch.rand(()) for _ in build_train_loader(Numbers(9), Noise(), batch_size=2, seed=0, start_step=0, num_steps=4, num_workers=0)
    ]
    assert torch.equal(torch.stack(drawn), expected)


def test_processes_share_what_one_would_read():
    together = [train(batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    joint = [Batch(torch.cat([a.images, b.images]), a.label_maps, None, a.names + b.names) for a, b in zip(*together)]
    require_equal(joint, train(batch_size=6))


REPEATS = np.array([1, 2.25, 1, 1.5, 0.25])


def test_repeats_are_kept_in_every_epoch_and_exactly_on_average():
    order = names(train(length=5, batch_size=6, steps=400, repeats=REPEATS))
    epochs = np.array(order, int).reshape(-1, 6)
    times = np.stack([np.bincount(epoch, minlength=5) for epoch in epochs])
    assert (times >= np.floor(REPEATS)).all() and (times <= np.ceil(REPEATS)).all()
    assert np.abs(times.mean(0) - REPEATS).max() < 0.06


def test_copies_of_a_sample_differ_and_the_first_is_what_it_is_without_repeats():
    (batch,) = train(length=2, batch_size=3, steps=1, repeats=np.array([1.0, 2.0]))
    copies = [image for name, image in zip(batch.names, batch.images) if name == "1"]
    assert len(copies) == 2 and not torch.equal(*copies)
    (once,) = train(length=2, batch_size=2, steps=1)
    first = once.images[once.names.index("1")]
    assert sum(torch.equal(first, copy) for copy in copies) == 1


def test_repeated_samples_resume_and_are_shared_alike():
    whole = train(length=5, repeats=REPEATS)
    require_equal(train(length=5, repeats=REPEATS, start=7, workers=2), whole[7:])
    halves = [train(length=5, repeats=REPEATS, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    assert [a.names + b.names for a, b in zip(*halves)] == [batch.names for batch in whole]


@pytest.mark.parametrize("workers", [0, 1])
def test_eval_reads_every_sample_once_in_order(workers):
    loader = build_eval_loader(Numbers(5), Noise(), batch_size=2, num_workers=workers)
    first, second = list(loader), list(loader)
    assert [batch.names for batch in first] == [["0", "1"], ["2", "3"], ["4"]]
    require_equal(first, second)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_stay_one_line(workers):
    loader = build_eval_loader(Numbers(5, bad=3), Noise(), batch_size=2, num_workers=workers)
    with pytest.raises(InputError, match=r"^labels/3.png holds value 37; allowed are 0..1$"):
        list(loader)


def test_refuses_samples_of_different_size():
    small, large = (Sample(torch.zeros(3, *size), torch.zeros(size, dtype=torch.int64), None, str(size[0])) for size in ((4, 6), (8, 6)))
    error = collate([small, large])
    assert isinstance(error, InputError)
    assert str(error).startswith("samples of one batch differ in size: 4 is 4x6, 8 is 8x6 (height x width); use batch size 1")


def test_refuses_an_empty_data_set():
    with pytest.raises(InputError, match="the train split of numbers holds no sample"):
        train(length=0)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.minutes)])
def test_files_and_transforms_travel_to_workers(tmp_path, method):
    for folder, pixels in (("train", np.zeros((8, 8, 3), np.uint8)), ("trainannot", np.full((8, 8), 3, np.uint8))):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    dataset, transform = CamVid(tmp_path, "train"), TrainCrop((6, 6), jitter=0.2)
    options = {"batch_size": 2, "seed": 0, "start_step": 0, "num_steps": 2}
    loader = build_train_loader(dataset, transform, **options, num_workers=1)
    loader._loader.multiprocessing_context = method
    require_equal(list(loader), list(build_train_loader(dataset, transform, **options, num_workers=0)))


@pytest.mark.parametrize("transform", [TrainCrop((6, 6), jitter=0.2), EvalResize((6, 6)), SynthTransform((6, 6))])
def test_what_workers_receive_can_be_pickled(transform):
    dataset = PairDataset(SPEC, "train", [Pair("x", Path("x.jpg"), Path("x.png"), None)], LabelCodes(2))
    loader = build_eval_loader(dataset, transform, batch_size=1, num_workers=1)._loader
    draws, stack = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    assert stack is collate_by_size and "x.jpg: No such file" in str(draws[0, 0, 0])
