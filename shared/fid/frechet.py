"""The Fréchet distance between two sets of features, each seen as a Gaussian.

    d² = |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½)                          (Heusel et al. 2017, arXiv 1706.08500, Eq. 6)

With Σ = AᵀA, the eigenvalues of Σa Σb are the squared singular values of A Bᵀ, so tr (Σa Σb)^½ is the sum of those singular
values. No product of covariances and no matrix square root of an asymmetric matrix is made: both lose half of the digits when
there are fewer images than features, which is the usual case here. Where there are more, no digits are at stake, and the singular
values come faster as roots of the eigenvalues of A Bᵀ B Aᵀ.

N images, F features. Everything is float64.
"""

import zipfile
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from shared.errors import InputError
from shared.files.atomic import atomic_write

ROUNDING = 1e-6
"""Negative values up to this share of the total variance are rounding errors and count as 0."""
PRECISION = 1e-10
"""Largest relative error of a sum of singular values that come from eigenvalues."""


@dataclass(frozen=True)
class Extractor:
    """What features come from; "" for what a file does not tell.

    Attributes:
        network: a few words that identify the network.
        weights: SHA-256 of its weights file.
        resize: how images come to the size that it reads.
    """

    network: str = ""
    weights: str = ""
    resize: str = ""

    def difference(self, other: "Extractor") -> str:
        """Such as "network a and b": the first thing that both tell differently; "" where there is none."""
        for name, ours in asdict(self).items():
            theirs = getattr(other, name)
            if ours and theirs and ours != theirs:
                return f"{name} {ours} and {theirs}"
        return ""


class FeatureStatistics:
    """Count, mean and covariance of a stream of features.

    Batches are merged by the update of Chan, Golub and LeVeque (1979), which stays exact when the mean is far from 0.

    Args:
        dim: F.
        keep_features: also keep the features themselves; the kernel distance needs them, and the Fréchet distance is more exact
            and faster with them while N ≤ F. Without them memory does not grow with N.
        extractor: what the features come from; distances between features of different ones are refused.

    Attributes:
        count: N; None when read from a file that does not tell.
        mean: (F,) float64.
    """

    def __init__(self, dim: int, keep_features: bool = True, extractor: Extractor = Extractor()) -> None:
        self.dim, self.extractor = dim, extractor
        self.count: int | None = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum of outer products of centred features
        self._batches: list[torch.Tensor] | None = [torch.zeros(0, dim)] if keep_features else None

    def update(self, features: torch.Tensor) -> None:
        """Add features.

        Args:
            features: (n, F), any float type and device.

        Raises:
            InputError: other shape, values that are not finite, or statistics without a count, which cannot grow.
        """
        if features.ndim != 2 or features.shape[1] != self.dim or not features.is_floating_point():
            raise InputError(f"features are {features.dtype} of shape {tuple(features.shape)}; float (n, {self.dim}) was expected")
        if self.count is None:
            raise InputError("statistics that were read without their image count cannot be added to; compute them again")
        if not features.isfinite().all():
            raise InputError("features hold values that are not finite; the images or the network's weights are damaged")
        if len(features) == 0:
            return
        batch = features.detach().cpu().double()
        mean = batch.mean(0)
        centred = batch - mean
        self._merge(len(batch), mean, centred.T @ centred)
        if self._batches is not None:
            self._batches.append(batch.float())

    def add(self, other: "FeatureStatistics") -> None:
        """Add what another process has seen, after what was seen here.

        Raises:
            InputError: features of another network; or statistics without a count, or without the features that are kept here.
        """
        if difference := self.extractor.difference(other.extractor):
            raise InputError(f"statistics that differ in their features cannot be added: {difference}")
        if other.dim != self.dim or other.count is None or self.count is None or (self._batches is not None and other.features is None):
            raise InputError(f"{other.count} features of {other.dim} numbers cannot be added to {self.count} of {self.dim}")
        if other.count > 0:
            self._merge(other.count, other.mean, other._scatter)
        if self._batches is not None and other.features is not None:
            self._batches.append(other.features)

    def _merge(self, count: int, mean: torch.Tensor, scatter: torch.Tensor) -> None:
        assert self.count is not None, "statistics that grow have a count"
        shift, total = mean - self.mean, self.count + count
        self._scatter += scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> torch.Tensor:
        """(F, F) float64, unbiased.

        Raises:
            InputError: fewer than 2 images.
        """
        if self.count is None:
            return self._scatter
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 images; there are {self.count}")
        return self._scatter / (self.count - 1)

    @property
    def features(self) -> torch.Tensor | None:
        """(N, F) float32 in the order they came, or None when they are not kept."""
        if self._batches is None:
            return None
        self._batches = [torch.cat(self._batches)]
        return self._batches[0]

    def save(self, path: str | Path) -> None:
        """Write an .npz file that pytorch-fid reads too (`mu`, `sigma`), whole or not at all."""
        arrays = {"mu": self.mean.numpy(), "sigma": self.covariance.numpy()}
        arrays |= {name: np.array(value) for name, value in asdict(self.extractor).items()}
        if self.count is not None:
            arrays["count"] = np.array(self.count)
        if self.features is not None:
            arrays["features"] = self.features.numpy()
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "FeatureStatistics":
        """Read a file of `save` or of pytorch-fid, whose files hold neither count nor features.

        Raises:
            InputError: missing, damaged, or not statistics; names the file.
        """
        arrays = _read_arrays(Path(path))
        mean, covariance = (torch.from_numpy(arrays[key].astype(np.float64)) for key in ("mu", "sigma"))
        dim = len(mean) if mean.ndim == 1 else 0
        if covariance.shape != (dim, dim) or not (mean.isfinite().all() and covariance.isfinite().all()):
            raise InputError(f"{path}: mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)} are no finite mean and covariance")
        extractor = Extractor(*(str(arrays.get(field.name, "")) for field in fields(Extractor)))
        statistics = cls(dim, keep_features="features" in arrays, extractor=extractor)
        statistics.count = int(arrays["count"]) if "count" in arrays else None
        statistics.mean = mean
        # without a count it stays the covariance, which is how `covariance` gives it back
        statistics._scatter = covariance * (statistics.count - 1 if statistics.count else 1)
        if "features" in arrays:
            statistics._batches = [torch.from_numpy(arrays["features"])]
        return statistics


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The squared Fréchet distance d² ≥ 0 between two sets of features, in squared feature units.

    It falls with the number of images even where the distributions are equal, so only results of equal counts compare.

    Raises:
        InputError: other number of features, other network, fewer than 2 images, or a sigma that is not a covariance.
    """
    if a.dim != b.dim:
        raise InputError(f"the statistics have {a.dim} and {b.dim} features; both sides must come from one network")
    if difference := a.extractor.difference(b.extractor):
        raise InputError(f"the statistics differ in what their features come from: {difference}; both sides must come from one network")
    variance = (a.covariance.trace() + b.covariance.trace()).item()
    overlap = sum_of_singular_values(covariance_root(a) @ covariance_root(b).T)
    distance = (a.mean - b.mean).square().sum().item() + variance - 2 * overlap
    if distance < -ROUNDING * variance:
        raise ArithmeticError(f"Fréchet distance {distance} is negative beyond rounding (total variance {variance})")
    return max(distance, 0.0)


def covariance_root(statistics: FeatureStatistics) -> torch.Tensor:
    """A matrix A with F columns and AᵀA = covariance: the centred features while they are the smaller one, else a square root."""
    features, count = statistics.features, statistics.count
    if features is not None and count is not None and count <= statistics.dim:
        # no square is made, so the small singular values keep their digits
        return (features.double() - statistics.mean) / (count - 1) ** 0.5
    # the cheapest root where the covariance has full rank; with L·Lᵀ = Σ, A = Lᵀ
    factor, failed = torch.linalg.cholesky_ex(statistics.covariance)
    if not failed:
        return factor.T
    values, vectors = torch.linalg.eigh(statistics.covariance)
    if values[0] < -ROUNDING * values.sum():
        raise InputError(f"sigma has the negative eigenvalue {values[0]:.3g}; it is no covariance, compute the statistics again")
    return values.clamp(min=0).sqrt()[:, None] * vectors.T


def sum_of_singular_values(matrix: torch.Tensor) -> float:
    """Of a float64 matrix. From eigenvalues where their rounding, of eps times the largest, is far below the smallest."""
    if matrix.shape[0] == matrix.shape[1]:
        values = torch.linalg.eigvalsh(matrix @ matrix.T)
        rounding = len(values) * torch.finfo(values.dtype).eps * values[-1].item()
        roots = values.clamp(min=0).sqrt()
        if values[0] > 10 * rounding and len(values) * rounding / roots[0] < PRECISION * roots.sum():
            return roots.sum().item()
    return torch.linalg.svdvals(matrix).sum().item()


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"no file {path} of feature statistics")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read statistics {path}: {error}; it is cut short, damaged or no .npz file: compute them again") from error
    lost = [key for key in ("mu", "sigma") if key not in arrays]
    if lost:
        raise InputError(f"{path} lacks {' and '.join(lost)}; it holds {', '.join(arrays) or 'nothing'}: give a file of feature statistics")
    return arrays
