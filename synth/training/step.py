"""One training step: an update of the generator, then, where the discriminator takes part, one of it, on the same batch."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.data.batch import Batch
from shared.distributed import world_size
from shared.run.guards import require_finite
from shared.run.updates import Updater, add_terms, in_precision
from synth.config import SynthConfig
from synth.encoder import StyleEncoder, sample_style
from synth.networks.spectral import spectra_kept
from synth.semantics import Semantics
from synth.semantics.edges import batch_edges
from synth.semantics.layout import SemanticPyramid
from synth.training.adversaries import Adversary
from synth.training.losses import kl_divergence
from synth.training.perceptual import PerceptualNetwork


@dataclass
class _Pass:
    """A batch on its way through a step.

    pyramid: its semantics, for the generator. seen: those for the discriminator, if it looks at any. style: of the images, (N, z_dim).
    fakes: (N, 3, H, W) of the generator's update.
    """

    batch: Batch
    pyramid: SemanticPyramid
    seen: SemanticPyramid | None
    style: Tensor | None
    fakes: Tensor


class Step:
    """One update of the generator and one of the discriminator on the same batches: their passes, whose gradients are summed up.

    A label map becomes a pyramid once; every layer of both networks reads it.
    """

    def __init__(
        self,
        config: SynthConfig,
        device: torch.device,
        semantics: Semantics,
        seen_by_discriminator: Semantics | None,
        adversary: Adversary,
        networks: tuple[nn.Module, nn.Module, StyleEncoder | None],
        optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        perceptual: PerceptualNetwork | None,
    ) -> None:
        self.config, self.device, self.perceptual = config, device, perceptual
        if perceptual is not None:
            perceptual.features_of = in_precision(perceptual.features_of, device, config.train.precision)
        self.semantics, self.seen_by_discriminator, self.adversary = semantics, seen_by_discriminator, adversary
        self.generator, self.discriminator, self.style_encoder = networks
        precision, clip_norm = config.train.precision, config.train.clip_norm
        self.generate, self.judge = (in_precision(network, device, precision) for network in networks[:2])
        self.of_generator, self.of_discriminator = (Updater(optimizer, device, precision, clip_norm) for optimizer in optimizers)

    def __call__(self, batches: list[Batch], *, judged: bool = True) -> dict[str, Tensor]:
        """Update both networks. Returns the weighted terms of both losses, scalars: means over the passes.

        judged: whether the discriminator takes part; without it, it neither teaches nor learns.

        Raises:
            NotFinite: a loss or a gradient; the network that it would have moved has not moved.
        """
        self.adversary.begin([batch.label_maps for batch in batches])
        terms: dict[str, Tensor] = {}
        passes = []
        for number, batch in enumerate(batches):
            with self._spectra_of_first(number):
                part, losses = self._generator_losses(batch, passes=len(batches), judged=judged)
            self._backward(self.of_generator, losses, terms, len(batches))
            passes.append(part)
        self.of_generator.update()
        if not judged:
            return terms
        for number, part in enumerate(passes):
            with self._spectra_of_first(number):
                losses = self._discriminator_losses(part)
            self._backward(self.of_discriminator, losses, terms, len(batches))
        self.of_discriminator.update()
        return terms

    def _generator_losses(self, batch: Batch, passes: int, judged: bool) -> tuple[_Pass, dict[str, Tensor]]:
        """Make images like the real ones, and the discriminator take them for real images of their label maps."""
        pyramid, seen = self._semantics_of(batch)
        loss = self.config.loss
        terms: dict[str, Tensor] = {}
        style = None
        if self.style_encoder is not None:
            mu, logvar = self.style_encoder(batch.images)
            style = sample_style(mu, logvar)
            weight = loss.kl_weight * passes * world_size()  # a sum over all images of an update, where the other terms are means
            terms["generator/kl"] = weight * kl_divergence(mu, logvar)
        fakes = self.generate(pyramid, z=style)
        if judged:
            with frozen(self.discriminator):
                terms |= self.adversary.generator_terms(self.judge, batch.label_maps, seen, fakes, batch.images)
        if self.perceptual is not None:
            terms["generator/perceptual"] = loss.vgg_weight * self.perceptual(fakes, batch.images)
        return _Pass(batch, pyramid, seen, None if style is None else style.detach(), fakes.detach()), terms

    def _discriminator_losses(self, part: _Pass) -> dict[str, Tensor]:
        """Tell the fakes from the reals."""
        fakes = part.fakes
        if self.config.train.fresh_fakes:
            with torch.no_grad():
                fakes = self.generate(part.pyramid, z=part.style)
        return self.adversary.discriminator_terms(self.judge, part.batch.label_maps, part.seen, fakes, part.batch.images)

    def _spectra_of_first(self, number: int) -> AbstractContextManager[None]:
        """All passes of an update see the same kernels: the first one's."""
        return spectra_kept(self.generator, self.discriminator) if number else nullcontext()

    def _semantics_of(self, batch: Batch) -> tuple[SemanticPyramid, SemanticPyramid | None]:
        """What generator and discriminator see of the label maps."""
        edges = batch_edges(batch) if self.semantics.instance_edges else None
        pyramid = self.semantics.pyramid(batch.label_maps, edges)
        if self.seen_by_discriminator is self.semantics and not self.semantics.trainable:
            return pyramid, pyramid
        # Class vectors that learn do so through the generator alone: they are not to make the discriminator's work harder.
        looks = self.seen_by_discriminator
        return pyramid, None if looks is None else looks.pyramid(batch.label_maps, edges, trained=False)

    def _backward(self, updater: Updater, losses: dict[str, Tensor], terms: dict[str, Tensor], passes: int) -> None:
        """Gradients of a pass's share of the means over the passes; adds the losses to `terms`."""
        require_finite(losses)
        shares = {name: value / passes for name, value in losses.items()}
        updater.backward(shares)
        add_terms(terms, shares)


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
