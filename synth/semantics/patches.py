"""The convolution of a one-hot map, exact, without the one-hot map.

Over a one-hot map a convolution only adds columns of its kernel: out(p) = Σ_tap W[:, id(p + tap), tap]. Equal patches of the label map
give equal outputs, and in real maps few patches differ. So the sum is taken once for every distinct patch, and pixels look theirs up:
two products of very sparse matrices (`synth.kernels.bags`) with the kernel's rows. No tensor has pixels × classes elements.

Letters: N images, P output pixels of the batch, T taps of the kernel, K ids, U distinct patches, O channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from synth.kernels.bags import Bags
from synth.kernels.rows import Pair, sum_rows


class Geometry(NamedTuple):
    """How a window moves over a map; every pair is (vertical, horizontal)."""

    kernel: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True, eq=False)
class Patches:
    """The windows that a kernel sees on an id map.

    members: (U, T) int64 ids of every distinct patch; `num_ids` stands for outside of the map.
    of_pixel: the bags (P × U) that look up each output pixel's patch. size: (height, width) of the output.
    geometry: that of the windows.
    """

    members: Tensor
    num_ids: int
    of_pixel: Bags
    size: Pair
    geometry: Geometry

    @property
    def ids(self) -> Tensor:
        """(N, height, width): the number of each output pixel's patch."""
        return self.of_pixel.indices.view(-1, *self.size)

    @cached_property
    def wider(self) -> "Patches":
        """What two such kernels see one after the other: the patches of patches."""
        return distinct_patches(self.ids, len(self.members), self.geometry)

    @cached_property
    def taps(self) -> Bags:
        """(U × K·T): the kernel rows, id · T + tap, that a patch adds up. What is outside of the map adds nothing."""
        inside = self.members < self.num_ids
        rows = self.members * self.members.shape[1] + torch.arange(self.members.shape[1], device=self.members.device)
        return Bags(rows[inside], _first_entries(inside), self.num_ids * self.members.shape[1])

    @cached_property
    def windows(self) -> Bags:
        """(U·T × K): the id at each place of each patch; an empty bag outside of the map."""
        inside = self.members.flatten() < self.num_ids
        return Bags(self.members.flatten()[inside], inside.cumsum(0) - inside.long(), self.num_ids)

    @cached_property
    def means(self) -> Bags:
        """(U × K): the average over a patch; what is outside of the map does not count."""
        inside = self.members < self.num_ids
        share = inside / inside.sum(1, keepdim=True)
        return Bags(self.members[inside], _first_entries(inside), self.num_ids, weights=share[inside])


def convolve_ids(rows: Tensor, bias: Tensor | None, patches: Patches) -> Tensor:
    """The convolution of a map of ids, for each distinct patch.

    rows: (K·T, O), what the kernel answers to each id at each tap, differentiable. bias: (O,) or None. Returns (U, O).
    """
    sums = sum_rows(rows, patches.taps)
    return sums if bias is None else sums + bias


def convolve_features(features: Tensor, kernel: Tensor, bias: Tensor, patches: Patches) -> Tensor:
    """The convolution of a map whose pixels show one of K feature vectors, for each distinct patch.

    features: (K, I). kernel: (O, I, kh, kw). bias: (O,). Returns (U, O).
    """
    columns = sum_rows(features, patches.windows).view(len(patches.members), -1)  # (U, T·I)
    return torch.addmm(bias, columns, kernel.permute(2, 3, 1, 0).flatten(0, 2))


def to_pixels(of_patch: Tensor, patches: Patches) -> Tensor:
    """(U, O) -> (N, O, height, width) in channels-last memory: every pixel shows its patch."""
    height, width = patches.size
    return sum_rows(of_patch, patches.of_pixel).view(-1, height, width, of_patch.shape[1]).permute(0, 3, 1, 2)


def distinct_patches(ids: Tensor, num_ids: int, geometry: Geometry) -> Patches:
    """Find the distinct windows of a convolution or a pooling.

    ids: (N, h, w) int64 in [0, num_ids).
    """
    kernel, stride, padding = geometry
    # an id of its own, and not that of a class: outside of the map a convolution sees zeros
    padded = F.pad(ids, (padding[1], padding[1], padding[0], padding[0]), value=num_ids)
    height, width = ((padded.shape[1 + axis] - kernel[axis]) // stride[axis] + 1 for axis in (0, 1))
    taps = list(product(range(kernel[0]), range(kernel[1])))
    views = (padded[:, i :: stride[0], j :: stride[1]][:, :height, :width] for i, j in taps)
    # patches are numbered as their codes are sorted, so `order` also sorts the pixels by patch, which the bags need
    sorted_codes, order = _codes(views, num_ids + 1).flatten().sort(stable=True)
    is_first = torch.ones_like(sorted_codes, dtype=torch.bool)
    is_first[1:] = sorted_codes[1:] != sorted_codes[:-1]
    patch_of_pixel = torch.empty_like(order)
    patch_of_pixel[order] = is_first.cumsum(0) - 1

    examples = order[is_first, None]  # (U, 1) one pixel of each patch
    image, y, x = examples // (height * width), examples // width % height, examples % width
    offsets = torch.tensor(taps, device=ids.device)
    members = padded[image, y * stride[0] + offsets[:, 0], x * stride[1] + offsets[:, 1]]
    pixels = torch.arange(len(order), device=ids.device)
    return Patches(members, num_ids, Bags(patch_of_pixel, pixels, len(members), order=order), (height, width), geometry)


def _codes(views: Iterator[Tensor], base: int) -> Tensor:
    """One number per window, equal exactly where the windows are: their ids as digits to `base`.

    Before 64 bits overflow, the numbers so far are replaced by their ranks.
    """
    codes, bound = next(views), base
    for view in views:
        if bound > 2**62 // base:
            distinct, codes = codes.unique(return_inverse=True)
            bound = len(distinct)
        codes, bound = codes * base + view, bound * base
    return codes


def _first_entries(used: Tensor) -> Tensor:
    """(U, T) bool -> (U,): where each row's entries start when the used ones are listed."""
    counts = used.sum(1)
    return counts.cumsum(0) - counts
