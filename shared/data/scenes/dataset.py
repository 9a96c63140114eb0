"""The data set of built-in street scenes."""

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.data.scenes.classes import SceneClasses
from shared.data.scenes.geometry import Camera, Placement
from shared.data.scenes.light import Light, draw_light
from shared.data.scenes.render import render
from shared.data.scenes.roadside import add_frontage, add_furniture, add_ground, add_horizon
from shared.data.scenes.stage import Stage
from shared.data.scenes.traffic import add_crossing_traffic, add_ignored, add_parked, add_pedestrians, add_traffic
from shared.data.spec import Sample, SegmentationDataset
from shared.errors import InputError, choose

SPLITS = ("train", "val")
MIN_SIZE = 16


class SceneDataset(SegmentationDataset):
    """Street scenes in perspective.

    `dataset[index]` is a function of (seed, split, index, size, num_classes, ignored_fraction) alone, and the splits never share a
    scene. The cost of a sample does not depend on `num_classes`: one core makes
    about 170 images of 64×128, 110 of 128×256 or 40 of 256×512 pixels per second.

    Instance ids are positive, one per object or stretch of ground, and 0 where the label is ignored.

    Args:
        split: "train" or "val".
        num_classes: C >= 4; see `SceneClasses`.
        height, width: size of the images in pixels, at least 16.
        length: number of samples.
        seed: >= 0; another seed is another data set of the same kind.
        ignored_fraction: about the share of pixels without label, 0..0.2: object borders, unknown objects, our own bonnet.

    Attributes:
        class_groups: C names, the group of related classes that each class is in.

    Raises:
        InputError: an argument outside of its range.
    """

    def __init__(
        self,
        split: str,
        *,
        num_classes: int = 19,
        height: int = 64,
        width: int = 128,
        length: int = 1000,
        seed: int = 0,
        ignored_fraction: float = 0.03,
    ) -> None:
        choose("split", split, SPLITS, where="scenes")
        if min(height, width) < MIN_SIZE:
            raise InputError(f"scenes of {height}×{width} pixels are too small; height and width must be {MIN_SIZE} or more")
        if length < 1:
            raise InputError(f"scenes cannot have length {length}; it must be 1 or more")
        if seed < 0:
            raise InputError(f"scenes cannot have seed {seed}; it must be 0 or more")
        if not 0 <= ignored_fraction <= 0.2:
            raise InputError(f"scenes cannot have ignored_fraction {ignored_fraction}; it must be between 0 and 0.2")
        self._classes = SceneClasses(num_classes)
        self.spec = self._classes.spec
        self.class_groups = self._classes.groups
        self.split = split
        self._size = (height, width)
        self._length = length
        self._seed = seed
        self._ignored_fraction = ignored_fraction

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of {self._length}")
        # the split is a part of the seed, so train and val never share a scene
        rng = np.random.default_rng([self._seed, SPLITS.index(self.split), index])
        camera = _draw_camera(*self._size, rng)
        light = draw_light(rng)
        sky = self._classes.draw("sky", rng)
        placements = compose(self._classes, light, camera, self._ignored_fraction, rng)
        image, objects = render(placements, camera, light, sky.style, rng)

        # the sky is the last row of both tables, object -1
        label_map = np.array([placement.class_id for placement in placements] + [sky.class_id])[objects]
        instance_map = np.cumsum([not placement.continues for placement in placements] + [True])[objects]
        borders = _choose_borders(instance_map, 0.45 * self._ignored_fraction, rng)
        label_map[borders] = IGNORE_INDEX
        instance_map[label_map == IGNORE_INDEX] = 0
        return Sample(
            image=torch.from_numpy(image),
            label_map=self.leave_out(torch.from_numpy(label_map)),
            instance_map=torch.from_numpy(instance_map),
            name=self.sample_name(index),
        )

    def sample_name(self, index: int) -> str:
        return f"{self.split}_{index:06d}"


def _draw_camera(height: int, width: int, rng: np.random.Generator) -> Camera:
    focal, row, column, eye = rng.random(4)
    return Camera(
        height=height,
        width=width,
        focal=0.44 * (height + width) * (0.92 + 0.16 * float(focal)),
        row=height * (0.44 + 0.10 * float(row)),
        column=width * (0.40 + 0.20 * float(column)),
        eye=1.7 + 0.6 * float(eye),
    )


def _choose_borders(instance_map: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: the outlines of randomly chosen objects, about `share` of the pixels: annotators leave them out."""
    border = np.zeros(instance_map.shape, dtype=bool)
    border[:, 1:] |= instance_map[:, 1:] != instance_map[:, :-1]
    border[1:] |= instance_map[1:] != instance_map[:-1]
    # each with probability share / (all borders), so that the chosen ones are about `share` of the pixels
    chosen = rng.random(int(instance_map.max()) + 1) * border.mean() < share
    return border & chosen[instance_map]


def compose(classes: SceneClasses, light: Light, camera: Camera, ignored_fraction: float, rng: np.random.Generator) -> list[Placement]:
    """Draw the objects of a scene, in the order in which they are to be drawn. Objects of groups that `classes` lacks are left out."""
    stage = Stage(classes, light, camera, rng)
    left, right = stage.side(-1), stage.side(1)
    crossing = stage.uniform(16, 40) if stage.chance(0.4) else None
    add_ground(stage, left, right, crossing)
    add_horizon(stage)
    for side in (left, right):
        add_frontage(stage, side, crossing)
        add_furniture(stage, side, crossing)
        add_parked(stage, side)
        add_pedestrians(stage, side)
    add_traffic(stage, right)
    if crossing is not None:
        add_crossing_traffic(stage, crossing, left, right)
    if ignored_fraction > 0:
        add_ignored(stage, right, ignored_fraction)
    return stage.placements()
