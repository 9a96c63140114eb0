"""Images from label maps."""

import numpy as np
import torch

from shared.data.loader import Batch
from shared.data.spec import DatasetSpec
from shared.visualise import SIGNED, colour_label_map, picture_grid, to_uint8
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.step import batch_edges


@torch.inference_mode()
def generate(
    generator: SpadeGenerator, label_maps: torch.Tensor, *, edges: torch.Tensor | None = None, style: torch.Tensor | None = None
) -> np.ndarray:
    """Generate in evaluation mode; the generator is left in the mode it came in.

    Args:
        label_maps: (N, H, W) int64, −1 = ignored.
        edges: (N, H, W) bool, for generators with instance edges.
        style: (N, style_dim), for generators with style; None draws it from the prior.

    Returns:
        (N, H, W, 3) uint8 RGB.
    """
    was_training = generator.training
    generator.eval()
    images = generator(label_maps, z=style, edges=edges)
    generator.train(was_training)
    return to_uint8(images.float(), value_range=SIGNED)


@torch.inference_mode()
def style_of(encoder: StyleEncoder | None, images: torch.Tensor) -> torch.Tensor | None:
    """The mean style (N, style_dim) of images (N, 3, H, W) in [-1, 1]; None without an encoder."""
    if encoder is None:
        return None
    was_training = encoder.training
    style, _ = encoder.eval()(images)
    encoder.train(was_training)
    return style


def generate_batch(generator: SpadeGenerator, encoder: StyleEncoder | None, batch: Batch) -> np.ndarray:
    """Generate from the layouts of a batch, with the style of its own images where there is a style. (N, H, W, 3) uint8."""
    edges = batch_edges(batch) if generator.semantics.instance_edges else None
    return generate(generator, batch.label_maps, edges=edges, style=style_of(encoder, batch.images))


def sample_grid(generator: SpadeGenerator, encoder: StyleEncoder | None, batch: Batch, spec: DatasetSpec) -> np.ndarray:
    """Rows of label map, real image and generated image as one picture."""
    labels = colour_label_map(batch.label_maps.cpu(), spec.palette)
    real = to_uint8(batch.images, value_range=SIGNED)
    made = generate_batch(generator, encoder, batch)
    return picture_grid([picture for row in zip(labels, real, made) for picture in row], columns=3)
