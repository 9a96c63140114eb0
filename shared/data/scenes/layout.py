"""Composes a street: which objects stand where. Everything is in metres, so a scene is the same at every image size.

x = 0 is the middle of our lane; traffic keeps to the right. On each side follow, from the middle outwards: lanes, a strip of
parked cars, pavement with its furniture, a front garden, buildings.
"""

import math
from dataclasses import dataclass

import numpy as np

from shared.constants import IGNORE_INDEX
from shared.data.scenes import objects, street
from shared.data.scenes.classes import Look, SceneClasses
from shared.data.scenes.geometry import Camera, Placement
from shared.data.scenes.light import Light
from shared.data.scenes.mesh import Texture

_LANE = 3.3
_PARKING = 2.2
_FAR = 130.0


@dataclass(frozen=True)
class _Side:
    """One side of the street; `sign` is -1 on the left and +1 on the right, distances are from x = 0 and positive."""

    sign: int
    setting: str
    kerb: float
    front: float
    line: float
    parking: bool


class StreetComposer:
    """Draws one scene.

    Args:
        classes: the classes there are; objects of missing groups are left out.
        light, camera: of the scene.
        rng: the source of every draw of the scene.
    """

    def __init__(self, classes: SceneClasses, light: Light, camera: Camera, rng: np.random.Generator) -> None:
        self._classes = classes
        self._light = light
        self._camera = camera
        self._rng = rng
        self._ground: list[Placement] = []
        self._background: list[Placement] = []
        self._boundaries: list[Placement] = []
        self._foreground: list[Placement] = []

    def compose(self, ignored_objects: float) -> list[Placement]:
        """The objects of a street from the farthest to the nearest.

        Objects nearer to the middle of the street hide those farther out, never the other way round. So what stands behind the
        pavements is drawn first, then what bounds them, then what stands on pavements and road; each of these from far to near.
        """
        left, right = self._side(-1), self._side(1)
        crossing = self._uniform(16, 40) if self._chance(0.4) else None
        self._add_ground(left, right, crossing)
        self._add_horizon()
        for side in (left, right):
            self._add_frontage(side, crossing)
            self._add_furniture(side, crossing)
            self._add_pedestrians(side)
        self._add_traffic(left, right)
        if crossing is not None:
            self._add_crossing_traffic(crossing, left, right)
        self._add_ignored(right, ignored_objects)
        bands = (self._background, self._boundaries, self._foreground)
        return self._ground + [placement for band in bands for placement in sorted(band, key=_far_end, reverse=True)]

    # --- what there is ---

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._rng.random())

    def _variant(self) -> int:
        return int(self._rng.random() * street.VARIANTS)

    def _look(self, group: str) -> Look:
        return self._classes.draw(group, self._rng)

    def _side(self, sign: int) -> _Side:
        draw = self._rng.random()
        setting = "city" if draw < 0.5 else "suburb" if draw < 0.8 else "park"
        parking = self._chance(0.5)
        lanes = 1 if self._chance(0.7) else 2
        kerb = _LANE / 2 + (lanes - 1 if sign > 0 else lanes) * _LANE + parking * _PARKING + 0.4
        front = kerb + self._uniform(2.2, 4.0)
        garden = {"city": 0.0, "suburb": self._uniform(3, 7), "park": self._uniform(6, 14)}[setting]
        return _Side(sign, setting, kerb, front, front + garden, parking)

    # --- ground and horizon ---

    def _add_ground(self, left: _Side, right: _Side, crossing: float | None) -> None:
        for side in (left, right):
            x0, x1 = sorted((0.0, side.sign * 400.0))
            self._ground.append(objects.ground(self._look("terrain"), Texture.TURF, x0, x1, 0.5, 900))
        for side in (left, right):
            wide = side.front if side.setting != "city" else side.front + 16
            x0, x1 = sorted((side.sign * side.kerb, side.sign * wide))
            self._ground.append(objects.ground(self._look("sidewalk"), Texture.PAVING, x0, x1, 0.5, 400))
        road = self._look("road")
        self._ground.append(objects.ground(road, Texture.ROAD, -left.kerb, right.kerb, 0.5, 500))
        if crossing is not None:
            self._ground.append(objects.ground(road, Texture.PAVING, -200, 200, crossing, crossing + 8)._replace(style=(0.5,) * 6))
            for stripe in np.arange(-left.kerb + 0.5, right.kerb - 0.5, 1.0).tolist():
                paint = objects.ground(road, Texture.PLAIN, stripe, stripe + 0.5, crossing - 3.4, crossing - 0.9)
                self._ground.append(paint._replace(colours=((206, 204, 196),)))

    def _add_horizon(self) -> None:
        for z, height in ((700.0, 70.0), (420.0, 34.0)):
            if self._chance(0.6):
                x = self._uniform(-200, 200)
                self._ground.append(objects.hills(self._look("vegetation"), z, x, 1500, height * self._uniform(0.6, 1.3), self._variant()))
        for _ in range(int(self._uniform(0, 7))):
            x, width = self._uniform(-60, 60), self._uniform(8, 20)
            z, height = self._uniform(160, 260), self._uniform(14, 46)
            self._background.append(self._building(self._look("building"), 1, x, z, width, height, width, pitched=False))
        for _ in range(3):
            x, z = self._uniform(-30, 30), self._uniform(115, 150)
            self._background.append(objects.tree(self._look("vegetation"), x, z, self._uniform(7, 13), self._variant()))

    # --- beside the street ---

    def _add_frontage(self, side: _Side, crossing: float | None) -> None:
        """Buildings, houses or trees along one side, from the camera to the far end, with a gap where a road crosses."""
        z = self._uniform(-8, 1)
        while z < _FAR:
            length = self._uniform(7, 15) * (1 + max(z, 0) / 60)
            if crossing is not None and crossing - 3 < z + length and z < crossing + 11:
                z = crossing + 11
                crossing = None
                continue
            self._add_lot(side, max(z, 0.6), z + length)
            z += length

    def _add_lot(self, side: _Side, z0: float, z1: float) -> None:
        x = side.sign * side.line
        if side.setting == "city":
            if self._chance(0.9):
                height = self._uniform(8, 21)
                self._background.append(self._building(self._look("building"), side.sign, x, z0, z1 - z0, height, 14, pitched=height < 11))
            else:
                self._add_boundary(side, z0, z1)
                self._background.append(objects.tree(self._look("vegetation"), x + side.sign * 4, (z0 + z1) / 2, 9, self._variant()))
            return
        if side.setting == "suburb":
            house_end = z1 - self._uniform(2, 5)
            if self._chance(0.75) and house_end - z0 > 4:
                height = self._uniform(6, 9)
                self._background.append(self._building(self._look("building"), side.sign, x, z0, house_end - z0, height, 9, pitched=True))
            self._add_plants(side, z0, z1, count=2, low=4, high=9)
        else:
            self._add_plants(side, z0, z1, count=3, low=6, high=14)
        if self._chance(0.7):
            self._add_boundary(side, z0, z1)

    def _building(self, look: Look, sign: int, x: float, z: float, length: float, height: float, depth: float, pitched: bool) -> Placement:
        height *= 0.75 + 0.5 * look.style[3]
        return objects.building(look, sign, x, z, z + length, height, depth, pitched, self._light.lamps)

    def _add_plants(self, side: _Side, z0: float, z1: float, count: int, low: float, high: float) -> None:
        for _ in range(count):
            x = side.sign * (self._uniform(side.front + 1, side.line + 8) if side.setting == "park" else self._uniform(side.front + 1, side.line))
            z = max(self._uniform(z0, z1), 4.0)
            look = self._look("vegetation")
            if self._chance(0.35):
                self._background.append(objects.bush(look, x, z, self._uniform(0.8, 2), self._variant()))
            else:
                self._background.append(objects.tree(look, x, z, self._uniform(low, high), self._variant()))

    def _add_boundary(self, side: _Side, z0: float, z1: float) -> None:
        """A fence, wall or hedge between the pavement and what lies behind it."""
        group, texture, height = (
            ("fence", Texture.FENCE, self._uniform(0.9, 1.5)),
            ("wall", Texture.MASONRY, self._uniform(1.0, 2.4)),
            ("vegetation", Texture.TURF, self._uniform(0.9, 1.8)),
        )[int(3 * self._rng.random())]
        if group in self._classes:
            depth = 0.08 if group == "fence" else 0.4 if group == "wall" else 0.9
            self._boundaries.append(objects.row(self._look(group), texture, side.sign, side.sign * side.front, z0, z1, height, depth))

    # --- on the pavement ---

    def _add_furniture(self, side: _Side, crossing: float | None) -> None:
        x = side.sign * (side.kerb + 0.5)
        offset = self._uniform(6, 22)
        if "pole" in self._classes:
            look = self._look("pole")
            for k in range(4):
                self._foreground.append(objects.pole(look, x, offset + 24 * k, self._uniform(6.5, 7.5), self._light.lamps, -side.sign))
            for _ in range(int(self._uniform(0, 3))):
                self._add_sign(x, self._uniform(6, 45))
            if crossing is not None:
                self._add_traffic_light(x, crossing - 4)
        if self._chance(0.45):
            look, spacing = self._look("vegetation"), self._uniform(8, 13)
            for k in range(5):
                self._foreground.append(objects.tree(look, x + 0.2 * side.sign, offset + 5 + spacing * k, self._uniform(4.5, 7.5), self._variant()))
        for _ in range(int(self._uniform(0, 2.4))):
            self._add_parked_two_wheeler(x + 0.3 * side.sign, self._uniform(6, 28))

    def _add_sign(self, x: float, z: float) -> None:
        height = self._uniform(2.1, 2.6)
        self._foreground.append(objects.pole(self._look("pole"), x, z + 0.02, height, 0))
        if "traffic sign" in self._classes:
            self._foreground.append(objects.sign(self._look("traffic sign"), x, height, z))

    def _add_traffic_light(self, x: float, z: float) -> None:
        self._foreground.append(objects.pole(self._look("pole"), x, z + 0.02, 3.6, 0))
        if "traffic light" in self._classes:
            phase = int(3 * self._rng.random())
            self._foreground.append(objects.traffic_light(self._look("traffic light"), x, 2.6, z, phase))

    def _add_parked_two_wheeler(self, x: float, z: float) -> None:
        group = "motorcycle" if self._chance(0.3) else "bicycle"
        if group in self._classes:
            yaw = math.pi / 2 + self._uniform(-0.5, 0.5)
            self._foreground.append(objects.two_wheeler(self._look(group), group == "motorcycle", x, z, yaw))

    def _add_pedestrians(self, side: _Side) -> None:
        if "person" not in self._classes:
            return
        for _ in range(int(self._uniform(0, 5.5 if side.setting == "city" else 3))):
            x, z = side.sign * self._uniform(side.kerb + 0.4, side.front - 0.4), self._uniform(6, 36)
            for companion in range(1 + self._chance(0.35)):
                place = x + 0.7 * companion, z + 0.3 * companion
                self._foreground.append(objects.person(self._look("person"), *place, self._rng))

    # --- on the road ---

    def _add_traffic(self, left: _Side, right: _Side) -> None:
        for side in (left, right):
            if side.parking:
                yaw = 0.0 if side.sign > 0 else math.pi
                z = self._uniform(7, 13)
                while z < 60:
                    self._add_vehicle("car", side.sign * (side.kerb - _PARKING / 2 - 0.1), z, yaw)
                    z += self._uniform(5.6, 14)
        self._add_lane(0.0, 0.0, self._uniform(9, 26))
        self._add_lane(-_LANE, math.pi, self._uniform(9, 24))
        if right.kerb - right.parking * _PARKING > 1.5 * _LANE:
            self._add_lane(_LANE, 0.0, self._uniform(7, 30))
        if self._chance(0.4):
            edge = right.kerb - right.parking * _PARKING - 0.9
            self._add_ridden("bicycle" if self._chance(0.65) else "motorcycle", edge, self._uniform(6, 22))

    def _add_lane(self, x: float, yaw: float, z: float) -> None:
        while z < 90:
            draw = self._rng.random()
            kind = "car" if draw < 0.74 else "truck" if draw < 0.85 else "bus" if draw < 0.94 else "train" if yaw else "car"
            if kind in ("bus", "truck", "train"):
                z += 8
            self._add_vehicle(kind, x + self._uniform(-0.25, 0.25), z, yaw)
            z += self._uniform(8, 40) + (16 if kind == "train" else 0)

    def _add_vehicle(self, kind: str, x: float, z: float, yaw: float) -> None:
        if kind in self._classes:
            make = {"car": objects.car, "truck": objects.truck, "bus": objects.bus, "train": objects.train}[kind]
            self._foreground.append(make(self._look(kind), x, z, yaw))

    def _add_ridden(self, kind: str, x: float, z: float) -> None:
        if kind in self._classes and "rider" in self._classes:
            yaw = self._uniform(0.6, 1.2) * (1 if self._chance(0.5) else -1)
            self._foreground.append(objects.two_wheeler(self._look(kind), kind == "motorcycle", x, z + 0.02, yaw))
            self._foreground.append(objects.rider(self._look("rider"), x, z, yaw, self._rng))

    def _add_crossing_traffic(self, crossing: float, left: _Side, right: _Side) -> None:
        """Vehicles on the road that crosses, people and riders on the zebra crossing before it."""
        for z, yaw in ((crossing + 6, -math.pi / 2), (crossing + 2, math.pi / 2)):
            if self._chance(0.6):
                draw = self._rng.random()
                kind = "car" if draw < 0.5 else "bus" if draw < 0.68 else "truck" if draw < 0.86 else "train"
                self._add_vehicle(kind, self._uniform(-14, 14), z, yaw)
        for _ in range(int(self._uniform(0, 4)) if "person" in self._classes else 0):
            self._foreground.append(
                objects.person(self._look("person"), self._uniform(-left.kerb, right.kerb), crossing - self._uniform(1, 3), self._rng)
            )
        if self._chance(0.3):
            self._add_ridden("bicycle", self._uniform(-4, 3), crossing - 4)

    # --- what is not labelled ---

    def _add_ignored(self, side: _Side, amount: float) -> None:
        """Our own bonnet in a third of the scenes, and bins and crates on the pavement in another third."""
        draw = self._rng.random()
        grey = self._uniform(24, 70)
        paint = (grey, grey, grey + 6)
        if draw < 1 / 3:
            z, camera = 1.0, self._camera
            metre = camera.focal / z  # in pixels
            low = camera.eye - (camera.height - camera.row) / metre
            middle = (camera.width / 2 - camera.column) / metre
            bonnet = objects.bonnet(IGNORE_INDEX, low, z, 1.04 * camera.width / metre, 1.5 * amount * camera.height / metre, paint)
            self._foreground.append(bonnet._replace(position=(middle, low, z)))
        elif draw < 2 / 3:
            for _ in range(3):
                x, z = side.kerb + self._uniform(0.3, 1.6), self._uniform(9, 20)
                self._foreground.append(objects.bin_or_crate(IGNORE_INDEX, x, z, self._uniform(0.8, 1.3), paint))


def _far_end(placement: Placement) -> float:
    """Distance by which objects are sorted: the end of what runs along the street from its position, the middle of everything else."""
    runs_along = placement.mesh.points[:, 2].min() >= 0
    return placement.position[2] + (placement.size[2] if runs_along else 0.0)
