"""Scores of tiles of classes × pixels and their derivatives: what the streamed loss needs to know about a distance.

A score is the logit −sharpness · distance in base 2 (so that 2^score is its exponential), up to a summand per pixel, which no softmax sees.

Shapes: C classes, D embedding size, t classes of a tile, v pixels (as columns).
"""

import math
from typing import Protocol

import torch

LN2 = math.log(2)


class Scores(Protocol):
    """Scores of all pixels for one set of class embeddings. It does not change, so that threads may share it."""

    table: torch.Tensor  # (C, E), the classes as the scores need them

    def __init__(self, classes: torch.Tensor, sharpness: float) -> None: ...

    def new_pixels(self, count: int) -> torch.Tensor:
        """Memory (E, count) for pixels as the scores need them."""

    def load(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        """Bring pixels (D, n), n ≤ v, into the first columns of such memory (E, v), and zero vectors into the others."""

    def compute(self, rows: slice, pixels: torch.Tensor, out: torch.Tensor) -> None:
        """Scores (t, v) of the classes `rows` and loaded pixels."""

    def add_gradients(
        self,
        rows: slice,
        weights: torch.Tensor,
        pixels: torch.Tensor,
        factors: torch.Tensor,
        pixel_gradient: torch.Tensor,
        class_sums: torch.Tensor,
    ) -> None:
        """For ∂loss/∂score = weights · factors, add a tile's share to the sums from which both gradients follow.

        Args:
            rows: the classes of the tile.
            weights: (t, v); may be overwritten. Over all tiles, those of a pixel sum to zero.
            pixels: (E, v) loaded.
            factors: (v,).
            pixel_gradient: (E, v); its first D rows, once multiplied with the factors, are the gradient.
            class_sums: (C, E), see `class_gradient`.
        """

    def class_gradient(self, class_sums: torch.Tensor) -> torch.Tensor:
        """The gradient (C, D) that follows from the sums."""


class SquaredScores:
    """Squared distance: as |x|² is the same for all classes, the scores are one product, (2μ, −|μ|²)·(x, 1) · sharpness / ln 2.

    The origin is moved among the classes. No distance changes, but a product of two vectors far from the origin would have no digits left.
    It is their median, which one class far away does not move. Another median puts the scores of unit vectors around zero.
    """

    def __init__(self, classes: torch.Tensor, sharpness: float) -> None:
        self._factor = 2 * sharpness / LN2
        self._dim = classes.shape[1]
        self.origin = classes.median(dim=0).values
        centred = classes - self.origin
        squared_norms = centred.square().sum(1)
        self.table = classes.new_zeros(len(classes), _fast_width(self._dim + 1))
        torch.mul(centred, self._factor, out=self.table[:, : self._dim])
        torch.mul(squared_norms.median() - squared_norms, self._factor / 2, out=self.table[:, self._dim])

    def new_pixels(self, count: int) -> torch.Tensor:
        # zeros, as left-over memory may hold nan, and 0 · nan of the padding would enter every score
        pixels = self.table.new_zeros(self.table.shape[1], count)
        pixels[self._dim] = 1  # meets the bias column, so that one product makes whole scores
        return pixels

    def load(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        count = pixels.shape[1]
        torch.sub(pixels, self.origin[:, None], out=out[: self._dim, :count])
        out[: self._dim, count:] = 0

    def compute(self, rows: slice, pixels: torch.Tensor, out: torch.Tensor) -> None:
        torch.mm(self.table[rows], pixels, out=out)

    def add_gradients(
        self,
        rows: slice,
        weights: torch.Tensor,
        pixels: torch.Tensor,
        factors: torch.Tensor,
        pixel_gradient: torch.Tensor,
        class_sums: torch.Tensor,
    ) -> None:
        pixel_gradient.addmm_(self.table[rows].T, weights)
        class_sums[rows].addmm_(weights, (pixels * factors).T)

    def class_gradient(self, class_sums: torch.Tensor) -> torch.Tensor:
        """Σ w·2(x − μ), as the sums of w·x and of w."""
        gradient = class_sums[:, : self._dim] * self._factor
        return gradient.addcmul_(self.table[:, : self._dim], class_sums[:, self._dim, None], value=-1)


class PlainScores:
    """Plain distance, from differences: near zero, where its derivative is largest, an expanded square would have no digits left."""

    def __init__(self, classes: torch.Tensor, sharpness: float) -> None:
        self._factor = -sharpness / LN2
        self.table = classes

    def new_pixels(self, count: int) -> torch.Tensor:
        return self.table.new_empty(self.table.shape[1], count)

    def load(self, pixels: torch.Tensor, out: torch.Tensor) -> None:
        count = pixels.shape[1]
        out[:, :count] = pixels
        out[:, count:] = 0

    def compute(self, rows: slice, pixels: torch.Tensor, out: torch.Tensor) -> None:
        torch.mul(_distances(self.table[rows], pixels.T), self._factor, out=out)

    def add_gradients(
        self,
        rows: slice,
        weights: torch.Tensor,
        pixels: torch.Tensor,
        factors: torch.Tensor,
        pixel_gradient: torch.Tensor,
        class_sums: torch.Tensor,
    ) -> None:
        with torch.enable_grad():
            classes, points = self.table[rows].detach().requires_grad_(), pixels.T.contiguous().requires_grad_()
            distances = _distances(classes, points)
        # by pixel first: the second call overwrites the weights, and pixels get their factors at the end
        (by_pixel,) = torch.autograd.grad(distances, points, weights, retain_graph=True)
        (by_class,) = torch.autograd.grad(distances, classes, weights.mul_(factors))
        pixel_gradient.add_(by_pixel.T, alpha=self._factor)
        class_sums[rows].add_(by_class, alpha=self._factor)

    def class_gradient(self, class_sums: torch.Tensor) -> torch.Tensor:
        return class_sums


def _distances(classes: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """(t, v). Its gradient at zero distance is zero."""
    # above 25 rows cdist would go by products, which have no digits left near zero
    return torch.cdist(classes, pixels, compute_mode="donot_use_mm_for_euclid_dist")


def _fast_width(width: int) -> int:
    """A product with 9 to 15 columns takes a CPU longer than one with 16."""
    return 16 if 8 < width < 16 else width


SCORES: dict[str, type[Scores]] = {"squared": SquaredScores, "plain": PlainScores}
