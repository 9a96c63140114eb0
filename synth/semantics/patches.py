"""The convolution of a one-hot map, exact, without the one-hot map.

Over a one-hot map a convolution only adds columns of its kernel: out(p) = Σ_tap W[:, id(p + tap), tap]. Equal patches of the label map
give equal outputs, and in real maps few patches differ. So the sum is taken once for every distinct patch, and pixels look theirs up:
two products of very sparse matrices (`synth.kernels.bags`) with the kernel's rows. No tensor has pixels × classes elements.

Letters: N images, P output pixels of the batch, T taps of the kernel, K ids, U distinct patches, O channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.kernels import places_of
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

    members: (U, T) int64 ids of every distinct patch; `num_ids` stands for outside of the map. num_inside: how many are inside.
    of_pixel: the bags (P × U) that look up each output pixel's patch. size: (height, width) of the output.
    geometry: that of the windows.
    """

    members: Tensor
    num_inside: int
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
        """What two such kernels see one after the other: the patches of patches. See `find_wider`."""
        return distinct_patches(self.ids, len(self.members), self.geometry)

    @cached_property
    def _inside(self) -> Tensor:
        """(num_inside,) int64: which members are inside of the map, in the order of their memory."""
        return places_of((self.members < self.num_ids).flatten(), self.num_inside)

    @cached_property
    def taps(self) -> Bags:
        """(U × K·T): the kernel rows, id · T + tap, that a patch adds up. What is outside of the map adds nothing."""
        inside = self.members < self.num_ids
        rows = self.members * self.members.shape[1] + torch.arange(self.members.shape[1], device=self.members.device)
        return Bags(rows.flatten()[self._inside], _first_entries(inside), self.num_ids * self.members.shape[1])

    @cached_property
    def windows(self) -> Bags:
        """(U·T × K): the id at each place of each patch; an empty bag outside of the map."""
        inside = self.members.flatten() < self.num_ids
        return Bags(self.members.flatten()[self._inside], inside.cumsum(0) - inside.long(), self.num_ids)

    @cached_property
    def means(self) -> Bags:
        """(U × K): the average over a patch; what is outside of the map does not count."""
        inside = self.members < self.num_ids
        share = inside / inside.sum(1, keepdim=True)
        members, shares = (values.flatten()[self._inside] for values in (self.members, share))
        return Bags(members, _first_entries(inside), self.num_ids, weights=shares)


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
    (patches,) = patches_of_maps([(ids, num_ids, geometry)])
    return patches


def patches_of_maps(maps: Sequence[tuple[Tensor, int, Geometry]]) -> list[Patches]:
    """`distinct_patches` of several maps. How many there are only the device knows, and a GPU has to be waited for: here once for all."""
    sorted_windows = [_sorted_windows(*given) for given in maps]
    numbers = torch.stack([windows.numbers for windows in sorted_windows]).tolist() if maps else []
    return [_patches(windows, *counts) for windows, counts in zip(sorted_windows, numbers)]


def find_wider(found: Iterable[Patches]) -> None:
    """Find `wider` of all these patches together."""
    missing = [patches for patches in found if "wider" not in vars(patches)]
    wider = patches_of_maps([(patches.ids, len(patches.members), patches.geometry) for patches in missing])
    for patches, value in zip(missing, wider):
        vars(patches)["wider"] = value  # where the cached property looks


class _SortedWindows(NamedTuple):
    """padded: (N, ·, ·) the map and what is around it. order: (P,) output pixels sorted by their patch, patch: (P,) the numbers of those.

    numbers: (2,) int64, distinct patches, and how many of their members are inside of the map. size: (height, width) of the output.
    """

    padded: Tensor
    order: Tensor
    patch: Tensor
    numbers: Tensor
    num_ids: int
    size: Pair
    geometry: Geometry


def _sorted_windows(ids: Tensor, num_ids: int, geometry: Geometry) -> _SortedWindows:
    kernel, stride, padding = geometry
    # an id of its own, and not that of a class: outside of the map a convolution sees zeros
    padded = F.pad(ids, (padding[1], padding[1], padding[0], padding[0]), value=num_ids)
    height, width = ((padded.shape[1 + axis] - kernel[axis]) // stride[axis] + 1 for axis in (0, 1))
    # patches are numbered as their codes are sorted, so `order` also sorts the pixels by patch, which the bags need
    order, patch = _numbered(_codes(padded, num_ids + 1, geometry, (height, width)))
    rows, columns = (_places_inside(ids, axis, count, geometry) for axis, count in ((0, height), (1, width)))
    inside = (rows[:, None] * columns).flatten()[order % (height * width)]
    is_first = F.pad(patch[1:] != patch[:-1], (1, 0), value=True)
    numbers = torch.stack([patch[-1] + 1, (inside * is_first).sum()])
    return _SortedWindows(padded, order, patch, numbers, num_ids, (height, width), geometry)


def _places_inside(ids: Tensor, axis: int, count: int, geometry: Geometry) -> Tensor:
    """(count,): how many places of each window along an axis are inside of the map."""
    starts = torch.arange(count, device=ids.device) * geometry.stride[axis] - geometry.padding[axis]
    places = starts[:, None] + torch.arange(geometry.kernel[axis], device=ids.device)
    return ((places >= 0) & (places < ids.shape[1 + axis])).sum(1)


def _patches(windows: _SortedWindows, num_patches: int, num_inside: int) -> Patches:
    (height, width), order, (kernel, stride, _) = windows.size, windows.order, windows.geometry
    device = order.device
    patch_of_pixel = torch.empty_like(order).scatter_(0, order, windows.patch)
    starts = torch.searchsorted(windows.patch, torch.arange(num_patches, device=device))
    examples = order[starts, None]  # (U, 1) one pixel of each patch
    image, y, x = examples // (height * width), examples // width % height, examples % width
    taps = torch.arange(kernel[0] * kernel[1], device=device)
    members = windows.padded[image, y * stride[0] + taps // kernel[1], x * stride[1] + taps % kernel[1]]
    of_pixel = Bags(patch_of_pixel, torch.arange(len(order), device=device), num_patches, order=order, starts=starts)
    return Patches(members, num_inside, windows.num_ids, of_pixel, windows.size, windows.geometry)


def distinct_values(values: Tensor) -> tuple[Tensor, Tensor]:
    """`values.unique(return_inverse=True)`, for which a GPU is waited for once."""
    order, number = _numbered(values)
    starts = torch.searchsorted(number, torch.arange(int(number[-1]) + 1, device=number.device))
    return values.flatten()[order[starts]], torch.empty_like(order).scatter_(0, order, number).view_as(values)


def _numbered(values: Tensor) -> tuple[Tensor, Tensor]:
    """Places (P,) of the values, sorted by them, and which distinct value stands at each of those, counted from 0."""
    in_order, order = values.flatten().sort(stable=True)
    return order, F.pad((in_order[1:] != in_order[:-1]).cumsum(0), (1, 0))


def _codes(padded: Tensor, base: int, geometry: Geometry, size: Pair) -> Tensor:
    """(N, height, width): one number per window, equal exactly where the windows are: their ids as digits to `base`.

    The rows of a window get theirs first, and then the window of its rows.
    """
    (height, width), (kernel, stride, _) = size, geometry
    rows, bound = _joined((padded[:, :, j :: stride[1]][:, :, :width] for j in range(kernel[1])), base)
    if bound ** kernel[0] > 2**62:
        rows, bound = _ranks(rows), rows.numel()
    return _joined((rows[:, i :: stride[0]][:, :height] for i in range(kernel[0])), bound)[0]


def _joined(views: Iterator[Tensor], base: int) -> tuple[Tensor, int]:
    """Numbers with the views as digits to `base`, and a bound of them. Before 64 bits overflow, those so far become their ranks."""
    codes, bound = next(views), base
    for view in views:
        if bound > 2**62 // base:
            codes, bound = _ranks(codes), codes.numel()
        codes, bound = codes * base + view, bound * base
    return codes, bound


def _ranks(codes: Tensor) -> Tensor:
    """Numbers below that of the codes, in the same order and equal where they are."""
    order, number = _numbered(codes)
    return torch.empty_like(order).scatter_(0, order, number).view_as(codes)


def _first_entries(used: Tensor) -> Tensor:
    """(U, T) bool -> (U,): where each row's entries start when the used ones are listed."""
    counts = used.sum(1)
    return counts.cumsum(0) - counts
