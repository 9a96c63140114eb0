"""What generator and discriminator want of each other: one class for each kind of discriminator.

An adversary turns the discriminator's answers into the terms of both losses. The step knows only its two methods.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from synth.config import LossConfig
from synth.oasis.losses import Verdict, class_balance, count_pixels, label_mix, label_mix_loss, loss_on_fake, loss_on_real, near_classes
from synth.semantics import Semantics
from synth.semantics.layout import SemanticPyramid
from synth.training.losses import discriminator_loss, feature_matching, generator_loss, split_fake_real

Terms = dict[str, Tensor]
Discriminator = Callable[..., Any]
"""The forward pass of one, in the precision of the training."""


class Adversary(Protocol):
    """The weighted terms of the losses, scalars by name."""

    def begin(self, label_maps: list[Tensor]) -> None:
        """Told what the passes of an update show, (N, H, W) each, before the terms of any."""

    def generator_terms(
        self, discriminator: Discriminator, label_map: Tensor, seen: SemanticPyramid | None, fakes: Tensor, reals: Tensor
    ) -> Terms:
        """What the generator minimises.

        Args:
            label_map: (N, H, W) int64, −1 = ignored. seen: the semantics of it, for discriminators that look at them.
            fakes, reals: (N, 3, H, W) in [−1, 1].
        """

    def discriminator_terms(
        self, discriminator: Discriminator, label_map: Tensor, seen: SemanticPyramid | None, fakes: Tensor, reals: Tensor
    ) -> Terms:
        """What the discriminator minimises; no gradient flows to the images."""


class PatchAdversary:
    """Is this patch real, given the semantics? Adversarial loss and feature matching (SPADE)."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def begin(self, label_maps: list[Tensor]) -> None:
        """Nothing: a patch is judged for itself."""

    def generator_terms(
        self, discriminator: Discriminator, label_map: Tensor, seen: SemanticPyramid | None, fakes: Tensor, reals: Tensor
    ) -> Terms:
        on_fakes, on_reals = split_fake_real(discriminator(seen, torch.cat([fakes, reals])))
        matching = self.config.feature_weight * feature_matching(on_fakes, on_reals)
        return {"generator/gan": generator_loss(on_fakes, self.config.gan_mode), "generator/features": matching}

    def discriminator_terms(
        self, discriminator: Discriminator, label_map: Tensor, seen: SemanticPyramid | None, fakes: Tensor, reals: Tensor
    ) -> Terms:
        on_fakes, on_reals = split_fake_real(discriminator(seen, torch.cat([fakes.detach(), reals])))
        on_fake, on_real = discriminator_loss(on_fakes, on_reals, self.config.gan_mode)
        return {"discriminator/fake": on_fake, "discriminator/real": on_real}


class SegmentationAdversary:
    """Which class is this pixel, or is it fake? (OASIS)

    class_embeddings: semantics whose table the pixels are compared with. None: the discriminator gives scores.
    num_neighbours: the softmax runs over the classes of the batch and so many nearest ones of each. None: over all classes.
    """

    def __init__(self, config: LossConfig, num_classes: int, class_embeddings: Semantics | None, num_neighbours: int | None = None) -> None:
        self.config, self.num_classes, self.class_embeddings = config, num_classes, class_embeddings
        self.num_neighbours = num_neighbours

    def begin(self, label_maps: list[Tensor]) -> None:
        """Classes are balanced over all passes and processes of an update."""
        self.counts = count_pixels(label_maps, self.num_classes)

    def generator_terms(
        self, discriminator: Discriminator, label_map: Tensor, seen: SemanticPyramid | None, fakes: Tensor, reals: Tensor
    ) -> Terms:
        verdict = self._judge(discriminator, fakes)
        weights = class_balance(label_map, self.counts)
        (verdict,), targets = self._among_candidates([verdict], label_map)
        return {"generator/gan": loss_on_real(verdict, targets, weights)}

    def discriminator_terms(
        self, discriminator: Discriminator, label_map: Tensor, seen: SemanticPyramid | None, fakes: Tensor, reals: Tensor
    ) -> Terms:
        mask, count = label_mix(label_map, self.num_classes), len(label_map)
        fakes = fakes.detach()
        images = torch.cat([fakes, reals, torch.where(mask, reals, fakes)])
        on_fakes, on_reals, on_mixed = self._judge(discriminator, images).split([count] * 3)
        mixing = self.config.label_mix_weight * label_mix_loss(on_fakes, on_reals, on_mixed, mask)
        weights = class_balance(label_map, self.counts)
        (on_fakes, on_reals), targets = self._among_candidates([on_fakes, on_reals], label_map)
        return {
            "discriminator/fake": loss_on_fake(on_fakes),
            "discriminator/real": loss_on_real(on_reals, targets, weights),
            "discriminator/label_mix": mixing,
        }

    def _among_candidates(self, verdicts: list[Verdict], label_map: Tensor) -> tuple[list[Verdict], Tensor]:
        """Verdicts with the scores that the softmax runs over, and the targets among them (N, H, W)."""
        rows = verdicts[0].rows
        if self.num_neighbours is None or rows is None:
            return verdicts, label_map
        candidates = near_classes(self.counts, rows, self.num_neighbours)
        targets = torch.searchsorted(candidates, label_map.contiguous())
        return [verdict.among(candidates) for verdict in verdicts], targets

    def _judge(self, discriminator: Discriminator, images: Tensor) -> Verdict:
        table = None if self.class_embeddings is None else self.class_embeddings.class_vectors
        verdict: Verdict = discriminator(images, table)
        return verdict
