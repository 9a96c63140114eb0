"""The contestants of whole networks: the generator forward and backward, and a training step of SPADE.

The gradient of a parameter is dropped as soon as it is made in the generator's pass, so that its peak is that of the activations: what
parameters, their gradients and the optimiser's state take follows from their number, which is a table of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from shared.benchmark.ceilings import Work
from shared.benchmark.contest import Contestant
from shared.data.loader import Batch
from synth.adversaries import PatchAdversary
from synth.benchmark.cases import Case, label_maps
from synth.benchmark.layers import SEMANTICS, semantics_of
from synth.benchmark.published import PublishedDiscriminator, PublishedOneHot
from synth.config import LossConfig, SynthConfig
from synth.discriminator import MultiscaleDiscriminator
from synth.generator import SpadeGenerator
from synth.networks import Opponent
from synth.schedule import ttur_learning_rates
from synth.semantics import Semantics
from synth.spectral import SpectralConv2d
from synth.step import Step

PUBLISHED = "published form"
NAMES = (PUBLISHED, *SEMANTICS)
UPSAMPLING = "more"  # the published one of 256×512 pixels


def generator_contestants(case: Case) -> list[Contestant]:
    """Images, and the gradient of every parameter."""
    return [Contestant(name, partial(GeneratorPass, case, name), main_path_work(case)) for name in NAMES]


def step_contestants(case: Case) -> list[Contestant]:
    """Both updates of a training step, with the adversarial and the feature loss."""
    return [Contestant(name, partial(TrainingStep, case, name)) for name in NAMES]


def named_semantics(case: Case, name: str) -> Semantics:
    """The semantics of a contestant."""
    return PublishedOneHot(name, case.classes, None) if name == PUBLISHED else semantics_of(case, name)


def generator_of(case: Case, name: str) -> SpadeGenerator:
    """With the weights of the seed; γ and β as after a training, not near zero as at its start."""
    torch.manual_seed(case.seed)
    size = (case.height, case.width)
    semantics = named_semantics(case, name)
    return SpadeGenerator(semantics, image_size=size, width=case.channels, hidden=case.hidden, upsampling=UPSAMPLING)


class GeneratorPass:
    """A generator and label maps; a call is one pass forward and backward."""

    def __init__(self, case: Case, name: str) -> None:
        self.generator, self.labels = generator_of(case, name).to(case.device), label_maps(case)
        for parameter in self.generator.parameters():
            parameter.register_post_accumulate_grad_hook(_drop_gradient)

    def __call__(self) -> Tensor:
        images: Tensor = self.generator(self.labels)
        images.square().mean().backward()
        return images.detach()


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


class TrainingStep:
    """Both networks with Adam, and a batch; a call is one step of `synth.train`."""

    def __init__(
        self,
        case: Case,
        name: str,
        opponent: Callable[[Semantics], Opponent] | None = None,
        precision: Literal["no", "bf16", "fp16"] = "no",
    ) -> None:
        """opponent: None: the multi-scale discriminator, in the published form for published semantics."""
        generator = generator_of(case, name)
        discriminator, seen, adversary = (opponent or partial(_multiscale, case, name))(generator.semantics)
        config = SynthConfig()
        config.train.precision = precision
        rates = ttur_learning_rates(config.train.learning_rate, ttur=True)
        optimizers = [
            torch.optim.Adam(network.parameters(), rate, betas=rates.betas, fused=True)
            for network, rate in ((generator, rates.generator_lr), (discriminator, rates.discriminator_lr))
        ]
        networks = generator.to(case.device), discriminator.to(case.device)
        self.generator, self.discriminator = networks
        semantics, both = generator.semantics, (optimizers[0], optimizers[1])
        self.step = Step(config, torch.device(case.device), semantics, seen, adversary, (*networks, None), both, None)
        for network, optimizer in zip(networks, optimizers):
            _make_state(network, optimizer)
        images = torch.rand(case.images, 3, case.height, case.width, generator=torch.Generator().manual_seed(case.seed)) * 2 - 1
        self.batch = Batch(images.to(case.device), label_maps(case), None, [""] * case.images)

    def __call__(self) -> Any:
        return self.step([self.batch])


def _multiscale(case: Case, name: str, semantics: Semantics) -> Opponent:
    kind = PublishedDiscriminator if name == PUBLISHED else MultiscaleDiscriminator
    return Opponent(kind(semantics, width=case.channels), semantics, PatchAdversary(LossConfig()))


def _make_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Adam's moments, which a first step without any gradient makes."""
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def main_path_work(case: Case) -> Work:
    """Three products of every convolution that reads features; what the semantics cost comes on top, for any way of computing it."""
    with torch.device("meta"):
        generator = SpadeGenerator(
            Semantics("onehot", 2, None),
            image_size=(case.height, case.width),
            width=case.channels,
            hidden=case.hidden,
            upsampling=UPSAMPLING,
        )
    positions = case.images * case.height * case.width / 4 ** len(_DOUBLED)
    flops = 0.0
    for name, block in generator.named_children():
        positions *= 4 ** _DOUBLED.count(name)
        kernels = [module.weight_orig for module in block.modules() if isinstance(module, SpectralConv2d)]
        flops += sum(6 * positions * kernel.numel() for kernel in kernels)
    weights = sum(kernel.numel() for kernel in generator.parameters())
    return Work(4 * 3 * weights, flops + 6 * positions * generator.conv_img.weight.numel())


_DOUBLED = ("G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3")
"""Blocks that see twice the size of the one before."""


def parameter_counts(case: Case, name: str) -> tuple[int, int]:
    """Parameters of the generator and of the discriminator."""

    def count(build: Callable[[], nn.Module]) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build().parameters())

    semantics = semantics_of(case, name)
    return count(lambda: _bare_generator(case, semantics)), count(lambda: MultiscaleDiscriminator(semantics, width=case.channels))


def _bare_generator(case: Case, semantics: Semantics) -> SpadeGenerator:
    size = (case.height, case.width)
    return SpadeGenerator(semantics, image_size=size, width=case.channels, hidden=case.hidden, upsampling=UPSAMPLING)
