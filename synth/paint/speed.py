"""What the benchmark of the page's server measures."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from shared.config import to_dict
from shared.data import build_dataset
from shared.data.config import DataConfig, ScenesConfig
from shared.run.checkpoint import TrainingState
from shared.run.directory import RunDirectory
from synth.build import generator_from, semantics_from
from synth.config import GeneratorConfig, InputConfig, SynthConfig
from synth.paint.files import wire_ids
from synth.paint.painter import Painter
from synth.paint.painting import Painting, pack
from synth.paint.studio import Studio
from synth.semantics.layout import SemanticPyramid
from synth.trained import describe


def made_run(folder: Path, size: tuple[int, int], generator: GeneratorConfig, classes: int) -> Path:
    """A run directory of a generator with random weights on random vectors."""
    scenes = ScenesConfig(num_classes=classes, height=size[0], width=size[1], val_length=2)
    config = SynthConfig(
        data=DataConfig(scenes=scenes), input=InputConfig(size=size), generator=generator, semantics="random", embedding_dim=12
    )
    torch.manual_seed(0)
    network = generator_from(generator, size, semantics_from(config, classes, None))
    run = RunDirectory(folder)
    about = describe(config, build_dataset(config.data, "val"))
    TrainingState({"generator": network}, {}, about).save(run.checkpoint("last"))
    run.start(to_dict(config))
    run.close()
    return folder


def strokes(labels: np.ndarray, count: int, classes: int) -> list[np.ndarray]:
    """The label map (H, W) after each of `count` strokes: a disc of another class somewhere, a tenth of the height wide."""
    draw, found, now = np.random.default_rng(0), [], labels.copy()
    rows, columns = np.indices(labels.shape)
    for _ in range(count):
        y, x = draw.integers(0, labels.shape[0]), draw.integers(0, labels.shape[1])
        other = (now[y, x] + draw.integers(1, classes)) % classes
        now = np.where((rows - y) ** 2 + (columns - x) ** 2 <= (labels.shape[0] / 20) ** 2, other, now)
        found.append(now)
    return found


def measure(painter: Painter, studio: Studio, maps: list[np.ndarray], device: torch.device) -> dict[str, list[float]]:
    """Seconds of every way, for each label map in turn: interleaved, so that other work on the machine meets all alike."""
    generator, found = painter.generator, dict[str, list[float]]()

    def clock(name: str, act: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = act()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.setdefault(name, []).append(time.perf_counter() - start)
        return result

    def forward(layout: SemanticPyramid | torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        with torch.inference_mode():
            made: torch.Tensor = generator(layout, size=size)
            return made

    async def one_stroke(labels: np.ndarray) -> None:
        """The forward pass on the thread that also serves: another one would start with cold threads of torch."""
        painting, ids = Painting(labels), torch.from_numpy(labels)[None].to(device)
        body, pyramid = pack(painting.about() | {"tab": "stroke"}, wire_ids(labels)), generator.semantics.pyramid(ids)
        began = time.perf_counter()
        await studio.image(body)
        found.setdefault("server", []).append(time.perf_counter() - began)
        await studio.turns.run("forward", lambda: clock("forward", lambda: forward(ids, painting.size)))
        await studio.turns.run("prepare", lambda: forward(pyramid, painting.size))
        await studio.turns.run("again", lambda: clock("forward of prepared ids", lambda: forward(pyramid, painting.size)))

    async def serve() -> None:
        await one_stroke(maps[0])
        found.clear()  # that warmed up
        for labels in maps[1:]:
            await one_stroke(labels)

    asyncio.run(serve())
    return found


def unchanged_sizes(painter: Painter, maps: list[np.ndarray]) -> tuple[float, float, int]:
    """Sizes of a generator whose ids a stroke leaves as they are, the share of their pixels in those of all sizes, both on average, and how
    many sizes there are."""
    height, width = painter.generator.image_size
    factors = [2**power for power in range(int(np.log2(painter.generator.size_multiple)) + 1)]
    areas = np.array([height * width // factor**2 for factor in factors])

    def resized(labels: np.ndarray) -> list[torch.Tensor]:
        ids = torch.from_numpy(labels)[None, None].float()
        return [F.interpolate(ids, (height // factor, width // factor)) for factor in factors]

    same = np.array([[torch.equal(*pair) for pair in zip(resized(before), resized(after))] for before, after in pairwise(maps)])
    return float(same.sum(1).mean()), float((same @ areas / areas.sum()).mean()), len(factors)
