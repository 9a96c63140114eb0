"""What a pixel counts in the loss, by its class.

Shapes: S samples, C classes.
"""

import csv
import math
from pathlib import Path

import numpy as np
import torch

from seg.config import FREQUENCY_RULES
from shared.data.sampling import crop_weights
from shared.data.spec import DatasetSpec
from shared.data.statistics import ClassStatistics
from shared.errors import InputError


def weights_by_frequency(rule: str, statistics: ClassStatistics) -> torch.Tensor:
    """(C,) float32 > 0. A common factor changes nothing, because the loss is a weighted mean.

    Args:
        rule: median_frequency (Eigen and Fergus, arXiv 1411.4734; SegNet's for CamVid) or inverse_sqrt (1 / √share of all pixels).
        statistics: counts of the training split.
    """
    weights = crop_weights(statistics) if rule == "inverse_sqrt" else median_frequency(statistics)
    return torch.from_numpy(weights).float()


def median_frequency(statistics: ClassStatistics) -> np.ndarray:
    """(C,) float64: the median of the classes' frequencies over each class's own; 1 for classes that do not occur.

    The frequency of a class is its share of the pixels of those images in which it occurs.
    """
    areas = statistics.sample_sizes.astype(np.int64).prod(1)
    around = np.zeros(len(statistics.class_names))
    np.add.at(around, statistics.class_ids, np.repeat(areas, np.diff(statistics.starts)))
    occurs = statistics.pixels > 0
    weights = np.ones(len(around))
    frequencies = statistics.pixels[occurs] / around[occurs]
    weights[occurs] = np.median(frequencies) / frequencies
    return weights


def read_class_weights(path: str | Path, spec: DatasetSpec) -> torch.Tensor:
    """(C,) float32 ≥ 0 from a csv file with a line "class name, weight" per class.

    Raises:
        InputError: a file that cannot be read, a class that is missing, unknown or there twice, or a weight that is not a number ≥ 0.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        expected = f"give loss.class_weights {', '.join(FREQUENCY_RULES)} or a csv file with lines class name, weight"
        raise InputError(f"cannot read class weights from {path}: {getattr(error, 'strerror', None) or error}; {expected}") from error
    ids = {name: index for index, name in enumerate(spec.class_names)}
    weights = np.full(spec.num_classes, np.nan)
    for row in rows:
        name, value = row[0].strip(), _weight(row)
        if value is None:
            raise InputError(f"{path}: line {','.join(row)!r} is not a class name and a weight of 0 or more")
        if name not in ids:
            raise InputError(f"{path}: {name!r} is no class of {spec.name}; its names are those of its class list")
        if not math.isnan(weights[ids[name]]):
            raise InputError(f"{path}: {name!r} has two weights; give one")
        weights[ids[name]] = value
    missing = np.flatnonzero(np.isnan(weights))
    if len(missing):
        raise InputError(f"{path} has no weight for {spec.class_names[missing[0]]!r}; expected one for each of {spec.num_classes} classes")
    if not weights.any():
        raise InputError(f"{path} gives every class the weight 0; at least one must count")
    return torch.from_numpy(weights).float()


def _weight(row: list[str]) -> float | None:
    try:
        value = float(row[1]) if len(row) == 2 else math.nan
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None
