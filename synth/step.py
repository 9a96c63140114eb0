"""One training step: an update of the generator, then one of the discriminator, on the same batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import nn

from shared.data.loader import Batch
from shared.errors import InputError
from shared.guards import require_finite, require_finite_gradients
from synth.adversaries import Adversary
from synth.config import SynthConfig
from synth.encoder import StyleEncoder, sample_style
from synth.instance_edges import instance_edges
from synth.layout import SemanticPyramid
from synth.losses import kl_divergence
from synth.semantics import Semantics
from synth.vgg import PerceptualLoss


class Step:
    """One update of the generator and one of the discriminator on the same batch.

    The label map becomes a pyramid once; every layer of both networks reads it.
    """

    def __init__(
        self,
        config: SynthConfig,
        accelerator: Accelerator,
        semantics: Semantics,
        seen_by_discriminator: Semantics | None,
        adversary: Adversary,
        networks: tuple[nn.Module, nn.Module, StyleEncoder | None],
        optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        perceptual: PerceptualLoss | None,
    ) -> None:
        self.config, self.accelerator, self.perceptual = config, accelerator, perceptual
        self.semantics, self.seen_by_discriminator, self.adversary = semantics, seen_by_discriminator, adversary
        self.generator, self.discriminator, self.style_encoder = networks
        self.generator_optimizer, self.discriminator_optimizer = optimizers

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Update both networks. Returns the weighted terms of both losses, scalars.

        Raises:
            NotFinite: a loss or a gradient; the network that it would have moved has not moved.
        """
        edges = batch_edges(batch) if self.semantics.instance_edges else None
        pyramid = self.semantics.pyramid(batch.label_maps, edges)
        seen: SemanticPyramid | None = pyramid
        if self.seen_by_discriminator is not self.semantics or self.semantics.trainable:
            # Class vectors that learn do so through the generator alone: they are not to make the discriminator's work harder.
            looks = self.seen_by_discriminator
            seen = None if looks is None else looks.pyramid(batch.label_maps, edges, trained=False)
        loss = self.config.loss

        # Generator: make the discriminator take the fakes for real images of their label maps.
        terms: dict[str, torch.Tensor] = {}
        style = None
        if self.style_encoder is not None:
            mu, logvar = self.style_encoder(batch.images)
            style = sample_style(mu, logvar)
            terms["generator/kl"] = loss.kl_weight * kl_divergence(mu, logvar)
        with self.accelerator.autocast():
            fakes = self.generator(pyramid, z=style)
        with frozen(self.discriminator), self.accelerator.autocast():
            terms |= self.adversary.generator_terms(self.discriminator, batch.label_maps, seen, fakes, batch.images)
        if self.perceptual is not None:
            terms["generator/vgg"] = loss.vgg_weight * self.perceptual(fakes.float(), batch.images)
        self._update(self.generator_optimizer, terms)

        # Discriminator: tell the fakes from the reals.
        if self.config.train.fresh_fakes:
            with torch.no_grad(), self.accelerator.autocast():
                fakes = self.generator(pyramid, z=None if style is None else style.detach())
        with self.accelerator.autocast():
            judged = self.adversary.discriminator_terms(self.discriminator, batch.label_maps, seen, fakes, batch.images)
        self._update(self.discriminator_optimizer, judged)
        return {name: value.detach() for name, value in (terms | judged).items()}

    def _update(self, optimizer: torch.optim.Optimizer, losses: dict[str, torch.Tensor]) -> None:
        require_finite(losses)
        optimizer.zero_grad()
        self.accelerator.backward(torch.stack(list(losses.values())).sum())
        learners = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self.config.train.precision != "fp16":  # whose optimizer leaves out such updates, to find the scale of its losses
            require_finite_gradients(learners)
        if self.config.train.clip_norm is not None:
            self.accelerator.clip_grad_norm_(learners, self.config.train.clip_norm)
        optimizer.step()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the parameters of `network`; they still flow through it."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def batch_edges(batch: Batch) -> torch.Tensor:
    """(N, H, W) bool, borders of instances and of labels.

    Raises:
        InputError: the data set has no instances.
    """
    if batch.instance_maps is None:
        raise InputError("input.instance_edges is set, but the data set has no instance maps; give them or leave the edges out")
    return instance_edges(batch.instance_maps, batch.label_maps)
