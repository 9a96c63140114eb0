"""Meshes of people: one unit high. Pedestrians are billboards; riders are seen from the side, in the plane of what they ride."""

from enum import IntEnum
from functools import cache

from shared.data.scenes.mesh import Mesh, MeshBuilder, Texture, ellipse, mirrored, stroke

POSES = 6
"""Two standing, four walking."""


class Clothes(IntEnum):
    """Materials of people; the colours of a person are in this order."""

    TOP = 0
    TROUSERS = 1
    SKIN = 2
    HAIR = 3
    SHOES = 4
    BAG = 5


@cache
def pedestrian(pose: int) -> Mesh:
    """x in about [-0.2, 0.2], y in [0, 1]; a standing or walking person from the front or from behind."""
    stride, swing, seen_from_behind = (0.0, 0.02, 0.05, 0.08, 0.11, 0.07)[pose], 0.01 + 0.012 * pose, pose % 2
    mesh = MeshBuilder()
    for side in (-1, 1):
        hip, foot = (side * 0.055, 0.5), (side * (0.05 + stride), 0.03)
        mesh.flat(
            [(hip[0] - 0.055, hip[1]), (hip[0] + 0.055, hip[1]), (foot[0] + 0.035, 0.03), (foot[0] - 0.035, 0.03)],
            Clothes.TROUSERS,
            Texture.ROUND,
        )
        mesh.flat(ellipse(foot[0] + side * 0.012, 0.018, 0.05, 0.02, 8), Clothes.SHOES)
        mesh.flat(stroke((side * 0.125, 0.80), (side * (0.14 + swing), 0.5), 0.058), Clothes.TOP, Texture.ROUND)
        mesh.flat(ellipse(side * (0.14 + swing), 0.48, 0.026, 0.028, 8), Clothes.SKIN)
    mesh.flat(stroke((0, 0.80), (0, 0.87), 0.06), Clothes.SKIN)
    right = [(0.0, 0.845), (0.09, 0.83), (0.145, 0.79), (0.115, 0.62), (0.115, 0.46), (0.0, 0.46)]
    mesh.flat([*right, *mirrored(right[:0:-1])], Clothes.TOP, Texture.ROUND)
    if pose in (1, 4):
        mesh.flat([(-0.09, 0.80), (0.09, 0.80), (0.1, 0.6), (-0.1, 0.6)], Clothes.BAG, Texture.ROUND)
    mesh.flat(ellipse(0, 0.925, 0.058, 0.074), Clothes.HAIR if seen_from_behind else Clothes.SKIN, Texture.ROUND)
    mesh.flat([(x, max(y, 0.94)) for x, y in ellipse(0, 0.935, 0.064, 0.068, 12)], Clothes.HAIR)
    return mesh.build(billboard=True)


@cache
def rider() -> Mesh:
    """z in about [-0.2, 0.25], y in [0, 1], looking to +z; seat at y = 0.46, hands at (0.22, 0.52), feet near (0, 0.12)."""
    mesh = MeshBuilder()
    for knee, foot in (((0.13, 0.34), (0.02, 0.08)), ((0.16, 0.42), (0.08, 0.18))):
        mesh.profile(stroke((-0.12, 0.46), knee, 0.085), Clothes.TROUSERS)
        mesh.profile(stroke(knee, foot, 0.065), Clothes.TROUSERS)
        mesh.profile(stroke((foot[0] - 0.03, foot[1]), (foot[0] + 0.07, foot[1] - 0.01), 0.05), Clothes.SHOES)
    mesh.profile([(-0.19, 0.43), (-0.05, 0.43), (0.09, 0.76), (0.03, 0.84), (-0.09, 0.80), (-0.17, 0.62)], Clothes.TOP)
    mesh.profile(stroke((0.02, 0.76), (0.12, 0.58), 0.07), Clothes.TOP)
    mesh.profile(stroke((0.12, 0.58), (0.22, 0.53), 0.05), Clothes.SKIN)
    mesh.profile(ellipse(0.07, 0.90, 0.062, 0.075), Clothes.SKIN)
    mesh.profile([(z, max(y, 0.91)) for z, y in ellipse(0.062, 0.92, 0.08, 0.08, 12)], Clothes.BAG)
    return mesh.build()
