"""Batches in an order that is a function of (seed, step), so that the step number is all there is to resume.

A training run reads one endless stream of samples: the permutation of (seed, epoch 0), then that of epoch 1, and so on. Batch `step` of
process `rank` is the part of the stream at (step · world_size + rank) · batch_size, so every batch is full, and processes together
read what one process with their joint batch size reads. The draws of a transform are a function of (seed, epoch, sample, copy).
With repeat factors an epoch reads a sample several times or not at all; its length is the same in every epoch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from shared.data.batch import Batch, collate, collate_by_size, regroup
from shared.data.spec import Sample, SegmentationDataset
from shared.data.workers import begin_worker
from shared.errors import InputError
from shared.run.lost_workers import watched
from shared.run.training import progress_by_hand, seed_of

Transform = Callable[[Sample], Sample]
Draw = tuple[int, int, int]
"""(epoch, index in the data set, copy): one use of a sample, the copy-th of this epoch."""


def build_train_loader(
    dataset: SegmentationDataset,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
    repeats: np.ndarray | None = None,
    device: torch.device | None = None,
) -> "BatchLoader":
    """The batches of steps `start_step` … `num_steps` − 1, the same for any number of workers and any `start_step`.

    Args:
        batch_size: samples per step and process.
        num_steps: steps of the whole run, counted from 0.
        repeats: (samples,) > 0, how often an epoch reads each sample on average (`shared.data.sampling`); None: once.
        device: where the batches will go; for a GPU they come in pinned memory, from which a copy does not wait.

    Raises:
        InputError: the data set is empty. While iterating: a sample cannot be read, or samples differ in size.
    """
    _require_samples(dataset)
    repeats = np.ones(len(dataset)) if repeats is None else repeats
    order = _TrainOrder(repeats, batch_size, seed, range(start_step, num_steps), rank, world_size)
    return BatchLoader(_Draws(dataset, transform, seed), order, num_workers, pinned=_is_gpu(device))


def build_eval_loader(
    dataset: SegmentationDataset,
    transform: Transform,
    *,
    batch_size: int,
    num_workers: int,
    samples: range | None = None,
    device: torch.device | None = None,
) -> "BatchLoader":
    """Every sample once, in batches of one size each. Samples of one size come in order; where all have one size, all do.

    Args:
        batch_size: most samples of a batch, see `shared.data.batch.regroup`.
        samples: only these, such as a process's share. None: all.
        device: as in `build_train_loader`.

    Raises:
        InputError: as `build_train_loader`.
    """
    _require_samples(dataset)
    chosen = range(len(dataset)) if samples is None else samples
    order = [[(0, index, 0) for index in chosen[first : first + batch_size]] for first in range(0, len(chosen), batch_size)]
    draws, workers = _Draws(dataset, transform, seed=0), min(num_workers, len(order))
    return BatchLoader(draws, order, workers, several_sizes=batch_size, pinned=_is_gpu(device))


def _is_gpu(device: torch.device | None) -> bool:
    return device is not None and device.type == "cuda"


class BatchLoader:
    """Iterable of `Batch`; each iteration starts over, with workers of its own that end with it.

    Reading ahead never touches the caller's random numbers.

    Args:
        several_sizes: largest batch of samples that may differ in size, and are grouped. None: those of a batch must have one size.
        pinned: whether batches are in pinned memory, which takes a context of CUDA.
    """

    def __init__(
        self,
        draws: "_Draws",
        order: "list[list[Draw]] | _TrainOrder",
        num_workers: int,
        several_sizes: int | None = None,
        pinned: bool = False,
    ) -> None:
        self._order, self._several_sizes = order, several_sizes
        self._loader = DataLoader(
            draws,
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=collate if several_sizes is None else collate_by_size,
            pin_memory=pinned,
            # its own, as DataLoader draws a seed for its workers from the global one otherwise
            generator=torch.Generator(),
            worker_init_fn=begin_worker,
        )

    def __iter__(self) -> Iterator[Batch]:
        return self._read() if self._several_sizes is None else regroup(self._read(), self._several_sizes)

    def with_progress(self, title: str) -> Iterator[Batch]:
        """The batches, behind a progress bar of their images."""
        with progress_by_hand(title, total=sum(map(len, self._order)), unit="image") as bar:
            for batch in self:
                yield batch
                bar.update(len(batch.names))

    def _read(self) -> Iterator[Any]:
        """What comes from the processes: `Batch`, or lists of them where there may be several sizes."""
        for batch in watched(self._loader):
            if isinstance(batch, InputError):
                raise batch
            yield batch


class _Draws(Dataset[Sample | InputError]):
    """Transformed samples whose random numbers depend on the draw alone."""

    def __init__(self, dataset: SegmentationDataset, transform: Transform, seed: int) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed

    def __getitem__(self, draw: Draw) -> Sample | InputError:
        epoch, index, copy = draw
        # only the CPU's generator: torch.manual_seed would reset CUDA's too, which fork_rng(devices=[]) does not put back
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.seed, epoch, index, copy, purpose=1))
            try:
                return self.transform(self.dataset[index])
            except InputError as error:
                return error


class _TrainOrder(Sampler[list[Draw]]):
    def __init__(self, repeats: np.ndarray, batch_size: int, seed: int, steps: range, rank: int, world_size: int) -> None:
        self.repeats, self.batch_size, self.seed, self.steps = repeats, batch_size, seed, steps
        self.rank, self.world_size = rank, world_size
        # the same in every epoch, so that (epoch, place) follows from the step
        self.length = max(1, round(repeats.sum()))

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        known, draws = -1, np.empty((0, 2), np.int64)
        for step in self.steps:
            first = (step * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                epoch, place = divmod(position, self.length)
                if epoch != known:
                    known, draws = epoch, _epoch_draws(self.repeats, self.length, self.seed, epoch)
                batch.append((epoch, int(draws[place, 0]), int(draws[place, 1])))
            yield batch


def _epoch_draws(repeats: np.ndarray, length: int, seed: int, epoch: int) -> np.ndarray:
    """(length, 2) indices and copies of an epoch, in the order of a random permutation.

    The samples lie one behind the other on a line, each as long as its repeat factor, and are read once for every mark they cover; the
    marks have distance 1 and a random start. So a sample is read as often as its factor says, rounded up or down, and on average exactly.
    """
    marks = np.random.default_rng(seed_of(seed, epoch, purpose=2)).random() + np.cumsum(repeats) * (length / repeats.sum())
    ends = np.minimum(np.floor(marks).astype(np.int64), length)
    ends[-1] = length  # whatever the rounding of the sum says
    times = np.diff(ends, prepend=0)
    indices = np.repeat(np.arange(len(repeats)), times)
    copies = np.arange(length) - np.repeat(ends - times, times)
    return np.stack([indices, copies], axis=1)[_permutation(length, seed, epoch)]


def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed_of(seed, epoch, purpose=0))).numpy()


def _require_samples(dataset: SegmentationDataset) -> None:
    if len(dataset) == 0:
        raise InputError(f"the {dataset.split} split of {dataset.spec.name} holds no sample; give it at least one")
