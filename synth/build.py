"""From settings to the networks of synthesis: the one place where they are constructed."""

from typing import NamedTuple

import numpy as np
import torch

from shared.embedding_file import ClassEmbeddings
from synth.config import DiscriminatorConfig, GeneratorConfig, LossConfig, SynthConfig
from synth.discriminator import MultiscaleDiscriminator
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.oasis.discriminator import SegmentationDiscriminator
from synth.semantics import Semantics, build_semantics
from synth.training.adversaries import Adversary, PatchAdversary, SegmentationAdversary


def semantics_from(
    config: SynthConfig, num_classes: int, embeddings: ClassEmbeddings | None, table: torch.Tensor | None = None
) -> Semantics:
    """The generator's semantics. Random ones are drawn from the training seed, as wide as the embeddings when there are any.

    table: (num_classes, S), where the semantics are a class table.
    """
    return build_semantics(
        config.semantics,
        num_classes,
        embeddings,
        table=table,
        embedding_dim=config.embedding_dim,
        seed=config.train.seed,
        instance_edges=config.input.instance_edges,
        trainable=config.trainable,
    )


def generator_from(config: GeneratorConfig, size: tuple[int, int], semantics: Semantics) -> SpadeGenerator:
    return SpadeGenerator(
        semantics,
        image_size=size,
        width=config.width,
        upsampling=config.upsampling,
        norm=config.norm,
        hidden=config.hidden,
        z_dim=config.style_dim,
        noise_channels=config.noise_channels,
        noise=config.noise,
        init_gain=config.init_gain,
    )


class Opponent(NamedTuple):
    """A discriminator, the semantics that it sees of a label map, if any, and what it and the generator want of each other."""

    network: MultiscaleDiscriminator | SegmentationDiscriminator
    seen: Semantics | None
    adversary: Adversary


def opponent_from(config: DiscriminatorConfig, loss: LossConfig, semantics: Semantics) -> Opponent:
    """The discriminator that the settings name.

    The multi-scale one sees the generator's semantics, or one-hot whatever those are; the others see the image alone.

    Raises:
        InputError: oasis_embedding with semantics that have no class vectors.
    """
    if config.name == "multiscale":
        if config.semantics == "onehot":
            semantics = build_semantics("onehot", semantics.num_classes, instance_edges=semantics.instance_edges)
        network = MultiscaleDiscriminator(semantics, width=config.width, num_scales=config.num_scales, num_layers=config.num_layers)
        return Opponent(network, semantics, PatchAdversary(loss))
    compared = semantics if config.name == "oasis_embedding" else None
    segmenter = SegmentationDiscriminator(
        num_classes=semantics.num_classes if compared is None else None,
        embedding_dim=None if compared is None else compared.class_vectors.shape[1],
        temperature=config.temperature,
        width=config.width,
        depth=config.depth,
        encoder=config.encoder,
    )
    return Opponent(segmenter, None, SegmentationAdversary(loss, semantics.num_classes, compared, config.num_neighbours))


def style_encoder_from(config: GeneratorConfig, size: tuple[int, int]) -> StyleEncoder | None:
    """None when the generator has no style. Images are read at the power of two nearest below the generator's longer side, at most 256."""
    if config.style_dim is None:
        return None
    image_size = min(256, 2 ** int(np.log2(max(size))))
    return StyleEncoder(image_size=image_size, width=config.width, z_dim=config.style_dim)
