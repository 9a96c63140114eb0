"""What moves, or could: vehicles, people, and what has no label."""

import math

from shared.constants import IGNORE_INDEX
from shared.data.scenes import objects
from shared.data.scenes.stage import LANE, PARKING, Side, Stage

_VEHICLES = {
    "car": objects.car,
    "truck": objects.truck,
    "bus": objects.bus,
    "train": objects.train,
    "bicycle": objects.bicycle,
    "motorcycle": objects.motorcycle,
}


def add_pedestrians(stage: Stage, side: Side) -> None:
    """People on the pavement, some in pairs."""
    if "person" not in stage.classes:
        return
    for _ in range(int(stage.uniform(0, 5.5 if side.setting == "city" else 3))):
        x, z = side.sign * stage.uniform(side.kerb + 0.4, side.front - 0.4), stage.uniform(6, 36)
        for companion in range(1 + stage.chance(0.35)):
            place = x + 0.7 * companion, z + 0.3 * companion
            stage.foreground.append(objects.person(stage.look("person"), *place, stage.rng))


def add_parked(stage: Stage, side: Side) -> None:
    """Cars along the kerb, bicycles and motorcycles on the pavement."""
    if side.parking:
        z = stage.uniform(7, 13)
        while z < 50:
            _add_vehicle(stage, "car", side.sign * (side.kerb - PARKING / 2 - 0.1), z, 0.0 if side.sign > 0 else math.pi)
            z += stage.uniform(5.6, 14)
    for _ in range(int(stage.uniform(0, 2.4))):
        kind = "motorcycle" if stage.chance(0.3) else "bicycle"
        yaw = math.pi / 2 + stage.uniform(-0.5, 0.5)
        _add_vehicle(stage, kind, side.sign * (side.kerb + 0.8), stage.uniform(6, 28), yaw)


def add_traffic(stage: Stage, right: Side) -> None:
    """Vehicles in our lane, in the one that comes towards us and in the one to our right, and a rider at the edge."""
    edge = right.kerb - right.parking * PARKING
    _add_lane(stage, 0.0, 0.0, stage.uniform(9, 26))
    _add_lane(stage, -LANE, math.pi, stage.uniform(9, 24))
    if edge > 1.5 * LANE:
        _add_lane(stage, LANE, 0.0, stage.uniform(7, 30))
    if stage.chance(0.4):
        _add_ridden(stage, "bicycle" if stage.chance(0.65) else "motorcycle", edge - 0.9, stage.uniform(6, 22))


def _add_lane(stage: Stage, x: float, yaw: float, z: float) -> None:
    while z < 75:
        draw = stage.rng.random()
        kind = "car" if draw < 0.74 else "truck" if draw < 0.85 else "bus" if draw < 0.96 else "train" if yaw else "car"
        # z is the middle of a vehicle, and these are long
        if kind in ("bus", "truck", "train"):
            z += 8
        _add_vehicle(stage, kind, x + stage.uniform(-0.25, 0.25), z, yaw)
        z += stage.uniform(8, 40) + (16 if kind == "train" else 0)


def _add_vehicle(stage: Stage, kind: str, x: float, z: float, yaw: float) -> None:
    if kind in stage.classes:
        stage.foreground.append(_VEHICLES[kind](stage.look(kind), x, z, yaw))


def _add_ridden(stage: Stage, kind: str, x: float, z: float) -> None:
    if kind in stage.classes and "rider" in stage.classes:
        yaw = stage.uniform(0.6, 1.2) * (1 if stage.chance(0.5) else -1)
        # a little behind its rider, so that it is drawn first
        _add_vehicle(stage, kind, x, z + 0.02, yaw)
        stage.foreground.append(objects.rider(stage.look("rider"), x, z, yaw, stage.rng))


def add_crossing_traffic(stage: Stage, crossing: float, left: Side, right: Side) -> None:
    """Vehicles on the road that crosses, people and riders on the zebra crossing before it."""
    for z, yaw in ((crossing + 6, -math.pi / 2), (crossing + 2, math.pi / 2)):
        if stage.chance(0.6):
            draw = stage.rng.random()
            kind = "car" if draw < 0.5 else "bus" if draw < 0.7 else "truck" if draw < 0.9 else "train"
            _add_vehicle(stage, kind, stage.uniform(-14, 14), z, yaw)
    for _ in range(int(stage.uniform(0, 4)) if "person" in stage.classes else 0):
        stage.foreground.append(
            objects.person(stage.look("person"), stage.uniform(-left.kerb, right.kerb), crossing - stage.uniform(1, 3), stage.rng)
        )
    if stage.chance(0.3):
        _add_ridden(stage, "bicycle", stage.uniform(-4, 3), crossing - 4)


def add_ignored(stage: Stage, side: Side, amount: float) -> None:
    """Our own bonnet, about `amount` of the image, in a third of the scenes; bins and crates on the pavement in another third."""
    draw = stage.rng.random()
    grey = stage.uniform(24, 80)
    paint = (grey * stage.uniform(0.7, 1.3), grey, grey * stage.uniform(0.7, 1.3))
    if draw < 1 / 3:
        camera = stage.camera  # at 1 m before it a metre is `focal` pixels
        x = (camera.width / 2 - camera.column) / camera.focal
        y = camera.eye - (camera.height - camera.row) / camera.focal
        width, height = 1.04 * camera.width / camera.focal, 1.25 * amount * camera.height / camera.focal
        stage.foreground.append(objects.bonnet(IGNORE_INDEX, (x, y, 1.0), width, height, paint))
    elif draw < 2 / 3:
        for _ in range(2):
            x, z = side.kerb + stage.uniform(0.3, 1.6), stage.uniform(9, 20)
            stage.foreground.append(objects.bin_or_crate(IGNORE_INDEX, x, z, stage.uniform(0.8, 1.3), paint))
