"""Composes a street: which objects stand where."""

import numpy as np

from shared.data.scenes.classes import SceneClasses
from shared.data.scenes.geometry import Camera, Placement
from shared.data.scenes.light import Light
from shared.data.scenes.roadside import add_frontage, add_furniture, add_ground, add_horizon
from shared.data.scenes.stage import Stage
from shared.data.scenes.traffic import add_crossing_traffic, add_ignored, add_parked, add_pedestrians, add_traffic


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
