"""The semantic map of a batch at one size, known only by what a convolution makes of it.

A `Layout` answers `convolve(conv)`; whether the map ever exists is its own affair. `GatheredLayout` keeps ids and adds kernel rows;
`DenseLayout` keeps the map and is the reference, and the way in for soft maps. A `SemanticPyramid` keeps the layouts of a batch by
size, so that all layers of a resolution, both networks and both passes of a step share one set of indices.

Letters: N images, S width of the semantics, K ids of a layout, T taps and O output channels of a kernel.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synth.kernels.bags import Bags, one_each
from synth.kernels.rows import Maps, Pair, Rows, sum_rows
from synth.semantics.patches import (
    Geometry,
    Patches,
    convolve_features,
    convolve_ids,
    distinct_values,
    find_wider,
    patches_of_maps,
    to_pixels,
)

KernelRows = Callable[[Tensor], Tensor]
"""(O, S, kh, kw) -> (K, T·O): what the taps of a kernel answer to each of the K ids of a layout."""


MOSTLY_DISTINCT = 0.7
"""Share of distinct patches per pixel above which a convolution of the whole map is faster than one per patch (docs/performance.md)."""


class Layout(ABC):
    """A semantic map of N images, `width` channels and `size` (height, width)."""

    batch_size: int
    width: int
    size: Pair

    @abstractmethod
    def convolve(self, conv: nn.Conv2d) -> Tensor:
        """Convolve the semantic map with the first `width` input channels of `conv`, bias included: (N, O, height, width).

        Further input channels of `conv` are the caller's to add: the discriminator's first kernel also reads the image.
        """

    @abstractmethod
    def modulation(self, first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> Maps | Rows:
        """Scale and shift: `first`, ReLU, then a second convolution of the same geometry, which keeps the size.

        kernel: (2·O, first.out_channels, kh, kw), of the O channels of the scale and then of the shift. bias: (2·O,).
        """

    @abstractmethod
    def resized(self, height: int, width: int) -> "Layout":
        """The map resized as `F.interpolate(mode="nearest")` does."""

    @abstractmethod
    def pooled(self) -> "Layout":
        """The map after 3×3 average pooling with stride 2 and padding 1 that is not counted."""


class SemanticPyramid:
    """The layouts of one batch at every size that was asked for.

    classes: (N, H, W) int64, what stands at every pixel; None where the semantics are not of a label map.
    """

    def __init__(self, full_size: Layout, classes: Tensor | None = None) -> None:
        self.classes = classes
        self.size, self.batch_size = full_size.size, full_size.batch_size
        self._resized: dict[Pair, Layout] = {full_size.size: full_size}
        self._pooled = [full_size]

    def at(self, height: int, width: int) -> Layout:
        """The semantics resized (nearest) to height × width pixels."""
        if (height, width) not in self._resized:
            self._resized[height, width] = self._pooled[0].resized(height, width)
        return self._resized[height, width]

    def prepare(self, sizes: Sequence[Pair], conv: nn.Conv2d) -> None:
        """Find what `modulation` by a convolution such as `conv` needs at these sizes, for all of them together: a GPU is asked for the
        numbers of patches twice, and not twice at every size."""
        if isinstance(self._pooled[0], GatheredLayout):
            layouts = [layout for layout in (self.at(*size) for size in sizes) if isinstance(layout, GatheredLayout)]
            find_wider(patches_of_layouts(layouts, _geometry(conv)))

    def pooled(self, times: int) -> Layout:
        """The full-size semantics after `times` average poolings, each halving the size: what the discriminator's lower scales see."""
        while len(self._pooled) <= times:
            self._pooled.append(self._pooled[-1].pooled())
        return self._pooled[times]


class DenseLayout(Layout):
    """The semantic map as a tensor (N, S, height, width). Memory grows with pixels × S."""

    def __init__(self, semantic_map: Tensor) -> None:
        self.semantic_map = semantic_map
        self.batch_size, self.width, height, width = semantic_map.shape
        self.size = (height, width)

    def convolve(self, conv: nn.Conv2d) -> Tensor:
        return F.conv2d(self.semantic_map, conv.weight[:, : self.width], conv.bias, conv.stride, numeric_padding(conv))

    def with_vectors(self, vectors: Tensor, owner: Tensor) -> "DenseLayout":
        """The map with further channels: at every pixel one of a few vectors.

        vectors: (M, Z). owner: (N, height, width) int64 in [0, M).
        """
        return DenseLayout(torch.cat([self.semantic_map, vectors[owner].permute(0, 3, 1, 2)], 1))

    def modulation(self, first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> Maps:
        return Maps(*convolve_twice(self, first, kernel, bias).chunk(2, dim=1))

    def resized(self, height: int, width: int) -> "DenseLayout":
        return DenseLayout(F.interpolate(self.semantic_map, (height, width), mode="nearest"))

    def pooled(self) -> "DenseLayout":
        return DenseLayout(F.avg_pool2d(self.semantic_map, 3, stride=2, padding=1, count_include_pad=False))


class GatheredLayout(Layout):
    """An id per pixel; the semantic map itself never exists.

    ids: (N, height, width) int64 in [0, num_ids). width: S.
    kernel_rows: what a kernel answers to each id; here, and only here, one-hot, embedding tables and pooled semantics differ.
    """

    def __init__(self, ids: Tensor, num_ids: int, width: int, kernel_rows: KernelRows) -> None:
        self.ids, self.num_ids, self.width, self.kernel_rows = ids, num_ids, width, kernel_rows
        self.batch_size, self.size = len(ids), (ids.shape[1], ids.shape[2])
        self.known_patches: dict[Geometry, Patches] = {}

    def convolve(self, conv: nn.Conv2d) -> Tensor:
        return to_pixels(self._of_patches(conv), self._patches_of(_geometry(conv)))

    def modulation(self, first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> Rows:
        """Exact, but computed once for every distinct patch that both kernels see together, unless patches hardly repeat."""
        # a patch of patches, as scale and shift see the hidden layer through a second kernel
        patches = self._patches_of(_geometry(first)).wider
        if len(patches.members) <= MOSTLY_DISTINCT * len(patches.of_pixel.indices):
            return Rows(convolve_features(F.relu(self._of_patches(first)), kernel, bias, patches), patches.of_pixel)
        maps = convolve_twice(self, first, kernel, bias)
        return Rows(maps.permute(0, 2, 3, 1).reshape(-1, len(bias)).contiguous(), self._pixel_by_pixel)

    @cached_property
    def _pixel_by_pixel(self) -> Bags:
        return one_each(self.ids.numel(), self.ids.device)

    def _of_patches(self, conv: nn.Conv2d) -> Tensor:
        """(U, O): the convolution at each distinct patch."""
        rows = self.kernel_rows(conv.weight[:, : self.width]).view(-1, conv.out_channels)
        return convolve_ids(rows, conv.bias, self._patches_of(_geometry(conv)))

    def with_vectors(self, vectors: Tensor, owner: Tensor) -> "GatheredLayout":
        """See `DenseLayout`. Pairs of an id and a vector become the ids; a kernel answers to a pair with the sum of its answers to both."""
        # only pairs that occur: all of them would be as many as vectors times ids
        pairs, ids = distinct_values(owner * self.num_ids + self.ids)
        ids_of_pairs, chosen = pairs % self.num_ids, vectors[pairs // self.num_ids]

        def kernel_rows(kernel: Tensor) -> Tensor:
            of_noise = chosen @ kernel[:, self.width :].permute(1, 2, 3, 0).flatten(1)
            return self.kernel_rows(kernel[:, : self.width])[ids_of_pairs] + of_noise

        return GatheredLayout(ids, len(pairs), self.width + vectors.shape[1], kernel_rows)

    def resized(self, height: int, width: int) -> "GatheredLayout":
        ids = F.interpolate(self.ids[:, None].float(), (height, width), mode="nearest")  # float32 holds every id below 2**24
        return GatheredLayout(ids[:, 0].long(), self.num_ids, self.width, self.kernel_rows)

    def pooled(self) -> "GatheredLayout":
        """The distinct 3×3 patches become the ids; a kernel answers to a patch with the mean of its answers to the members."""
        patches = self._patches_of(Geometry((3, 3), (2, 2), (1, 1)))

        def kernel_rows(kernel: Tensor) -> Tensor:
            return sum_rows(self.kernel_rows(kernel), patches.means)

        return GatheredLayout(patches.ids, len(patches.members), self.width, kernel_rows)

    def _patches_of(self, geometry: Geometry) -> Patches:
        (patches,) = patches_of_layouts([self], geometry)
        return patches


def patches_of_layouts(layouts: Sequence[GatheredLayout], geometry: Geometry) -> list[Patches]:
    """Those of each, found together where they are not known yet."""
    missing = [layout for layout in layouts if geometry not in layout.known_patches]
    found = patches_of_maps([(layout.ids, layout.num_ids, geometry) for layout in missing])
    for layout, patches in zip(missing, found):
        layout.known_patches[geometry] = patches
    return [layout.known_patches[geometry] for layout in layouts]


def convolve_twice(layout: Layout, first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> Tensor:
    """(N, 2·O, height, width) without regard to what repeats."""
    return F.conv2d(F.relu(layout.convolve(first)), kernel, bias, padding=numeric_padding(first))


def _geometry(conv: nn.Conv2d) -> Geometry:
    return Geometry((conv.kernel_size[0], conv.kernel_size[1]), (conv.stride[0], conv.stride[1]), numeric_padding(conv))


def numeric_padding(conv: nn.Conv2d) -> Pair:
    """The padding of a plain convolution. Raises ValueError for others."""
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    if not plain:
        raise ValueError(f"semantics need a plain convolution: one group, no dilation, numeric zero padding; got {conv}")
    return conv.padding[0], conv.padding[1]  # type: ignore[return-value]
