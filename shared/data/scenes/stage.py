"""The street that a scene is set in, and what has been put there so far.

Everything is in metres, so a scene is the same at every image size. x = 0 is the middle of our lane; traffic keeps to the right. On
each side follow, from the middle outwards: lanes, a strip of parked cars, pavement with its furniture, a front garden, buildings.
"""

from dataclasses import dataclass

import numpy as np

from shared.data.scenes import street
from shared.data.scenes.classes import Look, SceneClasses
from shared.data.scenes.geometry import Camera, Placement
from shared.data.scenes.light import Light

LANE = 3.3
PARKING = 2.2


@dataclass(frozen=True)
class Side:
    """One side of the street.

    Attributes:
        sign: -1 on the left, +1 on the right.
        setting: "city", "suburb" or "park".
        kerb, front, line: distances from x = 0 to the pavement, to its outer edge and to the buildings, all positive.
        parking: whether cars are parked along the kerb.
    """

    sign: int
    setting: str
    kerb: float
    front: float
    line: float
    parking: bool


class Stage:
    """One scene while it is being composed.

    Args:
        classes: the classes there are; objects of missing groups are left out.
        light, camera: of the scene.
        rng: the source of every draw of the scene.

    Attributes:
        ground: the ground and the hills, in the order in which they are drawn.
        background, boundaries, foreground: objects behind the pavements, along their outer edges, and on pavements and road.
    """

    def __init__(self, classes: SceneClasses, light: Light, camera: Camera, rng: np.random.Generator) -> None:
        self.classes = classes
        self.light = light
        self.camera = camera
        self.rng = rng
        self.ground: list[Placement] = []
        self.background: list[Placement] = []
        self.boundaries: list[Placement] = []
        self.foreground: list[Placement] = []

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def variant(self) -> int:
        """Which of the shapes of a plant or a range of hills."""
        return int(self.rng.random() * street.VARIANTS)

    def look(self, group: str) -> Look:
        return self.classes.draw(group, self.rng)

    def side(self, sign: int) -> Side:
        """Draw one side of the street."""
        draw = self.rng.random()
        setting = "city" if draw < 0.5 else "suburb" if draw < 0.8 else "park"
        parking = self.chance(0.5)
        lanes = 1 if self.chance(0.7) else 2
        kerb = LANE / 2 + (lanes - 1 if sign > 0 else lanes) * LANE + parking * PARKING + 0.4
        front = kerb + self.uniform(2.2, 4.0)
        garden = {"city": 0.0, "suburb": self.uniform(3, 7), "park": self.uniform(6, 14)}[setting]
        return Side(sign, setting, kerb, front, front + garden, parking)

    def placements(self) -> list[Placement]:
        """All objects in the order in which they are drawn.

        Objects nearer to the middle of the street hide those farther out, never the other way round. So what stands behind the
        pavements is drawn first, then what bounds them, then what stands on pavements and road; each of these from far to near.
        """
        bands = (self.background, self.boundaries, self.foreground)
        return self.ground + [placement for band in bands for placement in sorted(band, key=_far_end, reverse=True)]


def _far_end(placement: Placement) -> float:
    """Distance by which objects are sorted: the end of what runs along the street from its position, the middle of everything else."""
    runs_along = placement.mesh.points[:, 2].min() >= 0
    return placement.position[2] + (placement.size[2] if runs_along else 0.0)
