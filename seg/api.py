"""Segmentation from Python: a trained run, and images labelled with it as seg.predict does. `seg` hands these names on."""

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch

from seg.inference import ViewConfig
from seg.labelling import predict_tiles, require_tile
from seg.trained import TrainedSegmenter, load_segmenter
from shared.data.given import GivenImage, image_from, is_one
from shared.data.pictures import MAX_PIXELS
from shared.opened import OpenedRun
from shared.run.directory import RunDirectory
from shared.run.training import choose_device
from shared.visualise import colour_label_map, save_png


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The classes of an image.

    Attributes:
        ids: (H, W) class ids, uint8 or, from 256 classes on, uint16, as in the label file that seg.predict writes.
        class_names: C names; position = class id.
        palette: (C, 3) uint8 RGB colour per class.
    """

    ids: np.ndarray
    class_names: tuple[str, ...]
    palette: np.ndarray

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class that occurs, by its name, the largest first."""
        ids, counts = np.unique(self.ids, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.class_names[ids[at]]: float(counts[at]) / self.ids.size for at in order}

    def colours(self) -> np.ndarray:
        """(H, W, 3) uint8: every pixel in the colour of its class."""
        return colour_label_map(self.ids, self.palette)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the ids as a PNG of 8 or 16 bit."""
        save_png(self.ids, Path(path))


class SegmentOptions(TypedDict, total=False):
    """Those of `ImageSegmenter.segment`."""

    views: ViewConfig | None
    tile: tuple[int, int] | None
    max_pixels: int


class ImageSegmenter(OpenedRun[TrainedSegmenter]):
    """A trained network that labels images. See `load`.

    Attributes:
        class_names: C names; position = class id.
        trained: the network, with the settings of its run.
    """

    # a path is an iterable of letters, and an array one of rows: the first of the two that fits counts
    @overload
    def segment(self, images: GivenImage, **options: Unpack[SegmentOptions]) -> Segmentation: ...  # type: ignore[overload-overlap]

    @overload
    def segment(self, images: Iterable[GivenImage], **options: Unpack[SegmentOptions]) -> list[Segmentation]: ...

    def segment(
        self,
        images: GivenImage | Iterable[GivenImage],
        *,
        views: ViewConfig | None = None,
        tile: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Segmentation | list[Segmentation]:
        """Label an image, or several, as `python -m seg.predict` does, bit for bit.

        Args:
            images: one image: a path, a Pillow image, (H, W, 3) or (H, W) uint8 NumPy, a tensor (3, H, W), uint8 or in [0, 1]. Or several:
                a list of such, (N, H, W, 3) NumPy, or a tensor (N, 3, H, W).
            views: sliding windows, scales and mirroring; None: the image as it is.
            tile: (height, width) of parts that are labelled one after the other, for images larger than the memory; None: at once.
            max_pixels: of the largest file that is read.

        Raises:
            InputError: an image that cannot be read, or is none; a tile that is too small, or of no use to this run.
        """
        require_tile(tile, self.trained, self.run)
        given: Any = images
        if is_one(given):
            return self._label(image_from(given, max_pixels=max_pixels), views, tile)
        return [self._label(image_from(image, max_pixels=max_pixels), views, tile) for image in given]

    def _label(self, image: torch.Tensor, views: ViewConfig | None, tile: tuple[int, int] | None) -> Segmentation:
        ids = predict_tiles(self.trained, image, self.device, views or ViewConfig(), tile)
        return Segmentation(ids, self.class_names, self.trained.spec.palette)


def load(
    run: str | PathLike[str], *, checkpoint: Literal["best", "last"] = "best", device: Literal["auto", "cpu", "cuda"] = "auto"
) -> ImageSegmenter:
    """Open a run of seg.train.

    Args:
        run: its directory.
        checkpoint: which one.
        device: where to compute; auto takes CUDA when there is a device.

    Raises:
        InputError: no run, no checkpoint there, or CUDA that cannot be used.
    """
    place = choose_device(device)
    return ImageSegmenter(load_segmenter(RunDirectory.open(Path(run)), checkpoint, place), place, str(run))
