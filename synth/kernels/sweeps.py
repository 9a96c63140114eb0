"""What the modulation does to all pixels: the interface, and plain torch for any device and precision, the compiled ones' reference."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from synth.kernels.bags import Bags
from synth.kernels.rows import sum_segments


class Sweeps(Protocol):
    """What goes over all pixels. x, y, d: (P, C) features, results and gradients of results. a, b: (C,), x̂ = a·x + b.

    rows: (U, 2·C). index: (P,) row of each pixel. slope: of negative results, above 0.
    """

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and (biased) variance of each channel, (C,) float32 each."""

    def apply(self, x: Tensor, a: Tensor, b: Tensor, rows: Tensor, index: Tensor, slope: float) -> Tensor:
        """(P, C): the result."""

    def row_gradients(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, of_pixel: Bags) -> Tensor:
        """(segments, 2·C): sums over the segments of the transposed bags of what the pixels add to the gradient of their rows."""

    def input_gradient(
        self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, rows: Tensor, index: Tensor, means: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(P, C): ∂x with `means` = m₁, m₂, (C,) each."""


class TorchSweeps:
    """`synth.kernels.sweeps.Sweeps`. Maps of scale and shift exist while a sweep lasts."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Sweeps`."""
        variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), 0, correction=0)
        return mean, variance

    def apply(self, x: Tensor, a: Tensor, b: Tensor, rows: Tensor, index: Tensor, slope: float) -> Tensor:
        """See `Sweeps`."""
        scale, shift = rows.index_select(0, index).chunk(2, dim=1)
        return F.leaky_relu(((x * a + b) * scale).add_(shift), slope).to(x.dtype)

    def row_gradients(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, of_pixel: Bags) -> Tensor:
        """See `Sweeps`."""
        before = _before_activation(d, y, slope).to(a.dtype)
        return sum_segments(torch.cat([before * (x * a + b), before], 1), of_pixel)

    def input_gradient(
        self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, rows: Tensor, index: Tensor, means: tuple[Tensor, Tensor]
    ) -> Tensor:
        """See `Sweeps`."""
        # the shift has no part in the gradient of x
        scale = rows[:, : x.shape[1]].index_select(0, index)
        gradient = _before_activation(d, y, slope) * scale - means[0] - (x * a + b) * means[1]
        return (gradient * a).to(x.dtype)


def _before_activation(d: Tensor, y: Tensor, slope: float) -> Tensor:
    return d if slope == 1 else torch.where(y > 0, d, d * slope)
