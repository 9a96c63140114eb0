"""The contestants of whole networks: the generator forward and backward, and a training step of SPADE.

Their peer is the published form of SPADE's networks, written anew: a one-hot map goes into every SPADE layer, which resizes it for itself
and convolves it; γ and β are two more convolutions; the discriminator reads map and image, concatenated, of fakes and reals. The weights
are those of this project's networks, key by key.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.benchmark.ceilings import Work
from shared.benchmark.contest import Contestant
from shared.data.batch import Batch
from synth.benchmark.cases import Case, label_maps
from synth.benchmark.layers import SEMANTICS, semantics_of
from synth.build import Opponent
from synth.config import LossConfig, SynthConfig
from synth.discriminator import MultiscaleDiscriminator, PatchDiscriminator
from synth.generator import SpadeGenerator
from synth.kernels.rows import Maps
from synth.networks.spectral import SpectralConv2d
from synth.semantics import Semantics
from synth.semantics.build import DenseOneHot
from synth.semantics.layout import DenseLayout, Layout, SemanticPyramid
from synth.training.adversaries import PatchAdversary
from synth.training.schedule import ttur_learning_rates
from synth.training.step import Step


class PublishedLayout(DenseLayout):
    """A one-hot map."""

    def modulation(self, first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> Maps:
        """See `Layout`."""
        active = F.relu(self.convolve(first))
        scale, shift = (F.conv2d(active, *half, padding=1) for half in zip(kernel.chunk(2), bias.chunk(2)))
        return Maps(scale, shift)


class PublishedPyramid(SemanticPyramid):
    """Keeps the full size only: every layer resizes it for itself."""

    def at(self, height: int, width: int) -> Layout:
        """See `SemanticPyramid`."""
        full_size = self.pooled(0)
        assert isinstance(full_size, DenseLayout)
        return PublishedLayout(F.interpolate(full_size.semantic_map, (height, width), mode="nearest"))


class PublishedOneHot(DenseOneHot):
    """One-hot semantics for the published form."""

    def _pyramid(self, classes: Tensor, edges: Tensor | None, trained: bool, ends: Tensor) -> SemanticPyramid:
        return PublishedPyramid(super()._pyramid(classes, edges, trained, ends).pooled(0))


class PublishedPatchDiscriminator(PatchDiscriminator):
    """One scale that convolves the concatenated map and image."""

    def _first_layer(self, layout: Layout, images: Tensor) -> Tensor:
        assert isinstance(layout, DenseLayout)
        maps = layout.semantic_map.repeat(len(images) // layout.batch_size, 1, 1, 1)
        return self.model0(torch.cat([maps, images], 1))


class PublishedDiscriminator(MultiscaleDiscriminator):
    """The published form at several scales."""

    def __init__(self, semantics: Semantics, *, width: int = 64, num_scales: int = 2, num_layers: int = 4) -> None:
        super().__init__(semantics, width=width, num_scales=num_scales, num_layers=num_layers)
        for scale, network in enumerate(list(self.children())):
            plain = PublishedPatchDiscriminator(semantics.width, width=width, num_layers=num_layers)
            plain.load_state_dict(network.state_dict())
            self.add_module(f"discriminator_{scale}", plain)


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
