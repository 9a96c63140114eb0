"""Sparse matrices as *bags*: the rows that each output adds up, for `F.embedding_bag`.

The gradient of such a sum is again a sum over bags, those of the transposed matrix: nothing is scattered, and the result is deterministic.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SEGMENT = 256
"""Longest stretch of a transposed bag that is summed in one go: one class may fill the picture, and then this keeps all threads busy
and the rounding small."""


class TransposedBags(NamedTuple):
    """For every row the bags that use it, in two levels: rows of segments, segments of entries."""

    bags: Tensor  # (entries,)
    weights: Tensor | None  # (entries,)
    segments: Tensor  # (segments,) first entry of each segment, ascending; some may be empty
    rows: Tensor  # (num_rows,) first segment of each row
    rows_are_segments: bool  # every row has exactly one segment


@dataclass(frozen=True, eq=False)
class Bags:
    """A sparse matrix (bags × rows).

    indices: (entries,) int64 row of each entry, bag after bag. offsets: (bags,) int64 first entry of each bag.
    weights: (entries,) float, or None: all 1. order: (entries,) entries sorted by row, starts: (num_rows,) where each row's begin in it,
    if that is known already. most_per_row: entries of any row, if that is known.
    """

    indices: Tensor
    offsets: Tensor
    num_rows: int
    weights: Tensor | None = None
    order: Tensor | None = None
    starts: Tensor | None = None
    most_per_row: int | None = None

    @cached_property
    def transposed(self) -> TransposedBags:
        """Computed at the first backward, then shared by every layer that uses these bags. Nothing here asks a GPU for a number."""
        num_entries = len(self.indices)
        lengths = self.offsets.diff(append=self.offsets.new_full((1,), num_entries))
        bag_of_entry = torch.repeat_interleave(lengths, output_size=num_entries)
        order = self.indices.argsort(stable=True) if self.order is None else self.order
        weights = None if self.weights is None else self.weights[order]
        numbers = torch.arange(self.num_rows, device=order.device)
        starts = torch.searchsorted(self.indices[order], numbers) if self.starts is None else self.starts
        longest = num_entries if self.most_per_row is None else self.most_per_row
        if longest <= SEGMENT:
            return TransposedBags(bag_of_entry[order], weights, starts, numbers, True)
        # where a mark and a row begin at one place, the first of the two segments is empty, as all are of rows without entries
        segments = torch.cat([starts, torch.arange(SEGMENT, num_entries, SEGMENT, device=order.device)]).sort().values
        return TransposedBags(bag_of_entry[order], weights, segments, torch.searchsorted(segments, starts), False)


def one_each(count: int, device: torch.device) -> Bags:
    """The unit matrix."""
    numbers = torch.arange(count, device=device)
    return Bags(numbers, numbers, count, order=numbers, starts=numbers, most_per_row=1)


def torch_bag_sums(
    rows: Tensor, indices: Tensor | None, offsets: Tensor, weights: Tensor | None, dtype: torch.dtype | None = None
) -> Tensor:
    """The sum of the rows of each bag, (B, O), in plain torch and in the type of the rows.

    rows: (R, O). indices: (E,) int64 row of each entry, bag after bag; None: every row once, in order. offsets: (B,) int64 first entry of
    each bag. weights: (E,), or None: all 1. dtype: of the result; None: that of the rows.
    """
    # embedding_bag wants one type for both
    weights = None if weights is None else weights.to(rows.dtype)
    indices = torch.arange(len(rows), device=rows.device) if indices is None else indices
    return F.embedding_bag(indices, rows, offsets, mode="sum", per_sample_weights=weights).to(dtype or rows.dtype)
