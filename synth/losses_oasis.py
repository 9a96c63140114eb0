"""The losses of OASIS (Schönfeld et al., 2021): the discriminator segments images into the classes and one more, fake.

Real pixels belong to their class, made ones to fake; the generator wants its pixels taken for their class. N label maps, C classes.
"""

import torch
from torch import Tensor

from shared.constants import IGNORE_INDEX
from shared.distributed import sum_over_processes
from synth.class_scores import Verdict


def count_pixels(label_maps: list[Tensor], num_classes: int) -> Tensor:
    """(C + 1,) int64: pixels of every class, and ignored ones, in the label maps (N, H, W) of all passes and processes of an update."""
    counts = torch.stack([torch.bincount(label_map.flatten() + 1, minlength=num_classes + 1) for label_map in label_maps])
    return sum_over_processes(counts.sum(0).roll(-1))


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
    nearest = nearness.topk(min(num_neighbours + 1, num_classes), dim=1).indices
    fake = torch.full((1,), num_classes, device=rows.device)
    return torch.cat([present, nearest.flatten(), fake]).unique()


def loss_on_real(verdict: Verdict, label_map: Tensor, weights: Tensor) -> Tensor:
    """Small when pixels are taken for their class. weights: of `class_balance`. The discriminator's on reals, the generator's on fakes."""
    return verdict.cross_entropy(label_map.clamp(min=0), weights)


def loss_on_fake(verdict: Verdict) -> Tensor:
    """Small when all pixels are taken for fakes."""
    targets = verdict.pixels.new_full(verdict.pixels[:, 0].shape, verdict.fake, dtype=torch.int64)
    return verdict.cross_entropy(targets, torch.ones_like(targets, dtype=torch.float32))


def label_mix(label_map: Tensor, num_classes: int) -> Tensor:
    """A mask (N, 1, H, W) bool that is the same for all pixels of a class: true with probability ½, where the mixture is real.

    Drawn per class and batch, from torch's global generator. Ignored pixels count as one more class.
    """
    is_real = torch.rand(num_classes + 1, device=label_map.device) < 0.5
    return is_real[torch.where(label_map == IGNORE_INDEX, num_classes, label_map)][:, None]


def label_mix_loss(fake: Verdict, real: Verdict, mixed: Verdict, mask: Tensor) -> Tensor:
    """The verdict on a mixture is the mixture of the verdicts (OASIS, Eq. 4): mean squared difference of the scores."""
    return mixed.squared_difference(torch.where(mask, real.pixels, fake.pixels))
