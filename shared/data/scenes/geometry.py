"""Placed meshes and the camera that sees them. O objects, F polygons, V corners in a scene."""

from typing import NamedTuple

import numpy as np

from shared.data.scenes.classes import Colour
from shared.data.scenes.mesh import Mesh

_NEAR = 0.4  # metres; what is nearer, or behind, would be projected without bounds


class Camera(NamedTuple):
    """A pinhole camera that looks along +z from (0, eye, 0).

    Attributes:
        height, width: size of the image in pixels.
        focal: focal length in pixels.
        row, column: pixel coordinates of the vanishing point.
        eye: height above the ground in metres.
    """

    height: int
    width: int
    focal: float
    row: float
    column: float
    eye: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """(3, V) metres to (2, V) pixel coordinates (column, row), integer at pixel centres; what is behind is moved before it."""
        x, y, z = points
        scale = np.float32(self.focal) / np.maximum(z, np.float32(_NEAR))
        return np.stack([self.column - 0.5 + x * scale, self.row - 0.5 - (y - self.eye) * scale])

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """(H·W,) slopes of the pixels' rays to the right and up: the ray is (right, up, 1)."""
        right = (np.arange(self.width, dtype=np.float32) + np.float32(0.5 - self.column)) / np.float32(self.focal)
        up = (np.float32(self.row - 0.5) - np.arange(self.height, dtype=np.float32)) / np.float32(self.focal)
        return np.tile(right, self.height), np.repeat(up, self.width)


class Placement(NamedTuple):
    """A mesh in the world.

    Attributes:
        class_id: class of its pixels, or `IGNORE_INDEX`.
        position, size: metres; the mesh is scaled by `size`, turned by `yaw` (radians, clockwise seen from above) and moved.
        colours: paint per material, RGB 0..255.
        second: the paint that textures mix in.
        style: what textures know about the object, 0..1.
        casts_shadow: whether it shades the ground.
        continues: whether it is part of the same object as the placement before it.
    """

    mesh: Mesh
    class_id: int
    position: tuple[float, float, float]
    size: tuple[float, float, float]
    colours: tuple[Colour, ...]
    second: Colour = (0.0, 0.0, 0.0)
    style: tuple[float, ...] = (0.5,) * 6
    yaw: float = 0.0
    casts_shadow: bool = True
    continues: bool = False


class Polygons:
    """All polygons of a scene in the world.

    Attributes:
        points, shadow_points: (3, V) corners, and where the sun throws them on the ground.
        sizes, starts: (F,) number of corners and the first of them.
        normals: (3, F) unit, or zero for a polygon with two sides.
        one_sided: (F,) bool, solid: seen from one side only and lit by its normal.
        owners, materials, textures: (F,) position of the placement, its material, its texture.
        casts_shadow: (F,) bool.
    """

    def __init__(self, placements: list[Placement], sun: np.ndarray) -> None:
        meshes = [placement.mesh for placement in placements]
        self.owners = np.repeat(np.arange(len(meshes)), [len(mesh.sizes) for mesh in meshes])
        self.sizes = np.concatenate([mesh.sizes for mesh in meshes])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.materials = np.concatenate([mesh.materials for mesh in meshes])
        self.textures = np.concatenate([mesh.textures for mesh in meshes])

        # position, size, yaw and yaw for the shadow of the O objects
        billboard = np.array([mesh.billboard for mesh in meshes])
        poses = np.array([(*p.position, *p.size, p.yaw, p.yaw) for p in placements], dtype=np.float32).T
        poses[7, billboard] = np.arctan2(sun[0], sun[2])
        corner_poses = np.repeat(poses, [len(mesh.points) for mesh in meshes], axis=1)
        local = np.concatenate([mesh.points for mesh in meshes]).T * corner_poses[3:6]
        self.points = _turn(local, corner_poses[6]) + corner_poses[:3]
        # divided, as normals scale with the inverse of the size
        normals = np.concatenate([mesh.normals for mesh in meshes]).T / poses[3:6, self.owners]
        normals = _turn(normals, poses[6, self.owners])
        self.normals = normals / np.maximum(np.sqrt((normals * normals).sum(axis=0)), np.float32(1e-9))
        self.one_sided = ~billboard[self.owners] & self.normals.any(axis=0)

        casting = _turn(local, corner_poses[7]) + corner_poses[:3]
        self.shadow_points = casting - casting[1] / sun[1] * sun[:, None]
        self.shadow_points[1] = 0
        # of a solid, the sides that the sun shines on cast the whole shadow
        casters = np.array([placement.casts_shadow for placement in placements])[self.owners]
        self.casts_shadow = casters & (~self.one_sided | ((sun[:, None] * self.normals).sum(axis=0) > 0))

    def range(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value per polygon of (…, V) values of corners."""
        return np.minimum.reduceat(values, self.starts, axis=-1), np.maximum.reduceat(values, self.starts, axis=-1)

    def planes(self, eye: float) -> np.ndarray:
        """(F,) distance from the camera to the plane of the polygon, along its normal: negative where it faces the camera."""
        x, y, z = self.points[:, self.starts]
        return self.normals[0] * x + self.normals[1] * (y - np.float32(eye)) + self.normals[2] * z

    def visible(self, corners: np.ndarray, depths: np.ndarray, camera: Camera, thinnest: float, smallest: float) -> np.ndarray:
        """(F,) bool: before the camera, inside the image, on average `thinnest` pixels across and at least `smallest` pixels in area.

        Args:
            corners: (2, V) pixel coordinates.
            depths: (V,) metres before the camera.
        """
        low, high = self.range(corners)
        following = np.arange(1, corners.shape[1] + 1)
        # the corner after a polygon's last is its first
        following[self.starts + self.sizes - 1] = self.starts
        columns, rows = corners
        area = np.abs(np.add.reduceat(columns * rows[following] - columns[following] * rows, self.starts)) / 2
        large = area > np.maximum(thinnest * (high - low).max(axis=0), smallest)
        inside = (high >= 0).all(axis=0) & (low[0] < camera.width) & (low[1] < camera.height)
        return large & inside & (np.maximum.reduceat(depths, self.starts) > _NEAR)


def _turn(vectors: np.ndarray, yaws: np.ndarray) -> np.ndarray:
    """(3, n) vectors turned about the y axis by (n,) angles, clockwise seen from above."""
    cosine, sine = np.cos(yaws), np.sin(yaws)
    x, y, z = vectors
    return np.stack([x * cosine + z * sine, y, z * cosine - x * sine])
