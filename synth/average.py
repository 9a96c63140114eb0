"""The running average of a generator's weights, which generates more evenly than the last weights do."""

from collections.abc import Iterable

import torch
from torch import nn

from shared.data.loader import Batch
from shared.run.training import progress
from synth.generator import SpadeGenerator
from synth.step import batch_edges

STATISTICS_BATCHES = 50
"""Training batches that the final BatchNorm statistics are taken over, as in boschresearch/OASIS."""


@torch.no_grad()
def update_average(average: SpadeGenerator, generator: SpadeGenerator, decay: float) -> None:
    """Move the averaged weights and statistics towards the generator's by 1 − `decay`."""
    mine, theirs = average.state_dict(), generator.state_dict()
    for name, tensor in mine.items():
        if tensor.is_floating_point():
            tensor.lerp_(theirs[name], 1 - decay)
        else:
            tensor.copy_(theirs[name])


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
