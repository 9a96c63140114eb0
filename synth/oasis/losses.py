"""What a segmentation discriminator says of every pixel, and the losses of it (OASIS: Schönfeld et al., 2021).

Dense, it gives a score per class. With class rows it gives a short vector, whose products with the rows are the scores. They are never
all there at once, so memory does not grow with pixels × classes. With the identity as rows both are the same.

Real pixels belong to their class, made ones to one more, fake; the generator wants its pixels taken for their class.

Shapes: B images, N label maps, C classes, E length of a pixel's vector, K = C + 1 rows: the classes, then fake; S pixels of an image,
p of a chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from shared.constants import IGNORE_INDEX
from shared.distributed import sum_over_processes
from shared.precision import full_precision

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
        # over all pixels, ignored ones too, as published
        flat, labels, shares = pixels.flatten(2), targets.flatten(1), weights.flatten(1) / weights.numel()
        table = rows.float()
        loss = torch.zeros((), dtype=torch.float64, device=pixels.device)
        wanted = any(ctx.needs_input_grad[:2])
        of_pixels = torch.empty_like(flat, dtype=torch.float32) if wanted else None
        of_rows = torch.zeros_like(table)
        step = max(TILE_ELEMENTS["cuda" if pixels.is_cuda else "cpu"] // len(table), FEWEST_PIXELS)
        # autocast would make the scores in half precision, and TF32 in hardly more
        with torch.autocast(pixels.device.type, enabled=False), full_precision(convolutions=False):
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
                    # p − 1 at the target, while the tile is in the cache
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


def count_pixels(label_maps: list[Tensor], num_classes: int) -> Tensor:
    """(C + 1,) int64: pixels of every class, and ignored ones, in the label maps (N, H, W) of all passes and processes of an update."""
    counts = label_maps[0].new_zeros(num_classes + 1, dtype=torch.int64)
    for label_map in label_maps:
        # not bincount, which lets a GPU wait for the largest label; the id −1 is the last place
        labels = label_map.flatten().long().remainder(num_classes + 1)
        counts.scatter_add_(0, labels, torch.ones_like(labels))
    return sum_over_processes(counts)


def class_balance(label_map: Tensor, counts: Tensor) -> Tensor:
    """The weight of every pixel (N, H, W): all classes of an update weigh the same, however many pixels they have (OASIS, Eq. 2).

    A pixel of class c weighs pixels / (classes that occur · pixels of c), an ignored one nothing. The mean over all pixels of what is
    weighted so is the mean over the classes that occur of their own means.

    counts: of `count_pixels`.
    """
    occurring = (counts[:-1] > 0).sum()
    weights = counts.sum() / (occurring * counts).clamp(min=1)
    weights[-1] = 0  # ignored; the id −1 is the last place too
    return torch.where(counts > 0, weights, 0.0)[label_map]


@torch.no_grad()
def near_classes(counts: Tensor, rows: Tensor, num_neighbours: int) -> Tensor:
    """(M,) int64, increasing: the classes that occur, for each of them its nearest ones, and fake.

    A softmax over these in place of all rows costs the same whatever C is. What it leaves out is far from every class in the picture.

    counts: of `count_pixels`. rows: (C + 1, E) of one length, fake last. num_neighbours: beside each class that occurs.
    """
    present, num_classes = counts[:-1].nonzero().squeeze(1), len(rows) - 1
    nearness = rows[present].float() @ rows[:num_classes].float().T  # (classes that occur, C)
    # one more, as the nearest of all is the class itself
    nearest = nearness.topk(min(num_neighbours + 1, num_classes), dim=1).indices
    fake = torch.full((1,), num_classes, device=rows.device)
    return torch.cat([present, nearest.flatten(), fake]).unique()


def loss_on_real(verdict: Verdict, label_map: Tensor, weights: Tensor) -> Tensor:
    """Small when pixels are taken for their class. weights: of `class_balance`. The discriminator's on reals, the generator's on fakes."""
    # ignored pixels weigh 0, so any class will do for them
    return verdict.cross_entropy(label_map.clamp(min=0), weights)


def loss_on_fake(verdict: Verdict) -> Tensor:
    """Small when all pixels are taken for fakes."""
    targets = verdict.pixels.new_full(verdict.pixels[:, 0].shape, verdict.fake, dtype=torch.int64)
    return verdict.cross_entropy(targets, torch.ones_like(targets, dtype=torch.float32))


def label_mix(label_map: Tensor, num_classes: int) -> Tensor:
    """A mask (N, 1, H, W) bool that is the same for all pixels of a class: true with probability ½, where the mixture is real.

    Drawn per class and batch, from torch's global generator for the CPU, so that a GPU gets the same ones. Ignored pixels count as one
    more class.
    """
    # a table: the published loop relabels in place, and class 0 comes out real in 26 % instead of half of the cases
    is_real = (torch.rand(num_classes + 1) < 0.5).to(label_map.device, non_blocking=True)
    return is_real[torch.where(label_map == IGNORE_INDEX, num_classes, label_map)][:, None]


def label_mix_loss(fake: Verdict, real: Verdict, mixed: Verdict, mask: Tensor) -> Tensor:
    """The verdict on a mixture is the mixture of the verdicts (OASIS, Eq. 4): mean squared difference of the scores."""
    return mixed.squared_difference(torch.where(mask, real.pixels, fake.pixels))
