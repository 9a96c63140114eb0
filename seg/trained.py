"""From settings or a run directory to a segmentation network, and from a network to the files that synthesis and evaluation use."""

import copy
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
from shared.run.checkpoint import load_module, read_checkpoint, write_checkpoint
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

    @property
    def ignored_names(self) -> list[str]:
        """Classes that were ignored in the training, and have not been added since."""
        return self.meta["config"]["data"].get("ignore_classes") or []

    @property
    def known_names(self) -> list[str]:
        """Classes that it tells apart."""
        return [name for name in self.spec.class_names if name not in self.ignored_names]


def require_same_classes(trained: TrainedSegmenter, spec: DatasetSpec, run: str) -> None:
    """Refuse data of other classes than those of the network. Those that were added behind the classes of the data may be missing.

    Raises:
        InputError: names both.
    """
    before = trained.spec.class_names[: trained.meta.get("data_classes")]
    if spec.class_names not in (trained.spec.class_names, before):
        raise InputError(
            f"{run} was trained on the {trained.spec.num_classes} classes of {trained.spec.name}, "
            f"but the data is {spec.name} with {spec.num_classes} classes; names and order must be equal"
        )


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
    trained = TrainedSegmenter(model.to(device).eval(), spec, meta)
    model.leave_out(ids_of_classes(trained.ignored_names, spec), spec.num_classes)
    return trained


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


def extended(trained: TrainedSegmenter, names: Sequence[str], vectors: torch.Tensor, origin: str) -> TrainedSegmenter:
    """The network with more classes. Those that were ignored in its training keep their ids, the others get the next ones.

    Args:
        names: B classes that it does not know.
        vectors: (B, D) of any norm but zero.
        origin: the run it comes from, kept in `meta`.
    """
    model = trained.model
    assert isinstance(model, EmbeddingSegmenter), "classes without vectors"
    every = [*trained.spec.class_names, *(name for name in names if name not in trained.spec.class_names)]
    spec = renamed(trained.spec, every)
    old = model.raw_class_embeddings.detach()
    raw = torch.cat([old, old.new_zeros(len(every) - len(old), old.shape[1])])
    raw[[every.index(name) for name in names]] = vectors.to(raw)
    model.set_classes(raw, trainable=model.raw_class_embeddings.requires_grad)
    rest = [name for name in trained.ignored_names if name not in names]
    model.leave_out(ids_of_classes(rest, spec), spec.num_classes)

    config = copy.deepcopy(trained.meta["config"])
    config["data"]["ignore_classes"] = rest or None
    if config["data"]["name"] == "folder" and config["data"]["folder"]["label_values"] is None:
        # label files of the data set may then hold the new ids
        config["data"]["folder"] |= {
            "class_names": every,
            "palette": None if len(every) > len(old) else config["data"]["folder"]["palette"],
        }
    data_classes = trained.meta.get("data_classes", len(old))
    origins = {"added": [*trained.meta.get("added", []), *names], "added_to": origin, "data_classes": data_classes}
    classes = {"class_names": every, "palette": spec.palette.tolist()}
    return TrainedSegmenter(model, spec, trained.meta | {"config": config} | classes | origins)


def write_run(run: RunDirectory, trained: TrainedSegmenter) -> None:
    """Write settings and checkpoints of a network that needs no training. Both checkpoints are the same."""
    run.start(trained.meta["config"])
    tensors = {f"model.{key}": value for key, value in trained.model.state_dict().items()}
    for which in ("best", "last"):
        write_checkpoint(run.checkpoint(which), tensors, trained.meta)


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
        ignored = {"not_trained": ", ".join(trained.ignored_names)} if trained.ignored_names else {}
        ClassEmbeddings(vectors, raw, spec.class_names, spec.name, about | ignored).save(written[-1])
    return written
