"""What lies beside the road: ground, horizon, buildings, gardens, street furniture."""

from shared.data.scenes import objects
from shared.data.scenes.classes import Look
from shared.data.scenes.geometry import Placement
from shared.data.scenes.mesh import Texture
from shared.data.scenes.stage import Side, Stage

_FAR = 115.0


def add_ground(stage: Stage, left: Side, right: Side, crossing: float | None) -> None:
    """Grass to the horizon, pavements, the road, and a road that crosses at z = `crossing` with a zebra crossing before it."""
    for side in (left, right):
        x0, x1 = sorted((0.0, side.sign * 400.0))
        stage.ground.append(objects.ground(stage.look("terrain"), Texture.TURF, x0, x1, 0.5, 900))
    for side in (left, right):
        wide = side.front if side.setting != "city" else side.front + 16
        x0, x1 = sorted((side.sign * side.kerb, side.sign * wide))
        stage.ground.append(objects.ground(stage.look("sidewalk"), Texture.PAVING, x0, x1, 0.5, 400))
    road = stage.look("road")
    stage.ground.append(objects.ground(road, Texture.ROAD, -left.kerb, right.kerb, 0.5, 500))
    if crossing is not None:
        zebra = objects.ground(road, Texture.ZEBRA, 0.4 - left.kerb, right.kerb - 0.4, crossing - 3.4, crossing - 0.9)
        across = objects.ground(road, Texture.ROAD, -200, 200, crossing, crossing + 8)
        stage.ground += [part._replace(continues=True) for part in (zebra, across)]


def add_horizon(stage: Stage) -> None:
    """Wooded hills, distant towers, and a few trees where the street ends."""
    for z, height in ((700.0, 70.0), (420.0, 34.0)):
        if stage.chance(0.6):
            x = stage.uniform(-200, 200)
            stage.ground.append(objects.hills(stage.look("vegetation"), z, x, 1500, height * stage.uniform(0.6, 1.3), stage.variant()))
    for _ in range(int(stage.uniform(0, 7))):
        x, width = stage.uniform(-60, 60), stage.uniform(8, 20)
        z, height = stage.uniform(160, 260), stage.uniform(14, 46)
        stage.background.append(_building(stage, stage.look("building"), 1, x, z, width, height, width, pitched=False))
    for _ in range(3):
        x, z = stage.uniform(-30, 30), stage.uniform(115, 150)
        stage.background.append(objects.tree(stage.look("vegetation"), x, z, stage.uniform(7, 13), stage.variant()))


def add_frontage(stage: Stage, side: Side, crossing: float | None) -> None:
    """Buildings, houses or trees along one side, from the camera to the far end, with a gap where a road crosses."""
    z = stage.uniform(-8, 1)
    while z < _FAR:
        length = stage.uniform(7, 15) * (1 + max(z, 0) / 60)
        if crossing is not None and crossing - 3 < z + length and z < crossing + 11:
            z = crossing + 11
            crossing = None  # one gap, and the lots go on behind it
            continue
        _add_lot(stage, side, max(z, 0.6), z + length)
        z += length


def _add_lot(stage: Stage, side: Side, z0: float, z1: float) -> None:
    x = side.sign * side.line
    if side.setting == "city":
        if stage.chance(0.9):
            height = stage.uniform(8, 21)
            stage.background.append(_building(stage, stage.look("building"), side.sign, x, z0, z1 - z0, height, 14, pitched=height < 11))
        else:
            _add_boundary(stage, side, z0, z1)
            stage.background.append(objects.tree(stage.look("vegetation"), x + side.sign * 4, (z0 + z1) / 2, 9, stage.variant()))
        return
    if side.setting == "suburb":
        house_end = z1 - stage.uniform(2, 5)
        if stage.chance(0.75) and house_end - z0 > 4:
            height = stage.uniform(6, 9)
            stage.background.append(_building(stage, stage.look("building"), side.sign, x, z0, house_end - z0, height, 9, pitched=True))
        _add_plants(stage, side, z0, z1, count=2, low=4, high=9)
    else:
        _add_plants(stage, side, z0, z1, count=3, low=6, high=14)
    if stage.chance(0.7):
        _add_boundary(stage, side, z0, z1)


def _building(
    stage: Stage, look: Look, sign: int, x: float, z: float, length: float, height: float, depth: float, pitched: bool
) -> Placement:
    height *= 0.75 + 0.5 * look.style[3]
    return objects.building(look, sign, x, z, z + length, height, depth, pitched, stage.light.lamps)


def _add_plants(stage: Stage, side: Side, z0: float, z1: float, count: int, low: float, high: float) -> None:
    for _ in range(count):
        deepest = side.line + 8 if side.setting == "park" else side.line
        x = side.sign * stage.uniform(side.front + 1, deepest)
        z = max(stage.uniform(z0, z1), 4.0)
        look = stage.look("vegetation")
        if stage.chance(0.35):
            stage.background.append(objects.bush(look, x, z, stage.uniform(0.8, 2), stage.variant()))
        else:
            stage.background.append(objects.tree(look, x, z, stage.uniform(low, high), stage.variant()))


def _add_boundary(stage: Stage, side: Side, z0: float, z1: float) -> None:
    """A fence, wall or hedge between the pavement and what lies behind it."""
    group, texture, height = (
        ("fence", Texture.FENCE, stage.uniform(0.9, 1.5)),
        ("wall", Texture.MASONRY, stage.uniform(1.0, 2.4)),
        ("vegetation", Texture.TURF, stage.uniform(0.9, 1.8)),
    )[int(3 * stage.rng.random())]
    if group in stage.classes:
        depth = 0.08 if group == "fence" else 0.4 if group == "wall" else 0.9
        stage.boundaries.append(objects.row(stage.look(group), texture, side.sign, side.sign * side.front, z0, z1, height, depth))


def add_furniture(stage: Stage, side: Side, crossing: float | None) -> None:
    """Street lamps, signs, traffic lights before a crossing, a row of trees of one species."""
    x = side.sign * (side.kerb + 0.5)
    offset = stage.uniform(6, 22)
    if "pole" in stage.classes:
        look = stage.look("pole")
        for k in range(3):
            stage.foreground.append(objects.pole(look, x, offset + 24 * k, stage.uniform(6.5, 7.5), stage.light.lamps, -side.sign))
        for _ in range(int(stage.uniform(0, 3))):
            _add_sign(stage, x, stage.uniform(6, 45))
        if crossing is not None:
            _add_traffic_light(stage, x, crossing - 4)
    if stage.chance(0.45):
        look, spacing = stage.look("vegetation"), stage.uniform(8, 13)
        for k in range(5):
            stage.foreground.append(
                objects.tree(look, x + 0.2 * side.sign, offset + 5 + spacing * k, stage.uniform(4.5, 7.5), stage.variant())
            )


def _add_sign(stage: Stage, x: float, z: float) -> None:
    height = stage.uniform(2.1, 2.6)
    # a little behind the sign, so that it is drawn first
    stage.foreground.append(objects.pole(stage.look("pole"), x, z + 0.02, height, 0))
    if "traffic sign" in stage.classes:
        stage.foreground.append(objects.sign(stage.look("traffic sign"), x, height, z))


def _add_traffic_light(stage: Stage, x: float, z: float) -> None:
    # a little behind the light, so that it is drawn first
    stage.foreground.append(objects.pole(stage.look("pole"), x, z + 0.02, 3.6, 0))
    if "traffic light" in stage.classes:
        phase = int(3 * stage.rng.random())
        stage.foreground.append(objects.traffic_light(stage.look("traffic light"), x, 2.6, z, phase))
