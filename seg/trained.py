"""From settings or a run directory to a segmentation network, and from a network to the files that synthesis and evaluation use."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg.config import ModelConfig, SegConfig
from seg.model import EmbeddingSegmenter, Segmenter, build_segmenter
from shared.backbone import Backbone
from shared.class_tables import read_class_table
from shared.config import to_dict
from shared.data import ids_of_classes
from shared.data.spec import DatasetSpec
from shared.embedding_file import EMBEDDINGS_FILE, ClassEmbeddings
from shared.encoder_file import ENCODER_FILE, save_encoder
from shared.errors import InputError
from shared.run.checkpoint import load_module, read_checkpoint
from shared.run.directory import RunDirectory
from shared.visualise import voc_palette


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
    model.leave_out(ids_of_classes(meta["config"]["data"].get("ignore_classes") or [], spec), spec.num_classes)
    load_module(model, tensors, "model", path)
    return TrainedSegmenter(model.to(device).eval(), spec, meta)


def with_table(trained: TrainedSegmenter, path: str, spec: DatasetSpec | None = None) -> TrainedSegmenter:
    """The network with the vectors of a class table in place of its classes, of which it need not have seen any. Changes its model.

    Args:
        spec: the classes that are wanted. None: those of the table; where it has no names, those of the network.

    Raises:
        InputError: a table that cannot be read, of other classes, or with vectors of another size; a network without class embeddings.
    """
    if not isinstance(trained.model, EmbeddingSegmenter):
        raise InputError(f"{path} gives class vectors, but the run has head softmax, which has none; take a run with head embedding")
    table = read_class_table(path)
    if spec is None:
        spec = trained.spec if table.names is None else renamed(trained.spec, table.names)
    rows = table.rows_of(spec.class_names, spec.name)
    try:
        trained.model.set_classes(rows)
    except InputError as error:
        raise InputError(f"{path}: {error}; give a table of the kind that the run was trained with") from error
    return TrainedSegmenter(trained.model, spec, trained.meta)


def renamed(spec: DatasetSpec, names: Sequence[str]) -> DatasetSpec:
    """Other classes of the same data set. Those of `spec` keep their colours, the others get colours that are not in use."""
    colours = dict(zip(spec.class_names, map(tuple, spec.palette.tolist())))
    taken = set(colours.values())
    free = (colour for colour in map(tuple, voc_palette(len(names) + len(taken) + 1)[1:].tolist()) if colour not in taken)
    palette = np.array([colours[name] if name in colours else next(free) for name in names], np.uint8)
    return DatasetSpec(spec.name, tuple(names), palette)


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
