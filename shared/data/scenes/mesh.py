"""Meshes: flat polygons that the scenes are put together from.

Axes of a mesh and of the world: x to the right, y up, z away from the camera. Meshes are made once, about one unit large,
and placed many times with a size in metres. Polygons are drawn in the order in which they were added.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

Point = tuple[float, float, float]


class Texture(IntEnum):
    """How the pixels of a polygon get from its paint to their colour. See `textures`."""

    PLAIN = 0
    ROUND = 1
    ROAD = 2
    PAVING = 3
    TURF = 4
    FACADE = 5
    MASONRY = 6
    FENCE = 7
    FOLIAGE = 8
    ROOF = 9
    ZEBRA = 10


@dataclass(frozen=True)
class Mesh:
    """F polygons with V corners in all.

    Attributes:
        points: (V, 3) float32, corners of polygon after polygon.
        sizes: (F,) int, corners per polygon.
        normals: (F, 3) float32, outward; zero for a polygon with two sides, which is seen from everywhere.
        materials: (F,) int, which of the colours of the placement the polygon has.
        textures: (F,) int, `Texture`.
        billboard: a flat picture of something round: turned towards the camera when seen, towards the sun when it casts its shadow.
    """

    points: np.ndarray
    sizes: np.ndarray
    normals: np.ndarray
    materials: np.ndarray
    textures: np.ndarray
    billboard: bool


class MeshBuilder:
    """Collects polygons. `inside` is a point behind every polygon that is added with `solid`: normals point away from it."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._sizes: list[int] = []
        self._normals: list[Sequence[float]] = []
        self._materials: list[int] = []
        self._textures: list[int] = []

    def solid(self, points: Sequence[Point], material: int, inside: Point, texture: Texture = Texture.PLAIN) -> None:
        """Add a polygon with one side, which faces away from `inside`."""
        corners = np.array(points, dtype=float)
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        normal *= np.sign(normal @ (corners[0] - inside)) / np.linalg.norm(normal)
        self._add(points, material, normal.tolist(), texture)

    def flat(self, points: Iterable[tuple[float, float]], material: int, texture: Texture = Texture.PLAIN) -> None:
        """Add a polygon of a billboard: (x, y) corners, facing the camera."""
        self._add([(x, y, 0.0) for x, y in points], material, (0, 0, -1), texture)

    def profile(self, points: Iterable[tuple[float, float]], material: int) -> None:
        """Add a polygon with two sides in the plane x = 0: (z, y) corners."""
        self._add([(0.0, y, z) for z, y in points], material, (0, 0, 0), Texture.PLAIN)

    def box(self, low: Point, high: Point, material: int, texture: Texture = Texture.PLAIN, taper: float = 0.0) -> None:
        """Add a box without bottom; `taper` is by how much each side of its top is drawn in."""
        (x0, y0, z0), (x1, y1, z1), inside = low, high, ((low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2)
        base = [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)]
        top = [(x0 + taper, y1, z0 + taper), (x1 - taper, y1, z0 + taper), (x1 - taper, y1, z1 - taper), (x0 + taper, y1, z1 - taper)]
        for a, b in ((2, 3), (0, 1), (1, 2), (3, 0)):
            self.solid([base[a], base[b], top[b], top[a]], material, inside, texture)
        self.solid(top, material, inside, texture)

    def build(self, billboard: bool = False) -> Mesh:
        return Mesh(
            points=np.array(self._points, dtype=np.float32),
            sizes=np.array(self._sizes),
            normals=np.array(self._normals, dtype=np.float32),
            materials=np.array(self._materials),
            textures=np.array(self._textures),
            billboard=billboard,
        )

    def _add(self, points: Sequence[Point], material: int, normal: Sequence[float], texture: Texture) -> None:
        self._points.extend(points)
        self._sizes.append(len(points))
        self._normals.append(normal)
        self._materials.append(material)
        self._textures.append(texture)


def ellipse(x: float, y: float, width: float, height: float, corners: int = 10) -> list[tuple[float, float]]:
    """Corners of an ellipse around (x, y) with half axes `width` and `height`."""
    angles = [math.tau * k / corners for k in range(corners)]
    return [(x + width * math.cos(angle), y + height * math.sin(angle)) for angle in angles]


def stroke(start: tuple[float, float], end: tuple[float, float], width: float) -> list[tuple[float, float]]:
    """Corners of a straight line of some width."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    scale = width / 2 / math.hypot(dx, dy)
    ox, oy = -dy * scale, dx * scale
    return [(start[0] + ox, start[1] + oy), (end[0] + ox, end[1] + oy), (end[0] - ox, end[1] - oy), (start[0] - ox, start[1] - oy)]


def mirrored(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-x, y) for x, y in points]
