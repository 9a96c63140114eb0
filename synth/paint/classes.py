"""What the page knows of the classes: colours, which are near each other, and a flat map. C classes, D numbers per vector."""

from functools import cached_property

import numpy as np

from shared.report.maps import FEWEST, neighbour_plane, principal_plane, unit_rows

NEIGHBOURS = 8
MOST_ARRANGED = 3000
"""Classes up to which near ones are arranged beside each other, which takes seconds; more are laid on their two main axes."""
MAP_SIDE = 1000


class ClassVectors:
    """(C, D) vectors of the classes."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.unit = unit_rows(vectors)

    def nearest(self, class_id: int) -> list[tuple[int, float]]:
        """Ids and distances (between unit vectors) of the nearest other classes, nearest first."""
        distances = np.linalg.norm(self.unit - self.unit[class_id], axis=1)
        distances[class_id] = np.inf
        order = np.argsort(distances, kind="stable")[: min(NEIGHBOURS, len(distances) - 1)]
        return [(int(other), round(float(distances[other]), 3)) for other in order]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """(x, y) of every class on the map, from 0 to `MAP_SIDE`."""
        arranged = FEWEST <= len(self.unit) <= MOST_ARRANGED
        flat = neighbour_plane(self.unit) if arranged else principal_plane(self.unit)[0]
        low, high = flat.min(axis=0), flat.max(axis=0)
        scaled = (flat - low) / np.maximum(high - low, 1e-9) * MAP_SIDE
        return [(int(x), int(y)) for x, y in np.rint(scaled)]


def hex_colours(palette: np.ndarray) -> str:
    """(C, 3) uint8 -> six digits per class, one after the other."""
    return palette.astype(np.uint8).tobytes().hex()
