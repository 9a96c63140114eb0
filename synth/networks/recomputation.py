"""Features computed a second time in the backward pass, in place of being kept: less memory for a third more time in the generator.

What a training forward changes, it must not change again: in the second pass batch norms leave their statistics alone and spectral
norms keep the singular vectors that the first pass left.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from synth.networks.spectral import spectra_kept


def recomputed(module: nn.Module, *inputs: Any) -> Tensor:
    """module(*inputs), with the same values, gradients and buffers, of which only the inputs are kept for the backward pass."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unchanged(module)

    output: Tensor = checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)
    return output


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Within, a training forward leaves every buffer of `module` as it is."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # the running statistics then move by nothing, and a copy takes the count that goes up in place
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        with spectra_kept(module):
            yield
    finally:
        for norm, momentum, tracked in before:
            norm.momentum, norm.num_batches_tracked = momentum, tracked
