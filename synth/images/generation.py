"""Images from label maps."""

import numpy as np
import torch

from shared.data.batch import Batch
from shared.data.spec import DatasetSpec
from shared.visualise import SIGNED, colour_label_map, picture_grid, to_uint8
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.semantics.edges import batch_edges
from synth.semantics.layout import SemanticPyramid
from synth.semantics.noise import Noise


@torch.inference_mode()
def generate(
    generator: SpadeGenerator,
    layout: torch.Tensor | SemanticPyramid,
    *,
    edges: torch.Tensor | None = None,
    style: torch.Tensor | None = None,
    noise: Noise | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Generate in evaluation mode; the generator is left in the mode it came in.

    Args:
        layout: label maps (N, H, W) int64, −1 = ignored; or the pyramid of them, which many images of one layout can share.
        edges: (N, H, W) bool, for generators with instance edges; with label maps only.
        style: (N, style_dim), for generators with style; None draws it from the prior.
        noise: for generators with noise; None draws it.
        size: (height, width) of the images; None: as trained.

    Returns:
        (N, height, width, 3) uint8 RGB.
    """
    was_training = generator.training
    generator.eval()
    images = generator(layout, z=style, edges=edges, noise=noise, size=size)
    generator.train(was_training)
    return to_uint8(images.float(), value_range=SIGNED)


@torch.inference_mode()
def style_of(encoder: StyleEncoder, images: torch.Tensor) -> torch.Tensor:
    """The mean style (N, style_dim) of images (N, 3, H, W) in [-1, 1]."""
    was_training = encoder.training
    style, _ = encoder.eval()(images)
    encoder.train(was_training)
    return style


def generate_batch(generator: SpadeGenerator, encoder: StyleEncoder | None, batch: Batch) -> np.ndarray:
    """Generate from the layouts of a batch, with the style of its own images where there is a style. (N, H, W, 3) uint8."""
    edges = batch_edges(batch) if generator.semantics.instance_edges else None
    style = None if encoder is None else style_of(encoder, batch.images)
    return generate(generator, batch.label_maps, edges=edges, style=style)


def sample_grid(generator: SpadeGenerator, encoder: StyleEncoder | None, batch: Batch, spec: DatasetSpec) -> np.ndarray:
    """Rows of label map, real image and generated image as one picture."""
    labels = colour_label_map(batch.label_maps.cpu(), spec.palette)
    real = to_uint8(batch.images, value_range=SIGNED)
    made = generate_batch(generator, encoder, batch)
    return picture_grid([picture for row in zip(labels, real, made) for picture in row], columns=3)
