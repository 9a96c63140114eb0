"""Image synthesis from Python: a trained generator, and images made of label maps as synth.generate does. `synth` hands these names on."""

import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch

from shared.data.given import is_one, label_map_from
from shared.data.pictures import MAX_PIXELS
from shared.data.transforms import SynthMode
from shared.errors import InputError
from shared.opened import OpenedRun
from shared.run.training import choose_device
from synth.images.layout_files import label_rules
from synth.images.layout_images import LayoutImagesConfig, LayoutMaker, load_changed
from synth.trained import TrainedGenerator

GivenLabels = str | PathLike[str] | np.ndarray | torch.Tensor
"""A label file, with the numbers of the training data's label files; or (H, W) class ids, −1 where they are ignored."""


class MakeOptions(TypedDict, total=False):
    """Those of `ImageGenerator.make`."""

    seed: int
    style: int | str | None
    size: tuple[int, int] | None
    mode: SynthMode | None
    instances: str | PathLike[str] | None
    max_pixels: int


class ImageGenerator(OpenedRun[TrainedGenerator]):
    """A trained generator that makes images of label maps. See `load`.

    Attributes:
        class_names: C names; position = class id.
        trained: the networks, with the settings of their run.
    """

    # a path is an iterable of letters, and an array one of rows: the first of the two that fits counts
    @overload
    def make(self, label_maps: GivenLabels, **options: Unpack[MakeOptions]) -> np.ndarray: ...  # type: ignore[overload-overlap]

    @overload
    def make(self, label_maps: Iterable[GivenLabels], **options: Unpack[MakeOptions]) -> list[np.ndarray]: ...

    def make(
        self,
        label_maps: GivenLabels | Iterable[GivenLabels],
        *,
        seed: int = 0,
        style: int | str | None = None,
        size: tuple[int, int] | None = None,
        mode: SynthMode | None = None,
        instances: str | PathLike[str] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> np.ndarray | list[np.ndarray]:
        """Make the image of a label map, or those of several, as `python -m synth.generate` does, bit for bit.

        Args:
            label_maps: one label map: a file, with the numbers of the training data's label files, or (H, W) integers, NumPy or tensor,
                that are class ids, −1 where ignored. Or several: a list of such, (N, H, W) NumPy or tensor.
            seed: of what is drawn: another seed is another image (generators with style or noise).
            style: an image file that has the style, or the seed of one (generators with style). None: drawn by seed and layout.
            size: (height, width) of the images; None: as trained.
            mode: how a layout comes to its size, as input.mode of synth.train; None: as trained.
            instances: file of the instance map, for generators with instance edges; one label map at a time.
            max_pixels: of the largest file that is read.

        Returns:
            (height, width, 3) uint8 RGB, or a list of them.

        Raises:
            InputError: a label map that cannot be read or names no class, or something that this generator cannot make.
        """
        config = LayoutImagesConfig(
            run=self.run, label_maps=[], seed=seed, style=style, size=size, mode=mode, max_pixels=max_pixels, instances=None
        )
        maker = LayoutMaker(self.trained, config, self.device)
        given: Any = label_maps
        one, needed = is_one(given, 2), self.trained.instance_edges
        if needed != (instances is not None) or (needed and not one):
            said = "give the instance map of one label map" if needed else "leave instances out"
            raise InputError(f"this generator was trained with{'' if needed else 'out'} instance edges; {said}")
        if one:
            return self._make(maker, given, None if instances is None else Path(instances))
        return [self._make(maker, label_map, None) for label_map in given]

    def _make(self, maker: LayoutMaker, given: GivenLabels, instances: Path | None) -> np.ndarray:
        if not isinstance(given, (str, os.PathLike)):
            return next(maker.images(label_map_from(given, len(self.class_names)), instances, Path("the label map")))
        if Path(given).is_dir():
            raise InputError(f"{given} is a folder; give label files, in a list where there are several")
        ((file, reader),) = label_rules(self.trained.meta).find([os.fspath(given)]).values()
        return next(maker.images(reader.read(file, max_pixels=maker.max_pixels), instances, file))


def load(
    run: str | PathLike[str],
    *,
    table: str | PathLike[str] | None = None,
    mix: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> ImageGenerator:
    """Open a run of synth.train or synth.convert.

    Args:
        run: its directory.
        table: file of class vectors with names: known classes get its vectors, others are new classes whose ids follow.
        mix: class arithmetic, such as "car=0.5*car+0.5*bus".
        device: where to compute; auto takes CUDA when there is a device.

    Raises:
        InputError: no run, no checkpoint of a generator there, classes that do not fit, or CUDA that cannot be used.
    """
    place = choose_device(device)
    return ImageGenerator(load_changed(os.fspath(run), place, None if table is None else os.fspath(table), mix), place, os.fspath(run))
