"""Meshes of what stands still: ground, buildings, walls, plants, poles, lights, signs."""

import math
from functools import cache

import numpy as np

from shared.data.scenes.mesh import Mesh, MeshBuilder, Point, Texture, ellipse, stroke

TREE_FORMS = ("broad", "round", "tall", "conifer")
VARIANTS = 4


@cache
def ground(texture: Texture) -> Mesh:
    """The unit square x, z in [0, 1] at y = 0."""
    mesh = MeshBuilder()
    mesh.solid([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], 0, (0.5, -1, 0.5), texture)
    return mesh.build()


@cache
def block(texture: Texture) -> Mesh:
    """The unit cube, x, y, z in [0, 1]; walls, fences, hedges, kerbs."""
    mesh = MeshBuilder()
    mesh.box((0, 0, 0), (1, 1, 1), 0, texture)
    return mesh.build()


@cache
def building(roof: str) -> Mesh:
    """x, y, z in [0, 1], the side to the street at x = 0. Materials: 0 walls, 1 roof and cornice. Roofs: flat, pitched."""
    mesh = MeshBuilder()
    inside = (0.5, 0.4, 0.5)
    eaves = 0.72 if roof == "pitched" else 0.97
    walls: list[list[Point]] = [
        [(1, 0, 0), (1, 0, 1), (1, eaves, 1), (1, eaves, 0)],
        [(0, 0, 0), (1, 0, 0), (1, eaves, 0), (0, eaves, 0)],
        [(0, 0, 0), (0, 0, 1), (0, eaves, 1), (0, eaves, 0)],
    ]
    for wall in walls:
        mesh.solid(wall, 0, inside, Texture.FACADE)
    if roof == "pitched":
        mesh.solid([(0, eaves, 0), (1, eaves, 0), (0.5, 1, 0)], 0, inside, Texture.ROOF)
        mesh.solid([(1.03, eaves - 0.02, 0), (1.03, eaves - 0.02, 1), (0.5, 1, 1), (0.5, 1, 0)], 1, inside, Texture.ROOF)
        mesh.solid([(-0.03, eaves - 0.02, 0), (-0.03, eaves - 0.02, 1), (0.5, 1, 1), (0.5, 1, 0)], 1, inside, Texture.ROOF)
    else:
        mesh.box((-0.02, eaves, -0.01), (1.02, 1, 1.01), 1)
    return mesh.build()


@cache
def skyline(variant: int) -> Mesh:
    """Hills: x in [-0.5, 0.5], y in [0, 1]."""
    rng = np.random.default_rng(variant)
    phases, xs = rng.random(4) * math.tau, np.linspace(-0.5, 0.5, 33)
    heights = sum(np.sin(math.tau * (2 * k + 1) * xs + phases[k]) / (k + 1.5) for k in range(4))
    heights = 0.55 + 0.45 * heights / np.abs(heights).max() + 0.02 * rng.standard_normal(33)
    mesh = MeshBuilder()
    mesh.flat([(-0.5, -0.1), *zip(xs.tolist(), heights.tolist()), (0.5, -0.1)], 0, Texture.TURF)
    return mesh.build(billboard=True)


@cache
def tree(form: str, variant: int) -> Mesh:
    """x in about [-0.5, 0.5], y in [0, 1]. Materials: 0 leaves, 1 bark."""
    rng = np.random.default_rng([TREE_FORMS.index(form), variant])
    mesh = MeshBuilder()
    crown_foot = {"broad": 0.34, "round": 0.30, "tall": 0.14, "conifer": 0.10}[form]
    trunk = 0.045 if form == "broad" else 0.035
    mesh.flat([(-trunk, 0), (trunk, 0), (trunk * 0.6, crown_foot + 0.2), (-trunk * 0.6, crown_foot + 0.2)], 1, Texture.ROUND)
    if form == "conifer":
        for foot, width, tip in ((0.10, 0.42, 0.52), (0.30, 0.33, 0.74), (0.52, 0.24, 1.0)):
            mesh.flat(_tier(rng, foot, width, tip), 0, Texture.FOLIAGE)
        return mesh.build(billboard=True)
    if form == "broad":
        for side in (-1, 1):
            mesh.flat(stroke((0, crown_foot - 0.06), (side * 0.2, crown_foot + 0.16), 0.03), 1, Texture.ROUND)
    half_width = {"broad": 0.5, "round": 0.4, "tall": 0.2}[form]
    middle, half_height = (1 + crown_foot) / 2, (1 - crown_foot) / 2
    mesh.flat(_blob(rng, 0, middle, half_width * 0.82, half_height * 0.86), 0, Texture.FOLIAGE)
    # clumps of leaves from the lower outside to the upper middle: each is lit as a ball of its own
    for k in range(8):
        angle = math.tau * (k * 0.382 + 0.2 * rng.random()) - 0.4
        reach = 0.62 - 0.05 * k
        size = 0.40 + 0.12 * rng.random()
        x, y = half_width * reach * math.cos(angle), middle + half_height * reach * math.sin(angle) * 0.9
        mesh.flat(_blob(rng, x, y, half_width * size, half_height * size), 0, Texture.FOLIAGE)
    return mesh.build(billboard=True)


@cache
def bush(variant: int) -> Mesh:
    """x in about [-0.5, 0.5], y in [0, 1]. Materials: 0 leaves."""
    rng = np.random.default_rng([17, variant])
    mesh = MeshBuilder()
    for x, y, size in ((-0.2, 0.4, 0.34), (0.22, 0.36, 0.32), (0.0, 0.52, 0.4), (-0.1, 0.28, 0.3), (0.16, 0.24, 0.26)):
        mesh.flat([(px, max(py, 0)) for px, py in _blob(rng, x, y, size, size * 1.1)], 0, Texture.FOLIAGE)
    return mesh.build(billboard=True)


@cache
def pole(arm: bool) -> Mesh:
    """y in [0, 1], 0.02 thick; with an arm, a street lamp that reaches to +x. Materials: 0 pole, 1 lamp."""
    mesh = MeshBuilder()
    mesh.flat(stroke((0, 0), (0, 1), 0.02), 0, Texture.ROUND)
    mesh.flat(stroke((0, 0), (0, 0.12), 0.032), 0, Texture.ROUND)
    if arm:
        mesh.flat(stroke((0, 0.99), (0.26, 1.0), 0.016), 0)
        mesh.flat(ellipse(0.28, 0.992, 0.06, 0.014), 0)
        mesh.flat(ellipse(0.28, 0.984, 0.045, 0.008), 1)
    return mesh.build(billboard=True)


@cache
def traffic_light() -> Mesh:
    """x in [-0.22, 0.22], y in [0, 1]. Materials: 0 housing, 1 to 3 lamps from the top, 4 backboard."""
    mesh = MeshBuilder()
    mesh.flat([(-0.26, -0.04), (0.26, -0.04), (0.26, 1.04), (-0.26, 1.04)], 4)
    mesh.flat([(-0.19, 0), (0.19, 0), (0.19, 1), (-0.19, 1)], 0)
    for lamp in (1, 2, 3):
        mesh.flat(ellipse(0, 1.13 - 0.31 * lamp, 0.13, 0.13), lamp)
    return mesh.build(billboard=True)


@cache
def sign(shape: int, symbol: int) -> Mesh:
    """x in [-0.5, 0.5], y in [0, 1]. Shapes: disc, triangle, board, diamond. Materials: 0 rim, 1 face, 2 symbol."""
    outline = (
        ellipse(0, 0.5, 0.5, 0.5, 14),
        [(-0.56, 0.04), (0.56, 0.04), (0, 1.0)],
        [(-0.5, 0.02), (0.5, 0.02), (0.5, 0.98), (-0.5, 0.98)],
        [(0, -0.08), (0.58, 0.5), (0, 1.08), (-0.58, 0.5)],
    )[shape]
    middle_y = 0.36 if shape == 1 else 0.5
    mesh = MeshBuilder()
    mesh.flat(outline, 0)
    mesh.flat([(0.72 * x, middle_y + 0.72 * (y - middle_y)) for x, y in outline], 1)
    for part in (
        [stroke((-0.26, middle_y), (0.26, middle_y), 0.2)],
        [stroke((0, middle_y - 0.22), (0, middle_y + 0.22), 0.2)],
        [ellipse(0, middle_y, 0.17, 0.17)],
        [stroke((-0.2, middle_y - 0.2), (0.2, middle_y + 0.2), 0.14), stroke((-0.2, middle_y + 0.2), (0.2, middle_y - 0.2), 0.14)],
    )[symbol]:
        mesh.flat(part, 2)
    return mesh.build(billboard=True)


@cache
def bonnet() -> Mesh:
    """The bonnet of the car that carries the camera: x in [-0.5, 0.5], top at y = 1, lower end at y = 0. Materials: 0 edge, 1 sheen."""
    mesh = MeshBuilder()
    arch = [(x, 1 - 0.7 * x * x - 40 * x**6) for x in np.linspace(-0.5, 0.5, 21).tolist()]
    mesh.flat([(-0.5, -0.2), *arch, (0.5, -0.2)], 0)
    mesh.flat([(-0.4, -0.2), *((0.8 * x, y - 0.3) for x, y in arch), (0.4, -0.2)], 1)
    return mesh.build(billboard=True)


def _blob(rng: np.random.Generator, x: float, y: float, width: float, height: float, corners: int = 13) -> list[tuple[float, float]]:
    """A ragged ellipse."""
    radii = 1 + 0.13 * rng.standard_normal(corners).clip(-1.5, 1.5)
    angles = np.arange(corners) * (math.tau / corners)
    return list(zip((x + width * radii * np.cos(angles)).tolist(), (y + height * radii * np.sin(angles)).tolist()))


def _tier(rng: np.random.Generator, foot: float, width: float, tip: float) -> list[tuple[float, float]]:
    """One tier of a conifer, with drooping ragged branches."""
    xs = np.linspace(-width, width, 11)
    ys = foot + 0.05 * (np.abs(xs) / width < 0.6) + 0.035 * (np.arange(11) % 2) + 0.015 * rng.random(11)
    return [*zip(xs.tolist(), ys.tolist()), (width * 0.35, (foot + tip) / 2), (0, tip), (-width * 0.35, (foot + tip) / 2)]
