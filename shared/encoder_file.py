"""The encoder file: a trained backbone that serves as feature network where the Inception weights are not available."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from shared.backbone import build_backbone
from shared.errors import InputError
from shared.files.tensor_file import read_tensors, write_tensors
from shared.run.directory import RunDirectory, find_runs

FORMAT = "encoder/1"
ENCODER_FILE = "encoder.safetensors"
"""Name of the file in a run directory of segmentation."""


def save_encoder(path: str | Path, backbone: nn.Module, meta: dict[str, Any]) -> None:
    """Write a trained backbone, whole or not at all.

    Args:
        backbone: as made by `build_backbone(meta["backbone"], output_stride=meta["output_stride"])`, with either norm.
        meta: `backbone`, `output_stride` and `dataset` (what it was trained on), and any other JSON values worth keeping.

    Raises:
        InputError: one of the three is missing.
    """
    _require_keys(meta, path)
    write_tensors(path, backbone.state_dict(), FORMAT, meta)


def load_encoder(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The backbone in evaluation mode on the CPU, and its `meta`.

    Raises:
        InputError: missing, damaged, of another kind, or with weights that do not fit the backbone it names; names the file.
    """
    tensors, meta = read_tensors(path, FORMAT)
    _require_keys(meta, path)
    norm = "batch" if any(name.endswith("running_mean") for name in tensors) else "group"  # only batch norm keeps statistics
    try:
        backbone = build_backbone(meta["backbone"], output_stride=meta["output_stride"], norm=norm)
        backbone.load_state_dict(tensors)
    except (InputError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} does not hold a {meta['backbone']} encoder that can be rebuilt: {reason}") from error
    return backbone.eval(), meta


def softmax_runs(dataset: str | None = None) -> Iterator[RunDirectory]:
    """The finished runs of `seg.train --head softmax` under runs/, newest first; of one data set, or of any."""
    for run in find_runs("seg.train"):
        evaluation = run.path / "evaluation.json"
        if evaluation.is_file():
            about = json.loads(evaluation.read_text(encoding="utf-8"))
            if about["head"] == "softmax" and dataset in (None, about["dataset"]):
                yield run


def _require_keys(meta: dict[str, Any], path: str | Path) -> None:
    lost = [key for key in ("backbone", "output_stride", "dataset") if key not in meta]
    if lost:
        raise InputError(f"the description of encoder {path} lacks {', '.join(lost)}; train and save the encoder again")
