"""What a segmentation discriminator says of every pixel, scored against the classes and one more: fake.

Dense, it gives a score per class. With class rows it gives a short vector, whose products with the rows are the scores. They are never
all there at once, so memory does not grow with pixels × classes. With the identity as rows both are the same.

Shapes: B images, E length of a pixel's vector, K = C + 1 rows: the classes, then fake; S pixels of an image, p of a chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE_ELEMENTS = {"cpu": 2**17, "cuda": 2**25}  # stays in a core's cache; fills a GPU
FEWEST_PIXELS = 64


@dataclass(frozen=True)
class Verdict:
    """What the discriminator says.

    pixels: (B, E, H, W). rows: (K, E): the score of row k is ⟨pixel, row k⟩. None: the pixels hold the K scores themselves.
    """

    pixels: Tensor
    rows: Tensor | None = None

    @property
    def fake(self) -> int:
        """The number of the score that stands for fake: the one after those of the classes."""
        return (self.pixels.shape[1] if self.rows is None else len(self.rows)) - 1

    def split(self, sizes: list[int]) -> "list[Verdict]":
        """The verdicts on consecutive images."""
        return [Verdict(pixels, self.rows) for pixels in self.pixels.split(sizes)]

    def among(self, candidates: Tensor) -> "Verdict":
        """The scores of some rows alone. candidates: (M,) int64, increasing; their places become the targets."""
        if self.rows is None:
            return Verdict(self.pixels[:, candidates])
        return Verdict(self.pixels, self.rows[candidates])

    def cross_entropy(self, targets: Tensor, weights: Tensor) -> Tensor:
        """Mean over all pixels of weight · cross-entropy. targets: (B, H, W) int64 in [0, K). weights: (B, H, W). Scalar."""
        if self.rows is None:
            return (F.cross_entropy(self.pixels.float(), targets, reduction="none") * weights).mean()
        loss: Tensor = _StreamedCrossEntropy.apply(self.pixels, self.rows, targets, weights)
        return loss

    def squared_difference(self, other: Tensor) -> Tensor:
        """Mean squared difference of all scores from those of other pixels (B, E, H, W). Scalar.

        Over the rows, Σ ⟨δ, row⟩² is a quadratic form of δ: its E×E matrix is all that is needed of the classes.
        """
        difference = (self.pixels.float() - other.float()).movedim(1, -1).flatten(0, -2)
        if self.rows is None:
            return difference.square().mean()
        form = self.rows.float().T @ self.rows.float()
        return (difference @ form * difference).sum(1).mean() / len(self.rows)


class _StreamedCrossEntropy(torch.autograd.Function):
    """Both gradients are made in the forward pass, while a chunk's scores are at hand."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, rows: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        flat, labels, shares = pixels.flatten(2), targets.flatten(1), weights.flatten(1) / weights.numel()
        table = rows.float()
        loss = torch.zeros((), dtype=torch.float64, device=pixels.device)
        wanted = any(ctx.needs_input_grad[:2])
        of_pixels = torch.empty_like(flat, dtype=torch.float32) if wanted else None
        of_rows = torch.zeros_like(table)
        step = max(TILE_ELEMENTS["cuda" if pixels.is_cuda else "cpu"] // len(table), FEWEST_PIXELS)
        with torch.autocast(pixels.device.type, enabled=False):
            for image in range(len(flat)):
                for start in range(0, flat.shape[2], step):
                    part = (image, slice(None), slice(start, start + step))
                    chunk, target, share = flat[part].float(), labels[image, part[2]], shares[image, part[2]]
                    scores = table @ chunk  # (K, p)
                    peak = scores.amax(0)
                    of_target = scores.gather(0, target[None])[0]
                    total = scores.sub_(peak).exp_().sum(0)
                    loss += ((total.log() + peak - of_target) * share).sum()
                    if of_pixels is None:
                        continue
                    scores *= share / total
                    scores.scatter_add_(0, target[None], -share[None])
                    of_pixels[part] = table.T @ scores
                    of_rows.addmm_(scores, chunk.T)
        if of_pixels is not None:
            ctx.save_for_backward(of_pixels.view_as(pixels), of_rows)
            ctx.dtypes = pixels.dtype, rows.dtype
        return loss.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_pixels, of_rows = ctx.saved_tensors
        # Scaled in float32 first: in half precision what a single pixel adds to a mean may be too small a number.
        return (of_pixels * gradient).to(ctx.dtypes[0]), (of_rows * gradient).to(ctx.dtypes[1]), None, None
