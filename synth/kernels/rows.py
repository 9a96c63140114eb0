"""Sums of rows over bags, differentiable, and what a semantic map makes of them: scale and shift, a row per distinct patch.

Letters: N images, P pixels of the batch, C channels, U rows, O channels of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shared.kernels import kernels_missing, outside_graphs
from synth.kernels.bags import Bags, torch_bag_sums

Pair = tuple[int, int]


class _SumRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, bags: Bags) -> Tensor:
        ctx.bags = bags
        return _bag_sums(rows, bags.indices, bags.offsets, bags.weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return sum_partial_sums(sum_segments(gradient.contiguous(), ctx.bags), ctx.bags).to(gradient.dtype), None


def sum_segments(per_bag: Tensor, bags: Bags) -> Tensor:
    """(bags, O) -> (segments, O): sums over the segments of the transposed bags, float32 for half precision."""
    lists = bags.transposed
    return _bag_sums(per_bag, lists.bags, lists.segments, lists.weights, torch.promote_types(per_bag.dtype, torch.float32))


def sum_partial_sums(partial: Tensor, bags: Bags) -> Tensor:
    """(segments, O) -> (num_rows, O): the segments of each row of the transposed bags."""
    if bags.transposed.rows_are_segments:
        return partial
    return _bag_sums(partial, None, bags.transposed.rows, None)


def _bag_sums(rows: Tensor, indices: Tensor | None, offsets: Tensor, weights: Tensor | None, dtype: torch.dtype | None = None) -> Tensor:
    """The sum of the rows of each bag; without indices the bags share out the rows in their order. dtype: of the sums; None: the rows'."""
    return bag_sums_for(rows)(rows, indices, offsets, weights, dtype)


def bag_sums_for(rows: Tensor) -> Callable[..., Tensor]:
    """The fastest there is for these rows: on CUDA Triton's kernel, once it has agreed with plain torch on the device."""
    if rows.device.type == "cuda" and not kernels_missing("synth.kernels.triton_bags", rows.device):
        from synth.kernels.triton_bags import DTYPES, bags_agree, triton_bag_sums

        if rows.dtype in DTYPES and bags_agree(rows.device, rows.dtype):
            return triton_bag_sums
    return torch_bag_sums


@outside_graphs
def sum_rows(rows: Tensor, bags: Bags) -> Tensor:
    """The product bags · rows: (num_rows, O) -> (bags, O), differentiable in `rows`."""
    return _SumRows.apply(rows, bags)


class Maps(NamedTuple):
    """Scale and shift of every pixel, (N, C, h, w) each."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Scale and shift of every distinct patch.

    rows: (U, 2·C), scale and then shift. of_pixel: the bags (P × U) that look up each pixel's row, images one after the other.
    """

    rows: Tensor
    of_pixel: Bags

    def maps(self, images: int, size: Pair) -> Maps:
        """Every pixel's, for so many images of (height, width)."""
        maps = sum_rows(self.rows, self.of_pixel).view(images, *size, -1).permute(0, 3, 1, 2)
        return Maps(*maps.chunk(2, dim=1))
