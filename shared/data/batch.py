"""Samples side by side: a batch has one size, and a stream of samples in several sizes becomes batches of one size each."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from shared.data.spec import Sample
from shared.errors import InputError

WAITING_PIXELS = 2**25
"""Most pixels that wait for others of their size: 640 MiB of images and label maps, such as a hundred of 480x640."""


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
        return self._map(lambda tensor: tensor.to(device, non_blocking=True), self.names)

    def pin_memory(self) -> "Batch":
        """The same batch in pinned memory (called by torch's loader)."""
        return self._map(torch.Tensor.pin_memory, self.names)

    def part(self, samples: slice) -> "Batch":
        """Some of the samples; the memory is shared."""
        return self._map(lambda tensor: tensor[samples], self.names[samples])

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor], names: list[str]) -> "Batch":
        instance_maps = None if self.instance_maps is None else change(self.instance_maps)
        return Batch(change(self.images), change(self.label_maps), instance_maps, names)


def collate(samples: list[Sample | InputError]) -> Batch | InputError:
    """Stack samples. An error is handed on as a value: torch would wrap one that a worker raises in the worker's traceback."""
    groups = collate_by_size(samples)
    if isinstance(groups, InputError) or len(groups) == 1:
        return groups if isinstance(groups, InputError) else groups[0]
    (a, b), (c, d) = (group.images.shape[2:] for group in groups[:2])
    return InputError(
        f"samples of one batch differ in size: {groups[0].names[0]} is {a}x{b}, {groups[1].names[0]} is {c}x{d} (height x width); "
        "use batch size 1, or a transform that resizes or crops"
    )


def collate_by_size(samples: list[Sample | InputError]) -> list[Batch] | InputError:
    """A batch for each size, the first sample's size first; of each size the samples stay in order. Errors as in `collate`."""
    groups: dict[torch.Size, list[Sample]] = {}
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
        groups.setdefault(sample.image.shape, []).append(sample)
    return [_stack(group) for group in groups.values()]


def regroup(chunks: Iterable[list[Batch]], batch_size: int) -> Iterator[Batch]:
    """Batches of one size each, as full as the order allows: samples wait for others of their size, `WAITING_PIXELS` at most.

    Samples of one size stay in order; where all have one size, nothing waits and nothing is copied.

    Args:
        chunks: groups by size, of `batch_size` samples at most, such as from `collate_by_size`.
        batch_size: most samples of a batch.
    """
    waiting: dict[torch.Size, list[Batch]] = {}
    for groups in chunks:
        for group in groups:
            parts = waiting.setdefault(group.images.shape[1:], [])
            parts.append(group)
            if sum(len(part.names) for part in parts) >= batch_size:
                joined = _join(waiting.pop(group.images.shape[1:]))
                yield joined.part(slice(batch_size))
                if len(joined.names) > batch_size:
                    waiting[group.images.shape[1:]] = [joined.part(slice(batch_size, None))]
        while sum(part.label_maps.numel() for parts in waiting.values() for part in parts) > WAITING_PIXELS:
            yield _join(waiting.pop(next(iter(waiting))))  # those that have waited longest
    yield from map(_join, waiting.values())


def _join(parts: list[Batch]) -> Batch:
    """Batches of one size as one, in order."""
    if len(parts) == 1:
        return parts[0]
    instance_maps = [part.instance_maps for part in parts if part.instance_maps is not None]
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.label_maps for part in parts]),
        torch.cat(instance_maps) if instance_maps else None,
        [name for part in parts for name in part.names],
    )


def _stack(samples: list[Sample]) -> Batch:
    instance_maps = [sample.instance_map for sample in samples if sample.instance_map is not None]
    return Batch(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.label_map for sample in samples]),
        torch.stack(instance_maps) if instance_maps else None,
        [sample.name for sample in samples],
    )
