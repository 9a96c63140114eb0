"""Class vectors from label maps alone: which classes border on which, as a short code per class.

A stand-in for vectors that know what a class means, such as text embeddings: what is worn at the feet has the neighbours of shoes.
C classes.
"""

from pathlib import Path

import numpy as np

from shared.data.spec import SegmentationDataset
from shared.data.workers import parallel_map
from shared.errors import InputError
from shared.files.atomic import atomic_write


def border_codes(borders: np.ndarray, width: int) -> np.ndarray:
    """(C, width) float32 unit vectors: classes with the same neighbours have the same one.

    The positive pointwise mutual information of neighbours, through its largest eigenvalues, less the mean over the classes. A class
    without neighbours gets a direction that means nothing, always the same.

    Args:
        borders: (C, C) counts, symmetric, see `count_borders`.
        width: 1 ≤ width ≤ C.

    Raises:
        InputError: another width.
    """
    num_classes = len(borders)
    if not 1 <= width <= num_classes:
        raise InputError(f"the width of codes is {width}; with {num_classes} classes it must be 1 to {num_classes}")
    sums, total = borders.sum(1), max(int(borders.sum()), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(borders * (total / np.outer(sums, sums)))
    information = np.where(borders > 0, np.maximum(information, 0), 0)
    values, vectors = np.linalg.eigh(information)
    largest = np.argsort(-np.abs(values), kind="stable")[:width]
    codes = vectors[:, largest] * np.sqrt(np.abs(values[largest]))
    bordered = sums > 0
    codes -= codes[bordered].mean(0) if bordered.any() else 0
    empty = ~bordered | (np.linalg.norm(codes, axis=1) < 1e-9)
    codes[empty] = np.random.default_rng(0).standard_normal(codes.shape)[empty]
    return (codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype(np.float32)


def count_borders(dataset: SegmentationDataset, num_workers: int = 0) -> np.ndarray:
    """(C, C) int64, symmetric: pairs of neighbouring pixels, above each other or side by side, of two different classes.

    Raises:
        InputError: a sample cannot be read.
    """
    total = np.zeros((dataset.spec.num_classes,) * 2, np.int64)
    for pairs, counts in parallel_map(
        _borders, dataset, range(len(dataset)), num_workers=num_workers, title="count borders", unit="sample"
    ):
        total[pairs[:, 0], pairs[:, 1]] += counts
    return total + total.T


def _borders(dataset: SegmentationDataset, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of classes (n, 2) that border on each other in a sample, each once, and how often."""
    ids = dataset[index].label_map.numpy()
    sides = [(ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])]
    # one number per pair, which sorts far faster than rows of two; ignored pixels are negative
    borders = [(a * dataset.spec.num_classes + b)[(a != b) & (a >= 0) & (b >= 0)] for a, b in sides]
    numbers, counts = np.unique(np.concatenate(borders), return_counts=True)
    return np.stack(np.divmod(numbers, dataset.spec.num_classes), 1), counts


def save_codes(path: str | Path, class_names: tuple[str, ...], codes: np.ndarray) -> None:
    """Write a class table (.npz), whole or not at all."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, names=np.array(class_names), vectors=codes)
