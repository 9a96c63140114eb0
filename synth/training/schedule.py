"""What changes over a training: learning rates of the two networks, and the running average of the generator's weights.

The average generates more evenly than the last weights do.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from shared.data.batch import Batch
from shared.run.training import progress
from synth.generator import SpadeGenerator
from synth.semantics.edges import batch_edges

STATISTICS_BATCHES = 50
"""Training batches that the final BatchNorm statistics are taken over, as in boschresearch/OASIS."""


class AdamSettings(NamedTuple):
    """What the two Adam optimisers start with."""

    generator_lr: float
    discriminator_lr: float
    betas: tuple[float, float]


def ttur_learning_rates(lr: float, *, ttur: bool = True) -> AdamSettings:
    """Two time-scale update rule (Heusel et al., 2017), as published: the discriminator learns four times faster than the generator.

    Without it both have `lr` and the usual GAN betas.
    """
    if ttur:
        return AdamSettings(lr / 2, lr * 2, (0.0, 0.9))
    return AdamSettings(lr, lr, (0.5, 0.999))


def learning_rate_factor(step: int, total_steps: int, constant_part: float = 0.5) -> float:
    """1 for the first `constant_part` of the steps, then linear, reaching 0 at `total_steps`.

    A pure function of the step, so a resumed run continues the same line.
    """
    constant_steps = constant_part * total_steps
    if step < constant_steps:
        return 1.0
    return max(0.0, (total_steps - step) / max(total_steps - constant_steps, 1))


@torch.no_grad()
def update_average(average: SpadeGenerator, generator: SpadeGenerator, decay: float) -> None:
    """Move the averaged weights and statistics towards the generator's by 1 − `decay`."""
    mine, theirs = average.state_dict(), generator.state_dict()
    moving = [name for name, tensor in mine.items() if tensor.is_floating_point()]
    # together, as a GPU would take longer to be told of each than to move it
    torch._foreach_lerp_([mine[name] for name in moving], [theirs[name] for name in moving], 1 - decay)
    for name in mine.keys() - {*moving}:
        mine[name].copy_(theirs[name])


@torch.no_grad()
def measure_statistics(average: SpadeGenerator, batches: Iterable[Batch], device: torch.device) -> None:
    """Give averaged weights BatchNorm statistics of their own: the mean over `batches` of what these weights make of them.

    Averaged statistics are only near those of the averaged weights: images come out too dark or too bright. The forward passes also
    bring the singular vectors of the spectral norm to the averaged kernels.
    """
    norms = [module for module in average.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    average.train()
    for batch in progress(batches, "statistics of the averaged weights", total=STATISTICS_BATCHES, unit="batch"):
        batch = batch.to(device)
        average(batch.label_maps, edges=batch_edges(batch) if average.semantics.instance_edges else None)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    average.eval()
