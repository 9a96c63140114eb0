"""Settings of the benchmark, and the cases that follow from them."""

from dataclasses import dataclass, field, replace
from typing import Literal

from shared.benchmark.config import SuiteConfig
from shared.data.config import DataConfig, ScenesConfig
from shared.errors import InputError
from synth.benchmark.cases import MAP_SIZE, Case
from synth.generator import require_multiples

NETWORKS = {"cpu": ((64, 128), 16, 32), "cuda": ((256, 512), 64, 128)}
"""Image size, width and hidden channels of the networks: those of the demo on a CPU, the published ones on a GPU."""
CONVOLUTION_SIZE = 128, 256
MODULATIONS = {(64, 128): 256, (128, 256): 128, (256, 512): 64}
"""Channels that the published generator of 256×512 pixels has at its three largest sizes."""
PUBLISHED_HIDDEN = 128
MODULATION_CLASSES = 184
SIZE_MULTIPLE = 64


@dataclass
class BenchmarkConfig(SuiteConfig):
    """Measure what semantics cost in synthesis: one-hot as a tensor and gathered, embeddings, the published form."""

    what: list[Literal["convolution", "modulation", "generator", "step", "discriminators", "options", "kernels"]] = field(
        default_factory=lambda: ["convolution", "modulation", "generator", "step", "discriminators"]
    )
    """What to measure. convolution: the first one over the semantics; modulation: scale and shift of a SPADE layer; generator: forward and
    backward; step: a training step of both networks; discriminators: the same with each kind of discriminator; options: with each option
    that changes time or memory, at the smallest C; kernels: nothing, but a table of the Triton kernels as compiled for sm_90, which needs
    no GPU."""
    classes: list[int] = field(default_factory=lambda: [7, 19, 35, 151, 184, 1284, 10_000])
    """C of the semantics; modulation takes the largest one up to 184. The ids of the label maps are spread over them."""
    contestants: list[str] = field(default_factory=list)
    """Only those whose names begin so; empty: all."""
    images: int = 1
    """Label maps of a batch."""
    size: tuple[int, int] | None = None
    """(height, width) of the networks' images. Null: 64×128 on a CPU, 256×512 on a GPU."""
    width: int | None = None
    """Base width of both networks (ngf, ndf). Null: 16 on a CPU, 64 on a GPU."""
    hidden: int | None = None
    """Channels between a layer's semantics and its scale and shift. Null: 32 on a CPU, 128 on a GPU."""
    data: DataConfig = field(default_factory=lambda: DataConfig(scenes=ScenesConfig(height=MAP_SIZE[0], width=MAP_SIZE[1])))
    """The data set that the label maps are from."""
    maps: int = 12
    """Label maps over which the share of distinct patches is averaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images > self.maps:
            raise InputError(f"images is {self.images}, but there are {self.maps} label maps; give at least as many maps")
        if self.size is not None:
            require_multiples(self.size, SIZE_MULTIPLE)


def plan(config: BenchmarkConfig, device: str, threads: int, maps: str) -> list[Case]:
    """Everything that will be measured, in order."""
    base = Case("", 0, config.images, *CONVOLUTION_SIZE, config.dim, device, threads, config.seed, 0, PUBLISHED_HIDDEN, maps)
    cases = []
    if "convolution" in config.what:
        cases += [replace(base, group="convolution", classes=count) for count in config.classes]
    if "modulation" in config.what:
        count = max((count for count in config.classes if count <= MODULATION_CLASSES), default=min(config.classes))
        for (height, width), channels in MODULATIONS.items():
            cases.append(replace(base, group="modulation", classes=count, height=height, width=width, channels=channels))
    network = network_case(config, base)
    for group in ("generator", "step", "discriminators"):
        if group in config.what:
            cases += [replace(network, group=group, classes=count) for count in config.classes]
    if "options" in config.what:
        cases.append(replace(network, group="options", classes=min(config.classes)))
    return cases


def network_case(config: BenchmarkConfig, base: Case) -> Case:
    """The case of the networks, for no number of classes yet."""
    size, width, hidden = NETWORKS[base.device]
    height, image_width = config.size or size
    return replace(base, height=height, width=image_width, channels=config.width or width, hidden=config.hidden or hidden)
