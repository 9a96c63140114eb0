"""Objects of the street: from a look to a placement with its size and colours. Lengths are metres, positions (x, z) on the ground."""

import math
from typing import TypeVar

import numpy as np

from shared.data.scenes import figures, street, vehicles
from shared.data.scenes.classes import Colour, Look
from shared.data.scenes.geometry import Placement
from shared.data.scenes.mesh import Texture

_T = TypeVar("_T")

_GLASS: Colour = (58, 70, 80)
_TYRE: Colour = (28, 28, 30)
_METAL: Colour = (150, 152, 154)
_RED_LAMP: Colour = (210, 30, 30)
_WHITE_LAMP: Colour = (250, 246, 220)
_BARK: Colour = (86, 68, 52)
_MARKING: Colour = (226, 224, 214)
_SKINS: tuple[Colour, ...] = ((232, 190, 160), (206, 156, 122), (150, 104, 78), (96, 66, 50))
_HAIRS: tuple[Colour, ...] = ((40, 30, 26), (90, 60, 38), (180, 144, 90), (120, 116, 112))
_TROUSERS: tuple[Colour, ...] = ((48, 56, 80), (42, 42, 46), (120, 106, 84), (84, 90, 98))
_ROOFS: tuple[Colour, ...] = ((140, 72, 54), (92, 84, 82), (112, 66, 56), (74, 78, 88))


def _pick(options: tuple[_T, ...], share: float) -> _T:
    """The option at `share` in [0, 1) of the way through."""
    return options[int(share * len(options))]


def _shade(paint: Colour, factor: float) -> Colour:
    return (factor * paint[0], factor * paint[1], factor * paint[2])


def ground(look: Look, texture: Texture, x0: float, x1: float, z0: float, z1: float) -> Placement:
    """A rectangle of road, paving or grass."""
    second = _MARKING if texture in (Texture.ROAD, Texture.ZEBRA) else _dry(look.paint)
    position, size = (x0, 0.0, z0), (x1 - x0, 1.0, z1 - z0)
    return Placement(street.ground(texture), look.class_id, position, size, (look.paint,), second, look.style, casts_shadow=False)


def row(look: Look, texture: Texture, side: int, x: float, z0: float, z1: float, height: float, depth: float = 0.3) -> Placement:
    """A wall, fence, hedge or kerb along the street, from z0 to z1."""
    second = _shade(look.paint, 0.42) if texture is Texture.FENCE else _dry(look.paint)
    return Placement(street.block(texture), look.class_id, (x, 0, z0), (side * depth, height, z1 - z0), (look.paint,), second, look.style)


def building(look: Look, side: int, x: float, z0: float, z1: float, height: float, depth: float, pitched: bool, lamps: float) -> Placement:
    """A building with its front along x from z0 to z1; `lamps` (0..1) lights its windows."""
    roof = _pick(_ROOFS, look.style[5]) if pitched else _shade(look.paint, 0.82)
    glass = (176 + 244 * lamps, 200 + 120 * lamps, 220 - 50 * lamps)  # mirrors the sky by day, shines at dusk
    mesh = street.building("pitched" if pitched else "flat")
    return Placement(mesh, look.class_id, (x, 0, z0), (side * depth, height, z1 - z0), (look.paint, roof), glass, look.style)


def hills(look: Look, z: float, x: float, width: float, height: float, variant: int) -> Placement:
    paint = _shade(look.paint, 0.9)
    position, size = (x, 0, z), (width, height, 1)
    return Placement(street.skyline(variant), look.class_id, position, size, (paint,), _dry(paint), look.style, casts_shadow=False)


def tree(look: Look, x: float, z: float, height: float, variant: int) -> Placement:
    form = _pick(street.TREE_FORMS, look.style[2])
    width = height * (0.62 + 0.3 * look.style[3])
    leaves = (look.paint, _BARK)
    return Placement(street.tree(form, variant), look.class_id, (x, 0, z), (width, height, 1), leaves, _fresh(look.paint), look.style)


def bush(look: Look, x: float, z: float, height: float, variant: int) -> Placement:
    size = (height * (1.3 + look.style[3]), height, 1)
    return Placement(street.bush(variant), look.class_id, (x, 0, z), size, (look.paint,), _fresh(look.paint), look.style)


def car(look: Look, x: float, z: float, yaw: float) -> Placement:
    style = look.style
    body = _pick(vehicles.CAR_BODIES, style[3])
    pattern = _pick((0, 0, 1, 0, 2), style[2])
    height = {"saloon": 1.45, "estate": 1.5, "hatchback": 1.5, "van": 1.95}[body] * (0.94 + 0.12 * style[4])
    length = {"saloon": 4.6, "estate": 4.6, "hatchback": 3.9, "van": 4.9}[body]
    return _vehicle(look, vehicles.car(body, pattern), x, z, yaw, (1.8, height, length))


def truck(look: Look, x: float, z: float, yaw: float) -> Placement:
    oncoming = math.cos(yaw) < 0
    mesh = vehicles.truck(_pick((0, 1, 2), look.style[2]), oncoming)
    return _vehicle(look, mesh, x, z, yaw, (2.4, 2.9 + 0.7 * look.style[3], 6.5 + 2 * look.style[4]))


def bus(look: Look, x: float, z: float, yaw: float) -> Placement:
    return _vehicle(
        look, vehicles.bus(_pick((0, 1, 2), look.style[2])), x, z, yaw, (2.5, 2.9 + 0.5 * look.style[3], 10 + 2 * look.style[4])
    )


def train(look: Look, x: float, z: float, yaw: float) -> Placement:
    return _vehicle(look, vehicles.train(_pick((0, 1, 2), look.style[2])), x, z, yaw, (2.5, 3.3 + 0.4 * look.style[3], 22.0))


def bicycle(look: Look, x: float, z: float, yaw: float) -> Placement:
    return _vehicle(look, vehicles.bicycle(), x, z, yaw, (1.0, 1.0 + 0.1 * look.style[3], 1.8))


def motorcycle(look: Look, x: float, z: float, yaw: float) -> Placement:
    return _vehicle(look, vehicles.motorcycle(), x, z, yaw, (1.0, 1.1 + 0.1 * look.style[3], 2.1))


def rider(look: Look, x: float, z: float, yaw: float, rng: np.random.Generator) -> Placement:
    colours = _clothes(look, rng)
    return Placement(figures.rider(), look.class_id, (x, 0.20, z), (1.0, 1.62, 1.75), colours, style=look.style, yaw=yaw)


def person(look: Look, x: float, z: float, rng: np.random.Generator) -> Placement:
    height = 1.5 + 0.4 * look.style[3]
    mesh = figures.pedestrian(int(figures.POSES * rng.random()))
    width = height * (0.92 + 0.2 * look.style[4])
    return Placement(mesh, look.class_id, (x, 0, z), (width, height, 1), _clothes(look, rng), style=look.style)


def pole(look: Look, x: float, z: float, height: float, lamps: float, towards: int = 0) -> Placement:
    """A pole; with `towards` ±1 a street lamp that reaches to that side."""
    lamp = (200 + 160 * lamps, 196 + 120 * lamps, 170 + 40 * lamps)
    width = (towards or 1) * (6.0 if towards else 5.0)
    return Placement(street.pole(towards != 0), look.class_id, (x, 0, z), (width, height, 1), (look.paint, lamp), style=look.style)


def traffic_light(look: Look, x: float, y: float, z: float, phase: int) -> Placement:
    """Phase 0 is red, 1 amber, 2 green."""
    on, off = ((430, 60, 40), (430, 300, 40), (60, 380, 140)), ((84, 30, 26), (84, 62, 24), (24, 70, 40))
    lamps = tuple((on if lamp == phase else off)[lamp] for lamp in range(3))
    backboard = _shade(look.paint, 0.7) if look.style[2] < 0.7 else look.accent
    size = (0.9 + 0.2 * look.style[3], 1.15, 1)
    return Placement(street.traffic_light(), look.class_id, (x, y, z), size, (look.paint, *lamps, backboard), style=look.style)


def sign(look: Look, x: float, y: float, z: float) -> Placement:
    mesh = street.sign(_pick((0, 1, 2, 3), look.style[2]), _pick((0, 1, 2, 3), look.style[3]))
    face = (236, 234, 228) if look.style[4] < 0.6 else look.accent
    size = 0.75 + 0.3 * look.style[1]
    return Placement(mesh, look.class_id, (x, y, z), (size, size, 1), (look.paint, face, (34, 36, 44)), style=look.style)


def bin_or_crate(class_id: int, x: float, z: float, height: float, paint: Colour) -> Placement:
    return Placement(street.block(Texture.PLAIN), class_id, (x, 0, z), (0.8 * height, height, height), (paint,))


def bonnet(class_id: int, position: tuple[float, float, float], width: float, height: float, paint: Colour) -> Placement:
    """The bonnet of our own car, from `position` up."""
    return Placement(street.bonnet(), class_id, position, (width, height, 1), (paint, _shade(paint, 1.5)), casts_shadow=False)


def _vehicle(look: Look, mesh: vehicles.Mesh, x: float, z: float, yaw: float, size: tuple[float, float, float]) -> Placement:
    colours = (look.paint, _GLASS, _TYRE, _METAL, _RED_LAMP, _WHITE_LAMP, look.accent)
    return Placement(mesh, look.class_id, (x, 0, z), size, colours, style=look.style, yaw=yaw)


def _clothes(look: Look, rng: np.random.Generator) -> tuple[Colour, ...]:
    skin, hair = rng.random(2)
    return (look.paint, _pick(_TROUSERS, look.style[2]), _pick(_SKINS, skin), _pick(_HAIRS, hair), (40, 36, 36), look.accent)


def _dry(paint: Colour) -> Colour:
    return (0.75 * paint[0] + 40, 0.75 * paint[1] + 30, 0.75 * paint[2] + 12)


def _fresh(paint: Colour) -> Colour:
    """The tips of leaves in the light."""
    return (1.3 * paint[0] + 26, 1.25 * paint[1] + 30, 1.1 * paint[2] + 10)
