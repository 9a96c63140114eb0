"""The losses of SPADE (Park et al., 2019), as functions of what the discriminator answered.

`Features` are per scale the outputs of every layer; a loss is the mean over patches, averaged over scales.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from synth.discriminator import Features


class GanMode(NamedTuple):
    """What a prediction on fakes and on reals costs the discriminator, and one on fakes the generator: (…) -> scalar."""

    fake: Callable[[Tensor], Tensor]
    real: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _squared_to(target: float) -> Callable[[Tensor], Tensor]:
    return lambda prediction: (prediction - target).square().mean()


def _negative_mean(prediction: Tensor) -> Tensor:
    return -prediction.mean()


GAN_MODES = {
    "hinge": GanMode(lambda p: F.relu(1 + p).mean(), lambda p: F.relu(1 - p).mean(), _negative_mean),
    "ls": GanMode(_squared_to(0), _squared_to(1), _squared_to(1)),
    "original": GanMode(lambda p: F.softplus(p).mean(), lambda p: F.softplus(-p).mean(), lambda p: F.softplus(-p).mean()),
    "w": GanMode(torch.mean, _negative_mean, _negative_mean),
}


def split_fake_real(features: Features) -> tuple[Features, Features]:
    """Undo `torch.cat([fake, real])`: the first and the second half of every tensor."""
    halves = [[layer.chunk(2) for layer in scale] for scale in features]
    return [[fake for fake, _ in scale] for scale in halves], [[real for _, real in scale] for scale in halves]


def discriminator_loss(fake: Features, real: Features, mode: str = "hinge") -> tuple[Tensor, Tensor]:
    """(loss on fakes, loss on reals), two scalars whose sum the discriminator minimises. mode: hinge, ls, original or w."""
    return _over_scales(GAN_MODES[mode].fake, fake), _over_scales(GAN_MODES[mode].real, real)


def generator_loss(fake: Features, mode: str = "hinge") -> Tensor:
    """Small when the discriminator takes the fakes for real. Scalar."""
    return _over_scales(GAN_MODES[mode].generator, fake)


def _over_scales(loss: Callable[[Tensor], Tensor], features: Features) -> Tensor:
    return torch.stack([loss(scale[-1]) for scale in features]).mean()


def feature_matching(fake: Features, real: Features) -> Tensor:
    """L1 between the hidden layers on fake and real images, summed over layers, averaged over scales (weight 10 in the paper).

    Reals are targets only: no gradient flows into them. Scalar.
    """
    per_scale = [sum_l1(fakes[:-1], reals[:-1]) for fakes, reals in zip(fake, real)]
    return torch.stack(per_scale).mean()


def sum_l1(features: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Σ over layers of the mean absolute difference to the detached target. Scalar."""
    return torch.stack([F.l1_loss(feature, target.detach()) for feature, target in zip(features, targets)]).sum()


def kl_divergence(mu: Tensor, logvar: Tensor, reduction: str = "sum") -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) of styles (N, z_dim), summed over dimensions and, as published (weight 0.05), over images.

    reduction: sum, or mean: over images, which does not change with the batch size.
    """
    per_image = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1)
    return {"sum": per_image.sum, "mean": per_image.mean}[reduction]()
