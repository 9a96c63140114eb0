"""From settings or a run directory to a segmentation network, and from a network to the files that synthesis and evaluation use."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg.config import ModelConfig, SegConfig
from seg.model import EmbeddingSegmenter, Segmenter, build_segmenter
from shared.backbone import Backbone
from shared.config import to_dict
from shared.data.spec import DatasetSpec
from shared.embedding_file import ClassEmbeddings
from shared.encoder_file import ENCODER_FILE, save_encoder
from shared.run.checkpoint import load_module, read_checkpoint
from shared.run.directory import RunDirectory

EMBEDDINGS_FILE = "class_embeddings.safetensors"


def segmenter_from(head: str, num_classes: int, model: ModelConfig) -> Segmenter:
    """Build the network that the settings describe."""
    return build_segmenter(head=head, num_classes=num_classes, **asdict(model))


def describe(config: SegConfig, spec: DatasetSpec) -> dict[str, Any]:
    """What travels with a checkpoint, so that it needs no other file to be used."""
    return {
        "config": to_dict(config),
        "dataset": spec.name,
        "class_names": list(spec.class_names),
        "palette": spec.palette.tolist(),
    }


@dataclass(frozen=True)
class TrainedSegmenter:
    """A network from a run directory, in evaluation mode, with the settings and classes it was trained with."""

    model: Segmenter
    spec: DatasetSpec
    meta: dict[str, Any]


def load_segmenter(run: RunDirectory, which: str, device: torch.device) -> TrainedSegmenter:
    """Load the checkpoint `last` or `best` of a run of seg.train.

    Raises:
        InputError: no checkpoint there, damaged, or not of a segmentation network.
    """
    path = run.checkpoint(which)
    tensors, meta = read_checkpoint(path)
    spec = DatasetSpec(meta["dataset"], tuple(meta["class_names"]), np.array(meta["palette"], np.uint8))
    settings = ModelConfig(**(meta["config"]["model"] | {"pretrained": False, "weights": None}))
    model = segmenter_from(meta["config"]["head"], spec.num_classes, settings)
    load_module(model, tensors, "model", path)
    return TrainedSegmenter(model.to(device).eval(), spec, meta)


def export(trained: TrainedSegmenter, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Write the encoder (not those of segmentation_models_pytorch), and for the embedding head the class embeddings, into `folder`.

    Args:
        about: where they come from (run, step, mIoU), stored in the files.

    Returns:
        The files written.
    """
    model, spec = trained.model, trained.spec
    written = []
    settings = trained.meta["config"]["model"]
    origin = {"dataset": spec.name, "head": trained.meta["config"]["head"]}
    if isinstance(model.network.backbone, Backbone):
        written.append(folder / ENCODER_FILE)
        encoder = {key: settings[key] for key in ("backbone", "output_stride")}
        save_encoder(written[-1], model.network.backbone, about | encoder | origin)
    if isinstance(model, EmbeddingSegmenter):
        written.append(folder / EMBEDDINGS_FILE)
        raw = model.raw_class_embeddings.detach().float().cpu()
        vectors = model.class_embeddings.detach().float().cpu()
        ClassEmbeddings(vectors, raw, spec.class_names, spec.name, about).save(written[-1])
    return written
