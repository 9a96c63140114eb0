"""Class embeddings on paper: which classes are near each other, and flat maps by two methods, with a sentence on how to read each.

C classes, D embedding dimension, k neighbours, E pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.report.class_scores import hex_colour
from shared.report.model import EmbeddingMap

WIDTH, HEIGHT, EDGE, RADIUS = 760, 500, 40, 4
FONT_SIZE, CHARACTER_WIDTH, LONGEST_LABEL = 11, 6.0, 24
LABEL_ALL_UP_TO = 60
Box = tuple[float, float, float, float]


STEPS, NEGATIVES, LEARNING_RATE = 300, 5, 0.3
FEWEST = 6
"""Classes from which there are neighbourhoods to keep."""


@dataclass(frozen=True)
class Label:
    """A class name that starts, is centred or ends at (x, y); with a line to its point where it stands off."""

    text: str
    x: float
    y: float
    anchor: str
    line: bool


@dataclass(frozen=True)
class Point:
    """A class at (x, y), in units of the drawing; no label where it would cover something."""

    name: str
    x: float
    y: float
    colour: str
    label: Label | None


@dataclass(frozen=True)
class Layout:
    """The drawn map."""

    points: list[Point]
    width: int = WIDTH
    height: int = HEIGHT


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """(C, D) → the same directions with norm 1, float64; a zero row stays zero."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest_classes(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row of (C, D): ids and distances (C, min(count, C − 1)) of the nearest other rows, on the unit sphere."""
    vectors = unit_rows(vectors)
    count = min(count, len(vectors) - 1)
    ids, distances = [], []
    for start in range(0, len(vectors), 512):  # blocks, so memory does not grow with C²
        block = vectors[start : start + 512]
        squared = np.maximum((block**2).sum(1)[:, None] + (vectors**2).sum(1) - 2 * block @ vectors.T, 0)
        # no class is its own neighbour
        squared[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        order = np.argsort(squared, axis=1, kind="stable")[:, :count]
        ids.append(order)
        distances.append(np.sqrt(np.take_along_axis(squared, order, axis=1)))
    return np.concatenate(ids), np.concatenate(distances)


def principal_plane(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Positions (C, 2) of the unit rows on their two main axes, and the share of the variance each axis shows."""
    centred = unit_rows(vectors)
    centred = centred - centred.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    # the sign of a main axis is arbitrary: its largest part is made positive, so that the same vectors give the same map
    axes = axes[:2] * np.sign(axes[:2, np.argmax(np.abs(axes[:2]), axis=1)].diagonal())[:, None]
    positions, shares = np.zeros((len(centred), 2)), np.zeros(2)
    positions[:, : len(axes)] = centred @ axes.T
    shares[: len(axes)] = sizes[:2] ** 2 / max((sizes**2).sum(), 1e-12)
    return positions, (float(shares[0]), float(shares[1]))


def lay_out(embedding_map: EmbeddingMap, positions: np.ndarray) -> Layout:
    """Draw every class at its position, rows of (C, 2), and labels where there is room.

    Classes are visited farthest from those before, so when not all labels fit, those that do are spread over the map.
    Up to `LABEL_ALL_UP_TO` classes a label may also stand off its point, with a line to it.
    """
    centres = _fit(positions)
    distances = (1, 2, 3, 5, 7) if len(centres) <= LABEL_ALL_UP_TO else (1,)
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in centres]
    points = {}
    for index in _spread_order(centres):
        name, (x, y) = str(embedding_map.class_names[index]), centres[index]
        label = _place(name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…", x, y, distances, taken)
        points[index] = Point(name, x, y, hex_colour(embedding_map.palette[index]), label)
    return Layout([points[index] for index in range(len(centres))])


def _fit(positions: np.ndarray) -> list[tuple[float, float]]:
    """Scale both axes by one factor, so that distances keep their proportions, and centre in the drawing."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * EDGE
    scale = (room / np.maximum(high - low, 1e-9)).min() if (high > low).any() else 1.0
    # −1, as y grows downwards in a drawing
    centred = (positions - (low + high) / 2) * scale * [1, -1] + [WIDTH / 2, HEIGHT / 2]
    return [(round(float(x), 1), round(float(y), 1)) for x, y in centred]


def _spread_order(centres: Sequence[tuple[float, float]]) -> list[int]:
    """Indices so that each is the one farthest from all before it."""
    xy = np.array(centres)
    order, gap = [0], np.full(len(xy), np.inf)
    for _ in range(len(xy) - 1):
        gap = np.minimum(gap, np.linalg.norm(xy - xy[order[-1]], axis=1))
        gap[order[-1]] = -1
        order.append(int(gap.argmax()))
    return order


def _place(text: str, x: float, y: float, distances: Sequence[int], taken: list[Box]) -> Label | None:
    """The first spot around (x, y) where the text covers nothing in `taken`, to which it is then added."""
    # an estimate, as nothing here measures text
    width = CHARACTER_WIDTH * len(text)
    for distance in distances:
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)):
            anchor, before = {-1: ("end", width), 0: ("middle", width / 2), 1: ("start", 0.0)}[int(np.sign(dx))]
            at, middle = x + dx * distance * (RADIUS + 3), y + dy * distance * (RADIUS + 7)
            box = (at - before, middle - FONT_SIZE / 2, at - before + width, middle + FONT_SIZE / 2)
            inside = box[0] > 0 and box[1] > 0 and box[2] < WIDTH and box[3] < HEIGHT
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                return Label(text, round(at, 1), round(middle, 1), anchor, line=distance > 1)
    return None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def neighbour_plane(vectors: np.ndarray, neighbours: int = 10, seed: int = 0) -> np.ndarray:
    """Positions (C, 2) of the rows of (C, D), starting from their two main axes; the same seed gives the same map."""
    ids, _ = nearest_classes(vectors, neighbours)
    count = len(ids)
    near = np.stack([np.repeat(np.arange(count), ids.shape[1]), ids.ravel()])
    start, _ = principal_plane(vectors)
    # a spread of 1, whatever the vectors have, as the slopes below know no scale
    positions = start / max(start.std(), 1e-12)
    rng = np.random.default_rng(seed)
    mean, square = np.zeros_like(positions), np.zeros_like(positions)
    for step in range(1, STEPS + 1):
        random = rng.integers(0, count, (2, NEGATIVES * near.shape[1]))
        # derivatives by the squared distance s of −log p = log(2 + s) and of −log(1 − p) = log((2 + s) / (1 + s))
        gradient = _pull(positions, near, lambda s: 1 / (2 + s)) - _pull(positions, random, lambda s: 1 / ((1 + s) * (2 + s)))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2  # Adam
        # falls to 0, so that the map comes to rest; the last factor corrects Adam's first mean
        rate = LEARNING_RATE * (1 - step / STEPS) / (1 - 0.9**step)
        positions = positions - rate * mean / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return positions


def neighbours_kept(vectors: np.ndarray, positions: np.ndarray, neighbours: int = 10) -> float:
    """Share of the nearest classes of (C, D) that are also among the nearest in the plane (C, 2), in [0, 1]."""
    ids, _ = nearest_classes(vectors, neighbours)
    from scipy.spatial import KDTree

    _, found = KDTree(positions).query(positions, ids.shape[1] + 1)
    # one more was asked for, as a point finds itself; where points coincide, it need not be the first
    near = [row[row != index][: ids.shape[1]] for index, row in enumerate(found)]
    return float(np.mean([len(np.intersect1d(*pair)) / ids.shape[1] for pair in zip(ids, near)]))


def _pull(positions: np.ndarray, pairs: np.ndarray, slope: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Gradient (C, 2) of the sum over pairs (2, E) of a function of their squared distance, whose derivative is `slope`."""
    count, (first, second) = len(positions), pairs
    apart = positions[first] - positions[second]
    forces = 2 * slope((apart**2).sum(axis=1))[:, None] * apart
    along = [np.bincount(first, axis, count) - np.bincount(second, axis, count) for axis in forces.T]
    return np.stack(along, axis=1)


@dataclass(frozen=True)
class ClassMap:
    """A drawn map, its title, and a sentence on how to read it."""

    title: str
    note: str
    layout: Layout


def class_maps(embedding_map: EmbeddingMap) -> list[ClassMap]:
    """The neighbour-preserving map, where there are classes enough, and the two main axes."""
    flat, shares = principal_plane(embedding_map.vectors)
    axes = f"The two main axes, with {shares[0]:.0%} and {shares[1]:.0%} of the variance: distances are true to these axes alone."
    found = []
    if len(flat) >= FEWEST:
        close = neighbour_plane(embedding_map.vectors)
        near = min(10, len(flat) - 1)
        shown, plain = (neighbours_kept(embedding_map.vectors, positions) for positions in (close, flat))
        kept = f"{shown:.0%} of the {near} nearest classes of each class are among the {near} nearest here, {plain:.0%} on the main axes."
        note = f"Arranged so that near classes stay near; how far apart groups lie says little. {kept}"
        found.append(ClassMap("neighbours", note, lay_out(embedding_map, close)))
    return [*found, ClassMap("main axes", axes, lay_out(embedding_map, flat))]
