"""Peak memory of a training step, predicted without computing it.

A step on images without data is traced twice, with two images and with three. Both allocate and free in the same order, so the bytes
alive after each allocation are a constant plus a part per image, and the peak of every batch size follows: it is the highest of these
straight lines.

Not seen: what an operator needs inside itself (the workspace of convolutions), what the allocator leaves unused, and a GPU's context.

Shapes: N images, C classes; M allocations of a step.
"""

import os
from dataclasses import dataclass

import numpy as np
import torch

from seg.config import SegConfig
from seg.training.traced_step import PARTS, trace_step

GIB = 2**30
_CARDS = (8, 12, 16, 24, 40, 80)  # GiB of the usual GPUs
_KEPT_FREE = 0.1  # of a card: for what is not seen


@dataclass(frozen=True, eq=False)
class MemoryPrediction:
    """Bytes that a training step needs, at one batch size and, through `largest_batch`, at any.

    Attributes:
        batch_size: N of `parts` and `peak`.
        constant: (M, 4) int64, bytes alive after each allocation whatever the batch, by part (`PARTS`).
        per_image: (M, 4) int64, bytes alive then for every image.
    """

    batch_size: int
    constant: np.ndarray
    per_image: np.ndarray

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part at the moment of the peak."""
        alive = self.constant + self.batch_size * self.per_image
        return {part: int(size) for part, size in zip(PARTS, alive[alive.sum(axis=1).argmax()])}

    @property
    def peak(self) -> int:
        """Largest number of bytes alive at a time."""
        return sum(self.parts.values())

    def largest_batch(self, budget: int) -> int:
        """Largest N whose peak is at most `budget` bytes; 0 where not even one image fits."""
        constant, per_image = self.constant.sum(axis=1), self.per_image.sum(axis=1)
        growing = per_image > 0
        return max(0, int(((budget - constant[growing]) // per_image[growing]).min()))


def predict_peak(
    config: SegConfig, num_classes: int, *, batch_size: int, height: int, width: int, device_type: str = "cpu"
) -> MemoryPrediction:
    """Predict the peak memory of a training step as `config` describes it: head, network, loss, precision, accumulation.

    Args:
        config: settings of seg.train. The batch and image sizes that count are those below.
        num_classes: C.
        batch_size: N ≥ 1.
        height, width: of the images, in pixels.
        device_type: "cpu" or "cuda".

    Returns:
        the prediction. It takes seconds for the largest networks, allocates next to nothing, and needs no GPU.
    """
    # two points of each straight line, from which its constant and its slope follow
    two, three = (trace_step(config, num_classes, (n, height, width), device_type) for n in (2, 3))
    assert two.shape == three.shape, f"batches of 2 and 3 allocate {len(two)} and {len(three)} times"
    return MemoryPrediction(batch_size, constant=3 * two - 2 * three, per_image=three - two)


def memory_plan(config: SegConfig, num_classes: int, size: tuple[int, int], device: torch.device) -> str:
    """Two lines for people: the predicted peak, by part, and the largest batches that fit in the device's free memory or usual cards.

    Args:
        size: (height, width) of the training images.
    """
    height, width = size
    batch_size = config.train.batch_size
    prediction = predict_peak(config, num_classes, batch_size=batch_size, height=height, width=width, device_type=device.type)
    parts = ", ".join(f"{part} {_readable(alive)}" for part, alive in prediction.parts.items())
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        budgets = {f"the {_readable(free)} that are free on {device}": free}
    else:
        budgets = {f"{card} GiB": card * GIB for card in _CARDS}
    fits = ", ".join(f"{prediction.largest_batch(int((1 - _KEPT_FREE) * budget))} in {name}" for name, budget in budgets.items())
    return (
        f"memory: a step on {batch_size} images of {height}x{width} is predicted to need {_readable(prediction.peak)} ({parts})\n"
        f"largest batch: {fits}; {_KEPT_FREE:.0%} are kept free for the workspace of convolutions and the like"
    )


def memory_advice(config: SegConfig, num_classes: int, size: tuple[int, int], device: torch.device) -> str:
    """A sentence for when memory has ended: what a step is predicted to need, and the largest batch that the device has room for."""
    (height, width), batch_size = size, config.train.batch_size
    prediction = predict_peak(config, num_classes, batch_size=batch_size, height=height, width=width, device_type=device.type)
    if device.type == "cuda":
        # what this process has reserved counts as room: it goes when the run ends
        room, where = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device), str(device)
    else:
        room, where = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine"
    return (
        f"A step on {batch_size} images of {height}x{width} is predicted to need {_readable(prediction.peak)}; the largest "
        f"train.batch_size for the {_readable(room)} of {where} is {prediction.largest_batch(int((1 - _KEPT_FREE) * room))}. "
        "Smaller crops, loss.band_rows and train.accumulation with smaller batches need less"
    )


def _readable(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"
