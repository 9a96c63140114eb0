"""Settings of the benchmark, and the cases that follow from them."""

from dataclasses import dataclass, field, replace
from typing import Literal

from seg.benchmark.cases import PAPER_SETTINGS, Case, image_size
from shared.benchmark.config import SuiteConfig
from shared.benchmark.suite import Planned

PIXELS = {"cpu": 200_000, "cuda": 10 * 450 * 450}
MOST_SCORES = {"cpu": 200_000 * 1284, "cuda": 10 * 450 * 450 * 10_000}
"""Pixels × classes that are timed at most: with more classes there are fewer pixels, the same for all contestants."""
HEAD_SIDE = 512
STEP_SIZE = 4, 180, 240
"""Images, height and width of the training step that a CPU can measure."""
SWAP_SIZE = {"cpu": (2, 96, 96), "cuda": (4, 512, 512)}
"""The same for a network of the usual size, whose statistics of batches need two images."""


@dataclass
class BenchmarkConfig(SuiteConfig):
    """Measure the loss, the search, the heads and the whole model: time, memory, floor and error of every implementation and its rivals."""

    what: list[Literal["losses", "search", "head", "paper", "whole_model", "swap"]] = field(default_factory=lambda: ["losses", "search"])
    """What to measure. losses and search: against the number of classes; head: from the decoder's features on; paper: the loss at the
    sizes of the paper's Table 1; whole_model: a training step, and the largest batches on a card (Figure 1 and Table 6); swap: a training
    step of torchvision's DeepLabV3 before and after its last layer is an EmbeddingHead."""
    classes: list[int] = field(default_factory=lambda: [19, 150, 182, 1284, 10_000, 100_000])
    """C, for losses, search, head, whole_model and swap."""
    settings: list[Literal["cityscapes", "voc", "ade20k", "cocostuff10k", "cocolvis"]] = field(
        default_factory=lambda: ["cityscapes", "voc", "ade20k", "cocostuff10k", "cocolvis"]
    )
    """Rows of the paper's Table 1, for paper and whole_model."""
    pixels: int | None = None
    """P of losses, search and head. Null: 200,000 on a CPU, 2,025,000 on a GPU, an image of 512×512 for head. With very many classes
    fewer are timed; every line says how many."""
    neighbours: int = 8
    """k, nearest classes."""
    card: float = 12.0
    """GiB of the card that the largest batches are predicted for (whole_model)."""


def plan(config: BenchmarkConfig, device: str, threads: int) -> list[Planned[Case]]:
    """Everything that will be measured, in order."""
    base = Case("", 0, 1, 0, 0, config.dim, device, threads, config.seed, config.neighbours)
    planned: list[Planned[Case]] = []
    for group in ("losses", "search"):
        if group in config.what:
            planned += [_against_classes(replace(base, group=group, classes=count), config.pixels) for count in config.classes]
    if "head" in config.what:
        height, width = (HEAD_SIDE, HEAD_SIDE) if config.pixels is None else image_size(config.pixels)
        heads = [replace(base, classes=count, height=height, width=width) for count in config.classes]
        fitting = [case for case in heads if case.pixels * case.classes <= 2 * MOST_SCORES[device]]
        planned += [Planned(replace(case, group=group)) for group in ("head training", "head inference") for case in fitting]
    if "paper" in config.what:
        planned += [Planned(_of_paper(replace(base, group="paper"), name)) for name in config.settings]
    if "whole_model" in config.what:
        step = replace(base, group="training step")
        if device == "cuda":
            planned += [Planned(_of_paper(step, name)) for name in config.settings]
        else:
            images, height, width = STEP_SIZE
            counts = [count for count in config.classes if count <= 1284]
            planned += [Planned(replace(step, classes=count, images=images, height=height, width=width)) for count in counts]
    if "swap" in config.what:
        images, height, width = SWAP_SIZE[device]
        swaps = [replace(base, group="swap", classes=count, images=images, height=height, width=width) for count in config.classes]
        planned += [Planned(case) for case in swaps if case.pixels * case.classes <= 2 * MOST_SCORES[device]]
    return planned


def _against_classes(case: Case, pixels: int | None) -> Planned[Case]:
    wanted = pixels or PIXELS[case.device]
    full = _with_pixels(case, wanted)
    timed = _with_pixels(case, max(min(wanted, MOST_SCORES[case.device] // case.classes), 1))
    return Planned(timed, full if case.group == "losses" and timed != full else None)


def _with_pixels(case: Case, pixels: int) -> Case:
    if pixels == PIXELS["cuda"]:
        return replace(case, images=10, height=450, width=450)
    height, width = image_size(pixels)
    return replace(case, height=height, width=width)


def _of_paper(case: Case, name: str) -> Case:
    setting = PAPER_SETTINGS[name]
    return replace(
        case,
        title=name,
        classes=setting.classes,
        images=setting.batch,
        height=setting.height,
        width=setting.width,
        dim=setting.dim,
        neighbours=setting.neighbours,
    )
