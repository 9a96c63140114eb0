"""What a comparison needs after hours, looked at before it starts: images to score, a segmenter of these classes, arms that can train."""

from collections.abc import Iterable
from dataclasses import fields, replace

import torch

from shared.class_tables import read_class_table
from shared.config import flatten, parse_config, to_dict
from shared.data.spec import DatasetSpec, SegmentationDataset
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.run.checkpoint import read_checkpoint
from shared.run.directory import RunDirectory
from synth.build import generator_from, opponent_from, semantics_from
from synth.comparison.arms import Arm, options_of
from synth.comparison.config import CompareConfig, Variant
from synth.config import Protocol, SynthConfig
from synth.inputs import require_instances
from synth.semantics.build import READS_EMBEDDINGS, is_table
from synth.training.perceptual import build_perceptual, choose_perceptual
from synth.training.plan import require_possible

FEWEST_IMAGES = 2
"""Of a set that a distance is taken from."""


def require_images(*splits: SegmentationDataset) -> None:
    """Refuse splits of fewer images than a distance between two sets needs."""
    for split in splits:
        if len(split) < FEWEST_IMAGES:
            raise InputError(
                f"the {split.split} split of {split.spec.name} holds {len(split)} image; a comparison takes distances between sets of "
                f"images, which need at least {FEWEST_IMAGES} in each split: add images"
            )


def require_segmenter(segmenter: RunDirectory, spec: DatasetSpec) -> None:
    """Refuse a segmenter of other classes than those of the data, or without the checkpoint that scores."""
    path = segmenter.checkpoint("best")
    if not path.is_file():
        raise InputError(f"the segmenter {segmenter.path} has no {path}; finish that run of seg.train, or give another --segmenter")
    _, meta = read_checkpoint(path)
    if tuple(meta["class_names"]) != spec.class_names:
        raise InputError(
            f"the segmenter {segmenter.path} was trained on the {len(meta['class_names'])} classes of {meta['dataset']}, but the data is "
            f"{spec.name} with {spec.num_classes} classes; names and order must be equal: give another --segmenter"
        )


def require_arms(config: CompareConfig, arms: Iterable[Arm], embeddings: ClassEmbeddings | None, dataset: SegmentationDataset) -> None:
    """Build the networks of every arm, the generator without memory, and refuse what its training would refuse.

    Args:
        embeddings: of arms that have none of their own.
    """
    for arm in {(arm.semantics, arm.discriminator, arm.variant): arm for arm in arms}.values():
        try:
            _require_arm(_settings_of(arm, config), embeddings, dataset)
        except InputError as error:
            raise InputError(f"{arm.title} cannot be trained: {error}") from error
    build_perceptual(replace(config.loss, perceptual=choose_perceptual(config.loss)))


def _settings_of(arm: Arm, config: CompareConfig) -> SynthConfig:
    """Those of its training. Class embeddings that are yet to be learned are stood in for by random vectors."""
    variant = Variant() if arm.variant is None else config.variants[arm.variant]
    semantics = "random" if variant.seg and arm.semantics in READS_EMBEDDINGS else arm.semantics
    protocol = {field.name: getattr(config, field.name) for field in fields(Protocol)}
    settings = SynthConfig(**protocol, semantics=semantics)
    changes = variant.synth if arm.discriminator is None else {"discriminator.name": arm.discriminator, **variant.synth}
    if not changes:
        return settings
    return parse_config(SynthConfig, [*options_of(flatten(to_dict(settings))), *options_of(changes)], program="synth.train")


def _require_arm(settings: SynthConfig, embeddings: ClassEmbeddings | None, dataset: SegmentationDataset) -> None:
    spec = dataset.spec
    require_instances(settings.input, dataset)
    table = read_class_table(settings.semantics).rows_of(spec.class_names, spec.name) if is_table(settings.semantics) else None
    semantics = semantics_from(settings, spec.num_classes, embeddings, table)
    with torch.device("meta"):
        generator = generator_from(settings.generator, settings.input.size, semantics)
    require_possible(settings, generator, opponent_from(settings.discriminator, settings.loss, semantics).network)
