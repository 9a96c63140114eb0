"""Whether a network can compute with inputs of a shape at all, found out from shapes alone: nothing is read, allocated or changed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from shared.distributed import world_size
from shared.joint_norm import JointBatchNorm

_VANISHED = re.compile(r"too small|an't be greater than actual|greater than 0|less than the corresponding|on-empty|on-zero size")
_ENLARGED = (2, 4, 8, 16)


class _OneValue(Exception):
    """A normalisation would take the mean and deviation of a single value."""


def shape_obstacle(network: nn.Module, shape: tuple[int, ...] | torch.Size, *, training: bool, **options: Any) -> str | None:
    """Why `network` cannot compute with an input of `shape` (N, channels, H, W), in a clause; None where it can, or nothing is known.

    Batch normalisation has no statistics of a single value per channel, and layers that make features smaller come to an end.

    Args:
        training: whether in training mode, where batch normalisation takes its statistics from the batch.
        options: of the forward pass.
    """

    def attempt(count: int, height: int, width: int) -> str | None:
        try:
            functional_call(network, weights, (torch.empty(count, shape[1], height, width, device="meta"),), options)
        except _OneValue as error:
            return str(error)
        except (RuntimeError, ValueError) as error:
            if not isinstance(error, NotImplementedError) and _VANISHED.search(str(error)):
                return f"features vanish ({' '.join(str(error).split())[:200].rstrip('. ')})"
        return None

    weights = {name: torch.empty_like(value, device="meta") for name, value in (*network.named_parameters(), *network.named_buffers())}
    with torch.no_grad(), _watched(network, training):
        count, (height, width) = shape[0], shape[2:]
        found = attempt(count, height, width)
        if found is None:
            return None
        enough = ["2 images"] if count == 1 and attempt(2, height, width) is None else []
        larger = (f"{factor * height}x{factor * width}" for factor in _ENLARGED if attempt(count, factor * height, factor * width) is None)
        enough += [f"images of {size}" for size in islice(larger, 1)]
    return f"{found}; {' or '.join(enough) or 'larger ones'} would do"


@contextmanager
def _watched(network: nn.Module, training: bool) -> Iterator[None]:
    """Within, normalisations look at what they get, and batch normalisations then compute as in evaluation: without other processes."""
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, _InstanceNorm) or (isinstance(module, _BatchNorm) and module.training):
            handles.append(module.register_forward_pre_hook(partial(_require_values, name)))
            module.training = False
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode


def _require_values(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    (x,) = inputs
    values = x[0, 0].numel() if isinstance(module, _InstanceNorm) else x[:, 0].numel()
    if values * (world_size() if isinstance(module, JointBatchNorm) else 1) == 1:
        kind = "instance" if isinstance(module, _InstanceNorm) else "batch"
        raise _OneValue(f"{kind} normalisation {name} sees one value per channel, which has no deviation")
