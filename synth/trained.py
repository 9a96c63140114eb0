"""From a run directory to a trained generator, and what travels with its checkpoint."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from shared.config import to_dict
from shared.data.pairs import label_rules_of
from shared.data.spec import DatasetSpec, SegmentationDataset
from shared.errors import InputError
from shared.run.checkpoint import load_module, read_checkpoint
from shared.run.directory import RunDirectory
from synth.build import generator_from, style_encoder_from
from synth.config import GeneratorConfig, InputConfig, SynthConfig
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.published import LabelConvention
from synth.semantics import Semantics, build_semantics


def describe(config: SynthConfig, dataset: SegmentationDataset) -> dict[str, Any]:
    """What travels with a checkpoint, so that it needs no other file to be used: settings, classes, and how label files name them."""
    spec = dataset.spec
    return {
        "config": to_dict(config),
        "dataset": spec.name,
        "class_names": list(spec.class_names),
        "palette": spec.palette.tolist(),
        "label_files": label_rules_of(dataset).to_plain(),
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
