"""From settings, or from a run directory, to the networks of synthesis: the one place where they are constructed."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from shared.config import to_dict
from shared.data.pairs import label_codes_of
from shared.data.spec import DatasetSpec, SegmentationDataset
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.run.checkpoint import load_module, read_checkpoint
from shared.run.directory import RunDirectory
from synth.adversaries import Adversary, PatchAdversary, SegmentationAdversary
from synth.config import DiscriminatorConfig, GeneratorConfig, InputConfig, LossConfig, SynthConfig
from synth.conventions import LabelConvention
from synth.discriminator import MultiscaleDiscriminator
from synth.discriminator_oasis import SegmentationDiscriminator
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.semantics import Semantics, build_semantics


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


def describe(config: SynthConfig, dataset: SegmentationDataset) -> dict[str, Any]:
    """What travels with a checkpoint, so that it needs no other file to be used: settings, classes, and how label files name them."""
    spec, codes = dataset.spec, label_codes_of(dataset)
    return {
        "config": to_dict(config),
        "dataset": spec.name,
        "class_names": list(spec.class_names),
        "palette": spec.palette.tolist(),
        "label_codes": {"offset": codes.offset, "ignore_value": codes.ignore_value},
    }


@dataclass(frozen=True)
class TrainedGenerator:
    """Networks from a run directory, in evaluation mode, with the settings and classes they were trained with."""

    generator: SpadeGenerator
    style_encoder: StyleEncoder | None
    spec: DatasetSpec
    meta: dict[str, Any]

    @property
    def instance_edges(self) -> bool:
        return self.generator.semantics.instance_edges


def load_generator(run: RunDirectory, device: torch.device) -> TrainedGenerator:
    """Load the last checkpoint of a run of synth.train or synth.convert; of an averaged run, the average.

    Raises:
        InputError: no checkpoint there, damaged, or not of a generator.
    """
    path = run.checkpoint("last")
    tensors, meta = read_checkpoint(path)
    config = meta["config"]
    if "generator" not in config:
        raise InputError(f"{path} is no checkpoint of a generator; give a run of synth.train")
    spec = DatasetSpec(meta["dataset"], tuple(meta["class_names"]), np.array(meta["palette"], np.uint8))
    settings, size = GeneratorConfig(**config["generator"]), InputConfig(**config["input"]).size
    semantics = _stored_semantics(config, spec, tensors)
    generator = generator_from(settings, (size[0], size[1]), semantics)
    load_module(generator, tensors, "average" if any(name.startswith("average.") for name in tensors) else "generator", path)
    generator.published_labels = LabelConvention(**meta.get("published_labels", {}))
    encoder = style_encoder_from(settings, (size[0], size[1]))
    if encoder is not None:
        load_module(encoder, tensors, "style_encoder", path)
        encoder = encoder.to(device).eval()
    return TrainedGenerator(generator.to(device).eval(), encoder, spec, meta)


def _stored_semantics(config: dict[str, Any], spec: DatasetSpec, tensors: dict[str, torch.Tensor]) -> Semantics:
    """The table travels with the weights, so no embedding file is needed any more; its last row is that of ignored pixels."""
    table, edges = tensors.get("generator.semantics.table"), config["input"]["instance_edges"]
    if table is None:
        return build_semantics(config["semantics"], spec.num_classes, instance_edges=edges)
    return Semantics(config["semantics"], spec.num_classes, table[:-1], instance_edges=edges, ignored_vector=table[-1])


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
