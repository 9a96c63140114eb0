"""SPADE's last step in one operation: normalise, scale by 1 + γ, shift by β, LeakyReLU (Park et al., 2019, Eq. 1).

Scale and shift are *rows*, one for every distinct patch of the semantics, and a pixel looks its row up where it is used: the maps of scale
and shift, the normalised features and their gradients never exist. What is kept for the backward pass is the input and the output.

With d = ∂loss/∂(scaled and shifted), x̂ = (x − μ)/σ and row r(p) of pixel p:

    ∂shift_r = Σ_p∈r d,   ∂scale_r = Σ_p∈r d·x̂,   ∂x = (d·scale − m₁ − x̂·m₂) / σ

Batch statistics take part in the last one with m₁ = mean over pixels of d·scale and m₂ = mean of d·scale·x̂. Both follow from the rows
alone: P·m₁ = Σ_r scale_r·∂shift_r and P·m₂ = Σ_r scale_r·∂scale_r. So two sweeps over the pixels are enough. Where the statistics are those
of several processes, P is their pixels together, and these two sums are added up over them.

Letters: N images, P pixels of the batch, C channels, U rows.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from shared.distributed import sum_over_processes, world_size
from shared.errors import InputError
from shared.joint_norm import JointBatchNorm, Moments, joint_moments
from shared.kernels import kernels_missing, outside_graphs
from synth.kernels.bags import Bags
from synth.kernels.rows import Maps, Rows, sum_partial_sums
from synth.kernels.sweeps import Sweeps, TorchSweeps


@outside_graphs
def modulate(x: Tensor, norm: nn.Module, modulation: Maps | Rows, slope: float = 1.0) -> Tensor:
    """Normalise, scale, shift and activate.

    x: (N, C, h, w). norm: without parameters. slope: of the LeakyReLU; 1: none. Returns x's shape.
    """
    if isinstance(modulation, Maps):
        result = (norm(x) * modulation.scale).add_(modulation.shift)
        return result if slope == 1 else F.leaky_relu(result, slope, inplace=True)
    if not _has_batch_statistics(norm):
        x, norm = norm(x), nn.Identity()
        if x.requires_grad:
            x.register_hook(Tensor.contiguous)  # torch's InstanceNorm2d takes a channels-last gradient of a single image for another one
    return _Modulate.apply(x, modulation.rows, modulation.of_pixel, norm, slope)


def _has_batch_statistics(norm: nn.Module) -> bool:
    # without a momentum torch averages over all batches so far: that is left to its own module
    return isinstance(norm, (nn.BatchNorm2d, JointBatchNorm)) and norm.momentum is not None and norm.track_running_stats


class _Modulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, of_pixel: Bags, norm: nn.Module, slope: float) -> Tensor:
        sweeps = sweeps_for(x, rows)
        pixels, rows = _as_pixels(x), rows.detach()
        a, b, count = _normalisation(pixels, norm, sweeps)
        y = sweeps.apply(pixels, a, b, rows, of_pixel.indices, slope)
        ctx.of_pixel, ctx.slope, ctx.sweeps, ctx.size = of_pixel, slope, sweeps, x.shape
        ctx.over_batch, ctx.joint, ctx.count = isinstance(norm, _BatchNorm) and norm.training, isinstance(norm, JointBatchNorm), count
        # y tells the sign before the activation, as the slope is above 0: nothing else need be kept for it
        ctx.save_for_backward(pixels, a, b, rows, y)
        return _as_map(y, x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, a, b, rows, y = ctx.saved_tensors
        d, channels = _as_pixels(gradient), x.shape[1]
        means = x.new_zeros(channels, dtype=a.dtype), x.new_zeros(channels, dtype=a.dtype)
        row_gradient = None
        # batch statistics need it even where the rows do not: m₁ and m₂ follow from it
        if ctx.needs_input_grad[1] or ctx.over_batch:
            partial = ctx.sweeps.row_gradients(x, a, b, y, d, ctx.slope, ctx.of_pixel)
            row_gradient = sum_partial_sums(partial, ctx.of_pixel)
        if not ctx.needs_input_grad[0]:
            return None, row_gradient, None, None, None
        if ctx.over_batch:
            assert row_gradient is not None
            scale = rows[:, :channels].to(a.dtype)
            of_scale, of_shift = row_gradient[:, :channels], row_gradient[:, channels:]
            sums = torch.stack([(scale * of_shift).sum(0), (scale * of_scale).sum(0)])
            first, second = (sum_over_processes(sums) if ctx.joint else sums) / ctx.count
            means = first, second
        input_gradient = ctx.sweeps.input_gradient(x, a, b, y, d, ctx.slope, rows, ctx.of_pixel.indices, means)
        row_gradient = None if row_gradient is None else row_gradient.to(rows.dtype)
        return _as_map(input_gradient, ctx.size), row_gradient, None, None, None


def _normalisation(pixels: Tensor, norm: nn.Module, sweeps: Sweeps) -> tuple[Tensor, Tensor, Tensor | int]:
    """a, b (C,) of x̂ = a·x + b, for a batch normalisation, whose running statistics advance as they do in torch, or for the identity; and
    the number of pixels that its means are over."""
    dtype = torch.promote_types(pixels.dtype, torch.float32)
    count: Tensor | int = len(pixels)
    if not isinstance(norm, _BatchNorm):
        return pixels.new_ones(pixels.shape[1], dtype=dtype), pixels.new_zeros(pixels.shape[1], dtype=dtype), count
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        assert norm.momentum is not None
        joint = isinstance(norm, JointBatchNorm)
        if count == 1 and not (joint and world_size() > 1):
            raise InputError("batch statistics need more than one pixel, and the smallest features have one; use larger batches or images")
        mean, variance = sweeps.moments(pixels)
        if joint:
            mean, variance, count = joint_moments(Moments(mean, variance, count))
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        # unbiased, as in torch, though the batch itself is normalised with the biased one
        norm.running_var.lerp_(variance.to(norm.running_var.dtype) * (count / (count - 1)), norm.momentum)
    a = (variance.to(dtype) + norm.eps).rsqrt()
    return a, -mean.to(dtype) * a, count


def _as_pixels(maps: Tensor) -> Tensor:
    """(N, C, h, w) -> (P, C), without a copy where the memory is channels-last."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).contiguous()


def _as_map(pixels: Tensor, size: torch.Size) -> Tensor:
    """(P, C) -> (N, C, h, w) in channels-last memory."""
    return pixels.view(size[0], *size[2:], size[1]).permute(0, 3, 1, 2)


def sweeps_for(x: Tensor, rows: Tensor) -> Sweeps:
    """The fastest there is for these tensors."""
    if x.device.type == "cpu" and x.dtype == rows.dtype == torch.float32 and not numba_obstacle():
        from synth.kernels.numba_sweeps import NumbaSweeps

        return NumbaSweeps()
    if x.device.type == "cuda" and not kernels_missing("synth.kernels.triton_sweeps", x.device):
        from synth.kernels.triton_bags import DTYPES
        from synth.kernels.triton_sweeps import TritonSweeps, modulation_agrees

        if x.dtype in DTYPES and rows.dtype in DTYPES and modulation_agrees(x.device, x.dtype, rows.dtype):
            return TritonSweeps()
    return TorchSweeps()


@cache
def numba_obstacle() -> str:
    """Why the compiled kernels cannot be loaded; empty where they can."""
    try:
        import synth.kernels.numba_sweeps  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""
