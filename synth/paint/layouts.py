"""Layouts of the validation split, which a painting may start from."""

import io
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import numpy as np
from PIL import Image

from shared.data import build_dataset
from shared.data.config import DataConfig
from shared.data.pairs import PairDataset
from shared.data.spec import SegmentationDataset
from shared.errors import InputError
from shared.visualise import colour_label_map
from synth.images.layout_files import input_config, prepare_layout
from synth.inputs import layout_transform
from synth.paint.painter import Painter

THUMBNAIL = 160
"""Pixels of its longer side, at least."""


class Layouts:
    """Label maps of the validation split, as they come to size in the evaluation of the training."""

    def __init__(self, painter: Painter, dataset: SegmentationDataset) -> None:
        self.painter, self.dataset = painter, dataset
        self._transform = layout_transform(input_config(painter.trained), multiple=painter.generator.size_multiple)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        """(H, W) int64.

        Raises:
            InputError: there is no such layout, or its file is damaged.
        """
        if not 0 <= index < len(self.dataset):
            raise InputError(f"there is no layout {index}; there are {len(self.dataset)}")
        stored = self.dataset
        labels = stored.read_labels(index) if isinstance(stored, PairDataset) else stored[index].label_map
        return prepare_layout(labels, None, self._transform).label_map.numpy()

    def thumbnail(self, index: int) -> bytes:
        """PNG in the colours of the classes."""
        labels = self[index]
        step = max(1, max(labels.shape) // THUMBNAIL)
        buffer = io.BytesIO()
        Image.fromarray(colour_label_map(labels[::step, ::step], self.painter.spec.palette)).save(buffer, format="PNG")
        return buffer.getvalue()


def open_layouts(painter: Painter, root: str | None) -> tuple[Layouts | None, str]:
    """The layouts, or None and why there are none."""
    stored = painter.trained.meta["config"].get("data")
    if stored is None:
        return None, "this generator was converted from published weights, which name no data set"
    try:
        dataset = build_dataset(_data_config(stored | ({} if root is None else {"root": root})), "val")
    except InputError as error:
        return None, f"{error} (another place: --data_root)"
    known = painter.spec.class_names[: dataset.spec.num_classes]
    if dataset.spec.class_names != known:
        return None, f"the classes of {dataset.spec.name} are not those that the generator was trained on"
    return Layouts(painter, dataset), ""


def _data_config(stored: dict[str, Any], kind: type = DataConfig) -> Any:
    """Settings from plain values; such as are not known any more are left out."""
    hints = get_type_hints(kind)
    given = {field.name: stored[field.name] for field in fields(kind) if field.name in stored}
    return kind(**{name: _data_config(value, hints[name]) if is_dataclass(hints[name]) else value for name, value in given.items()})
