"""Batches in an order that is a function of (seed, step), so that the step number is all there is to resume.

A training run reads one endless stream of samples: the permutation of (seed, epoch 0), then that of epoch 1, and so on. Batch `step` of
process `rank` is the part of the stream at (step · world_size + rank) · batch_size, so every batch is full, and processes together
read what one process with their joint batch size reads. The draws of a transform are a function of (seed, epoch, sample, copy).
With repeat factors an epoch reads a sample several times or not at all; its length is the same in every epoch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from shared.data.spec import Sample, SegmentationDataset
from shared.data.workers import begin_worker
from shared.errors import InputError
from shared.run.lost_workers import watched
from shared.run.training import seed_of

Transform = Callable[[Sample], Sample]
Draw = tuple[int, int, int]
"""(epoch, index in the data set, copy): one use of a sample, the copy-th of this epoch."""


@dataclass
class Batch:
    """Samples of one size, stacked.

    Attributes:
        images: (N, 3, H, W) float32.
        label_maps: (N, H, W) int64, ids in [0, C) or `IGNORE_INDEX`.
        instance_maps: (N, H, W) int64, or None where the data set has none.
        names: N sample names.
    """

    images: torch.Tensor
    label_maps: torch.Tensor
    instance_maps: torch.Tensor | None
    names: list[str]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`; copies from pinned memory do not wait."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch in pinned memory (called by torch's loader)."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        instance_maps = None if self.instance_maps is None else change(self.instance_maps)
        return Batch(change(self.images), change(self.label_maps), instance_maps, self.names)


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
) -> "BatchLoader":
    """The batches of steps `start_step` … `num_steps` − 1, the same for any number of workers and any `start_step`.

    Args:
        batch_size: samples per step and process.
        num_steps: steps of the whole run, counted from 0.
        repeats: (samples,) > 0, how often an epoch reads each sample on average (`shared.data.sampling`); None: once.

    Raises:
        InputError: the data set is empty. While iterating: a sample cannot be read, or samples differ in size.
    """
    _require_samples(dataset)
    repeats = np.ones(len(dataset)) if repeats is None else repeats
    order = _TrainOrder(repeats, batch_size, seed, range(start_step, num_steps), rank, world_size)
    return BatchLoader(_Draws(dataset, transform, seed), order, num_workers)


def build_eval_loader(
    dataset: SegmentationDataset, transform: Transform, *, batch_size: int, num_workers: int, samples: range | None = None
) -> "BatchLoader":
    """Every sample once, in order; the last batch may be smaller.

    Args:
        samples: only these, such as a process's share. None: all.

    Raises:
        InputError: as `build_train_loader`.
    """
    _require_samples(dataset)
    chosen = range(len(dataset)) if samples is None else samples
    order = [[(0, index, 0) for index in chosen[first : first + batch_size]] for first in range(0, len(chosen), batch_size)]
    return BatchLoader(_Draws(dataset, transform, seed=0), order, num_workers)


class BatchLoader:
    """Iterable of `Batch`; each iteration starts over, with workers of its own that end with it.

    Reading ahead never touches the caller's random numbers.
    """

    def __init__(self, draws: "_Draws", order: "list[list[Draw]] | _TrainOrder", num_workers: int) -> None:
        self._loader = DataLoader(
            draws,
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            # its own, as DataLoader draws a seed for its workers from the global one otherwise
            generator=torch.Generator(),
            worker_init_fn=begin_worker,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in watched(self._loader):
            if isinstance(batch, InputError):
                raise batch
            yield batch


def collate(samples: list[Sample | InputError]) -> Batch | InputError:
    """Stack samples. An error is handed on as a value: torch would wrap one that a worker raises in the worker's traceback."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
        good.append(sample)
    other = next((sample for sample in good if sample.image.shape != good[0].image.shape), None)
    if other is not None:
        (a, b), (c, d) = good[0].image.shape[1:], other.image.shape[1:]
        return InputError(
            f"samples of one batch differ in size: {good[0].name} is {a}x{b}, {other.name} is {c}x{d} (height x width); "
            "use batch size 1, or a transform that resizes or crops"
        )
    instance_maps = [sample.instance_map for sample in good if sample.instance_map is not None]
    return Batch(
        torch.stack([sample.image for sample in good]),
        torch.stack([sample.label_map for sample in good]),
        torch.stack(instance_maps) if instance_maps else None,
        [sample.name for sample in good],
    )


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
