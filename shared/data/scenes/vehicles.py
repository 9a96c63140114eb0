"""Meshes of what drives: unit boxes, x and z in [-0.5, 0.5], y in [0, 1], front at +z. Materials are in `Finish`."""

from enum import IntEnum
from functools import cache

from shared.data.scenes.mesh import Mesh, MeshBuilder, Point, ellipse, stroke


class Finish(IntEnum):
    """Materials of vehicles; the colours of a vehicle are in this order."""

    BODY = 0
    GLASS = 1
    TYRE = 2
    METAL = 3
    RED_LAMP = 4
    WHITE_LAMP = 5
    STRIPE = 6


CAR_BODIES = ("saloon", "estate", "hatchback", "van")

# (z, y) outline of the cabin from the rear end of its foot to the front end: foot, roof, roof, foot
_CABINS = {
    "saloon": ((-0.40, 0.58), (-0.24, 1.0), (0.06, 1.0), (0.26, 0.60)),
    "estate": ((-0.49, 0.56), (-0.42, 1.0), (0.08, 1.0), (0.27, 0.58)),
    "hatchback": ((-0.48, 0.58), (-0.30, 1.0), (0.08, 1.0), (0.28, 0.60)),
    "van": ((-0.49, 0.50), (-0.47, 1.0), (0.24, 1.0), (0.42, 0.52)),
}


@cache
def car(body: str, pattern: int) -> Mesh:
    """Patterns: 0 plain, 1 a stripe along the sides, 2 a roof in the second colour."""
    mesh = MeshBuilder()
    (foot_rear, belt), (roof_rear, _), (roof_front, _), (foot_front, _) = _CABINS[body]
    middle = (0.0, 0.4, 0.0)
    # chassis in shadow, then the lower body: flanks, tail, nose, bonnet
    mesh.box((-0.46, 0.02, -0.46), (0.46, 0.3, 0.46), Finish.TYRE)
    mesh.box((-0.5, 0.17, -0.5), (0.5, belt, 0.5), Finish.BODY, taper=0.025)
    for z in (-0.31, 0.32):
        _wheels(mesh, z, radius_z=0.085, radius_y=0.225)
    if pattern == 1:
        _flank_band(mesh, -0.44, 0.44, 0.36, 0.45, Finish.STRIPE)
    _flank_band(mesh, -0.5, 0.5, 0.17, 0.22, Finish.TYRE)
    _lamps(mesh, 0.46)
    # cabin: a solid of glass, then pillars and roof
    inset, roof_inset = 0.46, 0.37
    foot = [(-inset, belt, foot_rear), (inset, belt, foot_rear), (inset, belt, foot_front), (-inset, belt, foot_front)]
    roof = [(-roof_inset, 1, roof_rear), (roof_inset, 1, roof_rear), (roof_inset, 1, roof_front), (-roof_inset, 1, roof_front)]
    paint = Finish.STRIPE if pattern == 2 else Finish.BODY
    for a, b in ((2, 3), (0, 1), (1, 2), (3, 0)):
        face: list[Point] = [foot[a], foot[b], roof[b], roof[a]]
        mesh.solid(face, Finish.BODY, middle)
        mesh.solid(_inset(face, 0.10), Finish.GLASS, middle)
    for side in (-1, 1):
        pillar = [
            (side * x, y, z) for x, y, z in ((inset, belt, -0.06), (inset, belt, -0.02), (roof_inset, 1, -0.04), (roof_inset, 1, -0.08))
        ]
        mesh.solid(pillar, Finish.BODY, middle)
    # the roof curves: a thin band of it shows from every side
    mesh.box((-roof_inset, 0.96, roof_rear), (roof_inset, 1.04, roof_front), paint, taper=0.03)
    return mesh.build()


@cache
def bus(pattern: int) -> Mesh:
    mesh = MeshBuilder()
    mesh.box((-0.47, 0.02, -0.48), (0.47, 0.2, 0.48), Finish.TYRE)
    mesh.box((-0.5, 0.09, -0.5), (0.5, 1, 0.5), Finish.BODY, taper=0.01)
    for z in (-0.3, 0.34):
        _wheels(mesh, z, radius_z=0.045, radius_y=0.16)
    low, high = ((0.42, 0.48), (0.14, 0.30), (0.84, 0.93))[pattern]
    _flank_band(mesh, -0.5, 0.5, low, high, Finish.STRIPE)
    _windows(mesh, count=7, low=0.5, high=0.82)
    _end_windows(mesh, low=0.46, high=0.82)
    for z in (-0.06, 0.42):  # doors
        _flank_band(mesh, z, z + 0.07, 0.14, 0.80, Finish.GLASS)
    for end in (-1, 1):  # destination board
        _end_band(mesh, end, -0.3, 0.3, 0.86, 0.95, Finish.TYRE)
    _lamps(mesh, 0.28)
    return mesh.build()


@cache
def train(pattern: int) -> Mesh:
    mesh = MeshBuilder()
    mesh.box((-0.44, 0.0, -0.49), (0.44, 0.2, 0.49), Finish.TYRE)
    mesh.box((-0.5, 0.1, -0.5), (0.5, 0.92, 0.5), Finish.BODY, taper=0.008)
    low, high = ((0.12, 0.36), (0.36, 0.44), (0.12, 0.2))[pattern]
    _flank_band(mesh, -0.5, 0.5, low, high, Finish.STRIPE)
    for end in (-1, 1):
        _end_band(mesh, end, -0.46, 0.46, low, high, Finish.STRIPE)
    _windows(mesh, count=12, low=0.48, high=0.78)
    for z in (-0.32, -0.02, 0.28):
        _flank_band(mesh, z, z + 0.05, 0.14, 0.80, Finish.GLASS)
    _end_windows(mesh, low=0.44, high=0.80)
    _lamps(mesh, 0.32)
    mesh.box((-0.36, 0.9, -0.4), (0.36, 0.97, 0.4), Finish.METAL)
    for end in (-1, 1):  # pantograph
        mesh.profile(stroke((0.05 * end, 0.97), (0.012 * end, 1.14), 0.006), Finish.TYRE)
    return mesh.build()


@cache
def truck(pattern: int, oncoming: bool) -> Mesh:
    """A box or tipper truck. The part that is farther away is drawn first, so the two directions are two meshes."""
    mesh = MeshBuilder()
    mesh.box((-0.42, 0.08, -0.49), (0.42, 0.26, 0.48), Finish.TYRE)
    if oncoming:
        _cargo(mesh, pattern)
        _cab(mesh)
    else:
        _cab(mesh)
        _cargo(mesh, pattern)
    for z in (-0.38, -0.24, 0.36):
        _wheels(mesh, z, radius_z=0.06, radius_y=0.17)
    _lamps(mesh, 0.27)
    return mesh.build()


@cache
def bicycle() -> Mesh:
    """In the plane x = 0."""
    mesh = MeshBuilder()
    rear, front, seat, bars, crank = (-0.31, 0.33), (0.31, 0.33), (-0.13, 0.86), (0.22, 0.95), (-0.02, 0.36)
    for hub in (rear, front):
        _rim(mesh, hub, radius_z=0.19, radius_y=0.33, inner=0.78)
    for start, end in ((rear, crank), (rear, seat), (crank, seat), (crank, bars), (seat, bars), (bars, front)):
        mesh.profile(stroke(start, end, 0.05), Finish.BODY)
    mesh.profile(stroke((-0.2, 0.9), (-0.06, 0.9), 0.07), Finish.TYRE)
    mesh.profile(stroke((0.14, 1.0), (0.26, 0.97), 0.05), Finish.TYRE)
    return mesh.build()


@cache
def motorcycle() -> Mesh:
    """In the plane x = 0."""
    mesh = MeshBuilder()
    for z in (-0.32, 0.33):
        _rim(mesh, (z, 0.28), radius_z=0.16, radius_y=0.28, inner=0.58)
    mesh.profile(stroke((0.33, 0.28), (0.2, 0.84), 0.05), Finish.METAL)  # fork
    mesh.profile([(-0.32, 0.24), (0.12, 0.2), (0.2, 0.5), (-0.14, 0.54), (-0.34, 0.34)], Finish.METAL)  # engine
    mesh.profile(stroke((-0.04, 0.24), (-0.44, 0.32), 0.07), Finish.TYRE)  # exhaust
    mesh.profile([(-0.5, 0.74), (-0.46, 0.58), (-0.12, 0.5), (-0.02, 0.7), (-0.2, 0.74)], Finish.BODY)  # tail
    mesh.profile([(-0.42, 0.75), (-0.12, 0.68), (0.0, 0.76), (-0.1, 0.82), (-0.38, 0.86)], Finish.TYRE)  # seat
    mesh.profile([(-0.06, 0.62), (0.16, 0.54), (0.24, 0.8), (0.1, 0.96), (-0.02, 0.84)], Finish.BODY)  # tank
    mesh.profile([(0.18, 0.5), (0.33, 0.63), (0.48, 0.5), (0.42, 0.46), (0.33, 0.55), (0.24, 0.46)], Finish.BODY)  # mudguard
    mesh.profile(stroke((0.12, 1.02), (0.24, 0.96), 0.05), Finish.TYRE)
    mesh.profile(ellipse(0.27, 0.84, 0.045, 0.08), Finish.WHITE_LAMP)
    mesh.profile(ellipse(-0.49, 0.68, 0.02, 0.05), Finish.RED_LAMP)
    return mesh.build()


def _rim(mesh: MeshBuilder, hub: tuple[float, float], radius_z: float, radius_y: float, inner: float) -> None:
    z, y = hub
    outer, inside = ellipse(z, y, radius_z, radius_y, 12), ellipse(z, y, radius_z * inner, radius_y * inner, 12)
    for k in range(12):
        mesh.profile([outer[k - 1], outer[k], inside[k], inside[k - 1]], Finish.TYRE)
    mesh.profile(ellipse(z, y, radius_z * 0.2, radius_y * 0.2, 8), Finish.METAL)


def _cab(mesh: MeshBuilder) -> None:
    mesh.box((-0.46, 0.14, 0.27), (0.46, 0.8, 0.5), Finish.BODY, taper=0.02)
    _end_band(mesh, 1, -0.4, 0.4, 0.5, 0.72, Finish.GLASS)
    _end_band(mesh, 1, -0.3, 0.3, 0.3, 0.4, Finish.TYRE)
    _flank_band(mesh, 0.33, 0.44, 0.5, 0.72, Finish.GLASS, x=0.46)


def _cargo(mesh: MeshBuilder, pattern: int) -> None:
    mesh.box((-0.5, 0.24, -0.5), (0.5, 1 if pattern else 0.62, 0.25), Finish.STRIPE, taper=0.004)
    if pattern == 1:
        _flank_band(mesh, -0.4, 0.15, 0.5, 0.8, Finish.BODY)
    if pattern:
        _end_band(mesh, -1, -0.015, 0.015, 0.28, 0.96, Finish.TYRE)
    _end_band(mesh, -1, -0.46, 0.46, 0.16, 0.24, Finish.METAL)


def _wheels(mesh: MeshBuilder, z: float, radius_z: float, radius_y: float) -> None:
    for x in (-0.501, 0.501):
        for scale, material in ((1.0, Finish.TYRE), (0.55, Finish.METAL)):
            disc: list[Point] = [(x, y, dz) for dz, y in ellipse(z, radius_y, radius_z * scale, radius_y * scale)]
            mesh.solid(disc, material, (0.0, radius_y, z))


def _flank_band(mesh: MeshBuilder, z0: float, z1: float, y0: float, y1: float, material: Finish, x: float = 0.5) -> None:
    for side in (-x, x):
        mesh.solid([(side, y0, z0), (side, y0, z1), (side, y1, z1), (side, y1, z0)], material, (0, 0.5, 0))


def _end_band(mesh: MeshBuilder, end: int, x0: float, x1: float, y0: float, y1: float, material: Finish) -> None:
    z = 0.5 * end
    mesh.solid([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], material, (0, 0.5, 0))


def _windows(mesh: MeshBuilder, count: int, low: float, high: float) -> None:
    _flank_band(mesh, -0.47, 0.47, low, high, Finish.GLASS)
    for k in range(1, count):
        z = -0.47 + 0.94 * k / count
        _flank_band(mesh, z - 0.006, z + 0.006, low, high, Finish.BODY)


def _end_windows(mesh: MeshBuilder, low: float, high: float) -> None:
    for end in (-1, 1):
        _end_band(mesh, end, -0.43, 0.43, low, high, Finish.GLASS)


def _lamps(mesh: MeshBuilder, y: float) -> None:
    """Red lamps behind, white lamps and a grille in front, number plates at both ends."""
    for end, lamp in ((-1, Finish.RED_LAMP), (1, Finish.WHITE_LAMP)):
        for x in (-0.38, 0.38):
            _end_band(mesh, end, x - 0.09, x + 0.09, y - 0.05, y + 0.05, lamp)
        _end_band(mesh, end, -0.15, 0.15, y - 0.12, y - 0.05, Finish.METAL)
    _end_band(mesh, 1, -0.24, 0.24, y - 0.05, y + 0.04, Finish.TYRE)


def _inset(face: list[Point], share: float) -> list[Point]:
    """The polygon shrunk towards its middle."""
    middle = [sum(axis) / len(face) for axis in zip(*face)]
    return [(x + share * (middle[0] - x), y + share * (middle[1] - y), z + share * (middle[2] - z)) for x, y, z in face]
