"""Batches in an order that is a function of (seed, step), so that the step number is all there is to resume.

A training run reads one endless stream of samples: the permutation of (seed, epoch 0), then that of epoch 1, and so on. Batch `step` of
process `rank` is the part of the stream at (step · world_size + rank) · batch_size, so every batch is full, and processes together
read what one process with their joint batch size reads. The draws of a transform are a function of (seed, epoch, sample).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from shared.data.spec import Sample, SegmentationDataset
from shared.errors import InputError

Transform = Callable[[Sample], Sample]
Draw = tuple[int, int]
"""(epoch, index in the data set): one use of a sample."""


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
) -> "BatchLoader":
    """The batches of steps `start_step` … `num_steps` − 1, the same for any number of workers and any `start_step`.

    Args:
        batch_size: samples per step and process.
        num_steps: steps of the whole run, counted from 0.

    Raises:
        InputError: the data set is empty. While iterating: a sample cannot be read, or samples differ in size.
    """
    _require_samples(dataset)
    order = _TrainOrder(len(dataset), batch_size, seed, range(start_step, num_steps), rank, world_size)
    return BatchLoader(_Draws(dataset, transform, seed), order, num_workers)


def build_eval_loader(dataset: SegmentationDataset, transform: Transform, *, batch_size: int, num_workers: int) -> "BatchLoader":
    """Every sample once, in order; the last batch may be smaller.

    Raises:
        InputError: as `build_train_loader`.
    """
    _require_samples(dataset)
    order = [[(0, index) for index in range(first, min(first + batch_size, len(dataset)))] for first in range(0, len(dataset), batch_size)]
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
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
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
        epoch, index = draw
        # only the CPU's generator: torch.manual_seed would reset CUDA's too, which fork_rng(devices=[]) does not put back
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_hash(self.seed, epoch, index, purpose=1))
            try:
                return self.transform(self.dataset[index])
            except InputError as error:
                return error


class _TrainOrder(Sampler[list[Draw]]):
    def __init__(self, length: int, batch_size: int, seed: int, steps: range, rank: int, world_size: int) -> None:
        self.length, self.batch_size, self.seed, self.steps = length, batch_size, seed, steps
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        known, permutation = -1, torch.empty(0)
        for step in self.steps:
            first = (step * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                epoch, place = divmod(position, self.length)
                if epoch != known:
                    known, permutation = epoch, _permutation(self.length, self.seed, epoch)
                batch.append((epoch, int(permutation[place])))
            yield batch


def _permutation(length: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(_hash(seed, epoch, purpose=0)))


def _hash(*numbers: int, purpose: int) -> int:
    """A 63-bit seed; `purpose` keeps streams apart that are counted by the same numbers."""
    return int(np.random.SeedSequence(numbers, spawn_key=(purpose,)).generate_state(1, np.uint64)[0] >> 1)


def _require_samples(dataset: SegmentationDataset) -> None:
    if len(dataset) == 0:
        raise InputError(f"the {dataset.split} split of {dataset.spec.name} holds no sample; give it at least one")
