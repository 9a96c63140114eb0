"""The SPADE generator (Park et al., 2019, Fig. 4): residual blocks and ×2 upsampling, steered by the semantics at every size.

Module names are those of the published checkpoints.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import InputError, choose
from synth.networks.recomputation import recomputed
from synth.networks.spade import NORMS, SpadeResidualBlock
from synth.networks.spectral import initialise
from synth.published import LabelConvention
from synth.semantics import Semantics
from synth.semantics.layout import SemanticPyramid
from synth.semantics.noise import NOISE_KINDS, Noise, draw_noise

DOUBLINGS = {"normal": 5, "more": 6, "most": 7}
"""How often the first feature map is doubled on the way to the image."""


def published_image_size(crop_size: int, aspect_ratio: float = 1.0, upsampling: str = "normal") -> tuple[int, int]:
    """(height, width) that the published options stand for: `crop_size` is the width, and the *start* size is rounded.

    Raises InputError when they give no image at all, e.g. crop 128, aspect 2 with `most`.
    """
    factor = 2 ** DOUBLINGS[upsampling]
    start_width = crop_size // factor
    # Python's rounding, half to even, as published: 0.5 becomes 0, and is refused below
    start_height = round(start_width / aspect_ratio)
    if start_height < 1 or start_width < 1:
        raise InputError(
            f"crop size {crop_size} with aspect ratio {aspect_ratio} and upsampling {upsampling} starts from {start_height}x{start_width} "
            f"pixels; use a crop size of at least {round(factor * max(1.0, aspect_ratio))}"
        )
    return start_height * factor, start_width * factor


class SpadeGenerator(nn.Module):
    """Images from label maps.

    semantics: what conditions the network; becomes a part of it.
    image_size: (height, width) of the images, both multiples of 32, 64 or 128 for `upsampling` normal, more or most. Without a style
        vector it is only what `forward` makes when it is told no other size: nothing in the weights depends on it.
    width: channels before the image (ngf); the first layers have 16 times as many. hidden: inner width of the SPADE layers.
    norm: batch, sync (over all processes) or instance.
    z_dim: None: the first features are convolved from the semantics and the network is deterministic. A number: they come from a style
        vector z of this length (the decoder of a variational auto-encoder).
    noise_channels: of the noise beside the semantics; 64 in OASIS, 0 for none. noise: image, region or pixel, what shares a vector of it.
    init_gain: deviation of the first weights, in that of Xavier's rule; 0.02 as published.
    Raises InputError for unknown names and for an image size that the doublings cannot reach; it names the nearest ones that they can.
    """

    published_labels = LabelConvention()
    """How a file in the published layout orders the semantic channels; set by loading one."""
    recompute = False
    """Whether the features inside the residual blocks are computed again in the backward pass, in place of being kept."""

    def __init__(
        self,
        semantics: Semantics,
        *,
        image_size: tuple[int, int],
        width: int = 64,
        upsampling: str = "normal",
        norm: str = "batch",
        hidden: int = 128,
        z_dim: int | None = None,
        noise_channels: int = 0,
        noise: str = "image",
        init_gain: float = 0.02,
    ) -> None:
        super().__init__()
        choose("upsampling", upsampling, list(DOUBLINGS))
        choose("norm", norm, list(NORMS))
        choose("noise", noise, list(NOISE_KINDS))
        self.semantics, self.image_size, self.z_dim, self.upsampling = semantics, image_size, z_dim, upsampling
        self.norm, self.size_multiple = norm, 2 ** DOUBLINGS[upsampling]
        self.noise, self.noise_channels = noise, noise_channels
        semantic_width = semantics.width + noise_channels
        start_height, start_width = self.start_size(image_size)
        wide = 16 * width
        self.fc: nn.Conv2d | nn.Linear
        if z_dim is None:
            self.fc = nn.Conv2d(semantic_width, wide, 3, padding=1)
        else:
            # its length fixes the size of the first features, so a generator with style makes one size
            self.fc = nn.Linear(z_dim, wide * start_height * start_width)

        def block(in_channels: int, out_channels: int) -> SpadeResidualBlock:
            return SpadeResidualBlock(in_channels, out_channels, semantic_width, hidden=hidden, norm=norm)

        self.head_0 = block(wide, wide)
        self.G_middle_0 = block(wide, wide)
        self.G_middle_1 = block(wide, wide)
        self.up_0 = block(wide, 8 * width)
        self.up_1 = block(8 * width, 4 * width)
        self.up_2 = block(4 * width, 2 * width)
        self.up_3 = block(2 * width, width)
        if upsampling == "most":
            self.up_4 = block(width, width // 2)
        self.conv_img = nn.Conv2d(width // 2 if upsampling == "most" else width, 3, 3, padding=1)
        # last, as it goes through all layers that are there
        initialise(self, init_gain)

    def start_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the first features of images of this size.

        Raises InputError: not a size that this network can make, which is any with sides that are multiples of `size_multiple`, and with
        a style vector only the size it was built with.
        """
        require_multiples(image_size, self.size_multiple)
        if self.z_dim is not None and tuple(image_size) != tuple(self.image_size):
            raise InputError(
                f"a generator with a style code makes images of the size it was trained for, {in_pixels(self.image_size)} "
                f"(height x width), but {in_pixels(image_size)} was asked for; leave out what changes the size"
            )
        height, width = image_size[0] // self.size_multiple, image_size[1] // self.size_multiple
        if self.norm == "instance" and (height, width) == (1, 1):
            raise InputError("instance normalisation needs first features of more than one pixel; use a larger image or fewer upsamplings")
        return height, width

    def forward(
        self,
        layout: Tensor | SemanticPyramid,
        *,
        z: Tensor | None = None,
        edges: Tensor | None = None,
        noise: Noise | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """layout: label maps (N, H, W) int64, −1 = ignored, of any size: they are resized to each layer's; or the pyramid of them, which a
        training step shares between both networks. edges: (N, H, W) bool, with label maps only. z: (N, z_dim); None draws it from the
        prior. noise: of the layout's own size, for generators with noise; None draws it. size: (height, width) of the images; None:
        `image_size`. Returns (N, 3, height, width) in [−1, 1].
        """
        pyramid = layout if isinstance(layout, SemanticPyramid) else self.semantics.pyramid(layout, edges)
        pyramid = self._with_noise(pyramid, noise)
        start = self.start_size(size or self.image_size)
        self._prepare(pyramid, start)
        x = self._first_features(pyramid, z, start)
        x = self._block(self.head_0, x, pyramid)
        x = self._block(self.G_middle_0, _double(x), pyramid)
        # "more" doubles here, between two blocks of the same width: its weights are those of "normal"
        if self.upsampling != "normal":
            x = _double(x)
        x = self._block(self.G_middle_1, x, pyramid)
        x = self._block(self.up_0, _double(x), pyramid)
        x = self._block(self.up_1, _double(x), pyramid)
        x = self._block(self.up_2, _double(x), pyramid)
        x = self._block(self.up_3, _double(x), pyramid)
        if self.upsampling == "most":
            x = self._block(self.up_4, _double(x), pyramid)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))

    def _prepare(self, pyramid: SemanticPyramid, start: tuple[int, int]) -> None:
        """All sizes of the semantics at once."""
        sizes = [(start[0] << doublings, start[1] << doublings) for doublings in range(DOUBLINGS[self.upsampling] + 1)]
        convolution = self.head_0.norm_0.mlp_shared[0]
        assert isinstance(convolution, nn.Conv2d)
        pyramid.prepare(sizes, convolution)

    def _block(self, block: SpadeResidualBlock, x: Tensor, pyramid: SemanticPyramid) -> Tensor:
        # without gradients nothing is kept anyway, and a second pass would be waste
        kept = not (self.recompute and torch.is_grad_enabled())
        return block(x, pyramid) if kept else recomputed(block, x, pyramid)

    def _with_noise(self, pyramid: SemanticPyramid, noise: Noise | None) -> SemanticPyramid:
        if self.noise_channels == 0:
            if noise is not None:
                raise ValueError("this generator has no noise input: build it with noise_channels to pass noise")
            return pyramid
        if noise is None:
            if pyramid.classes is None:
                raise ValueError("noise cannot be drawn for semantics that are not of a label map; pass it")
            noise = draw_noise(self.noise, self.noise_channels, pyramid.classes)
        return noise.beside(pyramid)

    def _first_features(self, pyramid: SemanticPyramid, z: Tensor | None, size: tuple[int, int]) -> Tensor:
        if isinstance(self.fc, nn.Conv2d):
            if z is not None:
                raise ValueError("this generator has no style input: build it with z_dim to pass z")
            return pyramid.at(*size).convolve(self.fc)
        assert self.z_dim is not None
        expected = (pyramid.batch_size, self.z_dim)
        if z is None:
            z = torch.randn(expected, device=self.fc.weight.device)
        if z.shape != expected:
            raise ValueError(f"z has shape {tuple(z.shape)}, expected (images, z_dim) = {expected}")
        return self.fc(z).unflatten(1, (-1, *size))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def require_multiples(image_size: tuple[int, int], multiple: int) -> None:
    """Raise InputError unless both sides are multiples of `multiple`, at least one; it names the nearest size and both neighbours."""
    wrong = {name: side for name, side in zip(("height", "width"), image_size) if side < 1 or side % multiple}
    if wrong:
        nearest = tuple(max(1, round(side / multiple)) * multiple for side in image_size)
        choices = ", ".join(f"{name} {' or '.join(map(str, _neighbours(side, multiple)))}" for name, side in wrong.items())
        raise InputError(
            f"image size {in_pixels(image_size)} (height x width) cannot be generated: both sides must be multiples of {multiple}; "
            f"nearest: {in_pixels(nearest)} ({choices})"
        )


def _neighbours(side: int, multiple: int) -> list[int]:
    below = side // multiple * multiple
    return [length for length in (below, below + multiple) if length >= multiple]


def in_pixels(size: Sequence[int]) -> str:
    """(256, 512) -> "256x512"."""
    return f"{size[0]}x{size[1]}"
