"""Style codes to generate with: drawn from the prior, read off an image, or on the way from one to another. Z = length of a code."""

import zlib
from pathlib import Path

import torch
from torch import Tensor

from shared.data.pictures import read_image
from shared.data.spec import Sample
from shared.data.transforms import JointTransform
from shared.run.training import seed_of
from synth.encoder import StyleEncoder
from synth.images.generation import style_of


def drawn_style(style_dim: int, *numbers: int) -> Tensor:
    """(1, Z): a draw from the prior N(0, 1) that is a function of these whole numbers ≥ 0 alone, the same on every device."""
    return torch.randn(1, style_dim, generator=torch.Generator().manual_seed(seed_of(*numbers)))


def layout_number(label_map: Tensor) -> int:
    """A number that stands for the contents of a label map, wherever its file lies and whatever it is called."""
    return zlib.crc32(label_map.numpy().tobytes())


def image_style(encoder: StyleEncoder, path: Path, transform: JointTransform) -> Tensor:
    """(1, Z): the mean style of an image file, brought to size by `transform` as images are in training."""
    image = read_image(path)
    # an empty label map, as transforms move both together
    ready = transform(Sample(image, torch.zeros(image.shape[1:], dtype=torch.int64), None, path.name)).image
    device = next(encoder.parameters()).device
    return style_of(encoder, ready[None].to(device)).cpu()


def interpolated_styles(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """(steps, Z): from `first` to `last`, (1, Z) each, both included, at even steps of angle and of length.

    A straight line between two draws passes through codes that are shorter than any draw, and their images lack contrast; turning
    keeps the length.
    """
    t = torch.linspace(0, 1, steps)[:, None]
    lengths = first.norm(), last.norm()
    angle = torch.arccos((first * last).sum().div(lengths[0] * lengths[1]).clamp(-1, 1))
    if not angle.sin() > 1e-3:  # one direction, opposite ones, or no length: a line is all there is
        return torch.lerp(first, last, t)
    direction = (torch.sin((1 - t) * angle) * first / lengths[0] + torch.sin(t * angle) * last / lengths[1]) / angle.sin()
    return torch.lerp(lengths[0], lengths[1], t) * direction
