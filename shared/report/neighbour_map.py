"""A flat map that keeps neighbours together. C classes, D embedding dimension, k neighbours, E pairs.

t-SNE with negative sampling (Damrich et al., "From t-SNE to UMAP with contrastive learning", arXiv 2206.01816): neighbours attract with
the loss −log p and random pairs repel with −log(1 − p), where p = q / (q + 1) and q = 1 / (1 + distance²) in the plane. Work and
memory grow with C·k, not with C².
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial import KDTree

from shared.report.embedding_map import nearest_classes, principal_plane

STEPS, NEGATIVES, LEARNING_RATE = 300, 5, 0.3


def neighbour_plane(vectors: np.ndarray, neighbours: int = 10, seed: int = 0) -> np.ndarray:
    """Positions (C, 2) of the rows of (C, D), starting from their two main axes; the same seed gives the same map."""
    ids, _ = nearest_classes(vectors, neighbours)
    count = len(ids)
    near = np.stack([np.repeat(np.arange(count), ids.shape[1]), ids.ravel()])
    start, _ = principal_plane(vectors)
    positions = start / max(start.std(), 1e-12)
    rng = np.random.default_rng(seed)
    mean, square = np.zeros_like(positions), np.zeros_like(positions)
    for step in range(1, STEPS + 1):
        random = rng.integers(0, count, (2, NEGATIVES * near.shape[1]))
        # derivatives by the squared distance s of −log p = log(2 + s) and of −log(1 − p) = log((2 + s) / (1 + s))
        gradient = _pull(positions, near, lambda s: 1 / (2 + s)) - _pull(positions, random, lambda s: 1 / ((1 + s) * (2 + s)))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2  # Adam
        rate = LEARNING_RATE * (1 - step / STEPS) / (1 - 0.9**step)
        positions = positions - rate * mean / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return positions


def neighbours_kept(vectors: np.ndarray, positions: np.ndarray, neighbours: int = 10) -> float:
    """Share of the nearest classes of (C, D) that are also among the nearest in the plane (C, 2), in [0, 1]."""
    ids, _ = nearest_classes(vectors, neighbours)
    _, found = KDTree(positions).query(positions, ids.shape[1] + 1)
    near = [row[row != index][: ids.shape[1]] for index, row in enumerate(found)]
    return float(np.mean([len(np.intersect1d(*pair)) / ids.shape[1] for pair in zip(ids, near)]))


def _pull(positions: np.ndarray, pairs: np.ndarray, slope: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Gradient (C, 2) of the sum over pairs (2, E) of a function of their squared distance, whose derivative is `slope`."""
    count, (first, second) = len(positions), pairs
    apart = positions[first] - positions[second]
    forces = 2 * slope((apart**2).sum(axis=1))[:, None] * apart
    along = [np.bincount(first, axis, count) - np.bincount(second, axis, count) for axis in forces.T]
    return np.stack(along, axis=1)
