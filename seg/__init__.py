"""Segmentation with class embeddings. From Python: `seg.load(run).segment(image)`, see docs/python.md."""

from typing import TYPE_CHECKING

from shared.late import late_names

if TYPE_CHECKING:
    from seg.api import ImageSegmenter, Segmentation, load

__all__ = ["ImageSegmenter", "Segmentation", "load"]
__getattr__ = late_names(__name__, "seg.api", __all__)
